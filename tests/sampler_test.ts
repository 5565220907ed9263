import { assert, assertEquals, assertThrows } from "@std/assert";
import { LlmtsError } from "../src/errors.ts";
import { Random } from "../src/random.ts";
import { sampleToken, type SamplingOptions, samplingProblem } from "../src/sampler.ts";

const LOGITS = Float32Array.of(1, 3, 2, 3, -Infinity, 0);

/** How often each token comes out of many draws. */
function frequencies(logits: Float32Array, options: SamplingOptions, draws = 20_000): number[] {
  const random = new Random(1);
  const counts = Array.from(logits, () => 0);
  for (let i = 0; i < draws; i++) counts[sampleToken(logits, random.randfloat64(), options)]!++;
  return counts.map((count) => count / draws);
}

/** softmax(logits / temperature) over the tokens in `kept`. */
function probabilities(logits: Float32Array, temperature: number, kept: readonly number[]): number[] {
  const weights = Array.from(logits, (logit, id) => kept.includes(id) ? Math.exp(logit / temperature) : 0);
  const total = weights.reduce((sum, weight) => sum + weight);
  return weights.map((weight) => weight / total);
}

const ALL = [0, 1, 2, 3, 5];

const CASES: readonly { options: SamplingOptions; temperature?: number; kept: readonly number[] }[] = [
  { options: {}, kept: ALL },
  { options: { temperature: 2 }, temperature: 2, kept: ALL },
  { options: { temperature: 0.5 }, temperature: 0.5, kept: ALL },
  { options: { topK: 2 }, kept: [1, 3] },
  { options: { topK: 3 }, kept: [1, 2, 3] },
  { options: { topK: 100 }, kept: ALL },
  { options: { topP: 0.5 }, kept: [1, 3] },
  { options: { topP: 0.9 }, kept: [1, 2, 3] },
  { options: { topK: 3, topP: 0.99, temperature: 2 }, temperature: 2, kept: [1, 2, 3] },
];

for (const { options, temperature = 1, kept } of CASES) {
  Deno.test(`sampleToken() draws from the right distribution with ${JSON.stringify(options)}`, () => {
    const expected = probabilities(LOGITS, temperature, kept);
    frequencies(LOGITS, options).forEach((share, id) => {
      assert(Math.abs(share - expected[id]!) < 0.015, `token ${id}: ${share}, expected ${expected[id]}`);
      assert(kept.includes(id) || share === 0, `token ${id} must not come`);
    });
  });
}

Deno.test("sampleToken() takes the lowest of the most likely tokens at temperature 0, top-k 1 or top-p 0 (S-02, S-04)", () => {
  for (const options of [{ temperature: 0 }, { topK: 1 }, { topP: 0 }]) {
    for (const coin of [0, 0.5, 0.999999]) assertEquals(sampleToken(LOGITS, coin, options), 1);
  }
});

Deno.test("sampleToken() keeps exactly k tokens where the k-th has equals (S-04)", () => {
  const shares = frequencies(Float32Array.of(5, 1, 1, 1), { topK: 2 });
  assertEquals(shares.map((share) => share > 0), [true, true, false, false]);
});

Deno.test("sampleToken() does not overflow at a tiny temperature (S-02)", () => {
  assertEquals(sampleToken(Float32Array.of(100, 101, 99), 0.999, { temperature: 1e-6 }), 1);
});

Deno.test("sampleToken() ends at the last possible token when the coin is next to 1 (S-07)", () => {
  assertEquals(sampleToken(Float32Array.of(0, 0, -1e4), 1 - 2 ** -53), 1);
  assertEquals(sampleToken(Float32Array.of(0, 0, -Infinity), 1), 1);
});

Deno.test("sampleToken() refuses logits that are not numbers (S-07)", () => {
  assertThrows(() => sampleToken(Float32Array.of(0, NaN), 0.5), LlmtsError, "token 1");
  assertThrows(() => sampleToken(Float32Array.of(-Infinity, -Infinity), 0.5), LlmtsError, "-Infinity");
});

