/**
 * A model's weights in fp32, for files and checks: a piece at a time, so that no second copy of the model is needed.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import { elements, reshape, rows, type Tensor } from "../ffi/tensor.ts";
import type { Model } from "./model.ts";
import type { Parameters } from "./parameters.ts";

/** Numbers in a piece: the memory that a conversion needs beside the model. */
export const PIECE = 1 << 20;

/** The weights as exactly as the model has them: in bf16 only where no master copy is kept. */
export function exactWeights({ parameters, master }: Model): Parameters {
  return master ?? parameters;
}

/** A tensor's numbers in order, in fp32 on its device. A piece must not be used after the next is asked for. */
export function* fp32Pieces(device: Device, tensor: Tensor): Generator<Tensor, void> {
  const count = elements(tensor.shape);
  const flat = reshape(tensor, [count]);
  using memory = device.temporary();
  const wide = tensor.dtype === "fp32" ? undefined : memory.tensor("fp32", [Math.min(PIECE, count)]);
  for (let from = 0; from < count; from += PIECE) {
    const piece = rows(flat, from, Math.min(from + PIECE, count));
    if (wide === undefined) {
      yield piece;
      continue;
    }
    const widened = rows(wide, 0, elements(piece.shape));
    device.ops.convert(widened, piece);
    yield widened;
  }
}

/** A tensor's numbers in fp32 in the host's memory: the tensor's own, where it has them there, else a copy. */
export function fp32Values(device: Device, tensor: Tensor): Float32Array<ArrayBuffer> {
  if (tensor.dtype === "fp32") return device.read(tensor);
  const values = new Float32Array(elements(tensor.shape));
  let done = 0;
  for (const piece of fp32Pieces(device, tensor)) {
    values.set(device.read(piece), done);
    done += PIECE;
  }
  return values;
}
