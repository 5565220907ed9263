/**
 * Tests of a GPU: skipped, and saying why, where there is none or a tool is missing. `deno task test:gpu`.
 *
 * @module
 */
import { openDevice } from "../../ffi/device.ts";
import { LlmtsError } from "../../src/errors.ts";

function problem(): string | undefined {
  try {
    openDevice({ device: "cuda" });
    return undefined;
  } catch (error) {
    if (error instanceof LlmtsError) return error.message;
    throw error;
  }
}

/** Why no test can run on a GPU here, or undefined where they can. */
export const NO_GPU = problem();

/** What makes the tests that take TEST_DEVICES, and tests/cuda/device_test.ts, run on the GPU. */
export const ON_GPU = { LLMTS_TEST_GPU: "" } as const;

/** Registers a test; `missing` says what else it lacks here. */
export function gpuTest(name: string, missing: string | undefined, fn: () => void | Promise<void>): void {
  const why = NO_GPU ?? missing;
  Deno.test({ name: why === undefined ? name : `${name} (skipped: ${why})`, ignore: why !== undefined, fn });
}
