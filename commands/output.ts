/**
 * What commands print: whole writes to stdout, notices to stderr, a progress line in place on a terminal.
 *
 * @module
 */

import { LlmtsError } from "../src/errors.ts";
import { systemReason } from "../src/io/files.ts";

const encoder = new TextEncoder();

/**
 * Writes text to stdout.
 *
 * @throws {Deno.errors.BrokenPipe} nobody reads stdout any more
 * @throws {LlmtsError} it can't be written: a full disk, a terminal that is gone
 */
export function print(text: string): void {
  try {
    writeAll(Deno.stdout, encoder.encode(text));
  } catch (error) {
    const reason = systemReason(error);
    if (reason === undefined || error instanceof Deno.errors.BrokenPipe) throw error;
    throw new LlmtsError(`The output can't be written: ${reason}`, { cause: error });
  }
}

/** Writes a line to stderr; where that can't be written, it is lost. */
export function notice(line: string): void {
  try {
    writeAll(Deno.stderr, encoder.encode(`${line}\n`));
  } catch (error) {
    if (systemReason(error) === undefined) throw error;
  }
}

/** Text that is printed as it comes. */
export interface TextOutput {
  write(text: string): void;
  /** Writes what is held back. */
  flush(): void;
}

/** Characters held back at most where text is written by lines. */
const LONGEST_LINE = 1024;

/** Streams text to stdout: piece by piece on a terminal, by whole lines (or what is long enough) elsewhere. */
export function openText(terminal: boolean = Deno.stdout.isTerminal(), write = print): TextOutput {
  let held = "";
  return {
    write(text): void {
      held += text;
      const ready = terminal || held.length > LONGEST_LINE ? held.length : held.lastIndexOf("\n") + 1;
      if (ready > 0) write(held.slice(0, ready));
      held = held.slice(ready);
    },
    flush(): void {
      if (held !== "") write(held);
      held = "";
    },
  };
}

/** Lines of a log, and a progress line among them. */
export interface Log {
  line(text: string): void;
  /** On a terminal takes the place of the progress line before it, cut to {@linkcode Log.columns}; elsewhere a line like
   * any other. */
  progress(text: string): void;
  /** The longest progress line that there is room for now; infinite where it is a line like any other. */
  columns(): number;
  /** Ends an open progress line, so that other output starts on a line of its own. */
  end(): void;
}

/** A log on stdout. `width` gives the terminal's columns, which may change, or undefined where stdout is none. */
export function openLog(width: () => number | undefined = terminalColumns, write = print): Log {
  let open = false;
  // One column stays free: a full line would wrap and leave itself behind.
  const columns = (): number => (width() ?? Infinity) - 1;
  const end = (): void => {
    if (open) write("\n");
    open = false;
  };
  return {
    end,
    columns,
    line(text): void {
      end();
      write(`${text}\n`);
    },
    progress(text): void {
      const room = columns();
      if (room === Infinity) return write(`${text}\n`);
      write(`\r${text.slice(0, room)}\x1b[K`);
      open = true;
    },
  };
}

/** Columns of the terminal on stdout; undefined where it is a pipe or a file. */
function terminalColumns(): number | undefined {
  if (!Deno.stdout.isTerminal()) return undefined;
  return Deno.consoleSize().columns || 80; // a terminal may not know its width
}

function writeAll(file: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length;) written += file.writeSync(bytes.subarray(written));
}
