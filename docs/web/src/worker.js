// Runs the network away from the page, so that the page stays responsive.

import { env, InferenceSession, Tensor } from "onnxruntime-web/wasm";
import { fit } from "./resize.js";

const MOST_THREADS = 4;

env.logLevel = "error";
env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
env.wasm.wasmPaths = { mjs: new URL("runtime.js", import.meta.url), wasm: new URL("runtime.wasm", import.meta.url) };

/** @type {InferenceSession | undefined} */
let session;
let input = { width: 0, height: 0 };
/** @type {Size | null} */
let shrinkTo = null;

/**
 * @typedef {import("./resize.js").Size} Size
 * @typedef {{ kind: "load", model: Uint8Array, height: number, width: number, shrinkTo: Size | null }} Load
 * @typedef {{ kind: "segment", pixels: Uint8ClampedArray, width: number, height: number }} Segment
 */

/** @param {Load} request */
async function load(request) {
  const next = await InferenceSession.create(request.model);
  await session?.release();
  session = next;
  input = { width: request.width, height: request.height };
  shrinkTo = request.shrinkTo;
  return { threads: env.wasm.numThreads };
}

/** @param {Segment} request */
async function segment({ pixels, ...size }) {
  if (!session) throw new Error("no model is loaded");
  const start = performance.now();
  const image = new Tensor("uint8", fit(pixels, size, input, shrinkTo), [1, input.height, input.width, 3]);
  const { classes } = await session.run({ image });
  return { classes: /** @type {Uint8Array} */ (classes.data), ...input, milliseconds: performance.now() - start };
}

/** Requests are answered one after another. @type {Promise<void>} */
let last = Promise.resolve();
self.onmessage = ({ data }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ answer: await (data.kind === "load" ? load(data) : segment(data)) });
    } catch (error) {
      self.postMessage({ error: error instanceof Error ? error.message : String(error) });
    }
  });
};
