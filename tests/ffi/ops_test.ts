import { assertAlmostEquals } from "@std/assert";
import type { Ops } from "../../ffi/ops.ts";
import { elements, float32, rows, type Tensor, tensorAt } from "../../ffi/tensor.ts";
import { TEST_DEVICES } from "../devices.ts";
import { fixtureCases } from "../fixtures.ts";
import { assertClose, assertDirectional, type OpCase, opCase } from "./op_case.ts";

/** An op family: what to run on a case of its fixture, and which gradients central differences must agree with. */
interface Family {
  readonly tolerance: number;
  readonly floor?: number;
  run(ops: Ops, t: OpCase): void;
  /** For the gradient check: the output whose sum, weighted with `dout`, is differentiated … */
  readonly forward?: (ops: Ops, out: Tensor, x: Readonly<Record<string, Tensor>>, t: OpCase) => void;
  readonly out?: string;
  /** … and by which inputs, with the names of their gradients. */
  readonly gradients?: Readonly<Record<string, string>>;
}

const FAMILIES: Readonly<Record<string, Family>> = {
  embedding: {
    tolerance: 1e-6,
    run(ops, t): void {
      ops.embedding(t.out("out"), t.in("tokens"), t.in("wte"), t.in("wpe"), t.dim("V"), t.dim("position"));
      if (t.dim("position") > 0) return;
      ops.embeddingBackward(t.add("dwte"), t.add("dwpe"), t.in("dout"), t.in("tokens"), t.dim("V"));
    },
    forward: (ops, out, { wte, wpe }, t) => ops.embedding(out, t.in("tokens"), wte!, wpe!, t.dim("V")),
    gradients: { wte: "dwte", wpe: "dwpe" },
  },
  layernorm: {
    tolerance: 2e-5,
    floor: 1, // with one channel dx is 0, the difference of equal terms
    run(ops, t): void {
      const [x, weight, bias, dout] = [t.in("x"), t.in("weight"), t.in("bias"), t.in("dout")];
      const [mean, rstd] = [t.out("mean"), t.out("rstd")];
      ops.layernorm(t.out("out"), mean, rstd, x, weight, bias);
      // deno-fmt-ignore
      ops.layernormBackward(t.out("dx"), t.add("dweight"), t.add("dbias"), dout, null, x, mean, rstd, weight);
      t.check(this.tolerance, this.floor);
      ops.residualLayernorm(t.out("x"), t.out("out"), mean, rstd, t.in("a"), t.in("b"), weight, bias);
      // The gradient of the residual stream is updated in place.
      const dresidual = t.out("dx_plus_dresidual");
      float32(dresidual).set(float32(t.in("dresidual")));
      // deno-fmt-ignore
      ops.layernormBackward(dresidual, t.add("dweight"), t.add("dbias"), dout, dresidual, x, mean, rstd, weight);
    },
    forward: (ops, out, { x, weight, bias }) => ops.layernorm(out, null, null, x!, weight!, bias!),
    gradients: { x: "dx", weight: "dweight", bias: "dbias" },
  },
  matmul: {
    tolerance: 1e-5,
    run(ops, t): void {
      const [x, weight, bias, dout] = [t.in("x"), t.in("weight"), t.in("bias"), t.in("dout")];
      ops.matmul(t.out("out"), x, weight, bias);
      ops.matmul(t.out("out_no_bias"), x, weight, null);
      t.check(this.tolerance, this.floor);
      ops.matmulGelu(t.out("out_gelu"), t.out("out"), x, weight, bias);
      ops.matmulDinput(t.out("dx"), dout, weight);
      ops.matmulDinput(t.out("dx_gelu"), dout, weight, t.in("pre_input"));
      ops.matmulDweight(t.add("dweight"), dout, x);
      ops.matmulDbias(t.add("dbias"), dout);
    },
    forward: (ops, out, { x, weight, bias }) => ops.matmul(out, x!, weight!, bias!),
    gradients: { x: "dx", weight: "dweight", bias: "dbias" },
  },
  attention: {
    tolerance: 1e-4, // a score of several hundred has an ulp of 3e-5, which exp makes a relative error

    run(ops, t): void {
      const [out, lse] = [t.out("out"), t.out("lse")];
      ops.attention(out, lse, t.in("qkv"), t.dim("NH"));
      ops.attentionBackward(t.out("dqkv"), t.in("dout"), out, lse, t.in("qkv"), t.dim("NH"));
    },
    forward: (ops, out, { qkv }, t) => ops.attention(out, null, qkv!, t.dim("NH")),
    gradients: { qkv: "dqkv" },
  },
  gelu: {
    tolerance: 2e-6,
    run(ops, t): void {
      ops.gelu(t.out("out"), t.in("x"));
      ops.geluBackward(t.out("dx"), t.in("dout"), t.in("x"));
    },
    forward: (ops, out, { x }) => ops.gelu(out, x!),
    gradients: { x: "dx" },
  },
  residual: {
    tolerance: 1e-7,
    run(ops, t): void {
      ops.residual(t.out("out"), t.in("a"), t.in("b"));
    },
  },
  classifier: {
    tolerance: 1e-5,
    run(ops, t): void {
      const [x, wte, targets, V] = [t.in("x"), t.in("wte"), t.in("targets"), t.dim("V")];
      ops.classifier(t.out("losses"), null, null, x, wte, targets, V, 0);
      t.check(this.tolerance, this.floor);
      ops.classifier(t.out("losses"), t.out("dx"), t.add("dwte"), x, wte, targets, V, t.dim("scale"));
    },
    out: "losses",
    forward: (ops, losses, { x, wte }, t) =>
      ops.classifier(losses, null, null, x!, wte!, t.in("targets"), t.dim("V"), 0),
    gradients: { x: "dx", wte: "dwte" },
  },
};

