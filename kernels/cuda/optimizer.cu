// Gradient norm and AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101):
//   g = grads · grad_scale;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²
//   params = params (1 - learning_rate · weight_decay) - learning_rate · mhat / (sqrt(vhat) + eps)
//   mhat = m / (1 - beta1^step);  vhat = v / (1 - beta2^step)
// One pass over memory. bf16 parameters are rounded from their fp32 master copy, which alone is updated, or are updated
// themselves and rounded stochastically: the 16 bits that don't fit are added to 16 random ones, and the carry goes up.
#include <cinttypes>
#include <cmath>

#include "common/adamw.h"
#include "cuda/device.h"
#include "cuda/operand.h"
#include "cuda/warp.h"

using namespace llmts;

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
constexpr int64_t kNormChunk = 16384;  // gradients a block sums: the order of the sums depends on nothing else

// The sum of a block's values, in thread 0.
__device__ double block_sum(double value) {
  CU_SHARED(double, sums, [kWarps]);
  value = warp_sum(value);
  if (threadIdx.x % kWarpSize == 0) sums[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  if (threadIdx.x != 0) return 0.0;
  for (int warp = 1; warp < kWarps; ++warp) value += sums[warp];
  return value;
}

__global__ void __launch_bounds__(kThreads) sum_squares_kernel(double *sums, const float *grads, int64_t n) {
  const int64_t first = blockIdx.x * kNormChunk, end = first + kNormChunk < n ? first + kNormChunk : n;
  double sum = 0.0;
  for (int64_t i = first + threadIdx.x; i < end; i += kThreads)
    sum += static_cast<double>(grads[i]) * static_cast<double>(grads[i]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kThreads) total_kernel(double *total, const double *sums, int64_t n) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < n; i += kThreads) sum += sums[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total = sum;
}

// Random bits for an element, by the finalizer of splitmix64 (Steele et al. 2014).
__device__ uint32_t random_bits(uint64_t key, int64_t element) {
  uint64_t z = key + static_cast<uint64_t>(element) * 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((z ^ z >> 31) >> 32);
}

// The bf16 below or above a finite value, as a float, the nearer one with the higher probability.
__device__ float round_stochastically(float value, uint32_t random) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;
  bits = (bits + (random & 0xffffu)) & 0xffff0000u;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Elements [0, n) of a segment that starts at element `start` of all. fp32 is updated: master, which is params itself
// where those are fp32; where it is null, params in bf16. keep is what decay leaves of a parameter.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(Out<T> params, float *master, In<float> grads, float *m, float *v, AdamWStep s, float keep,
                 int64_t start, int64_t n, uint64_t key) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * W;
  if (first >= n) return;
  float p[W], g[W], mean[W], square[W];
  if (master != nullptr)
    In<float>(master, false).load(first, p);
  else
    params.read().load(first, p);
  grads.load(first, g);
  In<float>(m, false).load(first, mean);
  In<float>(v, false).load(first, square);
#pragma unroll
  for (int i = 0; i < W; ++i) {
    g[i] *= s.grad_scale;
    mean[i] = s.beta1 * mean[i] + s.one_minus_beta1 * g[i];
    square[i] = s.beta2 * square[i] + s.one_minus_beta2 * g[i] * g[i];
    p[i] = p[i] * keep - s.rate * mean[i] / (sqrtf(square[i]) * s.root_correction2 + s.eps);
  }
  Out<float>(m, false).store(first, mean);
  Out<float>(v, false).store(first, square);
  if (master != nullptr) {
    Out<float>(master, false).store(first, p);
  } else {
#pragma unroll
    for (int i = 0; i < W; ++i) p[i] = round_stochastically(p[i], random_bits(key, start + first + i));
  }
  if (sizeof(T) < sizeof(float)) params.store(first, p);
}

}  // namespace

int32_t llmts_global_norm(double *norm, const float *grads, int64_t n) {
  return guarded("global_norm", {{"n", n, Dim::Limit}}, [&] {
    tensor("norm", norm, {1});
    *norm = 0.0;
    if (n == 0) return;
    tensor("grads", grads, {n});
    const int64_t blocks = ceil_div(n, kNormChunk);
    const Scratch scratch((blocks + 1) * static_cast<int64_t>(sizeof(double)));
    double *const sums = scratch.as<double>(), *const total = sums + blocks;
    launch(sum_squares_kernel, dim3(grid_blocks(blocks)), kThreads, 0, sums, grads, n);
    launch(total_kernel, dim3(1), kThreads, 0, total, static_cast<const double *>(sums), blocks);
    download(norm, total, sizeof *norm);
    *norm = std::sqrt(*norm);
  });
}

int32_t llmts_adamw(void *params, int32_t params_dtype, float *master, const float *grads, float *m, float *v,
                    const int64_t *segments, int64_t S, int64_t n, float learning_rate, float beta1, float beta2,
                    float eps, float weight_decay, float grad_scale, int64_t step, int64_t seed) {
  return guarded("adamw", {{"S", S}, {"n", n}}, [&] {
    const Operand p = operand("params", params, params_dtype, {n});
    optional_tensor("master", master, Shape{n});
    if (!p.is_bf16() && master != nullptr)
      fail(LLMTS_INVALID_ARGUMENT, "'master' is not null, but params are fp32 themselves");
    tensor("grads", grads, {n});
    tensor("m", m, {n});
    tensor("v", v, {n});
    tensor("segments", segments, {S, 3});
    const AdamWStep constants = adamw_step(learning_rate, beta1, beta2, eps, weight_decay, grad_scale, step);
    for (int64_t index = 0; index < S; ++index) segment_at(segments, index, n);
    const uint64_t key = (static_cast<uint64_t>(seed) * 0xd1342543de82ef95u) ^ (static_cast<uint64_t>(step) << 32);
    float *const updated = p.is_bf16() ? master : static_cast<float *>(params);
    for (int64_t index = 0; index < S; ++index) {
      const Segment segment = segment_at(segments, index, n);
      if (segment.count == 0) continue;
      const float keep = segment.decays ? constants.decayed : 1.0f;
      const Operand part = p.from(segment.first);
      float *const w = updated == nullptr ? nullptr : updated + segment.first;
      float *const mean = m + segment.first, *const square = v + segment.first;
      const float *const g = grads + segment.first;
      with_vectors({part}, {w, mean, square, g}, segment.count, [&](auto type, auto width) {
        using T = typename decltype(type)::type;
        constexpr int W = decltype(width)::value;
        const dim3 grid(grid_blocks(ceil_div(segment.count, int64_t{kThreads} * W)));
        launch(adamw_kernel<T, W>, grid, kThreads, 0, part.out<T>(), w, In<float>(g, false), mean, square, constants,
               keep, segment.first, segment.count, key);
      });
    }
  });
}
