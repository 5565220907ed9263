import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Device } from "../ffi/device.ts";
import { float32, int32, tensorBytes } from "../ffi/tensor.ts";
import { allocateActivations } from "../src/activations.ts";
import type { GPT2Config } from "../src/config.ts";
import { LlmtsError } from "../src/errors.ts";
import { createDecoder, generate, generateBatch, generationBytes } from "../src/generate.ts";
import { randomModel } from "../src/load.ts";
import { forward, inPrecision, logits, type Model } from "../src/model.ts";
import { Random } from "../src/random.ts";
import { TEST_DEVICES } from "./devices.ts";

const CONFIG: GPT2Config = { maxT: 19, V: 65, Vp: 128, L: 2, NH: 3, C: 24 };

/** A random model whose weights are large enough for its predictions to differ from token to token. */
function model(device: Device, config: GPT2Config = CONFIG): Model {
  const made = randomModel(config, device, 7);
  const { wte, wpe, qkvw, attprojw, fcw, fcprojw } = made.parameters;
  for (const weights of [wte, wpe, ...qkvw, ...attprojw, ...fcw, ...fcprojw]) {
    float32(weights).forEach((value, i, values) => values[i] = value * 10);
  }
  return made;
}

function randomIds(count: number, seed: number): Int32Array {
  const random = new Random(seed);
  return Int32Array.from({ length: count }, () => random.randint32() % CONFIG.V);
}

/** Logits of every position by one full forward pass: (B,T,V). */
function fullLogits(model: Model, ids: Int32Array, B: number): Float32Array {
  const T = ids.length / B;
  const { config, device, precision } = model;
  const a = allocateActivations(config, device, { B, T, precision, training: false });
  const tokens = device.tensor("int32", [B, T]);
  int32(tokens).set(ids);
  forward(model, a, tokens);
  const out = device.tensor("fp32", [B, T, config.V]);
  logits(model, a, out);
  return float32(out);
}

for (const device of TEST_DEVICES) {
  Deno.test(`createDecoder() gives the logits of a full forward pass (${device.name})`, () => {
    const gpt2 = model(device.open());
    const { maxT, V } = CONFIG;
    const B = 2;
    const ids = randomIds(B * maxT, 3);
    const expected = fullLogits(gpt2, ids, B);
    for (const cuts of [[maxT], Array(maxT).fill(1), [5, 1, 1, 4, 8]]) {
      const decoder = createDecoder(gpt2, { B });
      let position = 0;
      for (const T of cuts as number[]) {
        const part = new Int32Array(B * T);
        for (let b = 0; b < B; b++) {
          part.set(ids.subarray(b * maxT + position, b * maxT + position + T), b * T);
        }
        const found = decoder.append(part);
        position += T;
        for (let b = 0; b < B; b++) {
          const start = (b * maxT + position - 1) * V;
          for (let id = 0; id < V; id++) assertAlmostEquals(found[b * V + id]!, expected[start + id]!, 2e-5);
        }
      }
      assertEquals(decoder.length, maxT);
      assertThrows(
        () => decoder.append(new Int32Array(B)),
        LlmtsError,
        "19 + 1 tokens are more than the decoder's 19",
      );
    }
  });

  Deno.test(`createDecoder() in bf16 gives the logits of a full forward pass in bf16 (${device.name})`, () => {
    const gpt2 = inPrecision(randomModel(CONFIG, device.open(), 7), "bf16", false);
    const ids = randomIds(CONFIG.maxT, 3);
    const expected = fullLogits(gpt2, ids, 1).subarray(-CONFIG.V);
    const decoder = createDecoder(gpt2);
    let found = new Float32Array();
    for (const id of ids) found = decoder.append(Int32Array.of(id)).slice();
    const norm = (values: Float32Array): number => Math.hypot(...values);
    const error = norm(found.map((value, i) => value - expected[i]!)) / norm(expected);
    assert(error < 1e-2, `relative L2 ${error}`);
  });
}

const device = TEST_DEVICES.at(-1)!;

Deno.test("generate() at temperature 0 takes the most likely token of a full forward pass each time", () => {
  const gpt2 = model(device.open());
  const prompt = [...randomIds(4, 5)];
  const expected: number[] = [];
  for (let n = 0; n < 15; n++) {
    const sequence = Int32Array.from([...prompt, ...expected]);
    const last = fullLogits(gpt2, sequence, 1).subarray(-CONFIG.V);
    expected.push(last.indexOf(Math.max(...last)));
  }
  const found = [...generate(gpt2, prompt, { tokens: 15, temperature: 0 })];
  assertEquals(found, expected);
  assert(new Set(found).size > 1);
});

Deno.test("generate() gives the same tokens for the same seed, others for another (S-08)", () => {
  const gpt2 = model(device.open());
  const draw = (seed: number): number[] => [...generate(gpt2, [1], { tokens: 12, seed })];
  assertEquals(draw(1), draw(1));
  assert(draw(1).join() !== draw(2).join());
});

Deno.test("generate() goes on past the model's last position", () => {
  const gpt2 = model(device.open());
  assertEquals([...generate(gpt2, [1, 2, 3], { tokens: 50, seed: 1 })].length, 50);
});

