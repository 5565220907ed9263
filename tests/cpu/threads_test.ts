/** What threads of the CPU library share: more of them than two, what a call leaves behind, and what goes wrong in one. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type Device, openDevice } from "../../ffi/device.ts";
import { KernelError, OUT_OF_MEMORY, runnableVariants } from "../../ffi/library.ts";
import { float32, hostBytes } from "../../ffi/tensor.ts";
import { openVariant } from "../devices.ts";
import { assertClose, normalTensors } from "../ffi/op_case.ts";

const VARIANTS = runnableVariants(openDevice().info());

/** Products of a layer of 95 rows, whose results threads share as a grid: six of them as two rows of three. */
function products(device: Device): Record<string, Float32Array> {
  const [N, C, OC] = [95, 250, 431];
  const { ops } = device;
  const normal = normalTensors(device, 9);
  const [x, weight, bias, dout, before] = [
    normal(N, C),
    normal(OC, C),
    normal(OC),
    normal(N, OC),
    normal(N, C),
  ];
  const [out, pre, dx, dweight] = [normal(N, OC), normal(N, OC), normal(N, C), normal(OC, C)];
  ops.matmulGelu(out, pre, x, weight, bias);
  ops.matmulDinput(dx, dout, weight, before);
  ops.matmulDweight(dweight, dout, x);
  return { out: float32(out), pre: float32(pre), dx: float32(dx), dweight: float32(dweight) };
}

for (const variant of VARIANTS) {
  Deno.test(`three to seven threads make the products that one makes (${variant})`, () => {
    const expected = products(openVariant(variant, 1));
    for (const threads of [3, 4, 5, 6, 7]) {
      for (const [name, values] of Object.entries(products(openVariant(variant, threads)))) {
        assertClose(values, expected[name]!, 1e-5, `${name} with ${threads} threads`);
      }
    }
  });
}

Deno.test("a product is whole when it returns, whichever thread is the last", () => {
  const K = 20_000;
  for (const threads of [3, 5]) {
    const { ops, tensor } = openDevice({ device: "cpu", threads });
    const [N, OC] = [8 * threads, 48 * threads]; // a tile each at least
    const [out, x, weight] = [tensor("fp32", [N, OC]), tensor("fp32", [N, K]), tensor("fp32", [OC, K])];
    for (const factor of [x, weight]) float32(factor).fill(1);
    for (let run = 0; run < 20; run++) {
      float32(out).fill(NaN);
      ops.matmul(out, x, weight, null);
      assert(float32(out).every((sum) => sum === K), `run ${run} with ${threads} threads`);
    }
  }
});

Deno.test("llmts_zero has reached every byte when it returns, with five threads", () => {
  const device = openDevice({ device: "cpu", threads: 5 });
  const [page, bytes] = [4096, (16 << 20) + 4099];
  const tensor = device.tensor("int8", [bytes]);
  const memory = hostBytes(tensor);
  // The threads' slices are whole pages. What is written last, their ends, is looked at before anything else.
  const pages = Math.ceil(bytes / page);
  const ends = [1, 2, 3, 4].map((part) =>
    (part * Math.floor(pages / 5) + Math.min(part, pages % 5)) * page - 1
  );
  for (let run = 0; run < 20; run++) {
    memory.fill(0xa5);
    device.library.call("llmts_zero", {}, tensor.memory, BigInt(bytes));
    assertEquals([...ends, bytes - 1].map((at) => memory[at]), [0, 0, 0, 0, 0], `run ${run}`);
    assertEquals(memory.indexOf(0xa5), -1, `run ${run}`);
  }
});

for (const threads of [1, 5]) {
  const among = threads === 1 ? "with one thread" : `with ${threads} threads`;

  Deno.test(`JavaScript has denormals still after an op ${among}`, () => {
    const { ops, tensor } = openDevice({ device: "cpu", threads });
    const [out, x] = [tensor("fp32", [200_000]), tensor("fp32", [200_000])];
    const [factors, result] = [new Float64Array([2 ** -530, 2 ** -530]), new Float64Array(1)];
    ops.residual(out, x, x);
    result[0] = factors[0]! * factors[1]!;
    // 2^-1060 in units of the smallest denormal: as bits, since a comparison of numbers could take both for 0.
    assertEquals(new BigUint64Array(result.buffer)[0], 1n << 14n);
  });

  Deno.test(`AdamW's moments become 0 rather than denormal ${among}`, () => {
    const { ops, tensor } = openDevice({ device: "cpu", threads });
    const n = 200_000;
    const [params, grads, m, v] = [0, 1, 2, 3].map(() => tensor("fp32", [n]));
    float32(m!).fill(1.2e-38);
    float32(v!).fill(1.18e-38);
    // deno-fmt-ignore
    ops.adamw(params!, null, grads!, m!, v!, BigInt64Array.of(0n, BigInt(n), 0n),
      { learningRate: 1e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weightDecay: 0, gradScale: 1, step: 1 });
    for (const moment of [m!, v!]) assertEquals(hostBytes(moment).findIndex((byte) => byte !== 0), -1);
  });
}

Deno.test("what goes wrong in threads of the library is reported, and the next call succeeds", () => {
  const { library, ops, tensor } = openDevice({ device: "cpu", threads: 5 });
  const few = tensor("int32", [40]);
  // Channels of which no row fits into the address space: each thread asks for one, before it reads or writes any.
  const C = 2n ** 48n;
  const error = assertThrows(
    // deno-fmt-ignore
    () => library.call("llmts_embedding_forward", {}, few.memory, 1, few.memory, few.memory, 1, few.memory, 1,
      1n, 40n, C, 1n, 40n, 0n),
    KernelError,
  );
  assertEquals(error.status, OUT_OF_MEMORY);
  assertEquals(error.reason, `${4n * C} bytes of scratch could not be allocated`);
  assert(hostBytes(few).every((byte) => byte === 0));
  const [out, x] = [tensor("fp32", [200_000]), tensor("fp32", [200_000])];
  float32(x).fill(1);
  ops.residual(out, x, x);
  assert(float32(out).every((value) => value === 2));
});
