/**
 * Where the library looks for cuBLASLt: in the folders that are named, and in those of the nvidia-cublas wheel. What is found there
 * is a library made here that knows its version alone.
 */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import { inFolder } from "../folder.ts";
import { type Outcome, run, succeed } from "./build.ts";

/** What is looked up, without the version, and without cublasLt in front. */
const FUNCTIONS = [
  ...["Create", "MatmulDescCreate", "MatmulDescDestroy", "MatmulDescSetAttribute", "MatrixLayoutCreate"],
  ...["MatrixLayoutDestroy", "MatmulPreferenceCreate", "MatmulPreferenceDestroy"],
  ...["MatmulPreferenceSetAttribute", "MatmulAlgoGetHeuristic", "Matmul"],
];

/** Shared by both libraries. */
const DOOR = "kernels/common/door.cpp";

/** A library with the functions that are looked up, of this version. */
async function plant(file: string, version: number, functions: readonly string[] = FUNCTIONS): Promise<void> {
  Deno.mkdirSync(dirname(file), { recursive: true });
  const source = `${file}.c`;
  const made = functions.map((name) => `void cublasLt${name}(void) {}`).join("\n");
  Deno.writeTextFileSync(
    source,
    `#include <stddef.h>\nsize_t cublasLtGetVersion(void) { return ${version}; }\n${made}\n`,
  );
  await succeed("cc", ["-shared", "-fPIC", "-x", "c", source, "-o", file]);
}

/** Runs the finder with nothing in its environment but what is given. */
async function find(folder: string, env: Readonly<Record<string, string>>): Promise<Outcome> {
  return await run("env", [
    "-i",
    ...Object.entries(env).map(([name, value]) => `${name}=${value}`),
    join(folder, "find"),
  ]);
}

Deno.test("cuBLASLt is found where it is named, in a toolkit, and in the wheel of a virtual environment or a user", () =>
  inFolder(async (folder) => {
    const sources = ["tests/cuda/find_cublas_lt.cpp", "kernels/cuda/cublas_lt.cpp", DOOR];
    await succeed("c++", ["-std=c++17", "-Ikernels", ...sources, "-ldl", "-o", join(folder, "find")]);

    const without = await find(folder, { HOME: join(folder, "nobody") });
    const system = without.code === 0; // then the linker's comes before a toolkit's or a wheel's
    if (!system) {
      assertMatch(
        without.output,
        /^cuBLASLt was not found; install .* `pip install nvidia-cublas`.* tried "libcublasLt.so.13"/,
      );
    }

    const places = {
      LLMTS_CUBLASLT: join(folder, "named", "cublas.so"),
      CUDA_HOME: join(folder, "toolkit", "lib64", "libcublasLt.so.13"),
      VIRTUAL_ENV: join(folder, "venv/lib/python3.13/site-packages/nvidia/cu13/lib/libcublasLt.so.13"),
      HOME: join(folder, "home/.local/lib/python3.11/site-packages/nvidia/cublas/lib/libcublasLt.so.12"),
    };
    const roots = {
      LLMTS_CUBLASLT: places.LLMTS_CUBLASLT,
      CUDA_HOME: join(folder, "toolkit"),
      VIRTUAL_ENV: join(folder, "venv"),
      HOME: join(folder, "home"),
    };
    let version = 990001;
    for (const [variable, file] of Object.entries(places)) {
      await plant(file, version);
      if (!system || variable === "LLMTS_CUBLASLT") {
        const found = await find(folder, { [variable]: roots[variable as keyof typeof roots] });
        assertEquals(found, { code: 0, output: `${version}\n` }, variable);
      }
      version++;
    }

    await plant(places.LLMTS_CUBLASLT, 1, ["Create"]);
    const old = await find(folder, { LLMTS_CUBLASLT: places.LLMTS_CUBLASLT });
    assertEquals(old.code, 1);
    assertStringIncludes(
      old.output,
      "cuBLASLt has no cublasLtMatmulDescCreate, expected version 12 or later",
    );
  }));
