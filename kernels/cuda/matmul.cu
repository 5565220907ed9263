// The linear layer.
//   forward: pre = x · weightᵀ + bias;  out = pre or gelu(pre)
//   dinput:  dx = dout · weight, and ⊙ gelu'(pre) where x was gelu(pre)
//   dweight: dweight (+)= doutᵀ · x
//   dbias:   dbias (+)= the sum of dout over rows
// Products are cuBLASLt's (cuda/product.h). dbias is a pass of its own: cuBLASLt's bias-gradient epilogue stores where
// this adds. Blocks sum rows of their own, and those sums are added up in a fixed order.
#include "cuda/columns.h"
#include "cuda/device.h"
#include "cuda/product.h"
#include "cuda/warp.h"

using namespace llmts;

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;

// partial (gridDim.y, OC): sums over the rows that a block takes, each lane W columns.
template <class T, int W>
__global__ void __launch_bounds__(kThreads) dbias_kernel(float *partial, In<T> dout, int64_t N, int64_t OC) {
  CU_SHARED(float, sums, [kWarps][kWarpSize * W]);
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * kWarpSize + lane) * W;
  float sum[W] = {};
  if (c < OC) {
    for (int64_t row = static_cast<int64_t>(blockIdx.y) * kWarps + warp; row < N;
         row += static_cast<int64_t>(gridDim.y) * kWarps) {
      float values[W];
      dout.load(row * OC + c, values);
#pragma unroll
      for (int i = 0; i < W; ++i) sum[i] += values[i];
    }
  }
#pragma unroll
  for (int i = 0; i < W; ++i) sums[warp][lane * W + i] = sum[i];
  __syncthreads();
  if (warp != 0 || c >= OC) return;
  for (int other = 1; other < kWarps; ++other) {
#pragma unroll
    for (int i = 0; i < W; ++i) sum[i] += sums[other][lane * W + i];
  }
  Out<float>(partial, false).store(blockIdx.y * OC + c, sum);
}

}  // namespace

int32_t llmts_matmul_forward(void *out, int32_t out_dtype, void *pre, int32_t pre_dtype, const void *x, int32_t x_dtype,
                             const void *weight, int32_t weight_dtype, const void *packed, const void *bias,
                             int32_t bias_dtype, int32_t activation, int64_t N, int64_t C, int64_t OC) {
  return guarded("matmul_forward", {{"N", N}, {"C", C}, {"OC", OC}}, [&] {
    Product p;
    p.out = operand("out", out, out_dtype, {N, OC});
    p.out_stride = OC;
    p.pre = optional_operand("pre", pre, pre_dtype, {N, OC});
    p.a = {operand("x", x, x_dtype, {N, C}), C, false};
    p.b = {operand("weight", weight, weight_dtype, {OC, C}), C, true};
    p.bias = optional_operand("bias", bias, bias_dtype, {OC});
    p.rows = N;
    p.columns = OC;
    p.depth = C;
    if (packed != nullptr) fail(LLMTS_INVALID_ARGUMENT, "'packed' is not null, but this library has no packed layout");
    if (activation != LLMTS_IDENTITY && activation != LLMTS_GELU)
      fail(LLMTS_INVALID_ARGUMENT, "activation is %d, expected 0 (identity) or 1 (GELU)", activation);
    if (activation == LLMTS_GELU) {
      p.activation = Activation::Gelu;
      multiply(p);
      return;
    }
    for (const Operand &out : {p.out, p.pre}) {  // the same twice, where both are wanted
      Product copy = p;
      copy.out = out;
      copy.pre = {nullptr, LLMTS_FP32};
      if (out) multiply(copy);
    }
  });
}

int32_t llmts_matmul_dinput(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype, const void *weight,
                            int32_t weight_dtype, const void *pre, int32_t pre_dtype, int64_t N, int64_t C,
                            int64_t OC) {
  return guarded("matmul_dinput", {{"N", N}, {"C", C}, {"OC", OC}}, [&] {
    Product p;
    p.out = operand("dx", dx, dx_dtype, {N, C});
    p.out_stride = C;
    p.a = {operand("dout", dout, dout_dtype, {N, OC}), OC, false};
    p.b = {operand("weight", weight, weight_dtype, {OC, C}), C, false};
    p.pre = optional_operand("pre", pre, pre_dtype, {N, C});
    p.rows = N;
    p.columns = C;
    p.depth = OC;
    p.activation = p.pre ? Activation::GeluGradient : Activation::Identity;
    multiply(p);
  });
}

int32_t llmts_matmul_dweight(float *dweight, const void *dout, int32_t dout_dtype, const void *x, int32_t x_dtype,
                             int32_t accumulate, int64_t N, int64_t C, int64_t OC) {
  return guarded("matmul_dweight", {{"N", N}, {"C", C}, {"OC", OC}}, [&] {
    Product p;
    p.out = operand("dweight", dweight, LLMTS_FP32, {OC, C});
    p.out_stride = C;
    p.a = {operand("dout", dout, dout_dtype, {N, OC}), OC, true};
    p.b = {operand("x", x, x_dtype, {N, C}), C, false};
    p.rows = OC;
    p.columns = C;
    p.depth = N;
    p.accumulate = flag("accumulate", accumulate);
    multiply(p);
  });
}

int32_t llmts_matmul_dbias(float *dbias, const void *dout, int32_t dout_dtype, int32_t accumulate, int64_t N,
                           int64_t OC) {
  return guarded("matmul_dbias", {{"N", N}, {"OC", OC}}, [&] {
    tensor("dbias", dbias, {OC});
    const Operand dy = operand("dout", dout, dout_dtype, {N, OC});
    const bool adds = flag("accumulate", accumulate);
    const int64_t blocks = row_blocks(N, 4 * kWarps);
    const Scratch scratch(blocks * OC * static_cast<int64_t>(sizeof(float)));
    float *const partial = scratch.as<float>();
    with_vectors({dy}, {partial}, OC, [&](auto type, auto width) {
      using T = typename decltype(type)::type;
      constexpr int W = decltype(width)::value;
      const dim3 grid(grid_blocks(ceil_div(OC, kWarpSize * W)), grid_blocks(blocks, 65535));
      launch(dbias_kernel<T, W>, grid, kThreads, 0, partial, dy.in<T>(), N, OC);
    });
    sum_columns(dbias, partial, blocks, OC, OC, adds);
  });
}
