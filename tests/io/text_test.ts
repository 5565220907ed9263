import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { FileError } from "../../src/errors.ts";
import { decodeUtf8, readText, readTextPieces } from "../../src/io/text.ts";
import { inFolder } from "../folder.ts";

const MIB = 2 ** 20;

/** What reading a file of these bytes gives, piece by piece. */
async function piecesOf(bytes: Uint8Array): Promise<string[]> {
  let pieces: string[] = [];
  await inFolder((folder) => {
    const path = join(folder, "text.txt");
    Deno.writeFileSync(path, bytes);
    pieces = [...readTextPieces(path)];
  });
  return pieces;
}

function bytesOf(...parts: (string | number[])[]): Uint8Array {
  return new Uint8Array(
    parts.flatMap((part) => typeof part === "string" ? [...new TextEncoder().encode(part)] : part),
  );
}

Deno.test("readText() joins the pieces, and words a failure", async () => {
  await inFolder((folder) => {
    const path = join(folder, "text.txt");
    const text = "é".repeat(MIB);
    Deno.writeTextFileSync(path, text);
    assertEquals(readText(path) === text, true);
    const { message } = assertThrows(() => readText(folder), FileError);
    assertEquals(message, `"${folder}": is a folder, expected a file`);
  });
});

Deno.test("readTextPieces() keeps byte order mark and line ends", async () => {
  assertEquals(await piecesOf(bytesOf("\ufeffa\r\nb\rc\n\0")), ["\ufeffa\r\nb\rc\n\0"]);
  assertEquals(await piecesOf(new Uint8Array()), []);
});

Deno.test("readTextPieces() keeps characters whole where a piece ends", async () => {
  for (const character of ["\u00e9", "\u4f60", "\u{1F44D}"]) {
    for (let before = MIB - 5; before <= MIB + 1; before++) {
      const text = "x".repeat(before) + character + "y".repeat(10);
      const pieces = await piecesOf(new TextEncoder().encode(text));
      assertEquals(pieces.join("") === text, true, `${before} bytes before ${character}`);
    }
  }
});

Deno.test("readTextPieces() and decodeUtf8() give the offset of the first invalid byte", async (t) => {
  const cases: [name: string, bytes: Uint8Array, offset: number][] = [
    ["a byte that starts nothing", bytesOf("abc", [0xff], "def"), 3],
    ["a character of Latin-1", bytesOf("caf", [0xe9], " noir"), 3],
    ["after characters of several bytes", bytesOf("\ufeff\u4f60\u{1F44D}", [0x80]), 10],
    ["a surrogate", bytesOf("a", [0xed, 0xa0, 0x80], "b"), 1],
    ["an overlong form", bytesOf([0xc0, 0xaf]), 0],
    ["a character cut by the end", bytesOf("ab", [0xf0, 0x9f, 0x91]), 2],
    ["in a later piece", bytesOf("x".repeat(MIB + 7), [0xff]), MIB + 7],
    ["at the very end of a piece", bytesOf("x".repeat(MIB - 1), [0xff], "x"), MIB - 1],
    ["a character cut by a piece, then wrong", bytesOf("x".repeat(MIB - 2), [0xe4, 0xbd], "x"), MIB - 2],
    ["cut by the end of a piece and file", bytesOf("x".repeat(MIB - 1), [0xe4]), MIB - 1],
  ];
  for (const [name, bytes, offset] of cases) {
    await t.step(name, () =>
      inFolder((folder) => {
        const path = join(folder, "text.txt");
        Deno.writeFileSync(path, bytes);
        const message = `is not UTF-8 text: invalid bytes at offset ${offset}`;
        for (const read of [() => [...readTextPieces(path)], () => decodeUtf8(bytes, path)]) {
          assertEquals(assertThrows(read, FileError).message, `"${path}": ${message}`);
        }
      }));
  }
});

Deno.test("decodeUtf8() takes U+FFFD in the text for what it is", () => {
  assertEquals(decodeUtf8(bytesOf("a\ufffdb"), "text"), "a\ufffdb");
});

Deno.test("readTextPieces() names a missing file and passes the hint on", () => {
  const error = assertThrows(() => [...readTextPieces("no/such.txt", "make it")], FileError);
  assertEquals([error.message, error.hint], [
    '"no/such.txt": cannot be opened: no such file or folder',
    "make it",
  ]);
});
