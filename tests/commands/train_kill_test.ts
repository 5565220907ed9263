import { assert } from "@std/assert";
import { survivesKills } from "./kill.ts";

Deno.test({
  name:
    "llmts train --resume goes on after 10 kills at random moments, with the bits of an undisturbed run (A-10, A-27)",
  ignore: Deno.build.os === "windows",
  async fn(): Promise<void> {
    assert(await survivesKills(10) > 0);
  },
});
