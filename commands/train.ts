/**
 * `llmts train`: trains a GPT-2, validating and sampling on the way, and writes a checkpoint at the end.
 *
 * @module
 */
import { END_OF_TEXT, GPT2_VOCABULARY, type GPT2Config, isPreset } from "../src/config.ts";
import { LlmtsError } from "../src/errors.ts";
import { generate } from "../src/generate.ts";
import { checkpointPath, writeCheckpoint } from "../src/io/checkpoint.ts";
import { exists, makeFolder } from "../src/io/files.ts";
import { DataLoader, validationBatches } from "../src/io/loader.ts";
import { gpt2Tokenizer, streamDecoder } from "../src/io/tokenizer.ts";
import { TokenReader } from "../src/io/tokens.ts";
import { findModel, loadModel, modelConfig } from "../src/load.ts";
import { checkMemory, memoryPlan } from "../src/memory.ts";
import { fp32Weights, type Model } from "../src/model.ts";
import { createTrainer } from "../src/trainer.ts";
import { defineCommand } from "./command.ts";
import { checkSequenceLength, ENGINE_FLAGS, openEngine, OUTPUT_FOLDER } from "./engine.ts";
import type { FlagTable, FlagValues } from "./flags.ts";
import { catchInterrupt, yieldToListeners } from "./interrupt.ts";
import { type Log, openLog, openText } from "./output.ts";
import { chooseData } from "./train_data.ts";
import { createPace, modelLines, validationLine } from "./train_report.ts";

/** Trained without `--model`, where it is in the current folder. */
const GPT2_CHECKPOINT = "gpt2_124M.bin";
/** Trained without `--model` otherwise: 40 steps take seconds on a laptop's CPU. */
const SMALL_PRESET = "d4";
/** A new model learns nothing in 40 steps at the rate that suits a trained one, and that is ruined by the higher one. */
const LEARNING_RATE = { scratch: 8e-4, checkpoint: 1e-4 };

const FLAGS = {
  data: {
    type: "path",
    value: "FILE",
    absent: "tiny Shakespeare, else the built-in corpus",
    description: "tokens to train on (llmts data makes them)",
    group: "Data",
  },
  valData: {
    type: "path",
    value: "FILE",
    absent: "beside --data, val for train in its name",
    description: "tokens to validate on",
    group: "Data",
  },
  model: {
    type: "path",
    value: "NAME|FILE",
    absent: `${GPT2_CHECKPOINT} if it is here, else ${SMALL_PRESET}`,
    description:
      "a preset (d2 … d48, gpt2 … gpt2-xl), from scratch; a checkpoint, a safetensors file or Hugging Face folder; " +
      "another folder for its newest checkpoint",
    group: "Model",
  },
  out: {
    type: "path",
    value: "DIR",
    default: OUTPUT_FOLDER,
    description: "folder for the checkpoint, model_STEP.bin; sample reads the default one",
    group: "Model",
  },
  batchSize: {
    type: "integer",
    value: "B",
    min: 1,
    default: 4,
    description: "sequences in a batch",
    group: "Training",
  },
  seqLen: {
    type: "integer",
    value: "T",
    min: 1,
    default: 64,
    description: "tokens in a sequence, at most the model's positions",
    group: "Training",
  },
  steps: {
    type: "integer",
    value: "N",
    min: 1,
    default: 40,
    description: "steps to take",
    group: "Training",
  },
  learningRate: {
    type: "number",
    value: "RATE",
    above: 0,
    absent: `${LEARNING_RATE.scratch} from scratch, ${LEARNING_RATE.checkpoint} from a checkpoint`,
    description: "learning rate of AdamW",
    group: "Training",
  },
  weightDecay: {
    type: "number",
    value: "RATE",
    min: 0,
    default: 0,
    description: "weight decay of AdamW, on matrices only",
    group: "Training",
  },
  masterWeights: {
    type: "choice",
    choices: ["yes", "no"],
    default: "yes",
    description: "keep fp32 weights beside bf16 ones; without them updates are rounded stochastically",
    group: "Training",
  },
  seed: {
    type: "integer",
    value: "N",
    min: 0,
    max: 0xffffffff,
    default: 42,
    description: "seed of new weights and of samples",
    group: "Training",
  },
  valEvery: {
    type: "integer",
    value: "N",
    min: 0,
    default: 10,
    description: "steps between validations; there is one before and after training too; 0: none",
    group: "Validation and samples",
  },
  valBatches: {
    type: "integer",
    value: "N",
    min: 0,
    default: 10,
    description:
      "batches in a validation; 0: the whole file, so that the loss doesn't depend on --batch-size",
    group: "Validation and samples",
  },
  sampleEvery: {
    type: "integer",
    value: "N",
    min: 0,
    default: 20,
    description: "steps between samples; there is one after training too; 0: none",
    group: "Validation and samples",
  },
  sampleTokens: {
    type: "integer",
    value: "N",
    min: 1,
    default: 64,
    description: "tokens in a sample",
    group: "Validation and samples",
  },
  ...ENGINE_FLAGS,
} as const satisfies FlagTable;

type Flags = FlagValues<typeof FLAGS>;

