import { assertEquals } from "@std/assert";
import { createPace, validationLine } from "../../commands/train_report.ts";

Deno.test("createPace() leaves the first step out of the average and of the time remaining", () => {
  let time = 0;
  const pace = createPace(4, 256, () => time);
  const lines: (string | undefined)[] = [];
  // The first step is slow; half a second passes between steps.
  for (const [step, took] of [[1, 9000], [2, 1000], [3, 2000], [4, 3000]] as const) {
    time += took + (step > 1 ? 500 : 0);
    pace.add(took);
    lines.push(pace.line(step, 1.25));
    if (step === 1) lines.push(pace.closing());
  }
  assertEquals([...lines, pace.closing()], [
    "step 1/4: train loss 1.250000 (took 9000.000 ms), 28 tokens/s, 27s left",
    undefined,
    "step 2/4: train loss 1.250000 (took 1000.000 ms), 256 tokens/s, 3s left",
    "step 3/4: train loss 1.250000 (took 2000.000 ms), 128 tokens/s, 2s left",
    "step 4/4: train loss 1.250000 (took 3000.000 ms), 85 tokens/s",
    "final 3 iters avg: 2000.000 ms, 128 tokens/s (first step left out)",
  ]);
});

Deno.test("validationLine() says over how many tokens, and at which T", () => {
  assertEquals(validationLine({ loss: 10.5, tokens: 2560 }, 64), "val loss 10.500000 (2560 tokens, T=64)");
});
