import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import type { GPT2Config } from "../src/config.ts";
import { initializeParameters } from "../src/initialize.ts";
import { type TensorName, TENSORS } from "../src/parameters.ts";
import { type FixtureCase, fixtureCases } from "./fixtures.ts";

/** All tensors by name, from NaN: whatever is not filled shows. */
function initialized(config: GPT2Config, seed: number): Map<TensorName, Float32Array> {
  const tensors = new Map(TENSORS.map(({ name, shape }) => {
    return [name, new Float32Array(shape(config).reduce((a, b) => a * b)).fill(NaN)];
  }));
  initializeParameters(config, (name, layer) => {
    const whole = tensors.get(name)!;
    if (layer === undefined) return whole;
    const size = whole.length / config.L;
    return whole.subarray(layer * size, (layer + 1) * size);
  }, seed);
  return tensors;
}

function configOf(fixture: FixtureCase): GPT2Config {
  const [maxT, V, Vp, L, NH, C] = ["maxT", "V", "Vp", "L", "NH", "C"].map(fixture.dim) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  return { maxT, V, Vp, L, NH, C };
}

for (const fixture of fixtureCases("initialize")) {
  Deno.test(`initializeParameters() gives PyTorch's weights, ${fixture.name}`, () => {
    const config = configOf(fixture);
    for (const [name, values] of initialized(config, fixture.dim("seed"))) {
      const expected = fixture.floats(name);
      assertEquals(values.subarray(0, expected.length).length, expected.length);
      expected.forEach((value, i) => {
        assertLessOrEqual(Math.abs(values[i]! - value), 1e-6 * 0.02, `${name} ${i}`);
      });
      if (name === "wte") assert(values.subarray(config.V * config.C).every((value) => value === 0));
      else assertEquals(values.length, expected.length);
    }
  });
}

Deno.test("initializeParameters() gives PyTorch's weights at a larger size", () => {
  const [fixture] = fixtureCases("models/wide") as [FixtureCase];
  for (const [name, values] of initialized(configOf(fixture), fixture.dim("seed"))) {
    const expected = fixture.floats(name);
    expected.forEach((value, i) => {
      const actual = values[i * fixture.dim("stride")]!;
      assertLessOrEqual(Math.abs(actual - value), 1e-6 * 0.02, `${name} ${i}`);
    });
  }
});

Deno.test("initializeParameters() gives other weights for another seed", () => {
  const [fixture] = fixtureCases("initialize") as [FixtureCase];
  const [a, b] = [1, 2].map((seed) => initialized(configOf(fixture), seed).get("fcw")!) as [
    Float32Array,
    Float32Array,
  ];
  assert(a.some((value, i) => value !== b[i]));
});
