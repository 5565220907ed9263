// Reductions and functions that kernels share.
#ifndef LLMTS_CUDA_WARP_H
#define LLMTS_CUDA_WARP_H

#include "cuda/platform.h"

namespace llmts {

constexpr unsigned kWholeWarp = 0xffffffffu;
constexpr int kWarpSize = 32;

// The sum over groups of `Width` neighbouring lanes, in every lane.
template <int Width = kWarpSize, class T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int bits = Width / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(kWholeWarp, value, bits);
  return value;
}

template <int Width = kWarpSize>
__device__ float warp_max(float value) {
#pragma unroll
  for (int bits = Width / 2; bits > 0; bits /= 2) value = fmaxf(value, __shfl_xor_sync(kWholeWarp, value, bits));
  return value;
}

// GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv 1606.08415), x/2 · (1 + tanh u) = x / (1 + e^(-2u)) with
// u = sqrt(2/pi) (x + 0.044715 x³): written so, nothing cancels for large negative x.
constexpr float kGeluScale = 0.7978845608f, kGeluCubic = 0.044715f;

__device__ inline float gelu(float x) {
  const float u = kGeluScale * (x + kGeluCubic * x * x * x);
  return x / (1.0f + expf(-2.0f * u));
}

// gelu'(x) = s + x · s · (1 - s) · 2 u' with s = 1 / (1 + e^(-2u)). Beyond ±16 it is 1 or 0 to the last bit; clamping
// there keeps the exponential finite.
__device__ inline float gelu_derivative(float x) {
  const float y = x > 16.0f ? 16.0f : x < -16.0f ? -16.0f : x;  // NaN stays NaN
  const float u = kGeluScale * (y + kGeluCubic * y * y * y);
  const float slope = kGeluScale * (1.0f + 3.0f * kGeluCubic * y * y);
  const float e = expf(-2.0f * fmaxf(u, -40.0f));
  const float s = 1.0f / (1.0f + e);
  return s + y * (2.0f * slope) * s * (e * s);
}

}  // namespace llmts

#endif
