// Vocabulary matmul, softmax and cross-entropy in one, forward and backward in the same pass:
//   logits = x · wteᵀ over the V columns of the vocabulary;  loss = log(sum of e^logits) - logits[target]
//   dlogits = (softmax(logits) - onehot(target)) · scale;  dx = dlogits · wte;  dwte (+)= dlogitsᵀ · x
// Rows go through in chunks. A chunk's logits are made by a product, in the precision of x; a block a row turns them
// into the loss and, in place, into their gradient, reading them twice, the second time from the cache; two more
// products use that up. Columns up to the next multiple of 64, as far as wte has rows, take part in the products, as
// tensor cores want it: their gradient is 0, so these rows of wte are to be finite.
#include <algorithm>
#include <cinttypes>

#include "cuda/device.h"
#include "cuda/product.h"
#include "cuda/warp.h"

using namespace llmts;

namespace {

constexpr int kThreads = 512, kWarps = kThreads / kWarpSize;

// The running softmax of a row: the largest logit so far, and the sum of e^(logit - largest).
struct Running {
  float largest, sum;
};

__device__ Running join(Running a, Running b) {
  const float largest = fmaxf(a.largest, b.largest);
  if (largest == -INFINITY) return {largest, a.sum + b.sum};  // 0, or NaN
  return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

__device__ Running join_warp(Running mine) {
#pragma unroll
  for (int bits = kWarpSize / 2; bits > 0; bits /= 2) {
    const Running other = {__shfl_xor_sync(kWholeWarp, mine.largest, bits),
                           __shfl_xor_sync(kWholeWarp, mine.sum, bits)};
    mine = join(mine, other);
  }
  return mine;
}

// Of W logits, the first of them in column c: those at V and beyond don't count.
template <int W>
__device__ Running join_vector(Running mine, const float (&logits)[W], int64_t c, int64_t V) {
  float largest = mine.largest;
#pragma unroll
  for (int i = 0; i < W; ++i)
    if (c + i < V) largest = fmaxf(largest, logits[i]);
  // With -inf alone nothing is added; NaN shows up in the sum.
  float sum = mine.sum == 0.0f ? 0.0f : mine.sum * expf(mine.largest - largest);
#pragma unroll
  for (int i = 0; i < W; ++i)
    if (c + i < V && logits[i] != -INFINITY) sum += expf(logits[i] - largest);
  return {largest, sum};
}

// Block n: row n of logits (rows, stride), of which `columns` are to hold the gradient.
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(float *losses, Out<T> logits, const int32_t *targets, float scale, bool backward,
                         int64_t first_row, int64_t V, int64_t columns, int64_t stride, IdFault *fault) {
  CU_SHARED(Running, warps, [kWarps]);
  const int64_t row = blockIdx.x, start = row * stride;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int32_t target = targets[row];
  const bool counts = target >= 0 && target < V;
  if (!counts) {
    if (threadIdx.x == 0) {
      losses[row] = 0.0f;
      if (target != -1) report_id(fault, kTarget, first_row + row, target, V);
    }
    const float zeros[W] = {};
    for (int64_t c = threadIdx.x * W; backward && c < columns; c += kThreads * W) logits.store(start + c, zeros);
    return;
  }
  Running mine = {-INFINITY, 0.0f};
  for (int64_t c = threadIdx.x * W; c < V; c += kThreads * W) {
    float values[W];
    logits.read().load(start + c, values);
    mine = join_vector(mine, values, c, V);
  }
  mine = join_warp(mine);
  if (lane == 0) warps[warp] = mine;
  __syncthreads();
  // Every warp joins the same values in the same order.
  const Running all = join_warp(lane < kWarps ? warps[lane] : Running{-INFINITY, 0.0f});
  if (threadIdx.x == 0) losses[row] = logf(all.sum) - (logits.read().at(start + target) - all.largest);
  if (!backward) return;
  __syncthreads();  // the target's logit has been read
  const float factor = scale / all.sum;
  for (int64_t c = threadIdx.x * W; c < columns; c += kThreads * W) {
    float values[W];
    logits.read().load(start + c, values);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const float share = c + i < V ? expf(values[i] - all.largest) * factor : 0.0f;
      values[i] = c + i == target ? share - scale : share;
    }
    logits.store(start + c, values);
  }
}

// Rows in a chunk: of a 64th of the device's memory, 512 MiB at most. Small chunks would read and write dwte too often.
int64_t chunk_rows(int64_t N, int64_t row_bytes) {
  const int64_t budget = std::min<int64_t>(device().memory_bytes / 64, int64_t{512} << 20);
  return std::min(N, std::max<int64_t>(budget / row_bytes / 64 * 64, 64));
}

}  // namespace

