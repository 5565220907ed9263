/**
 * The models that are measured. bench/pytorch_bench.py has the same.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import { int32, type Tensor } from "../ffi/tensor.ts";
import { type GPT2Config, presetConfig } from "../src/config.ts";
import { randomModel } from "../src/load.ts";
import { inPrecision, type Model, type Precision } from "../src/model.ts";
import { Random } from "../src/random.ts";

/** So small that calls cost more than arithmetic. */
export const SMALL: GPT2Config = { maxT: 64, V: 512, Vp: 512, L: 2, NH: 4, C: 64 };

/** A model with random weights: `small`, or a preset. */
export function benchModel(name: string, device: Device, precision: Precision): Model {
  return inPrecision(randomModel(name === "small" ? SMALL : presetConfig(name), device, 42), precision, true);
}

/** Random ids (B,T). */
export function randomTokens(device: Device, B: number, T: number, V: number): Tensor {
  const tokens = device.tensor("int32", [B, T]);
  const random = new Random(1);
  int32(tokens).forEach((_, i, ids) => ids[i] = random.randint32() % V);
  return tokens;
}
