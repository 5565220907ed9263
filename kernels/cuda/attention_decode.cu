// Attention of a few queries against many keys, as in generation: a block for each query of each head. Each of its
// threads makes the score of one key in a tile of 128, then each sums one column of the values.
#include "cuda/attention.h"
#include "cuda/device.h"
#include "cuda/warp.h"

namespace llmts {

namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize;

struct AnyRows {
  In<Any> data;
  int64_t batch, head, row;

  explicit AnyRows(const HeadRows &rows)
      : data(rows.data.in<Any>()), batch(rows.batch), head(rows.head), row(rows.row) {}
  __device__ int64_t at(int64_t b, int64_t h, int64_t t) const { return b * batch + h * head + t * row; }
};

// Over the block, in every thread; `shared` has room for a value of each warp.
__device__ float block_max(float value, float *shared) {
  value = warp_max(value);
  __syncthreads();  // the room may still be in use
  if (threadIdx.x % kWarpSize == 0) shared[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  for (int warp = 0; warp < kWarps; ++warp) value = fmaxf(value, shared[warp]);
  return value;
}

template <int W>
__global__ void __launch_bounds__(kThreads)
    attention_decode_kernel(Out<Any> out, AnyRows out_rows, AnyRows query, AnyRows key, AnyRows value, int64_t NH,
                            int64_t queries, int64_t first_position, int64_t HS, float scale) {
  CU_SHARED(float, probabilities, [kThreads]);
  CU_SHARED(float, room, [kWarps]);
  const int64_t t = blockIdx.x % queries, head = blockIdx.x / queries, b = head / NH, h = head % NH;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x, keys = first_position + t + 1;
  const int64_t q = query.at(b, h, t);
  float sum = 0.0f, total = 0.0f, largest = -INFINITY;
  for (int64_t first = 0; first < keys; first += kThreads) {
    float score = -INFINITY;
    if (first + threadIdx.x < keys) {
      const int64_t k = key.at(b, h, first + threadIdx.x);
      score = 0.0f;
      for (int64_t i = 0; i < HS; i += W) {
        float x[W], y[W];
        query.data.load(q + i, x);
        key.data.load(k + i, y);
#pragma unroll
        for (int j = 0; j < W; ++j) score += x[j] * y[j];
      }
      score *= scale;
    }
    const float most = fmaxf(largest, block_max(score, room));
    probabilities[threadIdx.x] = expf(score - most);
    __syncthreads();
    const float correction = expf(largest - most);
    largest = most;
    sum *= correction;
    total *= correction;
    const int count = keys - first < kThreads ? static_cast<int>(keys - first) : kThreads;
    for (int i = 0; i < count; ++i) {
      total += probabilities[i];
      if (column < HS) sum += probabilities[i] * value.data.at(value.at(b, h, first + i) + column);
    }
  }
  const float result[1] = {sum / total};
  if (column < HS) out.store(out_rows.at(b, h, t) + column, result);
}

}  // namespace

void attention_decode(const AttentionForward &a) {
  constexpr int kWide = kVector<Any>;
  bool wide = true;
  for (const HeadRows &rows : {a.query, a.key})
    wide =
        wide && aligned16(rows.data.data) && rows.batch % kWide == 0 && rows.head % kWide == 0 && rows.row % kWide == 0;
  const auto kernel = wide && a.HS % kWide == 0 ? attention_decode_kernel<kWide> : attention_decode_kernel<1>;
  const dim3 grid(grid_blocks(a.B * a.NH * a.queries), grid_blocks(ceil_div(a.HS, kThreads), 65535));
  launch(kernel, grid, kThreads, 0, a.out.data.out<Any>(), AnyRows(a.out), AnyRows(a.query), AnyRows(a.key),
         AnyRows(a.value), a.NH, a.queries, a.first_position, a.HS, a.scale);
}

}  // namespace llmts
