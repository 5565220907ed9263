// The matrix product of one thread by Eigen: the portable path, for instruction sets that have no tile of their own.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>

#include "cpu/gemm.h"

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

}  // namespace

void multiply_blocks(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K) {
  const Output out(c, M, N, Stride(ldc));
  if (a.transposed)
    multiply_map(out, store, Mapped<Eigen::ColMajor>(a.data, M, K, Stride(a.stride)), b, N, K);
  else
    multiply_map(out, store, Mapped<Eigen::RowMajor>(a.data, M, K, Stride(a.stride)), b, N, K);
}

}  // namespace llmts
