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

// The same by the instruction set's own product of blocks (gemm_tile.cpp or gemm_eigen.cpp), whatever M is.
void multiply_blocks(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K);

// Rows [row, row_end) of columns [column, column_end) of the result.
struct Block {
  int64_t row, row_end, column, column_end;
};
using Epilogue = std::function<void(const Block &)>;

// The same on as many threads as it is worth. The epilogue, where there is one, is called once for each block of c as
// soon as the block is complete and while it is in the cache, from the thread that made it.
void gemm(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K,
          const Epilogue &epilogue = nullptr);

}  // namespace llmts

#endif
