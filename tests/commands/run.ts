/**
 * Running llmts as its users do: a process of its own, in a folder of its own.
 *
 * @module
 */
import { resolve } from "@std/path";

/** How a run of llmts ended. */
export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const ROOT = resolve(import.meta.dirname!, "../..");

/** What a run may be given beside arguments. */
export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** What to run, from the project's root. Default: `cli.ts`. */
  readonly script?: string;
  /** Deno's permission flags. Default: all. */
  readonly permissions?: readonly string[];
}

/** Starts `llmts ARGUMENTS` in a folder. Its stdin is closed unless `stdin` says otherwise. */
export function start(
  folder: string,
  args: readonly string[],
  options: RunOptions & { stdin?: "null" | "piped" } = {},
): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      ...options.permissions ?? ["-A"],
      "--no-prompt",
      `${ROOT}/${options.script ?? "cli.ts"}`,
      ...args,
    ],
    cwd: folder,
    env: { NO_COLOR: "1", CUDA_VISIBLE_DEVICES: "", ...options.env }, // the CPU, also where there is a GPU
    stdin: options.stdin ?? "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs `llmts ARGUMENTS` in a folder to its end, with `input` on stdin where it is given. */
export async function llmts(
  folder: string,
  args: readonly string[],
  { input, ...options }: RunOptions & { input?: string | Uint8Array<ArrayBuffer> } = {},
): Promise<Result> {
  const child = start(folder, args, { stdin: input === undefined ? "null" : "piped", ...options });
  if (input !== undefined) {
    // What ends without having read it all is no failure here.
    await new Blob([input]).stream().pipeTo(child.stdin).catch(() => {});
  }
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

/** Runs `llmts ARGUMENTS` in a folder, and sends a signal once what it has printed matches `at`. */
export async function signalled(
  folder: string,
  args: readonly string[],
  { at, signal }: { at: RegExp; signal: Deno.Signal },
): Promise<Result & { readonly signal: Deno.Signal | null }> {
  const child = start(folder, args);
  const stderr = new Response(child.stderr).text();
  let stdout = "";
  let sent = false;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    stdout += text;
    if (sent || !at.test(stdout)) continue;
    child.kill(signal);
    sent = true;
  }
  const { code, signal: ended } = await child.status;
  return { code, signal: ended, stdout, stderr: await stderr };
}
