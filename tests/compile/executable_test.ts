// The one executable, as a user has it: away from the sources, with standard input closed. Both kinds pass one test.

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { compileWithDenort, findDenort } from "../../dev/compile/denort.ts";
import { builtFiles } from "../../dev/compile/files.ts";
import { makePortable } from "../../dev/compile/portable.ts";
import config from "../../deno.json" with { type: "json" };
import { spacedFolder, start } from "./executables.ts";

const denort = await findDenort();
const KINDS = [
  {
    name: "the portable executable",
    make: makePortable,
    skipped: Deno.build.os === "windows" ? "Windows has no shell for it" : "",
  },
  {
    name: "the `deno compile` executable",
    make: compileWithDenort,
    skipped: "missing" in denort ? `no denort: ${denort.missing}` : "",
  },
];

for (const { name, make, skipped } of KINDS) {
  const ending = skipped === "" ? "" : ` (skipped: ${skipped})`;
  Deno.test({ name: `${name} trains and samples${ending}`, ignore: skipped !== "" }, async () => {
    await using home = await spacedFolder();
    await using elsewhere = await spacedFolder();
    const executable = await make(home.path, await builtFiles());
    // Not the program's: neither may matter.
    await Deno.writeTextFile(join(elsewhere.path, "deno.json"), "{ not JSON");
    await Deno.writeTextFile(join(elsewhere.path, "package.json"), "{ not JSON");
    const llmts = (...args: string[]): ReturnType<typeof start> =>
      start(executable, args, { cwd: elsewhere.path, env: { HOME: home.path } });

    assertEquals(await llmts("--version"), { code: 0, stdout: `llmts ${config.version}\n`, stderr: "" });

    const info = await llmts("info");
    assertEquals([info.code, info.stderr], [0, ""]);
    assertStringIncludes(info.stdout, "llmts_cpu");

    const tiny = [
      "--model",
      "d2",
      "--steps",
      "2",
      "--batch-size",
      "1",
      "--seq-len",
      "16",
      "--sample-tokens",
      "4",
    ];
    const training = await llmts("train", ...tiny, "--val-tokens", "16", "--out", "my models");
    assertEquals([training.code, training.stderr], [0, ""]);
    assertMatch(training.stdout, /^step +2\/2 \| loss /m);

    const sampling = [
      "sample",
      "--model",
      "my models",
      "--prompt",
      "Call me",
      "--tokens",
      "4",
      "--temperature",
      "0",
    ];
    const sample = await llmts(...sampling);
    assertEquals(sample.code, 0);
    assert(sample.stdout.startsWith("Call me"), sample.stdout);

    const mistake = await llmts("train", "--step", "2");
    assertEquals([mistake.code, mistake.stdout], [2, ""]);
    assertStringIncludes(mistake.stderr, "--steps");
  });
}
