import { assert, assertEquals, assertLessOrEqual, assertThrows } from "@std/assert";
import { Random } from "../src/random.ts";
import { type FixtureCase, fixtureCases } from "./fixtures.ts";

const CASES = fixtureCases("random");

/** The cases whose names begin so: one for each seed, and size where there are several. */
function cases(start: string): FixtureCase[] {
  const chosen = CASES.filter(({ name }) => name.startsWith(`${start} seed`));
  assert(chosen.length >= 2, `no fixtures for "${start}"`);
  return chosen;
}

/** PyTorch's own vector code rounds the last bit or two otherwise than its scalar code. */
function assertNear(actual: Float32Array, expected: Float32Array, std: number): void {
  assertEquals(actual.length, expected.length);
  actual.forEach((value, i) => assertLessOrEqual(Math.abs(value - expected[i]!), 1e-6 * std, `number ${i}`));
}

Deno.test("randint32() gives the twister's numbers, past its renewals", () => {
  for (const fixture of cases("randint32")) {
    const random = new Random(fixture.dim("seed"));
    for (const expected of fixture.ints("values")) assertEquals(random.randint32(), expected >>> 0);
  }
});

Deno.test("randfloat32() and uniform() give torch.uniform_", () => {
  for (const fixture of cases("uniform")) {
    const expected = fixture.floats("values");
    const one = new Random(fixture.dim("seed"));
    assertEquals(expected.map(() => one.randfloat32()), expected);
    const all = new Float32Array(expected.length);
    new Random(fixture.dim("seed")).uniform(all);
    assertEquals(all, expected);
  }
});

Deno.test("randfloat64() has 53 bits, the high ones from the first of two numbers", () => {
  const [random, words] = [new Random(7), new Random(7)];
  for (let i = 0; i < 1000; i++) {
    const [high, low] = [words.randint32(), words.randint32()];
    const expected = ((BigInt(high) << 32n) | BigInt(low)) & ((1n << 53n) - 1n);
    assertEquals(BigInt(random.randfloat64() * 2 ** 53), expected);
  }
});

Deno.test("normal() gives torch.normal_ at every size", () => {
  for (const fixture of cases("normal")) {
    const values = new Float32Array(fixture.dim("n"));
    new Random(fixture.dim("seed")).normal(values, fixture.dim("mean"), fixture.dim("std"));
    assertNear(values, fixture.floats("values"), fixture.dim("std"));
  }
});

Deno.test("normal() carries the second of a pair over to the next call, as PyTorch does", () => {
  for (const fixture of cases("normal in a row")) {
    const random = new Random(fixture.dim("seed"));
    for (const name of ["n5", "n16", "n3", "n21", "n1"]) { // in the order fixtures.py draws them
      const expected = fixture.floats(name);
      const values = new Float32Array(expected.length);
      random.normal(values);
      assertNear(values, expected, 1);
    }
  }
});

Deno.test("permutation() gives llm.c's random_permutation", () => {
  for (const fixture of cases("permutation")) {
    const order = new Random(fixture.dim("seed")).permutation(fixture.dim("n"));
    assertEquals(order, fixture.ints("values"));
    assertEquals([...order].sort((a, b) => a - b), [...order.keys()]);
  }
  assertEquals(new Random(1).permutation(0).length, 0);
  assertEquals(new Random(1).permutation(1), Int32Array.of(0));
});

Deno.test("uniform() leaves the generator where as many single draws do", () => {
  // Around the twister's 624 words, and in pieces.
  for (const pieces of [[1], [623], [624], [625], [1248], [5, 624, 1], [600, 24, 1], [600, 25, 1300, 3]]) {
    const [whole, single] = [new Random(3), new Random(3)];
    for (const piece of pieces) {
      const values = new Float32Array(piece);
      whole.uniform(values);
      assertEquals(values, values.map(() => single.randfloat32()));
    }
    assertEquals(whole.state, single.state);
    assertEquals(whole.randint32(), single.randint32());
  }
});

Deno.test("state goes on exactly where it stopped", () => {
  for (const drawn of [0, 1, 100, 623, 624, 625]) {
    const random = new Random(11);
    for (let i = 0; i < drawn; i++) random.randint32();
    random.normal(new Float32Array(3)); // leaves a number carried over
    const resumed = new Random(0);
    resumed.state = random.state;
    const [a, b] = [new Float32Array(5), new Float32Array(5)];
    random.normal(a);
    resumed.normal(b);
    assertEquals(a, b);
    assertEquals(random.state, resumed.state);
  }
});

Deno.test("state is a copy, and has llm.c's counters", () => {
  const random = new Random(137);
  const { words, left, next } = random.state;
  assertEquals([words.length, left, next], [624, 1, 0]);
  words.fill(0);
  assertEquals(random.randint32(), 4053805790);
  assertEquals([random.state.left, random.state.next], [624, 1]);
});

Deno.test("state refuses what no generator can be in", () => {
  const random = new Random(1);
  const { state } = random;
  for (
    const wrong of [
      { words: state.words.slice(1) },
      { left: 0, next: 625 },
      { left: 625, next: 0 },
      { left: 5, next: 5 },
      { left: NaN },
      { left: 1.5, next: 623.5 },
    ]
  ) {
    assertThrows(() => random.state = { ...state, ...wrong }, RangeError, "Generator state has");
  }
});

Deno.test("Random() refuses a seed that is not 32 bits", () => {
  for (const seed of [-1, 0.5, 2 ** 32, NaN, Infinity]) {
    assertThrows(() => new Random(seed), RangeError, `Seed is ${seed}`);
  }
});

Deno.test("normal() has mean 0, deviation 1 and no memory over many numbers", () => {
  const values = new Float32Array(1 << 20);
  new Random(5).normal(values);
  let [sum, squares, neighbours] = [0, 0, 0];
  values.forEach((value, i) => {
    sum += value;
    squares += value * value;
    if (i > 0) neighbours += value * values[i - 1]!;
  });
  const tolerance = 5 / Math.sqrt(values.length); // five standard errors
  assertLessOrEqual(Math.abs(sum / values.length), tolerance);
  assertLessOrEqual(Math.abs(squares / values.length - 1), tolerance * Math.SQRT2);
  assertLessOrEqual(Math.abs(neighbours / values.length), tolerance);
});
