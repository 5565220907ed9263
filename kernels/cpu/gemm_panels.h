// Copies ("packs") operands of a matrix product into panels, in the order in which a tile of the result reads them.
// A panel is made of lanes of 32 bits. Lanes are either fp32 elements, or pairs of bf16 elements that follow each other
// along k, the dimension summed over, as the instructions for bf16 dot products take them. Other precisions are
// converted on the way; what lies outside an operand is zero.
#ifndef LLMTS_CPU_GEMM_PANELS_H
#define LLMTS_CPU_GEMM_PANELS_H

#include <algorithm>
#include <utility>

#include "cpu/vector.h"

namespace llmts {

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Lanes of fp32 elements.
struct Singles {
  static constexpr int kElements = 1;  // in a lane
  // kWidth lanes of a row of elements along k.
  template <class T>
  static Vector along(const T *from) {
    return load(from);
  }
  // kWidth neighbours at one k.
  template <class T>
  static Vector across(const T *from, int64_t, bool) {
    return load(from);
  }
  // Half as many.
  template <class T>
  static HalfVector half_across(const T *from, int64_t, bool) {
    return load_half(from);
  }
  // One lane; `step` leads from k to k + 1.
  template <class T>
  static float lane(const T *from, int64_t, bool) {
    return as_float(*from);
  }
};

#ifdef __AVX512BF16__

template <int Count>
struct Bf16Vector {
  typedef uint16_t Aligned __attribute__((vector_size(2 * Count)));
  typedef uint16_t Unaligned __attribute__((vector_size(2 * Count), aligned(2), may_alias));
};

// Lanes of two bf16 elements, the one with the lower k in the lower half. Rounds to the nearest, ties to even.
struct Pairs {
  static constexpr int kElements = 2;

  static Vector along(const Bf16 *from) {
    return reinterpret_cast<Vector>(
        static_cast<Halves<2 * kWidth>>(*reinterpret_cast<const typename Bf16Vector<2 * kWidth>::Unaligned *>(from)));
  }
  static Vector along(const float *from) {
    return reinterpret_cast<Vector>(_mm512_cvtne2ps_pbh(load(from + kWidth), load(from)));
  }

  // `step` leads from k to k + 1, which exists where `whole`.
  template <class T>
  static Vector across(const T *from, int64_t step, bool whole) {
    return reinterpret_cast<Vector>(zip<kWidth>(halves<kWidth>(from),
                                                whole ? halves<kWidth>(from + step) : Halves<kWidth>{},
                                                std::make_index_sequence<2 * kWidth>()));
  }
  template <class T>
  static HalfVector half_across(const T *from, int64_t step, bool whole) {
    constexpr int kHalf = kWidth / 2;
    return reinterpret_cast<HalfVector>(zip<kHalf>(
        halves<kHalf>(from), whole ? halves<kHalf>(from + step) : Halves<kHalf>{}, std::make_index_sequence<kWidth>()));
  }

  template <class T>
  static float lane(const T *from, int64_t step, bool whole) {
    const uint32_t pair = half(*from) | static_cast<uint32_t>(whole ? half(from[step]) : 0) << 16;
    float bits;
    std::memcpy(&bits, &pair, sizeof bits);
    return bits;
  }

 private:
  // `Count` elements in bf16.
  template <int Count>
  using Halves = typename Bf16Vector<Count>::Aligned;

  template <int Count>
  static Halves<Count> halves(const Bf16 *from) {
    return *reinterpret_cast<const typename Bf16Vector<Count>::Unaligned *>(from);
  }
  template <int Count>
  static Halves<Count> halves(const float *from) {
    if constexpr (Count == kWidth)
      return reinterpret_cast<Halves<Count>>(_mm512_cvtneps_pbh(load(from)));
    else
      return reinterpret_cast<Halves<Count>>(_mm256_cvtneps_pbh(load_half(from)));
  }

  // Elements of low and high in turn.
  template <int Count, size_t... I>
  static auto zip(Halves<Count> low, Halves<Count> high, std::index_sequence<I...>) {
    return __builtin_shufflevector(low, high, (I / 2 + I % 2 * Count)...);
  }

  static uint16_t half(Bf16 value) { return value.bits; }
  static uint16_t half(float value) { return narrowed(value).bits; }
};

#endif

// packed[lane · stride + r] from `count` rows that lie along k, K elements each; rows up to Count and lanes up to
// `depth` are zero.
template <class Lanes, int Count, class T>
void pack_along(float *packed, int64_t stride, const T *from, int64_t from_stride, int64_t count, int64_t K,
                int64_t depth) {
  constexpr int kColumnsEach = kWidth / Count;  // in each vector, once transposed
  const int64_t whole = K / (kWidth * Lanes::kElements) * kWidth;
  for (int64_t lane = 0; lane < whole; lane += kWidth) {
    Vector rows[Count];
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r)
      rows[r] = r < count ? Lanes::along(from + r * from_stride + lane * Lanes::kElements) : Vector{};
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < Count; ++i) store(packed + (lane + i * kColumnsEach) * stride, rows[i]);
  }
  for (int64_t lane = whole; lane < depth; ++lane) {
    const int64_t k = lane * Lanes::kElements;
    for (int r = 0; r < Count; ++r)
      packed[lane * stride + r] = r < count && k < K ? Lanes::lane(from + r * from_stride + k, 1, k + 1 < K) : 0.0f;
  }
}

// packed[lane · width + r] from `count` columns, whose rows of k lie `from_stride` apart; columns up to width and lanes
// up to `depth` are zero.
template <class Lanes, class T>
void pack_across(float *packed, int64_t width, const T *from, int64_t from_stride, int64_t count, int64_t K,
                 int64_t depth) {
  for (int64_t lane = 0; lane < depth; ++lane, packed += width) {
    const int64_t k = lane * Lanes::kElements;
    int64_t r = 0;
    if (k < K) {
      const T *const row = from + k * from_stride;
      for (; r + kWidth <= count; r += kWidth) store(packed + r, Lanes::across(row + r, from_stride, k + 1 < K));
      for (; r < count; ++r) packed[r] = Lanes::lane(row + r, from_stride, k + 1 < K);
    }
    std::fill(packed + r, packed + width, 0.0f);
  }
}

// A panel as wide as whole vectors: columns of an operand that lie along k (its transpose is stored), or across.
template <class Lanes, class T>
void pack_columns(float *packed, const T *from, int64_t from_stride, bool along, int64_t count, int64_t K,
                  int64_t depth) {
  const int64_t width = round_up(count, kWidth);
  if (!along) return pack_across<Lanes>(packed, width, from, from_stride, count, K, depth);
  for (int64_t first = 0; first < count; first += kWidth)
    pack_along<Lanes, kWidth>(packed + first, width, from + first * from_stride, from_stride,
                              std::min<int64_t>(kWidth, count - first), K, depth);
}

}  // namespace llmts

#endif
