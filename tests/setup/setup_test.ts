// setup.sh with stand-ins for the tools it calls: what it installs where something is missing, and how it stops. The real
// thing is what .ci/run starts with.

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { dirname, fromFileUrl, join } from "@std/path";

const ROOT = join(dirname(fromFileUrl(import.meta.url)), "..", "..");
const ignore = Deno.build.os === "windows";

/** Base tools that setup.sh may take for granted. */
const BASE = [
  "bash",
  "basename",
  "cat",
  "chmod",
  "dirname",
  "env",
  "head",
  "ln",
  "mkdir",
  "rm",
  "sed",
  "sort",
  "tail",
  "true",
];

/** Stand-ins by name: the shell script each runs after noting its call. */
type Tools = Readonly<Record<string, string>>;

const BUILD_TOOLS: Tools = { "c++": "", cmake: "", ninja: "" };
const DENO = (version: string): string => `[ "$1" != --version ] || echo "deno ${version} (stable)"`;
const BUILD = `case "$*" in "task build") mkdir -p build/lib; : >build/lib/libllmts_cpu.so;; esac`;
/** Builds, and leaves the compiler's name in a file. */
const BUILD_WITH = `${BUILD}\n[ "$*" != "task build" ] || echo "$CXX" >cxx`;
/** Makes the compilers that it is asked to install; those without a number are too old. */
const APT = `for package; do
  case $package in
    g++) code=1 ;;
    g++-*) code=0 ;;
    *) continue ;;
  esac
  printf '#!/bin/sh\\nexit %d\\n' $code >"\${0%/*}/$package"; chmod +x "\${0%/*}/$package"
done`;
const NEEDED = "needed are GCC 12 or Clang 14, CMake 3.20, Ninja and Eigen 3.4, or later ones";

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** The calls of the stand-ins, a line each. */
  readonly calls: string[];
  readonly folder: string;
}

const folders: string[] = [];
Deno.test.afterAll(async () => {
  for (const folder of folders) await Deno.remove(folder, { recursive: true });
});

interface Options {
  /** The user's number; 0 is root. */
  readonly user?: number;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** What the compiler of a build folder that is there already is called. */
  readonly cached?: string;
}

/** Runs a copy of setup.sh, in a folder with a space in its name, with only the stand-ins and the base tools on the PATH. */
async function setUp(
  tools: Tools,
  { user = 1000, args = [], env = {}, cached }: Options = {},
): Promise<Run> {
  folders.push(await Deno.makeTempDir());
  const folder = join(folders.at(-1)!, "a clone");
  const bin = join(folder, "bin");
  await Deno.mkdir(bin, { recursive: true });
  await Deno.copyFile(join(ROOT, "setup.sh"), join(folder, "setup.sh"));
  if (cached !== undefined) {
    await Deno.mkdir(join(folder, "build", "cmake"), { recursive: true });
    const cache = `CMAKE_CXX_COMPILER:FILEPATH=${cached}\nCMAKE_CXX_COMPILER_AR:FILEPATH=ar\n`;
    await Deno.writeTextFile(join(folder, "build", "cmake", "CMakeCache.txt"), cache);
  }
  for (const name of BASE) {
    const { stdout } = await new Deno.Command("sh", { args: ["-c", `command -v ${name}`] }).output();
    const path = new TextDecoder().decode(stdout).trim();
    await Deno.symlink(path.startsWith("/") ? path : `/bin/${name}`, join(bin, name));
  }
  for (const [name, script] of Object.entries({ id: `echo ${user}`, ...tools })) {
    const text = `#!/bin/sh\necho "${name} $*" >>"${join(folder, "calls")}"\n${script}\n`;
    await Deno.writeTextFile(join(bin, name), text, { mode: 0o755 });
  }
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: [join(folder, "setup.sh"), ...args],
    env: { PATH: bin, HOME: folder, ...env },
    clearEnv: true,
    stdin: "null",
  }).output();
  const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  const calls = (await Deno.readTextFile(join(folder, "calls")).catch(() => "")).trim().split("\n");
  return { code, stdout: decode(stdout), stderr: decode(stderr), calls, folder };
}

Deno.test({ name: "setup.sh builds at once where everything is there", ignore }, async () => {
  const { code, stdout, stderr, calls } = await setUp({ ...BUILD_TOOLS, deno: `${DENO("2.9.6")}\n${BUILD}` });
  assertEquals([code, stderr], [0, ""]);
  assertEquals(calls.filter((call) => call.startsWith("deno") && !call.endsWith("--version")), [
    "deno install --frozen",
    "deno task build",
    "deno task --quiet compile",
  ]);
  assertStringIncludes(stdout, "==> built: libllmts_cpu.so");
  assertStringIncludes(stdout, "==> ready: ./llmts train");
});

