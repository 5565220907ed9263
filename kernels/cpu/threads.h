// Work shared among threads in fixed parts: the same number of threads always gives the same bits.
#ifndef LLMTS_CPU_THREADS_H
#define LLMTS_CPU_THREADS_H

#include <algorithm>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <vector>

namespace llmts {

constexpr int kMaxThreads = 1024;

// The number of threads kernels use, and how to set it (0: the default).
int thread_count();
void set_thread_count(int threads) noexcept;

// How many threads `work` is worth, each of them getting at least `grain` of it: waking one costs some microseconds. A
// count of operations may be beyond 64 bits where the sizes are not: hence double.
int threads_for(double work, double grain);

// Asks for huge pages on the aligned inside of the range, where the system has them and the range is large.
void advise_huge_pages(void *data, int64_t bytes);

// Results below the smallest normal number become zero while this lives: a thread that meets denormals runs an
// optimizer step 20 times slower. What the calling thread had set is put back.
class FlushDenormals {
 public:
  FlushDenormals() noexcept;
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals &) = delete;
  FlushDenormals &operator=(const FlushDenormals &) = delete;

 private:
  uint64_t saved_;
};

struct Range {
  int64_t begin, end;
};

// The part-th of `parts` nearly equal slices of [0, total), cut at multiples of `unit`.
inline Range slice(int64_t total, int64_t part, int64_t parts, int64_t unit = 1) {
  const int64_t units = total / unit + (total % unit != 0);
  const int64_t each = units / parts, more = units % parts;
  const int64_t begin = part * each + std::min(part, more);
  const int64_t end = begin + each + (part < more ? 1 : 0);
  return {std::min(total, begin * unit), std::min(total, end * unit)};
}

// Calls call(context, part) for each part in [0, parts), at most kMaxThreads, on the pool's threads and on this one,
// and returns when all are done. call throws nothing.
void run_parts(int parts, void (*call)(void *context, int part), void *context);

// Calls body(part, parts) for each part in [0, parts). The exception of the lowest part is thrown on.
template <class Body>
void parallel(int parts, Body &&body) {
  if (parts <= 1) {
    const FlushDenormals flush;
    body(0, 1);
    return;
  }
  struct Context {
    std::remove_reference_t<Body> *body;
    int parts;
    std::vector<std::exception_ptr> errors;
  } context = {&body, parts, std::vector<std::exception_ptr>(static_cast<size_t>(parts))};
  run_parts(
      parts,
      [](void *untyped, int part) {
        Context &shared = *static_cast<Context *>(untyped);
        const FlushDenormals flush;
        try {
          (*shared.body)(part, shared.parts);
        } catch (...) {
          shared.errors[static_cast<size_t>(part)] = std::current_exception();
        }
      },
      &context);
  for (const std::exception_ptr &error : context.errors) {
    if (error) std::rethrow_exception(error);
  }
}

// Calls body(begin, end) on slices of [0, total), cut at multiples of `unit`, one slice per thread.
template <class Body>
void parallel_slices(int64_t total, int64_t unit, int threads, Body &&body) {
  parallel(threads, [&](int part, int parts) {
    const Range range = slice(total, part, parts, unit);
    if (range.begin < range.end) body(range.begin, range.end);
  });
}

}  // namespace llmts

#endif
