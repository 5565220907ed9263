// What this machine can do at most: prints one JSON object of samples, with one thread and with all of them,
//   {"threads": 2, "fma_fp32": {"one": [...], "all": [...]}, "amx_bf16": null, ...}
// Arithmetic in GFLOP/s (int8: 10⁹ operations/s), memory in GB/s, what is not there null. A multiplication and an
// addition are two operations; a copy and an update in place count both ways.
//
//   peaks THREADS MILLISECONDS       each sample takes about so long
//
// Arithmetic happens in registers only: as many independent sums as hide the latency. Compiled for the processor that
// runs it, with its widest vectors.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __x86_64__
#include <immintrin.h>
#endif
#ifdef __AMX_BF16__
#include "cpu/amx.h"
#endif

namespace {

// The two halves of a thread's share of memory; none for arithmetic.
struct Buffers {
  char *from, *to;
  int64_t bytes;
};

using Run = void (*)(int64_t rounds, const Buffers &buffers);

struct Kernel {
  const char *name;
  Run run;      // null where this machine does not have it
  double work;  // operations or bytes of a round; of a round over memory, in units of the buffer
  bool memory;
};

// Latency 4, two a cycle, is 8; twelve still leave registers for the factors where there are 16.
constexpr int kSums = 12;
constexpr int kSamples = 5;

volatile float g_sink;
volatile float g_half = 0.5f;  // x ← x/2 + 1/2 stays 1: neither overflows nor becomes denormal

#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
using Floats = float __attribute__((vector_size(kVectorBytes)));
using Words = uint64_t __attribute__((vector_size(kVectorBytes), may_alias));

void fma_fp32(int64_t rounds, const Buffers &) {
  const Floats factor = Floats{} + g_half;
  Floats sums[kSums];
  for (Floats &sum : sums) sum = factor + factor;
  for (int64_t round = 0; round < rounds; ++round) {
    for (Floats &sum : sums) sum = sum * factor + factor;
  }
  for (const Floats &sum : sums) g_sink = sum[0];
}

#ifdef __AVX512BF16__
void dot_bf16(int64_t rounds, const Buffers &) {
  const __m512i bits = _mm512_set1_epi32(g_half == 0.5f ? 0x3f003f00 : 0);  // pairs of 0.5
  __m512bh factor;
  std::memcpy(&factor, &bits, sizeof factor);
  __m512 sums[kSums];
  for (__m512 &sum : sums) sum = _mm512_set1_ps(1);
  for (int64_t round = 0; round < rounds; ++round) {
    for (__m512 &sum : sums) sum = _mm512_dpbf16_ps(sum, factor, factor);
  }
  for (const __m512 &sum : sums) g_sink = sum[0];
}
#endif

#ifdef __AVX512VNNI__
void dot_int8(int64_t rounds, const Buffers &) {
  const __m512i factor = _mm512_set1_epi32(g_half == 0.5f ? 0x01010101 : 0);
  __m512i sums[kSums];
  for (__m512i &sum : sums) sum = _mm512_setzero_si512();
  for (int64_t round = 0; round < rounds; ++round) {
    for (__m512i &sum : sums) sum = _mm512_dpbusd_epi32(sum, factor, factor);
  }
  for (const __m512i &sum : sums) g_sink = static_cast<float>(sum[0]);
}
#endif

#ifdef __AMX_BF16__
void amx_bf16(int64_t rounds, const Buffers &) {
  namespace amx = llmts::amx;
  const amx::Configuration configuration;
  const std::vector<uint16_t> ones(amx::kRows * amx::kRowBytes / sizeof(uint16_t), 0x3f80);
  const float *const pairs = reinterpret_cast<const float *>(ones.data());
  constexpr int64_t kStride = amx::kRowBytes / sizeof(float);
  amx::zero<0>();
  amx::zero<1>();
  amx::zero<2>();
  amx::zero<3>();
  amx::load<4>(pairs, kStride);
  amx::load<5>(pairs, kStride);
  amx::load<6>(pairs, kStride);
  amx::load<7>(pairs, kStride);
  for (int64_t round = 0; round < rounds; ++round) {
    amx::dot<0, 4, 6>();
    amx::dot<1, 4, 7>();
    amx::dot<2, 5, 6>();
    amx::dot<3, 5, 7>();
  }
}

#endif

void read_memory(int64_t rounds, const Buffers &buffers) {
  const Words *words = reinterpret_cast<const Words *>(buffers.from);
  const int64_t count = buffers.bytes / static_cast<int64_t>(sizeof(Words));
  Words sums[4] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t i = 0; i + 4 <= count; i += 4) {
      for (int k = 0; k < 4; ++k) sums[k] += words[i + k];
    }
  }
  for (const Words &sum : sums) g_sink = static_cast<float>(sum[0]);
}

void write_memory(int64_t rounds, const Buffers &buffers) {
  for (int64_t round = 0; round < rounds; ++round) {
    std::memset(buffers.to, static_cast<int>(round), static_cast<size_t>(buffers.bytes));
    __asm__ volatile("" : : "r"(buffers.to) : "memory");
  }
}

void copy_memory(int64_t rounds, const Buffers &buffers) {
  for (int64_t round = 0; round < rounds; ++round) {
#ifdef __x86_64__  // past the caches: an ordinary store reads the line first
    for (int64_t i = 0; i < buffers.bytes; i += 16) {
      const __m128i value = _mm_load_si128(reinterpret_cast<const __m128i *>(buffers.from + i));
      _mm_stream_si128(reinterpret_cast<__m128i *>(buffers.to + i), value);
    }
    _mm_sfence();
#else
    std::memcpy(buffers.to, buffers.from, static_cast<size_t>(buffers.bytes));
    __asm__ volatile("" : : "r"(buffers.to) : "memory");
#endif
  }
}

