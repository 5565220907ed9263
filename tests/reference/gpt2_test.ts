import { assertAlmostEquals, assertEquals, assertLessOrEqual } from "@std/assert";
import { join } from "@std/path";
import { fp32ToBf16 } from "../../src/bfloat16.ts";
import type { GPT2Config } from "../../src/config.ts";
import { initializeParameters } from "../../src/initialize.ts";
import { readCheckpointHeader } from "../../src/io/checkpoint.ts";
import { HEADER_BYTES } from "../../src/io/files.ts";
import { parameterCount, type TensorName, TENSORS } from "../../src/parameters.ts";
import { inFolder } from "../folder.ts";
import { needsPython, runPython } from "./python.ts";

const REFERENCE = join(import.meta.dirname!, "../../dev/reference");

/** A fresh model's numbers in checkpoint order. */
function initialized(config: GPT2Config, seed: number): Float32Array {
  const numbers = new Float32Array(parameterCount(config));
  const views = new Map<TensorName, Float32Array>();
  let offset = 0;
  for (const { name, shape } of TENSORS) {
    const count = shape(config).reduce((product, extent) => product * extent);
    views.set(name, numbers.subarray(offset, offset += count));
  }
  initializeParameters(config, (name, layer) => {
    const whole = views.get(name)!;
    if (layer === undefined) return whole;
    const size = whole.length / config.L;
    return whole.subarray(layer * size, (layer + 1) * size);
  }, seed);
  return numbers;
}

Deno.test({
  ...needsPython("gpt2.py --random writes checkpoints, debug state, losses and tokens of one model", [
    "torch",
  ]),
  fn: () =>
    inFolder((folder) => {
      // deno-fmt-ignore
      const printed = runPython([join(REFERENCE, "gpt2.py"), "--model", "d2", "--random", "--out", folder,
        "--vocabulary", "65", "--context", "33", "--heads", "3", "--channels", "24", "--seq-len", "33",
        "--batch-size", "2", "--seed", "7"]);
      const read = (name: string): ArrayBuffer => Deno.readFileSync(join(folder, name)).buffer;
      const [B, T] = [2, 33];
      const config = { maxT: 33, V: 65, Vp: 128, L: 2, NH: 3, C: 24 };

      assertEquals(readCheckpointHeader(join(folder, "d2.bin")), { config, stored: "fp32" });
      const weights = new Float32Array(read("d2.bin"), HEADER_BYTES);
      initialized(config, 7).forEach((value, i) => {
        assertLessOrEqual(Math.abs(value - weights[i]!), 1e-6 * 0.02, `weight ${i}`);
      });

      assertEquals(readCheckpointHeader(join(folder, "d2_bf16.bin")), { config, stored: "bf16" });
      const narrow = new Uint16Array(weights.length);
      fp32ToBf16(narrow, weights);
      assertEquals(new Uint16Array(read("d2_bf16.bin"), HEADER_BYTES), narrow);

      const ids = new Uint16Array(read("d2_tokens.bin"), HEADER_BYTES);
      assertEquals(ids.length, B * T + 1);
      const state = read("d2_debug_state.bin");
      assertEquals([...new Int32Array(state, 0, 5)], [20240327, 2, B, T, 0]);
      assertEquals(new Int32Array(state, HEADER_BYTES, B * T), Int32Array.from(ids.subarray(0, -1)));
      assertEquals(new Int32Array(state, HEADER_BYTES + 4 * B * T, B * T), Int32Array.from(ids.subarray(1)));
      const rest = new Float32Array(state, HEADER_BYTES + 8 * B * T);
      assertEquals(rest.length, B * T * config.V + 1 + weights.length);

      const { losses } = JSON.parse(Deno.readTextFileSync(join(folder, "d2_debug_state.json")));
      assertEquals([losses.matrices.length, losses.all.length], [10, 10]);
      assertAlmostEquals(losses.matrices[0], rest[B * T * config.V]!, 1e-6);
      assertLessOrEqual(losses.matrices[9], losses.matrices[0]);
      assertEquals(printed.match(/^ {2}d\w+ +relative L2 \d\.\d\de-\d\d$/gm)?.length, 16);
    }),
});

Deno.test({
  ...needsPython("load_model() gives transformers' logits, and refuses what it can't compute", [
    "torch",
    "transformers",
  ]),
  fn: () =>
    inFolder((folder) => {
      // load_model itself compares the logits; all weights are noise, so that nothing transposed or left out can hide.
      const script = `
import sys; sys.path.append(sys.argv[1])
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from hugging_face import load_model
for activation in ("gelu_new", "relu"):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=65, n_positions=33, n_embd=24, n_layer=2, n_head=3,
                                       bos_token_id=0, eos_token_id=0, activation_function=activation))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(sys.argv[2])
    try:
        print(load_model(sys.argv[2]).config)
    except SystemExit as error:
        print(str(error).removeprefix(sys.argv[2]))
`;
      assertEquals(runPython(["-c", script, REFERENCE, folder]).trim().split("\n"), [
        "Config(maxT=33, V=65, L=2, NH=3, C=24)",
        ": activation_function is relu, expected gelu_new",
      ]);
    }),
});
