/**
 * Times greedy decoding of llmts with its key-value cache, in turns (bench/serve.ts):
 *
 *     deno run -A bench/decode.ts MODEL PROMPT TOKENS THREADS PRECISION
 *
 * One repetition takes a random prompt of PROMPT tokens forward (`prompt`), and then TOKENS one by one (`total` is the mean
 * time of one of them).
 *
 * @module
 */
import { openDevice } from "../ffi/device.ts";
import { int32 } from "../ffi/tensor.ts";
import { createDecoder } from "../src/generate.ts";
import { quantize } from "../src/quantize.ts";
import { sampleToken } from "../src/sampler.ts";
import type { Precision } from "./cases.ts";
import { benchModel, randomTokens } from "./models.ts";
import { mergeTakes, recordOps } from "./recorder.ts";
import { repetitions, serve, type Turn, type TurnResult } from "./serve.ts";

/** What is decoded. */
export interface DecodeOptions {
  readonly prompt: number;
  readonly tokens: number;
  readonly threads: number;
  readonly precision: Precision;
}

/** Gets ready to decode; each call is a turn. */
export function prepareDecoding(
  name: string,
  { prompt, tokens, threads, precision }: DecodeOptions,
): (turn: Turn) => Omit<TurnResult, "peakBytes"> {
  const cpu = openDevice({ device: "cpu", threads });
  const recorder = recordOps(cpu);
  const plain = benchModel(name, cpu, precision === "int8" ? "bf16" : precision);
  const model = { ...(precision === "int8" ? quantize(plain) : plain), device: recorder.device };
  const decoder = createDecoder(model);
  const ids = int32(randomTokens(cpu, 1, prompt, model.config.V));

  return (turn) => {
    const times = { prompt: [] as number[], total: [] as number[] };
    const takes = [];
    for (const counted of repetitions(turn)) {
      decoder.reset();
      const start = performance.now();
      let next = sampleToken(decoder.append(ids), 0, { temperature: 0 });
      const prompted = performance.now();
      for (let n = 0; n < tokens; n++) {
        if (n === tokens - 1) recorder.take(); // of all tokens the last one's ops are shown
        next = sampleToken(decoder.append(Int32Array.of(next)), 0, { temperature: 0 });
      }
      const end = performance.now();
      const taken = recorder.take();
      if (!counted) continue;
      times.prompt.push(prompted - start);
      times.total.push((end - prompted) / tokens);
      takes.push(taken);
    }
    return { times, ops: mergeTakes(takes) };
  };
}

if (import.meta.main) {
  const [name = "", prompt, tokens, threads, precision] = Deno.args;
  await serve(prepareDecoding(name, {
    prompt: Number(prompt),
    tokens: Number(tokens),
    threads: Number(threads),
    precision: precision as Precision,
  }));
}
