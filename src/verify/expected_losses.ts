/**
 * What ten AdamW steps on a debug state's batch must give: from the JSON that dev/reference/gpt2.py writes beside the state
 * or, for GPT-2 124M itself, llm.c's figures.
 *
 * @module
 */
import type { AdamWConstants } from "../../ffi/ops.ts";
import type { GPT2Config } from "../config.ts";
import { FileError } from "../errors.ts";
import type { DebugState } from "../io/debug_state.ts";
import { exists, hashFile, openForReading } from "../io/files.ts";
import { readText } from "../io/text.ts";

/** Steps that are compared. */
const STEPS = 10;

/** See the module. */
export interface ExpectedLosses {
  /** Where they come from, in words. */
  readonly source: string;
  /** Of AdamW. */
  readonly constants: Omit<AdamWConstants, "step" | "gradScale">;
  /** Which tensors weight decay applies to. */
  readonly decay: "matrices" | "all";
  /** The loss before each step, in nats. */
  readonly losses: readonly number[];
  /** Whether they, and the state, are of GPT-2 124M as llm.c publishes it. */
  readonly released: boolean;
  /** sha256 of the state that they were written with, where that is known. */
  readonly stateSha256: string | undefined;
}

/** Of llm.c's test: the released weights on gpt2_124M_debug_state.bin. */
const GPT2_124M: ExpectedLosses = {
  source: "llm.c's losses of GPT-2 124M",
  constants: { learningRate: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01 },
  decay: "all",
  // deno-fmt-ignore
  losses: [5.270007133483887, 4.059706687927246, 3.3751230239868164, 2.8007826805114746, 2.315382242202759,
    1.8490285873413086, 1.3946564197540283, 0.9991465210914612, 0.6240804195404053, 0.37651097774505615],
  released: true,
  stateSha256: undefined,
};

/** Which finite values a constant may have. */
interface Range {
  readonly expected: string;
  readonly holds: (value: number) => boolean;
}

const NOT_NEGATIVE: Range = { expected: "a number of at least 0", holds: (value) => value >= 0 };
const POSITIVE: Range = { expected: "a number above 0", holds: (value) => value > 0 };
const SHARE: Range = { expected: "a number from 0 to below 1", holds: (value) => value >= 0 && value < 1 };

/** Where the losses of a state are looked for: the same name with `.json`. */
export function expectedLossesPath(statePath: string): string {
  return statePath.replace(/\.bin$/, "") + ".json";
}

/**
 * The losses expected of a state, or undefined where there is neither a JSON beside it nor is it llm.c's own.
 *
 * @throws {FileError} there is a JSON, but not of this form
 */
export function findExpectedLosses(state: DebugState, config: GPT2Config): ExpectedLosses | undefined {
  const path = expectedLossesPath(state.path);
  if (exists(path)) return readExpectedLosses(path);
  const { V, L, NH, C } = config;
  const ofGPT2 = V === 50257 && L === 12 && NH === 12 && C === 768 && state.B === 4 && state.T === 64 &&
    Math.abs(state.loss - GPT2_124M.losses[0]!) < 1e-3;
  return ofGPT2 ? GPT2_124M : undefined;
}

/**
 * Reads a JSON of losses, with decay on matrices only: as llmts trains.
 *
 * @throws {FileError} it can't be read or is of another form
 */
function readExpectedLosses(path: string): ExpectedLosses {
  const record = readObject(path);
  const number = (name: string, { expected, holds }: Range): number => {
    const value = record[name];
    if (typeof value !== "number") throw new FileError(path, `has no number "${name}"`);
    const rounded = Math.fround(value); // as the kernel takes it
    if (Number.isFinite(rounded) && holds(rounded)) return value;
    throw new FileError(path, `its "${name}" is ${value}, expected ${expected} in fp32`);
  };
  const losses = (record.losses as Record<string, unknown> | null | undefined)?.matrices;
  if (
    !Array.isArray(losses) || losses.length !== STEPS || !losses.every(Number.isFinite)
  ) {
    throw new FileError(path, `has no list "matrices" of ${STEPS} finite numbers in "losses"`);
  }
  const { stateSha256 } = record;
  if (stateSha256 !== undefined && typeof stateSha256 !== "string") {
    throw new FileError(path, `its "stateSha256" is ${JSON.stringify(stateSha256)}, expected text`);
  }
  return {
    source: path,
    constants: {
      learningRate: number("learningRate", NOT_NEGATIVE),
      beta1: number("beta1", SHARE),
      beta2: number("beta2", SHARE),
      eps: number("eps", POSITIVE),
      weightDecay: number("weightDecay", NOT_NEGATIVE),
    },
    decay: "matrices",
    losses,
    released: false,
    stateSha256,
  };
}

function readObject(path: string): Record<string, unknown> {
  const text = readText(path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FileError(path, `is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new FileError(path, "is JSON but no object, expected the losses that dev/reference/gpt2.py writes");
  }
  return value as Record<string, unknown>;
}

/**
 * Whether a state is, byte by byte, the one that the losses were written with; undefined where they don't say. Most
 * flipped bits of a large file change no number by as much as a tolerance: this finds them all.
 */
export function isIntact({ path }: DebugState, expected: ExpectedLosses | undefined): boolean | undefined {
  if (expected?.stateSha256 === undefined) return undefined;
  using file = openForReading(path);
  return hashFile(file, "sha256") === expected.stateSha256;
}
