/**
 * Ops in bf16: the same inputs, rounded to bf16, through the op in both precisions. The bf16 op computes in fp32 and rounds
 * its outputs once, so they are the fp32 op's outputs rounded; what is summed up in fp32 is equal.
 */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Device } from "../../ffi/device.ts";
import type { Ops } from "../../ffi/ops.ts";
import { elements, float32, hostBytes, int32, type Tensor } from "../../ffi/tensor.ts";
import { bf16ToFp32, fp32ToBf16 } from "../../src/bfloat16.ts";
import { Random } from "../../src/random.ts";
import { TEST_DEVICES } from "../devices.ts";

const bits = (tensor: Tensor): Uint16Array => {
  const { buffer, byteOffset } = hostBytes(tensor);
  return new Uint16Array(buffer, byteOffset, elements(tensor.shape));
};

/** The numbers of an fp32 tensor as bits. */
const words = (tensor: Tensor): Uint32Array => {
  const { buffer, byteOffset } = hostBytes(tensor);
  return new Uint32Array(buffer, byteOffset, elements(tensor.shape));
};

function widened(tensor: Tensor): Float32Array {
  if (tensor.dtype === "fp32") return float32(tensor);
  const wide = new Float32Array(elements(tensor.shape));
  bf16ToFp32(wide, bits(tensor));
  return wide;
}

/** Makes the tensors of one run in one precision: the same numbers in both, all of which bf16 holds. */
interface Maker {
  normal(...shape: number[]): Tensor;
  /** fp32 in both. */
  fp32(...shape: number[]): Tensor;
  ids(limit: number, ...shape: number[]): Tensor;
}

function maker(device: Device, dtype: "fp32" | "bf16"): Maker {
  const random = new Random(11);
  return {
    normal(...shape): Tensor {
      const values = new Float32Array(elements(shape));
      random.normal(values);
      const rounded = new Uint16Array(values.length);
      fp32ToBf16(rounded, values);
      const tensor = device.tensor(dtype, shape);
      if (dtype === "bf16") bits(tensor).set(rounded);
      else bf16ToFp32(float32(tensor), rounded);
      return tensor;
    },
    fp32: (...shape) => device.tensor("fp32", shape),
    ids(limit, ...shape): Tensor {
      const tensor = device.tensor("int32", shape);
      int32(tensor).forEach((_, i, ids) => ids[i] = random.randint32() % limit);
      return tensor;
    },
  };
}

/** Numbers that bf16 doesn't hold, in an fp32 tensor. */
function waves(tensor: Tensor): Tensor {
  float32(tensor).forEach((_, i, values) => values[i] = Math.sin(i));
  return tensor;
}

