/**
 * A command's flags, declared once: the table of a command drives parsing, `--help` and the README, and the type of the
 * parsed values follows from it.
 *
 * A table's keys are the properties of the parsed values; the flag is the same name with dashes: `batchSize` is
 * `--batch-size`.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { closestString } from "@std/text/closest-string";
import { UsageError } from "../src/errors.ts";
import { readConfig } from "./config_file.ts";
import { expectation, valueOfText } from "./flag_value.ts";

interface FlagBase {
  /** One line for the help, without the default. */
  readonly description: string;
  /** Heading in the help under which the flag stands. */
  readonly group: string;
  /** What happens without the flag, where that is not a fixed value. */
  readonly absent?: string;
  /** Property of another flag that says the same in another way: given as an argument, either takes the place of the other in a
   * config file. */
  readonly insteadOf?: string;
}

/** A number; `integer` takes whole numbers only. Bounds are inclusive but for `above`. */
export interface NumberFlag extends FlagBase {
  readonly type: "integer" | "number";
  /** Name of the value in the help. */
  readonly value: string;
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
  readonly default?: number;
}

/** Text: a `string` may be empty, a `path` may not. A `config` is the path of a file of flags, see config_file.ts. */
export interface TextFlag extends FlagBase {
  readonly type: "string" | "path" | "config";
  readonly value: string;
  readonly default?: string;
}

/** One of a few words. */
export interface ChoiceFlag extends FlagBase {
  readonly type: "choice";
  readonly choices: readonly string[];
  readonly default?: string;
}

/** On when given; takes no value. */
export interface BooleanFlag extends FlagBase {
  readonly type: "boolean";
}

/** One flag of a command. */
export type Flag = NumberFlag | TextFlag | ChoiceFlag | BooleanFlag;

/** The flags of a command, by the name of the property that receives the value. */
export type FlagTable = Readonly<Record<string, Flag>>;

/** The arguments of a command that are not flags. */
export interface Positionals {
  /** Name in the help. */
  readonly name: string;
  readonly description: string;
  readonly min: number;
  readonly max: number;
}

type Value<F extends Flag> = F extends { type: "integer" | "number" } ? number
  : F extends { type: "boolean" } ? boolean
  : F extends { type: "choice"; choices: readonly (infer Choice)[] } ? Choice
  : string;

/** What a table parses to: flags without a default are undefined where absent. */
export type FlagValues<T extends FlagTable> = {
  readonly [K in keyof T]: T[K] extends { type: "boolean" } | { default: string | number } ? Value<T[K]>
    : Value<T[K]> | undefined;
};

/** What {@linkcode parseFlags} needs to know of a command. */
export interface FlagSpec<T extends FlagTable> {
  /** As typed, for the hints: "llmts train". */
  readonly usage: string;
  readonly flags: T;
  readonly positionals?: Positionals | undefined;
}

/** Flags that every command has. */
export const COMMON_FLAGS = {
  help: { type: "boolean", description: "print this help", group: "Common" },
  debug: { type: "boolean", description: "print a stack trace with an error", group: "Common" },
} as const satisfies FlagTable;

/** `batchSize` as typed: `--batch-size`. */
export function flagName(property: string): string {
  return "--" + property.replace(/[A-Z]/g, (letter) => "-" + letter.toLowerCase());
}

/**
 * Whether the arguments ask for help, wherever it stands among them: then nothing else is parsed.
 */
export function wantsHelp(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return args.slice(0, end < 0 ? undefined : end).some((arg) => arg === "--help" || arg === "-h");
}

/**
 * Parses a command's arguments strictly: `--flag value` and `--flag=value`, each flag at most once; after `--` only
 * positional arguments. A value that starts with a dash is taken as it is unless it is a flag of the command.
 *
 * A flag of type `config` names a file whose values hold for the flags that are not among the arguments.
 *
 * @returns the values, and the properties of the flags that are not there by default
 * @throws {UsageError} naming the flag
 * @throws {FileError} the config file can't be read, or has a value or a name that the command line couldn't have
 */
