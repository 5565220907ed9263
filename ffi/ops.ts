/**
 * One typed method for each op of kernels/abi.h: shapes are checked here, then the kernel is called. Outputs first, then
 * inputs. N stands for all dimensions but the last: a (B,T,C) tensor has N = B·T rows.
 *
 * Backward methods store into gradients of activations. Into gradients of parameters, marked (+)=, they add, or with
 * `accumulate` false store, every element of them.
 *
 * @module
 */
import type { Library } from "./library.ts";
import type { Memory } from "./memory.ts";
import { describe, type DType, elements, type Tensor } from "./tensor.ts";

/** A tensor that may be left out. */
type Optional = Tensor | null;

/** Learning rate and constants of AdamW; `step` counts from 1. */
export interface AdamWConstants {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
  /** What gradients are multiplied with first: clipping, averaging. */
  readonly gradScale: number;
  readonly step: number;
  /** Of stochastic rounding, where bf16 parameters have no master copy. Default 0. */
  readonly seed?: number;
}

/** See the module; the formulas are in kernels/abi.h. */
export interface Ops {
  /** out (B,T,C) from tokens (B,T), wte (Vp,C) of which V rows are ids, wpe (maxT,C). */
  embedding(out: Tensor, tokens: Tensor, wte: Tensor, wpe: Tensor, V: number, position?: number): void;
  /** dwte (Vp,C) += dout (B,T,C) by token, whatever `accumulate` is: the classifier writes it first. dwpe (maxT,C) (+)= dout. */
  embeddingBackward(
    dwte: Tensor,
    dwpe: Tensor,
    dout: Tensor,
    tokens: Tensor,
    V: number,
    accumulate?: boolean,
  ): void;
  /** out (N,C), mean and rstd (N) from x (N,C), weight and bias (C). */
  layernorm(out: Tensor, mean: Optional, rstd: Optional, x: Tensor, weight: Tensor, bias: Tensor): void;
  /** residual = a + b, out = layernorm(residual), all (N,C). */
  residualLayernorm(
    residual: Tensor,
    out: Tensor,
    mean: Optional,
    rstd: Optional,
    a: Tensor,
    b: Tensor,
    weight: Tensor,
    bias: Tensor,
  ): void;
  /** dx (N,C) = dresidual + the gradient through the layernorm; dweight and dbias (C) (+)=. */
  layernormBackward(
    dx: Tensor,
    dweight: Tensor,
    dbias: Tensor,
    dout: Tensor,
    dresidual: Optional,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    accumulate?: boolean,
  ): void;
  /** Bytes of an (OC,C) weight in int8; 0 where the library has no such layout. */
  packedBytes(OC: number, C: number): number;
  /** packed, an int8 tensor (OC,C) with that many bytes, = weight, each row with a scale of its own. */
  pack(packed: Tensor, weight: Tensor): void;
  /** out (N,OC) = x (N,C) · weightᵀ (OC,C) + bias (OC). The weight may be int8. */
  matmul(out: Tensor, x: Tensor, weight: Tensor, bias: Optional): void;
  /** out = gelu(pre), pre (N,OC) = x · weightᵀ + bias. */
  matmulGelu(out: Tensor, pre: Optional, x: Tensor, weight: Tensor, bias: Optional): void;
  /** dx (N,C) = dout (N,OC) · weight (OC,C); with `pre`, times gelu'(pre). */
  matmulDinput(dx: Tensor, dout: Tensor, weight: Tensor, pre?: Optional): void;
  /** dweight (OC,C) (+)= doutᵀ · x. */
  matmulDweight(dweight: Tensor, dout: Tensor, x: Tensor, accumulate?: boolean): void;
  /** dbias (OC) (+)= the rows of dout (N,OC). */
  matmulDbias(dbias: Tensor, dout: Tensor, accumulate?: boolean): void;
  /** out (B,T,C), lse (B,NH,T) from qkv (B,T,3C). */
  attention(out: Tensor, lse: Optional, qkv: Tensor, NH: number): void;
  attentionBackward(dqkv: Tensor, dout: Tensor, out: Tensor, lse: Tensor, qkv: Tensor, NH: number): void;
  /** out (B,T,C) from qkv (B,T,3C) at `position` on, with keys and values (B,NH,maxT,HS) of what went before. */
  attentionCached(out: Tensor, keys: Tensor, values: Tensor, qkv: Tensor, position: number): void;
  /** out = x in another precision. */
  convert(out: Tensor, x: Tensor): void;
  gelu(out: Tensor, x: Tensor): void;
  geluBackward(dx: Tensor, dout: Tensor, x: Tensor): void;
  /** out = a + b. */
  residual(out: Tensor, a: Tensor, b: Tensor): void;
  /** losses (N) from x (N,C), wte (Vp,C), targets (N); dx (N,C) = and dwte (Vp,C) (+)= too where they are given. */
  classifier(
    losses: Tensor,
    dx: Optional,
    dwte: Optional,
    x: Tensor,
    wte: Tensor,
    targets: Tensor,
    V: number,
    scale: number,
    accumulate?: boolean,
  ): void;
  /** The Euclidean norm of fp32 gradients. */
  globalNorm(grads: Tensor): number;
  /** One AdamW step; `segments` (S,3): first element, elements, whether decay applies. */
  adamw(
    params: Tensor,
    master: Optional,
    grads: Tensor,
    m: Tensor,
    v: Tensor,
    segments: BigInt64Array<ArrayBuffer>,
    constants: AdamWConstants,
  ): void;
}

