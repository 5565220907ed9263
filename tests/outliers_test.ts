import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { LlmtsError } from "../src/errors.ts";
import { createOutlierDetector, OUTLIER_WINDOW, type OutlierState } from "../src/outliers.ts";
import { Random } from "../src/random.ts";

/** Mean and deviation in two passes, which rounds differently from the running sums. */
function zScore(window: readonly number[]): number {
  const mean = window.reduce((sum, value) => sum + value, 0) / window.length;
  const variance = window.reduce((sum, value) => sum + (value - mean) ** 2, 0) / window.length;
  return (window.at(-1)! - mean) / Math.sqrt(variance);
}

Deno.test("createOutlierDetector() scores NaN until the window is full, then against the last 128 values", () => {
  const random = new Random(1);
  const detector = createOutlierDetector();
  const seen: number[] = [];
  for (let i = 0; i < 3 * OUTLIER_WINDOW + 5; i++) {
    const value = 3 + random.randfloat64();
    seen.push(value);
    const z = detector.push(value);
    if (i < OUTLIER_WINDOW) assert(Number.isNaN(z), `value ${i}: ${z}`);
    else assertAlmostEquals(z, zScore(seen.slice(-OUTLIER_WINDOW)), 1e-9, `value ${i}`);
  }
});

Deno.test("createOutlierDetector() includes the value just pushed in its own score", () => {
  const detector = createOutlierDetector();
  for (let i = 0; i < OUTLIER_WINDOW; i++) detector.push(0);
  // One value of 1 among 127 zeros: mean 1/128, variance 127/128².
  assertAlmostEquals(detector.push(1), 127 / Math.sqrt(127), 1e-12);
});

Deno.test("createOutlierDetector() scores 0 where all values are the same", () => {
  for (const value of [0, 2.5, 0.1, 1 / 3]) {
    const detector = createOutlierDetector();
    for (let i = 0; i < OUTLIER_WINDOW; i++) detector.push(value);
    // Rounding may leave a variance of some 1e-17, but never NaN.
    assert(Math.abs(detector.push(value)) < 1e-6, `${value}`);
  }
});

Deno.test("createOutlierDetector() gives values that are not finite no score and forgets them", () => {
  const [disturbed, plain] = [createOutlierDetector(), createOutlierDetector()];
  for (let i = 0; i < OUTLIER_WINDOW + 3; i++) {
    for (const value of [NaN, Infinity, -Infinity]) assert(Number.isNaN(disturbed.push(value)));
    assertEquals(disturbed.push(i), plain.push(i));
  }
});

Deno.test("createOutlierDetector() goes on from a state through JSON, bit for bit", () => {
  for (const before of [0, 1, 127, 128, 129, 300]) {
    const random = new Random(before);
    const detector = createOutlierDetector();
    for (let i = 0; i < before; i++) detector.push(random.randfloat64());
    const resumed = createOutlierDetector(JSON.parse(JSON.stringify(detector.state())));
    for (let i = 0; i < 200; i++) {
      const value = random.randfloat64();
      assertEquals(resumed.push(value), detector.push(value), `after ${before}, value ${i}`);
    }
    assertEquals(resumed.state(), detector.state());
  }
});

Deno.test("createOutlierDetector() refuses a state that none can be in", () => {
  const full = { values: new Array(128).fill(1), next: 0, sum: 128, sumOfSquares: 128 };
  const faults: Partial<OutlierState>[] = [
    { values: new Array(129).fill(1) },
    { values: [1], next: 1 },
    { next: 128 },
    { next: 0.5 },
    { next: -1 },
    { sum: NaN },
    { values: new Array(128).fill(Infinity) },
  ];
  createOutlierDetector(full);
  for (const fault of faults) {
    assertThrows(() => createOutlierDetector({ ...full, ...fault }), LlmtsError, "outlier window");
  }
});
