// Layer normalisation (Ba et al. 2016, arXiv 1607.06450), per row of C channels:
//   forward:  xhat = (x - mean) · rstd, rstd = 1 / sqrt(var + 1e-5);  out = xhat · weight + bias
//   backward: dxhat = dout · weight
//             dx = rstd · (dxhat - mean(dxhat) - xhat · mean(dxhat · xhat)) + dresidual
//             dweight (+)= sum of dout · xhat over rows;  dbias (+)= sum of dout over rows
// The variance is that of the deviations, in a second pass over a row that is in the cache: no cancellation.
#include <cmath>
#include <vector>

#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"

using namespace llmts;

namespace {

constexpr float kEpsilon = 1e-5f;
constexpr int64_t kGrain = 32768;  // elements worth waking a thread for

struct Statistics {
  float mean, rstd;
};

Statistics statistics(const float *x, int64_t C) {
  float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) sum += x[c];
  const float mean = sum / static_cast<float>(C);
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < C; ++c) squares += (x[c] - mean) * (x[c] - mean);
  return {mean, 1.0f / std::sqrt(squares / static_cast<float>(C) + kEpsilon)};
}

void normalise(float *out, const float *x, Statistics s, const float *weight, const float *bias, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) out[c] = (x[c] - s.mean) * s.rstd * weight[c] + bias[c];
}

void round_to_bf16(float *x, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) x[c] = widened(narrowed(x[c]));
}

// dx of one row; adds the row's share into dweight and dbias. dresidual may be null.
void backward_row(float *dx, float *dweight, float *dbias, const float *dout, const float *dresidual, const float *x,
                  Statistics s, const float *weight, int64_t C) {
  float sum = 0.0f, dot = 0.0f;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t c = 0; c < C; ++c) {
    const float xhat = (x[c] - s.mean) * s.rstd, dxhat = dout[c] * weight[c];
    sum += dxhat;
    dot += dxhat * xhat;
    dweight[c] += dout[c] * xhat;
    dbias[c] += dout[c];
  }
  const float mean_dxhat = sum / static_cast<float>(C), mean_dot = dot / static_cast<float>(C);
  if (dresidual == nullptr) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c)
      dx[c] = s.rstd * (dout[c] * weight[c] - mean_dxhat - (x[c] - s.mean) * s.rstd * mean_dot);
  } else {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c)
      dx[c] = s.rstd * (dout[c] * weight[c] - mean_dxhat - (x[c] - s.mean) * s.rstd * mean_dot) + dresidual[c];
  }
}

}  // namespace

int32_t llmts_layernorm_forward(void *out, int32_t out_dtype, float *mean, float *rstd, const void *x, int32_t x_dtype,
                                const void *weight, int32_t weight_dtype, const void *bias, int32_t bias_dtype,
                                int64_t N, int64_t C) {
  return guarded("layernorm_forward", {{"N", N}, {"C", C}}, [&] {
    const Destination o("out", out, out_dtype, {N, C});
    optional_tensor("mean", mean, Shape{N});
    optional_tensor("rstd", rstd, Shape{N});
    const Elements in("x", x, x_dtype, {N, C});
    const Input w("weight", weight, weight_dtype, {C});
    const Input b("bias", bias, bias_dtype, {C});
    parallel_slices(N, 1, threads_for(N * C, kGrain), [&](int64_t begin, int64_t end) {
      const Scratch<float> buffers({2, C});
      for (int64_t row = begin; row < end; ++row) {
        const float *const from = widened(in, row * C, C, buffers.data());
        float *const to = place(o, row * C, buffers.data() + C);
        const Statistics s = statistics(from, C);
        if (mean != nullptr) mean[row] = s.mean;
        if (rstd != nullptr) rstd[row] = s.rstd;
        normalise(to, from, s, w, b, C);
        put(o, row * C, to, C);
      }
    });
  });
}

