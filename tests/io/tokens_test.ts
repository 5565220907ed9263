import { assertEquals, assertLess, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { FileError } from "../../src/errors.ts";
import { TokenReader, writeTokenFile } from "../../src/io/tokens.ts";
import { inFolder } from "../folder.ts";

const V = 50257;

/** A token file's bytes: header fields, then ids. */
function fileOf(fields: number[], ids: number[]): Uint8Array {
  const header = new Int32Array(256);
  header.set(fields);
  return new Uint8Array([...new Uint8Array(header.buffer), ...new Uint8Array(Uint16Array.from(ids).buffer)]);
}

Deno.test("writeTokenFile() writes header and ids as llm.c does, and TokenReader reads them by position", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a [b].bin");
    const count = await writeTokenFile(path, V, (write) => {
      write([0, 1, 50256]);
      write([]);
      write(Int32Array.of(300, 4));
    });
    assertEquals(count, 5);
    assertEquals(Deno.readFileSync(path), fileOf([20240520, 1, 5], [0, 1, 50256, 300, 4]));

    using reader = new TokenReader(path, V);
    assertEquals(reader.length, 5);
    const ids = new Int32Array(3);
    reader.read(2, ids);
    assertEquals([...ids], [50256, 300, 4]);
    reader.read(0, ids.subarray(1));
    assertEquals([...ids], [50256, 0, 1]);
    reader.read(5, new Int32Array(0));
    for (const position of [3, -1, 0.5, NaN]) {
      assertThrows(() => reader.read(position, ids), RangeError, "Cannot read tokens");
    }
  });
});

Deno.test("writeTokenFile() refuses ids that do not fit, and keeps the file that was there (A-07)", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "tokens.bin");
    await writeTokenFile(path, V, (write) => write([7]));
    for (
      const [size, id, expected] of [
        [V, 50257, "cannot hold id 50257 (token 2), expected ids 0 to 50256"],
        [100_000, 70_000, "cannot hold id 70000 (token 2), expected ids 0 to 65535"],
        [V, -1, "cannot hold id -1"],
        [V, 1.5, "cannot hold id 1.5"],
      ] as const
    ) {
      await assertRejects(
        () =>
          writeTokenFile(path, size, (write) => {
            write([1]);
            write([2, id]);
          }),
        FileError,
        expected,
      );
    }
    assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name), ["tokens.bin"]);
    assertEquals(Deno.readFileSync(path), fileOf([20240520, 1, 1], [7]));
  });
});

