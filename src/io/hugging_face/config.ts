/**
 * Hugging Face's config.json of a GPT-2: reading it, refusing what llmts can't compute, and writing it.
 * Fields: https://huggingface.co/docs/transformers/model_doc/gpt2
 *
 * @module
 */
import {
  configProblem,
  END_OF_TEXT,
  GPT2_POSITIONS,
  GPT2_VOCABULARY,
  type GPT2Config,
  paddedVocabulary,
} from "../../config.ts";
import { FileError } from "../../errors.ts";
import type { StoredPrecision } from "../checkpoint.ts";
import { readText } from "../text.ts";

/** The fields of a config.json that {@linkcode parseConfig} has checked. */
export type ConfigJson = Readonly<Record<string, unknown>>;

/** What the shapes of the tensors say: all but the number of heads. */
export type Sizes = Omit<GPT2Config, "NH" | "Vp">;

/** Hugging Face's names of our sizes. */
const SIZE_FIELDS: Readonly<Record<keyof Sizes, string>> = {
  V: "vocab_size",
  maxT: "n_positions",
  C: "n_embd",
  L: "n_layer",
};

const HEADS_FIELD = "n_head";

/**
 * Values of the fields that change what is computed: the only ones that make it GPT-2 as src/model.ts computes it. A
 * field that is absent has the first, transformers' default. `reorder_and_upcast_attn` is not here: it says in which order
 * and precision the attention scores are scaled, not what they are.
 */
const COMPUTED: Readonly<Record<string, readonly unknown[]>> = {
  model_type: ["gpt2"],
  activation_function: ["gelu_new", "gelu_pytorch_tanh"], // two names of the tanh form
  layer_norm_epsilon: [1e-5],
  scale_attn_weights: [true],
  scale_attn_by_inverse_layer_idx: [false],
  add_cross_attention: [false],
  tie_word_embeddings: [true],
};

/** The deviation of new weights, for the record only. */
const INITIALIZER_RANGE = 0.02;

/**
 * Parses a config.json.
 *
 * @param path where the text comes from, for the errors
 * @throws {FileError} it isn't JSON, or says that the model is one that llmts can't compute: the field is named
 */
export function parseConfig(text: string, path: string): ConfigJson {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new FileError(path, `the config is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) {
    throw new FileError(path, "the config is not a JSON object");
  }
  const config = json as ConfigJson;
  for (const [field, values] of Object.entries(COMPUTED)) {
    requireOneOf(path, field, config[field] ?? values[0], values);
  }
  const { n_embd: C, n_inner: inner = null } = config;
  requireOneOf(path, "n_inner", inner, [null, ...(typeof C === "number" ? [4 * C] : [])]);
  return config;
}

/**
 * The shape that a config.json gives, of a model that is to start from scratch. Without vocab_size and n_positions they are
 * GPT-2's, as in transformers.
 *
 * @throws {FileError} as {@linkcode parseConfig}, or a size is missing or can't be
 */
export function readShape(path: string): GPT2Config {
  const json = parseConfig(readText(path), path);
  const size = (field: string, fallback?: number): number => {
    const value = json[field] ?? fallback;
    if (typeof value === "number") return value;
    throw new FileError(path, `${field} is ${JSON.stringify(value) ?? "missing"}, expected a number`);
  };
  const V = size(SIZE_FIELDS.V, GPT2_VOCABULARY);
  const config = {
    maxT: size(SIZE_FIELDS.maxT, GPT2_POSITIONS),
    V,
    Vp: paddedVocabulary(V),
    L: size(SIZE_FIELDS.L),
    NH: size(HEADS_FIELD),
    C: size(SIZE_FIELDS.C),
  };
  const problem = configProblem(config);
  if (problem !== undefined) throw new FileError(path, `is of no GPT-2: ${problem}`);
  return config;
}

function requireOneOf(path: string, field: string, found: unknown, values: readonly unknown[]): void {
  if (values.includes(found)) return;
  const expected = values.map((value) => JSON.stringify(value)).join(" or ");
  throw new FileError(
    path,
    `${field} is ${JSON.stringify(found)}, expected ${expected}: llmts computes no other`,
  );
}

/**
 * The number of heads, after a check that the config and the tensors are of one model: neither overrides the other.
 *
 * @throws {FileError} they differ, or the number of heads is missing
 */
export function checkedHeads(config: ConfigJson, sizes: Sizes, path: string): number {
  for (const [size, field] of Object.entries(SIZE_FIELDS)) {
    const said = config[field];
    const found = sizes[size as keyof Sizes];
    if (said !== undefined && said !== found) {
      throw new FileError(path, `${field} is ${JSON.stringify(said)}, but the tensors have ${found}`);
    }
  }
  const heads = config[HEADS_FIELD];
  if (typeof heads !== "number") {
    throw new FileError(
      path,
      `${HEADS_FIELD} is ${JSON.stringify(heads)}, expected the number of attention heads`,
    );
  }
  return heads;
}

/** The config.json of a model as transformers writes it for GPT2LMHeadModel. */
export function configJson(config: GPT2Config, stored: StoredPrecision): string {
  return toJson({
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    vocab_size: config.V,
    n_positions: config.maxT,
    n_ctx: config.maxT,
    n_embd: config.C,
    n_layer: config.L,
    n_head: config.NH,
    n_inner: null,
    activation_function: "gelu_new",
    layer_norm_epsilon: 1e-5,
    initializer_range: INITIALIZER_RANGE,
    scale_attn_weights: true,
    scale_attn_by_inverse_layer_idx: false,
    reorder_and_upcast_attn: false,
    tie_word_embeddings: true,
    ...specialTokens(config),
    torch_dtype: stored === "fp32" ? "float32" : "bfloat16",
  });
}

/** The generation_config.json of a model: transformers would otherwise stop at GPT-2's end-of-text in any vocabulary. */
export function generationConfigJson(config: GPT2Config): string {
  return toJson(specialTokens(config));
}

function specialTokens({ V }: GPT2Config): Record<string, number | null> {
  const id = V === GPT2_VOCABULARY ? END_OF_TEXT : null;
  return { bos_token_id: id, eos_token_id: id };
}

/** JSON as Hugging Face's files are laid out. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, null, 2) + "\n";
}
