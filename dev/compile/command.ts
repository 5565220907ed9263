/**
 * Runs the tools that make the executable.
 *
 * @module
 */
import { basename } from "@std/path";
import { LlmtsError } from "../../src/errors.ts";

/**
 * Runs a program to its end, with no input and its output kept.
 *
 * @returns its standard output
 * @throws {LlmtsError} it cannot be run, fails, or takes longer than `seconds`; the message has its last error line
 */
export async function run(
  program: string,
  args: readonly string[],
  { seconds = 600, cwd, env = {} }: { seconds?: number; cwd?: string; env?: Record<string, string> } = {},
): Promise<string> {
  const signal = AbortSignal.timeout(seconds * 1000);
  let result: Deno.CommandOutput;
  try {
    result = await new Deno.Command(program, {
      args: [...args],
      stdin: "null",
      signal,
      ...(cwd === undefined ? {} : { cwd }),
      env: { ...env, NO_COLOR: "1" },
    }).output();
  } catch (cause) {
    throw new LlmtsError(`"${program}" could not be run: ${(cause as Error).message}`, { cause });
  }
  if (result.success) return new TextDecoder().decode(result.stdout);
  const words = signal.aborted
    ? `no end after ${seconds} s`
    : errorLine(new TextDecoder().decode(result.stderr));
  throw new LlmtsError(
    `"${basename(program)} ${args[0] ?? ""}" failed: ${words || `exit code ${result.code}`}`,
  );
}

/** What says most in a tool's error output: Deno's first line `error: …` and its innermost cause, or the last line. */
function errorLine(text: string): string {
  const lines = text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const error = lines.find((line) => line.startsWith("error: "));
  const cause = lines.findLast((line) => /^\d+: (?!<unknown>)/.test(line))?.replace(/^\d+: /, "");
  if (error === undefined) return lines.at(-1) ?? "";
  return cause === undefined ? error : `${error}: ${cause}`;
}
