/**
 * The steps of `llmts train`, and what happens between them: validation, checkpoints, samples, and ending early.
 *
 * @module
 */
import { checkpointFiles, completeSteps, pruneCheckpoints } from "../src/checkpoints.ts";
import { END_OF_TEXT, GPT2_VOCABULARY } from "../src/config.ts";
import { BROKEN_HINT, DivergenceError, LlmtsError } from "../src/errors.ts";
import { generate } from "../src/generate.ts";
import { type Batch, type LoaderState, validationBatches } from "../src/io/loader.ts";
import { gpt2Tokenizer, streamDecoder } from "../src/io/tokenizer.ts";
import { openRunLog } from "../src/run_log.ts";
import { learningRateAt } from "../src/schedule.ts";
import type { StepResult } from "../src/trainer.ts";
import { catchInterrupt, type Interrupt, yieldToListeners } from "./interrupt.ts";
import { type Log, openText } from "./output.ts";
import { closingReport, createPace, peakMemory, progressLine } from "./train_progress.ts";
import { validationLine } from "./train_report.ts";
import type { Settings } from "./train_resume.ts";
import { resumeCommand, saveRun, type TrainRun, writeConfig } from "./train_save.ts";

/**
 * Trains to the end or until interrupted.
 *
 * @returns the exit code
 */
export async function runSteps(run: TrainRun, log: Log): Promise<number> {
  const { settings, trainer, loader, accumulation, steps, start } = run;
  const { out, checkpointEvery, valEvery, sampleEvery, keepBest } = settings;
  const { model: { config } } = trainer;
  let { best, validated } = start;
  let [done, saved] = [start.step, start.step];
  let making: LoaderState | undefined; // where the data of the step begins that is being made
  let skipped = 0;
  const tokens = settings.batchSize * settings.seqLen * accumulation;
  const samples = sampleEvery > 0 && canSample(config.V, log);
  const resumeAt = start.step > 0 ? start.step : undefined;
  await writeConfig(settings);
  using runLog = await openRunLog(out, { resumeAt, tensorboard: settings.tensorboard });
  await using interrupt = await catchInterrupt(() => {
    try {
      log.line("interrupted: finishing the step; Ctrl-C again stops at once");
    } catch { /* no output any more: the step's own line will say so */ }
  });
  const validations: { step: number; loss: number }[] = [];

  /** @returns whether the loss is the lowest so far */
  async function validate(step: number): Promise<boolean> {
    if (run.valPaths.length === 0 || interrupt.requested) return false;
    const found = await validationLoss(run, interrupt);
    if (found === undefined) return false;
    log.line(validationLine(found, settings.seqLen));
    runLog.validation(step, found);
    if (!Number.isFinite(found.loss)) throw brokenBy(step, found.loss);
    validations.push({ step, loss: found.loss });
    validated = step;
    const improved = found.loss < (best?.loss ?? Infinity);
    if (improved) best = { loss: found.loss, step };
    return improved;
  }

  /** Comes before the step's checkpoint, which would take the place of a good one. */
  function brokenBy(step: number, loss: number): LlmtsError {
    const what = `the validation loss is ${loss}`;
    if (step === start.step) return new LlmtsError(`Before training ${what}`, { hint: BROKEN_HINT });
    return new DivergenceError(`Step ${step}: ${what}, training has diverged`, {
      hint: `lower --learning-rate (it was ${rateOf(run, step)})`,
    });
  }

  const save = async (step: number): Promise<void> => {
    await saveRun(run, { step, tokens: start.tokens + (step - start.step) * tokens, best, validated });
    saved = step;
    log.line(`checkpoint: ${checkpointFiles(out, step).model}`);
    const kept = keepBest ? best?.step : undefined;
    pruneCheckpoints(out, { keep: settings.keep, majorEvery: settings.majorEvery, best: kept });
  };
  const isDue = (step: number, every: number): boolean => step === steps || step % every === 0;

  const pace = createPace({ steps, tokens, flops: run.flops });
  const began = performance.now();

  async function advance(step: number): Promise<void> {
    const { epoch } = loader;
    const learningRate = rateOf(run, step);
    const before = performance.now();
    making = loader.state;
    const result = await takeStep(run, learningRate);
    [done, making] = [step, undefined];
    const stepPace = pace.add(step, performance.now() - before);
    const outlier = outlierOf(result, settings);
    if (outlier) skipped++;
    const { loss, gradNorm } = result;
    const told = { loss, gradNorm, learningRate, ...stepPace };
    runLog.update(step, { ...told, memory: Deno.memoryUsage().rss });
    log.progress(progressLine({ step, ...told, ...(outlier && { skipped: outlier }) }, steps, log.columns()));
    await yieldToListeners();

    const improved = isDue(step, valEvery) && await validate(step);
    if (isDue(step, checkpointEvery) || (keepBest && improved) || interrupt.requested) await save(step);
    if (samples && isDue(step, sampleEvery)) {
      await sample(run, interrupt, log);
      if (interrupt.requested && saved < step) await save(step);
    }
    if (loader.epoch > epoch && step < steps && !settings.overfit) {
      log.line(`epoch ${loader.epoch + 1}: the training data starts over`);
    }
    if (interrupt.requested && step < steps) log.line(`to go on: ${resumeCommand(out)}`);
  }

  try {
    if (start.step === 0 || (validated !== start.step && isDue(start.step, valEvery))) {
      await validate(start.step);
    }
    while (done < steps && !interrupt.requested) await advance(done + 1);
  } catch (error) {
    const step = making && done + 1;
    if (making) loader.state = making;
    // Whatever is wrong, it shouldn't cost what was trained. The first error is the one to report.
    if (done > saved && !(error instanceof DivergenceError)) await save(done).catch(() => {});
    throw inWords(error, out, step);
  }
  if (interrupt.requested) return 130;
  const made = steps - start.step;
  const closing = closingReport({
    steps: made,
    skipped,
    tokens: made * tokens,
    elapsed: performance.now() - began,
    meanStep: pace.mean(),
    validations,
    peakMemory: peakMemory(),
    files: [checkpointFiles(out, steps).model],
  });
  try {
    for (const line of closing) log.line(line);
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error; // all is done
  }
  return 0;
}

