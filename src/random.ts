/**
 * Random numbers as PyTorch draws them on the CPU: the same seed gives PyTorch's numbers. The generator is MT19937
 * (Matsumoto and Nishimura 1998); how numbers become uniform and normal follows ATen's DistributionsHelper.h and
 * DistributionTemplates.h.
 *
 * @module
 */

const N = 624;
const M = 397;
/** `normal` works on blocks of this many numbers. */
const BLOCK = 16;

/** All that a generator remembers: what it takes to go on exactly where it stopped. */
export interface RandomState {
  /** The twister's 624 words. */
  readonly words: Uint32Array;
  /** Numbers left before the words are renewed, plus 1. */
  readonly left: number;
  /** Index of the word the next number comes from, where any is left. */
  readonly next: number;
  /** The second number of a Box-Muller pair of which one was used. */
  readonly carriedNormal: number | undefined;
}

/** A generator of random numbers with a state of its own. */
export class Random {
  #words = new Uint32Array(N);
  #left = 1;
  #next = 0;
  #carriedNormal: number | undefined;

  /** Starts from a seed, 0 … 2^32 - 1, as `torch.manual_seed` does. */
  constructor(seed: number) {
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
      throw new RangeError(`Seed is ${seed}, expected a whole number 0 … ${0xffffffff}`);
    }
    const words = this.#words;
    words[0] = seed;
    for (let i = 1; i < N; i++) {
      const previous = words[i - 1]!;
      words[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
  }

  /** A copy of the state. */
  get state(): RandomState {
    return {
      words: this.#words.slice(),
      left: this.#left,
      next: this.#next,
      carriedNormal: this.#carriedNormal,
    };
  }

  /**
   * Goes on from a state.
   *
   * @throws {RangeError} it is none that a generator can be in
   */
  set state({ words, left, next, carriedNormal }: RandomState) {
    // Between draws left + next is N + 1, but for a fresh seed's 1 and 0.
    const fresh = left === 1 && next === 0;
    if (
      words.length !== N ||
      !(fresh || (Number.isInteger(left) && left >= 1 && left <= N && left + next === N + 1))
    ) {
      throw new RangeError(`Generator state has ${words.length} words, left ${left}, next ${next}`);
    }
    this.#words = words.slice();
    this.#left = left;
    this.#next = next;
    this.#carriedNormal = carriedNormal;
  }

  /** A whole number, 32 bits. */
  randint32(): number {
    if (--this.#left === 0) this.#renew();
    return temper(this.#words[this.#next++]!) >>> 0;
  }

  /** A number in [0, 1) with 24 random bits: float32 holds it exactly. */
  randfloat32(): number {
    return (this.randint32() & 0xffffff) / 0x1000000;
  }

  /** A number in [0, 1) with 53 random bits. */
  randfloat64(): number {
    const high = this.randint32() & 0x1fffff;
    return (high * 0x100000000 + this.randint32()) / 0x20000000000000;
  }

  /** Fills values with numbers of [0, 1), each as `randfloat32` draws it. */
  uniform(values: Float32Array): void {
    for (let i = 0; i < values.length;) {
      // Through a whole run of the twister's words at once, for speed.
      if (--this.#left === 0) this.#renew();
      const words = this.#words;
      const next = this.#next;
      const count = Math.min(N - next, values.length - i);
      for (let k = 0; k < count; k++) values[i + k] = (temper(words[next + k]!) & 0xffffff) / 0x1000000;
      i += count;
      this.#next += count;
      this.#left -= count - 1;
    }
  }

  /** Fills values with normally distributed numbers, by Box and Muller's method (1958). */
  normal(values: Float32Array, mean = 0, std = 1): void {
    if (values.length < BLOCK) {
      for (let i = 0; i < values.length; i++) values[i] = this.#normal() * std + mean;
      return;
    }
    this.uniform(values);
    const whole = values.length - values.length % BLOCK;
    boxMuller(values.subarray(0, whole), mean, std);
    if (whole === values.length) return;
    // The last block is drawn anew and overlaps the one before it.
    const last = values.subarray(values.length - BLOCK);
    this.uniform(last);
    boxMuller(last, mean, std);
  }

  /** The numbers 0 … n - 1 in random order (Fisher and Yates, from the end, as llm.c does). */
  permutation(n: number): Int32Array<ArrayBuffer> {
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.randint32() % (i + 1);
      const swapped = order[i]!;
      order[i] = order[j]!;
      order[j] = swapped;
    }
    return order;
  }

  /** One normally distributed number in double precision: they come in pairs. */
  #normal(): number {
    if (this.#carriedNormal !== undefined) {
      const carried = this.#carriedNormal;
      this.#carriedNormal = undefined;
      return carried;
    }
    const theta = 2 * Math.PI * this.randfloat64();
    const radius = Math.sqrt(-2 * Math.log1p(-this.randfloat64()));
    this.#carriedNormal = radius * Math.sin(theta);
    return radius * Math.cos(theta);
  }

  #renew(): void {
    const words = this.#words;
    const twist = (a: number, b: number): number => {
      const mixed = (a & 0x80000000) | (b & 0x7fffffff);
      return (mixed >>> 1) ^ (-(b & 1) & 0x9908b0df);
    };
    for (let i = 0; i < N - M; i++) words[i] = words[i + M]! ^ twist(words[i]!, words[i + 1]!);
    for (let i = N - M; i < N - 1; i++) words[i] = words[i + M - N]! ^ twist(words[i]!, words[i + 1]!);
    words[N - 1] = words[M - 1]! ^ twist(words[N - 1]!, words[0]!);
    this.#left = N;
    this.#next = 0;
  }
}

function temper(word: number): number {
  let y = word;
  y ^= y >>> 11;
  y ^= (y << 7) & 0x9d2c5680;
  y ^= (y << 15) & 0xefc60000;
  return y ^ (y >>> 18);
}

/** Cosine and sine of whole 4096ths of a turn: several times faster than Math.cos and Math.sin, which would take two
 * thirds of the time of drawing a model's weights. */
const ANGLES = 4096;
const COS = Float64Array.from({ length: ANGLES }, (_, k) => Math.cos(2 * Math.PI * k / ANGLES));
const SIN = Float64Array.from({ length: ANGLES }, (_, k) => Math.sin(2 * Math.PI * k / ANGLES));

/** Turns uniform numbers into normal ones: in each block, the first eight and the last eight make eight pairs. */
function boxMuller(values: Float32Array, mean: number, std: number): void {
  const half = BLOCK / 2;
  const turn = Math.fround(2 * Math.PI); // PyTorch's angles are float32
  for (let block = 0; block < values.length; block += BLOCK) {
    for (let i = block; i < block + half; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[i]!)) * std;
      const turns = values[i + half]!;
      // The nearest table entry below, and what is left (< 0.0016) by addition theorem and Taylor series: to 1e-12.
      const k = Math.trunc(turns * ANGLES);
      const rest = Math.fround(turn * turns) - k * (2 * Math.PI / ANGLES);
      const cosRest = 1 - rest * rest / 2;
      const sinRest = rest - rest * rest * rest / 6;
      values[i] = radius * (COS[k]! * cosRest - SIN[k]! * sinRest) + mean;
      values[i + half] = radius * (SIN[k]! * cosRest + COS[k]! * sinRest) + mean;
    }
  }
}
