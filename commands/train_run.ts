/**
 * The steps of `llmts train`, and what happens between them: validation, checkpoints, samples, and ending early.
 *
 * @module
 */
import { checkpointFiles, completeSteps, pruneCheckpoints } from "../src/checkpoints.ts";
import { END_OF_TEXT, GPT2_VOCABULARY } from "../src/config.ts";
import { LlmtsError } from "../src/errors.ts";
import { generate } from "../src/generate.ts";
import { type Batch, validationBatches } from "../src/io/loader.ts";
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
  let skipped = 0;
  const tokens = settings.batchSize * settings.seqLen * accumulation;
  const samples = sampleEvery > 0 && canSample(config.V, log);
  const resumeAt = start.step > 0 ? start.step : undefined;
  await writeConfig(settings);
  using runLog = await openRunLog(out, { resumeAt, tensorboard: settings.tensorboard });
  await using interrupt = await catchInterrupt(() =>
    log.line("interrupted: finishing the step; Ctrl-C again stops at once")
  );
  const validations: { step: number; loss: number }[] = [];

  /** @returns whether the loss is the lowest so far */
  async function validate(step: number): Promise<boolean> {
    if (run.valPaths.length === 0 || interrupt.requested) return false;
    const found = await validationLoss(run, interrupt);
    if (found === undefined) return false;
    log.line(validationLine(found, settings.seqLen));
    runLog.validation(step, found);
    validations.push({ step, loss: found.loss });
    validated = step;
    const improved = found.loss < (best?.loss ?? Infinity);
    if (improved) best = { loss: found.loss, step };
    return improved;
  }

  const save = async (step: number): Promise<void> => {
    await saveRun(run, { step, tokens: start.tokens + (step - start.step) * tokens, best, validated });
    log.line(`checkpoint: ${checkpointFiles(out, step).model}`);
    const kept = keepBest ? best?.step : undefined;
    pruneCheckpoints(out, { keep: settings.keep, majorEvery: settings.majorEvery, best: kept });
  };
  const isDue = (step: number, every: number): boolean => step === steps || step % every === 0;

  const pace = createPace({ steps, tokens, flops: run.flops });
  const began = performance.now();
  if (start.step === 0 || (validated !== start.step && isDue(start.step, valEvery))) {
    await validate(start.step);
  }
  for (let step = start.step + 1; step <= steps && !interrupt.requested; step++) {
    const { epoch } = loader;
    const learningRate = rateOf(run, step);
    const before = performance.now();
    const result = await named(step, out, () => takeStep(run, learningRate));
    const stepPace = pace.add(step, performance.now() - before);
    const outlier = outlierOf(result, settings);
    if (outlier) skipped++;
    const { loss, gradNorm } = result;
    const told = { loss, gradNorm, learningRate, ...stepPace };
    runLog.update(step, { ...told, memory: Deno.memoryUsage().rss });
    log.progress(progressLine({ step, ...told, ...(outlier && { skipped: outlier }) }, steps, log.columns()));
    await yieldToListeners();

    let improved = false;
    try {
      if (isDue(step, valEvery)) improved = await validate(step);
    } catch (error) {
      await save(step); // what is wrong with the validation shouldn't cost what was trained
      throw error;
    }
    const saving = isDue(step, checkpointEvery) || (keepBest && improved);
    if (saving || interrupt.requested) await save(step);
    if (samples && isDue(step, sampleEvery)) {
      await sample(run, interrupt, log);
      if (interrupt.requested && !saving) await save(step);
    }
    if (loader.epoch > epoch && step < steps && !settings.overfit) {
      log.line(`epoch ${loader.epoch + 1}: the training data starts over`);
    }
    if (interrupt.requested && step < steps) log.line(`to go on: ${resumeCommand(out)}`);
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
  for (const line of closing) log.line(line);
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

/** Runs a step; its errors say which it was, and which checkpoint is left. */
async function named<T>(step: number, out: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof LlmtsError)) throw error;
    const saved = completeSteps(out).at(-1);
    const left = saved === undefined ? [] : [`the checkpoint of step ${saved} is in "${out}"`];
    const hint = [...(error.hint === undefined ? [] : [error.hint]), ...left].join("; ");
    throw new LlmtsError(`Step ${step}: ${error.message}`, {
      cause: error,
      ...(hint === "" ? {} : { hint }),
    });
  }
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
