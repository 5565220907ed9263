import { assertEquals } from "@std/assert";
import { FLAGS, type TrainFlags } from "../../commands/train_flags.ts";
import { checkpointsKept, stepCount } from "../../commands/train_settings.ts";
import { parseFlags } from "../../commands/flags.ts";

function settings(args: Record<string, number>): TrainFlags {
  const list = Object.entries(args).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return parseFlags({ usage: "llmts train", flags: FLAGS }, list).values;
}

/** The same, by listing the steps. */
function listed(steps: number, every: number, keep: number, major: number): number {
  const written = Array.from({ length: steps }, (_, i) => i + 1).filter((step) =>
    step === steps || (every > 0 && step % every === 0)
  );
  const isMajor = (step: number): boolean => major > 0 && step % major === 0;
  return written.filter((step, i) => keep === 0 || i >= written.length - keep || isMajor(step)).length;
}

Deno.test("checkpointsKept() is the number of those that stay", () => {
  for (const steps of [1, 7, 12, 60]) {
    for (const every of [0, 1, 2, 3, 5, 12, 100]) {
      for (const keep of [0, 1, 2, 5, 80]) {
        for (const major of [0, 1, 4, 6, 15]) {
          assertEquals(
            checkpointsKept(settings({ "checkpoint-every": every, keep, "major-every": major }), steps),
            listed(steps, every, keep, major),
            `${steps} steps, every ${every}, keep ${keep}, majors ${major}`,
          );
        }
      }
    }
  }
  assertEquals(checkpointsKept(settings({ "checkpoint-every": 1 }), 99_999_999), 99_999_999);
});

Deno.test("checkpointsKept() counts with --keep-best what validation can add", () => {
  const kept = (args: Record<string, number>, steps: number): number =>
    checkpointsKept({ ...settings(args), keepBest: true }, steps);
  assertEquals(kept({ "checkpoint-every": 0, "val-every": 5 }, 60), 13);
  assertEquals(kept({ "checkpoint-every": 0, "val-every": 1 }, 60), 60);
  assertEquals(kept({ "checkpoint-every": 20, "val-every": 5, keep: 2 }, 60), 3);
  assertEquals(kept({ "checkpoint-every": 20, "val-every": 5, keep: 2, "major-every": 10 }, 60), 9);
});

Deno.test("stepCount() gives the whole steps in so many epochs", () => {
  const cases: [epochs: number, batches: number, accumulation: number, steps: number][] = [
    [1, 7, 1, 7],
    [0.29, 100, 1, 29], // 28.999999999999996 in binary
    [0.1, 3000, 3, 100],
    [1.5, 7, 2, 5], // and a quarter
    [0.999999, 100, 1, 99],
  ];
  for (const [epochs, batches, accumulation, steps] of cases) {
    assertEquals(stepCount(settings({ epochs }), batches, accumulation), steps, `${epochs} of ${batches}`);
  }
});
