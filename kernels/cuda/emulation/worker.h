// A worker: an OS thread that runs a grid's blocks one after the other, each block's threads as fibers that take turns.
#ifndef LLMTS_CUDA_EMULATION_WORKER_H
#define LLMTS_CUDA_EMULATION_WORKER_H

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cuda/emulation/emulation.h"
#include "cuda/emulation/fiber.h"

namespace emulation {

constexpr unsigned kWarp = 32, kMaxThreads = 1024;

// splitmix64 (Steele et al. 2014)
struct Random {
  uint64_t state;
  uint32_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ z >> 31) >> 32);
  }
  unsigned below(unsigned limit) { return static_cast<unsigned>(static_cast<uint64_t>(next()) * limit >> 32); }
};

// A grid that is being run.
struct Launch {
  dim3 grid, block;
  size_t shared_bytes;
  const std::function<void()> *body;
  uint64_t seed, blocks;
  std::atomic<uint64_t> taken{0};
  std::atomic<bool> failed{false};
};

struct Thread {
  Fiber fiber;
  uint3 index;
};

struct Warp {
  uint32_t lanes, runnable;
  // The collective that its lanes are meeting at.
  uint32_t met;
  const char *name;
  Site site;
  Lanes payload;
  unsigned generation;
  char tokens[2];
};

struct SharedArray {
  const void *tag;
  void *data;
  size_t bytes;
};

class Worker {
 public:
  // Runs blocks of a grid until none is left.
  void work(Launch &launch);

  void sync_block(Site site);
  void sync_warp(Site site, unsigned mask);
  void meet(const char *name, Collective collective, const void *in, void *out, unsigned mask, Site site);
  void *shared_array(const void *tag, size_t bytes);
  void *dynamic_shared_array() { return shared_array(nullptr, launch_->shared_bytes); }
  [[noreturn]] void abandon();
  void thread_main();
  std::string where() const;

 private:
  void run_block(uint64_t index);
  void next_turn();
  unsigned pick();
  void draw_priorities();
  void *allocate_shared(size_t bytes);
  void free_shared();
  void stuck();

  Fiber home_;  // the worker's own stack
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Warp> warps_;
  std::vector<SharedArray> shared_;
  Launch *launch_ = nullptr;
  Random random_{0};
  unsigned order_ = 0, count_ = 0, running_ = 0, finished_ = 0, at_barrier_ = 0, generation_ = 0;
  bool backward_ = false, adopted_ = false, in_block_ = false;
  uint32_t runnable_warps_ = 0;
  uint8_t priority_[kMaxThreads / kWarp] = {};
  Site barrier_ = {nullptr, 0};
  char tokens_[2] = {}, start_token_ = 0, end_token_ = 0, shared_token_ = 0;
};

// The calling OS thread's. Never destroyed: fibers may still be on its stacks when the process ends.
Worker &this_worker();

}  // namespace emulation

#endif
