/**
 * Results as Markdown: what bench/RESULTS.md holds.
 *
 * @module
 */
import { LLMTS } from "./cases.ts";
import { floor } from "./costs.ts";
import { gibibytes, goalRows, times } from "./goals.ts";
import { LOAD } from "./machine.ts";
import { limitsOf } from "./peaks.ts";
import {
  allTimes,
  type BenchResults,
  byRound,
  type CaseResult,
  measured,
  type PeakName,
  type Peaks,
} from "./results.ts";
import { median, pairedRatio, rounded, spread } from "./statistics.ts";
import { table } from "./table.ts";

/** Runnable threads of other programs, on average, from which on a machine is not quiet. */
const BUSY = 0.5;

const PEAKS: readonly [name: PeakName, words: string][] = [
  ["fma_fp32", "fp32 FMA, GFLOP/s"],
  ["dot_bf16", "bf16 dot product (AVX512-BF16), GFLOP/s"],
  ["amx_bf16", "bf16 tiles (AMX), GFLOP/s"],
  ["dot_int8", "int8 dot product (AVX512-VNNI), 10⁹ operations/s"],
  ["read", "reading memory, GB/s"],
  ["write", "writing memory, GB/s"],
  ["copy", "copying memory, both ways, GB/s"],
  ["update", "updating memory in place, both ways, GB/s"],
];

/** The whole report. */
export function report(results: BenchResults): string {
  const { cases, command, date, machine } = results;
  return [
    "# Measured",
    "",
    `By \`${command}\`, ${date}.`,
    "Times are medians (least–greatest). Programs that are compared took turns; a ratio, how many times as fast llmts is, is the",
    "median (least–greatest) of their rounds'.",
    "",
    "## Machine",
    "",
    ...table(["What", "Found"], Object.entries(machine)),
    "",
    ...busySection(machine),
    ...peaksSection(results.peaks),
    ...goalsSection(results),
    ...cases.flatMap(caseSection),
    "The classifier's forward and backward are one pass in llmts, and counted as backward. bf16 is autocast in",
    "PyTorch's training. A prompt has 64 tokens.",
    "",
    ...cases.flatMap((result) => opsSection(result, results.peaks)),
  ].join("\n");
}

/** Other programs slow those most whose threads wait for each other, so that ratios are not a quiet machine's. */
function busySection({ [LOAD]: load = "0" }: Readonly<Record<string, string>>): string[] {
  if (Number(load) < BUSY) return [];
  return [`**Other programs were running: peaks, times and ratios are those of a busy machine.**`, ""];
}

function peaksSection(peaks: Peaks): string[] {
  const all = peaks.threads === 1 ? "1 thread" : `${peaks.threads} threads`;
  const rows = PEAKS.map(([name, words]) => {
    const peak = peaks[name];
    return [words, ...(peak === null ? ["not here", "not here"] : [spread(peak.one), spread(peak.all)])];
  });
  return [
    "## Peaks",
    "",
    ...table(["Registers only, or memory beyond the caches", "1 thread", all], rows),
    "",
  ];
}

function goalsSection(results: BenchResults): string[] {
  const goals = goalRows(results);
  if (goals.length === 0) return [];
  const rows = goals.map(({ work, goal, reached, met, bound }) => [
    work,
    goal,
    met === undefined ? reached : `${reached}, ${met ? "met" : "missed"}`,
    bound,
  ]);
  const above = goals.flatMap(({ work, above = [] }) =>
    above.length === 0 ? [] : [`- ${work}: ${above.join("; ")}`]
  );
  return [
    "## Goals",
    "",
    ...table(["Work", "Goal", "Reached", "Bound"], rows),
    "",
    ...(above.length === 0 ? [] : ["Where most of the time above the floor goes:", "", ...above, ""]),
  ];
}

/** A case: a row for each part, a column for each contestant, and how many times as fast the first is as each other. */
export function caseSection({ title, contestants }: CaseResult): string[] {
  const [first, ...others] = contestants;
  if (first === undefined || !("rounds" in first)) return [];
  const there = others.filter((other) => "rounds" in other);
  const rows = Object.keys(first.rounds[0] ?? {}).map((part) => [
    `${part}, ms`,
    spread(allTimes(first, part)),
    ...there.flatMap((other) => [
      spread(allTimes(other, part)),
      times(pairedRatio(byRound(other, part), byRound(first, part))),
    ]),
  ]);
  rows.push([
    "peak memory",
    gibibytes(first.peakBytes),
    ...there.flatMap((other) => [
      gibibytes(other.peakBytes),
      `${rounded(other.peakBytes / first.peakBytes)}×`,
    ]),
  ]);
  const failures = contestants.flatMap((other) =>
    "failed" in other ? [`${other.name} was not measured: ${other.failed}`, ""] : []
  );
  const head = ["", first.name, ...there.flatMap(({ name }) => [name, `vs ${name}`])];
  return [`## ${title}`, "", ...table(head, rows), "", ...failures];
}

function giga(count: number): string {
  return (count / 1e9).toFixed(0);
}

/** What each op of llmts took in a case, beside the least it could take. */
export function opsSection(result: CaseResult, peaks: Peaks): string[] {
  const ops = measured(result, LLMTS)?.ops;
  if (ops === undefined) return [];
  const limits = limitsOf(peaks, result.precision);
  const rows = ops.map((op) => {
    const { label, calls, flops, read, written, times } = op;
    const [milliseconds, least] = [median(times), floor(op, limits)];
    const rate = (count: number): string => count === 0 ? "" : (count / milliseconds / 1e6).toFixed(0);
    return [
      label,
      String(calls),
      spread(times),
      rate(flops),
      rate(read + written),
      rounded(least),
      `${(100 * least / milliseconds).toFixed(0)} %`,
    ];
  });
  const [took, least] = [
    ops.reduce((sum, { times }) => sum + median(times), 0),
    ops.reduce((sum, op) => sum + floor(op, limits), 0),
  ];
  rows.push(["all", "", rounded(took), "", "", rounded(least), `${(100 * least / took).toFixed(0)} %`]);
  return [
    `## Ops: ${result.title}`,
    "",
    `Floor: operations at ${giga(limits.flops)} GFLOP/s, bytes read at ${
      giga(limits.read)
    } GB/s or bytes read and`,
    `written at ${
      giga(limits.moved)
    } GB/s, whichever takes longest, each tensor moved once. What is still in a cache can`,
    "be faster than that.",
    "",
    ...table(["Op", "Calls", "ms, all calls", "GFLOP/s", "GB/s", "Floor, ms", "Share of floor"], rows),
    "",
  ];
}
