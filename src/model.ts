/**
 * GPT-2 (Radford et al. 2019), forward and backward, op by op. This is the page to read first: every line is one op, with
 * the shape of its result beside it.
 *
 * B sequences, T positions, C channels, NH heads, L layers, V vocabulary, Vp padded vocabulary.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import { reshape, rows, type Tensor } from "../ffi/tensor.ts";
import type { Activations, TrainingActivations } from "./activations.ts";
import type { GPT2Config } from "./config.ts";
import { allocateParameters, type Parameters, vocabularyRows } from "./parameters.ts";

/** Element types that weights and activations can have. Losses, statistics, gradients and moments are fp32 in each. */
export const PRECISIONS = ["fp32", "bf16"] as const;
export type Precision = typeof PRECISIONS[number];

/** A GPT-2: its shape, its parameters, and the device that holds them. */
export interface Model {
  readonly config: GPT2Config;
  readonly device: Device;
  readonly precision: Precision;
  /** What forward and backward compute with. */
  readonly parameters: Parameters;
  /** The fp32 weights that bf16 parameters are rounded from at each update (Micikevicius et al. 2018), where they are kept. */
  readonly master: Parameters | null;
  /** What the vocabulary's logits are made with, (V,C), where that isn't wte: see quantize.ts. */
  readonly head?: Tensor;
}

/** Keys and values of the `length` positions seen so far, for generation; both (B,NH,maxT,HS) in each layer. */
export interface Cache {
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  length: number;
}

/** An fp32 model whose parameters are all zero, to be initialised or read into. */
export function createModel(config: GPT2Config, device: Device): Model {
  return {
    config,
    device,
    precision: "fp32",
    parameters: allocateParameters(config, device, "fp32"),
    master: null,
  };
}

/**
 * An fp32 model in another precision. bf16 parameters are rounded to the nearest.
 *
 * @param keepMaster whether the fp32 weights stay, to be trained; if not, training rounds stochastically
 */
export function inPrecision(model: Model, precision: Precision, keepMaster: boolean): Model {
  if (model.precision === precision) return model;
  const { config, device, parameters: master } = model;
  const parameters = allocateParameters(config, device, precision);
  device.ops.convert(parameters.flat, master.flat);
  return { config, device, precision, parameters, master: keepMaster ? master : null };
}

/** An fp32 model on `device`: with the same memory where it is there already, else a copy. */
export function onDevice(model: Model, device: Device): Model {
  if (model.device.library === device.library) return { ...model, device };
  const moved = createModel(model.config, device);
  device.write(moved.parameters.flat, model.device.read(model.parameters.flat));
  return moved;
}

/**
 * The forward pass, up to the last layernorm: `a.lnf` (B,T,C).
 *
 * @param tokens int32 (B,T), each in [0, V)
 * @param cache where given, the tokens follow the `cache.length` positions in it, and are added to it
 */
export function forward(model: Model, a: Activations, tokens: Tensor, cache: Cache | null = null): void {
  const { config: { L, V }, parameters: p, device: { ops } } = model;

  ops.embedding(a.encoded, tokens, p.wte, p.wpe, V, cache?.length); //                                  (B,T,C)
  normalise(model, a, 0, a.encoded); //                                                                 (B,T,C)
  let residual = a.encoded; // the residual stream

  for (let l = 0; l < L; l++) {
    attend(model, a, l, residual, cache); //                                                            (B,T,C) twice
    ops.matmulGelu(a.fchGelu[l]!, a.fch[l]!, a.ln2[l]!, p.fcw[l]!, p.fcb[l]!); //                       (B,T,4C) twice
    ops.matmul(a.projected, a.fchGelu[l]!, p.fcprojw[l]!, p.fcprojb[l]!); //                            (B,T,C)

    // The layernorm that follows: the next layer's first, or the last one of all.
    const next = l + 1 < L
      ? {
        out: a.ln1[l + 1]!,
        mean: a.ln1Mean[l + 1]!,
        rstd: a.ln1Rstd[l + 1]!,
        w: p.ln1w[l + 1]!,
        b: p.ln1b[l + 1]!,
      }
      : { out: a.lnf, mean: a.lnfMean, rstd: a.lnfRstd, w: p.lnfw, b: p.lnfb };
    // deno-fmt-ignore
    ops.residualLayernorm(a.residual3[l]!, next.out, next.mean, next.rstd, //                           (B,T,C) twice
      a.residual2[l]!, a.projected, next.w, next.b);
    residual = a.residual3[l]!;
  }
  if (cache !== null) cache.length += a.T;
}

