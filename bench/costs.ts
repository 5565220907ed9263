/**
 * What an op must do at least: floating-point operations, and bytes between memory and processor when each of its tensors
 * is read or written once. From the shapes it is called with. A multiplication and an addition are two operations.
 *
 * @module
 */
import type { Ops } from "../ffi/ops.ts";
import { elements, ITEM_BYTES, type Tensor, tensorBytes } from "../ffi/tensor.ts";

/** The ops' names. */
export type OpName = keyof Ops;

/** See the module. */
export interface Cost {
  /** The op with its shape. */
  readonly label: string;
  readonly flops: number;
  readonly bytes: number;
}

/** Rows and columns of a tensor. */
function sizes({ shape }: Tensor): [number, number] {
  const columns = shape.at(-1)!;
  return [elements(shape) / columns, columns];
}

function bytesOf(...tensors: readonly (Tensor | null | undefined)[]): number {
  return tensors.reduce((sum, tensor) => sum + (tensor ? tensorBytes(tensor.dtype, tensor.shape) : 0), 0);
}

function rowsBytes(tensor: Tensor, rows: number): number {
  return rows * sizes(tensor)[1] * ITEM_BYTES[tensor.dtype];
}

/** A product x (N,C) · weightᵀ (OC,C), or one of its two gradients, which take as many operations. */
function product(name: string, N: number, weight: Tensor, bytes: number): Cost {
  const [OC, C] = sizes(weight);
  return { label: `${name} N=${N} C=${C} OC=${OC}`, flops: 2 * N * C * OC, bytes };
}

/** Pairs of a query and a key, over all sequences and heads, times the size of a head. */
function causal({ shape: [B = 0, T = 0, C = 0] }: Tensor): number {
  return B * C * T * (T + 1) / 2;
}

/** An op that memory bounds: its operations are not counted. */
function streaming(name: string, tensor: Tensor, bytes: number): Cost {
  const [N, C] = sizes(tensor);
  return { label: `${name} ${N === 1 ? `n=${C}` : `N=${N} C=${C}`}`, flops: 0, bytes };
}

/** The ops that training and generation call. */
const COSTS: { readonly [Name in OpName]?: (...args: Parameters<Ops[Name]>) => Cost } = {
  // Of a table only the rows of these tokens.
  embedding: (out, tokens, wte, wpe) =>
    streaming(
      "embedding",
      out,
      bytesOf(out, tokens) + rowsBytes(wte, elements(tokens.shape)) + rowsBytes(wpe, out.shape[1]!),
    ),
  embeddingBackward: (dwte, dwpe, dout, tokens) =>
    streaming(
      "embedding backward",
      dout,
      bytesOf(dout, tokens, dwpe) + 2 * rowsBytes(dwte, elements(tokens.shape)),
    ),
  layernorm: (...tensors) => streaming("layernorm", tensors[0], bytesOf(...tensors)),
  residualLayernorm: (...tensors) => streaming("residual + layernorm", tensors[0], bytesOf(...tensors)),
  layernormBackward: (dx, dweight, dbias, dout, dresidual, x, mean, rstd, weight) =>
    streaming(
      "layernorm backward",
      dx,
      bytesOf(dx, dweight, dbias, dout, dresidual, x, mean, rstd, weight),
    ),
  matmul: (out, x, weight, bias) => product("matmul", sizes(x)[0], weight, bytesOf(out, x, weight, bias)),
  matmulGelu: (out, pre, x, weight, bias) =>
    product("matmul + gelu", sizes(x)[0], weight, bytesOf(out, pre, x, weight, bias)),
  matmulDinput: (dx, dout, weight, pre) =>
    product(pre ? "dinput + dgelu" : "dinput", sizes(dx)[0], weight, bytesOf(dx, dout, weight, pre)),
  matmulDweight: (dweight, dout, x) => product("dweight", sizes(x)[0], dweight, bytesOf(dweight, dout, x)),
  matmulDbias: (dbias, dout) => streaming("dbias", dout, bytesOf(dbias, dout)),
  // Two products forward; backward those of the scores again, and of the gradients of queries, keys, values and scores.
  attention: (out, lse, qkv) => ({
    ...streaming("attention", out, bytesOf(out, lse, qkv)),
    flops: 2 * 2 * causal(out),
  }),
  attentionBackward: (dqkv, dout, out, lse, qkv) => ({
    ...streaming("attention backward", out, bytesOf(dqkv, dout, out, lse, qkv)),
    flops: 5 * 2 * causal(out),
  }),
  // Of the cache what is filled.
  attentionCached: (out, keys, values, qkv, position) => {
    const [, T = 0] = out.shape;
    const filled = (position + T) / keys.shape[2]!;
    return streaming("attention, cached", out, bytesOf(out, qkv) + filled * bytesOf(keys, values));
  },
  // Forward one product, backward two; the logits never reach memory.
  classifier: (losses, dx, dwte, x, wte, targets, V) => {
    const [N, C] = sizes(x);
    return {
      label: `classifier N=${N} C=${C} V=${V}`,
      flops: (dx === null ? 1 : 3) * 2 * N * C * V,
      bytes: bytesOf(losses, dx, dwte, x, wte, targets),
    };
  },
  globalNorm: (grads) => streaming("global norm", grads, bytesOf(grads)),
  // What is updated is read and written; bf16 parameters beside a master copy are only written.
  adamw: (params, master, grads, m, v) =>
    streaming(
      "AdamW",
      grads,
      bytesOf(grads) + 2 * bytesOf(m, v, master ?? params) + (master === null ? 0 : bytesOf(params)),
    ),
};

/** The cost of a call; of an op that has no formula, its name alone. */
export function costOf<Name extends OpName>(name: Name, args: Parameters<Ops[Name]>): Cost {
  const formula = COSTS[name] as ((...args: Parameters<Ops[Name]>) => Cost) | undefined;
  return formula?.(...args) ?? { label: name, flops: 0, bytes: 0 };
}

/** What this machine does at most: operations and bytes in a second. */
export interface Limits {
  readonly flops: number;
  readonly bytes: number;
}

/** The least time that a cost can take, in milliseconds: arithmetic and memory at once, each at its peak. */
export function floor({ flops, bytes }: Omit<Cost, "label">, limits: Limits): number {
  return 1000 * Math.max(flops / limits.flops, bytes / limits.bytes);
}
