import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Device } from "../ffi/device.ts";
import { presetConfig } from "../src/config.ts";
import { measurePeak, trainingFlops } from "../src/flops.ts";
import { PRECISIONS } from "../src/model.ts";
import { TEST_DEVICES } from "./devices.ts";

Deno.test("trainingFlops() is llm.c's count for GPT-2 124M", () => {
  // 6 · 124,475,904 parameters + 6 · 12 layers · 768 channels · 1024 positions
  assertEquals(trainingFlops(presetConfig("d12"), 1024), 746_855_424 + 56_623_104);
});

Deno.test("measurePeak() divides a product's operations by the shortest time of many", () => {
  // A clock that only products move: a device of 2 GFLOP/s, whose every seventh call takes three times as long.
  const { device, calls, now } = clocked((n, call) => 2 * n ** 3 / 2e6 * (call % 7 === 6 ? 3 : 1));
  assertAlmostEquals(measurePeak(device, "fp32", now), 2e9, 1);
  assert(calls.length > 7);
  assert(calls.at(-1)! >= calls[0]!, "later products are no smaller");
});

Deno.test("measurePeak() asks a fast device for products of 4096 at most, several before it waits", () => {
  const { device, calls, reads, now } = clocked((n) => 2 * n ** 3 / 1e12);
  assertAlmostEquals(measurePeak(device, "fp32", now), 1e15, 1e9);
  assertEquals(calls.at(-1), 4096);
  assert(calls.length > 2 * reads());
});

for (const { name, open } of TEST_DEVICES) {
  for (const precision of PRECISIONS) {
    Deno.test(`measurePeak() finds a plausible rate in ${precision} (${name})`, () => {
      const peak = measurePeak(open(), precision);
      assert(peak > 1e6 && peak < 1e16, `${peak} FLOP/s`);
    });
  }
}

/** A device without arithmetic, whose products take `milliseconds(n, how many there were)` of a clock of its own. */
function clocked(milliseconds: (n: number, call: number) => number) {
  let time = 0;
  let reads = 0;
  const calls: number[] = [];
  const memory = new Uint8Array(4 * 4096 * 4096); // one for all: nothing is computed
  const device = {
    tensor: (dtype: string, shape: number[]) => ({ dtype, shape, memory }),
    write: () => {},
    read: () => {
      reads++;
      return new Float32Array(1);
    },
    temporary: (): object => ({ ...device, [Symbol.dispose]: () => {} }),
    ops: {
      convert: () => {},
      matmul: (out: { shape: number[] }) => {
        const n = out.shape[0]!;
        time += milliseconds(n, calls.length);
        calls.push(n);
      },
    },
  };
  return { device: device as unknown as Device, calls, reads: (): number => reads, now: (): number => time };
}
