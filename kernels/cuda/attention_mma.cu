// Attention forward on tensor cores. A block of four warps takes 64 queries of a head, each warp 16 of them, and goes
// through the keys 64 at a time. Scores stay in registers: as they come out of one product they are the left factor of
// the next (cuda/mma.h).
#include "cuda/attention_mma.h"
#include "cuda/device.h"
#include "cuda/warp.h"

namespace llmts {

namespace {

constexpr int kQueries = 64, kKeys = 64;

// scores = Q · Kᵀ of the warp's 16 queries and 64 keys, 8 keys in each.
template <int HS>
__device__ void multiply_keys(float (&scores)[kKeys / 8][4], const uint32_t (&query)[HS / 16][4],
                              const SharedRow<HS> *keys) {
#pragma unroll
  for (int n = 0; n < kKeys / 16; ++n) {
#pragma unroll
    for (int k = 0; k < HS / 16; ++k) {
      uint32_t b[4];
      load_right_transposed<HS>(b, keys, n * 16, k * 16);
      mma(scores[2 * n], query[k], b[0], b[1]);
      mma(scores[2 * n + 1], query[k], b[2], b[3]);
    }
  }
}

// out += P · V.
template <int HS>
__device__ void multiply_values(float (&out)[HS / 8][4], const float (&p)[kKeys / 8][4], const SharedRow<HS> *values) {
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    uint32_t a[4];
    pack_left(a, p[2 * k], p[2 * k + 1]);
#pragma unroll
    for (int n = 0; n < HS / 16; ++n) {
      uint32_t b[4];
      load_right<HS>(b, values, k * 16, n * 16);
      mma(out[2 * n], a, b[0], b[1]);
      mma(out[2 * n + 1], a, b[2], b[3]);
    }
  }
}

template <int HS>
__global__ void __launch_bounds__(kMmaThreads, 2)
    attention_forward_mma_kernel(Bf16Rows out, float *lse, Bf16Rows query, Bf16Rows key, Bf16Rows value, int64_t heads,
                                 int64_t NH, int64_t queries, int64_t first_position, float scale) {
  CU_SHARED(SharedRow<HS>, keys, [kKeys]);
  CU_SHARED(SharedRow<HS>, values, [kKeys]);
  const int64_t head = blockIdx.x % heads, b = head / NH, h = head % NH;
  const int64_t blocks = gridDim.x / heads, first = (blocks - 1 - blockIdx.x / heads) * kQueries;  // the longest first
  const int64_t last = first + kQueries < queries ? first + kQueries : queries, limit = first_position + last;
  const int lane = threadIdx.x % kWarpSize, warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const int64_t row = first + warp_row + lane / 4;  // and row + 8

  uint32_t q[HS / 16][4];
  load_rows<HS, kQueries>(keys, query.of(b, h), query.row, first, queries);
  __syncthreads();
#pragma unroll
  for (int k = 0; k < HS / 16; ++k) load_left<HS>(q[k], keys, warp_row, k * 16);

  float sums[HS / 8][4] = {}, largest[2] = {-INFINITY, -INFINITY}, total[2] = {};
  for (int64_t first_key = 0; first_key < limit; first_key += kKeys) {
    __syncthreads();  // the tiles may still be in use
    load_rows<HS, kKeys>(keys, key.of(b, h), key.row, first_key, limit);
    load_rows<HS, kKeys>(values, value.of(b, h), value.row, first_key, limit);
    __syncthreads();
    float scores[kKeys / 8][4] = {};
    multiply_keys<HS>(scores, q, keys);
    // The first key is in sight of every query, so that largest is finite from the first tile on.
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t in_sight = first_position + row + half * 8 - first_key - lane % 4 * 2;
      float most = largest[half], sum = 0.0f;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float &score = scores[n][2 * half + i];
          score = n * 8 + i <= in_sight ? score * (scale * kLog2E) : -INFINITY;
          most = fmaxf(most, score);
        }
      }
      most = warp_max<4>(most);
      const float correction = exp2f(largest[half] - most);
      largest[half] = most;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float &score = scores[n][2 * half + i];
          score = exp2f(score - most);
          sum += score;
        }
      }
      total[half] = total[half] * correction + sum;
#pragma unroll
      for (int n = 0; n < HS / 8; ++n) {
        sums[n][2 * half] *= correction;
        sums[n][2 * half + 1] *= correction;
      }
    }
    multiply_values<HS>(sums, scores, values);
  }
  const float all[2] = {warp_sum<4>(total[0]), warp_sum<4>(total[1])};
  for (int half = 0; half < 2; ++half) {
    const int64_t r = row + half * 8;
    if (lse != nullptr && lane % 4 == 0 && r < queries)
      lse[head * queries + r] = (largest[half] + log2f(all[half])) * kLn2;
  }
  store_rows<HS>(out.of(b, h), out.row, row, queries, sums, 1.0f / all[0], 1.0f / all[1]);
}

}  // namespace

bool attention_forward_mma(const AttentionForward &a) {
  for (const HeadRows &rows : {a.out, a.query, a.key, a.value})
    if (!is_aligned_bf16(rows)) return false;
  return with_head_size(a.HS, [&](auto size) {
    constexpr int HS = decltype(size)::value;
    const int64_t heads = a.B * a.NH;
    launch(attention_forward_mma_kernel<HS>, dim3(grid_blocks(heads * ceil_div(a.queries, kQueries))), kMmaThreads, 0,
           Bf16Rows(a.out), a.lse, Bf16Rows(a.query), Bf16Rows(a.key), Bf16Rows(a.value), heads, a.NH, a.queries,
           a.first_position, a.scale);
  });
}

}  // namespace llmts
