/**
 * The GPU as a device: tensors lie in its memory, and what happens there is in the order of the calls. Only reading waits.
 *
 * @module
 */
import { LlmtsError } from "../src/errors.ts";
import type { Device } from "./device.ts";
import { type DeviceLibrary, KernelError, loadCudaLibrary, OUT_OF_MEMORY } from "./library.ts";
import { type Allocation, type DeviceMemory, deviceMemory, MEMORY_HINT } from "./memory.ts";
import { createOps } from "./ops.ts";
import { checkElements, describe, elements, type Tensor, tensorAt, tensorBytes } from "./tensor.ts";

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
  const free = (memory: DeviceMemory): void => library.callDevice("llmts_device_free", {}, memory);
  const owners = new FinalizationRegistry<DeviceMemory>(free);
  const ids = new WeakMap<object, Int32Array<ArrayBuffer>>(); // what int32 tensors were set to, by their memory
  const allocate = (bytes: number): DeviceMemory => {
    const address = allocateBytes(library, bytes);
    const owner: Allocation = { freed: false };
    const memory = deviceMemory(owner, address, bytes);
    owners.register(owner, deviceMemory({ freed: false }, address, bytes), owner);
    library.call("llmts_zero", {}, memory, BigInt(bytes));
    return memory;
  };
  const gpu: Device = {
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
    temporary(): Device & Disposable {
      const allocated: DeviceMemory[] = [];
      const keep = (bytes: number): DeviceMemory => {
        const memory = allocate(bytes);
        allocated.push(memory);
        return memory;
      };
      return {
        ...gpu,
        allocate: keep,
        tensor: (dtype, shape) => tensorAt(keep(tensorBytes(dtype, shape)), 0, dtype, shape),
        [Symbol.dispose](): void {
          for (const memory of allocated.splice(0)) {
            free(memory);
            owners.unregister(memory.owner);
            memory.owner.freed = true;
          }
        },
      };
    },
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
      checkElements(tensor, values);
      const from = values as Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer>;
      library.callDevice("llmts_device_upload", { tensor }, tensor.memory, from, byteLength(tensor));
      if (values instanceof Int32Array) ids.set(tensor.memory, values.slice());
    },
  };
  return gpu;
}

function allocateBytes(library: DeviceLibrary, bytes: number): bigint {
  const address = new BigUint64Array(1);
  try {
    library.callDevice("llmts_device_alloc", {}, address, BigInt(bytes));
  } catch (cause) {
    if (!(cause instanceof KernelError) || cause.status !== OUT_OF_MEMORY) throw cause;
    throw new LlmtsError(`Memory of ${bytes} bytes can't be had: ${cause.reason}`, {
      cause,
      hint: MEMORY_HINT,
    });
  }
  return address[0]!;
}

function byteLength(tensor: Tensor): bigint {
  return BigInt(tensor.memory.byteLength);
}
