import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  type Closing,
  closingReport,
  createPace,
  peakMemory,
  progressLine,
  type StepProgress,
} from "../../commands/train_progress.ts";

const STEP: StepProgress = {
  step: 7,
  loss: 4.0596812,
  gradNorm: 1.23456,
  learningRate: 8e-4,
  ms: 516.25,
  tokensPerSecond: 495.88,
  mfu: 0.4217,
  remaining: 83_000,
};

Deno.test("progressLine() says all there is to say of a step", () => {
  assertEquals(
    progressLine(STEP, 40),
    "step    7/40 | loss 4.059681 | norm  1.2346 | lr 8.00e-04 |   516.25 ms |  42.2% MFU |     496 tokens/s | 1m 23s left",
  );
  const { mfu: _, remaining: __, ...bare } = STEP;
  assertEquals(
    progressLine({ ...bare, step: 40, skipped: { outlier: "norm", z: 7.314 } }, 40),
    "step   40/40 | loss 4.059681 | norm  1.2346 | lr 8.00e-04 |   516.25 ms |     496 tokens/s | " +
      "skipped: norm 7.31 deviations off",
  );
});

Deno.test("progressLine() has the loss in columns 20 to 28, where llm.c's loss checker reads it", () => {
  for (
    const [loss, text] of [[4.0596812, "4.059681"], [10.9876543, "10.98765"], [
      0.0000123,
      "0.000012",
    ]] as const
  ) {
    assertEquals(progressLine({ ...STEP, loss }, 74).slice(20, 28), text);
  }
});

Deno.test("progressLine() stays aligned when numbers grow, shrink or are none", () => {
  const bars = (line: string): number[] => [...line.matchAll(/\|/g)].map(({ index }) => index);
  const expected = bars(progressLine(STEP, 100_000));
  const values = [0, 1e-30, 1e-9, 9.9999999, 1234.5678, 98765432.1, 1e15, 1e22, 1e300, NaN, -3.5];
  for (const value of values) {
    for (const name of ["loss", "gradNorm", "ms", "tokensPerSecond"] as const) {
      const line = progressLine({ ...STEP, [name]: value }, 100_000);
      assertEquals(bars(line), expected, line);
    }
  }
  for (const mfu of [0, 1e-4, 1, 99.99, 1e9, NaN]) {
    assertEquals(bars(progressLine({ ...STEP, mfu }, 100_000)), expected);
  }
  for (const learningRate of [0, 1e-10, 6e-4, 1]) {
    assertEquals(bars(progressLine({ ...STEP, learningRate }, 100_000)), expected);
  }
  assertEquals(bars(progressLine({ ...STEP, step: 99_999 }, 100_000)), expected);
});

Deno.test("progressLine() keeps what tells most on a narrow terminal", () => {
  assertEquals(
    progressLine(STEP, 40, 80),
    "step    7/40 | loss 4.059681 | norm  1.2346 |     496 tokens/s | 1m 23s left",
  );
  assertEquals(progressLine(STEP, 40, 45), "step    7/40 | loss 4.059681 | 1m 23s left");
  assertEquals(progressLine(STEP, 40, 28), "step    7/40 | loss 4.059681");
  assertEquals(progressLine(STEP, 40, 10), "step    7/");
  const whole = progressLine(STEP, 40);
  for (let columns = 0; columns < 2 * whole.length; columns++) {
    const line = progressLine(STEP, 40, columns);
    assert(line.length <= columns);
    if (columns >= 28) assert(line.split(" | ").every((cell) => whole.includes(cell)), line);
  }
});

Deno.test("createPace() leaves the first step out of the mean and of the time remaining", () => {
  let time = 0;
  const pace = createPace({
    steps: 4,
    tokens: 256,
    flops: { perToken: 1e6, peak: 1e9 },
    now: () => time,
  });
  const found = [];
  // The first step is slow; half a second passes between steps.
  for (const [step, took] of [[1, 9000], [2, 1000], [3, 2000], [4, 4000]] as const) {
    time += took + (step > 1 ? 500 : 0);
    found.push(pace.add(step, took));
    if (step === 1) assertEquals(pace.mean(), undefined);
  }
  assertEquals(found.map(({ remaining }) => remaining), [27_000, 3000, 2000, undefined]);
  assertEquals(found.map(({ ms, tokensPerSecond }) => [ms, tokensPerSecond]), [
    [9000, 256 / 9],
    [1000, 256],
    [2000, 128],
    [4000, 64],
  ]);
  // 256 tokens a second of 1e6 FLOPs each, of 1e9 that there could be
  assertAlmostEquals(found[1]!.mfu!, 0.256, 1e-12);
  assertAlmostEquals(pace.mean()!, 7000 / 3, 1e-9);
});

Deno.test("createPace() starts anew where a run goes on, at whatever step", () => {
  let time = 1e6;
  const pace = createPace({ steps: 1000, tokens: 10, now: () => time });
  time += 100;
  assertEquals(pace.add(901, 100), { ms: 100, tokensPerSecond: 100, remaining: 9900 });
  time += 50;
  assertEquals(pace.add(902, 50), { ms: 50, tokensPerSecond: 200, remaining: 4900 });
});

const CLOSING: Closing = {
  steps: 40,
  skipped: 0,
  tokens: 10_240,
  elapsed: 64_000,
  meanStep: 500,
  validations: [{ step: 0, loss: 10.9 }, { step: 20, loss: 7.25 }, { step: 40, loss: 7.5 }],
  peakMemory: 2 ** 30,
  files: ["out/model_00000040.bin", "out/main.log"],
};

Deno.test("closingReport() tells what the run took, reached and left", () => {
  assertEquals(closingReport(CLOSING), [
    "steps          40",
    "time           1m 4s",
    "tokens         10240, 160 tokens/s with all that came between",
    "mean step      500.00 ms, 512 tokens/s (without the first)",
    "best val loss  7.250000 at step 20",
    "last val loss  7.500000 at step 40",
    "peak memory    1.0 GiB",
    "written        out/model_00000040.bin",
    "               out/main.log",
  ]);
});

Deno.test("closingReport() leaves out what there was not, and counts skipped steps", () => {
  const closing = {
    ...CLOSING,
    steps: 1,
    tokens: 256,
    skipped: 1,
    meanStep: undefined,
    validations: [],
    files: [],
  };
  assertEquals(closingReport(closing), [
    "steps        1, 1 skipped",
    "time         1m 4s",
    "tokens       256, 4.0 tokens/s with all that came between",
    "peak memory  1.0 GiB",
  ]);
});

Deno.test("peakMemory() grows with what the process uses", () => {
  const before = peakMemory();
  const block = new Uint8Array(before + 2 ** 28).fill(1); // more than the most so far, and touched
  assert(peakMemory() > before + 2 ** 27, `${before} -> ${peakMemory()}`);
  assertEquals(block.at(-1), 1);
});
