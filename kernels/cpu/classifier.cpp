// Vocabulary matmul, softmax and cross-entropy in one, forward and backward in the same pass:
//   logits = x · wteᵀ over the V columns of the vocabulary;  loss = log(sum of e^logits) - logits[target]
//   dlogits = (softmax(logits) - onehot(target)) · scale;  dx = dlogits · wte;  dwte (+)= dlogitsᵀ · x
// Rows go through in chunks: a chunk's logits are made, turned into losses and gradients in place, used up and
// forgotten. A larger chunk reads wte and dwte less often, a smaller one takes less memory, 64 MB for 320 rows of
// GPT-2's vocabulary. In place of 512 rows, 320 take 1 % longer in fp32; bf16 products are twice as fast and feel it
// more, 384 rows by 2 % and 256 by 8 %.
#include <algorithm>
#include <cinttypes>
#include <cmath>

#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/gemm.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/vector.h"
#include "cpu/vector_math.h"

using namespace llmts;

namespace {

constexpr int64_t kChunkRows = 320, kNarrowChunkRows = 512;
constexpr int64_t kGrain = 16384;  // logits worth waking a thread for

float largest(const float *x, int64_t n) {
  float most = x[0];
#pragma omp simd reduction(max : most)
  for (int64_t i = 0; i < n; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

// x = e^(x - shift) where `keep`, else x stays; returns the sum.
float sum_exponentials(float *x, float shift, bool keep, int64_t n) {
  float sum = 0.0f;
  if (keep) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
      x[i] = exp_fast(x[i] - shift);
      sum += x[i];
    }
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) sum += exp_fast(x[i] - shift);
  }
  return sum;
}

// out (n) = x · factor. out may be x, or begin where x does: what is written has been read by then.
template <class Out>
void multiply_by(float factor, Out *out, const float *x, int64_t n) {
  const int64_t whole = n / kWidth * kWidth;
  for (int64_t i = 0; i < whole; i += kWidth) store(out + i, load(x + i) * factor);
  store(out + whole, load(x + whole, n - whole) * factor, n - whole);
}

// The loss of one row. Where dlogits is not null, its logits, which lie at the same place, become their gradient.
template <class Gradient>
float cross_entropy(float *logits, Gradient *dlogits, int32_t target, float scale, int64_t V) {
  if (target < 0) {
    if (dlogits != nullptr) std::fill(logits, logits + V, 0.0f);
    return 0.0f;
  }
  const float shift = largest(logits, V), correct = logits[target];
  const float sum = sum_exponentials(logits, shift, dlogits != nullptr, V);
  if (dlogits != nullptr) {
    const float factor = scale / sum, dcorrect = logits[target] * factor - scale;
    multiply_by(factor, dlogits, logits, V);
    convert(dlogits + target, &dcorrect, 1);
  }
  return std::log(sum) - (correct - shift);
}

}  // namespace

int32_t llmts_classifier(float *losses, void *dx, int32_t dx_dtype, float *dwte, const void *x, int32_t x_dtype,
                         const void *wte, int32_t wte_dtype, const int32_t *targets, float scale, int32_t accumulate,
                         int64_t N, int64_t C, int64_t V, int64_t Vp) {
  return guarded("classifier", {{"N", N}, {"C", C}, {"V", V}, {"Vp", Vp, Dim::Limit}}, [&] {
    if (Vp < V) fail(LLMTS_INVALID_ARGUMENT, "Vp is %" PRId64 ", expected at least V, %" PRId64, Vp, V);
    tensor("losses", losses, {N});
    const Destination d("dx", dx, dx_dtype, Shape{N, C}, Null::Allowed);
    optional_tensor("dwte", dwte, Shape{Vp, C});
    if ((dx == nullptr) != (dwte == nullptr))
      fail(LLMTS_INVALID_ARGUMENT, "one of 'dx' and 'dwte' is null, expected both or neither");
    const Elements in("x", x, x_dtype, {N, C});
    const Elements w("wte", wte, wte_dtype, {Vp, C});
    tensor("targets", targets, {N});
    for (int64_t row = 0; row < N; ++row) {
      if (targets[row] < -1 || targets[row] >= V)
        fail(LLMTS_INVALID_ARGUMENT, "target %d at row %" PRId64 " is neither -1 nor in the vocabulary of %" PRId64,
             targets[row], row, V);
    }
    const bool backward = dx != nullptr, adds = flag("accumulate", accumulate);
    if (backward && !adds) std::fill(dwte + V * C, dwte + Vp * C, 0.0f);
    const int64_t chunk = std::min(N, in.narrow ? kNarrowChunkRows : kChunkRows);
    const Scratch<float> scratch({chunk, V});
    float *const logits = scratch.data();
    // Of bf16 activations the gradients of the logits are bf16 too, each row's where its logits began: half as much to
    // read again for either product.
    Bf16 *const narrow_logits = static_cast<Bf16 *>(static_cast<void *>(logits));
    const Elements dlogits = in.narrow ? Elements(narrow_logits) : Elements(logits);
    const int64_t stride = in.narrow ? 2 * V : V;
    for (int64_t first = 0; first < N; first += chunk) {
      const int64_t rows = std::min(chunk, N - first);
      gemm(logits, V, Store::Overwrite, as_is(in + first * C, C), transposed(w, C), rows, V, C);
      parallel_slices(rows, 1, threads_for(rows * V, kGrain), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
          const auto loss = [&](auto *gradient) {
            return cross_entropy(logits + row * V, backward ? gradient : nullptr, targets[first + row], scale, V);
          };
          losses[first + row] = in.narrow ? loss(narrow_logits + row * stride) : loss(logits + row * stride);
        }
      });
      if (!backward) continue;
      gemm(d, first * C, as_is(dlogits, stride), as_is(w, C), rows, C, V);
      const Store store = adds || first > 0 ? Store::Add : Store::Overwrite;
      gemm(dwte, C, store, transposed(dlogits, stride), as_is(in + first * C, C), V, C, rows);
    }
  });
}
