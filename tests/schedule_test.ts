import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { learningRateAt, type Schedule, type ScheduleName, SCHEDULES } from "../src/schedule.ts";

/** 1000 steps, the first 100 a warm-up, from 6e-4 down to a tenth. */
function schedule(name: ScheduleName): Schedule {
  return { name, learningRate: 6e-4, warmup: 100, steps: 1000, finalFraction: 0.1 };
}

const WARMUP: readonly [step: number, rate: number][] = [[0, 6e-6], [1, 1.2e-5], [49, 3e-4], [99, 6e-4]];

// Worked out by hand: the cosines and square roots are of angles and numbers that have closed forms.
const EXPECTED: Record<ScheduleName, readonly [step: number, rate: number][]> = {
  constant: [...WARMUP, [100, 6e-4], [250, 6e-4], [550, 6e-4], [800, 6e-4], [999, 6e-4], [1000, 6e-4]],
  // 5.4e-4 to lose over 900 steps: 6e-7 a step.
  linear: [...WARMUP, [100, 6e-4], [250, 5.1e-4], [550, 3.3e-4], [775, 1.95e-4], [999, 6.06e-5], [
    1000,
    6e-5,
  ]],
  cosine: [
    ...WARMUP,
    [100, 6e-4],
    [325, 6e-5 + 5.4e-4 * (2 + Math.SQRT2) / 4], // a quarter: cos 45°
    [400, 6e-5 + 5.4e-4 * 0.75], //                 a third: cos 60°
    [550, 6e-5 + 5.4e-4 * 0.5], //                  half: cos 90°
    [700, 6e-5 + 5.4e-4 * 0.25], //                 two thirds: cos 120°
    [1000, 6e-5],
  ],
  wsd: [
    ...WARMUP,
    [100, 6e-4],
    [799, 6e-4],
    [800, 6e-4],
    [850, 6e-5 + 5.4e-4 * 0.5], //                    a quarter of the decay: sqrt is 1/2
    [900, 6e-5 + 5.4e-4 * (1 - Math.SQRT1_2)], //     half
    [1000, 6e-5],
  ],
};

for (const name of SCHEDULES) {
  Deno.test(`learningRateAt() equals the closed form of ${name} at ten steps`, () => {
    assertEquals(EXPECTED[name].length, 10);
    for (const [step, rate] of EXPECTED[name]) {
      assertAlmostEquals(learningRateAt(schedule(name), step), rate, 1e-15, `step ${step}`);
    }
  });
}

Deno.test("learningRateAt() is finite, above 0 and at most the peak for every length and warm-up (A-38)", () => {
  for (const name of SCHEDULES) {
    for (const finalFraction of [0, 0.1, 1]) {
      for (
        const [warmup, steps] of [[100, 100], [200, 100], [0, 1], [1, 1], [5, 1], [0, 2], [90, 100]] as const
      ) {
        for (let step = 0; step < steps; step++) {
          const rate = learningRateAt({ name, learningRate: 1e-3, warmup, steps, finalFraction }, step);
          assert(rate > 0 && rate <= 1e-3 * (1 + 1e-12), `${name} ${warmup}/${steps} step ${step}: ${rate}`);
        }
      }
    }
  }
});

Deno.test("learningRateAt() stays at the final rate past the end", () => {
  for (const name of ["linear", "cosine", "wsd"] as const) {
    for (const step of [1000, 1001, 5000]) {
      assertAlmostEquals(learningRateAt(schedule(name), step), 6e-5, 1e-15, name);
    }
  }
});

Deno.test("learningRateAt() warms up from above 0 to the peak at the last warm-up step (A-39)", () => {
  for (const name of SCHEDULES) {
    const rates = Array.from(
      { length: 10 },
      (_, step) => learningRateAt({ name, learningRate: 1, warmup: 10, steps: 100, finalFraction: 0 }, step),
    );
    rates.forEach((rate, step) => assertAlmostEquals(rate, (step + 1) / 10, 1e-15));
    const without = { name, learningRate: 1, warmup: 0, steps: 100, finalFraction: 0 };
    assertEquals(learningRateAt(without, 0), 1, "no warm-up starts at the peak");
  }
});
