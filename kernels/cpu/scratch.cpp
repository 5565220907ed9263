#include "cpu/scratch.h"

#include <cinttypes>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "cpu/door.h"
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
  std::vector<Block> kept;
  for (const Block &block : blocks) {
    if (block.used)
      kept.push_back(block);
    else
      std::free(block.data);
  }
  blocks.swap(kept);
}

void *allocate(int64_t bytes) {
  void *data = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
  if (data != nullptr) advise_huge_pages(data, bytes);
  return data;
}

}  // namespace

int64_t scratch_bytes(int64_t count, int64_t element_bytes) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(count, element_bytes, &bytes) || __builtin_add_overflow(bytes, kAlignment - 1, &bytes))
    fail(LLMTS_OUT_OF_MEMORY, "scratch for %" PRId64 " elements would take more bytes than 64 bits can count", count);
  return bytes / kAlignment * kAlignment;
}

ScratchBytes::ScratchBytes(int64_t bytes) {
  Pool &shared = pool();
  const std::lock_guard<std::mutex> lock(shared.mutex);
  // The smallest free block that is large enough.
  Block *best = nullptr;
  for (Block &block : shared.blocks) {
    if (!block.used && block.bytes >= bytes && (best == nullptr || block.bytes < best->bytes)) best = &block;
  }
  if (best == nullptr) {
    shared.blocks.reserve(shared.blocks.size() + 1);
    void *data = allocate(bytes);
    if (data == nullptr) {
      free_unused(shared.blocks);
      data = allocate(bytes);
    }
    if (data == nullptr) fail(LLMTS_OUT_OF_MEMORY, "%" PRId64 " bytes of scratch could not be allocated", bytes);
    shared.blocks.push_back({data, bytes, false});
    best = &shared.blocks.back();
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
