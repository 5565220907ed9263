/**
 * Measures this machine's peaks, llmts beside them, and llmts beside PyTorch in turn. `deno task bench` writes
 * bench/RESULTS.md and build/bench.json, `deno task bench --quick` the latter alone.
 *
 * @module
 */
import { dirname, fromFileUrl, join } from "@std/path";
import { defineCommand } from "../commands/command.ts";
import { exitCode } from "../commands/dispatch.ts";
import { ENGINE_FLAGS } from "../commands/engine.ts";
import { openDevice } from "../ffi/device.ts";
import { LlmtsError, UsageError } from "../src/errors.ts";
import { isFolder, writeFileAtomically, writeFully } from "../src/io/files.ts";
import { compare } from "./baseline.ts";
import { benchCases, type Case, type Contestant } from "./cases.ts";
import { describeMachine, pytorchVersion } from "./machine.ts";
import { measurePeaks, mergePeaks } from "./peaks.ts";
import { report } from "./report.ts";
import { type BenchResults, type CaseResult, type Measured, readResults } from "./results.ts";
import { type Server, startServer, type Turn, type TurnResult } from "./serve.ts";

const ROOT = join(dirname(fromFileUrl(import.meta.url)), "..");
const USAGE = "deno task bench";

const note = (text: string): void => console.error(`bench: ${text}`);

/** Gets a contestant ready; one that can't take part says why at its first turn. */
function start({ runtime, args }: Contestant): Server {
  return runtime === "python"
    ? startServer("python3", args, ROOT)
    : startServer(Deno.execPath(), ["run", "-A", ...args], ROOT);
}

/**
 * Lets the contestants of a case take turns. One that fails is out, with its reason.
 *
 * @throws {LlmtsError} llmts failed
 */
async function runCase(
  { id, title, precision, contestants, ...plan }: Case,
  pytorch: boolean,
): Promise<CaseResult> {
  note(id);
  const present = contestants.filter(({ runtime }) => runtime === "deno" || pytorch);
  const servers = new Map<string, Server>(present.map((contestant) => [contestant.name, start(contestant)]));
  const turns = new Map<string, TurnResult[]>(present.map(({ name }) => [name, []]));
  const failures = new Map<string, string>();
  async function turn({ name, runtime }: Contestant, turn: Turn): Promise<TurnResult | undefined> {
    if (failures.has(name)) return undefined;
    try {
      return await servers.get(name)!.turn(turn);
    } catch (error) {
      if (!(error instanceof LlmtsError)) throw error;
      if (runtime === "deno") throw new LlmtsError(`The case "${id}" failed: ${error.message}`);
      failures.set(name, error.message);
      return undefined;
    }
  }
  try {
    // An empty turn returns when a contestant is ready, so that nobody gets ready while another is timed.
    await Promise.all(present.map((contestant) => turn(contestant, { warmup: 0, counted: 0 })));
    for (let round = 0; round < plan.rounds; round++) {
      const warmup = round === 0 ? plan.warmup : plan.rewarm;
      for (const contestant of present) {
        const result = await turn(contestant, { warmup, counted: plan.counted, seconds: plan.seconds });
        if (result !== undefined) turns.get(contestant.name)!.push(result);
      }
    }
  } finally {
    await Promise.all([...servers.values()].map((server) => server.close()));
  }
  return {
    id,
    title,
    precision,
    contestants: contestants.map(({ name }) => {
      if (!turns.has(name)) return { name, failed: "PyTorch is not installed" };
      const failed = failures.get(name);
      return failed === undefined ? merge(name, turns.get(name)!) : { name, failed };
    }),
  };
}

/** A contestant's turns together. */
function merge(name: string, turns: readonly TurnResult[]): Measured {
  const ops = turns[0]!.ops?.map((op) => ({
    ...op,
    times: turns.flatMap(({ ops }) => ops?.find(({ label }) => label === op.label)?.times ?? []),
  }));
  return {
    name,
    rounds: turns.map(({ times }) => times),
    peakBytes: Math.max(...turns.map(({ peakBytes }) => peakBytes)),
    ...(ops === undefined ? {} : { ops }),
  };
}

async function writeText(path: string, text: string): Promise<void> {
  await writeFileAtomically(path, (file) => writeFully(file, new TextEncoder().encode(text)));
}

const command = defineCommand({
  flags: {
    quick: {
      type: "boolean",
      description: "fewer cases and repetitions, a minute in all; leaves bench/RESULTS.md alone",
      group: "What",
    },
    only: {
      type: "string",
      value: "TEXT",
      description: "only cases with TEXT in their names; leaves bench/RESULTS.md alone",
      group: "What",
    },
    threads: { ...ENGINE_FLAGS.threads, description: "threads of llmts and of PyTorch", group: "What" },
    json: {
      type: "path",
      value: "FILE",
      default: join("build", "bench.json"),
      description: "write the results here",
      group: "Results",
    },
    baseline: {
      type: "path",
      value: "FILE",
      description: "compare with an earlier run's results",
      group: "Results",
    },
  },
  details: ["Times of programs that are compared are taken in turn, in one run."],
  examples: [`${USAGE} --quick`, `${USAGE} --only decode --baseline before.json`],
  async run({ quick, only, threads, json, baseline }): Promise<number> {
    const before = baseline === undefined ? undefined : readResults(baseline);
    const info = openDevice({ device: "cpu", threads }).info();
    const cases = benchCases(info.threads, quick).filter(({ id }) => id.includes(only ?? ""));
    if (cases.length === 0) {
      const names = benchCases(info.threads, quick).map(({ id }) => id).join(", ");
      throw new UsageError(`--only is "${only}", expected a part of one of ${names}`);
    }
    await Deno.mkdir(join(ROOT, "build"), { recursive: true });
    if (!isFolder(dirname(json))) {
      throw new UsageError(`--json is "${json}", but there is no folder "${dirname(json)}"`);
    }
    const pytorch = await pytorchVersion();
    const machine = await describeMachine(info, pytorch, ROOT); // before there is any load of our own
    note("peaks");
    const peaksBefore = await measurePeaks(ROOT, info.threads, quick ? 20 : 100);
    const measured: CaseResult[] = [];
    for (const one of cases) measured.push(await runCase(one, pytorch !== undefined));
    note("peaks again");
    const peaks = mergePeaks(peaksBefore, await measurePeaks(ROOT, info.threads, quick ? 20 : 100));
    const results: BenchResults = {
      format: 2,
      date: new Date().toISOString().slice(0, 10),
      command: [USAGE, ...Deno.args].join(" "),
      machine,
      peaks,
      cases: measured,
    };
    await writeText(json, JSON.stringify(results));
    const text = report(results);
    console.log(text);
    if (before !== undefined) console.log(compare(results, before));
    if (quick || only !== undefined) return 0;
    const path = join(ROOT, "bench", "RESULTS.md");
    await writeText(path, text);
    await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", path] }).output();
    return 0;
  },
});

if (import.meta.main) {
  const summary = "measure this machine, llmts and PyTorch";
  Deno.exitCode = await exitCode(Deno.args, () => command.execute(USAGE, summary, Deno.args));
}
