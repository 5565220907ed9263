// Element-wise operations.
//   gelu:     out = x/2 · (1 + tanh(sqrt(2/pi) · (x + 0.044715 x³)))   (Hendrycks and Gimpel 2016, arXiv 1606.08415)
//             dx  = dout · gelu'(x)
//   residual: out = a + b
//   convert:  out = x, in another precision
#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/threads.h"
#include "cpu/vector_math.h"

using namespace llmts;

namespace {

// Elements worth waking a thread for, and the slices' unit: whole cache lines.
constexpr int64_t kGeluGrain = 8192, kAddGrain = 32768, kUnit = 16;

}  // namespace

int32_t llmts_convert(void *out, int32_t out_dtype, const void *x, int32_t x_dtype, int64_t n) {
  return guarded("convert", {{"n", n}}, [&] {
    const Elements to("out", out, out_dtype, {n}), from("x", x, x_dtype, {n});
    dispatch(from, [&](const auto *in) {
      parallel_slices(n, kUnit, threads_for(n, kAddGrain), [&](int64_t begin, int64_t end) {
        if (to.narrow)
          convert(static_cast<Bf16 *>(out) + begin, in + begin, end - begin);
        else
          convert(static_cast<float *>(out) + begin, in + begin, end - begin);
      });
    });
  });
}

int32_t llmts_gelu_forward(void *out, int32_t out_dtype, const void *x, int32_t x_dtype, int64_t n) {
  return guarded("gelu_forward", {{"n", n}}, [&] {
    const Output o("out", out, out_dtype, {n});
    const Input in("x", x, x_dtype, {n});
    parallel_slices(n, kUnit, threads_for(n, kGeluGrain), [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) o[i] = gelu(in[i]);
    });
    o.store();
  });
}

int32_t llmts_gelu_backward(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype, const void *x,
                            int32_t x_dtype, int64_t n) {
  return guarded("gelu_backward", {{"n", n}}, [&] {
    const Output d("dx", dx, dx_dtype, {n});
    const Input dy("dout", dout, dout_dtype, {n});
    const Input in("x", x, x_dtype, {n});
    parallel_slices(n, kUnit, threads_for(n, kGeluGrain), [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) d[i] = dy[i] * gelu_derivative(in[i]);
    });
    d.store();
  });
}

int32_t llmts_residual_forward(void *out, int32_t out_dtype, const void *a, int32_t a_dtype, const void *b,
                               int32_t b_dtype, int64_t n) {
  return guarded("residual_forward", {{"n", n}}, [&] {
    const Output o("out", out, out_dtype, {n});
    const Input p("a", a, a_dtype, {n});
    const Input q("b", b, b_dtype, {n});
    parallel_slices(n, kUnit, threads_for(n, kAddGrain), [&](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) o[i] = p[i] + q[i];
    });
    o.store();
  });
}
