// The part of cuBLASLt's C interface that products need, declared here so that neither building nor loading the library
// needs cuBLASLt. Names and values are cublasLt.h's (CUDA 11.8 to 13); where that header is, the build compares them.
#ifndef LLMTS_CUDA_CUBLAS_LT_H
#define LLMTS_CUDA_CUBLAS_LT_H

#include <cstddef>
#include <cstdint>

#include "cuda/platform.h"

namespace llmts::lt {

using Handle = struct HandleImpl *;
using Description = struct DescriptionImpl *;
using Layout = struct LayoutImpl *;
using Preference = struct PreferenceImpl *;
using Status = int;

constexpr Status kSuccess = 0, kNotSupported = 15;
enum DataType : int { kFp32 = 0, kBf16 = 14 };
enum ComputeType : int { kComputeFp32 = 68, kComputeTf32 = 77 };
enum Operation : int { kAsIs = 0, kTransposed = 1 };
enum DescriptionAttribute : int {
  kTransA = 3,
  kTransB = 4,
  kEpilogue = 7,
  kBiasPointer = 8,
  kAuxPointer = 11,
  kAuxStride = 12,
  kAuxType = 22,
  kBiasType = 26
};
enum PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,
  kAlignmentA = 5,
  kAlignmentB = 6,
  kAlignmentC = 7,
  kAlignmentD = 8
};
enum Epilogue : int {
  kDefault = 1,
  kBias = 4,
  kGelu = 32,
  kGeluBias = 36,
  kGeluAux = 160,
  kGeluAuxBias = 164,
  kGeluGradient = 192
};

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

// The functions, from libcublasLt.so or from the emulation.
struct Functions {
  Status (*create)(Handle *);
  size_t (*version)();
  Status (*description_create)(Description *, ComputeType, DataType scale);
  Status (*description_destroy)(Description);
  Status (*description_set)(Description, DescriptionAttribute, const void *value, size_t bytes);
  Status (*layout_create)(Layout *, DataType, uint64_t rows, uint64_t columns, int64_t stride);
  Status (*layout_destroy)(Layout);
  Status (*preference_create)(Preference *);
  Status (*preference_destroy)(Preference);
  Status (*preference_set)(Preference, PreferenceAttribute, const void *value, size_t bytes);
  Status (*heuristic)(Handle, Description, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, Heuristic *,
                      int *found);
  Status (*matmul)(Handle, Description, const void *alpha, const void *a, Layout, const void *b, Layout,
                   const void *beta, const void *c, Layout, void *d, Layout, const Algorithm *, void *workspace,
                   size_t workspace_bytes, cudaStream_t);
};

// Opens cuBLASLt at the first call. Throws Failure(LLMTS_DEVICE_ERROR) with the paths tried.
const Functions &functions();

}  // namespace llmts::lt

#endif
