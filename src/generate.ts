/**
 * Generating tokens with a key-value cache: after the prompt, one token goes forward for each that comes out.
 *
 * @module
 */
import { type Tensor, tensorBytes } from "../ffi/tensor.ts";
import { activationBytes, type Activations, allocateActivations } from "./activations.ts";
import type { GPT2Config } from "./config.ts";
import { LlmtsError } from "./errors.ts";
import { type Cache, forward, lastLogits, type Model, type Precision } from "./model.ts";
import { Random } from "./random.ts";
import { sampleToken, type SamplingOptions, samplingProblem } from "./sampler.ts";

/** Forward passes over a growing sequence, for B sequences of the same length at a time. Disposing frees its memory. */
export interface Decoder extends Disposable {
  /** Positions seen so far. */
  readonly length: number;
  /**
   * Appends T tokens to each sequence.
   *
   * @param tokens ids (B,T), sequence by sequence
   * @returns logits of the token after them, (B,V); overwritten by the next call
   * @throws {LlmtsError} they would pass the decoder's positions
   */
  append(tokens: Int32Array): Float32Array;
  /** Forgets everything. */
  reset(): void;
}

/** Tokens that go forward at a time in a long prompt: bounds the activations' memory. */
const CHUNK = 256;

/** Of a layer's keys, and of its values. */
function cacheShape({ NH, C }: GPT2Config, B: number, positions: number): readonly number[] {
  return [B, NH, positions, C / NH];
}

/** A decoder for `model` and B sequences, with room for so many positions, at most the model's maxT. */
export function createDecoder(
  model: Model,
  { B = 1, positions = model.config.maxT }: { B?: number; positions?: number } = {},
): Decoder {
  const { config, device, precision } = model;
  const { L, V } = config;
  const [memory, workspace] = [device.temporary(), device.temporary()];
  const layers = (): Tensor[] =>
    Array.from({ length: L }, () => memory.tensor(precision, cacheShape(config, B, positions)));
  const cache: Cache = { keys: layers(), values: layers(), length: 0 };
  const out = memory.tensor("fp32", [B, V]);
  let activations: Activations | undefined;
  let ids: Tensor | undefined;

  /** Takes T tokens of each sequence forward; keeps the workspace of the last T, which in generation is 1. */
  function step(tokens: Int32Array, T: number): void {
    if (activations?.T !== T || ids === undefined) {
      workspace[Symbol.dispose]();
      activations = allocateActivations(config, workspace, { B, T, precision, training: false });
      ids = workspace.tensor("int32", [B, T]);
    }
    device.write(ids, tokens);
    forward(model, activations, ids, cache);
    lastLogits(model, activations, out);
  }

  return {
    get length(): number {
      return cache.length;
    },
    append(tokens): Float32Array {
      const total = tokens.length / B;
      if (!Number.isInteger(total) || total === 0) {
        throw new RangeError(
          `Expected the same number of tokens for ${B} sequences, at least one, found ${tokens.length}`,
        );
      }
      if (cache.length + total > positions) {
        throw new LlmtsError(
          `${cache.length} + ${total} tokens are more than the decoder's ${positions} positions`,
        );
      }
      for (let from = 0; from < total; from += CHUNK) {
        const T = Math.min(CHUNK, total - from);
        const part = new Int32Array(B * T);
        for (let b = 0; b < B; b++) part.set(tokens.subarray(b * total + from, b * total + from + T), b * T);
        step(part, T);
      }
      return device.read(out);
    },
    reset(): void {
      cache.length = 0;
    },
    [Symbol.dispose](): void {
      workspace[Symbol.dispose]();
      memory[Symbol.dispose]();
    },
  };
}

/** Positions that take part when `tokens` are generated after a prompt: the last token doesn't go forward. */
function positionsUsed({ maxT }: GPT2Config, promptLength: number, tokens: number): number {
  return Math.min(maxT, promptLength + Math.max(0, tokens - 1));
}

