import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../ffi/device.ts";
import { float32, hostBytes } from "../ffi/tensor.ts";
import type { GPT2Config } from "../src/config.ts";
import { LlmtsError } from "../src/errors.ts";
import type { Batch } from "../src/io/loader.ts";
import { generate } from "../src/generate.ts";
import { randomModel } from "../src/load.ts";
import { inPrecision } from "../src/model.ts";
import { TENSORS } from "../src/parameters.ts";
import { Random } from "../src/random.ts";
import { createTrainer, type Trainer, type TrainerOptions } from "../src/trainer.ts";
import { TEST_DEVICES } from "./devices.ts";

const CONFIG: GPT2Config = { maxT: 16, V: 65, Vp: 128, L: 2, NH: 2, C: 16 };
const B = 3;
const T = 8;

/** Batches of a sequence that a small model can learn: each id follows from the one before. */
function batch(seed: number): Batch {
  const random = new Random(seed);
  const inputs = Int32Array.from({ length: B * T }, () => random.randint32() % CONFIG.V);
  return { inputs, targets: inputs.map((id) => (id * 7 + 1) % CONFIG.V) };
}

function trainer(
  device: Device,
  options: Pick<TrainerOptions, "gradClip" | "weightDecay" | "beta2"> = {},
): Trainer {
  return createTrainer(randomModel(CONFIG, device, 42), { B, T, ...options });
}

const device = TEST_DEVICES.at(-1)!;

Deno.test("Trainer.step() learns", () => {
  const { step, evaluate } = trainer(device.open());
  const before = evaluate([batch(999)]).loss;
  assertAlmostEquals(before, Math.log(CONFIG.V), 0.1);
  for (let i = 0; i < 300; i++) step(batch(i), 1e-2);
  const after = evaluate([batch(999)]).loss;
  assert(after < before / 4, `${before} -> ${after}`);
});

for (const keepMaster of [true, false]) {
  Deno.test(`Trainer.step() learns in bf16 ${keepMaster ? "with" : "without"} master weights`, () => {
    const model = inPrecision(randomModel(CONFIG, device.open(), 42), "bf16", keepMaster);
    const { step, evaluate } = createTrainer(model, { B, T, roundingSeed: 1 });
    const before = evaluate([batch(999)]).loss;
    for (let i = 0; i < 300; i++) step(batch(i), 1e-2);
    const after = evaluate([batch(999)]).loss;
    assert(after < before / 4, `${before} -> ${after}`);
    assertEquals([model.parameters.dtype, model.master?.dtype], ["bf16", keepMaster ? "fp32" : undefined]);
  });
}

Deno.test("Trainer.step() gives the same losses with validation and sampling in between (A-35)", () => {
  const losses = (interrupted: boolean): number[] => {
    const { model, step, evaluate } = trainer(device.open());
    return Array.from({ length: 6 }, (_, i) => {
      if (interrupted) {
        evaluate([batch(100), batch(101)]);
        assertEquals([...generate(model, [1], { tokens: 20 })].length, 20);
      }
      return step(batch(i), 1e-2).loss;
    });
  };
  assertEquals(losses(true), losses(false));
});

Deno.test("Trainer.step() scales gradients down to gradClip", () => {
  const norm = trainer(device.open(), { gradClip: 0 }).step(batch(0), 1e-3).gradNorm;
  assert(norm > 0.1);
  // AdamW's first step depends on a gradient only by its direction, so the moments are what shows the scale.
  for (const [gradClip, scale] of [[0, 1], [norm * 2, 1], [norm / 4, 1 / 4]] as const) {
    const { step, gradients, optimizer } = trainer(device.open(), { gradClip });
    assertEquals(step(batch(0), 1e-3).gradNorm, norm);
    const [g, m] = [float32(gradients.whole.qkvw), float32(optimizer.m.whole.qkvw)];
    g.forEach((value, i) => assertAlmostEquals(m[i]!, 0.1 * value * scale, 1e-6 * Math.abs(value) + 1e-12));
  }
});

Deno.test("Trainer.step() keeps of the second moments what beta2 says", () => {
  for (const [options, beta2] of [[{}, 0.999], [{ beta2: 0.95 }, 0.95], [{ beta2: 0 }, 0]] as const) {
    const { step, gradients, optimizer } = trainer(device.open(), { gradClip: 0, ...options });
    step(batch(0), 1e-3);
    const [g, v] = [float32(gradients.whole.qkvw), float32(optimizer.v.whole.qkvw)];
    g.forEach((value, i) => assertAlmostEquals(v[i]!, (1 - beta2) * value ** 2, 1e-5 * value ** 2 + 1e-30));
  }
});

