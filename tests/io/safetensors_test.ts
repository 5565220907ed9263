import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { FileError } from "../../src/errors.ts";
import { openSafetensors, writeSafetensors } from "../../src/io/safetensors.ts";
import { inFolder } from "../folder.ts";
import { needsPython, runPython } from "../reference/python.ts";

/** A file's bytes from its header and data. */
function fileBytes(header: string, data: Uint8Array, headerLength = BigInt(header.length)): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, headerLength, true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

function entry(dtype: string, shape: number[], begin: number, end: number): Record<string, unknown> {
  return { dtype, shape, data_offsets: [begin, end] };
}

Deno.test("openSafetensors() reads F32, F16, BF16 and I32", () =>
  inFolder((folder) => {
    const path = join(folder, "x.safetensors");
    const header = JSON.stringify({
      __metadata__: { format: "pt" },
      // Not in the order of the data, a scalar, an empty tensor, a name that plain objects inherit, a mask.
      whole: entry("I32", [2], 24, 32),
      f32: entry("F32", [3], 0, 12),
      half: entry("F16", [2, 2], 12, 20),
      bf16: entry("BF16", [2], 20, 24),
      constructor: entry("F32", [], 32, 36),
      empty: entry("F32", [0, 4], 36, 36),
      mask: entry("BOOL", [1, 1], 36, 37),
    });
    const data = new Uint8Array(37);
    data.set(new Uint8Array(Float32Array.of(1.5, -0, 1e-45).buffer), 0);
    // Half: 1, the smallest subnormal 2^-24, -65504 the lowest finite, infinity.
    data.set(new Uint8Array(Uint16Array.of(0x3c00, 0x0001, 0xfbff, 0x7c00).buffer), 12);
    data.set(new Uint8Array(Uint16Array.of(0x3f80, 0xc049).buffer), 20);
    data.set(new Uint8Array(Int32Array.of(-1, 0x7fffffff).buffer), 24);
    data.set(new Uint8Array(Float32Array.of(7).buffer), 32);
    Deno.writeFileSync(path, fileBytes(header, data));

    using file = openSafetensors(path);
    assertEquals(file.metadata.get("format"), "pt");
    assertEquals(file.floats("f32"), Float32Array.of(1.5, -0, 1e-45));
    assertEquals(file.floats("half"), Float32Array.of(1, 2 ** -24, -65504, Infinity));
    assertEquals(file.floats("bf16"), Float32Array.of(1, -3.140625));
    assertEquals(file.ints("whole"), Int32Array.of(-1, 0x7fffffff));
    assertEquals(file.floats("constructor"), Float32Array.of(7));
    assertEquals(file.floats("empty").length, 0);
    assertEquals(file.entries.get("half")?.shape, [2, 2]);
    assertEquals([...file.entries.keys()].slice(0, 3), ["f32", "half", "bf16"]);
    assertThrows(() => file.floats("mask"), FileError, 'tensor "mask" has dtype BOOL, expected floats');
    assertThrows(() => file.ints("f32"), FileError, 'tensor "f32" has dtype F32, expected whole numbers');
    assertThrows(() => file.floats("toString"), FileError, 'has no tensor "toString"');
  }));

const f32 = entry("F32", [2], 0, 8);

/** What is wrong, the header, the number of bytes of data, and words of the error. */
const DAMAGED: readonly [string, unknown, number, string][] = [
  ["no JSON", "{nonsense", 0, "header is not JSON"],
  ["an array", [], 0, "header is not a JSON object"],
  ["null", "null", 0, "header is not a JSON object"],
  ["an entry that is no object", { a: 3 }, 8, 'tensor "a": entry is not a JSON object'],
  ["no dtype", { a: { ...f32, dtype: undefined } }, 8, 'tensor "a": unknown dtype'],
  ["an unknown dtype", { a: { ...f32, dtype: "F4" } }, 8, 'unknown dtype "F4"'],
  ["a dtype that objects inherit", { a: { ...f32, dtype: "toString" } }, 8, 'unknown dtype "toString"'],
  ["a negative size", { a: { ...f32, shape: [-2] } }, 8, "shape is [-2]"],
  ["a fractional size", { a: { ...f32, shape: [0.5] } }, 8, "shape is [0.5]"],
  ["no shape", { a: { dtype: "F32", data_offsets: [0, 8] } }, 8, "shape is undefined"],
  ["three offsets", { a: { ...f32, data_offsets: [0, 4, 8] } }, 8, "data_offsets is [0,4,8]"],
  ["a negative offset", { a: { ...f32, data_offsets: [-8, 0] } }, 8, "data_offsets is [-8,0]"],
  [
    "a range below the shape",
    { a: { ...f32, data_offsets: [0, 4] } },
    8,
    "4 bytes of data, expected 8 for F32 [2]",
  ],
  ["a range backwards", { a: { ...f32, data_offsets: [8, 0] } }, 8, "-8 bytes of data, expected 8"],
  ["a shape beyond all sizes", { a: { ...f32, shape: [2 ** 40, 2 ** 40] } }, 8, "8 bytes of data, expected"],
  ["overlap", { a: f32, b: entry("F32", [2], 4, 12) }, 12, 'data of tensor "b" starts at byte'],
  ["twice the same range", { a: f32, b: f32 }, 8, 'data of tensor "b" starts at byte'],
  ["a gap", { a: f32, b: entry("F32", [1], 12, 16) }, 16, 'data of tensor "b" starts at byte'],
  ["a gap at the start", { a: entry("F32", [1], 4, 8) }, 8, 'data of tensor "a" starts at byte'],
  ["too little data", { a: f32 }, 7, "1 bytes are missing"],
  ["too much data", { a: f32 }, 9, "1 bytes are left over"],
  ["metadata that is no object", { __metadata__: 1 }, 0, "`__metadata__` is not a JSON object"],
  ["metadata that is no string", { __metadata__: { a: 1 } }, 0, 'metadata "a" is not a string'],
];

