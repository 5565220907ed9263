import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { createStop } from "../../commands/stop.ts";
import { openDevice } from "../../ffi/device.ts";
import { float32 } from "../../ffi/tensor.ts";
import { END_OF_TEXT } from "../../src/config.ts";
import { readCheckpoint, writeCheckpoint } from "../../src/io/checkpoint.ts";
import { writeHuggingFaceFolder } from "../../src/io/hugging_face.ts";
import { randomModel } from "../../src/load.ts";
import { createModel } from "../../src/model.ts";
import { inFolder } from "../folder.ts";
import { llmts, type Result, start } from "./run.ts";
import { SMALL, writeSmallModel } from "./small_model.ts";

const SAMPLE = ["sample", "--threads", "1"];

/** Runs in a folder whose `out` holds a small model. */
async function inSmallFolder(run: (folder: string) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    const out = join(folder, "out");
    Deno.mkdirSync(out);
    await writeSmallModel(out);
    Deno.renameSync(join(out, "small.bin"), join(out, "model_00000007.bin"));
    await run(folder);
  });
}

Deno.test("llmts sample continues the prompt with the newest checkpoint, and prints only text on stdout", async () => {
  await inSmallFolder(async (folder) => {
    const args = [...SAMPLE, "--prompt", "First Citizen:", "--tokens", "20"];
    const first = await llmts(folder, [...args, "--seed", "3"]);
    assertEquals(first.code, 0);
    assert(first.stdout.startsWith("First Citizen:") && first.stdout.length > 30);
    assertEquals(
      first.stderr.replace(/^device: .+, 1 thread$/m, "device: …"),
      `model: ${join("out", "model_00000007.bin")}\ndevice: …\n`,
    );
    assertEquals(await llmts(folder, [...args, "--seed", "3"]), first);
    assert((await llmts(folder, [...args, "--seed", "4"])).stdout !== first.stdout);
    // Without a seed it prints the one it chose, which gives the same text again (S-08).
    const random = await llmts(folder, args);
    const seed = /^seed: (\d+)$/m.exec(random.stderr)?.[1] ?? "none";
    assertEquals((await llmts(folder, [...args, "--seed", seed])).stdout, random.stdout);
  });
});

Deno.test("llmts sample --samples prints several texts, each with a seed of its own", async () => {
  await inSmallFolder(async (folder) => {
    const args = [...SAMPLE, "--prompt", "First Citizen:", "--tokens", "20"];
    const { code, stdout } = await llmts(folder, [...args, "--samples", "3", "--seed", "3"]);
    assertEquals(code, 0);
    const texts = stdout.split("\n---\n");
    assertEquals(texts.length, 3);
    for (const [b, text] of texts.entries()) {
      assertEquals(text, (await llmts(folder, [...args, "--seed", String(3 + b)])).stdout);
    }
  });
});

Deno.test("llmts sample --precision int8 generates, and says what int8 weights cost", async () => {
  await inSmallFolder(async (folder) => {
    const args = [...SAMPLE, "--prompt", "First Citizen:", "--tokens", "20", "--seed", "3"];
    const { code, stdout, stderr } = await llmts(folder, [...args, "--precision", "int8", "--device", "cpu"]);
    assertEquals(code, 0);
    assert(stdout.startsWith("First Citizen:") && stdout.length > 30);
    const losses = /int8: .* mean loss of (\d+\.\d{4}), with bf16 weights (\d+\.\d{4})\n$/.exec(stderr);
    assert(losses !== null && Math.abs(Number(losses[1]) - Number(losses[2])) < 0.05, stderr);
  });
});

Deno.test("llmts sample at temperature 0 gives the same text each time, whatever the seed (S-02)", async () => {
  await inSmallFolder(async (folder) => {
    const args = [...SAMPLE, "--prompt", "To be", "--tokens", "12", "--temperature", "0"];
    const [first, second] = [
      await llmts(folder, [...args, "--seed", "1"]),
      await llmts(folder, [...args, "--seed", "2"]),
    ];
    assertEquals(first.code, 0);
    assertEquals(second.stdout, first.stdout);
  });
});

