/**
 * The built files that go into the executable.
 *
 * @module
 */
import { dirname, fromFileUrl, join } from "@std/path";
import { LlmtsError } from "../../src/errors.ts";

/** The project's folder. */
export const ROOT: string = join(dirname(fromFileUrl(import.meta.url)), "..", "..");

/** A file of the build folder: `name` is its place under build/, as in `lib/libllmts_cpu.so`. */
export interface BuiltFile {
  readonly name: string;
  readonly path: string;
}

const EXTENSION: Readonly<Record<string, string>> = { darwin: ".dylib", windows: ".dll" };

/**
 * The kernel libraries of this operating system and the assets, by name.
 *
 * @throws {LlmtsError} there are none yet
 */
export async function builtFiles(build: string = join(ROOT, "build")): Promise<BuiltFile[]> {
  const extension = EXTENSION[Deno.build.os] ?? ".so";
  return [
    ...await filesIn(build, "lib", (name) => name.endsWith(extension)),
    ...await filesIn(build, "assets", () => true),
  ];
}

async function filesIn(
  build: string,
  folder: string,
  wanted: (name: string) => boolean,
): Promise<BuiltFile[]> {
  const files: BuiltFile[] = [];
  try {
    for await (const { name, isFile } of Deno.readDir(join(build, folder))) {
      if (isFile && wanted(name)) files.push({ name: `${folder}/${name}`, path: join(build, folder, name) });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  if (files.length === 0) {
    throw new LlmtsError(`"${join(build, folder)}" holds nothing to put into the executable`, {
      hint: "run `deno task build` first",
    });
  }
  return files.sort((a, b) => a.name < b.name ? -1 : 1);
}
