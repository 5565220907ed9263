#include "cpu/scratch.h"

#include <algorithm>
#include <cinttypes>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "common/door.h"
#include "cpu/threads.h"

namespace llmts {

namespace {

struct Block {
  void *data;
  int64_t bytes;
  bool used;
};

struct Pool {
  std::mutex mutex;
  std::vector<Block> blocks;
};

// Never destroyed: worker threads may outlive static destructors.
Pool &pool() {
  static Pool *instance = new Pool;
  return *instance;
}

constexpr int64_t kAlignment = 64;

void free_unused(std::vector<Block> &blocks) {
  const auto used = [](const Block &block) { return block.used; };
  const auto unused = std::stable_partition(blocks.begin(), blocks.end(), used);
  std::for_each(unused, blocks.end(), [](const Block &block) { std::free(block.data); });
  blocks.erase(unused, blocks.end());
}

void *allocate(int64_t bytes) {
  void *data = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
  if (data != nullptr) advise_huge_pages(data, bytes);
  return data;
}

}  // namespace

int64_t scratch_bytes(std::initializer_list<int64_t> shape, int64_t element_bytes) {
  int64_t bytes = element_bytes;
  bool overflow = false;
  for (const int64_t extent : shape) overflow |= __builtin_mul_overflow(bytes, extent, &bytes);
  overflow |= __builtin_add_overflow(bytes, kAlignment - 1, &bytes);
  if (overflow) fail(LLMTS_OUT_OF_MEMORY, "scratch would take more bytes than 64 bits can count");
  return bytes / kAlignment * kAlignment;
}

ScratchBytes::ScratchBytes(int64_t bytes) {
  Pool &shared = pool();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  // The smallest unused block that is large enough; else the largest unused one makes room for a larger one, so that
  // the pool never holds more blocks than were ever used at once.
  Block *best = nullptr, *largest = nullptr;
  for (Block &block : shared.blocks) {
    if (block.used) continue;
    if (block.bytes >= bytes && (best == nullptr || block.bytes < best->bytes)) best = &block;
    if (largest == nullptr || block.bytes > largest->bytes) largest = &block;
  }
  if (best == nullptr) {
    if (largest == nullptr) {
      shared.blocks.push_back({nullptr, 0, false});
      largest = &shared.blocks.back();
    }
    std::free(largest->data);
    *largest = {allocate(bytes), bytes, false};
    best = largest;
  }
  if (best->data == nullptr) {
    best->bytes = 0;
    fail(LLMTS_OUT_OF_MEMORY, "%" PRId64 " bytes of scratch could not be allocated", bytes);
  }
  best->used = true;
  data_ = best->data;
}

ScratchBytes::~ScratchBytes() {
  Pool &shared = pool();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  for (Block &block : shared.blocks) {
    if (block.data == data_) block.used = false;
  }
}

void free_scratch() {
  Pool &shared = pool();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  free_unused(shared.blocks);
}

}  // namespace llmts
