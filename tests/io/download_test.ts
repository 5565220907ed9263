import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { FileError, LlmtsError } from "../../src/errors.ts";
import { downloadFile, type DownloadOptions, inspectRemote, type RemoteFile } from "../../src/io/download.ts";
import { inFolder } from "../folder.ts";
import { cutShort, gitSha1, type HubServer, type Interference, serveHub } from "../hub_server.ts";

const OPTIONS: DownloadOptions = { hint: "try by hand", delaysMs: [1, 1, 1] };

/** 100,000 bytes that differ everywhere. */
const LARGE = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 2_654_435_761) >>> 24);
const SMALL = new TextEncoder().encode('{"model_type": "gpt2"}');
const FILES = new Map([["large.bin", LARGE], ["small.json", SMALL]]);

interface Session extends HubServer {
  readonly folder: string;
  /** Where the large file goes. */
  readonly path: string;
  /** Downloads the large file. */
  download(options?: Partial<DownloadOptions>): Promise<boolean>;
}

/** Runs with a server and a folder. */
async function session(run: (session: Session) => Promise<void>, interfere?: Interference): Promise<void> {
  await serveHub(FILES, (server) =>
    inFolder(async (folder) => {
      const path = join(folder, "large.bin");
      await run({
        ...server,
        folder,
        path,
        async download(options = {}): Promise<boolean> {
          const all = { ...OPTIONS, ...options };
          return await downloadFile(await inspected(`${server.url}/large.bin`), path, all);
        },
      });
    }), interfere);
}

