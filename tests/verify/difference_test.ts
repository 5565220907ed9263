import { assertAlmostEquals, assertEquals } from "@std/assert";
import { difference } from "../../src/verify/difference.ts";

Deno.test("difference() gives the largest difference, its place, and the relative norm", () => {
  const { maxAbs, relativeL2, at } = difference(Float32Array.of(1, 2, 3, 4), Float32Array.of(1, 2.5, 1, 4));
  assertEquals([maxAbs, at], [2, 2]);
  assertAlmostEquals(relativeL2, Math.sqrt((0.25 + 4) / (1 + 6.25 + 1 + 16)), 1e-15);
  assertEquals(difference(Float32Array.of(1), Float32Array.of(1)), { maxAbs: 0, relativeL2: 0, at: 0 });
});

Deno.test("difference() is infinite where a number is not finite on one side", () => {
  const cases = [[NaN, 1], [1, NaN], [NaN, NaN], [Infinity, 1], [1, -Infinity], [Infinity, Infinity]];
  for (const [actual, expected] of cases) {
    assertEquals(difference(Float32Array.of(0, actual!), Float32Array.of(0, expected!)), {
      maxAbs: Infinity,
      relativeL2: Infinity,
      at: 1,
    }, `${actual} ${expected}`);
  }
});

Deno.test("difference() from zeros is infinite in relative terms unless there is none", () => {
  assertEquals(difference(Float32Array.of(0, 1), new Float32Array(2)).relativeL2, Infinity);
  assertEquals(difference(new Float32Array(2), new Float32Array(2)).relativeL2, 0);
});
