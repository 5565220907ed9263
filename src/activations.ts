/**
 * What a pass through the model needs beside the parameters: activations of the forward pass and gradients of the backward
 * pass. They are declared once, in a table that drives allocation and the memory that `llmts info` prints.
 *
 * @module
 */
import { aligned, type Device } from "../ffi/device.ts";
import { type DType, type Tensor, tensorAt, tensorBytes } from "../ffi/tensor.ts";
import type { GPT2Config } from "./config.ts";

/**
 * What backward computes again instead of keeping it, layer by layer (Chen et al. 2016, arXiv 1604.06174): nothing; what
 * takes next to no time, layernorms and GELU, which is three eighths of what a layer keeps; also the matmul before the
 * GELU, five eighths; or all of a layer but its input. It is computed from the same numbers, so that losses and gradients
 * have the same bits at each level, except where cuBLASLt's GELU differs from ours in the last bits.
 */
export const RECOMPUTE_LEVELS = ["none", "light", "mlp", "block"] as const;
export type RecomputeLevel = typeof RECOMPUTE_LEVELS[number];
export const DEFAULT_RECOMPUTE: RecomputeLevel = "light";

/** An activation, or the gradient of one. */
interface ActivationSpec {
  /** Without the layer. */
  readonly shape: (config: GPT2Config, B: number, T: number) => readonly number[];
  /** Whether each layer has its own. */
  readonly stacked?: true;
  /** The lowest level at which backward computes it again, so that all layers share one layer's memory. */
  readonly recomputed?: RecomputeLevel;
  /** Whether it is fp32 in every precision. */
  readonly fp32?: true;
  /** Whether it is backward's, one layer's worth that the next one down uses again. */
  readonly gradient?: true;
  /**
   * The one whose memory it lies in, since when either is needed the other isn't, or is no longer; unless layers keep their
   * own, or there is no such one.
   */
  readonly within?: string;
}

const BTC: ActivationSpec["shape"] = ({ C }, B, T) => [B, T, C];
const BT3C: ActivationSpec["shape"] = ({ C }, B, T) => [B, T, 3 * C];
const BT4C: ActivationSpec["shape"] = ({ C }, B, T) => [B, T, 4 * C];
const BT: ActivationSpec["shape"] = (_, B, T) => [B, T];

/**
 * In the order of {@linkcode forward} and {@linkcode backward}. The residual stream and its gradient are fp32 in every
 * precision, as in PyTorch's autocast: every layer adds to it, and bf16 would round each time.
 */
const ACTIVATIONS = {
  encoded: { shape: BTC, fp32: true },
  ln1: { shape: BTC, stacked: true, recomputed: "light" },
  ln1Mean: { shape: BT, stacked: true, recomputed: "block", fp32: true },
  ln1Rstd: { shape: BT, stacked: true, recomputed: "block", fp32: true },
  qkv: { shape: BT3C, stacked: true, recomputed: "block" },
  atty: { shape: BTC, stacked: true, recomputed: "block" },
  /** Log-sum-exp of each row of attention scores. */
  lse: { shape: ({ NH }, B, T) => [B, NH, T], stacked: true, recomputed: "block", fp32: true },
  /** Output of either projection of a layer, until it is added to the residual stream. */
  projected: { shape: BTC },
  residual2: { shape: BTC, stacked: true, recomputed: "block", fp32: true },
  ln2: { shape: BTC, stacked: true, recomputed: "light", within: "ln1" },
  ln2Mean: { shape: BT, stacked: true, recomputed: "block", fp32: true },
  ln2Rstd: { shape: BT, stacked: true, recomputed: "block", fp32: true },
  fch: { shape: BT4C, stacked: true, recomputed: "mlp" },
  fchGelu: { shape: BT4C, stacked: true, recomputed: "light" },
  residual3: { shape: BTC, stacked: true, fp32: true },
  /** Gradient of the residual stream. */
  dresidual: { shape: BTC, fp32: true, gradient: true },
  lnf: { shape: BTC, within: "dresidual" },
  lnfMean: { shape: BT, fp32: true },
  lnfRstd: { shape: BT, fp32: true },
  losses: { shape: BT, fp32: true },
  /** Gradient of a layernorm's or the attention's output. */
  dbranch: { shape: BTC, gradient: true, within: "projected" },
  dfch: { shape: BT4C, stacked: true, gradient: true, within: "fchGelu" },
  dqkv: { shape: BT3C, stacked: true, gradient: true, within: "fchGelu" },
} as const satisfies Record<string, ActivationSpec>;

