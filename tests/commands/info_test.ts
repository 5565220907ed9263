import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { build, EMULATED } from "../cuda/build.ts";
import { inFolder } from "../folder.ts";
import { llmts } from "./run.ts";
import { writeSmallModel } from "./small_model.ts";

Deno.test("llmts info takes a model's file, and refuses sequences it has no positions for", async () => {
  await inFolder(async (folder) => {
    await writeSmallModel(folder);
    const args = ["info", "--model", "small.bin", "--seq-len"];
    assertMatch(
      (await llmts(folder, [...args, "32"])).stdout,
      /^model: +small\.bin: 403576 parameters, B=4, T=32, fp32$/m,
    );
    assertEquals(await llmts(folder, [...args, "33"]), {
      code: 2,
      stdout: "",
      stderr:
        "llmts: --seq-len is 33, but small.bin has 32 positions\nhint: --seq-len 32 is the most it takes\n",
    });
  });
});

Deno.test("llmts info says what is wrong with the library, prints the rest and exits with 1", async () => {
  const options = { env: { LLMTS_LIBRARY_PATH: "no such folder" } };
  const { code, stdout, stderr } = await llmts(".", ["info"], options);
  assertEquals(code, 1);
  assertMatch(stdout, /^library: +No kernel library was found; tried ".*no such folder/m);
  assertMatch(stdout, /^parameters: +474\.8 MiB$/m);
  assertStringIncludes(stderr, "hint: run `deno task build`");
  const json = JSON.parse((await llmts(".", ["info", "--json"], options)).stdout);
  assertStringIncludes(json.library.error, "No kernel library was found");
  assertEquals(json.memory.gradients, 124_475_904 * 4);
});

Deno.test("llmts info takes a model of fewer positions than --seq-len has without it, and sizes alone", async () => {
  await inFolder(async (folder) => {
    const sizes = { n_layer: 1, n_head: 2, n_embd: 8, n_positions: 33 };
    Deno.writeTextFileSync(join(folder, "sizes.json"), JSON.stringify(sizes));
    const json = async (...args: string[]): Promise<{ T: number; config: { L: number } }> =>
      JSON.parse((await llmts(folder, ["info", "--json", "--model", ...args])).stdout).model;
    const { T, config } = await json("sizes.json");
    assertEquals([T, config.L], [33, 1]);
    assertEquals([(await json("gpt2")).T, (await json("sizes.json", "--seq-len", "5")).T], [64, 5]);
    for (const command of ["sample", "eval", "verify"]) {
      const { code, stderr } = await llmts(folder, [command, "--model", "sizes.json"]);
      assertEquals([code, stderr], [
        2,
        'llmts: --model "sizes.json" has a model\'s sizes only, not its weights\n' +
        "hint: name their file, or the folder of both\n",
      ]);
    }
  });
});

Deno.test("llmts info prints numbers the same in every locale", async () => {
  const { stdout } = await llmts(".", ["info"], { env: { LC_ALL: "de_DE.UTF-8" } });
  assertMatch(stdout, /^parameters: +474\.8 MiB$/m);
});

Deno.test("llmts info --device cuda prints the GPU's free memory (emulated)", async () => {
  await build("llmts_cuda_emulated");
  const library = join(EMULATED, "libllmts_cuda_emulated.so");
  const args = ["info", "--device", "cuda", "--library", library];
  assertMatch((await llmts(".", args)).stdout, /^free now: +128\.0 MiB$/m); // all that the emulation has
  const json = JSON.parse((await llmts(".", [...args, "--json"])).stdout);
  assert(json.memory.available <= 128 << 20);
});
