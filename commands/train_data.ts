/**
 * Which token files `llmts train` reads when it isn't told, or told only half.
 *
 * @module
 */
import { FileError, LlmtsError, UsageError } from "../src/errors.ts";
import { BUILT_IN, BUILT_IN_TITLE, lastingName, tokenFile } from "../src/data/builtin.ts";
import { corpusPaths } from "../src/data/corpus.ts";
import { TINY_SHAKESPEARE, writeTinyShakespeare } from "../src/data/tinyshakespeare.ts";
import { exists } from "../src/io/files.ts";
import { commonFile, findShards } from "../src/io/shards.ts";
import { gpt2Tokenizer } from "../src/io/tokenizer.ts";

/** Token files to train on. */
export interface TrainingData {
  readonly train: readonly string[];
  /** Empty: there is nothing to validate on. */
  readonly val: readonly string[];
  /** One line on where they come from, where that isn't what the flags say. */
  readonly note: string | undefined;
  /** The files by the names that a run keeps. */
  readonly names: DataFlags;
}

/** What `--data` and `--val-data` say; a list, as a checkpoint has it, is of files. */
export interface DataFlags {
  readonly data: string | readonly string[] | undefined;
  readonly valData: string | readonly string[] | undefined;
}

/** Folder that tiny Shakespeare is looked for in, and downloaded to. */
const DATA_FOLDER = "data";
/** A first run shouldn't wait long for a network that isn't there. */
const DOWNLOAD_TIMEOUT_MS = 5000;

/**
 * The files to use. Without `data`: tiny Shakespeare, which is downloaded if need be; without a network, the built-in
 * corpus. Without `valData`: what is beside the training data and named alike, with `val` for `train`; of several names
 * some may have none, which the note says.
 *
 * @throws {FileError} a pattern stands for no file
 * @throws {UsageError} a list has an empty name
 */
export async function chooseData(flags: DataFlags): Promise<TrainingData> {
  const { train, val, note } = await chooseNames(flags);
  return {
    train: train.map(tokenFile),
    val: val.map(tokenFile),
    note,
    names: { data: train, valData: val.length > 0 ? val : undefined },
  };
}

/** The same by the names that a run keeps. */
async function chooseNames({ data, valData }: DataFlags): Promise<Omit<TrainingData, "names">> {
  if (data === undefined) {
    const chosen = await defaultData();
    return valData === undefined ? chosen : { ...chosen, val: fileNames(valData) };
  }
  const train = fileNames(data);
  const { files: val, note } = valData === undefined
    ? valBeside(data)
    : { files: fileNames(valData), note: undefined };
  const common = commonFile(train.map(tokenFile), val.map(tokenFile));
  const notes = [note, common && `validation uses training data: ${common}`].filter((text) =>
    text !== undefined
  );
  return { train, val, note: notes.length > 0 ? notes.join("; ") : undefined };
}

/**
 * The files that a flag's value stands for: a file, a pattern, a name of the built-in corpus, or several with commas
 * between.
 *
 * @throws {UsageError} a name is empty, or of nothing built in
 */
export function dataFiles(names: string | readonly string[]): string[] {
  return fileNames(names).map(tokenFile);
}

/** The files that a flag's value stands for, by the names that a run keeps. */
function fileNames(names: string | readonly string[]): string[] {
  return (typeof names === "string" ? findShards(listed(names)) : names).map(lastingName);
}

/**
 * The names in a flag's value. Commas inside of a pattern's {a,b} are the pattern's, and a file's name may have some too.
 *
 * @throws {UsageError} a name is empty
 */
function listed(value: string): string[] {
  if (exists(value)) return [value];
  const names = value.split(/,(?!(?:[^{}]|\{[^{}]*\})*\})/);
  if (names.every((name) => name.trim() !== "")) return names;
  throw new UsageError(`The list of files "${value}" has an empty name`, {
    hint: "commas stand between names only",
  });
}

/** What is beside training data by its names and patterns with `val` for `train`; a list of files has had its own. */
function valBeside(data: string | readonly string[]): { files: readonly string[]; note: string } {
  const names = typeof data === "string" ? listed(data) : [];
  const found = names.map(filesBeside);
  const files = findShards(found.flat());
  if (files.length === 0) return { files, note: "no validation: there is no --val-data" };
  const without = names.filter((_, i) => found[i]!.length === 0);
  const none = without.length > 0 ? `; none beside ${without.join(", ")}` : "";
  return { files, note: `validation data: ${files.join(", ")}${none}` };
}

/** The files by one name or pattern with `val` for `train`. */
function filesBeside(name: string): string[] {
  const other = name.replace(/(.*)train(?=[^/\\]*$)/s, "$1val");
  if (other === name) return [];
  try {
    return findShards([other]).map(lastingName).filter((path) => exists(tokenFile(path)));
  } catch (error) {
    if (error instanceof FileError) return [];
    throw error;
  }
}

async function defaultData(): Promise<Omit<TrainingData, "names">> {
  for (const folder of [DATA_FOLDER, "."]) {
    const paths = corpusPaths(folder, TINY_SHAKESPEARE);
    if (exists(paths.train) && exists(paths.val)) {
      return { train: [paths.train], val: [paths.val], note: `data: tiny Shakespeare, ${paths.train}` };
    }
  }
  try {
    const { train, val } = await writeTinyShakespeare({
      folder: DATA_FOLDER,
      tokenizer: await gpt2Tokenizer(),
      timeoutMs: DOWNLOAD_TIMEOUT_MS,
    });
    return { train: [train], val: [val], note: `data: tiny Shakespeare, downloaded to ${train}` };
  } catch (error) {
    if (!(error instanceof LlmtsError)) throw error;
    return {
      train: [BUILT_IN.train],
      val: [BUILT_IN.val],
      note:
        `data: the built-in corpus, ${BUILT_IN_TITLE}; tiny Shakespeare isn't here and can't be downloaded`,
    };
  }
}
