/**
 * What a failed comparison points to, in words: a changed file, another batch, another model, or a fault in llmts.
 *
 * @module
 */
import type { DebugState } from "../io/debug_state.ts";
import type { Tolerance } from "./difference.ts";
import type { ExpectedLosses } from "./expected_losses.ts";

/** The mean loss that logits (B,T,V) give, in nats. */
function lossOfLogits(logits: Float32Array, targets: Int32Array, V: number): number {
  const losses = [...targets].map((target, position) => {
    const row = logits.subarray(position * V, (position + 1) * V);
    const largest = row.reduce((max, value) => Math.max(max, value), -Infinity);
    const sum = row.reduce((total, value) => total + Math.exp(value - largest), 0);
    return largest + Math.log(sum) - row[target]!;
  });
  return losses.reduce((total, loss) => total + loss, 0) / losses.length;
}

/** Whether two fp32 losses are the same but for rounding. */
function sameLoss(a: number, b: number): boolean {
  return Math.abs(a - b) <= 1e-4 * Math.max(1, Math.abs(b));
}

/**
 * On logits (B,T,V) that disagree. Those of a position depend on the tokens up to it, in its own sequence: that tells a
 * changed token from a changed logit and from other weights.
 */
export function logitsFinding(
  actual: Float32Array,
  expected: Float32Array,
  { B, T, loss, targets }: DebugState,
  { measure, bound }: Tolerance,
): string {
  const V = expected.length / (B * T);
  const { wrong, positions } = logitFaults(
    actual,
    expected,
    V,
    measure === "maxAbs" ? bound : 10 * bound * rms(expected),
  );
  const [first] = positions;
  if (first === undefined) {
    return "No logit is far off, but together they are: rounding is coarser than it should be";
  }
  const place = `position ${first % T} of sequence ${Math.floor(first / T)}`;
  if (wrong < 0.1 * positions.length * V) {
    return `${wrong} of ${expected.length} logits are off, the first at ${place}: the state's were changed, or a weight was`;
  }
  const sequences = new Set(positions.map((position) => Math.floor(position / T)));
  if (B > 1 && sequences.size === 1) {
    return `Logits are off in one sequence only, from ${place} on: the state's token there was changed`;
  }
  const own = lossOfLogits(expected, targets, V);
  return `Logits are off at ${positions.length} of ${B * T} positions: the state is of other weights. ` + (
    sameLoss(own, loss)
      ? "In itself it is in order, its logits and targets give its loss: it is of another model, or the model was changed"
      : `Its own logits and targets give the loss ${own}, it says ${loss}: it was changed`
  );
}

/** Which logits are off by more than `bound`, or no numbers: how many, and at which positions b·T + t. */
function logitFaults(
  actual: Float32Array,
  expected: Float32Array,
  V: number,
  bound: number,
): { wrong: number; positions: number[] } {
  let wrong = 0;
  const positions: number[] = [];
  for (let i = 0; i < expected.length; i++) {
    if (Math.abs(actual[i]! - expected[i]!) <= bound) continue;
    wrong++;
    const position = Math.floor(i / V);
    if (positions.at(-1) !== position) positions.push(position);
  }
  return { wrong, positions };
}

function rms(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

/** On a loss that disagrees where the logits agree. */
export function lossFinding(actual: number, state: DebugState): string {
  const { loss, targets } = state;
  const logits = state.logits();
  const own = lossOfLogits(logits, targets, logits.length / targets.length);
  return sameLoss(own, loss)
    ? `The state's own logits and targets give its loss ${loss}, llmts gets ${actual}: a fault in llmts`
    : `The state's own logits and targets give the loss ${own}, it says ${loss}: its loss or a target was changed`;
}

/** On gradients that disagree where logits and loss agree. */
export function gradientsFinding(
  faults: readonly { name: string; at: number; actual: number; expected: number }[],
): string {
  const places = faults.slice(0, 3).map(({ name, at, actual, expected }) =>
    `${name}[${at}] is ${actual}, expected ${expected}`
  );
  if (faults.length > 3) places.push(`and ${faults.length - 3} more`);
  return "Logits and loss agree, so weights and batch are right: the state's gradients were changed, or the backward " +
    `pass is wrong. Farthest off: ${places.join("; ")}`;
}

/** On losses of the steps that disagree, `wrong` the first step that does, from 0. */
export function stepsFinding(expected: ExpectedLosses, { path, loss }: DebugState, wrong: number): string {
  const [first = NaN] = expected.losses;
  return sameLoss(first, loss)
    ? `The losses are off from step ${wrong} on: the optimizer, or its constants, are not those of the reference`
    : `The first loss in "${expected.source}" is ${first}, that of "${path}" ${loss}: they are of different batches`;
}
