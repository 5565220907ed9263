/**
 * `llmts convert`: models between llm.c's checkpoints and Hugging Face's format.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { openDevice } from "../ffi/device.ts";
import { UsageError } from "../src/errors.ts";
import { writeCheckpoint } from "../src/io/checkpoint.ts";
import { isFolder, makeFolder, removeTemporaries } from "../src/io/files.ts";
import {
  ownTokenizerFiles,
  WEIGHTS_FILE,
  writeHuggingFaceFile,
  writeHuggingFaceFolder,
} from "../src/io/hugging_face.ts";
import { loadModel, modelHeader } from "../src/load.ts";
import { checkMemory, memoryPlan } from "../src/memory.ts";
import { parameterCount } from "../src/parameters.ts";
import { defineCommand } from "./command.ts";
import { trainedModel } from "./engine.ts";
import { print } from "./output.ts";
import { requireFree } from "./require_free.ts";

/** See the module. */
export const command = defineCommand({
  flags: {
    from: {
      type: "path",
      value: "MODEL",
      description:
        "a checkpoint (.bin), a safetensors file, a Hugging Face folder, or a folder for its newest checkpoint",
      group: "Models",
    },
    to: {
      type: "path",
      value: "NAME",
      description:
        "NAME.bin: llm.c's checkpoint; NAME.safetensors: that file alone; else a Hugging Face folder",
      group: "Models",
    },
    precision: {
      type: "choice",
      choices: ["fp32", "bf16"],
      absent: "the model's own; fp16 becomes fp32",
      description: "number format to write; bf16 rounds to the nearest",
      group: "Models",
    },
    force: {
      type: "boolean",
      description: "write over a file, or into a folder that isn't empty",
      group: "Models",
    },
  },
  details: [
    "Reads GPT-2 in fp32, fp16 or bf16, in one file or several. A model that llmts can't compute (another activation, " +
    "an lm_head of its own, a tensor too many or too few) is refused by name.",
    "A folder gets config.json, generation_config.json, model.safetensors and the tokenizer's files, those of the folder " +
    "it is converted from or, for GPT-2's vocabulary, GPT-2's: transformers loads it with GPT2LMHeadModel.from_pretrained and AutoTokenizer.from_pretrained.",
  ],
  examples: [
    "llmts convert --from models/gpt2 --to gpt2_124M.bin",
    "llmts convert --from out --to my-model          # the newest checkpoint, for transformers",
    "llmts convert --from gpt2_124M.bin --to gpt2_124M_bf16.bin --precision bf16",
  ],
  async run({ from, to, precision, force }): Promise<number> {
    if (from === undefined || to === undefined) {
      throw new UsageError(`${from === undefined ? "--from" : "--to"} is missing`, {
        hint: "llmts convert --from MODEL --to NAME",
      });
    }
    const source = trainedModel(from, { flag: "--from" });
    const { weights, write } = target(to, source);
    if (!force) requireFree(to);
    const { config, stored } = modelHeader(source);
    const memory = memoryPlan(config, { B: 1, T: 1, training: false });
    checkMemory(memory, undefined, "the whole model is read: close other programs");
    const model = loadModel(source, openDevice({ device: "cpu" })); // nothing to compute
    const written = precision ?? stored;
    await makeFolder(dirname(weights));
    removeTemporaries(weights);
    await write(to, model, written);
    const { L, NH, C, V, maxT } = config;
    print(
      `${source} -> ${to} (${written}): ${parameterCount(config)} parameters, ` +
        `${L} layers, ${NH} heads, ${C} channels, ${V} tokens, ${maxT} positions\n`,
    );
    return 0;
  },
});

/** Endings of model files of other programs, and of ours with a slip: no folder is meant. */
const OTHER_FILE = /\.(bins?|safetensors?|pth?|ckpt|gguf|ggml|h5|onnx|msgpack|npz)$/i;

/**
 * What a name asks for: the file that holds the weights, and what writes it.
 *
 * @throws {UsageError} it asks for another format
 */
function target(to: string, source: string): { weights: string; write: typeof writeCheckpoint } {
  if (to.endsWith(".bin")) return { weights: to, write: writeCheckpoint };
  if (to.endsWith(".safetensors")) return { weights: to, write: writeHuggingFaceFile };
  if (OTHER_FILE.test(to)) {
    throw new UsageError(`--to "${to}" is named as a file of a format that llmts doesn't write`, {
      hint: "NAME.bin, NAME.safetensors, or the name of a folder",
    });
  }
  const tokenizer = isFolder(source) ? ownTokenizerFiles(source) : undefined;
  return {
    weights: join(to, WEIGHTS_FILE),
    write: (path, model, stored) => writeHuggingFaceFolder(path, model, stored, tokenizer),
  };
}
