import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { dirname, join } from "@std/path";
import { LlmtsError } from "../../src/errors.ts";
import { assetPath } from "../../src/io/assets.ts";
import { inFolder } from "../folder.ts";

/** Runs with LLMTS_HOME set, as the portable executable does. */
function withHome(home: string, run: () => void): void {
  const before = Deno.env.get("LLMTS_HOME");
  Deno.env.set("LLMTS_HOME", home);
  try {
    run();
  } finally {
    if (before === undefined) Deno.env.delete("LLMTS_HOME");
    else Deno.env.set("LLMTS_HOME", before);
  }
}

Deno.test("assetPath() looks where LLMTS_HOME says first", async () => {
  await inFolder((home) => {
    const path = join(home, "assets", "corpus.bin");
    Deno.mkdirSync(dirname(path));
    Deno.writeTextFileSync(path, "");
    withHome(home, () => assertEquals(assetPath("corpus.bin"), path));
  });
});

Deno.test("assetPath() lists the paths it tried and names the command that makes the file", () => {
  withHome("/nowhere", () => {
    const error = assertThrows(() => assetPath("no such corpus.bin"), LlmtsError);
    assertStringIncludes(error.message, `tried "${join("/nowhere", "assets", "no such corpus.bin")}", "`);
    assertStringIncludes(error.message, join("build", "assets", "no such corpus.bin"));
    assertEquals(error.hint, "deno task build");
  });
});
