// Element-wise operations.
//   convert:  out = x, in another precision
//   gelu:     out = gelu(x);  dx = dout · gelu'(x)      (cuda/warp.h)
//   residual: out = a + b
// Each thread takes one vector of W elements; the last ones of a length that is no multiple go one by one.
#include "cuda/device.h"
#include "cuda/elementwise.h"
#include "cuda/warp.h"

using namespace llmts;

namespace {

constexpr int kThreads = 256;

struct Copy {
  __device__ static float of(float x, float) { return x; }
};
struct Gelu {
  __device__ static float of(float x, float) { return gelu(x); }
};
struct GeluGradient {
  __device__ static float of(float dout, float x) { return dout * gelu_derivative(x); }
};
struct Sum {
  __device__ static float of(float a, float b) { return a + b; }
};

// out = F(a, b).
template <class F, class T, int W>
__global__ void __launch_bounds__(kThreads) map_kernel(Out<T> out, In<T> a, In<T> b, int64_t n) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * W;
  if (first + W <= n) {
    float x[W], y[W];
    a.load(first, x);
    b.load(first, y);
#pragma unroll
    for (int i = 0; i < W; ++i) x[i] = F::of(x[i], y[i]);
    out.store(first, x);
    return;
  }
  for (int64_t i = first; i < n; ++i) {
    const float value[1] = {F::of(a.at(i), b.at(i))};
    out.store(i, value);
  }
}

template <class F>
void map(Operand out, Operand a, Operand b, int64_t n) {
  with_vectors({out, a, b}, {}, 0, [&](auto type, auto width) {
    using T = typename decltype(type)::type;
    constexpr int W = decltype(width)::value;
    launch(map_kernel<F, T, W>, dim3(grid_blocks(ceil_div(n, int64_t{kThreads} * W))), kThreads, 0, out.out<T>(),
           a.in<T>(), b.in<T>(), n);
  });
}

}  // namespace

void llmts::gelu_forward(Operand out, Operand x, int64_t n) { map<Gelu>(out, x, x, n); }
void llmts::gelu_backward(Operand dx, Operand dout, Operand x, int64_t n) { map<GeluGradient>(dx, dout, x, n); }

int32_t llmts_convert(void *out, int32_t out_dtype, const void *x, int32_t x_dtype, int64_t n) {
  return guarded("convert", {{"n", n}}, [&] {
    const Operand o = operand("out", out, out_dtype, {n}), in = operand("x", x, x_dtype, {n});
    map<Copy>(o, in, in, n);
  });
}

int32_t llmts_gelu_forward(void *out, int32_t out_dtype, const void *x, int32_t x_dtype, int64_t n) {
  return guarded("gelu_forward", {{"n", n}}, [&] {
    const Operand o = operand("out", out, out_dtype, {n}), in = operand("x", x, x_dtype, {n});
    gelu_forward(o, in, n);
  });
}

int32_t llmts_gelu_backward(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype, const void *x,
                            int32_t x_dtype, int64_t n) {
  return guarded("gelu_backward", {{"n", n}}, [&] {
    const Operand d = operand("dx", dx, dx_dtype, {n}), dy = operand("dout", dout, dout_dtype, {n});
    gelu_backward(d, dy, operand("x", x, x_dtype, {n}), n);
  });
}

int32_t llmts_residual_forward(void *out, int32_t out_dtype, const void *a, int32_t a_dtype, const void *b,
                               int32_t b_dtype, int64_t n) {
  return guarded("residual_forward", {{"n", n}}, [&] {
    const Operand o = operand("out", out, out_dtype, {n}), p = operand("a", a, a_dtype, {n});
    map<Sum>(o, p, operand("b", b, b_dtype, {n}), n);
  });
}
