/**
 * Makes the one executable, ./llmts: with `deno compile` where denort can be had, and portable otherwise.
 * Says which it made and why. The `compile` task.
 *
 * @module
 */
import { basename, join } from "@std/path";
import config from "../deno.json" with { type: "json" };
import { LlmtsError } from "../src/errors.ts";
import { run } from "./compile/command.ts";
import { compileWithDenort, findDenort } from "./compile/denort.ts";
import { type BuiltFile, builtFiles, ROOT } from "./compile/files.ts";
import { makePortable } from "./compile/portable.ts";

/** What was made, and why this kind. */
interface Made {
  readonly path: string;
  readonly kind: "deno compile" | "portable";
  readonly reason: string;
}

/**
 * Makes the executable in an empty folder and sees that it starts.
 *
 * @throws {LlmtsError} neither kind could be made
 */
async function make(folder: string, files: readonly BuiltFile[]): Promise<Made> {
  const denort = await findDenort();
  let reason = "missing" in denort
    ? `there is no denort: ${denort.missing}`
    : `denort is from ${denort.from}`;
  if ("from" in denort) {
    try {
      const path = await compileWithDenort(folder, files);
      await tryOut(path, folder);
      return { path, kind: "deno compile", reason };
    } catch (error) {
      if (!(error instanceof LlmtsError)) throw error;
      reason = `with denort from ${denort.from}: ${error.message}`;
    }
  }
  const path = await makePortable(folder, files);
  await tryOut(path, folder);
  return { path, kind: "portable", reason };
}

/** @throws {LlmtsError} the executable does not start, or is something else: a denort that was named may be anything */
async function tryOut(path: string, folder: string): Promise<void> {
  const said =
    (await run(path, ["--version"], { cwd: folder, env: { XDG_CACHE_HOME: join(folder, "cache") } }))
      .trim();
  if (said !== `llmts ${config.version}`) {
    const line = said.split("\n", 1)[0];
    throw new LlmtsError(`the executable says "${line}" for its version, expected "llmts ${config.version}"`);
  }
}

/** Removes what the portable executable `old`, to be replaced by `made`, unpacked for itself. */
async function forget(old: string, made: string): Promise<void> {
  const hash = await contentHash(old);
  if (hash === undefined || hash === await contentHash(made)) return;
  const cache = Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME") ?? "/", ".cache");
  await Deno.remove(join(cache, "llmts", hash), { recursive: true }).catch((error: unknown) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}

/** The hash in a portable executable's launcher; undefined for another file or none. */
async function contentHash(path: string): Promise<string | undefined> {
  const start = new Uint8Array(1024);
  try {
    using file = await Deno.open(path);
    await file.read(start);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  return new TextDecoder().decode(start).match(/^hash='([0-9a-f]{64})'$/m)?.[1];
}

if (import.meta.main) {
  try {
    const folder = await Deno.makeTempDir({ dir: ROOT, prefix: ".llmts." });
    try {
      const made = await make(folder, await builtFiles());
      const output = join(ROOT, basename(made.path));
      await forget(output, made.path);
      await Deno.rename(made.path, output);
      const megabytes = ((await Deno.stat(output)).size / 1e6).toFixed(0);
      console.log(`${basename(output)}: ${made.kind} executable, ${megabytes} MB; ${made.reason}`);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  } catch (error) {
    if (!(error instanceof LlmtsError)) throw error;
    console.error(`compile: ${error.message}${error.hint === undefined ? "" : ` (${error.hint})`}`);
    Deno.exit(1);
  }
}
