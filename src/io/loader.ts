/**
 * Batches out of token files: for training, round and round; for validation, every token once.
 *
 * A batch is (B,T): inputs, and as targets the token that follows each of them. So B·T + 1 tokens are read for a batch,
 * and the next one starts where the inputs of this one ended.
 *
 * @module
 */
import { FileError, LlmtsError } from "../errors.ts";
import { Random, type RandomState } from "../random.ts";
import { openShards, type Shards } from "./shards.ts";
import { TokenReader } from "./tokens.ts";

/** What a model is trained or scored on. The arrays are filled anew for the next batch. */
export interface Batch {
  /** (B,T) token ids. */
  readonly inputs: Int32Array<ArrayBuffer>;
  /** (B,T) ids of the tokens that follow; -1 where a position does not count. */
  readonly targets: Int32Array<ArrayBuffer>;
}

/** What {@linkcode DataLoader} takes beside the batch's shape. */
export interface DataLoaderOptions {
  /** This process, 0 … world - 1. Default 0. */
  readonly rank?: number;
  /** Processes that share the data; each reads its own part of every B·T·world tokens. Default 1. */
  readonly world?: number;
  /** Whether shards, and the samples of a shard, come in a random order, anew in each epoch. Default false. */
  readonly shuffle?: boolean;
  /** Seed of that order; each process has its own, `seed + rank`. Default 42, as llm.c. */
  readonly seed?: number;
}

/** Where a loader stands: what it takes to go on exactly there, and what llm.c's state files hold of one. */
export interface LoaderState {
  /** Index in the order of the shards of the one that was read last. */
  readonly shard: number;
  /** Index in the order of its samples of the one that was read last; -1: none was. */
  readonly sample: number;
  /** Epochs completed when that sample was read. */
  readonly epoch: number;
  /** Null without shuffling. */
  readonly shuffle: ShuffleState | null;
}

/** The orders drawn for this epoch, and the generator that draws the next ones. */
export interface ShuffleState {
  readonly shards: Int32Array<ArrayBuffer>;
  /** Of the shard being read. */
  readonly samples: Int32Array<ArrayBuffer>;
  readonly random: RandomState;
}

/**
 * Training batches, epoch after epoch, in llm.c's order. A sample is the batches of all processes, B·T·world tokens, and
 * one token more for the last target; a shard has floor((tokens - 1) / (B·T·world)) of them, and what is left at its end
 * is dropped. Without shuffling shards and samples come in the order they are given in.
 */
export class DataLoader {
  readonly #shards: Pick<Shards, "lengths" | "read">;
  readonly #tokens: Int32Array<ArrayBuffer>;
  readonly #batch: Batch;
  readonly #samples: readonly number[];
  readonly #stride: number;
  readonly #offset: number;
  readonly #seed: number | undefined;
  #shard = 0;
  #sample = -1;
  #epoch = 0;
  #shuffle: { shards: Int32Array<ArrayBuffer>; samples: Int32Array<ArrayBuffer>; random: Random } | null =
    null;

  /** Batches of this process in an epoch. */
  readonly batches: number;

