/**
 * What a run leaves to be read: `main.log` in llm.c's format, `metrics.jsonl` with one JSON object a line, and, if asked
 * for, a TensorBoard event file.
 *
 * Steps are counted in updates made, so that the first update is step 1 and validation before it step 0; in `main.log` the
 * line of an update has the number it had in llm.c, one less.
 *
 * @module
 */
import { join } from "@std/path";
import { exists, systemError, writeFileAtomically, writeFully } from "./io/files.ts";
import { emptyEventFiles, openEventFile } from "./tensorboard.ts";

/** What there is to say of an update. */
export interface UpdateMetrics {
  readonly loss: number;
  readonly learningRate: number;
  /** Of the gradients, before clipping. */
  readonly gradNorm: number;
  /** Milliseconds it took. */
  readonly ms: number;
  readonly tokensPerSecond: number;
  /** Share of the machine's peak that the model's arithmetic came to, 0 … 1, where the peak is known. */
  readonly mfu?: number | undefined;
  /** Bytes of memory in use. */
  readonly memory?: number | undefined;
}

/** See the module. A value that is not finite is left out of metrics.jsonl: JSON has no word for it. */
export interface RunLog extends Disposable {
  /** Of update `step`, counted from 1. */
  update(step: number, metrics: UpdateMetrics): void;
  /** Of a validation after `step` updates. */
  validation(step: number, metrics: { readonly loss: number; readonly tokens: number }): void;
}

/** How {@linkcode openRunLog} opens. */
export interface RunLogOptions {
  /** The updates made so far, where a run goes on: what the logs say of later ones is dropped. Otherwise they start empty. */
  readonly resumeAt?: number | undefined;
  readonly tensorboard?: boolean;
}

/** Opens the logs in a folder. @throws {FileError} they can't be written */
export async function openRunLog(
  folder: string,
  { resumeAt, tensorboard = false }: RunLogOptions = {},
): Promise<RunLog> {
  const [main, metrics] = [join(folder, "main.log"), join(folder, "metrics.jsonl")];
  await keepLines(main, (line) => resumeAt !== undefined && updatesOfLogLine(line) <= resumeAt);
  await keepLines(metrics, (line) => resumeAt !== undefined && updatesOfMetrics(line) <= resumeAt);

  using opened = new DisposableStack();
  const mainLog = opened.use(openForAppending(main));
  const metricsLog = opened.use(openForAppending(metrics));
  if (resumeAt === undefined) emptyEventFiles(folder);
  const events = tensorboard ? opened.use(openEventFile(folder, resumeAt)) : undefined;
  const files = opened.move();

  return {
    update(step, metrics): void {
      const { loss, learningRate, gradNorm, ms, tokensPerSecond, mfu, memory } = metrics;
      mainLog.line(
        `s:${step - 1} trl:${loss.toFixed(4)} lr:${rate(learningRate)} norm:${gradNorm.toFixed(2)}`,
      );
      const optional = { mfu, memory };
      metricsLog.line(json({ step, loss, learningRate, gradNorm, ms, tokensPerSecond, ...optional }));
      events?.scalars(step, {
        "train/loss": loss,
        "train/learning_rate": learningRate,
        "train/gradient_norm": gradNorm,
        "speed/tokens_per_second": tokensPerSecond,
        ...(mfu === undefined ? {} : { "speed/mfu": mfu }),
        ...(memory === undefined ? {} : { "memory/bytes": memory }),
      });
    },
    validation(step, { loss, tokens }): void {
      mainLog.line(`s:${step} tel:${loss.toFixed(4)}`);
      metricsLog.line(json({ step, valLoss: loss, valTokens: tokens }));
      events?.scalars(step, { "val/loss": loss });
    },
    [Symbol.dispose](): void {
      files.dispose();
    },
  };
}

/** As llm.c prints it, but where that leaves few digits or none, in a form that parsers of main.log read as well. */
function rate(learningRate: number): string {
  return learningRate === 0 || learningRate >= 1e-4 ? learningRate.toFixed(6) : learningRate.toExponential(3);
}

function json(values: Readonly<Record<string, number | undefined>>): string {
  return JSON.stringify(
    values,
    (_, value) => typeof value === "number" && !Number.isFinite(value) ? undefined : value,
  );
}

/** Updates made when a line of main.log was written; infinite where it is not a whole line. */
function updatesOfLogLine(line: string): number {
  const [, step, what] = /^s:(\d+) (trl|tel|eval):\S+/.exec(line) ?? [];
  if (step === undefined) return Infinity;
  return Number(step) + (what === "trl" ? 1 : 0);
}

function updatesOfMetrics(line: string): number {
  try {
    const { step } = JSON.parse(line) as { step?: unknown };
    return typeof step === "number" ? step : Infinity;
  } catch {
    return Infinity;
  }
}

/** Leaves only some of a file's lines; one without an end, cut off by a kill, goes too. A file that isn't there is fine. */
async function keepLines(path: string, keep: (line: string) => boolean): Promise<void> {
  if (!exists(path)) return;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw systemError(path, "cannot be read", error);
  }
  const lines = text.split("\n").slice(0, -1).filter(keep);
  const kept = new TextEncoder().encode(lines.map((line) => line + "\n").join(""));
  await writeFileAtomically(path, (file) => writeFully(file, kept));
}

function openForAppending(path: string): Disposable & { line(text: string): void } {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path, { append: true, create: true });
  } catch (error) {
    throw systemError(path, "cannot be written", error);
  }
  return {
    line(text): void {
      try {
        writeFully(file, new TextEncoder().encode(text + "\n"));
      } catch (error) {
        throw systemError(path, "cannot be written", error);
      }
    },
    [Symbol.dispose]: () => file.close(),
  };
}
