// Against Hugging Face's transformers: models it makes are read as they are meant, and models we write are read by it.

import { assertEquals, assertLess } from "@std/assert";
import { fromFileUrl, join, resolve } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { float32, int32 } from "../../ffi/tensor.ts";
import { allocateActivations } from "../../src/activations.ts";
import type { GPT2Config } from "../../src/config.ts";
import { generate } from "../../src/generate.ts";
import { type StoredPrecision, writeCheckpoint } from "../../src/io/checkpoint.ts";
import { writeHuggingFaceFolder } from "../../src/io/hugging_face.ts";
import { gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { writeTokenizerFile } from "../../src/io/tokenizer_file.ts";
import { loadModel, randomModel } from "../../src/load.ts";
import { forward, logits, type Model } from "../../src/model.ts";
import { TENSORS } from "../../src/parameters.ts";
import { inFolder } from "../folder.ts";
import { needsPython, runPython } from "./python.ts";

const SCRIPT = fromFileUrl(import.meta.resolve("./transformers_models.py"));
const CLI = resolve(import.meta.dirname!, "../../cli.ts");
const REFERENCE = resolve(import.meta.dirname!, "../../dev/reference/gpt2.py");
const MODULES = ["torch", "transformers"];
const TOLERANCE = 1e-4;

/** What the script says of a model it made. */
interface Made {
  readonly prompt: number[];
  readonly logits: number[][];
  readonly greedy: number[];
}

/** What the script says of a model it loaded. */
interface Loaded {
  readonly dtype: string;
  /** Missing, unexpected and mismatched tensors. */
  readonly problems: Record<string, string[]>;
  readonly logits: number[][];
}

function transformers<T>(...args: string[]): T {
  return JSON.parse(runPython([SCRIPT, ...args])) as T;
}

async function convert(from: string, to: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-prompt", CLI, "convert", "--from", from, "--to", to],
    stdin: "null",
  }).output();
  assertEquals([success, new TextDecoder().decode(stderr)], [true, ""]);
}

/** Logits of every position: V to each. */
function logitsOf(model: Model, ids: readonly number[]): number[][] {
  const { config: { V }, device, precision } = model;
  const [B, T] = [1, ids.length];
  const a = allocateActivations(model.config, device, { B, T, precision, training: false });
  const tokens = device.tensor("int32", [B, T]);
  int32(tokens).set(ids);
  forward(model, a, tokens);
  const out = device.tensor("fp32", [B, T, V]);
  logits(model, a, out);
  return Array.from({ length: T }, (_, t) => [...float32(out).subarray(t * V, (t + 1) * V)]);
}

function largestDifference(found: number[][], expected: number[][]): number {
  assertEquals(found.map((row) => row.length), expected.map((row) => row.length));
  const flat = expected.flat();
  return found.flat().reduce((largest, value, i) => Math.max(largest, Math.abs(value - flat[i]!)), 0);
}

function greedy(model: Model, { prompt, greedy }: Made): number[] {
  return [...generate(model, prompt, { tokens: greedy.length, temperature: 0 })];
}

/** A random model whose biases and LayerNorm weights differ too, and whose matrices are large enough to tell tokens apart. */
function distinctModel(config: GPT2Config): Model {
  const model = randomModel(config, openDevice({ threads: 1 }), 5);
  for (const { name, decay } of TENSORS) {
    const values = float32(model.parameters.whole[name]);
    values.forEach((value, i) => values[i] = decay ? value * 10 : value + 0.1 * Math.sin(i));
  }
  return model;
}

Deno.test({
  ...needsPython("loadModel() gives transformers' logits and greedy tokens for its models", MODULES),
  async fn(t): Promise<void> {
    await inFolder(async (folder) => {
      const made = Object.entries(transformers<Record<string, Made>>("make", folder));
      assertEquals(made.map(([name]) => name), ["characters", "sharded", "bfloat16", "half", "gpt2"]);
      const device = openDevice({ threads: 1 });
      for (const [name, expected] of made) {
        assertEquals(
          new Set(expected.greedy).size > 4,
          true,
          `${name}: the greedy tokens are too much alike to tell`,
        );
        await t.step(`${name}, the folder`, () => {
          const model = loadModel(join(folder, name), device);
          assertLess(largestDifference(logitsOf(model, expected.prompt), expected.logits), TOLERANCE);
          assertEquals(greedy(model, expected), expected.greedy);
        });
        await t.step(`${name}, converted to llm.c's checkpoint`, async () => {
          const path = join(folder, `${name}.bin`);
          await convert(join(folder, name), path);
          const model = loadModel(path, device);
          assertLess(largestDifference(logitsOf(model, expected.prompt), expected.logits), TOLERANCE);
          assertEquals(greedy(model, expected), expected.greedy);
        });
      }
    });
  },
});

