/**
 * A device with memory of its own: the GPU where LLMTS_TEST_GPU is set (`deno task test:gpu`), else the emulated CUDA
 * library, opened as one. Everything goes through device addresses, uploads and downloads, as on a card.
 */
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { join } from "@std/path";
import { type Device, openDevice } from "../../ffi/device.ts";
import { KernelError } from "../../ffi/library.ts";
import { elements, rows } from "../../ffi/tensor.ts";
import { LlmtsError, UsageError } from "../../src/errors.ts";
import { generate } from "../../src/generate.ts";
import { readCheckpoint, writeCheckpoint } from "../../src/io/checkpoint.ts";
import { openDebugState } from "../../src/io/debug_state.ts";
import { loadModel, randomModel } from "../../src/load.ts";
import { inPrecision, type Model, type Precision } from "../../src/model.ts";
import { createTrainer } from "../../src/trainer.ts";
import { verify } from "../../src/verify.ts";
import { findExpectedLosses } from "../../src/verify/expected_losses.ts";
import { exactWeights } from "../../src/weights.ts";
import { fixturePath } from "../fixtures.ts";
import { build, EMULATED } from "./build.ts";

const CONFIG = { maxT: 32, V: 61, Vp: 64, L: 2, NH: 2, C: 32 };

const onGpu = Deno.env.get("LLMTS_TEST_GPU") !== undefined;
const WHERE = onGpu ? "GPU" : "emulated";

async function open(tf32 = false): Promise<Device> {
  if (onGpu) return openDevice({ device: "cuda", tf32 });
  await build("llmts_cuda_emulated");
  return openDevice({ device: "cuda", tf32, library: join(EMULATED, "libllmts_cuda_emulated.so") });
}

/**
 * Asserts that as much is free as before; a card's memory is given out in blocks, and to others too. Nothing may be
 * awaited in between: the garbage collector would free tensors of earlier tests there.
 */
function assertFree(device: Device, before: number): void {
  if (onGpu) assert(device.freeMemory() > before - (8 << 20));
  else assertEquals(device.freeMemory(), before);
}

/** A device that counts what is taken of it temporarily, and what of that is freed on time. */
function counting(device: Device): [Device, { taken: number; freed: number }] {
  const count = { taken: 0, freed: 0 };
  const temporary = (): Device & Disposable => {
    const memory = device.temporary();
    count.taken++;
    const free = (): void => {
      memory[Symbol.dispose]();
      count.freed++;
    };
    return { ...memory, [Symbol.dispose]: free };
  };
  return [{ ...device, temporary }, count];
}

/** Losses and norms of some steps on one batch, and tokens generated afterwards. */
function train(device: Device, precision: Precision, { keepMaster = true, steps: count = 5 } = {}) {
  const model = inPrecision(randomModel(CONFIG, device, 7), precision, keepMaster);
  const trainer = createTrainer(model, { B: 3, T: 19 });
  const ids = Int32Array.from({ length: 3 * 19 }, (_, i) => (i * i + 3) % CONFIG.V);
  const batch = { inputs: ids, targets: ids.map((id, i) => i % 11 === 0 ? -1 : (id * 5 + 1) % CONFIG.V) };
  const steps = Array.from({ length: count }, () => trainer.step(batch, 3e-3));
  return { model, steps, tokens: [...generate(model, [5, 6, 7], { tokens: 20, temperature: 0 })] };
}

Deno.test({
  name: `openDevice() takes the file that the environment names for the GPU's library, not for the host's${
    onGpu ? " (skipped: the GPU's is named otherwise)" : ""
  }`,
  ignore: onGpu,
  fn: async () => {
    const { library } = await open();
    const before = Deno.env.get("LLMTS_LIBRARY_PATH");
    Deno.env.set("LLMTS_LIBRARY_PATH", library.path);
    try {
      const device = openDevice({ device: "cuda" });
      assertEquals(device.library.path, library.path);
      assertMatch(device.host.library.path, /libllmts_cpu/);
    } finally {
      if (before === undefined) Deno.env.delete("LLMTS_LIBRARY_PATH");
      else Deno.env.set("LLMTS_LIBRARY_PATH", before);
    }
  },
});

