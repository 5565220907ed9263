import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { type Device, openDevice } from "../ffi/device.ts";
import { float32 } from "../ffi/tensor.ts";
import { writeCheckpoint } from "../src/io/checkpoint.ts";
import { writeHuggingFaceFile } from "../src/io/hugging_face.ts";
import { randomModel } from "../src/load.ts";
import { createModel, inPrecision, type Model } from "../src/model.ts";
import { exactWeights, fp32Pieces, fp32Values, PIECE } from "../src/weights.ts";
import { inFolder } from "./folder.ts";

/** wpe is two pieces, the second not whole. */
const CONFIG = { maxT: 20_000, V: 61, Vp: 64, L: 1, NH: 2, C: 64 };
const device = openDevice({ threads: 1 });

/** A bf16 model without master weights, and one in fp32 of the same numbers. */
function models(): { narrow: Model; wide: Model } {
  const narrow = inPrecision(randomModel(CONFIG, device, 3), "bf16", false);
  const wide = createModel(CONFIG, device);
  device.ops.convert(wide.parameters.flat, narrow.parameters.flat);
  return { narrow, wide };
}

/** A device that tells of each allocation. */
function watched(device: Device, onBytes: (bytes: number) => void): Device {
  const tensor: Device["tensor"] = (dtype, shape) => {
    const made = device.tensor(dtype, shape);
    onBytes(made.memory.byteLength);
    return made;
  };
  return {
    ...device,
    host: device,
    tensor,
    temporary: () => ({ ...device, tensor, [Symbol.dispose](): void {} }),
  };
}

Deno.test("fp32Pieces() gives a tensor's numbers in order, in fp32 without a copy", () => {
  const { narrow, wide } = models();
  const expected = float32(wide.parameters.wpe);
  for (const { wpe } of [exactWeights(wide), exactWeights(narrow)]) {
    let done = 0;
    for (const piece of fp32Pieces(device, wpe)) {
      const values = float32(piece);
      assertEquals(values.buffer === expected.buffer, wpe.dtype === "fp32");
      assertEquals(values, expected.subarray(done, done + PIECE));
      done += values.length;
    }
    assertEquals(done, expected.length);
    assertEquals(fp32Values(device, wpe), expected);
  }
  const master = inPrecision(wide, "bf16", true);
  assert(exactWeights(master) === wide.parameters);
});

Deno.test("writing bf16 weights takes a piece of memory beside the model, and gives the bits of fp32 ones", async () => {
  await inFolder(async (folder) => {
    const { narrow, wide } = models();
    let most = 0;
    const model = { ...narrow, device: watched(device, (bytes) => most = Math.max(most, bytes)) };
    const [first, second] = [join(folder, "first"), join(folder, "second")];
    for (const write of [writeCheckpoint, writeHuggingFaceFile]) {
      for (const stored of ["fp32", "bf16"] as const) {
        await write(first, model, stored);
        await write(second, wide, stored);
        assertEquals(Deno.readFileSync(first), Deno.readFileSync(second));
      }
    }
    assertEquals(most, 4 * PIECE);
  });
});
