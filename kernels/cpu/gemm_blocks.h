// The matrix product of one thread in tiles, blocked for the caches (Goto and van de Geijn 2008; Van Zee and van de
// Geijn 2015). Each element of c is the sum over k in order, wherever it lies in a tile: a row's result does not depend
// on the others, nor on the number of threads.
//
// A Tile is the innermost product, of one panel of each operand:
//   Lanes                what its panels are made of (gemm_panels.h)
//   Session              lives while the tile is in use by a thread
//   kRows, kColumns      its size, at most
//   width(columns)       how many of the columns that are left it takes next
//   kDepthUnit           lanes along k come in multiples of it
//   kBlockRows, kBlockDepth   a block of a, kBlockRows × kBlockDepth lanes, stays in the L2 cache
//   pack_a(packed, a, stride, transposed, rows, K, depth)   one panel of at most kRows rows
//   multiply(c, ldc, add, a_panel, b_panel, depth, rows, columns)   c = or += a · b where inside (rows, columns)
#ifndef LLMTS_CPU_GEMM_BLOCKS_H
#define LLMTS_CPU_GEMM_BLOCKS_H

#include <optional>

#include "cpu/gemm.h"
#include "cpu/gemm_panels.h"
#include "cpu/scratch.h"

namespace llmts {

// Room for panels: small ones on the stack, since a product of small blocks, as in attention, takes less time than
// getting scratch memory.
class Panels {
 public:
  Panels(int64_t rows, int64_t depth) {
    if (rows * depth > kSmall) scratch_.emplace(Shape{rows, depth});
  }
  float *data() { return scratch_ ? scratch_->data() : small_; }

 private:
  static constexpr int64_t kSmall = 128 * 64;
  alignas(64) float small_[kSmall];
  std::optional<Scratch<float>> scratch_;
};

// Lanes that k elements take.
template <class Tile>
int64_t depth_of(int64_t k) {
  constexpr int64_t kElements = Tile::Lanes::kElements;
  return round_up(k, Tile::kDepthUnit * kElements) / kElements;
}

// The panels of `rows` rows of a from `row` on, k of their elements from k0 on.
template <class Tile>
void pack_left_panels(float *packed, View a, int64_t row, int64_t rows, int64_t k0, int64_t k) {
  const int64_t depth = depth_of<Tile>(k);
  dispatch(a.data, [&](const auto *data) {
    const auto *const from = data + (a.transposed ? k0 * a.stride + row : row * a.stride + k0);
    for (int64_t m = 0; m < rows; m += Tile::kRows)
      Tile::pack_a(packed + m * depth, from + (a.transposed ? m : m * a.stride), a.stride, a.transposed,
                   std::min<int64_t>(Tile::kRows, rows - m), k, depth);
  });
}

// One panel, of `columns` columns of b from `column` on, k of their elements from k0 on.
template <class Tile>
void pack_right_panel(float *packed, View b, int64_t column, int64_t columns, int64_t k0, int64_t k) {
  dispatch(b.data, [&](const auto *data) {
    pack_columns<typename Tile::Lanes>(packed, data + (b.transposed ? column * b.stride + k0 : k0 * b.stride + column),
                                       b.stride, b.transposed, columns, k, depth_of<Tile>(k));
  });
}

// c (rows, columns) = or += the product of the panels of `rows` rows of a with one panel of b.
template <class Tile>
void multiply_panels(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t depth, int64_t rows,
                     int64_t columns) {
  for (int64_t m = 0; m < rows; m += Tile::kRows)
    Tile::multiply(c + m * ldc, ldc, add, a + m * depth, b, depth, std::min<int64_t>(Tile::kRows, rows - m), columns);
}

// Calls use(column, columns) for each panel of an operand of N columns.
template <class Tile, class Use>
void for_each_panel(int64_t N, Use &&use) {
  int64_t width = 0;
  for (int64_t column = 0; column < N; column += width) {
    width = Tile::width(N - column);
    use(column, width);
  }
}

template <class Tile>
void multiply_packed_in_tiles(float *c, int64_t ldc, Store how, const float *a, const float *b, int64_t M, int64_t N,
                              int64_t K) {
  const int64_t depth = depth_of<Tile>(K);
  for_each_panel<Tile>(N, [&](int64_t column, int64_t columns) {
    multiply_panels<Tile>(c + column, ldc, how == Store::Add, a, b + column * depth, depth, M, columns);
  });
}

template <class Tile>
void multiply_in_tiles(float *c, int64_t ldc, Store how, View a, View b, int64_t M, int64_t N, int64_t K,
                       const Epilogue &epilogue) {
  // kBlockColumns × kBlockDepth of b, packed once, in the L3 cache.
  constexpr int64_t kBlockColumns = 64 * Tile::kColumns, kBlockK = Tile::kBlockDepth * Tile::Lanes::kElements;
  const int64_t most_depth = depth_of<Tile>(std::min(K, kBlockK));
  Panels a_panels(round_up(std::min(M, Tile::kBlockRows), Tile::kRows), most_depth);
  Panels b_panels(round_up(std::min(N, kBlockColumns), kWidth), most_depth);
  // A product that is stored nowhere: whole where blocks along K add to it, else a panel of it at a time.
  const bool stored = c != nullptr, whole = stored || K > kBlockK;
  std::optional<Scratch<float>> own;
  if (!stored) {
    ldc = whole ? N : Tile::kColumns;
    c = own.emplace(Shape{whole ? M : std::min(M, Tile::kBlockRows), ldc}).data();
  }
  for (int64_t n0 = 0; n0 < N; n0 += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, N - n0);
    for (int64_t k0 = 0; k0 < K; k0 += kBlockK) {
      const int64_t k = std::min(kBlockK, K - k0), depth = depth_of<Tile>(k);
      const bool add = how == Store::Add || k0 > 0;
      for (int64_t m0 = 0; m0 < M; m0 += Tile::kBlockRows) {
        const int64_t rows = std::min<int64_t>(Tile::kBlockRows, M - m0);
        pack_left_panels<Tile>(a_panels.data(), a, m0, rows, k0, k);
        for_each_panel<Tile>(columns, [&](int64_t n, int64_t width) {
          const int64_t column = n0 + n;
          float *const b_panel = b_panels.data() + n * depth, *const panel = whole ? c + m0 * ldc + column : c;
          if (m0 == 0) pack_right_panel<Tile>(b_panel, b, column, width, k0, k);
          multiply_panels<Tile>(panel, ldc, add, a_panels.data(), b_panel, depth, rows, width);
          if (epilogue && k0 + k == K) epilogue({m0, m0 + rows, column, column + width, panel, ldc});
        });
      }
    }
  }
}

// c[r · ldc + n] = or += whole[r · stride + n] for what lies inside (rows, columns).
inline void store_inside(float *c, int64_t ldc, bool add, const float *whole, int64_t stride, int64_t rows,
                         int64_t columns) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < columns; ++n) {
      float &to = c[r * ldc + n];
      to = add ? to + whole[r * stride + n] : whole[r * stride + n];
    }
  }
}

}  // namespace llmts

#endif
