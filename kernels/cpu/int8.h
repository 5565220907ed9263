// Weights in int8 for decoding, which is bound by reading them: a row w is q · scale with scale = max |w| / 127.
#ifndef LLMTS_CPU_INT8_H
#define LLMTS_CPU_INT8_H

#include "cpu/gemm.h"

namespace llmts {

// out (N,OC), where not null, = x (N,C) · weightᵀ on as many threads as it is worth; packed is what llmts_pack made of
// weight (OC,C).
void multiply_int8(float *out, Elements x, const void *packed, int64_t N, int64_t C, int64_t OC,
                   const Epilogue &epilogue);

}  // namespace llmts

#endif
