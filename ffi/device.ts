/**
 * A device: its memory and its ops. Nothing above this folder knows which one it runs on.
 *
 * @module
 */
import { LlmtsError, UsageError } from "../src/errors.ts";
import { type DeviceInfo, type Library, loadLibrary } from "./library.ts";
import { createOps, type Ops } from "./ops.ts";
import { type DType, type Tensor, tensorAt, tensorBytes } from "./tensor.ts";

/** Where arithmetic can run. `auto` takes the best there is. */
export const DEVICES = ["auto", "cpu", "cuda"] as const;
export type DeviceName = typeof DEVICES[number];

/** See the module. */
export interface Device {
  readonly kind: "cpu";
  readonly library: Library;
  readonly ops: Ops;
  /** What the library says of itself now. */
  info(): DeviceInfo;
  /** Zeroed memory, aligned to 64 bytes. @throws {LlmtsError} there is not that much */
  allocate(bytes: number): Uint8Array<ArrayBuffer>;
  /** A zeroed tensor in memory of its own. */
  tensor(dtype: DType, shape: readonly number[]): Tensor;
}

/** A cache line, and the widest vector: every buffer and every tensor in one starts on a multiple of it. */
export const ALIGNMENT = 64;

/** `bytes` rounded up to {@linkcode ALIGNMENT}. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/**
 * Opens a device.
 *
 * @param options.library file or folder of the kernel library, see {@linkcode loadLibrary}
 * @param options.threads how many threads kernels use, for the whole process; default: the processors it may run on
 * @throws {LlmtsError} no library, or the device can't be used
 */
export function openDevice(
  options: { device?: DeviceName; library?: string | undefined; threads?: number | undefined } = {},
): Device {
  if (options.device === "cuda") {
    throw new LlmtsError("This build of llmts has no CUDA library", { hint: "use --device cpu" });
  }
  const library = loadLibrary(options.library);
  const { threads = 0 } = options;
  if (!Number.isInteger(threads) || threads < 0 || threads > 1024) {
    throw new UsageError(`The number of threads is ${threads}, expected 1 … 1024, or 0 for all processors`);
  }
  library.call("llmts_set_threads", {}, threads);

  const allocate = (bytes: number): Uint8Array<ArrayBuffer> => {
    let memory: Uint8Array<ArrayBuffer>;
    try {
      memory = new Uint8Array(bytes + ALIGNMENT);
    } catch (cause) {
      throw new LlmtsError(`Memory of ${bytes} bytes can't be had: ${(cause as Error).message}`, {
        cause,
        hint: "lower --batch-size or --seq-len, or take a smaller model",
      });
    }
    const gap = new BigInt64Array(1);
    library.call("llmts_alignment_gap", {}, gap, memory, BigInt(ALIGNMENT));
    const start = Number(gap[0]);
    memory = memory.subarray(start, start + bytes);
    library.call("llmts_zero", {}, memory, BigInt(bytes));
    return memory;
  };
  return {
    kind: "cpu",
    library,
    ops: createOps(library),
    info: () => library.info(),
    allocate,
    tensor: (dtype, shape) => tensorAt(allocate(tensorBytes(dtype, shape)), 0, dtype, shape),
  };
}