Deno.test("Trainer.step() decays matrices and nothing else (A-46)", () => {
  const run = (weightDecay: number) => {
    const { model, step } = trainer(device.open(), { weightDecay });
    step(batch(0), 1e-2);
    return model.parameters.whole;
  };
  const [without, decayed] = [run(0), run(0.5)];
  for (const name of ["qkvb", "ln1w", "ln2b", "lnfw", "fcb"] as const) {
    assertEquals(float32(decayed[name]), float32(without[name]), name);
  }
  const before = randomModel(CONFIG, device.open(), 42).parameters.whole;
  for (const name of ["wte", "wpe", "qkvw", "fcprojw"] as const) {
    const [start, w, d] = [float32(before[name]), float32(without[name]), float32(decayed[name])];
    // params (1 - learning rate · weight decay), and the same update besides.
    d.forEach((value, i) => assertAlmostEquals(value, w[i]! - 1e-2 * 0.5 * start[i]!, 1e-8, name));
  }
});

Deno.test("Trainer.step() leaves the padding rows of wte and the positions past T as they were (A-43, A-46)", () => {
  const { model, step } = trainer(device.open());
  const before = float32(randomModel(CONFIG, device.open(), 42).parameters.whole.wpe);
  for (let i = 0; i < 3; i++) step(batch(i), 1e-2);
  const { wte, wpe } = model.parameters;
  assert(float32(wte).subarray(CONFIG.V * CONFIG.C).every((value) => value === 0));
  assertEquals(float32(wpe).subarray(T * CONFIG.C), before.subarray(T * CONFIG.C));
});

Deno.test("Trainer.step() stops at a loss that is not finite, and leaves the parameters alone (A-40)", () => {
  const { model, step } = trainer(device.open());
  float32(model.parameters.lnfw)[0] = Infinity;
  const before = hostBytes(model.parameters.flat).slice();
  const error = assertThrows(() => step(batch(0), 1e-3), LlmtsError, "diverged");
  assert(error.hint?.includes("--learning-rate"));
  assertEquals(hostBytes(model.parameters.flat), before);
});

Deno.test("Trainer.evaluate() counts each position alike, and not those with target -1 (A-15)", () => {
  const { evaluate } = trainer(device.open());
  const [first, second] = [batch(1), batch(2)];
  const half = { inputs: second.inputs, targets: second.targets.map((id, i) => i < B * T / 2 ? id : -1) };
  const rest = { inputs: second.inputs, targets: second.targets.map((id, i) => i < B * T / 2 ? -1 : id) };
  const none = { inputs: second.inputs, targets: second.targets.map(() => -1) };
  const whole = evaluate([first, second]);
  const split = evaluate([half, none, first, rest]);
  assertEquals([whole.tokens, split.tokens], [2 * B * T, 2 * B * T]);
  assertAlmostEquals(split.loss, whole.loss, 1e-6);
  assertEquals(evaluate([none]), { loss: NaN, tokens: 0 });
});

Deno.test("createTrainer() refuses sequences longer than the model's positions (A-43)", () => {
  const model = randomModel(CONFIG, device.open(), 42);
  const error = assertThrows(
    () => createTrainer(model, { B: 1, T: 17 }),
    LlmtsError,
    "17 tokens are longer than the model's 16",
  );
  assert(error.hint?.includes("--seq-len 16"));
});

Deno.test("a trainer refuses batches of another shape than its own, and shapes that there are not (A-44)", () => {
  const { step, evaluate } = trainer(device.open());
  for (const sequences of [B - 1, B + 1]) {
    const other = new Int32Array(sequences * T);
    for (const mixed of [{ ...batch(0), inputs: other }, { ...batch(0), targets: other }]) {
      const words = `Expected the elements of (${B},${T}) int32, found ${sequences * T}`;
      assertThrows(() => step(mixed, 1e-3), RangeError, words);
      assertThrows(() => evaluate([mixed]), RangeError, words);
    }
  }
  const model = randomModel(CONFIG, device.open(), 42);
  for (const value of [0, -1, 1.5, NaN]) {
    const words = `${value}, expected a whole number of at least 1`;
    assertThrows(() => createTrainer(model, { B: value, T }), RangeError, `B is ${words}`);
    assertThrows(() => createTrainer(model, { B, T: value }), RangeError, `T is ${words}`);
  }
});

Deno.test("Trainer.step() refuses ids outside the vocabulary, padding ids too (A-08)", () => {
  const { step } = trainer(device.open());
  for (const id of [CONFIG.V, CONFIG.Vp - 1, 65535]) {
    const { inputs, targets } = batch(0);
    assertThrows(() => step({ inputs: inputs.with(5, id), targets }, 1e-3), LlmtsError, String(id));
    assertThrows(() => step({ inputs, targets: targets.with(5, id) }, 1e-3), LlmtsError, String(id));
  }
});

