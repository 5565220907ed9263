// The linear layer and the classifier.
#include <algorithm>
#include <cmath>

#include "checks.h"

namespace checks {

namespace {

using Matrix = std::function<double(int64_t, int64_t)>;

Matrix matrix(const Values &values, int64_t columns) {
  return
      [&values, columns](int64_t row, int64_t column) { return values[static_cast<size_t>(row * columns + column)]; };
}
Matrix transposed(Matrix m) {
  return [m](int64_t row, int64_t column) { return m(column, row); };
}

struct Sizes {
  int64_t N, C, OC;
};

void matmul() {
  // Aligned and not, smaller and larger than a tile, by cuBLASLt and by tiles.
  for (const Sizes s : {Sizes{1, 1, 1}, Sizes{5, 3, 2}, Sizes{70, 48, 65}, Sizes{33, 65, 130}, Sizes{130, 64, 192}}) {
    for (const Precisions p : kPrecisions) {
      const auto [N, C, OC] = s;
      const int32_t act = p.activation, par = p.weight;
      Random random(6);
      const Tensor x = random.normal(act, N * C), weight = random.normal(par, OC * C), bias = random.normal(par, OC);
      const Tensor dout = random.normal(act, N * OC), before = random.normal(act, N * C);
      const Tensor out(act, N * OC), logits(LLMTS_FP32, N * OC), activated(act, N * OC), pre(act, N * OC),
          dx(act, N * C), dpre(act, N * C), dweight(LLMTS_FP32, Values(static_cast<size_t>(OC * C), 0.5)),
          dbias(LLMTS_FP32, Values(static_cast<size_t>(OC), 0.5)), stored(LLMTS_FP32, OC * C),
          sums_stored(LLMTS_FP32, OC);
      const auto forward = [&](const Tensor &to, void *pre_data, const void *bias_data, int32_t activation) {
        succeeds(llmts_matmul_forward(to.data(), to.dtype(), pre_data, act, x.data(), act, weight.data(), par, nullptr,
                                      bias_data, par, activation, N, C, OC));
      };
      forward(out, nullptr, bias.data(), LLMTS_IDENTITY);
      forward(logits, nullptr, nullptr, LLMTS_IDENTITY);
      forward(activated, pre.data(), bias.data(), LLMTS_GELU);
      const auto dinput = [&](const Tensor &to, const void *pre_data) {
        succeeds(llmts_matmul_dinput(to.data(), act, dout.data(), act, weight.data(), par, pre_data, act, N, C, OC));
      };
      dinput(dx, nullptr);
      dinput(dpre, before.data());
      succeeds(llmts_matmul_dweight(dweight.floats(), dout.data(), act, x.data(), act, 1, N, C, OC));
      succeeds(llmts_matmul_dbias(dbias.floats(), dout.data(), act, 1, N, OC));
      succeeds(llmts_matmul_dweight(stored.floats(), dout.data(), act, x.data(), act, 0, N, C, OC));
      succeeds(llmts_matmul_dbias(sums_stored.floats(), dout.data(), act, 0, N, OC));
      fails(llmts_matmul_dbias(dbias.floats(), dout.data(), act, 2, N, OC), LLMTS_INVALID_ARGUMENT,
            "accumulate is 2, expected 0 or 1");

      const Values X = x.values(), W = weight.values(), D = dout.values(), shift = bias.values(), P = before.values();
      const Values scores = product(N, OC, C, matrix(X, C), transposed(matrix(W, C)));
      Values biased = scores, gelus = scores;
      for (size_t i = 0; i < scores.size(); ++i) {
        biased[i] += shift[i % static_cast<size_t>(OC)];
        gelus[i] = gelu(biased[i]);
      }
      Values inputs = product(N, C, OC, matrix(D, OC), matrix(W, C)), inner = inputs;
      for (size_t i = 0; i < inner.size(); ++i) inner[i] *= gelu_derivative(P[i]);
      Values weights = product(OC, C, N, transposed(matrix(D, OC)), matrix(X, C)), sums(static_cast<size_t>(OC));
      for (size_t i = 0; i < D.size(); ++i) sums[i % static_cast<size_t>(OC)] += D[i];
      expect("out", out, biased, 1e-5);
      expect("out in fp32", logits, scores, 1e-5);
      expect("pre", pre, biased, 1e-5);
      // In bf16 an activation in a pass of its own sees the rounded value.
      expect("gelu", activated, gelus, act == LLMTS_BF16 ? 4e-3 : 1e-5);
      expect("dx", dx, inputs, 1e-5);
      expect("dx through gelu", dpre, inner, act == LLMTS_BF16 ? 4e-3 : 1e-5);
      expect("dweight", dweight, plus(weights, 0.5), 1e-5);
      expect("dbias", dbias, plus(sums, 0.5), 1e-5);
      expect("dweight stored", stored, weights, 1e-5);
      expect("dbias stored", sums_stored, sums, 1e-5);
    }
  }
}

void classifier() {
  struct Shape {
    int64_t N, C, V, Vp;
  };
  // The last has more rows than a chunk.
  for (const Shape s :
       {Shape{9, 3, 5, 5}, Shape{20, 16, 65, 128}, Shape{40, 8, 700, 704}, Shape{1200, 8, 1000, 1024}}) {
    for (const Precisions p : kPrecisions) {
      const auto [N, C, V, Vp] = s;
      if (N > 1000 && p.activation != p.weight) continue;  // by tiles, slowly
      const int32_t act = p.activation, par = p.weight;
      Random random(7);
      const Tensor x = random.normal(act, N * C), wte = random.normal(par, Vp * C);
      std::vector<int32_t> ids = random.ids(N, static_cast<int32_t>(V));
      for (size_t n = 3; n < ids.size(); n += 7) ids[n] = -1;
      const Ids targets(ids);
      const Tensor losses(LLMTS_FP32, N), alone(LLMTS_FP32, N), dx(act, N * C),
          dwte(LLMTS_FP32, Values(static_cast<size_t>(Vp * C), 0.5)), stored(LLMTS_FP32, Vp * C);
      const float scale = 0.25f;
      succeeds(llmts_classifier(alone.floats(), nullptr, 0, nullptr, x.data(), act, wte.data(), par, targets.data(),
                                0.0f, 0, N, C, V, Vp));
      succeeds(llmts_classifier(losses.floats(), dx.data(), act, dwte.floats(), x.data(), act, wte.data(), par,
                                targets.data(), scale, 1, N, C, V, Vp));
      succeeds(llmts_classifier(losses.floats(), dx.data(), act, stored.floats(), x.data(), act, wte.data(), par,
                                targets.data(), scale, 0, N, C, V, Vp));
      const Values X = x.values(), W = wte.values();
      Values logits = product(N, V, C, matrix(X, C), transposed(matrix(W, C))), expected(static_cast<size_t>(N));
      for (int64_t n = 0; n < N; ++n) {
        double *const row = logits.data() + n * V;
        const int32_t target = ids[static_cast<size_t>(n)];
        const double largest = *std::max_element(row, row + V);
        double total = 0.0;
        for (int64_t v = 0; v < V; ++v) total += std::exp(row[v] - largest);
        if (target >= 0) expected[static_cast<size_t>(n)] = largest + std::log(total) - row[target];
        for (int64_t v = 0; v < V; ++v)
          row[v] = target < 0 ? 0.0 : scale * (std::exp(row[v] - largest) / total - (v == target ? 1.0 : 0.0));
      }
      const double tolerance = act == LLMTS_BF16 ? 2e-2 : 1e-5;  // bf16 logits are rounded to 8 bits
      expect("losses", losses, expected, tolerance);
      expect("losses without gradients", alone, expected, tolerance);
      expect("dx", dx, product(N, C, V, matrix(logits, V), matrix(W, C)), 3 * tolerance);
      Values weights = product(
          Vp, C, N, [&](int64_t v, int64_t n) { return v < V ? logits[static_cast<size_t>(n * V + v)] : 0.0; },
          matrix(X, C));
      expect("dwte", dwte, plus(weights, 0.5), 3 * tolerance);
      expect("dwte stored", stored, weights, 5 * tolerance);  // smaller than with 0.5 in it
    }
  }
}

}  // namespace

std::vector<Case> product_cases() { return {{"matmul", matmul}, {"classifier", classifier}}; }

}  // namespace checks
