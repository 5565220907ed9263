import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { FileError } from "../../src/errors.ts";
import {
  exists,
  folderEntries,
  hashFile,
  isFile,
  isFolder,
  makeFolder,
  openForReading,
  readFully,
  removeFile,
  timeWritten,
  writeFileAtomically,
  writeFully,
  writeTextAtomically,
} from "../../src/io/files.ts";
import { inFolder } from "../folder.ts";

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("writeFileAtomically() shows the file only when it is whole", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "model.bin");
    Deno.writeTextFileSync(path, "old");
    const result = await writeFileAtomically(path, async (file) => {
      writeFully(file, new TextEncoder().encode("ne"));
      await Promise.resolve();
      const [temporary] = names(folder);
      assert(/^\.model\.bin\.[0-9a-f]{8}\.tmp$/.test(temporary!));
      assertEquals(names(folder).length, 2);
      assertEquals(Deno.readTextFileSync(path), "old");
      writeFully(file, new TextEncoder().encode("w"));
      return 3;
    });
    assertEquals(result, 3);
    assertEquals(Deno.readTextFileSync(path), "new");
    assertEquals(names(folder), ["model.bin"]);
  });
});

Deno.test("writeFileAtomically() leaves what was there when writing fails, and no temporary file", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "model.bin");
    Deno.writeTextFileSync(path, "old");
    await assertRejects(
      () =>
        writeFileAtomically(path, (file) => {
          writeFully(file, new Uint8Array(10));
          throw new RangeError("no more");
        }),
      RangeError,
      "no more",
    );
    assertEquals(Deno.readTextFileSync(path), "old");
    assertEquals(names(folder), ["model.bin"]);
  });
});

Deno.test("writeTextAtomically() puts UTF-8 in the place of what was there", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "config.json");
    Deno.writeTextFileSync(path, "something longer");
    await writeTextAtomically(path, "naïve 🌍\n");
    assertEquals(Deno.readTextFileSync(path), "naïve 🌍\n");
    assertEquals(names(folder), ["config.json"]);
    await assertRejects(() => writeTextAtomically(join(path, "x"), ""), FileError, "cannot be written");
  });
});

Deno.test("writeFileAtomically() names the file when the system refuses", async () => {
  await inFolder(async (folder) => {
    const missing = join(folder, "none", "model.bin");
    const error = await assertRejects(() => writeFileAtomically(missing, () => {}), FileError);
    assertEquals(error.message, `"${missing}": cannot be written: no such file or folder`);

    const taken = join(folder, "taken");
    Deno.mkdirSync(join(taken, "inside"), { recursive: true });
    await assertRejects(
      () => writeFileAtomically(taken, () => {}),
      FileError,
      `"${taken}": cannot be written`,
    );
    assertEquals(names(folder), ["taken"]);
  });
});

Deno.test({
  name: "writeFully() reports a full disk",
  ignore: Deno.build.os !== "linux", // /dev/full is Linux's
  fn() {
    using full = Deno.openSync("/dev/full", { write: true });
    try {
      writeFully(full, new Uint8Array(10));
    } catch (error) {
      assert((error as Error).message.includes("No space left"));
      return;
    }
    throw new Error("writing to a full disk succeeded");
  },
});

Deno.test({
  name: `a file that can't be read to its end is named${
    Deno.build.os === "linux" ? "" : " (skipped: no /proc/self/mem)"
  }`,
  ignore: Deno.build.os !== "linux",
  fn: () => {
    using file = openForReading("/proc/self/mem"); // address 0 is nobody's
    const words = '"/proc/self/mem": cannot be read: input/output error';
    assertThrows(() => readFully(file, new Uint8Array(8)), FileError, words);
  },
});

Deno.test({
  name: "openForReading() takes a pipe or a device only where that will do (A-06)",
  ignore: Deno.build.os === "windows",
  fn: () => {
    const message = '"/dev/null": is a pipe or a device, expected a file, which is read in any order';
    assertThrows(() => openForReading("/dev/null"), FileError, message);
    using file = openForReading("/dev/null", undefined, { pipes: true });
    assertEquals(readFully(file, new Uint8Array(1)), 0);
  },
});

Deno.test("removeFile() takes a file that isn't there as removed, and names one that can't be", async () => {
  await inFolder((folder) => {
    const path = join(folder, "file");
    Deno.writeTextFileSync(path, "");
    removeFile(path);
    assertEquals(names(folder), []);
    removeFile(path);
    Deno.mkdirSync(join(path, "in the way"), { recursive: true });
    assertThrows(() => removeFile(path), FileError, `"${path}": cannot be removed: directory not empty`);
  });
});

Deno.test("readFully() reads up to the end of the file", async () => {
  await inFolder((folder) => {
    const path = join(folder, "bytes");
    Deno.writeFileSync(path, Uint8Array.of(1, 2, 3));
    using file = openForReading(path);
    const buffer = new Uint8Array(2);
    assertEquals([readFully(file, buffer), ...buffer], [2, 1, 2]);
    assertEquals([readFully(file, buffer), ...buffer], [1, 3, 2]);
    assertEquals(readFully(file, buffer), 0);
  });
});

Deno.test("hashFile() is that of sha256sum, and of git hash-object", async () => {
  await inFolder((folder) => {
    const path = join(folder, "hello");
    Deno.writeTextFileSync(path, "hello\n");
    using file = openForReading(path);
    assertEquals(
      hashFile(file, "sha256"),
      "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    );
    file.seekSync(0, Deno.SeekMode.Start);
    assertEquals(hashFile(file, "sha1", "blob 6\0"), "ce013625030ba8dba906f756967f9e9ca394464a");
  });
});

Deno.test("exists() and its like take what no file can be called for absent, and word other failures", async () => {
  await inFolder((folder) => {
    const file = join(folder, "file");
    Deno.writeTextFileSync(file, "");
    assertEquals([exists(file), isFile(file), isFolder(file)], [true, true, false]);
    assertEquals([exists(folder), isFile(folder), isFolder(folder)], [true, false, true]);
    const list = Array(400).fill("train.bin").join();
    for (const absent of [join(folder, "none"), join(file, "inside"), join(folder, list), list]) {
      assertEquals([exists(absent), isFile(absent), isFolder(absent), timeWritten(absent)], [
        false,
        false,
        false,
        0,
      ]);
    }
    const loop = join(folder, "loop");
    Deno.symlinkSync(loop, loop);
    for (const look of [exists, isFile, isFolder, timeWritten]) {
      const { message } = assertThrows(() => look(loop), FileError);
      assertEquals(message, `"${loop}": cannot be opened: too many levels of symbolic links`);
    }
  });
});

Deno.test("folderEntries() words a failure", async () => {
  await inFolder((folder) => {
    const file = join(folder, "file");
    Deno.writeTextFileSync(file, "");
    assertEquals(folderEntries(folder).map(({ name }) => name), ["file"]);
    const { message } = assertThrows(() => folderEntries(file), FileError);
    assertEquals(message, `"${file}": cannot be read: not a directory`);
  });
});

Deno.test("makeFolder() makes the folders above too, and takes one that is there", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "a", "b");
    await makeFolder(path);
    await makeFolder(path);
    assert(Deno.statSync(path).isDirectory);
    Deno.writeTextFileSync(join(path, "file"), "");
    await assertRejects(() => makeFolder(join(path, "file")), FileError, "cannot be made a folder");
  });
});
