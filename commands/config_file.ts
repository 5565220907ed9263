/**
 * A file of flags: a JSON object with a command's flags by name, without their dashes: `{"batch-size": 8, "resume": true}`.
 * Values are as strict as on the command line, numbers are JSON numbers, and a flag without a value is true or false.
 * Paths are relative to the current folder, as they are on the command line.
 *
 * @module
 */
import { evaluate, type ObjectNode, parse } from "@humanwhocodes/momoa";
import { closestString } from "@std/text/closest-string";
import { FileError } from "../src/errors.ts";
import { readText } from "../src/io/text.ts";
import { expectation, valueOfJson } from "./flag_value.ts";
import { type Flag, flagName, type FlagTable } from "./flags.ts";

/** `--config`: a command that has it in its table, as any property, takes its flags from a file too. */
export const CONFIG_FLAG = {
  type: "config",
  value: "FILE",
  absent: "none",
  description: "take flags from a JSON file, by name; those on the command line go before it",
  group: "Configuration",
} as const satisfies Flag;

/**
 * Reads a file of flags: properties of the table and their values.
 *
 * @throws {FileError} it can't be read, is no JSON object, has a name twice or one that is no flag, or a value that the flag
 * doesn't take
 */
export function readConfig(path: string, flags: FlagTable): Map<string, string | number | boolean> {
  const properties = configurable(flags);
  const found = new Map<string, string | number | boolean>();
  const { text, members } = parseObject(path);
  for (const { name: key, value: node, loc } of members) {
    const name = key.type === "String" ? key.value : key.name;
    const at = `line ${loc.start.line}`;
    const property = properties.get(name);
    const flag = property === undefined ? undefined : flags[property];
    if (property === undefined || flag === undefined) {
      const nearest = closestString(name, [...properties.keys()]);
      throw new FileError(path, `${at} has the unknown flag "${name}"`, {
        hint: `did you mean "${nearest}"? Names are the flags' without dashes before them`,
      });
    }
    if (found.has(property)) {
      throw new FileError(path, `${at} has "${name}" again`, { hint: `give "${name}" once` });
    }
    const value = valueOfJson(flag, evaluate(node));
    if (value === undefined) {
      const { start, end } = node.loc;
      const written = text.slice(start.offset, end.offset).replace(/\s+/g, " "); // JSON has no word for 1e999
      throw new FileError(path, `${at}: "${name}" is ${written}, expected ${expectation(flag)}`);
    }
    found.set(property, value);
  }
  return found;
}

/** The flags of a table that a config file may have, by their names in it: not the one that names the file. */
function configurable(flags: FlagTable): Map<string, string> {
  const entries = Object.entries(flags).filter(([, { type }]) => type !== "config");
  return new Map(entries.map(([property]) => [flagName(property).slice(2), property]));
}

/**
 * A config file's text for the values that a command runs with: reading it gives them again. Flags that are undefined are
 * left out.
 *
 * @param values by property, as parsed, or as the command has settled them
 */
export function effectiveConfig(flags: FlagTable, values: Readonly<Record<string, unknown>>): string {
  const entries = [...configurable(flags)].map(([name, property]) => [name, values[property]]);
  return JSON.stringify(Object.fromEntries(entries), null, 2) + "\n";
}

function parseObject(path: string): { text: string; members: ObjectNode["members"] } {
  const text = readText(path).replace(/^\ufeff/, ""); // a byte order mark, as editors on Windows write
  try {
    JSON.parse(text);
  } catch (cause) {
    throw new FileError(path, `is not JSON: ${(cause as Error).message.replace(/\s+/g, " ")}`, { cause });
  }
  // JSON.parse takes the last of two equal names without a word; the syntax tree has both, and their lines.
  const { body } = parse(text, { mode: "json" });
  if (body.type !== "Object") {
    throw new FileError(path, `is a JSON ${body.type.toLowerCase()}, expected an object of flags by name`);
  }
  return { text, members: body.members };
}
