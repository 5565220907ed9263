import { assert, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { float32, type Tensor } from "../../ffi/tensor.ts";
import type { GPT2Config } from "../../src/config.ts";
import { FileError } from "../../src/errors.ts";
import { readHuggingFace, readHuggingFaceHeader } from "../../src/io/hugging_face.ts";
import type { Model } from "../../src/model.ts";
import { inFolder } from "../folder.ts";
import {
  handConfig,
  type HandModel,
  handModel,
  handShapes,
  type HandTensor,
  writeFolder,
  writeShapes,
  writeShards,
  writeTensors,
} from "./hugging_face_files.ts";

const CONFIG: GPT2Config = { maxT: 9, V: 65, Vp: 128, L: 2, NH: 3, C: 12 };
const device = openDevice({ threads: 1 });

/** Where each tensor of a layer comes from, and whether it is stored (in, out). */
const SOURCES = {
  ln1w: ["ln_1.weight", false],
  ln1b: ["ln_1.bias", false],
  qkvw: ["attn.c_attn.weight", true],
  qkvb: ["attn.c_attn.bias", false],
  attprojw: ["attn.c_proj.weight", true],
  attprojb: ["attn.c_proj.bias", false],
  ln2w: ["ln_2.weight", false],
  ln2b: ["ln_2.bias", false],
  fcw: ["mlp.c_fc.weight", true],
  fcb: ["mlp.c_fc.bias", false],
  fcprojw: ["mlp.c_proj.weight", true],
  fcprojb: ["mlp.c_proj.bias", false],
} as const;

/** Compares a model with the tensors it was read from, number by number. */
function assertHolds(model: Model, hand: HandModel, config: GPT2Config = CONFIG): void {
  assertEquals(model.config, config);
  const { parameters: p } = model;
  const { V, C } = config;
  const stored = (name: string): number[] => [...hand.get(name)!.values];
  const wte = [...float32(p.wte)];
  assertEquals(wte.slice(0, V * C), stored("wte.weight"));
  assert(wte.slice(V * C).every((value) => value === 0));
  assertEquals([...float32(p.wpe)], stored("wpe.weight"));
  assertEquals([...float32(p.lnfw)], stored("ln_f.weight"));
  assertEquals([...float32(p.lnfb)], stored("ln_f.bias"));
  for (const [ours, [theirs, transposed]] of Object.entries(SOURCES)) {
    p[ours as keyof typeof SOURCES].forEach((tensor: Tensor, l: number) => {
      const expected = stored(`h.${l}.${theirs}`);
      if (!transposed) return assertEquals([...float32(tensor)], expected, `${ours}[${l}]`);
      const [outs = 0, ins = 0] = tensor.shape;
      const found = float32(tensor);
      for (let o = 0; o < outs; o++) {
        for (let i = 0; i < ins; i++) {
          assertEquals(found[o * ins + i], expected[i * outs + o], `${ours}[${l}]`);
        }
      }
    });
  }
}

function renamed(model: HandModel, rename: (name: string) => string): HandModel {
  return new Map([...model].map(([name, tensor]) => [rename(name), tensor]));
}

function withTensors(model: HandModel, more: Record<string, HandTensor>): HandModel {
  return new Map([...model, ...Object.entries(more)]);
}

function asDtype(model: HandModel, dtype: "F16" | "BF16"): HandModel {
  return new Map([...model].map(([name, tensor]) => [name, { ...tensor, dtype }]));
}

/** Runs with a folder that holds the model, and reads it from there. */
async function reading(
  model: HandModel,
  config: string | undefined,
  check: (path: string) => void,
): Promise<void> {
  await inFolder((folder) => {
    const path = join(folder, "model");
    writeFolder(path, model, config);
    check(path);
  });
}

const hand = handModel(CONFIG);
const wte = hand.get("wte.weight")!;
const mask: HandTensor = { shape: [1, 1, 2, 2], values: Float32Array.of(1, 0, 1, 1) };

/** What transformers and PyTorch's wrappers make of the same model. */
const VARIANTS: [what: string, model: HandModel][] = [
  ["bare names", hand],
  ["names after transformer.", renamed(hand, (name) => `transformer.${name}`)],
  ["names after module.transformer.", renamed(hand, (name) => `module.transformer.${name}`)],
  ["names after _orig_mod.transformer.", renamed(hand, (name) => `_orig_mod.transformer.${name}`)],
  ["names after module._orig_mod.", renamed(hand, (name) => `module._orig_mod.${name}`)],
  ["tensors in another order", new Map([...hand].reverse())],
  ["fp16", asDtype(hand, "F16")],
  ["bf16", asDtype(hand, "BF16")],
  ["fp32 and fp16 mixed", withTensors(asDtype(hand, "F16"), { "wte.weight": wte })],
  [
    "masks",
    withTensors(hand, {
      "h.0.attn.bias": mask,
      "h.1.attn.masked_bias": { ...mask, shape: [4], dtype: "I64" },
    }),
  ],
  ["an lm_head equal to wte", withTensors(hand, { "lm_head.weight": wte })],
  [
    "an lm_head in place of wte",
    renamed(hand, (name) => name === "wte.weight" ? "lm_head.weight" : `transformer.${name}`),
  ],
];

for (const [what, model] of VARIANTS) {
  Deno.test(`readHuggingFace() reads ${what}`, () =>
    reading(model, handConfig(CONFIG), (path) => {
      assertEquals(readHuggingFaceHeader(path), {
        config: CONFIG,
        stored: what === "bf16" ? "bf16" : "fp32",
      });
      assertHolds(readHuggingFace(path, device), hand);
    }));
}

Deno.test("readHuggingFace() reads a model in several files", () =>
  inFolder((folder) => {
    writeShards(folder, renamed(hand, (name) => `transformer.${name}`), handConfig(CONFIG), 3);
    assertHolds(readHuggingFace(folder, device), hand);
  }));

Deno.test("readHuggingFace() transposes matrices larger than a block, of sides that fit no tile", () => {
  const config = { maxT: 1, V: 1, Vp: 128, L: 1, NH: 1, C: 523 }; // 2092 columns: blocks of 501 rows
  const model = handModel(config);
  return reading(model, handConfig(config), (path) => {
    const { fcw, attprojw } = readHuggingFace(path, device).parameters;
    for (const [tensor, name] of [[fcw[0]!, "mlp.c_fc"], [attprojw[0]!, "attn.c_proj"]] as const) {
      const { values, shape: [ins = 0, outs = 0] } = model.get(`h.0.${name}.weight`)!;
      const found = float32(tensor);
      for (let i = 0; i < ins; i++) {
        for (let o = 0; o < outs; o++) {
          assert(found[o * ins + i] === values[i * outs + o], `${name} ${i},${o}`);
        }
      }
    }
  });
});

Deno.test("readHuggingFace() takes the heads from the file's metadata, the config.json beside it or GPT-2's sizes", () =>
  inFolder((folder) => {
    const path = join(folder, "weights.safetensors");
    writeTensors(path, hand);
    const error = assertThrows(() => readHuggingFaceHeader(path), FileError, "has no config.json");
    assertEquals(error.hint, "put the model's config.json beside it");
    Deno.mkdirSync(join(folder, "config.json"));
    assertThrows(() => readHuggingFaceHeader(path), FileError, 'config.json": is a folder, expected a file');
    Deno.removeSync(join(folder, "config.json"));
    Deno.writeTextFileSync(join(folder, "config.json"), handConfig(CONFIG, { n_head: 2 }));
    assertEquals(readHuggingFaceHeader(path).config.NH, 2);
    writeTensors(path, hand, { "config.json": handConfig(CONFIG, { n_head: 4 }) });
    assertEquals(readHuggingFaceHeader(path).config.NH, 4);

    Deno.removeSync(join(folder, "config.json"));
    for (
      const [L, C, NH] of [[12, 768, 12], [24, 1024, 16], [36, 1280, 20], [48, 1600, 25]] as const
    ) {
      writeShapes(path, handShapes({ maxT: 1024, V: 50257, L, C }));
      assertEquals(readHuggingFaceHeader(path).config, { maxT: 1024, V: 50257, Vp: 50304, L, NH, C });
    }
    writeShapes(path, handShapes({ maxT: 1024, V: 50257, L: 12, C: 512 }));
    assertThrows(() => readHuggingFaceHeader(path), FileError, "has no config.json");
  }));

/** What is wrong, the model, changes of its config.json, and words of the error. */
const REFUSED: [what: string, model: HandModel, config: Record<string, unknown>, words: string][] = [
  [
    "another activation",
    hand,
    { activation_function: "relu" },
    'activation_function is "relu", expected "gelu_new"',
  ],
  [
    "the exact GELU",
    hand,
    { activation_function: "gelu" },
    'activation_function is "gelu", expected "gelu_new"',
  ],
  ["another inner size", hand, { n_inner: 24 }, "n_inner is 24, expected null or 48"],
  ["another epsilon", hand, { layer_norm_epsilon: 1e-6 }, "layer_norm_epsilon is 0.000001, expected 0.00001"],
  ["unscaled attention", hand, { scale_attn_weights: false }, "scale_attn_weights is false, expected true"],
  [
    "attention scaled by layer",
    hand,
    { scale_attn_by_inverse_layer_idx: true },
    "scale_attn_by_inverse_layer_idx is true, expected false",
  ],
  ["cross-attention", hand, { add_cross_attention: true }, "add_cross_attention is true, expected false"],
  ["untied embeddings", hand, { tie_word_embeddings: false }, "tie_word_embeddings is false, expected true"],
  ["another model", hand, { model_type: "llama" }, 'model_type is "llama", expected "gpt2"'],
  ["another vocabulary", hand, { vocab_size: 50257 }, "vocab_size is 50257, but the tensors have 65"],
  ["another context", hand, { n_positions: 1024 }, "n_positions is 1024, but the tensors have 9"],
  ["another width", hand, { n_embd: 768 }, "n_embd is 768, but the tensors have 12"],
  ["another depth", hand, { n_layer: 12 }, "n_layer is 12, but the tensors have 2"],
  ["no number of heads", hand, { n_head: undefined }, "n_head is undefined, expected the number"],
  ["heads that don't divide", hand, { n_head: 5 }, "12 channels do not divide into 5 heads"],
  [
    "a missing tensor",
    new Map([...hand].filter(([name]) => name !== "h.1.mlp.c_fc.bias")),
    {},
    'has no tensor "h.1.mlp.c_fc.bias", expected those of a GPT-2',
  ],
  ["no embedding", new Map([["x", wte]]), {}, 'has no tensor "wte.weight"'],
  [
    "a missing layer",
    renamed(hand, (name) => name.replace("h.1.", "h.7.")),
    {},
    'has no tensor "h.1.ln_1.weight"',
  ],
  [
    "a tensor too many",
    withTensors(hand, { "score.weight": mask }),
    {},
    'tensor "score.weight" has no place in a GPT-2',
  ],
  [
    "tensors too many",
    withTensors(hand, { "transformer.h.0.crossattention.bias": mask, "score.weight": mask }),
    {},
    'tensor "transformer.h.0.crossattention.bias" has no place in a GPT-2, nor have 1 others',
  ],
  [
    "a name twice",
    withTensors(hand, { "transformer.wpe.weight": hand.get("wpe.weight")! }),
    {},
    'tensor "transformer.wpe.weight" is there twice: "wpe.weight" in',
  ],
  [
    "an lm_head of another size",
    withTensors(hand, { "lm_head.weight": { shape: [1, 12], values: new Float32Array(12) } }),
    {},
    'tensor "lm_head.weight" has shape [1,12], expected [65,12]',
  ],
  [
    "a Linear in place of a Conv1D",
    withTensors(hand, {
      "h.0.attn.c_attn.weight": { ...hand.get("h.0.attn.c_attn.weight")!, shape: [36, 12] },
    }),
    {},
    'tensor "h.0.attn.c_attn.weight" has shape [36,12], expected [12,36]',
  ],
];

for (const [what, model, changes, words] of REFUSED) {
  Deno.test(`readHuggingFaceHeader() refuses ${what}`, () =>
    reading(model, handConfig(CONFIG, changes), (path) => {
      const error = assertThrows(() => readHuggingFaceHeader(path), FileError, words);
      assert(error.message.startsWith(`"${path}`), error.message); // the file in question, by its path
    }));
}

Deno.test("readHuggingFace() refuses an lm_head that differs from wte, though in one number only", () => {
  const values = wte.values.slice();
  values[64 * 12 + 3]! += 0.25;
  const model = withTensors(hand, { "lm_head.weight": { ...wte, values } });
  return reading(model, handConfig(CONFIG), (path) => {
    assertThrows(
      () => readHuggingFace(path, device),
      FileError,
      '"lm_head.weight" differs from wte at row 64',
    );
  });
});

Deno.test("readHuggingFace() refuses whole numbers", () => {
  const model = withTensors(hand, { "ln_f.bias": { ...hand.get("ln_f.bias")!, dtype: "I64" } });
  return reading(model, handConfig(CONFIG), (path) => {
    assertThrows(
      () => readHuggingFace(path, device),
      FileError,
      '"ln_f.bias" has dtype I64, expected floats',
    );
  });
});

Deno.test("readHuggingFaceHeader() refuses a config.json that is missing or no JSON object", async () => {
  for (
    const [config, words] of [
      [undefined, "has no config.json, which says how many attention heads there are"],
      ["{", "the config is not JSON"],
      ["[]", "the config is not a JSON object"],
    ] as const
  ) {
    await reading(hand, config, (path) => {
      assertThrows(() => readHuggingFaceHeader(path), FileError, words);
    });
  }
});

Deno.test("readHuggingFaceHeader() names what is wrong with files and index", () =>
  inFolder((folder) => {
    const faultOf = (words: string): FileError =>
      assertThrows(() => readHuggingFaceHeader(folder), FileError, words);
    const index = join(folder, "model.safetensors.index.json");
    const write = (map: unknown): void => Deno.writeTextFileSync(index, JSON.stringify({ weight_map: map }));

    Deno.writeTextFileSync(join(folder, "config.json"), handConfig(CONFIG));
    faultOf("holds no model.safetensors and no model.safetensors.index.json");
    Deno.writeTextFileSync(join(folder, "pytorch_model.bin"), "");
    assert(faultOf("holds no model.safetensors").hint?.includes("pytorch_model.bin"));

    writeShards(folder, hand, handConfig(CONFIG), 2);
    const first = "model-00001-of-00002.safetensors";
    assertEquals(
      assertThrows(() => readHuggingFaceHeader(join(folder, first)), FileError, "has no tensor").hint,
      `"${first}" may be one of several files: give the folder`,
    );
    const map = JSON.parse(Deno.readTextFileSync(index)).weight_map as Record<string, string>;
    write({ ...map, "wte.weight": "model-00002-of-00002.safetensors" });
    faultOf(
      'model-00002-of-00002.safetensors": has no tensor "wte.weight", which model.safetensors.index.json says',
    );
    for (const outside of ["../model.safetensors", "/model.safetensors", "a/b.safetensors", "x.bin", 3]) {
      write({ ...map, "wte.weight": outside });
      faultOf(`tensor "wte.weight" is in ${JSON.stringify(outside)}, expected a .safetensors file`);
    }
    write(map);
    Deno.removeSync(join(folder, first));
    faultOf(`${first}": is missing, model.safetensors.index.json beside it calls for it`);
    write(null);
    faultOf("has no weight_map");
    Deno.writeTextFileSync(index, "<html>");
    faultOf("can't be read as JSON");
    Deno.removeSync(index);
    Deno.mkdirSync(index);
    faultOf(`"${index}": is a folder, expected a file`);
  }));
