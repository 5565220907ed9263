/**
 * `llmts sample`: continues a prompt with a trained model. Only the text goes to stdout; all else to stderr.
 *
 * @module
 */
import { GPT2_VOCABULARY, isPreset } from "../src/config.ts";
import { LlmtsError, UsageError } from "../src/errors.ts";
import { generate } from "../src/generate.ts";
import { newestCheckpoint } from "../src/io/checkpoint.ts";
import { decodeUtf8 } from "../src/io/text.ts";
import { gpt2Tokenizer, streamDecoder } from "../src/io/tokenizer.ts";
import { findModel, loadModel, modelConfig } from "../src/load.ts";
import { checkMemory, memoryPlan } from "../src/memory.ts";
import { defineCommand } from "./command.ts";
import { ENGINE_FLAGS, openEngine, OUTPUT_FOLDER } from "./engine.ts";
import type { FlagTable, FlagValues } from "./flags.ts";
import { notice, openText } from "./output.ts";
import { createStop } from "./stop.ts";

const FLAGS = {
  prompt: {
    type: "string",
    value: "TEXT",
    absent: "begin at end-of-text",
    description: "text to continue, printed too; - reads it from stdin",
    group: "Text",
  },
  tokens: {
    type: "integer",
    value: "N",
    min: 1,
    default: 256,
    description: "tokens to generate at most",
    group: "Text",
  },
  stop: {
    type: "string",
    value: "TEXT",
    absent: "only end-of-text ends it",
    description: "end before this text",
    group: "Text",
  },
  temperature: {
    type: "number",
    value: "X",
    min: 0,
    default: 1,
    description: "below 1 more certain, above 1 more varied; 0 takes the most likely token each time",
    group: "Sampling",
  },
  topK: {
    type: "integer",
    value: "K",
    min: 0,
    default: 0,
    description: "draw among the K most likely tokens; 0: among all",
    group: "Sampling",
  },
  topP: {
    type: "number",
    value: "P",
    min: 0,
    max: 1,
    default: 1,
    description: "draw among the fewest most likely tokens whose probabilities sum to P; 1: among all",
    group: "Sampling",
  },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 0xffffffff,
    absent: "chosen at random and printed",
    description: "seed of the draws: the same one gives the same text",
    group: "Sampling",
  },
  model: {
    type: "path",
    value: "FILE|DIR",
    absent: `the newest checkpoint in ${OUTPUT_FOLDER}`,
    description:
      "a checkpoint, a safetensors file or Hugging Face folder; another folder for its newest checkpoint",
    group: "Model",
  },
  ...ENGINE_FLAGS,
} as const satisfies FlagTable;

/** See the module. */
export const command = defineCommand({
  flags: FLAGS,
  details: [
    "The text is printed as it comes, each character whole. Of a prompt longer than the model's context only the last " +
    "part is seen; all of it is printed. End-of-text in a prompt is ordinary text.",
  ],
  examples: [
    'llmts sample --prompt "First Citizen:"',
    "llmts sample --model gpt2_124M.bin --temperature 0.8 --top-k 40 --tokens 100",
    "echo -n Once | llmts sample --prompt - --seed 1",
  ],
  async run(flags): Promise<number> {
    await sample(flags);
    return 0;
  },
});

async function sample(flags: FlagValues<typeof FLAGS>): Promise<void> {
  if (flags.stop === "") {
    throw new UsageError("--stop is empty, expected text", {
      hint: "without --stop only end-of-text ends the text",
    });
  }
  const source = chooseModel(flags.model);
  const config = modelConfig(source);
  if (config.V !== GPT2_VOCABULARY) {
    throw new LlmtsError(
      `The model "${source}" has a vocabulary of ${config.V} tokens; text can be sampled with GPT-2's ${GPT2_VOCABULARY} only`,
    );
  }
  const device = openEngine(flags);
  checkMemory(
    // A bf16 model is rounded from fp32 weights, which are in memory until then.
    memoryPlan(config, {
      B: 1,
      T: config.maxT,
      precision: flags.precision,
      training: false,
      keepMaster: true,
    }),
    device.freeMemory(),
    "take a smaller --model",
  );
  const tokenizer = await gpt2Tokenizer();
  const prompt = flags.prompt === "-" ? await readStdin() : flags.prompt ?? "";
  const ids = prompt === "" ? [tokenizer.eot] : tokenizer.encode(prompt);
  if (ids.length > config.maxT) {
    notice(`prompt: of ${ids.length} tokens the model sees the last ${config.maxT}, its context`);
  }
  // At temperature 0 nothing is drawn.
  const seed = flags.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  if (flags.seed === undefined && flags.temperature > 0) notice(`seed: ${seed}`);

  const model = loadModel(source, device, { precision: flags.precision, keepMaster: false });
  const { tokens, temperature, topK, topP } = flags;
  const output = openText();
  const decoded = streamDecoder(tokenizer);
  const stop = createStop(flags.stop);
  output.write(prompt);
  for (const id of generate(model, ids, { tokens, temperature, topK, topP, seed, stop: tokenizer.eot })) {
    output.write(stop.push(decoded.push(id)));
    if (stop.reached) break;
  }
  if (!stop.reached) output.write(stop.push(decoded.end()) + stop.end());
  if (Deno.stdout.isTerminal()) output.write("\n"); // the shell's next prompt begins a line; a pipe gets only the text
  output.flush();
}

function chooseModel(name: string | undefined): string {
  if (name !== undefined && isPreset(name)) {
    throw new UsageError(`--model "${name}" is a preset, which has no trained weights`, {
      hint: `llmts train --model ${name} trains one; a file or folder of that name is given as ./${name}`,
    });
  }
  if (name !== undefined) return findModel(name);
  const newest = newestCheckpoint(OUTPUT_FOLDER);
  if (newest === undefined) {
    throw new LlmtsError(`There is no checkpoint in the folder "${OUTPUT_FOLDER}", and no --model is given`, {
      hint: "llmts train makes one",
    });
  }
  notice(`model: ${newest}`);
  return newest;
}

async function readStdin(): Promise<string> {
  return decodeUtf8(
    new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer()),
    "the prompt on stdin",
  );
}
