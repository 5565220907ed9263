/**
 * `llmts train`: trains a GPT-2, from the start or from a checkpoint on. What can be refused is refused here; the steps
 * themselves are in train_run.ts.
 *
 * @module
 */
import {
  checkDiskSpace,
  claimFolder,
  completeSteps,
  deleteCheckpoint,
  loneModels,
  removeLeftovers,
} from "../src/checkpoints.ts";
import { measurePeak, trainingFlops } from "../src/flops.ts";
import { isFolder, makeFolder } from "../src/io/files.ts";
import { DataLoader, openValidation, validationBatches } from "../src/io/loader.ts";
import { openShards } from "../src/io/shards.ts";
import { readState, readStateHeader } from "../src/io/state.ts";
import { loadModel, modelConfig, startsFromScratch } from "../src/load.ts";
import { checkMemory, memoryPlan } from "../src/memory.ts";
import { createTrainer } from "../src/trainer.ts";
import { defineCommand } from "./command.ts";
import { checkSequenceLength, deviceWords, openEngine } from "./engine.ts";
import { type Log, openLog } from "./output.ts";
import { chooseData } from "./train_data.ts";
import { FLAGS, LEARNING_RATE, type TrainFlags } from "./train_flags.ts";
import { planLines } from "./train_plan.ts";
import { modelLines } from "./train_report.ts";
import { dataHasChanged, findRun, hintingAtOlder, resumeLoader, type Settings } from "./train_resume.ts";
import { runSteps, unread } from "./train_run.ts";
import { checkpointSize } from "./train_save.ts";
import {
  checkpointsKept,
  chooseModel,
  keepBestError,
  microBatches,
  runSettings,
  stepCount,
  timesDue,
} from "./train_settings.ts";

/** See the module. */
export const command = defineCommand({
  flags: FLAGS,
  details: [
    "Without flags: a small GPT-2 on tiny Shakespeare, 40 steps of 4 × 64 tokens, in seconds; then llmts sample " +
    "continues a prompt with what it learned.",
    "New weights are random: normal with deviation 0.02, the projections into the residual stream scaled by " +
    "1/sqrt(2 layers), biases 0, as GPT-2's were and as PyTorch draws them from the same seed. Each epoch goes through " +
    "the tokens in order, or by --shuffle in another order each time; at the end of a file fewer than B·T + 1 are left out.",
    "A checkpoint is model_STEP.bin, state_STEP_00000.bin and DONE_STEP, as llm.c's, and run_STEP.json with the rest: " +
    "--resume goes on from it bit for bit as if the run had never stopped, with the same number of threads. It takes the " +
    "flags of the run where none are given, and refuses others that would change what is computed unless --accept names them.",
    "Ctrl-C, SIGTERM or a closed terminal finishes the step and writes a checkpoint; a second one stops at once. What " +
    "goes wrong on the way, a bad token say, costs no finished step either. Under nohup, training goes on without its terminal.",
  ],
  examples: [
    "llmts train --steps 500 --model d6",
    "llmts train --data book_train.bin --seq-len 256 --out book",
    "llmts train --data 'data/*_train*.bin' --shuffle --epochs 1 --total-batch-size 4096 --schedule cosine --warmup 50 \\\n" +
    "    --checkpoint-every 100 --keep 3 --out long",
    "llmts train --resume --out long          # go on where that run stopped",
    "llmts train --model out --steps 100 --out more   # a new run from the newest weights in out",
  ],
  async run(flags, _positionals, given): Promise<number> {
    const log = openLog();
    try {
      return await train(flags, given, log);
    } catch (error) {
      if (error instanceof Deno.errors.BrokenPipe && !flags.dryRun) throw unread(error);
      throw flags.resume ? hintingAtOlder(error, flags.out) : error;
    } finally {
      log.end();
    }
  },
});

