/**
 * Ending text at a given string, though it may come in pieces.
 *
 * @module
 */

/** Lets text through up to the string that ends it. */
export interface Stop {
  /** Whether the string has come. */
  readonly reached: boolean;
  /** The text that can be printed now; what may be the beginning of the string is held back. */
  push(text: string): string;
  /** What is still held back, once no more text will come. */
  end(): string;
}

/** Ends text before `stop`; undefined: never. */
export function createStop(stop: string | undefined): Stop {
  let held = "";
  let reached = false;
  return {
    get reached(): boolean {
      return reached;
    },
    push(text): string {
      if (stop === undefined) return text;
      if (reached) return "";
      held += text;
      const found = held.indexOf(stop);
      reached = found >= 0;
      const ready = reached ? held.slice(0, found) : held.slice(0, held.length - overlap(held, stop));
      held = held.slice(ready.length);
      return ready;
    },
    end: () => reached ? "" : held,
  };
}

/** The length of the longest end of `text` that `stop` begins with. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
