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

constexpr int64_t kPiece = 1024;  // elements that are widened and narrowed at a time, in the L1 cache

// out (n) = of(x, y).
template <class Of>
void map(const Destination &out, Elements x, Elements y, int64_t n, int64_t grain, Of &&of) {
  parallel_slices(n, kUnit, threads_for(n, grain), [&](int64_t begin, int64_t end) {
    float buffers[3][kPiece];
    for (int64_t first = begin; first < end; first += kPiece) {
      const int64_t count = std::min(kPiece, end - first);
      const float *const p = widened(x, first, count, buffers[0]);
      const float *const q = y.data == x.data ? p : widened(y, first, count, buffers[1]);
      float *const to = place(out, first, buffers[2]);
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) to[i] = of(p[i], q[i]);
      put(out, first, to, count);
    }
  });
}

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
    const Destination o("out", out, out_dtype, {n});
    const Elements in("x", x, x_dtype, {n});
    map(o, in, in, n, kGeluGrain, [](float value, float) { return gelu(value); });
  });
}

int32_t llmts_gelu_backward(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype, const void *x,
                            int32_t x_dtype, int64_t n) {
  return guarded("gelu_backward", {{"n", n}}, [&] {
    const Destination d("dx", dx, dx_dtype, {n});
    const Elements dy("dout", dout, dout_dtype, {n}), in("x", x, x_dtype, {n});
    map(d, dy, in, n, kGeluGrain, [](float gradient, float value) { return gradient * gelu_derivative(value); });
  });
}

int32_t llmts_residual_forward(void *out, int32_t out_dtype, const void *a, int32_t a_dtype, const void *b,
                               int32_t b_dtype, int64_t n) {
  return guarded("residual_forward", {{"n", n}}, [&] {
    const Destination o("out", out, out_dtype, {n});
    const Elements p("a", a, a_dtype, {n}), q("b", b, b_dtype, {n});
    map(o, p, q, n, kAddGrain, [](float left, float right) { return left + right; });
  });
}
