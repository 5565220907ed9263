/**
 * `llmts data`: text into token files.
 *
 * @module
 */
import { basename, extname } from "@std/path";
import {
  type Corpus,
  type CorpusPaths,
  corpusPaths,
  fileDocuments,
  VALIDATION_SHARE,
  writeCorpus,
} from "../src/data/corpus.ts";
import { TINY_SHAKESPEARE, writeTinyShakespeare } from "../src/data/tinyshakespeare.ts";
import { UsageError } from "../src/errors.ts";
import { exists } from "../src/io/files.ts";
import { gpt2Tokenizer } from "../src/io/tokenizer.ts";
import { TokenReader } from "../src/io/tokens.ts";
import { defineCommand } from "./command.ts";
import { catchInterrupt, yieldToListeners } from "./interrupt.ts";
import { notice, print } from "./output.ts";
import { requireFree } from "./require_free.ts";

/** The data sets that go by a name: what their files are called, and what writes them. */
const DATA_SETS = new Map([
  ["tinyshakespeare", { name: TINY_SHAKESPEARE, write: writeTinyShakespeare }],
]);
const DATA_SET_NAMES = [...DATA_SETS.keys()].join(", ");

/** Writes the token files of a data set or of text files. */
export const command = defineCommand({
  positionals: {
    name: "NAME|FILE",
    description: `a data set (${DATA_SET_NAMES}) or UTF-8 text files`,
    min: 1,
    max: Infinity,
  },
  flags: {
    out: {
      type: "path",
      value: "DIR",
      default: "data",
      description: "folder for the token files",
      group: "Output",
    },
    force: {
      type: "boolean",
      description: "write over token files that are there",
      group: "Output",
    },
    input: {
      type: "path",
      value: "FILE",
      description: "take the data set's text from FILE",
      absent: "download it",
      group: "For a data set",
    },
    name: {
      type: "path",
      value: "NAME",
      description: "call the files NAME_train.bin and NAME_val.bin",
      absent: "the name of the text file; text where there are several",
      group: "For text files",
    },
    valShare: {
      type: "number",
      value: "X",
      above: 0,
      max: 0.9,
      description: "share of the tokens, the last ones, for validation",
      absent: String(VALIDATION_SHARE),
      group: "For text files",
    },
  },
  details: [
    "Encodes text with GPT-2's tokenizer into two token files, one for training and one for validation.",
    "Token files that are there stay, unless --force is given; a data set that is there isn't downloaded again.",
    "Each text file is one document, preceded by the end-of-text token; files without text are left out. All of a " +
    'file is ordinary text, "<|endoftext|>" and a byte order mark too, and its line ends stay as they are.',
  ],
  examples: [
    "llmts data tinyshakespeare",
    "llmts data tinyshakespeare --input input.txt",
    "llmts data book.txt && llmts train --data data/book_train.bin --val-data data/book_val.bin",
  ],
  async run(values, positionals): Promise<number> {
    const dataSet = positionals.find((name) => DATA_SETS.has(name));
    const corpus = dataSet === undefined
      ? await writeTextFiles(values, positionals)
      : await writeDataSet(dataSet, values, positionals);
    if (corpus === undefined) {
      notice("interrupted: no token file is written");
      return 130;
    }
    print(`${count(corpus.trainTokens)} tokens for training in ${corpus.train}\n`);
    print(`${count(corpus.valTokens)} tokens for validation in ${corpus.val}\n`);
    return 0;
  },
});

interface Values {
  readonly out: string;
  readonly force: boolean;
  readonly input: string | undefined;
  readonly name: string | undefined;
  readonly valShare: number | undefined;
}

async function writeDataSet(
  dataSet: string,
  values: Values,
  positionals: readonly string[],
): Promise<Corpus> {
  if (positionals.length > 1) {
    throw new UsageError(`"${dataSet}" is a data set, expected no other argument`, {
      hint: `a text file of that name is given as ./${dataSet}`,
    });
  }
  const flag = values.name !== undefined
    ? "--name"
    : values.valShare !== undefined
    ? "--val-share"
    : undefined;
  if (flag !== undefined) throw new UsageError(`${flag} is for text files, "${dataSet}" is a data set`);
  const { out: folder, input, force } = values;
  const { name, write } = DATA_SETS.get(dataSet)!;
  const tokenizer = await gpt2Tokenizer();
  const paths = corpusPaths(folder, name);
  if (input === undefined && !force && exists(paths.train) && exists(paths.val)) {
    notice(`${dataSet} is there already, --force downloads it again`);
    using train = new TokenReader(paths.train, tokenizer.V);
    using val = new TokenReader(paths.val, tokenizer.V);
    return { ...paths, trainTokens: train.length, valTokens: val.length };
  }
  if (!force) requireFreeFiles(paths);
  if (input === undefined) notice(`downloading ${dataSet}`);
  return await write({ folder, input, tokenizer });
}

/** Undefined when interrupted. */
async function writeTextFiles(values: Values, paths: readonly string[]): Promise<Corpus | undefined> {
  const hint = `data sets: ${DATA_SET_NAMES}`;
  if (values.input !== undefined) {
    throw new UsageError(`--input is for a data set, "${paths[0]}" is none`, { hint });
  }
  const only = paths.length === 1 ? paths[0] : undefined;
  const name = values.name ?? (only === undefined ? "text" : basename(only, extname(only)));
  if (basename(name) !== name) {
    throw new UsageError(`--name is "${name}", expected a name without folders`, {
      hint: "--out gives the folder",
    });
  }
  if (!values.force) requireFreeFiles(corpusPaths(values.out, name));
  const stop = new AbortController();
  await using _interrupt = await catchInterrupt(() => stop.abort());
  try {
    return await writeCorpus(fileDocuments(paths, hint), {
      folder: values.out,
      name,
      tokenizer: await gpt2Tokenizer(),
      share: values.valShare ?? VALIDATION_SHARE,
      async pause(): Promise<void> {
        await yieldToListeners();
        stop.signal.throwIfAborted();
      },
    });
  } catch (error) {
    if (error === stop.signal.reason) return undefined;
    throw error;
  }
}

/** @throws {LlmtsError} one of the token files is there */
function requireFreeFiles({ train, val }: CorpusPaths): void {
  requireFree(train);
  requireFree(val);
}

function count(tokens: number): string {
  return tokens.toLocaleString("en-US");
}