Deno.test(`a tensor on the device is read as it was written (${WHERE})`, async () => {
  const device = await open();
  assertEquals([device.kind, device.host.kind], ["cuda", "cpu"]);
  assertEquals(device.info().variant, onGpu ? "cuda" : "emulated");
  const tensor = device.tensor("fp32", [3, 5]);
  assert(device.read(tensor).every((value) => value === 0));
  const values = Float32Array.from({ length: 15 }, (_, i) => i / 7);
  device.write(tensor, values);
  assertEquals(device.read(tensor), values);
  assertEquals(device.read(rows(tensor, 1, 3)), values.slice(5));
  const ids = device.tensor("int32", [4]);
  device.write(ids, Int32Array.of(1, -1, 2, 3));
  assertEquals(device.readIds(ids), Int32Array.of(1, -1, 2, 3));
  assertThrows(() => device.write(tensor, new Float32Array(14)), RangeError, "(3,5) fp32");
});

Deno.test(`a tensor of the host is refused where the device's is expected (${WHERE})`, async () => {
  const device = await open();
  const [out, host] = [device.tensor("fp32", [8]), device.host.tensor("fp32", [8])];
  assertThrows(() => device.ops.gelu(out, host), TypeError);
  assertThrows(() => device.host.ops.gelu(host, out), TypeError);
});

for (const precision of ["fp32", "bf16"] as const) {
  Deno.test(`verify() finds the odd model in ${precision} on the device to be PyTorch's (${WHERE})`, async () => {
    const model = loadModel(fixturePath("models/odd.bin"), await open(), { precision });
    using state = openDebugState(fixturePath("models/odd_debug_state.bin"), model.config);
    const expected = findExpectedLosses(state, model.config);
    const { checks, steps, findings, okay } = verify(model, state, { expected });
    assertEquals([findings, okay, checks.length, steps.length], [[], true, 18, 10]);
  });

  Deno.test(`training and sampling in ${precision} on the device agree with the CPU in fp32 (${WHERE})`, async () => {
    const device = await open();
    const expected = train(device.host, "fp32");
    const actual = train(device, precision);
    const tolerance = precision === "fp32" ? 1e-4 : 1e-2;
    expected.steps.forEach(({ loss, gradNorm }, i) => {
      assertAlmostEquals(actual.steps[i]!.loss, loss, tolerance * loss, `loss of step ${i}`);
      assertAlmostEquals(actual.steps[i]!.gradNorm, gradNorm, 5 * tolerance * gradNorm, `norm of step ${i}`);
    });
    assert(actual.steps[4]!.loss < actual.steps[0]!.loss);
    if (precision === "fp32") assertEquals(actual.tokens, expected.tokens);
    assertEquals(actual.tokens.length, 20);
  });
}

Deno.test(`a hundred steps on the device lose as they do on the CPU (${WHERE})`, async () => {
  const device = await open();
  const [expected, fp32, bf16] = [
    train(device.host, "fp32", { steps: 100 }),
    train(device, "fp32", { steps: 100 }),
    train(device, "bf16", { steps: 100 }),
  ];
  expected.steps.forEach(({ loss }, i) => {
    assertAlmostEquals(fp32.steps[i]!.loss, loss, 1e-3 * loss + 1e-4, `fp32, loss of step ${i}`);
    assertAlmostEquals(bf16.steps[i]!.loss, loss, 5e-2 * loss + 1e-2, `bf16, loss of step ${i}`);
  });
  assert(expected.steps[99]!.loss < expected.steps[0]!.loss / 4);
});

Deno.test(`training in bf16 without master weights learns too (${WHERE})`, async () => {
  const { steps } = train(await open(), "bf16", { keepMaster: false });
  assert(steps[4]!.loss < steps[0]!.loss - 0.02);
});

Deno.test(`equal steps on the device give equal bits (${WHERE})`, async () => {
  const device = await open();
  const weights = () => device.read(exactWeights(train(device, "bf16").model).flat);
  assertEquals(weights(), weights());
});

