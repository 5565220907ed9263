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
  /** Bytes read, and bytes written. */
  readonly read: number;
  readonly written: number;
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
function product(name: string, N: number, weight: Tensor, read: number, written: number): Cost {
  const [OC, C] = sizes(weight);
  return { label: `${name} N=${N} C=${C} OC=${OC}`, flops: 2 * N * C * OC, read, written };
}

/** Pairs of a query and a key, over all sequences and heads, times the size of a head. */
function causal({ shape: [B = 0, T = 0, C = 0] }: Tensor): number {
  return B * C * T * (T + 1) / 2;
}

/** An op that memory bounds: its operations are not counted. */
function streaming(name: string, tensor: Tensor, read: number, written: number): Cost {
  const [N, C] = sizes(tensor);
  return { label: `${name} ${N === 1 ? `n=${C}` : `N=${N} C=${C}`}`, flops: 0, read, written };
}

/** The ops that training and generation call. */
const COSTS: { readonly [Name in OpName]?: (...args: Parameters<Ops[Name]>) => Cost } = {
  // Of a table only the rows of these tokens.
  embedding: (out, tokens, wte, wpe) =>
    streaming(
      "embedding",
      out,
      bytesOf(tokens) + rowsBytes(wte, elements(tokens.shape)) + rowsBytes(wpe, out.shape[1]!),
      bytesOf(out),
    ),
  embeddingBackward: (dwte, dwpe, dout, tokens) => {
    const rows = rowsBytes(dwte, elements(tokens.shape));
    return streaming("embedding backward", dout, bytesOf(dout, tokens) + rows, bytesOf(dwpe) + rows);
  },
  layernorm: (out, mean, rstd, x, weight, bias) =>
    streaming("layernorm", out, bytesOf(x, weight, bias), bytesOf(out, mean, rstd)),
  residualLayernorm: (residual, out, mean, rstd, a, b, weight, bias) =>
    streaming(
      "residual + layernorm",
      residual,
      bytesOf(a, b, weight, bias),
      bytesOf(residual, out, mean, rstd),
    ),
  layernormBackward: (dx, dweight, dbias, dout, dresidual, x, mean, rstd, weight) =>
    streaming(
      "layernorm backward",
      dx,
      bytesOf(dout, dresidual, x, mean, rstd, weight),
      bytesOf(dx, dweight, dbias),
    ),
  matmul: (out, x, weight, bias) =>
    product("matmul", sizes(x)[0], weight, bytesOf(x, weight, bias), bytesOf(out)),
  matmulGelu: (out, pre, x, weight, bias) =>
    product("matmul + gelu", sizes(x)[0], weight, bytesOf(x, weight, bias), bytesOf(out, pre)),
  matmulDinput: (dx, dout, weight, pre) =>
    product(
      pre ? "dinput + dgelu" : "dinput",
      sizes(dx)[0],
      weight,
      bytesOf(dout, weight, pre),
      bytesOf(dx),
    ),
  matmulDweight: (dweight, dout, x) =>
    product("dweight", sizes(x)[0], dweight, bytesOf(dout, x), bytesOf(dweight)),
  matmulDbias: (dbias, dout) => streaming("dbias", dout, bytesOf(dout), bytesOf(dbias)),
  gelu: (out, x) => streaming("gelu", out, bytesOf(x), bytesOf(out)),
  // Two products forward; backward those of the scores again, and of the gradients of queries, keys, values and scores.
  attention: (out, lse, qkv) => ({
    ...streaming("attention", out, bytesOf(qkv), bytesOf(out, lse)),
    flops: 2 * 2 * causal(out),
  }),
  attentionBackward: (dqkv, dout, out, lse, qkv) => ({
    ...streaming("attention backward", out, bytesOf(dout, out, lse, qkv), bytesOf(dqkv)),
    flops: 5 * 2 * causal(out),
  }),
  // Of the cache what is filled.
  attentionCached: (out, keys, values, qkv, position) => {
    const [, T = 0] = out.shape;
    const slot = bytesOf(keys, values) / keys.shape[2]!;
    return streaming(
      "attention, cached",
      out,
      bytesOf(qkv) + position * slot,
      bytesOf(out) + T * slot,
    );
  },
  // Forward one product, backward two; the logits never reach memory.
  classifier: (losses, dx, dwte, x, wte, targets, V) => {
    const [N, C] = sizes(x);
    return {
      label: `classifier N=${N} C=${C} V=${V}`,
      flops: (dx === null ? 1 : 3) * 2 * N * C * V,
      read: bytesOf(x, wte, targets),
      written: bytesOf(losses, dx, dwte),
    };
  },
  globalNorm: (grads) => streaming("global norm", grads, bytesOf(grads), 0),
  // bf16 parameters beside a master copy are only written.
  adamw: (params, master, grads, m, v) =>
    streaming("AdamW", grads, bytesOf(grads, m, v, master ?? params), bytesOf(m, v, master, params)),
};

/** The cost of a call; of an op that has no formula, its name alone. */
export function costOf<Name extends OpName>(name: Name, args: Parameters<Ops[Name]>): Cost {
  const formula = COSTS[name] as ((...args: Parameters<Ops[Name]>) => Cost) | undefined;
  return formula?.(...args) ?? { label: name, flops: 0, read: 0, written: 0 };
}

/** What this machine does at most in a second: operations, bytes read, and bytes read and written together. */
export interface Limits {
  readonly flops: number;
  readonly read: number;
  readonly moved: number;
}

/** The least time that a cost can take, in milliseconds: arithmetic and memory at once, each at its peak. */
export function floor({ flops, read, written }: Omit<Cost, "label">, limits: Limits): number {
  return 1000 * Math.max(flops / limits.flops, read / limits.read, (read + written) / limits.moved);
}
