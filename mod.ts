/**
 * llmts as a library: load or start a GPT-2, train it, generate text. Importing it loads nothing native; the kernel library
 * is opened by {@linkcode openDevice}.
 *
 * Permissions: `--allow-ffi` for the kernel library (of its folder alone on the CPU, of all for a GPU's addresses),
 * `--allow-read` for it and for model and token files, `--allow-env` for the variables that say where it is,
 * `--allow-write` to save a checkpoint.
 *
 * @example Train a small model for a few steps, then let it go on from a prompt
 * ```ts
 * import { assert } from "@std/assert";
 *
 * const device = openDevice({ threads: 1 });
 * const tokenizer = await gpt2Tokenizer();
 * const model = randomModel({ ...presetConfig("d2"), C: 32, NH: 2 }, device, 42);
 *
 * const text = "The quick brown fox jumps over the lazy dog. ".repeat(20);
 * const tokens = Int32Array.from(tokenizer.encode(text));
 * const [B, T] = [2, 16];
 * const trainer = createTrainer(model, { B, T });
 * const losses: number[] = [];
 * for (let step = 0; step < 8; step++) {
 *   const start = step * 5;
 *   const inputs = tokens.subarray(start, start + B * T);
 *   const targets = tokens.subarray(start + 1, start + 1 + B * T);
 *   losses.push(trainer.step({ inputs, targets }, 1e-2).loss);
 * }
 * assert(losses.at(-1)! < losses[0]!);
 *
 * const prompt = tokenizer.encode("The quick");
 * const generated = [...generate(model, prompt, { tokens: 8, temperature: 0 })];
 * console.log(new TextDecoder().decode(tokenizer.decode([...prompt, ...generated])));
 * ```
 *
 * @module
 */
export { type Device, type DeviceName, DEVICES, openDevice } from "./ffi/device.ts";
export { type DeviceInfo, KernelError } from "./ffi/library.ts";
export { type DType, float32, type Tensor } from "./ffi/tensor.ts";
export { type AdamW } from "./src/adamw.ts";
export { END_OF_TEXT, type GPT2Config, presetConfig, PRESETS } from "./src/config.ts";
export { FileError, LlmtsError, UsageError } from "./src/errors.ts";
export { createEvaluator, type Evaluation, type Evaluator } from "./src/evaluate.ts";
export {
  createDecoder,
  type Decoder,
  generate,
  generateBatch,
  type GenerateOptions,
} from "./src/generate.ts";
export { newestCheckpoint, readCheckpoint, writeCheckpoint } from "./src/io/checkpoint.ts";
export {
  type DebugState,
  type DebugStateSource,
  openDebugState,
  writeDebugState,
} from "./src/io/debug_state.ts";
export { writeHuggingFaceFile, writeHuggingFaceFolder } from "./src/io/hugging_face.ts";
export { type Batch, DataLoader, validationBatches } from "./src/io/loader.ts";
export { gpt2Tokenizer, type StreamDecoder, streamDecoder, type Tokenizer } from "./src/io/tokenizer.ts";
export { readTokenizerFile, writeTokenizerFile } from "./src/io/tokenizer_file.ts";
export { TokenReader, writeTokenFile } from "./src/io/tokens.ts";
export { loadModel, modelConfig, randomModel } from "./src/load.ts";
export { type MemoryPlan, memoryPlan } from "./src/memory.ts";
export { type Model, type Precision } from "./src/model.ts";
export { parameterCount, type Parameters } from "./src/parameters.ts";
export { quantize } from "./src/quantize.ts";
export { sampleToken, type SamplingOptions } from "./src/sampler.ts";
export {
  createTrainer,
  type OutlierWindows,
  type StepResult,
  type Trainer,
  type TrainerOptions,
} from "./src/trainer.ts";
export { type Verification, verify, type VerifyOptions } from "./src/verify.ts";
export { type ExpectedLosses, findExpectedLosses } from "./src/verify/expected_losses.ts";
