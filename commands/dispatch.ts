/**
 * From the program's arguments to an exit code: finds the command, runs it, words its errors.
 *
 * @module
 */
import { greaterOrEqual } from "@std/semver/greater-or-equal";
import { parse } from "@std/semver/parse";
import { closestString } from "@std/text/closest-string";
import { LlmtsError, UsageError } from "../src/errors.ts";
import type { Command } from "./command.ts";
import { programHelp } from "./help.ts";
import { notice, print } from "./output.ts";

/** A line of the program's help, and the module behind it, imported only when the command runs. */
export interface CommandEntry {
  readonly name: string;
  /** One line, for the list of commands and the head of the command's own help. */
  readonly summary: string;
  load(): Promise<{ command: Command }>;
}

/** The oldest Deno that llmts is tested with. */
const OLDEST_DENO = "2.9.6";

/**
 * Runs the command that the arguments name. Never throws and never exits: errors become one or two lines on stderr.
 *
 * @returns the exit code: 0 done, 1 failed, 2 the command line is wrong, 130 interrupted
 */
export async function dispatch(
  commands: readonly CommandEntry[],
  version: string,
  args: readonly string[],
): Promise<number> {
  return await exitCode(args, async () => {
    checkDeno(Deno.version.deno);
    return await run(commands, version, args);
  });
}

/** Runs a program with its arguments: what it returns, or its error in words on stderr and as an exit code. */
export async function exitCode(args: readonly string[], run: () => Promise<number>): Promise<number> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return 0; // whoever read stdout has enough: `llmts sample | head -1`
    for (const line of errorLines(error, args.includes("--debug"))) notice(line);
    return error instanceof UsageError ? 2 : 1;
  }
}

async function run(
  commands: readonly CommandEntry[],
  version: string,
  args: readonly string[],
): Promise<number> {
  if (args[0] === "help") return await run(commands, version, [...args.slice(1), "--help"]);
  const [first, ...rest] = args;
  if (first === undefined || first === "--help" || first === "-h") {
    print(programHelp(commands));
    return 0;
  }
  if (first === "--version" || first === "-V") {
    print(`llmts ${version}\n`);
    return 0;
  }
  if (first.startsWith("-")) {
    throw new UsageError(`Unknown flag "${first}" before the command`, {
      hint: "llmts COMMAND [flags]; the commands: llmts --help",
    });
  }
  const entry = commands.find(({ name }) => name === first);
  if (entry === undefined) {
    const nearest = closestString(first, commands.map(({ name }) => name));
    throw new UsageError(`Unknown command "${first}"`, {
      hint: `did you mean ${nearest}? The commands: llmts --help`,
    });
  }
  const { command } = await entry.load();
  return await command.execute(`llmts ${entry.name}`, entry.summary, rest);
}

/**
 * Refuses a Deno that is too old for what llmts calls.
 *
 * @throws {LlmtsError} with the command that installs a newer one
 */
export function checkDeno(found: string): void {
  if (greaterOrEqual(parse(found), parse(OLDEST_DENO))) return;
  throw new LlmtsError(`llmts needs Deno ${OLDEST_DENO} or newer, this is ${found}`, {
    hint: "deno upgrade, or npm install -g deno@2.9.6",
  });
}

/** An error as lines for stderr: message, then hint; for what no user can have caused, that it is a bug. */
export function errorLines(error: unknown, debug: boolean): string[] {
  const message = error instanceof Error ? error.message : String(error);
  const stack = debug && error instanceof Error && error.stack !== undefined ? [error.stack] : [];
  return [`llmts: ${message}`, ...hintLines(error, debug), ...stack];
}

function hintLines(error: unknown, debug: boolean): string[] {
  if (error instanceof LlmtsError) return error.hint === undefined ? [] : [`hint: ${error.hint}`];
  if (error instanceof Deno.errors.NotCapable) return ["hint: deno run -A cli.ts gives llmts all it needs"];
  if (isSystemError(error)) return [];
  return [`hint: this is a bug in llmts${debug ? "" : "; the same command with --debug prints where"}`];
}

/** Whether the operating system refused something (a full disk, a folder without permission): no bug. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string" &&
    /^E[A-Z]+$/.test(error.code);
}
