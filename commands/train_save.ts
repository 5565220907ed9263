/**
 * A run of `llmts train`, how far it has come, and writing that down.
 *
 * @module
 */
import { join } from "@std/path";
import { checkDiskSpace, saveCheckpoint } from "../src/checkpoints.ts";
import type { GPT2Config } from "../src/config.ts";
import { LlmtsError } from "../src/errors.ts";
import { checkpointBytes, type StoredPrecision } from "../src/io/checkpoint.ts";
import { writeTextAtomically } from "../src/io/files.ts";
import type { DataLoader, LoaderState } from "../src/io/loader.ts";
import { ROUNDING_SEED, stateBytes } from "../src/io/state.ts";
import type { Precision } from "../src/model.ts";
import type { Trainer } from "../src/trainer.ts";
import { exactWeights, fp32Pieces } from "../src/weights.ts";
import { effectiveConfig } from "./config_file.ts";
import { deviceWords } from "./engine.ts";
import { FLAGS } from "./train_flags.ts";
import { savedFlags, type Settings } from "./train_resume.ts";

/** A run that is ready to go. */
export interface TrainRun {
  /** All that was left open by the flags is settled. */
  readonly settings: Settings;
  readonly trainer: Trainer;
  readonly loader: DataLoader;
  /** Tokens in each file of the training data. */
  readonly dataTokens: readonly number[];
  /** Batches in a step. */
  readonly accumulation: number;
  /** Steps of the whole run. */
  readonly steps: number;
  /** The highest one. */
  readonly learningRate: number;
  /** Token files to validate on, if any. */
  readonly valPaths: readonly string[];
  /** FLOPs that a token needs, and FLOP/s that the machine reaches. */
  readonly flops: { readonly perToken: number; readonly peak: number };
  /** Where it begins. */
  readonly start: RunPosition;
}

/** How far a run has come. */
export interface RunPosition {
  /** Updates made. */
  readonly step: number;
  readonly tokens: number;
  /** The lowest validation loss so far. */
  readonly best: { readonly loss: number; readonly step: number } | null;
  /** The step of the last validation. */
  readonly validated: number | null;
}

/**
 * Writes the checkpoint of a position.
 *
 * @throws {LlmtsError} the weights are broken, or the disk is full: then whatever checkpoint is there stays
 */
export async function saveRun(
  { settings, trainer, loader, dataTokens }: TrainRun,
  position: RunPosition,
): Promise<void> {
  const { out } = settings;
  const { step } = position;
  const { model, optimizer: { m, v } } = trainer;
  const { config, device, master, precision } = model;
  const pieces = fp32Pieces(device, exactWeights(model).flat);
  if (!pieces.every((piece) => Number.isFinite(device.ops.globalNorm(piece)))) {
    throw new LlmtsError(`Step ${step}: the weights are no longer finite, no checkpoint is written`, {
      hint: "lower --learning-rate",
    });
  }
  const { state } = loader;
  const keepMaster = master !== null;
  checkDiskSpace(out, checkpointSize(config, { precision, keepMaster, state }));
  const { losses, norms } = trainer.windows();
  await saveCheckpoint(out, {
    model,
    stored: storedPrecision(precision, keepMaster),
    optimizer: { device, m, v, master },
    // Rounding is a hash of seed, step and element here, and has no generator; llm.c begins a new one.
    state: { step, loader: state, rounding: ROUNDING_SEED, roundingBefore: ROUNDING_SEED },
    run: {
      ...position,
      epoch: state.epoch,
      dataTokens: [...dataTokens],
      losses: { ...losses, values: [...losses.values] },
      norms: { ...norms, values: [...norms.values] },
      device: deviceWords(device.info()),
      flags: savedFlags(settings),
    },
  });
}

/** Bytes of a checkpoint. */
export function checkpointSize(
  config: GPT2Config,
  { precision, keepMaster, state }: { precision: Precision; keepMaster: boolean; state: LoaderState },
): number {
  const master = precision === "bf16" && keepMaster;
  return checkpointBytes(config, storedPrecision(precision, keepMaster)) +
    stateBytes(config, master, state.shuffle);
}

/** Weights that training keeps in bf16 only lose nothing in a file of bf16. */
function storedPrecision(precision: Precision, keepMaster: boolean): StoredPrecision {
  return precision === "bf16" && !keepMaster ? "bf16" : "fp32";
}

/** The command that goes on with the run in a folder. */
export function resumeCommand(out: string): string {
  const quoted = /^[\w./-]+$/.test(out) ? out : `'${out.replaceAll("'", `'\\''`)}'`;
  return `llmts train --resume --out ${quoted}`;
}

/** Writes the flags of a run into its folder, as `run.json`: `--config` takes them. @throws {FileError} it can't be written */
export async function writeConfig(settings: Settings): Promise<void> {
  const files = (value: string | readonly string[] | undefined): string | undefined =>
    typeof value === "object" ? value.join(",") : value;
  const { data, valData } = settings;
  const values = { ...settings, data: files(data), valData: files(valData), resume: false, overwrite: false };
  const text = effectiveConfig(FLAGS, { ...values, accept: undefined });
  await writeTextAtomically(join(settings.out, "run.json"), text);
}
