import assert from "node:assert/strict";
import { test } from "node:test";
import { fit } from "../src/resize.js";
import { python } from "./python.js";

/** Smaller, larger, one way alone, neither; and both of Pillow's orders around their border. */
const CASES = [
  ["64x48", "37x19"],
  ["21x13", "64x40"],
  ["50x90", "50x31"],
  ["90x30", "11x30"],
  ["1x7", "3x1"],
  ["33x9", "33x9"],
  ["48x36", "51x25"],
  ["60x90", "50x70"],
  ["60x90", "50x69"],
  ["60x40", "70x41"],
  ["90x60", "64x32", "32x32"],
  ["200x30", "64x32", "32x32"],
  ["31x200", "64x32", "32x32"],
  ["20x20", "64x32", "32x32"],
];

for (const [from, to, shrinkTo] of CASES) {
  test(`${from} to ${to}${shrinkTo ? ` through ${shrinkTo}` : ""} equals Pillow in every value`, () => {
    const pixels = noise(size(from).width * size(from).height * 4);
    const expected = python(["fit", from, to, ...(shrinkTo ? [shrinkTo] : [])], pixels);
    assert.deepEqual(Buffer.from(fit(pixels, size(from), size(to), shrinkTo ? size(shrinkTo) : null)), expected);
  });
}

/** @param {string} text */
function size(text) {
  const [width, height] = text.split("x").map(Number);
  return { width, height };
}

/** The same bytes every time. @param {number} length */
function noise(length) {
  let state = 1;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}
