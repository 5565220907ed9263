// The widest vector of floats of the instruction set being compiled for, where a loop for the compiler to vectorise
// won't do: where sums must stay in registers.
#ifndef LLMTS_CPU_VECTOR_H
#define LLMTS_CPU_VECTOR_H

#include <cstdint>

#include "cpu/bf16.h"

namespace llmts {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vector __attribute__((vector_size(kWidth * sizeof(float))));
typedef float UnalignedVector __attribute__((vector_size(kWidth * sizeof(float)), aligned(4), may_alias));

inline Vector load(const float *from) { return *reinterpret_cast<const UnalignedVector *>(from); }

// Widens, which is a shift.
inline Vector load(const Bf16 *from) {
  typedef uint32_t Bits __attribute__((vector_size(kWidth * sizeof(uint32_t))));
  typedef uint16_t Halves __attribute__((vector_size(kWidth * sizeof(uint16_t)), aligned(2), may_alias));
  return reinterpret_cast<Vector>(__builtin_convertvector(*reinterpret_cast<const Halves *>(from), Bits) << 16);
}

inline void store(float *to, Vector v) { *reinterpret_cast<UnalignedVector *>(to) = v; }

inline float sum_of(Vector v) {
  float sum = 0.0f;
  for (int i = 0; i < kWidth; ++i) sum += v[i];
  return sum;
}

}  // namespace llmts

#endif
