/**
 * How far two lists of numbers are apart.
 *
 * @module
 */

/** See the module. A number that is NaN on either side counts as infinitely far off. */
export interface Difference {
  /** Largest absolute difference. */
  readonly maxAbs: number;
  /** Norm of the differences over the norm of the expected numbers; Infinity where only the latter is 0. */
  readonly relativeL2: number;
  /** Index of the largest difference. */
  readonly at: number;
}

/** A bound on one of the two measures of a {@linkcode Difference}. */
export interface Tolerance {
  readonly measure: "maxAbs" | "relativeL2";
  readonly bound: number;
}

/** Compares number by number; sums in double precision. */
export function difference(actual: Float32Array, expected: Float32Array): Difference {
  let maxAbs = 0;
  let at = 0;
  let squares = 0;
  let expectedSquares = 0;
  for (let i = 0; i < expected.length; i++) {
    const signed = actual[i]! - expected[i]!;
    const distance = Number.isNaN(signed) ? Infinity : Math.abs(signed);
    if (distance > maxAbs) {
      maxAbs = distance;
      at = i;
    }
    squares += distance * distance;
    expectedSquares += expected[i]! ** 2;
  }
  // Not below infinity: also what two infinite sums leave, NaN.
  const relativeL2 = squares === 0 ? 0 : squares < Infinity ? Math.sqrt(squares / expectedSquares) : Infinity;
  return { maxAbs, relativeL2, at };
}