  /** @throws {FileError} a file has fewer than B·T·world + 1 tokens */
  constructor(source: TokenReader | Shards, B: number, T: number, options: DataLoaderOptions = {}) {
    const { rank = 0, world = 1, shuffle = false, seed = 42 } = options;
    this.#shards = "paths" in source
      ? source
      : { lengths: [source.length], read: (_, position, out) => source.read(position, out) };
    this.#stride = B * T * world;
    this.#offset = B * T * rank;
    this.#shards.lengths.forEach((length, shard) => {
      if (length > this.#stride) return;
      const path = "paths" in source ? source.paths[shard]! : source.path;
      const [shape, formula] = world === 1
        ? [`${B} × ${T}`, "B·T + 1"]
        : [`${B} × ${T} in ${world} processes`, "B·T·processes + 1"];
      throw new FileError(
        path,
        `has ${length} tokens, a batch of ${shape} needs ${this.#stride + 1} (${formula})`,
        {
          hint: `lower --batch-size or --seq-len, or ${
            this.#shards.lengths.length === 1 ? "give more data" : "leave the file out"
          }`,
        },
      );
    });
    this.#tokens = new Int32Array(B * T + 1);
    this.#batch = { inputs: new Int32Array(B * T), targets: new Int32Array(B * T) };
    this.#samples = this.#shards.lengths.map((length) => Math.floor((length - 1) / this.#stride));
    this.batches = this.#samples.reduce((sum, samples) => sum + samples, 0);
    this.#seed = shuffle ? seed + rank : undefined;
    this.reset();
  }

  /** Epochs completed: that of the next batch, counted from 0. */
  get epoch(): number {
    return this.#epoch + (this.#atEnd() ? 1 : 0);
  }

  /** The next batch; after the last one of an epoch, the first of the next. */
  next(): Batch {
    if (this.#atEnd()) {
      this.#epoch++;
      this.#startEpoch();
    } else if (this.#sample + 1 === this.#currentSamples()) {
      this.#startShard(this.#shard + 1);
    }
    this.#sample++;
    const sample = this.#shuffle?.samples[this.#sample] ?? this.#sample;
    const { inputs, targets } = this.#batch;
    this.#shards.read(this.#currentShard(), sample * this.#stride + this.#offset, this.#tokens);
    inputs.set(this.#tokens.subarray(0, -1));
    targets.set(this.#tokens.subarray(1));
    return this.#batch;
  }

  /** Goes back to the first batch of the first epoch. Before each step, it makes a run overfit that step's batches. */
  reset(): void {
    this.#epoch = 0;
    this.#shuffle = this.#seed === undefined
      ? null
      : { shards: identity(this.#samples.length), samples: identity(0), random: new Random(this.#seed) };
    this.#startEpoch();
  }

  /** A copy of the state. */
  get state(): LoaderState {
    const shuffle = this.#shuffle && {
      shards: this.#shuffle.shards.slice(),
      samples: this.#shuffle.samples.slice(),
      random: this.#shuffle.random.state,
    };
    return { shard: this.#shard, sample: this.#sample, epoch: this.#epoch, shuffle };
  }

  /**
   * Goes on from the state of a loader of the same files, shape and number of processes.
   *
   * @throws {LlmtsError} it can't be one of this loader's
   */
  set state({ shard, sample, epoch, shuffle }: LoaderState) {
    const fault = this.#fault(shard, sample, epoch, shuffle);
    if (fault !== undefined) {
      throw new LlmtsError(`The data loader can't go on where it was: ${fault}`, {
        hint: "give the same data, --batch-size, --seq-len and --shuffle as before",
      });
    }
    this.#shard = shard;
    this.#sample = sample;
    this.#epoch = epoch;
    if (shuffle !== null) {
      const random = new Random(0);
      random.state = shuffle.random;
      this.#shuffle = { shards: shuffle.shards.slice(), samples: shuffle.samples.slice(), random };
    }
  }

  #fault(shard: number, sample: number, epoch: number, shuffle: ShuffleState | null): string | undefined {
    const shards = this.#samples.length;
    if ((shuffle !== null) !== (this.#shuffle !== null)) {
      return shuffle === null ? "it did not shuffle, and now does" : "it shuffled, and now does not";
    }
    if (shuffle !== null && !isPermutation(shuffle.shards, shards)) {
      return `the saved order is of ${shuffle.shards.length} files, there are ${shards}`;
    }
    if (!(shard >= 0 && shard < shards)) return `it was in file ${shard + 1}, there are ${shards}`;
    const samples = this.#samples[shuffle?.shards[shard] ?? shard]!;
    if (shuffle !== null && !isPermutation(shuffle.samples, samples)) {
      return `the saved order is of ${shuffle.samples.length} batches, the file has ${samples}`;
    }
    if (!(sample >= -1 && sample < samples)) return `it was at batch ${sample + 1}, the file has ${samples}`;
    return Number.isInteger(shard) && Number.isInteger(sample) && Number.isInteger(epoch) && epoch >= 0
      ? undefined
      : `shard ${shard}, batch ${sample} and epoch ${epoch} must be whole numbers`;
  }

  /** The file being read: an index in the order they were given in. */
  #currentShard(): number {
    return this.#shuffle?.shards[this.#shard] ?? this.#shard;
  }

  #currentSamples(): number {
    return this.#samples[this.#currentShard()]!;
  }

  #atEnd(): boolean {
    return this.#shard + 1 === this.#samples.length && this.#sample + 1 === this.#currentSamples();
  }

  /** Shuffles the order of the shards that the last epoch had, as llm.c does. */
  #startEpoch(): void {
    const shuffle = this.#shuffle;
    if (shuffle) {
      shuffle.shards = shuffle.random.permutation(shuffle.shards.length).map((at) => shuffle.shards[at]!);
    }
    this.#startShard(0);
  }

  #startShard(shard: number): void {
    this.#shard = shard;
    this.#sample = -1;
    const shuffle = this.#shuffle;
    if (shuffle) shuffle.samples = shuffle.random.permutation(this.#currentSamples());
  }
}

function identity(n: number): Int32Array<ArrayBuffer> {
  return Int32Array.from({ length: n }, (_, i) => i);
}

function isPermutation(order: Int32Array, n: number): boolean {
  return order.length === n && order.toSorted().every((value, i) => value === i);
}

/**
 * Opens files to validate on, to check them before there is anything to lose.
 *
 * @throws {FileError} one can't be read, or has fewer than 2 tokens
 */
export function openValidation(paths: readonly string[], V: number): Shards {
  const shards = openShards(paths, V);
  shards.lengths.forEach((length, shard) => checkScorable(paths[shard]!, length));
  return shards;
}

/** @throws {FileError} there is no token to predict */
function checkScorable(path: string, length: number): void {
  if (length < 2) throw new FileError(path, `has ${length} tokens, validation needs at least 2`);
}

/**
 * Batches that score each token of some files once, but for the first of each, in windows of T, up to `limit` tokens in all.
 * The last batch of a file is filled up with positions that do not count, so which tokens are scored, and each one's context,
 * depend on T but not on B: the mean loss of all is the same for every B.
 *
 * @param limit 0: all
 * @throws {FileError} a file can't be read, has fewer than 2 tokens or ids outside the vocabulary of V
 */
export function* validationBatches(
  paths: readonly string[],
  V: number,
  { B, T, limit }: { B: number; T: number; limit: number },
): Generator<Batch> {
  let left = limit === 0 ? Infinity : limit;
  for (const path of paths) {
    if (left <= 0) return;
    using reader = new TokenReader(path, V);
    checkScorable(path, reader.length);
    const scored = Math.min(reader.length - 1, left);
    left -= scored;
    const tokens = new Int32Array(B * T + 1);
    const inputs = new Int32Array(B * T);
    const targets = new Int32Array(B * T);
    for (let position = 0; position < scored; position += B * T) {
      const count = Math.min(B * T, scored - position);
      reader.read(position, tokens.subarray(0, count + 1));
      inputs.fill(0).set(tokens.subarray(0, count));
      targets.fill(-1).set(tokens.subarray(1, count + 1));
      yield { inputs, targets };
    }
  }
}
