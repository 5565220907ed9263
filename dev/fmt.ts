/**
 * Formats all sources, or with `--check` only says what is not formatted: TypeScript, JSON and Markdown with
 * `deno fmt`, C++ and CUDA with clang-format where that is installed. The `fmt` task.
 *
 * @module
 */
import { dirname, fromFileUrl, join } from "@std/path";

const ROOT = join(dirname(fromFileUrl(import.meta.url)), "..");

async function nativeSources(folder: string): Promise<string[]> {
  const sources: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(ROOT, folder))) {
    if (isDirectory) sources.push(...await nativeSources(join(folder, name)));
    else if (/\.(h|cpp|cuh|cu)$/.test(name)) sources.push(join(folder, name));
  }
  return sources.sort();
}

/** Runs a program in the project's folder; false if it fails, undefined if it is not installed. */
async function succeeds(program: string, args: readonly string[]): Promise<boolean | undefined> {
  try {
    return (await new Deno.Command(program, { args: [...args], cwd: ROOT, stdin: "null" }).spawn().status)
      .success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

if (import.meta.main) {
  const check = Deno.args[0] === "--check";
  if (Deno.args.length > (check ? 1 : 0)) {
    console.error(`fmt: arguments are "${Deno.args.join(" ")}", expected none or --check`);
    Deno.exit(2);
  }
  const text = await succeeds(Deno.execPath(), ["fmt", ...(check ? ["--check"] : [])]);
  const sources = (await Promise.all(["kernels", "tests", "bench"].map(nativeSources))).flat();
  const native = await succeeds("clang-format", [
    ...(check ? ["--dry-run", "--Werror"] : ["-i"]),
    ...sources,
  ]);
  console.log(
    native === undefined
      ? `skipped: ${sources.length} C++ files, clang-format is not installed`
      : `clang-format: ${sources.length} files ${native ? "ok" : "not formatted"}`,
  );
  Deno.exit(text && native !== false ? 0 : 1);
}
