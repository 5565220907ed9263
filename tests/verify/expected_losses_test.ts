import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { createHash } from "node:crypto";
import { presetConfig } from "../../src/config.ts";
import { FileError } from "../../src/errors.ts";
import { type DebugState, openDebugState } from "../../src/io/debug_state.ts";
import { findExpectedLosses, isIntact } from "../../src/verify/expected_losses.ts";
import { inFolder } from "../folder.ts";
import { writeOdd } from "../odd_copy.ts";

const CONFIG = { maxT: 33, V: 65, Vp: 128, L: 2, NH: 3, C: 24 };

Deno.test("findExpectedLosses() reads the JSON beside the state", async () => {
  await inFolder((folder) => {
    using state = openDebugState(writeOdd(folder).state, CONFIG);
    const { source, constants, decay, losses, stateSha256 } = findExpectedLosses(state, CONFIG)!;
    assertEquals(source, state.path.replace(".bin", ".json"));
    assertEquals(constants, { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 1 });
    assertEquals([decay, losses.length, losses[0], stateSha256], [
      "matrices",
      10,
      4.181530985982231,
      undefined,
    ]);
  });
});

Deno.test("findExpectedLosses() knows GPT-2 124M's by the batch and its loss, and nothing else", () => {
  const state = (changes: Partial<DebugState>): DebugState =>
    ({ path: "absent_debug_state.bin", B: 4, T: 64, loss: 5.27, ...changes }) as DebugState;
  const gpt2 = presetConfig("gpt2");
  const known = findExpectedLosses(state({}), gpt2)!;
  assertEquals([known.released, known.decay, known.losses.length], [true, "all", 10]);
  assertEquals(known.losses[9], 0.37651097774505615);
  assertEquals(findExpectedLosses(state({ loss: 5.28 }), gpt2), undefined);
  assertEquals(findExpectedLosses(state({ loss: NaN }), gpt2), undefined);
  assertEquals(findExpectedLosses(state({ B: 2, T: 128 }), gpt2), undefined);
  assertEquals(findExpectedLosses(state({}), presetConfig("gpt2-medium")), undefined);
});

Deno.test("findExpectedLosses() names what is wrong with a JSON", async (t) => {
  const whole = { learningRate: 1, beta1: 0, beta2: 0, eps: 1, weightDecay: 1 };
  const losses = { losses: { matrices: Array(10).fill(1) } };
  /** As JSON, with a number too large for a double in place of each "inf". */
  const json = (record: unknown): string => JSON.stringify(record).replaceAll('"inf"', "1e999");
  const cases: [text: string, message: string][] = [
    ["", "is not JSON: "],
    ['{"losses": [1,', "is not JSON: "],
    ["[]", "is JSON but no object"],
    ["null", "is JSON but no object"],
    ["{}", 'has no list "matrices" of 10 finite numbers in "losses"'],
    ['{"losses": null}', 'has no list "matrices" of 10 finite numbers in "losses"'],
    [
      JSON.stringify({ losses: { matrices: [1, 2, 3] } }),
      'has no list "matrices" of 10 finite numbers in "losses"',
    ],
    [
      JSON.stringify({ losses: { matrices: Array(10).fill("1") } }),
      'has no list "matrices" of 10 finite numbers',
    ],
    [
      JSON.stringify({ ...whole, eps: "1e-8", ...losses }),
      'has no number "eps"',
    ],
    [json({ losses: { matrices: [...Array(9).fill(1), "inf"] } }), "has no list"],
    [
      json({ ...whole, ...losses, learningRate: "inf" }),
      'its "learningRate" is Infinity, expected a number of',
    ],
    [
      json({ ...whole, ...losses, weightDecay: -1 }),
      'its "weightDecay" is -1, expected a number of at least 0',
    ],
    [
      json({ ...whole, ...losses, beta1: "inf" }),
      'its "beta1" is Infinity, expected a number from 0 to below 1',
    ],
    [json({ ...whole, ...losses, beta2: 1 - 1e-9 }), 'its "beta2" is 0.999999999, expected'], // 1 in fp32
    [json({ ...whole, ...losses, eps: 0 }), 'its "eps" is 0, expected a number above 0'],
    [json({ ...whole, ...losses, eps: 1e39 }), 'its "eps" is 1e+39, expected'], // infinite in fp32
    [
      JSON.stringify({ ...whole, ...losses, stateSha256: 5 }),
      'its "stateSha256" is 5, expected text',
    ],
  ];
  for (const [text, message] of cases) {
    await t.step(text, async () => {
      await inFolder((folder) => {
        const paths = writeOdd(folder);
        Deno.writeTextFileSync(paths.json, text);
        using state = openDebugState(paths.state, CONFIG);
        const error = assertThrows(() => findExpectedLosses(state, CONFIG), FileError);
        assertStringIncludes(error.message, `"${paths.json}": ${message}`);
      });
    });
  }
});

Deno.test("isIntact() sees every changed byte, where the JSON has the checksum", async () => {
  await inFolder((folder) => {
    const paths = writeOdd(folder);
    const bytes = Deno.readFileSync(paths.state);
    const stateSha256 = createHash("sha256").update(bytes).digest("hex");
    using state = openDebugState(paths.state, CONFIG);
    const expected = findExpectedLosses(state, CONFIG)!;
    assertEquals(isIntact(state, undefined), undefined);
    assertEquals(isIntact(state, expected), undefined);
    assertEquals(isIntact(state, { ...expected, stateSha256 }), true);
    bytes[bytes.length - 1]! ^= 1;
    Deno.writeFileSync(paths.state, bytes);
    assertEquals(isIntact(state, { ...expected, stateSha256 }), false);
  });
});
