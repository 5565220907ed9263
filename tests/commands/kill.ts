/**
 * A training run that is killed again and again, and goes on each time.
 *
 * @module
 */
import { join } from "@std/path";
import { checkpointFiles, completeSteps } from "../../src/checkpoints.ts";
import { inSmallFolder, SMALL_RUN } from "./small_model.ts";
import { llmts, start } from "./run.ts";

const STEPS = 60;
/** Saves every step, validates in between, over two files in random order, with several batches in a step. */
const RUN: readonly string[] = [
  ...SMALL_RUN.with(SMALL_RUN.indexOf("fox_train.bin"), "fox_*.bin"),
  ...["--val-data", "fox_val.bin", "--shuffle", "--total-batch-size", "64", "--schedule", "cosine"],
  ...[
    "--steps",
    String(STEPS),
    "--checkpoint-every",
    "1",
    "--keep",
    "2",
    "--val-every",
    "7",
    "--sample-every",
    "0",
  ],
];

/** What is left of a run to compare with another's. */
async function remains(folder: string): Promise<readonly Uint8Array[]> {
  const { model, state } = checkpointFiles(folder, STEPS);
  return await Promise.all([model, state, join(folder, "main.log")].map((path) => Deno.readFile(path)));
}

function differs(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.some((bytes, i) => bytes.length !== b[i]!.length || bytes.some((byte, k) => byte !== b[i]![k]));
}

/**
 * Kills runs by SIGKILL at random moments and lets each go on, until `kills` have hit; a run that gets to its end is compared
 * with one that nothing disturbed, and another one begun.
 *
 * @returns how many runs were compared
 * @throws {Error} a run could not go on, or ended with other weights, optimizer state or log
 */
export async function survivesKills(kills: number): Promise<number> {
  let compared = 0;
  await inSmallFolder(async (folder) => {
    const undisturbed = await llmts(folder, [...RUN, "--out", "undisturbed"]);
    if (undisturbed.code !== 0) throw new Error(undisturbed.stderr);
    const expected = await remains(join(folder, "undisturbed"));
    for (let hit = 0, begun = 0; hit < kills || begun > compared;) {
      if (begun === compared) begun++;
      const out = `run_${begun}`;
      const child = start(folder, [...RUN, "--resume", "--out", out]);
      const stderr = new Response(child.stderr).text();
      if (hit < kills) await killAtRandom(child);
      else await child.stdout.pipeTo(new WritableStream());
      const { code, signal } = await child.status;
      if (signal === "SIGKILL") {
        hit++;
        continue;
      }
      if (code !== 0) throw new Error(`after ${hit} kills: exit code ${code}: ${await stderr}`);
      if (differs(await remains(join(folder, out)), expected)) {
        throw new Error(`after ${hit} kills the run ended otherwise than the undisturbed one`);
      }
      if (completeSteps(join(folder, out)).length > 2) {
        throw new Error(`"${out}" has more than --keep 2 checkpoints`);
      }
      compared++;
    }
  });
  return compared;
}

/** Kills once the run has started training, up to a tenth of a second later; or any time from the start on. */
async function killAtRandom(child: Deno.ChildProcess): Promise<void> {
  const fromStart = Math.random() < 0.2;
  let waiting = fromStart;
  const kill = (): void => {
    try {
      child.kill("SIGKILL");
    } catch {
      // it has ended by itself
    }
  };
  let timer: ReturnType<typeof setTimeout> | undefined = fromStart
    ? setTimeout(kill, 400 * Math.random())
    : undefined;
  let stdout = "";
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    stdout += text;
    if (waiting || !/^step /m.test(stdout)) continue;
    waiting = true;
    timer = setTimeout(kill, 100 * Math.random());
  }
  clearTimeout(timer);
}
