/**
 * Runs `deno test` and closes with the skipped tests, whose names say why, and the line `N passed, N failed, N skipped`.
 * The `test` task; arguments go to `deno test`.
 *
 * @module
 */
import { dirname, fromFileUrl, join } from "@std/path";

/** What a run of `deno test` came to. */
interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** Tests and steps that were ignored, by name. */
  readonly skipped: readonly string[];
}

/**
 * Reads the outcome off what `deno test` printed.
 *
 * @returns undefined where its closing line is missing: it died or found nothing to run
 */
function readOutcome(output: string): Outcome | undefined {
  // deno-lint-ignore no-control-regex -- colours
  const lines = output.replaceAll(/\x1b\[[\d;]*m/g, "").split("\n");
  const closing = lines.findLast((line) => /^(ok|FAILED) \| /.test(line))
    ?.match(/ (\d+) passed.*? \| (\d+) failed/);
  if (!closing) return undefined;
  const skipped = lines.flatMap((line) => line.match(/^\s*(.+) \.\.\. ignored \(/)?.[1] ?? []);
  return { passed: Number(closing[1]), failed: Number(closing[2]), skipped };
}

/** Passes a stream on to standard output and returns its text. */
async function passOn(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<string> {
  const [shown, kept] = stream.tee();
  const [text] = await Promise.all([
    new Response(kept).text(),
    shown.pipeTo(Deno.stdout.writable, { preventClose: true }),
  ]);
  return text;
}

if (import.meta.main) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", ...Deno.args],
    cwd: join(dirname(fromFileUrl(import.meta.url)), ".."),
    stdin: "null",
    stdout: "piped",
    env: Deno.stdout.isTerminal() ? {} : { NO_COLOR: "1" },
  }).spawn();
  const output = await passOn(child.stdout);
  const { code } = await child.status;
  if (!output.endsWith("\n")) console.log(); // a run that died leaves its line unfinished
  const { passed, failed, skipped } = readOutcome(output) ?? { passed: 0, failed: 1, skipped: [] };
  for (const name of skipped) console.log(`skipped: ${name}`);
  const ranNone = passed + failed === 0;
  if (ranNone) console.log("no test was run");
  // An error outside of any test fails the run too.
  console.log(`${passed} passed, ${Math.max(failed, code === 0 ? 0 : 1)} failed, ${skipped.length} skipped`);
  Deno.exit(ranNone ? 1 : code);
}
