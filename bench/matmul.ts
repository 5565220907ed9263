/**
 * Times the matrix products of a model's linear layers and prints one JSON object, as bench/pytorch_bench.py --matmul does.
 *
 * @module
 */
import { openDevice } from "../ffi/device.ts";
import { float32 } from "../ffi/tensor.ts";
import { presetConfig } from "../src/config.ts";
import { Random } from "../src/random.ts";
import { median } from "./statistics.ts";

/** Median milliseconds of the three products of a layer: x (N,C), weight (OC,C), dout (N,OC). */
export interface MatmulTimes {
  readonly N: number;
  readonly C: number;
  readonly OC: number;
  readonly forward: number;
  readonly dinput: number;
  readonly dweight: number;
}

function timeMatmuls(name: string, N: number, threads: number, steps: number, warmup: number): MatmulTimes[] {
  const device = openDevice({ threads });
  const { ops } = device;
  const { C, V } = presetConfig(name);
  const random = new Random(1);
  const normal = (...shape: number[]) => {
    const tensor = device.tensor("fp32", shape);
    random.normal(float32(tensor));
    return tensor;
  };
  const time = (run: () => void): number => {
    const times: number[] = [];
    for (let step = 0; step < warmup + steps; step++) {
      const start = performance.now();
      run();
      if (step >= warmup) times.push(performance.now() - start);
    }
    return median(times);
  };
  return [[C, 3 * C], [C, C], [C, 4 * C], [4 * C, C], [C, V]].map(([C, OC]) => {
    const [x, weight, dout] = [normal(N, C!), normal(OC!, C!), normal(N, OC!)];
    const [out, dx, dweight] = [normal(N, OC!), normal(N, C!), normal(OC!, C!)];
    return {
      N,
      C: C!,
      OC: OC!,
      forward: time(() => ops.matmul(out, x, weight, null)),
      dinput: time(() => ops.matmulDinput(dx, dout, weight)),
      dweight: time(() => ops.matmulDweight(dweight, dout, x)),
    };
  });
}

if (import.meta.main) {
  const [name = "d12", B = "4", T = "64", threads = "0", steps = "5", warmup = "2"] = Deno.args;
  const times = timeMatmuls(name, Number(B) * Number(T), Number(threads), Number(steps), Number(warmup));
  console.log(JSON.stringify({ matmul: times }));
}
