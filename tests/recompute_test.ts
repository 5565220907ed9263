import { assert, assertEquals } from "@std/assert";
import type { Device } from "../ffi/device.ts";
import { hostBytes, int32 } from "../ffi/tensor.ts";
import { allocateActivations, RECOMPUTE_LEVELS, type RecomputeLevel } from "../src/activations.ts";
import { type GPT2Config, presetConfig } from "../src/config.ts";
import { randomModel } from "../src/load.ts";
import { memoryPlan } from "../src/memory.ts";
import { backward, forward, inPrecision, type Precision, PRECISIONS } from "../src/model.ts";
import { allocateParameters } from "../src/parameters.ts";
import { TEST_DEVICES } from "./devices.ts";

/** Widths that fill vectors, and ones that don't. */
const CONFIGS: readonly GPT2Config[] = [
  { maxT: 32, V: 65, Vp: 128, L: 3, NH: 2, C: 64 },
  { maxT: 9, V: 65, Vp: 66, L: 2, NH: 3, C: 21 },
];

/** Losses and gradients of two micro-steps. */
function bits(config: GPT2Config, device: Device, precision: Precision, recompute: RecomputeLevel) {
  const [B, T] = [3, config.maxT - 2];
  const model = inPrecision(randomModel(config, device, 42), precision, false);
  const shape = { B, T, precision, training: true as const, recompute };
  const a = allocateActivations(config, device, shape);
  const g = allocateParameters(config, device, "fp32");
  const [tokens, targets] = [device.tensor("int32", [B, T]), device.tensor("int32", [B, T])];
  const losses = [0, 1].map((batch) => {
    int32(tokens).forEach((_, i, ids) => ids[i] = (i * i + 7 * batch) % config.V);
    int32(targets).forEach((_, i, ids) => ids[i] = (3 * i + batch) % config.V);
    forward(model, a, tokens);
    return backward(model, a, g, tokens, targets);
  });
  return { losses, gradients: hostBytes(g.flat) };
}

for (const { name, open } of TEST_DEVICES) {
  for (const precision of PRECISIONS) {
    Deno.test(`backward() gives the same bits whatever it computes again, in ${precision} (${name})`, () => {
      for (const config of CONFIGS) {
        const device = open();
        const expected = bits(config, device, precision, "none");
        assert(expected.gradients.some((byte) => byte !== 0));
        for (const level of RECOMPUTE_LEVELS) {
          const found = bits(config, device, precision, level);
          assertEquals(found.losses, expected.losses, level);
          // Byte by byte is slow, and the difference of many bytes slower to print.
          assert(
            found.gradients.every((byte, i) => byte === expected.gradients[i]),
            `gradients differ: ${level}, C=${config.C}`,
          );
        }
      }
    });
  }
}

Deno.test("memoryPlan() counts a layer's activations once where they are computed again", () => {
  const config = presetConfig("d12");
  const { L, C, NH } = config;
  const [B, T] = [4, 64];
  const [none, light, mlp, block] = RECOMPUTE_LEVELS.map((recompute) =>
    memoryPlan(config, { B, T, recompute }).total
  );
  // ln1, ln2 and fchGelu of all layers but one, which has no ln2 of its own
  assertEquals(none! - light!, ((L - 1) * 6 + 1) * 4 * B * T * C);
  // and fch
  assertEquals(light! - mlp!, (L - 1) * 4 * B * T * 4 * C);
  // and qkv, atty, residual2, four statistics and lse
  assertEquals(mlp! - block!, (L - 1) * 4 * B * T * (5 * C + 4 + NH));
  assertEquals(memoryPlan(config, { B, T }).total, light);
});