Deno.test("llmts sample reads the prompt from stdin, begins at end-of-text without one, and stops at --stop", async () => {
  await inSmallFolder(async (folder) => {
    const args = [...SAMPLE, "--tokens", "8", "--seed", "5"];
    const given = await llmts(folder, [...args, "--prompt", "a naïve 🌍\n"]);
    const read = await llmts(folder, [...args, "--prompt", "-"], { input: "a naïve 🌍\n" });
    assertEquals(read, given);
    assert(given.stdout.startsWith("a naïve 🌍\n"));
    const empty = await llmts(folder, [...args, "--prompt="]);
    assertEquals(empty.code, 0);
    assertEquals(await llmts(folder, args), empty);
    assertEquals(await llmts(folder, [...args, "--prompt", "-"], { input: "" }), empty);
    assert(!empty.stdout.includes("endoftext"));
    const part = empty.stdout.slice(5, 9);
    const stopped = await llmts(folder, [...args, "--stop", part]);
    assertEquals(stopped.stdout, empty.stdout.slice(0, empty.stdout.indexOf(part)));
    const invalid = start(folder, [...SAMPLE, "--prompt", "-"], { stdin: "piped" });
    const writer = invalid.stdin.getWriter();
    await writer.write(Uint8Array.of(0x61, 0xff));
    await writer.close();
    const { code, stderr } = await invalid.output();
    assertEquals(code, 1);
    assertStringIncludes(new TextDecoder().decode(stderr), "the prompt on stdin");
  });
});

/** Tokens of one letter. */
const [X, Y, Z] = [87, 88, 89];

/** Writes `first.bin`: a model that begins with one of `first`, each as likely, and goes on with Y for ever. */
async function writeFirst(folder: string, first: readonly number[]): Promise<void> {
  const model = createModel(SMALL, openDevice({ threads: 1 }));
  const { C } = SMALL;
  const { wte, wpe, lnfw } = model.parameters;
  float32(lnfw).fill(1);
  // Only the position says what comes: all else is zero, or small beside it.
  float32(wpe).forEach((_, i, values) => values[i] = i === 0 || (i > C && i % C === 1) ? 1e4 : 0);
  for (const id of first) float32(wte)[id * C] = 10;
  float32(wte)[Y * C + 1] = 10;
  await writeCheckpoint(join(folder, "first.bin"), model);
}

Deno.test("llmts sample ends when each text has come to --stop or to end-of-text", async () => {
  await inFolder(async (folder) => {
    await writeFirst(folder, [X, END_OF_TEXT]);
    const args = [...SAMPLE, "--model", "first.bin", "--samples", "4", "--seed", "3", "--tokens"];
    const free = await llmts(folder, [...args, "3"]);
    assertEquals(free.stdout.split("\n---\n"), ["xyy", "xyy", "", ""]);
    const child = start(folder, [...args, "1000000000", "--stop", "x"]);
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000); // where it would draw on
    const { code, stdout } = await child.output();
    clearTimeout(timer);
    assertEquals([code, new TextDecoder().decode(stdout)], [0, "\n---\n".repeat(3)]);
  });
});

Deno.test("llmts sample --precision int8 scores the first text as far as it is printed", async () => {
  await inFolder(async (folder) => {
    await writeFirst(folder, [X, Z]);
    const args = [...SAMPLE, "--model", "first.bin", "--samples", "2", "--seed", "1", "--tokens", "5"];
    const { stdout, stderr } = await llmts(folder, [
      ...args,
      ...["--stop", "x", "--precision", "int8", "--device", "cpu"],
    ]);
    assertEquals(stdout, "\n---\nzyyyy");
    assertStringIncludes(stderr, `mean loss of ${Math.log(2).toFixed(4)}`); // of X, which is one of two
  });
});

Deno.test("llmts sample refuses more samples than there is memory for, in its own flags' names", async () => {
  await inSmallFolder(async (folder) => {
    const { code, stdout, stderr } = await llmts(folder, [
      ...SAMPLE,
      "--samples",
      "1000000000",
      "--seed",
      "1",
    ]);
    assertEquals([code, stdout], [1, ""]);
    assertMatch(
      stderr,
      /^llmts: \d+ bytes \(\d+\.\d\d GiB\) of memory are needed, .*\nhint: lower --samples or --tokens, or take a smaller --model\n$/m,
    );
  });
});

