// Embedding, layernorm, element-wise ops, norm and AdamW.
#include <cmath>

#include "checks.h"

namespace checks {

namespace {

const std::initializer_list<int64_t> kChannels = {1, 3, 8, 48, 65, 100, 768};

Tensor filled(int64_t count, double value) { return Tensor(LLMTS_FP32, Values(static_cast<size_t>(count), value)); }

void embedding() {
  for (const int64_t C : kChannels) {
    for (const Precisions p : kPrecisions) {
      const int64_t B = 3, T = 37, V = 23, maxT = 50, position = 9;
      Random random(1);
      const std::vector<int32_t> ids = random.ids(B * T, static_cast<int32_t>(V));
      const Ids tokens(ids);
      const Tensor wte = random.normal(p.weight, V * C), wpe = random.normal(p.weight, maxT * C);
      const Tensor dout = random.normal(p.activation, B * T * C);
      const Tensor out(p.activation, B * T * C), dwte = filled(V * C, 0.5), dwpe = filled(maxT * C, 0.5);
      const Tensor stored(LLMTS_FP32, maxT * C);
      succeeds(llmts_embedding_forward(out.data(), out.dtype(), tokens.data(), wte.data(), wte.dtype(), wpe.data(),
                                       wpe.dtype(), B, T, C, V, maxT, position));
      // dwte is added to either way.
      succeeds(llmts_embedding_backward(dwte.floats(), dwpe.floats(), dout.data(), dout.dtype(), tokens.data(), 1, B, T,
                                        C, V, maxT));
      succeeds(llmts_embedding_backward(dwte.floats(), stored.floats(), dout.data(), dout.dtype(), tokens.data(), 0, B,
                                        T, C, V, maxT));
      const Values W = wte.values(), P = wpe.values(), D = dout.values();
      Values expected(static_cast<size_t>(B * T * C)), token_sums(static_cast<size_t>(V * C)),
          position_sums(static_cast<size_t>(maxT * C));
      for (int64_t row = 0; row < B * T; ++row) {
        for (int64_t c = 0; c < C; ++c) {
          const int64_t token = ids[static_cast<size_t>(row)], t = row % T;
          const size_t i = static_cast<size_t>(row * C + c);
          expected[i] = W[static_cast<size_t>(token * C + c)] + P[static_cast<size_t>((position + t) * C + c)];
          token_sums[static_cast<size_t>(token * C + c)] += 2 * D[i];
          position_sums[static_cast<size_t>(t * C + c)] += D[i];
        }
      }
      expect("out", out, expected, 1e-6);
      expect("dwte", dwte, plus(token_sums, 0.5), 1e-5);
      expect("dwpe", dwpe, plus(position_sums, 0.5), 1e-5);
      expect("dwpe stored", stored, position_sums, 1e-5);
    }
  }
}

void bad_ids() {
  const int64_t B = 2, T = 40, C = 8, V = 7;
  std::vector<int32_t> ids(B * T, 1);
  ids[50] = 7;
  ids[51] = -1;
  ids[11] = 900;
  const Ids tokens(ids);
  Random random(2);
  const Tensor wte = random.normal(LLMTS_FP32, V * C), wpe = random.normal(LLMTS_FP32, T * C),
               out(LLMTS_FP32, B * T * C);
  succeeds(llmts_embedding_forward(out.data(), LLMTS_FP32, tokens.data(), wte.data(), LLMTS_FP32, wpe.data(),
                                   LLMTS_FP32, B, T, C, V, T, 0));
  fails(llmts_device_synchronize(), LLMTS_INVALID_ARGUMENT, "is outside the vocabulary of 7");
  succeeds(llmts_device_synchronize());  // reported once
  const Tensor losses(LLMTS_FP32, B * T);
  succeeds(llmts_classifier(losses.floats(), nullptr, 0, nullptr, out.data(), LLMTS_FP32, wte.data(), LLMTS_FP32,
                            tokens.data(), 1.0f, 0, B * T, C, V, V));
  fails(llmts_device_synchronize(), LLMTS_INVALID_ARGUMENT, "is neither -1 nor in the vocabulary of 7");
}

void layernorm() {
  for (const int64_t C : kChannels) {
    for (const Precisions p : kPrecisions) {
      const int64_t N = C > 100 ? 21 : 203;
      Random random(3);
      const Tensor a = random.normal(p.activation, N * C), b = random.normal(p.activation, N * C);
      const Tensor weight = random.normal(p.weight, C), bias = random.normal(p.weight, C);
      const Tensor dout = random.normal(p.activation, N * C), past = random.normal(p.activation, N * C);
      const Tensor dx_alone(p.activation, N * C), stored(LLMTS_FP32, C), shift_stored(LLMTS_FP32, C);
      const Tensor residual(p.activation, N * C), out(p.activation, N * C), plain(p.activation, N * C);
      const Tensor mean(LLMTS_FP32, N), rstd(LLMTS_FP32, N), dweight = filled(C, 0.5), dbias = filled(C, 0.5);
      const int32_t act = p.activation, par = p.weight;
      succeeds(llmts_residual_layernorm_forward(residual.data(), act, out.data(), act, mean.floats(), rstd.floats(),
                                                a.data(), act, b.data(), act, weight.data(), par, bias.data(), par, N,
                                                C));
      succeeds(llmts_layernorm_forward(plain.data(), act, nullptr, nullptr, residual.data(), act, weight.data(), par,
                                       bias.data(), par, N, C));
      const Values X = residual.values(), A = a.values(), B = b.values(), W = weight.values(), S = bias.values();
      const Values D = dout.values(), R = past.values();
      Values sums(A), y(A), dx(A), dw(static_cast<size_t>(C), 0.5), db(static_cast<size_t>(C), 0.5);
      for (size_t i = 0; i < sums.size(); ++i) sums[i] = A[i] + B[i];
      for (int64_t n = 0; n < N; ++n) {
        const size_t row = static_cast<size_t>(n * C), columns = static_cast<size_t>(C);
        double average = 0.0, variance = 0.0, first = 0.0, second = 0.0;
        for (size_t c = 0; c < columns; ++c) average += X[row + c] / static_cast<double>(C);
        for (size_t c = 0; c < columns; ++c) variance += std::pow(X[row + c] - average, 2) / static_cast<double>(C);
        const double inverse = 1.0 / std::sqrt(variance + 1e-5);
        for (size_t c = 0; c < columns; ++c) {
          const double xhat = (X[row + c] - average) * inverse;
          y[row + c] = xhat * W[c] + S[c];
          first += D[row + c] * W[c] / static_cast<double>(C);
          second += D[row + c] * W[c] * xhat / static_cast<double>(C);
          dw[c] += D[row + c] * xhat;
          db[c] += D[row + c];
        }
        for (size_t c = 0; c < columns; ++c) {
          const double xhat = (X[row + c] - average) * inverse;
          dx[row + c] = inverse * (D[row + c] * W[c] - first - xhat * second) + R[row + c];
        }
      }
      expect("residual", residual, sums, 1e-6);
      expect("out", out, y, 1e-4);
      expect("layernorm alone", plain, y, 1e-4);
      succeeds(llmts_layernorm_backward(dx_alone.data(), act, stored.floats(), shift_stored.floats(), dout.data(), act,
                                        past.data(), act, residual.data(), act, mean.floats(), rstd.floats(),
                                        weight.data(), par, 0, N, C));
      // dx takes the place of dresidual.
      succeeds(llmts_layernorm_backward(past.data(), act, dweight.floats(), dbias.floats(), dout.data(), act,
                                        past.data(), act, residual.data(), act, mean.floats(), rstd.floats(),
                                        weight.data(), par, 1, N, C));
      expect("dx", past, dx, C == 1 ? 1e-2 : 1e-4);
      expect("dweight", dweight, dw, 1e-4);
      expect("dbias", dbias, db, 1e-4);
      expect("dweight stored", stored, plus(dw, -0.5), 1e-4);
      expect("dbias stored", shift_stored, plus(db, -0.5), 1e-4);
    }
  }
}

void elementwise() {
  for (const int64_t n : {1, 7, 8, 255, 4096, 5003}) {
    for (const Precisions p : kPrecisions) {
      Random random(4);
      const Tensor x = random.normal(p.activation, n, 3.0), y = random.normal(p.weight, n);
      const Tensor activated(p.activation, n), gradient(p.activation, n), sum(p.weight, n), narrow(LLMTS_BF16, n);
      succeeds(llmts_convert(narrow.data(), LLMTS_BF16, y.data(), y.dtype(), n));
      expect("convert", narrow, y.values(), 0.0);
      succeeds(llmts_gelu_forward(activated.data(), activated.dtype(), x.data(), x.dtype(), n));
      succeeds(llmts_gelu_backward(gradient.data(), gradient.dtype(), y.data(), y.dtype(), x.data(), x.dtype(), n));
      succeeds(llmts_residual_forward(sum.data(), sum.dtype(), x.data(), x.dtype(), y.data(), y.dtype(), n));
      Values a = x.values(), d = y.values(), s = y.values();
      for (size_t i = 0; i < a.size(); ++i) {
        s[i] += a[i];
        d[i] *= gelu_derivative(a[i]);
        a[i] = gelu(a[i]);
      }
      expect("gelu", activated, a, 1e-5);
      expect("gelu backward", gradient, d, 1e-5);
      expect("residual", sum, s, 1e-6);
    }
  }
}

void optimizer() {
  const int64_t n = 40000;
  for (const int32_t dtype : {LLMTS_FP32, LLMTS_BF16}) {
    Random random(5);
    const Tensor start = random.normal(LLMTS_FP32, n), grads = random.normal(LLMTS_FP32, n);
    const Tensor master(LLMTS_FP32, start.values()), params(dtype, start.values());
    const Tensor m = filled(n, 0.0), v = filled(n, 0.0);
    const int64_t segments[] = {0, 1600, 1, 1601, 7, 0, 1616, 38000, 1};
    Values w = start.values(), mean(w.size()), square(w.size());
    const Values g = grads.values();
    const double rate = 1e-2, decay = 0.1, beta1 = 0.9, beta2 = 0.99, eps = 1e-8, scale = 0.5;
    float *const own = dtype == LLMTS_BF16 ? master.floats() : nullptr;
    for (int64_t step = 1; step <= 3; ++step) {
      succeeds(llmts_adamw(params.data(), dtype, own, grads.floats(), m.floats(), v.floats(), segments, 3, n,
                           static_cast<float>(rate), static_cast<float>(beta1), static_cast<float>(beta2),
                           static_cast<float>(eps), static_cast<float>(decay), static_cast<float>(scale), step, 0));
      for (int s = 0; s < 3; ++s) {
        for (int64_t k = segments[3 * s]; k < segments[3 * s] + segments[3 * s + 1]; ++k) {
          const size_t i = static_cast<size_t>(k);
          mean[i] = beta1 * mean[i] + (1 - beta1) * g[i] * scale;
          square[i] = beta2 * square[i] + (1 - beta2) * g[i] * scale * g[i] * scale;
          const double update =
              mean[i] / (1 - std::pow(beta1, step)) / (std::sqrt(square[i] / (1 - std::pow(beta2, step))) + eps);
          w[i] = w[i] * (1 - rate * decay * static_cast<double>(segments[3 * s + 2])) - rate * update;
        }
      }
    }
    expect("params", params, w, 1e-5);
    if (own != nullptr) expect("master", master, w, 1e-5);
    expect("m", m, mean, 1e-5);
    expect("v", v, square, 1e-5);
    double norm = 0.0, squares = 0.0;
    for (const double value : g) squares += value * value;
    succeeds(llmts_global_norm(&norm, grads.floats(), n));
    if (std::abs(norm - std::sqrt(squares)) > 1e-12 * norm) give_up("global_norm is " + std::to_string(norm));
  }
}

// Without a master copy, steps far below a bf16's spacing still move the parameters: by their size, on average.
void stochastic_rounding() {
  const int64_t n = 20000, steps = 8;
  const Tensor params(LLMTS_BF16, Values(n, 1.0)), grads = filled(n, 1.0), m = filled(n, 0.0), v = filled(n, 0.0);
  const int64_t segments[] = {0, n, 0};
  const double rate = 1e-4;  // a step is the rate; below 1 the spacing of bf16 is 2^-8
  for (int64_t step = 1; step <= steps; ++step)
    succeeds(llmts_adamw(params.data(), LLMTS_BF16, nullptr, grads.floats(), m.floats(), v.floats(), segments, 1, n,
                         static_cast<float>(rate), 0.9f, 0.99f, 1e-8f, 0.0f, 1.0f, step, 42));
  double mean = 0.0;
  int64_t between = 0;
  for (const double value : params.values()) {
    mean += value / static_cast<double>(n);
    between += value != 1.0;
  }
  const double expected = 1.0 - rate * static_cast<double>(steps), spacing = 1.0 / 256;
  // Four standard deviations of the mean of n that round up or down.
  if (std::abs(mean - expected) > 4 * spacing * 0.5 / std::sqrt(static_cast<double>(n)))
    give_up("the mean is " + std::to_string(mean) + ", expected " + std::to_string(expected));
  if (between == 0 || between == n) give_up("all elements were rounded alike");
}

}  // namespace

std::vector<Case> row_cases() {
  return {{"embedding", embedding},     {"bad ids", bad_ids},     {"layernorm", layernorm},
          {"elementwise", elementwise}, {"optimizer", optimizer}, {"stochastic rounding", stochastic_rounding}};
}

}  // namespace checks
