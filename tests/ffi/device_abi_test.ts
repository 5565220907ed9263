import { assertEquals } from "@std/assert";
import { DEVICE_SYMBOLS, deviceInterface, HOST_PARAMETERS } from "../../ffi/device_symbols.ts";
import { SYMBOLS } from "../../ffi/symbols.ts";

function header(name: string): string {
  return Deno.readTextFileSync(new URL(`../../kernels/${name}`, import.meta.url));
}

/** The functions of a header: parameters as declared, and the comment before them. */
function declarations(text: string): { name: string; parameters: string[]; comment: string }[] {
  const found = text.matchAll(
    /(?:\/\*((?:(?!\*\/).)*)\*\/\n)?LLMTS_EXPORT\s+int32_t\s+(llmts_\w+)\s*\(([^)]*)\)\s*;/gs,
  );
  return [...found].map(([, comment = "", name = "", list = ""]) => {
    const parameters = list.split(",").map((parameter) => parameter.trim().replace(/\s+/g, " "));
    return { name, parameters: parameters[0] === "void" ? [] : parameters, comment };
  });
}

Deno.test("DEVICE_SYMBOLS declares every function of abi_device.h as it is there, and only those", () => {
  const declared = declarations(header("abi_device.h")).map(({ name, parameters }) => [name, parameters]);
  assertEquals(
    Object.fromEntries(Object.entries(DEVICE_SYMBOLS).map(([name, { declared }]) => [name, [...declared]])),
    Object.fromEntries(declared),
  );
});

Deno.test("HOST_PARAMETERS are those of the functions whose words in the headers mark memory as HOST", () => {
  const marked = ["abi.h", "abi_device.h"].flatMap((name) => declarations(header(name)))
    .filter(({ comment, parameters }) =>
      /HOST|as llmts_last_error/.test(comment) && parameters.some((parameter) => parameter.includes("*"))
    )
    .map(({ name }) => name);
  // llmts_device_timer_start shares the comment of the function after it.
  assertEquals(Object.keys(HOST_PARAMETERS).sort(), [...marked, "llmts_device_timer_stop"].sort());
  for (const [name, parameters] of Object.entries(HOST_PARAMETERS)) {
    const { declared } = { ...SYMBOLS, ...DEVICE_SYMBOLS }[name as keyof typeof SYMBOLS];
    const pointers = declared.filter((parameter) => parameter.includes("*"));
    for (const parameter of parameters) {
      assertEquals(
        pointers.filter((pointer) => pointer.endsWith(`*${parameter}`)).length,
        1,
        `${name} ${parameter}`,
      );
    }
  }
});

Deno.test("deviceInterface() takes views for host memory and addresses for the device's", () => {
  const types = deviceInterface();
  assertEquals(types["llmts_global_norm"]?.parameters, ["buffer", "pointer", "i64"]);
  assertEquals(types["llmts_device_upload"]?.parameters, ["pointer", "buffer", "i64"]);
  assertEquals(types["llmts_gelu_forward"]?.parameters, ["pointer", "i32", "pointer", "i32", "i64"]);
});
