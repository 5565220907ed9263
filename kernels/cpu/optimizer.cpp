// Gradient norm and AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101):
//   g = grads · grad_scale;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²
//   params = params (1 - learning_rate · weight_decay) - learning_rate · mhat / (sqrt(vhat) + eps)
//   mhat = m / (1 - beta1^step);  vhat = v / (1 - beta2^step)
// One pass over params, grads, m and v: the step is bound by memory. bf16 params are rounded in that pass, block by
// block.
#include <cinttypes>
#include <cmath>

#include "common/adamw.h"
#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

using namespace llmts;

namespace {

constexpr int64_t kGrain = 16384;      // elements worth waking a thread for
constexpr int64_t kNormChunk = 65536;  // gradients summed at a time: the order of the sums depends on nothing else
constexpr int64_t kBlock = 1024;       // parameters that stay in the first-level cache

double sum_of_squares(const float *grads, int64_t begin, int64_t end) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = begin; i < end; ++i) sum += static_cast<double>(grads[i]) * static_cast<double>(grads[i]);
  return sum;
}

void update(float *params, const float *grads, float *m, float *v, const AdamWStep &s, float keep, int64_t begin,
            int64_t end) {
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const float g = grads[i] * s.grad_scale;
    const float mean = s.beta1 * m[i] + s.one_minus_beta1 * g;
    const float square = s.beta2 * v[i] + s.one_minus_beta2 * g * g;
    m[i] = mean;
    v[i] = square;
    params[i] = params[i] * keep - s.rate * mean / (std::sqrt(square) * s.root_correction2 + s.eps);
  }
}

// Uniform bits from a number: splitmix64 (Steele, Lea and Flood 2014).
uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Rounds up or down with probabilities that keep the mean: 16 random bits are added below bf16's last, then cut off.
Bf16 rounded_stochastically(float value, uint64_t random) {
  if (!std::isfinite(value)) return narrowed(value);
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return {static_cast<uint16_t>((bits + (random & 0xffff)) >> 16)};
}

// to (n) = from, n at most kBlock, past the caches where whole lines can be written: an ordinary store reads a line
// first, which nobody needs. Others see it after fence(). Two threads take 8 % less time for AdamW.
void narrow_past_caches(Bf16 *to, const float *from, int64_t n) {
#ifdef __AVX512F__
  constexpr int64_t kAtOnce = sizeof(__m512i) / sizeof(Bf16);
  const int64_t misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) / sizeof(Bf16)) % kAtOnce;
  const int64_t before = std::min(n, (kAtOnce - misaligned) % kAtOnce), whole = (n - before) / kAtOnce * kAtOnce;
  alignas(__m512i) Bf16 narrow[kBlock];
  convert(to, from, before);
  convert(narrow, from + before, whole);
  for (int64_t i = 0; i < whole; i += kAtOnce)
    _mm512_stream_si512(reinterpret_cast<__m512i *>(to + before + i), *reinterpret_cast<const __m512i *>(narrow + i));
  convert(to + before + whole, from + before + whole, n - before - whole);
#else
  convert(to, from, n);
#endif
}

void fence() {
#ifdef __AVX512F__
  _mm_sfence();
#endif
}

// As update(), for bf16 params: of `master` the elements, or, where it is null, of params themselves. key is that of
// the random bits of this step.
void update_bf16(Bf16 *params, float *master, const float *grads, float *m, float *v, const AdamWStep &s, float keep,
                 uint64_t key, int64_t begin, int64_t end) {
  float wide[kBlock];
  for (int64_t first = begin; first < end; first += kBlock) {
    const int64_t count = std::min(kBlock, end - first);
    if (master != nullptr) {
      update(master, grads, m, v, s, keep, first, first + count);
      narrow_past_caches(params + first, master + first, count);
      continue;
    }
    convert(wide, params + first, count);
    update(wide, grads + first, m + first, v + first, s, keep, 0, count);
    for (int64_t i = 0; i < count; ++i)
      params[first + i] = rounded_stochastically(wide[i], mixed(key + static_cast<uint64_t>(first + i)));
  }
  fence();
}

}  // namespace

int32_t llmts_global_norm(double *norm, const float *grads, int64_t n) {
  return guarded("global_norm", {{"n", n, Dim::Limit}}, [&] {
    tensor("norm", norm, {1});
    if (n > 0) tensor("grads", grads, {n});
    const int64_t chunks = n / kNormChunk + (n % kNormChunk != 0);
    const Scratch<double> sums({chunks});
    parallel_slices(chunks, 1, threads_for(n, kGrain), [&](int64_t begin, int64_t end) {
      for (int64_t chunk = begin; chunk < end; ++chunk)
        sums.data()[chunk] = sum_of_squares(grads, chunk * kNormChunk, std::min(n, (chunk + 1) * kNormChunk));
    });
    double total = 0.0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += sums.data()[chunk];
    *norm = std::sqrt(total);
  });
}

int32_t llmts_adamw(void *params, int32_t params_dtype, float *master, const float *grads, float *m, float *v,
                    const int64_t *segments, int64_t S, int64_t n, float learning_rate, float beta1, float beta2,
                    float eps, float weight_decay, float grad_scale, int64_t step, int64_t seed) {
  return guarded("adamw", {{"S", S}, {"n", n}, {"step", step, Dim::Limit}}, [&] {
    check_dtype("params", params_dtype);
    const bool is_bf16 = params_dtype == LLMTS_BF16;
    check_tensor("params", params, is_bf16 ? sizeof(Bf16) : sizeof(float), {n});
    if (master != nullptr && !is_bf16)
      fail(LLMTS_INVALID_ARGUMENT, "'master' is not null, but params are fp32 themselves");
    optional_tensor("master", master, Shape{n});
    tensor("grads", grads, {n});
    tensor("m", m, {n});
    tensor("v", v, {n});
    tensor("segments", segments, {S, 3});
    const AdamWStep constants = adamw_step(learning_rate, beta1, beta2, eps, weight_decay, grad_scale, step);
    double elements = 0.0;
    for (int64_t index = 0; index < S; ++index) elements += static_cast<double>(segment_at(segments, index, n).count);
    const uint64_t key = mixed(mixed(static_cast<uint64_t>(seed)) + static_cast<uint64_t>(step));
    parallel(threads_for(elements, kGrain), [&](int part, int parts) {
      for (int64_t index = 0; index < S; ++index) {
        const Segment segment = segment_at(segments, index, n);
        const Range range = slice(segment.count, part, parts, 16);
        const float keep = segment.decays ? constants.decayed : 1.0f;
        const int64_t begin = segment.first + range.begin, end = segment.first + range.end;
        if (is_bf16)
          update_bf16(static_cast<Bf16 *>(params), master, grads, m, v, constants, keep, key, begin, end);
        else
          update(static_cast<float *>(params), grads, m, v, constants, keep, begin, end);
      }
    });
  });
}
