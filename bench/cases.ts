/**
 * What is measured: each case is one kind of work, and those who do it in turn.
 *
 * @module
 */

/** Number formats of weights and activations; int8 is bf16 with the matrices' weights in int8, for decoding. */
export const PRECISIONS = ["fp32", "bf16", "int8"] as const;
export type Precision = typeof PRECISIONS[number];

/** A program of {@linkcode Case}. */
export interface Contestant {
  readonly name: string;
  readonly runtime: "deno" | "python";
  /** Script and arguments. */
  readonly args: readonly string[];
}

/** See the module. */
export interface Case {
  /** Names it in files, and for `--only`. */
  readonly id: string;
  readonly title: string;
  /** What llmts computes with: says which of the machine's peaks bounds it. */
  readonly precision: Precision;
  readonly contestants: readonly Contestant[];
  /** How often each gets a turn. */
  readonly rounds: number;
  /** Counted repetitions in a turn. */
  readonly counted: number;
  /** Uncounted ones in each one's first turn, and in later ones: others have used the caches since. */
  readonly warmup: number;
  readonly rewarm: number;
  /** A turn ends early after so long: see bench/serve.ts. */
  readonly seconds: number;
}

/** The names of contestants, as tables have them. */
export const LLMTS = "llmts";
export const EAGER = "PyTorch eager";
export const COMPILED = "PyTorch compiled";
export const TRANSFORMERS = "transformers";
export const RECOMPUTING = "llmts --recompute mlp";

/** Prompt, and tokens after it, in decoding. */
const PROMPT = 64;
const TOKENS = 64;

const TRAINING: readonly Precision[] = ["fp32", "bf16"];

/** All cases, for a number of threads; `quick` ones take a minute in all. */
export function benchCases(threads: number, quick: boolean): Case[] {
  return [
    ...(quick ? [64] : [64, 1024]).flatMap((T) =>
      TRAINING.map((precision) => stepCase(T, precision, threads, quick))
    ),
    ...PRECISIONS.filter((precision) => !quick || precision === "bf16").map((precision) =>
      decodingCase(precision, threads, quick)
    ),
    ...(quick ? [] : [recomputeCase(threads)]),
    ...(quick || threads < 2 ? [] : TRAINING.map(threadsCase)),
    smallCase(threads),
  ];
}

function stepCase(T: number, precision: Precision, threads: number, quick: boolean): Case {
  const sizes = ["d12", "4", String(T), String(threads), precision];
  const compiled: Contestant = {
    name: COMPILED,
    runtime: "python",
    args: ["bench/pytorch_bench.py", "step", ...sizes, "--compile"],
  };
  // A long step takes PyTorch 20 s.
  const often = quick || T > 64
    ? { rounds: 2, counted: 1, warmup: 1, rewarm: 0, seconds: 60 }
    : { rounds: 6, counted: 2, warmup: 2, rewarm: 1, seconds: 20 };
  return {
    id: `step-${precision}-T${T}`,
    title: `Training step, 124M (d12), B=4 T=${T}, ${precision}`,
    precision,
    contestants: [
      { name: LLMTS, runtime: "deno", args: ["bench/train_step.ts", ...sizes, "ops"] },
      { name: EAGER, runtime: "python", args: ["bench/pytorch_bench.py", "step", ...sizes] },
      ...(quick ? [] : [compiled]),
    ],
    ...often,
  };
}

function decodingCase(
  precision: Precision,
  threads: number,
  quick: boolean,
): Case {
  const sizes = ["d12", String(PROMPT), String(quick ? TOKENS / 4 : TOKENS), String(threads)];
  const theirs = precision === "int8" ? "bf16" : precision; // transformers has no int8 of its own
  return {
    id: `decode-${precision}`,
    title: `Greedy decoding, 124M (d12), a token after ${PROMPT}, ${precision}${
      theirs === precision ? "" : ` (transformers: ${theirs})`
    }`,
    precision,
    contestants: [
      { name: LLMTS, runtime: "deno", args: ["bench/decode.ts", ...sizes, precision] },
      { name: TRANSFORMERS, runtime: "python", args: ["bench/pytorch_bench.py", "decode", ...sizes, theirs] },
    ],
    rounds: quick ? 2 : 5,
    counted: 1,
    warmup: 1,
    rewarm: 0,
    seconds: 20,
  };
}

/** What computing the feed-forward layers' activations again costs, and saves. */
function recomputeCase(threads: number): Case {
  const sizes = ["d12", "4", "1024", String(threads), "fp32", "total"];
  return {
    id: "recompute-fp32-T1024",
    title: "Training step that computes activations again, 124M (d12), B=4 T=1024, fp32",
    precision: "fp32",
    contestants: [
      { name: LLMTS, runtime: "deno", args: ["bench/train_step.ts", ...sizes] },
      { name: RECOMPUTING, runtime: "deno", args: ["bench/train_step.ts", ...sizes, "mlp"] },
    ],
    rounds: 2,
    counted: 1,
    warmup: 1,
    rewarm: 0,
    seconds: 60,
  };
}

/** The same step with one thread and with two. */
function threadsCase(precision: Precision): Case {
  return {
    id: `threads-${precision}`,
    title: `Training step with one thread and two, 124M (d12), B=4 T=64, ${precision}`,
    precision,
    contestants: [2, 1].map((threads) => ({
      name: threadsName(threads),
      runtime: "deno",
      args: ["bench/train_step.ts", "d12", "4", "64", String(threads), precision],
    })),
    rounds: 4,
    counted: 1,
    warmup: 1,
    rewarm: 1,
    seconds: 20,
  };
}

/** The contestant of a number of threads. */
export function threadsName(threads: number): string {
  return threads === 1 ? "1 thread" : `${threads} threads`;
}

/** The small model's batch, for its arithmetic. */
export const SMALL_BATCH = { B: 1, T: 8 } as const;

function smallCase(threads: number): Case {
  const { B, T } = SMALL_BATCH;
  const sizes = ["small", String(B), String(T), String(threads), "fp32"];
  return {
    id: "small",
    title: `Training step, L=2 C=64 V=512, B=${B} T=${T}, fp32`,
    precision: "fp32",
    contestants: [
      { name: LLMTS, runtime: "deno", args: ["bench/train_step.ts", ...sizes] },
      { name: EAGER, runtime: "python", args: ["bench/pytorch_bench.py", "step", ...sizes] },
    ],
    rounds: 5,
    counted: 200,
    warmup: 200,
    rewarm: 50,
    seconds: 2,
  };
}
