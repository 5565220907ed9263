/**
 * AdamW (Loshchilov and Hutter 2019): decay on matrices only, moments in fp32.
 *
 * @module
 */
import type { AdamWConstants } from "../ffi/ops.ts";
import { allocateParameters, decaySegments, type Parameters, type TensorSpec } from "./parameters.ts";
import type { Model } from "./model.ts";

/** The optimizer's state for a model: first and second moments, and how many steps were taken. */
export interface AdamW {
  readonly m: Parameters;
  readonly v: Parameters;
  /** Steps taken so far. */
  steps: number;
  /** Updates the model's parameters in place. */
  update(gradients: Parameters, constants: Omit<AdamWConstants, "step">): void;
}

/** PyTorch's defaults, and those of llm.c on a CPU; on a GPU it has a beta2 of 0.95. */
export const ADAMW_DEFAULTS = { beta1: 0.9, beta2: 0.999, eps: 1e-8 } as const;

/**
 * An optimizer for `model`, its moments zero.
 *
 * @param decays which tensors weight decay applies to; default: as {@linkcode TENSORS} says, matrices only
 * @throws {LlmtsError} there is not enough memory for the moments
 */
export function createAdamW(
  model: Model,
  decays: (tensor: TensorSpec) => boolean = ({ decay }) => decay,
): AdamW {
  const { config, device, parameters, master } = model;
  const segments = decaySegments(parameters, decays);
  const optimizer: AdamW = {
    m: allocateParameters(config, device, "fp32"),
    v: allocateParameters(config, device, "fp32"),
    steps: 0,
    update(gradients, constants): void {
      optimizer.steps++;
      const { m, v, steps: step } = optimizer;
      device.ops.adamw(parameters.flat, master?.flat ?? null, gradients.flat, m.flat, v.flat, segments, {
        ...constants,
        step,
      });
    },
  };
  return optimizer;
}
