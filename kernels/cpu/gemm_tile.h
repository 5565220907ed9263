// A tile of the product in vector registers. Panels of a: depth × kRows lanes; of b: depth × kColumns.
#ifndef LLMTS_CPU_GEMM_TILE_H
#define LLMTS_CPU_GEMM_TILE_H

#include "cpu/gemm_blocks.h"

namespace llmts {

inline void multiply_add(Vector &sum, float left, Vector right, Singles) { sum += left * right; }
#ifdef __AVX512BF16__
inline void multiply_add(Vector &sum, float left, Vector right, Pairs) {
  sum = _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(_mm512_set1_ps(left)), reinterpret_cast<__m512bh>(right));
}
#endif

template <class LanesOfPanels>
struct RegisterTile {
  using Lanes = LanesOfPanels;
  struct Session {};
  // A tile of c fills most vector registers: 24 of AVX-512's 32, 12 of AVX2's 16.
  static constexpr int kRows = kWidth == 16 ? 8 : 4, kVectors = 3, kColumns = kVectors * kWidth;
  static constexpr int64_t kDepthUnit = 1, kBlockRows = 256, kBlockDepth = 384;

  template <class T>
  static void pack_a(float *packed, const T *a, int64_t stride, bool transposed, int64_t rows, int64_t K,
                     int64_t depth) {
    if (!transposed)
      pack_along<Lanes, kRows>(packed, kRows, a, stride, rows, K, depth);
    else
      pack_rows_across(packed, a, stride, rows, K, depth);
  }

  // A tile of one vector has too few sums at once to hide the latency of adding: rather 2 + 2 vectors than 3 + 1.
  static int64_t width(int64_t columns) {
    const bool even = columns > kColumns && columns <= 4 * kWidth;
    return std::min<int64_t>(even ? 2 * kWidth : kColumns, columns);
  }

  static void multiply(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t depth, int64_t rows,
                       int64_t columns) {
    if (columns > 2 * kWidth)
      inside<3>(c, ldc, add, a, b, depth, rows, columns);
    else if (columns > kWidth)
      inside<2>(c, ldc, add, a, b, depth, rows, columns);
    else
      inside<1>(c, ldc, add, a, b, depth, rows, columns);
  }

 private:
  // c (kRows, Vectors · kWidth) = or += a · b, from one panel of each.
  template <int Vectors>
  static void whole(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t depth) {
    Vector sum[kRows][Vectors] = {};
#pragma GCC unroll 2
    for (int64_t k = 0; k < depth; ++k) {
      Vector right[Vectors];
#pragma GCC unroll 3
      for (int v = 0; v < Vectors; ++v) right[v] = load(b + (k * Vectors + v) * kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const float left = a[k * kRows + r];
#pragma GCC unroll 3
        for (int v = 0; v < Vectors; ++v) multiply_add(sum[r][v], left, right[v], Lanes());
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
      for (int v = 0; v < Vectors; ++v) {
        float *const to = c + r * ldc + v * kWidth;
        store(to, add ? load(to) + sum[r][v] : sum[r][v]);
      }
    }
  }

  template <int Vectors>
  static void inside(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t depth, int64_t rows,
                     int64_t columns) {
    if (rows == kRows && columns == Vectors * kWidth) return whole<Vectors>(c, ldc, add, a, b, depth);
    alignas(64) float all[kRows * Vectors * kWidth];
    whole<Vectors>(all, Vectors * kWidth, false, a, b, depth);
    store_inside(c, ldc, add, all, Vectors * kWidth, rows, columns);
  }

  template <class T>
  static void pack_rows_across(float *packed, const T *a, int64_t stride, int64_t rows, int64_t K, int64_t depth) {
    static_assert(2 * kRows == kWidth, "a row of the panel is half a vector");
    const int64_t lanes = rows == kRows ? (K + Lanes::kElements - 1) / Lanes::kElements : 0;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t k = lane * Lanes::kElements;
      store(packed + lane * kRows, Lanes::half_across(a + k * stride, stride, k + 1 < K));
    }
    for (int64_t lane = lanes; lane < depth; ++lane) {
      const int64_t k = lane * Lanes::kElements;
      for (int r = 0; r < kRows; ++r)
        packed[lane * kRows + r] = r < rows && k < K ? Lanes::lane(a + k * stride + r, stride, k + 1 < K) : 0.0f;
    }
  }
};

}  // namespace llmts

#endif
