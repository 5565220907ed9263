/**
 * What a pass through the model needs beside the parameters: activations of the forward pass and gradients of the backward
 * pass. Their shapes are declared once, in two tables, and drive allocation and the memory that `llmts info` prints.
 *
 * @module
 */
import { aligned, type Device } from "../ffi/device.ts";
import { type DType, type Tensor, tensorAt, tensorBytes, unstack } from "../ffi/tensor.ts";
import type { GPT2Config } from "./config.ts";

/**
 * What backward computes again instead of keeping it, layer by layer (Chen et al. 2016, arXiv 1604.06174): nothing; from the
 * second layernorm to the GELU, which is half of what a layer keeps; or all of a layer but its input. The same ops compute
 * it from the same numbers, so that losses and gradients have the same bits at each level.
 */
export const RECOMPUTE_LEVELS = ["none", "mlp", "block"] as const;
export type RecomputeLevel = typeof RECOMPUTE_LEVELS[number];

/** An activation. */
interface ActivationSpec {
  /** Without the layer. */
  readonly shape: (config: GPT2Config, B: number, T: number) => readonly number[];
  /** Whether each layer has its own. */
  readonly stacked?: true;
  /** The lowest level at which backward computes it again, so that all layers share one layer's memory. */
  readonly recomputed?: RecomputeLevel;
  /** Whether it is fp32 in every precision. */
  readonly fp32?: true;
}

const BTC: ActivationSpec["shape"] = ({ C }, B, T) => [B, T, C];
const BT3C: ActivationSpec["shape"] = ({ C }, B, T) => [B, T, 3 * C];
const BT4C: ActivationSpec["shape"] = ({ C }, B, T) => [B, T, 4 * C];
const BT: ActivationSpec["shape"] = (_, B, T) => [B, T];

/**
 * Forward, in the order of {@linkcode forward}. The residual stream is fp32 in every precision, as in PyTorch's autocast:
 * every layer adds to it, and bf16 would round each time.
 */
const FORWARD = {
  encoded: { shape: BTC, fp32: true },
  ln1: { shape: BTC, stacked: true, recomputed: "block" },
  ln1Mean: { shape: BT, stacked: true, recomputed: "block", fp32: true },
  ln1Rstd: { shape: BT, stacked: true, recomputed: "block", fp32: true },
  qkv: { shape: BT3C, stacked: true, recomputed: "block" },
  atty: { shape: BTC, stacked: true, recomputed: "block" },
  /** Log-sum-exp of each row of attention scores. */
  lse: { shape: ({ NH }, B, T) => [B, NH, T], stacked: true, recomputed: "block", fp32: true },
  /** Output of either projection of a layer, until it is added to the residual stream. */
  projected: { shape: BTC },
  residual2: { shape: BTC, stacked: true, recomputed: "block", fp32: true },
  ln2: { shape: BTC, stacked: true, recomputed: "mlp" },
  ln2Mean: { shape: BT, stacked: true, recomputed: "mlp", fp32: true },
  ln2Rstd: { shape: BT, stacked: true, recomputed: "mlp", fp32: true },
  fch: { shape: BT4C, stacked: true, recomputed: "mlp" },
  fchGelu: { shape: BT4C, stacked: true, recomputed: "mlp" },
  residual3: { shape: BTC, stacked: true, fp32: true },
  lnf: { shape: BTC },
  lnfMean: { shape: BT, fp32: true },
  lnfRstd: { shape: BT, fp32: true },
  losses: { shape: BT, fp32: true },
} as const satisfies Record<string, ActivationSpec>;

/** Backward: one layer's worth, used again by the next one down. */
const BACKWARD = {
  /** Gradient of the residual stream, fp32 as that is. */
  dresidual: { shape: BTC, fp32: true },
  /** Gradient of a layernorm's or the attention's output. */
  dbranch: { shape: BTC },
  dqkv: { shape: BT3C },
  dfch: { shape: BT4C },
} as const satisfies Record<string, ActivationSpec>;

type Stacked<Table> = {
  [Name in keyof Table]: Table[Name] extends { stacked: true } ? Name : never;
}[keyof Table];

type Tensors<Table> =
  & { readonly [Name in Exclude<keyof Table, Stacked<Table>>]: Tensor }
  & { readonly [Name in Stacked<Table>]: readonly Tensor[] };

/** Activations of a forward pass over B sequences of T tokens. */
export type Activations =
  & { readonly B: number; readonly T: number; readonly recompute: RecomputeLevel }
  & Tensors<typeof FORWARD>;

/** Gradients of activations in a backward pass. */
export type ActivationGradients = Tensors<typeof BACKWARD>;

/** What {@linkcode allocateActivations} makes room for. */
export interface ActivationOptions {
  readonly B: number;
  readonly T: number;
  /** Precision of the run. */
  readonly precision: Exclude<DType, "int32">;
  /** Whether backward will follow: if not, all layers share one layer's memory. */
  readonly training: boolean;
  /** Default none. */
  readonly recompute?: RecomputeLevel | undefined;
}

function allocate(
  table: Readonly<Record<string, ActivationSpec>>,
  config: GPT2Config,
  { B, T, precision, training, recompute = "none" }: ActivationOptions,
  device: Device | null,
): { bytes: number; tensors: Record<string, Tensor | readonly Tensor[]> } {
  const level = RECOMPUTE_LEVELS.indexOf(recompute);
  const plan = Object.entries(table).map(([name, { shape, stacked, recomputed, fp32 }]) => {
    const again = recomputed !== undefined && RECOMPUTE_LEVELS.indexOf(recomputed) <= level;
    const kept = stacked && training && !again;
    return {
      name,
      stacked,
      kept,
      dtype: fp32 ? "fp32" as const : precision,
      shape: [kept ? config.L : 1, ...shape(config, B, T)],
    };
  });
  const bytes = plan.reduce((sum, { dtype, shape }) => sum + aligned(tensorBytes(dtype, shape)), 0);
  if (device === null) return { bytes, tensors: {} };
  const memory = device.allocate(bytes);
  let offset = 0;
  const tensors = Object.fromEntries(plan.map(({ name, stacked, kept, dtype, shape }) => {
    const layers = unstack(tensorAt(memory, offset, dtype, shape));
    offset += aligned(tensorBytes(dtype, shape));
    if (!stacked) return [name, layers[0]!];
    return [name, kept ? layers : Array.from({ length: config.L }, () => layers[0]!)];
  }));
  return { bytes, tensors };
}

/** Allocates the activations of a forward pass. */
export function allocateActivations(
  config: GPT2Config,
  device: Device,
  options: ActivationOptions,
): Activations {
  const { tensors } = allocate(FORWARD, config, options, device);
  const { B, T, recompute = "none" } = options;
  return { B, T, recompute, ...tensors } as Activations;
}

/** Allocates the gradients of activations of a backward pass. */
export function allocateActivationGradients(
  config: GPT2Config,
  device: Device,
  options: ActivationOptions,
): ActivationGradients {
  return allocate(BACKWARD, config, options, device).tensors as ActivationGradients;
}

/** Bytes of both allocations. */
export function activationBytes(config: GPT2Config, options: ActivationOptions): number {
  const forward = allocate(FORWARD, config, options, null).bytes;
  return forward + (options.training ? allocate(BACKWARD, config, options, null).bytes : 0);
}
