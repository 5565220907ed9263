// What ops do with values that are not finite or very large, and with calls that only C programs make.

import { assert, assertEquals } from "@std/assert";
import type { Device } from "../../ffi/device.ts";
import { float32, type Tensor } from "../../ffi/tensor.ts";
import { TEST_DEVICES } from "../devices.ts";

function tensorOf({ tensor, write }: Device, shape: readonly number[], values: readonly number[]): Tensor {
  const made = tensor("fp32", shape);
  write(made, Float32Array.from(values));
  return made;
}

for (const device of TEST_DEVICES) {
  Deno.test(`gelu and its gradient go to their limits, and keep NaN (${device.name})`, () => {
    const opened = device.open();
    const x = [-Infinity, -3e38, -1e36, -1e20, -100, 100, 1e20, 3e38, NaN];
    const input = tensorOf(opened, [x.length], x);
    const [out, dx] = [opened.tensor("fp32", [x.length]), opened.tensor("fp32", [x.length])];
    const ones = tensorOf(opened, [x.length], x.map(() => 1));
    opened.ops.gelu(out, input);
    opened.ops.geluBackward(dx, ones, input);
    const [values, slopes] = [[...opened.read(out) as Float32Array], [...opened.read(dx) as Float32Array]];
    for (const [i, at] of x.entries()) {
      if (at === -Infinity) continue; // NaN in PyTorch, 0 or NaN here
      const [value, slope] = Number.isNaN(at) ? [NaN, NaN] : at < 0 ? [0, 0] : [Math.fround(at), 1];
      const close = (a: number, b: number): boolean => Object.is(a, b) || Math.abs(a - b) < 1e-30;
      assert(close(values[i]!, value), `gelu(${at}) is ${values[i]}`);
      assert(close(slopes[i]!, slope), `gelu'(${at}) is ${slopes[i]}`);
    }
  });

  if (device.open().ops.packedBytes(2, 3) === 0) continue; // a GPU

  Deno.test(`int8 rows that aren't finite make products NaN, and no others (${device.name})`, () => {
    const opened = device.open();
    const [C, OC] = [64, 5];
    const values = new Array(OC * C).fill(1);
    [values[7], values[2 * C + 9], values[4 * C]] = [NaN, Infinity, -Infinity];
    const weight = tensorOf(opened, [OC, C], values);
    const packed: Tensor = {
      dtype: "int8",
      shape: weight.shape,
      memory: opened.allocate(opened.ops.packedBytes(OC, C)),
    };
    opened.ops.pack(packed, weight);
    for (const N of [1, 20]) {
      const [out, x] = [opened.tensor("fp32", [N, OC]), tensorOf(opened, [N, C], new Array(N * C).fill(1))];
      opened.ops.matmul(out, x, packed, null);
      const row = [...float32(out)].slice(-OC).map((value) => Math.round(value));
      assertEquals(row, [NaN, 64, NaN, 64, NaN]);
    }
  });

  Deno.test(`llmts_matmul_forward gives pre without an activation too (${device.name})`, () => {
    const opened = device.open();
    const [N, C, OC, IDENTITY, FP32] = [3, 2, 5, 0, 0];
    const [x, weight, bias] = [
      tensorOf(opened, [N, C], [1, 2, 3, 4, 5, 6]),
      tensorOf(opened, [OC, C], [1, 0, 0, 1, 1, 1, 2, 0, 0, 2]),
      tensorOf(opened, [OC], [10, 20, 30, 40, 50]),
    ];
    const product = [[1, 2], [3, 4], [5, 6]].flatMap(([a, b]) => [a!, b!, a! + b!, 2 * a!, 2 * b!]);
    for (const added of [bias, null]) {
      const [out, pre] = [opened.tensor("fp32", [N, OC]), opened.tensor("fp32", [N, OC])];
      // deno-fmt-ignore
      opened.library.call("llmts_matmul_forward", {},
        out.memory, FP32, pre.memory, FP32, x.memory, FP32, weight.memory, FP32, null,
        added?.memory ?? null, FP32, IDENTITY, BigInt(N), BigInt(C), BigInt(OC));
      const expected = product.map((value, i) => value + (added ? 10 * (i % OC + 1) : 0));
      assertEquals([[...float32(out)], [...float32(pre)]], [expected, expected]);
    }
  });
}
