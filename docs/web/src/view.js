// What the page shows: picture, overlay, legend and figures.

import { context2d } from "./pictures.js";

/** @typedef {import("./description.js").Description} Description */
/** @typedef {import("./engine.js").Result} Result */

/**
 * The element of the page with this id.
 *
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} "${id}"`);
  return found;
}

/**
 * Draw the picture and, over it, the class map, which the style sheet enlarges.
 *
 * @param {HTMLCanvasElement} picture
 * @param {Result} result
 * @param {Description} description
 */
export function showResult(picture, result, description) {
  const canvas = element("picture", HTMLCanvasElement);
  canvas.width = picture.width;
  canvas.height = picture.height;
  context2d(canvas).drawImage(picture, 0, 0);
  const overlay = element("overlay", HTMLCanvasElement);
  overlay.width = result.width;
  overlay.height = result.height;
  context2d(overlay).putImageData(coloured(result, description.palette), 0, 0);
  const found = shares(result.classes, description.classes.length);
  const names = found.map(({ index, share }) => `${description.classes[index]} ${percent(share)}`);
  canvas.setAttribute("aria-label", `Segmented picture: ${names.join(", ")}`);
  element("legend", HTMLUListElement).replaceChildren(...found.map((entry) => legendEntry(entry, description)));
  const frame = element("frame", HTMLElement);
  frame.style.setProperty("--ratio", `${picture.width / picture.height}`);
  frame.hidden = false;
  element("hint", HTMLElement).hidden = true;
}

/**
 * @param {Result} result
 * @param {Description["palette"]} palette
 */
function coloured({ classes, width, height }, palette) {
  const image = new ImageData(width, height);
  // One 32-bit value per pixel, least significant byte first: A, B, G, R.
  const colours = Uint32Array.from(palette, ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);
  const out = new Uint32Array(image.data.buffer);
  for (let index = 0; index < classes.length; index++) out[index] = colours[classes[index]];
  return image;
}

/**
 * The classes that occur and their share of the pixels, the largest first.
 *
 * @param {Uint8Array} classes
 * @param {number} count of classes
 */
function shares(classes, count) {
  const counts = new Uint32Array(count);
  for (const index of classes) counts[index]++;
  return [...counts]
    .map((pixels, index) => ({ index, share: pixels / classes.length }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share);
}

/** @param {number} share */
function percent(share) {
  return share >= 0.001 ? `${(100 * share).toFixed(1)}%` : "<0.1%";
}

/**
 * @param {{ index: number, share: number }} entry
 * @param {Description} description
 */
function legendEntry({ index, share }, { classes, palette }) {
  const item = document.createElement("li");
  item.style.setProperty("--colour", `rgb(${palette[index].join(" ")})`);
  item.style.setProperty("--part", `${share}`);
  item.append(span(classes[index]), " ", span(percent(share)));
  return item;
}

/** @param {string} text */
function span(text) {
  return Object.assign(document.createElement("span"), { textContent: text });
}

/** What is known of the newest frame's speed. @param {{ milliseconds?: number, fps?: number }} figures */
export function showFigures({ milliseconds, fps }) {
  if (milliseconds !== undefined) element("time", HTMLElement).textContent = `${milliseconds.toFixed(0)} ms`;
  if (fps !== undefined) element("fps", HTMLElement).textContent = fps.toFixed(1);
}

/** @param {boolean} runs */
export function showCamera(runs) {
  const button = element("camera", HTMLButtonElement);
  button.textContent = runs ? "Stop the camera" : "Start the camera";
  button.classList.toggle("primary", runs);
  // A single picture has no rate.
  element("fps", HTMLElement).textContent = "–";
}

/**
 * @param {Description} description
 * @param {number} threads
 */
export function showModel({ name, classes, width, height }, threads) {
  element("model", HTMLElement).textContent = name;
  element("model-detail", HTMLElement).textContent = `${width}×${height}, ${classes.length} classes`;
  const why = self.crossOriginIsolated ? "" : " (the page is not cross-origin isolated)";
  element("runtime", HTMLElement).textContent = `WebAssembly, SIMD, ${threads === 1 ? "1 thread" : `${threads} threads`}${why}`;
}

/** @param {string} text what is going on; empty when nothing is */
export function showStatus(text) {
  element("status", HTMLElement).textContent = text;
}

/** @param {string} text empty when all is well */
export function showError(text) {
  const line = element("error", HTMLElement);
  line.textContent = text;
  line.hidden = text === "";
}
