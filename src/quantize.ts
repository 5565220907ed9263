/**
 * Weights in int8 for decoding, which is bound by reading them: a quarter of fp32's bytes.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import type { Tensor } from "../ffi/tensor.ts";
import type { GPT2Config } from "./config.ts";
import { LlmtsError } from "./errors.ts";
import type { Model } from "./model.ts";
import { type Parameters, TENSORS, vocabularyRows } from "./parameters.ts";

/** The linear layers' weights, of which each layer has its own. */
const QUANTIZED = ["qkvw", "attprojw", "fcw", "fcprojw"] as const;

/** A weight (OC,C) in int8. */
function inInt8(device: Device, weight: Tensor): Tensor {
  const [OC, C] = weight.shape as [number, number];
  const bytes = device.ops.packedBytes(OC, C);
  if (bytes === 0) {
    throw new LlmtsError(`Weights can't be int8 on the device "${device.info().device}"`, {
      hint: "take --device cpu, or --precision bf16",
    });
  }
  const packed: Tensor = { dtype: "int8", shape: weight.shape, memory: device.allocate(bytes) };
  device.ops.pack(packed, weight);
  return packed;
}

/**
 * A model whose linear layers multiply with int8 weights, each row of them with a scale of its own: w ≈ q · max |w| / 127. For
 * generating; embeddings, biases, layernorms, activations and the cache stay as they are.
 *
 * @throws {LlmtsError} the device has no int8 weights
 */
export function quantize(model: Model): Model {
  const { device, parameters: p } = model;
  const packed = QUANTIZED.map((name) => [name, p[name].map((weight) => inInt8(device, weight))]);
  const parameters: Parameters = { ...p, ...Object.fromEntries(packed) };
  return { ...model, parameters, head: inInt8(device, vocabularyRows(p)) };
}

/** Bytes that {@linkcode quantize} allocates beside a model. */
export function quantizedBytes(config: GPT2Config, { ops }: Device): number {
  const { L, V, C } = config;
  const shapes = TENSORS.filter(({ name }) => QUANTIZED.some((quantized) => quantized === name))
    .map(({ shape }) => shape(config) as [L: number, OC: number, C: number]);
  return shapes.reduce((sum, [, OC, C]) => sum + L * ops.packedBytes(OC, C), ops.packedBytes(V, C));
}
