/**
 * Token data in one file or in several, its shards. Each is checked once, when the data is opened; after that one file is
 * open at a time, and read by position.
 *
 * @module
 */
import { globSync } from "node:fs";
import { join, resolve } from "@std/path";
import { FileError } from "../errors.ts";
import { exists, isFolder } from "./files.ts";
import { TokenReader } from "./tokens.ts";

/** Token files as one. */
export interface Shards extends Disposable {
  readonly paths: readonly string[];
  /** Tokens in each. */
  readonly lengths: readonly number[];
  /** Fills `out` from token `position` of a shard on. @throws {FileError} an id is not in [0, V) */
  read(shard: number, position: number, out: Int32Array): void;
}

/**
 * The files that names stand for, sorted bytewise, each once. A name that exists is taken as it is, `[` and `*` included;
 * any other that has one of `* ? [ {` is a pattern.
 *
 * @throws {FileError} a name stands for no file, or for a folder
 */
export function findShards(names: readonly string[]): string[] {
  const found = new Map<string, string>(); // a.bin is ./a.bin too
  for (const path of names.flatMap(matches)) found.set(resolve(path), found.get(resolve(path)) ?? path);
  return [...found.values()].sort(bytewise);
}

function matches(name: string): string[] {
  if (isFolder(name)) {
    throw new FileError(name, "is a folder, expected files", {
      hint: `give a pattern in quotes, such as '${join(name, "*_train*.bin")}'`,
    });
  }
  if (exists(name) || !/[*?[{]/.test(name)) return [name]; // one that is missing is reported when it is opened
  const found = globSync(name).filter((path) => !isFolder(path));
  if (found.length === 0) {
    throw new FileError(name, "no file matches this pattern", { hint: "llmts data makes token files" });
  }
  return found;
}

/** By the bytes of UTF-8, the same on every machine. JavaScript's own order differs beyond U+FFFF. */
function bytewise(a: string, b: string): number {
  const [first, second] = [a, b].map((text) => new TextEncoder().encode(text)) as [Uint8Array, Uint8Array];
  const at = first.findIndex((byte, i) => byte !== second[i]);
  return at < 0 ? first.length - second.length : first[at]! - (second[at] ?? -1);
}

/**
 * Opens token files and checks each: magic, version, size.
 *
 * @param V ids must be in [0, V); they are checked as they are read
 * @throws {FileError} one is missing, of another format, or damaged
 */
export function openShards(paths: readonly string[], V: number): Shards {
  const lengths = paths.map((path) => {
    using reader = new TokenReader(path, V);
    return reader.length;
  });
  let open: { shard: number; reader: TokenReader } | undefined;
  return {
    paths,
    lengths,
    read(shard, position, out): void {
      if (open?.shard !== shard) {
        const reader = new TokenReader(paths[shard]!, V);
        open?.reader[Symbol.dispose]();
        open = { shard, reader };
        if (reader.length !== lengths[shard]) {
          throw new FileError(
            reader.path,
            `has ${reader.length} tokens, and had ${lengths[shard]} when it was first opened`,
          );
        }
      }
      open.reader.read(position, out);
    },
    [Symbol.dispose](): void {
      open?.reader[Symbol.dispose]();
      open = undefined;
    },
  };
}

/** A file that two sets of files have in common, by whichever names and links, or undefined. */
export function commonFile(first: readonly string[], second: readonly string[]): string | undefined {
  const real = new Set(first.map(realPath));
  return second.find((path) => real.has(realPath(path)));
}

/** A file's path without links; as it is where there is no file, which is reported when it is opened. */
function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch {
    return path;
  }
}
