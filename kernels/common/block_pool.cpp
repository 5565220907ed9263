#include "common/block_pool.h"

#include <algorithm>

namespace llmts {

void *BlockPool::take(int64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Block *best = nullptr, *largest = nullptr;
  for (Block &block : blocks_) {
    if (block.used) continue;
    if (block.bytes >= bytes && (best == nullptr || block.bytes < best->bytes)) best = &block;
    if (largest == nullptr || block.bytes > largest->bytes) largest = &block;
  }
  if (best != nullptr) {
    best->used = true;
    return best->data;
  }
  if (largest != nullptr) {
    release_(largest->data);
    blocks_.erase(blocks_.begin() + (largest - blocks_.data()));
  }
  blocks_.reserve(blocks_.size() + 1);  // may throw, while there is no block to lose
  void *data = allocate_(bytes);
  if (data == nullptr) {
    drop_unused();
    data = allocate_(bytes);
  }
  if (data != nullptr) blocks_.push_back({data, bytes, true});
  return data;
}

void BlockPool::give_back(const void *data) {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Block &block : blocks_) {
    if (block.data == data) block.used = false;
  }
}

void BlockPool::release_unused() {
  const std::lock_guard<std::mutex> lock(mutex_);
  drop_unused();
}

void BlockPool::drop_unused() {
  const auto used = [](const Block &block) { return block.used; };
  const auto unused = std::stable_partition(blocks_.begin(), blocks_.end(), used);
  std::for_each(unused, blocks_.end(), [this](const Block &block) { release_(block.data); });
  blocks_.erase(unused, blocks_.end());
}

}  // namespace llmts