Deno.test("llmts sample says so where stdin is a folder, or out a file", async () => {
  await inSmallFolder(async (folder) => {
    const args = ["run", "-A", join(import.meta.dirname!, "../../cli.ts"), ...SAMPLE, "--prompt", "-"];
    const { code, stderr } = await new Deno.Command("sh", {
      args: ["-c", 'exec "$@" < .', "sh", Deno.execPath(), ...args],
      cwd: folder,
    }).output();
    assertEquals(code, 1);
    assertStringIncludes(
      new TextDecoder().decode(stderr),
      'llmts: "the prompt on stdin": cannot be read: is a directory\n',
    );
    Deno.removeSync(join(folder, "out"), { recursive: true });
    Deno.writeTextFileSync(join(folder, "out"), "");
    assertEquals(
      (await llmts(folder, SAMPLE)).stderr,
      'llmts: "out": cannot be read: not a directory\n',
    );
  });
});

Deno.test("llmts sample sees the last part of a prompt longer than the context, and prints all of it (S-05)", async () => {
  await inSmallFolder(async (folder) => {
    const prompt = " word".repeat(50);
    const { code, stdout, stderr } = await llmts(folder, [
      ...SAMPLE,
      "--prompt",
      prompt,
      "--tokens",
      "40",
      "--seed",
      "1",
    ]);
    assertEquals(code, 0);
    assert(stdout.startsWith(prompt) && stdout.length > prompt.length);
    assertStringIncludes(stderr, "of 50 tokens the model sees the last 32");
  });
});

Deno.test("llmts sample ends quietly when nobody reads on (S-09)", async () => {
  await inSmallFolder(async (folder) => {
    const child = start(folder, [...SAMPLE, "--prompt", "one\n", "--tokens", "2000", "--seed", "1"]);
    const reader = child.stdout.getReader();
    await reader.read();
    await reader.cancel();
    const stderr = await new Response(child.stderr).text();
    const { code } = await child.status;
    assertEquals(stderr.split("\n").filter((line) => !/^(model|device): /.test(line)), [""]);
    assert(code === 0 || code === 141, `exit code ${code}`);
  });
});

Deno.test("llmts sample refuses what can't work", async () => {
  await inFolder(async (folder) => {
    await writeSmallModel(folder, { ...SMALL, V: 65, Vp: 128 });
    // deno-fmt-ignore
    const cases: [args: string[], code: number, message: string][] = [
      [[], 1, 'There is no checkpoint in the folder "out"'],
      [["--model", "small.bin"], 1, "50257 only\nhint: generate() of mod.ts gives the ids"],
      [["--model", "absent.bin"], 1, "hint: llmts train makes a model, llmts download fetches the released ones"],
      [["--temperature", "-1"], 2, "--temperature"],
      [["--temperature", "NaN"], 2, "--temperature"],
      [["--top-p", "1.5"], 2, "--top-p"],
      [["--top-k", "2.5"], 2, "--top-k"],
      [["--prompt"], 2, "--prompt"],
      [["--stop="], 2, "--stop is empty"],
      [["--model", "d12"], 2, '--model "d12" is a preset, which has no trained weights'],
      [["extra"], 2, "extra"],
    ];
    for (const [args, code, message] of cases) {
      const result = await llmts(folder, [...SAMPLE, ...args]);
      assertEquals([result.code, result.stdout], [code, ""], result.stderr);
      assertStringIncludes(result.stderr, message);
    }
  });
});

Deno.test("llmts sample takes a Hugging Face folder whose tokenizer is GPT-2's, and no other (H-05)", async () => {
  await inSmallFolder(async (folder) => {
    const run = (): Promise<Result> =>
      llmts(folder, ["sample", "--model", "hf", "--tokens", "1", "--seed", "1"]);
    const model = readCheckpoint(join(folder, "out", "model_00000007.bin"), openDevice());
    await writeHuggingFaceFolder(join(folder, "hf"), model);
    assertEquals((await run()).code, 0);
    const vocabulary = join(folder, "hf", "vocab.json");
    const text = Deno.readTextFileSync(vocabulary);
    Deno.writeTextFileSync(vocabulary, text.replace('"the": 1169', '"qqq": 1169')); // as many tokens, but others
    const { code, stdout, stderr } = await run();
    assertEquals([code, stdout], [1, ""]);
    assertStringIncludes(
      stderr,
      'vocab.json": gives token "the" no id, expected 1169: text is in GPT-2\'s vocabulary',
    );
    Deno.writeTextFileSync(vocabulary, text);
    const all = join(folder, "hf", "tokenizer.json");
    const write = (vocab: unknown): void => Deno.writeTextFileSync(all, JSON.stringify({ model: { vocab } }));
    write(JSON.parse(text));
    assertEquals((await run()).code, 0);
    write({ ...JSON.parse(text), "!": 7 });
    assertStringIncludes((await run()).stderr, 'tokenizer.json": gives token "!" id 7, expected 0');
    Deno.writeTextFileSync(all, "<html>");
    assertStringIncludes((await run()).stderr, "tokenizer.json\": can't be read as JSON");
  });
});

