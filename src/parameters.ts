/**
 * The 16 tensors of a GPT-2, declared once: allocation, files, weight decay, initialisation and Hugging Face's names all
 * follow from this table.
 *
 * @module
 */
import { ALIGNMENT, type Device } from "../ffi/device.ts";
import { type DType, elements, ITEM_BYTES, rows, type Tensor, tensorAt, unstack } from "../ffi/tensor.ts";
import type { GPT2Config } from "./config.ts";

/** How a tensor starts out. `normal` has standard deviation 0.02; `residual` is that over sqrt(2L) (Radford et al. 2019). */
export type Init = "normal" | "residual" | "one" | "zero";

/** What is known of a tensor before a config gives its size. */
export interface TensorSpec<Name extends string = string> {
  readonly name: Name;
  /** Shape as stored; a stacked tensor's first dimension is L. */
  readonly shape: (config: GPT2Config) => readonly number[];
  /** Whether there is one for each layer. */
  readonly stacked: boolean;
  /** Whether weight decay applies: to matrices only, as nanoGPT. */
  readonly decay: boolean;
  readonly init: Init;
  /** Hugging Face's name, without `transformer.`; `{l}` stands for the layer. */
  readonly huggingFace: string;
  /** Whether Hugging Face stores it transposed, (in, out): its Conv1D layers. */
  readonly conv1d: boolean;
}

function spec<const Name extends string>(
  name: Name,
  huggingFace: string,
  init: Init,
  shape: (config: GPT2Config) => readonly number[],
): TensorSpec<Name> {
  const stacked = huggingFace.includes("{l}");
  const matrix = init === "normal" || init === "residual";
  return { name, shape, stacked, decay: matrix, init, huggingFace, conv1d: matrix && stacked };
}

/** The tensors in checkpoint order. Linear weights are (out, in); the classifier shares wte. */
export const TENSORS = [
  spec("wte", "wte.weight", "normal", ({ Vp, C }) => [Vp, C]),
  spec("wpe", "wpe.weight", "normal", ({ maxT, C }) => [maxT, C]),
  spec("ln1w", "h.{l}.ln_1.weight", "one", ({ L, C }) => [L, C]),
  spec("ln1b", "h.{l}.ln_1.bias", "zero", ({ L, C }) => [L, C]),
  spec("qkvw", "h.{l}.attn.c_attn.weight", "normal", ({ L, C }) => [L, 3 * C, C]),
  spec("qkvb", "h.{l}.attn.c_attn.bias", "zero", ({ L, C }) => [L, 3 * C]),
  spec("attprojw", "h.{l}.attn.c_proj.weight", "residual", ({ L, C }) => [L, C, C]),
  spec("attprojb", "h.{l}.attn.c_proj.bias", "zero", ({ L, C }) => [L, C]),
  spec("ln2w", "h.{l}.ln_2.weight", "one", ({ L, C }) => [L, C]),
  spec("ln2b", "h.{l}.ln_2.bias", "zero", ({ L, C }) => [L, C]),
  spec("fcw", "h.{l}.mlp.c_fc.weight", "normal", ({ L, C }) => [L, 4 * C, C]),
  spec("fcb", "h.{l}.mlp.c_fc.bias", "zero", ({ L, C }) => [L, 4 * C]),
  spec("fcprojw", "h.{l}.mlp.c_proj.weight", "residual", ({ L, C }) => [L, C, 4 * C]),
  spec("fcprojb", "h.{l}.mlp.c_proj.bias", "zero", ({ L, C }) => [L, C]),
  spec("lnfw", "ln_f.weight", "one", ({ C }) => [C]),
  spec("lnfb", "ln_f.bias", "zero", ({ C }) => [C]),
] as const;

/** The name of one of the 16 tensors. */
export type TensorName = typeof TENSORS[number]["name"];

/** The tensors of which there is one, not one for each layer. */
type SingleName = "wte" | "wpe" | "lnfw" | "lnfb";

/** The number of parameters, padding rows of wte included, as llm.c counts them: 124,475,904 for GPT-2 124M. */
export function parameterCount(config: GPT2Config): number {
  return TENSORS.reduce((sum, tensor) => sum + elements(tensor.shape(config)), 0);
}

/** Elements of a {@linkcode Parameters} buffer up to and with a tensor of so many: the next begins on a cache line. */
function padded(count: number): number {
  // The same in every precision, so that an element has one index in parameters, gradients and moments alike.
  const unit = ALIGNMENT / ITEM_BYTES.bf16;
  return Math.ceil(count / unit) * unit;
}

/** Elements of a {@linkcode Parameters} buffer. */
function flatElements(config: GPT2Config): number {
  return TENSORS.reduce((sum, { shape }) => sum + padded(elements(shape(config))), 0);
}

/** Bytes of a {@linkcode Parameters} buffer. */
export function parameterBytes(config: GPT2Config, dtype: DType): number {
  return flatElements(config) * ITEM_BYTES[dtype];
}

/**
 * One buffer with room for the 16 tensors: parameters, their gradients, or one of AdamW's moments. Each tensor starts on
 * a multiple of 64 bytes; what lies between them stays zero. A stacked tensor is a list, layer by layer.
 */
export type Parameters =
  & {
    readonly config: GPT2Config;
    readonly dtype: DType;
    /** The whole buffer, gaps included, as one vector: for the optimizer and the norm. */
    readonly flat: Tensor;
    /** Each tensor whole, as files store it. */
    readonly whole: Readonly<Record<TensorName, Tensor>>;
  }
  & Readonly<Record<SingleName, Tensor>>
  & Readonly<Record<Exclude<TensorName, SingleName>, readonly Tensor[]>>;

/** Allocates the 16 tensors, zeroed. @throws {LlmtsError} there is not enough memory */
export function allocateParameters(config: GPT2Config, device: Device, dtype: DType): Parameters {
  const flat = device.tensor(dtype, [flatElements(config)]);
  const whole: Record<string, Tensor> = {};
  const views: Record<string, Tensor | Tensor[]> = {};
  let first = 0;
  for (const { name, shape, stacked } of TENSORS) {
    const tensor = tensorAt(flat.memory, first * ITEM_BYTES[dtype], dtype, shape(config));
    whole[name] = tensor;
    views[name] = stacked ? unstack(tensor) : tensor;
    first += padded(elements(tensor.shape));
  }
  return { config, dtype, flat, whole, ...views } as unknown as Parameters;
}

/** Where each tensor lies in {@linkcode Parameters.flat} and whether it decays: the `segments` of llmts_adamw. */
export function decaySegments(
  { flat, whole, dtype }: Parameters,
  decays: (tensor: TensorSpec) => boolean,
): BigInt64Array<ArrayBuffer> {
  const size = ITEM_BYTES[dtype];
  return BigInt64Array.from(TENSORS.flatMap((tensor) => {
    const { memory } = whole[tensor.name];
    const first = (memory.byteOffset - flat.memory.byteOffset) / size;
    return [first, memory.byteLength / size, decays(tensor) ? 1 : 0].map(BigInt);
  }));
}

/** The rows of wte that are token ids, (V,C): the classifier's weight where plain logits are wanted. */
export function vocabularyRows({ wte, config }: Parameters): Tensor {
  return rows(wte, 0, config.V);
}