/** Bytes that {@linkcode generateBatch} allocates beside the model, for `tokens` after a prompt of `promptLength`. */
export function generationBytes(
  config: GPT2Config,
  { B, precision, promptLength, tokens }: {
    B: number;
    precision: Precision;
    promptLength: number;
    tokens: number;
  },
): number {
  const { L, V, maxT } = config;
  const seen = Math.min(promptLength, maxT);
  const again = seen + tokens - 1 > maxT ? Math.ceil(maxT / 2) : 0; // goes forward anew once the cache is full
  const T = Math.min(CHUNK, Math.max(seen, again));
  const cache = cacheShape(config, B, positionsUsed(config, promptLength, tokens));
  return 2 * L * tensorBytes(precision, cache) + tensorBytes("fp32", [B, V]) +
    activationBytes(config, { B, T, precision, training: false }) + tensorBytes("int32", [B, T]);
}

/** What {@linkcode generate} takes beside sampling options. */
export interface GenerateOptions extends SamplingOptions {
  /** How many tokens to generate at most. */
  readonly tokens: number;
  /** Seed of the draws. The same seed gives the same tokens. Default 1337. */
  readonly seed?: number;
  /** Ends after this token, which is not given out: end-of-text, usually. */
  readonly stop?: number;
}

/**
 * Generates tokens after a prompt, one at a time. Where the sequence would pass the model's maxT positions, its older half
 * is dropped and the rest goes forward again from position 0.
 *
 * @param prompt ids, at least one; of a prompt longer than maxT only the last maxT are seen
 * @throws {LlmtsError} the prompt is empty or an option is out of range
 */
export function* generate(
  model: Model,
  prompt: ArrayLike<number>,
  options: GenerateOptions,
): Generator<number, void> {
  for (const [token] of generateBatch(model, prompt, options, 1)) yield token!;
}

/**
 * As {@linkcode generate}, several sequences at a time, which share each reading of the weights. Sequence b draws with seed
 * + b.
 *
 * @returns after each step a token of each sequence; undefined for one that has ended
 * @throws {LlmtsError} as `generate`
 */
export function* generateBatch(
  model: Model,
  prompt: ArrayLike<number>,
  options: GenerateOptions,
  B: number,
): Generator<(number | undefined)[], void> {
  const { tokens, seed = 1337, stop } = options;
  const problem = samplingProblem(options);
  if (problem !== undefined) throw new LlmtsError(`Text can't be generated: ${problem}`);
  if (prompt.length === 0) {
    throw new LlmtsError("Text can't be generated from an empty prompt", {
      hint: "start from end-of-text, 50256",
    });
  }
  const { maxT, V } = model.config;
  const randoms = Array.from({ length: B }, (_, b) => new Random((seed + b) % 2 ** 32));
  const ended = new Array<boolean>(B).fill(false);
  const positions = positionsUsed(model.config, prompt.length, tokens);
  using decoder = createDecoder(model, { B, positions });
  const sequences = Array.from({ length: B }, () => Array.from(prompt).slice(-maxT));
  let fresh: readonly (readonly number[])[] = sequences;
  for (let n = 0; n < tokens; n++) {
    if (decoder.length + fresh[0]!.length > positions) { // of maxT then
      decoder.reset();
      for (const sequence of sequences) sequence.splice(0, sequence.length - Math.ceil(maxT / 2));
      fresh = sequences;
    }
    const logits = decoder.append(Int32Array.from(fresh.flat()));
    const drawn = randoms.map((random, b) =>
      sampleToken(logits.subarray(b * V, (b + 1) * V), random.randfloat64(), options)
    );
    drawn.forEach((token, b) => ended[b] ||= token === stop);
    if (ended.every(Boolean)) return;
    yield drawn.map((token, b) => ended[b] ? undefined : token);
    drawn.forEach((token, b) => sequences[b]!.push(token));
    fresh = drawn.map((token) => [token]);
  }
}