int32_t llmts_classifier(float *losses, void *dx, int32_t dx_dtype, float *dwte, const void *x, int32_t x_dtype,
                         const void *wte, int32_t wte_dtype, const int32_t *targets, float scale, int32_t accumulate,
                         int64_t N, int64_t C, int64_t V, int64_t Vp) {
  return guarded("classifier", {{"N", N}, {"C", C}, {"V", V}, {"Vp", Vp, Dim::Limit}}, [&] {
    if (Vp < V) fail(LLMTS_INVALID_ARGUMENT, "Vp is %" PRId64 ", expected at least V, %" PRId64, Vp, V);
    tensor("losses", losses, {N});
    const Operand d = optional_operand("dx", dx, dx_dtype, {N, C});
    optional_tensor("dwte", dwte, Shape{Vp, C});
    const bool backward = d.data != nullptr;
    if (backward != (dwte != nullptr))
      fail(LLMTS_INVALID_ARGUMENT, "one of 'dx' and 'dwte' is null, expected both or neither");
    const Operand in = operand("x", x, x_dtype, {N, C}), w = operand("wte", wte, wte_dtype, {Vp, C});
    tensor("targets", targets, {N});
    const bool adds = flag("accumulate", accumulate);
    if (backward && !adds && Vp > V)
      check(cudaMemsetAsync(dwte + V * C, 0, static_cast<size_t>((Vp - V) * C) * sizeof(float), device().stream),
            "zeroing the padding");

    constexpr int64_t kColumns = 64;
    const int64_t stride = ceil_div(V, kColumns) * kColumns, columns = std::min(stride, Vp);
    const int64_t chunk = chunk_rows(N, stride * in.element_bytes());
    const Scratch scratch(chunk * stride * in.element_bytes());
    const Operand logits = {scratch.as<void>(), x_dtype};
    for (int64_t first = 0; first < N; first += chunk) {
      const int64_t rows = std::min(chunk, N - first);
      Product scores;
      scores.out = logits;
      scores.out_stride = stride;
      scores.a = {in.from(first * C), C, false};
      scores.b = {w, C, true};
      scores.rows = rows;
      scores.columns = columns;
      scores.depth = C;
      multiply(scores);
      with_vectors({logits}, {}, stride, [&](auto type, auto width) {
        using T = typename decltype(type)::type;
        constexpr int W = decltype(width)::value;
        launch(cross_entropy_kernel<T, W>, dim3(grid_blocks(rows)), kThreads, 0, losses + first, logits.out<T>(),
               targets + first, scale, backward, first, V, columns, stride, device().fault);
      });
      if (!backward) continue;
      Product inputs;
      inputs.out = d.from(first * C);
      inputs.out_stride = C;
      inputs.a = {logits, stride, false};
      inputs.b = {w, C, false};
      inputs.rows = rows;
      inputs.columns = C;
      inputs.depth = columns;
      multiply(inputs);
      Product weights;
      weights.out = {dwte, LLMTS_FP32};
      weights.out_stride = C;
      weights.a = {logits, stride, true};
      weights.b = {in.from(first * C), C, false};
      weights.rows = V;
      weights.columns = C;
      weights.depth = rows;
      weights.accumulate = adds || first > 0;
      multiply(weights);
    }
  });
}
