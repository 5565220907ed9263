/**
 * Where the tensors of a Hugging Face model are: in one safetensors file, or in several with an index beside them.
 *
 * @module
 */
import { join } from "@std/path";
import { FileError } from "../../errors.ts";
import { exists, isFolder } from "../files.ts";
import { openSafetensors, type SafetensorsEntry, type SafetensorsFile } from "../safetensors.ts";
import { readText } from "../text.ts";

/** Hugging Face's file names. */
export const CONFIG_FILE = "config.json";
export const WEIGHTS_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";

/** A tensor in one of the files. */
export interface StoredTensor extends SafetensorsEntry {
  /** The file that holds it. */
  readonly file: string;
  /** Fills `out` with its numbers from the one at index `first` on. */
  read(first: number, out: Float32Array<ArrayBuffer>): void;
}

/** All tensors of a model. Close it with `using` or `[Symbol.dispose]()`. */
export interface Weights extends Disposable {
  /** By name without the prefixes of whatever wrapped the model; `lm_head.weight` and `wte.weight` are two. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** The metadata of a model in a single file. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** What PyTorch's wrappers, and GPT2LMHeadModel itself, put before the names of GPT2Model. */
const PREFIX = /^(transformer\.|module\.|_orig_mod\.)+/;

/** Causal masks, which old versions of transformers saved along. */
const MASK = /^h\.\d+\.attn\.(bias|masked_bias)$/;

/**
 * Opens the weights of a model and checks the headers of all files.
 *
 * @param path a safetensors file, or a folder with model.safetensors or model.safetensors.index.json
 * @throws {FileError} a file is missing or damaged, or two tensors have the same name
 */
export function openWeights(path: string): Weights {
  const files: SafetensorsFile[] = [];
  const dispose = (): void => files.forEach((file) => file[Symbol.dispose]());
  try {
    const tensors = new Map<string, StoredTensor>();
    for (const { file: name, holds } of weightFiles(path)) {
      const file = openSafetensors(name);
      files.push(file);
      const missing = holds.find((tensor) => !file.entries.has(tensor));
      if (missing !== undefined) {
        throw new FileError(name, `has no tensor "${missing}", which ${INDEX_FILE} says is in it`);
      }
      for (const entry of file.entries.values()) {
        const bare = entry.name.replace(PREFIX, "");
        if (MASK.test(bare)) continue;
        const other = tensors.get(bare);
        if (other !== undefined) {
          throw new FileError(
            name,
            `tensor "${entry.name}" is there twice: "${other.name}" in "${other.file}"`,
          );
        }
        const read: StoredTensor["read"] = (first, out) => file.read(entry.name, first, out);
        tensors.set(bare, { ...entry, file: name, read });
      }
    }
    return {
      tensors,
      metadata: files.length === 1 ? files[0]!.metadata : new Map(),
      [Symbol.dispose]: dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** The files of a model and the tensors that each must hold. */
function weightFiles(path: string): { file: string; holds: readonly string[] }[] {
  if (!isFolder(path)) return [{ file: path, holds: [] }];
  const single = join(path, WEIGHTS_FILE);
  if (exists(single)) return [{ file: single, holds: [] }];
  const index = join(path, INDEX_FILE);
  if (exists(index)) {
    return [...readIndex(index)].map(([shard, holds]) => {
      const file = join(path, shard);
      if (exists(file)) return { file, holds };
      throw new FileError(file, `is missing, ${INDEX_FILE} beside it calls for it`, {
        hint: "download it, or the whole model with llmts download",
      });
    });
  }
  throw new FileError(path, `holds no ${WEIGHTS_FILE} and no ${INDEX_FILE}`, {
    hint: exists(join(path, "pytorch_model.bin"))
      ? "pytorch_model.bin is read only by PyTorch: save_pretrained of a new transformers writes safetensors"
      : "llmts download fetches a model",
  });
}

/**
 * The files that an index names, and which tensors each holds.
 *
 * @throws {FileError} it is no index
 */
export function readIndex(path: string): ReadonlyMap<string, readonly string[]> {
  const shards = new Map<string, string[]>();
  const text = readText(path);
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (cause) {
    throw new FileError(path, `can't be read as JSON: ${(cause as Error).message}`, { cause });
  }
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== "object" || map === null) {
    throw new FileError(path, "has no weight_map, expected an index of safetensors files");
  }
  for (const [tensor, shard] of Object.entries(map)) {
    // The name becomes a path: nothing outside the folder may be meant.
    if (typeof shard !== "string" || !/^[\w.-]+\.safetensors$/.test(shard)) {
      throw new FileError(
        path,
        `tensor "${tensor}" is in ${JSON.stringify(shard)}, expected a .safetensors file`,
      );
    }
    const tensors = shards.get(shard);
    if (tensors === undefined) shards.set(shard, [tensor]);
    else tensors.push(tensor);
  }
  return shards;
}

/** Whether a path is a folder that Hugging Face's files say is a model. */
export function isHuggingFaceFolder(path: string): boolean {
  return isFolder(path) && [CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE].some((name) => exists(join(path, name)));
}