/** Each runs one op and returns what it wrote. */
const RUNS: Readonly<Record<string, (ops: Ops, make: Maker) => Tensor[]>> = {
  embedding(ops, make): Tensor[] {
    const out = make.normal(2, 5, 17);
    ops.embedding(out, make.ids(40, 2, 5), make.normal(40, 17), make.normal(9, 17), 40, 3);
    return [out];
  },
  embeddingBackward(ops, make): Tensor[] {
    const [dwte, dwpe] = [make.fp32(40, 17), make.fp32(9, 17)];
    ops.embeddingBackward(dwte, dwpe, make.normal(2, 5, 17), make.ids(40, 2, 5), 40);
    return [dwte, dwpe];
  },
  layernorm(ops, make): Tensor[] {
    const [out, mean, rstd] = [make.normal(7, 33), make.fp32(7), make.fp32(7)];
    ops.layernorm(out, mean, rstd, make.normal(7, 33), make.normal(33), make.normal(33));
    return [out, mean, rstd];
  },
  layernormBackward(ops, make): Tensor[] {
    const [dx, dweight, dbias] = [make.normal(7, 33), make.fp32(33), make.fp32(33)];
    const [mean, rstd] = [make.fp32(7), make.fp32(7)];
    float32(rstd).fill(1);
    const [dout, dresidual, x] = [make.normal(7, 33), make.normal(7, 33), make.normal(7, 33)];
    ops.layernormBackward(dx, dweight, dbias, dout, dresidual, x, mean, rstd, make.normal(33));
    return [dx, dweight, dbias];
  },
  matmul(ops, make): Tensor[] {
    const out = make.normal(19, 35);
    ops.matmul(out, make.normal(19, 65), make.normal(35, 65), make.normal(35));
    return [out];
  },
  "matmul of one row"(ops, make): Tensor[] {
    const out = make.normal(1, 1000);
    ops.matmul(out, make.normal(1, 65), make.normal(1000, 65), null);
    return [out];
  },
  "matmul of both precisions"(ops, make): Tensor[] {
    const out = make.normal(19, 35);
    ops.matmul(out, make.normal(19, 65), waves(make.fp32(35, 65)), waves(make.fp32(35)));
    return [out];
  },
  // Several blocks of rows, of columns and of what is summed over.
  "products in blocks"(ops, make): Tensor[] {
    const [x, weight, dout] = [make.normal(300, 801), make.normal(1601, 801), make.normal(300, 1601)];
    const [out, dx, dweight] = [make.normal(300, 1601), make.normal(300, 801), make.fp32(1601, 801)];
    ops.matmul(out, x, weight, make.normal(1601));
    ops.matmulDinput(dx, dout, weight, make.normal(300, 801));
    ops.matmulDweight(dweight, dout, x);
    return [out, dx, dweight];
  },
  // Blocks of rows that one thread goes through.
  "products of many rows"(ops, make): Tensor[] {
    const [x, weight, dout] = [make.normal(2100, 3), make.normal(5, 3), make.normal(2100, 5)];
    const [out, dx, dpre] = [make.normal(2100, 5), make.normal(2100, 3), make.normal(2100, 3)];
    ops.matmul(out, x, weight, make.normal(5));
    ops.matmulDinput(dx, dout, weight);
    ops.matmulDinput(dpre, dout, weight, make.normal(2100, 3));
    return [out, dx, dpre];
  },
  "matmul to fp32"(ops, make): Tensor[] {
    const out = make.fp32(5, 35);
    ops.matmul(out, make.normal(5, 65), make.normal(35, 65), null);
    return [out];
  },
  matmulGelu(ops, make): Tensor[] {
    const [out, pre] = [make.normal(19, 35), make.normal(19, 35)];
    ops.matmulGelu(out, pre, make.normal(19, 65), make.normal(35, 65), make.normal(35));
    return [out, pre];
  },
  matmulDinput(ops, make): Tensor[] {
    const dx = make.normal(19, 35);
    ops.matmulDinput(dx, make.normal(19, 65), make.normal(65, 35), make.normal(19, 35));
    return [dx];
  },
  "matmulDweight and matmulDbias"(ops, make): Tensor[] {
    const [dweight, dbias, dout] = [make.fp32(35, 65), make.fp32(35), make.normal(19, 35)];
    ops.matmulDweight(dweight, dout, make.normal(19, 65));
    ops.matmulDbias(dbias, dout);
    return [dweight, dbias];
  },
  attention(ops, make): Tensor[] {
    const [out, lse] = [make.normal(2, 70, 12), make.fp32(2, 3, 70)];
    ops.attention(out, lse, make.normal(2, 70, 36), 3);
    return [out, lse];
  },
  attentionBackward(ops, make): Tensor[] {
    const [dqkv, lse, qkv, out] = [
      make.normal(2, 70, 36),
      make.fp32(2, 3, 70),
      make.normal(2, 70, 36),
      make.normal(2, 70, 12),
    ];
    float32(lse).fill(5);
    ops.attentionBackward(dqkv, make.normal(2, 70, 12), out, lse, qkv, 3);
    return [dqkv];
  },
  attentionCached(ops, make): Tensor[] {
    const [out, keys, values] = [make.normal(2, 3, 12), make.normal(2, 3, 9, 4), make.normal(2, 3, 9, 4)];
    ops.attentionCached(out, keys, values, make.normal(2, 3, 36), 4);
    return [out, keys, values];
  },
  "attentionCached of one query"(ops, make): Tensor[] {
    const [out, keys, values] = [make.normal(2, 1, 12), make.normal(2, 3, 90, 4), make.normal(2, 3, 90, 4)];
    ops.attentionCached(out, keys, values, make.normal(2, 1, 36), 70);
    return [out, keys, values];
  },
  gelu(ops, make): Tensor[] {
    const [out, dx, x] = [make.normal(131), make.normal(131), make.normal(131)];
    ops.gelu(out, x);
    ops.geluBackward(dx, make.normal(131), x);
    return [out, dx];
  },
  residual(ops, make): Tensor[] {
    const out = make.normal(131);
    ops.residual(out, make.normal(131), make.normal(131));
    return [out];
  },
  classifier(ops, make): Tensor[] {
    const [losses, dx, dwte, x] = [make.fp32(9), make.normal(9, 17), make.fp32(80, 17), make.normal(9, 17)];
    ops.classifier(losses, dx, dwte, x, make.normal(80, 17), make.ids(65, 9), 65, 1 / 8);
    return [losses, dx, dwte];
  },
  "classifier in chunks"(ops, make): Tensor[] {
    const [losses, dx, dwte] = [make.fp32(600), make.normal(600, 17), make.fp32(80, 17)];
    ops.classifier(
      losses,
      dx,
      dwte,
      make.normal(600, 17),
      make.normal(80, 17),
      make.ids(65, 600),
      65,
      1 / 600,
    );
    return [losses, dx, dwte];
  },
};

