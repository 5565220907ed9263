/**
 * What commands that have `--force` refuse without it.
 *
 * @module
 */
import { LlmtsError } from "../src/errors.ts";
import { exists, folderEntries, isFolder } from "../src/io/files.ts";

/** @throws {LlmtsError} something is there that would be written over; an empty folder would not */
export function requireFree(path: string): void {
  const empty = isFolder(path) && folderEntries(path).length === 0;
  if (!exists(path) || empty) return;
  throw new LlmtsError(`"${path}" is there already`, { hint: "--force writes over it" });
}
