import { assert, assertEquals } from "@std/assert";
import { matchesGlob } from "node:path";
import { command as train } from "../../commands/train.ts";
import { fillFlags, README } from "../../dev/readme.ts";

Deno.test("the README's flag tables are those of the commands (deno task docs fills them)", async () => {
  const readme = await Deno.readTextFile(README);
  assertEquals(readme, await fillFlags(readme));
});

Deno.test("the patterns in the examples of a long run match what llmts data writes", async () => {
  const examples = [await Deno.readTextFile(README), ...train.examples];
  const patterns = examples.flatMap((text) =>
    [...text.matchAll(/--data '(.*?)'/g)].map((match) => match[1]!)
  );
  assert(patterns.length >= 2);
  for (const pattern of patterns) assert(matchesGlob("data/book_train.bin", pattern), pattern);
});