/** Ops that multiply what they have summed up in fp32 again. Instructions for bf16 products round it to bf16 first. */
const ROUNDED_BY_BF16_PRODUCTS = new Set([
  "matmul of both precisions",
  "attention",
  "attentionBackward",
  "attentionCached",
]);
/** Ops that compute further with what they have rounded: the input of GELU, the gradient of the logits. */
const ROUNDED_BETWEEN = new Set(["matmulGelu", "classifier", "classifier in chunks"]);
/** The CUDA kernels: their classifier's logits are in bf16, those here up to 20 and so off by up to 0.06; all NaN is one. */
const onCuda = (variant: string): boolean => variant === "cuda" || variant === "emulated";

const rootMeanSquare = (values: Float32Array): number =>
  Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);

for (const device of TEST_DEVICES) {
  for (const [name, run] of Object.entries(RUNS)) {
    Deno.test(`${name} in bf16 is that in fp32, rounded once (${device.name})`, () => {
      const opened = device.open();
      const { variant } = opened.info();
      const multipliesBf16 = /bf16|amx/.test(variant);
      // Sums may be taken in another order, which moves a result across the middle between two bf16 now and then.
      const relative = onCuda(variant) && name.startsWith("classifier")
        ? 2 ** -4
        : ROUNDED_BETWEEN.has(name) || multipliesBf16 && ROUNDED_BY_BF16_PRODUCTS.has(name)
        ? 2 ** -7
        : 1e-5;
      const [wide, narrow] = (["fp32", "bf16"] as const).map((dtype) =>
        run(opened.ops, maker(opened, dtype))
      );
      narrow!.forEach((tensor, index) => {
        const expected = float32(wide![index]!);
        const rounded = new Uint16Array(expected.length);
        fp32ToBf16(rounded, expected);
        const values = widened(tensor);
        const floor = relative * rootMeanSquare(expected);
        const ulp = tensor.dtype === "bf16" ? 2 ** -7 : 0;
        values.forEach((value, i) => {
          const about = Math.abs(expected[i]!);
          assertAlmostEquals(value, expected[i]!, (ulp + relative) * about + floor, `output ${index}[${i}]`);
        });
        if (tensor.dtype !== "bf16" || relative > 1e-5) return;
        const different = bits(tensor).filter((value, i) => value !== rounded[i]).length;
        assert(different <= expected.length / 20, `output ${index}: ${different} differ`);
      });
    });
  }

  Deno.test(`matmulGelu gives, to the bit, the GELU of what it stores before it (${device.name})`, () => {
    const { ops } = device.open();
    for (const dtype of ["fp32", "bf16"] as const) {
      const make = maker(device.open(), dtype);
      for (const [N, C, OC] of [[19, 65, 35], [300, 801, 1601]] as const) {
        const [out, pre, again] = [make.normal(N, OC), make.normal(N, OC), make.normal(N, OC)];
        ops.matmulGelu(out, pre, make.normal(N, C), make.normal(OC, C), make.normal(OC));
        ops.gelu(again, pre);
        const [found, expected] = [hostBytes(out), hostBytes(again)];
        assert(found.every((byte, i) => byte === expected[i]), `${dtype}, OC=${OC}`);
      }
    }
  });

  Deno.test(`residualLayernorm normalises the sum that it stores in bf16 (${device.name})`, () => {
    const opened = device.open();
    const make = maker(opened, "bf16");
    const [sum, out, again] = [make.normal(7, 33), make.normal(7, 33), make.normal(7, 33)];
    const [weight, bias, a, b] = [make.normal(33), make.normal(33), make.normal(7, 33), make.normal(7, 33)];
    opened.ops.residualLayernorm(sum, out, null, null, a, b, weight, bias);
    opened.ops.layernorm(again, null, null, sum, weight, bias);
    assertEquals(bits(out), bits(again));
  });

  Deno.test(`convert rounds every number as src/bfloat16.ts does (${device.name})`, () => {
    const opened = device.open();
    // Each bf16, the fp32 numbers next to it, those next to the middle to the next one, and the middle.
    const pattern = Uint32Array.from({ length: 65536 * 6 }, (_, i) => {
      const low = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff][i % 6]!;
      return ((Math.floor(i / 6) << 16) | low) >>> 0;
    });
    const wide = opened.tensor("fp32", [pattern.length]);
    words(wide).set(pattern);
    const narrow = opened.tensor("bf16", [pattern.length]);
    opened.ops.convert(narrow, wide);
    const expected = new Uint16Array(pattern.length);
    fp32ToBf16(expected, float32(wide));
    if (onCuda(opened.info().variant)) {
      expected.forEach((value, i) => expected[i] = (value & 0x7fff) > 0x7f80 ? 0x7fff : value);
    }
    assertEquals(bits(narrow).findIndex((value, i) => value !== expected[i]), -1);
    const back = opened.tensor("fp32", [pattern.length]);
    opened.ops.convert(back, narrow);
    assert(words(back).every((word, i) => word === expected[i]! << 16 >>> 0));
  });

  Deno.test(`adamw rounds bf16 parameters from the master copy (${device.name})`, () => {
    const opened = device.open();
    const n = 5003;
    const constants = {
      learningRate: 1e-2,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: 0.1,
      gradScale: 0.5,
    };
    const segments = BigInt64Array.of(0n, 3001n, 1n, 3010n, BigInt(n - 3010), 0n);
    const make = maker(opened, "fp32");
    const [params, master, grads] = [make.normal(n), make.fp32(n), make.normal(n)];
    float32(master).set(float32(params));
    const narrow = opened.tensor("bf16", [n]);
    opened.ops.convert(narrow, master);
    const moments = Array.from({ length: 4 }, () => make.fp32(n)) as [Tensor, Tensor, Tensor, Tensor];
    for (let step = 1; step <= 3; step++) {
      opened.ops.adamw(params, null, grads, moments[0], moments[1], segments, { ...constants, step });
      opened.ops.adamw(narrow, master, grads, moments[2], moments[3], segments, { ...constants, step });
    }
    assertEquals(float32(master), float32(params));
    assertEquals(float32(moments[3]), float32(moments[1]));
    const rounded = opened.tensor("bf16", [n]);
    opened.ops.convert(rounded, master);
    assertEquals(bits(narrow), bits(rounded));
  });

  Deno.test(`adamw without a master copy rounds to either neighbour and keeps the mean (${device.name})`, () => {
    const opened = device.open();
    const n = 40_000;
    const constants = {
      learningRate: 1e-3,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: 0,
      gradScale: 1,
    };
    const run = (seed: number, steps = 1): Tensor => {
      const [params, grads] = [opened.tensor("bf16", [n]), opened.tensor("fp32", [n])];
      bits(params).fill(0x3f80); // 1
      float32(grads).fill(1);
      const [m, v] = [opened.tensor("fp32", [n]), opened.tensor("fp32", [n])];
      const segments = BigInt64Array.of(0n, BigInt(n), 1n);
      for (let step = 1; step <= steps; step++) {
        opened.ops.adamw(params, null, grads, m, v, segments, { ...constants, step, seed });
      }
      return params;
    };
    // AdamW's first step is the learning rate: 0.999, between 1 and the bf16 below it, 1 - 2^-8.
    const values = widened(run(7));
    assertEquals([...new Set(values)].sort(), [1 - 2 ** -8, 1]);
    // Each step adds a deviation of at most half the spacing; with the gradient constant, each is the learning rate.
    for (const steps of [1, 50]) {
      const mean = widened(run(7, steps)).reduce((sum, value) => sum + value, 0) / n;
      assertAlmostEquals(mean, 1 - 1e-3 * steps, 4 * 2 ** -9 * Math.sqrt(steps / n), `${steps} steps`);
    }
    assertEquals(bits(run(7)), bits(run(7)));
    assert(bits(run(8)).some((value, i) => value !== bits(run(7))[i]));
  });

  Deno.test(`adamw without a master copy rounds anew at each step (${device.name})`, () => {
    const opened = device.open();
    const n = 1000;
    // Without momentum each step makes the same of the same parameters and gradients.
    const constants = { learningRate: 1e-3, beta1: 0, beta2: 0, eps: 1e-8, weightDecay: 0, gradScale: 1 };
    const [first, second] = [1, 2].map((step) => {
      const [params, grads] = [opened.tensor("bf16", [n]), opened.tensor("fp32", [n])];
      bits(params).fill(0x3f80); // 1
      float32(grads).fill(1);
      const [m, v] = [opened.tensor("fp32", [n]), opened.tensor("fp32", [n])];
      const segments = BigInt64Array.of(0n, BigInt(n), 1n);
      opened.ops.adamw(params, null, grads, m, v, segments, { ...constants, step, seed: 7 });
      return bits(params);
    });
    assertEquals(new Set(second), new Set([0x3f7f, 0x3f80]));
    assert(first!.some((value, i) => value !== second![i]));
  });

  Deno.test(`adamw without a master copy keeps NaN and infinity (${device.name})`, () => {
    const opened = device.open();
    const n = 1024;
    const [params, grads] = [opened.tensor("bf16", [n]), opened.tensor("fp32", [n])];
    const [m, v] = [opened.tensor("fp32", [n]), opened.tensor("fp32", [n])];
    // Infinities as parameters; gradients that are NaN with all bits set, to which nothing can be added.
    const kinds = [0x7f80, 0xff80, 0x7fff, 0xffff];
    bits(params).forEach((_, i, all) => all[i] = i % 4 < 2 ? kinds[i % 4]! : 0x3f80);
    words(grads).forEach((_, i, all) => all[i] = i % 4 < 2 ? 0 : (kinds[i % 4]! << 16 | 0xffff) >>> 0);
    opened.ops.adamw(params, null, grads, m, v, BigInt64Array.of(0n, BigInt(n), 0n), {
      ...{ learningRate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, gradScale: 1 },
      ...{ step: 1, seed: 5 },
    });
    const values = widened(params);
    const expected = Float32Array.from({ length: n }, (_, i) => [Infinity, -Infinity, NaN, NaN][i % 4]!);
    assertEquals(values, expected);
  });
}

Deno.test("stochastic rounding does not depend on the number of threads", () => {
  const results = TEST_DEVICES.map((device) => {
    const opened = device.open();
    const n = 300_000;
    const make = maker(opened, "bf16");
    const [params, m, v, grads] = [make.normal(n), make.fp32(n), make.fp32(n), make.fp32(n)];
    float32(grads).fill(0.5);
    opened.ops.adamw(params, null, grads, m, v, BigInt64Array.of(0n, BigInt(n), 1n), {
      ...{
        learningRate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weightDecay: 0,
        gradScale: 1,
        step: 1,
        seed: 3,
      },
    });
    return bits(params);
  });
  for (const result of results) assertEquals(result, results[0]);
});
