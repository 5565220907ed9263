import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { join, relative } from "@std/path";
import { FileError } from "../../src/errors.ts";
import { HEADER_BYTES } from "../../src/io/files.ts";
import { DataLoader } from "../../src/io/loader.ts";
import { commonFile, findShards, openShards } from "../../src/io/shards.ts";
import { writeTokenFile } from "../../src/io/tokens.ts";
import { inFolder } from "../folder.ts";

const V = 50257;

async function writeShards(folder: string, names: readonly string[], tokens = 10): Promise<string[]> {
  const paths = names.map((name) => join(folder, name));
  for (const path of paths) await writeTokenFile(path, V, (write) => write(new Uint16Array(tokens)));
  return paths;
}

Deno.test("findShards() sorts bytewise what a pattern matches (A-22)", async () => {
  await inFolder(async (folder) => {
    const names = ["b_10.bin", "b_2.bin", "B_3.bin", "é.bin", "a.bin", "\u{10400}.bin", "\uff5e.bin"];
    await writeShards(folder, names);
    await Deno.mkdir(join(folder, "folder.bin"));
    await Deno.writeTextFile(join(folder, "a.txt"), "");
    // In UTF-8 U+FF5E comes before U+10400; in JavaScript's order of code units it comes after.
    const expected = ["B_3.bin", "a.bin", "b_10.bin", "b_2.bin", "é.bin", "\uff5e.bin", "\u{10400}.bin"];
    for (const patterns of [["*.bin"], ["[b-é]*.bin", "\uff5e.bin", "*.bin"]]) {
      const found = findShards(patterns.map((pattern) => join(folder, pattern)));
      assertEquals(found, expected.map((name) => join(folder, name)));
    }
  });
});

Deno.test("findShards() takes a name that exists as it is, and each file once (A-22)", async () => {
  await inFolder(async (folder) => {
    const [bracketed, spaced, starred] = await writeShards(folder, ["x[1].bin", "x 1.bin", "x*.bin"]);
    await writeShards(folder, ["x1.bin"]);
    assertEquals(findShards([bracketed!]), [bracketed!]);
    assertEquals(findShards([spaced!]), [spaced!]);
    assertEquals(findShards([starred!]), [starred!]);
    assertEquals(findShards([spaced!, join(folder, "x?1.bin"), spaced!]), [spaced!]);
    assertEquals(findShards([spaced!, `${folder}/./x?1.bin`, relative(".", spaced!)]), [spaced!]);
    assertEquals(findShards([join(folder, "x[12].bin")]), [join(folder, "x1.bin")]);
  });
});

Deno.test("findShards() tells a pattern without a match from a missing file (A-21, A-22)", async () => {
  await inFolder((folder) => {
    const pattern = join(folder, "train_*.bin");
    const error = assertThrows(() => findShards([pattern]), FileError);
    assertEquals(error.message, `"${pattern}": no file matches this pattern`);
    const missing = join(folder, "train.bin");
    assertThrows(() => openShards(findShards([missing]), V), FileError, "no such file or folder");
  });
});

Deno.test("findShards() refuses a folder with a pattern that might be meant (A-22)", async () => {
  await inFolder((folder) => {
    const { message, hint } = assertThrows(() => findShards([folder]), FileError);
    assertEquals(message, `"${folder}": is a folder, expected files`);
    assertEquals(hint, `give a pattern in quotes, such as '${join(folder, "*_train*.bin")}'`);
  });
});

Deno.test("openShards() checks every file before the first token is read", async () => {
  await inFolder(async (folder) => {
    const paths = await writeShards(folder, ["0.bin", "1.bin", "2.bin"]);
    const faults: [change: (bytes: Uint8Array) => Uint8Array, message: string][] = [
      [(bytes) => bytes.fill(1, 0, 4), "expected a token file (magic 20240520"],
      [(bytes) => bytes.fill(7, 4, 5), "of version 7"],
      [(bytes) => bytes.subarray(0, -2), "2 bytes are missing"],
      [(bytes) => new Uint8Array([...bytes, 0]), "1 bytes are left over"],
    ];
    const whole = Deno.readFileSync(paths[2]!);
    for (const [change, message] of faults) {
      Deno.writeFileSync(paths[2]!, change(whole.slice()));
      const error = assertThrows(() => openShards(paths, V), FileError);
      assertStringIncludes(error.message, `"${paths[2]}"`);
      assertStringIncludes(error.message, message);
    }
  });
});

Deno.test("openShards() names the file and the position of an id outside the vocabulary", async () => {
  await inFolder(async (folder) => {
    const paths = await writeShards(folder, ["0.bin", "1.bin"], 20);
    await writeTokenFile(paths[1]!, 65536, (write) => write([...new Array(15).fill(0), V, 0, 0, 0, 0]));
    using shards = openShards(paths, V);
    const loader = new DataLoader(shards, 1, 9);
    for (let i = 0; i < 3; i++) loader.next();
    const error = assertThrows(() => loader.next(), FileError);
    assertEquals(
      error.message,
      `"${paths[1]}": has id 50257 at token 15, outside the model's vocabulary of 50257`,
    );
  });
});

Deno.test("openShards() notices a file that another has taken the place of", async () => {
  await inFolder(async (folder) => {
    const paths = await writeShards(folder, ["0.bin", "1.bin"]);
    using shards = openShards(paths, V);
    await writeShards(folder, ["1.bin"], 12);
    shards.read(0, 0, new Int32Array(3));
    assertThrows(() => shards.read(1, 0, new Int32Array(3)), FileError, "has 12 tokens, and had 10");
  });
});

Deno.test("openShards() reads beyond 2 GiB, without the file in memory (A-05, A-20)", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "large.bin");
    const tokens = 2 ** 30 + 64;
    {
      using file = await Deno.open(path, { write: true, createNew: true });
      const header = new Int32Array(HEADER_BYTES / 4);
      header.set([20240520, 1, tokens]);
      file.writeSync(new Uint8Array(header.buffer));
      await file.truncate(HEADER_BYTES + 2 * tokens); // sparse: takes no room on the disk
      await file.seek(-4, Deno.SeekMode.End);
      file.writeSync(new Uint8Array(new Uint16Array([4321, 1234]).buffer));
    }
    const before = Deno.memoryUsage().rss;
    using shards = openShards([path], V);
    const last = new Int32Array(3);
    shards.read(0, tokens - 3, last);
    assertEquals([...last], [0, 4321, 1234]);
    const loader = new DataLoader(shards, 4, 256);
    loader.state = { shard: 0, sample: loader.batches - 2, epoch: 0, shuffle: null };
    loader.next();
    assertEquals(loader.epoch, 1);
    for (let i = 0; i < 1000; i++) loader.next();
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 64 * 2 ** 20, `memory grew by ${grown} bytes`);
  });
});

Deno.test("commonFile() finds a file in both sets, by whatever name (A-21)", async () => {
  await inFolder(async (folder) => {
    const [a, b, c] = await writeShards(folder, ["a.bin", "b.bin", "c.bin"]) as [string, string, string];
    const link = join(folder, "link.bin");
    await Deno.symlink(b, link);
    assertEquals(commonFile([a, b], [c]), undefined);
    assertEquals(commonFile([a, b], [c, b]), b);
    assertEquals(commonFile([a, b], [c, link]), link);
    assertEquals(commonFile([a], [join(folder, ".", "a.bin")]), a);
    assertEquals(commonFile([a, join(folder, "absent.bin")], [b, c]), undefined);
  });
});
