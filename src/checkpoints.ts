/**
 * The folder of a run's checkpoints. One is a set of files named by its step: `run_` (what llm.c's format can't hold),
 * `model_` and `state_`, then the empty `DONE_`, whose presence says that the set is whole. `run_` comes first and goes
 * last: without `DONE_` it marks a set that this program left unfinished, and may clear away.
 *
 * @module
 */
import { statfsSync } from "node:fs";
import { join } from "@std/path";
import { format } from "@std/fmt/bytes";
import { LlmtsError } from "./errors.ts";
import { checkpointPath, type StoredPrecision, writeCheckpoint } from "./io/checkpoint.ts";
import { exists, folderEntries, removeFile, writeFileAtomically } from "./io/files.ts";
import { type RunState, writeRunState } from "./io/run_state.ts";
import { type OptimizerTensors, type TrainingState, writeState } from "./io/state.ts";
import type { Model } from "./model.ts";

/** Paths of the files of a checkpoint. */
export interface CheckpointFiles {
  readonly run: string;
  readonly model: string;
  readonly state: string;
  readonly done: string;
}

/** What a checkpoint holds. */
export interface CheckpointContent {
  readonly model: Model;
  readonly stored: StoredPrecision;
  readonly optimizer: OptimizerTensors;
  readonly state: TrainingState;
  readonly run: RunState;
}

/** Which checkpoints stay when others are deleted. */
export interface Retention {
  /** How many of the newest stay; 0: all. */
  readonly keep: number;
  /** Steps that are multiples of it stay; 0: none do for that. */
  readonly majorEvery: number;
  /** A step that stays: that of the best validation loss. */
  readonly best?: number | undefined;
}

/** The files of the checkpoint of a step. */
export function checkpointFiles(folder: string, step: number): CheckpointFiles {
  const number = String(step).padStart(8, "0");
  return {
    run: join(folder, `run_${number}.json`),
    model: checkpointPath(folder, step),
    state: join(folder, `state_${number}_00000.bin`),
    done: join(folder, `DONE_${number}`),
  };
}

/** Steps of the complete checkpoints in a folder, ascending: those with model, state and DONE. */
export function completeSteps(folder: string): number[] {
  return stepsOf(folder, /^DONE_(\d{8})$/).filter((step) => {
    const { model, state } = checkpointFiles(folder, step);
    return exists(model) && exists(state);
  });
}

/**
 * Steps of the models in a folder that no run goes on from, ascending: a user's copies, or checkpoints whose state is gone.
 * Models of sets that this program left unfinished don't count.
 */
export function loneModels(folder: string): number[] {
  const complete = completeSteps(folder);
  return stepsOf(folder, /^model_(\d{8})\.bin$/).filter((step) =>
    !complete.includes(step) && !isUnfinished(folder, step)
  );
}

/** Whether there is a set of that step that was begun and has no DONE. */
function isUnfinished(folder: string, step: number): boolean {
  const { run, done } = checkpointFiles(folder, step);
  return exists(run) && !exists(done);
}

/**
 * Takes a folder for this process until the claim is disposed of: two runs would mix their checkpoints. The system
 * forgets it when the process ends, however that happens. Where it knows no locks of folders, nothing is claimed.
 *
 * @throws {LlmtsError} another process has it
 */
export function claimFolder(folder: string): Disposable {
  const nothing = { [Symbol.dispose](): void {} };
  let descriptor: Deno.FsFile;
  try {
    descriptor = Deno.openSync(folder);
  } catch {
    return nothing; // Windows opens no folders; what else is wrong shows when files are written
  }
  let claimed: boolean;
  try {
    claimed = descriptor.tryLockSync(true);
  } catch {
    claimed = true; // some network file systems have no locks
  }
  if (claimed) return descriptor;
  descriptor.close();
  throw new LlmtsError(`Another llmts is training into "${folder}"`, {
    hint: "wait until it is done, or give another --out",
  });
}

/**
 * Writes the checkpoint of `state.step`. If that fails or is killed half way, the folder has no DONE of that step, and
 * every other checkpoint is as it was.
 *
 * @throws {FileError} it can't be written
 */
export async function saveCheckpoint(folder: string, content: CheckpointContent): Promise<void> {
  const { model, stored, optimizer, state, run } = content;
  const files = checkpointFiles(folder, state.step);
  removeFile(files.done);
  await writeRunState(files.run, run);
  await writeCheckpoint(files.model, model, stored);
  await writeState(files.state, optimizer, state);
  await writeFileAtomically(files.done, () => {});
}

/**
 * Deletes the complete checkpoints that need not stay.
 *
 * @returns their steps
 */
export function pruneCheckpoints(folder: string, { keep, majorEvery, best }: Retention): number[] {
  if (keep === 0) return [];
  const surplus = completeSteps(folder).slice(0, -keep).filter((step) =>
    step !== best && !(majorEvery > 0 && step % majorEvery === 0)
  );
  for (const step of surplus) deleteCheckpoint(folder, step);
  return surplus;
}

/** Deletes a checkpoint, DONE first: whenever this is stopped, what is left is no whole checkpoint. */
export function deleteCheckpoint(folder: string, step: number): void {
  const { run, model, state, done } = checkpointFiles(folder, step);
  for (const path of [done, model, state, run]) removeFile(path);
}

/**
 * Clears away what a killed run left: temporary files, and sets that were begun and have no DONE. Files of others,
 * models without a run_ file of their step among them, stay.
 */
export function removeLeftovers(folder: string): void {
  const temporary =
    /^\.(run(_\d{8})?\.json|(model|state)_\d{8}(_\d{5})?\.bin|DONE_\d{8}|main\.log|metrics\.jsonl)\.[0-9a-f]{8}\.tmp$/;
  for (const name of fileNames(folder)) if (temporary.test(name)) removeFile(join(folder, name));
  for (const step of stepsOf(folder, /^run_(\d{8})\.json$/)) {
    if (isUnfinished(folder, step)) deleteCheckpoint(folder, step);
  }
}

/**
 * Checks that a folder's disk has room for so many bytes, where the system says how much there is.
 *
 * @throws {LlmtsError} it has not
 */
export function checkDiskSpace(folder: string, bytes: number): void {
  let free: number;
  try {
    const { bavail, bsize, blocks } = statfsSync(folder);
    if (blocks === 0) return; // file systems without a size of their own
    free = bavail * bsize;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error; // else the check would never be made, and nobody know
    return; // writing will say what is wrong with the folder
  }
  if (bytes <= free) return;
  const binary = { binary: true };
  throw new LlmtsError(
    `A checkpoint takes ${format(bytes, binary)}, the disk of "${folder}" has ${format(free, binary)} left`,
    { hint: "delete files, keep fewer checkpoints with --keep, or give another --out" },
  );
}

function stepsOf(folder: string, pattern: RegExp): number[] {
  return fileNames(folder).flatMap((name) => {
    const step = pattern.exec(name)?.[1];
    return step === undefined ? [] : [Number(step)];
  }).sort((a, b) => a - b);
}

function fileNames(folder: string): string[] {
  if (!exists(folder)) return [];
  return folderEntries(folder).filter(({ isFile }) => isFile).map(({ name }) => name);
}
