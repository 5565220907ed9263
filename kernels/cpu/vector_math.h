// Functions of one float written without branches, so that a loop over them becomes vector code (#pragma omp simd).
// Errors are the largest found by trying every float against double precision.
#ifndef LLMTS_CPU_VECTOR_MATH_H
#define LLMTS_CPU_VECTOR_MATH_H

#include <cstdint>
#include <cstring>

namespace llmts {

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// e^x: 2^n · e^r with n = round(x / ln 2), ln 2 in two parts (Cody and Waite) and Cephes' polynomial for e^r.
// Error below 1.1 ulp. Below -87.3 it is 0 (no denormals), above 88.7 the largest value it reaches; NaN stays NaN.
inline float exp_fast(float x) {
  constexpr float kLowest = -87.3f, kHighest = 88.7f, kLog2e = 1.44269504f, kLn2High = 0.693359375f,
                  kLn2Low = -2.12194440e-4f, kRound = 12582912.0f;  // adding 1.5 · 2^23 rounds to an integer
  float y = x < kLowest ? kLowest : x;
  y = y > kHighest ? kHighest : y;
  const float shifted = y * kLog2e + kRound;
  const float n = shifted - kRound;
  const float r = (y - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const int32_t exponent = (bit_cast<int32_t>(shifted) - bit_cast<int32_t>(kRound)) * (1 << 23);
  const float scaled = bit_cast<float>(bit_cast<int32_t>(p) + exponent);
  return x < kLowest ? 0.0f : x == x ? scaled : x;
}

// GELU in its tanh form, x/2 · (1 + tanh u) = x · s with s = 1 / (1 + e^(-2u)), u = sqrt(2/pi) (x + 0.044715 x³)
// (Hendrycks and Gimpel 2016). Through the sigmoid s nothing cancels for large negative x.
constexpr float kGeluScale = 0.7978845608f, kGeluCubic = 0.044715f;

inline float gelu(float x) {
  const float u = kGeluScale * (x + kGeluCubic * x * x * x);
  return x / (1.0f + exp_fast(-2.0f * u));
}

// gelu'(x) = s + x · s · (1 - s) · 2 u'. Beyond ±16 it is 1 or 0 to the last bit; clamping there keeps x² finite.
inline float gelu_derivative(float x) {
  float y = x > 16.0f ? 16.0f : x;
  y = y < -16.0f ? -16.0f : y;
  const float square = y * y;
  const float u = kGeluScale * (y + kGeluCubic * y * square);
  const float slope = kGeluScale * (1.0f + 3.0f * kGeluCubic * square);
  const float e = exp_fast(-2.0f * u);
  const float s = 1.0f / (1.0f + e);
  return s + y * (2.0f * slope) * s * (e * s);
}

}  // namespace llmts

#endif
