// The linear layer.
//   forward: pre = x · weightᵀ + bias;  out = pre or gelu(pre)
//   dinput:  dx = dout · weight, and ⊙ gelu'(pre) where x was gelu(pre)
//   dweight: dweight (+)= doutᵀ · x
//   dbias:   dbias (+)= the sum of dout over rows
// Bias, activation and its derivative are applied to each block of the product while it is in the cache.
#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/gemm.h"
#include "cpu/int8.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/vector_math.h"

using namespace llmts;

namespace {

constexpr int64_t kGrain = 32768;  // elements worth waking a thread for

// out = activation(out + bias) on one row's columns [begin, end); pre, where not null, receives out + bias.
void finish_row(float *out, float *pre, const float *bias, bool activate, int64_t begin, int64_t end) {
  if (bias != nullptr) {
#pragma omp simd
    for (int64_t c = begin; c < end; ++c) out[c] += bias[c];
  }
  if (pre != nullptr) std::copy(out + begin, out + end, pre + begin);
  if (activate) {
#pragma omp simd
    for (int64_t c = begin; c < end; ++c) out[c] = gelu(out[c]);
  }
}

// dx (n) *= gelu'(pre).
template <class T>
void multiply_derivative(float *dx, const T *pre, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) dx[i] *= gelu_derivative(as_float(pre[i]));
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
    const Output o("out", out, out_dtype, {N, OC});
    const Output before("pre", pre, pre_dtype, Shape{N, OC}, Null::Allowed);
    const Elements in("x", x, x_dtype, {N, C});
    const Elements w("weight", weight, weight_dtype, Shape{OC, C}, packed == nullptr ? Null::Refused : Null::Allowed);
    const Input b("bias", bias, bias_dtype, Shape{OC}, Null::Allowed);
    if (activation != LLMTS_IDENTITY && activation != LLMTS_GELU)
      fail(LLMTS_INVALID_ARGUMENT, "activation is %d, expected 0 (identity) or 1 (GELU)", activation);
    const bool activate = activation == LLMTS_GELU;
    Epilogue epilogue;
    if (before != nullptr || b != nullptr || activate || o.is_narrow()) {
      epilogue = [&](const Block &block) {
        for (int64_t row = block.row; row < block.row_end; ++row) {
          finish_row(o + row * OC, before == nullptr ? nullptr : before + row * OC, b, activate, block.column,
                     block.column_end);
          o.store(row * OC + block.column, block.column_end - block.column);
          before.store(row * OC + block.column, block.column_end - block.column);
        }
      };
    }
    if (packed != nullptr) return multiply_int8(o, in, packed, N, C, OC, epilogue);
    gemm(o, OC, Store::Overwrite, as_is(in, C), transposed(w, C), N, OC, C, epilogue);
  });
}

int32_t llmts_matmul_dinput(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype, const void *weight,
                            int32_t weight_dtype, const void *pre, int32_t pre_dtype, int64_t N, int64_t C,
                            int64_t OC) {
  return guarded("matmul_dinput", {{"N", N}, {"C", C}, {"OC", OC}}, [&] {
    const Output d("dx", dx, dx_dtype, {N, C});
    const Elements dy("dout", dout, dout_dtype, {N, OC});
    const Elements w("weight", weight, weight_dtype, {OC, C});
    const Elements before("pre", pre, pre_dtype, Shape{N, C}, Null::Allowed);
    Epilogue epilogue;
    if (before.data != nullptr || d.is_narrow()) {
      epilogue = [&](const Block &block) {
        for (int64_t row = block.row; row < block.row_end; ++row) {
          const int64_t first = row * C + block.column, count = block.column_end - block.column;
          if (before.data != nullptr)
            dispatch(before + first, [&](const auto *from) { multiply_derivative(d + first, from, count); });
          d.store(first, count);
        }
      };
    }
    gemm(d, C, Store::Overwrite, as_is(dy, OC), as_is(w, C), N, C, OC, epilogue);
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
