// The turns of a block's threads. A worker makes a fiber for each thread and keeps, for each warp, the lanes that can
// go on; which of them does, the seed decides:
//   0  forward: lowest warp, lowest lane     1  reverse     2  any, drawn at each turn
//   3  warps in an order drawn anew at each barrier, lanes forward or reverse
// Seeds from 4 on repeat these with other draws.
#include "cuda/emulation/worker.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifdef LLMTS_EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
static void release(void *token) { __tsan_release(token); }
static void acquire(void *token) { __tsan_acquire(token); }
#else
static void release(void *) {}
static void acquire(void *) {}
#endif

__thread uint3 threadIdx, blockIdx;
__thread dim3 blockDim(1, 1, 1), gridDim(1, 1, 1);

namespace emulation {

Worker &this_worker() {
  static thread_local Worker *worker = new Worker;
  return *worker;
}

void Worker::work(Launch &launch) {
  if (!adopted_) home_.adopt_this_thread();
  adopted_ = true;
  launch_ = &launch;
  blockDim = launch.block;
  gridDim = launch.grid;
  count_ = launch.block.x * launch.block.y * launch.block.z;
  while (threads_.size() < count_) threads_.push_back(std::make_unique<Thread>());
  for (unsigned i = 0; i < count_; ++i)
    threads_[i]->index = {i % launch.block.x, i / launch.block.x % launch.block.y, i / launch.block.x / launch.block.y};
  while (!launch.failed.load(std::memory_order_relaxed)) {
    const uint64_t index = launch.taken.fetch_add(1);
    if (index >= launch.blocks) break;
    run_block(launch.seed % 2 == 0 ? index : launch.blocks - 1 - index);
  }
  acquire(&end_token_);
}

void entry() {
  Fiber::arrived();
  this_worker().thread_main();
}

void Worker::run_block(uint64_t index) {
  const dim3 grid = launch_->grid;
  blockIdx = {static_cast<unsigned>(index % grid.x), static_cast<unsigned>(index / grid.x % grid.y),
              static_cast<unsigned>(index / grid.x / grid.y)};
  order_ = launch_->seed % 4;
  random_ = {launch_->seed * 0x2545f4914f6cdd1du + index};
  backward_ = order_ == 1 || (order_ == 3 && random_.below(2) == 1);
  warps_.assign((count_ + kWarp - 1) / kWarp, Warp());
  runnable_warps_ = 0;
  for (unsigned w = 0; w < warps_.size(); ++w) {
    const unsigned lanes = std::min(kWarp, count_ - w * kWarp);
    warps_[w].lanes = warps_[w].runnable = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    runnable_warps_ |= 1u << w;
  }
  finished_ = at_barrier_ = 0;
  draw_priorities();
  if (launch_->shared_bytes > 0)
    shared_.push_back({nullptr, allocate_shared(launch_->shared_bytes), launch_->shared_bytes});
  for (unsigned i = 0; i < count_; ++i) threads_[i]->fiber.prepare(entry);
  release(&start_token_);
  running_ = pick();
  threadIdx = threads_[running_]->index;
  in_block_ = true;
  home_.switch_to(threads_[running_]->fiber);
  in_block_ = false;
  free_shared();
}

void Worker::free_shared() {
#ifdef LLMTS_EMULATION_TSAN
  // By a fiber of its own: were this one ordered after the block, the next block would be too.
  static thread_local void *const undertaker = __tsan_create_fiber(0);
  for (unsigned i = 0; i < count_ && launch_->failed; ++i) {  // those that were abandoned
    __tsan_switch_to_fiber(threads_[i]->fiber.thread(), __tsan_switch_to_fiber_no_sync);
    release(&end_token_);
  }
  __tsan_switch_to_fiber(undertaker, __tsan_switch_to_fiber_no_sync);
  acquire(&end_token_);
#endif
  for (const SharedArray &array : shared_) std::free(array.data);
#ifdef LLMTS_EMULATION_TSAN
  __tsan_switch_to_fiber(home_.thread(), __tsan_switch_to_fiber_no_sync);
#endif
  shared_.clear();
}

void Worker::thread_main() {
  acquire(&start_token_);
  (*launch_->body)();
  Warp &warp = warps_[running_ / kWarp];
  warp.runnable &= ~(1u << running_ % kWarp);
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << running_ / kWarp);
  release(&end_token_);  // what comes after the launch sees what the threads wrote; a later block is not ordered by it
  ++finished_;
  next_turn();
  std::abort();  // nobody switches to a finished thread
}

unsigned Worker::pick() {
  unsigned w = 0;
  if (order_ == 0) {
    w = static_cast<unsigned>(__builtin_ctz(runnable_warps_));
  } else if (order_ == 1) {
    w = 31 - static_cast<unsigned>(__builtin_clz(runnable_warps_));
  } else if (order_ == 2) {
    uint32_t left = runnable_warps_;
    for (unsigned skip = random_.below(static_cast<unsigned>(__builtin_popcount(left))); skip > 0; --skip)
      left &= left - 1;
    w = static_cast<unsigned>(__builtin_ctz(left));
  } else {
    unsigned best = 0;
    for (uint32_t left = runnable_warps_; left != 0; left &= left - 1) {
      const unsigned candidate = static_cast<unsigned>(__builtin_ctz(left));
      if (priority_[candidate] >= best) {
        best = priority_[candidate];
        w = candidate;
      }
    }
  }
  uint32_t lanes = warps_[w].runnable;
  if (order_ == 2)
    for (unsigned skip = random_.below(static_cast<unsigned>(__builtin_popcount(lanes))); skip > 0; --skip)
      lanes &= lanes - 1;
  return w * kWarp +
         (backward_ ? 31 - static_cast<unsigned>(__builtin_clz(lanes)) : static_cast<unsigned>(__builtin_ctz(lanes)));
}

