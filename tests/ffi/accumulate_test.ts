/**
 * Gradients of parameters: added to what is there, or stored over it, as the first of a batch's micro-steps does.
 */
import { assertEquals, assertThrows } from "@std/assert";
import { type Device, openDevice } from "../../ffi/device.ts";
import { KernelError } from "../../ffi/library.ts";
import type { Ops } from "../../ffi/ops.ts";
import { float32, int32, type Tensor } from "../../ffi/tensor.ts";
import { Random } from "../../src/random.ts";
import { TEST_DEVICES } from "../devices.ts";
import { assertClose } from "./op_case.ts";

/** Tensors of one run, the same at each. */
interface Maker {
  normal(...shape: number[]): Tensor;
  ids(limit: number, ...shape: number[]): Tensor;
}

function maker(device: Device): Maker {
  const random = new Random(5);
  return {
    normal(...shape): Tensor {
      const tensor = device.tensor("fp32", shape);
      random.normal(float32(tensor));
      return tensor;
    },
    ids(limit, ...shape): Tensor {
      const tensor = device.tensor("int32", shape);
      int32(tensor).forEach((_, i, ids) => ids[i] = random.randint32() % limit);
      return tensor;
    },
  };
}

/** Shapes of the gradients, and the op that makes them. */
interface Family {
  readonly gradients: readonly (readonly number[])[];
  run(ops: Ops, make: Maker, gradients: readonly Tensor[], accumulate: boolean): void;
}

/** Sizes are odd, and above what a thread, a vector, a tile or a chunk takes. */
const FAMILIES: Readonly<Record<string, Family>> = {
  matmulDweight: {
    gradients: [[65, 131]],
    run: (ops, make, [dweight], accumulate) =>
      ops.matmulDweight(dweight!, make.normal(301, 65), make.normal(301, 131), accumulate),
  },
  "matmulDweight of one output channel": {
    gradients: [[1, 131]],
    run: (ops, make, [dweight], accumulate) =>
      ops.matmulDweight(dweight!, make.normal(7, 1), make.normal(7, 131), accumulate),
  },
  matmulDbias: {
    gradients: [[257]],
    run: (ops, make, [dbias], accumulate) => ops.matmulDbias(dbias!, make.normal(301, 257), accumulate),
  },
  layernormBackward: {
    gradients: [[129], [129]],
    run(ops, make, [dweight, dbias], accumulate): void {
      const [dx, dout, x, weight] = [
        make.normal(301, 129),
        make.normal(301, 129),
        make.normal(301, 129),
        make.normal(129),
      ];
      const [mean, rstd] = [make.normal(301), make.normal(301)];
      ops.layernormBackward(dx, dweight!, dbias!, dout, null, x, mean, rstd, weight, accumulate);
    },
  },
  "embeddingBackward, positions longer than the sequence": {
    gradients: [[40, 33]],
    run: (ops, make, [dwpe], accumulate) =>
      ops.embeddingBackward(
        make.normal(23, 33),
        dwpe!,
        make.normal(3, 29, 33),
        make.ids(20, 3, 29),
        20,
        accumulate,
      ),
  },
  "classifier, with padding and chunks of rows": {
    gradients: [[128, 33]],
    run: (ops, make, [dwte], accumulate) =>
      ops.classifier(
        make.normal(600),
        make.normal(600, 33),
        dwte!,
        make.normal(600, 33),
        make.normal(128, 33),
        make.ids(101, 600),
        101,
        1 / 600,
        accumulate,
      ),
  },
};

for (const device of TEST_DEVICES) {
  for (const [name, { gradients: shapes, run }] of Object.entries(FAMILIES)) {
    Deno.test(`${name} adds to its gradients or stores them (${device.name})`, () => {
      const opened = device.open();
      /** Gradients that start at `fill`, after runs that accumulate or don't. */
      const after = (fill: number, ...runs: readonly boolean[]): Float32Array[] => {
        const tensors = shapes.map((shape) => opened.tensor("fp32", shape));
        for (const tensor of tensors) float32(tensor).fill(fill);
        for (const accumulate of runs) run(opened.ops, maker(opened), tensors, accumulate);
        return tensors.map((tensor) => float32(tensor).slice());
      };
      const [added, stored, twice] = [after(0, true), after(NaN, false), after(NaN, false, true)];
      added.forEach((values, i) => {
        const differs = values.findIndex((value, j) => stored[i]![j] !== value); // -0 is 0
        assertEquals(differs, -1, `stored[${differs}] is ${stored[i]![differs]}, not ${values[differs]}`);
        assertClose(twice[i]!, values.map((value) => 2 * value), 1e-5, "stored, then added");
      });
    });
  }

  Deno.test(`embeddingBackward adds to dwte even where it stores dwpe (${device.name})`, () => {
    const opened = device.open();
    const make = maker(opened);
    const [dwte, dwpe] = [make.normal(5, 3), make.normal(2, 3)];
    const before = float32(dwte).slice();
    opened.ops.embeddingBackward(dwte, dwpe, make.normal(1, 2, 3), make.ids(1, 1, 2), 5, false);
    assertEquals(float32(dwte).slice(3), before.slice(3));
  });
}

Deno.test("an accumulate that is neither 0 nor 1 is refused", () => {
  const { library, tensor } = openDevice({ device: "cpu" });
  const [dbias, dout] = [tensor("fp32", [2]), tensor("fp32", [3, 2])];
  assertThrows(
    () =>
      library.call(
        "llmts_matmul_dbias",
        { dbias, dout },
        dbias.memory,
        dout.memory,
        0,
        2,
        BigInt(3),
        BigInt(2),
      ),
    KernelError,
    "accumulate is 2, expected 0 or 1",
  );
});
