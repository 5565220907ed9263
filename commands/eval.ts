/**
 * `llmts eval`: the loss of a model on token files.
 *
 * @module
 */
import { activationBytes } from "../src/activations.ts";
import { BROKEN_HINT, LlmtsError } from "../src/errors.ts";
import { createEvaluator } from "../src/evaluate.ts";
import { openValidation, validationBatches } from "../src/io/loader.ts";
import { loadModel, modelConfig } from "../src/load.ts";
import { checkMemory, weightBytes } from "../src/memory.ts";
import { quantize } from "../src/quantize.ts";
import { defineCommand } from "./command.ts";
import {
  activationPrecision,
  checkSequenceLength,
  deviceWords,
  INFERENCE_FLAGS,
  openEngine,
  OUTPUT_FOLDER,
  trainedModel,
} from "./engine.ts";
import { notice, print } from "./output.ts";
import { chooseData, dataFiles } from "./train_data.ts";

/** See the module. */
export const command = defineCommand({
  flags: {
    model: {
      type: "path",
      value: "FILE|DIR",
      default: OUTPUT_FOLDER,
      description:
        "a checkpoint, a safetensors file or Hugging Face folder; another folder for its newest checkpoint",
      group: "Model and data",
    },
    data: {
      type: "path",
      value: "FILES",
      absent: "the validation data that llmts train takes by default",
      description: "tokens: a file, a pattern, or a list with commas between",
      group: "Model and data",
    },
    seqLen: {
      type: "integer",
      value: "T",
      min: 1,
      absent: "the model's positions",
      description: "tokens in a window: each token is predicted from those before it in its window",
      group: "Batches",
    },
    batchSize: {
      type: "integer",
      value: "B",
      min: 1,
      default: 4,
      description: "windows at a time; the loss doesn't depend on it",
      group: "Batches",
    },
    tokens: {
      type: "integer",
      value: "N",
      min: 0,
      default: 0,
      description: "tokens to predict at most; 0: all",
      group: "Batches",
    },
    ...INFERENCE_FLAGS,
  },
  details: [
    "Prints the mean cross-entropy in nats, and the perplexity, e to the power of it. They compare only for the same tokens " +
    "and windows: a token early in its window has little to go by.",
  ],
  examples: [
    "llmts eval --model gpt2_124M.bin --data data/tiny_shakespeare_val.bin",
    "llmts eval --precision int8    # what 8-bit weights cost",
  ],
  async run(flags): Promise<number> {
    const source = trainedModel(flags.model);
    const config = modelConfig(source);
    const { batchSize: B, seqLen: T = config.maxT } = flags;
    checkSequenceLength(T, source, config);
    const precision = activationPrecision(flags);
    const device = openEngine(flags);
    const activations = activationBytes(config, { B, T, precision, training: false });
    checkMemory(
      { total: weightBytes(config, flags.precision, device) + activations },
      device.freeMemory(),
    );
    const data = flags.data === undefined
      ? await chooseData({ data: undefined, valData: undefined })
      : { val: dataFiles(flags.data), note: undefined };
    using files = openValidation(data.val, config.V);
    if (data.note !== undefined) notice(data.note);

    const loaded = loadModel(source, device, { precision, keepMaster: false });
    const evaluate = createEvaluator(flags.precision === "int8" ? quantize(loaded) : loaded, { B, T });
    const start = performance.now();
    const { loss, tokens } = evaluate(
      validationBatches(files.paths, config.V, { B, T, limit: flags.tokens }),
    );
    if (!Number.isFinite(loss)) {
      throw new LlmtsError(`The loss of "${source}" is ${loss} (${tokens} tokens, ${flags.precision})`, {
        hint: BROKEN_HINT,
      });
    }
    const rate = tokens / (performance.now() - start) * 1000;
    print(`loss ${loss.toFixed(6)}, perplexity ${Math.exp(loss).toFixed(3)}\n`);
    print(`${tokens} tokens, T=${T}, ${source}, ${flags.precision}, ${rate.toFixed(0)} tokens/s\n`);
    print(`device: ${deviceWords(device.info())}\n`);
    return 0;
  },
});
