/**
 * A model from whatever names one: a preset or sizes to start from scratch, a checkpoint, or a model in Hugging Face's
 * format.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import { float32 } from "../ffi/tensor.ts";
import { type GPT2Config, isPreset, presetConfig, PRESETS } from "./config.ts";
import { FileError } from "./errors.ts";
import { initializeParameters } from "./initialize.ts";
import {
  type CheckpointHeader,
  isCheckpoint,
  newestCheckpoint,
  readCheckpoint,
  readCheckpointHeader,
} from "./io/checkpoint.ts";
import { describeContent, exists, isFolder, openForReading, readFully } from "./io/files.ts";
import { isHuggingFaceFolder, readHuggingFace, readHuggingFaceHeader, readShape } from "./io/hugging_face.ts";
import { isSafetensors } from "./io/safetensors.ts";
import { createModel, inPrecision, type Model, onDevice, type Precision } from "./model.ts";

/** What a model on disk is read with. */
interface Format {
  readonly readHeader: (path: string) => CheckpointHeader;
  readonly read: (path: string, device: Device) => Model;
}

const CHECKPOINT: Format = { readHeader: readCheckpointHeader, read: readCheckpoint };
const HUGGING_FACE: Format = { readHeader: readHuggingFaceHeader, read: readHuggingFace };

/** What {@linkcode findModel} accepts, for errors. */
const EXPECTED =
  "a model: a checkpoint of llm.c's (magic 20240326, version 3 or 5), a safetensors file, or a folder";

/** Whether a source has no weights: a preset, or the sizes in a config.json of Hugging Face's, by any name in .json. */
export function startsFromScratch(source: string): boolean {
  return isPreset(source) || source.toLowerCase().endsWith(".json");
}

/**
 * What a user's name for a model means: a preset, a file, a folder in Hugging Face's format, or another folder, of which
 * the newest checkpoint is taken.
 *
 * @param hint for the error if it names nothing
 * @returns the source to give to {@linkcode modelConfig} and {@linkcode loadModel}
 * @throws {FileError} there is none, or a folder has both kinds
 */
export function findModel(
  name: string,
  hint = `presets: ${
    PRESETS.join(" ")
  }; other sizes: a config.json; llmts download fetches a model of the hub`,
): string {
  if (isPreset(name)) return name;
  if (!exists(name)) throw new FileError(name, `no such file or folder, expected ${EXPECTED}`, { hint });
  if (!isFolder(name)) return name;
  const checkpoint = newestCheckpoint(name);
  if (!isHuggingFaceFolder(name)) {
    if (checkpoint !== undefined) return checkpoint;
    throw new FileError(
      name,
      "the folder holds no checkpoint (model_*.bin) and no model of Hugging Face's (config.json, model.safetensors)",
      { hint },
    );
  }
  if (checkpoint === undefined) return name;
  throw new FileError(
    name,
    `the folder holds both a Hugging Face model and checkpoints, "${checkpoint}" the newest`,
    {
      hint: "name the file: model.safetensors or a model_*.bin",
    },
  );
}

/**
 * The shape of a model on disk, and the precision it is stored in.
 *
 * @param path a checkpoint, a safetensors file, or a folder in Hugging Face's format
 * @throws {FileError} it can't be read or is no model
 */
export function modelHeader(path: string): CheckpointHeader {
  return formatOf(path).readHeader(path);
}

/**
 * The shape of a model without loading it: see {@linkcode loadModel}.
 *
 * @throws {LlmtsError} as `loadModel`
 */
export function modelConfig(source: string): GPT2Config {
  if (isPreset(source)) return presetConfig(source);
  return startsFromScratch(source) ? readShape(source) : modelHeader(source).config;
}

/** A model with random weights, as PyTorch draws them from the same seed. */
export function randomModel(config: GPT2Config, device: Device, seed: number): Model {
  const model = createModel(config, device.host);
  const { whole } = model.parameters;
  initializeParameters(config, (name, layer) => {
    const values = float32(whole[name]);
    if (layer === undefined) return values;
    const size = values.length / config.L;
    return values.subarray(layer * size, (layer + 1) * size);
  }, seed);
  return onDevice(model, device);
}

/**
 * Loads a model.
 *
 * @param source a preset's name or the path of a config.json, which start from random weights, or else the path of a
 * checkpoint, of a safetensors file, or of a folder in Hugging Face's format
 * @param options.seed of random weights. Default 42
 * @param options.precision of the model's computations. Default fp32
 * @param options.keepMaster whether a bf16 model keeps its fp32 weights, which training updates. Default true
 * @throws {FileError} it can't be read or is no model
 * @throws {LlmtsError} there is not enough memory
 */
export function loadModel(
  source: string,
  device: Device,
  { seed = 42, precision = "fp32", keepMaster = true }: {
    seed?: number;
    precision?: Precision;
    keepMaster?: boolean;
  } = {},
): Model {
  const model = startsFromScratch(source)
    ? randomModel(modelConfig(source), device, seed)
    : formatOf(source).read(source, device);
  return inPrecision(model, precision, keepMaster);
}

/** Tells formats apart by what a file holds, not by its name. */
function formatOf(path: string): Format {
  if (isFolder(path)) return HUGGING_FACE;
  using file = openForReading(path);
  const start = new Uint8Array(128);
  const bytes = start.subarray(0, readFully(file, start));
  if (isCheckpoint(bytes)) return CHECKPOINT;
  if (isSafetensors(bytes)) return HUGGING_FACE;
  const { found, hint } = describeContent(bytes);
  throw new FileError(path, `is ${found}, expected ${EXPECTED}`, hint === undefined ? {} : { hint });
}
