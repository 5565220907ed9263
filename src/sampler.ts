/**
 * Choosing the next token from its logits.
 *
 * @module
 */
import { BROKEN_HINT, LlmtsError } from "./errors.ts";

/** How to choose; the defaults draw from the model's own distribution. */
export interface SamplingOptions {
  /** Divides the logits: below 1 more certain, above 1 more varied. 0 takes the most likely token. Default 1. */
  readonly temperature?: number;
  /** Draw among this many of the most likely tokens. 0: among all. Default 0. */
  readonly topK?: number;
  /** Draw among the fewest most likely tokens whose probabilities sum to this (Holtzman et al. 2020). Default 1: all. */
  readonly topP?: number;
}

/** Says what is wrong with the options, or undefined. */
export function samplingProblem(
  { temperature = 1, topK = 0, topP = 1 }: SamplingOptions,
): string | undefined {
  if (!(Number.isFinite(temperature) && temperature >= 0)) {
    return `temperature ${temperature} is below 0 or not finite`;
  }
  if (!(Number.isInteger(topK) && topK >= 0)) return `top-k ${topK} is no whole number from 0 on`;
  if (!(topP >= 0 && topP <= 1)) return `top-p ${topP} is outside 0 … 1`;
  return undefined;
}

/**
 * Draws a token.
 *
 * @param logits of the V tokens of the vocabulary: padding has none, and is never drawn
 * @param coin uniform in [0, 1)
 * @returns its id. Ties go to the lowest id; top-k and top-p keep exactly as many tokens as they say
 * @throws {LlmtsError} a logit is not a number
 */
export function sampleToken(logits: Float32Array, coin: number, options: SamplingOptions = {}): number {
  const { temperature = 1, topK = 0, topP = 1 } = options;
  const best = mostLikely(logits);
  const greatest = logits[best]!;
  if (temperature === 0 || topP === 0 || topK === 1) return best;

  const order = topK === 0 && topP === 1 ? undefined : byLogit(logits);
  const token = (n: number): number => order === undefined ? n : order[n]!;
  let kept = topK === 0 ? logits.length : Math.min(topK, logits.length);
  const weights = new Float64Array(kept);
  let total = 0;
  // Subtracting the greatest logit first keeps exp from overflowing at any temperature.
  for (let n = 0; n < kept; n++) {
    total += weights[n] = Math.exp((logits[token(n)]! - greatest) / temperature);
  }
  if (topP < 1) {
    const enough = total * topP;
    total = 0;
    let n = 0;
    while (n < kept && total < enough) total += weights[n++]!;
    kept = n;
  }
  return token(pick(weights.subarray(0, kept), total * coin));
}

/** The first index at which the running sum of weights passes `threshold`. */
function pick(weights: Float64Array, threshold: number): number {
  let sum = 0;
  let last = 0;
  for (let n = 0; n < weights.length; n++) {
    const weight = weights[n]!;
    if (weight === 0) continue;
    sum += weight;
    last = n;
    if (sum > threshold) break;
  }
  return last; // where rounding leaves the sum at the threshold: the last one that can be drawn
}

/** Of a digit of {@linkcode byLogit}: three make a key of 32 bits. */
const DIGIT_BITS = 11;
const RADIX = 1 << DIGIT_BITS;

/**
 * All ids, the greatest logit first, the lowest of equals before the others. A radix sort of the floats' bits: a sort that
 * compares takes twenty times as long, longer than the model that the logits come from.
 */
function byLogit(logits: Float32Array): Uint32Array {
  const V = logits.length;
  const floats = new Float32Array(V);
  const keys = new Uint32Array(floats.buffer);
  for (let id = 0; id < V; id++) {
    floats[id] = logits[id]! + 0; // so that -0 has the key of 0
    const bits = keys[id]!;
    // The bits of negative floats rise as the floats fall; those of others have to be turned around.
    keys[id] = bits >>> 31 === 1 ? bits : ~bits & 0x7fffffff;
  }
  let order = new Uint32Array(V);
  let sorted = new Uint32Array(V);
  const places = new Uint32Array(RADIX + 1);
  for (let id = 0; id < V; id++) order[id] = id;
  for (let shift = 0; shift < 32; shift += DIGIT_BITS) {
    // Where ids with each digit go: after all with lower ones.
    places.fill(0);
    for (let id = 0; id < V; id++) places[((keys[id]! >>> shift) & (RADIX - 1)) + 1]!++;
    for (let digit = 1; digit < RADIX; digit++) places[digit]! += places[digit - 1]!;
    for (let n = 0; n < V; n++) {
      const id = order[n]!;
      sorted[places[(keys[id]! >>> shift) & (RADIX - 1)]!++] = id;
    }
    [order, sorted] = [sorted, order];
  }
  return order;
}

/** The id of the greatest logit, the lowest of equals. */
function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    if (Number.isNaN(logits[id]!)) {
      throw new LlmtsError(`The logit of token ${id} is not a number: the model is broken`, {
        hint: BROKEN_HINT,
      });
    }
    if (logits[id]! > logits[best]!) best = id;
  }
  if (!Number.isFinite(logits[best]!)) {
    throw new LlmtsError(`The greatest logit is ${logits[best]}: the model is broken`, { hint: BROKEN_HINT });
  }
  return best;
}
