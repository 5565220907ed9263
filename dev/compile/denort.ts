/**
 * The `deno compile` kind of executable: its base is denort, Deno's runtime without the tools, which Deno downloads.
 *
 * @module
 */
import { join } from "@std/path";
import { LlmtsError } from "../../src/errors.ts";
import { run } from "./command.ts";
import { type BuiltFile, ROOT } from "./files.ts";
import { PERMISSIONS } from "./permissions.ts";

/** Where denort comes from, or why it can't be had. */
export type Denort = { readonly from: string } | { readonly missing: string };

/**
 * Looks for denort where `deno compile` does: the environment's DENORT_BIN, the archive in DENO_DIR, the network. The
 * network gets five seconds to answer, so that a machine without one does not wait.
 *
 * @throws {LlmtsError} DENORT_BIN names no file
 */
export async function findDenort(): Promise<Denort> {
  const named = Deno.env.get("DENORT_BIN");
  if (named !== undefined) {
    if (await isFile(named)) return { from: `DENORT_BIN ("${named}")` };
    throw new LlmtsError(`DENORT_BIN is "${named}", which is not a file`);
  }
  const place = `release/v${Deno.version.deno}/denort-${Deno.build.target}.zip`;
  const { denoDir } = JSON.parse(await run(Deno.execPath(), ["info", "--json"])) as { denoDir: string };
  const cached = join(denoDir, "dl", place);
  if (await isFile(cached)) return { from: `DENO_DIR ("${cached}")` };
  const address = `https://dl.deno.land/${place}`;
  try {
    const response = await fetch(address, { method: "HEAD", signal: AbortSignal.timeout(5000) });
    return response.ok ? { from: address } : { missing: `${address} answers ${response.status}` };
  } catch {
    return { missing: `DENORT_BIN is not set, "${cached}" is not there and ${address} can't be reached` };
  }
}

/**
 * Makes the executable with `deno compile` in a working folder.
 *
 * @param folder an empty folder
 * @param files the libraries and assets, under the project's build/ folder: they keep their place beside the modules
 * @param program the module to start
 * @returns the executable's path
 * @throws {LlmtsError} `deno compile` failed
 */
export async function compileWithDenort(
  folder: string,
  files: readonly BuiltFile[],
  program: string = join(ROOT, "cli.ts"),
): Promise<string> {
  const output = join(folder, Deno.build.os === "windows" ? "llmts.exe" : "llmts");
  await run(Deno.execPath(), [
    "compile",
    "--no-check",
    "--no-prompt",
    "--exclude-unused-npm",
    ...PERMISSIONS,
    ...files.flatMap((file) => ["--include", file.path]),
    "--output",
    output,
    program,
  ]);
  return output;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch {
    return false;
  }
}