Deno.test("generate() sees the last maxT tokens of a longer prompt (S-05)", () => {
  const gpt2 = model(device.open());
  const prompt = [...randomIds(40, 11)];
  const options = { tokens: 1, temperature: 0 };
  assertEquals([...generate(gpt2, prompt, options)], [
    ...generate(gpt2, prompt.slice(-CONFIG.maxT), options),
  ]);
});

/** A model whose device keeps the ids that go forward, one entry for each pass. */
function recorded(config: GPT2Config): { model: Model; passes: number[][] } {
  const opened = device.open();
  const passes: number[][] = [];
  const write: Device["write"] = (tensor, values) => {
    passes.push([...values]);
    opened.write(tensor, values);
  };
  return { model: { ...model(opened, config), device: { ...opened, write } }, passes };
}

Deno.test("generate() takes the last maxT tokens forward, then one each, then the younger half of them", () => {
  const { maxT } = CONFIG;
  for (const length of [1, maxT - 1, maxT, maxT + 1, 2 * maxT]) {
    const { model, passes } = recorded(CONFIG);
    const prompt = [...randomIds(length, 11)];
    const tokens = 2 * maxT;
    const sequence = [...prompt, ...generate(model, prompt, { tokens, seed: 3 })];
    // Expected of each pass: from where to where in the sequence it goes.
    let [from, seen] = [Math.max(0, length - maxT), Math.max(0, length - maxT)];
    const expected = Array.from({ length: tokens }, (_, n) => {
      const end = length + n;
      if (end - from > maxT) from = seen = end - Math.ceil(maxT / 2);
      const part = sequence.slice(seen, end);
      seen = end;
      return part;
    });
    assertEquals(passes, expected, `a prompt of ${length} tokens`);
  }
});

Deno.test("generate() works with a context of one position", () => {
  const gpt2 = model(device.open(), { ...CONFIG, maxT: 1 });
  assertEquals([...generate(gpt2, [1], { tokens: 3 })].length, 3);
});

Deno.test("generate() ends before the stop token", () => {
  const gpt2 = model(device.open());
  const all = [...generate(gpt2, [1], { tokens: 12, seed: 4 })];
  const stop = all[5]!;
  assertEquals([...generate(gpt2, [1], { tokens: 12, seed: 4, stop })], all.slice(0, all.indexOf(stop)));
});

Deno.test("generate() never draws a padding id (A-47)", () => {
  const gpt2 = model(device.open(), { ...CONFIG, V: 3 });
  for (const token of generate(gpt2, [1], { tokens: 2000, temperature: 5 })) assert(token < 3);
});

Deno.test("generate() refuses an empty prompt, options out of range and ids outside the vocabulary", () => {
  const gpt2 = model(device.open());
  assertThrows(() => [...generate(gpt2, [], { tokens: 1 })], LlmtsError, "empty prompt");
  assertThrows(() => [...generate(gpt2, [1], { tokens: 1, temperature: -1 })], LlmtsError, "temperature -1");
  assertThrows(() => [...generate(gpt2, [CONFIG.V], { tokens: 1 })], LlmtsError, "65");
});

/** A device that counts the most bytes of temporary memory that were in use at a time. */
function counting(device: Device): { device: Device; peak: () => number } {
  let [live, peak] = [0, 0];
  const temporary = (): Device & Disposable => {
    const memory = device.temporary();
    let own = 0;
    const count = (bytes: number): void => {
      own += bytes;
      live += bytes;
      peak = Math.max(peak, live);
    };
    return {
      ...memory,
      allocate: (bytes) => (count(bytes), memory.allocate(bytes)),
      tensor: (dtype, shape) => (count(tensorBytes(dtype, shape)), memory.tensor(dtype, shape)),
      [Symbol.dispose](): void {
        memory[Symbol.dispose]();
        live -= own;
        own = 0;
      },
    };
  };
  return { device: { ...device, temporary }, peak: () => peak };
}

Deno.test("generationBytes() are the most that generateBatch() has in use", () => {
  const long = { ...CONFIG, maxT: 600 };
  for (
    const [config, B, promptLength, tokens] of [
      [CONFIG, 1, 1, 1],
      [CONFIG, 3, 5, 4],
      [CONFIG, 2, 30, 1], // of which the last 19 are seen
      [CONFIG, 2, 3, 17], // up to the last position
      [CONFIG, 2, 3, 18], // and one more: half of them go forward anew
      [long, 2, 550, 2], // in chunks
      [long, 1, 1, 601],
    ] as const
  ) {
    for (const precision of ["fp32", "bf16"] as const) {
      const { device, peak } = counting(TEST_DEVICES[0]!.open());
      const gpt2 = { ...inPrecision(randomModel(config, device, 7), precision, false), device };
      const prompt = randomIds(promptLength, 3);
      for (const _ of generateBatch(gpt2, prompt, { tokens }, B));
      assertEquals(generationBytes(config, { B, precision, promptLength, tokens }), peak());
    }
  }
});
