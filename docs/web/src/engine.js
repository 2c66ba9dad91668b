// The page's end of the worker that runs the network.

/**
 * @typedef {object} Result
 * @property {Uint8Array} classes class of every pixel, row by row
 * @property {number} width
 * @property {number} height
 * @property {number} milliseconds for resizing and the network
 */

export class Engine {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  /** @type {{ resolve: (answer: any) => void, reject: (reason: Error) => void }[]} */
  #waiting = [];
  /** @type {Error | undefined} */
  #failure;

  constructor() {
    this.#worker.onmessage = ({ data }) => {
      const next = this.#waiting.shift();
      if (data.error === undefined) next?.resolve(data.answer);
      else next?.reject(new Error(data.error));
    };
    this.#worker.onerror = (event) => {
      this.#failure = new Error(event.message || "worker.js cannot be started");
      for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
    };
  }

  /**
   * Run this model from now on; the one before stays if that fails.
   *
   * @param {Uint8Array} model
   * @param {{ height: number, width: number, shrinkTo: import("./resize.js").Size | null }} description of its input
   * @returns {Promise<{ threads: number }>}
   */
  load(model, { height, width, shrinkTo }) {
    return this.#ask({ kind: "load", model, height, width, shrinkTo }, []);
  }

  /**
   * @param {ImageData} picture of any size; its pixels are handed over
   * @returns {Promise<Result>}
   */
  segment({ data, width, height }) {
    return this.#ask({ kind: "segment", pixels: data, width, height }, [data.buffer]);
  }

  /**
   * @param {object} request
   * @param {Transferable[]} handed
   * @returns {Promise<any>}
   */
  #ask(request, handed) {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage(request, handed);
    });
  }
}
