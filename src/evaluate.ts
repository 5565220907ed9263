/**
 * The loss of a model on data, without learning from it.
 *
 * @module
 */
import { reshape, rows, type Tensor } from "../ffi/tensor.ts";
import { type Activations, allocateActivations } from "./activations.ts";
import type { Batch } from "./io/loader.ts";
import { countTargets, forward, loss, type Model } from "./model.ts";

/** A mean loss, in nats, and of how many positions; of none it is NaN. */
export interface Evaluation {
  readonly loss: number;
  readonly tokens: number;
}

/** Takes batches (B,T) forward; each position that counts, counts alike. */
export type Evaluator = (batches: Iterable<Batch>) => Evaluation;

/**
 * An evaluator for `model`.
 *
 * @param activations to work in, of a trainer for example; default: its own
 * @throws {LlmtsError} there is not enough memory
 */
export function createEvaluator(
  model: Model,
  { B, T, activations }: { B: number; T: number; activations?: Activations },
): Evaluator {
  const { config, device, precision } = model;
  const a = activations ?? allocateActivations(config, device, { B, T, precision, training: false });
  const [inputs, targets] = [device.tensor("int32", [B, T]), device.tensor("int32", [B, T])];
  return (batches) => {
    let [sum, tokens] = [0, 0];
    for (const batch of batches) {
      device.write(inputs, batch.inputs);
      device.write(targets, batch.targets);
      const count = countTargets(device, targets);
      if (count === 0) continue; // it has no mean
      forward(model, a, inputs);
      const mean = model.head === undefined
        ? loss(model, a, targets)
        : lossByHead(model, a, model.head, targets);
      sum += mean * count;
      tokens += count;
    }
    return { loss: sum / tokens, tokens };
  };
}

/** Rows of logits at a time: (64,V) numbers. */
const CHUNK = 64;

/** As loss(), with the logits of `head` (V,C), which no op makes losses of. */
function lossByHead(
  { device, config: { C, V } }: Model,
  a: Activations,
  head: Tensor,
  targets: Tensor,
): number {
  const ids = device.readIds(targets);
  const N = ids.length;
  const x = reshape(a.lnf, [N, C]);
  const chunk = device.tensor("fp32", [CHUNK, V]);
  let [sum, count] = [0, 0];
  for (let first = 0; first < N; first += CHUNK) {
    const last = Math.min(N, first + CHUNK);
    device.ops.matmul(rows(chunk, 0, last - first), rows(x, first, last), head, null);
    const logits = device.read(chunk);
    for (let n = first; n < last; n++) {
      const target = ids[n]!;
      if (target < 0) continue;
      sum += crossEntropy(logits.subarray((n - first) * V, (n - first + 1) * V), target);
      count++;
    }
  }
  return sum / count;
}

/** -log softmax(logits)[target]. */
function crossEntropy(logits: Float32Array, target: number): number {
  let most = -Infinity;
  for (const logit of logits) if (logit > most) most = logit;
  let total = 0;
  for (const logit of logits) total += Math.exp(logit - most);
  return most + Math.log(total) - logits[target]!;
}

/**
 * The mean loss, in nats, of tokens in one sequence.
 *
 * @param tokens at least two; of more than the model's maxT + 1 only the first ones count
 */
export function lossOfTokens(model: Model, tokens: ArrayLike<number>): number {
  const ids = Int32Array.from(tokens).subarray(0, model.config.maxT + 1);
  const T = ids.length - 1;
  return createEvaluator(model, { B: 1, T })([{ inputs: ids.subarray(0, T), targets: ids.subarray(1) }]).loss;
}
