import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import type { Memory } from "../ffi/memory.ts";
import { float32, type Tensor } from "../ffi/tensor.ts";
import { LlmtsError } from "../src/errors.ts";
import { generate } from "../src/generate.ts";
import { randomModel } from "../src/load.ts";
import { inPrecision } from "../src/model.ts";
import { lossOfTokens } from "../src/evaluate.ts";
import { quantize, quantizedBytes } from "../src/quantize.ts";
import { TEST_DEVICES } from "./devices.ts";
import { assertClose, normalTensors } from "./ffi/op_case.ts";

const CONFIG = { maxT: 64, V: 101, Vp: 128, L: 2, NH: 3, C: 48 };

/** Rows (OC,C) rounded to multiples of a 127th of each row's largest. */
function rounded(values: Float32Array, C: number): Float32Array {
  return values.map((value, i) => {
    const row = values.subarray(i - i % C, i - i % C + C);
    const scale = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
    return scale === 0 ? 0 : Math.round(value / scale) * scale;
  });
}

for (const device of TEST_DEVICES) {
  const opened = device.open();
  if (opened.ops.packedBytes(2, 3) === 0) continue;

  Deno.test(`matmul with int8 weights is that with rows rounded to 127ths (${device.name})`, () => {
    const opened = device.open();
    const { allocate, ops } = opened;
    const normal = normalTensors(opened, 5);
    for (
      const [N, C, OC] of [[1, 65, 33], [1, 1, 1], [3, 768, 50], [8, 130, 7], [9, 130, 250], [40, 63, 97]]
    ) {
      const [x, weight, bias] = [normal(N!, C!), normal(OC!, C!), normal(OC!)];
      float32(weight).fill(0, 0, C); // a row of zeros
      const packed: Tensor = {
        dtype: "int8",
        shape: weight.shape,
        memory: allocate(ops.packedBytes(OC!, C!)),
      };
      ops.pack(packed, weight);
      const [out, pre, expected, expectedPre] = [0, 1, 2, 3].map(() => normal(N!, OC!));
      ops.matmulGelu(out!, pre!, x, packed, bias);
      float32(weight).set(rounded(float32(weight), C!));
      ops.matmulGelu(expected!, expectedPre!, x, weight, bias);
      assertClose(float32(pre!), float32(expectedPre!), 1e-5, `pre of N ${N}, C ${C}, OC ${OC}`, 1);
      assertClose(float32(out!), float32(expected!), 1e-5, `out of N ${N}, C ${C}, OC ${OC}`, 1);
    }
  });

  for (const precision of ["fp32", "bf16"] as const) {
    Deno.test(`quantize() keeps the loss and the text of a model in ${precision} (${device.name})`, () => {
      const model = inPrecision(randomModel(CONFIG, device.open(), 3), precision, false);
      const small = quantize(model);
      const tokens = Array.from({ length: 50 }, (_, i) => i * 7 % CONFIG.V);
      const [loss, quantized] = [model, small].map((model) => lossOfTokens(model, tokens));
      assertAlmostEquals(quantized!, loss!, 0.01);
      assert(quantized !== loss);
      const options = { tokens: 12, temperature: 0 };
      const text = [...generate(small, tokens, options)];
      assertEquals(text.length, 12);
      assertEquals([...generate(small, tokens, options)], text);
    });
  }
}

Deno.test("quantizedBytes() are those that quantize() allocates", () => {
  const device = TEST_DEVICES[0]!.open();
  let allocated = 0;
  const allocate = (bytes: number): Memory => {
    allocated += bytes;
    return device.allocate(bytes);
  };
  if (device.ops.packedBytes(2, 3) > 0) {
    quantize({ ...randomModel(CONFIG, device, 3), device: { ...device, allocate } });
  }
  assertEquals(quantizedBytes(CONFIG, device), allocated);
});

Deno.test("quantize() says where int8 weights can't be had", () => {
  const device = TEST_DEVICES.at(-1)!.open();
  const without = { ...device, ops: { ...device.ops, packedBytes: () => 0 } };
  const model = randomModel(CONFIG, without, 3);
  assertThrows(() => quantize(model), LlmtsError, "can't be int8");
});
