/**
 * Choosing the next token from its logits.
 *
 * @module
 */
import { LlmtsError } from "./errors.ts";

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

  // Subtracting the greatest logit first keeps exp from overflowing at any temperature.
  const weight = (id: number): number => Math.exp((logits[id]! - greatest) / temperature);
  if (topK === 0 && topP === 1) {
    let total = 0;
    for (let id = 0; id < logits.length; id++) total += weight(id);
    return pick((n) => n, weight, logits.length, total * coin);
  }
  const order = new Uint32Array(logits.length);
  for (let id = 0; id < order.length; id++) order[id] = id;
  order.sort((a, b) => logits[b]! - logits[a]! || a - b);
  let kept = topK === 0 ? order.length : Math.min(topK, order.length);
  let total = 0;
  for (let n = 0; n < kept; n++) total += weight(order[n]!);
  if (topP < 1) {
    const enough = total * topP;
    total = 0;
    let n = 0;
    while (n < kept && total < enough) total += weight(order[n++]!);
    kept = n;
  }
  return pick((n) => order[n]!, weight, kept, total * coin);
}

/** The first of `count` tokens at which the running sum of weights passes `threshold`. */
function pick(
  token: (n: number) => number,
  weight: (id: number) => number,
  count: number,
  threshold: number,
): number {
  let sum = 0;
  let last = token(0);
  for (let n = 0; n < count; n++) {
    const w = weight(token(n));
    if (w === 0) continue;
    sum += w;
    last = token(n);
    if (sum > threshold) break;
  }
  return last; // where rounding leaves the sum at the threshold: the last token that can be drawn
}

/** The id of the greatest logit, the lowest of equals. */
function mostLikely(logits: Float32Array): number {
  let best = 0;
  for (let id = 0; id < logits.length; id++) {
    if (Number.isNaN(logits[id]!)) {
      throw new LlmtsError(`The logit of token ${id} is not a number: the model is broken`);
    }
    if (logits[id]! > logits[best]!) best = id;
  }
  if (!Number.isFinite(logits[best]!)) {
    throw new LlmtsError(`The greatest logit is ${logits[best]}: the model is broken`);
  }
  return best;
}
