import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { float32 } from "../../ffi/tensor.ts";
import { readCheckpoint, writeCheckpoint } from "../../src/io/checkpoint.ts";
import { writeTokenFile } from "../../src/io/tokens.ts";
import { llmts } from "./run.ts";
import { inSmallFolder, SMALL } from "./small_model.ts";

const EVAL = ["eval", "--model", "small.bin", "--data", "fox_val.bin", "--threads", "1", "--seq-len", "16"];

/** Loss and tokens that a run printed. */
function evaluated({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) {
  assertEquals([code, stderr], [0, ""]);
  const found = /^loss (\d+\.\d{6}), perplexity (\d+\.\d{3})\n(\d+) tokens, T=16, /.exec(stdout);
  assert(found !== null, stdout);
  return { loss: Number(found[1]), perplexity: Number(found[2]), tokens: Number(found[3]) };
}

Deno.test("llmts eval gives a loss that doesn't depend on the batch size, and that train validates with", async () => {
  await inSmallFolder(async (folder) => {
    const [one, three] = await Promise.all(
      ["1", "3"].map((B) => llmts(folder, [...EVAL, "--batch-size", B])),
    );
    const { loss, perplexity, tokens } = evaluated(one!);
    assertEquals(evaluated(three!), { loss, perplexity, tokens });
    assert(Math.abs(Math.log(perplexity) - loss) < 1e-4);
    assertMatch(one!.stdout, /\ndevice: .+, 1 thread\n$/); // --device auto says what it took
    const train = await llmts(folder, [
      ...["train", "--model", "small.bin", "--data", "fox_train.bin", "--threads", "1", "--batch-size", "2"],
      ...["--seq-len", "16", "--steps", "1", "--val-tokens", "0", "--sample-every", "0"],
    ]);
    assertStringIncludes(train.stdout, `val loss ${loss.toFixed(6)} (${tokens} tokens, T=16)`);
  });
});

Deno.test("llmts eval takes as many tokens as asked, in each precision", async () => {
  await inSmallFolder(async (folder) => {
    const runs = await Promise.all(
      ["fp32", "bf16", "int8"].map((precision) =>
        llmts(folder, [...EVAL, "--tokens", "21", "--precision", precision, "--device", "cpu"])
      ),
    );
    const [fp32, bf16, int8] = runs.map(evaluated);
    for (const other of [fp32!, bf16!, int8!]) {
      assertEquals(other.tokens, 21);
      assert(Math.abs(other.loss - fp32!.loss) < 0.02, `${other.loss} and ${fp32!.loss}`);
    }
    assert(bf16!.loss !== fp32!.loss && int8!.loss !== bf16!.loss);
  });
});

Deno.test("llmts eval refuses a loss that is no number, in each precision", async () => {
  await inSmallFolder(async (folder) => {
    const path = join(folder, "small.bin");
    const model = readCheckpoint(path, openDevice({ threads: 1 }));
    float32(model.parameters.lnfb)[3] = NaN;
    await writeCheckpoint(path, model);
    for (const precision of ["fp32", "bf16", "int8"]) {
      const args = [...EVAL, "--tokens", "21", "--precision", precision, "--device", "cpu"];
      assertEquals(await llmts(folder, args), {
        code: 1,
        stdout: "",
        stderr: `llmts: The loss of "small.bin" is NaN (21 tokens, ${precision})\n` +
          "hint: some of the model's weights are not finite or too large: take an earlier checkpoint\n",
      });
    }
  });
});

Deno.test("llmts eval refuses what it can't evaluate with one line", async () => {
  await inSmallFolder(async (folder) => {
    await writeTokenFile(join(folder, "one.bin"), SMALL.V, (write) => write([1]));
    for (
      const [args, code, message] of [
        [["--model", "d4"], 2, /is a preset/],
        [["--model", "none"], 1, /no such file.*\nhint: llmts train makes a model/],
        [["--model", "small.bin", "--seq-len", "33"], 2, /has 32 positions/],
        [["--model", "small.bin", "--data", ""], 2, /--data is "", expected a path/],
        [["--model", "small.bin", "--data", "small.bin"], 1, /small\.bin/],
        [["--model", "small.bin", "--data", "one.bin"], 1, /has 1 tokens, validation needs at least 2/],
      ] as const
    ) {
      const result = await llmts(folder, ["eval", ...args]);
      assertEquals([result.code, result.stdout], [code, ""]);
      assertMatch(result.stderr, message);
      assert(result.stderr.trim().split("\n").length <= 2);
    }
  });
});
