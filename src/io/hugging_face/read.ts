/**
 * Reading a GPT-2 in Hugging Face's format: a folder of config.json and model.safetensors (or several files with an
 * index), or a safetensors file alone. Every tensor must be there once, and none may be left over.
 *
 * @module
 */
import { basename, dirname, join } from "@std/path";
import type { Device } from "../../../ffi/device.ts";
import { elements, float32 } from "../../../ffi/tensor.ts";
import { configProblem, type GPT2Config, paddedVocabulary, presetConfig, RELEASED } from "../../config.ts";
import { FileError } from "../../errors.ts";
import { createModel, type Model, onDevice } from "../../model.ts";
import { type TensorName, TENSORS } from "../../parameters.ts";
import type { CheckpointHeader } from "../checkpoint.ts";
import { exists, isFolder } from "../files.ts";
import { readText } from "../text.ts";
import { checkedHeads, parseConfig, type Sizes } from "./config.ts";
import { transpose } from "./transpose.ts";
import { CONFIG_FILE, INDEX_FILE, openWeights, type StoredTensor, type Weights } from "./weights.ts";

/** Numbers of a matrix read at a time, before they are transposed into the model. */
const CHUNK = 1 << 20;

/** The classifier's weight, which GPT-2 shares with wte. */
const HEAD = "lm_head.weight";
const EMBEDDING = "wte.weight";

/** One tensor of the model, or one layer of a stacked one, and where it comes from. */
interface Part {
  readonly name: TensorName;
  readonly layer: number;
  readonly conv1d: boolean;
  readonly stored: StoredTensor;
}

/** A model's shape and what fills it. */
interface Plan extends CheckpointHeader {
  readonly parts: readonly Part[];
  /** A second copy of wte, which must be equal. */
  readonly head: StoredTensor | undefined;
}

/**
 * The shape of a model, and whether all of it is stored as bf16, after a check of all names and shapes.
 *
 * @param path a folder or a safetensors file
 * @throws {FileError} a file is missing or damaged, or holds something else than a GPT-2 as llmts computes it
 */
export function readHuggingFaceHeader(path: string): CheckpointHeader {
  using weights = openWeights(path);
  const { config, stored } = plan(path, weights);
  return { config, stored };
}

/**
 * Reads a model. F16 and BF16 are widened, which loses nothing; wte is padded to a multiple of 128 rows.
 *
 * @throws {FileError} as {@linkcode readHuggingFaceHeader}, or lm_head differs from wte
 * @throws {LlmtsError} there is not enough memory
 */
export function readHuggingFace(path: string, device: Device): Model {
  using weights = openWeights(path);
  const { config, parts, head } = plan(path, weights);
  const model = createModel(config, device.host);
  const block = new Float32Array(Math.max(CHUNK, 4 * config.C)); // a row at least; one for all, so that no garbage piles up
  for (const part of parts) {
    const whole = float32(model.parameters.whole[part.name]);
    const size = elements(part.stored.shape);
    const target = whole.subarray(part.layer * size, (part.layer + 1) * size);
    if (part.conv1d) readTransposed(part.stored, target, block);
    else part.stored.read(0, target);
  }
  if (head !== undefined) checkHead(head, float32(model.parameters.wte));
  return onDevice(model, device);
}

/** Reads a matrix (in, out) into `target` (out, in), as many rows at a time as `block` holds. */
function readTransposed(
  { shape, read }: StoredTensor,
  target: Float32Array<ArrayBuffer>,
  block: Float32Array<ArrayBuffer>,
): void {
  const [rows, columns] = shape as [number, number];
  const step = Math.floor(block.length / columns);
  for (let first = 0; first < rows; first += step) {
    const part = block.subarray(0, Math.min(step, rows - first) * columns);
    read(first * columns, part);
    transpose(target, part, { columns, width: rows, first });
  }
}

function checkHead(head: StoredTensor, wte: Float32Array<ArrayBuffer>): void {
  const [V, C] = head.shape as [number, number];
  const row = new Float32Array(C);
  for (let id = 0; id < V; id++) {
    head.read(id * C, row);
    if (row.every((value, c) => Object.is(value, wte[id * C + c]))) continue;
    throw new FileError(
      head.file,
      `"${head.name}" differs from wte at row ${id}, expected none or the same: GPT-2's classifier is wte`,
    );
  }
}

