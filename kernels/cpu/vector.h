// The widest vector of floats of the instruction set being compiled for, where a loop for the compiler to vectorise
// won't do: where sums must stay in registers.
#ifndef LLMTS_CPU_VECTOR_H
#define LLMTS_CPU_VECTOR_H

#include <cstdint>
#include <utility>

#include "cpu/bf16.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

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

inline Vector load(const int8_t *from) {
  typedef int32_t Words __attribute__((vector_size(kWidth * sizeof(int32_t))));
#if defined(__AVX512F__)  // GCC 12 makes slow code of a conversion without intrinsics
  const __m512i words = _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
#elif defined(__AVX2__)
  const __m256i words = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(from)));
#else
  Words words;
  for (int i = 0; i < kWidth; ++i) words[i] = from[i];
#endif
  return __builtin_convertvector(reinterpret_cast<Words>(words), Vector);
}

inline void store(float *to, Vector v) { *reinterpret_cast<UnalignedVector *>(to) = v; }

// Rounds as narrowed() does, but the instruction takes denormals for 0.
inline void store(Bf16 *to, Vector v) {
#ifdef __AVX512BF16__
  const __m256bh halves = _mm512_cvtneps_pbh(v);
  std::memcpy(to, &halves, sizeof halves);
#else
  for (int i = 0; i < kWidth; ++i) to[i] = narrowed(v[i]);
#endif
}

// The first n elements of a vector; the others are zero. kWholeVector in the place of n means all.
constexpr std::integral_constant<int64_t, kWidth> kWholeVector;
template <class T>
Vector load(const T *from, int64_t n) {
  T whole[kWidth] = {};
  std::copy_n(from, n, whole);
  return load(whole);
}
template <class T>
void store(T *to, Vector v, int64_t n) {
  T whole[kWidth];
  store(whole, v);
  std::copy_n(whole, n, to);
}
template <class T>
Vector load(const T *from, decltype(kWholeVector)) {
  return load(from);
}
template <class T>
void store(T *to, Vector v, decltype(kWholeVector)) {
  store(to, v);
}

// Half as wide.
typedef float HalfVector __attribute__((vector_size(kWidth / 2 * sizeof(float))));
typedef float UnalignedHalfVector __attribute__((vector_size(kWidth / 2 * sizeof(float)), aligned(4), may_alias));

inline HalfVector load_half(const float *from) { return *reinterpret_cast<const UnalignedHalfVector *>(from); }
inline HalfVector load_half(const Bf16 *from) {
  HalfVector wide;
  for (int i = 0; i < kWidth / 2; ++i) wide[i] = widened(from[i]);
  return wide;
}
inline void store(float *to, HalfVector v) { *reinterpret_cast<UnalignedHalfVector *>(to) = v; }

// Elements 0, 1 … of a and b in turn: from the first halves, or from the second.
template <int Half, size_t... I>
Vector zip(Vector a, Vector b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (Half * kWidth / 2 + I / 2 + (I % 2) * kWidth)...);
}

// Treats `Count` vectors as one array and interleaves its halves, Count times doubled: rows become columns.
template <int Count>
void transpose(Vector (&rows)[Count]) {
  constexpr auto kLanes = std::make_index_sequence<kWidth>();
#pragma GCC unroll 4
  for (int round = 1; round < Count; round *= 2) {
    Vector zipped[Count];
#pragma GCC unroll 16
    for (int i = 0; i < Count / 2; ++i) {
      zipped[2 * i] = zip<0>(rows[i], rows[i + Count / 2], kLanes);
      zipped[2 * i + 1] = zip<1>(rows[i], rows[i + Count / 2], kLanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < Count; ++i) rows[i] = zipped[i];
  }
}

// v plus itself with neighbouring groups of Distance lanes exchanged.
template <int Distance, size_t... I>
Vector folded(Vector v, std::index_sequence<I...>) {
  return v + __builtin_shufflevector(v, v, static_cast<int>(I ^ Distance)...);
}

// In pairs: one after the other the additions would wait for each other.
template <int Distance = kWidth / 2>
float sum_of(Vector v) {
  if constexpr (Distance == 0)
    return v[0];
  else
    return sum_of<Distance / 2>(folded<Distance>(v, std::make_index_sequence<kWidth>()));
}

// a · b over n elements in one stream, which is the fastest to read memory by: four chains of sums hide the latency of
// adding, and asking for data 2 KiB ahead that of memory, where prefetching in hardware stops at the end of a page.
template <class A, class B>
float dot(const A *a, const B *b, int64_t n) {
  constexpr int64_t kStep = 4 * kWidth, kAhead = 2048 / sizeof(B), kLine = 64 / sizeof(B);
  Vector sum0 = {}, sum1 = {}, sum2 = {}, sum3 = {};
  int64_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (int64_t line = 0; line < kStep; line += kLine) __builtin_prefetch(b + i + kAhead + line);
    sum0 += load(a + i) * load(b + i);
    sum1 += load(a + i + kWidth) * load(b + i + kWidth);
    sum2 += load(a + i + 2 * kWidth) * load(b + i + 2 * kWidth);
    sum3 += load(a + i + 3 * kWidth) * load(b + i + 3 * kWidth);
  }
  float sum = sum_of((sum0 + sum1) + (sum2 + sum3));
  for (; i < n; ++i) sum += as_float(a[i]) * as_float(b[i]);
  return sum;
}

}  // namespace llmts

#endif
