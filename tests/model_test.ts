import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Device } from "../ffi/device.ts";
import { float32, hostBytes, int32 } from "../ffi/tensor.ts";
import { allocateActivations } from "../src/activations.ts";
import { ADAMW_DEFAULTS, createAdamW } from "../src/adamw.ts";
import type { GPT2Config } from "../src/config.ts";
import { readCheckpoint } from "../src/io/checkpoint.ts";
import { openDebugState } from "../src/io/debug_state.ts";
import { randomModel } from "../src/load.ts";
import { backward, forward, inPrecision, logits, loss, type Model } from "../src/model.ts";
import { allocateParameters, parameterCount, TENSORS } from "../src/parameters.ts";
import { TEST_DEVICES } from "./devices.ts";
import { assertClose, assertDirectional } from "./ffi/op_case.ts";
import { fixtureCases, fixturePath } from "./fixtures.ts";

/** A model with a batch and the buffers of a training step. */
function workspace(model: Model, B: number, T: number, x: ArrayLike<number>, y: ArrayLike<number>) {
  const { config, device, precision } = model;
  const shape = { B, T, precision, training: true as const };
  const [tokens, targets] = [device.tensor("int32", [B, T]), device.tensor("int32", [B, T])];
  int32(tokens).set(x);
  int32(targets).set(y);
  const a = allocateActivations(config, device, shape);
  const g = allocateParameters(config, device, "fp32");
  return {
    a,
    g,
    tokens,
    targets,
    forward: (): void => forward(model, a, tokens),
    backward: (accumulate = true): number => backward(model, a, g, tokens, targets, { accumulate }),
    loss: (): number => loss(model, a, targets),
  };
}

/** Ten AdamW steps on one batch; returns the loss before each. */
function tenLosses(
  model: Model,
  step: ReturnType<typeof workspace>,
  learningRate: number,
  weightDecay: number,
  decay: "matrices" | "all",
): number[] {
  const optimizer = createAdamW(model, decay === "all" ? () => true : undefined);
  return Array.from({ length: 10 }, () => {
    step.forward();
    const value = step.backward(false);
    optimizer.update(step.g, { ...ADAMW_DEFAULTS, learningRate, weightDecay, gradScale: 1 });
    return value;
  });
}

/** Asserts that the relative L2 distance is within a bound, and no smaller than rounding to bf16 makes it. */
function assertRelative(found: Float32Array, expected: Float32Array, bound: number, what: string): void {
  const distance = Math.hypot(...found.map((value, i) => value - expected[i]!)) / Math.hypot(...expected);
  assert(distance > 1e-4 && distance < bound, `${what}: relative L2 ${distance}, expected below ${bound}`);
}

/** odd.bin and its debug state: everything odd. */
function oddModel(device: Device) {
  const model = readCheckpoint(fixturePath("models/odd.bin"), device);
  using state = openDebugState(fixturePath("models/odd_debug_state.bin"), model.config);
  const { B, T, tokens: x, targets: y, loss: expectedLoss } = state;
  const gradients = TENSORS.map(({ name }) => ({ name, values: state.gradient(name) }));
  const json = JSON.parse(Deno.readTextFileSync(fixturePath("models/odd_debug_state.json")));
  return { model, B, T, x, y, expectedLogits: state.logits(), expectedLoss, gradients, json };
}

Deno.test("parameterCount() is llm.c's for GPT-2 124M", () => {
  const config: GPT2Config = { maxT: 1024, V: 50257, Vp: 50304, L: 12, NH: 12, C: 768 };
  assertEquals(parameterCount(config), 124_475_904);
});

