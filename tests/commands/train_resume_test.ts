import { assert, assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { basename, dirname, join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { checkpointFiles, completeSteps } from "../../src/checkpoints.ts";
import { assetPath } from "../../src/io/assets.ts";
import { writeCheckpoint } from "../../src/io/checkpoint.ts";
import { exists } from "../../src/io/files.ts";
import { readRunState } from "../../src/io/run_state.ts";
import { TokenReader, writeTokenFile } from "../../src/io/tokens.ts";
import { loadModel } from "../../src/load.ts";
import { llmts, type Result, type RunOptions } from "./run.ts";
import { inSmallFolder, losses, SILENT, SMALL, SMALL_RUN } from "./small_model.ts";

/** Runs to the end, which must be a good one. */
async function runs(folder: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const result = await llmts(folder, args, options);
  assertEquals([result.code, result.stderr], [0, ""], args.join(" "));
  return result;
}

/** The bytes of model and optimizer state after a step. */
function bits(folder: string, step: number): Uint8Array[] {
  const { model, state } = checkpointFiles(folder, step);
  return [model, state].map((path) => Deno.readFileSync(path));
}

/** Cuts the fox into three files of different lengths. */
async function writeShards(folder: string): Promise<void> {
  using reader = new TokenReader(join(folder, "fox_train.bin"), SMALL.V);
  const ids = new Int32Array(reader.length);
  reader.read(0, ids);
  for (const [i, [from, to]] of [[0, 100], [100, 240], [240, ids.length]].entries()) {
    const path = join(folder, `shard_train_${i}.bin`);
    await writeTokenFile(path, SMALL.V, (write) => write(Array.from(ids.subarray(from, to))));
  }
}

const SHARDS = SMALL_RUN.with(SMALL_RUN.indexOf("fox_train.bin"), "shard_train_*.bin");

// deno-fmt-ignore
const KINDS: readonly [name: string, args: readonly string[]][] = [
  ["in fp32", SMALL_RUN],
  ["in bf16 with master weights", [...SMALL_RUN, "--precision", "bf16"]],
  ["in bf16 without master weights", [...SMALL_RUN, "--precision", "bf16", "--master-weights", "no"]],
  ["shuffling three shards, four batches a step", [...SHARDS, "--shuffle", "--total-batch-size", "128"]],
  ["over three shards in order, decaying", [...SHARDS, "--schedule", "cosine", "--warmup", "3", "--weight-decay", "0.1", "--beta2", "0.95"]],
];

for (const [name, args] of KINDS) {
  Deno.test(`A-10: 20 steps ${name} have the bits of 10, --resume and 10 more`, async () => {
    await inSmallFolder(async (folder) => {
      await writeShards(folder);
      const often = ["--val-data", "fox_val.bin", "--val-every", "4", "--sample-every", "0", "--steps", "20"];
      const straight = await runs(folder, [
        ...args,
        ...often,
        "--checkpoint-every",
        "10",
        "--out",
        "straight",
      ]);
      // What a run that stopped after step 10 leaves.
      const out = join(folder, "halves");
      Deno.mkdirSync(out);
      for (const path of Object.values(checkpointFiles("", 10))) {
        Deno.copyFileSync(join(folder, "straight", path), join(out, path));
      }
      for (const log of ["main.log", "metrics.jsonl"]) {
        Deno.copyFileSync(join(folder, "straight", log), join(out, log));
      }
      const resumed = await runs(folder, ["train", "--resume", "--out", "halves"]);
      assertStringIncludes(resumed.stdout, "resuming after step 10 of 20\n");
      assertEquals(losses(resumed), losses(straight).slice(10));
      assertEquals(bits(out, 20), bits(join(folder, "straight"), 20));
      const state = (folder: string) => readRunState(checkpointFiles(folder, 20).run);
      assertEquals(state(out), state(join(folder, "straight")));
      const log = (folder: string): string => Deno.readTextFileSync(join(folder, "main.log"));
      assertEquals(log(out), log(join(folder, "straight")));
    });
  });
}

Deno.test("A-10: a run that had ended goes on with more --steps, and outlier windows are as if it had not", async () => {
  await inSmallFolder(async (folder) => {
    // The windows are full after 128 steps, so that what is skipped after that depends on all of them.
    // At so low a rate losses go up and down by their batches alone.
    const slow = SMALL_RUN.with(SMALL_RUN.indexOf("0.01"), "0.000001");
    const args = [...slow, ...SILENT, "--skip-loss-z", "0.5", "--skip-grad-z", "1"];
    const straight = await runs(folder, [...args, "--steps", "160", "--out", "straight"]);
    assertMatch(straight.stdout.split("\nstep  141/")[1]!, /\| skipped: (loss|norm) \S+ deviations off\n/);
    await runs(folder, [...args, "--steps", "140"]);
    await runs(folder, ["train", "--resume", "--steps", "160"]);
    assertEquals(bits(join(folder, "out"), 160), bits(join(folder, "straight"), 160));
  });
});

Deno.test("A-30: llmts train --resume lists flags that changed, and refuses or accepts them", async () => {
  await inSmallFolder(async (folder) => {
    await runs(folder, [...SMALL_RUN, ...SILENT, "--steps", "10", "--schedule", "linear"]);
    const before = bits(join(folder, "out"), 10);
    const resume = (args: readonly string[]): Promise<Result> =>
      llmts(folder, ["train", "--resume", ...args]);
    // deno-fmt-ignore
    const cases: [args: string[], message: string, hint: string][] = [
      [["--batch-size", "4"], "--batch-size 4 (was 2)", "--accept batch-size"],
      [["--steps", "12", "--learning-rate", "0.02"], "--learning-rate 0.02 (was 0.01), --steps 12 (was 10)",
        "--accept learning-rate,steps"],
      [["--steps", "12", "--accept", "learning-rate"], "--steps 12 (was 10)", "--accept learning-rate,steps"],
      [["--data", "fox_val.bin"], "--data fox_val.bin (was fox_train.bin)", "--accept data"],
      [["--shuffle"], "--shuffle true (was false)", "--accept shuffle"],
      [["--model", "d2"], "can't go on with --model d2 (was small.bin)", "model_00000010.bin"],
      [["--precision", "bf16", "--accept", "precision"], '--accept names "precision"', "learning-rate"],
      [["--overwrite"], "--overwrite deletes it", "give one of them"],
      [["--batch-size", "4", "--accept", " seed , "], "--batch-size 4 (was 2)", "--accept seed,batch-size"],
    ];
    for (const [args, message, hint] of cases) {
      const { code, stderr } = await resume(args);
      assertEquals(code, 2, stderr);
      assertStringIncludes(stderr, message);
      assertStringIncludes(stderr, hint);
    }
    assertEquals(bits(join(folder, "out"), 10), before);
    assertEquals(completeSteps(join(folder, "out")), [10]);

    // Flags that decide nothing change freely.
    const free = await resume(["--val-every", "3", "--keep", "4", "--checkpoint-every", "5"]);
    assertEquals(free.code, 0);
    assertStringIncludes(free.stdout, "the run is complete: 10 of 10 steps");
    const more = await resume(["--steps", "12", "--batch-size", "1", "--accept", "steps,batch-size"]);
    assertEquals([more.code, more.stderr], [0, ""]);
    assertStringIncludes(
      more.stdout,
      "changed since the checkpoint: --batch-size 1 (was 2), --steps 12 (was 10)\n",
    );
    assertStringIncludes(more.stdout, "batches in a step: 2, 32 tokens\n"); // the tokens of a step stay
    assertEquals(losses(more).length, 2);
  });
});

Deno.test("A-10: data that has grown or shrunk since the checkpoint is refused, or accepted and starts over", async () => {
  await inSmallFolder(async (folder) => {
    await writeShards(folder);
    await runs(folder, [...SHARDS, ...SILENT, "--steps", "5"]);
    const [first, second] = [0, 1].map((i) => join(folder, `shard_train_${i}.bin`)) as [string, string];
    const [before, path] = [Deno.readFileSync(second), "shard_train_1.bin"];
    Deno.copyFileSync(first, second);
    const args = ["train", "--resume", "--steps", "6"];
    assertEquals(await llmts(folder, args), {
      code: 1,
      stdout: "",
      stderr: `llmts: "${path}": has 100 tokens, and had 140 in the run so far\n` +
        "hint: put back the file as it was, or let the data start over: --accept data\n",
    });
    const accepted = await runs(folder, [...args, "--accept", "data"]);
    assertStringIncludes(accepted.stdout, "the training data starts over\n");
    assertEquals(readRunState(checkpointFiles(join(folder, "out"), 6).run).dataTokens!.slice(0, 2), [
      100,
      100,
    ]);
    await runs(folder, ["train", "--resume", "--steps", "7"]);
    Deno.writeFileSync(second, before);
    assertStringIncludes((await llmts(folder, ["train", "--resume", "--steps", "8"])).stderr, "and had 100");
  });
});

Deno.test("A-49: llmts train --resume says so where the number of threads has changed, and only there", async () => {
  await inSmallFolder(async (folder) => {
    await runs(folder, [...SMALL_RUN, ...SILENT, "--steps", "2"]);
    const resume = (steps: number, threads: string): Promise<Result> =>
      runs(folder, ["train", "--resume", "--steps", String(steps), "--threads", threads]);
    const note = /^device so far: .+, 1 thread; with another the last bits of what is computed differ$/m;
    assert(!note.test((await resume(3, "1")).stdout));
    assertMatch((await resume(4, "2")).stdout, note);
  });
});

Deno.test("A-30: batches of another shape go on at the same token", async () => {
  await inSmallFolder(async (folder) => {
    await runs(folder, [...SMALL_RUN, ...SILENT, "--steps", "8", "--checkpoint-every", "5"]);
    const straight = bits(join(folder, "out"), 8);
    for (const path of Object.values(checkpointFiles(join(folder, "out"), 8))) Deno.removeSync(path);
    const args = ["--batch-size", "1", "--accept", "batch-size"]; // two batches of half the size make a step
    await runs(folder, ["train", "--resume", ...args]);
    const [model, expected] = [bits(join(folder, "out"), 8), straight].map(([bytes]) =>
      new Float32Array(bytes!.buffer)
    ) as [Float32Array, Float32Array];
    const furthest = model.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
    assert(furthest < 1e-3, `weights differ by ${furthest}, the learning rate is 0.01`);
  });
});

Deno.test("A-16: the best loss so far is forgotten where it was of other tokens or windows", async () => {
  await inSmallFolder(async (folder) => {
    await writeTokenFile(join(folder, "odd_val.bin"), SMALL.V, (write) => write([7, 900, 31, 6000, 2, 47]));
    const validating = ["--val-every", "100", "--sample-every", "0"];
    await runs(folder, [...SMALL_RUN, ...validating, "--steps", "100"]);
    const out = join(folder, "out");
    const best = (step: number) => readRunState(checkpointFiles(out, step).run).best!;
    const before = best(100);
    const still = ["--steps", "101", "--learning-rate", "1e-12", "--accept", "learning-rate,seq-len"]; // the weights stay
    for (const change of [["--seq-len", "1"], ["--val-data", "odd_val.bin"]]) {
      const { stdout } = await runs(folder, ["train", "--resume", ...still, ...change]);
      const loss = Number(/^val loss (\S+)/m.exec(stdout)![1]);
      assert(loss > before.loss + 1e-3, `${loss} and ${before.loss}`);
      assertAlmostEquals(best(101).loss, loss, 1e-6, `${change}`);
      for (const path of Object.values(checkpointFiles(out, 101))) Deno.removeSync(path);
    }
  });
});

Deno.test("A-29: llmts train leaves a model without its optimizer state alone, unless --overwrite deletes it", async () => {
  await inSmallFolder(async (folder) => {
    const none = await runs(folder, [...SMALL_RUN, ...SILENT, "--steps", "2", "--resume"]);
    assertStringIncludes(none.stdout, 'no complete checkpoint in "out" to go on from: starting\n');
    const { model, state, run, done } = checkpointFiles("out", 2);
    const before = Deno.readFileSync(join(folder, model));
    // Without the state, which is twice as large as the model; then as llm.c leaves what it had no time to finish.
    for (const [gone, missing] of [[[state], state], [[run, done], done]] as const) {
      for (const path of gone) Deno.renameSync(join(folder, path), join(folder, `kept ${basename(path)}`));
      for (const resume of [[], ["--resume"]]) {
        const { code, stderr } = await llmts(folder, [...SMALL_RUN, ...SILENT, "--steps", "2", ...resume]);
        assertEquals([code, stderr], [
          2,
          `llmts: "${model}" is there without "${missing}": its run can't go on\n` +
          `hint: --model ${model} and another --out train its weights further, --overwrite deletes it and starts anew\n`,
        ]);
      }
      for (const path of gone) Deno.renameSync(join(folder, `kept ${basename(path)}`), join(folder, path));
    }
    assertEquals(Deno.readFileSync(join(folder, model)), before);
    Deno.removeSync(join(folder, state));
    await runs(folder, [...SMALL_RUN, ...SILENT, "--steps", "1", "--overwrite"]);
    assertEquals(completeSteps(join(folder, "out")), [1]);
    assert(!exists(join(folder, model)));
  });
});

Deno.test("A-29: llmts train --resume says what is wrong with a damaged checkpoint", async () => {
  await inSmallFolder(async (folder) => {
    await runs(folder, [...SMALL_RUN, ...SILENT, "--steps", "2"]);
    const { model, state, run } = checkpointFiles("out", 2);
    for (const path of [model, state, run]) {
      const whole = Deno.readFileSync(join(folder, path));
      Deno.writeFileSync(join(folder, path), whole.subarray(0, whole.length >> 1));
      const { code, stderr } = await llmts(folder, ["train", "--resume", "--steps", "3"]);
      assertEquals(code, 1, stderr);
      assertStringIncludes(stderr, `llmts: "${path}": `);
      Deno.writeFileSync(join(folder, path), whole);
    }
    await runs(folder, ["train", "--resume", "--steps", "3"]);
  });
});

/** A folder as llm.c leaves one, by hand from the format's description: model, state and DONE of step 5. */
async function writeLlmcRun(
  folder: string,
  { stored, master }: { stored: "fp32" | "bf16"; master: boolean },
): Promise<void> {
  const out = join(folder, "llmc");
  Deno.mkdirSync(out);
  const model = loadModel(join(folder, "small.bin"), openDevice({ threads: 1 }));
  await writeCheckpoint(join(out, "model_00000005.bin"), model, stored);
  const weights = new Float32Array(Deno.readFileSync(join(folder, "small.bin")).buffer, 1024);
  const header = new Int32Array(256);
  header.set([20240527, 1, 1, 0, master ? 1 : 0, 0]); // magic, version, processes, rank, master weights, shuffles
  header[10] = 5; // step
  header[20] = 13371337; // generator for rounding
  header[32] = 5; // sample: the sixth batch is the next
  const moments = [new Float32Array(weights.length).fill(1e-3), new Float32Array(weights.length).fill(1e-4)];
  const parts = [header, ...moments, ...(master ? [weights] : [])];
  const blob = new Blob(parts.map((part) => new Uint8Array(part.buffer, part.byteOffset, part.byteLength)));
  Deno.writeFileSync(join(out, "state_00000005_00000.bin"), new Uint8Array(await blob.arrayBuffer()));
  Deno.writeTextFileSync(join(out, "DONE_00000005"), "");
  const log = ["s:0 tel:10.9", ...[0, 1, 2, 3, 4].map((i) => `s:${i} trl:9.${i} lr:0.000100 norm:1.00`)];
  Deno.writeTextFileSync(join(out, "main.log"), log.join("\n") + "\n");
}

for (
  const [stored, master, assumed] of [
    ["fp32", false, "--precision fp32"],
    ["bf16", true, "--precision bf16 --master-weights yes"],
    ["bf16", false, "--precision bf16 --master-weights no"],
    ["bf16", true, "--precision fp32"],
  ] as const
) {
  Deno.test(`llmts train --resume goes on in llm.c's folder of ${stored}, ${assumed}`, async () => {
    await inSmallFolder(async (folder) => {
      await writeLlmcRun(folder, { stored, master });
      const own = SMALL_RUN.filter((arg) => arg !== "--model" && arg !== "small.bin");
      const precision = assumed === "--precision fp32" ? ["--precision", "fp32"] : [];
      const beta2 = master ? ["--beta2", "0.95"] : [];
      const args = [...own.with(own.indexOf("0.01"), "1e-12"), ...SILENT, ...precision, ...beta2]; // leaves the weights as they were read
      const result = await runs(folder, [...args, "--resume", "--out", "llmc", "--steps", "7"]);
      assertStringIncludes(result.stdout, `isn't there, so the flags of the run so far are not known`);
      assertStringIncludes(result.stdout, `what its files show: ${assumed}\nassumed: `);
      const note = master ? "a beta2 of 0.95\n" : "a beta2 of 0.999; llm.c's on a GPU had --beta2 0.95\n";
      assertStringIncludes(result.stdout, `AdamW goes on with ${note}`);
      assertStringIncludes(result.stdout, "resuming after step 5 of 7\n");
      assertEquals(losses(result).length, 2);
      const out = join(folder, "llmc");
      assertEquals(completeSteps(out), [5, 7]);
      const run = readRunState(checkpointFiles(out, 7).run);
      assertEquals([run.step, run.tokens, run.epoch], [7, 7 * 32, 0]);
      const log = Deno.readTextFileSync(join(out, "main.log")).trimEnd().split("\n");
      assertEquals(log.map((line) => line.split(" ")[0]), [
        "s:0",
        "s:0",
        "s:1",
        "s:2",
        "s:3",
        "s:4",
        "s:5",
        "s:6",
      ]);
      // fp32 weights are those that were saved, also where the model's file has them rounded to bf16.
      if (stored === "fp32" || master) {
        const [found, expected] = [join(out, "model_00000007.bin"), join(folder, "small.bin")].map((path) =>
          new Float32Array(Deno.readFileSync(path).buffer, 1024)
        ) as [Float32Array, Float32Array];
        assert(found.every((value, i) => Math.abs(value - expected[i]!) < 1e-9));
      }
      // Seven batches were read, so the eighth is the next.
      assertEquals(new Int32Array(bits(out, 7)[1]!.buffer, 0, 256)[32], 7);
      // The moments were read: the next update is still theirs, nearly all of it.
      const m = new Float32Array(bits(out, 7)[1]!.buffer, 1024, 100);
      assert(m.some((value) => Math.abs(value - 1e-3 * 0.9 ** 2) < 1e-5), `${m.subarray(0, 5)}`);
    });
  });
}

Deno.test("llmts train --resume goes on with a run that is older than a flag as if it had its default", async () => {
  await inSmallFolder(async (folder) => {
    const args = [...SMALL_RUN, ...SILENT];
    await runs(folder, [...args, "--steps", "4", "--out", "whole"]);
    await runs(folder, [...args, "--steps", "2"]);
    const path = checkpointFiles(join(folder, "out"), 2).run;
    const { beta2, ...older } = JSON.parse(Deno.readTextFileSync(path)).flags;
    assertEquals(beta2, 0.999);
    Deno.writeTextFileSync(
      path,
      JSON.stringify({ ...JSON.parse(Deno.readTextFileSync(path)), flags: older }),
    );
    const refused = await llmts(folder, ["train", "--resume", "--beta2", "0.95", "--steps", "4"]);
    assertEquals(refused.code, 2);
    assertStringIncludes(refused.stderr, 'The run in "out" had other flags: --beta2 0.95 (was 0.999)');
    await runs(folder, ["train", "--resume", "--steps", "4"]);
    assertEquals(bits(join(folder, "out"), 4), bits(join(folder, "whole"), 4));
  });
});

Deno.test("llmts train starts from the sizes in a config.json, and goes on from its own checkpoint", async () => {
  await inSmallFolder(async (folder) => {
    const sizes = { n_layer: 1, n_head: 2, n_embd: 8, n_positions: 32 };
    Deno.writeTextFileSync(join(folder, "sizes.json"), JSON.stringify(sizes));
    const args = SMALL_RUN.with(SMALL_RUN.indexOf("small.bin"), "sizes.json");
    const { stdout } = await runs(folder, [...args, ...SILENT, "--steps", "2"]);
    assertMatch(stdout, /^model: sizes\.json, from scratch, seed 42,/m);
    await runs(folder, [...SMALL_RUN, ...SILENT, "--steps", "3", "--out", "whole"]); // of the same random weights
    Deno.removeSync(join(folder, "sizes.json"));
    await runs(folder, ["train", "--resume", "--steps", "3"]);
    assertEquals(bits(join(folder, "out"), 3), bits(join(folder, "whole"), 3));
  });
});

Deno.test("llmts train goes on with the built-in corpus when the program has moved, bit for bit", async () => {
  await inSmallFolder(async (folder) => {
    const home = (name: string): RunOptions => ({
      env: { LLMTS_HOME: join(folder, name) },
      permissions: ["-A", "--deny-net"],
    });
    Deno.mkdirSync(join(folder, "old"));
    Deno.symlinkSync(dirname(assetPath("moby_dick_train.bin")), join(folder, "old", "assets"));
    const args = ["train", "--model", "small.bin", "--threads", "1", "--seq-len", "16", "--shuffle"];
    await runs(folder, [...args, "--steps", "4", "--out", "whole"], home("old"));
    await runs(folder, [...args, "--steps", "2"], home("old"));
    await runs(folder, [...args, "--steps", "2", "--out", "before"], home("old"));
    const out = (name: string): string => join(folder, name);
    const config = JSON.parse(Deno.readTextFileSync(join(out("out"), "run.json")));
    assertEquals([config.data, config["val-data"]], [
      "built-in:moby_dick_train.bin",
      "built-in:moby_dick_val.bin",
    ]);

    // Runs of earlier versions have the path that the files had then.
    for (const name of ["run.json", "run_00000002.json"]) {
      const path = join(out("before"), name);
      const text = Deno.readTextFileSync(path);
      Deno.writeTextFileSync(path, text.replaceAll("built-in:", `${out("old")}/assets/`));
    }
    Deno.renameSync(out("old"), out("new"));
    for (const name of ["out", "before"]) {
      await runs(folder, ["train", "--resume", "--steps", "4", "--out", name], home("new"));
      assertEquals(bits(out(name), 4), bits(out("whole"), 4), name);
      await runs(folder, ["train", "--config", `${name}/run.json`, "--out", `${name} again`], home("new"));
      assertEquals(bits(out(`${name} again`), 4), bits(out("whole"), 4), name);
    }
  });
});
