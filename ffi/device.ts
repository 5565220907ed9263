/**
 * A device: its memory and its ops. Nothing above this folder knows which one it runs on.
 *
 * @module
 */
import { LlmtsError, UsageError } from "../src/errors.ts";
import { openCuda } from "./cuda.ts";
import {
  type DeviceInfo,
  type DeviceLibrary,
  findCudaLibrary,
  type Library,
  loadHostLibrary,
  loadLibrary,
  namedLibrary,
} from "./library.ts";
import { freeHostMemory, type Memory, MEMORY_HINT } from "./memory.ts";
import { createOps, type Ops } from "./ops.ts";
import {
  checkElements,
  type DType,
  float32,
  hostBytes,
  int32,
  type Tensor,
  tensorAt,
  tensorBytes,
} from "./tensor.ts";

/** Where arithmetic can run. `auto` takes the best there is. */
export const DEVICES = ["auto", "cpu", "cuda"] as const;
export type DeviceName = typeof DEVICES[number];

/** See the module. */
export interface Device {
  readonly kind: "cpu" | "cuda";
  readonly library: Library;
  readonly ops: Ops;
  /** The device whose memory TypeScript owns: this one, or the CPU beside a GPU. Files are read and written there. */
  readonly host: Device;
  /** What the library says of itself now. */
  info(): DeviceInfo;
  /** Bytes of memory that are free now. */
  freeMemory(): number;
  /** Zeroed memory, aligned to 64 bytes. @throws {LlmtsError} there is not that much */
  allocate(bytes: number): Memory;
  /** A zeroed tensor in memory of its own. */
  tensor(dtype: DType, shape: readonly number[]): Tensor;
  /**
   * This device; what is allocated through it is freed when it is disposed of, and must not be used from then on. A GPU's
   * memory would else wait for the garbage collector, which doesn't know that it is short.
   */
  temporary(): Device & Disposable;
  /** An fp32 tensor's elements, when the ops before are done: its own memory on the host, a copy of it elsewhere. */
  read(tensor: Tensor): Float32Array<ArrayBuffer>;
  /** The elements of an int32 tensor as they were last written: no op writes ids, so that this waits for none. */
  readIds(tensor: Tensor): Int32Array<ArrayBuffer>;
  /** Sets all of a tensor's elements, which are of the array's type. */
  write(tensor: Tensor, values: Float32Array | Int32Array): void;
}

/** A cache line, and the widest vector: every buffer and every tensor in one starts on a multiple of it. */
export const ALIGNMENT = 64;

/** `bytes` rounded up to {@linkcode ALIGNMENT}. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** What {@linkcode openDevice} takes. */
export interface DeviceOptions {
  /** Default `auto`: the GPU where there is a library for it, a driver and a GPU, else the CPU. */
  readonly device?: DeviceName | undefined;
  /** File or folder of the kernel library, see {@linkcode loadLibrary}. With `auto` it is the CPU's. */
  readonly library?: string | undefined;
  /** How many threads the CPU's kernels use, for the whole process; default: the processors it may run on. */
  readonly threads?: number | undefined;
  /**
   * Whether fp32 products on a GPU round their factors to TF32, 10 bits of mantissa: several times as fast, and less exact.
   * Default no.
   */
  readonly tf32?: boolean | undefined;
}

/**
 * Opens a device.
 *
 * @throws {LlmtsError} no library, or the device can't be used; TF32 is asked of a CPU
 */
export function openDevice({ tf32 = false, ...options }: DeviceOptions = {}): Device {
  const device = open(options);
  if (device.kind === "cuda") {
    (device.library as DeviceLibrary).callDevice("llmts_device_allow_tf32", {}, Number(tf32));
  } else if (tf32) {
    throw new UsageError("TF32 is a GPU's, and the device is the CPU", { hint: "leave --tf32 out" });
  }
  return device;
}

function open({ device = "auto", library, threads }: DeviceOptions): Device {
  if (device === "cuda") return openCuda(openCpu(loadHostLibrary(), threads), library);
  const cpu = openCpu(loadLibrary(library), threads);
  if (device === "cpu" || namedLibrary(library) !== undefined || findCudaLibrary().file === undefined) {
    return cpu;
  }
  try {
    return openCuda(cpu);
  } catch (error) {
    if (error instanceof LlmtsError) return cpu; // no driver, no GPU
    throw error;
  }
}

function openCpu(library: Library, threads = 0): Device {
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
        hint: MEMORY_HINT,
      });
    }
    const gap = new BigInt64Array(1);
    library.call("llmts_alignment_gap", {}, gap, memory, BigInt(ALIGNMENT));
    const start = Number(gap[0]);
    memory = memory.subarray(start, start + bytes);
    library.call("llmts_zero", {}, memory, BigInt(bytes));
    return memory;
  };
  const cpu: Device = {
    kind: "cpu",
    library,
    ops: createOps(library),
    get host(): Device {
      return cpu;
    },
    info: () => library.info(),
    freeMemory: freeHostMemory,
    allocate,
    tensor: (dtype, shape) => tensorAt(allocate(tensorBytes(dtype, shape)), 0, dtype, shape),
    temporary: () => ({ ...cpu, [Symbol.dispose]: () => {} }), // the garbage collector sees to it
    read: float32,
    readIds: int32,
    write(tensor, values): void {
      checkElements(tensor, values);
      hostBytes(tensor).set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    },
  };
  return cpu;
}
