/**
 * A server on localhost that answers as the Hugging Face hub does: large files by a redirect whose headers carry size and
 * sha256, small ones with their git blob sha1.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** A request that the server got: `GET /gpt2.bin 100-`. */
export type Asked = string;

/** Changes what a request gets: undefined leaves it to the server. */
export type Interference = (
  request: Request,
  /** What the server would send. */
  content: Uint8Array<ArrayBuffer>,
  /** How many requests came for this method and path before. */
  earlier: number,
) => Response | undefined;

/** A running server. */
export interface HubServer {
  readonly url: string;
  /** All requests so far, in order. */
  readonly asked: readonly Asked[];
}

/** Files larger than this are answered as the hub answers large ones. */
const LARGE = 1000;

/** Serves files, by path without the leading slash, while `run` runs. */
export async function serveHub(
  files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
  run: (server: HubServer) => Promise<void>,
  interfere: Interference = () => undefined,
): Promise<void> {
  const asked: Asked[] = [];
  const counts = new Map<string, number>();
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    const mirrored = pathname.startsWith("/mirror/");
    const content = files.get(pathname.slice(mirrored ? "/mirror/".length : 1));
    const key = `${request.method} ${pathname}`;
    const earlier = counts.get(key) ?? 0;
    counts.set(key, earlier + 1);
    asked.push([key, request.headers.get("range")?.replace("bytes=", "")].filter(Boolean).join(" "));
    if (content === undefined) {
      return new Response("Entry not found", { status: 404, statusText: "Not Found" });
    }
    const changed = interfere(request, content, earlier);
    if (changed !== undefined) return changed;
    if (mirrored) return answer(request, content, { etag: '"of the mirror"' });
    if (content.length <= LARGE) {
      return answer(request, content, { etag: `"${gitSha1(content)}"`, ...COMMIT });
    }
    return new Response(null, {
      status: 302,
      headers: {
        location: `/mirror${pathname}`,
        "x-linked-etag": `"${createHash("sha256").update(content).digest("hex")}"`,
        "x-linked-size": String(content.length),
        ...COMMIT,
      },
    });
  });
  await run({ url: `http://127.0.0.1:${server.addr.port}`, asked });
}

const COMMIT = { "x-repo-commit": "607a30d783dfa663caf39e06633721c8d4cfcd7e" };

/** As `git hash-object` computes it. */
export function gitSha1(content: Uint8Array): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

function answer(
  request: Request,
  content: Uint8Array<ArrayBuffer>,
  headers: Record<string, string>,
): Response {
  const from = /^bytes=(\d+)-$/.exec(request.headers.get("range") ?? "")?.[1];
  if (from === undefined) {
    const body = request.method === "HEAD" ? null : content;
    return new Response(body, { headers: { ...headers, "content-length": String(content.length) } });
  }
  if (Number(from) >= content.length) return new Response(null, { status: 416 });
  return new Response(content.subarray(Number(from)), {
    status: 206,
    headers: { ...headers, "content-range": `bytes ${from}-${content.length - 1}/${content.length}` },
  });
}

/** The first bytes of a file that should have more: then the connection is gone. */
export function cutShort(content: Uint8Array<ArrayBuffer>, after: number, from = 0): Response {
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async start(controller): Promise<void> {
      controller.enqueue(content.subarray(from, after));
      await new Promise((resolve) => setTimeout(resolve, 50)); // so that these bytes are on their way
      controller.error(new Error("cut short by the test"));
    },
  });
  const range = { "content-range": `bytes ${from}-${content.length - 1}/${content.length}` };
  return new Response(body, from === 0 ? {} : { status: 206, headers: range });
}