/** Sequences `from` … `to` of a batch. */
function part({ inputs, targets }: Batch, from: number, to: number, T: number): Batch {
  return { inputs: inputs.slice(from * T, to * T), targets: targets.slice(from * T, to * T) };
}

for (const test of TEST_DEVICES) {
  Deno.test(`A-34, A-36: four batches of 4 × 64 have the losses and gradients of one of 16 × 64, ${test.name}`, () => {
    const config: GPT2Config = { maxT: 64, V: 65, Vp: 128, L: 2, NH: 2, C: 32 };
    const T = 64;
    const device = test.open();
    const [whole, parts] = [16, 4].map((B) => createTrainer(randomModel(config, device, 42), { B, T })) as [
      Trainer,
      Trainer,
    ];
    const random = new Random(5);
    for (let i = 0; i < 10; i++) {
      const inputs = Int32Array.from({ length: 16 * T }, () => random.randint32() % config.V);
      // Some targets don't count, and more of them in the first part.
      const targets = inputs.map((id, k) => k < 100 && k % 3 === 0 ? -1 : (id * 7 + 1) % config.V);
      const all = { inputs, targets };
      const expected = whole.step(all, 1e-3);
      const found = parts.step([0, 4, 8, 12].map((from) => part(all, from, from + 4, T)), 1e-3);
      assertAlmostEquals(found.loss, expected.loss, 1e-5);
      assertAlmostEquals(found.gradNorm, expected.gradNorm, 1e-5 * expected.gradNorm);
      if (i > 0) continue; // from then on the weights differ by rounding
      for (const { name } of TENSORS) {
        const [a, b] = [whole, parts].map(({ gradients }) => float32(gradients.whole[name])) as [
          Float32Array,
          Float32Array,
        ];
        const norm = Math.hypot(...a);
        assert(norm > 0, name);
        const difference = Math.hypot(...a.map((value, k) => value - b[k]!));
        assert(difference <= 1e-5 * norm, `${name}: ${difference / norm}`);
      }
    }
  });
}

Deno.test("Trainer.step() takes batches that share their arrays, one after the other", () => {
  const run = (batches: () => Iterable<Batch>): number => {
    const { step } = trainer(device.open());
    step(batches(), 1e-2);
    return step(batch(9), 1e-2).loss;
  };
  function* shared(): Generator<Batch> {
    const only = { inputs: new Int32Array(B * T), targets: new Int32Array(B * T) };
    for (const seed of [1, 2, 3]) {
      only.inputs.set(batch(seed).inputs);
      only.targets.set(batch(seed).targets);
      yield only;
    }
  }
  assertEquals(run(shared), run(() => [batch(1), batch(2), batch(3)]));
});

Deno.test("Trainer.step() refuses batches in which nothing counts", () => {
  const { step } = trainer(device.open());
  const { inputs, targets } = batch(0);
  assertThrows(() => step([], 1e-3), LlmtsError, "No position");
  assertThrows(() => step({ inputs, targets: targets.map(() => -1) }, 1e-3), LlmtsError, "No position");
});

for (const [name, options] of [["skipLossZ", { skipLossZ: 5 }], ["skipGradZ", { skipGradZ: 5 }]] as const) {
  Deno.test(`Trainer.step() with ${name} skips an update that stands out, and no other`, () => {
    const { model, step, optimizer } = createTrainer(randomModel(CONFIG, device.open(), 42), {
      B,
      T,
      ...options,
    });
    // Until it has learned what follows what, and 128 such losses are in the window.
    const learned = Array.from({ length: 500 }, (_, i) => step(batch(i), 1e-2));
    assertEquals(learned.some(({ skipped }) => skipped), false);
    assertEquals(learned.map(({ lossZ }) => Number.isNaN(lossZ)).lastIndexOf(true), 127);
    const before = hostBytes(model.parameters.flat).slice();
    const { inputs, targets } = batch(500);
    const wrong = { inputs, targets: targets.map((id) => (id + 1) % CONFIG.V) };
    const { skipped, lossZ, gradZ } = step(wrong, 1e-2);
    assert(skipped && lossZ > 5 && gradZ > 5, `z-scores ${lossZ} and ${gradZ}`);
    assertEquals(hostBytes(model.parameters.flat), before);
    assertEquals(optimizer.steps, 501); // as in llm.c, the bias correction counts skipped steps too
    assertEquals(step(batch(501), 1e-2).skipped, false);
  });
}
