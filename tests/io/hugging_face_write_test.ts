import { assert, assertEquals, assertLess } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { float32 } from "../../ffi/tensor.ts";
import type { GPT2Config } from "../../src/config.ts";
import { readCheckpoint, writeCheckpoint } from "../../src/io/checkpoint.ts";
import {
  readHuggingFace,
  readHuggingFaceHeader,
  writeHuggingFaceFile,
  writeHuggingFaceFolder,
} from "../../src/io/hugging_face.ts";
import { openSafetensors } from "../../src/io/safetensors.ts";
import { createModel, type Model } from "../../src/model.ts";
import { TENSORS } from "../../src/parameters.ts";
import { Random } from "../../src/random.ts";
import { inFolder } from "../folder.ts";
import { handShapes } from "./hugging_face_files.ts";

const CONFIG: GPT2Config = { maxT: 9, V: 65, Vp: 128, L: 2, NH: 3, C: 12 };
const device = openDevice({ threads: 1 });

/** A model of random bits: every kind of number, subnormals, infinities and NaNs with their payloads among them. */
function bitModel(config: GPT2Config): Model {
  const model = createModel(config, device);
  const random = new Random(11);
  for (const { name } of TENSORS) {
    const { buffer, byteOffset, length } = float32(model.parameters.whole[name]);
    const used = name === "wte" ? config.V * config.C : length;
    new Uint32Array(buffer, byteOffset, used).forEach((_, i, bits) => bits[i] = random.randint32());
  }
  return model;
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

async function checkpointBytes(folder: string, model: Model, stored: "fp32" | "bf16"): Promise<Uint8Array> {
  const path = join(folder, "bytes.bin");
  await writeCheckpoint(path, model, stored);
  return Deno.readFileSync(path);
}

/** Vocabularies with and without padding, contexts from one to above the vocabulary. */
const SHAPES: readonly GPT2Config[] = [
  CONFIG,
  { maxT: 128, V: 128, Vp: 128, L: 1, NH: 2, C: 8 },
  { maxT: 4096, V: 512, Vp: 512, L: 1, NH: 2, C: 8 },
  { maxT: 32, V: 50257, Vp: 50304, L: 1, NH: 1, C: 4 },
  { maxT: 1, V: 50304, Vp: 50304, L: 1, NH: 1, C: 4 },
  { maxT: 32, V: 50259, Vp: 50304, L: 3, NH: 1, C: 4 },
];

for (const config of SHAPES) {
  Deno.test(`readHuggingFace() gives back what was written, bit for bit (${config.V} tokens, ${config.maxT} positions)`, () =>
    inFolder(async (folder) => {
      const model = bitModel(config);
      const expected = await checkpointBytes(folder, model, "fp32");
      for (
        const [path, write] of [
          [join(folder, "model"), writeHuggingFaceFolder],
          [join(folder, "model.safetensors"), writeHuggingFaceFile],
        ] as const
      ) {
        await write(path, model, "fp32");
        assertEquals(readHuggingFaceHeader(path), { config, stored: "fp32" });
        const found = await checkpointBytes(folder, readHuggingFace(path, device), "fp32");
        assert(expected.every((byte, i) => byte === found[i]) && expected.length === found.length, path);
      }
    }));
}

Deno.test("readHuggingFace() gives back a bf16 model, bit for bit", () =>
  inFolder(async (folder) => {
    const expected = await checkpointBytes(folder, bitModel(CONFIG), "bf16");
    const model = readCheckpoint(join(folder, "bytes.bin"), device);
    for (
      const [path, write] of [
        [join(folder, "model"), writeHuggingFaceFolder],
        [join(folder, "model.safetensors"), writeHuggingFaceFile],
      ] as const
    ) {
      await write(path, model, "bf16");
      assertEquals(readHuggingFaceHeader(path), { config: CONFIG, stored: "bf16" });
      assertEquals(await checkpointBytes(folder, readHuggingFace(path, device), "bf16"), expected);
    }
  }));

Deno.test("writeHuggingFaceFolder() writes transformers' names and shapes, without padding and without lm_head", () =>
  inFolder(async (folder) => {
    for (const config of SHAPES.slice(0, 3)) {
      await writeHuggingFaceFolder(folder, bitModel(config), "bf16");
      using file = openSafetensors(join(folder, "model.safetensors"));
      assertEquals(
        Object.fromEntries(file.entries.values().map(({ name, shape }) => [name, shape])),
        Object.fromEntries(handShapes(config).map(([name, shape]) => [`transformer.${name}`, shape])),
      );
      assert(file.entries.values().every(({ dtype }) => dtype === "BF16"));
      assertEquals([...file.metadata], [["format", "pt"]]);
    }
  }));

Deno.test("writeHuggingFaceFolder() writes configs that say what the model is", () =>
  inFolder(async (folder) => {
    await writeHuggingFaceFolder(folder, bitModel(CONFIG));
    assertEquals(names(folder), ["config.json", "generation_config.json", "model.safetensors"]);
    const read = (name: string): unknown => JSON.parse(Deno.readTextFileSync(join(folder, name)));
    assertEquals(read("config.json"), {
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      vocab_size: 65,
      n_positions: 9,
      n_ctx: 9,
      n_embd: 12,
      n_layer: 2,
      n_head: 3,
      n_inner: null,
      activation_function: "gelu_new",
      layer_norm_epsilon: 1e-5,
      initializer_range: 0.02,
      scale_attn_weights: true,
      scale_attn_by_inverse_layer_idx: false,
      reorder_and_upcast_attn: false,
      tie_word_embeddings: true,
      bos_token_id: null,
      eos_token_id: null,
      torch_dtype: "float32",
    });
    assertEquals(read("generation_config.json"), { bos_token_id: null, eos_token_id: null });
  }));

Deno.test("writeHuggingFaceFolder() writes GPT-2's tokenizer with GPT-2's vocabulary", () =>
  inFolder(async (folder) => {
    await writeHuggingFaceFolder(folder, bitModel(SHAPES[3]!));
    assertEquals(names(folder), [
      ...["config.json", "generation_config.json", "merges.txt", "model.safetensors"],
      ...["tokenizer_config.json", "vocab.json"],
    ]);
    // OpenAI's own files have these sizes.
    assertEquals(Deno.statSync(join(folder, "vocab.json")).size, 1_042_301);
    assertEquals(Deno.statSync(join(folder, "merges.txt")).size, 456_318);

    const text = Deno.readTextFileSync(join(folder, "vocab.json"));
    const vocabulary = JSON.parse(text) as Record<string, number>;
    assertEquals(Object.keys(vocabulary).length, 50257);
    assertEquals(
      ["!", "\u0100", "\u0120the", "hello", "<|endoftext|>"].map((token) => vocabulary[token]),
      [0, 188, 262, 31373, 50256],
    );
    assertLess(text.indexOf('"9": 24'), text.indexOf('":": 25')); // in the order of ids
    const lines = Deno.readTextFileSync(join(folder, "merges.txt")).trimEnd().split("\n");
    assertEquals(lines.slice(0, 4), ["#version: 0.2", "\u0120 t", "\u0120 a", "h e"]);
    assertEquals(lines.length, 1 + 50257 - 257);
    lines.slice(1).forEach((line, i) => assertEquals(vocabulary[line.replace(" ", "")], 256 + i, line));

    const config = JSON.parse(Deno.readTextFileSync(join(folder, "config.json")));
    assertEquals([config.bos_token_id, config.eos_token_id], [50256, 50256]);
    assertEquals(JSON.parse(Deno.readTextFileSync(join(folder, "tokenizer_config.json"))), {
      tokenizer_class: "GPT2Tokenizer",
      model_max_length: SHAPES[3]!.maxT,
      add_prefix_space: false,
      clean_up_tokenization_spaces: false, // or " ." is decoded as "." (T-15)
      bos_token: "<|endoftext|>",
      eos_token: "<|endoftext|>",
      unk_token: "<|endoftext|>",
    });
  }));

Deno.test("writeHuggingFaceFolder() leaves no model where it fails half way, and no old shards in use", () =>
  inFolder(async (folder) => {
    const path = join(folder, "model");
    await writeHuggingFaceFolder(path, bitModel(CONFIG));
    Deno.writeTextFileSync(join(path, "model.safetensors.index.json"), "of an older model");
    await writeHuggingFaceFolder(path, bitModel(SHAPES[1]!));
    assertEquals(readHuggingFaceHeader(path).config, SHAPES[1]);
    assertEquals(names(path), ["config.json", "generation_config.json", "model.safetensors"]);

    Deno.removeSync(join(path, "generation_config.json"));
    Deno.mkdirSync(join(path, "generation_config.json")); // can't be replaced by a file
    let failed = false;
    await writeHuggingFaceFolder(path, bitModel(CONFIG)).catch(() => failed = true);
    assert(failed);
    assertEquals(names(path), ["generation_config.json", "model.safetensors"]);
  }));
