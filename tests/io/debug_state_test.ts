import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { elements, float32 } from "../../ffi/tensor.ts";
import { type GPT2Config, presetConfig } from "../../src/config.ts";
import { FileError } from "../../src/errors.ts";
import { openDebugState, writeDebugState } from "../../src/io/debug_state.ts";
import { allocateParameters, parameterCount, TENSORS } from "../../src/parameters.ts";
import { fixturePath } from "../fixtures.ts";
import { inFolder } from "../folder.ts";

const ODD = fixturePath("models/odd_debug_state.bin");
const CONFIG: GPT2Config = { maxT: 33, V: 65, Vp: 128, L: 2, NH: 3, C: 24 };
const [B, T] = [2, 31];

Deno.test("openDebugState() gives the parts of the file in their order", () => {
  using state = openDebugState(ODD, CONFIG);
  assertEquals([state.path, state.B, state.T], [ODD, B, T]);
  const file = Deno.readFileSync(ODD).buffer;
  let offset = 1024;
  const ints = (count: number): Int32Array => new Int32Array(file, (offset += 4 * count) - 4 * count, count);
  const floats = (count: number): Float32Array =>
    new Float32Array(file, (offset += 4 * count) - 4 * count, count);
  assertEquals(state.tokens, ints(B * T));
  assertEquals(state.targets, ints(B * T));
  const logits = floats(B * T * CONFIG.V);
  assertEquals(state.loss, floats(1)[0]);
  const gradients = TENSORS.map(({ name, shape }) => [name, floats(elements(shape(CONFIG)))] as const);
  assertEquals(offset, file.byteLength);
  for (const [name, values] of gradients.toReversed()) assertEquals(state.gradient(name), values, name);
  assertEquals(state.logits(), logits);
});

Deno.test("writeDebugState() gives back what openDebugState() read, byte for byte", async () => {
  await inFolder(async (folder) => {
    using state = openDebugState(ODD, CONFIG);
    const gradients = allocateParameters(CONFIG, openDevice(), "fp32");
    for (const { name } of TENSORS) float32(gradients.whole[name]).set(state.gradient(name));
    const path = join(folder, "state.bin");
    await writeDebugState(path, { ...state, logits: state.logits(), gradients });
    assertEquals(Deno.readFileSync(path), Deno.readFileSync(ODD));
  });
});

/** The error that a changed copy of the odd state gives; `size` cuts or extends it with zeros. */
async function faultOf(
  change: (ints: Int32Array) => void,
  { size, config = CONFIG }: { size?: number; config?: GPT2Config } = {},
): Promise<FileError> {
  let fault: FileError | undefined;
  await inFolder((folder) => {
    const path = join(folder, "state.bin");
    const bytes = Deno.readFileSync(ODD);
    change(new Int32Array(bytes.buffer));
    Deno.writeFileSync(path, bytes);
    if (size !== undefined) Deno.truncateSync(path, size);
    fault = assertThrows(() => openDebugState(path, config), FileError);
    assertStringIncludes(fault.message, `"${path}": `);
  });
  return fault!;
}

Deno.test("openDebugState() names what is wrong with a file", async (t) => {
  const size = 91084;
  const sized = "a debug state of 2 × 31 tokens for this model (maxT 33, V 65, L 2, C 24) has 91084: ";
  // deno-fmt-ignore
  const faults: [message: string, change: (ints: Int32Array) => void, options?: { size?: number; config?: GPT2Config }][] = [
    ["is empty, expected a debug state (magic 20240327, version 2)", () => {}, { size: 0 }],
    ["ends after 1000 bytes of its header", () => {}, { size: 1000 }],
    ["is a model checkpoint (magic 20240326)", (ints) => { ints[0] = 20240326; }],
    ["is a debug state of version 1", (ints) => { ints[1] = 1; }],
    ["its header has a batch of 0 × 31 tokens", (ints) => { ints[2] = 0; }],
    ["its header has a batch of 2 × -31 tokens", (ints) => { ints[3] = -31; }],
    [`has 91083 bytes, ${sized}1 bytes are missing`, () => {}, { size: size - 1 }],
    [`has 91085 bytes, ${sized}1 bytes are left over`, () => {}, { size: size + 1 }],
    ["a debug state of 3 × 31 tokens for this model (maxT 33, V 65, L 2, C 24) has", (ints) => { ints[2] = 3; }],
    ["for this model (maxT 33, V 65, L 3, C 24) has", () => {}, { config: { ...CONFIG, L: 3 } }],
    ["has sequences of 62 tokens, longer than the model's 33 positions", (ints) => { ints[2] = 1; ints[3] = 62; }],
    ["token 0 of sequence 1 is 65, expected an id from 0 to 64", (ints) => { ints[256 + 31] = 65; }],
    ["target 30 of sequence 0 is -1, expected an id from 0 to 64", (ints) => { ints[256 + 62 + 30] = -1; }],
  ];
  for (const [message, change, options] of faults) {
    await t.step(message, async () => {
      assertStringIncludes((await faultOf(change, options)).message, message);
    });
  }
});

Deno.test("openDebugState() recognises the state of another preset by its size", async () => {
  const { V } = presetConfig("gpt2");
  const size = 1024 + 4 * (2 * B * T + B * T * V + 1 + parameterCount(presetConfig("gpt2")));
  const { message } = await faultOf(() => {}, { size }); // a sparse file: takes no room on disk
  assertStringIncludes(
    message,
    "is the debug state of a gpt2 (maxT 1024, V 50257, L 12, C 768), the model has maxT 33, V 65, L 2, C 24",
  );
});
