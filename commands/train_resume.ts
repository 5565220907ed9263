/**
 * What `llmts train --resume` goes on from: the newest complete checkpoint of a folder, and the flags of its run.
 *
 * @module
 */
import { resolve } from "@std/path";
import { type CheckpointFiles, checkpointFiles, completeSteps } from "../src/checkpoints.ts";
import { FileError, LlmtsError, UsageError } from "../src/errors.ts";
import { readCheckpointHeader } from "../src/io/checkpoint.ts";
import { exists } from "../src/io/files.ts";
import type { DataLoader, LoaderState } from "../src/io/loader.ts";
import { readRunState, type RunState } from "../src/io/run_state.ts";
import type { Shards } from "../src/io/shards.ts";
import { readStateHeader } from "../src/io/state.ts";
import { valueOfJson } from "./flag_value.ts";
import { flagName } from "./flags.ts";
import { dataFiles, type DataFlags } from "./train_data.ts";
import { FLAGS, type TrainFlags } from "./train_flags.ts";

/** The flags of a run, those of its checkpoint among them; data as the files it stands for, once they are known. */
export type Settings = Omit<TrainFlags, keyof DataFlags> & DataFlags;

type Property = keyof Settings;

/** Flags of an invocation, not of a run. */
const OF_INVOCATION: ReadonlySet<string> = new Set([
  "out",
  "resume",
  "accept",
  "overwrite",
  "config",
  "dryRun",
]);

/** Flags that a checkpoint's files decide: they can't be changed. */
const FIXED = ["model", "precision", "masterWeights"] as const;

/** Flags that decide what is computed: they change only when `--accept` names them. */
const DECISIVE = [
  ...["data", "shuffle", "overfit", "batchSize", "seqLen", "totalBatchSize", "learningRate", "schedule"],
  ...["warmup", "finalLrFraction", "gradClip", "weightDecay", "beta2", "seed", "skipLossZ", "skipGradZ"],
  "tf32",
] as readonly Property[];

/** The length of the run. It decides what is computed only where the learning rate's schedule goes by it. */
const LENGTH: readonly Property[] = ["steps", "epochs"];

/** A checkpoint to go on from. */
export interface Resumed {
  /** Updates made. */
  readonly step: number;
  readonly files: CheckpointFiles;
  /** What llm.c's files don't hold; undefined in a folder of llm.c's. */
  readonly run: RunState | undefined;
}

/** The flags to go on with. */
export interface ResumedSettings {
  readonly settings: Settings;
  /** Flags that may differ from the run's so far. */
  readonly accepted: ReadonlySet<Property>;
  /** Those that do. */
  readonly changed: readonly Property[];
  /** What to tell the user. */
  readonly notes: readonly string[];
}

/** The newest complete checkpoint in a folder; undefined where there is none. @throws {FileError} it can't be read */
export function findRun(folder: string): Resumed | undefined {
  const step = completeSteps(folder).at(-1);
  if (step === undefined) return undefined;
  const files = checkpointFiles(folder, step);
  const found = readStateHeader(files.state).step;
  if (found !== step) {
    throw new FileError(files.state, `says it is of step ${found}, its name of step ${step}`);
  }
  const run = exists(files.run) ? readRunState(files.run) : undefined;
  if (run !== undefined && run.step !== step) {
    throw new FileError(files.run, `says it is of step ${run.step}, its name of step ${step}`);
  }
  return { step, files, run };
}

/** An error as it is, or, of a file of the newest checkpoint where there is an older one, with how to go on from that. */
export function hintingAtOlder(error: unknown, folder: string): unknown {
  const [older, newest] = completeSteps(folder).slice(-2);
  if (!(error instanceof FileError) || older === undefined || newest === undefined) return error;
  const { run, model, state, done } = checkpointFiles(folder, newest);
  if (![run, model, state].includes(error.path)) return error;
  return new LlmtsError(error.message, {
    cause: error,
    hint: `remove "${done}" to go on from the checkpoint before it, of step ${older}`,
  });
}

