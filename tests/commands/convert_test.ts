import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { readCheckpoint, readCheckpointHeader, writeCheckpoint } from "../../src/io/checkpoint.ts";
import { readHuggingFaceHeader } from "../../src/io/hugging_face.ts";
import { writeTokenFile } from "../../src/io/tokens.ts";
import { fixturePath } from "../fixtures.ts";
import { inFolder } from "../folder.ts";
import { llmts } from "./run.ts";
import { writeSmallModel } from "./small_model.ts";

const ODD = fixturePath("models/odd.bin");

async function convert(folder: string, from: string, to: string, ...flags: string[]): Promise<string> {
  const { code, stdout, stderr } = await llmts(folder, ["convert", "--from", from, "--to", to, ...flags]);
  assertEquals([code, stderr], [0, ""]);
  return stdout;
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("llmts convert goes from llm.c's checkpoint to a folder, a safetensors file and back, byte for byte", () =>
  inFolder(async (folder) => {
    const original = Deno.readFileSync(ODD);
    const shape = "18360 parameters, 2 layers, 3 heads, 24 channels, 65 tokens, 33 positions";
    assertEquals(await convert(folder, ODD, "hf"), `${ODD} -> hf (fp32): ${shape}\n`);
    assertEquals(names(join(folder, "hf")), ["config.json", "generation_config.json", "model.safetensors"]);
    await convert(folder, "hf", "files/alone.safetensors");
    assertEquals(names(join(folder, "files")), ["alone.safetensors"]);
    await convert(folder, "files/alone.safetensors", "back.bin");
    assertEquals(Deno.readFileSync(join(folder, "back.bin")), original);
    await convert(folder, "hf/model.safetensors", "again.bin");
    assertEquals(Deno.readFileSync(join(folder, "again.bin")), original);
  }));

Deno.test("llmts convert keeps bf16, rounds to it and widens it only when told", () =>
  inFolder(async (folder) => {
    const narrow = join(folder, "narrow.bin");
    await writeCheckpoint(narrow, readCheckpoint(ODD, openDevice()), "bf16");
    assertStringIncludes(await convert(folder, "narrow.bin", "hf"), "narrow.bin -> hf (bf16)");
    assertEquals(readHuggingFaceHeader(join(folder, "hf")).stored, "bf16");
    await convert(folder, "hf", "back.bin");
    assertEquals(Deno.readFileSync(join(folder, "back.bin")), Deno.readFileSync(narrow));

    await convert(folder, ODD, "rounded", "--precision", "bf16");
    await convert(folder, "rounded", "rounded.bin");
    assertEquals(Deno.readFileSync(join(folder, "rounded.bin")), Deno.readFileSync(narrow));
    await convert(folder, "hf", "wide.bin", "--precision", "fp32");
    assertEquals(readCheckpointHeader(join(folder, "wide.bin")).stored, "fp32");
    await convert(folder, "wide.bin", "narrowed.bin", "--precision", "bf16");
    assertEquals(Deno.readFileSync(join(folder, "narrowed.bin")), Deno.readFileSync(narrow));
  }));

Deno.test("llmts convert writes over nothing without --force", () =>
  inFolder(async (folder) => {
    Deno.mkdirSync(join(folder, "full"));
    Deno.mkdirSync(join(folder, "empty"));
    Deno.writeTextFileSync(join(folder, "full", "notes.txt"), "mine");
    Deno.writeTextFileSync(join(folder, "model.bin"), "mine");
    for (const to of ["full", "model.bin"]) {
      assertEquals(await llmts(folder, ["convert", "--from", ODD, "--to", to]), {
        code: 1,
        stdout: "",
        stderr: `llmts: "${to}" is there already\nhint: --force writes over it\n`,
      });
    }
    assertEquals(Deno.readTextFileSync(join(folder, "model.bin")), "mine");
    assertEquals(names(join(folder, "full")), ["notes.txt"]);
    await convert(folder, ODD, "empty");
    await convert(folder, ODD, "full", "--force");
    await convert(folder, ODD, "model.bin", "--force");
    assertEquals(names(join(folder, "full")).includes("notes.txt"), true);
    assertEquals(Deno.readFileSync(join(folder, "model.bin")), Deno.readFileSync(ODD));
  }));

Deno.test("llmts convert keeps the tokenizer's files of the folder it converts from (H-10)", () =>
  inFolder(async (folder) => {
    await writeSmallModel(folder); // GPT-2's vocabulary, whose files are not to replace these
    await convert(folder, "small.bin", "hf");
    for (const name of ["vocab.json", "merges.txt", "tokenizer_config.json"]) {
      Deno.removeSync(join(folder, "hf", name));
    }
    const own = {
      "tokenizer.json": '{"model": {}}',
      "special_tokens_map.json": "{}",
      "added_tokens.json": "{ }",
    };
    for (const [name, text] of Object.entries(own)) Deno.writeTextFileSync(join(folder, "hf", name), text);
    for (const to of ["again", "hf"]) {
      await convert(folder, "hf", to, "--force");
      assertEquals(names(join(folder, to)), [
        ...["added_tokens.json", "config.json", "generation_config.json", "model.safetensors"],
        ...["special_tokens_map.json", "tokenizer.json"],
      ]);
      for (const [name, text] of Object.entries(own)) {
        assertEquals(Deno.readTextFileSync(join(folder, to, name)), text);
      }
    }
  }));

Deno.test("llmts convert clears away what a killed one left of the same file, and nothing else", () =>
  inFolder(async (folder) => {
    Deno.mkdirSync(join(folder, "hf"));
    const others = [".modelxbin.0123abcd.tmp", ".model.bin.0123abc.tmp", ".other.bin.0123abcd.tmp"];
    const killed = [".model.bin.0123abcd.tmp", ".m.safetensors.89abcdef.tmp"];
    for (const name of [...others, ...killed]) Deno.writeTextFileSync(join(folder, name), "half");
    Deno.writeTextFileSync(join(folder, "hf", ".model.safetensors.00112233.tmp"), "half");
    for (const to of ["model.bin", "m.safetensors", "hf"]) await convert(folder, ODD, to, "--force");
    assertEquals(names(folder), [...others, "hf", "m.safetensors", "model.bin"].sort());
    assertEquals(names(join(folder, "hf")), ["config.json", "generation_config.json", "model.safetensors"]);
  }));

Deno.test("llmts convert says what is wrong with its arguments, and leaves nothing behind", () =>
  inFolder(async (folder) => {
    const cases: [args: string[], code: number, words: string][] = [
      [["--from", ODD], 2, "--to is missing\nhint: llmts convert --from MODEL --to NAME"],
      [["--to", "x.bin"], 2, "--from is missing"],
      [["--from", "gpt2", "--to", "x.bin"], 2, '--from "gpt2" is a preset, which has no trained weights'],
      [["--from", "absent.bin", "--to", "x.bin"], 1, '"absent.bin": no such file or folder'],
      [["--from", "absent.bin", "--to", "x.bin"], 1, "hint: llmts train makes a model"],
      [["--from", ODD, "--to", "x.gguf"], 2, '--to "x.gguf" is named as a file of a format that'],
      [
        ["--from", ODD, "--to", "x.safetensor"],
        2,
        "hint: NAME.bin, NAME.safetensors, or the name of a folder",
      ],
      [["--from", ODD, "--to", "x.bin", "--precision", "fp16"], 2, '--precision is "fp16"'],
      [["--from", fixturePath("models/wide.safetensors"), "--to", "x.bin"], 1, 'has no tensor "wte.weight"'],
    ];
    for (const [args, code, words] of cases) {
      const result = await llmts(folder, ["convert", ...args]);
      assertEquals([result.code, result.stdout], [code, ""]);
      assertStringIncludes(result.stderr, words);
    }
    assertEquals(names(folder), []);
    Deno.symlinkSync("loop", join(folder, "loop"));
    Deno.mkdirSync(join(folder, "full", "config.json", "inside"), { recursive: true });
    const long = "x".repeat(300);
    const system: [args: string[], words: string][] = [
      [["--from", "loop", "--to", "x.bin"], '"loop": cannot be opened: too many levels of symbolic links'],
      [["--from", ODD, "--to", "loop"], '"loop": cannot be opened: too many levels of symbolic links'],
      [["--from", long, "--to", "x.bin"], `"${long}": no such file or folder, expected a model`],
      [["--from", ODD, "--to", long], `"${long}": cannot be made a folder: file name too long`],
      [["--from", ODD, "--to", "full", "--force"], `"${join("full", "config.json")}": cannot be removed: `],
    ];
    for (const [args, words] of system) {
      const { code, stderr } = await llmts(folder, ["convert", ...args]);
      assertEquals([code, stderr.slice(0, 7 + words.length)], [1, `llmts: ${words}`]);
    }
  }));

Deno.test("llmts train goes on from a Hugging Face folder", () =>
  inFolder(async (folder) => {
    await convert(folder, ODD, "hf");
    await writeTokenFile(join(folder, "train.bin"), 65, (write) =>
      write(Array.from({ length: 99 }, (_, i) =>
        i % 65)));
    const args = "train --model hf --data train.bin --steps 1 --seq-len 16".split(" ");
    const result = await llmts(folder, args);
    assertEquals([result.code, result.stderr], [0, ""]);
    assertStringIncludes(result.stdout, "model: hf, learning rate 0.0001");
    assertEquals(readCheckpointHeader(join(folder, "out", "model_00000001.bin")).config.V, 65);
  }));
