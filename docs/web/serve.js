// A static file server for this machine alone: `npm start`, or from the tests. With the two headers that allow threads.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html; charset=utf-8",
  ".jpg": "image/jpeg",
  ".js": "text/javascript",
  ".wasm": "application/wasm",
};
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

/**
 * @param {string} folder
 * @param {{ port?: number, prefix?: string, isolated?: boolean }} options port 0 is any free one; the folder appears below
 *   `prefix`; `isolated` sends the headers that allow threads.
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function serve(folder, { port = 0, prefix = "/", isolated = true } = {}) {
  const server = createServer(async (request, response) => {
    const target = request.url ?? "/";
    if (!URL.canParse(target, "http://127.0.0.1")) {
      response.writeHead(400).end();
      return;
    }
    const { pathname } = new URL(target, "http://127.0.0.1");
    const below = pathname.slice(prefix.length);
    const path = join(folder, pathname.endsWith("/") ? `${below}index.html` : below);
    const found = pathname.startsWith(prefix) ? await stat(path).catch(() => null) : null;
    if (!found?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    const type = TYPES[/** @type {keyof typeof TYPES} */ (extname(path))] ?? "application/octet-stream";
    response.writeHead(200, { "Content-Type": type, "Content-Length": found.size, ...(isolated ? ISOLATION : {}) });
    createReadStream(path).pipe(response);
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(undefined));
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    url: `http://127.0.0.1:${address.port}${prefix}`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? 8000);
  try {
    const { url } = await serve(fileURLToPath(new URL("dist/", import.meta.url)), { port });
    console.log(url);
  } catch (error) {
    console.error(`cannot serve on port ${port} (${error instanceof Error ? error.message : error}): npm start -- OTHER_PORT`);
    process.exitCode = 1;
  }
}
