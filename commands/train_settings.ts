/**
 * The flags of `llmts train` put together and checked, and what follows from them by arithmetic.
 *
 * @module
 */
import { checkpointFiles, completeSteps, loneModels } from "../src/checkpoints.ts";
import { UsageError } from "../src/errors.ts";
import { exists } from "../src/io/files.ts";
import { findModel } from "../src/load.ts";
import { GPT2_CHECKPOINT, MOST_STEPS, SMALL_PRESET, STEPS, type TrainFlags } from "./train_flags.ts";
import {
  acceptedFlags,
  type Resumed,
  type ResumedSettings,
  resumeSettings,
  type Settings,
} from "./train_resume.ts";

/** The flags to train with: those given, or those of the run that goes on. @throws {UsageError} they contradict */
export function runSettings(
  flags: TrainFlags,
  given: ReadonlySet<string>,
  resumed: Resumed | undefined,
): ResumedSettings {
  if (flags.resume && flags.overwrite) {
    throw new UsageError("--resume goes on with a run, --overwrite deletes it", { hint: "give one of them" });
  }
  if (flags.accept !== undefined && !flags.resume) {
    throw new UsageError("--accept is for runs that go on: there is no --resume", { hint: "leave it out" });
  }
  if (flags.steps !== undefined && flags.epochs !== undefined) {
    throw new UsageError("--steps and --epochs both say how long to train", { hint: "give one of them" });
  }
  const accepted = acceptedFlags(flags.accept);
  const run = resumed
    ? resumeSettings(flags, given, resumed, accepted)
    : { settings: flags, accepted, changed: [], notes: freshNotes(flags) };
  const { settings } = run;
  if (settings.overfit && settings.shuffle) {
    throw new UsageError("--overfit takes the same batches in each step, --shuffle others", {
      hint: "leave --shuffle out",
    });
  }
  if (settings.keepBest && settings.valEvery === 0) throw keepBestError("--val-every is 0");
  return run;
}

/** @throws {UsageError} the folder has a run that a new one would mix with */
function freshNotes({ out, resume, overwrite }: TrainFlags): string[] {
  const [newest, lone] = overwrite ? [] : [completeSteps(out).at(-1), loneModels(out).at(-1)];
  if (newest !== undefined) {
    throw new UsageError(`"${out}" has a run's checkpoints, up to step ${newest}`, {
      hint:
        "--resume goes on with that run, --overwrite deletes it and starts anew, --out takes another folder",
    });
  }
  if (lone !== undefined) {
    const { model, state, done } = checkpointFiles(out, lone);
    const missing = exists(state) ? done : state;
    throw new UsageError(`"${model}" is there without "${missing}": its run can't go on`, {
      hint:
        `--model ${model} and another --out train its weights further, --overwrite deletes it and starts anew`,
    });
  }
  return resume ? [`no complete checkpoint in "${out}" to go on from: starting`] : [];
}

/** For a run without validation. */
export function keepBestError(why: string): UsageError {
  return new UsageError(`--keep-best goes by the validation loss, but ${why}`, { hint: "leave it out" });
}

/** Batches in a step. @throws {UsageError} `--total-batch-size` is not a whole number of them */
export function microBatches({ batchSize: B, seqLen: T, totalBatchSize }: Settings): number {
  if (totalBatchSize === undefined) return 1;
  const count = totalBatchSize / (B * T);
  if (Number.isInteger(count)) return count;
  const around = [Math.floor(count), Math.ceil(count)].filter((n) => n > 0).map((n) => n * B * T);
  throw new UsageError(
    `--total-batch-size is ${totalBatchSize}, expected a multiple of --batch-size × --seq-len = ${B} × ${T} = ${
      B * T
    }`,
    { hint: `--total-batch-size ${around.join(" or ")}` },
  );
}

/** Steps of the whole run. @throws {UsageError} so few epochs make no step */
export function stepCount({ steps, epochs }: Settings, batches: number, accumulation: number): number {
  if (epochs === undefined) return steps ?? STEPS;
  // Rounded first: 0.29 · 100 is a little less than 29 in binary.
  const count = Math.floor(Number((epochs * batches / accumulation).toPrecision(12)));
  if (count > MOST_STEPS) {
    throw new UsageError(`--epochs ${epochs} are ${count} steps, expected at most ${MOST_STEPS}`, {
      hint: "lower --epochs",
    });
  }
  if (count > 0) return count;
  throw new UsageError(
    `--epochs ${epochs} is no step: an epoch has ${batches} batches, a step takes ${accumulation}`,
    { hint: "lower --total-batch-size, or give more data" },
  );
}

/** What to make the model from: what `--model` names, or the default. @throws {FileError} there is no such thing */
export function chooseModel(name: string | undefined): string {
  if (name !== undefined) return findModel(name);
  return exists(GPT2_CHECKPOINT) ? GPT2_CHECKPOINT : SMALL_PRESET;
}

/** How many of the steps 1 … `steps` are multiples of `every`, or the last. */
export function timesDue(steps: number, every: number): number {
  return every === 0 ? 1 : Math.ceil(steps / every);
}

/**
 * Checkpoints that lie on the disk after `steps` steps. With `--keep-best`, which writes more of them the more often
 * validation finds a better loss, what they are at most.
 */
export function checkpointsKept(settings: Settings, steps: number): number {
  const { checkpointEvery, keep, majorEvery, valEvery, keepBest } = settings;
  if (keepBest) {
    const written = Math.min(steps, timesDue(steps, checkpointEvery) + timesDue(steps, valEvery));
    const majors = majorEvery > 0 ? Math.floor(steps / majorEvery) : 0;
    return keep === 0 ? written : Math.min(written, keep + majors + 1);
  }
  const written = timesDue(steps, checkpointEvery);
  if (keep === 0) return written;
  // Those before the newest are multiples of --checkpoint-every; majors are what is left of them.
  const before = Math.max(0, written - keep) * checkpointEvery;
  const majors = before > 0 && majorEvery > 0
    ? Math.floor(before / commonMultiple(checkpointEvery, majorEvery))
    : 0;
  return Math.min(keep, written) + majors;
}

/** The least common multiple of two positive numbers. */
function commonMultiple(a: number, b: number): number {
  let [divisor, rest] = [a, b];
  while (rest > 0) [divisor, rest] = [rest, divisor % rest];
  return a / divisor * b;
}
