// The linear layer.
//   forward: pre = x · weightᵀ + bias;  out = pre or gelu(pre)
//   dinput:  dx = dout · weight, and ⊙ gelu'(pre) where x was gelu(pre)
//   dweight: dweight (+)= doutᵀ · x
//   dbias:   dbias (+)= the sum of dout over rows
// Bias, activation and its derivative are applied to each block of the product while it is in the cache.
#include <vector>

#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/gemm.h"
#include "cpu/int8.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/vector.h"
#include "cpu/vector_math.h"

using namespace llmts;

namespace {

constexpr int64_t kGrain = 32768;  // elements worth waking a thread for

// What follows finishes a block: `out`, and `pre` where it is not null, point to the block's first element in tensors
// of `stride` columns.

// Calls finish(values, column, at, n) for each vector of a block's rows: its column in the block, how far it lies
// behind `out`, and how many of its values are inside, which are all except at the row's end.
template <class Finish>
void for_each_vector(const Block &block, int64_t stride, Finish &&finish) {
  const int64_t columns = block.column_end - block.column, whole = columns / kWidth * kWidth;
  for (int64_t row = 0; row < block.row_end - block.row; ++row) {
    const float *const from = block.values + row * block.stride;
    for (int64_t i = 0; i < whole; i += kWidth) finish(load(from + i), i, row * stride + i, kWholeVector);
    const int64_t n = columns - whole;
    if (n > 0) finish(load(from + whole, n), whole, row * stride + whole, n);
  }
}

// out = values + bias.
template <class Out>
void add_bias(Out *out, int64_t stride, const Block &block, const float *bias) {
  for_each_vector(block, stride, [&](Vector values, int64_t column, int64_t at, auto n) {
    store(out + at, values + load(bias + column, n), n);
  });
}

// pre = values + bias;  out = gelu of that, as it is stored.
template <class Out, class Pre>
void add_bias_gelu(Out *out, Pre *pre, int64_t stride, const Block &block, const float *bias) {
  for_each_vector(block, stride, [&](Vector values, int64_t column, int64_t at, auto n) {
    Vector x = values + load(bias + column, n);
    if (pre != nullptr) {
      store(pre + at, x, n);
      if constexpr (std::is_same_v<Pre, Bf16>) x = load(pre + at, n);
    }
    store(out + at, gelu(x), n);
  });
}

// out = values ⊙ gelu'(pre).
template <class Out, class Pre>
void multiply_derivative(Out *out, const Pre *pre, int64_t stride, const Block &block) {
  for_each_vector(block, stride, [&](Vector values, int64_t, int64_t at, auto n) {
    store(out + at, values * gelu_derivative(load(pre + at, n)), n);
  });
}

template <class T>
void add(float *sums, const T *row, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) sums[i] += as_float(row[i]);
}

}  // namespace

int32_t llmts_matmul_forward(void *out, int32_t out_dtype, void *pre, int32_t pre_dtype, const void *x, int32_t x_dtype,
                             const void *weight, int32_t weight_dtype, const void *packed, const void *bias,
                             int32_t bias_dtype, int32_t activation, int64_t N, int64_t C, int64_t OC) {
  return guarded("matmul_forward", {{"N", N}, {"C", C}, {"OC", OC}}, [&] {
    const Destination o("out", out, out_dtype, {N, OC});
    const Destination before("pre", pre, pre_dtype, Shape{N, OC}, Null::Allowed);
    const Elements in("x", x, x_dtype, {N, C});
    const Elements w("weight", weight, weight_dtype, Shape{OC, C}, packed == nullptr ? Null::Refused : Null::Allowed);
    const Input b("bias", bias, bias_dtype, Shape{OC}, Null::Allowed);
    optional_tensor("packed", static_cast<const float *>(packed), Shape{OC});  // its scales come first
    if (activation != LLMTS_IDENTITY && activation != LLMTS_GELU)
      fail(LLMTS_INVALID_ARGUMENT, "activation is %d, expected 0 (identity) or 1 (GELU)", activation);
    const bool activate = activation == LLMTS_GELU;
    Epilogue epilogue;
    std::vector<float> no_bias;
    if (b != nullptr || activate || o.narrow || pre != nullptr) {
      if (b == nullptr) no_bias.resize(static_cast<size_t>(OC));
      const float *const bias_row = b == nullptr ? no_bias.data() : b;
      epilogue = [&, bias_row](const Block &block) {
        const int64_t first = block.row * OC + block.column;
        const float *const addend = bias_row + block.column;
        const auto finish = [&](auto *kept) {
          dispatch(o, first, [&](auto *to) {
            if (activate) return add_bias_gelu(to, kept, OC, block, addend);
            if (kept != nullptr) add_bias(kept, OC, block, addend);
            add_bias(to, OC, block, addend);  // last: it may be where the block's values are
          });
        };
        if (pre == nullptr)
          finish(static_cast<float *>(nullptr));
        else
          dispatch(before, first, finish);
      };
    }
    if (packed != nullptr) return multiply_int8(o.floats(), in, packed, N, C, OC, epilogue);
    gemm(o.floats(), OC, Store::Overwrite, as_is(in, C), transposed(w, C), N, OC, C, epilogue);
  });
}

