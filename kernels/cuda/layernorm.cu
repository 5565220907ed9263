// Layer normalisation (Ba et al. 2016, arXiv 1607.06450), per row of C channels:
//   forward:  xhat = (x - mean) · rstd, rstd = 1 / sqrt(var + 1e-5);  out = xhat · weight + bias
//   backward: dxhat = dout · weight
//             dx = rstd · (dxhat - mean(dxhat) - xhat · mean(dxhat · xhat)) + dresidual
//             dweight (+)= sum of dout · xhat over rows;  dbias (+)= sum of dout over rows
// Forward gives a row to a warp, which reads it three times, from the cache after the first: for the mean, for the
// variance of the deviations (no cancellation), and to write. Backward gives a block groups of rows: warps find the two
// means of each row, then each thread goes down its columns, writing dx and summing dweight and dbias, of which the
// block keeps partial sums in device memory. Those are added up in a fixed order.
#include "cuda/columns.h"
#include "cuda/device.h"
#include "cuda/operand.h"
#include "cuda/warp.h"

using namespace llmts;

namespace {

constexpr float kEpsilon = 1e-5f;
constexpr int kThreads = 128, kWarps = kThreads / kWarpSize;
constexpr int kGroup = 16;  // rows that a block takes at a time in backward

// out = layernorm(x); with Residual first x = a + b, stored in `residual`, which may be a or b.
template <class T, int W, bool Residual>
__global__ void __launch_bounds__(kThreads)
    layernorm_forward_kernel(Out<T> out, float *mean_out, float *rstd_out, Out<T> residual, In<T> a, In<T> b,
                             In<T> weight, In<T> bias, int64_t N, int64_t C) {
  const int lane = threadIdx.x % kWarpSize;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize, start = row * C;
  if (row >= N) return;
  float sum = 0.0f;
  for (int64_t c = lane * W; c < C; c += kWarpSize * W) {
    float x[W];
    a.load(start + c, x);
    if constexpr (Residual) {
      float y[W];
      b.load(start + c, y);
#pragma unroll
      for (int i = 0; i < W; ++i) x[i] += y[i];
      residual.store(start + c, x);
      residual.read().load(start + c, x);  // as rounded: what backward will see
    }
#pragma unroll
    for (int i = 0; i < W; ++i) sum += x[i];
  }
  const In<T> rows = Residual ? residual.read() : a;
  const float mean = warp_sum(sum) / static_cast<float>(C);
  float squares = 0.0f;
  for (int64_t c = lane * W; c < C; c += kWarpSize * W) {
    float x[W];
    rows.load(start + c, x);
#pragma unroll
    for (int i = 0; i < W; ++i) squares += (x[i] - mean) * (x[i] - mean);
  }
  const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(C) + kEpsilon);
  for (int64_t c = lane * W; c < C; c += kWarpSize * W) {
    float x[W], w[W], shift[W];
    rows.load(start + c, x);
    weight.load(c, w);
    bias.load(c, shift);
#pragma unroll
    for (int i = 0; i < W; ++i) x[i] = (x[i] - mean) * rstd * w[i] + shift[i];
    out.store(start + c, x);
  }
  if (lane == 0 && mean_out != nullptr) mean_out[row] = mean;
  if (lane == 0 && rstd_out != nullptr) rstd_out[row] = rstd;
}

// The means of dxhat and dxhat · xhat over a row.
struct RowMeans {
  float dxhat, product;
};

template <class T, int W>
__device__ RowMeans row_means(In<T> dout, In<T> x, In<T> weight, float mean, float rstd, int64_t start, int64_t C) {
  const int lane = threadIdx.x % kWarpSize;
  float sum = 0.0f, product = 0.0f;
  for (int64_t c = lane * W; c < C; c += kWarpSize * W) {
    float dy[W], in[W], w[W];
    dout.load(start + c, dy);
    x.load(start + c, in);
    weight.load(c, w);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      sum += dy[i] * w[i];
      product += dy[i] * w[i] * (in[i] - mean) * rstd;
    }
  }
  return {warp_sum(sum) / static_cast<float>(C), warp_sum(product) / static_cast<float>(C)};
}

// partial (blocks, 2, C): the block's sums of dweight and dbias. dresidual may be null; dx may be dresidual or dout.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    layernorm_backward_kernel(Out<T> dx, float *partial, In<T> dout, In<T> dresidual, bool has_residual, In<T> x,
                              const float *mean, const float *rstd, In<T> weight, int64_t N, int64_t C) {
  CU_SHARED(RowMeans, means, [kGroup]);
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  float *const dweight = partial + blockIdx.x * 2 * C, *const dbias = dweight + C;
  bool first_group = true;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kGroup; first < N;
       first += static_cast<int64_t>(gridDim.x) * kGroup) {
    const int rows = N - first < kGroup ? static_cast<int>(N - first) : kGroup;
    for (int r = warp; r < rows; r += kWarps) {
      const int64_t row = first + r;
      const RowMeans found = row_means<T, W>(dout, x, weight, mean[row], rstd[row], row * C, C);
      if (lane == 0) means[r] = found;
    }
    __syncthreads();
    for (int64_t c = threadIdx.x * W; c < C; c += kThreads * W) {
      float w[W], sum_weight[W] = {}, sum_bias[W] = {};
      weight.load(c, w);
      for (int r = 0; r < rows; ++r) {
        const int64_t row = first + r, index = row * C + c;
        const float m = mean[row], s = rstd[row];
        float dy[W], in[W], d[W] = {};
        dout.load(index, dy);
        x.load(index, in);
        if (has_residual) dresidual.load(index, d);
#pragma unroll
        for (int i = 0; i < W; ++i) {
          const float xhat = (in[i] - m) * s;
          sum_weight[i] += dy[i] * xhat;
          sum_bias[i] += dy[i];
          d[i] += s * (dy[i] * w[i] - means[r].dxhat - xhat * means[r].product);
        }
        dx.store(index, d);
      }
      if (!first_group) {
        add(dweight, c, sum_weight);
        add(dbias, c, sum_bias);
      } else {
        Out<float>(dweight, false).store(c, sum_weight);
        Out<float>(dbias, false).store(c, sum_bias);
      }
    }
    first_group = false;
    __syncthreads();
  }
}