/** The flags of a run as a checkpoint holds them, by name: without those that only this invocation has. */
export function savedFlags(settings: Settings): RunState["flags"] {
  const entries = Object.keys(FLAGS).filter((property) => !OF_INVOCATION.has(property)).flatMap(
    (property) => {
      const value = settings[property as Property];
      return value === undefined ? [] : [[flagName(property).slice(2), value]];
    },
  );
  return Object.fromEntries(entries);
}

/**
 * Puts the flags of a run that goes on together: those given now, else the run's own.
 *
 * @param given properties of the flags that are not there by default
 * @param accepted those that may differ from the run's so far, see {@linkcode acceptedFlags}
 * @throws {UsageError} a flag that decides what is computed has changed, and `--accept` doesn't name it
 */
export function resumeSettings(
  flags: TrainFlags,
  given: ReadonlySet<string>,
  { files, run }: Resumed,
  accepted: ReadonlySet<Property>,
): ResumedSettings {
  if (run === undefined) return { ...llmcSettings(flags, given, files), accepted };
  const settings = runSettings(files.run, run.flags);
  const merged: Record<string, unknown> = { ...flags };
  for (const property of Object.keys(FLAGS) as Property[]) {
    if (OF_INVOCATION.has(property) || given.has(property)) continue;
    // One of the two lengths that is given takes the place of the other.
    const replaced = LENGTH.includes(property) && LENGTH.some((other) => given.has(other));
    merged[property] = replaced ? undefined : settings[property] ?? flags[property];
  }
  const next = merged as unknown as Settings;

  const changed = [...FIXED, ...DECISIVE, ...LENGTH, "valData" as const, "valTokens" as const].filter(
    (property) => !sameValue(property, settings[property], next[property]),
  );
  const list = (properties: readonly Property[]): string =>
    properties.map((property) =>
      `${flagName(property)} ${shown(next[property])} (was ${shown(settings[property])})`
    ).join(", ");
  const fixed = changed.filter((property) => (FIXED as readonly Property[]).includes(property));
  if (fixed.length > 0) {
    throw new UsageError(`The run in "${flags.out}" can't go on with ${list(fixed)}`, {
      hint: `leave that out; to start anew from its weights: --model ${files.model} and another --out`,
    });
  }
  const decisive = next.schedule === "constant" ? DECISIVE : [...DECISIVE, ...LENGTH];
  const refused = changed.filter((property) => decisive.includes(property) && !accepted.has(property));
  if (refused.length > 0) {
    throw new UsageError(`The run in "${flags.out}" had other flags: ${list(refused)}`, {
      hint: `leave them out to go on as before, or accept the change: ${
        acceptFlag([...accepted, ...refused])
      }`,
    });
  }
  return {
    settings: next,
    accepted,
    changed,
    notes: changed.length === 0 ? [] : [`changed since the checkpoint: ${list(changed)}`],
  };
}

/** The flags that a checkpoint holds. @throws {FileError} one has a value that the flag doesn't take */
function runSettings(path: string, saved: RunState["flags"]): Settings {
  const values: Record<string, unknown> = {};
  for (const [property, flag] of Object.entries(FLAGS)) {
    const name = flagName(property).slice(2);
    const value = saved[name];
    if (value === undefined) {
      if ("default" in flag) values[property] = flag.default; // the run is older than the flag
      continue;
    }
    const isList = (property === "data" || property === "valData") && Array.isArray(value);
    values[property] = isList ? value : valueOfJson(flag, value);
    if (values[property] === undefined) {
      throw new FileError(
        path,
        `has ${JSON.stringify(value)} for the flag "${name}", which doesn't take that`,
      );
    }
  }
  return values as unknown as Settings;
}

