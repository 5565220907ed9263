import { assert, assertEquals } from "@std/assert";
import { join } from "@std/path";
import { openDebugState } from "../../src/io/debug_state.ts";
import { loadModel } from "../../src/load.ts";
import { verify } from "../../src/verify.ts";
import { findExpectedLosses, isIntact } from "../../src/verify/expected_losses.ts";
import { TEST_DEVICES } from "../devices.ts";
import { inFolder } from "../folder.ts";
import { needsPython, runPython } from "./python.ts";

const SCRIPT = join(import.meta.dirname!, "../../dev/reference/gpt2.py");

Deno.test({
  ...needsPython("verify() agrees with what gpt2.py has just written, of fresh weights with every size odd", [
    "torch",
    "transformers",
  ]),
  fn: () =>
    inFolder((folder) => {
      // deno-fmt-ignore
      runPython([SCRIPT, "--model", "d2", "--random", "--out", folder, "--vocabulary", "65", "--context", "33", "--heads",
        "3", "--channels", "57", "--seq-len", "33", "--batch-size", "3", "--seed", "11"]);
      for (const { name, open } of TEST_DEVICES) {
        const model = loadModel(join(folder, "d2.bin"), open());
        using state = openDebugState(join(folder, "d2_debug_state.bin"), model.config);
        const expected = findExpectedLosses(state, model.config);
        assertEquals(isIntact(state, expected), true);
        const { okay, steps, findings } = verify(model, state, { expected });
        assert(okay, `${name}: ${findings.join(" ")}`);
        assertEquals(steps.length, 10);
      }
    }),
});