/**
 * The first half of layer `l`, from its normalised input `ln1`: attention, added to the residual stream, and the layernorm of
 * that, `ln2`.
 */
function attend(model: Model, a: Activations, l: number, residual: Tensor, cache: Cache | null): void {
  const { config: { NH }, parameters: p, device: { ops } } = model;
  ops.matmul(a.qkv[l]!, a.ln1[l]!, p.qkvw[l]!, p.qkvb[l]!); //                                        (B,T,3C)
  if (cache === null) ops.attention(a.atty[l]!, a.lse[l]!, a.qkv[l]!, NH); //                         (B,T,C)
  else ops.attentionCached(a.atty[l]!, cache.keys[l]!, cache.values[l]!, a.qkv[l]!, cache.length); // (B,T,C)
  ops.matmul(a.projected, a.atty[l]!, p.attprojw[l]!, p.attprojb[l]!); //                             (B,T,C)

  // deno-fmt-ignore
  ops.residualLayernorm(a.residual2[l]!, a.ln2[l]!, a.ln2Mean[l]!, a.ln2Rstd[l]!, //                  (B,T,C) twice
    residual, a.projected, p.ln2w[l]!, p.ln2b[l]!);
}

/**
 * The mean cross-entropy of the targets, in nats, after {@linkcode forward}.
 *
 * @param targets int32 (B,T): the ids that follow; -1 where a position does not count
 */
export function loss(model: Model, a: Activations, targets: Tensor): number {
  const { config: { V }, parameters: p, device: { ops } } = model;
  ops.classifier(a.losses, null, null, a.lnf, p.wte, targets, V, 0); //                                  (B,T)
  return meanLoss(model.device, a, targets);
}

/** What {@linkcode backward} takes. */
export interface BackwardOptions {
  /** Weight of each position in the loss: one over how many count in the whole batch. Default: in this one. */
  readonly scale?: number;
  /**
   * Whether the gradient is added to what `g` holds (default), or stored, every element of it: what the first of a batch's
   * micro-steps does, so that nothing has to zero `g`.
   */
  readonly accumulate?: boolean;
}

/**
 * Loss and backward pass, once after each {@linkcode forward}: adds the gradient of the loss to `g`, or stores it.
 *
 * @param g gradients of the parameters, fp32
 * @returns the mean loss of the positions that count, in nats
 */
export function backward(
  model: Model,
  a: TrainingActivations,
  g: Parameters,
  tokens: Tensor,
  targets: Tensor,
  { scale = 1 / countTargets(model.device, targets), accumulate = true }: BackwardOptions = {},
): number {
  const { config: { L, NH, V }, parameters: p, device: { ops } } = model;
  const { dresidual, dbranch } = a;

  ops.classifier(a.losses, dbranch, g.wte, a.lnf, p.wte, targets, V, scale, accumulate); //              (B,T,C)
  // deno-fmt-ignore
  ops.layernormBackward(dresidual, g.lnfw, g.lnfb, //                                                    (B,T,C)
    dbranch, null, a.residual3[L - 1]!, a.lnfMean, a.lnfRstd, p.lnfw, accumulate);

  for (let l = L - 1; l >= 0; l--) {
    const residual = l === 0 ? a.encoded : a.residual3[l - 1]!; // the layer's input
    if (l < L - 1) recompute(model, a, l, residual); // the last layer's activations are still there
    const dfch = a.dfch[l]!, dqkv = a.dqkv[l]!;

    // The residual stream's gradient is also that of whatever was added to it.
    ops.matmulDbias(g.fcprojb[l]!, dresidual, accumulate); //                                            (C)
    ops.matmulDweight(g.fcprojw[l]!, dresidual, a.fchGelu[l]!, accumulate); //                           (C,4C)
    ops.matmulDinput(dfch, dresidual, p.fcprojw[l]!, a.fch[l]!); //                                      (B,T,4C)
    ops.matmulDbias(g.fcb[l]!, dfch, accumulate); //                                                     (4C)
    ops.matmulDweight(g.fcw[l]!, dfch, a.ln2[l]!, accumulate); //                                        (4C,C)
    ops.matmulDinput(dbranch, dfch, p.fcw[l]!); //                                                       (B,T,C)
    // deno-fmt-ignore
    ops.layernormBackward(dresidual, g.ln2w[l]!, g.ln2b[l]!, //                                          (B,T,C)
      dbranch, dresidual, a.residual2[l]!, a.ln2Mean[l]!, a.ln2Rstd[l]!, p.ln2w[l]!, accumulate);

    ops.matmulDbias(g.attprojb[l]!, dresidual, accumulate); //                                           (C)
    ops.matmulDweight(g.attprojw[l]!, dresidual, a.atty[l]!, accumulate); //                             (C,C)
    ops.matmulDinput(dbranch, dresidual, p.attprojw[l]!); //                                             (B,T,C)
    ops.attentionBackward(dqkv, dbranch, a.atty[l]!, a.lse[l]!, a.qkv[l]!, NH); //                       (B,T,3C)
    ops.matmulDbias(g.qkvb[l]!, dqkv, accumulate); //                                                    (3C)
    if (a.recompute !== "none") normalise(model, a, l, residual); // where ln2 was                       (B,T,C)
    ops.matmulDweight(g.qkvw[l]!, dqkv, a.ln1[l]!, accumulate); //                                       (3C,C)
    ops.matmulDinput(dbranch, dqkv, p.qkvw[l]!); //                                                      (B,T,C)
    // deno-fmt-ignore
    ops.layernormBackward(dresidual, g.ln1w[l]!, g.ln1b[l]!, //                                          (B,T,C)
      dbranch, dresidual, residual, a.ln1Mean[l]!, a.ln1Rstd[l]!, p.ln1w[l]!, accumulate);
  }
  ops.embeddingBackward(g.wte, g.wpe, dresidual, tokens, V, accumulate); //                              (Vp,C) (maxT,C)
  return meanLoss(model.device, a, targets);
}