Deno.test(
  { name: "setup.sh does nothing where it is asked for help or for what it has not", ignore },
  async () => {
    const usage = "usage: ./setup.sh [--help]\n";
    const help = await setUp(BUILD_TOOLS, { args: ["--help"] });
    assertEquals([help.code, help.stderr, help.calls], [0, "", [""]]);
    assertStringIncludes(help.stdout, `${usage}\nInstalls what llmts needs`);
    for (const args of [["--bogus"], ["--help", "more"], [""]]) {
      const { code, stdout, stderr, calls } = await setUp(BUILD_TOOLS, { args });
      assertEquals([code, stdout, calls], [2, "", [""]]);
      assertEquals(stderr, `setup.sh: it takes no arguments, and was given: ${args.join(" ")}\n${usage}`);
    }
  },
);

Deno.test({ name: "setup.sh installs the missing build tools with apt-get as root", ignore }, async () => {
  const withoutEigen = `case "$1" in -E) exit 1;; esac`;
  const tools = { "c++": withoutEigen, cmake: "", deno: `${DENO("2.10.0")}\n${BUILD}`, "apt-get": "" };
  const { code, calls } = await setUp(tools, { user: 0 });
  assertEquals(code, 0);
  const apt = calls.filter((call) => call.startsWith("apt-get"));
  assertEquals(apt, [
    "apt-get update",
    "apt-get install -y --no-install-recommends ninja-build libeigen3-dev",
  ]);
});

Deno.test({ name: "setup.sh uses sudo without a password where it is not root", ignore }, async () => {
  const tools = {
    deno: `${DENO("2.9.6")}\n${BUILD}`,
    "apt-get": APT,
    sudo: `[ "$1" = -n ] && shift && exec "$@"`,
  };
  const { code, calls } = await setUp(tools);
  assertEquals(code, 0);
  assert(calls.some((call) => call.startsWith("sudo -n env") && call.includes(" apt-get install ")));
  assert(calls.some((call) => call.endsWith(" g++ cmake ninja-build libeigen3-dev")));
});

Deno.test({ name: "setup.sh names the packages where it may not install them", ignore }, async () => {
  for (const tools of [{}, { "apt-get": "" }, { "apt-get": "", sudo: "exit 1" }]) {
    const { code, stdout, stderr, calls } = await setUp({ ...tools, deno: DENO("2.9.6") });
    assertEquals([code, stdout], [1, ""]);
    assertEquals(stderr.trim().split("\n").length, 1);
    assertStringIncludes(stderr, "apt-get install g++ cmake ninja-build libeigen3-dev");
    assertStringIncludes(stderr, "dnf install gcc-c++ cmake ninja-build eigen3-devel");
    assertStringIncludes(stderr, NEEDED);
    assert(!calls.some((call) => call.startsWith("apt-get")));
  }
});

Deno.test({ name: "setup.sh takes the first compiler that can compile the kernels", ignore }, async () => {
  const old = `case "$1" in -E) ;; *) exit 1;; esac`;
  const deno = `${DENO("2.9.6")}\n${BUILD_WITH}`;
  const tools = { ...BUILD_TOOLS, "c++": old, "g++": old, "g++-13": "", "g++-14": "", "clang++": "", deno };
  for (
    const [env, chosen] of [
      [{}, "g++-13"],
      [{ CXX: "" }, "g++-13"],
      [{ CXX: "clang++" }, "clang++"],
      [{ CXX: "env g++-14" }, "env g++-14"],
    ] as const
  ) {
    const { code, stderr, folder } = await setUp(tools, { env });
    assertEquals([code, stderr], [0, ""]);
    assertEquals(await Deno.readTextFile(join(folder, "cxx")), `${chosen}\n`);
  }
});

Deno.test({ name: "setup.sh installs GCC 12 where the g++ of the system is too old", ignore }, async () => {
  const deno = `${DENO("2.9.6")}\n${BUILD_WITH}`;
  const eigen = { Eigen3_ROOT: "/somewhere" };
  const { code, stderr, calls, folder } = await setUp(
    { cmake: "", ninja: "", deno, "apt-get": APT },
    { user: 0, env: eigen },
  );
  assertEquals([code, stderr], [0, ""]);
  assertEquals(calls.filter((call) => call.startsWith("apt-get install")), [
    "apt-get install -y --no-install-recommends g++",
    "apt-get install -y --no-install-recommends g++-12",
  ]);
  assertEquals(await Deno.readTextFile(join(folder, "cxx")), "g++-12\n");
});

Deno.test({ name: "setup.sh says what is needed where the compiler is too old", ignore }, async () => {
  const tools = { ...BUILD_TOOLS, "c++": "exit 1", "g++": "exit 1", deno: DENO("2.9.6") };
  const unable = await setUp({ ...tools, "apt-get": `[ "$1" != install ]` }, { user: 0 });
  const named = await setUp({ ...tools, "c++": "", "apt-get": APT }, { user: 0, env: { CXX: "g++" } });
  for (const { code, stderr } of [unable, named]) {
    assertEquals(code, 1);
    assertEquals(stderr.trim().split("\n").length, 1);
    assertStringIncludes(stderr, NEEDED);
  }
  assertStringIncludes(unable.stderr, "apt-get could not install g++-12");
  assertStringIncludes(named.stderr, "g++ can't compile the kernels");
  assert(!named.calls.some((call) => call.startsWith("apt-get")));
});

