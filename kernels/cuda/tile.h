// Products of matrices tile by tile in fp32, for what tensor cores or cuBLASLt don't take: any sizes, any strides, any
// mix of precisions. A block of 256 threads makes 64 × 64 sums, each thread 4 × 4 of them, from slices of depth 16 in
// shared memory.
#ifndef LLMTS_CUDA_TILE_H
#define LLMTS_CUDA_TILE_H

#include <cstdint>

#include "cuda/vector.h"

namespace llmts {

constexpr int kTile = 64, kDepth = 16, kTileThreads = 256;
constexpr int kEach = 4;             // rows, and columns, of a thread
constexpr int kTileRow = kTile + 4;  // with room that spreads columns over the banks
using TileRow = float[kTileRow];     // one depth of a tile: element [k][i]

// Where a thread's sums are in its tile.
__device__ inline int tile_row() { return static_cast<int>(threadIdx.x) / (kTile / kEach) * kEach; }
__device__ inline int tile_column() { return static_cast<int>(threadIdx.x) % (kTile / kEach) * kEach; }

// Element (i, k) of an operand, 0 outside of its `rows` and `depth`. `across`: k is the row in memory, i the column.
template <class T>
struct TileOperand {
  In<T> data;
  int64_t offset, stride;
  bool across;
  int64_t rows, depth;

  __device__ float at(int64_t i, int64_t k) const {
    if (i >= rows || k >= depth) return 0.0f;
    return data.at(offset + (across ? k * stride + i : i * stride + k));
  }
};

// tile[k][i] = operand(row + i, depth + k). By all threads of the block.
template <class T>
__device__ void load_tile(TileRow *tile, const TileOperand<T> &operand, int64_t row, int64_t depth) {
  for (int n = static_cast<int>(threadIdx.x); n < kTile * kDepth; n += kTileThreads) {
    // Neighbouring threads read neighbouring addresses.
    const int i = operand.across ? n % kTile : n / kDepth, k = operand.across ? n / kTile : n % kDepth;
    tile[k][i] = operand.at(row + i, depth + k);
  }
}

// sum += aᵀ · b over `depth` rows of both tiles.
__device__ inline void multiply_tiles(float (&sum)[kEach][kEach], const TileRow *a, const TileRow *b, int depth) {
  const int row = tile_row(), column = tile_column();
  for (int k = 0; k < depth; ++k) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) sum[i][j] += a[k][row + i] * b[k][column + j];
    }
  }
}

// sum += a · b over the whole depth, a from its row `row` on and b from its column `column` on. Uses the two slices of
// shared memory; all threads of the block call it, and may use the slices again after the next barrier.
template <class A, class B>
__device__ void multiply_operands(float (&sum)[kEach][kEach], TileRow *a_slice, TileRow *b_slice,
                                  const TileOperand<A> &a, int64_t row, const TileOperand<B> &b, int64_t column,
                                  int64_t depth) {
  for (int64_t k = 0; k < depth; k += kDepth) {
    __syncthreads();  // the slices may still be in use
    load_tile(a_slice, a, row, k);
    load_tile(b_slice, b, column, k);
    __syncthreads();
    multiply_tiles(sum, a_slice, b_slice, kDepth);
  }
}

}  // namespace llmts

#endif
