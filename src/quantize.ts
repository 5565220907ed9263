/**
 * Weights in int8 for decoding, which is bound by reading them: a quarter of fp32's bytes.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import type { Tensor } from "../ffi/tensor.ts";
import { allocateActivations } from "./activations.ts";
import { LlmtsError } from "./errors.ts";
import { forward, logits, type Model } from "./model.ts";
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

/**
 * The mean cross-entropy of tokens, in nats, by the logits that generating sees: what int8 weights cost is the difference
 * between a model's and its quantized one's.
 *
 * @param tokens at least two; of more than 257 only the first 257 count, whose logits are (256,V) numbers
 */
export function lossOfTokens(model: Model, tokens: ArrayLike<number>): number {
  const { device, config, precision } = model;
  const ids = Array.from(tokens).slice(0, Math.min(257, config.maxT + 1));
  const T = ids.length - 1;
  const a = allocateActivations(config, device, { B: 1, T, precision, training: false });
  const inputs = device.tensor("int32", [1, T]);
  device.write(inputs, Int32Array.from(ids.slice(0, T)));
  const out = device.tensor("fp32", [1, T, config.V]);
  forward(model, a, inputs);
  logits(model, a, out);
  const values = device.read(out);
  let sum = 0;
  for (let t = 0; t < T; t++) {
    const row = values.subarray(t * config.V, (t + 1) * config.V);
    const most = row.reduce((most, value) => Math.max(most, value), -Infinity);
    const total = row.reduce((total, value) => total + Math.exp(value - most), 0);
    sum += most + Math.log(total) - row[ids[t + 1]!]!;
  }
  return sum / T;
}
