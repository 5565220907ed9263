// Attention: tiles, tensor cores and the cache.
#include <algorithm>
#include <cmath>

#include "checks.h"

namespace checks {

namespace {

struct Shape {
  int64_t B, T, NH, HS;
};

struct Expected {
  Values out, lse, dqkv;
};

size_t at(int64_t index) { return static_cast<size_t>(index); }

// Element i of part (query, key, value), head h, of row (b, t) of qkv.
size_t qkv_at(const Shape &s, int64_t b, int64_t t, int64_t part, int64_t h, int64_t i) {
  return at(((b * s.T + t) * 3 + part) * s.NH * s.HS + h * s.HS + i);
}

Expected attention(const Shape &s, const Values &qkv, const Values &dout) {
  Expected e;
  e.out.resize(qkv.size() / 3);
  e.lse.resize(at(s.B * s.NH * s.T));
  e.dqkv.resize(qkv.size());
  const double scale = 1.0 / std::sqrt(static_cast<double>(s.HS));
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t h = 0; h < s.NH; ++h)
      for (int64_t t = 0; t < s.T; ++t) {
        Values p(at(t + 1)), dp(at(t + 1));
        double largest = -1e300, total = 0.0, mean = 0.0;
        const int64_t row = (b * s.T + t) * s.NH * s.HS + h * s.HS;
        for (int64_t u = 0; u <= t; ++u) {
          for (int64_t i = 0; i < s.HS; ++i) {
            p[at(u)] += scale * qkv[qkv_at(s, b, t, 0, h, i)] * qkv[qkv_at(s, b, u, 1, h, i)];
            dp[at(u)] += dout[at(row + i)] * qkv[qkv_at(s, b, u, 2, h, i)];
          }
          largest = std::max(largest, p[at(u)]);
        }
        for (double &value : p) total += value = std::exp(value - largest);
        e.lse[at((b * s.NH + h) * s.T + t)] = largest + std::log(total);
        for (int64_t u = 0; u <= t; ++u) mean += (p[at(u)] /= total) * dp[at(u)];
        for (int64_t u = 0; u <= t; ++u) {
          const double ds = p[at(u)] * (dp[at(u)] - mean) * scale;
          for (int64_t i = 0; i < s.HS; ++i) {
            e.out[at(row + i)] += p[at(u)] * qkv[qkv_at(s, b, u, 2, h, i)];
            e.dqkv[qkv_at(s, b, t, 0, h, i)] += ds * qkv[qkv_at(s, b, u, 1, h, i)];
            e.dqkv[qkv_at(s, b, u, 1, h, i)] += ds * qkv[qkv_at(s, b, t, 0, h, i)];
            e.dqkv[qkv_at(s, b, u, 2, h, i)] += p[at(u)] * dout[at(row + i)];
          }
        }
      }
  return e;
}

void check(const Shape &s, int32_t dtype, double tolerance) {
  const int64_t C = s.NH * s.HS, count = s.B * s.T * C;
  Random random(8);
  const Tensor qkv = random.normal(dtype, 3 * count), dout = random.normal(dtype, count);
  const Tensor out(dtype, count), lse(LLMTS_FP32, s.B * s.NH * s.T), dqkv(dtype, 3 * count), alone(dtype, count);
  succeeds(llmts_attention_forward(out.data(), dtype, lse.floats(), qkv.data(), dtype, s.B, s.T, C, s.NH));
  succeeds(llmts_attention_forward(alone.data(), dtype, nullptr, qkv.data(), dtype, s.B, s.T, C, s.NH));
  succeeds(llmts_attention_backward(dqkv.data(), dtype, dout.data(), dtype, out.data(), dtype, lse.floats(), qkv.data(),
                                    dtype, s.B, s.T, C, s.NH));
  const Expected e = attention(s, qkv.values(), dout.values());
  expect("out", out, e.out, tolerance);
  expect("out without lse", alone, e.out, tolerance);
  expect("lse", lse, e.lse, tolerance);
  // In bf16 delta cancels most of dP, both rounded: single elements may be off by several roundings, the whole is not.
  expect("dqkv", dqkv, e.dqkv, (dtype == LLMTS_BF16 ? 10 : 3) * tolerance, tolerance);
}

void tiled() {
  for (const Shape s :
       {Shape{1, 1, 1, 1}, Shape{2, 9, 2, 5}, Shape{1, 70, 2, 16}, Shape{1, 65, 1, 130}, Shape{1, 130, 1, 64}})
    check(s, LLMTS_FP32, 1e-5);
  check({2, 67, 2, 24}, LLMTS_BF16, 1e-2);
}

void tensor_cores() {
  for (const Shape s : {Shape{1, 1, 1, 64}, Shape{2, 63, 2, 64}, Shape{1, 130, 2, 64}, Shape{1, 65, 1, 80},
                        Shape{1, 70, 1, 96}, Shape{1, 66, 2, 128}})
    check(s, LLMTS_BF16, 1e-2);
}

// In pieces of `cut` positions; 1 and 16 are decoded, more are not.
void cache() {
  for (const int32_t dtype : {LLMTS_FP32, LLMTS_BF16}) {
    for (const Shape s : {Shape{2, 40, 2, 5}, Shape{1, 150, 1, 64}}) {
      for (const int64_t cut : {int64_t{1}, int64_t{16}, int64_t{33}}) {
        if (cut == 1 && s.T > 100) continue;
        const int64_t C = s.NH * s.HS, maxT = s.T + 3;
        Random random(9);
        const Tensor qkv = random.normal(dtype, s.B * s.T * 3 * C);
        const Values all = qkv.values(), none(at(s.B * s.T * C));
        const Expected e = attention(s, all, none);
        const Tensor keys(dtype, s.B * maxT * C), values(dtype, s.B * maxT * C);
        for (int64_t position = 0; position < s.T; position += cut) {
          const int64_t T = std::min(cut, s.T - position);
          Values part, expected;
          for (int64_t b = 0; b < s.B; ++b) {
            const int64_t row = b * s.T + position;
            part.insert(part.end(), all.begin() + row * 3 * C, all.begin() + (row + T) * 3 * C);
            expected.insert(expected.end(), e.out.begin() + row * C, e.out.begin() + (row + T) * C);
          }
          const Tensor piece(dtype, part), out(dtype, s.B * T * C);
          succeeds(llmts_attention_cached(out.data(), dtype, keys.data(), values.data(), dtype, piece.data(), dtype,
                                          s.B, T, C, s.NH, maxT, position));
          expect("out at " + std::to_string(position), out, expected, dtype == LLMTS_BF16 ? 1e-2 : 1e-5);
        }
      }
    }
  }
}

}  // namespace

std::vector<Case> attention_cases() {
  return {
      {"attention in tiles", tiled}, {"attention on tensor cores", tensor_cores}, {"attention with a cache", cache}};
}

}  // namespace checks
