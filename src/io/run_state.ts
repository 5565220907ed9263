/**
 * The part of a run's state that llm.c's files have no room for, `run_00000040.json`: one JSON object beside the model and
 * the optimizer state of that step. A folder without it, llm.c's say, resumes all the same: counters are worked out from
 * the step then, and windows start empty. Samples need no state: each starts from the run's seed.
 *
 * @module
 */
import * as z from "zod";
import { FileError } from "../errors.ts";
import { openForReading, readFully, writeTextAtomically } from "./files.ts";

const FORMAT = "llmts run state";
/** 1 came with state files whose sample was the one read last, where llm.c's is the next. */
const VERSION = 2;

const count = z.int().min(0);
const outliers = z.object({
  values: z.array(z.number()),
  next: count,
  sum: z.number(),
  sumOfSquares: z.number(),
});
const flag = z.union([z.string(), z.number(), z.boolean(), z.array(z.string())]);

const schema = z.strictObject({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  /** Updates made, those skipped as outliers included. */
  step: count,
  /** Tokens trained on. */
  tokens: count,
  /** Epochs of the training data completed. */
  epoch: count,
  /** Tokens in each of its files. Earlier versions didn't write it. */
  dataTokens: z.array(count).optional(),
  /** The lowest validation loss so far, and the step it was measured at. */
  best: z.object({ loss: z.number(), step: count }).nullable(),
  /** The step of the last validation. */
  validated: count.nullable(),
  /** Windows of the outlier detectors. */
  losses: outliers,
  norms: outliers,
  /** What computed, in words; runs of earlier versions don't say. */
  device: z.string().optional(),
  /** The flags the run has, by name. */
  flags: z.record(z.string(), flag),
});

/** See the module. */
export type RunState = Omit<z.infer<typeof schema>, "format" | "version">;

/** Writes a run state, whole or not at all. @throws {FileError} it can't be written */
export async function writeRunState(path: string, state: RunState): Promise<void> {
  // Checked here too: JSON would write a NaN as null, and the file could not be read.
  const checked = schema.parse({ format: FORMAT, version: VERSION, ...state });
  await writeTextAtomically(path, JSON.stringify(checked) + "\n");
}

/** Reads a run state. @throws {FileError} it can't be read, or is not one */
export function readRunState(path: string): RunState {
  using file = openForReading(path);
  const bytes = new Uint8Array(file.statSync().size);
  readFully(file, bytes);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new FileError(path, `is not JSON: ${(cause as Error).message}`, { cause });
  }
  const { success, data, error } = schema.safeParse(json);
  if (!success) {
    const { path: [...keys], message } = error.issues[0]!;
    const where = keys.length === 0 ? "" : ` at "${keys.join(".")}"`;
    throw new FileError(path, `is not a run state of version ${VERSION}${where}: ${message}`, {
      hint: "a run of an earlier llmts can't go on; its model_ file can be trained further with --model",
    });
  }
  const { format: _format, version: _version, ...state } = data;
  return state;
}