void Worker::draw_priorities() {
  if (order_ != 3) return;
  for (unsigned w = 0; w < warps_.size(); ++w) priority_[w] = static_cast<uint8_t>(w);
  for (unsigned w = static_cast<unsigned>(warps_.size()); w > 1; --w)
    std::swap(priority_[w - 1], priority_[random_.below(w)]);
}

// Lets another thread go on; returns when the running one may.
void Worker::next_turn() {
  if (runnable_warps_ == 0) {
    if (finished_ == count_) {
      Fiber &last = threads_[running_]->fiber;
      last.switch_to(home_);
      return;
    }
    stuck();
  }
  const unsigned next = pick();
  if (next == running_) return;
  Fiber &from = threads_[running_]->fiber;
  running_ = next;
  threadIdx = threads_[next]->index;
  from.switch_to(threads_[next]->fiber);
}

void Worker::stuck() {
  for (const Warp &warp : warps_)
    if (warp.met != 0)
      violation(warp.site, "%s is reached by lanes %08x of a warp, not by %08x", warp.name, warp.met,
                warp.lanes & ~warp.met);
  violation(barrier_, "__syncthreads is reached by %u threads of the block's %u; %u have returned", at_barrier_, count_,
            finished_);
}

void Worker::sync_block(Site site) {
  const unsigned w = running_ / kWarp;
  Warp &warp = warps_[w];
  if (at_barrier_ == 0) barrier_ = site;
  if (barrier_.line != site.line || std::strcmp(barrier_.file, site.file) != 0)
    violation(site, "__syncthreads is reached by part of the block, others wait at line %d", barrier_.line);
  char *const token = &tokens_[generation_ % 2];
  release(token);
  warp.runnable &= ~(1u << running_ % kWarp);
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << w);
  if (++at_barrier_ == count_) {
    at_barrier_ = 0;
    ++generation_;
    for (unsigned i = 0; i < warps_.size(); ++i) {
      warps_[i].runnable = warps_[i].lanes;
      runnable_warps_ |= 1u << i;
    }
    draw_priorities();
  }
  next_turn();
  acquire(token);
}

// A meeting without a result, which orders memory.
void Worker::sync_warp(Site site, unsigned mask) {
  Warp &warp = warps_[running_ / kWarp];
  char *const token = &warp.tokens[warp.generation % 2];
  release(token);
  meet("__syncwarp", nullptr, nullptr, nullptr, mask, site);
  acquire(token);
}

void Worker::meet(const char *name, Collective collective, const void *in, void *out, unsigned mask, Site site) {
  const unsigned w = running_ / kWarp, lane = running_ % kWarp;
  Warp &warp = warps_[w];
  if (mask != ~0u) violation(site, "%s with lanes %08x: the emulation knows whole warps only", name, mask);
  if (warp.met == 0) {
    warp.name = name;
    warp.site = site;
  }
  if (warp.site.line != site.line || std::strcmp(warp.site.file, site.file) != 0 || std::strcmp(warp.name, name) != 0)
    violation(site, "%s is reached by part of the warp, others wait in %s at line %d", name, warp.name, warp.site.line);
  warp.payload.in[lane] = in;
  warp.payload.out[lane] = out;
  warp.met |= 1u << lane;
  warp.runnable &= ~(1u << lane);
  if (warp.runnable == 0) runnable_warps_ &= ~(1u << w);
  if (warp.met == warp.lanes) {
    warp.payload.count = static_cast<unsigned>(__builtin_popcount(warp.lanes));
    warp.met = 0;
    if (collective == nullptr)
      ++warp.generation;
    else
      collective(warp.payload, site);
    warp.runnable = warp.lanes;
    runnable_warps_ |= 1u << w;
  }
  next_turn();
}

// From the worker's own thread: ThreadSanitizer takes an allocation for a write.
void *Worker::allocate_shared(size_t bytes) {
  void *const data = std::aligned_alloc(128, (bytes + 127) / 128 * 128);
  if (data == nullptr) std::abort();
  std::memset(data, 0xff, bytes);  // NaN in fp32 and bf16
  release(&shared_token_);
  return data;
}

void *Worker::shared_array(const void *tag, size_t bytes) {
  acquire(&shared_token_);
  for (const SharedArray &array : shared_)
    if (array.tag == tag) return array.data;
#ifdef LLMTS_EMULATION_TSAN
  __tsan_switch_to_fiber(home_.thread(), __tsan_switch_to_fiber_no_sync);
#endif
  void *const data = allocate_shared(bytes);
  shared_.push_back({tag, data, bytes});
#ifdef LLMTS_EMULATION_TSAN
  __tsan_switch_to_fiber(threads_[running_]->fiber.thread(), __tsan_switch_to_fiber_no_sync);
#endif
  acquire(&shared_token_);
  return data;
}

void Worker::abandon() {
  launch_->failed = true;
  if (!in_block_) std::abort();
  threads_[running_]->fiber.switch_to(home_);
  std::abort();  // an abandoned thread is never continued
}

std::string Worker::where() const {
  char text[96];
  std::snprintf(text, sizeof text, " (block %u,%u,%u thread %u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x,
                threadIdx.y, threadIdx.z);
  return text;
}

}  // namespace emulation
