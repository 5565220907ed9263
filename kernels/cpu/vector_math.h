// Functions of one float, or of each float of a vector (F), written without branches, so that a loop over them becomes
// vector code (#pragma omp simd). Errors are the largest found by trying every float against double precision.
#ifndef LLMTS_CPU_VECTOR_MATH_H
#define LLMTS_CPU_VECTOR_MATH_H

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace llmts {

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// e^x: 2^n · e^r with n = round(x / ln 2), ln 2 in two parts (Cody and Waite) and Cephes' polynomial for e^r.
// Error below 1.1 ulp. Below -87.3 it is 0 (no denormals), above 88.37 the largest value it reaches; NaN stays NaN.
template <class F>
inline F exp_fast(F x) {
  using Int = std::conditional_t<std::is_same_v<F, float>, int32_t, decltype(F() < F())>;
  // Adding 1.5 · 2^23 rounds to an integer, in the lowest bits; 127 more, and they are the exponent of 2^n.
  constexpr float kLowest = -87.3f, kHighest = 88.37f, kLog2e = 1.44269504f, kLn2High = 0.693359375f,
                  kLn2Low = -2.12194440e-4f, kRound = 12582912.0f + 127.0f;
  F y = x < kLowest ? kLowest : x;
  y = y > kHighest ? kHighest : y;
  const F shifted = y * kLog2e + kRound;
  const F n = shifted - kRound;
  const F r = (y - n * kLn2High) - n * kLn2Low;
  F p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const F power = bit_cast<F>(bit_cast<Int>(shifted) << 23);
  return x < kLowest ? 0.0f : p * power;
}

// GELU in its tanh form, x/2 · (1 + tanh u) = x · s with s = 1 / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x³)
// (Hendrycks and Gimpel 2016). Through the sigmoid s nothing cancels for large negative x. Below -16 it is
// nearer to 0 than 1e-37; clamping there keeps x³ finite.
constexpr float kGeluScale = 0.7978845608f, kGeluCubic = 0.044715f;

template <class F>
inline F gelu(F x) {
  const F y = x < -16.0f ? -16.0f : x;
  const F u = kGeluScale * (y + kGeluCubic * y * y * y);
  return y / (1.0f + exp_fast(-2.0f * u));
}

// gelu'(x) = s + x · s · (1 - s) · 2 u'. Beyond ±16 it is 1 or 0 to the last bit; clamping there keeps x² finite.
template <class F>
inline F gelu_derivative(F x) {
  F y = x > 16.0f ? 16.0f : x;
  y = y < -16.0f ? -16.0f : y;
  const F square = y * y;
  const F u = kGeluScale * (y + kGeluCubic * y * square);
  const F slope = kGeluScale * (1.0f + 3.0f * kGeluCubic * square);
  const F e = exp_fast(-2.0f * u);
  const F s = 1.0f / (1.0f + e);
  return s + y * (2.0f * slope) * s * (e * s);
}

}  // namespace llmts

#endif
