// Scratch memory from a pool of the library's, so that no step of training allocates or touches fresh pages.
#ifndef LLMTS_CPU_SCRATCH_H
#define LLMTS_CPU_SCRATCH_H

#include <cstdint>
#include <initializer_list>

namespace llmts {

// Uninitialised memory for a tensor of T, 64-byte aligned, given back to the pool by the destructor. Safe to
// use from any thread. Throws Failure(LLMTS_OUT_OF_MEMORY).
class ScratchBytes {
 public:
  explicit ScratchBytes(int64_t bytes);
  ~ScratchBytes();
  ScratchBytes(const ScratchBytes &) = delete;
  ScratchBytes &operator=(const ScratchBytes &) = delete;
  void *data() const { return data_; }

 private:
  void *data_;
};

// The size of such a tensor, rounded up to the alignment. Throws Failure(LLMTS_OUT_OF_MEMORY) beyond 64 bits.
int64_t scratch_bytes(std::initializer_list<int64_t> shape, int64_t element_bytes);

template <class T>
class Scratch {
 public:
  explicit Scratch(std::initializer_list<int64_t> shape) : bytes_(scratch_bytes(shape, sizeof(T))) {}
  T *data() const { return static_cast<T *>(bytes_.data()); }

 private:
  ScratchBytes bytes_;
};

}  // namespace llmts

#endif
