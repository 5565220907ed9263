// The tile registers of AMX: eight tiles of 16 rows of 64 bytes. With LLMTS_AMX_EMULATED the same functions in plain
// C++, for tests on machines that have none.
#ifndef LLMTS_CPU_AMX_H
#define LLMTS_CPU_AMX_H

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef LLMTS_AMX_EMULATED
#include "cpu/bf16.h"
#elif defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace llmts::amx {

constexpr int kRows = 16, kRowBytes = 64;

#ifdef LLMTS_AMX_EMULATED

// Names of their own for the linker: files of the same library (cpu_info.cpp) have the real functions.
inline namespace emulated {

inline bool permitted() { return true; }

struct Registers {
  bool configured = false;
  uint8_t tile[8][kRows][kRowBytes];
};
inline thread_local Registers registers;

// All eight tiles at their full size, on this thread, while it lives.
struct Configuration {
  Configuration() {
    registers.configured = true;
    std::memset(registers.tile, 0xff, sizeof registers.tile);  // NaN, where code forgets to set one
  }
  ~Configuration() { registers.configured = false; }
};

template <int Tile>
uint8_t (&at())[kRows][kRowBytes] {
  if (!registers.configured) __builtin_trap();  // as the processor would
  return registers.tile[Tile];
}

template <int Tile>
void zero() {
  std::memset(at<Tile>(), 0, sizeof at<Tile>());
}

// `stride` leads from row to row, in floats.
template <int Tile>
void load(const float *from, int64_t stride) {
  for (int row = 0; row < kRows; ++row) std::memcpy(at<Tile>()[row], from + row * stride, kRowBytes);
}

template <int Tile>
void store(float *to, int64_t stride) {
  for (int row = 0; row < kRows; ++row) std::memcpy(to + row * stride, at<Tile>()[row], kRowBytes);
}

// sum (16,16) of fp32 += a (16 rows of 16 pairs of bf16) · b (16 pairs of rows of 16).
template <int Sum, int A, int B>
void dot() {
  for (int row = 0; row < kRows; ++row) {
    float sum[16];
    Bf16 a[32];
    std::memcpy(sum, at<Sum>()[row], kRowBytes);
    std::memcpy(a, at<A>()[row], kRowBytes);
    for (int pair = 0; pair < 16; ++pair) {
      Bf16 b[32];
      std::memcpy(b, at<B>()[pair], kRowBytes);
      for (int column = 0; column < 16; ++column) {
        sum[column] += widened(a[2 * pair]) * widened(b[2 * column]);
        sum[column] += widened(a[2 * pair + 1]) * widened(b[2 * column + 1]);
      }
    }
    std::memcpy(at<Sum>()[row], sum, kRowBytes);
  }
}

}  // namespace emulated

#else

// Tile data is large: Linux gives it only to a process that asks, and then to all its threads.
inline bool permitted() {
#ifdef __linux__
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return true;
#endif
}

// In assembly: compilers' own functions take the number of a register only as a literal, and some don't say that they
// touch memory.
struct Configuration {
  Configuration() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } layout;
    static_assert(sizeof layout == 64, "as the processor reads it");
    std::fill_n(layout.row_bytes, 8, static_cast<uint16_t>(kRowBytes));
    std::fill_n(layout.rows, 8, static_cast<uint8_t>(kRows));
    __asm__ volatile("ldtilecfg %0" : : "m"(layout));
  }
  ~Configuration() { __asm__ volatile("tilerelease"); }
};

template <int Tile>
void zero() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
}

template <int Tile>
void load(const float *from, int64_t stride) {
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(float));
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(bytes), "i"(Tile) : "memory");
}

template <int Tile>
void store(float *to, int64_t stride) {
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(float));
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(bytes), "i"(Tile) : "memory");
}

template <int Sum, int A, int B>
void dot() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
}

#endif

}  // namespace llmts::amx

#endif
