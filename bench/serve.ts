/**
 * Programs that are measured in turn: each gets ready once, and then does one turn for each line on its standard input,
 * so that a machine whose speed drifts drifts for all. bench/pytorch_bench.py is such a program too.
 *
 * @module
 */
import { TextLineStream } from "@std/streams/text-line-stream";
import { LlmtsError } from "../src/errors.ts";
import type { OpTimes } from "./recorder.ts";

/** What one turn is to do, as a line of JSON. */
export interface Turn {
  /** Repetitions that are not counted. */
  readonly warmup: number;
  /** Repetitions that are. */
  readonly counted: number;
  /**
   * The turn ends early when so many seconds have passed and something was counted. Default: it doesn't. Where other programs
   * keep the processors busy, threads that wait for each other spinning take a thousand times as long.
   */
  readonly seconds?: number;
}

/** The repetitions of a turn: whether each is counted. */
export function* repetitions({ warmup, counted, seconds = Infinity }: Turn): Generator<boolean, void> {
  const end = performance.now() + 1000 * seconds;
  for (let n = 0; n < warmup && performance.now() < end; n++) yield false;
  for (let n = 0; n < counted && (n === 0 || performance.now() < end); n++) yield true;
}

/** Milliseconds of each counted repetition, by part; what the whole took is called `total`. */
export type Times = Readonly<Record<string, readonly number[]>>;

/** What one turn gave, as a line of JSON. */
export interface TurnResult {
  readonly times: Times;
  /** The peak of the process's resident memory so far, or 0 where the system does not say. */
  readonly peakBytes: number;
  /** What each op took, where that was asked for. */
  readonly ops?: readonly OpTimes[];
}

function lines(stream: ReadableStream<Uint8Array<ArrayBuffer>>): ReadableStream<string> {
  return stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
}

/** Does turns until standard input ends. */
export async function serve(turn: (turn: Turn) => Omit<TurnResult, "peakBytes">): Promise<void> {
  for await (const line of lines(Deno.stdin.readable)) {
    const result: TurnResult = { ...turn(JSON.parse(line) as Turn), peakBytes: peakBytes() };
    console.log(JSON.stringify(result));
  }
}

function peakBytes(): number {
  try {
    return 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(Deno.readTextFileSync("/proc/self/status"))?.[1] ?? 0);
  } catch {
    return 0; // not Linux
  }
}

/** A program that has been started. */
export interface Server {
  /** @throws {LlmtsError} the program has ended, with its last line of standard error */
  turn(turn: Turn): Promise<TurnResult>;
  /** Ends the program and waits for that. */
  close(): Promise<void>;
}

/** Starts a program that calls {@linkcode serve}. */
export function startServer(program: string, args: readonly string[], cwd: string): Server {
  const child = new Deno.Command(program, {
    args: [...args],
    cwd,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const errors = new Response(child.stderr).text();
  const input = child.stdin.getWriter();
  const output = lines(child.stdout).getReader();
  return {
    async turn(turn): Promise<TurnResult> {
      const request = new TextEncoder().encode(`${JSON.stringify(turn)}\n`);
      await input.write(request).catch(() => {}); // a program that has ended says why below
      const { value } = await output.read();
      if (value !== undefined) return JSON.parse(value) as TurnResult;
      throw new LlmtsError(lastLine(await errors) ?? "it ended without a word");
    },
    async close(): Promise<void> {
      await input.close().catch(() => {});
      await output.cancel();
      await child.status;
    },
  };
}

function lastLine(text: string): string | undefined {
  // deno-lint-ignore no-control-regex -- colours
  const written = text.replaceAll(/\x1b\[[\d;]*m/g, "").split("\n").filter((line) => line.trim() !== "");
  return written.findLast((line) => /error/i.test(line))?.trim() ?? written.at(-1)?.trim();
}