const DTYPE: Readonly<Record<DType, number>> = { fp32: 0, bf16: 1, int32: -1, int8: -1 };
const IDENTITY = 0;
const GELU = 1;

/** The ops of a loaded library. */
export function createOps(library: Library): Ops {
  /** The two halves of a tensor that a kernel takes. */
  const memory = (tensor: Optional): Memory | null => tensor?.memory ?? null;
  const dtype = (tensor: Optional): number => tensor === null ? DTYPE.fp32 : DTYPE[tensor.dtype];
  const { call } = library;

  function matmul(
    out: Tensor,
    pre: Optional,
    x: Tensor,
    weight: Tensor,
    bias: Optional,
    activation: number,
  ): void {
    const [OC, C] = matrix("weight", weight);
    const N = rowsOf("x", x, C);
    expect("out", out, N, OC);
    if (pre !== null) expect("pre", pre, N, OC);
    if (bias !== null) expect("bias", bias, 1, OC);
    const [plain, packed] = weight.dtype === "int8" ? [null, weight] : [weight, null];
    // deno-fmt-ignore
    call("llmts_matmul_forward", { out, x, weight, bias },
      memory(out), dtype(out), memory(pre), dtype(pre), memory(x), dtype(x), memory(plain), dtype(plain),
      memory(packed), memory(bias), dtype(bias), activation, BigInt(N), BigInt(C), BigInt(OC));
  }

  return {
    packedBytes(OC, C): number {
      const bytes = new BigInt64Array(1);
      call("llmts_packed_bytes", {}, bytes, BigInt(OC), BigInt(C));
      return Number(bytes[0]);
    },

    pack(packed, weight): void {
      const [OC, C] = matrix("weight", weight);
      expect("packed", packed, OC, C);
      // deno-fmt-ignore
      call("llmts_pack", { packed, weight },
        memory(packed), memory(weight), dtype(weight), BigInt(OC), BigInt(C));
    },

    embedding(out, tokens, wte, wpe, V, position = 0): void {
      const [B, T, C] = cube("out", out);
      const [maxT] = matrix("wpe", wpe);
      expect("tokens", tokens, B, T);
      expect("wpe", wpe, maxT, C);
      atLeastRows("wte", wte, V, C);
      // deno-fmt-ignore
      call("llmts_embedding_forward", { out, tokens, wte, wpe },
        memory(out), dtype(out), ids("tokens", tokens), memory(wte), dtype(wte), memory(wpe), dtype(wpe),
        BigInt(B), BigInt(T), BigInt(C), BigInt(V), BigInt(maxT), BigInt(position));
    },

    embeddingBackward(dwte, dwpe, dout, tokens, V, accumulate = true): void {
      const [B, T, C] = cube("dout", dout);
      expect("tokens", tokens, B, T);
      atLeastRows("dwte", dwte, V, C);
      const maxT = rowsOf("dwpe", dwpe, C);
      // deno-fmt-ignore
      call("llmts_embedding_backward", { dwte, dwpe, dout, tokens },
        fp32("dwte", dwte), fp32("dwpe", dwpe), memory(dout), dtype(dout), ids("tokens", tokens), Number(accumulate),
        BigInt(B), BigInt(T), BigInt(C), BigInt(V), BigInt(maxT));
    },

    layernorm(out, mean, rstd, x, weight, bias): void {
      const C = elements(weight.shape);
      const N = rowsOf("x", x, C);
      expect("out", out, N, C);
      expect("bias", bias, 1, C);
      for (const statistic of [mean, rstd]) if (statistic !== null) expect("mean, rstd", statistic, 1, N);
      // deno-fmt-ignore
      call("llmts_layernorm_forward", { out, x, weight, bias },
        memory(out), dtype(out), fp32("mean", mean), fp32("rstd", rstd), memory(x), dtype(x),
        memory(weight), dtype(weight), memory(bias), dtype(bias), BigInt(N), BigInt(C));
    },

    residualLayernorm(residual, out, mean, rstd, a, b, weight, bias): void {
      const C = elements(weight.shape);
      const N = rowsOf("a", a, C);
      for (const [name, tensor] of Object.entries({ residual, out, b })) expect(name, tensor, N, C);
      expect("bias", bias, 1, C);
      for (const statistic of [mean, rstd]) if (statistic !== null) expect("mean, rstd", statistic, 1, N);
      // deno-fmt-ignore
      call("llmts_residual_layernorm_forward", { residual, out, a, b, weight, bias },
        memory(residual), dtype(residual), memory(out), dtype(out), fp32("mean", mean), fp32("rstd", rstd),
        memory(a), dtype(a), memory(b), dtype(b), memory(weight), dtype(weight), memory(bias), dtype(bias),
        BigInt(N), BigInt(C));
    },

    layernormBackward(dx, dweight, dbias, dout, dresidual, x, mean, rstd, weight, accumulate = true): void {
      const C = elements(weight.shape);
      const N = rowsOf("x", x, C);
      for (const [name, tensor] of Object.entries({ dx, dout })) expect(name, tensor, N, C);
      if (dresidual !== null) expect("dresidual", dresidual, N, C);
      for (const [name, tensor] of Object.entries({ dweight, dbias })) expect(name, tensor, 1, C);
      for (const [name, tensor] of Object.entries({ mean, rstd })) expect(name, tensor, 1, N);
      // deno-fmt-ignore
      call("llmts_layernorm_backward", { dx, dweight, dbias, dout, dresidual, x, weight },
        memory(dx), dtype(dx), fp32("dweight", dweight), fp32("dbias", dbias), memory(dout), dtype(dout),
        memory(dresidual), dtype(dresidual), memory(x), dtype(x), fp32("mean", mean), fp32("rstd", rstd),
        memory(weight), dtype(weight), Number(accumulate), BigInt(N), BigInt(C));
    },

    matmul(out, x, weight, bias): void {
      matmul(out, null, x, weight, bias, IDENTITY);
    },

    matmulGelu(out, pre, x, weight, bias): void {
      matmul(out, pre, x, weight, bias, GELU);
    },

    matmulDinput(dx, dout, weight, pre = null): void {
      const [OC, C] = matrix("weight", weight);
      const N = rowsOf("dx", dx, C);
      expect("dout", dout, N, OC);
      if (pre !== null) expect("pre", pre, N, C);
      // deno-fmt-ignore
      call("llmts_matmul_dinput", { dx, dout, weight, pre },
        memory(dx), dtype(dx), memory(dout), dtype(dout), memory(weight), dtype(weight), memory(pre), dtype(pre),
        BigInt(N), BigInt(C), BigInt(OC));
    },

    matmulDweight(dweight, dout, x, accumulate = true): void {
      const [OC, C] = matrix("dweight", dweight);
      const N = rowsOf("x", x, C);
      expect("dout", dout, N, OC);
      // deno-fmt-ignore
      call("llmts_matmul_dweight", { dweight, dout, x },
        fp32("dweight", dweight), memory(dout), dtype(dout), memory(x), dtype(x), Number(accumulate),
        BigInt(N), BigInt(C), BigInt(OC));
    },

    matmulDbias(dbias, dout, accumulate = true): void {
      const OC = elements(dbias.shape);
      const N = rowsOf("dout", dout, OC);
      // deno-fmt-ignore
      call("llmts_matmul_dbias", { dbias, dout },
        fp32("dbias", dbias), memory(dout), dtype(dout), Number(accumulate), BigInt(N), BigInt(OC));
    },

    attention(out, lse, qkv, NH): void {
      const [B, T, C] = cube("out", out);
      expect("qkv", qkv, B * T, 3 * C);
      if (lse !== null) expect("lse", lse, B * NH, T);
      // deno-fmt-ignore
      call("llmts_attention_forward", { out, lse, qkv },
        memory(out), dtype(out), fp32("lse", lse), memory(qkv), dtype(qkv), BigInt(B), BigInt(T), BigInt(C), BigInt(NH));
    },

    attentionBackward(dqkv, dout, out, lse, qkv, NH): void {
      const [B, T, C] = cube("out", out);
      expect("dout", dout, B * T, C);
      for (const [name, tensor] of Object.entries({ dqkv, qkv })) expect(name, tensor, B * T, 3 * C);
      expect("lse", lse, B * NH, T);
      // deno-fmt-ignore
      call("llmts_attention_backward", { dqkv, dout, out, lse, qkv },
        memory(dqkv), dtype(dqkv), memory(dout), dtype(dout), memory(out), dtype(out), fp32("lse", lse),
        memory(qkv), dtype(qkv), BigInt(B), BigInt(T), BigInt(C), BigInt(NH));
    },

    attentionCached(out, keys, values, qkv, position): void {
      const [B, T, C] = cube("out", out);
      const [, NH = 0, maxT = 0, HS = 0] = keys.shape;
      expect("qkv", qkv, B * T, 3 * C);
      for (const [name, tensor] of Object.entries({ keys, values })) expect(name, tensor, B * NH * maxT, HS);
      if (NH * HS !== C || keys.dtype !== values.dtype) {
        mismatch("keys", keys, `(${B},NH,maxT,HS), NH·HS = ${C}`);
      }
      // deno-fmt-ignore
      call("llmts_attention_cached", { out, keys, values, qkv },
        memory(out), dtype(out), memory(keys), memory(values), dtype(keys), memory(qkv), dtype(qkv),
        BigInt(B), BigInt(T), BigInt(C), BigInt(NH), BigInt(maxT), BigInt(position));
    },

    convert(out, x): void {
      elementwise({ out, x });
      call("llmts_convert", { out, x }, memory(out), dtype(out), memory(x), dtype(x), count(out));
    },

    gelu(out, x): void {
      elementwise({ out, x });
      call("llmts_gelu_forward", { out, x }, memory(out), dtype(out), memory(x), dtype(x), count(out));
    },

    geluBackward(dx, dout, x): void {
      elementwise({ dx, dout, x });
      // deno-fmt-ignore
      call("llmts_gelu_backward", { dx, dout, x },
        memory(dx), dtype(dx), memory(dout), dtype(dout), memory(x), dtype(x), count(dx));
    },

    residual(out, a, b): void {
      elementwise({ out, a, b });
      // deno-fmt-ignore
      call("llmts_residual_forward", { out, a, b },
        memory(out), dtype(out), memory(a), dtype(a), memory(b), dtype(b), count(out));
    },

    classifier(losses, dx, dwte, x, wte, targets, V, scale, accumulate = true): void {
      const [Vp, C] = matrix("wte", wte);
      const N = rowsOf("x", x, C);
      for (const [name, tensor] of Object.entries({ losses, targets })) expect(name, tensor, 1, N);
      if (dx !== null) expect("dx", dx, N, C);
      if (dwte !== null) expect("dwte", dwte, Vp, C);
      // deno-fmt-ignore
      call("llmts_classifier", { losses, dx, dwte, x, wte, targets },
        fp32("losses", losses), memory(dx), dtype(dx), fp32("dwte", dwte), memory(x), dtype(x), memory(wte), dtype(wte),
        ids("targets", targets), scale, Number(accumulate), BigInt(N), BigInt(C), BigInt(V), BigInt(Vp));
    },

    globalNorm(grads): number {
      const norm = new Float64Array(1);
      call("llmts_global_norm", { grads }, norm, fp32("grads", grads), count(grads));
      return norm[0]!;
    },

    adamw(params, master, grads, m, v, segments, constants): void {
      elementwise({ params, grads, m, v, ...(master === null ? {} : { master }) });
      const { learningRate, beta1, beta2, eps, weightDecay, gradScale, step, seed = 0 } = constants;
      // deno-fmt-ignore
      call("llmts_adamw", { params, master, grads, m, v },
        memory(params), dtype(params), fp32("master", master), fp32("grads", grads), fp32("m", m), fp32("v", v),
        segments, BigInt(segments.length / 3), count(params), learningRate, beta1, beta2, eps, weightDecay, gradScale,
        BigInt(step), BigInt(seed));
    },
  };
}