for (const [what, header, dataBytes, words] of DAMAGED) {
  Deno.test(`openSafetensors() refuses ${what}`, () =>
    inFolder((folder) => {
      const path = join(folder, "x.safetensors");
      const text = typeof header === "string" ? header : JSON.stringify(header);
      Deno.writeFileSync(path, fileBytes(text, new Uint8Array(dataBytes)));
      const error = assertThrows(() => openSafetensors(path), FileError);
      assertStringIncludes(error.message, words);
      assertStringIncludes(error.message, path);
    }));
}

Deno.test("openSafetensors() refuses header lengths that can't be", () =>
  inFolder((folder) => {
    const path = join(folder, "x.safetensors");
    // The header is 12 bytes: one less and one more than fits, nothing, above the limit, all ones.
    for (const length of [0n, 1n, 13n, 100_000_001n, 2n ** 63n, 2n ** 64n - 1n]) {
      Deno.writeFileSync(path, fileBytes('{"a":[1,2] }', new Uint8Array(), length));
      assertThrows(() => openSafetensors(path), FileError, "expected a safetensors file");
    }
    Deno.writeFileSync(path, fileBytes("{}          ", new Uint8Array(), 12n)); // padding is fine
    using file = openSafetensors(path);
    assertEquals(file.entries.size, 0);
  }));

Deno.test("openSafetensors() names what stands in a file's place", () =>
  inFolder((folder) => {
    const path = join(folder, "x.safetensors");
    for (
      const [content, words] of [
        ["", "is empty"],
        ["{}", "expected a safetensors file"],
        ["<!DOCTYPE html><html>", "is a web page"],
        ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"],
      ] as const
    ) {
      Deno.writeTextFileSync(path, content);
      assertThrows(() => openSafetensors(path), FileError, words);
    }
    assertThrows(() => openSafetensors(join(folder, "absent")), FileError, "no such file");
    assertThrows(() => openSafetensors(folder), FileError, "is a folder");
  }));

const NUMBERS = Float32Array.of(1, -2.5, 3.140625, 1e-40, Infinity, 1.00390625); // the last: a tie between bf16 numbers

Deno.test("writeSafetensors() writes what openSafetensors() reads", () =>
  inFolder(async (folder) => {
    const path = join(folder, "x.safetensors");
    const tensors = [
      { name: "b", shape: [2, 3], values: () => NUMBERS },
      { name: "a.ünïcode", shape: [], values: () => Float32Array.of(4) },
      { name: "none", shape: [0], values: () => new Float32Array() },
    ];
    await writeSafetensors(path, tensors, "F32", { format: "pt" });
    {
      using file = openSafetensors(path);
      assertEquals([...file.entries.keys()], ["b", "a.ünïcode", "none"]);
      assertEquals(file.entries.get("b")!.offset % 8, 0);
      assertEquals(file.floats("b"), NUMBERS);
      assertEquals(file.floats("a.ünïcode"), Float32Array.of(4));
      assertEquals([...file.metadata], [["format", "pt"]]);
    }
    await writeSafetensors(path, tensors, "BF16", {}); // over the file that is there
    using file = openSafetensors(path);
    assertEquals(file.entries.get("b")!.dtype, "BF16");
    assertEquals(file.floats("b").subarray(0, 3), NUMBERS.subarray(0, 3));
    assertEquals(file.floats("b").subarray(4), Float32Array.of(Infinity, 1)); // ties go to even
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["x.safetensors"]);
  }));

Deno.test("writeSafetensors() leaves the old file when a tensor can't be made", () =>
  inFolder(async (folder) => {
    const path = join(folder, "x.safetensors");
    await writeSafetensors(path, [{ name: "a", shape: [1], values: () => Float32Array.of(1) }], "F32", {});
    const old = Deno.readFileSync(path);
    const wrong = [{ name: "a", shape: [3], values: () => Float32Array.of(1) }];
    await assertRejects(() => writeSafetensors(path, wrong, "F32", {}), RangeError, "came with 1 numbers");
    assertEquals(Deno.readFileSync(path), old);
    assertEquals([...Deno.readDirSync(folder)].length, 1);
  }));

Deno.test({
  ...needsPython("writeSafetensors() writes what Hugging Face's library reads", ["safetensors", "torch"]),
  fn: () =>
    inFolder(async (folder) => {
      const path = join(folder, "x.safetensors");
      const script = "import json, sys; from safetensors.torch import load_file\n" +
        "print(json.dumps({k: [str(t.dtype), list(t.shape), t.flatten().tolist()] for k, t in load_file(sys.argv[1]).items()}))";
      for (const [dtype, torchDtype] of [["F32", "torch.float32"], ["BF16", "torch.bfloat16"]] as const) {
        await writeSafetensors(
          path,
          [
            {
              name: "wte.weight",
              shape: [2, 2],
              values: () => Float32Array.of(1, 2, -3, 0.5),
            },
            { name: "bias", shape: [1], values: () => Float32Array.of(8) },
          ],
          dtype,
          { format: "pt" },
        );
        assertEquals(JSON.parse(runPython(["-c", script, path])), {
          "wte.weight": [torchDtype, [2, 2], [1, 2, -3, 0.5]],
          bias: [torchDtype, [1], [8]],
        });
      }
    }),
});
