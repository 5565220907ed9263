/**
 * Shapes larger than every block and chunk of the kernels, and not multiples of them, against the plainest loops in
 * double precision.
 */
import { assertAlmostEquals } from "@std/assert";
import { float32, int32, type Tensor } from "../../ffi/tensor.ts";
import { TEST_DEVICES } from "../devices.ts";
import { assertClose, normalTensors } from "./op_case.ts";

/** Element (row, column) of a row-major matrix. */
type Matrix = (row: number, column: number) => number;

function matrix(tensor: Tensor, columns: number): Matrix {
  const values = float32(tensor);
  return (row, column) => values[row * columns + column]!;
}

/** The (rows, columns) matrix whose elements are sums of `count` products. */
function product(rows: number, columns: number, count: number, a: Matrix, b: Matrix): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let k = 0; k < count; k++) sum += a(i, k) * b(k, j);
      out[i * columns + j] = sum;
    }
  }
  return out;
}

const transposed = (m: Matrix): Matrix => (row, column) => m(column, row);

const computed = new Map<string, unknown>();

/** What plain loops compute in the test of that name, once for all devices: their inputs are the same. */
function once<Result>(test: string, compute: () => Result): Result {
  if (!computed.has(test)) computed.set(test, compute());
  return computed.get(test) as Result;
}

const cubic = (x: number): number => Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
const gelu = (x: number): number => x / 2 * (1 + Math.tanh(cubic(x)));
const geluDerivative = (x: number): number => {
  const tanh = Math.tanh(cubic(x));
  return (1 + tanh) / 2 + x / 2 * (1 - tanh ** 2) * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x ** 2);
};

/** B, T, NH and HS: heads narrower and wider than a block of 64 keys; with one head there are more threads than heads. */
const ATTENTION_SHAPES = [[2, 300, 2, 40], [1, 330, 1, 72]] as const;

/** Attention of qkv (B,T,3C), and what of dout (B,T,C) reaches it. */
function attention(
  [B, T, NH, HS]: typeof ATTENTION_SHAPES[number],
  qkv: Float32Array,
  dout: Float32Array,
): { out: Float64Array; dqkv: Float64Array } {
  const C = NH * HS;
  const [out, dqkv] = [new Float64Array(B * T * C), new Float64Array(B * T * 3 * C)];
  const dot = (f: (i: number) => number): number => {
    let sum = 0;
    for (let i = 0; i < HS; i++) sum += f(i);
    return sum;
  };
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < NH; h++) {
      const at = (part: number, t: number, i: number): number => (b * T + t) * 3 * C + part * C + h * HS + i;
      const outAt = (t: number, i: number): number => (b * T + t) * C + h * HS + i;
      for (let t = 0; t < T; t++) {
        const scores = Array.from(
          { length: t + 1 },
          (_, s) => dot((i) => qkv[at(0, t, i)]! * qkv[at(1, s, i)]!) / Math.sqrt(HS),
        );
        const greatest = Math.max(...scores);
        const total = scores.reduce((sum, score) => sum + Math.exp(score - greatest), 0);
        const p = scores.map((score) => Math.exp(score - greatest) / total);
        const dp = p.map((_, s) => dot((i) => dout[outAt(t, i)]! * qkv[at(2, s, i)]!));
        const mean = p.reduce((sum, value, s) => sum + value * dp[s]!, 0);
        for (let s = 0; s <= t; s++) {
          const dscore = p[s]! * (dp[s]! - mean) / Math.sqrt(HS);
          for (let i = 0; i < HS; i++) {
            out[outAt(t, i)]! += p[s]! * qkv[at(2, s, i)]!;
            dqkv[at(0, t, i)]! += dscore * qkv[at(1, s, i)]!;
            dqkv[at(1, s, i)]! += dscore * qkv[at(0, t, i)]!;
            dqkv[at(2, s, i)]! += p[s]! * dout[outAt(t, i)]!;
          }
        }
      }
    }
  }
  return { out, dqkv };
}

