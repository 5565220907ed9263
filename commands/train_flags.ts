/**
 * The flags of `llmts train`.
 *
 * @module
 */
import { DEFAULT_RECOMPUTE, RECOMPUTE_LEVELS } from "../src/activations.ts";
import { ADAMW_DEFAULTS } from "../src/adamw.ts";
import { BUILT_IN } from "../src/data/builtin.ts";
import { SCHEDULES } from "../src/schedule.ts";
import { CONFIG_FLAG } from "./config_file.ts";
import { ENGINE_FLAGS, OUTPUT_FOLDER } from "./engine.ts";
import type { FlagTable, FlagValues } from "./flags.ts";
import { DRY_RUN_FLAG } from "./train_plan.ts";

/** Trained without `--model`, where it is in the current folder. */
export const GPT2_CHECKPOINT = "gpt2_124M.bin";
/** Trained without `--model` otherwise: 40 steps take seconds on a laptop's CPU. */
export const SMALL_PRESET = "d4";
/** A new model learns nothing in 40 steps at the rate that suits a trained one, and that is ruined by the higher one. */
export const LEARNING_RATE = { scratch: 8e-4, checkpoint: 1e-4 };

/** Steps without `--steps` and `--epochs`. */
export const STEPS = 40;
/** Files are named by their step, in eight digits. */
export const MOST_STEPS = 99_999_999;

/** See the module. */
export const FLAGS = {
  data: {
    type: "path",
    value: "FILES",
    absent: "tiny Shakespeare, else the built-in corpus",
    description:
      "tokens to train on (llmts data makes them): a file, a quoted pattern, or several with commas between; " +
      `${BUILT_IN.train} is built in`,
    group: "Data",
  },
  valData: {
    type: "path",
    value: "FILES",
    absent: "beside --data, val for train in its name",
    description: "tokens to validate on",
    group: "Data",
  },
  shuffle: {
    type: "boolean",
    description: "take files, and the batches of a file, in a random order, anew in each epoch",
    group: "Data",
  },
  overfit: {
    type: "boolean",
    description:
      "train on the first step's batches again and again: a model that can learn then gets them by heart",
    group: "Data",
  },
  model: {
    type: "path",
    value: "NAME|FILE",
    absent: `${GPT2_CHECKPOINT} if it is here, else ${SMALL_PRESET}`,
    description:
      "a preset (d2 … d48, gpt2 … gpt2-xl) or a config.json with other sizes, from scratch; a checkpoint, a safetensors " +
      "file or Hugging Face folder; another folder for its newest checkpoint",
    group: "Model",
  },
  out: {
    type: "path",
    value: "DIR",
    default: OUTPUT_FOLDER,
    description: "folder for checkpoints and logs; sample reads the default one",
    group: "Model",
  },
  batchSize: {
    type: "integer",
    value: "B",
    min: 1,
    default: 4,
    description: "sequences in a batch: what goes forward and backward at a time",
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
  totalBatchSize: {
    type: "integer",
    value: "TOKENS",
    min: 1,
    absent: "one batch, B × T",
    description: "tokens in a step, a multiple of B × T: the gradients of so many batches make one update",
    group: "Training",
  },
  steps: {
    type: "integer",
    value: "N",
    min: 1,
    max: MOST_STEPS,
    absent: String(STEPS),
    description: "steps of the whole run, those before --resume too",
    group: "Training",
  },
  epochs: {
    type: "number",
    value: "N",
    above: 0,
    absent: "--steps says how long",
    insteadOf: "steps",
    description: "in place of --steps: passes over the training data",
    group: "Training",
  },
  learningRate: {
    type: "number",
    value: "RATE",
    above: 0,
    absent: `${LEARNING_RATE.scratch} from scratch, ${LEARNING_RATE.checkpoint} from a checkpoint`,
    description: "learning rate of AdamW, at its highest",
    group: "Training",
  },
  schedule: {
    type: "choice",
    choices: SCHEDULES,
    default: "constant",
    description:
      "how the rate goes on after the warm-up; wsd keeps it for four fifths of the run, then lets it decay",
    group: "Training",
  },
  warmup: {
    type: "integer",
    value: "N",
    min: 0,
    default: 0,
    description: "steps in which the rate rises from near 0",
    group: "Training",
  },
  finalLrFraction: {
    type: "number",
    value: "X",
    min: 0,
    max: 1,
    default: 0.1,
    description: "share of the rate that linear, cosine and wsd end at",
    group: "Training",
  },
  gradClip: {
    type: "number",
    value: "NORM",
    min: 0,
    default: 1,
    description: "scale gradients down to this norm; 0: don't",
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
  beta2: {
    type: "number",
    value: "X",
    min: 0,
    max: 0.99999,
    default: ADAMW_DEFAULTS.beta2,
    description: "decay of AdamW's second moments; llm.c's is 0.95 on a GPU",
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
    description: "seed of new weights, of --shuffle and of samples",
    group: "Training",
  },
  skipLossZ: {
    type: "number",
    value: "Z",
    min: 0,
    default: 0,
    description: "skip updates whose loss is so many deviations above the last 128; 0: none",
    group: "Training",
  },
  skipGradZ: {
    type: "number",
    value: "Z",
    min: 0,
    default: 0,
    description: "the same by the norm of the gradients",
    group: "Training",
  },
  checkpointEvery: {
    type: "integer",
    value: "N",
    min: 0,
    default: 0,
    description: "steps between checkpoints; there is one after training too; 0: only that",
    group: "Checkpoints",
  },
  keep: {
    type: "integer",
    value: "N",
    min: 0,
    default: 0,
    description: "checkpoints to keep, the newest; 0: all",
    group: "Checkpoints",
  },
  majorEvery: {
    type: "integer",
    value: "N",
    min: 0,
    default: 0,
    description: "keep those of steps that are multiples of N for good; 0: none",
    group: "Checkpoints",
  },
  keepBest: {
    type: "boolean",
    description: "write a checkpoint at each validation that is the best so far, and keep the best one",
    group: "Checkpoints",
  },
  resume: {
    type: "boolean",
    description:
      "go on from the newest complete checkpoint in --out, with that run's flags; where there is none, start",
    group: "Checkpoints",
  },
  accept: {
    type: "string",
    value: "NAMES",
    absent: "none",
    description:
      "flags that may differ from those of the run that --resume goes on with, with commas between",
    group: "Checkpoints",
  },
  overwrite: {
    type: "boolean",
    description: "delete the checkpoints that are in --out, and start anew",
    group: "Checkpoints",
  },
  tensorboard: {
    type: "boolean",
    description: "write an event file for TensorBoard into --out, beside main.log and metrics.jsonl",
    group: "Checkpoints",
  },
  valEvery: {
    type: "integer",
    value: "N",
    min: 0,
    default: 10,
    description: "steps between validations; there is one before and after training too; 0: none",
    group: "Validation and samples",
  },
  valTokens: {
    type: "integer",
    value: "N",
    min: 0,
    default: 2560,
    description: "tokens in a validation, the same whatever --batch-size is; 0: all",
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
  recompute: {
    type: "choice",
    choices: RECOMPUTE_LEVELS,
    default: DEFAULT_RECOMPUTE,
    description:
      "what backward computes again in place of keeping it in memory: nothing; layernorms and GELU (1 % of the time); " +
      "the matmul before the GELU too (6 %); or whole layers. The losses are the same",
    group: "Machine",
  },
  config: CONFIG_FLAG,
  dryRun: DRY_RUN_FLAG,
} as const satisfies FlagTable;

/** The flags' values. */
export type TrainFlags = FlagValues<typeof FLAGS>;
