/**
 * Measures llmts beside PyTorch on this machine and writes bench/RESULTS.md. The two run alternately, each in processes of
 * its own, with the same model, batch and number of threads, so that a machine whose speed drifts drifts for both.
 *
 * `deno task bench [--quick]`; without PyTorch only llmts is measured, and the table says so.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { fromFileUrl, join } from "@std/path";
import { openDevice } from "../ffi/device.ts";
import type { MatmulTimes } from "./matmul.ts";
import { median, spread } from "./statistics.ts";
import type { StepTimes } from "./train_step.ts";

const ROOT = fromFileUrl(new URL("..", import.meta.url));
const PARTS = ["forward", "backward", "optimizer", "total"] as const;
const PRODUCTS = ["forward", "dinput", "dweight"] as const;

/** Runs a program that prints JSON as its last line. */
async function measure<T>(command: string, args: readonly string[]): Promise<T> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args], cwd: ROOT })
    .output();
  if (!success) throw new Error(`${command} ${args.join(" ")} failed: ${new TextDecoder().decode(stderr)}`);
  return JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!) as T;
}

const llmts = <T>(script: string, ...args: string[]): Promise<T> =>
  measure<T>(Deno.execPath(), ["run", "-A", `bench/${script}`, ...args]);
const pytorch = <T>(...args: string[]): Promise<T> =>
  measure<T>("python3", ["bench/pytorch_bench.py", ...args]);

async function pytorchVersion(): Promise<string | undefined> {
  try {
    const args = ["-c", "import json, torch; print(json.dumps(torch.__version__))"];
    return await measure<string>("python3", args);
  } catch {
    return undefined;
  }
}

/** Rounds of both programs in turn: what each gave, round by round. */
async function alternate<T>(rounds: number, ours: () => Promise<T>, theirs: (() => Promise<T>) | undefined) {
  const results = { ours: [] as T[], theirs: [] as T[] };
  for (let round = 0; round < rounds; round++) {
    results.ours.push(await ours());
    if (theirs !== undefined) results.theirs.push(await theirs());
  }
  return results;
}

const row = (...cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
const header = (...cells: readonly string[]): string[] => [row(...cells), row(...cells.map(() => "---"))];

function machine(): string {
  let model = Deno.build.arch as string;
  try {
    model = /model name\s*:\s*(.+)/.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1] ?? model;
  } catch {
    // Not Linux: the architecture's name will do.
  }
  const { variant, threads, features } = openDevice().info();
  return `${model}, ${threads} threads, library variant ${variant} (${features.join(" ")})`;
}

/** The training step's table: milliseconds, medians with least and greatest over all rounds' steps. */
function stepTable(title: string, { ours, theirs }: { ours: StepTimes[]; theirs: StepTimes[] }): string[] {
  const all = (results: StepTimes[], part: typeof PARTS[number]): number[] =>
    results.flatMap((result) => result[part]);
  const lines = [`## ${title}`, "", ...header("part, ms", "llmts", "PyTorch eager", "llmts / PyTorch")];
  for (const part of PARTS) {
    const mine = all(ours, part);
    const other = theirs.length > 0 ? all(theirs, part) : undefined;
    const ratio = other === undefined ? "not measured" : (median(mine) / median(other)).toFixed(2);
    lines.push(row(part, spread(mine), other === undefined ? "not measured" : spread(other), ratio));
  }
  const gib = (results: StepTimes[]): string =>
    results.length === 0
      ? "not measured"
      : `${(Math.max(...results.map((r) => r.peakBytes)) / 2 ** 30).toFixed(2)} GiB`;
  lines.push(row("peak memory", gib(ours), gib(theirs), ""), "");
  lines.push("The classifier's forward and backward are one pass in llmts, and counted as backward.", "");
  return lines;
}

/** GFLOP/s of each product of each linear layer. */
function matmulTable(
  { ours, theirs }: { ours: { matmul: MatmulTimes[] }[]; theirs: { matmul: MatmulTimes[] }[] },
): string[] {
  const lines = [
    "## Matrix products, fp32, GFLOP/s (times PyTorch's rate)",
    "",
    ...header("N, C, OC", ...PRODUCTS),
  ];
  ours[0]!.matmul.forEach(({ N, C, OC }, index) => {
    const rate = (results: { matmul: MatmulTimes[] }[], product: typeof PRODUCTS[number]): number =>
      2 * N * C * OC / median(results.map((result) => result.matmul[index]![product])) / 1e6;
    const cells = PRODUCTS.map((product) => {
      const mine = rate(ours, product);
      const times = theirs.length === 0 ? "" : ` (${(mine / rate(theirs, product)).toFixed(2)}×)`;
      return `${mine.toFixed(0)}${times}`;
    });
    lines.push(row(`${N}, ${C}, ${OC}`, ...cells));
  });
  return [...lines, ""];
}

if (import.meta.main) {
  const { quick } = parseArgs(Deno.args, { boolean: ["quick"] });
  const [rounds, steps] = quick ? ["1", "2"] : ["3", "5"];
  const { threads } = openDevice().info();
  const version = await pytorchVersion();
  const settings = ["d12", "4", "64", String(threads), steps, "2"];
  const both = <T>(script: string, ours: string[], theirs: string[]) =>
    alternate<T>(
      Number(rounds),
      () => llmts<T>(script, ...ours, ...settings),
      version === undefined ? undefined : () => pytorch<T>(...theirs, ...settings),
    );
  const lines = [
    "# Measured",
    "",
    `By \`deno task bench${quick ? " --quick" : ""}\`, ${new Date().toISOString().slice(0, 10)}.`,
    `Machine: ${machine()}.`,
    `PyTorch: ${
      version ?? "not installed here"
    }. Medians (least–greatest) of ${rounds} × ${steps} runs of each, in turn.`,
    "",
    ...stepTable(
      "Training step, d12 (124M), B=4, T=64, fp32",
      await both<StepTimes>("train_step.ts", [], []),
    ),
    ...stepTable(
      "Training step, d12 (124M), B=4, T=64, bf16 (PyTorch: autocast)",
      await both<StepTimes>("train_step.ts", ["--bf16"], ["--bf16"]),
    ),
    ...matmulTable(await both<{ matmul: MatmulTimes[] }>("matmul.ts", [], ["--matmul"])),
  ];
  const text = lines.join("\n");
  console.log(text);
  if (!quick) {
    const path = join(ROOT, "bench", "RESULTS.md");
    await Deno.writeTextFile(path, text);
    await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", path] }).output();
  }
}
