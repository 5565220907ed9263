/**
 * GPT-2 models from the Hugging Face hub, or a server with the same addresses.
 *
 * @module
 */
import { join } from "@std/path";
import { RELEASED } from "./config.ts";
import { FileError, LlmtsError, UsageError } from "./errors.ts";
import { downloadFile, type DownloadOptions, inspectRemote, type RemoteFile } from "./io/download.ts";
import { makeFolder } from "./io/files.ts";
import {
  CONFIG_FILE,
  INDEX_FILE,
  parseConfig,
  readIndex,
  TOKENIZER_FILES,
  WEIGHTS_FILE,
} from "./io/hugging_face.ts";
import { readText } from "./io/text.ts";

/** The hub. */
export const HUB = "https://huggingface.co";

/** Who publishes the released sizes. */
const OWNER = "openai-community";

const HINT = "download the model's files by other means and give their folder as --model";

/** A file of the model that is there now. */
export interface DownloadedFile extends RemoteFile {
  readonly path: string;
  /** False: it was there before. */
  readonly downloaded: boolean;
}

/** What {@linkcode downloadModel} takes. */
export interface ModelDownload extends Omit<DownloadOptions, "onProgress" | "hint"> {
  /** As {@linkcode repositoryOf} gives it. */
  readonly repository: string;
  readonly folder: string;
  readonly baseUrl?: string;
  /** Is told how many bytes of a file are there. */
  readonly onProgress?: (file: string, done: number, size: number | undefined) => void;
  /** Is told of each file that is whole. */
  readonly onFile?: (file: DownloadedFile) => void;
}

/**
 * The repository that a name stands for: a released size, or OWNER/NAME.
 *
 * @throws {UsageError} it is neither
 */
export function repositoryOf(name: string): string {
  if (RELEASED.includes(name)) return `${OWNER}/${name}`;
  if (/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(name)) return name;
  throw new UsageError(`No model is called "${name}", expected ${RELEASED.join(", ")} or OWNER/NAME`);
}

/**
 * Downloads config.json and the safetensors of a model, in one file or several, and what there is of its tokenizer. What is
 * there already is kept, what was cut off goes on. The config comes first: a model that llmts can't compute is refused
 * before its weights.
 *
 * @throws {LlmtsError} a file can't be had
 * @throws {FileError} a file came damaged or can't be written, or the model is one that llmts can't compute
 */
export async function downloadModel(
  { repository, folder, baseUrl = HUB, onProgress, onFile, timeoutMs, delaysMs }: ModelDownload,
): Promise<void> {
  const base = `${baseUrl.replace(/\/+$/, "")}/${repository}/resolve/main/`;
  const options = { timeoutMs, delaysMs, hint: HINT };
  const inspect = (name: string): Promise<RemoteFile | undefined> => inspectRemote(base + name, options);
  const download = async (name: string, remote: RemoteFile | undefined): Promise<string> => {
    if (remote === undefined) {
      throw new LlmtsError(`"${base + name}" cannot be downloaded: there is no such file`, { hint: HINT });
    }
    const path = join(folder, name);
    const downloaded = await downloadFile(remote, path, {
      ...options,
      onProgress: (done, size) => onProgress?.(name, done, size),
    });
    onFile?.({ ...remote, path, downloaded });
    return path;
  };

  const remoteConfig = await inspect(CONFIG_FILE);
  if (remoteConfig !== undefined) await makeFolder(folder);
  const config = await download(CONFIG_FILE, remoteConfig);
  parseConfig(readText(config), config);
  for (const name of TOKENIZER_FILES) {
    const remote = await inspect(name);
    if (remote !== undefined) await download(name, remote);
  }

  const single = await inspect(WEIGHTS_FILE);
  if (single !== undefined) {
    await download(WEIGHTS_FILE, single);
    return;
  }
  const index = await inspect(INDEX_FILE);
  if (index === undefined) {
    throw new FileError(base, `has no ${WEIGHTS_FILE} and no ${INDEX_FILE}`, {
      hint: "llmts reads safetensors only; transformers turns PyTorch's files into them",
    });
  }
  for (const shard of readIndex(await download(INDEX_FILE, index)).keys()) {
    await download(shard, await inspect(shard));
  }
}
