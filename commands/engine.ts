/**
 * What commands that compute have in common: the flags for kernels and device, and a check of `--seq-len`.
 *
 * @module
 */
import { type Device, DEVICES, openDevice } from "../ffi/device.ts";
import type { DeviceInfo } from "../ffi/library.ts";
import { type GPT2Config, isPreset } from "../src/config.ts";
import { UsageError } from "../src/errors.ts";
import { findModel, startsFromScratch } from "../src/load.ts";
import { type Precision, PRECISIONS } from "../src/model.ts";
import type { FlagTable, FlagValues } from "./flags.ts";

/** Where `train` writes checkpoints, and `sample` looks for them. */
export const OUTPUT_FOLDER = "out";

/** Flags for kernels and device. */
export const ENGINE_FLAGS = {
  threads: {
    type: "integer",
    value: "N",
    min: 1,
    max: 1024,
    absent: "the processors it may run on",
    description: "threads that kernels use; the same number gives the same bits",
    group: "Machine",
  },
  device: {
    type: "choice",
    choices: DEVICES,
    default: "auto",
    description: "where to compute; auto takes the best there is",
    group: "Machine",
  },
  precision: {
    type: "choice",
    choices: PRECISIONS,
    default: "fp32",
    description: "number format of weights and activations",
    group: "Machine",
  },
  tf32: {
    type: "boolean",
    description: "let a GPU round the factors of fp32 products to 10 bits of mantissa: faster, less exact",
    group: "Machine",
  },
  library: {
    type: "path",
    value: "FILE",
    absent: "LLMTS_LIBRARY_PATH, else as built",
    description: "kernel library, or a folder of its variants",
    group: "Machine",
  },
} as const satisfies FlagTable;

/**
 * Opens the device that the flags ask for.
 *
 * @throws {LlmtsError} there is no kernel library, or no such device
 */
export function openEngine(
  { threads, device, library, tf32 }: Omit<FlagValues<typeof ENGINE_FLAGS>, "precision">,
): Device {
  return openDevice({ device, threads, library, tf32 });
}

/** What computes, in words: processor or GPU, the library's variant, and threads, by which the last bits differ. */
export function deviceWords({ device, variant, threads }: DeviceInfo): string {
  return `${device}, ${variant}, ${threads} thread${threads === 1 ? "" : "s"}`;
}

/** Flags of commands that use a trained model and don't train it: with one more precision. */
export const INFERENCE_FLAGS = {
  ...ENGINE_FLAGS,
  precision: {
    ...ENGINE_FLAGS.precision,
    choices: [...PRECISIONS, "int8"],
    description:
      "number format of weights and activations; int8: bf16 with the matrices' weights in int8, on the CPU",
  },
} as const satisfies FlagTable;

/** The precision of activations and of the weights that stay as they are. */
export function activationPrecision(
  { precision }: Pick<FlagValues<typeof INFERENCE_FLAGS>, "precision">,
): Precision {
  return precision === "int8" ? "bf16" : precision;
}

const TRAINED_HINT = "llmts train makes a model, llmts download fetches the released ones";

/**
 * The source of a model that a flag names, which has to be trained.
 *
 * @param hint how to come by one
 * @throws {UsageError} it names a preset or a config.json
 * @throws {FileError} there is none
 */
export function trainedModel(name: string, { flag = "--model", hint = TRAINED_HINT } = {}): string {
  if (isPreset(name)) {
    throw new UsageError(`${flag} "${name}" is a preset, which has no trained weights`, {
      hint: `${hint}; a file or folder of that name is given as ./${name}`,
    });
  }
  if (startsFromScratch(name)) {
    throw new UsageError(`${flag} "${name}" has a model's sizes only, not its weights`, {
      hint: "name their file, or the folder of both",
    });
  }
  return findModel(name, hint);
}

/**
 * Checks that a model takes sequences of `--seq-len` tokens.
 *
 * @throws {UsageError} it has fewer positions
 */
export function checkSequenceLength(T: number, model: string, { maxT }: GPT2Config): void {
  if (T <= maxT) return;
  throw new UsageError(`--seq-len is ${T}, but ${model} has ${maxT} positions`, {
    hint: `--seq-len ${maxT} is the most it takes`,
  });
}
