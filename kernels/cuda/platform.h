// The CUDA execution model: the toolkit's under nvcc, an emulation of it on the host under any other compiler. Sources
// include this in place of cuda_runtime.h and cuda_bf16.h, and declare shared memory with CU_SHARED, so that the same
// text is compiled for a GPU and for tests on machines without one.
#ifndef LLMTS_CUDA_PLATFORM_H
#define LLMTS_CUDA_PLATFORM_H

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <utility>

// CU_SHARED(float, tile, [16][17]): an array that the threads of a block share, for accesses of up to 16 bytes.
#define CU_SHARED(type, name, dimensions) __shared__ __align__(16) type name dimensions
// CU_DYNAMIC_SHARED(float, tile): the shared memory whose size in bytes was given at the launch.
#define CU_DYNAMIC_SHARED(type, name)                      \
  extern __shared__ __align__(16) unsigned char shared_[]; \
  type *const name = reinterpret_cast<type *>(shared_)

namespace llmts {

// What the emulation checks before an access of 16 bytes; hardware traps by itself.
__device__ inline void check_aligned(const void *) {}

// Whether loops that fill or combine a warp's registers stand for hardware instructions.
constexpr bool kEmulated = false;

template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
           Arguments &&...arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(std::forward<Arguments>(arguments)...);
}

}  // namespace llmts

#else

#include "cuda/emulation/emulation.h"
#include "cuda/emulation/runtime_api.h"

namespace llmts {

using emulation::check_aligned;
using emulation::start;
constexpr bool kEmulated = true;

}  // namespace llmts

#endif

#endif
