/**
 * `llmts verify`: a model's numbers beside those that PyTorch left in a debug state.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import type { GPT2Config } from "../src/config.ts";
import { type DebugState, openDebugState } from "../src/io/debug_state.ts";
import { loadModel, modelHeader } from "../src/load.ts";
import { checkMemory, memoryPlan } from "../src/memory.ts";
import type { Precision } from "../src/model.ts";
import { verify } from "../src/verify.ts";
import {
  type ExpectedLosses,
  expectedLossesPath,
  findExpectedLosses,
  isIntact,
} from "../src/verify/expected_losses.ts";
import { defineCommand } from "./command.ts";
import { deviceWords, ENGINE_FLAGS, openEngine, trainedModel } from "./engine.ts";
import { print } from "./output.ts";
import { CHECK_HEAD, checkLine, STEP_HEAD, stepLine } from "./verify_report.ts";

/** What each choice of `--precision` runs. */
const CHOICES = {
  fp32: ["fp32"],
  bf16: ["bf16"],
  both: ["fp32", "bf16"],
} as const satisfies Record<string, readonly Precision[]>;
const HINT = "dev/reference/gpt2.py, in llmts' sources, writes a model and its debug state";

/** See the module. */
export const command = defineCommand({
  flags: {
    model: {
      type: "path",
      value: "FILE",
      default: "gpt2_124M.bin",
      description: "checkpoint, safetensors file or folder to verify",
      group: "Files",
    },
    state: {
      type: "path",
      value: "FILE",
      absent: "NAME_debug_state.bin beside the model NAME.bin",
      description: "debug state: a batch, and what PyTorch made of it",
      group: "Files",
    },
    ...ENGINE_FLAGS,
    precision: {
      type: "choice",
      choices: ["fp32", "bf16", "both"],
      default: "both",
      description: "number format of weights and activations; bf16 is compared with wider tolerances",
      group: "Machine",
    },
  },
  details: [
    "Runs the model forward and backward on the batch of a debug state and compares logits, loss and each gradient " +
    "with PyTorch's; then takes ten steps of AdamW on the batch and compares the losses, where they are known: from " +
    "the .json beside the state; for GPT-2 124M and its state, as llm.c publishes them, they are built in. The last " +
    "line is overall okay: 1 where all that was compared agrees, else overall okay: 0, with exit code 1.",
    `${HINT}.`,
  ],
  examples: [
    "llmts verify",
    "llmts verify --model gpt2/gpt2_124M.bin --state gpt2/gpt2_124M_debug_state.bin",
  ],
  run(flags): number {
    const source = trainedModel(flags.model, { hint: HINT });
    const { config, stored } = modelHeader(source);
    using state = openDebugState(flags.state ?? statePath(source), config, HINT);
    const expected = findExpectedLosses(state, config);
    const device = openEngine(flags);
    for (const precision of CHOICES[flags.precision]) {
      checkMemory(memoryPlan(config, { ...state, precision }), device.freeMemory(), "close other programs");
    }

    printHead(source, config, state, device);
    let okay = checkBytes(state, expected);
    for (const precision of CHOICES[flags.precision]) {
      if (runPrecision(source, device, { precision, tf32: flags.tf32 }, state, expected)) continue;
      okay = false;
      if (stored === "bf16") {
        print("The model's file is in bf16: a state of the unrounded weights is another's\n");
      }
    }
    if (expected === undefined) {
      print(`\nten losses: not compared, there is no "${expectedLossesPath(state.path)}"\n`);
    }
    print(`\noverall okay: ${okay ? 1 : 0}\n`);
    return okay ? 0 : 1;
  },
});

/** The name that llm.c and dev/reference/gpt2.py give the debug state of a model, in either precision. */
function statePath(source: string): string {
  return `${source.replace(/[/\\]+$/, "").replace(/(_bf16)?\.(bin|safetensors)$/, "")}_debug_state.bin`;
}

function printHead(source: string, config: GPT2Config, { path, B, T }: DebugState, device: Device): void {
  const { maxT, V, L, NH, C } = config;
  print(`model: ${source}, maxT ${maxT}, V ${V}, L ${L}, NH ${NH}, C ${C}\n`);
  print(`state: ${path}, B ${B}, T ${T}\n`);
  print(`device: ${deviceWords(device.info())}\n`);
}

/** Says so where the state is not the file that was written with the losses; returns whether that isn't so. */
function checkBytes(state: DebugState, expected: ExpectedLosses | undefined): boolean {
  if (expected === undefined || isIntact(state, expected) !== false) return true;
  print(
    `"${state.path}" is not the file that "${expected.source}" was written with: its sha256 is another. ` +
      "It was changed, or is of another run\n",
  );
  return false;
}

/** Compares in one precision and prints; returns whether all agrees. */
function runPrecision(
  source: string,
  device: Device,
  { precision, tf32 }: { precision: Precision; tf32: boolean },
  state: DebugState,
  expected: ExpectedLosses | undefined,
): boolean {
  print(`\n${precision}\n${CHECK_HEAD}\n`);
  using memory = device.temporary(); // the next precision needs as much
  const { okay, findings } = verify(loadModel(source, memory, { precision }), state, {
    expected,
    rounded: tf32,
    onCheck: (check) => print(`${checkLine(check)}\n`),
    onStep: (check) => print(`${check.step === 0 ? `\n${STEP_HEAD}\n` : ""}${stepLine(check)}\n`),
  });
  for (const finding of findings) print(`${finding}\n`);
  return okay;
}
