/**
 * How a command is declared: its flag table, its help and what it does with the parsed values.
 *
 * @module
 */
import { type FlagTable, type FlagValues, parseFlags, wantsHelp } from "./flags.ts";
import { type CommandHelp, commandHelp } from "./help.ts";
import { print } from "./output.ts";

/** A command as its file declares it. */
export interface CommandDefinition<T extends FlagTable> extends CommandHelp {
  readonly flags: T;
  /** Does the work and returns the exit code. `given` names the flags that are not there by default. */
  run(
    values: FlagValues<T>,
    positionals: readonly string[],
    given: ReadonlySet<keyof T>,
  ): Promise<number> | number;
}

/** A command ready to be called with arguments. */
export interface Command extends CommandHelp {
  /**
   * Parses the arguments, then prints the help or runs; returns the exit code.
   *
   * @param name what a user types for it
   * @throws {UsageError} the arguments are wrong
   */
  execute(name: string, summary: string, args: readonly string[]): Promise<number>;
}

/** Ties a flag table to the function that gets its values. */
export function defineCommand<const T extends FlagTable>(definition: CommandDefinition<T>): Command {
  const { flags, positionals } = definition;
  return {
    ...definition,
    async execute(name, summary, args): Promise<number> {
      if (wantsHelp(args)) {
        print(commandHelp(name, summary, definition));
        return 0;
      }
      const parsed = parseFlags({ usage: name, flags, positionals }, args);
      return await definition.run(parsed.values, parsed.positionals, parsed.given);
    },
  };
}
