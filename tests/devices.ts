/**
 * The devices that tests run on: each variant of the CPU library that this machine can run, with one thread and with two,
 * the best with five too: more than most machines that run the tests have processors, and a number that divides few sizes; or, where LLMTS_TEST_LIBRARY names a library for the host, that one alone (tests/cuda runs the CUDA kernels so); or, where
 * LLMTS_TEST_GPU is set, the GPU alone, with the CUDA library that it names, or as built where it is empty.
 *
 * @module
 */
import { type Device, openDevice } from "../ffi/device.ts";
import { runnableVariants } from "../ffi/library.ts";
import { mirrored } from "./cuda/mirrored.ts";

/** A device by name; opened anew for each test, since the number of threads is the process's. */
export interface TestDevice {
  readonly name: string;
  open(): Device;
}

const library = Deno.env.get("LLMTS_TEST_LIBRARY");
const gpu = Deno.env.get("LLMTS_TEST_GPU");

function gpuDevice(library: string | undefined): TestDevice {
  const open = (): Device => mirrored(openDevice({ device: "cuda", library }));
  return { name: open().info().device, open };
}

function cpuDevices(): TestDevice[] {
  const variants = runnableVariants(openDevice().info());
  return variants.flatMap((variant, index) =>
    (index === variants.length - 1 ? [1, 2, 5] : [1, 2]).map((threads) => ({
      name: `cpu ${variant}, ${threads} thread${threads > 1 ? "s" : ""}`,
      open: () => openVariant(variant, threads),
    }))
  );
}

/** See the module. */
export const TEST_DEVICES: readonly TestDevice[] = gpu !== undefined
  ? [gpuDevice(gpu || undefined)]
  : library === undefined
  ? cpuDevices()
  : [{ name: openDevice({ library }).info().variant, open: () => openDevice({ library }) }];

/** Opens one variant of the CPU library. */
export function openVariant(variant: string, threads: number): Device {
  const before = Deno.env.get("LLMTS_CPU_VARIANT");
  Deno.env.set("LLMTS_CPU_VARIANT", variant);
  try {
    return openDevice({ device: "cpu", threads });
  } finally {
    if (before === undefined) Deno.env.delete("LLMTS_CPU_VARIANT");
    else Deno.env.set("LLMTS_CPU_VARIANT", before);
  }
}
