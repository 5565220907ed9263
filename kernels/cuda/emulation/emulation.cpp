// Grids: shared out among workers, and what kernels call. Blocks go to whoever is free.
#include "cuda/emulation/emulation.h"

#include <algorithm>
#include <condition_variable>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>

#include "cuda/emulation/launch.h"
#include "cuda/emulation/worker.h"

namespace emulation {

namespace {

uint64_t first_seed() {
  const char *const given = std::getenv("LLMTS_EMULATION_SEED");
  return given == nullptr ? 0 : std::strtoull(given, nullptr, 10);
}

std::atomic<uint64_t> g_seed{first_seed()};

// Workers beside the caller's thread, for grids of several blocks.
class Pool {
 public:
  void run(Launch &launch) {
    const std::lock_guard<std::mutex> one_at_a_time(launches_);
    if (launch.blocks > 1) {
      start_threads();
      const std::lock_guard<std::mutex> lock(mutex_);
      launch_ = &launch;
      ++round_;
      busy_ = threads_;
      wake_.notify_all();
    }
    this_worker().work(launch);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return busy_ == 0; });
    launch_ = nullptr;
  }

 private:
  void start_threads() {
    if (started_) return;
    started_ = true;
    threads_ = std::min(3u, std::max(1u, std::thread::hardware_concurrency()) - 1);
    for (unsigned i = 0; i < threads_; ++i) std::thread([this] { serve(); }).detach();
  }

  void serve() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (uint64_t seen = 0;;) {
      wake_.wait(lock, [&] { return round_ != seen; });
      seen = round_;
      Launch *const launch = launch_;
      lock.unlock();
      this_worker().work(*launch);
      lock.lock();
      if (--busy_ == 0) done_.notify_all();
    }
  }

  std::mutex launches_, mutex_;
  std::condition_variable wake_, done_;
  Launch *launch_ = nullptr;
  uint64_t round_ = 0;
  unsigned threads_ = 0, busy_ = 0;
  bool started_ = false;
};

// Never destroyed: its threads are still there when the process ends.
Pool &pool() {
  static Pool *instance = new Pool;
  return *instance;
}

std::mutex g_report_mutex;
std::string g_report;

void keep_report(std::string text) {
  const std::lock_guard<std::mutex> lock(g_report_mutex);
  std::fprintf(stderr, "emulation: %s\n", text.c_str());
  if (g_report.empty()) g_report = std::move(text);
}

}  // namespace

void set_seed(uint64_t seed) { g_seed = seed; }

std::string take_report() {
  const std::lock_guard<std::mutex> lock(g_report_mutex);
  std::string text;
  text.swap(g_report);
  return text;
}

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads < 1 || threads > kMaxThreads || grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu ||
      grid.y > 65535 || grid.z > 65535) {
    keep_report("a launch of grid " + std::to_string(grid.x) + "," + std::to_string(grid.y) + "," +
                std::to_string(grid.z) + " and block " + std::to_string(threads) + " is beyond what a device takes");
    return;
  }
  static std::atomic<uint64_t> launches{0};
  Launch launch;
  launch.grid = grid;
  launch.block = block;
  launch.shared_bytes = shared_bytes;
  launch.body = &body;
  launch.seed = g_seed < 4 ? g_seed.load() : g_seed + 4 * launches++;
  launch.blocks = uint64_t{grid.x} * grid.y * grid.z;
  pool().run(launch);
}

void sync_block(Site site) { this_worker().sync_block(site); }
void sync_warp(unsigned mask, Site site) { this_worker().sync_warp(site, mask); }
void meet(const char *name, Collective collective, const void *in, void *out, unsigned mask, Site site) {
  this_worker().meet(name, collective, in, out, mask, site);
}
void *shared_array(const void *tag, size_t bytes) { return this_worker().shared_array(tag, bytes); }
void *dynamic_shared_array() { return this_worker().dynamic_shared_array(); }

void violation(Site site, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Worker &worker = this_worker();
  keep_report(std::string(site.file) + ":" + std::to_string(site.line) + ": " + text + worker.where());
  worker.abandon();
}

}  // namespace emulation
