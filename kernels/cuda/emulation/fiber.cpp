#include "cuda/emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

#ifdef LLMTS_EMULATION_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef LLMTS_EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace emulation {

namespace {
// Kernels keep little on the stack; sanitizers put red zones around it.
#ifdef LLMTS_EMULATION_ASAN
constexpr size_t kStackBytes = 256 << 10;
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
}  // namespace

// Saves the registers that a call preserves on the stack, stores the stack pointer in *from, and goes on at `to`. The
// rounding mode and the other control registers are nobody's to change here.
extern "C" void llmts_emulation_switch(void **from, void *to);

#if defined(__x86_64__)
constexpr size_t kSavedWords = 6;  // below the return address
asm(R"(
  .text
  .hidden llmts_emulation_switch
  .globl llmts_emulation_switch
  .type llmts_emulation_switch, @function
llmts_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size llmts_emulation_switch, . - llmts_emulation_switch
)");

static void *first_frame(char *top, void (*entry)()) {
  // At entry the stack is 8 short of a multiple of 16, as after a call; the word there is the caller that never was.
  void **frame = reinterpret_cast<void **>(top) - 2;
  frame[0] = reinterpret_cast<void *>(entry);
  frame[1] = nullptr;
  std::memset(frame - kSavedWords, 0, kSavedWords * sizeof *frame);
  return frame - kSavedWords;
}

#elif defined(__aarch64__)
constexpr size_t kSavedWords = 20;  // x19 … x30, d8 … d15
asm(R"(
  .text
  .hidden llmts_emulation_switch
  .globl llmts_emulation_switch
  .type llmts_emulation_switch, %function
llmts_emulation_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
  .size llmts_emulation_switch, . - llmts_emulation_switch
)");

static void *first_frame(char *top, void (*entry)()) {
  void **frame = reinterpret_cast<void **>(top) - kSavedWords;
  std::memset(frame, 0, kSavedWords * sizeof *frame);
  frame[11] = reinterpret_cast<void *>(entry);  // x30: where the switch returns to
  return frame;
}

#else
// Slower, but everywhere: a fiber's stack pointer is its ucontext_t.
extern "C" void llmts_emulation_switch(void **from, void *to) {
  ucontext_t here;
  *from = &here;
  swapcontext(&here, static_cast<ucontext_t *>(to));
}
#endif

void Fiber::arrived() {
#ifdef LLMTS_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

void Fiber::adopt_this_thread() {
#ifdef LLMTS_EMULATION_ASAN
  pthread_attr_t attributes;
  void *stack = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &stack, &stack_bytes_);
    pthread_attr_destroy(&attributes);
  }
  stack_ = static_cast<char *>(stack);
#endif
#ifdef LLMTS_EMULATION_TSAN
  thread_ = __tsan_get_current_fiber();
#endif
}

void Fiber::prepare(void (*entry)()) {
  if (stack_ == nullptr) {
    // A page below the stack faults when it overflows.
    const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void *const memory =
        mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
      std::perror("emulation: no memory for the stack of a thread");
      std::abort();
    }
    stack_ = static_cast<char *>(memory) + guard;
    stack_bytes_ = kStackBytes;
#ifdef LLMTS_EMULATION_TSAN
    thread_ = __tsan_create_fiber(0);
#endif
  }
#ifdef LLMTS_EMULATION_ASAN
  __asan_unpoison_memory_region(stack_, stack_bytes_);  // what an abandoned block left
#endif
#if defined(__x86_64__) || defined(__aarch64__)
  stack_pointer_ = first_frame(stack_ + stack_bytes_, entry);
#else
  ucontext_t *const context = reinterpret_cast<ucontext_t *>(stack_);
  getcontext(context);
  context->uc_stack.ss_sp = stack_ + sizeof *context;
  context->uc_stack.ss_size = stack_bytes_ - sizeof *context;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  stack_pointer_ = context;
#endif
}

void Fiber::switch_to(Fiber &to) {
#ifdef LLMTS_EMULATION_ASAN
  void *fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, to.stack_, to.stack_bytes_);
#endif
#ifdef LLMTS_EMULATION_TSAN
  __tsan_switch_to_fiber(to.thread_, __tsan_switch_to_fiber_no_sync);
#endif
  llmts_emulation_switch(&stack_pointer_, to.stack_pointer_);
#ifdef LLMTS_EMULATION_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

}  // namespace emulation
