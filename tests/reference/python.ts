/**
 * Python where it is installed, for tests against PyTorch and its libraries.
 *
 * @module
 */

const decoder = new TextDecoder();

/** Runs python3 and returns what it printed. */
export function runPython(args: readonly string[]): string {
  const { success, stdout, stderr } = new Deno.Command("python3", { args: [...args] }).outputSync();
  if (!success) throw new Error(`python3 failed: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** A Deno.test name and `ignore` for a test that needs Python modules: skipped, and saying so, where they are missing. */
export function needsPython(name: string, modules: readonly string[]): { name: string; ignore: boolean } {
  let missing: string | undefined;
  try {
    const found = runPython([
      "-c",
      `import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if not u.find_spec(m)])`,
      ...modules,
    ]).trim();
    if (found !== "") missing = `Python has no ${found}`;
  } catch {
    missing = "python3 can't be run";
  }
  return missing === undefined
    ? { name, ignore: false }
    : { name: `${name} (skipped: ${missing})`, ignore: true };
}