/** One update; listeners run between its batches. */
async function takeStep(
  { trainer, loader, accumulation, settings }: TrainRun,
  learningRate: number,
): Promise<StepResult> {
  function* batches(): Generator<Batch> {
    if (settings.overfit) loader.reset();
    for (let i = 0; i < accumulation; i++) yield loader.next();
  }
  const micro = trainer.microSteps(batches(), learningRate);
  for (;;) {
    const { done, value } = micro.next();
    if (done) return value;
    await yieldToListeners();
  }
}

function rateOf({ settings, steps, learningRate }: TrainRun, step: number): number {
  const { schedule: name, warmup, finalLrFraction: finalFraction } = settings;
  return learningRateAt({ name, learningRate, warmup, steps, finalFraction }, step - 1);
}

/** Why a step's update was skipped, if it was. */
function outlierOf(
  { skipped, lossZ, gradZ }: StepResult,
  { skipLossZ }: Settings,
): { outlier: "loss" | "norm"; z: number } | undefined {
  if (!skipped) return undefined;
  return skipLossZ > 0 && lossZ > skipLossZ ? { outlier: "loss", z: lossZ } : { outlier: "norm", z: gradZ };
}

/** The mean loss over the validation data; undefined when interrupted. */
async function validationLoss(
  { trainer, settings, valPaths }: TrainRun,
  interrupt: Interrupt,
): Promise<{ loss: number; tokens: number } | undefined> {
  const { batchSize: B, seqLen: T, valTokens: limit } = settings;
  let sum = 0;
  let tokens = 0;
  for (const batch of validationBatches(valPaths, trainer.model.config.V, { B, T, limit })) {
    const part = trainer.evaluate([batch]);
    sum += part.loss * part.tokens;
    tokens += part.tokens;
    await yieldToListeners();
    if (interrupt.requested) return undefined;
  }
  return { loss: sum / tokens, tokens };
}

/** Where a command that only prints is done, when nobody reads on, training had more to do. */
export function unread(cause: Deno.errors.BrokenPipe): LlmtsError {
  return new LlmtsError("Nobody reads the output any more", { cause });
}

/** An error that ends a run, with the step that it came in and the checkpoint that is left. */
function inWords(error: unknown, out: string, step: number | undefined): unknown {
  const known = error instanceof Deno.errors.BrokenPipe ? unread(error) : error;
  if (!(known instanceof LlmtsError)) return known;
  const saved = completeSteps(out).at(-1);
  const left = saved === undefined ? [] : [`the checkpoint of step ${saved} is in "${out}"`];
  const hint = [...(known.hint === undefined ? [] : [known.hint]), ...left].join("; ");
  return new LlmtsError(step === undefined ? known.message : `Step ${step}: ${known.message}`, {
    cause: known,
    ...(hint === "" ? {} : { hint }),
  });
}

/** Whether samples can be printed; says so if not. */
function canSample(V: number, log: Log): boolean {
  if (V === GPT2_VOCABULARY) return true;
  log.line(`no samples: the model's vocabulary has ${V} tokens, GPT-2's ${GPT2_VOCABULARY}`);
  return false;
}

/** Generates from end-of-text and prints it. Each sample starts from the same seed, so that samples compare. */
async function sample({ trainer, settings }: TrainRun, interrupt: Interrupt, log: Log): Promise<void> {
  const { sampleTokens: tokens, seed } = settings;
  const output = openText();
  const decoded = streamDecoder(await gpt2Tokenizer());
  log.line("generating:\n---");
  for (const id of generate(trainer.model, [END_OF_TEXT], { tokens, seed })) {
    output.write(decoded.push(id));
    await yieldToListeners();
    if (interrupt.requested) break;
  }
  output.write(decoded.end());
  output.flush();
  log.line("\n---");
}