async function train(flags: TrainFlags, given: ReadonlySet<string>, log: Log): Promise<number> {
  // Before the folder's checkpoints are looked at, or, where there is none yet, once it is made.
  using claim = flags.dryRun || !isFolder(flags.out) ? undefined : claimFolder(flags.out);
  // All that can be refused is refused before memory is allocated.
  const resumed = flags.resume ? findRun(flags.out) : undefined;
  const { settings, accepted, changed, notes } = runSettings(flags, given, resumed);
  const { batchSize: B, seqLen: T, precision, recompute, valEvery } = settings;
  const accumulation = microBatches(settings);
  const source = resumed?.files.model ?? chooseModel(settings.model);
  const config = modelConfig(source);
  checkSequenceLength(T, source, config);
  const keepMaster = settings.masterWeights === "yes";
  const memory = memoryPlan(config, { B, T, precision, keepMaster, recompute });
  const device = openEngine(settings);
  if (!flags.dryRun) checkMemory(memory, device.freeMemory());
  const data = await chooseData(settings);
  using shards = openShards(data.train, config.V);
  const startsOver = changed.includes("data") || dataHasChanged(shards, resumed?.run, accepted);
  using val = openValidation(valEvery === 0 ? [] : data.val, config.V);
  if (settings.keepBest && data.val.length === 0) throw keepBestError("there is no --val-data");
  const loader = new DataLoader(shards, B, T, { shuffle: settings.shuffle, seed: settings.seed });
  const steps = stepCount(settings, loader.batches, accumulation);
  const learningRate = settings.learningRate ??
    LEARNING_RATE[startsFromScratch(source) ? "scratch" : "checkpoint"];
  const effective: Settings = {
    ...settings,
    ...data.names,
    model: settings.model ?? source,
    totalBatchSize: accumulation * B * T,
    learningRate,
    steps: settings.epochs === undefined ? steps : undefined,
  };
  for (const note of notes) log.line(note);
  if (resumed && resumed.step >= steps) {
    log.line(`the run is complete: ${resumed.step} of ${steps} steps; a higher --steps goes on`);
    return 0;
  }
  const saved = checkpointSize(config, { precision, keepMaster, state: loader.state });
  if (flags.dryRun) {
    const all = val.lengths.reduce((sum, length) => sum + length - 1, 0);
    const tokens = settings.valTokens === 0 ? all : Math.min(all, settings.valTokens);
    const plan = planLines({
      ...{ source, config, B, T, batches: accumulation, steps, memory },
      epochTokens: loader.batches * B * T,
      validation: { tokens, times: 1 + timesDue(steps, valEvery) },
      freeMemory: device.freeMemory(),
      checkpoint: { bytes: saved, kept: checkpointsKept(settings, steps), atMost: settings.keepBest },
      peak: measurePeak(device, precision),
    });
    for (const line of plan) log.line(line);
    return 0;
  }
  await makeFolder(flags.out);
  using _ = claim === undefined ? claimFolder(flags.out) : undefined;
  checkDiskSpace(flags.out, saved);

  const model = loadModel(source, device, { seed: settings.seed, precision, keepMaster });
  const trainer = createTrainer(model, {
    B,
    T,
    gradClip: settings.gradClip,
    weightDecay: settings.weightDecay,
    beta2: settings.beta2,
    roundingSeed: settings.seed,
    skipLossZ: settings.skipLossZ,
    skipGradZ: settings.skipGradZ,
    recompute,
    ...(resumed?.run && { windows: resumed.run }),
  });
  for (const line of modelLines(config, memory, { info: device.info(), precision })) log.line(line);
  const from = startsFromScratch(source) ? `, from scratch, seed ${settings.seed}` : "";
  log.line(`model: ${source}${from}, learning rate ${learningRate}`);
  if (data.note !== undefined) log.line(data.note);
  log.line(`train dataset num_batches: ${loader.batches}`);
  if (accumulation > 1) log.line(`batches in a step: ${accumulation}, ${accumulation * B * T} tokens`);

  if (resumed) {
    const { step, files, run } = resumed;
    const { m, v } = trainer.optimizer;
    // llm.c's bf16 run that goes on in fp32 does so with its master weights.
    const master = model.master ??
      (precision === "fp32" && readStateHeader(files.state).hasMaster ? model.parameters : null);
    const state = readState(files.state, { device, m, v, master });
    trainer.optimizer.steps = step;
    if (model.master !== null) device.ops.convert(model.parameters.flat, model.master.flat);
    const epoch = run?.epoch ?? Math.floor(Math.max(0, step * accumulation - 1) / loader.batches);
    const tokens = Number(run?.flags["batch-size"] ?? B) * Number(run?.flags["seq-len"] ?? T);
    const note = resumeLoader(loader, { ...state.loader, epoch }, {
      startsOver,
      changed,
      tokens,
      now: B * T,
    });
    if (note !== undefined) log.line(note);
    const words = deviceWords(device.info());
    if (run?.device !== undefined && run.device !== words) {
      log.line(`device so far: ${run.device}; with another the last bits of what is computed differ`);
    }
    log.line(`resuming after step ${step} of ${steps}`);
  } else if (flags.overwrite) {
    // Reads what the run begins with, which can still be refused: that shouldn't cost the run before it.
    for (const _ of validationBatches(val.paths, config.V, { B, T, limit: settings.valTokens }));
    for (let i = 0; i < accumulation; i++) loader.next();
    loader.reset();
    const there = [...completeSteps(flags.out), ...loneModels(flags.out)];
    for (const step of there) deleteCheckpoint(flags.out, step);
  }
  removeLeftovers(flags.out);

  // Losses of other tokens, or in other windows, don't compare.
  const validationChanged = (["valData", "valTokens", "seqLen"] as const).some((name) =>
    changed.includes(name)
  );
  return await runSteps({
    settings: effective,
    trainer,
    loader,
    dataTokens: shards.lengths,
    accumulation,
    steps,
    learningRate,
    valPaths: val.paths,
    flops: { perToken: trainingFlops(config, T), peak: measurePeak(device, precision) },
    start: {
      step: resumed?.step ?? 0,
      tokens: resumed?.run?.tokens ?? (resumed?.step ?? 0) * accumulation * B * T,
      best: validationChanged ? null : resumed?.run?.best ?? null,
      // llm.c validates before it saves, and so has a run without its own word for it.
      validated: resumed ? resumed.run?.validated ?? (resumed.run ? null : resumed.step) : null,
    },
  }, log);
}