int32_t llmts_matmul_dinput(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype, const void *weight,
                            int32_t weight_dtype, const void *pre, int32_t pre_dtype, int64_t N, int64_t C,
                            int64_t OC) {
  return guarded("matmul_dinput", {{"N", N}, {"C", C}, {"OC", OC}}, [&] {
    const Destination d("dx", dx, dx_dtype, {N, C});
    const Elements dy("dout", dout, dout_dtype, {N, OC});
    const Elements w("weight", weight, weight_dtype, {OC, C});
    const Elements before("pre", pre, pre_dtype, Shape{N, C}, Null::Allowed);
    if (pre == nullptr) return gemm(d, 0, as_is(dy, OC), as_is(w, C), N, C, OC);
    gemm(d.floats(), C, Store::Overwrite, as_is(dy, OC), as_is(w, C), N, C, OC, [&](const Block &block) {
      const int64_t first = block.row * C + block.column;
      dispatch(d, first, [&](auto *to) {
        dispatch(before + first, [&](const auto *from) { multiply_derivative(to, from, C, block); });
      });
    });
  });
}

int32_t llmts_matmul_dweight(float *dweight, const void *dout, int32_t dout_dtype, const void *x, int32_t x_dtype,
                             int32_t accumulate, int64_t N, int64_t C, int64_t OC) {
  return guarded("matmul_dweight", {{"N", N}, {"C", C}, {"OC", OC}}, [&] {
    tensor("dweight", dweight, {OC, C});
    const Elements dy("dout", dout, dout_dtype, {N, OC});
    const Elements in("x", x, x_dtype, {N, C});
    const Store store = flag("accumulate", accumulate) ? Store::Add : Store::Overwrite;
    gemm(dweight, C, store, transposed(dy, OC), as_is(in, C), OC, C, N);
  });
}

int32_t llmts_matmul_dbias(float *dbias, const void *dout, int32_t dout_dtype, int32_t accumulate, int64_t N,
                           int64_t OC) {
  return guarded("matmul_dbias", {{"N", N}, {"OC", OC}}, [&] {
    tensor("dbias", dbias, {OC});
    const Elements dy("dout", dout, dout_dtype, {N, OC});
    const bool adds = flag("accumulate", accumulate);
    // Each thread sums its own rows, in order; the partial sums are added up in the order of the threads.
    const int threads = threads_for(N * OC, kGrain);
    const Scratch<float> partial({threads, OC});
    parallel(threads, [&](int part, int parts) {
      float *const sums = partial.data() + OC * part;
      std::fill(sums, sums + OC, 0.0f);
      const Range rows = slice(N, part, parts);
      dispatch(dy, [&](const auto *from) {
        for (int64_t row = rows.begin; row < rows.end; ++row) add(sums, from + row * OC, OC);
      });
    });
    if (!adds) std::fill(dbias, dbias + OC, 0.0f);
    for (int part = 0; part < threads; ++part) {
      const float *const sums = partial.data() + OC * part;
      for (int64_t c = 0; c < OC; ++c) dbias[c] += sums[c];
    }
  });
}
