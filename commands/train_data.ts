/**
 * Which token files `llmts train` reads when it isn't told, or told only half.
 *
 * @module
 */
import { resolve } from "@std/path";
import { LlmtsError } from "../src/errors.ts";
import { corpusPaths } from "../src/data/corpus.ts";
import { TINY_SHAKESPEARE, writeTinyShakespeare } from "../src/data/tinyshakespeare.ts";
import { assetPath } from "../src/io/assets.ts";
import { exists } from "../src/io/files.ts";
import { gpt2Tokenizer } from "../src/io/tokenizer.ts";

/** Token files to train on. */
export interface TrainingData {
  readonly train: string;
  /** Undefined: there is nothing to validate on. */
  readonly val: string | undefined;
  /** One line on where they come from, where that isn't what the flags say. */
  readonly note: string | undefined;
}

/** Folder that tiny Shakespeare is looked for in, and downloaded to. */
const DATA_FOLDER = "data";
/** The built-in corpus, in the folder of assets. */
const BUILT_IN = { train: "moby_dick_train.bin", val: "moby_dick_val.bin", title: "Moby Dick" };
/** A first run shouldn't wait long for a network that isn't there. */
const DOWNLOAD_TIMEOUT_MS = 5000;

/**
 * The files to use. Without `data`: tiny Shakespeare, which is downloaded if need be; without a network, the built-in
 * corpus. Without `valData`: the file beside the training data that is named alike, with `val` for `train`.
 */
export async function chooseData(
  { data, valData }: { data: string | undefined; valData: string | undefined },
): Promise<TrainingData> {
  if (data === undefined) {
    const chosen = await defaultData();
    return { ...chosen, val: valData ?? chosen.val };
  }
  if (valData !== undefined) {
    const same = resolve(valData) === resolve(data);
    return { train: data, val: valData, note: same ? "validation uses the training data" : undefined };
  }
  const val = data.replace(/(.*)train(?=[^/\\]*$)/s, "$1val");
  if (val !== data && exists(val)) return { train: data, val, note: `validation data: ${val}` };
  return { train: data, val: undefined, note: "no validation: there is no --val-data" };
}

async function defaultData(): Promise<TrainingData> {
  for (const folder of [DATA_FOLDER, "."]) {
    const paths = corpusPaths(folder, TINY_SHAKESPEARE);
    if (exists(paths.train) && exists(paths.val)) {
      return { ...paths, note: `data: tiny Shakespeare, ${paths.train}` };
    }
  }
  try {
    const { train, val } = await writeTinyShakespeare({
      folder: DATA_FOLDER,
      tokenizer: await gpt2Tokenizer(),
      timeoutMs: DOWNLOAD_TIMEOUT_MS,
    });
    return { train, val, note: `data: tiny Shakespeare, downloaded to ${train}` };
  } catch (error) {
    if (!(error instanceof LlmtsError)) throw error;
    return {
      train: assetPath(BUILT_IN.train),
      val: assetPath(BUILT_IN.val),
      note:
        `data: the built-in corpus, ${BUILT_IN.title}; tiny Shakespeare isn't here and can't be downloaded`,
    };
  }
}
