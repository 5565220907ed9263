import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { readCheckpoint, writeCheckpoint } from "../../src/io/checkpoint.ts";
import { inFolder } from "../folder.ts";
import { type OddChanges, STATE_PARTS, writeOdd } from "../odd_copy.ts";
import { llmts, type Result } from "./run.ts";

function run(folder: string, ...args: string[]): Promise<Result> {
  return llmts(folder, ["verify", "--device", "cpu", "--threads", "1", ...args]);
}

/** Runs on a changed copy of the odd model in a folder of its own, named by `--model` alone. */
async function runOdd(changes: OddChanges, ...args: string[]): Promise<Result> {
  let result: Result | undefined;
  await inFolder(async (folder) => {
    writeOdd(folder, changes);
    result = await run(folder, "--model", "odd.bin", ...args);
  });
  return result!;
}

Deno.test("llmts verify prints the comparison of a model with its debug state", async () => {
  const { code, stdout, stderr } = await runOdd({}, "--state", "odd_debug_state.bin", "--precision", "fp32");
  assertEquals([code, stderr], [0, ""]);
  const [model, state, device, empty, ...lines] = stdout.split("\n");
  assertEquals([model, state, empty], [
    "model: odd.bin, maxT 33, V 65, L 2, NH 3, C 24",
    "state: odd_debug_state.bin, B 2, T 31",
    "",
  ]);
  assertMatch(device!, /^device: .*, 1 thread$/);
  assertEquals(lines[0], "fp32");
  assertMatch(lines[1]!, /^tensor +max abs difference +relative L2 +tolerance +OK$/);
  const number = String.raw` +\d\.\d\de[+-]\d+ +\d\.\d\de[+-]\d+ `;
  assertMatch(lines[2]!, new RegExp(`^logits ${number}  max abs 1e-3 +OK$`));
  assertMatch(lines[3]!, new RegExp(`^loss ${number}  max abs 1e-5 +OK$`));
  for (const line of lines.slice(4, 20)) {
    assertMatch(line, new RegExp(`^d\\w+ ${number}  relative L2 1e-5 +OK$`));
  }
  assertMatch(lines[21]!, /^step +loss +expected +tolerance +OK$/);
  assertMatch(lines[22]!, /^0 +4\.18153\d +4\.181531 +max abs 1e-4 +OK$/);
  assertMatch(lines[31]!, /^9 +3\.98013\d +3\.980132 +max abs 1e-4 +OK$/);
  assertEquals(lines.slice(32), ["", "overall okay: 1", ""]);
});

Deno.test("llmts verify reports each change of a byte and exits with 1", async (t) => {
  const { tokens, logits, loss, gradients } = STATE_PARTS;
  const add = (at: number) => ({ floats }: { floats: Float32Array }): void => {
    floats[at]! += 1;
  };
  // deno-fmt-ignore
  const cases: [what: string, changes: OddChanges, finding: string][] = [
    ["a logit", { state: add(logits + 9) }, "1 of 4030 logits are off"],
    ["the loss", { state: add(loss) }, "its loss or a target was changed"],
    ["a gradient", { state: add(gradients + 30) }, "the state's gradients were changed"],
    ["a token", { state: ({ ints }) => { ints[tokens]! ^= 1; } }, "the state's token there was changed"],
    ["a weight", { model: add(256 + 24 * 3) }, "or a weight was"],
    ["a loss of the JSON", { json: (record) => { (record.losses as { matrices: number[] }).matrices[7] = 4.1; } },
      "The losses are off from step 7 on"],
  ];
  for (const [what, changes, finding] of cases) {
    await t.step(what, async () => {
      const { code, stdout, stderr } = await runOdd(changes);
      assertEquals([code, stderr], [1, ""]);
      assertStringIncludes(stdout, "NOT OK");
      assertStringIncludes(stdout, finding);
      assertMatch(stdout, /\n\noverall okay: 0\n$/);
    });
  }
});

