import { assert, assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { float32 } from "../../ffi/tensor.ts";
import { checkpointFiles, completeSteps } from "../../src/checkpoints.ts";
import { readCheckpoint, readCheckpointHeader, writeCheckpoint } from "../../src/io/checkpoint.ts";
import { TokenReader, writeTokenFile } from "../../src/io/tokens.ts";
import { inFolder } from "../folder.ts";
import { llmts, type Result } from "./run.ts";
import { inSmallFolder, losses, SILENT, SMALL, SMALL_RUN } from "./small_model.ts";

Deno.test("llmts train prints sizes, losses and samples of more tokens than T (A-42, A-44), and writes a checkpoint", async () => {
  await inSmallFolder(async (folder) => {
    const result = await llmts(folder, [
      ...SMALL_RUN,
      ...["--steps", "6", "--val-every", "3", "--sample-every", "4", "--sample-tokens", "20"],
    ]);
    assertEquals([result.code, result.stderr], [0, ""]);
    const { stdout } = result;
    assert(!stdout.includes("\x1b") && !stdout.includes("\r"), "no control codes in a pipe");
    for (
      const line of [
        "[GPT-2]",
        "max_seq_len: 32",
        "vocab_size: 50257",
        "padded_vocab_size: 50304",
        "num_layers: 1",
        "num_heads: 2",
        "channels: 8",
        "validation data: fox_val.bin",
      ]
    ) assertStringIncludes(stdout, `${line}\n`);
    assertMatch(stdout, /^num_parameters: 403576 \(1\.5 MiB\)$/m);
    assertMatch(stdout, /^device: .+, 1 thread, fp32$/m);
    assertMatch(stdout, /^train dataset num_batches: \d+$/m);
    assertMatch(stdout, /^step +3\/6 \| loss +\S+ \| norm +\S+ \| lr 1\.00e-02 \| .+ tokens\/s \| .+ left$/m);
    assertMatch(stdout, /^steps +6$/m);
    assertEquals([...stdout.matchAll(/^val loss \d+\.\d+ \(\d+ tokens, T=16\)$/gm)].length, 3);
    assertEquals([...stdout.matchAll(/^generating:\n---\n/gm)].length, 2);
    assertEquals(losses(result).length, 6);
    // The checkpoint is written before the last sample: what fails there costs nothing.
    assert(stdout.indexOf("checkpoint: ") < stdout.lastIndexOf("generating:"));
    const path = join(folder, "out", "model_00000006.bin");
    assertEquals(readCheckpointHeader(path), { config: SMALL, stored: "fp32" });
    assertEquals([...Deno.readDirSync(join(folder, "out"))].map(({ name }) => name).sort(), [
      ...["DONE_00000006", "main.log", "metrics.jsonl", "model_00000006.bin"],
      ...["run.json", "run_00000006.json", "state_00000006_00000.bin"],
    ]);
  });
});

Deno.test("llmts train learns, and its losses do not depend on validation and samples (A-35)", async () => {
  await inSmallFolder(async (folder) => {
    const quiet = await llmts(folder, [
      ...SMALL_RUN,
      "--steps",
      "30",
      "--val-every",
      "0",
      "--sample-every",
      "0",
    ]);
    const talkative = await llmts(folder, [
      ...SMALL_RUN,
      "--steps",
      "30",
      "--val-every",
      "1",
      "--sample-every",
      "7",
      "--out",
      "talkative",
    ]);
    assertEquals([quiet.code, talkative.code], [0, 0]);
    assert(!quiet.stdout.includes("val loss") && !quiet.stdout.includes("generating"));
    assertEquals(losses(talkative), losses(quiet));
    const [first, last] = [losses(quiet)[0]!, losses(quiet).at(-1)!];
    assert(last < first - 1, `${first} -> ${last}`);
    assertStringIncludes(quiet.stdout, "epoch 2: the training data starts over");
  });
});

Deno.test("llmts train in bf16 keeps fp32 weights, or without them writes bf16 ones", async () => {
  await inSmallFolder(async (folder) => {
    const run = [
      ...SMALL_RUN,
      "--precision",
      "bf16",
      "--steps",
      "25",
      "--val-every",
      "0",
      "--sample-every",
      "25",
    ];
    for (const [masterWeights, stored] of [["yes", "fp32"], ["no", "bf16"]] as const) {
      const result = await llmts(folder, [
        ...run,
        ...["--master-weights", masterWeights, "--sample-tokens", "3", "--out", masterWeights],
      ]);
      assertEquals([result.code, result.stderr], [0, ""]);
      const [first, last] = [losses(result)[0]!, losses(result).at(-1)!];
      assert(last < first - 1, `${first} -> ${last}`);
      assertEquals(readCheckpointHeader(join(folder, masterWeights, "model_00000025.bin")), {
        config: SMALL,
        stored,
      });
    }
  });
});

Deno.test("llmts train goes on from the newest checkpoint in a folder", async () => {
  await inSmallFolder(async (folder) => {
    const steps = ["--val-every", "0", "--sample-every", "0"];
    assertEquals((await llmts(folder, [...SMALL_RUN, ...steps, "--steps", "20"])).code, 0);
    const args = SMALL_RUN.map((arg) => arg === "small.bin" ? "out" : arg);
    const second = await llmts(folder, [...args, ...steps, "--steps", "1", "--out", "second"]);
    assertEquals(second.code, 0);
    assertStringIncludes(second.stdout, `model: ${join("out", "model_00000020.bin")}`);
    assert(losses(second)[0]! < 10.5);
  });
});

Deno.test("llmts train refuses what can't work, in one line (A-01, A-08, A-22, A-25, A-43, A-50, A-53, A-55, A-56)", async () => {
  await inSmallFolder(async (folder) => {
    await writeTokenFile(join(folder, "tiny.bin"), 50257, (write) => write(Array(32).fill(1)));
    await writeTokenFile(
      join(folder, "large_id.bin"),
      65536,
      (write) => write([...Array(20).fill(1), 50257, ...Array(20).fill(1)]),
    );
    await writeTokenFile(join(folder, "one.bin"), 50257, (write) => write([1]));
    Deno.writeTextFileSync(join(folder, "page.bin"), "<!DOCTYPE html><html></html>");
    // deno-fmt-ignore
    const cases: [args: string[], code: number, message: string, hint: string][] = [
      [["--seq-len", "33"], 2, "--seq-len is 33, but small.bin has 32 positions", "--seq-len 32"],
      [["--data", "tiny.bin"], 1, '"tiny.bin": has 32 tokens, a batch of 2 × 16 needs 33', "--batch-size"],
      [["--data", "large_id.bin"], 1, "50257", ""],
      [["--val-data", "one.bin", "--dry-run"], 1, '"one.bin": has 1 tokens, validation needs at least 2', ""],
      [["--data", "absent.bin"], 1, '"absent.bin": cannot be opened', "llmts data"],
      [["--data", "small.bin"], 1, '"small.bin": is a model checkpoint (magic 20240326), expected a token file', ""],
      [["--model", "page.bin"], 1, '"page.bin": is a web page', ""],
      [["--model", "d13"], 1, "d13", "presets: d2"],
      [["--batch-size", "0"], 2, "--batch-size", ""],
      [["--batch-size", "64x"], 2, '"64x"', ""],
      [["--steps", "100000000"], 2, "--steps", "99999999"],
      [["--epochs", "1e300"], 2, "--epochs 1e+300 are", "lower --epochs"],
      [["--accept", "nonsense"], 2, "--accept is for runs that go on", "leave it out"],
      [["--accept", "nonsense", "--resume"], 2, '--accept names "nonsense"', "learning-rate"],
      [["--learning-rate", "0"], 2, "--learning-rate", ""],
      [["--stpes", "3"], 2, "--stpes", "--steps"],
      [["b_train.bin"], 2, 'Unexpected argument "b_train.bin"', "quote names with spaces and patterns"],
      [["--data", "x_*.bin"], 1, '"x_*.bin": no file matches this pattern', "llmts data"],
      [["--steps", "3", "--epochs", "1"], 2, "--steps and --epochs both", "give one of them"],
      [["--grad-clip", "NaN"], 2, '"NaN"', ""],
      [["--device", "cuda"], 1, "CUDA", ""],
      [["--batch-size", "100000000", "--data", "fox_train.bin"], 1, "of memory are needed", "--batch-size"],
      [["--out", "small.bin"], 1, '"small.bin"', ""],
    ];
    for (const [args, code, message, hint] of cases) {
      // A later flag would be a repetition, so it takes the earlier one's place.
      const isReplaced = (i: number): boolean => args.includes(SMALL_RUN[i % 2 === 1 ? i : i - 1]!);
      const kept = SMALL_RUN.filter((_, i) => i === 0 || !isReplaced(i));
      const result = await llmts(folder, [...kept, ...args]);
      const what = `${args.join(" ")}: ${result.stderr}`;
      assertEquals(result.code, code, what);
      assertStringIncludes(result.stderr, message, what);
      assertStringIncludes(result.stderr, hint, what);
      assert(!result.stderr.includes("    at "), what);
    }
    assertEquals([...Deno.readDirSync(folder)].filter(({ name }) => name.includes("model_")), []);
  });
});

Deno.test({
  name: "llmts train says of a pipe that it is one, and blames neither its size nor its magic (A-06, A-25)",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inSmallFolder(async (folder) => {
      for (const [flag, file] of [["--data", "fox_train.bin"], ["--model", "small.bin"]] as const) {
        const args = SMALL_RUN.with(SMALL_RUN.indexOf(flag) + 1, "/dev/stdin");
        const input = Deno.readFileSync(join(folder, file));
        const { code, stderr } = await llmts(folder, args, { input });
        assertEquals(code, 1);
        assertEquals(stderr.split("\nhint: "), [
          'llmts: "/dev/stdin": is a pipe or a device, expected a file, which is read in any order',
          "write what comes out of it to a file first\n",
        ]);
      }
    }),
});

Deno.test("llmts train stops where the loss is no longer finite and keeps older checkpoints (A-40)", async () => {
  await inSmallFolder(async (folder) => {
    const steep = SMALL_RUN.map((arg) => arg === "0.01" ? "1e30" : arg);
    const warmup = ["--warmup", "1000000", "--schedule", "constant"]; // the first step is still a small one
    const result = await llmts(folder, [
      ...steep,
      ...SILENT,
      ...warmup,
      ...["--steps", "50", "--checkpoint-every", "1"],
    ]);
    assertEquals(result.code, 1);
    const step = Number(/Step (\d+): /.exec(result.stderr)?.[1]);
    assertStringIncludes(result.stderr, "--learning-rate");
    assert(step >= 2, result.stderr);
    assertMatch(result.stderr, /hint: lower --learning-rate .*; the checkpoint of step \d+ is in "out"\n$/m);
    // Each whole checkpoint has weights that are finite.
    for (const saved of completeSteps(join(folder, "out"))) {
      const model = readCheckpoint(
        checkpointFiles(join(folder, "out"), saved).model,
        openDevice({ threads: 1 }),
      );
      assert(saved < step && float32(model.parameters.flat).every(Number.isFinite), `step ${saved}`);
    }
  });
});

Deno.test("llmts train without flags takes the built-in corpus where tiny Shakespeare can't be had", async () => {
  await inFolder(async (folder) => {
    const args = ["train", "--model", "d2", "--steps", "1", "--val-every", "0", "--sample-every", "0"];
    const { code, stdout } = await llmts(folder, args);
    assertEquals(code, 0);
    assertMatch(stdout, /^data: (the built-in corpus, Moby Dick; .*|tiny Shakespeare, downloaded to .*)$/m);
  });
});

function valLosses({ stdout }: Result): number[] {
  return [...stdout.matchAll(/^val loss (\d+\.\d+)/gm)].map((match) => Number(match[1]));
}

for (const limit of [0, 40]) {
  Deno.test(`llmts train --val-tokens ${limit} scores the same tokens, whatever the batch size (A-15)`, async () => {
    await inSmallFolder(async (folder) => {
      const found: number[] = [];
      for (const B of ["1", "2", "4"]) {
        const run = SMALL_RUN.with(SMALL_RUN.indexOf("--batch-size") + 1, B);
        const args = ["--steps", "1", "--val-tokens", String(limit), "--sample-every", "0", "--overwrite"];
        const result = await llmts(folder, [...run, ...args]);
        using reader = new TokenReader(join(folder, "fox_val.bin"), SMALL.V);
        assertStringIncludes(result.stdout, ` (${limit || reader.length - 1} tokens, T=16)\n`);
        found.push(valLosses(result)[0]!);
      }
      for (const loss of found) assertAlmostEquals(loss, found[0]!, 1e-5);
    });
  });
}

Deno.test("llmts train makes one batch of exactly B·T + 1 tokens (A-01), without validation data too", async () => {
  await inSmallFolder(async (folder) => {
    await writeTokenFile(join(folder, "exact.bin"), SMALL.V, (write) => write(Array(33).fill(1)));
    const args = SMALL_RUN.with(SMALL_RUN.indexOf("--data") + 1, "exact.bin");
    const result = await llmts(folder, [...args, "--steps", "1", "--sample-every", "0"]);
    assertEquals(result.code, 0, result.stderr);
    assertStringIncludes(
      result.stdout,
      "no validation: there is no --val-data\ntrain dataset num_batches: 1\n",
    );
    assertEquals(valLosses(result), []);
  });
});

Deno.test("llmts train starts a preset from the seed, knowing nothing (A-48, A-49)", async () => {
  await inSmallFolder(async (folder) => {
    const scratch = async (seed: string): Promise<number[]> => {
      const args = ["train", "--model", "d2", "--data", "fox_train.bin", "--seq-len", "8", "--steps", "2"];
      return losses(await llmts(folder, [...args, ...SILENT, "--overwrite", "--seed", seed]));
    };
    const first = await scratch("7");
    assertEquals(await scratch("7"), first);
    assert((await scratch("8"))[0] !== first[0]);
    assertAlmostEquals(first[0]!, Math.log(50257), 0.3);
  });
});

Deno.test("llmts train --seed decides the order of --shuffle, and what samples draw (A-49)", async () => {
  await inSmallFolder(async (folder) => {
    const run = async (seed: string, ...shuffle: string[]) => {
      const args = [...SMALL_RUN, "--steps", "3", "--val-every", "0", "--sample-tokens", "8", ...shuffle];
      const result = await llmts(folder, [...args, "--seed", seed, "--overwrite"]);
      return { losses: losses(result), sample: result.stdout.split("\n---\n")[1] };
    };
    const [ordered, other] = [await run("7"), await run("8")]; // the weights are those of small.bin
    assertEquals(other.losses, ordered.losses);
    assert(other.sample !== ordered.sample && ordered.sample !== undefined);
    const [shuffled, again, anew] = [
      await run("7", "--shuffle"),
      await run("7", "--shuffle"),
      await run("8", "--shuffle"),
    ];
    assertEquals(again, shuffled);
    assert(`${anew.losses}` !== `${shuffled.losses}`);
  });
});

for (const precision of [[], ["--precision", "bf16", "--master-weights", "no"]]) {
  Deno.test(`llmts train writes no checkpoint of weights that the last step broke (A-40) ${precision}`, async () => {
    await inSmallFolder(async (folder) => {
      const args = SMALL_RUN.with(SMALL_RUN.indexOf("--learning-rate") + 1, "1e38");
      const { code, stderr } = await llmts(folder, [
        ...args,
        ...SILENT,
        ...precision,
        "--steps",
        "1",
        "--weight-decay",
        "10",
      ]);
      assertEquals([code, stderr], [
        1,
        "llmts: Step 1: the weights are no longer finite, no checkpoint is written\nhint: lower --learning-rate\n",
      ]);
      assertEquals(completeSteps(join(folder, "out")), []);
    });
  });
}

Deno.test("llmts train keeps a good checkpoint where validation finds that a step has broken the model (A-40)", async () => {
  await inSmallFolder(async (folder) => {
    const validated = ["--val-every", "1", "--sample-every", "0"];
    assertEquals((await llmts(folder, [...SMALL_RUN, ...validated, "--steps", "1", "--keep", "1"])).code, 0);
    const steep = ["--learning-rate", "1e20", "--accept", "learning-rate"]; // leaves weights that are finite still
    const { code, stderr } = await llmts(folder, ["train", "--resume", "--steps", "2", ...steep]);
    assertEquals([code, stderr], [
      1,
      "llmts: Step 2: the validation loss is NaN, training has diverged\n" +
      'hint: lower --learning-rate (it was 100000000000000000000); the checkpoint of step 1 is in "out"\n',
    ]);
    assertEquals(completeSteps(join(folder, "out")), [1]);

    const path = join(folder, "small.bin");
    const model = readCheckpoint(path, openDevice({ threads: 1 }));
    float32(model.parameters.lnfb)[3] = NaN;
    await writeCheckpoint(path, model);
    const broken = await llmts(folder, [...SMALL_RUN, ...validated, "--steps", "1", "--out", "other"]);
    assertEquals([broken.code, broken.stderr], [
      1,
      "llmts: Before training the validation loss is NaN\n" +
      "hint: some of the model's weights are not finite or too large: take an earlier checkpoint\n",
    ]);
  });
});

Deno.test("llmts train without --data takes tiny Shakespeare from data/, and without --model d4", async () => {
  await inFolder(async (folder) => {
    Deno.mkdirSync(join(folder, "data"));
    for (const name of ["train", "val"]) {
      const path = join(folder, "data", `tiny_shakespeare_${name}.bin`);
      await writeTokenFile(
        path,
        50257,
        (write) => write(Array.from({ length: 800 }, (_, i) => (i * i) % 97)),
      );
    }
    const result = await llmts(folder, [
      "train",
      "--steps",
      "3",
      "--val-tokens",
      "256",
      "--sample-every",
      "0",
    ]);
    assertEquals(result.code, 0);
    assertMatch(
      result.stdout,
      /^model: d4, from scratch, seed 42, learning rate \S+\ndata: tiny Shakespeare, data.tiny_shakespeare_train\.bin\n/m,
    );
    const [before, after] = valLosses(result);
    assert(after! < before!);
  });
});

Deno.test("llmts train without --model takes gpt2_124M.bin, and without a network the built-in corpus", async () => {
  await inSmallFolder(async (folder) => {
    Deno.renameSync(join(folder, "small.bin"), join(folder, "gpt2_124M.bin"));
    const args = ["train", "--seq-len", "8", "--steps", "1", ...SILENT];
    const { code, stdout, stderr } = await llmts(folder, args, { permissions: ["-A", "--deny-net"] });
    assertEquals([code, stderr], [0, ""]);
    assertStringIncludes(
      stdout,
      "model: gpt2_124M.bin, learning rate 0.0001\n" +
        "data: the built-in corpus, Moby Dick; tiny Shakespeare isn't here and can't be downloaded\n",
    );
  });
});
