/**
 * Runs an op on a fixture case and compares what it wrote with PyTorch's numbers. Outputs stand between guard bytes, and
 * those a kernel stores into start as NaN, so that neither a missed element nor one written outside goes unseen.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { type Device } from "../../ffi/device.ts";
import { elements, float32, int32, type Tensor, tensorAt, tensorBytes } from "../../ffi/tensor.ts";
import { Random } from "../../src/random.ts";
import type { FixtureCase } from "../fixtures.ts";

const GUARD_BYTES = 256;
const GUARD = 0xa5;

/** The tensors of one case on one device. */
export interface OpCase {
  /** An input: a copy of the fixture's tensor. */
  in(name: string): Tensor;
  /** An output that is stored into, to be compared with the fixture's tensor of that name. */
  out(name: string): Tensor;
  /** A gradient that is added into: starts at the case's `start`. */
  add(name: string): Tensor;
  /** Room that is not compared. */
  scratch(shape: readonly number[]): Tensor;
  dim(name: string): number;
  /** Compares every output so far, see {@linkcode assertClose}. */
  check(tolerance: number, floor?: number): void;
}

export function opCase(device: Device, fixture: FixtureCase): OpCase {
  const outputs = new Map<string, { tensor: Tensor; memory: Uint8Array }>();

  function guarded(
    shape: readonly number[],
    fill: number,
  ): { tensor: Tensor; memory: Uint8Array<ArrayBuffer> } {
    const bytes = tensorBytes("fp32", shape);
    const memory = device.allocate(bytes + 2 * GUARD_BYTES) as Uint8Array<ArrayBuffer>;
    memory.fill(GUARD);
    const tensor = tensorAt(memory, GUARD_BYTES, "fp32", shape);
    float32(tensor).fill(fill);
    return { tensor, memory };
  }
  function output(name: string, fill: number): Tensor {
    const made = guarded(fixture.shape(name), fill);
    outputs.set(name, made);
    return made.tensor;
  }

  return {
    in(name): Tensor {
      const known = outputs.get(name);
      if (known !== undefined) return known.tensor;
      const shape = fixture.shape(name);
      if (/^(tokens|targets)$/.test(name)) {
        const tensor = device.tensor("int32", shape);
        int32(tensor).set(fixture.ints(name));
        return tensor;
      }
      const tensor = device.tensor("fp32", shape);
      float32(tensor).set(fixture.floats(name));
      return tensor;
    },
    out: (name) => output(name, NaN),
    add: (name) => output(name, fixture.dim("start")),
    scratch: (shape) => device.tensor("fp32", shape),
    dim: (name) => fixture.dim(name),
    check(tolerance, floor): void {
      assert(outputs.size > 0);
      for (const [name, { tensor, memory }] of outputs) {
        assertClose(float32(tensor), fixture.floats(name), tolerance, `${fixture.name}: ${name}`, floor);
        const end = GUARD_BYTES + tensorBytes("fp32", tensor.shape);
        const outside = [...memory.subarray(0, GUARD_BYTES), ...memory.subarray(end)];
        assertEquals(
          outside.filter((byte) => byte !== GUARD),
          [],
          `${fixture.name}: written outside ${name}`,
        );
      }
    },
  };
}

/** Makes fp32 tensors of normal numbers, the same for the same seed, in the host's memory. */
export function normalTensors(device: Device, seed: number): (...shape: number[]) => Tensor {
  const random = new Random(seed);
  return (...shape) => {
    const tensor = device.tensor("fp32", shape);
    random.normal(float32(tensor));
    return tensor;
  };
}

/**
 * Asserts that each number is within `tolerance` of the expected one, relative to the largest of it, the tensor's root mean
 * square, and `floor`: the size of the terms where the result is what cancellation leaves of them.
 */
export function assertClose(
  actual: Float32Array,
  expected: ArrayLike<number>,
  tolerance: number,
  what: string,
  floor = 0,
): void {
  assertEquals(actual.length, expected.length, what);
  let squares = 0;
  for (let i = 0; i < expected.length; i++) squares += expected[i]! ** 2;
  const scale = Math.max(floor, Math.sqrt(squares / Math.max(1, expected.length)));
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    const bound = tolerance * Math.max(Math.abs(expected[i]!), scale);
    assert(
      error <= bound,
      `${what}[${i}] is ${actual[i]}, expected ${expected[i]} (off by ${error}, at most ${bound})`,
    );
  }
}

/** Asserts that a gradient agrees with central differences of `f` along a fixed direction of `x`. */
export function assertDirectional(
  x: Tensor,
  gradient: ArrayLike<number>,
  f: () => number,
  what: string,
  tolerance = 2e-2,
): void {
  const values = float32(x);
  const start = values.slice();
  const n = elements(x.shape);
  // Any direction will do that meets every element; this one repeats nowhere.
  const direction = Float64Array.from({ length: n }, (_, i) => Math.cos(1 + 2.399963 * i));
  const step = 1e-2 / Math.max(1, Math.sqrt(n) / 8);
  const at = (sign: number): number => {
    for (let i = 0; i < n; i++) values[i] = start[i]! + sign * step * direction[i]!;
    return f();
  };
  const measured = (at(1) - at(-1)) / (2 * step);
  values.set(start);
  let expected = 0;
  let squares = 0;
  for (let i = 0; i < n; i++) {
    expected += gradient[i]! * direction[i]!;
    squares += gradient[i]! ** 2;
  }
  const bound = tolerance * Math.max(Math.abs(expected), Math.sqrt(squares / 2), 1e-3);
  assert(
    Math.abs(measured - expected) <= bound,
    `${what}: differences give ${measured}, the gradient ${expected}`,
  );
}