export function parseFlags<T extends FlagTable>(
  spec: FlagSpec<T>,
  args: readonly string[],
): { values: FlagValues<T>; positionals: string[]; given: ReadonlySet<keyof T> } {
  const table: FlagTable = { ...spec.flags, ...COMMON_FLAGS };
  const properties = new Map(Object.keys(table).map((property) => [flagName(property), property]));
  const values: Record<string, string | number | boolean | undefined> = {};
  const positionals: string[] = [];
  for (const token of tokenize(table, args)) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      positionals.push(token.value);
      continue;
    }
    const name = token.rawName;
    const property = properties.get(name);
    const flag = property === undefined ? undefined : table[property];
    if (property === undefined || flag === undefined) {
      throw unknownFlag(spec.usage, args[token.index] ?? name, properties);
    }
    if (Object.hasOwn(values, property)) {
      throw new UsageError(`${name} is given twice`, { hint: `give ${name} once` });
    }
    if (flag.type === "boolean") {
      if (token.value !== undefined) {
        throw new UsageError(`${name} takes no value, found "${token.value}"`, {
          hint: `write ${name} alone`,
        });
      }
      values[property] = true;
      continue;
    }
    if (
      token.value === undefined || (!token.inlineValue && properties.has(token.value.replace(/=.*/s, "")))
    ) {
      const found = token.value === undefined ? "" : `, found the flag "${token.value}"`;
      throw new UsageError(`${name} needs a value${found}`, { hint: `expected ${name} ${valueName(flag)}` });
    }
    values[property] = parseValue(name, flag, token.value);
  }
  checkPositionals(spec, positionals);
  for (const [property, flag] of Object.entries(spec.flags)) {
    const file = values[property];
    if (flag.type !== "config" || typeof file !== "string") continue;
    const replaced = replacedBy(values, spec.flags);
    for (const [name, value] of readConfig(file, spec.flags)) {
      if (!replaced.has(name)) values[name] ??= value;
    }
  }
  const given = new Set<keyof T>(Object.keys(values));
  for (const [property, flag] of Object.entries(spec.flags)) {
    values[property] ??= flag.type === "boolean" ? false : flag.default;
  }
  // The loops above have given every property of the table the type its flag declares.
  return { values: values as FlagValues<T>, positionals, given };
}

/** Name of a flag's value in the help: `N`, `FILE`, `auto|cpu`. Empty for a boolean. */
export function valueName(flag: Flag): string {
  if (flag.type === "boolean") return "";
  return flag.type === "choice" ? flag.choices.join("|") : flag.value;
}

type Token =
  | {
    kind: "option";
    index: number;
    rawName: string;
    value: string | undefined;
    inlineValue: boolean | undefined;
  }
  | { kind: "positional"; index: number; value: string }
  | { kind: "option-terminator"; index: number };

/** Splits arguments by Node's parser, whose tokens tell `--flag=` from `--flag` and keep repeated flags apart. */
function tokenize(table: FlagTable, args: readonly string[]): readonly Token[] {
  const options = Object.fromEntries(
    Object.entries(table).map(([property, flag]) => [
      flagName(property).slice(2),
      { type: flag.type === "boolean" ? "boolean" as const : "string" as const },
    ]),
  );
  return parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true }).tokens;
}

function parseValue(name: string, flag: Exclude<Flag, BooleanFlag>, text: string): string | number {
  const value = valueOfText(flag, text);
  if (value === undefined) {
    throw new UsageError(`${name} is "${text}", expected ${expectation(flag)}`, {
      hint: `expected ${name} ${valueName(flag)}`,
    });
  }
  return value;
}

/** The flags whose place those given take. */
function replacedBy(given: Readonly<Record<string, unknown>>, flags: FlagTable): ReadonlySet<string> {
  const pairs = Object.entries(flags).flatMap(([property, { insteadOf }]) =>
    insteadOf === undefined ? [] : [[property, insteadOf] as const]
  );
  return new Set(pairs.flatMap(([a, b]) => [...(a in given ? [b] : []), ...(b in given ? [a] : [])]));
}

function unknownFlag(usage: string, argument: string, known: ReadonlyMap<string, string>): UsageError {
  const name = argument.replace(/=.*/s, "");
  const nearest = closestString(name.replace(/^-+/, "--"), [...known.keys()]);
  return new UsageError(`Unknown flag "${name}"`, {
    hint: `did you mean ${nearest}? All flags: ${usage} --help`,
  });
}

function checkPositionals<T extends FlagTable>(
  { usage, positionals }: FlagSpec<T>,
  found: readonly string[],
): void {
  const { min, max, name } = positionals ?? { min: 0, max: 0, name: "" };
  if (found.length > max) {
    const allowed = max === 0 ? "no arguments but flags" : `at most ${max} ${name}`;
    throw new UsageError(`Unexpected argument "${found[max]}": ${usage} takes ${allowed}`, {
      hint: `quote names with spaces and patterns; all flags: ${usage} --help`,
    });
  }
  if (found.length < min) {
    throw new UsageError(`${usage} needs ${name}`, { hint: `${usage} --help` });
  }
}
