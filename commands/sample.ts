/**
 * `llmts sample`: continues a prompt with a trained model. Only the text goes to stdout.
 *
 * @module
 */
import { END_OF_TEXT, GPT2_VOCABULARY, isPreset } from "../src/config.ts";
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
import { formatRate } from "./format.ts";
import { notice, openText } from "./output.ts";
import { stopBefore } from "./stop_text.ts";

const FLAGS = {
  prompt: {
    type: "string",
    value: "TEXT",
    absent: "nothing: the model starts a text",
    description: "text to continue; - reads it from stdin",
    group: "Text",
  },
  tokens: {
    type: "integer",
    value: "N",
    min: 1,
    default: 200,
    description: "tokens to generate",
    group: "Text",
  },
  stop: {
    type: "string",
    value: "TEXT",
    description: "end before this text, where it is generated; <|endoftext|> ends at the end of a document",
    group: "Text",
  },
  model: {
    type: "path",
    value: "FILE",
    absent: `the newest checkpoint in ${OUTPUT_FOLDER}`,
    description:
      "checkpoint, safetensors file or Hugging Face folder; another folder for its newest checkpoint",
    group: "Model",
  },
  temperature: {
    type: "number",
    value: "X",
    min: 0,
    default: 0.8,
    description: "below 1 more certain, above 1 more varied; 0: always the most likely token",
    group: "Sampling",
  },
  topK: {
    type: "integer",
    value: "K",
    min: 0,
    default: 0,
    description: "draw among the K most likely tokens only; 0: among all",
    group: "Sampling",
  },
  topP: {
    type: "number",
    value: "P",
    min: 0,
    max: 1,
    default: 1,
    description: "draw among the fewest tokens whose probabilities sum to P; 1: among all",
    group: "Sampling",
  },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 0xffffffff,
    absent: "a random one, which is printed",
    description: "seed of the draws; the same seed gives the same text",
    group: "Sampling",
  },
  ...ENGINE_FLAGS,
} as const satisfies FlagTable;

/** See the module. */
export const command = defineCommand({
  flags: FLAGS,
  details: [
    "Prints the prompt and what the model makes of it, and nothing else, to stdout; notices go to stderr. Without a " +
    "prompt, or with an empty one, the model starts from the end-of-text token, which isn't printed.",
    "The prompt is ordinary text, <|endoftext|> in it too, and its line ends stay as they are. A model sees as many tokens " +
    "as it has positions: of a longer prompt the last ones, and where the text grows beyond them the older half is dropped.",
  ],
  examples: [
    'llmts sample --prompt "First Citizen:"',
    "llmts sample --model gpt2_124M.bin --top-k 40 --tokens 500 --seed 1",
    'llmts sample --prompt - --temperature 0 --stop "." < start.txt',
  ],
  run: sample,
});

async function sample(flags: FlagValues<typeof FLAGS>): Promise<number> {
  if (flags.stop === "") {
    throw new UsageError("--stop is empty, expected text", { hint: "leave --stop out to stop nowhere" });
  }
  const source = flags.model === undefined ? newestOutput() : trained(flags.model);
  const config = modelConfig(source);
  if (config.V !== GPT2_VOCABULARY) {
    throw new LlmtsError(
      `"${source}" has a vocabulary of ${config.V} tokens, GPT-2's tokenizer has ${GPT2_VOCABULARY}`,
    );
  }
  checkMemory(
    memoryPlan(config, { B: 1, T: 1, precision: flags.precision, training: false }),
    undefined,
    "take a smaller --model",
  );
  const prompt = flags.prompt === "-" ? await readStdin() : flags.prompt ?? "";
  const tokenizer = await gpt2Tokenizer();
  const ids = prompt === "" ? [END_OF_TEXT] : tokenizer.encode(prompt);
  if (ids.length > config.maxT) {
    notice(`the prompt has ${ids.length} tokens: the model sees the last ${config.maxT}`);
  }
  const { seed = randomSeed(), temperature, topK, topP, tokens } = flags;
  if (flags.seed === undefined && temperature > 0) notice(`seed: ${seed}`);

  const model = loadModel(source, openEngine(flags));
  const output = openText();
  const decoder = streamDecoder(tokenizer);
  const stop = flags.stop === undefined ? undefined : stopBefore(flags.stop);
  const pass = (text: string): void => output.write(stop === undefined ? text : stop.push(text));
  output.write(prompt);
  const start = performance.now();
  let count = 0;
  for (const id of generate(model, ids, { tokens, seed, temperature, topK, topP })) {
    count++;
    pass(decoder.push(id));
    if (stop?.reached) break;
  }
  pass(decoder.end());
  output.write(stop?.end() ?? "");
  output.flush();
  if (Deno.stdout.isTerminal()) output.write("\n"); // so that the shell's prompt has a line of its own
  notice(`${count} tokens, ${formatRate(count, performance.now() - start)}`);
  return 0;
}

/** The newest checkpoint of `llmts train`; says which. */
function newestOutput(): string {
  const path = newestCheckpoint(OUTPUT_FOLDER);
  if (path === undefined) {
    throw new LlmtsError(`There is no checkpoint in the folder "${OUTPUT_FOLDER}"`, {
      hint: "llmts train writes one; --model names another",
    });
  }
  notice(`model: ${path}`);
  return path;
}

function trained(name: string): string {
  if (!isPreset(name)) return findModel(name);
  throw new UsageError(`--model "${name}" is a preset, which has no trained weights`, {
    hint: `llmts train --model ${name} trains one; a file or folder of that name is given as ./${name}`,
  });
}

async function readStdin(): Promise<string> {
  return decodeUtf8(await new Response(Deno.stdin.readable).bytes(), "stdin");
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}
