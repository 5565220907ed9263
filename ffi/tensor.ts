/**
 * A tensor: a typed, shaped window on memory. Row-major, without gaps.
 *
 * @module
 */
import { isHostMemory, type Memory } from "./memory.ts";

/**
 * Element types. `fp32` and `bf16` are the precisions a run can have, `int32` holds token ids. An `int8` weight lies in a layout
 * of the library's own, with scales (llmts_pack): its memory is larger than its elements.
 */
export type DType = "fp32" | "bf16" | "int32" | "int8";

/** Bytes of an element. */
export const ITEM_BYTES: Readonly<Record<DType, number>> = { fp32: 4, bf16: 2, int32: 4, int8: 1 };

/** See the module. */
export interface Tensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Exactly the tensor's bytes. */
  readonly memory: Memory;
}

/** The number of elements of a shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** The size of a tensor in bytes. */
export function tensorBytes(dtype: DType, shape: readonly number[]): number {
  return elements(shape) * ITEM_BYTES[dtype];
}

/** A tensor over `memory` from byte `offset` on. */
export function tensorAt(
  memory: Memory,
  offset: number,
  dtype: DType,
  shape: readonly number[],
): Tensor {
  const bytes = tensorBytes(dtype, shape);
  if (offset + bytes > memory.byteLength) {
    throw new RangeError(
      `A tensor of ${bytes} bytes at ${offset} is outside memory of ${memory.byteLength} bytes`,
    );
  }
  return { dtype, shape, memory: memory.subarray(offset, offset + bytes) };
}

/** The same elements in another shape. */
export function reshape(tensor: Tensor, shape: readonly number[]): Tensor {
  if (elements(shape) !== elements(tensor.shape)) {
    throw new RangeError(`Shape (${shape}) does not hold the elements of (${tensor.shape})`);
  }
  return { ...tensor, shape };
}

/** Rows `from` … `to` of the first dimension. */
export function rows(tensor: Tensor, from: number, to: number): Tensor {
  const row = tensor.shape.slice(1);
  return tensorAt(tensor.memory, from * tensorBytes(tensor.dtype, row), tensor.dtype, [to - from, ...row]);
}

/** The tensors stacked in the first dimension. */
export function unstack(tensor: Tensor): Tensor[] {
  const [count = 0, ...shape] = tensor.shape;
  return Array.from({ length: count }, (_, index) => reshape(rows(tensor, index, index + 1), shape));
}

/** The elements of an fp32 tensor in host memory: a view of them. */
export function float32(tensor: Tensor): Float32Array<ArrayBuffer> {
  if (tensor.dtype !== "fp32") throw new TypeError(`Expected an fp32 tensor, found ${describe(tensor)}`);
  const { buffer, byteOffset } = hostBytes(tensor);
  return new Float32Array(buffer, byteOffset, elements(tensor.shape));
}

/** The elements of an int32 tensor in host memory: a view of them. */
export function int32(tensor: Tensor): Int32Array<ArrayBuffer> {
  if (tensor.dtype !== "int32") throw new TypeError(`Expected an int32 tensor, found ${describe(tensor)}`);
  const { buffer, byteOffset } = hostBytes(tensor);
  return new Int32Array(buffer, byteOffset, elements(tensor.shape));
}

/** Checks that an array holds all elements of a tensor, and no more. @throws {RangeError} it doesn't */
export function checkElements(tensor: Tensor, values: Float32Array | Int32Array): void {
  if (values.byteLength === tensor.memory.byteLength) return;
  throw new RangeError(`Expected the elements of ${describe(tensor)}, found ${values.length}`);
}

/** The bytes of a tensor in host memory; one on a GPU is a TypeError. */
export function hostBytes(tensor: Tensor): Uint8Array<ArrayBuffer> {
  if (isHostMemory(tensor.memory)) return tensor.memory;
  throw new TypeError(`Expected a tensor in host memory, found ${describe(tensor)} on the GPU`);
}

/** Shape and element type in words, for errors: `(4,64,768) fp32`. */
export function describe(tensor: Tensor | null): string {
  return tensor === null ? "none" : `(${tensor.shape}) ${tensor.dtype}`;
}