Deno.test(`a checkpoint of bf16 weights is the CPU's, and leaves no memory behind (${WHERE})`, async () => {
  const device = await open();
  const folder = Deno.makeTempDirSync();
  try {
    const path = join(folder, "model.bin");
    const narrow = (device: Device): Model => inPrecision(randomModel(CONFIG, device, 3), "bf16", false);
    await writeCheckpoint(path, narrow(device.host));
    const expected = Deno.readFileSync(path);
    const [counted, count] = counting(device);
    await writeCheckpoint(path, narrow(counted));
    assert(count.taken > 0);
    assertEquals(count.freed, count.taken);
    assertEquals(Deno.readFileSync(path), expected);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test(`a checkpoint goes to the device and back unchanged (${WHERE})`, async () => {
  const device = await open();
  const folder = Deno.makeTempDirSync();
  try {
    const [first, second] = [join(folder, "first.bin"), join(folder, "second.bin")];
    await writeCheckpoint(first, randomModel(CONFIG, device.host, 3));
    await writeCheckpoint(second, readCheckpoint(first, device));
    assertEquals(Deno.readFileSync(second), Deno.readFileSync(first));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test(`a token outside the vocabulary is named when results are read (${WHERE})`, async () => {
  const device = await open();
  const [out, tokens] = [device.tensor("fp32", [1, 2, 4]), device.tensor("int32", [1, 2])];
  device.write(tokens, Int32Array.of(3, 900));
  device.ops.embedding(out, tokens, device.tensor("fp32", [8, 4]), device.tensor("fp32", [2, 4]), 8);
  const error = assertThrows(
    () => device.read(out),
    KernelError,
    "an embedding before this call: token 900 at row 1",
  );
  assertEquals(error.status, 1);
  device.read(out); // reported once
});

Deno.test(`what is allocated temporarily is free at once, and can't be used then (${WHERE})`, async () => {
  const device = await open();
  const before = device.freeMemory();
  let tensor;
  {
    using memory = device.temporary();
    tensor = memory.tensor("fp32", [4 << 20]);
    assert(device.freeMemory() <= before - (16 << 20));
    assertEquals(device.read(tensor).length, 4 << 20);
  }
  assertFree(device, before);
  assertThrows(() => device.read(tensor), TypeError, "that were freed");
});

Deno.test(`generate() leaves no memory behind (${WHERE})`, async () => {
  const device = await open();
  const model = randomModel(CONFIG, device, 7);
  const generated = () => [...generate(model, [5, 6, 7], { tokens: 40, temperature: 0 })];
  const first = generated(); // with it the library's scratch has grown to what it needs
  const before = device.freeMemory();
  assertEquals(generated(), first);
  for (const _ of generate(model, [1], { tokens: 9 })) break; // a generator that is left early
  assertFree(device, before);
});

Deno.test(`products round their factors to TF32 where they may (${WHERE})`, async () => {
  const sizes = [64, 96, 128] as const;
  const product = (device: Device): Float32Array => {
    const [N, C, OC] = sizes;
    const [x, weight, out] = [[N, C], [OC, C], [N, OC]].map((shape) => device.tensor("fp32", shape));
    for (const [seed, tensor] of [x!, weight!].entries()) {
      device.write(
        tensor,
        Float32Array.from({ length: elements(tensor.shape) }, (_, i) => Math.sin(i + seed)),
      );
    }
    device.ops.matmul(out!, x!, weight!, null);
    return device.read(out!);
  };
  const exact = product(await open());
  const rounding = await open(true);
  assert(rounding.info().features.includes("TF32"));
  const rounded = product(rounding);
  const again = await open();
  assert(!again.info().features.includes("TF32"));
  assertEquals(product(again), exact);
  const errors = exact.map((value, i) => Math.abs(value - rounded[i]!));
  const largest = errors.reduce((most, error) => Math.max(most, error), 0);
  assert(largest > 1e-5 && largest < 5e-2, `${largest}`);
  assertThrows(() => openDevice({ device: "cpu", tf32: true }), UsageError, "TF32");
});

Deno.test(`an op whose scratch the device does not have says what to lower (${WHERE})`, async () => {
  const device = await open();
  using memory = device.temporary();
  const [out, x, weight] = [[64, 64], [64, 64], [64, 64]].map((shape) => memory.tensor("fp32", shape));
  device.library.call("llmts_shutdown", {});
  memory.allocate(device.freeMemory() - (8 << 20)); // less than a product's workspace is left
  const error = assertThrows(() => device.ops.matmul(out!, x!, weight!, null), KernelError);
  assertMatch(
    error.message,
    /out of memory.* \d+ bytes could not be allocated on the GPU, \d+ of its \d+ are free/,
  );
  assertStringIncludes(error.hint ?? "", "a smaller model");
});

Deno.test(`memory that the device does not have is named (${WHERE})`, async () => {
  const device = await open();
  const bytes = 2 ** 40;
  assert(device.freeMemory() > 0 && device.freeMemory() < bytes);
  const error = assertThrows(
    () => device.allocate(bytes),
    LlmtsError,
    `Memory of ${bytes} bytes can't be had`,
  );
  assertStringIncludes(error.hint ?? "", "a smaller model");
});
