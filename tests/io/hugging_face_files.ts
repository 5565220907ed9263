/**
 * Hugging Face models made by hand for tests, tensor by tensor, so that each can be made wrong.
 *
 * @module
 */
import { join } from "@std/path";
import type { GPT2Config } from "../../src/config.ts";
import { fp32ToBf16 } from "../../src/bfloat16.ts";

/** A tensor's numbers and how they are stored. */
export interface HandTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
  readonly dtype?: "F32" | "F16" | "BF16" | "I64";
}

/** Tensors by name. */
export type HandModel = Map<string, HandTensor>;

/** A GPT-2's names and shapes in transformers, written out here once more rather than taken from the table under test. */
export function handShapes(
  { V, maxT, L, C }: Omit<GPT2Config, "Vp" | "NH">,
): [name: string, shape: number[]][] {
  const shapes: [string, number[]][] = [["wte.weight", [V, C]], ["wpe.weight", [maxT, C]]];
  for (let l = 0; l < L; l++) {
    for (const norm of ["ln_1", "ln_2"]) {
      shapes.push([`h.${l}.${norm}.weight`, [C]], [`h.${l}.${norm}.bias`, [C]]);
    }
    for (
      const [layer, rows, columns] of [
        ["attn.c_attn", C, 3 * C],
        ["attn.c_proj", C, C],
        ["mlp.c_fc", C, 4 * C],
        ["mlp.c_proj", 4 * C, C],
      ] as const
    ) shapes.push([`h.${l}.${layer}.weight`, [rows, columns]], [`h.${l}.${layer}.bias`, [columns]]);
  }
  shapes.push(["ln_f.weight", [C]], ["ln_f.bias", [C]]);
  return shapes;
}

/** A GPT-2 of numbers that bf16 and fp16 hold exactly, no two neighbours equal. */
export function handModel(config: GPT2Config): HandModel {
  let next = 0;
  const number = (): number => ((next++ * 89) % 251 - 125) / 64;
  return new Map(
    handShapes(config).map(([name, shape]) => {
      const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, number);
      return [name, { shape, values }];
    }),
  );
}

/** The config.json that transformers would write, but for what the test changes; undefined leaves a field out. */
export function handConfig({ V, maxT, L, NH, C }: GPT2Config, changes: Record<string, unknown> = {}): string {
  return JSON.stringify({
    activation_function: "gelu_new",
    architectures: ["GPT2LMHeadModel"],
    layer_norm_epsilon: 1e-05,
    model_type: "gpt2",
    n_embd: C,
    n_head: NH,
    n_inner: null,
    n_layer: L,
    n_positions: maxT,
    scale_attn_weights: true,
    tie_word_embeddings: true,
    vocab_size: V,
    ...changes,
  });
}

/** Writes a safetensors file of tensors of any dtype. */
export function writeTensors(path: string, model: HandModel, metadata: Record<string, string> = {}): void {
  const header: Record<string, unknown> = { __metadata__: metadata };
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [name, { shape, values, dtype = "F32" }] of model) {
    const bytes = toBytes(values, dtype);
    header[name] = { dtype, shape, data_offsets: [end, end += bytes.length] };
    parts.push(bytes);
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer);
  Deno.writeFileSync(path, new Uint8Array([length, text, ...parts].flatMap((part) => [...part])));
}

function toBytes(values: Float32Array, dtype: NonNullable<HandTensor["dtype"]>): Uint8Array {
  switch (dtype) {
    case "F32":
      return new Uint8Array(values.slice().buffer);
    case "F16":
      return new Uint8Array(new Float16Array(values).buffer);
    case "I64":
      return new Uint8Array(new BigInt64Array(values.length).buffer);
    case "BF16": {
      const narrow = new Uint16Array(values.length);
      fp32ToBf16(narrow, values);
      return new Uint8Array(narrow.buffer);
    }
  }
}

/** Writes a safetensors file of zeros that takes no room on disk: for the shapes of large models. */
export function writeShapes(path: string, shapes: readonly [name: string, shape: number[]][]): void {
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, shape] of shapes) {
    header[name] = { dtype: "F32", shape, data_offsets: [end, end += 4 * shape.reduce((a, b) => a * b)] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer);
  Deno.writeFileSync(path, new Uint8Array([...length, ...text]));
  Deno.truncateSync(path, 8 + text.length + end);
}

/** Writes a folder with one safetensors file. */
export function writeFolder(folder: string, model: HandModel, config: string | undefined): void {
  Deno.mkdirSync(folder, { recursive: true });
  writeTensors(join(folder, "model.safetensors"), model);
  if (config !== undefined) Deno.writeTextFileSync(join(folder, "config.json"), config);
}

/** Writes a folder with the tensors dealt over files, and an index. */
export function writeShards(folder: string, model: HandModel, config: string, count: number): void {
  Deno.mkdirSync(folder, { recursive: true });
  const weights: Record<string, string> = {};
  for (let shard = 0; shard < count; shard++) {
    const file = `model-0000${shard + 1}-of-0000${count}.safetensors`;
    const part = new Map([...model].filter((_, i) => i % count === shard));
    for (const name of part.keys()) weights[name] = file;
    writeTensors(join(folder, file), part);
  }
  const index = { metadata: { total_size: 0 }, weight_map: weights };
  Deno.writeTextFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
  Deno.writeTextFileSync(join(folder, "config.json"), config);
}
