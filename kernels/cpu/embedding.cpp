// Token and position embedding.
//   forward:  out[b,t] = wte[tokens[b,t]] + wpe[position + t]
//   backward: dwte[tokens[b,t]] += dout[b,t];  dwpe[t] (+)= dout[b,t]
// Backward shares the channels among threads, each going through all rows in order: no two threads meet in one row, and
// the sums are the same for any number of threads.
#include <algorithm>
#include <cinttypes>

#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/threads.h"

using namespace llmts;

namespace {

constexpr int64_t kGrain = 32768;  // elements worth waking a thread for

void check_tokens(const int32_t *tokens, int64_t rows, int64_t V) {
  for (int64_t row = 0; row < rows; ++row) {
    if (tokens[row] < 0 || tokens[row] >= V)
      fail(LLMTS_INVALID_ARGUMENT, "token %d at row %" PRId64 " is outside the vocabulary of %" PRId64, tokens[row],
           row, V);
  }
}

void add(float *out, const float *in, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t c = begin; c < end; ++c) out[c] += in[c];
}

template <class Token, class Place>
void sum_rows(float *out, const Token *token, const Place *place, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) out[c] = as_float(token[c]) + as_float(place[c]);
}

}  // namespace

int32_t llmts_embedding_forward(void *out, int32_t out_dtype, const int32_t *tokens, const void *wte, int32_t wte_dtype,
                                const void *wpe, int32_t wpe_dtype, int64_t B, int64_t T, int64_t C, int64_t V,
                                int64_t maxT, int64_t position) {
  const Dims dims = {{"B", B},
                     {"T", T},
                     {"C", C},
                     {"V", V, Dim::Limit},
                     {"maxT", maxT, Dim::Limit},
                     {"position", position, Dim::Limit}};
  return guarded("embedding_forward", dims, [&] {
    const Destination o("out", out, out_dtype, {B, T, C});
    tensor("tokens", tokens, {B, T});
    const Elements token_embedding("wte", wte, wte_dtype, {V, C}), place_embedding("wpe", wpe, wpe_dtype, {maxT, C});
    check_position(position, T, maxT);
    check_tokens(tokens, B * T, V);
    parallel_slices(B * T, 1, threads_for(B * T * C, kGrain), [&](int64_t begin, int64_t end) {
      const Scratch<float> buffer({C});
      for (int64_t row = begin; row < end; ++row) {
        float *const to = place(o, row * C, buffer.data());
        dispatch(token_embedding + tokens[row] * C, [&](const auto *token) {
          dispatch(place_embedding + (position + row % T) * C,
                   [&](const auto *position_row) { sum_rows(to, token, position_row, C); });
        });
        put(o, row * C, to, C);
      }
    });
  });
}

int32_t llmts_embedding_backward(float *dwte, float *dwpe, const void *dout, int32_t dout_dtype, const int32_t *tokens,
                                 int32_t accumulate, int64_t B, int64_t T, int64_t C, int64_t V, int64_t maxT) {
  const Dims dims = {{"B", B}, {"T", T}, {"C", C}, {"V", V, Dim::Limit}, {"maxT", maxT, Dim::Limit}};
  return guarded("embedding_backward", dims, [&] {
    tensor("dwte", dwte, {V, C});
    tensor("dwpe", dwpe, {maxT, C});
    if (T > maxT) fail(LLMTS_INVALID_ARGUMENT, "T is %" PRId64 ", expected at most maxT, %" PRId64, T, maxT);
    const Input dy("dout", dout, dout_dtype, {B, T, C});
    tensor("tokens", tokens, {B, T});
    const bool adds = flag("accumulate", accumulate);
    check_tokens(tokens, B * T, V);
    parallel_slices(C, 16, threads_for(B * T * C, kGrain), [&](int64_t begin, int64_t end) {
      for (int64_t row = 0; row < maxT && !adds; ++row) std::fill(dwpe + row * C + begin, dwpe + row * C + end, 0.0f);
      for (int64_t row = 0; row < B * T; ++row) {
        add(dwte + tokens[row] * C, dy + row * C, begin, end);
        add(dwpe + row % T * C, dy + row * C, begin, end);
      }
    });
  });
}
