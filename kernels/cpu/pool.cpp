// The pool of threads behind parallel(). Any thread may do any part, and the caller does those that nobody has begun:
// where other programs keep the processors busy, it need not wait for a thread of its own to be scheduled. Threads
// that run out of work look out for more for a while, since a step is a quick succession of calls, and then sleep.
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "cpu/threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace llmts {

namespace {

constexpr auto kLookout = std::chrono::microseconds(100);

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Waits until ready() is true, at most kLookout; whether it is.
template <class Ready>
bool look_out(Ready &&ready) {
  const auto end = std::chrono::steady_clock::now() + kLookout;
  do {
    for (int i = 0; i < 64; ++i) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

// The state of the job at hand in one word, so that a thread that comes late can't take a part of the next job for one
// of the last: its number, how many parts it has, and the next part that nobody has begun. Aligned as a word is, else
// Clang calls libatomic, which is not linked.
struct alignas(8) State {
  uint32_t job;
  uint16_t parts, next;
};
static_assert(std::atomic<State>::is_always_lock_free, "one word");

class Pool {
 public:
  void run(int parts, void (*call)(void *, int), void *context) {
    std::unique_lock<std::mutex> lock(running_, std::defer_lock);
    // A call from inside a part, or beside another thread's: the parts are the same when done one after the other.
    if (inside_ || !lock.try_lock()) {
      for (int part = 0; part < parts; ++part) call(context, part);
      return;
    }
    start_threads(parts - 1);
    call_ = call;
    context_ = context;
    unfinished_.store(parts);
    state_.store({state_.load().job + 1, static_cast<uint16_t>(parts), 0});
    if (sleepers_.load() > 0) {
      { const std::lock_guard<std::mutex> sleeping(mutex_); }
      work_.notify_all();
    }
    take_parts();
    const auto finished = [&] { return unfinished_.load() == 0; };
    if (look_out(finished)) return;
    std::unique_lock<std::mutex> waiting(mutex_);
    done_.wait(waiting, finished);
  }

 private:
  // Threads that can't be had are done without.
  void start_threads(int wanted) {
    if (threads_ >= wanted) return;
    // Signals are the host program's business, on its own threads.
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    try {
      for (; threads_ < wanted; ++threads_) std::thread([this] { work(); }).detach();
    } catch (const std::exception &) {  // no thread, or no memory for one
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void take_parts() {
    inside_ = true;
    State state = state_.load();
    while (state.next < state.parts) {
      const State taken = {state.job, state.parts, static_cast<uint16_t>(state.next + 1)};
      if (!state_.compare_exchange_weak(state, taken)) continue;
      call_(context_, state.next);
      if (unfinished_.fetch_sub(1) == 1) {
        { const std::lock_guard<std::mutex> waiting(mutex_); }
        done_.notify_one();
      }
      state = state_.load();
    }
    inside_ = false;
  }

  [[noreturn]] void work() {
    const auto available = [this] {
      const State state = state_.load();
      return state.next < state.parts;
    };
    for (;;) {
      if (!look_out(available)) {
        std::unique_lock<std::mutex> sleeping(mutex_);
        ++sleepers_;
        work_.wait(sleeping, available);
        --sleepers_;
      }
      take_parts();
    }
  }

  static thread_local bool inside_;
  std::mutex running_, mutex_;
  std::condition_variable work_, done_;
  int threads_ = 0;
  void (*call_)(void *, int) = nullptr;
  void *context_ = nullptr;
  std::atomic<State> state_{State{0, 0, 0}};
  std::atomic<int> unfinished_{0}, sleepers_{0};
};

thread_local bool Pool::inside_ = false;

}  // namespace

void run_parts(int parts, void (*call)(void *context, int part), void *context) {
  static Pool *const pool = new Pool;  // never destroyed: its threads live until the process ends
  pool->run(parts, call, context);
}

}  // namespace llmts
