/**
 * Ctrl-C, SIGTERM or a closed terminal in the middle of a training run.
 *
 * @module
 */

/** Whether the run was asked to end. Disposing it gives the signals their ordinary effect back. */
export interface Interrupt extends AsyncDisposable {
  readonly requested: boolean;
}

/** Milliseconds within which signals count as one. */
const TOGETHER = 250;

/** Windows has no others to listen for. */
const SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM", "SIGHUP"];

const LIBC = Deno.build.os === "darwin" ? "libSystem.B.dylib" : "libc.so.6";

/**
 * A thread that ends the process at the second signal, while the main one is in a kernel, where no listener can run. Signals
 * that come together, as from a terminal and from a parent process that passes them on, count as one.
 */
const watcherCode = (signals: readonly Deno.Signal[]): string => `
  const signals = ${JSON.stringify(signals)};
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
    exit = Deno.dlopen("${LIBC}", { _exit: { parameters: ["i32"], result: "void" } }).symbols._exit;
    for (const signal of signals) Deno.addSignalListener(signal, listener);
    postMessage("ready");
  } catch {
    postMessage("no libc");
  }
`;

/**
 * Catches the first Ctrl-C, SIGTERM or, unless it is ignored, SIGHUP. A second one ends the process at once, with exit
 * code 130, even in the middle of a kernel.
 *
 * @param caught is called at the first one, when the kernel is done in which it came; must not throw
 */
export async function catchInterrupt(caught: () => void): Promise<Interrupt> {
  let requested = false;
  const ignored = Deno.build.os === "windows" ? undefined : hangUpIgnored();
  const signals = SIGNALS.filter((signal) => signal !== "SIGHUP" || ignored === false);
  // Deno's listeners, whatever they listen for, make an ignored SIGHUP deadly where none listens for that.
  const ignore = (): void => {};
  if (ignored) Deno.addSignalListener("SIGHUP", ignore);
  const watcher = await startWatcher(signals);
  const restore = (): void => signals.forEach((signal) => Deno.removeSignalListener(signal, listener));
  function listener(): void {
    if (requested) return;
    requested = true;
    if (watcher === undefined) restore(); // the system then ends the process at the next one
    else watcher.postMessage("caught");
    caught();
  }
  for (const signal of signals) Deno.addSignalListener(signal, listener);
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
      if (ignored) Deno.removeSignalListener("SIGHUP", ignore);
    },
  };
}

/** Whether SIGHUP, which comes when the terminal closes, is ignored: nohup sees to that. Undefined: the system doesn't say. */
function hangUpIgnored(): boolean | undefined {
  const SIGHUP = 1, SIG_IGN = 1n;
  const before = new BigUint64Array(32); // a struct sigaction and more; the handler comes first
  try {
    const libc = Deno.dlopen(LIBC, {
      sigaction: { parameters: ["i32", "pointer", "buffer"], result: "i32" },
    });
    const known = libc.symbols.sigaction(SIGHUP, null, before) === 0;
    libc.close();
    return known ? before[0] === SIG_IGN : undefined;
  } catch {
    return undefined; // no libc by that name
  }
}

/** Undefined where there is no libc by the names it knows. */
async function startWatcher(signals: readonly Deno.Signal[]): Promise<Worker | undefined> {
  const url = `data:application/javascript,${encodeURIComponent(watcherCode(signals))}`;
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