Deno.test("TokenReader says what is wrong with a file", async (t) => {
  const text = (words: string): Uint8Array => new TextEncoder().encode(words);
  const faults: [name: string, bytes: Uint8Array, message: string][] = [
    [
      "the uint32 family",
      fileOf([20240801, 7, 1], [0, 1]),
      "is a token file of uint32 ids (Llama 3) (magic 20240801)",
    ],
    [
      "a model",
      fileOf([20240326, 3, 1024], []),
      "is a model checkpoint (magic 20240326), expected a token file",
    ],
    [
      "another magic",
      fileOf([5, 1, 0], []),
      "is a file with magic 5, expected a token file (magic 20240520, version 1)",
    ],
    ["another version", fileOf([20240520, 2, 0], []), "is a token file of version 2, expected a token file"],
    ["a web page", text("<!DOCTYPE html>\n<html><head>"), "is a web page, expected a token file"],
    [
      "a Git LFS pointer",
      text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n"),
      "is a Git LFS pointer",
    ],
    [
      "text",
      text("First Citizen:\nBefore we proceed"),
      'is text that begins "First Citizen:\\nBefore we procee',
    ],
    ["an empty file", new Uint8Array(), "is empty, expected a token file"],
    ["a byte", Uint8Array.of(200), "is 1 bytes long, expected a token file"],
    [
      "half a header",
      fileOf([20240520, 1, 2], []).slice(0, 600),
      "ends after 600 bytes of its header of 1024",
    ],
    [
      "a token missing",
      fileOf([20240520, 1, 3], [1, 2]),
      "has 1028 bytes, its header calls for 1030: 2 bytes are missing",
    ],
    ["half a token missing", fileOf([20240520, 1, 2], [1, 2]).slice(0, -1), "1 bytes are missing"],
    ["a token left over", fileOf([20240520, 1, 1], [1, 2]), "2 bytes are left over"],
    ["a negative count", fileOf([20240520, 1, -1], []), "says it has -1 tokens"],
  ];
  for (const [name, bytes, message] of faults) {
    await t.step(name, () =>
      inFolder((folder) => {
        const path = join(folder, "tokens.bin");
        Deno.writeFileSync(path, bytes);
        const error = assertThrows(() => new TokenReader(path, V), FileError, message);
        assertEquals(error.path, path);
      }));
  }
  await t.step("text, with what makes a token file of it", () =>
    inFolder((folder) => {
      const path = join(folder, "book.txt");
      Deno.writeTextFileSync(path, "Call me Ishmael.");
      const { hint } = assertThrows(() => new TokenReader(path, V), FileError);
      assertEquals(hint, "llmts data makes token files of text");
    }));
  await t.step("a missing file", () => {
    const error = assertThrows(
      () => new TokenReader("no/such.bin", V),
      FileError,
      '"no/such.bin": cannot be opened',
    );
    assertEquals(error.hint, "llmts data makes token files");
  });
  await t.step("a folder", () =>
    inFolder((folder) => {
      assertThrows(() => new TokenReader(folder, V), FileError, "is a folder, expected a file");
    }));
});

Deno.test("TokenReader refuses an id outside the vocabulary, padding rows included, when it is read (A-08)", async () => {
  await inFolder((folder) => {
    const path = join(folder, "tokens.bin");
    for (const id of [50257, 50303, 65535]) {
      Deno.writeFileSync(path, fileOf([20240520, 1, 4], [0, 50256, 3, id]));
      using reader = new TokenReader(path, V);
      reader.read(0, new Int32Array(3));
      assertThrows(
        () => reader.read(1, new Int32Array(3)),
        FileError,
        `"${path}": has id ${id} at token 3, outside the model's vocabulary of 50257`,
      );
    }
  });
});

Deno.test("TokenReader notices a file that becomes shorter", async () => {
  await inFolder((folder) => {
    const path = join(folder, "tokens.bin");
    Deno.writeFileSync(path, fileOf([20240520, 1, 4], [0, 1, 2, 3]));
    using reader = new TokenReader(path, V);
    Deno.truncateSync(path, 1028);
    assertThrows(() => reader.read(0, new Int32Array(4)), FileError, "became shorter while it was read");
  });
});

Deno.test("TokenReader reads beyond 2 GiB without holding the file in memory (A-05, A-20)", async () => {
  await inFolder((folder) => {
    const path = join(folder, "sparse.bin");
    const tokens = 2 ** 30 + 1000;
    {
      using file = Deno.openSync(path, { write: true, createNew: true });
      file.writeSync(fileOf([20240520, 1, tokens], []));
      file.truncateSync(1024 + 2 * tokens); // a hole: no disk is used
      file.seekSync(1024 + 2 * (tokens - 2), Deno.SeekMode.Start);
      file.writeSync(new Uint8Array(Uint16Array.of(1234, 4321).buffer));
    }
    using reader = new TokenReader(path, V);
    const before = Deno.memoryUsage().rss;
    const ids = new Int32Array(3);
    reader.read(tokens - 3, ids);
    assertEquals([...ids], [0, 1234, 4321]);
    const many = new Int32Array(4096);
    for (let position = 0; position < tokens - 4096; position += tokens / 100 | 0) {
      reader.read(position, many);
    }
    assertLess(Deno.memoryUsage().rss - before, 64 * 2 ** 20);
  });
});
