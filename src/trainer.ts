/**
 * Training: batches go forward and backward, and the sum of their gradients into the optimizer.
 *
 * @module
 */
import { allocateActivations, type RecomputeLevel } from "./activations.ts";
import { type AdamW, ADAMW_DEFAULTS, createAdamW } from "./adamw.ts";
import { DivergenceError, LlmtsError } from "./errors.ts";
import { createEvaluator, type Evaluator } from "./evaluate.ts";
import type { Batch } from "./io/loader.ts";
import { backward, forward, type Model } from "./model.ts";
import { createOutlierDetector, type OutlierState } from "./outliers.ts";
import { allocateParameters, type Parameters } from "./parameters.ts";

/** What {@linkcode createTrainer} takes. */
export interface TrainerOptions {
  /** Sequences in a batch: what goes forward and backward at a time. */
  readonly B: number;
  /** Tokens in a sequence, at most the model's maxT. */
  readonly T: number;
  /** Largest norm of the gradients; they are scaled down to it. 0: no limit. Default 1. */
  readonly gradClip?: number;
  /** Default 0. */
  readonly weightDecay?: number;
  /** How much of its second moments AdamW keeps at a step. Default that of {@linkcode ADAMW_DEFAULTS}. */
  readonly beta2?: number;
  /** Seed of the stochastic rounding of bf16 parameters without a master copy. Default 0. */
  readonly roundingSeed?: number;
  /** Skip updates whose loss has a z-score above this among the last 128 losses. 0: none. Default 0. */
  readonly skipLossZ?: number;
  /** As `skipLossZ`, of the norm of the gradients. */
  readonly skipGradZ?: number;
  /** What backward computes again in place of keeping it. Default {@linkcode DEFAULT_RECOMPUTE}. */
  readonly recompute?: RecomputeLevel;
  /** The losses and norms that a run goes on from. Default: none. */
  readonly windows?: OutlierWindows;
}

/** What the outlier detectors remember. */
export interface OutlierWindows {
  readonly losses: OutlierState;
  readonly norms: OutlierState;
}

/** What a step did. */
export interface StepResult {
  /** Mean loss of the step's positions before the update, in nats. */
  readonly loss: number;
  /** Norm of the gradients before clipping. */
  readonly gradNorm: number;
  /** Z-scores of both among the last 128; NaN until there are so many. */
  readonly lossZ: number;
  readonly gradZ: number;
  /** Whether the update was left out, as an outlier. */
  readonly skipped: boolean;
}

/** See the module. */
export interface Trainer {
  readonly model: Model;
  readonly gradients: Parameters;
  readonly optimizer: AdamW;
  /**
   * One update. The gradients of several batches are added up (gradient accumulation) and each position counts alike, so
   * that loss and gradients are those of one batch of them all.
   *
   * @param batches one, or several of which each may reuse the arrays of the one before
   * @throws {DivergenceError} the loss or the gradients are not finite; the model is as before
   */
  step(batches: Batch | Iterable<Batch>, learningRate: number): StepResult;
  /** As `step`, and yields between batches, so that a caller can see to other things. */
  microSteps(batches: Batch | Iterable<Batch>, learningRate: number): Generator<void, StepResult>;
  /** A copy of what the outlier detectors remember. */
  windows(): OutlierWindows;
  /** The mean loss over batches. Changes nothing. */
  readonly evaluate: Evaluator;
}

/**
 * A trainer for `model`: allocates gradients, moments and activations.
 *
 * @throws {LlmtsError} T is above the model's maxT, or there is not enough memory
 */
export function createTrainer(model: Model, options: TrainerOptions): Trainer {
  const { B, T, gradClip = 1, weightDecay = 0, beta2 = ADAMW_DEFAULTS.beta2 } = options;
  const { roundingSeed = 0, skipLossZ = 0, skipGradZ = 0 } = options;
  const { config, device, precision } = model;
  if (T > config.maxT) {
    throw new LlmtsError(`Sequences of ${T} tokens are longer than the model's ${config.maxT} positions`, {
      hint: `--seq-len ${config.maxT} is the most this model takes`,
    });
  }
  const { recompute } = options;
  const activations = allocateActivations(config, device, { B, T, precision, training: true, recompute });
  const gradients = allocateParameters(config, device, "fp32");
  const optimizer = createAdamW(model);
  const tokens = device.tensor("int32", [B, T]);
  const targets = device.tensor("int32", [B, T]);
  const losses = createOutlierDetector(options.windows?.losses);
  const norms = createOutlierDetector(options.windows?.norms);

  function take(batch: Batch): void {
    device.write(tokens, batch.inputs);
    device.write(targets, batch.targets);
  }

  function* microSteps(
    batches: Batch | Iterable<Batch>,
    learningRate: number,
  ): Generator<void, StepResult> {
    const counted = countedBatches(batches);
    const total = counted.reduce((sum, { count }) => sum + count, 0);
    let loss = 0;
    for (const [i, { batch, count }] of counted.entries()) {
      if (i > 0) yield;
      take(batch);
      forward(model, activations, tokens);
      const mean = backward(model, activations, gradients, tokens, targets, {
        scale: 1 / total,
        accumulate: i > 0,
      });
      loss += mean * (count / total);
    }
    return update(loss, learningRate);
  }

  /** Applies the gradients, unless they or their loss stand out. */
  function update(loss: number, learningRate: number): StepResult {
    const gradNorm = device.ops.globalNorm(gradients.flat);
    if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
      throw new DivergenceError(
        `The loss is ${loss} and the gradient norm ${gradNorm}: training has diverged`,
        {
          hint: `lower --learning-rate (it was ${learningRate})`,
        },
      );
    }
    const [lossZ, gradZ] = [losses.push(loss), norms.push(gradNorm)];
    const skipped = (skipLossZ > 0 && lossZ > skipLossZ) || (skipGradZ > 0 && gradZ > skipGradZ);
    if (skipped) {
      optimizer.steps++; // as in llm.c: the bias correction goes by steps, whether their updates were made or not
    } else {
      const gradScale = gradClip > 0 && gradNorm > gradClip ? gradClip / gradNorm : 1;
      optimizer.update(gradients, {
        ...ADAMW_DEFAULTS,
        beta2,
        learningRate,
        weightDecay,
        gradScale,
        seed: roundingSeed,
      });
    }
    return { loss, gradNorm, lossZ, gradZ, skipped };
  }

  return {
    model,
    gradients,
    optimizer,
    microSteps,
    windows: () => ({ losses: losses.state(), norms: norms.state() }),

    step(batches, learningRate): StepResult {
      const steps = microSteps(batches, learningRate);
      for (;;) {
        const { done, value } = steps.next();
        if (done) return value;
      }
    },

    evaluate: createEvaluator(model, { B, T, activations }),
  };
}

/** Copies of the batches in which a position counts, and how many do. */
function countedBatches(batches: Batch | Iterable<Batch>): { batch: Batch; count: number }[] {
  const counted = Array.from("inputs" in batches ? [batches] : batches, ({ inputs, targets }) => ({
    batch: { inputs: inputs.slice(), targets: targets.slice() },
    count: targets.reduce((count, target) => target < 0 ? count : count + 1, 0),
  })).filter(({ count }) => count > 0);
  if (counted.length === 0) throw new LlmtsError("No position of the batches of a step counts");
  return counted;
}
