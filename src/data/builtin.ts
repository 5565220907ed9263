/**
 * The corpus that comes with the program, by names that hold wherever the program keeps its files.
 *
 * @module
 */
import { isAbsolute } from "@std/path";
import { UsageError } from "../errors.ts";
import { assetPath } from "../io/assets.ts";
import { exists } from "../io/files.ts";

const PREFIX = "built-in:";

/** The names of its token files. */
export const BUILT_IN = { train: `${PREFIX}moby_dick_train.bin`, val: `${PREFIX}moby_dick_val.bin` };

/** What it is. */
export const BUILT_IN_TITLE = "Moby Dick";

/**
 * The name of a token file that a run can keep: the path itself, or the built-in file for which it stands. Earlier versions
 * kept the path of that, which is gone once the program is made anew or its cache is cleared.
 */
export function lastingName(path: string): string {
  const built = /[/\\]assets[/\\](moby_dick_(?:train|val)\.bin)$/.exec(path)?.[1];
  return built === undefined || !isAbsolute(path) || exists(path) ? path : `${PREFIX}${built}`;
}

/** The path of a token file by its name: of a built-in one, or the name itself. @throws {UsageError} none is built in by it */
export function tokenFile(name: string): string {
  if (!name.startsWith(PREFIX)) return name;
  const names = Object.values(BUILT_IN);
  if (names.includes(name)) return assetPath(name.slice(PREFIX.length));
  throw new UsageError(`"${name}" is not built in, expected ${names.join(" or ")}`, {
    hint: `a file of that name is given as ./${name}`,
  });
}
