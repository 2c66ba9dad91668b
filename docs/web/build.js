// Bundles the page into dist/, beside the model file that `make web` exports there.

import { copyFile, mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = new URL("./", import.meta.url);
const runtime = new URL("node_modules/onnxruntime-web/dist/", here);
const copies = [
  [new URL("src/index.html", here), "index.html"],
  [new URL("src/style.css", here), "style.css"],
  [new URL("../../examples/street.jpg", here), "street.jpg"],
  [new URL("ort-wasm-simd-threaded.wasm", runtime), "runtime.wasm"],
  // Named .js since not every static server knows the type of .mjs.
  [new URL("ort-wasm-simd-threaded.mjs", runtime), "runtime.js"],
];

const dist = new URL("dist/", here);
await mkdir(dist, { recursive: true });
await build({
  absWorkingDir: fileURLToPath(here),
  entryPoints: ["src/main.js", "src/worker.js"],
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  conditions: ["onnxruntime-web-use-extern-wasm"],
  legalComments: "inline",
  logLevel: "warning",
});
await Promise.all(copies.map(([from, to]) => copyFile(from, new URL(to, dist))));