/** See the module. */
export const command = defineCommand({
  flags: FLAGS,
  details: [
    "Without flags: a small GPT-2 on tiny Shakespeare, 40 steps of 4 × 64 tokens, in seconds; then llmts sample " +
    "continues a prompt with what it learned.",
    "New weights are random: normal with deviation 0.02, the projections into the residual stream scaled by " +
    "1/sqrt(2 layers), biases 0, as GPT-2's were and as PyTorch draws them from the same seed. Each epoch goes through " +
    "the tokens in order; at its end fewer than B·T + 1 are left out. Gradients are clipped to norm 1.",
    "Ctrl-C finishes the step and writes a checkpoint; a second one stops at once.",
  ],
  examples: [
    "llmts train --steps 500 --model d6",
    "llmts train --data book_train.bin --seq-len 256 --out book",
    "llmts train --model out --steps 100      # go on from the newest weights in out",
  ],
  async run(flags): Promise<number> {
    const log = openLog();
    try {
      return await train(flags, log);
    } finally {
      log.end();
    }
  },
});

async function train(flags: Flags, log: Log): Promise<number> {
  const { batchSize: B, seqLen: T, steps, precision } = flags;

  // All that can be refused is refused before memory is allocated.
  const source = chooseModel(flags.model);
  const config = modelConfig(source);
  checkSequenceLength(T, source, config);
  const keepMaster = flags.masterWeights === "yes";
  const memory = memoryPlan(config, { B, T, precision, keepMaster });
  const device = openEngine(flags);
  checkMemory(memory, device.freeMemory());
  const data = await chooseData(flags);
  using reader = new TokenReader(data.train, config.V);
  const loader = new DataLoader(reader, B, T);
  using valReader = data.val === undefined || flags.valEvery === 0
    ? undefined
    : new TokenReader(data.val, config.V);
  const valTokens = flags.valBatches === 0 ? Infinity : flags.valBatches * B * T;
  await makeFolder(flags.out);

  const model = loadModel(source, device, { seed: flags.seed, precision, keepMaster });
  const trainer = createTrainer(model, { B, T, weightDecay: flags.weightDecay, roundingSeed: flags.seed });
  const learningRate = flags.learningRate ?? LEARNING_RATE[isPreset(source) ? "scratch" : "checkpoint"];
  const samples = flags.sampleEvery > 0 && sampling(config, log);

  for (const line of modelLines(config, memory, { info: device.info(), precision })) log.line(line);
  log.line(
    `model: ${source}${
      isPreset(source) ? `, from scratch, seed ${flags.seed}` : ""
    }, learning rate ${learningRate}`,
  );
  if (data.note !== undefined) log.line(data.note);
  log.line(`train dataset num_batches: ${loader.batches}`);

  function validate(): void {
    if (valReader === undefined) return;
    log.line(validationLine(trainer.evaluate(validationBatches(valReader, B, T, valTokens)), T));
  }

  using interrupt = catchInterrupt(() =>
    log.line("interrupted: finishing the step; Ctrl-C again stops at once")
  );
  const pace = createPace(steps, B * T);
  validate();
  for (let step = 1; step <= steps; step++) {
    const { epoch } = loader;
    const start = performance.now();
    const { loss } = named(step, () => trainer.step(loader.next(), learningRate));
    pace.add(performance.now() - start);
    log.progress(pace.line(step, loss));
    await yieldToListeners();

    const last = step === steps;
    if (last || interrupt.requested) await save(model, flags.out, step, log);
    if (interrupt.requested) return 130;
    if (last || step % flags.valEvery === 0) validate();
    if (samples && (last || step % flags.sampleEvery === 0)) await sample(model, flags, log);
    if (loader.epoch > epoch && !last) log.line(`epoch ${loader.epoch + 1}: the training data starts over`);
  }
  const closing = pace.closing();
  if (closing !== undefined) log.line(closing);
  return 0;
}

function chooseModel(name: string | undefined): string {
  if (name !== undefined) return findModel(name);
  return exists(GPT2_CHECKPOINT) ? GPT2_CHECKPOINT : SMALL_PRESET;
}

/** Whether samples can be printed; says so if not. */
function sampling({ V }: GPT2Config, log: Log): boolean {
  if (V === GPT2_VOCABULARY) return true;
  log.line(`no samples: the model's vocabulary has ${V} tokens, GPT-2's ${GPT2_VOCABULARY}`);
  return false;
}

/** Runs a step; its errors say which it was. */
function named<T>(step: number, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof LlmtsError)) throw error;
    const { message, hint } = error;
    throw new LlmtsError(`Step ${step}: ${message}`, {
      cause: error,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

/**
 * Writes the checkpoint of a step.
 *
 * @throws {LlmtsError} the weights are broken: then whatever checkpoint is there stays
 */
async function save(model: Model, folder: string, step: number, log: Log): Promise<void> {
  if (!Number.isFinite(model.device.ops.globalNorm(fp32Weights(model).flat))) {
    throw new LlmtsError(`Step ${step}: the weights are no longer finite, no checkpoint is written`, {
      hint: "lower --learning-rate",
    });
  }
  const path = checkpointPath(folder, step);
  // Weights that training kept in bf16 only lose nothing in a file of bf16.
  await writeCheckpoint(path, model, model.precision === "bf16" && model.master === null ? "bf16" : "fp32");
  log.line(`checkpoint: ${path}`);
}

/** Generates from end-of-text and prints it. */
async function sample(model: Model, { sampleTokens, seed }: Flags, log: Log): Promise<void> {
  const output = openText();
  const decoded = streamDecoder(await gpt2Tokenizer());
  log.line("generating:\n---");
  for (const id of generate(model, [END_OF_TEXT], { tokens: sampleTokens, seed })) {
    output.write(decoded.push(id));
    await yieldToListeners();
  }
  output.write(decoded.end());
  output.flush();
  log.line("\n---");
}
