/**
 * The help of the program and of each command, and the same tables as Markdown for the README: both rendered from
 * the tables that parse the flags.
 *
 * @module
 */
import { COMMON_FLAGS, type Flag, flagName, type FlagTable, type Positionals, valueName } from "./flags.ts";

/** What the help says of a command besides its flags. */
export interface CommandHelp {
  readonly flags: FlagTable;
  readonly positionals?: Positionals | undefined;
  /** Paragraphs below the usage line, each one string. */
  readonly details: readonly string[];
  /** Complete command lines. */
  readonly examples: readonly string[];
}

/** Columns that help is wrapped at. */
const WIDTH = 100;
/** Column where descriptions start. */
const INDENT = 30;

/** The help of the whole program. */
export function programHelp(commands: readonly { name: string; summary: string }[]): string {
  return [
    "llmts: GPT-2 training and sampling in TypeScript",
    "",
    "usage: llmts COMMAND [flags]",
    "",
    "Commands",
    ...commands.map(({ name, summary }) => entry(name, summary)),
    "",
    "  llmts COMMAND --help   the flags of a command",
    "  llmts --version        the version",
    "",
  ].join("\n");
}

/** The help of one command. `name` is what a user types for it. */
export function commandHelp(name: string, summary: string, command: CommandHelp): string {
  const { positionals, details, examples } = command;
  const argument = positionals === undefined ? "" : ` ${positionalUsage(positionals)}`;
  const groups = Map.groupBy(
    Object.entries({ ...command.flags, ...COMMON_FLAGS }),
    ([, flag]) => flag.group,
  );
  return [
    `${name}: ${summary}`,
    "",
    `usage: ${name}${argument} [flags]`,
    ...(positionals === undefined ? [] : [entry(positionals.name, positionals.description)]),
    ...details.flatMap((paragraph) => ["", ...wrap(paragraph, WIDTH)]),
    ...[...groups].flatMap(([group, flags]) => [
      "",
      group,
      ...flags.map(([property, flag]) => entry(usage(property, flag), withDefault(flag))),
    ]),
    ...(examples.length === 0 ? [] : ["", "Examples", ...examples.map((example) => `  ${example}`)]),
    "",
  ].join("\n");
}

/** A command's flags as a Markdown table, laid out as `deno fmt` does; without the flags every command has. */
export function flagsMarkdown(flags: FlagTable): string {
  const rows = Object.entries(flags).map(([property, flag]) => [
    `\`${usage(property, flag)}\``,
    capitalized(flag.description),
    absence(flag) ?? "",
  ]);
  const table = [["Flag", "What it does", "Default"], ...rows]
    .map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = [0, 1, 2].map((column) => Math.max(...table.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  const [head, ...body] = table;
  return [line(head!), line(widths.map((width) => "-".repeat(width))), ...body.map(line), ""].join("\n");
}

function usage(property: string, flag: Flag): string {
  return [flagName(property), valueName(flag)].filter((part) => part !== "").join(" ");
}

function positionalUsage({ name, min, max }: Positionals): string {
  const repeated = max > 1 ? `${name}…` : name;
  return min === 0 ? `[${repeated}]` : repeated;
}

/** The default in words, or undefined where absence means nothing in particular. */
function absence(flag: Flag): string | undefined {
  if (flag.absent !== undefined) return flag.absent;
  return flag.type === "boolean" || flag.default === undefined ? undefined : String(flag.default);
}

function withDefault(flag: Flag): string {
  const text = absence(flag);
  return text === undefined ? flag.description : `${flag.description} (default: ${text})`;
}

/** Two columns; a left side that is too long gets a line of its own. */
function entry(left: string, right: string): string {
  const lines = wrap(right, WIDTH - INDENT);
  const first = `  ${left}`.length < INDENT - 1
    ? [`  ${left}`.padEnd(INDENT) + (lines.shift() ?? "")]
    : [`  ${left}`];
  return [...first, ...lines.map((line) => " ".repeat(INDENT) + line)].join("\n");
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines;
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