/** Finds every tensor of the model among the weights; what is left over is refused. */
function plan(path: string, { tensors, metadata }: Weights): Plan {
  const left = new Map(tensors);
  if (!left.has(EMBEDDING) && left.has(HEAD)) { // safetensors' save_model keeps only one of two equal tensors: this one
    left.set(EMBEDDING, left.get(HEAD)!);
    left.delete(HEAD);
  }
  const take = (name: string, shape: readonly number[]): StoredTensor => {
    const stored = found(path, left, name);
    if (stored.shape.join() !== shape.join()) {
      throw new FileError(
        stored.file,
        `tensor "${stored.name}" has shape [${stored.shape}], expected [${shape}]`,
      );
    }
    left.delete(name);
    return stored;
  };

  const config = modelConfig(path, left, metadata);
  const parts: Part[] = [];
  for (const { name, huggingFace, shape, stacked, conv1d } of TENSORS) {
    const ours = name === "wte" ? [config.V, config.C] : shape(config).slice(stacked ? 1 : 0);
    const theirs = conv1d ? ours.toReversed() : ours;
    for (let layer = 0; layer < (stacked ? config.L : 1); layer++) {
      parts.push({ name, layer, conv1d, stored: take(huggingFace.replace("{l}", String(layer)), theirs) });
    }
  }
  const head = left.has(HEAD) ? take(HEAD, [config.V, config.C]) : undefined;
  const [extra] = left.values();
  if (extra !== undefined) {
    throw new FileError(
      extra.file,
      `tensor "${extra.name}" has no place in a GPT-2${
        left.size > 1 ? `, nor have ${left.size - 1} others` : ""
      }`,
    );
  }
  const stored = parts.every((part) => part.stored.dtype === "BF16") ? "bf16" : "fp32";
  return { config, stored, parts, head };
}

function found(path: string, tensors: ReadonlyMap<string, StoredTensor>, name: string): StoredTensor {
  const stored = tensors.get(name);
  if (stored !== undefined) return stored;
  const shard = !isFolder(path) && exists(join(dirname(path), INDEX_FILE));
  throw new FileError(
    path,
    `has no tensor "${name}", expected those of a GPT-2`,
    shard ? { hint: `"${basename(path)}" may be one of several files: give the folder` } : {},
  );
}

/** The model's shape: sizes from the tensors, checked against the config; heads from the config. */
function modelConfig(
  path: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  metadata: ReadonlyMap<string, string>,
): GPT2Config {
  const [V = 0, C = 0] = found(path, tensors, EMBEDDING).shape;
  const [maxT = 0] = found(path, tensors, "wpe.weight").shape;
  const layers = [...tensors.keys()].flatMap((name) => /^h\.(\d+)\./.exec(name)?.[1] ?? []);
  const L = new Set(layers).size;
  const sizes = { V, maxT, C, L };
  const config = { ...sizes, Vp: paddedVocabulary(V), NH: heads(path, sizes, metadata) };
  const problem = configProblem(config);
  if (problem !== undefined) throw new FileError(path, `holds no GPT-2: ${problem}`);
  return config;
}

/** The number of heads, which no tensor tells: from the file itself, the config.json beside it, or GPT-2's known sizes. */
function heads(path: string, sizes: Sizes, metadata: ReadonlyMap<string, string>): number {
  const folder = isFolder(path);
  const own = metadata.get(CONFIG_FILE);
  if (own !== undefined && !folder) return checkedHeads(parseConfig(own, path), sizes, path);
  const beside = join(folder ? path : dirname(path), CONFIG_FILE);
  if (exists(beside)) return checkedHeads(parseConfig(readText(beside), beside), sizes, beside);
  const released = RELEASED.map(presetConfig).find(({ L, C }) => L === sizes.L && C === sizes.C);
  if (released !== undefined && !folder) return released.NH;
  throw new FileError(path, `has no ${CONFIG_FILE}, which says how many attention heads there are`, {
    hint: `put the model's ${CONFIG_FILE} ${folder ? "into the folder" : "beside it"}`,
  });
}
