/**
 * Kernels with a mistake put in: each has to be reported, as a race by ThreadSanitizer or as a wrong result. What passes
 * unmutated is checked by emulation_test.ts.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { dirname, join } from "@std/path";
import { build, EMULATED, ROOT, run, succeed } from "./build.ts";

interface Mutant {
  readonly name: string;
  /** The file that is changed, and the text that is replaced in it. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** The file to compile for it. */
  readonly unit: string;
  /** The case that has to report it, and how. */
  readonly check: string;
  readonly report: RegExp;
}

const RACE = /ThreadSanitizer: data race/;
const WRONG = /^FAILED .*expected/m;

const MUTANTS: readonly Mutant[] = [
  {
    name: "a dropped __syncthreads before a read",
    file: "kernels/cuda/tile.h",
    from: "    load_tile(b_slice, b, column, k);\n    __syncthreads();\n",
    to: "    load_tile(b_slice, b, column, k);\n",
    unit: "kernels/cuda/attention_tiled.cu",
    check: "attention in tiles",
    report: RACE,
  },
  {
    name: "a dropped __syncthreads before a reuse",
    file: "kernels/cuda/tile.h",
    from: "    __syncthreads();  // the slices may still be in use\n",
    to: "",
    unit: "kernels/cuda/product.cu",
    check: "matmul",
    report: RACE,
  },
  {
    name: "a dropped __syncthreads before tiles of keys and values are reused",
    file: "kernels/cuda/attention_mma.cu",
    from: "    __syncthreads();  // the tiles may still be in use\n",
    to: "",
    unit: "kernels/cuda/attention_mma.cu",
    check: "attention on tensor cores",
    report: RACE,
  },
  {
    name: "a dropped __syncwarp",
    file: "tests/cuda/check_emulation.cpp",
    from: "  __syncwarp();\n  values[threadIdx.x]",
    to: "  values[threadIdx.x]",
    unit: "tests/cuda/check_emulation.cpp",
    check: "warps and atomics",
    report: RACE,
  },
  {
    name: "+= for atomicAdd",
    file: "tests/cuda/check_emulation.cpp",
    from: "atomicAdd(&bins[values[threadIdx.x] % 8], 1);",
    to: "bins[values[threadIdx.x] % 8] += 1;",
    unit: "tests/cuda/check_emulation.cpp",
    check: "warps and atomics",
    report: RACE,
  },
  {
    name: "a plain store for atomicCAS",
    file: "kernels/cuda/device.h",
    from: "  if (atomicCAS(&fault->kind, kNoFault, kind) != kNoFault) return;\n",
    to: "  if (fault->kind != kNoFault) return;\n  fault->kind = kind;\n",
    unit: "kernels/cuda/embedding.cu",
    check: "bad ids",
    report: RACE,
  },
  {
    name: "an off-by-one at a tile's edge",
    file: "kernels/cuda/tile.h",
    from: "k >= depth",
    to: "k > depth",
    unit: "kernels/cuda/product.cu",
    check: "matmul",
    report: WRONG,
  },
  {
    name: "an off-by-one at the causal edge",
    file: "kernels/cuda/attention_mma_backward.cu",
    from: "key <= query && query < T",
    to: "key < query && query < T",
    unit: "kernels/cuda/attention_mma_backward.cu",
    check: "attention on tensor cores",
    report: WRONG,
  },
  {
    name: "a missing accumulation over blocks",
    file: "kernels/cuda/columns.cu",
    from: "out[column] = accumulate ? out[column] + sum : sum;",
    to: "out[column] = sum;",
    unit: "kernels/cuda/columns.cu",
    check: "layernorm",
    report: WRONG,
  },
  {
    name: "a missing accumulation over groups of rows",
    file: "kernels/cuda/layernorm.cu",
    from: "        add(dweight, c, sum_weight);\n",
    to: "        Out<float>(dweight, false).store(c, sum_weight);\n",
    unit: "kernels/cuda/layernorm.cu",
    check: "layernorm",
    report: WRONG,
  },
  {
    name: "an accumulation where the first micro-step stores",
    file: "kernels/cuda/embedding.cu",
    from: "  if (accumulate)\n    add(dwpe, index, sum);",
    to: "  if (accumulate || index > 0)\n    add(dwpe, index, sum);",
    unit: "kernels/cuda/embedding.cu",
    check: "embedding",
    report: WRONG,
  },
  {
    name: "a missing accumulation into dweight",
    file: "kernels/cuda/product.cu",
    from: "      if (accumulate) value[0] += out.read().at(index);\n",
    to: "",
    unit: "kernels/cuda/product.cu",
    check: "matmul",
    report: WRONG,
  },
];

function copyFolder(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (isDirectory) copyFolder(join(from, name), join(to, name));
    else Deno.copyFileSync(join(from, name), join(to, name));
  }
}

/** Compiles a mutant in `folder` and links it in the original's place. */
async function compile(mutant: Mutant, folder: string): Promise<string> {
  for (const part of ["kernels", "tests/cuda"]) copyFolder(join(ROOT, part), join(folder, part));
  const path = join(folder, mutant.file);
  const text = Deno.readTextFileSync(path);
  assertEquals(text.split(mutant.from).length, 2, `${mutant.file} has not exactly one "${mutant.from}"`);
  Deno.writeTextFileSync(path, text.replace(mutant.from, () => mutant.to));
  const [object, program] = [join(folder, "mutant.o"), join(folder, "mutant")];
  const flags = [
    "-std=c++17",
    "-O1",
    "-g1",
    "-fsanitize=thread",
    "-fopenmp-simd",
    "-I",
    join(folder, "kernels"),
  ];
  await succeed("c++", [
    ...flags,
    ...["-I", dirname(join(folder, mutant.unit)), "-x", "c++", "-c", join(folder, mutant.unit), "-o", object],
  ]);
  const archive = (name: string): string => join(EMULATED, `lib${name}_thread.a`);
  await succeed("c++", [
    ...["-fsanitize=thread", object, archive("cuda_cases"), archive("cuda_kernels")],
    ...["-pthread", "-ldl", "-o", program],
  ]);
  return program;
}

for (const mutant of MUTANTS) {
  Deno.test(`${mutant.name} in ${mutant.file} is reported (emulated)`, async () => {
    await build("cuda_checks_thread");
    const folder = Deno.makeTempDirSync();
    try {
      const { code, output } = await run(await compile(mutant, folder), ["--seed", "3", mutant.check]);
      assert(code !== 0, `the mutant passed:\n${output}`);
      assertMatch(output, mutant.report);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });
}
