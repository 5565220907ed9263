#ifndef LLMTS_CUDA_ELEMENTWISE_H
#define LLMTS_CUDA_ELEMENTWISE_H

#include "cuda/operand.h"

namespace llmts {

// out (n) = gelu(x); dx (n) = dout · gelu'(x). In place too.
void gelu_forward(Operand out, Operand x, int64_t n);
void gelu_backward(Operand dx, Operand dout, Operand x, int64_t n);

}  // namespace llmts

#endif
