/**
 * A model from whatever names one: a checkpoint file, or a preset to start from scratch.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import { float32 } from "../ffi/tensor.ts";
import { type GPT2Config, isPreset, presetConfig } from "./config.ts";
import { initializeParameters } from "./initialize.ts";
import { readCheckpoint, readCheckpointHeader } from "./io/checkpoint.ts";
import { createModel, type Model } from "./model.ts";

/**
 * The shape of a model without loading it: see {@linkcode loadModel}.
 *
 * @throws {LlmtsError} as `loadModel`
 */
export function modelConfig(source: string): GPT2Config {
  return isPreset(source) ? presetConfig(source) : readCheckpointHeader(source).config;
}

/** A model with random weights, as PyTorch draws them from the same seed. */
export function randomModel(config: GPT2Config, device: Device, seed: number): Model {
  const model = createModel(config, device);
  const { whole } = model.parameters;
  initializeParameters(config, (name, layer) => {
    const values = float32(whole[name]);
    if (layer === undefined) return values;
    const size = values.length / config.L;
    return values.subarray(layer * size, (layer + 1) * size);
  }, seed);
  return model;
}

/**
 * Loads a model.
 *
 * @param source a preset's name, which starts from random weights, or else the path of a checkpoint
 * @param options.seed of random weights. Default 42
 * @throws {FileError} the file can't be read or is no checkpoint
 * @throws {LlmtsError} there is not enough memory
 */
export function loadModel(source: string, device: Device, { seed = 42 }: { seed?: number } = {}): Model {
  return isPreset(source) ? randomModel(presetConfig(source), device, seed) : readCheckpoint(source, device);
}