for (const device of TEST_DEVICES) {
  Deno.test(`the odd model's logits, loss and gradients are PyTorch's (${device.name})`, () => {
    const { model, B, T, x, y, expectedLogits, expectedLoss, gradients } = oddModel(device.open());
    const step = workspace(model, B, T, x, y);
    step.forward();
    const out = model.device.tensor("fp32", [B, T, model.config.V]);
    logits(model, step.a, out);
    assertClose(float32(out), expectedLogits, 1e-5, "logits");
    assertAlmostEquals(step.loss(), expectedLoss, 1e-5);
    assertAlmostEquals(step.backward(), expectedLoss, 1e-5);
    for (const { name, values } of gradients) {
      assertClose(float32(step.g.whole[name]), values, 2e-5, `d${name}`);
    }
    // Gradients accumulate: a second pass doubles them.
    step.forward();
    step.backward();
    for (const { name, values } of gradients) {
      assertClose(float32(step.g.whole[name]), values.map((value) => 2 * value), 2e-5, `2 d${name}`);
    }
  });

  Deno.test(`a backward pass that stores writes every gradient, to the bit (${device.name})`, () => {
    const { model, B, T, x, y } = oddModel(device.open());
    const step = workspace(model, B, T, x, y);
    step.forward();
    step.backward();
    const added = new Map(TENSORS.map(({ name }) => [name, float32(step.g.whole[name]).slice()]));
    float32(step.g.flat).fill(NaN);
    step.forward();
    step.backward(false);
    for (const [name, values] of added) {
      const stored = float32(step.g.whole[name]);
      const differs = values.findIndex((value, i) => stored[i] !== value);
      assertEquals(differs, -1, `d${name}[${differs}]`);
    }
  });

  for (const decay of ["matrices", "all"] as const) {
    Deno.test(`ten AdamW losses of the odd model are PyTorch's, decay on ${decay} (${device.name})`, () => {
      const { model, B, T, x, y, json } = oddModel(device.open());
      const step = workspace(model, B, T, x, y);
      const losses = tenLosses(model, step, json.learningRate, json.weightDecay, decay);
      losses.forEach((value, i) => assertAlmostEquals(value, json.losses[decay][i], 1e-4, `step ${i}`));
    });
  }

  Deno.test(`the odd model in bf16 stays within bf16's distance of PyTorch's fp32 (${device.name})`, () => {
    const { model, B, T, x, y, expectedLogits, expectedLoss, gradients, json } = oddModel(device.open());
    const narrow = inPrecision(model, "bf16", true);
    const step = workspace(narrow, B, T, x, y);
    step.forward();
    const out = model.device.tensor("fp32", [B, T, model.config.V]);
    logits(narrow, step.a, out);
    assertRelative(float32(out), expectedLogits, 2e-2, "logits");
    assertAlmostEquals(step.backward(), expectedLoss, 1e-2);
    for (const { name, values } of gradients) {
      assertRelative(float32(step.g.whole[name]), values, 3e-2, `d${name}`);
    }
    const losses = tenLosses(narrow, step, json.learningRate, json.weightDecay, "matrices");
    losses.forEach((value, i) => assertAlmostEquals(value, json.losses.matrices[i], 1e-2, `step ${i}`));
  });

  Deno.test(`a wider random model agrees with PyTorch (${device.name})`, () => {
    const fixture = fixtureCases("models/wide")[0]!;
    const config = Object.fromEntries(
      ["maxT", "V", "Vp", "L", "NH", "C"].map((name) => [name, fixture.dim(name)]),
    ) as unknown as GPT2Config;
    const [B, T, stride] = [fixture.dim("B"), fixture.dim("T"), fixture.dim("stride")];
    const every = (values: Float32Array): Float32Array => values.filter((_, i) => i % stride === 0);
    const model = randomModel(config, device.open(), fixture.dim("seed"));
    const step = workspace(model, B, T, fixture.ints("x"), fixture.ints("y"));
    for (const { name } of TENSORS) {
      const rowsOfV = name === "wte" ? config.V * config.C : undefined;
      assertClose(
        every(float32(model.parameters.whole[name]).subarray(0, rowsOfV)),
        fixture.floats(name),
        1e-6,
        name,
      );
    }
    step.forward();
    assertAlmostEquals(step.backward(), fixture.floats("loss")[0]!, 1e-5);
    for (const { name } of TENSORS) {
      const rowsOfV = name === "wte" ? config.V * config.C : undefined;
      const gradient = float32(step.g.whole[name]).subarray(0, rowsOfV);
      assertClose(every(gradient), fixture.floats(`d${name}`), 5e-5, `d${name}`);
      const norm = Math.hypot(...gradient);
      const expected = fixture.floats(`norm_d${name}`)[0]!;
      assertAlmostEquals(norm, expected, 1e-5 * expected, `norm of d${name}`);
    }
    const losses = tenLosses(
      model,
      step,
      fixture.dim("learning_rate"),
      fixture.dim("weight_decay"),
      "matrices",
    );
    losses.forEach((value, i) =>
      assertAlmostEquals(value, fixture.floats("losses_matrices")[i]!, 1e-4, `step ${i}`)
    );
  });

  Deno.test(`the whole model's gradients agree with finite differences (${device.name})`, () => {
    const { model, B, T, x, y } = oddModel(device.open());
    const step = workspace(model, B, T, x, y);
    step.forward();
    step.backward();
    const f = (): number => {
      step.forward();
      return step.loss();
    };
    for (const { name } of TENSORS) {
      assertDirectional(model.parameters.whole[name], float32(step.g.whole[name]), f, `d${name}`);
    }
  });

  Deno.test(`equal steps give equal bits (${device.name})`, () => {
    const bits = (): Uint8Array => {
      const { model, B, T, x, y } = oddModel(device.open());
      const step = workspace(model, B, T, x, y);
      tenLosses(model, step, 1e-3, 0.1, "matrices");
      return hostBytes(model.parameters.flat);
    };
    assertEquals(bits(), bits());
  });
}