Deno.test("llmts sample draws no token of nanoGPT's padding", async () => {
  await inFolder(async (folder) => {
    const { V, Vp, C } = SMALL;
    const model = randomModel({ ...SMALL, V: Vp }, openDevice({ threads: 1 }), 42);
    const { wte, lnfb } = model.parameters;
    float32(lnfb).fill(1);
    float32(wte).fill(9, V * C); // the padding would be all that is drawn
    await writeCheckpoint(join(folder, "nano.bin"), model);
    float32(wte).fill(0, V * C);
    await writeCheckpoint(join(folder, "gpt2.bin"), { ...model, config: SMALL });
    for (const precision of ["fp32", "int8"]) {
      const args = [...SAMPLE, "--device", "cpu", "--precision", precision, "--tokens", "9", "--seed", "1"];
      const nano = await llmts(folder, [...args, "--model", "nano.bin"]);
      assertEquals(nano, await llmts(folder, [...args, "--model", "gpt2.bin"]));
      assertEquals(nano.code, 0);
      assert(nano.stdout.length > 9);
    }
  });
});

Deno.test("llmts sample says so where the model is broken, in every precision (S-07)", async () => {
  await inFolder(async (folder) => {
    const model = randomModel(SMALL, openDevice({ threads: 1 }), 42);
    float32(model.parameters.lnfb)[3] = NaN;
    await writeCheckpoint(join(folder, "broken.bin"), model);
    for (const precision of ["fp32", "bf16", "int8"]) {
      const args = [
        "--device",
        "cpu",
        "--model",
        "broken.bin",
        "--precision",
        precision,
        "--seed",
        "1",
        "--prompt",
        "To be",
      ];
      assertEquals(await llmts(folder, [...SAMPLE, ...args]), {
        code: 1,
        stdout: "",
        stderr: "llmts: The logit of token 0 is not a number: the model is broken\n" +
          "hint: some of the model's weights are not finite or too large: take an earlier checkpoint\n",
      });
    }
  });
});

Deno.test("createStop() ends before the text however it is cut", () => {
  const run = (stop: string | undefined, pieces: readonly string[]): string => {
    const { push, end } = createStop(stop);
    return pieces.map(push).join("") + end();
  };
  assertEquals(run(undefined, ["ab", "c"]), "abc");
  assertEquals(run("\n\n", ["one\n", "two\n", "\nthree"]), "one\ntwo");
  assertEquals(run("aab", ["xaa", "ab", "y"]), "xa");
  assertEquals(run("END", ["the E", "N", "", "D."]), "the ");
  assertEquals(run("END", ["the EN"]), "the EN");
});

Deno.test("llmts info prints versions, library, features and the memory of a model", async () => {
  await inFolder(async (folder) => {
    const text = await llmts(folder, ["info", "--threads", "1"]);
    assertEquals(text.code, 0);
    assertMatch(text.stdout, /^llmts: +\d+\.\d+\.\d+$/m);
    assertMatch(text.stdout, /^model: +gpt2: 124475904 parameters, B=4, T=64, fp32$/m);
    const args = [
      "info",
      "--json",
      "--model",
      "d12",
      "--batch-size",
      "2",
      "--seq-len",
      "32",
      "--threads",
      "1",
    ];
    const json = JSON.parse((await llmts(folder, args)).stdout);
    assertEquals([json.deno, json.device.threads], [Deno.version.deno, 1]);
    assertEquals(json.memory.parameters, 124_475_904 * 4);
    assertEquals(json.memory.total, 4 * 124_475_904 * 4 + json.memory.activations);
  });
});
