// Whatever ends a run, what was trained is kept, and neither a second run nor a new one spoils it.

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { checkpointFiles, completeSteps } from "../../src/checkpoints.ts";
import { writeTokenFile } from "../../src/io/tokens.ts";
import { llmts, start } from "./run.ts";
import { inSmallFolder, SILENT, SMALL_RUN } from "./small_model.ts";

const SLOW = [...SMALL_RUN, ...SILENT, "--steps", "2000"];

/** The bytes of model and optimizer state after a step. */
function bits(out: string, step: number): Uint8Array[] {
  const { model, state } = checkpointFiles(out, step);
  return [model, state].map((path) => Deno.readFileSync(path));
}

async function writeIds(folder: string, name: string, ids: readonly number[]): Promise<void> {
  await writeTokenFile(join(folder, name), 65536, (write) => write(ids));
}

for (const order of [[], ["--shuffle"]]) {
  Deno.test(`llmts train keeps the steps before a bad token, and goes on from there once it is mended ${order}`, async () => {
    await inSmallFolder(async (folder) => {
      const ids = Array.from({ length: 1000 }, (_, i) => (i * i) % 97);
      const run = [
        ...[
          "train",
          "--model",
          "small.bin",
          "--data",
          "own_train.bin",
          "--threads",
          "1",
          "--batch-size",
          "2",
        ],
        ...["--seq-len", "16", "--total-batch-size", "64", "--steps", "15", ...SILENT, ...order],
      ];
      await writeIds(folder, "own_train.bin", ids);
      assertEquals((await llmts(folder, [...run, "--out", "undisturbed"])).code, 0);

      await writeIds(folder, "own_train.bin", ids.with(700, 60000));
      const { code, stderr } = await llmts(folder, run);
      assertEquals(code, 1);
      const out = join(folder, "out");
      const [last = 0, ...others] = completeSteps(out);
      assert(last > 0 && last < 15 && others.length === 0, stderr);
      assertStringIncludes(stderr, `llmts: Step ${last + 1}: "own_train.bin": has id 60000 at token 700`);
      assertMatch(stderr, RegExp(`\nhint: .*; the checkpoint of step ${last} is in "out"\n$`));

      await writeIds(folder, "own_train.bin", ids);
      assertEquals((await llmts(folder, ["train", "--resume"])).code, 0);
      assertEquals(bits(out, 15), bits(join(folder, "undisturbed"), 15));
    });
  });
}

Deno.test("llmts train saves and says so when nobody reads on", async () => {
  await inSmallFolder(async (folder) => {
    const child = start(folder, SLOW);
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; !text.includes("step    3/"); text += (await reader.read()).value);
    await reader.cancel();
    const [{ code }, stderr] = await Promise.all([child.status, new Response(child.stderr).text()]);
    const [last, ...others] = completeSteps(join(folder, "out"));
    assert(last !== undefined && last >= 3 && last < 2000 && others.length === 0);
    assertEquals([code, stderr], [
      1,
      `llmts: Nobody reads the output any more\nhint: the checkpoint of step ${last} is in "out"\n`,
    ]);
  });
});

Deno.test("llmts train ends with an error when nobody reads its first line", async () => {
  await inSmallFolder(async (folder) => {
    const child = start(folder, SLOW);
    await child.stdout.cancel();
    const [{ code }, stderr] = await Promise.all([child.status, new Response(child.stderr).text()]);
    assertEquals([code, stderr], [1, "llmts: Nobody reads the output any more\n"]);
  });
});