function count(tensor: Tensor): bigint {
  return BigInt(elements(tensor.shape));
}

function mismatch(name: string, tensor: Tensor, expected: string): never {
  throw new RangeError(`Expected ${name} to be ${expected}, found ${describe(tensor)}`);
}

/** N for a tensor whose rows have `columns` elements. */
function rowsOf(name: string, tensor: Tensor, columns: number): number {
  const total = elements(tensor.shape);
  if (columns === 0 || total % columns !== 0) mismatch(name, tensor, `rows of ${columns}`);
  return total / columns;
}

/** Checks that a tensor has `N` rows of `columns`, however its leading dimensions are split. */
function expect(name: string, tensor: Tensor, N: number, columns: number): void {
  if (elements(tensor.shape) !== N * columns) {
    mismatch(name, tensor, N === 1 ? `(${columns})` : `(${N},${columns})`);
  }
}

function atLeastRows(name: string, tensor: Tensor, N: number, columns: number): void {
  if (rowsOf(name, tensor, columns) < N) mismatch(name, tensor, `at least ${N} rows of ${columns}`);
}

function matrix(name: string, tensor: Tensor): [number, number] {
  const [N, columns] = tensor.shape;
  if (tensor.shape.length !== 2 || N === undefined || columns === undefined) {
    mismatch(name, tensor, "a matrix");
  }
  return [N, columns];
}

function cube(name: string, tensor: Tensor): [number, number, number] {
  const [B, T, C] = tensor.shape;
  if (tensor.shape.length !== 3 || B === undefined || T === undefined || C === undefined) {
    mismatch(name, tensor, "(B,T,C)");
  }
  return [B, T, C];
}

function elementwise(tensors: Readonly<Record<string, Tensor>>): void {
  const [first, ...others] = Object.entries(tensors);
  for (const [name, tensor] of others) expect(name, tensor, 1, elements(first![1].shape));
}

function fp32(name: string, tensor: Optional): Memory | null {
  if (tensor !== null && tensor.dtype !== "fp32") mismatch(name, tensor, "fp32");
  return tensor?.memory ?? null;
}

function ids(name: string, tensor: Tensor): Memory {
  if (tensor.dtype !== "int32") mismatch(name, tensor, "int32");
  return tensor.memory;
}
