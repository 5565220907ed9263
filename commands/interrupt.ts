/**
 * Ctrl-C in the middle of a training run.
 *
 * @module
 */

/** Whether Ctrl-C was pressed. Disposing it gives Ctrl-C its ordinary effect back. */
export interface Interrupt extends Disposable {
  readonly requested: boolean;
}

/**
 * Catches the first Ctrl-C. Once `caught` was called, a second one ends the process at once, even in the middle of a
 * kernel; before that, in the kernels' step during which the first one came, further ones count as the first.
 *
 * @param caught is called at the first one
 */
export function catchInterrupt(caught: () => void): Interrupt {
  let requested = false;
  const restore = (): void => Deno.removeSignalListener("SIGINT", listener);
  function listener(): void {
    requested = true;
    restore(); // without a listener the system's own handling is back, which needs no event loop
    caught();
  }
  Deno.addSignalListener("SIGINT", listener);
  return {
    get requested(): boolean {
      return requested;
    },
    [Symbol.dispose](): void {
      if (!requested) restore();
    },
  };
}

/** Lets listeners run: kernels block the event loop. */
export function yieldToListeners(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