async function inspected(url: string): Promise<RemoteFile> {
  const remote = await inspectRemote(url, OPTIONS);
  assert(remote !== undefined);
  return remote;
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** Interferes with the first request for the large file's content only. */
function once(response: (content: Uint8Array<ArrayBuffer>) => Response): Interference {
  return ({ method, url }, content, earlier) =>
    method === "GET" && url.includes("/mirror/") && earlier === 0 ? response(content) : undefined;
}

Deno.test("inspectRemote() takes size and hash from the first answer of the hub", () =>
  session(async ({ url, asked }) => {
    assertEquals(await inspectRemote(`${url}/large.bin`, OPTIONS), {
      url: `${url}/large.bin`,
      size: 100_000,
      digest: {
        algorithm: "sha256",
        hex: "e24ae9cbcc7500392dfa5d018f63f0bf87232dc30ae5996d8ca6b25c2ae4b665",
      },
    });
    assertEquals(await inspectRemote(`${url}/small.json`, OPTIONS), {
      url: `${url}/small.json`,
      size: SMALL.length,
      digest: { algorithm: "git sha1", hex: "7eb84e812bad01767dcf9cf8a2d84ef428949cad" },
    });
    assertEquals(await inspectRemote(`${url}/absent`, OPTIONS), undefined);
    assertEquals(asked, ["HEAD /large.bin", "HEAD /small.json", "HEAD /absent"]);
  }));

Deno.test("inspectRemote() follows a redirect that says nothing of the file, and trusts no tag but the hub's", () =>
  session(
    async ({ url }) => {
      assertEquals(await inspectRemote(`${url}/large.bin`, OPTIONS), {
        url: `${url}/large.bin`,
        size: SMALL.length,
        digest: { algorithm: "git sha1", hex: gitSha1(SMALL) },
      });
      assertEquals((await inspected(`${url}/small.json`)).digest, undefined);
    },
    ({ url }, content, earlier) => {
      if (url.endsWith("/large.bin")) {
        return new Response(null, { status: 307, headers: { location: "/small.json" } });
      }
      if (earlier === 0) return undefined;
      return new Response(null, { headers: { etag: `"${gitSha1(content)}"` } }); // no x-repo-commit
    },
  ));

Deno.test("inspectRemote() gives up on a circle of redirects", () =>
  session(
    async ({ url }) => {
      await assertRejects(
        () => inspectRemote(`${url}/large.bin`, OPTIONS),
        LlmtsError,
        "more than 5 redirects",
      );
    },
    () => new Response(null, { status: 302, headers: { location: "/large.bin" } }),
  ));

Deno.test("downloadFile() downloads a file and tells how far it is", () =>
  session(async ({ folder, path, download }) => {
    const progress: [number, number | undefined][] = [];
    assertEquals(await download({ onProgress: (...step) => progress.push(step) }), true);
    assertEquals(Deno.readFileSync(path), LARGE);
    assertEquals(names(folder), ["large.bin"]);
    assertEquals(progress.at(-1), [100_000, 100_000]);
    progress.reduce((before, [done]) => {
      assert(done > before);
      return done;
    }, 0);
  }));

Deno.test("downloadFile() checks a small file by its git hash", () =>
  session(async ({ url, folder }) => {
    const path = join(folder, "small.json");
    assertEquals(await downloadFile(await inspected(`${url}/small.json`), path, OPTIONS), true);
    assertEquals(Deno.readFileSync(path), SMALL);
  }));

Deno.test("downloadFile() goes on where the connection broke off, and where an earlier run did", () =>
  session(async ({ asked, path, download }) => {
    await download();
    assertEquals(Deno.readFileSync(path), LARGE);
    assertEquals(asked.filter((line) => line.startsWith("GET /mirror")), [
      "GET /mirror/large.bin",
      "GET /mirror/large.bin 30000-",
    ]);

    Deno.renameSync(path, `${path}.part`);
    Deno.truncateSync(`${path}.part`, 70_000);
    await download();
    assertEquals(Deno.readFileSync(path), LARGE);
    assertEquals(asked.at(-1), "GET /mirror/large.bin 70000-");

    Deno.renameSync(path, `${path}.part`); // whole, but not yet checked and named
    const before = asked.length;
    await download();
    assertEquals(Deno.readFileSync(path), LARGE);
    assertEquals(asked.slice(before), ["HEAD /large.bin"]);
  }, once((content) => cutShort(content, 30_000))));

/** Answers to a request for the rest of a file that don't give it. */
const RESTARTS: [what: string, interference: Interference][] = [
  ["a server that knows no ranges", once((content) => new Response(content))],
  ["a server that refuses the range", once(() => new Response(null, { status: 416 }))],
  [
    "a server that sends another range",
    once((content) =>
      new Response(content.subarray(10), {
        status: 206,
        headers: { "content-range": "bytes 10-99999/100000" },
      })
    ),
  ],
];

for (const [what, interference] of RESTARTS) {
  Deno.test(`downloadFile() starts over with ${what}`, () =>
    session(async ({ folder, path, download }) => {
      Deno.writeFileSync(`${path}.part`, LARGE.subarray(0, 50_000));
      await download();
      assertEquals(Deno.readFileSync(path), LARGE);
      assertEquals(names(folder), ["large.bin"]);
    }, interference));
}

Deno.test("downloadFile() keeps what it has through a server that is busy, and waits for it", () =>
  session(async ({ asked, path, download }) => {
    Deno.writeFileSync(`${path}.part`, LARGE.subarray(0, 50_000));
    await download();
    assertEquals(Deno.readFileSync(path), LARGE);
    assertEquals(asked.filter((line) => line === "GET /mirror/large.bin 50000-").length, 3);
  }, ({ method, url }, _, earlier) => {
    if (method === "HEAD" || !url.includes("/mirror/") || earlier > 1) return undefined;
    return new Response("busy", { status: earlier === 0 ? 503 : 429 });
  }));

Deno.test("downloadFile() starts over from a part that is longer than the file", () =>
  session(async ({ path, download }) => {
    Deno.writeFileSync(`${path}.part`, new Uint8Array(100_001));
    await download();
    assertEquals(Deno.readFileSync(path), LARGE);
  }));

Deno.test("downloadFile() refuses content of another hash, and the next call starts afresh", () =>
  session(async ({ folder, path, download }) => {
    Deno.writeFileSync(`${path}.part`, new Uint8Array(50_000)); // the rest is right
    const error = await assertRejects(download, FileError, `"${path}": came damaged from "http://127.0.0.1`);
    assert(/its sha256 is [0-9a-f]{64}, expected [0-9a-f]{64}$/.test(error.message), error.message);
    assertEquals(names(folder), []);
    await download();
    assertEquals(Deno.readFileSync(path), LARGE);
  }));

Deno.test("downloadFile() does not go on with a part that no hash would check", () =>
  session(async ({ url, path }) => {
    Deno.writeFileSync(`${path}.part`, new Uint8Array(50_000));
    const remote = { url: `${url}/large.bin`, size: 100_000, digest: undefined };
    await downloadFile(remote, path, OPTIONS);
    assertEquals(Deno.readFileSync(path), LARGE);
  }));

Deno.test("downloadFile() keeps a file that is there and right, and does not touch another of that name", () =>
  session(async ({ asked, path, download }) => {
    await download();
    const before = asked.length;
    assertEquals(await download(), false);
    assertEquals(asked.slice(before), ["HEAD /large.bin"]);

    for (
      const [content, words] of [
        [new Uint8Array(3), "it has 3 bytes, expected 100000"],
        [new Uint8Array(100_000), "its sha256 is"],
      ] as const
    ) {
      Deno.writeFileSync(path, content);
      await assertRejects(download, FileError, `is there already and is not the file at "http://127.0.0.1`);
      await assertRejects(download, FileError, words);
      assertEquals(Deno.readFileSync(path), content);
    }
  }));

/** What a server does for good, how often it is asked, and words of the error. */
const FAILURES: [
  what: string,
  response: (content: Uint8Array<ArrayBuffer>) => Response,
  times: number,
  words: string,
][] = [
  [
    "a missing file",
    () => new Response("", { status: 404, statusText: "Not Found" }),
    1,
    "answered 404 Not Found",
  ],
  [
    "a file that isn't public",
    () => new Response("", { status: 401, statusText: "Unauthorized" }),
    1,
    "answered 401 Unauthorized: there is no such file, or it is not public",
  ],
  ["a server that fails", () => new Response("", { status: 500 }), 4, "answered 500 Internal Server Error"],
  [
    "too little",
    (content) => new Response(content.subarray(0, 9)),
    4,
    "the connection ended after 9 of 100000 bytes",
  ],
  ["too much", (content) => new Response(new Uint8Array([...content, 0])), 4, "more than 100000 bytes came"],
];

for (const [what, response, times, words] of FAILURES) {
  Deno.test(`downloadFile() reports ${what} after ${times === 1 ? "one try" : `${times} tries`}`, () =>
    session(
      async ({ url, asked, path, download }) => {
        const error = await assertRejects(download, LlmtsError, `"${url}/large.bin" cannot be downloaded: `);
        assert(error.message.includes(words), error.message);
        assertEquals(error.hint, "try by hand");
        assertEquals(asked.filter((line) => line.startsWith("GET /mirror")).length, times);
        assertEquals(names(join(path, "..")).includes("large.bin"), false);
      },
      ({ method, url }, content) =>
        method === "GET" && url.includes("/mirror/") ? response(content) : undefined,
    ));
}

Deno.test("downloadFile() does not wait for ever for a server that stopped sending", () =>
  session(
    async ({ path, download }) => {
      await assertRejects(
        () => download({ timeoutMs: 100, delaysMs: [] }),
        LlmtsError,
        "cannot be downloaded: nothing came for 0.1 s",
      );
      assertEquals(Deno.readFileSync(`${path}.part`), LARGE.subarray(0, 500));
      await download();
      assertEquals(Deno.readFileSync(path), LARGE);
    },
    once((content) => {
      const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
        start: (controller) => controller.enqueue(content.subarray(0, 500)),
      });
      return new Response(body);
    }),
  ));

