/**
 * Times whole training steps of llmts on a GPU, in turns (bench/serve.ts):
 *
 *     deno run -A bench/gpu_step.ts MODEL B T PRECISION
 *
 * A step is what `llmts train` takes: upload, forward, backward, norm, clipping, AdamW; reading the loss and the norm waits for
 * the GPU.
 *
 * @module
 */
import { openDevice } from "../ffi/device.ts";
import { LlmtsError } from "../src/errors.ts";
import type { Precision } from "../src/model.ts";
import { Random } from "../src/random.ts";
import { createTrainer } from "../src/trainer.ts";
import { benchModel } from "./models.ts";
import { serve, type Times, type Turn } from "./serve.ts";

/** Gets ready to train a model on random tokens; each call is a turn. */
function prepare(name: string, B: number, T: number, precision: Precision): (turn: Turn) => { times: Times } {
  const device = openDevice({ device: "cuda" });
  const model = benchModel(name, device, precision);
  const trainer = createTrainer(model, { B, T, weightDecay: 0.1 });
  const random = new Random(1);
  const ids = (): Int32Array<ArrayBuffer> =>
    Int32Array.from({ length: B * T }, () => random.randint32() % model.config.V);
  const batch = { inputs: ids(), targets: ids() };

  return ({ warmup, counted }) => {
    const total: number[] = [];
    for (let step = 0; step < warmup + counted; step++) {
      const start = performance.now();
      trainer.step(batch, 1e-4);
      if (step >= warmup) total.push(performance.now() - start);
    }
    return { times: { total } };
  };
}

try {
  const [name = "", B, T, precision] = Deno.args;
  await serve(prepare(name, Number(B), Number(T), precision as Precision));
} catch (error) {
  if (!(error instanceof LlmtsError)) throw error;
  console.error(`error: ${error.message}`);
  Deno.exit(1);
}
