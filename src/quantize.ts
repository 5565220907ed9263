/**
 * Weights in int8 for decoding, which is bound by reading them: a quarter of fp32's bytes.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import type { Tensor } from "../ffi/tensor.ts";
import { LlmtsError } from "./errors.ts";
import type { Model } from "./model.ts";
import { vocabularyRows } from "./parameters.ts";

/** A weight (OC,C) in int8. */
function inInt8(device: Device, weight: Tensor): Tensor {
  const bytes = device.ops.packedBytes(weight);
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
  const all = (weights: readonly Tensor[]): Tensor[] => weights.map((weight) => inInt8(device, weight));
  const parameters = {
    ...p,
    qkvw: all(p.qkvw),
    attprojw: all(p.attprojw),
    fcw: all(p.fcw),
    fcprojw: all(p.fcprojw),
  };
  return { ...model, parameters, head: inInt8(device, vocabularyRows(p)) };
}
