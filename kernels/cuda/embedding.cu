// Token and position embedding.
//   forward:  out[b,t] = wte[tokens[b,t]] + wpe[position + t]
//   backward: dwte[tokens[b,t]] += dout[b,t];  dwpe[t] (+)= dout[b,t]
// Backward without atomics, so that the bits are the same every time: the first row of each token is its owner, and the
// owner's block goes through all rows, its warps taking a stretch each, and adds up those of its token in order.
#include <cinttypes>

#include "cuda/device.h"
#include "cuda/operand.h"
#include "cuda/warp.h"

using namespace llmts;

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;

template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(Out<T> out, const int32_t *tokens, In<T> wte, In<T> wpe, int64_t rows, int64_t T_,
                             int64_t C, int64_t V, int64_t position, IdFault *fault) {
  const int64_t vectors = C / W, index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = index / vectors, c = index % vectors * W;
  if (row >= rows) return;
  const int32_t token = tokens[row];
  if (token < 0 || token >= V) {
    if (c == 0) report_id(fault, kToken, row, token, V);
    return;
  }
  float sum[W], place[W];
  wte.load(token * C + c, sum);
  wpe.load((position + row % T_) * C + c, place);
#pragma unroll
  for (int i = 0; i < W; ++i) sum[i] += place[i];
  out.store(row * C + c, sum);
}

// Whether a row before `row` has its token; the same for all threads of the block.
__device__ bool seen_before(const int32_t *tokens, int64_t row) {
  CU_SHARED(int, seen, [kWarps]);
  const int32_t token = tokens[row];
  const int warp = threadIdx.x / kWarpSize;
  bool found = false;
  for (int64_t first = 0; first < row; first += kThreads) {
    const int64_t other = first + threadIdx.x;
    found = found || (other < row && tokens[other] == token);
  }
  const unsigned any = __ballot_sync(kWholeWarp, found);
  if (threadIdx.x % kWarpSize == 0) seen[warp] = any != 0;
  __syncthreads();
  int total = 0;
  for (int i = 0; i < kWarps; ++i) total += seen[i];
  return total != 0;
}

// Block (row, tile of columns), each lane W columns of the tile.
template <class T, int W>
__global__ void __launch_bounds__(kThreads) token_gradient_kernel(float *dwte, In<T> dout, const int32_t *tokens,
                                                                  int64_t rows, int64_t C, int64_t V, IdFault *fault) {
  CU_SHARED(float, partial, [kWarps][kWarpSize * W]);
  const int64_t row = blockIdx.x;
  const int32_t token = tokens[row];
  if (token < 0 || token >= V) {
    if (threadIdx.x == 0) report_id(fault, kToken, row, token, V);
    return;
  }
  if (seen_before(tokens, row)) return;
  const int lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  const int64_t c = (static_cast<int64_t>(blockIdx.y) * kWarpSize + lane) * W;
  const int64_t each = (rows - row + kWarps - 1) / kWarps, begin = row + warp * each;
  const int64_t end = begin + each < rows ? begin + each : rows;
  float sum[W] = {};
  for (int64_t first = begin; first < end; first += kWarpSize) {
    const int64_t other = first + lane;
    unsigned matches = __ballot_sync(kWholeWarp, other < end && tokens[other] == token);
    for (; matches != 0; matches &= matches - 1) {
      if (c >= C) continue;
      float values[W];
      dout.load((first + __ffs(matches) - 1) * C + c, values);
#pragma unroll
      for (int i = 0; i < W; ++i) sum[i] += values[i];
    }
  }
#pragma unroll
  for (int i = 0; i < W; ++i) partial[warp][lane * W + i] = sum[i];
  __syncthreads();
  if (warp != 0 || c >= C) return;
  for (int other = 1; other < kWarps; ++other) {
#pragma unroll
    for (int i = 0; i < W; ++i) sum[i] += partial[other][lane * W + i];
  }
  add(dwte, token * C + c, sum);
}

// dwpe (rows, C): those from T_ on are reached by no sequence. Four blocks a multiprocessor: without the hint ptxas
// spills for sm_100.
template <class T, int W>
__global__ void __launch_bounds__(kThreads, 4)
    position_gradient_kernel(float *dwpe, In<T> dout, bool accumulate, int64_t B, int64_t T_, int64_t C, int64_t rows) {
  const int64_t vector = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, index = vector * W;
  if (index >= rows * C) return;
  float sum[W] = {};
  for (int64_t b = 0; b < B && index < T_ * C; ++b) {
    float values[W];
    dout.load(b * T_ * C + index, values);
#pragma unroll
    for (int i = 0; i < W; ++i) sum[i] += values[i];
  }
  if (accumulate)
    add(dwpe, index, sum);
  else
    Out<float>(dwpe, false).store(index, sum);
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
    const Operand o = operand("out", out, out_dtype, {B, T, C});
    tensor("tokens", tokens, {B, T});
    const Operand token_rows = operand("wte", wte, wte_dtype, {V, C});
    const Operand position_rows = operand("wpe", wpe, wpe_dtype, {maxT, C});
    check_position(position, T, maxT);
    with_vectors({o, token_rows, position_rows}, {}, C, [&](auto type, auto width) {
      using E = typename decltype(type)::type;
      constexpr int W = decltype(width)::value;
      launch(embedding_forward_kernel<E, W>, dim3(grid_blocks(ceil_div(B * T * (C / W), kThreads))), kThreads, 0,
             o.out<E>(), tokens, token_rows.in<E>(), position_rows.in<E>(), B * T, T, C, V, position, device().fault);
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
    const Operand dy = operand("dout", dout, dout_dtype, {B, T, C});
    tensor("tokens", tokens, {B, T});
    const bool adds = flag("accumulate", accumulate);
    const int64_t positions = adds ? T : maxT;
    with_vectors({dy}, {dwte, dwpe}, C, [&](auto type, auto width) {
      using E = typename decltype(type)::type;
      constexpr int W = decltype(width)::value;
      const dim3 grid(grid_blocks(B * T), grid_blocks(ceil_div(C, kWarpSize * W), 65535));
      launch(token_gradient_kernel<E, W>, grid, kThreads, 0, dwte, dy.in<E>(), tokens, B * T, C, V, device().fault);
      launch(position_gradient_kernel<E, W>, dim3(grid_blocks(ceil_div(positions * C, int64_t{kThreads} * W))),
             kThreads, 0, dwpe, dy.in<E>(), adds, B, T, C, positions);
    });
  });
}
