// Elements of fp32, of bf16, or of a precision known at run time only, read and written as floats, W at a time. With W
// = 1 any address and any number of elements will do; wider, an address is a multiple of 16 bytes and W elements fill
// whole accesses of 128 bits.
#ifndef LLMTS_CUDA_VECTOR_H
#define LLMTS_CUDA_VECTOR_H

#include <cstdint>
#include <cstring>

#include "cuda/platform.h"

namespace llmts {

using bf16 = __nv_bfloat16;

// Stands for a tensor's element type where it is not known when a kernel is compiled.
struct Any {};

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(bf16 value) { return __bfloat162float(value); }
template <class T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline bf16 from_float<bf16>(float value) {
  return __float2bfloat16_rn(value);
}

// Input of element type T.
template <class T>
struct In {
  const T *data;

  __host__ __device__ In(const void *data, bool) : data(static_cast<const T *>(data)) {}

  __device__ float at(int64_t index) const { return to_float(data[index]); }

  template <int W>
  __device__ void load(int64_t index, float (&values)[W]) const {
    if constexpr (W == 1) {
      values[0] = at(index);
    } else {
      constexpr int kEach = 16 / sizeof(T);
      static_assert(W % kEach == 0, "whole accesses");
#pragma unroll
      for (int i = 0; i < W; i += kEach) {
        check_aligned(data + index + i);
        const uint4 bits = *reinterpret_cast<const uint4 *>(data + index + i);
        T elements[kEach];
        memcpy(elements, &bits, sizeof bits);
#pragma unroll
        for (int j = 0; j < kEach; ++j) values[i + j] = to_float(elements[j]);
      }
    }
  }
};

// Output of element type T.
template <class T>
struct Out {
  T *data;

  __host__ __device__ Out(void *data, bool) : data(static_cast<T *>(data)) {}

  __device__ In<T> read() const { return In<T>(data, false); }

  template <int W>
  __device__ void store(int64_t index, const float (&values)[W]) const {
    if constexpr (W == 1) {
      data[index] = from_float<T>(values[0]);
    } else {
      constexpr int kEach = 16 / sizeof(T);
#pragma unroll
      for (int i = 0; i < W; i += kEach) {
        T elements[kEach];
#pragma unroll
        for (int j = 0; j < kEach; ++j) elements[j] = from_float<T>(values[i + j]);
        uint4 bits;
        memcpy(&bits, elements, sizeof bits);
        check_aligned(data + index + i);
        *reinterpret_cast<uint4 *>(data + index + i) = bits;
      }
    }
  }
};

template <>
struct In<Any> {
  const void *data;
  bool is_bf16;

  __host__ __device__ In(const void *data, bool is_bf16) : data(data), is_bf16(is_bf16) {}

  __device__ float at(int64_t index) const {
    return is_bf16 ? In<bf16>(data, true).at(index) : In<float>(data, false).at(index);
  }

  template <int W>
  __device__ void load(int64_t index, float (&values)[W]) const {
    if (is_bf16)
      In<bf16>(data, true).load(index, values);
    else
      In<float>(data, false).load(index, values);
  }
};

template <>
struct Out<Any> {
  void *data;
  bool is_bf16;

  __host__ __device__ Out(void *data, bool is_bf16) : data(data), is_bf16(is_bf16) {}

  __device__ In<Any> read() const { return In<Any>(data, is_bf16); }

  template <int W>
  __device__ void store(int64_t index, const float (&values)[W]) const {
    if (is_bf16)
      Out<bf16>(data, true).store(index, values);
    else
      Out<float>(data, false).store(index, values);
  }
};

// Sums of fp32, one or W of them at a time: gradients of parameters.
template <int W>
__device__ void add(float *sums, int64_t index, const float (&values)[W]) {
  float before[W];
  In<float>(sums, false).load(index, before);
#pragma unroll
  for (int i = 0; i < W; ++i) before[i] += values[i];
  Out<float>(sums, false).store(index, before);
}

}  // namespace llmts

#endif
