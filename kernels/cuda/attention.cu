#include <cinttypes>
#include <cmath>

#include "cuda/attention.h"
#include "cuda/device.h"
#include "cuda/warp.h"

using namespace llmts;

namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;

int64_t head_size(int64_t C, int64_t NH) {
  if (NH < 1 || C % NH != 0)
    fail(LLMTS_INVALID_ARGUMENT, "NH is %" PRId64 ", expected a divisor of C, %" PRId64, NH, C);
  return C / NH;
}

float score_scale(int64_t HS) { return 1.0f / std::sqrt(static_cast<float>(HS)); }

// Heads side by side in rows of `stride` elements: part 0, 1, 2 of qkv, or out.
HeadRows side_by_side(Operand data, int64_t part, int64_t T, int64_t C, int64_t HS, int64_t stride) {
  return {data.from(part * C), T * stride, HS, stride};
}

// delta (B,NH,T) = the sum of dout · out over a head. A warp for each.
__global__ void __launch_bounds__(kThreads)
    delta_kernel(float *delta, In<Any> dout, In<Any> out, int64_t count, int64_t T, int64_t NH, int64_t HS) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  if (index >= count) return;
  const int64_t head = index / T, start = ((head / NH * T + index % T) * NH + head % NH) * HS;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x % kWarpSize; i < HS; i += kWarpSize) sum += dout.at(start + i) * out.at(start + i);
  sum = warp_sum(sum);
  if (threadIdx.x % kWarpSize == 0) delta[index] = sum;
}

// The keys and values of qkv into the cache, element by element: they are few.
__global__ void __launch_bounds__(kThreads)
    append_kernel(Out<Any> keys, Out<Any> values, In<Any> qkv, int64_t count, int64_t T, int64_t C, int64_t NH,
                  int64_t maxT, int64_t position) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, HS = C / NH;
  if (index >= count) return;
  const int64_t c = index % C, row = index / C, t = row % T, b = row / T;
  const int64_t slot = ((b * NH + c / HS) * maxT + position + t) * HS + c % HS;
  const float key[1] = {qkv.at(row * 3 * C + C + c)}, value[1] = {qkv.at(row * 3 * C + 2 * C + c)};
  keys.store(slot, key);
  values.store(slot, value);
}

}  // namespace

int32_t llmts_attention_forward(void *out, int32_t out_dtype, float *lse, const void *qkv, int32_t qkv_dtype, int64_t B,
                                int64_t T, int64_t C, int64_t NH) {
  return guarded("attention_forward", {{"B", B}, {"T", T}, {"C", C}, {"NH", NH, Dim::Limit}}, [&] {
    const int64_t HS = head_size(C, NH);
    const Operand o = operand("out", out, out_dtype, {B, T, C}), in = operand("qkv", qkv, qkv_dtype, {B, T, 3, C});
    optional_tensor("lse", lse, Shape{B, NH, T});
    const auto part = [&](int64_t index) { return side_by_side(in, index, T, C, HS, 3 * C); };
    const AttentionForward attention = {
        side_by_side(o, 0, T, C, HS, C), part(0), part(1), part(2), lse, B, NH, HS, T, 0, score_scale(HS)};
    if (!attention_forward_mma(attention)) attention_forward_tiled(attention);
  });
}

int32_t llmts_attention_backward(void *dqkv, int32_t dqkv_dtype, const void *dout, int32_t dout_dtype, const void *out,
                                 int32_t out_dtype, const float *lse, const void *qkv, int32_t qkv_dtype, int64_t B,
                                 int64_t T, int64_t C, int64_t NH) {
  return guarded("attention_backward", {{"B", B}, {"T", T}, {"C", C}, {"NH", NH, Dim::Limit}}, [&] {
    const int64_t HS = head_size(C, NH), count = B * NH * T;
    const Operand d = operand("dqkv", dqkv, dqkv_dtype, {B, T, 3, C}),
                  dy = operand("dout", dout, dout_dtype, {B, T, C});
    const Operand y = operand("out", out, out_dtype, {B, T, C}), in = operand("qkv", qkv, qkv_dtype, {B, T, 3, C});
    tensor("lse", lse, {B, NH, T});
    const Scratch scratch(count * static_cast<int64_t>(sizeof(float)));
    float *const delta = scratch.as<float>();
    launch(delta_kernel, dim3(grid_blocks(ceil_div(count, kWarps))), kThreads, 0, delta, dy.in<Any>(), y.in<Any>(),
           count, T, NH, HS);
    const auto part = [&](Operand of, int64_t index) { return side_by_side(of, index, T, C, HS, 3 * C); };
    const AttentionBackward attention = {part(d, 0),  part(d, 1),
                                         part(d, 2),  side_by_side(dy, 0, T, C, HS, C),
                                         part(in, 0), part(in, 1),
                                         part(in, 2), lse,
                                         delta,       B,
                                         NH,          HS,
                                         T,           score_scale(HS)};
    if (!attention_backward_mma(attention)) attention_backward_tiled(attention);
  });
}

int32_t llmts_attention_cached(void *out, int32_t out_dtype, void *keys, void *values, int32_t cache_dtype,
                               const void *qkv, int32_t qkv_dtype, int64_t B, int64_t T, int64_t C, int64_t NH,
                               int64_t maxT, int64_t position) {
  const Dims dims = {{"B", B},
                     {"T", T},
                     {"C", C},
                     {"NH", NH, Dim::Limit},
                     {"maxT", maxT, Dim::Limit},
                     {"position", position, Dim::Limit}};
  return guarded("attention_cached", dims, [&] {
    const int64_t HS = head_size(C, NH), count = B * T * C;
    check_position(position, T, maxT);
    const Operand o = operand("out", out, out_dtype, {B, T, C}), in = operand("qkv", qkv, qkv_dtype, {B, T, 3, C});
    const Operand k = operand("keys", keys, cache_dtype, {B, NH, maxT, HS});
    const Operand v = operand("values", values, cache_dtype, {B, NH, maxT, HS});
    launch(append_kernel, dim3(grid_blocks(ceil_div(count, kThreads))), kThreads, 0, k.out<Any>(), v.out<Any>(),
           in.in<Any>(), count, T, C, NH, maxT, position);
    const auto cache = [&](Operand data) { return HeadRows{data, NH * maxT * HS, maxT * HS, HS}; };
    const AttentionForward attention = {side_by_side(o, 0, T, C, HS, C),
                                        side_by_side(in, 0, T, C, HS, 3 * C),
                                        cache(k),
                                        cache(v),
                                        nullptr,
                                        B,
                                        NH,
                                        HS,
                                        T,
                                        position,
                                        score_scale(HS)};
    constexpr int64_t kFewQueries = 16;  // a tile of 64 would be mostly empty
    if (T <= kFewQueries)
      attention_decode(attention);
    else if (!attention_forward_mma(attention))
      attention_forward_tiled(attention);
  });
}
