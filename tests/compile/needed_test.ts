// The kernel libraries need nothing that a plain Linux machine lacks.

import { assert, assertEquals } from "@std/assert";
import { builtFiles } from "../../dev/compile/files.ts";
import { run } from "../../dev/compile/command.ts";

/** The C library with its loader: all else is linked statically. */
const ALLOWED = /^(lib(c|m|dl|pthread)|ld-linux(-[\w-]+)?)\.so\.\d+$/;

const missing = Deno.build.os !== "linux"
  ? " (skipped: libraries are ELF files on Linux only)"
  : await run("readelf", ["--version"]).then(() => "", () =>
    " (skipped: readelf, of binutils, is not installed)");

Deno.test({
  name: `the kernel libraries need only the C library${missing}`,
  ignore: missing !== "",
}, async () => {
  const libraries = (await builtFiles()).filter((file) => file.name.startsWith("lib/"));
  for (const { name, path } of libraries) {
    const needed = (await run("readelf", ["--dynamic", "--wide", path])).matchAll(/\(NEEDED\).*\[(.*)\]/g);
    const names = [...needed].map((match) => match[1]!);
    assert(names.includes("libc.so.6"), `${name} needs ${names.join(", ")}: not read right`);
    assertEquals(names.filter((needed) => !ALLOWED.test(needed)), [], name);
  }
});
