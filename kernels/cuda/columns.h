// Sums over the rows of an fp32 matrix: the last step of gradients that blocks have summed over rows of their own.
#ifndef LLMTS_CUDA_COLUMNS_H
#define LLMTS_CUDA_COLUMNS_H

#include <cstdint>

namespace llmts {

// out[c] = the sum over rows of partial (rows, columns), always in the same order; += it with `accumulate`.
void sum_columns(float *out, const float *partial, int64_t rows, int64_t columns, int64_t stride, bool accumulate);

// How many blocks share the rows of a tall matrix, each summing its own.
int64_t row_blocks(int64_t rows, int64_t rows_each);

}  // namespace llmts

#endif