// As an optimizer does: reads and writes the same lines.
void update_memory(int64_t rounds, const Buffers &buffers) {
  Words *words = reinterpret_cast<Words *>(buffers.to);
  const int64_t count = buffers.bytes / static_cast<int64_t>(sizeof(Words));
  for (int64_t round = 0; round < rounds; ++round) {
    for (int64_t i = 0; i < count; ++i) words[i] += 1;
  }
}

std::vector<Kernel> kernels() {
  Run bf16 = nullptr, amx = nullptr, int8 = nullptr;
#ifdef __AVX512BF16__
  bf16 = dot_bf16;
#endif
#ifdef __AMX_BF16__
  if (llmts::amx::permitted()) amx = amx_bf16;
#endif
#ifdef __AVX512VNNI__
  int8 = dot_int8;
#endif
  constexpr double kLanes = kVectorBytes / sizeof(float);
  return {{"fma_fp32", fma_fp32, 2 * kLanes * kSums, false},
          {"dot_bf16", bf16, 2 * 32.0 * kSums, false},
          {"amx_bf16", amx, 4 * 2 * 16.0 * 16 * 32, false},
          {"dot_int8", int8, 2 * 64.0 * kSums, false},
          {"read", read_memory, 1, true},
          {"write", write_memory, 1, true},
          {"copy", copy_memory, 2, true},
          {"update", update_memory, 2, true}};
}

// Memory beyond every cache, in huge pages where there are any, touched first by the calling thread.
char *allocate(int64_t bytes) {
  constexpr size_t kHugePage = size_t{2} << 20;
  void *memory = std::aligned_alloc(kHugePage, static_cast<size_t>(bytes));
  if (memory == nullptr) {
    std::fprintf(stderr, "peaks: %lld bytes of memory can't be had\n", static_cast<long long>(bytes));
    std::exit(1);
  }
#ifdef __linux__
  madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  std::memset(memory, 1, static_cast<size_t>(bytes));
  return static_cast<char *>(memory);
}

using Clock = std::chrono::steady_clock;

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Rates of `threads` threads that begin together: their work over the time until the last is done.
std::vector<double> measure(const Kernel &kernel, int threads, double sample_seconds) {
  constexpr int64_t kSlice = int64_t{32} << 20, kLeast = int64_t{512} << 20;
  const int64_t slices = std::max<int64_t>(1, kLeast / kSlice / threads);
  std::vector<double> took(static_cast<size_t>(kSamples * threads));
  std::atomic<int> arrived{0};
  std::atomic<int64_t> rounds{0};
  const auto body = [&](int thread) {
    Buffers buffers = {nullptr, nullptr, 0};
    if (kernel.memory) buffers = {allocate(slices * kSlice), allocate(slices * kSlice), slices * kSlice};
    int64_t mine = 1;  // rounds that take long enough
    for (double once = 0; once < sample_seconds / 4; mine *= 2) {
      const auto begin = Clock::now();
      kernel.run(mine, buffers);
      once = seconds(begin, Clock::now());
    }
    if (thread == 0) rounds = mine;
    for (int sample = 0; sample < kSamples; ++sample) {
      ++arrived;
      while (arrived < threads * (sample + 1)) std::this_thread::yield();
      const auto begin = Clock::now();
      kernel.run(rounds, buffers);
      took[static_cast<size_t>(sample * threads + thread)] = seconds(begin, Clock::now());
    }
    std::free(buffers.from);
    std::free(buffers.to);
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(body, thread);
  body(0);
  for (std::thread &other : others) other.join();

  const double bytes = kernel.memory ? static_cast<double>(slices * kSlice) : 1;
  std::vector<double> rates;
  for (int sample = 0; sample < kSamples; ++sample) {
    double longest = 0;
    for (int thread = 0; thread < threads; ++thread) {
      longest = std::max(longest, took[static_cast<size_t>(sample * threads + thread)]);
    }
    rates.push_back(kernel.work * bytes * static_cast<double>(rounds.load()) * threads / longest / 1e9);
  }
  return rates;
}

void print(const char *name, const std::vector<double> &rates, const char *after) {
  std::printf("\"%s\": [", name);
  for (size_t i = 0; i < rates.size(); ++i) std::printf("%s%.2f", i == 0 ? "" : ", ", rates[i]);
  std::printf("]%s", after);
}

}  // namespace

int main(int count, char **arguments) {
  const int threads = count == 3 ? std::atoi(arguments[1]) : 0;
  const int milliseconds = count == 3 ? std::atoi(arguments[2]) : 0;
  if (threads < 1 || milliseconds < 1) {
    std::fprintf(stderr, "usage: peaks THREADS MILLISECONDS\n");
    return 2;
  }
  std::printf("{\"threads\": %d", threads);
  for (const Kernel &kernel : kernels()) {
    std::printf(", \"%s\": ", kernel.name);
    if (kernel.run == nullptr) {
      std::printf("null");
      continue;
    }
    std::printf("{");
    print("one", measure(kernel, 1, milliseconds / 1e3), ", ");
    print("all", measure(kernel, threads, milliseconds / 1e3), "}");
  }
  std::printf("}\n");
}