/** What it saves: shape, and how it is stored. */
const SAVED: readonly [GPT2Config, StoredPrecision][] = [
  [{ maxT: 128, V: 65, Vp: 128, L: 2, NH: 3, C: 24 }, "fp32"],
  [{ maxT: 128, V: 128, Vp: 128, L: 1, NH: 2, C: 16 }, "fp32"], // nothing to crop, and wpe has as many rows as wte
  [{ maxT: 32, V: 50257, Vp: 50304, L: 2, NH: 3, C: 12 }, "fp32"],
  [{ maxT: 32, V: 512, Vp: 512, L: 2, NH: 3, C: 12 }, "bf16"],
];

Deno.test({
  ...needsPython("writeHuggingFaceFolder() writes what from_pretrained loads with the same logits", MODULES),
  async fn(t): Promise<void> {
    await inFolder(async (folder) => {
      const requests: Record<string, number[]> = {};
      const expected = new Map<string, number[][]>();
      const device = openDevice({ threads: 1 });
      for (const [config, stored] of SAVED) {
        const path = join(folder, String(config.V));
        await writeHuggingFaceFolder(path, distinctModel(config), stored);
        const ids = Array.from({ length: 20 }, (_, i) => (i * 7919) % config.V);
        requests[path] = ids;
        expected.set(path, logitsOf(loadModel(path, device), ids));
      }
      const loaded = transformers<Record<string, Loaded>>("load", JSON.stringify(requests));
      for (const [config, stored] of SAVED) {
        await t.step(`${config.V} tokens, ${stored}`, () => {
          const path = join(folder, String(config.V));
          const { dtype, problems, logits } = loaded[path]!;
          assertEquals([dtype, problems], [stored === "fp32" ? "torch.float32" : "torch.bfloat16", {}]);
          assertLess(largestDifference(logits, expected.get(path)!), TOLERANCE);
        });
      }
    });
  },
});

Deno.test({
  ...needsPython(
    "gpt2.py makes of our folder the checkpoints and tokenizer file that we write, byte for byte",
    MODULES,
  ),
  fn: () =>
    inFolder(async (folder) => {
      const model = distinctModel({ maxT: 8, V: 50257, Vp: 50304, L: 2, NH: 1, C: 4 });
      const ours = { fp32: join(folder, "ours.bin"), bf16: join(folder, "ours_bf16.bin") };
      await writeCheckpoint(ours.fp32, model, "fp32");
      await writeCheckpoint(ours.bf16, model, "bf16");
      await writeTokenizerFile(join(folder, "tokenizer.bin"), await gpt2Tokenizer());
      await writeHuggingFaceFolder(join(folder, "model"), model);
      // deno-fmt-ignore
      runPython([REFERENCE, "--model", join(folder, "model"), "--out", join(folder, "theirs"),
        "--batch-size", "1", "--seq-len", "8"]);
      for (
        const [theirs, path] of [
          ["model.bin", ours.fp32],
          ["model_bf16.bin", ours.bf16],
          ["gpt2_tokenizer.bin", join(folder, "tokenizer.bin")],
        ] as const
      ) {
        const [found, expected] = [
          Deno.readFileSync(join(folder, "theirs", theirs)),
          Deno.readFileSync(path),
        ];
        assertEquals(found.length, expected.length, theirs);
        assertEquals(found.findIndex((byte, i) => byte !== expected[i]), -1, theirs);
      }
    }),
});

/** Of every kind that GPT-2's pattern tells apart, and whole bytes that are no character. */
const TEXTS = [
  "Hello world",
  "I don't  know,\n\n we'll  see\t1234567 x2",
  "na\u00efve \u4f60\u597d\uff0c\u4e16\u754c \u041f\u0440\u0438\u0432\u0435\u0442 \u{1F44D}\u{1F468}\u200d\u{1F469} \u201cend\u201d e\u0301",
  "def f(x):\n    return  {'a': x != 0}\r\n",
  " SolidGoldMagikarp \u00a0\u3000\u200b \0\x7f",
  " . , ! ? I do n't , he 's .",
  "",
];

Deno.test({
  ...needsPython("writeHuggingFaceFolder() writes a tokenizer that gives our ids in transformers", MODULES),
  async fn(): Promise<void> {
    await inFolder(async (folder) => {
      await writeHuggingFaceFolder(
        folder,
        distinctModel({ maxT: 8, V: 50257, Vp: 50304, L: 1, NH: 1, C: 4 }),
      );
      const tokenizer = await gpt2Tokenizer();
      const found = transformers<{ ids: number[][]; texts: string[]; eos: number; special: number[] }>(
        "tokens",
        folder,
        JSON.stringify(TEXTS),
      );
      assertEquals(found.ids, TEXTS.map((text) => tokenizer.encode(text)));
      assertEquals(found.texts, TEXTS);
      assertEquals([found.eos, found.special], [50256, [50256]]);
    });
  },
});