for (const device of TEST_DEVICES) {
  for (const [name, family] of Object.entries(FAMILIES)) {
    Deno.test(`${name} agrees with PyTorch, forward and backward (${device.name})`, () => {
      const opened = device.open();
      for (const fixture of fixtureCases(name)) {
        const t = opCase(opened, fixture);
        family.run(opened.ops, t);
        t.check(family.tolerance, family.floor);
      }
    });

    const { forward, gradients, out: outName = "out" } = family;
    if (forward === undefined || gradients === undefined) continue;
    Deno.test(`${name}'s gradients agree with finite differences (${device.name})`, () => {
      const opened = device.open();
      for (const fixture of fixtureCases(name)) {
        if (/large scores|special values|logits 0/.test(fixture.name)) continue; // not smooth at the step's scale
        if (!fixture.tensors.includes(Object.values(gradients)[0]!)) continue;
        const t = opCase(opened, fixture);
        family.run(opened.ops, t);
        const inputs = Object.fromEntries(Object.keys(gradients).map((input) => [input, t.in(input)]));
        const out = t.scratch(fixture.shape(outName));
        const dout = fixture.tensors.includes("dout") ? fixture.floats("dout") : undefined;
        const f = (): number => {
          forward(opened.ops, out, inputs, t);
          return float32(out).reduce((sum, value, i) => sum + value * (dout?.[i] ?? fixture.dim("scale")), 0);
        };
        for (const [input, gradient] of Object.entries(gradients)) {
          const added = fixture.shape(gradient).length > 0 && !gradient.startsWith("dx") &&
            gradient !== "dqkv";
          const start = added ? fixture.dim("start") : 0;
          const found = float32(t.in(gradient)).map((value) => value - start);
          assertDirectional(inputs[input]!, found, f, `${fixture.name}: ${gradient}`);
        }
      }
    });
  }

  Deno.test(`attentionCached equals attention however the sequence is cut (${device.name})`, () => {
    const opened = device.open();
    for (const fixture of fixtureCases("attention")) {
      const [B, T, C, NH] = ["B", "T", "C", "NH"].map((name) => fixture.dim(name)) as [
        number,
        number,
        number,
        number,
      ];
      const maxT = T + 3;
      for (const cut of [1, 2, 7, T]) {
        const t = opCase(opened, fixture);
        const qkv = float32(t.in("qkv"));
        const expected = float32(t.out("out"));
        const cache = [B, NH, maxT, C / NH];
        const [keys, values] = [t.scratch(cache), t.scratch(cache)];
        for (let position = 0; position < T; position += cut) {
          const count = Math.min(cut, T - position);
          const [part, out] = [t.scratch([B, count, 3 * C]), t.scratch([B, count, C])];
          for (let b = 0; b < B; b++) {
            const from = (b * T + position) * 3 * C;
            float32(part).set(qkv.subarray(from, from + count * 3 * C), b * count * 3 * C);
          }
          opened.ops.attentionCached(out, keys, values, part, position);
          for (let b = 0; b < B; b++) {
            const row = float32(out).subarray(b * count * C, (b + 1) * count * C);
            expected.set(row, (b * T + position) * C);
          }
        }
        t.check(2e-5);
      }
    }
  });

  Deno.test(`layernorm of rows far from 0 keeps their deviations (${device.name})`, () => {
    const opened = device.open();
    const [N, C] = [5, 129];
    const vector = (...shape: number[]): Tensor => opened.tensor("fp32", shape);
    const [x, a, b, weight, bias] = [vector(N, C), vector(N, C), vector(N, C), vector(C), vector(C)];
    float32(a).forEach((_, i, values) => values[i] = 1000 * (i % 2)); // 1000 in all: x = a + b
    float32(x).forEach((_, i, values) => values[i] = 1000 + Math.sin(i * i));
    float32(b).forEach((_, i, values) => values[i] = float32(x)[i]! - float32(a)[i]!);
    float32(weight).fill(1);
    const [sum, out, mean, rstd] = [vector(N, C), vector(N, C), vector(N), vector(N)];
    const check = (what: string): void => {
      const expected = { out: new Float64Array(N * C), mean: new Float64Array(N), rstd: new Float64Array(N) };
      for (let n = 0; n < N; n++) {
        const row = Float64Array.from(float32(x).subarray(n * C, (n + 1) * C));
        expected.mean[n] = row.reduce((sum, value) => sum + value, 0) / C;
        const deviations = row.map((value) => value - expected.mean[n]!);
        const variance = deviations.reduce((sum, value) => sum + value * value, 0) / C;
        expected.rstd[n] = 1 / Math.sqrt(variance + 1e-5);
        expected.out.set(deviations.map((value) => value * expected.rstd[n]!), n * C);
      }
      // The mean is rounded to fp32, in steps of 6e-5 up here.
      assertClose(float32(mean), expected.mean, 1e-6, `mean of ${what}`);
      assertClose(float32(rstd), expected.rstd, 1e-5, `rstd of ${what}`);
      assertClose(float32(out), expected.out, 2e-3, `out of ${what}`);
    };
    opened.ops.layernorm(out, mean, rstd, x, weight, bias);
    check("layernorm");
    for (const tensor of [out, mean, rstd]) float32(tensor).fill(NaN);
    opened.ops.residualLayernorm(sum, out, mean, rstd, a, b, weight, bias);
    assertClose(float32(sum), float32(x), 1e-7, "residual");
    check("residualLayernorm");
  });

  Deno.test(`the derivative of GELU far from 0 is 1 or 0 (${device.name})`, () => {
    const { tensor, ops } = device.open();
    const sizes = [17, 1e3, 1e7, 1e13, 1e20, 3e38]; // the square of 1e20 is infinite, as the cube of 1e13 is
    const x = tensor("fp32", [sizes.length, 2]);
    float32(x).set(sizes.flatMap((size) => [size, -size]));
    const expected = Float32Array.from({ length: elements(x.shape) }, (_, i) => i % 2 === 0 ? 1 : 0);
    const [dx, dout] = [tensor("fp32", x.shape), tensor("fp32", x.shape)];
    float32(dout).fill(1);
    ops.geluBackward(dx, dout, x);
    assertClose(float32(dx), expected, 1e-6, "geluBackward");
    const [ones, weight] = [tensor("fp32", [sizes.length, 1]), tensor("fp32", [1, 2])];
    for (const factor of [ones, weight]) float32(factor).fill(1);
    float32(dx).fill(NaN);
    ops.matmulDinput(dx, ones, weight, x);
    assertClose(float32(dx), expected, 1e-6, "matmulDinput");
  });

  Deno.test(`globalNorm agrees with PyTorch (${device.name})`, () => {
    const opened = device.open();
    for (const fixture of fixtureCases("global_norm")) {
      const norm = fixture.dim("norm");
      assertAlmostEquals(
        opened.ops.globalNorm(opCase(opened, fixture).in("grads")),
        norm,
        1e-12 * norm,
        fixture.name,
      );
    }
  });

  Deno.test(`adamw agrees with PyTorch over several steps (${device.name})`, () => {
    const opened = device.open();
    for (const fixture of fixtureCases("adamw")) {
      const [n, steps] = [fixture.dim("n"), fixture.dim("steps")];
      const t = opCase(opened, fixture);
      const [params, m, v, grads] = [t.out("params"), t.out("m"), t.out("v"), t.in("grads")];
      const segments = BigInt64Array.from(fixture.ints("segments"), BigInt);
      const row = (tensor: Tensor, step: number): Tensor => {
        const { memory, shape } = rows(tensor, step, step + 1);
        return tensorAt(memory, 0, "fp32", [shape[1]!]);
      };
      for (let step = 0; step < steps; step++) {
        // Each step goes on from what the kernel itself made of the one before.
        float32(row(params, step)).set(step === 0 ? fixture.floats("start") : float32(row(params, step - 1)));
        for (const moment of [m, v]) {
          float32(row(moment, step)).set(step === 0 ? new Float32Array(n) : float32(row(moment, step - 1)));
        }
        opened.ops.adamw(row(params, step), null, row(grads, step), row(m, step), row(v, step), segments, {
          learningRate: fixture.dim("learning_rate"),
          beta1: fixture.dim("beta1"),
          beta2: fixture.dim("beta2"),
          eps: fixture.dim("eps"),
          weightDecay: fixture.dim("weight_decay"),
          gradScale: fixture.dim("grad_scale"),
          step: step + 1,
        });
      }
      t.check(1e-5);
    }
  });
}
