/**
 * Training: a batch goes forward, backward, and into the optimizer.
 *
 * @module
 */
import { type ActivationOptions, allocateActivationGradients, allocateActivations } from "./activations.ts";
import { type AdamW, ADAMW_DEFAULTS, createAdamW } from "./adamw.ts";
import { LlmtsError } from "./errors.ts";
import type { Batch } from "./io/loader.ts";
import { backward, countTargets, forward, loss, type Model } from "./model.ts";
import { allocateParameters, type Parameters } from "./parameters.ts";

/** What {@linkcode createTrainer} takes. */
export interface TrainerOptions {
  /** Sequences in a batch. */
  readonly B: number;
  /** Tokens in a sequence, at most the model's maxT. */
  readonly T: number;
  /** Largest norm of the gradients; they are scaled down to it. 0: no limit. Default 1. */
  readonly gradClip?: number;
  /** Default 0. */
  readonly weightDecay?: number;
  /** Seed of the stochastic rounding of bf16 parameters without a master copy. Default 0. */
  readonly roundingSeed?: number;
}

/** What a step did. */
export interface StepResult {
  /** Mean loss of the batch before the update, in nats. */
  readonly loss: number;
  /** Norm of the gradients before clipping. */
  readonly gradNorm: number;
}

/** See the module. */
export interface Trainer {
  readonly model: Model;
  readonly gradients: Parameters;
  readonly optimizer: AdamW;
  /** Learns from one batch. @throws {LlmtsError} the loss or the gradients are not finite; the model is as before */
  step(batch: Batch, learningRate: number): StepResult;
  /** The mean loss over batches, each position that counts alike, and how many those are. Changes nothing. */
  evaluate(batches: Iterable<Batch>): { loss: number; tokens: number };
}

/**
 * A trainer for `model`: allocates gradients, moments and activations.
 *
 * @throws {LlmtsError} T is above the model's maxT, or there is not enough memory
 */
export function createTrainer(model: Model, options: TrainerOptions): Trainer {
  const { B, T, gradClip = 1, weightDecay = 0, roundingSeed = 0 } = options;
  const { config, device, precision } = model;
  if (T > config.maxT) {
    throw new LlmtsError(`Sequences of ${T} tokens are longer than the model's ${config.maxT} positions`, {
      hint: `--seq-len ${config.maxT} is the most this model takes`,
    });
  }
  const shape: ActivationOptions = { B, T, precision, training: true };
  const activations = allocateActivations(config, device, shape);
  const activationGradients = allocateActivationGradients(config, device, shape);
  const gradients = allocateParameters(config, device, "fp32");
  const optimizer = createAdamW(model);
  const tokens = device.tensor("int32", [B, T]);
  const targets = device.tensor("int32", [B, T]);

  function take(batch: Batch): void {
    device.write(tokens, batch.inputs);
    device.write(targets, batch.targets);
  }

  return {
    model,
    gradients,
    optimizer,

    step(batch, learningRate): StepResult {
      take(batch);
      device.ops.zero(gradients.flat);
      forward(model, activations, tokens);
      const loss = backward(model, activations, activationGradients, gradients, tokens, targets);
      const gradNorm = device.ops.globalNorm(gradients.flat);
      if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
        throw new LlmtsError(`The loss is ${loss} and the gradient norm ${gradNorm}: training has diverged`, {
          hint: `lower --learning-rate (it was ${learningRate})`,
        });
      }
      const gradScale = gradClip > 0 && gradNorm > gradClip ? gradClip / gradNorm : 1;
      optimizer.update(gradients, {
        ...ADAMW_DEFAULTS,
        learningRate,
        weightDecay,
        gradScale,
        seed: roundingSeed,
      });
      return { loss, gradNorm };
    },

    evaluate(batches): { loss: number; tokens: number } {
      let sum = 0;
      let count = 0;
      for (const batch of batches) {
        take(batch);
        forward(model, activations, tokens);
        const counted = countTargets(device, targets);
        sum += loss(model, activations, targets) * counted;
        count += counted;
      }
      return { loss: sum / count, tokens: count };
    },
  };
}