template <bool Residual>
void forward(Operand out, float *mean, float *rstd, Operand residual, Operand a, Operand b, Operand weight,
             Operand bias, int64_t N, int64_t C) {
  with_vectors({out, residual, a, b, weight, bias}, {}, C, [&](auto type, auto width) {
    using T = typename decltype(type)::type;
    constexpr int W = decltype(width)::value;
    launch(layernorm_forward_kernel<T, W, Residual>, dim3(grid_blocks(ceil_div(N, kWarps))), kThreads, 0, out.out<T>(),
           mean, rstd, residual.out<T>(), a.in<T>(), b.in<T>(), weight.in<T>(), bias.in<T>(), N, C);
  });
}

}  // namespace

int32_t llmts_layernorm_forward(void *out, int32_t out_dtype, float *mean, float *rstd, const void *x, int32_t x_dtype,
                                const void *weight, int32_t weight_dtype, const void *bias, int32_t bias_dtype,
                                int64_t N, int64_t C) {
  return guarded("layernorm_forward", {{"N", N}, {"C", C}}, [&] {
    const Operand o = operand("out", out, out_dtype, {N, C});
    optional_tensor("mean", mean, Shape{N});
    optional_tensor("rstd", rstd, Shape{N});
    const Operand in = operand("x", x, x_dtype, {N, C}), none = {nullptr, LLMTS_FP32};
    const Operand w = operand("weight", weight, weight_dtype, {C});
    forward<false>(o, mean, rstd, none, in, none, w, operand("bias", bias, bias_dtype, {C}), N, C);
  });
}

int32_t llmts_residual_layernorm_forward(void *residual, int32_t residual_dtype, void *out, int32_t out_dtype,
                                         float *mean, float *rstd, const void *a, int32_t a_dtype, const void *b,
                                         int32_t b_dtype, const void *weight, int32_t weight_dtype, const void *bias,
                                         int32_t bias_dtype, int64_t N, int64_t C) {
  return guarded("residual_layernorm_forward", {{"N", N}, {"C", C}}, [&] {
    const Operand sums = operand("residual", residual, residual_dtype, {N, C});
    const Operand o = operand("out", out, out_dtype, {N, C});
    optional_tensor("mean", mean, Shape{N});
    optional_tensor("rstd", rstd, Shape{N});
    const Operand p = operand("a", a, a_dtype, {N, C}), q = operand("b", b, b_dtype, {N, C});
    const Operand w = operand("weight", weight, weight_dtype, {C});
    forward<true>(o, mean, rstd, sums, p, q, w, operand("bias", bias, bias_dtype, {C}), N, C);
  });
}

int32_t llmts_layernorm_backward(void *dx, int32_t dx_dtype, float *dweight, float *dbias, const void *dout,
                                 int32_t dout_dtype, const void *dresidual, int32_t dresidual_dtype, const void *x,
                                 int32_t x_dtype, const float *mean, const float *rstd, const void *weight,
                                 int32_t weight_dtype, int32_t accumulate, int64_t N, int64_t C) {
  return guarded("layernorm_backward", {{"N", N}, {"C", C}}, [&] {
    const Operand d = operand("dx", dx, dx_dtype, {N, C});
    tensor("dweight", dweight, {C});
    tensor("dbias", dbias, {C});
    const Operand dy = operand("dout", dout, dout_dtype, {N, C});
    const Operand past = optional_operand("dresidual", dresidual, dresidual_dtype, {N, C});
    const Operand in = operand("x", x, x_dtype, {N, C});
    tensor("mean", mean, {N});
    tensor("rstd", rstd, {N});
    const Operand w = operand("weight", weight, weight_dtype, {C});
    const bool adds = flag("accumulate", accumulate);
    const int64_t blocks = row_blocks(N, kGroup);
    const Scratch scratch(blocks * 2 * C * static_cast<int64_t>(sizeof(float)));
    float *const partial = scratch.as<float>();
    with_vectors({d, dy, past, in, w}, {partial}, C, [&](auto type, auto width) {
      using T = typename decltype(type)::type;
      constexpr int W = decltype(width)::value;
      launch(layernorm_backward_kernel<T, W>, dim3(grid_blocks(blocks)), kThreads, 0, d.out<T>(), partial, dy.in<T>(),
             past.in<T>(), static_cast<bool>(past), in.in<T>(), mean, rstd, w.in<T>(), N, C);
    });
    sum_columns(dweight, partial, blocks, C, 2 * C, adds);
    sum_columns(dbias, partial + C, blocks, C, 2 * C, adds);
  });
}