/** A twin of sampleToken() that sorts all ids by comparing their logits. */
function sampleSlowly(
  logits: Float32Array,
  coin: number,
  { temperature = 1, topK = 0, topP = 1 }: SamplingOptions,
): number {
  const order = Array.from(logits, (_, id) => id);
  order.sort((a, b) => logits[b]! - logits[a]! || a - b); // of infinite ones the difference is NaN: then the id decides
  const kept = topK === 0 && topP === 1
    ? order.map((_, n) => n)
    : order.slice(0, topK === 0 ? undefined : topK);
  const sum = (weights: readonly number[]): number => weights.reduce((sum, weight) => sum + weight, 0);
  let weights = kept.map((id) => Math.exp((logits[id]! - logits[order[0]!]!) / temperature));
  if (topP < 1) {
    const enough = sum(weights) * topP;
    let reached = 0;
    const last = weights.findIndex((weight) => (reached += weight) >= enough);
    weights = last === -1 ? weights : weights.slice(0, last + 1);
  }
  const threshold = sum(weights) * coin;
  let reached = 0;
  const drawn = weights.findIndex((weight) => (reached += weight) > threshold);
  return kept[drawn === -1 ? weights.findLastIndex((weight) => weight > 0) : drawn]!;
}

Deno.test("sampleToken() draws what sorting by comparison does, ties and infinities included", async (t) => {
  const random = new Random(3);
  const V = 700;
  const normal = (mean: number, std: number): Float32Array => {
    const logits = new Float32Array(V);
    random.normal(logits, mean, std);
    return logits;
  };
  const shapes: Readonly<Record<string, Float32Array>> = {
    random: normal(-30, 2.5),
    "of both signs": normal(0, 3),
    peaked: normal(0, 40),
    flat: normal(5, 1e-3),
    equal: new Float32Array(V).fill(-1.5),
    tied: normal(0, 2).map(Math.round), // with 0 and -0
    zeros: Float32Array.from({ length: V }, (_, id) => id % 3 === 0 ? 0 : -0),
    infinite: normal(0, 1).map((logit, id) => id % 2 === 0 ? -Infinity : logit),
    "all but one infinite": Float32Array.from({ length: V }, (_, id) => id === 411 ? 2 : -Infinity),
    tiny: normal(0, 1e-44),
    huge: normal(0, 1e37),
    one: Float32Array.of(-3),
  };
  for (const [name, logits] of Object.entries(shapes)) {
    await t.step(name, () => {
      for (const topK of [0, 1, 2, 40, V - 1, V, V + 1]) {
        for (const topP of [1e-9, 0.1, 0.9, 1 - 2 ** -53, 1]) {
          for (const temperature of [0.7, 1]) {
            const options = { topK, topP, temperature };
            for (const coin of [0, random.randfloat64(), random.randfloat64(), 1 - 2 ** -53]) {
              assertEquals(
                sampleToken(logits, coin, options),
                sampleSlowly(logits, coin, options),
                `${JSON.stringify(options)}, coin ${coin}`,
              );
            }
          }
        }
      }
    });
  }
});

Deno.test("sampleToken() takes about as long with top-k or top-p as without", () => {
  const random = new Random(4);
  const logits = new Float32Array(50257);
  random.normal(logits, -30, 2.5);
  const median = (options: SamplingOptions): number => {
    const times = Array.from({ length: 41 }, () => {
      const start = performance.now();
      sampleToken(logits, random.randfloat64(), options);
      return performance.now() - start;
    });
    return times.sort((a, b) => a - b)[20]!;
  };
  const plain = median({});
  for (const options of [{ topK: 40 }, { topP: 0.9 }]) {
    const times = median(options) / plain; // below 2; with a sort that compares, 20
    assert(times < 8, `${JSON.stringify(options)}: ${times} times as long`);
  }
});

Deno.test("samplingProblem() names what is out of range (S-02, S-04)", () => {
  assertEquals(samplingProblem({ temperature: 0, topK: 0, topP: 0 }), undefined);
  for (
    const bad of [{ temperature: -1 }, { temperature: NaN }, { temperature: Infinity }, { topK: 1.5 }, {
      topK: -1,
    }]
  ) {
    assert(samplingProblem(bad) !== undefined);
  }
  assert(samplingProblem({ topP: 1.5 })?.includes("1.5"));
});
