// What the tests of the executables share.

import { join } from "@std/path";

/** How a run of an executable ended. */
export interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs an executable with its standard input closed. */
export async function start(
  path: string,
  args: readonly string[],
  { cwd, env }: { cwd: string; env: Readonly<Record<string, string>> },
): Promise<Run> {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: ["-c", 'exec "$0" "$@" <&-', path, ...args],
    cwd,
    env: { PATH: Deno.env.get("PATH")!, ...env },
    clearEnv: true,
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** A temporary folder with a space in its name, removed at the end of the scope. */
export async function spacedFolder(): Promise<{ path: string } & AsyncDisposable> {
  const parent = await Deno.makeTempDir();
  const path = join(parent, "a folder");
  await Deno.mkdir(path);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(parent, { recursive: true }) };
}
