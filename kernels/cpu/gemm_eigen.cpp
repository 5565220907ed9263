// The matrix product of one thread by Eigen: the portable path, for instruction sets that have no tile of their own.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Core>
#include <optional>

#include "cpu/gemm.h"
#include "cpu/scratch.h"

namespace llmts {

namespace {

using Eigen::Dynamic;
using Stride = Eigen::OuterStride<>;
template <int Order>
using Mapped = Eigen::Map<const Eigen::Matrix<float, Dynamic, Dynamic, Order>, 0, Stride>;
using Target = Eigen::Map<Eigen::Matrix<float, Dynamic, Dynamic, Eigen::RowMajor>, 0, Stride>;

template <class A, class B>
void multiply_maps(Target out, Store store, const A &a, const B &b) {
  if (store == Store::Overwrite)
    out.noalias() = a * b;
  else
    out.noalias() += a * b;
}

// A view as Eigen takes it, in fp32: a bf16 one is widened into scratch.
class Wide {
 public:
  Wide(View view, int64_t rows, int64_t columns) : transposed(view.transposed), stride_(view.stride) {
    if (!view.data.narrow) {
      data_ = static_cast<const float *>(view.data.data);
      return;
    }
    const int64_t lines = transposed ? columns : rows, length = transposed ? rows : columns;
    float *const out = scratch_.emplace(Shape{lines, length}).data();
    const Bf16 *const from = static_cast<const Bf16 *>(view.data.data);
    for (int64_t line = 0; line < lines; ++line) convert(out + line * length, from + line * view.stride, length);
    data_ = out;
    stride_ = length;
  }
  template <int Order>
  Mapped<Order> map(int64_t rows, int64_t columns) const {
    return Mapped<Order>(data_, rows, columns, Stride(stride_));
  }
  const bool transposed;

 private:
  std::optional<Scratch<float>> scratch_;
  const float *data_;
  int64_t stride_;
};

template <class A>
void multiply_map(Target out, Store store, const A &a, const Wide &b, int64_t N, int64_t K) {
  if (b.transposed)
    multiply_maps(out, store, a, b.map<Eigen::ColMajor>(K, N));
  else
    multiply_maps(out, store, a, b.map<Eigen::RowMajor>(K, N));
}

}  // namespace

void multiply_blocks(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K,
                     const Epilogue &epilogue) {
  std::optional<Scratch<float>> own;
  if (c == nullptr) {
    ldc = N;
    c = own.emplace(Shape{M, N}).data();
  }
  const Target out(c, M, N, Stride(ldc));
  const Wide left(a, M, K), right(b, K, N);
  if (left.transposed)
    multiply_map(out, store, left.map<Eigen::ColMajor>(M, K), right, N, K);
  else
    multiply_map(out, store, left.map<Eigen::RowMajor>(M, K), right, N, K);
  if (epilogue) epilogue({0, M, 0, N, c, ldc});
}

// Packed operands are dense, row-major and fp32.
int64_t packed_left_size(int64_t M, int64_t K, bool) { return M * K; }
int64_t packed_right_size(int64_t N, int64_t K, bool) { return N * K; }
void pack_left(float *packed, View a, int64_t M, int64_t K, bool) {
  dispatch(a.data, [&](const auto *from) {
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t k = 0; k < K; ++k)
        packed[m * K + k] = as_float(from[a.transposed ? k * a.stride + m : m * a.stride + k]);
    }
  });
}
void pack_right(float *packed, View b, int64_t N, int64_t K, bool narrow) { pack_left(packed, b, K, N, narrow); }
void multiply_packed(float *c, int64_t ldc, Store store, const float *a, const float *b, int64_t M, int64_t N,
                     int64_t K, bool) {
  const Mapped<Eigen::RowMajor> left(a, M, K, Stride(K)), right(b, K, N, Stride(N));
  multiply_maps(Target(c, M, N, Stride(ldc)), store, left, right);
}

}  // namespace llmts
