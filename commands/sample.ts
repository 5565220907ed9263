/**
 * `llmts sample`: continues a prompt with a trained model. Only the text goes to stdout; all else to stderr.
 *
 * @module
 */
import { GPT2_VOCABULARY, type GPT2Config, paddedVocabulary } from "../src/config.ts";
import { LlmtsError, UsageError } from "../src/errors.ts";
import { generateBatch, generationBytes } from "../src/generate.ts";
import { newestCheckpoint } from "../src/io/checkpoint.ts";
import { isFolder, systemError } from "../src/io/files.ts";
import { checkTokens } from "../src/io/hugging_face.ts";
import { decodeUtf8 } from "../src/io/text.ts";
import { gpt2Tokenizer, streamDecoder, type Tokenizer } from "../src/io/tokenizer.ts";
import { loadModel, modelConfig } from "../src/load.ts";
import { checkMemory, weightBytes } from "../src/memory.ts";
import { lossOfTokens } from "../src/evaluate.ts";
import { quantize } from "../src/quantize.ts";
import { defineCommand } from "./command.ts";
import {
  activationPrecision,
  deviceWords,
  INFERENCE_FLAGS,
  openEngine,
  OUTPUT_FOLDER,
  trainedModel,
} from "./engine.ts";
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
  samples: {
    type: "integer",
    value: "N",
    min: 1,
    default: 1,
    description:
      "texts to generate, together, which takes less time than one by one; --- stands between them",
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
  ...INFERENCE_FLAGS,
} as const satisfies FlagTable;

/** See the module. */
export const command = defineCommand({
  flags: FLAGS,
  details: [
    "The text is printed as it comes, each character whole; bytes that make up none, as a model that has learned " +
    "little draws, are printed as U+FFFD. Of a prompt longer than the model's context only the last " +
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

/** nanoGPT counts the padding of GPT-2's vocabulary as tokens, which stand for no text. */
function withTokensOnly(config: GPT2Config): GPT2Config {
  return config.V === paddedVocabulary(GPT2_VOCABULARY) ? { ...config, V: GPT2_VOCABULARY } : config;
}

async function sample(flags: FlagValues<typeof FLAGS>): Promise<void> {
  if (flags.stop === "") {
    throw new UsageError("--stop is empty, expected text", {
      hint: "without --stop only end-of-text ends the text",
    });
  }
  const source = chooseModel(flags.model);
  const config = withTokensOnly(modelConfig(source));
  if (config.V !== GPT2_VOCABULARY) {
    throw new LlmtsError(
      `The model "${source}" has a vocabulary of ${config.V} tokens; text can be sampled with GPT-2's ${GPT2_VOCABULARY} only`,
      { hint: "generate() of mod.ts gives the ids of tokens of any vocabulary" },
    );
  }
  const tokenizer = await gpt2Tokenizer();
  if (isFolder(source)) checkTokens(source, tokenizer);
  const precision = activationPrecision(flags);
  const device = openEngine(flags);
  if (flags.device === "auto") notice(`device: ${deviceWords(device.info())}`);
  const prompt = flags.prompt === "-" ? await readStdin() : flags.prompt ?? "";
  const ids = prompt === "" ? [tokenizer.eot] : tokenizer.encode(prompt);
  if (ids.length > config.maxT) {
    notice(`prompt: of ${ids.length} tokens the model sees the last ${config.maxT}, its context`);
  }
  const { samples: B, tokens } = flags;
  checkMemory(
    {
      total: weightBytes(config, flags.precision, device) +
        generationBytes(config, { B, precision, promptLength: ids.length, tokens }),
    },
    device.freeMemory(),
    B > 1 ? "lower --samples or --tokens, or take a smaller --model" : "take a smaller --model",
  );
  // At temperature 0 nothing is drawn.
  const seed = flags.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
  if (flags.seed === undefined && flags.temperature > 0) notice(`seed: ${seed}`);

  const loaded = loadModel(source, device, { precision, keepMaster: false });
  const plain = { ...loaded, config, parameters: { ...loaded.parameters, config } };
  const model = flags.precision === "int8" ? quantize(plain) : plain;
  const { temperature, topK, topP } = flags;
  const options = { tokens, temperature, topK, topP, seed, stop: tokenizer.eot };
  const output = openText();
  const texts = Array.from({ length: B }, () => createText(tokenizer, flags.stop));
  output.write(prompt);
  for (const drawn of generateBatch(model, ids, options, B)) {
    drawn.forEach((id, b) => texts[b]!.push(id));
    output.write(texts[0]!.take()); // the first as it comes, the others after it
    if (texts.every((text) => text.done)) break;
  }
  texts.forEach((text, b) => output.write((b > 0 ? `\n---\n${prompt}` : "") + text.end()));
  if (Deno.stdout.isTerminal()) output.write("\n"); // the shell's next prompt begins a line; a pipe gets only the text
  output.flush();
  const all = [...ids, ...texts[0]!.ids];
  if (model !== plain && all.length > 1) {
    const [loss, before] = [model, plain].map((model) => lossOfTokens(model, all).toFixed(4));
    notice(`int8: the text has a mean loss of ${loss}, with bf16 weights ${before}`);
  }
}

/** The text that tokens are, up to `--stop`. */
function createText(tokenizer: Tokenizer, stopAt: string | undefined) {
  const decoded = streamDecoder(tokenizer);
  const stop = createStop(stopAt);
  const ids: number[] = [];
  let ended = false;
  let ready = "";
  return {
    /** The tokens, up to the one that `--stop` came with. */
    ids,
    /** Whether `--stop` has come, or the text has ended. */
    get done(): boolean {
      return ended || stop.reached;
    },
    /** Adds a token; undefined: it has ended. What comes after `--stop` is left out. */
    push(id: number | undefined): void {
      ended ||= id === undefined;
      if (id === undefined || stop.reached) return;
      ids.push(id);
      ready += stop.push(decoded.push(id));
    },
    /** The text since the last call. */
    take(): string {
      const taken = ready;
      ready = "";
      return taken;
    },
    /** What is left, once no more will come. */
    end(): string {
      return this.take() + (stop.reached ? "" : stop.push(decoded.end()) + stop.end());
    },
  };
}

function chooseModel(name: string | undefined): string {
  if (name !== undefined) return trainedModel(name);
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
  const name = "the prompt on stdin";
  try {
    return decodeUtf8(new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer()), name);
  } catch (error) {
    throw systemError(name, "cannot be read", error);
  }
}
