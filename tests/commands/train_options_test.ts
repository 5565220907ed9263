import { assert, assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { completeSteps } from "../../src/checkpoints.ts";
import { readRunState } from "../../src/io/run_state.ts";
import { TokenReader, writeTokenFile } from "../../src/io/tokens.ts";
import { llmts, type Result } from "./run.ts";
import { inSmallFolder, losses, SILENT, SMALL, SMALL_RUN } from "./small_model.ts";

const QUIET_RUN = [...SMALL_RUN, ...SILENT];

/** A run with other values for some of SMALL_RUN's flags. */
function withFlags(flags: Readonly<Record<string, string>>): string[] {
  const args = [...QUIET_RUN];
  for (const [name, value] of Object.entries(flags)) args[args.indexOf(name) + 1] = value;
  return args;
}

/** Runs to the end, which must be a good one. */
async function runs(folder: string, args: readonly string[]): Promise<Result> {
  const result = await llmts(folder, args);
  assertEquals([result.code, result.stderr], [0, ""], args.join(" "));
  return result;
}

/** Learning rates of the steps, as logged. */
function rates(folder: string): number[] {
  return metrics(folder).flatMap(({ learningRate }) => learningRate === undefined ? [] : [learningRate]);
}

function metrics(folder: string): { step: number; learningRate?: number; valLoss?: number }[] {
  const lines = Deno.readTextFileSync(join(folder, "out", "metrics.jsonl")).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}

Deno.test("A-13: an epoch is the tokens of the data over those of a step, whatever a batch is", async () => {
  await inSmallFolder(async (folder) => {
    using reader = new TokenReader(join(folder, "fox_train.bin"), SMALL.V);
    const batches = Math.floor((reader.length - 1) / 32);
    for (const [total, epochs] of [[32, 1], [64, 1], [64, 2], [128, 0.5]] as const) {
      const args = [...QUIET_RUN, "--total-batch-size", String(total), "--epochs", String(epochs)];
      const result = await runs(folder, [...args, "--overwrite"]);
      assertEquals(losses(result).length, Math.floor(epochs * batches / (total / 32)));
    }
    const { code, stderr } = await llmts(folder, [...QUIET_RUN, "--epochs", "0.01", "--overwrite"]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, `--epochs 0.01 is no step: an epoch has ${batches} batches, a step takes 1`);
  });
});

Deno.test("A-14: --total-batch-size that is no multiple of a batch is refused with those around it", async () => {
  await inSmallFolder(async (folder) => {
    for (const [total, hint] of [["500", "480 or 512"], ["20", "32"]] as const) {
      const { code, stderr } = await llmts(folder, [...QUIET_RUN, "--total-batch-size", total]);
      assertEquals([code, stderr], [
        2,
        `llmts: --total-batch-size is ${total}, expected a multiple of --batch-size × --seq-len = 2 × 16 = 32\n` +
        `hint: --total-batch-size ${hint}\n`,
      ]);
    }
  });
});

Deno.test("A-36: the losses of accumulated batches are those of one batch of them all", async () => {
  await inSmallFolder(async (folder) => {
    const whole = await runs(folder, [...withFlags({ "--batch-size": "8" }), "--steps", "10"]);
    const parts = await runs(folder, [
      ...QUIET_RUN,
      "--total-batch-size",
      "128",
      "--steps",
      "10",
      "--overwrite",
    ]);
    assertEquals(losses(parts).length, 10);
    losses(parts).forEach((loss, i) => assertAlmostEquals(loss, losses(whole)[i]!, 1e-5));
  });
});

Deno.test("A-12: --overfit repeats all batches of the first step, and no others", async () => {
  await inSmallFolder(async (folder) => {
    // From the second batch on the data is of one token: with only the first batch repeated, losses would be others.
    await writeTokenFile(
      join(folder, "two.bin"),
      SMALL.V,
      (write) => write(Array.from({ length: 200 }, (_, i) => i < 33 ? i * i % 97 : 7)),
    );
    const args = withFlags({ "--data": "two.bin", "--learning-rate": "1e-12" });
    const accumulated = [...args, "--total-batch-size", "64", "--steps", "3"];
    const overfit = losses(await runs(folder, [...accumulated, "--overfit"]));
    const ordinary = losses(await runs(folder, [...accumulated, "--overwrite"]));
    assertEquals(overfit, [ordinary[0], ordinary[0], ordinary[0]]);
    assert(Math.abs(ordinary[1]! - ordinary[0]!) > 1e-4);
    const { code, stderr } = await llmts(folder, [...args, "--overfit", "--shuffle", "--out", "other"]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "--overfit takes the same batches in each step");
  });
});

Deno.test("A-21: the training data starts over at its end, shuffled anew, and says so", async () => {
  await inSmallFolder(async (folder) => {
    await writeTokenFile(
      join(folder, "short.bin"),
      SMALL.V,
      (write) => write(Array.from({ length: 4 * 32 + 1 }, (_, i) => i * i % 97)),
    );
    const args = withFlags({ "--data": "short.bin", "--learning-rate": "1e-12" });
    const result = await runs(folder, [...args, "--shuffle", "--steps", "12"]);
    assertStringIncludes(result.stdout, "epoch 2: the training data starts over\n");
    assertStringIncludes(result.stdout, "epoch 3: the training data starts over\n");
    assert(!result.stdout.includes("epoch 4"));
    const epochs = [0, 4, 8].map((from) => losses(result).slice(from, from + 4));
    assertEquals(epochs[1]!.toSorted(), epochs[0]!.toSorted());
    assertEquals(epochs[2]!.toSorted(), epochs[0]!.toSorted());
    assert(`${epochs[0]}` !== `${epochs[1]}` || `${epochs[1]}` !== `${epochs[2]}`);
  });
});

Deno.test("A-38, A-39: the learning rate warms up from above 0, and decays to its end, however long they are", async () => {
  await inSmallFolder(async (folder) => {
    const args = [...QUIET_RUN, "--overwrite", "--schedule", "linear", "--final-lr-fraction", "0.5"];
    const cases: [steps: string, warmup: string, expected: number[]][] = [
      ["4", "2", [0.005, 0.01, 0.01, 0.0075]],
      ["2", "2", [0.005, 0.01]],
      ["2", "4", [0.0025, 0.005]],
      ["1", "0", [0.01]],
    ];
    for (const [steps, warmup, expected] of cases) {
      await runs(folder, [...args, "--steps", steps, "--warmup", warmup]);
      const found = rates(folder);
      assertEquals(found.length, expected.length);
      found.forEach((rate, i) => assertAlmostEquals(rate, expected[i]!, 1e-12));
    }
  });
});

Deno.test("A-27: checkpoints come every n steps and at the end; the newest and the majors stay", async () => {
  await inSmallFolder(async (folder) => {
    const out = join(folder, "out");
    await runs(folder, [
      ...QUIET_RUN,
      "--steps",
      "11",
      "--checkpoint-every",
      "2",
      "--keep",
      "2",
      "--major-every",
      "4",
    ]);
    assertEquals(completeSteps(out), [4, 8, 10, 11]);
    // A run that goes on deletes those off its grid too. 12 is on both.
    await runs(folder, ["train", "--resume", "--steps", "17", "--checkpoint-every", "3"]);
    assertEquals(completeSteps(out), [4, 8, 12, 15, 17]);
    // The log files and run.json beside them.
    assertEquals([...Deno.readDirSync(out)].length, 5 * 4 + 3);
  });
});

Deno.test("--keep-best keeps the checkpoint of the lowest validation loss", async () => {
  await inSmallFolder(async (folder) => {
    // It learns the fox, and what it validates on is the fox with words exchanged: that gets worse again.
    using reader = new TokenReader(join(folder, "fox_val.bin"), SMALL.V);
    const ids = new Int32Array(reader.length);
    reader.read(0, ids);
    await writeTokenFile(
      join(folder, "odd_val.bin"),
      SMALL.V,
      (write) => write(ids.map((id, i) => i % 2 ? 1000 + i : id)),
    );
    const args = [...SMALL_RUN, "--val-data", "odd_val.bin", "--val-every", "3", "--sample-every", "0"];
    await runs(folder, [...args, "--steps", "60", "--keep", "1", "--keep-best"]);
    const validations = metrics(folder).filter(({ valLoss }) => valLoss !== undefined);
    const best = validations.reduce((best, next) => next.valLoss! < best.valLoss! ? next : best);
    assert(best.step > 0 && best.step < 60, `the best is step ${best.step}`);
    assertEquals(completeSteps(join(folder, "out")), [best.step, 60]);
    const { best: saved } = readRunState(join(folder, "out", "run_00000060.json"));
    assertEquals(saved, { step: best.step, loss: best.valLoss! });
    const { code, stderr } = await llmts(folder, [...QUIET_RUN, "--keep-best", "--out", "other"]);
    assertEquals(code, 2);
    assertStringIncludes(stderr, "--keep-best goes by the validation loss, but --val-every is 0");
  });
});

Deno.test("llmts train refuses a folder with a run's checkpoints, unless --overwrite deletes them", async () => {
  await inSmallFolder(async (folder) => {
    await runs(folder, [...QUIET_RUN, "--steps", "9"]);
    const { code, stderr } = await llmts(folder, [...QUIET_RUN, "--steps", "4"]);
    assertEquals([code, stderr], [
      2,
      'llmts: "out" has a run\'s checkpoints, up to step 9\n' +
      "hint: --resume goes on with that run, --overwrite deletes it and starts anew, --out takes another folder\n",
    ]);
    assertEquals(completeSteps(join(folder, "out")), [9]);
    await runs(folder, [...QUIET_RUN, "--steps", "4", "--overwrite"]);
    assertEquals(completeSteps(join(folder, "out")), [4]);
    assertEquals(metrics(folder).map(({ step }) => step), [1, 2, 3, 4]);
  });
});

Deno.test("llmts train --config takes the run.json that a run has left, and --dry-run trains nothing", async () => {
  await inSmallFolder(async (folder) => {
    const first = await runs(folder, [...QUIET_RUN, "--steps", "5", "--shuffle", "--total-batch-size", "64"]);
    const config = join("out", "run.json");
    const again = await runs(folder, ["train", "--config", config, "--out", "again"]);
    assertEquals(losses(again), losses(first));
    const dry = await runs(folder, ["train", "--config", config, "--out", "dry", "--dry-run"]);
    assertStringIncludes(dry.stdout, "5, 320 tokens");
    // run.json has the steps; an argument that says the same in another way goes before it.
    const args = ["train", "--config", config, "--out", "dry", "--dry-run", "--epochs", "0.5"];
    assertMatch((await runs(folder, args)).stdout, /^updates +\d+, \d+ tokens, 0\.\d+ epochs/m);
  });
});

Deno.test("llmts train --tensorboard leaves an event file, and --recompute the same losses", async () => {
  await inSmallFolder(async (folder) => {
    const plain = await runs(folder, [...QUIET_RUN, "--steps", "4"]);
    const options = ["--tensorboard", "--recompute", "block", "--out", "recomputed"];
    const recomputed = await runs(folder, [...QUIET_RUN, "--steps", "4", ...options]);
    assertEquals(losses(recomputed), losses(plain));
    const events = [...Deno.readDirSync(join(folder, "recomputed"))].filter(({ name }) =>
      name.startsWith("events.")
    );
    assertEquals(events.length, 1);
    assert(Deno.statSync(join(folder, "recomputed", events[0]!.name)).size > 200);
  });
});

Deno.test("A-28: what fails in the last validation or sample doesn't cost the run", async () => {
  await inSmallFolder(async (folder) => {
    // The first validation, of one batch, doesn't get to the bad id; the second one, of the whole file, does.
    await writeTokenFile(
      join(folder, "bad_val.bin"),
      65536,
      (write) => write([...Array(60).fill(1), 60000, ...Array(20).fill(1)]),
    );
    const run = [...SMALL_RUN, "--val-data", "bad_val.bin", "--sample-every", "0"];
    await runs(folder, [...run, "--val-tokens", "32", "--steps", "3"]);
    const { code, stderr } = await llmts(folder, ["train", "--resume", "--steps", "5", "--val-tokens", "0"]);
    assertEquals(code, 1);
    assertStringIncludes(stderr, '"bad_val.bin": has id 60000 at token 60');
    assertEquals(completeSteps(join(folder, "out")), [3, 5]);
  });
});
