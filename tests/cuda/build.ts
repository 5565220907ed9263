/**
 * Builds the CUDA sources for the host, with the emulation of kernels/cuda/emulation, and runs programs.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { join } from "@std/path";

/** The project's folder. */
export const ROOT = join(import.meta.dirname!, "..", "..");
/** Where the emulated library, the checks and their archives are. */
export const EMULATED = join(ROOT, "build", "lib-emulated");
/** A build folder of its own: the main one may be in use by another build. */
const BUILD = join(ROOT, "build", "cmake-emulated");

/** What a program did. */
export interface Outcome {
  readonly code: number;
  /** Standard output and standard error, in that order. */
  readonly output: string;
}

/** Runs a program in the project's folder. */
export async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const command = new Deno.Command(program, {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await command.output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

/** Runs a program that has to succeed; a failure shows what it printed last. */
export async function succeed(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { code, output } = await run(program, args, env);
  assertEquals(code, 0, `${program} ${args.join(" ")}\n${output.slice(-3000)}`);
  return output;
}

let configured: Promise<unknown> | undefined;

/** Builds targets of kernels/cuda/CMakeLists.txt and tests/cuda/CMakeLists.txt. */
export async function build(...targets: readonly string[]): Promise<void> {
  configured ??= succeed("cmake", [
    ...["-S", "kernels", "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"],
  ]);
  await configured;
  await succeed("cmake", ["--build", BUILD, "--target", ...targets]);
}

/** Whether a program is on the PATH. */
export function isInstalled(program: string): boolean {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return folders.some((folder) => {
    try {
      return Deno.statSync(join(folder, program)).isFile;
    } catch {
      return false;
    }
  });
}

/** Environment of a program with a sanitizer: fibers leave stacks behind that would be taken for leaks. */
export const SANITIZER_ENV = {
  ASAN_OPTIONS: "detect_leaks=0:detect_stack_use_after_return=0",
  UBSAN_OPTIONS: "print_stacktrace=1",
} as const;
