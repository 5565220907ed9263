// Attention backward on tensor cores, in two passes of one kernel. A block of four warps keeps 64 rows of a head, each
// warp 16 of them, while the other side's rows move past it, 32 or 16 at a time:
//   keys stay:     Sᵀ = K · Qᵀ, dPᵀ = V · doutᵀ;  dK += dSᵀ · Q, dV += Pᵀ · dout
//   queries stay:  S = Q · Kᵀ, dP = dout · Vᵀ;  dQ += dS · K
// that is, of a first and a second matrix that stay and that move: S and dP are stay · moveᵀ of the first and of the
// second; the gradient of the first that stays is dS · move₁, that of the second P · move₂.
#include "cuda/attention_mma.h"
#include "cuda/device.h"
#include "cuda/warp.h"

namespace llmts {

namespace {

constexpr int kStay = 64;

// Rows that move at a time: fewer of the widest, whose gradients alone take half of a thread's registers.
template <int HS>
constexpr int kMove = HS > 96 ? 16 : 32;

template <int HS>
constexpr int64_t kSharedBytes = (2 * kStay + 2 * kMove<HS>)*static_cast<int64_t>(sizeof(SharedRow<HS>));

// S and dP of the warp's 16 rows and those that move, 8 of them in each.
template <int HS>
__device__ void multiply_pair(float (&s)[kMove<HS> / 8][4], float (&dp)[kMove<HS> / 8][4], const SharedRow<HS> *stay1,
                              const SharedRow<HS> *stay2, const SharedRow<HS> *move1, const SharedRow<HS> *move2,
                              int warp_row) {
#pragma unroll
  for (int k = 0; k < HS / 16; ++k) {
    uint32_t a1[4], a2[4];
    load_left<HS>(a1, stay1, warp_row, k * 16);
    load_left<HS>(a2, stay2, warp_row, k * 16);
#pragma unroll
    for (int n = 0; n < kMove<HS> / 16; ++n) {
      uint32_t b[4];
      load_right_transposed<HS>(b, move1, n * 16, k * 16);
      mma(s[2 * n], a1, b[0], b[1]);
      mma(s[2 * n + 1], a1, b[2], b[3]);
      load_right_transposed<HS>(b, move2, n * 16, k * 16);
      mma(dp[2 * n], a2, b[0], b[1]);
      mma(dp[2 * n + 1], a2, b[2], b[3]);
    }
  }
}

// gradient += factor · move.
template <int HS>
__device__ void multiply_moving(float (&gradient)[HS / 8][4], const float (&factor)[kMove<HS> / 8][4],
                                const SharedRow<HS> *move) {
#pragma unroll
  for (int k = 0; k < kMove<HS> / 16; ++k) {
    uint32_t a[4];
    pack_left(a, factor[2 * k], factor[2 * k + 1]);
#pragma unroll
    for (int n = 0; n < HS / 16; ++n) {
      uint32_t b[4];
      load_right<HS>(b, move, k * 16, n * 16);
      mma(gradient[2 * n], a, b[0], b[1]);
      mma(gradient[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// lse and delta of a query, 0 beyond the last.
struct QueryTerms {
  float lse, delta;
};

__device__ QueryTerms query_terms(const float *lse, const float *delta, int64_t start, int64_t query, int64_t T) {
  return query < T ? QueryTerms{lse[start + query], delta[start + query]} : QueryTerms{0.0f, 0.0f};
}

template <int HS, bool KeysStay>
__global__ void __launch_bounds__(kMmaThreads)
    attention_backward_mma_kernel(Bf16Rows gradient1, Bf16Rows gradient2, Bf16Rows rows1, Bf16Rows rows2,
                                  Bf16Rows moving1, Bf16Rows moving2, const float *lse, const float *delta,
                                  int64_t heads, int64_t NH, int64_t T, float scale) {
  CU_DYNAMIC_SHARED(SharedRow<HS>, tiles);
  CU_SHARED(QueryTerms, moving_terms, [kMove<HS>]);
  SharedRow<HS> *const stay1 = tiles, *const stay2 = stay1 + kStay;
  SharedRow<HS> *const move1 = stay2 + kStay, *const move2 = move1 + kMove<HS>;
  const int64_t head = blockIdx.x % heads, b = head / NH, h = head % NH, blocks = gridDim.x / heads;
  const int64_t block = KeysStay ? blockIdx.x / heads : blocks - 1 - blockIdx.x / heads;  // the longest first
  const int64_t first = block * kStay;
  const int lane = threadIdx.x % kWarpSize, warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const int64_t row = first + warp_row + lane / 4;  // and row + 8

  load_rows<HS, kStay>(stay1, rows1.of(b, h), rows1.row, first, T);
  load_rows<HS, kStay>(stay2, rows2.of(b, h), rows2.row, first, T);
  QueryTerms own[2] = {};
  if (!KeysStay) {
    own[0] = query_terms(lse, delta, head * T, row, T);
    own[1] = query_terms(lse, delta, head * T, row + 8, T);
  }
  float sums1[HS / 8][4] = {}, sums2[KeysStay ? HS / 8 : 1][4] = {};
  const int64_t from = KeysStay ? first : 0, to = KeysStay || first + kStay > T ? T : first + kStay;
  for (int64_t moving = from; moving < to; moving += kMove<HS>) {
    __syncthreads();  // the tiles may still be in use
    load_rows<HS, kMove<HS>>(move1, moving1.of(b, h), moving1.row, moving, T);
    load_rows<HS, kMove<HS>>(move2, moving2.of(b, h), moving2.row, moving, T);
    if (KeysStay && threadIdx.x < kMove<HS>)
      moving_terms[threadIdx.x] = query_terms(lse, delta, head * T, moving + threadIdx.x, T);
    __syncthreads();
    float p[kMove<HS> / 8][4] = {}, ds[kMove<HS> / 8][4] = {};
    multiply_pair<HS>(p, ds, stay1, stay2, move1, move2, warp_row);
#pragma unroll
    for (int n = 0; n < kMove<HS> / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = n * 8 + lane % 4 * 2 + i % 2;
        const int64_t still = row + i / 2 * 8, passing = moving + column;
        const int64_t query = KeysStay ? passing : still, key = KeysStay ? still : passing;
        const QueryTerms terms = KeysStay ? moving_terms[column] : own[i / 2];
        const float score = p[n][i] * (scale * kLog2E) - terms.lse * kLog2E;
        p[n][i] = key <= query && query < T ? exp2f(score) : 0.0f;
        ds[n][i] = p[n][i] * (ds[n][i] - terms.delta) * scale;
      }
    }
    multiply_moving<HS>(sums1, ds, move1);
    if constexpr (KeysStay) multiply_moving<HS>(sums2, p, move2);
  }
  store_rows<HS>(gradient1.of(b, h), gradient1.row, row, T, sums1, 1.0f, 1.0f);
  if constexpr (KeysStay) store_rows<HS>(gradient2.of(b, h), gradient2.row, row, T, sums2, 1.0f, 1.0f);
}

}  // namespace

bool attention_backward_mma(const AttentionBackward &a) {
  for (const HeadRows &rows : {a.dquery, a.dkey, a.dvalue, a.dout, a.query, a.key, a.value})
    if (!is_aligned_bf16(rows)) return false;
  return with_head_size(a.HS, [&](auto size) {
    constexpr int HS = decltype(size)::value;
    const Bf16Rows q(a.query), k(a.key), v(a.value), dout(a.dout), dq(a.dquery), dk(a.dkey), dv(a.dvalue);
    const int64_t heads = a.B * a.NH;
    const dim3 grid(grid_blocks(heads * ceil_div(a.T, kStay)));
    launch(attention_backward_mma_kernel<HS, true>, grid, kMmaThreads, kSharedBytes<HS>, dk, dv, k, v, q, dout, a.lse,
           a.delta, heads, a.NH, a.T, a.scale);
    launch(attention_backward_mma_kernel<HS, false>, grid, kMmaThreads, kSharedBytes<HS>, dq, dq, q, dout, k, v, a.lse,
           a.delta, heads, a.NH, a.T, a.scale);
  });
}

}  // namespace llmts
