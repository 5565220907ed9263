/**
 * Writing a GPT-2 in Hugging Face's format: a folder that `GPT2LMHeadModel.from_pretrained` loads, or its safetensors file
 * alone.
 *
 * @module
 */
import { join } from "@std/path";
import { rows, unstack } from "../../../ffi/tensor.ts";
import { GPT2_VOCABULARY } from "../../config.ts";
import type { Model } from "../../model.ts";
import { TENSORS } from "../../parameters.ts";
import { exactWeights, fp32Values } from "../../weights.ts";
import type { StoredPrecision } from "../checkpoint.ts";
import { makeFolder, removeFile, writeTextAtomically } from "../files.ts";
import { type SafetensorsSource, writeSafetensors } from "../safetensors.ts";
import { gpt2Tokenizer } from "../tokenizer.ts";
import { configJson, generationConfigJson } from "./config.ts";
import { tokenizerFiles } from "./tokenizer.ts";
import { transpose } from "./transpose.ts";
import { CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE } from "./weights.ts";

/** GPT2LMHeadModel's name for the GPT2Model in it. */
const PREFIX = "transformer.";

/**
 * Writes a folder: config.json, generation_config.json, model.safetensors and the tokenizer's files: for GPT-2's vocabulary
 * GPT-2's, unless others are given. The folder is made if need be; other files in it stay. config.json is written last, and an old one removed
 * first: without it the folder is no model, so a run that is cut off leaves none that is half old.
 *
 * @param stored bf16 rounds to the nearest
 * @param tokenizer the texts of its files by name; empty: none are given
 * @throws {FileError} a file can't be written
 */
export async function writeHuggingFaceFolder(
  folder: string,
  model: Model,
  stored: StoredPrecision = "fp32",
  tokenizer: ReadonlyMap<string, string> = new Map(),
): Promise<void> {
  const { config } = model;
  await makeFolder(folder);
  removeFile(join(folder, CONFIG_FILE));
  removeFile(join(folder, INDEX_FILE)); // of an older model in several files
  await writeWeights(join(folder, WEIGHTS_FILE), model, stored, {});
  await writeTextAtomically(join(folder, "generation_config.json"), generationConfigJson(config));
  const gpt2 = tokenizer.size === 0 && config.V === GPT2_VOCABULARY;
  for (const [name, text] of gpt2 ? tokenizerFiles(await gpt2Tokenizer(), config) : tokenizer) {
    await writeTextAtomically(join(folder, name), text);
  }
  await writeTextAtomically(join(folder, CONFIG_FILE), configJson(config, stored));
}

/**
 * Writes a single safetensors file, with its config.json in the metadata, whole or not at all.
 *
 * @param stored bf16 rounds to the nearest
 * @throws {FileError} it can't be written
 */
export async function writeHuggingFaceFile(
  path: string,
  model: Model,
  stored: StoredPrecision = "fp32",
): Promise<void> {
  await writeWeights(path, model, stored, { [CONFIG_FILE]: configJson(model.config, stored) });
}

async function writeWeights(
  path: string,
  model: Model,
  stored: StoredPrecision,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const { config, device } = model;
  const weights = exactWeights(model);
  const scratch = new Float32Array(4 * config.C * config.C); // the largest matrix; one for all, so that no garbage piles up
  const sources = TENSORS.flatMap(({ name, huggingFace, stacked, conv1d }): SafetensorsSource[] => {
    const whole = weights.whole[name];
    const parts = stacked ? unstack(whole) : [name === "wte" ? rows(whole, 0, config.V) : whole]; // padding by name
    return parts.map((part, layer) => ({
      name: PREFIX + huggingFace.replace("{l}", String(layer)),
      shape: conv1d ? part.shape.toReversed() : part.shape,
      values: () => {
        const values = fp32Values(device, part);
        return conv1d ? transposed(values, part.shape, scratch) : values;
      },
    }));
  });
  await writeSafetensors(path, sources, stored === "fp32" ? "F32" : "BF16", { format: "pt", ...metadata });
}

/** A matrix (width, columns) as (columns, width), in `scratch`. */
function transposed(
  source: Float32Array,
  [width = 0, columns = 0]: readonly number[],
  scratch: Float32Array,
): Float32Array {
  const target = scratch.subarray(0, source.length);
  transpose(target, source, { columns, width });
  return target;
}
