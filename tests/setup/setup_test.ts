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

/** Runs a copy of setup.sh, in a folder with a space in its name, with only the stand-ins and the base tools on the PATH. */
async function setUp(tools: Tools, user = 1000, args: readonly string[] = []): Promise<Run> {
  folders.push(await Deno.makeTempDir());
  const folder = join(folders.at(-1)!, "a clone");
  const bin = join(folder, "bin");
  await Deno.mkdir(bin, { recursive: true });
  await Deno.copyFile(join(ROOT, "setup.sh"), join(folder, "setup.sh"));
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
    env: { PATH: bin, HOME: folder },
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
    const help = await setUp(BUILD_TOOLS, 1000, ["--help"]);
    assertEquals([help.code, help.stderr, help.calls], [0, "", [""]]);
    assertStringIncludes(help.stdout, `${usage}\nInstalls what llmts needs`);
    for (const args of [["--bogus"], ["--help", "more"], [""]]) {
      const { code, stdout, stderr, calls } = await setUp(BUILD_TOOLS, 1000, args);
      assertEquals([code, stdout, calls], [2, "", [""]]);
      assertEquals(stderr, `setup.sh: it takes no arguments, and was given: ${args.join(" ")}\n${usage}`);
    }
  },
);

Deno.test({ name: "setup.sh installs the missing build tools with apt-get as root", ignore }, async () => {
  const tools = { "c++": "exit 1", cmake: "", deno: `${DENO("2.10.0")}\n${BUILD}`, "apt-get": "" };
  const { code, calls } = await setUp(tools, 0);
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
    "apt-get": "",
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
    assert(!calls.some((call) => call.startsWith("apt-get")));
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
