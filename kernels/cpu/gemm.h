// Matrix products in fp32, of operands in either precision: the one place the kernels' multiplications go through.
#ifndef LLMTS_CPU_GEMM_H
#define LLMTS_CPU_GEMM_H

#include <cstdint>
#include <functional>

#include "cpu/bf16.h"

namespace llmts {

// A row-major matrix in memory, `stride` elements from row to row, read as it lies or transposed.
struct View {
  Elements data;
  int64_t stride;
  bool transposed;
};
inline View as_is(Elements data, int64_t stride) { return {data, stride, false}; }
inline View transposed(Elements data, int64_t stride) { return {data, stride, true}; }

enum class Store { Overwrite, Add };

// c (M,N), row-major with stride ldc, = or += a (M,K) · b (K,N), on the calling thread.
void multiply(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K);

// Rows [row, row_end) of columns [column, column_end) of the result: its values, `stride` from row to row.
struct Block {
  int64_t row, row_end, column, column_end;
  float *values;
  int64_t stride;
};
// Called once for each block of a product as soon as the block is complete and while it is in the cache, from the
// thread that made it.
using Epilogue = std::function<void(const Block &)>;

// As multiply(), by the instruction set's own product of blocks (gemm_tile.cpp or gemm_eigen.cpp), whatever M is. Where
// c is null, the product is stored nowhere: the epilogue sees its blocks.
void multiply_blocks(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K,
                     const Epilogue &epilogue);

// Operands copied once into the order that the instruction set's product reads them in, for small ones that are
// multiplied several times. A product whose operands are `narrow`, bf16 both or one of them, is of bf16 operands where
// there are instructions for that. Sizes are in floats.
int64_t packed_left_size(int64_t M, int64_t K, bool narrow);
int64_t packed_right_size(int64_t N, int64_t K, bool narrow);
void pack_left(float *packed, View a, int64_t M, int64_t K, bool narrow);
void pack_right(float *packed, View b, int64_t N, int64_t K, bool narrow);
// As multiply(), from packed operands.
void multiply_packed(float *c, int64_t ldc, Store store, const float *a, const float *b, int64_t M, int64_t N,
                     int64_t K, bool narrow);

// A product as multiply() makes it, on as many threads as it is worth.
void gemm(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K,
          const Epilogue &epilogue = nullptr);

// to (M,N), dense, from its first-th element on = a · b, in its precision.
void gemm(const Destination &to, int64_t first, View a, View b, int64_t M, int64_t N, int64_t K);

}  // namespace llmts

#endif
