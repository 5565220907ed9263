import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { float32 } from "../../ffi/tensor.ts";
import { FileError } from "../../src/errors.ts";
import {
  checkpointPath,
  newestCheckpoint,
  readCheckpoint,
  readCheckpointHeader,
  writeCheckpoint,
} from "../../src/io/checkpoint.ts";
import { TENSORS } from "../../src/parameters.ts";
import { fixturePath } from "../fixtures.ts";
import { inFolder } from "../folder.ts";

const ODD = fixturePath("models/odd.bin");
const device = openDevice();

/** The error that reading a changed copy of odd.bin gives. */
async function faultOf(
  change: (bytes: Uint8Array, header: Int32Array) => Uint8Array | void,
): Promise<string> {
  let message = "";
  await inFolder((folder) => {
    const bytes = Deno.readFileSync(ODD);
    const changed = change(bytes, new Int32Array(bytes.buffer, 0, 256)) ?? bytes;
    const path = join(folder, "model.bin");
    Deno.writeFileSync(path, changed);
    message = assertThrows(() => readCheckpoint(path, device), FileError).message;
    assertStringIncludes(message, `"${path}"`);
  });
  return message;
}

Deno.test("writeCheckpoint() gives back what readCheckpoint() read, byte for byte", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "model.bin");
    await writeCheckpoint(path, readCheckpoint(ODD, device));
    assertEquals(Deno.readFileSync(path), Deno.readFileSync(ODD));
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["model.bin"]);
  });
});

Deno.test("writeCheckpoint() in bf16 rounds to the nearest, and reads back the same", async () => {
  await inFolder(async (folder) => {
    const [first, second] = [join(folder, "first.bin"), join(folder, "second.bin")];
    const model = readCheckpoint(ODD, device);
    await writeCheckpoint(first, model, "bf16");
    assertEquals(readCheckpointHeader(first), { config: model.config, stored: "bf16" });
    const narrow = readCheckpoint(first, device);
    for (const { name } of TENSORS) {
      const [exact, rounded] = [
        float32(model.parameters.whole[name]),
        float32(narrow.parameters.whole[name]),
      ];
      // Half a unit in the last of 8 significant bits.
      exact.forEach((value, i) =>
        assert(Math.abs(rounded[i]! - value) <= Math.abs(value) / 256, `${name}[${i}]`)
      );
    }
    await writeCheckpoint(second, narrow, "bf16");
    assertEquals(Deno.readFileSync(second), Deno.readFileSync(first));
  });
});

Deno.test("readCheckpoint() names what is wrong with a file", async () => {
  const text = new TextEncoder();
  // deno-fmt-ignore
  const faults: [string, (bytes: Uint8Array, header: Int32Array) => Uint8Array | void][] = [
    ["is empty", () => new Uint8Array(0)],
    ["is a web page", () => text.encode("<!DOCTYPE html><html><title>404</title></html>")],
    ["is a Git LFS pointer", () => text.encode("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")],
    ["is a token file (magic 20240520)", (_, header) => { header[0] = 20240520; }],
    ["is a model checkpoint of version 1, expected a model checkpoint (magic 20240326, version 3 or 5)", (_, header) => { header[1] = 1; }],
    ["its header holds no GPT-2: L is 0", (_, header) => { header[4] = 0; }],
    ["its header holds no GPT-2: C is -24", (_, header) => { header[6] = -24; }],
    ["its header holds no GPT-2: 24 channels do not divide into 5 heads", (_, header) => { header[5] = 5; }],
    ["its header holds no GPT-2: padded vocabulary 64 is below the vocabulary 65", (_, header) => { header[7] = 64; }],
    ["4 bytes are missing", (bytes) => bytes.subarray(0, -4)],
    ["1 bytes are left over", (bytes) => new Uint8Array([...bytes, 0])],
    ["bytes are missing", (_, header) => { header[4] = 3; }],
  ];
  for (const [expected, change] of faults) assertStringIncludes(await faultOf(change), expected);
});

Deno.test("newestCheckpoint() takes the checkpoint that was written last", async () => {
  await inFolder((folder) => {
    assertEquals(newestCheckpoint(folder), undefined);
    assertEquals(newestCheckpoint(join(folder, "absent")), undefined);
    const file = join(folder, "file");
    Deno.writeTextFileSync(file, "");
    assertThrows(() => newestCheckpoint(file), FileError, `"${file}": cannot be read: not a directory`);
    for (
      const [name, time] of [
        ["model_00000040.bin", 3],
        ["model_00000100.bin", 2],
        [".model_00000200.bin.1.tmp", 4],
        ["model_9.bin", 4],
      ] as const
    ) {
      Deno.writeTextFileSync(join(folder, name), "");
      Deno.utimeSync(join(folder, name), time, time);
    }
    assertEquals(newestCheckpoint(folder), checkpointPath(folder, 40));
    Deno.utimeSync(checkpointPath(folder, 100), 3, 3);
    assertEquals(newestCheckpoint(folder), checkpointPath(folder, 100));
  });
});
