// A thread of control with a stack of its own, on one OS thread; tells AddressSanitizer and ThreadSanitizer where they
// are compiled in (LLMTS_EMULATION_ASAN, LLMTS_EMULATION_TSAN), though this code itself is built without them: they
// cannot follow a stack that changes under an instrumented function.
#ifndef LLMTS_CUDA_EMULATION_FIBER_H
#define LLMTS_CUDA_EMULATION_FIBER_H

#include <cstddef>

namespace emulation {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber &) = delete;
  Fiber &operator=(const Fiber &) = delete;

  // For the OS thread that runs now; it needs no stack.
  void adopt_this_thread();

  // Will call entry(), which must not return, when first switched to. Forgets what it did before.
  void prepare(void (*entry)());

  // Continues `to` until something switches back to this one.
  void switch_to(Fiber &to);

  // ThreadSanitizer's idea of this thread.
  void *thread() const { return thread_; }

  // To be called first in entry(): the switch that led there is complete.
  static void arrived();

 private:
  void *stack_pointer_ = nullptr;
  char *stack_ = nullptr;
  void *thread_ = nullptr;
  size_t stack_bytes_ = 0;
};

}  // namespace emulation

#endif
