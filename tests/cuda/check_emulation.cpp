// The emulation itself: what it has to report, in kernels made for that, and what it computes.
#include <cmath>
#include <cstring>

#include "checks.h"
#include "cuda/mma.h"
#include "cuda/platform.h"

using namespace llmts;

namespace checks {

namespace {

// Runs a kernel on one block and expects the words in what is reported, with this file's name; none where words are
// empty.
template <class Kernel, class... Arguments>
void reports(const std::string &words, int threads, Kernel kernel, Arguments... arguments) {
  start(kernel, dim3(1), dim3(static_cast<unsigned>(threads)), 0, nullptr, arguments...);
  const cudaError_t error = cudaGetLastError();
  const std::string text = error == cudaSuccess ? "" : cudaGetErrorString(error);
  if (words.empty() && !text.empty()) give_up("reported: " + text);
  if (text.find(words) == std::string::npos) give_up("reported \"" + text + "\", expected \"" + words + "\"");
  if (!words.empty() && text.find("check_emulation.cpp:") == std::string::npos) give_up("no file and line in: " + text);
}

void part_of_block_kernel() {
  if (threadIdx.x < 32) __syncthreads();
}
void two_barriers_kernel() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
void part_of_warp_kernel(int *out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}
void wrong_lane_kernel(int *out) { out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 32); }
void misaligned_kernel(const char *data) { check_aligned(data + 4 * threadIdx.x); }
void fresh_shared_kernel(float *out) {
  CU_SHARED(float, values, [32]);
  out[threadIdx.x] = values[threadIdx.x];
}

void violations() {
  int out[64];
  alignas(16) char data[256];
  float values[32];
  reports(
      "2 threads of the block's 64", 64, +[] {
        if (threadIdx.x < 2) __syncthreads();
      });
  reports("have returned", 64, part_of_block_kernel);
  reports("__syncthreads is reached by part of the block", 64, two_barriers_kernel);
  reports("__shfl_xor_sync is reached by lanes 0000ffff of a warp", 32, part_of_warp_kernel, out);
  reports("asks for the value of lane 32", 32, wrong_lane_kernel, out);
  reports("access of 16 bytes", 32, misaligned_kernel, static_cast<const char *>(data));
  reports("", 32, fresh_shared_kernel, values);
  for (const float value : values)
    if (!std::isnan(value)) give_up("fresh shared memory is not NaN");
}

// bf16 by cuda_bf16.h's rule, on the fp32 numbers around every boundary between two bf16 ones.
void rounding() {
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (const uint32_t low : {0x0000u, 0x0001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const uint32_t bits = high << 16 | low;
      float value;
      std::memcpy(&value, &bits, sizeof value);
      const bool up = low > 0x8000u || (low == 0x8000u && high % 2 == 1);
      const uint16_t expected = std::isnan(value) ? 0x7fff : static_cast<uint16_t>(high + up);
      if (__float2bfloat16_rn(value).bits != expected) give_up("bf16 of bits " + std::to_string(bits));
    }
  }
}

constexpr int kDepth = 80;

// out (16,16) = a (16, 80) · bᵀ (16, 80), and its product with b: through every load of cuda/mma.h.
void mma_kernel(const float *a, const float *b, float *scores, float *out) {
  CU_SHARED(SharedRow<kDepth>, left, [16]);
  CU_SHARED(SharedRow<kDepth>, right, [16]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * kDepth; i += 32) {
    left[i / kDepth][i % kDepth] = __float2bfloat16_rn(a[i]);
    right[i / kDepth][i % kDepth] = __float2bfloat16_rn(b[i]);
  }
  __syncwarp();
  float sums[2][4] = {};
  for (int k = 0; k < kDepth; k += 16) {
    uint32_t x[4], y[4];
    load_left<kDepth>(x, left, 0, k);
    load_right_transposed<kDepth>(y, right, 0, k);
    mma(sums[0], x, y[0], y[1]);
    mma(sums[1], x, y[2], y[3]);
  }
  for (int n = 0; n < 2; ++n)
    for (int i = 0; i < 4; ++i) scores[(lane / 4 + i / 2 * 8) * 16 + n * 8 + lane % 4 * 2 + i % 2] = sums[n][i];
  const uint32_t p[4] = {pack(sums[0][0], sums[0][1]), pack(sums[0][2], sums[0][3]), pack(sums[1][0], sums[1][1]),
                         pack(sums[1][2], sums[1][3])};
  for (int column = 0; column < kDepth; column += 16) {
    float wide[2][4] = {};
    uint32_t y[4];
    load_right<kDepth>(y, right, 0, column);
    mma(wide[0], p, y[0], y[1]);
    mma(wide[1], p, y[2], y[3]);
    for (int n = 0; n < 2; ++n)
      for (int i = 0; i < 4; ++i)
        out[(lane / 4 + i / 2 * 8) * kDepth + column + n * 8 + lane % 4 * 2 + i % 2] = wide[n][i];
  }
}

void fragments() {
  Random random(10);
  // Small whole numbers: bf16 holds them, and their products, exactly; scores stay below 256.
  Values a(16 * kDepth), b(16 * kDepth);
  const std::vector<int32_t> x = random.ids(16 * kDepth, 3), y = random.ids(16 * kDepth, 3);
  for (size_t i = 0; i < a.size(); ++i) a[i] = x[i] - 1, b[i] = y[i] - 1;
  const Tensor left(LLMTS_FP32, a), right(LLMTS_FP32, b), scores(LLMTS_FP32, 16 * 16), out(LLMTS_FP32, 16 * kDepth);
  reports("", 32, mma_kernel, static_cast<const float *>(left.floats()), static_cast<const float *>(right.floats()),
          scores.floats(), out.floats());
  const Values expected = product(
      16, 16, kDepth, [&](int64_t i, int64_t k) { return a[static_cast<size_t>(i * kDepth + k)]; },
      [&](int64_t k, int64_t j) { return b[static_cast<size_t>(j * kDepth + k)]; });
  expect("scores", scores, expected, 0.0);
  expect("out", out,
         product(
             16, kDepth, 16, [&](int64_t i, int64_t k) { return expected[static_cast<size_t>(i * 16 + k)]; },
             [&](int64_t k, int64_t j) { return b[static_cast<size_t>(k * kDepth + j)]; }),
         0.0);
}

// A warp turns 32 values around through shared memory.
void reverse_kernel(int *values) {
  CU_SHARED(int, room, [4][32]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  room[warp][lane] = values[threadIdx.x];
  __syncwarp();
  values[threadIdx.x] = room[warp][31 - lane];
}

// How many values fall into each of 8 bins.
void histogram_kernel(int *bins, const int *values) { atomicAdd(&bins[values[threadIdx.x] % 8], 1); }

void warps_and_atomics() {
  int values[128], bins[8] = {};
  for (int i = 0; i < 128; ++i) values[i] = i;
  reports("", 128, histogram_kernel, static_cast<int *>(bins), static_cast<const int *>(values));
  for (const int bin : bins)
    if (bin != 16) give_up("a bin has " + std::to_string(bin) + " values, expected 16");
  reports("", 128, reverse_kernel, static_cast<int *>(values));
  for (int i = 0; i < 128; ++i)
    if (values[i] != i / 32 * 32 + 31 - i % 32)
      give_up("value " + std::to_string(i) + " is not its warp's mirror image");
}

}  // namespace

std::vector<Case> emulation_cases() {
  return {{"violations", violations},
          {"rounding", rounding},
          {"fragments", fragments},
          {"warps and atomics", warps_and_atomics}};
}

}  // namespace checks
