/**
 * The shape of a GPT-2 and the sizes it comes in.
 *
 * @module
 */
import { UsageError } from "./errors.ts";

/** The hyper-parameters of a GPT-2 (Radford et al. 2019): all that its tensors' shapes depend on. */
export interface GPT2Config {
  /** Longest sequence: rows of the position table. */
  readonly maxT: number;
  /** Vocabulary: number of token ids. */
  readonly V: number;
  /** Padded vocabulary: rows of the token table, at least V. The rows from V on stay zero. */
  readonly Vp: number;
  /** Layers. */
  readonly L: number;
  /** Attention heads, a divisor of C. */
  readonly NH: number;
  /** Channels. */
  readonly C: number;
}

/** GPT-2's vocabulary, positions and end-of-text id. */
export const GPT2_VOCABULARY = 50257;
export const GPT2_POSITIONS = 1024;
export const END_OF_TEXT = 50256;

/** Channels and heads by depth, as llm.c's `dX` descriptors. */
const DEPTHS: Readonly<Record<number, { C: number; NH: number }>> = {
  2: { C: 128, NH: 2 },
  4: { C: 256, NH: 4 },
  6: { C: 384, NH: 6 },
  12: { C: 768, NH: 12 },
  24: { C: 1024, NH: 16 },
  36: { C: 1280, NH: 20 },
  48: { C: 1600, NH: 25 },
};

/** Hugging Face's names for the four released sizes. */
const ALIASES: Readonly<Record<string, number>> = {
  "gpt2": 12,
  "gpt2-medium": 24,
  "gpt2-large": 36,
  "gpt2-xl": 48,
};

/** The names of the released sizes, smallest first. */
export const RELEASED: readonly string[] = Object.keys(ALIASES);

/** The names {@linkcode presetConfig} knows, smallest first. */
export const PRESETS: readonly string[] = [
  ...Object.keys(DEPTHS).map((depth) => `d${depth}`),
  ...RELEASED,
];

/** V rounded up to a multiple of 128, as llm.c pads it. */
export function paddedVocabulary(V: number): number {
  return Math.ceil(V / 128) * 128;
}

/**
 * The config of a preset: `d2` … `d48` (by depth, as llm.c) or `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`.
 *
 * @throws {UsageError} no preset has that name
 */
export function presetConfig(name: string): GPT2Config {
  const L = ALIASES[name] ?? Number(/^d(\d+)$/.exec(name)?.[1]);
  const depth = Object.hasOwn(DEPTHS, L) ? DEPTHS[L] : undefined;
  if (depth === undefined) {
    throw new UsageError(`No preset is called "${name}"`, { hint: `presets: ${PRESETS.join(" ")}` });
  }
  return { maxT: GPT2_POSITIONS, V: GPT2_VOCABULARY, Vp: paddedVocabulary(GPT2_VOCABULARY), L, ...depth };
}

/** Whether `name` is one of {@linkcode PRESETS}. */
export function isPreset(name: string): boolean {
  return PRESETS.includes(name);
}

/**
 * Says what is wrong with a config, or undefined: every field a positive whole number (int32, as files store them), C a
 * multiple of NH, Vp at least V.
 */
export function configProblem(config: GPT2Config): string | undefined {
  for (const [name, value] of Object.entries(config)) {
    if (!Number.isInteger(value) || value < 1 || value > 0x7fffffff) return `${name} is ${value}`;
  }
  if (config.C % config.NH !== 0) return `${config.C} channels do not divide into ${config.NH} heads`;
  if (config.Vp < config.V) return `padded vocabulary ${config.Vp} is below the vocabulary ${config.V}`;
  return undefined;
}