Deno.test("llmts train keeps a second run out of its folder, until it ends, however it ends", async () => {
  await inSmallFolder(async (folder) => {
    const child = start(folder, [...SLOW, "--checkpoint-every", "1", "--keep", "2"]);
    const text = child.stdout.pipeThrough(new TextDecoderStream());
    let tried = 0;
    for await (const part of text) {
      if (tried > 0 || !part.includes("checkpoint: ")) continue;
      for (const args of [["train", "--resume"], [...SLOW, "--overwrite"]]) {
        const { code, stderr } = await llmts(folder, args);
        assertEquals([code, stderr], [
          1,
          'llmts: Another llmts is training into "out"\nhint: wait until it is done, or give another --out\n',
        ]);
        tried++;
      }
      // Looking is no harm.
      assertEquals((await llmts(folder, ["train", "--resume", "--dry-run"])).code, 0);
      child.kill("SIGKILL");
    }
    await Promise.all([child.status, child.stderr.cancel()]);
    assertEquals(tried, 2);
    const last = completeSteps(join(folder, "out")).at(-1)!;
    const resumed = await llmts(folder, ["train", "--resume", "--steps", String(last + 1)]);
    assertEquals([resumed.code, resumed.stderr], [0, ""]);
  });
});

Deno.test("llmts train --overwrite keeps the run that is there when the new one can't begin", async () => {
  await inSmallFolder(async (folder) => {
    const run = [...SMALL_RUN, "--sample-every", "0", "--steps", "2"];
    assertEquals((await llmts(folder, run)).code, 0);
    await writeIds(folder, "bad_val.bin", [...Array(40).fill(1), 60000]);
    await writeIds(folder, "short_val.bin", [1]);
    await writeIds(folder, "bad_train.bin", [60000, ...Array(100).fill(1)]);
    const badData = run.with(run.indexOf("fox_train.bin"), "bad_train.bin");
    for (
      const [args, expected] of [
        [[...run, "--val-data", "bad_val.bin"], "has id 60000 at token 40"],
        [[...run, "--val-data", "short_val.bin"], "has 1 tokens, validation needs at least 2"],
        [[...badData, "--val-every", "0"], "has id 60000 at token 0"],
      ] as const
    ) {
      const { code, stderr } = await llmts(folder, [...args, "--overwrite"]);
      assertEquals(code, 1);
      assertStringIncludes(stderr, expected);
      assertEquals(completeSteps(join(folder, "out")), [2]);
    }
    assertEquals((await llmts(folder, [...run, "--overwrite"])).code, 0);
  });
});

Deno.test("llmts train --resume says how to go on where the newest checkpoint is damaged and an older one isn't", async () => {
  await inSmallFolder(async (folder) => {
    const run = [...SMALL_RUN, ...SILENT, "--steps", "4", "--checkpoint-every", "2"];
    assertEquals((await llmts(folder, run)).code, 0);
    const out = join(folder, "out");
    const whole = bits(out, 4);
    for (const file of ["run", "model", "state"] as const) {
      const path = checkpointFiles(out, 4)[file];
      const content = Deno.readFileSync(path);
      Deno.truncateSync(path, content.length - 8);
      const { code, stderr } = await llmts(folder, ["train", "--resume", "--steps", "5"]);
      assertEquals(code, 1);
      assertStringIncludes(stderr, `llmts: "${join("out", path.slice(out.length + 1))}": `);
      assertStringIncludes(
        stderr,
        `\nhint: remove "${
          join("out", "DONE_00000004")
        }" to go on from the checkpoint before it, of step 2\n`,
      );
      Deno.writeFileSync(path, content);
    }
    Deno.removeSync(checkpointFiles(out, 4).done);
    assertEquals((await llmts(folder, ["train", "--resume"])).code, 0);
    assertEquals(bits(out, 4), whole);
  });
});

Deno.test("llmts train names its output when that can't be written", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  await inSmallFolder(async (folder) => {
    const [cli, deno] = [join(import.meta.dirname!, "../../cli.ts"), Deno.execPath()];
    const { code, stderr } = await new Deno.Command("sh", {
      args: ["-c", '"$0" run -A "$@" > /dev/full', deno, cli, "train", "--dry-run"],
      cwd: folder,
      env: { NO_COLOR: "1" },
    }).output();
    assertEquals(
      [code, new TextDecoder().decode(stderr)],
      [1, "llmts: The output can't be written: no space left on device\n"],
    );
  });
});
