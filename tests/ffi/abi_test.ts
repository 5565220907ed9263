import { assertEquals } from "@std/assert";
import { ABI_VERSION, SYMBOLS } from "../../ffi/symbols.ts";

const header = await Deno.readTextFile(new URL("../../kernels/abi.h", import.meta.url));

/** Every function of abi.h: name, result and parameters as they are declared. */
function declarations(): Record<string, { result: string; parameters: string[] }> {
  const code = header.replace(/\/\*.*?\*\//gs, "");
  const found = code.matchAll(/LLMTS_EXPORT\s+(\w+)\s+(llmts_\w+)\s*\(([^)]*)\)\s*;/g);
  return Object.fromEntries(found.map(([, result = "", name = "", list = ""]) => {
    const parameters = list.split(",").map((parameter) => parameter.trim().replace(/\s+/g, " "));
    return [name, { result, parameters: parameters[0] === "void" ? [] : parameters }];
  }));
}

Deno.test("SYMBOLS declares every function of abi.h, and only those", () => {
  assertEquals(Object.keys(SYMBOLS).sort(), Object.keys(declarations()).sort());
});

Deno.test("SYMBOLS declares each parameter as abi.h does", () => {
  for (const [name, { result, parameters }] of Object.entries(declarations())) {
    const symbol = SYMBOLS[name as keyof typeof SYMBOLS];
    assertEquals(symbol.declared as readonly string[], parameters, name);
    assertEquals(result, "int32_t", name);
  }
});

Deno.test("SYMBOLS gives Deno the type that C means", () => {
  const expected = (parameter: string): string => {
    if (parameter.includes("*")) return "buffer";
    if (/^int32_t \w+$/.test(parameter)) return "i32";
    if (/^int64_t \w+$/.test(parameter)) return "i64";
    if (/^float \w+$/.test(parameter)) return "f32";
    return `no type for "${parameter}"`;
  };
  for (const [name, { parameters }] of Object.entries(declarations())) {
    const symbol = SYMBOLS[name as keyof typeof SYMBOLS];
    assertEquals(symbol.parameters as readonly string[], parameters.map(expected), name);
  }
});

Deno.test("ABI_VERSION is that of abi.h", () => {
  assertEquals(ABI_VERSION, Number(/#define LLMTS_ABI_VERSION (\d+)/.exec(header)?.[1]));
});
