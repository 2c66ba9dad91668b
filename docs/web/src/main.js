// The page: a picture or the camera in, a coloured class map over it, all on this device.

import { describe, UserError } from "./description.js";
import { Engine } from "./engine.js";
import { Camera, decode, pixels } from "./pictures.js";
import { element, showCamera, showError, showFigures, showModel, showResult, showStatus } from "./view.js";

/** @typedef {import("./description.js").Description} Description */
/** @typedef {import("./engine.js").Result} Result */

const MODEL = "model.onnx";
const SAMPLE = "street.jpg";
// What the newest frame counts in the smoothed time between frames.
const NEWEST = 0.1;

const engine = new Engine();
/** @type {Description | undefined} */
let description;
/** How many models are being loaded. */
let loading = 0;
/** @type {HTMLCanvasElement | undefined} */
let picture;
/** @type {Camera | undefined} */
let camera;

/** The newest answer, for tests and the console: see docs/browser.md. @type {{ description?: Description, result?: Result }} */
const answer = {};
Object.assign(window, { espnetv2: answer });

/**
 * @param {Blob | Promise<Blob>} file
 * @param {string} name
 */
async function useModel(file, name) {
  loading++;
  try {
    const bytes = new Uint8Array(await (await file).arrayBuffer());
    const found = describe(bytes, name);
    const { threads } = await engine.load(bytes, found).catch((error) => {
      throw new UserError(`${name}: cannot be run here (${error.message})`);
    });
    description = found;
    showModel(found, threads);
  } finally {
    loading--;
  }
  if (picture && !camera) await segment();
}

/**
 * @param {Blob} file
 * @param {string} name
 */
async function usePicture(file, name) {
  const next = await decode(file, name);
  stopCamera();
  picture = next;
  await segment();
}

async function startCamera() {
  const next = await Camera.open();
  stopCamera();
  camera = next;
  showCamera(true);
}

/** Segment frame after frame until the camera is stopped. */
async function watchCamera() {
  const mine = camera;
  try {
    let between = 0;
    for (let last = performance.now(); mine && camera === mine;) {
      if (!mine.live) throw new UserError("the camera was disconnected: connect it, and start it again");
      picture = mine.frame();
      await segment();
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      between = between ? between + NEWEST * (now - last - between) : now - last;
      last = now;
      if (camera === mine) showFigures({ fps: 1000 / between });
    }
  } finally {
    if (camera === mine) stopCamera();
  }
}

function stopCamera() {
  camera?.close();
  camera = undefined;
  showCamera(false);
}

/** Segment and show the present picture, unless another picture or model takes its place meanwhile. */
async function segment() {
  if (!picture) return;
  if (!description) {
    // A model that is being loaded segments the picture when it is there.
    if (loading) return;
    throw new UserError("no model is loaded: choose an .onnx file");
  }
  const [shown, used] = [picture, description];
  const result = await engine.segment(pixels(shown));
  if (shown !== picture || used !== description) return;
  Object.assign(answer, { description, result });
  showResult(shown, result, used);
  showFigures({ milliseconds: result.milliseconds });
}

/** @param {string} name of a file beside the page */
async function beside(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new UserError(`${name}: missing beside the page; build it with: make web`);
  return response.blob();
}

/** @type {string[]} */
const running = [];

/**
 * Do something that takes a while: say so, and say in one line what went wrong.
 *
 * @param {string} status
 * @param {() => Promise<void>} action
 */
async function run(status, action) {
  running.push(status);
  showStatus(status);
  showError("");
  try {
    await action();
  } catch (error) {
    if (!(error instanceof UserError)) console.error(error);
    showError(error instanceof Error ? error.message : String(error));
  } finally {
    running.splice(running.indexOf(status), 1);
    showStatus(running.at(-1) ?? "");
  }
}

/** @param {File} file a model or a picture */
function useFile(file) {
  if (file.name.endsWith(".onnx")) return run(`Loading ${file.name} …`, () => useModel(file, file.name));
  return run(`Segmenting ${file.name} …`, () => usePicture(file, file.name));
}

for (const id of ["picture-file", "model-file"]) {
  const input = element(id, HTMLInputElement);
  input.addEventListener("change", async () => {
    if (input.files?.[0]) await useFile(input.files[0]);
    // The same file may be chosen again.
    input.value = "";
  });
}
element("sample", HTMLButtonElement).addEventListener("click", () => {
  run(`Segmenting ${SAMPLE} …`, async () => usePicture(await beside(SAMPLE), SAMPLE));
});
element("camera", HTMLButtonElement).addEventListener("click", async () => {
  if (camera) {
    stopCamera();
    return;
  }
  await run("Waiting for the camera …", startCamera);
  if (camera) await run("The camera is running", watchCamera);
});
element("opacity", HTMLInputElement).addEventListener("input", ({ target }) => {
  const { value } = /** @type {HTMLInputElement} */ (target);
  element("overlay", HTMLCanvasElement).style.opacity = `${Number(value) / 100}`;
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, (event) => {
    event.preventDefault();
    element("stage", HTMLElement).classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
  });
}
window.addEventListener("drop", ({ dataTransfer }) => {
  if (dataTransfer?.files[0]) useFile(dataTransfer.files[0]);
});

run("Loading the model …", () => useModel(beside(MODEL), MODEL));