Deno.test("llmts verify finds a changed byte that no number shows, where the JSON has the state's checksum", async () => {
  await inFolder(async (folder) => {
    const first = writeOdd(folder);
    const stateSha256 = createHash("sha256").update(Deno.readFileSync(first.state)).digest("hex");
    const json = (record: Record<string, unknown>): void => {
      record.stateSha256 = stateSha256;
    };
    writeOdd(folder, { json });
    assertEquals((await run(folder, "--model", "odd.bin")).code, 0);

    const state = ({ ints }: { ints: Int32Array }): void => {
      ints[STATE_PARTS.logits]! ^= 1;
    };
    writeOdd(folder, { json, state });
    const { code, stdout } = await run(folder, "--model", "odd.bin");
    assertEquals(code, 1);
    assertStringIncludes(
      stdout,
      '"odd_debug_state.bin" is not the file that "odd_debug_state.json" was written with',
    );
    assertEquals(stdout.includes("NOT OK"), false);
    assertMatch(stdout, /\n\noverall okay: 0\n$/);
  });
});

Deno.test("llmts verify says that it didn't compare losses it doesn't know", async () => {
  const { code, stdout } = await runOdd({ json: null });
  assertEquals(code, 0);
  assertMatch(
    stdout,
    /\n\nten losses: not compared, there is no "odd_debug_state.json"\n\noverall okay: 1\n$/,
  );
});

Deno.test("llmts verify says so where the model's file is rounded to bf16", async () => {
  await inFolder(async (folder) => {
    const { model } = writeOdd(folder);
    await writeCheckpoint(join(folder, "odd_bf16.bin"), readCheckpoint(model, openDevice()), "bf16");
    const { code, stdout } = await run(folder, "--model", "odd_bf16.bin");
    assertEquals(code, 1);
    assertStringIncludes(stdout, "state: odd_debug_state.bin");
    assertStringIncludes(stdout, "The model's file is in bf16");
  });
});

Deno.test("llmts verify names files that don't fit, in one line and before anything else", async (t) => {
  const HINT = "\nhint: dev/reference/gpt2.py, in llmts' sources, writes a model and its debug state\n";
  const cases: [args: string[], code: number, stderr: string][] = [
    [[], 1, `safetensors file, or a folder${HINT}`],
    [[], 1, '"gpt2_124M.bin": no such file or folder, expected a model'],
    [["--model", "gpt2"], 2, '--model "gpt2" is a preset, which has no trained weights'],
    [["--model", "odd.bin", "--state", "absent.bin"], 1, `"absent.bin": cannot be opened: no such file`],
    [
      ["--model", "odd_debug_state.bin"],
      1,
      '"odd_debug_state.bin": is a debug state (magic 20240327), expected',
    ],
    [
      ["--model", "odd.bin", "--state", "odd.bin"],
      1,
      '"odd.bin": is a model checkpoint (magic 20240326), ex',
    ],
    [
      ["--model", "odd.bin", "--state", "odd_debug_state.json"],
      1,
      '"odd_debug_state.json": is text that begi',
    ],
    [["--model", "odd.bin", "--state", "cut.bin"], 1, '"cut.bin": has 90000 bytes, a debug state of 2 × 31'],
    [
      ["--model", "cut_model.bin"],
      1,
      '"cut_model.bin": has 70000 bytes, its header calls for 74464: 4464 by',
    ],
    [
      ["--model", "wide.bin", "--state", "odd_debug_state.bin"],
      1,
      "for this model (maxT 33, V 64, L 2, C 24)",
    ],
    [["--model", "odd.bin", "--precision", "half"], 2, '--precision is "half", expected one of '],
  ];
  await inFolder(async (folder) => {
    const { model, state } = writeOdd(folder);
    Deno.writeFileSync(join(folder, "cut.bin"), Deno.readFileSync(state).subarray(0, 90000));
    Deno.writeFileSync(join(folder, "cut_model.bin"), Deno.readFileSync(model).subarray(0, 70000));
    const other = Deno.readFileSync(model);
    new Int32Array(other.buffer)[3] = 64;
    Deno.writeFileSync(join(folder, "wide.bin"), other);
    for (const [args, code, message] of cases) {
      await t.step(`llmts verify ${args.join(" ")}`, async () => {
        const result = await run(folder, ...args);
        assertEquals([result.code, result.stdout], [code, ""]);
        assertStringIncludes(result.stderr, message);
      });
    }
  });
});
