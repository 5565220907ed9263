// The matrix product of one thread in register tiles, blocked for the caches (Goto and van de Geijn 2008; Van Zee and
// van de Geijn 2015). Operands are copied ("packed") into fp32 panels in the order the tile reads them:
//   a: panels of kRows rows, K × kRows;  b: panels of kColumns columns, K × kColumns; missing rows and columns are
//   zero.
// Each element of c is the sum over k in order, wherever it lies in a tile: a row's result does not depend on the
// others, nor on the number of threads.
#include <algorithm>
#include <utility>

#include "cpu/gemm.h"
#include "cpu/scratch.h"
#include "cpu/vector.h"

namespace llmts {

namespace {

// A tile of c fills most vector registers: 24 of AVX-512's 32, 12 of AVX2's 16.
constexpr int kRows = kWidth == 16 ? 8 : 4, kVectors = 3, kColumns = kVectors * kWidth;

// Blocks: kBlockRows × kBlockK of a stay in the L2 cache; kBlockK × kBlockColumns of b, packed once, in the L3.
constexpr int64_t kBlockRows = 256, kBlockK = 384, kBlockColumns = 64 * kColumns;

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// c (kRows, Vectors · kWidth) = or += a · b, from one panel of each.
template <int Vectors>
void tile(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t K) {
  Vector sum[kRows][Vectors] = {};
#pragma GCC unroll 2
  for (int64_t k = 0; k < K; ++k) {
    Vector right[Vectors];
#pragma GCC unroll 3
    for (int v = 0; v < Vectors; ++v) right[v] = load(b + (k * Vectors + v) * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const float left = a[k * kRows + r];
#pragma GCC unroll 3
      for (int v = 0; v < Vectors; ++v) sum[r][v] += left * right[v];
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

// The same where only (rows, columns) of the tile lie inside c.
template <int Vectors>
void tile_inside(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t K, int64_t rows,
                 int64_t columns) {
  if (rows == kRows && columns == Vectors * kWidth) return tile<Vectors>(c, ldc, add, a, b, K);
  alignas(64) float whole[kRows * Vectors * kWidth];
  tile<Vectors>(whole, Vectors * kWidth, false, a, b, K);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < columns; ++n) {
      const float sum = whole[r * Vectors * kWidth + n];
      float &to = c[r * ldc + n];
      to = add ? to + sum : sum;
    }
  }
}

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

// packed[k · stride + r] = from[r · from_stride + k] for K columns of `count` rows; rows up to Count become zero.
template <int Count, class T>
void pack_transposed(float *packed, int64_t stride, const T *from, int64_t from_stride, int64_t count, int64_t K) {
  constexpr int kColumnsEach = kWidth / Count;  // in each vector, once transposed
  const int64_t whole = K / kWidth * kWidth;
  for (int64_t k = 0; k < whole; k += kWidth) {
    Vector rows[Count];
#pragma GCC unroll 16
    for (int r = 0; r < Count; ++r) rows[r] = r < count ? load(from + r * from_stride + k) : Vector{};
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < Count; ++i) store(packed + (k + i * kColumnsEach) * stride, rows[i]);
  }
  for (int64_t k = whole; k < K; ++k) {
    for (int r = 0; r < Count; ++r) packed[k * stride + r] = r < count ? as_float(from[r * from_stride + k]) : 0.0f;
  }
}

// packed[k · width + r] = from[k · from_stride + r] for K rows of `count` columns; columns up to width become zero.
template <class T>
void pack_as_is(float *packed, int64_t width, const T *from, int64_t from_stride, int64_t count, int64_t K) {
  for (int64_t k = 0; k < K; ++k) {
    convert(packed + k * width, from + k * from_stride, count);
    std::fill_n(packed + k * width + count, width - count, 0.0f);
  }
}

// Rows [row, row + rows) and columns [k, k + K) of a, into panels.
template <class T>
void pack_a(float *packed, const T *a, int64_t stride, bool transposed, int64_t row, int64_t rows, int64_t k,
            int64_t K) {
  for (int64_t r = 0; r < rows; r += kRows) {
    const int64_t count = std::min<int64_t>(kRows, rows - r);
    if (!transposed)
      pack_transposed<kRows>(packed + r * K, kRows, a + (row + r) * stride + k, stride, count, K);
    else if (count == kRows)  // the width known to the compiler
      pack_as_is(packed + r * K, kRows, a + k * stride + row + r, stride, kRows, K);
    else
      pack_as_is(packed + r * K, kRows, a + k * stride + row + r, stride, count, K);
  }
}

// Columns [column, column + columns) and rows [k, k + K) of b, into one panel as wide as its whole vectors.
template <class T>
void pack_b(float *packed, const T *b, int64_t stride, bool transposed, int64_t column, int64_t columns, int64_t k,
            int64_t K) {
  const int64_t width = round_up(columns, kWidth);
  if (!transposed) {
    if (columns == kColumns)  // the width known to the compiler
      pack_as_is(packed, kColumns, b + k * stride + column, stride, kColumns, K);
    else
      pack_as_is(packed, width, b + k * stride + column, stride, columns, K);
    return;
  }
  for (int64_t first = 0; first < columns; first += kWidth)
    pack_transposed<kWidth>(packed + first, width, b + (column + first) * stride + k, stride,
                            std::min<int64_t>(kWidth, columns - first), K);
}

// c (rows, columns) = or += a block of a, in panels, times one panel of b, Vectors wide.
template <int Vectors>
void multiply_panel(float *c, int64_t ldc, bool add, const float *a_panels, const float *b_panel, int64_t rows,
                    int64_t columns, int64_t K) {
  for (int64_t m = 0; m < rows; m += kRows)
    tile_inside<Vectors>(c + m * ldc, ldc, add, a_panels + m * K, b_panel, K, std::min<int64_t>(kRows, rows - m),
                         columns);
}

}  // namespace

void multiply_blocks(float *c, int64_t ldc, Store how, View a, View b, int64_t M, int64_t N, int64_t K) {
  const int64_t most_k = std::min(K, kBlockK);
  const Scratch<float> a_panels({round_up(std::min(M, kBlockRows), kRows), most_k});
  const Scratch<float> b_panels({round_up(std::min(N, kBlockColumns), kWidth), most_k});
  for (int64_t n0 = 0; n0 < N; n0 += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, N - n0);
    for (int64_t k0 = 0; k0 < K; k0 += kBlockK) {
      const int64_t k = std::min(kBlockK, K - k0);
      const bool add = how == Store::Add || k0 > 0;
      for (int64_t m0 = 0; m0 < M; m0 += kBlockRows) {
        const int64_t rows = std::min(kBlockRows, M - m0);
        dispatch(a.data,
                 [&](const auto *from) { pack_a(a_panels.data(), from, a.stride, a.transposed, m0, rows, k0, k); });
        for (int64_t n = 0; n < columns; n += kColumns) {
          const int64_t width = std::min<int64_t>(kColumns, columns - n);
          float *const b_panel = b_panels.data() + n * k, *const to = c + m0 * ldc + n0 + n;
          if (m0 == 0) {
            dispatch(b.data,
                     [&](const auto *from) { pack_b(b_panel, from, b.stride, b.transposed, n0 + n, width, k0, k); });
          }
          if (width > 2 * kWidth)
            multiply_panel<3>(to, ldc, add, a_panels.data(), b_panel, rows, width, k);
          else if (width > kWidth)
            multiply_panel<2>(to, ldc, add, a_panels.data(), b_panel, rows, width, k);
          else
            multiply_panel<1>(to, ldc, add, a_panels.data(), b_panel, rows, width, k);
        }
      }
    }
  }
}

}  // namespace llmts
