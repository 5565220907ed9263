/**
 * Ctrl-C, or SIGTERM, in the middle of a training run.
 *
 * @module
 */

/** Whether the run was asked to end. Disposing it gives the signals their ordinary effect back. */
export interface Interrupt extends AsyncDisposable {
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
  const signals = ${JSON.stringify(SIGNALS)};
  let exit, first;
  const listener = () => {
    first ??= performance.now();
    if (performance.now() - first > ${TOGETHER}) exit(130);
  };
  onmessage = ({ data }) => {
    if (data === "caught") {
      first ??= performance.now();
    } else {
      for (const signal of signals) Deno.removeSignalListener(signal, listener);
      postMessage("stopped");
    }
  };
  try {
    const library = Deno.build.os === "darwin" ? "libSystem.B.dylib" : "libc.so.6";
    exit = Deno.dlopen(library, { _exit: { parameters: ["i32"], result: "void" } }).symbols._exit;
    for (const signal of signals) Deno.addSignalListener(signal, listener);
    postMessage("ready");
  } catch {
    postMessage("no libc");
  }
`;

/**
 * Catches the first Ctrl-C or SIGTERM. A second one ends the process at once, with exit code 130, even in the middle of a
 * kernel.
 *
 * @param caught is called at the first one, when the kernel is done in which it came
 */
export async function catchInterrupt(caught: () => void): Promise<Interrupt> {
  let requested = false;
  const watcher = await startWatcher();
  const restore = (): void => SIGNALS.forEach((signal) => Deno.removeSignalListener(signal, listener));
  function listener(): void {
    if (requested) return;
    requested = true;
    if (watcher === undefined) restore(); // the system then ends the process at the next one
    else watcher.postMessage("caught");
    caught();
  }
  for (const signal of SIGNALS) Deno.addSignalListener(signal, listener);
  return {
    get requested(): boolean {
      return requested;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      if (watcher !== undefined) {
        const stopped = answer(watcher); // a listener that is left behind would swallow signals
        watcher.postMessage("stop");
        await stopped;
        watcher.terminate();
      }
      if (watcher !== undefined || !requested) restore();
    },
  };
}

/** Undefined where there is no libc by the names it knows. */
async function startWatcher(): Promise<Worker | undefined> {
  const url = `data:application/javascript,${encodeURIComponent(WATCHER)}`;
  const watcher = new Worker(url, { type: "module", name: "second Ctrl-C" });
  if (await answer(watcher) === "ready") return watcher;
  watcher.terminate();
  return undefined;
}

/** A worker's next message. */
function answer(worker: Worker): Promise<unknown> {
  return new Promise((resolve) => worker.onmessage = ({ data }) => resolve(data));
}

/** Lets listeners run: kernels block the event loop. */
export function yieldToListeners(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
