/**
 * Finds losses and gradient norms that stand out, as llm.c does (llmc/outlier_detector.h): the z-score of each value in a
 * window of the last 128.
 *
 * @module
 */
import { LlmtsError } from "./errors.ts";

/** Values in the window. */
export const OUTLIER_WINDOW = 128;

/** All that a detector remembers. The sums are running ones, whose rounding is part of the state. */
export interface OutlierState {
  /** The values so far, at most 128; once full, the oldest is at `next`. */
  readonly values: readonly number[];
  /** Where the next value goes once the window is full. */
  readonly next: number;
  readonly sum: number;
  readonly sumOfSquares: number;
}

/** See the module. */
export interface OutlierDetector {
  /**
   * Adds a value and returns its z-score: how many standard deviations it lies above the mean of the window that it is
   * now part of. NaN until the window is full; 0 where all its values are the same. A value that is not finite has no
   * score (NaN) and is not added: it would spoil the sums for good.
   */
  push(value: number): number;
  /** A copy of the state. */
  state(): OutlierState;
}

/**
 * A detector, empty or in a state that another one had.
 *
 * @throws {LlmtsError} no detector can be in that state
 */
export function createOutlierDetector(state?: OutlierState): OutlierDetector {
  if (state !== undefined) checkState(state);
  const values = [...state?.values ?? []];
  let { next, sum, sumOfSquares } = state ?? { next: 0, sum: 0, sumOfSquares: 0 };
  return {
    push(value): number {
      if (!Number.isFinite(value)) return NaN;
      if (values.length < OUTLIER_WINDOW) {
        values.push(value);
        sum += value;
        sumOfSquares += value * value;
        return NaN;
      }
      const oldest = values[next]!;
      sum -= oldest;
      sumOfSquares -= oldest * oldest;
      values[next] = value;
      sum += value;
      sumOfSquares += value * value;
      next = (next + 1) % OUTLIER_WINDOW;
      const mean = sum / OUTLIER_WINDOW;
      const variance = sumOfSquares / OUTLIER_WINDOW - mean * mean;
      // Rounding can take the variance of equal values below 0.
      return variance <= 0 ? 0 : (value - mean) / Math.sqrt(variance);
    },
    state: () => ({ values: [...values], next, sum, sumOfSquares }),
  };
}

function checkState({ values, next, sum, sumOfSquares }: OutlierState): void {
  const full = values.length === OUTLIER_WINDOW;
  const possible = values.length <= OUTLIER_WINDOW && [...values, sum, sumOfSquares].every(Number.isFinite) &&
    Number.isInteger(next) && next >= 0 && (full ? next < OUTLIER_WINDOW : next === 0);
  if (!possible) {
    throw new LlmtsError(
      `An outlier window can't hold ${values.length} values with the next one at ${next}, expected up to ` +
        `${OUTLIER_WINDOW} finite values`,
    );
  }
}
