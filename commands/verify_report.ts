/**
 * The tables that `llmts verify` prints, line by line as the numbers come.
 *
 * @module
 */
import type { Check, StepCheck } from "../src/verify.ts";

const MEASURES = { maxAbs: "max abs", relativeL2: "relative L2" } as const;

/** Head of the table of logits, loss and gradients. */
export const CHECK_HEAD = columns("tensor", "max abs difference", "relative L2", "tolerance", "OK");

/** A row of that table. */
export function checkLine({ name, maxAbs, relativeL2, tolerance, ok }: Check): string {
  return columns(name, scientific(maxAbs), scientific(relativeL2), bound(tolerance), verdict(ok));
}

/** Head of the table of steps. */
export const STEP_HEAD = columns("step", "loss", "expected", "tolerance", "OK");

/** A row of that table. */
export function stepLine({ step, actual, expected, tolerance, ok }: StepCheck): string {
  return columns(String(step), actual.toFixed(6), expected.toFixed(6), bound(tolerance), verdict(ok));
}

function columns(name: string, first: string, second: string, tolerance: string, ok: string): string {
  return `${name.padEnd(9)} ${first.padStart(18)} ${second.padStart(12)}   ${tolerance.padEnd(17)} ${ok}`;
}

function bound({ measure, bound }: Check["tolerance"]): string {
  return `${MEASURES[measure]} ${bound.toExponential(0)}`;
}

function scientific(value: number): string {
  return value.toExponential(2);
}

function verdict(ok: boolean): string {
  return ok ? "OK" : "NOT OK";
}
