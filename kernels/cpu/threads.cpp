#include "cpu/threads.h"

#include <atomic>

#include "cpu/cpu_info.h"

#ifdef __linux__
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace llmts {

namespace {
std::atomic<int> g_threads{0};
}

int thread_count() {
  const int chosen = g_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return chosen;
  static const int processors = usable_processors();
  return processors;
}

void set_thread_count(int threads) noexcept { g_threads.store(threads, std::memory_order_relaxed); }

int threads_for(double work, double grain) {
  return static_cast<int>(std::clamp<double>(work / grain, 1, thread_count()));
}

void advise_huge_pages(void *data, int64_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  if (bytes < static_cast<int64_t>(2 * kHugePage)) return;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) & ~(kHugePage - 1);
  // A hint: where it is refused, ordinary pages do.
  if (begin < end) madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

#if defined(__x86_64__)
FlushDenormals::FlushDenormals() noexcept : saved_(_mm_getcsr()) {
  constexpr uint32_t kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  _mm_setcsr(static_cast<uint32_t>(saved_) | kFlushToZero | kDenormalsAreZero);
}
FlushDenormals::~FlushDenormals() { _mm_setcsr(static_cast<uint32_t>(saved_)); }
#elif defined(__aarch64__)
FlushDenormals::FlushDenormals() noexcept {
  constexpr uint64_t kFlushToZero = uint64_t{1} << 24;
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
  __asm__ volatile("msr fpcr, %0" : : "r"(saved_ | kFlushToZero));
}
FlushDenormals::~FlushDenormals() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
FlushDenormals::FlushDenormals() noexcept : saved_(0) {}
FlushDenormals::~FlushDenormals() {}
#endif

}  // namespace llmts