/** The first layernorm of layer `l`, of its input. */
function normalise(
  { parameters: p, device: { ops } }: Model,
  a: Activations,
  l: number,
  input: Tensor,
): void {
  ops.layernorm(a.ln1[l]!, a.ln1Mean[l]!, a.ln1Rstd[l]!, input, p.ln1w[l]!, p.ln1b[l]!);
}

/** Computes again what the layers above have overwritten: see {@linkcode RECOMPUTE_LEVELS}. */
function recompute(model: Model, a: Activations, l: number, residual: Tensor): void {
  const { parameters: p, device: { ops } } = model;
  if (a.recompute === "none") return;
  if (a.recompute === "block") {
    normalise(model, a, l, residual);
    attend(model, a, l, residual, null);
  } else {
    ops.layernorm(a.ln2[l]!, a.ln2Mean[l]!, a.ln2Rstd[l]!, a.residual2[l]!, p.ln2w[l]!, p.ln2b[l]!);
  }
  if (a.recompute === "light") ops.gelu(a.fchGelu[l]!, a.fch[l]!);
  else ops.matmulGelu(a.fchGelu[l]!, a.fch[l]!, a.ln2[l]!, p.fcw[l]!, p.fcb[l]!);
}

/** Logits of every position, after {@linkcode forward}: out (B,T,V), fp32. */
export function logits(model: Model, a: Activations, out: Tensor): void {
  model.device.ops.matmul(out, a.lnf, model.head ?? vocabularyRows(model.parameters), null);
}

/** Logits of the last position of each sequence, after {@linkcode forward}: out (B,V), fp32. */
export function lastLogits(model: Model, a: Activations, out: Tensor): void {
  const { B, T, lnf } = a;
  if (T === 1) return logits(model, a, out); // all at once, so that the weight is read once
  const { config: { C, V }, head = vocabularyRows(model.parameters) } = model;
  for (let b = 0; b < B; b++) {
    const last = rows(reshape(lnf, [B * T, C]), (b + 1) * T - 1, (b + 1) * T);
    model.device.ops.matmul(rows(reshape(out, [B, V]), b, b + 1), last, head, null);
  }
}

/** How many targets count: those that are not -1. */
export function countTargets(device: Device, targets: Tensor): number {
  return device.readIds(targets).reduce((count, target) => target < 0 ? count : count + 1, 0);
}

/** Sums in double precision: fp32 would lose digits over a large batch. */
function meanLoss(device: Device, a: Activations, targets: Tensor): number {
  return device.read(a.losses).reduce((sum, value) => sum + value, 0) / countTargets(device, targets);
}