for (const device of TEST_DEVICES) {
  for (
    const [N, C, OC] of [[67, 1601, 131], [301, 33, 97], [1, 771, 1030], [5, 64, 1153], [
      530,
      50,
      49,
    ]] as const
  ) {
    Deno.test(`matmul of N ${N}, C ${C}, OC ${OC} equals plain loops (${device.name})`, () => {
      const opened = device.open();
      const { ops } = opened;
      const normal = normalTensors(opened, 1);
      const [x, weight, dout] = [normal(N, C), normal(OC, C), normal(N, OC)];
      const [X, W, D] = [matrix(x, C), matrix(weight, C), matrix(dout, OC)];
      const [out, dx, dweight] = [normal(N, OC), normal(N, C), normal(OC, C)];
      const before = float32(dweight).slice();
      ops.matmul(out, x, weight, null);
      ops.matmulDinput(dx, dout, weight);
      ops.matmulDweight(dweight, dout, x);
      const expected = once(`matmul ${N} ${C} ${OC}`, () => ({
        out: product(N, OC, C, X, transposed(W)),
        dx: product(N, C, OC, D, W),
        dweight: product(OC, C, N, transposed(D), X).map((value, i) => value + before[i]!),
      }));
      assertClose(float32(out), expected.out, 1e-5, "out");
      assertClose(float32(dx), expected.dx, 1e-5, "dx");
      assertClose(float32(dweight), expected.dweight, 1e-5, "dweight");
    });
  }

  Deno.test(`bias, GELU and its derivative over many rows equal plain loops (${device.name})`, () => {
    const opened = device.open();
    const [N, C, OC] = [2100, 3, 5]; // too little for a second thread: one goes through all the rows
    const normal = normalTensors(opened, 6);
    const [x, weight, bias, dout, before] = [
      normal(N, C),
      normal(OC, C),
      normal(OC),
      normal(N, OC),
      normal(N, C),
    ];
    const [plain, pre, activated, dx] = [normal(N, OC), normal(N, OC), normal(N, OC), normal(N, C)];
    opened.ops.matmul(plain, x, weight, bias);
    opened.ops.matmulGelu(activated, pre, x, weight, bias);
    opened.ops.matmulDinput(dx, dout, weight, before);
    const W = matrix(weight, C);
    const sums = product(N, OC, C, matrix(x, C), transposed(W));
    const expected = sums.map((sum, i) => sum + float32(bias)[i % OC]!);
    const gradient = product(N, C, OC, matrix(dout, OC), W);
    const throughGelu = gradient.map((value, i) => value * geluDerivative(float32(before)[i]!));
    assertClose(float32(plain), expected, 1e-5, "out");
    assertClose(float32(pre), expected, 1e-5, "pre");
    assertClose(float32(activated), expected.map(gelu), 1e-5, "gelu");
    assertClose(float32(dx), throughGelu, 1e-5, "dx");
  });

  for (const shape of ATTENTION_SHAPES) {
    const [B, T, NH, HS] = shape;
    const C = NH * HS;
    const of = `of B ${B}, T ${T}, NH ${NH}, HS ${HS}`;

    Deno.test(`attention ${of} equals plain loops (${device.name})`, () => {
      const opened = device.open();
      const normal = normalTensors(opened, 2);
      const [qkv, dout] = [normal(B, T, 3 * C), normal(B, T, C)];
      const [out, lse, dqkv] = [normal(B, T, C), normal(B, NH, T), normal(B, T, 3 * C)];
      opened.ops.attention(out, lse, qkv, NH);
      opened.ops.attentionBackward(dqkv, dout, out, lse, qkv, NH);
      const expected = once(`attention ${of}`, () => attention(shape, float32(qkv), float32(dout)));
      assertClose(float32(out), expected.out, 2e-5, "out");
      assertClose(float32(dqkv), expected.dqkv, 5e-5, "dqkv");
    });

    Deno.test(`attentionCached ${of} equals plain loops, at multiples of a block too (${device.name})`, () => {
      const opened = device.open();
      const normal = normalTensors(opened, 2);
      const [qkv, dout] = [normal(B, T, 3 * C), normal(B, T, C)];
      const expected = once(`attention ${of}`, () => attention(shape, float32(qkv), float32(dout)));
      const [keys, values] = [normal(B, NH, T, HS), normal(B, NH, T, HS)];
      const found = new Float32Array(B * T * C);
      let position = 0;
      for (const count of [64, 5, 59, 1, 1, 62, 100, T - 292]) { // from 0, 64, 69, 128, 129, 130, 192 and 292 on
        const [part, out] = [normal(B, count, 3 * C), normal(B, count, C)];
        for (let b = 0; b < B; b++) {
          const from = (b * T + position) * 3 * C;
          float32(part).set(float32(qkv).subarray(from, from + count * 3 * C), b * count * 3 * C);
        }
        opened.ops.attentionCached(out, keys, values, part, position);
        for (let b = 0; b < B; b++) {
          found.set(float32(out).subarray(b * count * C, (b + 1) * count * C), (b * T + position) * C);
        }
        position += count;
      }
      assertClose(found, expected.out, 2e-5, "out");
    });
  }

  Deno.test(`classifier over many rows and a large vocabulary equals plain loops (${device.name})`, () => {
    const opened = device.open();
    const [N, C, V, Vp] = [531, 9, 1000, 1024];
    const normal = normalTensors(opened, 3);
    const [x, wte, dx, dwte] = [normal(N, C), normal(Vp, C), normal(N, C), normal(Vp, C)];
    const before = float32(dwte).slice();
    const [losses, targets] = [opened.tensor("fp32", [N]), opened.tensor("int32", [N])];
    for (let n = 0; n < N; n++) int32(targets)[n] = n % 7 === 3 ? -1 : (n * 31) % V;
    const scale = 1 / 64;
    opened.ops.classifier(losses, dx, dwte, x, wte, targets, V, scale);

    const expected = once("classifier", () => {
      const W = matrix(wte, C);
      const logits = product(N, V, C, matrix(x, C), transposed(W));
      const losses = new Float64Array(N);
      const dlogits = logits.map((_, index) => {
        const [n, v] = [Math.floor(index / V), index % V];
        const target = int32(targets)[n]!;
        if (target < 0) return 0;
        const row = logits.subarray(n * V, (n + 1) * V);
        if (v === 0) {
          const greatest = row.reduce((a, b) => Math.max(a, b));
          const total = row.reduce((sum, logit) => sum + Math.exp(logit - greatest), 0);
          losses[n] = greatest + Math.log(total) - row[target]!;
        }
        return scale * (Math.exp(row[v]! - row[target]! - losses[n]!) - (v === target ? 1 : 0));
      });
      const Dl: Matrix = (n, v) => dlogits[n * V + v]!;
      const sums = product(V, C, N, transposed(Dl), matrix(x, C));
      return {
        losses,
        dx: product(N, C, V, Dl, W),
        dwte: before.map((value, i) => value + (sums[i] ?? 0)),
      };
    });
    assertClose(float32(losses), expected.losses, 1e-5, "losses");
    assertClose(float32(dx), expected.dx, 2e-5, "dx");
    assertClose(float32(dwte), expected.dwte, 2e-5, "dwte");
  });

  Deno.test(`row and element-wise ops over many rows equal plain loops (${device.name})`, () => {
    const opened = device.open();
    const { ops } = opened;
    const [N, C] = [4099, 70];
    const normal = normalTensors(opened, 4);
    const [x, dout, weight, bias] = [normal(N, C), normal(N, C), normal(C), normal(C)];
    const [out, mean, rstd, dx] = [normal(N, C), normal(N), normal(N), normal(N, C)];
    const [dweight, dbias, dcolumns] = [
      opened.tensor("fp32", [C]),
      opened.tensor("fp32", [C]),
      opened.tensor("fp32", [C]),
    ];
    ops.layernorm(out, mean, rstd, x, weight, bias);
    ops.layernormBackward(dx, dweight, dbias, dout, null, x, mean, rstd, weight);
    ops.matmulDbias(dcolumns, dout);
    const expected = { dweight: new Float64Array(C), dbias: new Float64Array(C) };
    const [X, D] = [float32(x), float32(dout)];
    for (let n = 0; n < N; n++) {
      const row = X.subarray(n * C, (n + 1) * C);
      const average = row.reduce((sum, value) => sum + value, 0) / C;
      const variance = row.reduce((sum, value) => sum + (value - average) ** 2, 0) / C;
      for (let c = 0; c < C; c++) {
        expected.dweight[c]! += D[n * C + c]! * (row[c]! - average) / Math.sqrt(variance + 1e-5);
        expected.dbias[c]! += D[n * C + c]!;
      }
    }
    assertClose(float32(dweight), expected.dweight, 2e-5, "dweight");
    assertClose(float32(dbias), expected.dbias, 2e-5, "dbias");
    assertClose(float32(dcolumns), expected.dbias, 2e-5, "dbias of matmul");
    ops.gelu(out, x);
    assertClose(float32(out), Float64Array.from(X, gelu), 2e-6, "gelu");
    const norm = Math.sqrt(X.reduce((sum, value) => sum + value * value, 0));
    assertAlmostEquals(ops.globalNorm(x), norm, 1e-9 * norm);
  });

  Deno.test(`embeddingBackward sums a token that comes often (${device.name})`, () => {
    const opened = device.open();
    const [B, T, C, V] = [9, 517, 5, 11];
    const dout = normalTensors(opened, 5)(B, T, C);
    const tokens = opened.tensor("int32", [B, T]);
    int32(tokens).forEach((_, i, ids) => ids[i] = i % 3 === 0 ? 7 : i % V);
    const [dwte, dwpe] = [opened.tensor("fp32", [V, C]), opened.tensor("fp32", [T, C])];
    opened.ops.embeddingBackward(dwte, dwpe, dout, tokens, V);
    const expected = { dwte: new Float64Array(V * C), dwpe: new Float64Array(T * C) };
    float32(dout).forEach((value, i) => {
      const [row, c] = [Math.floor(i / C), i % C];
      expected.dwte[int32(tokens)[row]! * C + c]! += value;
      expected.dwpe[(row % T) * C + c]! += value;
    });
    assertClose(float32(dwte), expected.dwte, 1e-5, "dwte");
    assertClose(float32(dwpe), expected.dwpe, 1e-5, "dwpe");
  });
}
