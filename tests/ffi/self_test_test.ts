import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { openDevice } from "../../ffi/device.ts";
import { checkCalls } from "../../ffi/self_test.ts";
import { LlmtsError } from "../../src/errors.ts";
import { TEST_DEVICES } from "../devices.ts";

for (const { name, open } of TEST_DEVICES) {
  Deno.test(`checkCalls() finds that calls stay right once they are compiled (D-05, ${name})`, () => {
    checkCalls(open());
  });
}

Deno.test("checkCalls() says which call went wrong", () => {
  const device = openDevice();
  let calls = 0;
  // As once in Deno: arguments are mixed up from some call on.
  const globalNorm: typeof device.ops.globalNorm = (x) => ++calls < 5001 ? device.ops.globalNorm(x) : 0;
  const error = assertThrows(() => checkCalls({ ...device, ops: { ...device.ops, globalNorm } }), LlmtsError);
  assertEquals(
    error.message,
    `The kernel library "${device.library.path}" computes wrongly: the norm of 3, 4 is 5, and call 5001 gave 0`,
  );
  assertStringIncludes(error.hint ?? "", "another version of Deno");
});
