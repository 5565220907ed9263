/**
 * The functions of a library for a device with memory of its own: those of kernels/abi.h, with addresses on the device for
 * pointers, and those of kernels/abi_device.h. tests/ffi/device_abi_test.ts compares both with the headers.
 *
 * @module
 */
import { declare, SYMBOLS } from "./symbols.ts";

/** What kernels/abi_device.h adds. */
export const DEVICE_SYMBOLS = {
  llmts_device_alloc: declare("uint64_t *address", "int64_t bytes"),
  llmts_device_free: declare("void *memory"),
  llmts_device_upload: declare("void *to", "const void *from", "int64_t bytes"),
  llmts_device_download: declare("void *to", "const void *from", "int64_t bytes"),
  llmts_device_synchronize: declare(),
  llmts_device_memory: declare("int64_t *free", "int64_t *total"),
  llmts_device_allow_tf32: declare("int32_t allowed"),
  llmts_device_timer_start: declare(),
  llmts_device_timer_stop: declare("float *milliseconds"),
} as const;

/** The parameters that are memory of the host for every library: those the headers mark HOST. */
export const HOST_PARAMETERS: Readonly<Record<string, readonly string[]>> = {
  llmts_last_error: ["text", "length"],
  llmts_device_info: ["text", "length"],
  llmts_alignment_gap: ["bytes", "memory"],
  llmts_packed_bytes: ["bytes"],
  llmts_global_norm: ["norm"],
  llmts_adamw: ["segments"],
  llmts_device_alloc: ["address"],
  llmts_device_upload: ["from"],
  llmts_device_download: ["to"],
  llmts_device_memory: ["free", "total"],
  llmts_device_timer_stop: ["milliseconds"],
};

/** Both tables as Deno.dlopen takes them. A view of host memory given for an address on the device is a TypeError. */
export function deviceInterface(): Record<string, Deno.ForeignFunction> {
  const all = Object.entries({ ...SYMBOLS, ...DEVICE_SYMBOLS });
  return Object.fromEntries(all.map(([name, { declared, parameters }]) => {
    const host = HOST_PARAMETERS[name] ?? [];
    const types = (parameters as readonly Deno.NativeType[]).map((type, index) => {
      const parameter = /\w+$/.exec(declared[index]!)![0];
      return type === "buffer" && !host.includes(parameter) ? "pointer" : type;
    });
    return [name, { parameters: types, result: "i32" }];
  }));
}
