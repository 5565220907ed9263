// What attention on tensor cores has in common: head sizes, rows of bf16, and how a tile of them reaches shared memory.
#ifndef LLMTS_CUDA_ATTENTION_MMA_H
#define LLMTS_CUDA_ATTENTION_MMA_H

#include <type_traits>

#include "cuda/attention.h"
#include "cuda/mma.h"

namespace llmts {

constexpr int kMmaThreads = 128;  // four warps, each with 16 rows of a block's 64
constexpr float kLog2E = 1.4426950409f, kLn2 = 0.6931471806f;

// The rows of a head as a kernel walks over them.
struct Bf16Rows {
  bf16 *data;
  int64_t batch, head, row;

  explicit Bf16Rows(const HeadRows &rows)
      : data(static_cast<bf16 *>(const_cast<void *>(rows.data.data))),
        batch(rows.batch),
        head(rows.head),
        row(rows.row) {}
  __device__ bf16 *of(int64_t b, int64_t h) const { return data + b * batch + h * head; }
};

// Whether rows can be read 16 bytes at a time as bf16.
inline bool is_aligned_bf16(const HeadRows &rows) {
  return rows.data.is_bf16() && aligned16(rows.data.data) && rows.batch % 8 == 0 && rows.head % 8 == 0 &&
         rows.row % 8 == 0;
}

// Calls f(HS) with the head size as a constant. False where tensor cores are not used for it.
template <class F>
bool with_head_size(int64_t HS, F &&f) {
  switch (HS) {
    case 64:
      f(std::integral_constant<int, 64>());
      return true;
    case 80:
      f(std::integral_constant<int, 80>());
      return true;
    case 96:
      f(std::integral_constant<int, 96>());
      return true;
    case 128:
      f(std::integral_constant<int, 128>());
      return true;
    default:
      return false;
  }
}

// tile[i] = row first + i of `data`, zero from `limit` on. By all of the block's threads.
template <int HS, int Rows>
__device__ void load_rows(SharedRow<HS> *tile, const bf16 *data, int64_t stride, int64_t first, int64_t limit) {
  constexpr int kVectors = HS / 8;
  for (int n = static_cast<int>(threadIdx.x); n < Rows * kVectors; n += kMmaThreads) {
    const int i = n / kVectors, column = n % kVectors * 8;
    const int64_t row = first + i;
    uint4 bits = {0, 0, 0, 0};
    if (row < limit) {
      check_aligned(data + row * stride + column);
      bits = *reinterpret_cast<const uint4 *>(data + row * stride + column);
    }
    check_aligned(&tile[i][column]);
    *reinterpret_cast<uint4 *>(&tile[i][column]) = bits;
  }
}

// Stores the 16 rows of a warp, times `factor` of its lane's two, those below `limit`. `row` is that of the lane's
// group.
template <int HS>
__device__ void store_rows(bf16 *out, int64_t stride, int64_t row, int64_t limit, const float (&sums)[HS / 8][4],
                           float factor0, float factor1) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t r = row + half * 8;
    const float factor = half == 0 ? factor0 : factor1;
    if (r >= limit) continue;
#pragma unroll
    for (int n = 0; n < HS / 8; ++n) {
      const uint32_t pair = pack(sums[n][2 * half] * factor, sums[n][2 * half + 1] * factor);
      *reinterpret_cast<uint32_t *>(out + r * stride + n * 8 + threadIdx.x % 4 * 2) = pair;
    }
  }
}

// The left factor for a product of depth 16 from two neighbouring results.
__device__ inline void pack_left(uint32_t (&a)[4], const float (&first)[4], const float (&second)[4]) {
  a[0] = pack(first[0], first[1]);
  a[1] = pack(first[2], first[3]);
  a[2] = pack(second[0], second[1]);
  a[3] = pack(second[2], second[3]);
}

}  // namespace llmts

#endif
