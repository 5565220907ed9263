// Where denort is looked for, and what goes on top of it. That the result runs is executable_test.ts's, where there is one.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { compileWithDenort, findDenort } from "../../dev/compile/denort.ts";
import { builtFiles } from "../../dev/compile/files.ts";
import { LlmtsError } from "../../src/errors.ts";
import { spacedFolder } from "./executables.ts";

/** Runs `test` with an environment variable set. */
async function withVariable(name: string, value: string, test: () => Promise<void>): Promise<void> {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  try {
    await test();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}

Deno.test("findDenort() takes the file that DENORT_BIN names and refuses a name of none", async () => {
  const path = Deno.execPath();
  await withVariable("DENORT_BIN", path, async () => {
    assertEquals(await findDenort(), { from: `DENORT_BIN ("${path}")` });
  });
  await withVariable("DENORT_BIN", `${path}.not`, async () => {
    await assertRejects(() => findDenort(), LlmtsError, `DENORT_BIN is "${path}.not", which is not a file`);
  });
});

const named = Deno.env.has("DENORT_BIN") ? " (skipped: DENORT_BIN is set)" : "";
Deno.test({ name: `findDenort() takes the archive in DENO_DIR${named}`, ignore: named !== "" }, async () => {
  await using cache = await spacedFolder();
  await withVariable("DENO_DIR", cache.path, async () => {
    const folder = join(cache.path, "dl", "release", `v${Deno.version.deno}`);
    const archive = join(folder, `denort-${Deno.build.target}.zip`);
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(archive, "");
    assertEquals(await findDenort(), { from: `DENO_DIR ("${archive}")` });
  });
});

Deno.test("compileWithDenort() embeds the libraries and assets", async () => {
  await using folder = await spacedFolder();
  // Any program will do for a base that is not to run.
  await withVariable("DENORT_BIN", Deno.execPath(), async () => {
    const files = await builtFiles();
    const executable = await Deno.readFile(await compileWithDenort(folder.path, files));
    for (const { name, path } of files) {
      const bytes = await Deno.readFile(path);
      assert(includes(executable, bytes), `${name} is not in the executable`);
    }
  });
});

/** Whether `part` stands somewhere in `whole`. */
function includes(whole: Uint8Array, part: Uint8Array): boolean {
  for (let at = whole.indexOf(part[0]!); at >= 0; at = whole.indexOf(part[0]!, at + 1)) {
    let i = 1;
    while (i < part.length && whole[at + i] === part[i]) i++;
    if (i === part.length) return true;
  }
  return false;
}
