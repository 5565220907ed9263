import { assertEquals } from "@std/assert";
import { validationLine } from "../../commands/train_report.ts";

Deno.test("validationLine() says over how many tokens, and at which T (A-16)", () => {
  assertEquals(validationLine({ loss: 10.5, tokens: 2560 }, 64), "val loss 10.500000 (2560 tokens, T=64)");
});
