#include <algorithm>

#include "cuda/columns.h"
#include "cuda/device.h"
#include "cuda/warp.h"

namespace llmts {

namespace {

constexpr int kRows = 8;  // that a block reads at a time, one a warp

__global__ void __launch_bounds__(kRows *kWarpSize)
    sum_columns_kernel(float *out, const float *partial, int64_t rows, int64_t columns, int64_t stride,
                       bool accumulate) {
  CU_SHARED(float, sums, [kRows][kWarpSize]);
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
  float sum = 0.0f;
  if (column < columns) {
    for (int64_t row = warp; row < rows; row += kRows) sum += partial[row * stride + column];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= columns) return;
  for (int other = 1; other < kRows; ++other) sum += sums[other][lane];
  out[column] = accumulate ? out[column] + sum : sum;
}

}  // namespace

void sum_columns(float *out, const float *partial, int64_t rows, int64_t columns, int64_t stride, bool accumulate) {
  launch(sum_columns_kernel, dim3(grid_blocks(ceil_div(columns, kWarpSize))), kRows * kWarpSize, 0, out, partial, rows,
         columns, stride, accumulate);
}

int64_t row_blocks(int64_t rows, int64_t rows_each) {
  return std::min<int64_t>(ceil_div(rows, rows_each), 2 * device().multiprocessors);
}

}  // namespace llmts
