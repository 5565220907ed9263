// Scratch memory is taken from a pool and given back to it, so that no step of training allocates or touches fresh
// pages.
#ifndef LLMTS_COMMON_BLOCK_POOL_H
#define LLMTS_COMMON_BLOCK_POOL_H

#include <cstdint>
#include <mutex>
#include <vector>

namespace llmts {

// Safe to use from any thread.
class BlockPool {
 public:
  // `allocate` returns null where the memory can't be had.
  BlockPool(void *(*allocate)(int64_t bytes), void (*release)(void *)) : allocate_(allocate), release_(release) {}

  // A block of at least so many bytes; null where it can't be had, even without the unused ones. The smallest unused
  // one that is large enough; else the largest unused one makes room for a larger one, so that the pool never holds
  // more blocks than were ever used at once.
  void *take(int64_t bytes);
  void give_back(const void *data);
  void release_unused();

 private:
  struct Block {
    void *data;
    int64_t bytes;
    bool used;
  };
  void drop_unused();

  void *(*const allocate_)(int64_t);
  void (*const release_)(void *);
  std::mutex mutex_;
  std::vector<Block> blocks_;
};

}  // namespace llmts

#endif
