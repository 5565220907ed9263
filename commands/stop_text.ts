/**
 * Ending text that comes in pieces where a stop text begins.
 *
 * @module
 */

/** See {@linkcode stopBefore}. */
export interface StopText {
  /** Takes a piece and gives what can be printed now. After the stop text has come, nothing more. */
  push(text: string): string;
  /** Whether the stop text has come. */
  readonly reached: boolean;
  /** What was held back because it might have begun the stop text, once no more pieces come. */
  end(): string;
}

/** Lets text pass up to the first occurrence of `stop`, wherever pieces divide it. */
export function stopBefore(stop: string): StopText {
  let held = "";
  let reached = false;
  return {
    get reached(): boolean {
      return reached;
    },
    push(text): string {
      if (reached) return "";
      held += text;
      const at = held.indexOf(stop);
      reached = at >= 0;
      const ready = held.slice(0, reached ? at : held.length - overlap(held, stop));
      held = reached ? "" : held.slice(ready.length);
      return ready;
    },
    end: () => held,
  };
}

/** Length of the longest end of `text` that `stop` begins with. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (stop.startsWith(text.slice(-length))) return length;
  }
  return 0;
}
