/**
 * How much memory a model needs, from the tables that allocate it.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import { freeHostMemory } from "../ffi/memory.ts";
import { ITEM_BYTES } from "../ffi/tensor.ts";
import { activationBytes, type RecomputeLevel } from "./activations.ts";
import type { GPT2Config } from "./config.ts";
import { LlmtsError } from "./errors.ts";
import type { Precision } from "./model.ts";
import { parameterBytes } from "./parameters.ts";
import { quantizedBytes } from "./quantize.ts";

/** Bytes by use. */
export interface MemoryPlan {
  readonly parameters: number;
  /** The fp32 weights beside bf16 parameters. */
  readonly master: number;
  readonly gradients: number;
  /** Both moments. */
  readonly optimizer: number;
  readonly activations: number;
  /** How many numbers the activations are. */
  readonly activationCount: number;
  readonly total: number;
}

/** What training (or, without it, a forward pass) over B sequences of T tokens needs. The library's scratch is not in it. */
export function memoryPlan(
  config: GPT2Config,
  { B, T, precision = "fp32", training = true, keepMaster = training, recompute }: {
    B: number;
    T: number;
    precision?: Precision;
    training?: boolean;
    /** Whether a bf16 model keeps its fp32 weights. */
    keepMaster?: boolean;
    /** What training computes again. Default {@linkcode DEFAULT_RECOMPUTE}. */
    recompute?: RecomputeLevel | undefined;
  },
): MemoryPlan {
  const parameters = parameterBytes(config, precision);
  const master = precision === "bf16" && keepMaster ? parameterBytes(config, "fp32") : 0;
  const fp32 = training ? parameterBytes(config, "fp32") : 0;
  const activations = activationBytes(config, { B, T, precision, training, recompute });
  return {
    parameters,
    master,
    gradients: fp32,
    optimizer: 2 * fp32,
    activations,
    activationCount: activationBytes(config, { B, T, precision: "fp32", training, recompute }) /
      ITEM_BYTES.fp32,
    total: parameters + master + 3 * fp32 + activations,
  };
}

/** Bytes of a model's weights that is used and not trained, with the fp32 ones that the others are rounded from. */
export function weightBytes(config: GPT2Config, precision: Precision | "int8", device: Device): number {
  const fp32 = parameterBytes(config, "fp32");
  if (precision === "fp32") return fp32;
  return fp32 + parameterBytes(config, "bf16") + (precision === "int8" ? quantizedBytes(config, device) : 0);
}

/**
 * Checks a plan against the memory that is free now.
 *
 * @param hint what to do where there is less
 * @throws {LlmtsError} there is less
 */
export function checkMemory(
  plan: Pick<MemoryPlan, "total">,
  available: number = freeHostMemory(),
  hint = "lower --batch-size or --seq-len, or take a smaller --model",
): void {
  if (plan.total <= available) return;
  const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
  throw new LlmtsError(
    `${plan.total} bytes (${gib(plan.total)}) of memory are needed, ${available} (${
      gib(available)
    }) are free`,
    { hint },
  );
}
