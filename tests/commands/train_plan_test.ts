import { assert, assertEquals } from "@std/assert";
import { planLines, type TrainPlan } from "../../commands/train_plan.ts";
import { presetConfig } from "../../src/config.ts";
import { memoryPlan } from "../../src/memory.ts";

const config = presetConfig("d12");
const PLAN: TrainPlan = {
  source: "d12",
  config,
  B: 4,
  T: 64,
  batches: 2,
  steps: 100,
  epochTokens: 305_260,
  validation: { tokens: 32_767, times: 3 },
  memory: memoryPlan(config, { B: 4, T: 64 }),
  freeMemory: 16 * 2 ** 30,
  checkpoint: { bytes: 3 * 2 ** 29, kept: 2, atMost: false },
  peak: 400e9,
};

/** The text beside a label. */
function textOf(label: string, plan: TrainPlan): string | undefined {
  return planLines(plan).map((line) => line.trim()).find((line) => line.startsWith(label))
    ?.slice(label.length).trim();
}

Deno.test("planLines() says what a run needs", () => {
  assertEquals(planLines(PLAN), [
    "model                          d12: 12 layers, 12 heads, 768 channels, 1024 positions",
    "vocabulary                     50257, padded to 50304",
    "parameters                     124475904",
    "  token embedding, classifier  38633472 (31.0 %)",
    "  position embedding           786432 (0.6 %)",
    "  attention                    28348416 (22.8 %)",
    "  MLP                          56669184 (45.5 %)",
    "  layernorms                   38400 (0.0 %)",
    "memory                         1.9 GiB to train, 16.0 GiB are free",
    "  parameters                   474.8 MiB",
    "  gradients                    474.8 MiB",
    "  AdamW's moments              949.7 MiB",
    "  activations                  96.2 MiB",
    "  kernels' scratch             not counted, some tens of MiB",
    "tokens an update               512: 2 batches of 4 × 64",
    "updates                        100, 51200 tokens, 0.17 epochs of 305260",
    "validation                     32767 tokens, 3 times",
    "checkpoints                    2 file sets of 1.5 GiB: 3.0 GiB on the disk",
    // 750,394,368 FLOP · (51,200 + 3 · 32,767 / 3) / (0.5 · 400 GFLOP/s) = 315 s
    "estimated time                 5m 15s: 750.4 MFLOP a token at 50 %, which is assumed, of 400.0 GFLOP/s, measured in a matmul",
  ]);
});

Deno.test("planLines() counts every parameter in one group", () => {
  for (const preset of ["d2", "gpt2-xl"]) {
    const lines = planLines({ ...PLAN, config: presetConfig(preset) });
    const start = lines.findIndex((line) => line.startsWith("parameters"));
    const number = (line: string): number => Number(/ (\d+)/.exec(line.slice(28))![1]);
    const groups = lines.slice(start + 1, start + 6).map(number);
    assertEquals(groups.reduce((sum, count) => sum + count), number(lines[start]!));
  }
});

Deno.test("planLines() shows master weights where there are some, and no validation where there is none", () => {
  const bf16 = { ...PLAN, memory: memoryPlan(config, { B: 4, T: 64, precision: "bf16" }) };
  assertEquals(textOf("fp32 master weights", bf16), "474.8 MiB");
  assertEquals(textOf("fp32 master weights", PLAN), undefined);
  assertEquals(textOf("validation", { ...PLAN, validation: { tokens: 0, times: 0 } }), "none");
  assertEquals(textOf("tokens an update", { ...PLAN, batches: 1 }), "256: 1 batch of 4 × 64");
});

Deno.test("planLines() estimates less time on a faster machine and for fewer steps", () => {
  const time = (plan: Partial<TrainPlan>): string =>
    textOf("estimated time", { ...PLAN, ...plan })!.split(":")[0]!;
  assertEquals(time({ peak: 4e12 }), "32s");
  assertEquals(time({ steps: 1, validation: { tokens: 0, times: 0 } }), "2s");
  assert(planLines(PLAN).every((line) => !line.includes("NaN") && !line.includes("undefined")));
});