/** What can be known of a run whose checkpoint has no flags, llm.c's say: what its files show. */
function llmcSettings(
  flags: TrainFlags,
  given: ReadonlySet<string>,
  files: CheckpointFiles,
): Omit<ResumedSettings, "accepted"> {
  const { hasMaster, shuffles } = readStateHeader(files.state);
  const { stored } = readCheckpointHeader(files.model);
  const settings: Settings = {
    ...flags,
    precision: given.has("precision") ? flags.precision : stored,
    masterWeights: given.has("masterWeights") || hasMaster ? flags.masterWeights : "no",
    shuffle: flags.shuffle || shuffles,
  };
  const assumed = [
    `--precision ${settings.precision}`,
    ...(settings.precision === "bf16" ? [`--master-weights ${settings.masterWeights}`] : []),
    ...(settings.shuffle ? ["--shuffle"] : []),
  ];
  return {
    settings,
    changed: [],
    notes: [
      `"${files.run}" isn't there, so the flags of the run so far are not known: it goes on with those given now, ` +
      `or their defaults, and what its files show: ${assumed.join(" ")}`,
      "assumed: the same --batch-size, --seq-len, --total-batch-size and --data so far; empty windows of losses and norms. " +
      `AdamW goes on with a beta2 of ${settings.beta2}` +
      (given.has("beta2") ? "" : "; llm.c's on a GPU had --beta2 0.95"),
    ],
  };
}

/** The properties that `--accept` names. @throws {UsageError} one is no flag that could be refused */
export function acceptedFlags(names: string | undefined): ReadonlySet<Property> {
  const known = new Map(
    [...DECISIVE, ...LENGTH].map((property) => [flagName(property).slice(2), property]),
  );
  return new Set(
    (names ?? "").split(",").map((name) => name.trim()).filter((name) => name !== "").map((name) => {
      const property = known.get(name.replace(/^--/, ""));
      if (property !== undefined) return property;
      throw new UsageError(`--accept names "${name}", expected names of flags that decide what is computed`, {
        hint: `these: ${[...known.keys()].join(",")}`,
      });
    }),
  );
}

function acceptFlag(properties: readonly Property[]): string {
  return `--accept ${properties.map((property) => flagName(property).slice(2)).join(",")}`;
}

/**
 * Whether files of a run's data have more or fewer tokens than they had, which `--accept data` allows.
 *
 * @throws {FileError} they have, and it isn't accepted
 */
export function dataHasChanged(
  { paths, lengths }: Shards,
  run: RunState | undefined,
  accepted: ReadonlySet<Property>,
): boolean {
  const before = run?.dataTokens ?? lengths;
  const at = lengths.findIndex((length, shard) => length !== before[shard]);
  if (at < 0 || accepted.has("data")) return at >= 0;
  throw new FileError(paths[at]!, `has ${lengths[at]} tokens, and had ${before[at]} in the run so far`, {
    hint: `put back the file as it was, or let the data start over: ${acceptFlag([...accepted, "data"])}`,
  });
}

function sameValue(property: Property, before: unknown, now: unknown): boolean {
  if (property !== "data" && property !== "valData") return before === now;
  const files = (value: unknown): string =>
    JSON.stringify(dataFiles((value ?? []) as string | readonly string[]).map((path) => resolve(path)));
  return files(before) === files(now);
}

function shown(value: unknown): string {
  if (value === undefined) return "not given";
  return Array.isArray(value) ? value.join(",") : String(value);
}

/**
 * Puts the data loader where it was. Where batches of another shape are accepted it goes to the same token; where other data
 * or another order, the data starts over.
 *
 * @param tokens in a batch of the run so far; its last position is in those
 * @returns what to tell the user, if anything
 */
export function resumeLoader(
  loader: DataLoader,
  state: LoaderState,
  { startsOver, changed, tokens, now }: {
    startsOver: boolean;
    changed: readonly Property[];
    tokens: number;
    now: number;
  },
): string | undefined {
  const shape = changed.includes("batchSize") || changed.includes("seqLen");
  if (startsOver || changed.includes("shuffle") || (shape && state.shuffle !== null)) {
    return "the training data starts over";
  }
  const sample = shape ? Math.floor((state.sample + 1) * tokens / now) - 1 : state.sample;
  loader.state = { ...state, sample };
  return undefined;
}
