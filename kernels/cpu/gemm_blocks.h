// The matrix product of one thread in tiles, blocked for the caches (Goto and van de Geijn 2008; Van Zee and van de
// Geijn 2015). Each element of c is the sum over k in order, wherever it lies in a tile: a row's result does not depend
// on the others, nor on the number of threads.
//
// A Tile is the innermost product, of one panel of each operand:
//   Lanes                what its panels are made of (gemm_panels.h)
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

template <class Tile>
void multiply_in_tiles(float *c, int64_t ldc, Store how, View a, View b, int64_t M, int64_t N, int64_t K,
                       const Epilogue &epilogue) {
  using Lanes = typename Tile::Lanes;
  // kBlockColumns × kBlockDepth of b, packed once, in the L3 cache.
  constexpr int64_t kBlockColumns = 64 * Tile::kColumns, kBlockK = Tile::kBlockDepth * Lanes::kElements;
  const auto depth_of = [](int64_t k) { return round_up(k, Tile::kDepthUnit * Lanes::kElements) / Lanes::kElements; };
  const int64_t most_depth = depth_of(std::min(K, kBlockK));
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
      const int64_t k = std::min(kBlockK, K - k0), depth = depth_of(k);
      const bool add = how == Store::Add || k0 > 0;
      for (int64_t m0 = 0; m0 < M; m0 += Tile::kBlockRows) {
        const int64_t rows = std::min<int64_t>(Tile::kBlockRows, M - m0);
        dispatch(a.data, [&](const auto *from) {
          for (int64_t m = 0; m < rows; m += Tile::kRows) {
            const int64_t row = m0 + m;
            Tile::pack_a(a_panels.data() + m * depth, from + (a.transposed ? k0 * a.stride + row : row * a.stride + k0),
                         a.stride, a.transposed, std::min<int64_t>(Tile::kRows, rows - m), k, depth);
          }
        });
        int64_t width = 0;
        for (int64_t n = 0; n < columns; n += width) {
          const int64_t column = n0 + n;
          width = Tile::width(columns - n);
          float *const b_panel = b_panels.data() + n * depth;
          if (m0 == 0) {
            dispatch(b.data, [&](const auto *from) {
              pack_columns<Lanes>(b_panel, from + (b.transposed ? column * b.stride + k0 : k0 * b.stride + column),
                                  b.stride, b.transposed, width, k, depth);
            });
          }
          float *const panel = whole ? c + m0 * ldc + column : c;
          for (int64_t m = 0; m < rows; m += Tile::kRows)
            Tile::multiply(panel + m * ldc, ldc, add, a_panels.data() + m * depth, b_panel, depth,
                           std::min<int64_t>(Tile::kRows, rows - m), width);
          if (epilogue && k0 + k == K) epilogue({m0, m0 + rows, column, column + width, panel, ldc});
        }
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