Deno.test("downloadFile() reports a server that can't be reached", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${listener.addr.port}/large.bin`;
  listener.close(); // now nobody listens there
  const error = await assertRejects(
    () => inspectRemote(url, OPTIONS),
    LlmtsError,
    `"${url}" cannot be downloaded: `,
  );
  assertEquals(error.hint, "try by hand");
});

Deno.test("downloadFile() names the file when it can't be written", () =>
  session(async ({ url, folder }) => {
    const path = join(folder, "no", "such", "folder");
    await assertRejects(
      async () => await downloadFile(await inspected(`${url}/large.bin`), path, OPTIONS),
      FileError,
      `"${path}.part": cannot be written: no such file or folder`,
    );
  }));

Deno.test("downloadFile() names the file that can't be removed or given its name", () =>
  session(async ({ url, path, download }) => {
    const blocked = join(`${path}.part`, "in the way");
    Deno.mkdirSync(blocked, { recursive: true });
    const remote = { ...await inspected(`${url}/large.bin`), digest: undefined };
    const part = `"${path}.part": cannot be removed: directory not empty`;
    await assertRejects(() => downloadFile(remote, path, OPTIONS), FileError, part);
    Deno.removeSync(`${path}.part`, { recursive: true });

    const error = await assertRejects(
      () => download({ onProgress: () => Deno.mkdirSync(path, { recursive: true }) }),
      FileError,
      `"${path}": cannot be written: is a directory`,
    );
    assertEquals(error.hint, "what has come is kept: the same command goes on from there");
    Deno.removeSync(path);
    assertEquals(await download(), true);
  }));

Deno.test({
  name: `downloadFile() reports a full disk at once${
    Deno.build.os === "linux" ? "" : " (skipped: no /dev/full)"
  }`,
  ignore: Deno.build.os !== "linux",
  fn: () =>
    session(async ({ asked, path, download }) => {
      Deno.symlinkSync("/dev/full", `${path}.part`);
      const error = await assertRejects(
        download,
        FileError,
        `"${path}.part": cannot be written: no space left`,
      );
      assertEquals(error.hint, "what has come is kept: the same command goes on from there");
      assertEquals(asked.length, 3); // HEAD, GET and its redirect
    }),
});
