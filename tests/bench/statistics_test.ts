import { assertEquals } from "@std/assert";
import {
  beyondNoise,
  median,
  pairedRatio,
  quantile,
  ratioOf,
  rounded,
  spread,
} from "../../bench/statistics.ts";

Deno.test("median() and quantile() interpolate between values, in any order", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(median([4, 1, 3, 2]), 2.5);
  assertEquals(median([7]), 7);
  assertEquals(quantile([4, 0, 1, 2, 3], 0.25), 1);
  assertEquals(quantile([0, 10], 0.75), 7.5);
});

Deno.test("spread() gives the median with the least and the greatest", () => {
  assertEquals(spread([671, 650, 655]), "655 (650–671)");
});

Deno.test("rounded() keeps about three significant digits", () => {
  assertEquals([1234.5, 99.96, 99.9, 9.996, 6.554, 0.0654].map(rounded), [
    "1235",
    "100",
    "99.9",
    "10.0",
    "6.55",
    "0.065",
  ]);
});

Deno.test("pairedRatio() cancels what slowed a whole round down", () => {
  // The second round was three times slower for both.
  assertEquals(pairedRatio([[20], [60, 60], [21]], [[10], [30, 30], [10]]), { value: 2, low: 2, high: 2.1 });
  // A last round that only one of them finished is left out.
  assertEquals(pairedRatio([[20], [50]], [[10]]), { value: 2, low: 2, high: 2 });
  assertEquals(pairedRatio([[20]], [[10], [1]]), { value: 2, low: 2, high: 2 });
});

Deno.test("ratioOf() ranges from quartile to quartile", () => {
  const ratio = ratioOf([10, 20, 30, 40, 50], [1, 2, 3, 4, 5]);
  assertEquals(ratio, { value: 10, low: 5, high: 20 });
});

Deno.test("beyondNoise() wants the whole range on one side of 1, and not by little", () => {
  assertEquals(beyondNoise({ value: 1.2, low: 1.1, high: 1.3 }), true);
  assertEquals(beyondNoise({ value: 0.8, low: 0.7, high: 0.9 }), true);
  assertEquals(beyondNoise({ value: 1.2, low: 0.9, high: 1.5 }), false);
  assertEquals(beyondNoise({ value: 0.8, low: 0.6, high: 1.1 }), false);
  assertEquals(beyondNoise({ value: 1.02, low: 1.01, high: 1.03 }), false);
});
