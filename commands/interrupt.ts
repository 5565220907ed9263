/**
 * Ctrl-C, or SIGTERM, in the middle of a training run.
 *
 * @module
 */

/** Whether the run was asked to end. Disposing it gives the signals their ordinary effect back. */
export interface Interrupt extends Disposable {
  readonly requested: boolean;
}

/** Milliseconds within which signals count as one. */
const TOGETHER = 250;

/** Windows has no SIGTERM to listen for. */
const SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];

/**
 * A thread that ends the process at the second signal, while the main one is in a kernel, where no listener can run. Signals
 * that come together, as from a terminal and from a parent process that passes them on, count as one.
 */
const WATCHER = `
  const library = Deno.build.os === "darwin" ? "libSystem.B.dylib" : "libc.so.6";
  const { symbols } = Deno.dlopen(library, { _exit: { parameters: ["i32"], result: "void" } });
  let first;
  const listener = () => {
    first ??= performance.now();
    if (performance.now() - first > ${TOGETHER}) symbols._exit(130);
  };
  onmessage = () => first ??= performance.now();
  for (const signal of ${JSON.stringify(SIGNALS)}) Deno.addSignalListener(signal, listener);
`;

/**
 * Catches the first Ctrl-C or SIGTERM. A second one ends the process at once, with exit code 130, even in the middle of a
 * kernel.
 *
 * @param caught is called at the first one, when the kernel is done in which it came
 */
export function catchInterrupt(caught: () => void): Interrupt {
  let requested = false;
  const watcher = Deno.build.os === "windows" ? undefined : startWatcher();
  function listener(): void {
    if (requested) return;
    requested = true;
    watcher?.postMessage("the first came");
    caught();
  }
  for (const signal of SIGNALS) Deno.addSignalListener(signal, listener);
  return {
    get requested(): boolean {
      return requested;
    },
    [Symbol.dispose](): void {
      watcher?.terminate();
      SIGNALS.forEach((signal) => Deno.removeSignalListener(signal, listener));
    },
  };
}

function startWatcher(): Worker {
  const url = `data:application/javascript,${encodeURIComponent(WATCHER)}`;
  return new Worker(url, { type: "module", name: "second Ctrl-C" });
}

/** Lets listeners run: kernels block the event loop. */
export function yieldToListeners(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
