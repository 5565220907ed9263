import { assertEquals } from "@std/assert";
import { fillFlags, README } from "../../dev/readme.ts";

Deno.test("the README's flag tables are those of the commands (deno task docs fills them)", async () => {
  const readme = await Deno.readTextFile(README);
  assertEquals(readme, await fillFlags(readme));
});
