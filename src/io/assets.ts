/**
 * Files that come with the program: the built-in corpus (made by `deno task build`).
 *
 * @module
 */
import { join, resolve } from "@std/path";
import { LlmtsError } from "../errors.ts";
import { isFile } from "./files.ts";

/**
 * The path of an asset such as `moby_dick_train.bin`. It lies in the folder assets of LLMTS_HOME (the portable
 * executable sets it), or in build/assets beside the sources, which `deno compile` embeds under the same path.
 *
 * @throws {LlmtsError} no folder holds it; the message lists those tried
 */
export function assetPath(name: string): string {
  const home = Deno.env.get("LLMTS_HOME");
  const folders = [
    home ? join(home, "assets") : undefined,
    // Undefined where the module was loaded from the network.
    import.meta.dirname === undefined ? undefined : resolve(import.meta.dirname, "../../build/assets"),
  ];
  const paths = folders.filter((folder) => folder !== undefined).map((folder) => join(folder, name));
  const found = paths.find(isFile);
  if (found !== undefined) return found;
  throw new LlmtsError(
    `The asset "${name}" was not found, tried ${paths.map((path) => `"${path}"`).join(", ") || "no folder"}`,
    { hint: "deno task build" },
  );
}
