import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../ffi/device.ts";
import { float32, hostBytes, int32 } from "../ffi/tensor.ts";
import { allocateActivations } from "../src/activations.ts";
import { type GPT2Config, paddedVocabulary, presetConfig } from "../src/config.ts";
import { FileError } from "../src/errors.ts";
import { generate } from "../src/generate.ts";
import { checkpointPath, readCheckpoint, writeCheckpoint } from "../src/io/checkpoint.ts";
import { writeHuggingFaceFile, writeHuggingFaceFolder } from "../src/io/hugging_face.ts";
import {
  findModel,
  loadModel,
  modelConfig,
  modelHeader,
  randomModel,
  startsFromScratch,
} from "../src/load.ts";
import { forward, logits, type Model } from "../src/model.ts";
import { fixturePath } from "./fixtures.ts";
import { inFolder } from "./folder.ts";

const ODD = fixturePath("models/odd.bin");
const device = openDevice({ threads: 1 });

function embedding(model: Model): Uint8Array {
  return hostBytes(model.parameters.wte).slice();
}

/** The model of odd.bin in every format, by what it is called. */
async function everyFormat(folder: string): Promise<Record<string, string>> {
  const model = readCheckpoint(ODD, device);
  const paths = {
    "checkpoint": join(folder, "a checkpoint"), // no name tells what a file is
    "safetensors file": join(folder, "alone.bin"),
    "folder": join(folder, "folder.bin"),
    "safetensors file in a folder": join(folder, "folder.bin", "model.safetensors"),
  };
  await writeCheckpoint(paths.checkpoint, model);
  await writeHuggingFaceFile(paths["safetensors file"], model);
  await writeHuggingFaceFolder(paths.folder, model);
  return paths;
}

Deno.test("loadModel() takes each format by what it holds, whatever it is called", () =>
  inFolder(async (folder) => {
    const model = readCheckpoint(ODD, device);
    for (const [format, path] of Object.entries(await everyFormat(folder))) {
      assertEquals(findModel(path), path, format);
      assertEquals(modelHeader(path), { config: model.config, stored: "fp32" }, format);
      assertEquals(modelConfig(path), model.config, format);
      assertEquals(embedding(loadModel(path, device)), embedding(model), format);
    }
  }));

Deno.test("findModel() takes a preset's name, and the newest checkpoint of a folder", () =>
  inFolder((folder) => {
    assertEquals(findModel("gpt2"), "gpt2");
    assertEquals(modelConfig("gpt2"), presetConfig("gpt2"));
    for (const step of [9, 40]) Deno.copyFileSync(ODD, checkpointPath(folder, step));
    assertEquals(findModel(folder), checkpointPath(folder, 40));
  }));

Deno.test("a config.json starts a model of its sizes from scratch", () =>
  inFolder((folder) => {
    const path = join(folder, "small.json");
    const write = (json: unknown): void => Deno.writeTextFileSync(path, JSON.stringify(json));
    const sizes = { n_layer: 2, n_head: 3, n_embd: 12 };
    write({ ...sizes, n_positions: 9, vocab_size: 130 });
    const config = { maxT: 9, V: 130, Vp: 256, L: 2, NH: 3, C: 12 };
    assertEquals([findModel(path), startsFromScratch(path)], [path, true]);
    assertEquals(modelConfig(path), config);
    assertEquals(embedding(loadModel(path, device, { seed: 5 })), embedding(randomModel(config, device, 5)));
    write(sizes); // the rest as GPT-2 has it
    assertEquals(modelConfig(path), { ...config, maxT: 1024, V: 50257, Vp: 50304 });
    const { n_head: _, ...headless } = sizes;
    for (
      const [json, message] of [
        [headless, "n_head is missing, expected a number"],
        [{ ...sizes, n_layer: "2" }, 'n_layer is "2", expected a number'],
        [{ ...sizes, n_head: 5 }, "12 channels do not divide into 5 heads"],
        [{ ...sizes, n_layer: 0 }, "L is 0"],
        [{ ...sizes, vocab_size: 1e10 }, "V is 10000000000"],
        [{ ...sizes, activation_function: "relu" }, 'activation_function is "relu"'],
        [{ weight_map: {} }, "n_layer is missing"],
        [[], "not a JSON object"],
      ] as const
    ) {
      write(json);
      assertThrows(() => modelConfig(path), FileError, message);
    }
  }));

Deno.test("findModel() names what it can't take", () =>
  inFolder((folder) => {
    const absent = assertThrows(() => findModel(join(folder, "absent")), FileError, "no such file or folder");
    assertMatch(
      absent.hint ?? "",
      /^presets: d2 d4 .*; other sizes: a config.json; llmts download fetches a model of the hub$/,
    );
    assertThrows(
      () => findModel(folder),
      FileError,
      "the folder holds no checkpoint (model_*.bin) and no model of",
    );
    Deno.copyFileSync(ODD, checkpointPath(folder, 3));
    Deno.writeTextFileSync(join(folder, "model.safetensors"), "");
    const both = assertThrows(
      () => findModel(folder),
      FileError,
      "both a Hugging Face model and checkpoints",
    );
    assertEquals(both.hint, "name the file: model.safetensors or a model_*.bin");
  }));

