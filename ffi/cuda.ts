/**
 * The GPU as a device: tensors lie in its memory, and what happens there is in the order of the calls. Only reading waits.
 *
 * @module
 */
import { LlmtsError } from "../src/errors.ts";
import type { Device } from "./device.ts";
import { type DeviceLibrary, KernelError, loadCudaLibrary } from "./library.ts";
import { type DeviceMemory, deviceMemory } from "./memory.ts";
import { createOps } from "./ops.ts";
import { describe, elements, type Tensor, tensorAt, tensorBytes } from "./tensor.ts";

/** llmts_status of kernels/abi.h. */
const OUT_OF_MEMORY = 2;

/**
 * Opens the GPU.
 *
 * @param host the CPU beside it
 * @param path file or folder of the CUDA library, see {@linkcode loadCudaLibrary}
 * @throws {LlmtsError} no library, no driver, no GPU, or one that is too old
 */
export function openCuda(host: Device, path?: string): Device {
  const library = loadCudaLibrary(path);
  try {
    library.info(); // the first call that needs the driver
  } catch (cause) {
    if (!(cause instanceof KernelError)) throw cause;
    throw new LlmtsError(`The GPU can't be used: ${cause.reason}`, { cause, hint: "use --device cpu" });
  }
  const owners = new FinalizationRegistry<DeviceMemory>((memory) =>
    library.callDevice("llmts_device_free", {}, memory)
  );
  const ids = new WeakMap<object, Int32Array<ArrayBuffer>>(); // what int32 tensors were set to, by their memory
  const allocate = (bytes: number): DeviceMemory => {
    const address = allocateBytes(library, bytes);
    const owner = {};
    const memory = deviceMemory(owner, address, bytes);
    owners.register(owner, deviceMemory({}, address, bytes));
    library.call("llmts_zero", {}, memory, BigInt(bytes));
    return memory;
  };
  return {
    kind: "cuda",
    library,
    ops: createOps(library),
    host,
    info: () => library.info(),
    freeMemory(): number {
      const [free, total] = [new BigInt64Array(1), new BigInt64Array(1)];
      library.callDevice("llmts_device_memory", {}, free, total);
      return Number(free[0]);
    },
    allocate,
    tensor: (dtype, shape) => tensorAt(allocate(tensorBytes(dtype, shape)), 0, dtype, shape),
    read(tensor): Float32Array<ArrayBuffer> {
      if (tensor.dtype !== "fp32") throw new TypeError(`Expected an fp32 tensor, found ${describe(tensor)}`);
      const values = new Float32Array(tensor.memory.byteLength / Float32Array.BYTES_PER_ELEMENT);
      library.callDevice("llmts_device_download", { tensor }, values, tensor.memory, byteLength(tensor));
      return values;
    },
    readIds(tensor): Int32Array<ArrayBuffer> {
      if (tensor.dtype !== "int32") {
        throw new TypeError(`Expected an int32 tensor, found ${describe(tensor)}`);
      }
      return ids.get(tensor.memory) ?? new Int32Array(elements(tensor.shape));
    },
    write(tensor, values): void {
      if (values.byteLength !== tensor.memory.byteLength) {
        throw new RangeError(`Expected the elements of ${describe(tensor)}, found ${values.length}`);
      }
      const from = values as Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;
      library.callDevice("llmts_device_upload", { tensor }, tensor.memory, from, byteLength(tensor));
      if (values instanceof Int32Array) ids.set(tensor.memory, values.slice());
    },
  };
}

function allocateBytes(library: DeviceLibrary, bytes: number): bigint {
  const address = new BigUint64Array(1);
  try {
    library.callDevice("llmts_device_alloc", {}, address, BigInt(bytes));
  } catch (cause) {
    if (!(cause instanceof KernelError) || cause.status !== OUT_OF_MEMORY) throw cause;
    throw new LlmtsError(`Memory of ${bytes} bytes can't be had: ${cause.reason}`, {
      cause,
      hint: "lower --batch-size or --seq-len, or take a smaller model",
    });
  }
  return address[0]!;
}

function byteLength(tensor: Tensor): bigint {
  return BigInt(tensor.memory.byteLength);
}
