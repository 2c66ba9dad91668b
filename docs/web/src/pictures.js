// Where pictures come from: a file, or the camera.

import { UserError } from "./description.js";

/**
 * Decode a picture upright, without colour management, over white: as Python does.
 *
 * @param {Blob} file
 * @param {string} name for messages
 * @returns {Promise<HTMLCanvasElement>}
 * @throws {UserError} it is no picture
 */
export async function decode(file, name) {
  try {
    const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
    const canvas = drawn(bitmap, bitmap.width, bitmap.height);
    bitmap.close();
    return canvas;
  } catch {
    throw new UserError(`${name}: not a picture that this browser can decode; convert it to PNG or JPEG`);
  }
}

/**
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 */
function drawn(source, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = context2d(canvas);
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0);
  return canvas;
}

/** @param {HTMLCanvasElement} canvas */
export function pixels(canvas) {
  return context2d(canvas).getImageData(0, 0, canvas.width, canvas.height);
}

/** @param {HTMLCanvasElement} canvas */
export function context2d(canvas) {
  // Kept in memory: every picture is read back, which is slow from a GPU.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser gives no 2D canvas");
  return context;
}

/** The camera, from `open` until `close`. */
export class Camera {
  #video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  /** @type {MediaStream} */
  #stream;

  /** @param {MediaStream} stream */
  constructor(stream) {
    this.#stream = stream;
    this.#video.srcObject = stream;
  }

  /**
   * @returns {Promise<Camera>}
   * @throws {UserError} there is none, or the user does not allow it
   */
  static async open() {
    if (!navigator.mediaDevices) {
      throw new UserError("the camera needs a secure page: open it by https, or from localhost");
    }
    /** @type {Camera | undefined} */
    let camera;
    try {
      camera = new Camera(await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }));
      await camera.#video.play();
      return camera;
    } catch (error) {
      camera?.close();
      throw new UserError(cameraMessage(error));
    }
  }

  /** Whether frames still come: false after `close`, or when the camera was unplugged. */
  get live() {
    return this.#stream.active;
  }

  /** The present frame. */
  frame() {
    return drawn(this.#video, this.#video.videoWidth, this.#video.videoHeight);
  }

  close() {
    for (const track of this.#stream.getTracks()) track.stop();
    this.#video.srcObject = null;
  }
}

/** @param {unknown} error */
function cameraMessage(error) {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotFoundError") return "no camera was found: connect one, or choose a picture";
  if (name === "NotAllowedError") return "the camera is not allowed: allow it in the browser's settings of this page";
  if (name === "NotReadableError") return "the camera is in use elsewhere: close the other program";
  return `the camera cannot be opened (${error instanceof Error ? error.message : error})`;
}
