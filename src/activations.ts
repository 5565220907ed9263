/**
 * What a pass through the model needs beside the parameters: activations of the forward pass and gradients of the backward
 * pass. Their shapes are declared once, in two tables, and drive allocation and the memory that `llmts info` prints.
 *
 * @module
 */
import { aligned, type Device } from "../ffi/device.ts";
import { type DType, type Tensor, tensorAt, tensorBytes, unstack } from "../ffi/tensor.ts";
import type { GPT2Config } from "./config.ts";

/** An activation's shape without the layer, whether each layer has its own, and whether it is fp32 in every precision. */
interface ActivationSpec {
  readonly shape: (config: GPT2Config, B: number, T: number) => readonly number[];
  readonly stacked?: true;
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
  ln1: { shape: BTC, stacked: true },
  ln1Mean: { shape: BT, stacked: true, fp32: true },
  ln1Rstd: { shape: BT, stacked: true, fp32: true },
  qkv: { shape: BT3C, stacked: true },
  atty: { shape: BTC, stacked: true },
  /** Log-sum-exp of each row of attention scores. */
  lse: { shape: ({ NH }, B, T) => [B, NH, T], stacked: true, fp32: true },
  /** Output of either projection of a layer, until it is added to the residual stream. */
  projected: { shape: BTC },
  residual2: { shape: BTC, stacked: true, fp32: true },
  ln2: { shape: BTC, stacked: true },
  ln2Mean: { shape: BT, stacked: true, fp32: true },
  ln2Rstd: { shape: BT, stacked: true, fp32: true },
  fch: { shape: BT4C, stacked: true },
  fchGelu: { shape: BT4C, stacked: true },
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
export type Activations = { readonly B: number; readonly T: number } & Tensors<typeof FORWARD>;

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
}

function allocate(
  table: Readonly<Record<string, ActivationSpec>>,
  config: GPT2Config,
  { B, T, precision, training }: ActivationOptions,
  device: Device | null,
): { bytes: number; tensors: Record<string, Tensor | readonly Tensor[]> } {
  const plan = Object.entries(table).map(([name, { shape, stacked, fp32 }]) => ({
    name,
    stacked,
    dtype: fp32 ? "fp32" : precision,
    shape: [stacked && training ? config.L : 1, ...shape(config, B, T)],
  }));
  const bytes = plan.reduce((sum, { dtype, shape }) => sum + aligned(tensorBytes(dtype, shape)), 0);
  if (device === null) return { bytes, tensors: {} };
  const memory = device.allocate(bytes);
  let offset = 0;
  const tensors = Object.fromEntries(plan.map(({ name, stacked, dtype, shape }) => {
    const layers = unstack(tensorAt(memory, offset, dtype, shape));
    offset += aligned(tensorBytes(dtype, shape));
    if (!stacked) return [name, layers[0]!];
    return [name, training ? layers : Array.from({ length: config.L }, () => layers[0]!)];
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
  return { B: options.B, T: options.T, ...tensors } as Activations;
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
