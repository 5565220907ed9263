// What one AdamW step computes with, the same in both libraries.
#ifndef LLMTS_COMMON_ADAMW_H
#define LLMTS_COMMON_ADAMW_H

#include <cstdint>

namespace llmts {

// Worked out in double precision:
//   rate = learning_rate / (1 - beta1^step);  root_correction2 = 1 / sqrt(1 - beta2^step)
//   decayed = 1 - learning_rate · weight_decay, what decaying parameters are multiplied with
struct AdamWStep {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, rate, root_correction2, eps, grad_scale, decayed;
};

// Throws where step or a beta is out of range.
AdamWStep adamw_step(float learning_rate, float beta1, float beta2, float eps, float weight_decay, float grad_scale,
                     int64_t step);

}  // namespace llmts

#endif
