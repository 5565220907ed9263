// A tile of the product in the tile registers of AMX, of bf16 operands.
#ifndef LLMTS_CPU_GEMM_AMX_H
#define LLMTS_CPU_GEMM_AMX_H

#include <optional>

#include "common/door.h"
#include "cpu/amx.h"
#include "cpu/gemm_blocks.h"

namespace llmts {

// Two by two tile registers of c. Panels of a: for each 16 lanes of depth its rows, 16 lanes each, so that a register's
// are one contiguous KiB; panels of b: depth × its columns.
struct AmxTile {
  using Lanes = Pairs;
  struct Session {
    Session() {
      if (!amx::permitted()) fail(LLMTS_UNSUPPORTED, "the system gives this process no AMX tiles");
      configuration.emplace();
    }
    std::optional<amx::Configuration> configuration;
  };
  static constexpr int kEdge = amx::kRows;  // a tile register is 16 rows of 16 lanes
  static constexpr int kRows = 2 * kEdge, kColumns = 2 * kEdge;
  static constexpr int64_t kDepthUnit = kEdge, kBlockRows = 256, kBlockDepth = 384;

  template <class T>
  static void pack_a(float *packed, const T *a, int64_t stride, bool transposed, int64_t rows, int64_t K,
                     int64_t depth) {
    for (int64_t lane = 0; lane < depth; lane += kEdge) {
      const int64_t k = lane * Lanes::kElements, left = std::clamp<int64_t>(K - k, 0, kEdge * Lanes::kElements);
      for (int half = 0; half < 2; ++half, packed += kEdge * kEdge) {
        const int64_t first = half * kEdge, count = std::clamp<int64_t>(rows - first, 0, kEdge);
        if (transposed)
          pack_across_transposed(packed, a + k * stride + first, stride, count, left);
        else
          pack_rows(packed, a + first * stride + k, stride, count, left);
      }
    }
  }

  static int64_t width(int64_t columns) { return std::min<int64_t>(kColumns, columns); }

  static void multiply(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t depth, int64_t rows,
                       int64_t columns) {
    if (rows == kRows && columns == kColumns) return multiply_registers<2>(c, ldc, add, a, b, depth);
    // Sums go on from c, as those of a whole tile do: a row's are the same whatever rows are beside it.
    alignas(64) float whole[kRows * kColumns] = {};
    for (int64_t r = 0; add && r < rows; ++r) std::copy_n(c + r * ldc, columns, whole + r * kColumns);
    if (columns > kEdge)
      multiply_registers<2>(whole, kColumns, add, a, b, depth);
    else
      multiply_registers<1>(whole, kColumns, add, a, b, depth);
    store_inside(c, ldc, false, whole, kColumns, rows, columns);
  }

 private:
  // packed (16,16) = 16 lanes of `count` rows.
  template <class T>
  static void pack_rows(float *packed, const T *from, int64_t stride, int64_t count, int64_t K) {
    const bool whole = K == kEdge * Lanes::kElements;
    for (int64_t r = 0; r < kEdge; ++r, packed += kEdge, from += stride) {
      if (r < count && whole) {
        store(packed, Lanes::along(from));
        continue;
      }
      for (int64_t lane = 0; lane < kEdge; ++lane) {
        const int64_t k = lane * Lanes::kElements;
        packed[lane] = r < count && k < K ? Lanes::lane(from + k, 1, k + 1 < K) : 0.0f;
      }
    }
  }

  // packed (16,16) = the transpose of 16 lanes of `count` columns.
  template <class T>
  static void pack_across_transposed(float *packed, const T *from, int64_t stride, int64_t count, int64_t K) {
    alignas(64) float lanes[kEdge * kEdge];
    pack_across<Lanes>(lanes, kEdge, from, stride, count, K, kEdge);
    Vector rows[kEdge];
#pragma GCC unroll 16
    for (int i = 0; i < kEdge; ++i) rows[i] = llmts::load(lanes + i * kEdge);
    transpose(rows);
#pragma GCC unroll 16
    for (int i = 0; i < kEdge; ++i) llmts::store(packed + i * kEdge, rows[i]);
  }

  // c (32, 16 · Columns) = or += a · b. Registers 0 … 3 are c's, 4 and 5 a's, 6 and 7 b's.
  template <int Columns>
  static void multiply_registers(float *c, int64_t ldc, bool add, const float *a, const float *b, int64_t depth) {
    constexpr int64_t kWide = Columns * kEdge;
    float *const below = c + kEdge * ldc;
    if (add) {
      amx::load<0>(c, ldc);
      amx::load<2>(below, ldc);
      if (Columns == 2) {
        amx::load<1>(c + kEdge, ldc);
        amx::load<3>(below + kEdge, ldc);
      }
    } else {
      amx::zero<0>();
      amx::zero<1>();
      amx::zero<2>();
      amx::zero<3>();
    }
    for (int64_t lane = 0; lane < depth; lane += kEdge, a += kRows * kEdge, b += kEdge * kWide) {
      amx::load<6>(b, kWide);
      amx::load<4>(a, kEdge);
      amx::load<5>(a + kEdge * kEdge, kEdge);
      amx::dot<0, 4, 6>();
      amx::dot<2, 5, 6>();
      if (Columns == 2) {
        amx::load<7>(b + kEdge, kWide);
        amx::dot<1, 4, 7>();
        amx::dot<3, 5, 7>();
      }
    }
    amx::store<0>(c, ldc);
    amx::store<2>(below, ldc);
    if (Columns == 2) {
      amx::store<1>(c + kEdge, ldc);
      amx::store<3>(below + kEdge, ldc);
    }
  }
};

}  // namespace llmts

#endif
