#include "common/adamw.h"

#include <cinttypes>
#include <cmath>

#include "common/door.h"

namespace llmts {

AdamWStep adamw_step(float learning_rate, float beta1, float beta2, float eps, float weight_decay, float grad_scale,
                     int64_t step) {
  if (step < 1) fail(LLMTS_INVALID_ARGUMENT, "step is %" PRId64 ", expected 1 or more", step);
  if (!(beta1 >= 0.0f && beta1 < 1.0f && beta2 >= 0.0f && beta2 < 1.0f))
    fail(LLMTS_INVALID_ARGUMENT, "beta1 and beta2 are %g and %g, expected 0 or more and below 1", beta1, beta2);
  const double correction1 = 1.0 - std::pow(static_cast<double>(beta1), static_cast<double>(step));
  const double correction2 = 1.0 - std::pow(static_cast<double>(beta2), static_cast<double>(step));
  return {beta1,
          1.0f - beta1,
          beta2,
          1.0f - beta2,
          static_cast<float>(learning_rate / correction1),
          static_cast<float>(1.0 / std::sqrt(correction2)),
          eps,
          grad_scale,
          static_cast<float>(1.0 - static_cast<double>(learning_rate) * weight_decay)};
}

}  // namespace llmts