int32_t llmts_residual_layernorm_forward(void *residual, int32_t residual_dtype, void *out, int32_t out_dtype,
                                         float *mean, float *rstd, const void *a, int32_t a_dtype, const void *b,
                                         int32_t b_dtype, const void *weight, int32_t weight_dtype, const void *bias,
                                         int32_t bias_dtype, int64_t N, int64_t C) {
  return guarded("residual_layernorm_forward", {{"N", N}, {"C", C}}, [&] {
    const Destination sums("residual", residual, residual_dtype, {N, C});
    const Destination o("out", out, out_dtype, {N, C});
    optional_tensor("mean", mean, Shape{N});
    optional_tensor("rstd", rstd, Shape{N});
    const Elements left("a", a, a_dtype, {N, C}), right("b", b, b_dtype, {N, C});
    const Input w("weight", weight, weight_dtype, {C});
    const Input shift("bias", bias, bias_dtype, {C});
    parallel_slices(N, 1, threads_for(N * C, kGrain), [&](int64_t begin, int64_t end) {
      const Scratch<float> buffers({4, C});
      for (int64_t row = begin; row < end; ++row) {
        const float *const p = widened(left, row * C, C, buffers.data());
        const float *const q = widened(right, row * C, C, buffers.data() + C);
        float *const sum = place(sums, row * C, buffers.data() + 2 * C);
        float *const to = place(o, row * C, buffers.data() + 3 * C);
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) sum[c] = p[c] + q[c];
        if (sums.narrow) round_to_bf16(sum, C);  // what backward will read
        const Statistics s = statistics(sum, C);
        if (mean != nullptr) mean[row] = s.mean;
        if (rstd != nullptr) rstd[row] = s.rstd;
        normalise(to, sum, s, w, shift, C);
        put(sums, row * C, sum, C);
        put(o, row * C, to, C);
      }
    });
  });
}

int32_t llmts_layernorm_backward(void *dx, int32_t dx_dtype, float *dweight, float *dbias, const void *dout,
                                 int32_t dout_dtype, const void *dresidual, int32_t dresidual_dtype, const void *x,
                                 int32_t x_dtype, const float *mean, const float *rstd, const void *weight,
                                 int32_t weight_dtype, int32_t accumulate, int64_t N, int64_t C) {
  return guarded("layernorm_backward", {{"N", N}, {"C", C}}, [&] {
    const Destination d("dx", dx, dx_dtype, {N, C});
    tensor("dweight", dweight, {C});
    tensor("dbias", dbias, {C});
    const Elements dy("dout", dout, dout_dtype, {N, C});
    const Elements past("dresidual", dresidual, dresidual_dtype, Shape{N, C}, Null::Allowed);
    const Elements in("x", x, x_dtype, {N, C});
    tensor("mean", mean, {N});
    tensor("rstd", rstd, {N});
    const Input w("weight", weight, weight_dtype, {C});
    const bool adds = flag("accumulate", accumulate);
    // Each thread sums dweight and dbias over its rows; the partial sums are added up in the order of the threads.
    const int threads = threads_for(N * C, kGrain);
    const Scratch<float> partial({threads, 2, C});
    parallel(threads, [&](int part, int parts) {
      float *const dw = partial.data() + 2 * C * part, *const db = dw + C;
      std::fill(dw, dw + 2 * C, 0.0f);
      const Scratch<float> buffers({4, C});
      const Range rows = slice(N, part, parts);
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        const float *const from = widened(dy, row * C, C, buffers.data());
        const float *const at = widened(in, row * C, C, buffers.data() + C);
        const float *const residual =
            dresidual == nullptr ? nullptr : widened(past, row * C, C, buffers.data() + 2 * C);
        float *const to = place(d, row * C, buffers.data() + 3 * C);
        backward_row(to, dw, db, from, residual, at, {mean[row], rstd[row]}, w, C);
        put(d, row * C, to, C);
      }
    });
    if (!adds) {
      std::fill(dweight, dweight + C, 0.0f);
      std::fill(dbias, dbias + C, 0.0f);
    }
    for (int part = 0; part < threads; ++part) {
      const float *const dw = partial.data() + 2 * C * part, *const db = dw + C;
      for (int64_t c = 0; c < C; ++c) dweight[c] += dw[c];
      for (int64_t c = 0; c < C; ++c) dbias[c] += db[c];
    }
  });
}
