/**
 * `llmts verify` of GPT-2 124M on the GPU: of the files in LLMTS_VERIFY_FOLDER, which can be carried to a machine without
 * PyTorch, or else of what dev/reference/gpt2.py makes here.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { ROOT, run } from "../cuda/build.ts";
import { needsPython, runPython } from "../reference/python.ts";
import { gpuTest } from "./gpu.ts";

const carried = Deno.env.get("LLMTS_VERIFY_FOLDER");
const python = needsPython("", ["torch", "transformers"]);

gpuTest(
  "llmts verify finds GPT-2 124M in fp32 and bf16 on the GPU to be PyTorch's",
  carried !== undefined || !python.ignore
    ? undefined
    : "PyTorch is not installed, and LLMTS_VERIFY_FOLDER names no folder",
  async () => {
    const folder = carried ?? Deno.makeTempDirSync();
    try {
      if (carried === undefined) {
        const script = join(ROOT, "dev", "reference", "gpt2.py");
        runPython([script, "--model", "gpt2", "--random", "--out", folder]);
      }
      const { code, output } = await run(Deno.execPath(), [
        ...["run", "-A", "cli.ts", "verify", "--device", "cuda", "--precision", "both"],
        ...["--model", join(folder, "gpt2_124M.bin")],
      ]);
      assertMatch(output, /overall okay: 1/, output.slice(-3000));
      assertEquals(code, 0);
    } finally {
      if (carried === undefined) Deno.removeSync(folder, { recursive: true });
    }
  },
);