Deno.test({ name: "setup.sh keeps a build folder unless its compiler is too old", ignore }, async () => {
  const tools = { ...BUILD_TOOLS, "old-c++": "exit 1", deno: `${DENO("2.9.6")}\n${BUILD}` };
  for (const [cached, kept] of [["c++", true], ["old-c++", false]] as const) {
    const { code, folder } = await setUp(tools, { cached });
    assertEquals(code, 0);
    assertEquals(await Deno.stat(join(folder, "build", "cmake")).then(() => true, () => false), kept);
  }
});

const NPM = `case "$1" in
  prefix) echo /nowhere ;;
  install) mkdir -p "$4/bin"; printf '%s' '#!/bin/sh
${DENO("2.9.6")}
${BUILD}' >"$4/bin/deno"; chmod +x "$4/bin/deno" ;;
esac`;

Deno.test({ name: "setup.sh installs Deno with npm and links it into the PATH", ignore }, async () => {
  const { code, stderr, calls, folder } = await setUp({ ...BUILD_TOOLS, npm: NPM });
  assertEquals([code, stderr], [0, ""]);
  assert(calls.includes(`npm install -g --prefix ${folder}/.local deno@2.9.6`));
  assertEquals(await Deno.readLink(join(folder, "bin", "deno")), join(folder, ".local", "bin", "deno"));
});

Deno.test({ name: "setup.sh does not replace an older deno but says what to do", ignore }, async () => {
  for (const version of ["2.9.5", "1.46.3", "3.0.0"]) {
    const { code, stderr, folder } = await setUp({ ...BUILD_TOOLS, deno: DENO(version), npm: NPM });
    assertEquals(code, 1);
    assertEquals(stderr.trim().split("\n").length, 1);
    assertStringIncludes(stderr, `export PATH="${folder}/.local/bin:$PATH"`);
    assertStringIncludes(await Deno.readTextFile(join(folder, "bin", "deno")), version);
  }
});

Deno.test({ name: "setup.sh installs Deno with its installer where there is no npm", ignore }, async () => {
  const installer = `mkdir -p "$DENO_INSTALL/bin"; printf "#!/bin/sh\\n" >"$DENO_INSTALL/bin/deno"
echo '${DENO("2.9.6")}' >>"$DENO_INSTALL/bin/deno"; echo "$*" >args
echo '${BUILD}' >>"$DENO_INSTALL/bin/deno"; chmod +x "$DENO_INSTALL/bin/deno"`;
  const curl = `cat >build/install-deno.sh <<'END'\n${installer}\nEND`;
  const { code, stderr, calls, folder } = await setUp({
    ...BUILD_TOOLS,
    curl,
    unzip: "",
    sh: `exec /bin/sh "$@"`,
  });
  assertEquals([code, stderr], [0, ""]);
  assert(calls.some((call) => call.startsWith("curl ") && call.endsWith("https://deno.land/install.sh")));
  assertEquals((await Deno.readTextFile(join(folder, "args"))).trim(), "-y --no-modify-path v2.9.6");
});

Deno.test({ name: "setup.sh stops with one line and the log's end where a step fails", ignore }, async () => {
  const deno = `${DENO("2.9.6")}\n[ "$1" != install ] || { echo "error: no network" >&2; exit 1; }`;
  const { code, stderr, calls } = await setUp({ ...BUILD_TOOLS, deno });
  assertEquals(code, 1);
  assertStringIncludes(stderr, "error: no network\n");
  assertMatch(stderr.trim().split("\n").at(-1)!, /^setup\.sh: the npm packages could not be fetched/);
  assert(!calls.includes("deno task build"));
});

Deno.test({ name: "the build does without a CUDA toolkit that is too old", ignore }, async () => {
  const folder = await Deno.makeTempDir();
  folders.push(folder);
  const nvcc = join(folder, "nvcc");
  const text = `#!/bin/sh\necho "Cuda compilation tools, release 12.4, V12.4.131"\n`;
  await Deno.writeTextFile(nvcc, text, { mode: 0o755 });
  const { code, stdout } = await new Deno.Command("cmake", {
    args: [...["-S", "kernels", "-B", folder, "-G", "Ninja"], `-DCMAKE_CUDA_COMPILER=${nvcc}`],
    cwd: ROOT,
  }).output();
  assertEquals(code, 0);
  const said = "-- nvcc is of CUDA 12.4, and 12.8 is needed: no CUDA library\n";
  assertStringIncludes(new TextDecoder().decode(stdout), said);
});
