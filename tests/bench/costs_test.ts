// Expected numbers are counted by hand from the formulas of the literature, on shapes small enough to do so.

import { assertEquals } from "@std/assert";
import { costOf, floor } from "../../bench/costs.ts";
import { mergeTakes, recordOps } from "../../bench/recorder.ts";
import { openDevice } from "../../ffi/device.ts";
import { type DType, type Tensor, tensorAt, tensorBytes } from "../../ffi/tensor.ts";

function tensor(dtype: DType, ...shape: number[]): Tensor {
  return tensorAt(new Uint8Array(tensorBytes(dtype, shape)), 0, dtype, shape);
}

Deno.test("costOf() counts a product and its gradients", () => {
  const [x, weight, bias, out] = [[2, 3, 8], [5, 8], [5], [2, 3, 5]].map((shape) => tensor("fp32", ...shape));
  const flops = 2 * 6 * 8 * 5;
  assertEquals(costOf("matmul", [out!, x!, weight!, bias!]), {
    label: "matmul N=6 C=8 OC=5",
    flops,
    read: 4 * (48 + 40 + 5),
    written: 4 * 30,
  });
  assertEquals(costOf("matmulGelu", [out!, out!, x!, weight!, null]), {
    label: "matmul + gelu N=6 C=8 OC=5",
    flops,
    read: 4 * (48 + 40),
    written: 4 * 2 * 30,
  });
  const dout = tensor("bf16", 6, 5);
  assertEquals(costOf("matmulDinput", [x!, dout, weight!]), {
    label: "dinput N=6 C=8 OC=5",
    flops,
    read: 4 * 40 + 2 * 30,
    written: 4 * 48,
  });
  assertEquals(costOf("matmulDinput", [x!, dout, weight!, x!]), {
    label: "dinput + dgelu N=6 C=8 OC=5",
    flops,
    read: 4 * (40 + 48) + 2 * 30,
    written: 4 * 48,
  });
  assertEquals(costOf("matmulDweight", [weight!, dout, x!]), {
    label: "dweight N=6 C=8 OC=5",
    flops,
    read: 4 * 48 + 2 * 30,
    written: 4 * 40,
  });
});

Deno.test("costOf() counts only the causal half of attention", () => {
  const [B, T, C, NH] = [2, 3, 8, 2];
  const pairs = B * NH * (1 + 2 + 3); // of a query with itself and what came before
  const [out, qkv, lse] = [
    tensor("fp32", B, T, C),
    tensor("fp32", B, T, 3 * C),
    tensor("fp32", B, NH, T),
  ];
  const product = 2 * pairs * C / NH;
  assertEquals(costOf("attention", [out, lse, qkv, NH]).flops, 2 * product);
  assertEquals(costOf("attentionBackward", [qkv, out, out, lse, qkv, NH]).flops, 5 * product);
});

Deno.test("costOf() counts the filled part of a cache", () => {
  const [B, NH, maxT, HS, position] = [1, 2, 10, 4, 4];
  const cache = tensor("bf16", B, NH, maxT, HS);
  const [out, qkv] = [tensor("bf16", B, 1, 8), tensor("bf16", B, 1, 24)];
  const { read, written } = costOf("attentionCached", [out, cache, cache, qkv, position]);
  const slot = 2 * 2 * NH * HS; // a key and a value
  assertEquals([read, written], [2 * 24 + position * slot, 2 * 8 + slot]);
});

Deno.test("costOf() counts three products where the classifier goes backward", () => {
  const [N, C, V, Vp] = [6, 8, 10, 16];
  const [losses, targets] = [tensor("fp32", N), tensor("int32", N)];
  const [x, wte] = [tensor("fp32", N, C), tensor("fp32", Vp, C)];
  assertEquals(costOf("classifier", [losses, null, null, x, wte, targets, V, 0]).flops, 2 * N * C * V);
  assertEquals(costOf("classifier", [losses, x, wte, x, wte, targets, V, 1]).flops, 3 * 2 * N * C * V);
});

Deno.test("costOf() counts what AdamW reads and writes", () => {
  const [n, fp32, bf16] = [64, tensor("fp32", 64), tensor("bf16", 64)];
  const segments = new BigInt64Array(3);
  const constants = {
    learningRate: 1,
    beta1: 0,
    beta2: 0,
    eps: 1,
    weightDecay: 0,
    gradScale: 1,
    step: 1,
  };
  const bytes = (params: Tensor, master: Tensor | null): [number, number] => {
    const { read, written } = costOf("adamw", [params, master, fp32, fp32, fp32, segments, constants]);
    return [read / n, written / n];
  };
  // Reads parameter, gradient and two moments, writes parameter and moments.
  assertEquals(bytes(fp32, null), [16, 12]);
  // The same on the master copy, and writes the bf16 parameter too.
  assertEquals(bytes(bf16, fp32), [16, 14]);
  // Without one the bf16 parameter itself is read and written.
  assertEquals(bytes(bf16, null), [14, 10]);
});

Deno.test("costOf() counts of an embedding the rows that tokens name", () => {
  const [out, tokens, wte, wpe] = [
    tensor("fp32", 2, 3, 8),
    tensor("int32", 2, 3),
    tensor("bf16", 100, 8),
    tensor("bf16", 50, 8),
  ];
  const { read, written } = costOf("embedding", [out, tokens, wte, wpe, 100]);
  assertEquals([read, written], [4 * 6 + 2 * 48 + 2 * 24, 4 * 48]);
  const backward = costOf("embeddingBackward", [wte, wpe, out, tokens, 100]);
  assertEquals([backward.read, backward.written], [4 * 48 + 4 * 6 + 2 * 48, 2 * 50 * 8 + 2 * 48]);
});

Deno.test("floor() is the longest of arithmetic, reading, and reading and writing, in milliseconds", () => {
  const limits = { flops: 1e9, read: 1e8, moved: 2e8 };
  assertEquals(floor({ flops: 5e6, read: 1e5, written: 0 }, limits), 5);
  assertEquals(floor({ flops: 5e6, read: 1e6, written: 5e5 }, limits), 10);
  assertEquals(floor({ flops: 5e6, read: 1e6, written: 2e6 }, limits), 15);
});

Deno.test("recordOps() times the calls of each op and shape, and computes as before", () => {
  const recorder = recordOps(openDevice({ device: "cpu", threads: 1 }));
  const { device } = recorder;
  const [a, b, c] = [0, 1, 2].map(() => device.tensor("fp32", [4, 8])) as [Tensor, Tensor, Tensor];
  device.write(a, new Float32Array(32).fill(3));
  device.write(b, new Float32Array(32).fill(4));
  const weight = device.tensor("fp32", [8, 8]);
  const repetition = (): ReturnType<typeof recorder.take> => {
    device.ops.matmul(c, a, weight, null);
    device.ops.matmul(c, b, weight, null);
    device.ops.residual(c, a, b);
    return recorder.take();
  };
  const ops = mergeTakes([repetition(), repetition()]);
  assertEquals(device.read(c), new Float32Array(32).fill(7));
  assertEquals(ops.map(({ label, calls, flops, times }) => [label, calls, flops, times.length]), [
    ["matmul N=4 C=8 OC=8", 2, 2 * 2 * 4 * 8 * 8, 2],
    ["residual", 1, 0, 2],
  ]);
  assertEquals(ops.flatMap(({ times }) => times).every((time) => time > 0), true);
  assertEquals(recorder.take().size, 0);
});
