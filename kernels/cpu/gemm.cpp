#include "cpu/gemm.h"

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "cpu/threads.h"

namespace llmts {

namespace {

using Eigen::Dynamic;
using Stride = Eigen::OuterStride<>;
template <int Order>
using Mapped = Eigen::Map<const Eigen::Matrix<float, Dynamic, Dynamic, Order>, 0, Stride>;
using Output = Eigen::Map<Eigen::Matrix<float, Dynamic, Dynamic, Eigen::RowMajor>, 0, Stride>;

template <class A, class B>
void multiply_maps(Output out, Store store, const A &a, const B &b) {
  if (store == Store::Overwrite)
    out.noalias() = a * b;
  else
    out.noalias() += a * b;
}

template <class A>
void multiply_map(Output out, Store store, const A &a, View b, int64_t N, int64_t K) {
  if (b.transposed)
    multiply_maps(out, store, a, Mapped<Eigen::ColMajor>(b.data, K, N, Stride(b.stride)));
  else
    multiply_maps(out, store, a, Mapped<Eigen::RowMajor>(b.data, K, N, Stride(b.stride)));
}

View from_row(View a, int64_t row) { return {a.data + (a.transposed ? row : row * a.stride), a.stride, a.transposed}; }

View from_column(View b, int64_t column) {
  return {b.data + (b.transposed ? column * b.stride : column), b.stride, b.transposed};
}

// out (N) = rows of weight (N,K) · x (K): a single row of activations, bound by reading the weight once.
void multiply_row(float *out, Store store, const float *x, const float *weight, int64_t stride, int64_t N, int64_t K) {
  for (int64_t n = 0; n < N; ++n) {
    const float *const w = weight + n * stride;
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < K; ++k) sum += x[k] * w[k];
    out[n] = store == Store::Add ? out[n] + sum : sum;
  }
}

constexpr int64_t kGrain = 1 << 18;     // multiplications worth waking a thread for
constexpr int64_t kBlockColumns = 512;  // of c, computed and finished while in the cache
constexpr int64_t kUnit = 16;           // slices of c are cut at whole cache lines

}  // namespace

void multiply(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K) {
  if (M == 1 && !a.transposed && b.transposed) return multiply_row(c, store, a.data, b.data, b.stride, N, K);
  const Output out(c, M, N, Stride(ldc));
  if (a.transposed)
    multiply_map(out, store, Mapped<Eigen::ColMajor>(a.data, M, K, Stride(a.stride)), b, N, K);
  else
    multiply_map(out, store, Mapped<Eigen::RowMajor>(a.data, M, K, Stride(a.stride)), b, N, K);
}

void gemm(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K,
          const Epilogue &epilogue) {
  const int threads = threads_for(M * N * K, kGrain);
  // Threads share the longer side of c.
  const bool by_rows = M > N;
  parallel(threads, [&](int part, int parts) {
    const Range rows = by_rows ? slice(M, part, parts, kUnit) : Range{0, M};
    const Range columns = by_rows ? Range{0, N} : slice(N, part, parts, kUnit);
    if (rows.begin == rows.end) return;
    for (int64_t column = columns.begin; column < columns.end; column += kBlockColumns) {
      const int64_t end = std::min(columns.end, column + kBlockColumns);
      multiply(c + rows.begin * ldc + column, ldc, store, from_row(a, rows.begin), from_column(b, column),
               rows.end - rows.begin, end - column, K);
      if (epilogue) epilogue({rows.begin, rows.end, column, end});
    }
  });
}

}  // namespace llmts