type Table = typeof ACTIVATIONS;
type Stacked = { [Name in keyof Table]: Table[Name] extends { stacked: true } ? Name : never }[keyof Table];
type Gradient = { [Name in keyof Table]: Table[Name] extends { gradient: true } ? Name : never }[keyof Table];
type Held<Name extends keyof Table> = Name extends Stacked ? readonly Tensor[] : Tensor;

/** Activations of a forward pass over B sequences of T tokens; those of training, and what backward needs beside them. */
export type Activations =
  & { readonly B: number; readonly T: number; readonly recompute: RecomputeLevel }
  & { readonly [Name in Exclude<keyof Table, Gradient>]: Held<Name> };
export type TrainingActivations = Activations & { readonly [Name in Gradient]: Held<Name> };

/** What {@linkcode allocateActivations} makes room for. */
export interface ActivationOptions {
  readonly B: number;
  readonly T: number;
  /** Precision of the run. */
  readonly precision: Exclude<DType, "int32">;
  /** Whether backward will follow: if not, all layers share one layer's memory. */
  readonly training: boolean;
  /** Default {@linkcode DEFAULT_RECOMPUTE}. */
  readonly recompute?: RecomputeLevel | undefined;
}

/** Where in memory an activation begins, layer by layer where each has its own. */
interface Placed {
  readonly name: string;
  readonly stacked: boolean;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly offsets: readonly number[];
}

/** Places all that such a run needs; `bytes` is the end. */
function place(
  config: GPT2Config,
  { B, T, precision, training, recompute = DEFAULT_RECOMPUTE }: ActivationOptions,
): { bytes: number; placed: Placed[] } {
  for (const [name, value] of Object.entries({ B, T })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new RangeError(`${name} is ${value}, expected a whole number of at least 1`);
    }
  }
  const level = RECOMPUTE_LEVELS.indexOf(recompute);
  const placed: Placed[] = [];
  let bytes = 0;
  const specs: [string, ActivationSpec][] = Object.entries(ACTIVATIONS);
  for (const [name, { shape: shapeOf, stacked = false, recomputed, fp32, gradient, within }] of specs) {
    if (gradient && !training) continue;
    const again = recomputed !== undefined && RECOMPUTE_LEVELS.indexOf(recomputed) <= level;
    const kept = stacked && training && !again && !gradient;
    const dtype = fp32 ? "fp32" : precision;
    const shape = shapeOf(config, B, T);
    const owner = kept ? undefined : placed.find((other) => other.name === within);
    const size = aligned(tensorBytes(dtype, shape));
    const offsets = owner?.offsets ?? Array.from({ length: kept ? config.L : 1 }, (_, l) => bytes + l * size);
    if (owner === undefined) bytes += offsets.length * size;
    placed.push({ name, stacked, dtype, shape, offsets });
  }
  return { bytes, placed };
}

/** Allocates what a forward pass needs, and a backward pass where one will follow. */
export function allocateActivations(
  config: GPT2Config,
  device: Device,
  options: ActivationOptions & { readonly training: true },
): TrainingActivations;
export function allocateActivations(
  config: GPT2Config,
  device: Device,
  options: ActivationOptions,
): Activations;
export function allocateActivations(
  config: GPT2Config,
  device: Device,
  options: ActivationOptions,
): Activations {
  const { bytes, placed } = place(config, options);
  const memory = device.allocate(bytes);
  const tensors = placed.map(({ name, stacked, dtype, shape, offsets }) => {
    const at = (l: number): Tensor => tensorAt(memory, offsets[l % offsets.length]!, dtype, shape);
    return [name, stacked ? Array.from({ length: config.L }, (_, l) => at(l)) : at(0)];
  });
  const { B, T, recompute = DEFAULT_RECOMPUTE } = options;
  return { B, T, recompute, ...Object.fromEntries(tensors) } as Activations;
}

/** Bytes of that allocation. */
export function activationBytes(config: GPT2Config, options: ActivationOptions): number {
  return place(config, options).bytes;
}
