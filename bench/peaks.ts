/**
 * What this machine does at most: compiles and runs bench/peaks.cpp.
 *
 * @module
 */
import { join } from "@std/path";
import { LlmtsError } from "../src/errors.ts";
import type { Precision } from "./cases.ts";
import type { Limits } from "./costs.ts";
import { parsePeaks, PEAK_NAMES, type PeakName, type Peaks } from "./results.ts";

async function run(program: string, args: readonly string[]): Promise<string> {
  let output: Deno.CommandOutput;
  try {
    output = await new Deno.Command(program, { args: [...args] }).output();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new LlmtsError(`"${program}" is not installed`, { hint: "./setup.sh installs it, or set CXX" });
  }
  if (output.success) return new TextDecoder().decode(output.stdout);
  const words = new TextDecoder().decode(output.stderr).trim();
  throw new LlmtsError(`"${program} ${args.join(" ")}" failed: ${words}`);
}

/**
 * Measures with one thread and with `threads`. Takes about 100 times `milliseconds`.
 *
 * @param root the project's folder, which has a folder build
 * @throws {LlmtsError} there is no compiler (`CXX`, else `c++`) or it fails
 */
export async function measurePeaks(root: string, threads: number, milliseconds: number): Promise<Peaks> {
  const program = join(root, "build", "peaks");
  const source = join(root, "bench", "peaks.cpp");
  await run(Deno.env.get("CXX") ?? "c++", [
    "-std=c++17",
    "-O3",
    Deno.build.arch === "x86_64" ? "-march=native" : "-mcpu=native",
    "-pthread",
    `-I${join(root, "kernels")}`,
    source,
    "-o",
    program,
  ]);
  return parsePeaks(await run(program, [String(threads), String(milliseconds)]));
}

/** The samples of two measurements of the same machine: one before all else, one after, as it may have been busy in either. */
export function mergePeaks(before: Peaks, after: Peaks): Peaks {
  const merged = PEAK_NAMES.map((name) => {
    const [a, b] = [before[name], after[name]];
    return [name, a === null || b === null ? null : { one: [...a.one, ...b.one], all: [...a.all, ...b.all] }];
  });
  return { threads: before.threads, ...Object.fromEntries(merged) } as Peaks;
}

/** The best sample with all threads, as what is compared with it must be below it; undefined where there is none. */
export function best(peaks: Peaks, name: PeakName): number | undefined {
  const peak = peaks[name];
  return peak === null ? undefined : Math.max(...peak.all);
}

/** The ways to multiply in a precision. */
const PRODUCTS = {
  fp32: ["fma_fp32"],
  bf16: ["fma_fp32", "dot_bf16", "amx_bf16"],
  int8: ["fma_fp32", "dot_bf16", "amx_bf16", "dot_int8"],
} as const satisfies Record<Precision, readonly PeakName[]>;

/** What bounds work in a precision: the fastest way to multiply in it, to read, to move bytes in and out. */
export function limitsOf(peaks: Peaks, precision: Precision): Limits {
  const greatest = (names: readonly PeakName[]): number =>
    Math.max(...names.map((name) => best(peaks, name) ?? 0));
  return {
    flops: 1e9 * greatest(PRODUCTS[precision]),
    read: 1e9 * greatest(["read"]),
    moved: 1e9 * greatest(["read", "write", "copy", "update"]),
  };
}