Deno.test("modelHeader() says what a file is that holds no model (A-25)", () =>
  inFolder((folder) => {
    const path = join(folder, "model");
    const expected =
      "expected a model: a checkpoint of llm.c's (magic 20240326, version 3 or 5), a safetensors file";
    const tokens = new Uint8Array(Int32Array.of(20240520, 1, 0).buffer);
    const contents: [string | Uint8Array, string][] = [
      ["", "is empty"],
      ["<!DOCTYPE html><html>", "is a web page"],
      ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"],
      ["\n<!-- moved -->\n<html>", "is a web page"],
      ["<Error><Code>NoSuchKey</Code></Error>", "is a web page"],
      ["PK\x03\x04\x00\x00\x08\x08", "is a zip archive, as PyTorch's .pt and .bin files are"],
      [Uint8Array.of(0x80, 2, 0x8a, 10), "is a pickle, as PyTorch's older .pt and .bin files are"],
      [Uint8Array.of(0x89, 0x48, 0x44, 0x46, 13, 10, 26, 10), "is an HDF5 file, as TensorFlow's models are"],
      ["GGUF\x03\0\0\0", "is a GGUF file, as llama.cpp's models are"],
      [
        new Uint8Array(Int32Array.of(0x67676d6c, 1).buffer),
        "is a ggml file, as llama.cpp's older models are",
      ],
      [Uint8Array.of(0x1f, 0x8b, 8, 0), "is packed by gzip"],
      [tokens, "is a token file (magic 20240520)"],
      ["Entry not found", 'is text that begins "Entry not found"'],
      ['{"weight_map": {}}', "is text that begins"],
    ];
    for (const [content, found] of contents) {
      Deno.writeFileSync(path, typeof content === "string" ? new TextEncoder().encode(content) : content);
      assertThrows(() => modelHeader(path), FileError, `"${path}": ${found}`);
      assertThrows(() => modelHeader(path), FileError, expected);
    }
    Deno.writeTextFileSync(path, "404: Not Found");
    const { hint } = assertThrows(() => modelHeader(path), FileError);
    assertEquals(hint, "if it was downloaded, the server has answered this in place of the file");
    Deno.writeFileSync(path, Deno.readFileSync(ODD).subarray(0, 600)); // the magic decides, its reader says the rest
    assertThrows(() => modelHeader(path), FileError, "ends after 600 bytes of its header");
  }));

/**
 * Vocabularies with and without padding; contexts below and above GPT-2's, and of as many positions as the padded vocabulary
 * has rows (A-58).
 */
// deno-fmt-ignore
const SIZES: readonly [V: number, maxT: number][] =
  [[65, 32], [65, 128], [128, 128], [512, 4096], [50257, 64], [50304, 33], [1, 1]];

for (const [V, maxT] of SIZES) {
  Deno.test(`loadModel() gives a model that computes with ${V} tokens and ${maxT} positions`, () =>
    inFolder(async (folder) => {
      const config: GPT2Config = { maxT, V, Vp: paddedVocabulary(V), L: 1, NH: 2, C: 8 };
      assertEquals(config.Vp - V, { 65: 63, 128: 0, 512: 0, 50257: 47, 50304: 0, 1: 127 }[V]);
      const model = randomModel(config, device, 1);
      const [T, ids] = [maxT, Int32Array.from({ length: maxT }, (_, i) => V - 1 - (i * 31) % V)];
      const expected = allLogits(model, ids);
      assert(expected.length === T * V && expected.every(Number.isFinite));
      for (const write of [writeCheckpoint, writeHuggingFaceFolder]) {
        const path = join(folder, write.name);
        await write(path, model);
        const loaded = loadModel(path, device);
        assertEquals(loaded.config, config);
        const found = allLogits(loaded, ids);
        assert(expected.every((value, i) => value === found[i]), write.name);
        const tokens = [...generate(loaded, ids.subarray(0, 1), { tokens: 4, temperature: 2, seed: 3 })];
        assertEquals(tokens.filter((id) => id < 0 || id >= V), []);
      }
    }));
}

/** Logits of all positions of one sequence. */
function allLogits(model: Model, ids: Int32Array): Float32Array {
  const [B, T] = [1, ids.length];
  const a = allocateActivations(model.config, device, { B, T, precision: model.precision, training: false });
  const tokens = device.tensor("int32", [B, T]);
  int32(tokens).set(ids);
  forward(model, a, tokens);
  const out = device.tensor("fp32", [B, T, model.config.V]);
  logits(model, a, out);
  return float32(out);
}
