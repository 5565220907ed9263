/**
 * A device whose tensors stay in host memory, for tests that look at them there: each op takes its tensors to the GPU and
 * brings them back, so that every test of the CPU's ops also runs on the GPU's.
 *
 * @module
 */
import type { Device } from "../../ffi/device.ts";
import type { DeviceLibrary } from "../../ffi/library.ts";
import { type DeviceMemory, deviceMemory } from "../../ffi/memory.ts";
import type { Ops } from "../../ffi/ops.ts";
import { hostBytes, type Tensor } from "../../ffi/tensor.ts";

/** See the module; `gpu` is of {@linkcode openDevice}. */
export function mirrored(gpu: Device): Device {
  const { callDevice } = gpu.library as DeviceLibrary;
  const ops = new Proxy(gpu.ops, {
    get: (ops, name: keyof Ops) => (...parameters: unknown[]): unknown => {
      // A tensor given twice, as input and output, is one on the GPU too.
      const copies = new Map<Tensor, Tensor>();
      const onGpu = parameters.map((parameter) => {
        if (!isTensor(parameter)) return parameter;
        const known = copies.get(parameter);
        if (known !== undefined) return known;
        const bytes = hostBytes(parameter);
        const address = new BigUint64Array(1);
        callDevice("llmts_device_alloc", {}, address, BigInt(bytes.byteLength));
        const copy = { ...parameter, memory: deviceMemory({ freed: false }, address[0]!, bytes.byteLength) };
        callDevice("llmts_device_upload", {}, copy.memory, bytes, BigInt(bytes.byteLength));
        copies.set(parameter, copy);
        return copy;
      });
      const result = (ops[name] as (...parameters: unknown[]) => unknown)(...onGpu);
      for (const [tensor, { memory }] of copies) {
        const bytes = hostBytes(tensor);
        callDevice("llmts_device_download", {}, bytes, memory as DeviceMemory, BigInt(bytes.byteLength));
        callDevice("llmts_device_free", {}, memory as DeviceMemory); // not when it is collected: tests make many
      }
      return result;
    },
  });
  const device: Device = {
    ...gpu.host,
    kind: "cuda",
    library: gpu.library,
    ops,
    info: gpu.info,
    temporary: () => ({ ...device, [Symbol.dispose]: () => {} }),
  };
  return device;
}

function isTensor(parameter: unknown): parameter is Tensor {
  return typeof parameter === "object" && parameter !== null && "dtype" in parameter;
}
