// Pillow's resize with antialiasing, bit for bit: what a network sees here is what it sees in Python.
//
// Two passes over 8-bit values, each with the filter's weights in fixed point. A canvas scales otherwise.

const BITS = 22;
const HALF = 1 << (BITS - 1);

/** @typedef {{ width: number, height: number }} Size */

/** @typedef {{ support: number, weight: (x: number) => number }} Filter */

/** @type {Filter} */
const BILINEAR = { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };
/** @type {Filter} */
const BICUBIC = { support: 2, weight: cubic };

/**
 * A picture at the network's input size.
 *
 * @param {Uint8Array | Uint8ClampedArray} pixels (height, width, 4) RGBA; A is left out
 * @param {Size} from
 * @param {Size} to
 * @param {Size | null} shrinkTo size to which longer sides are shrunk first
 * @returns {Uint8Array} (height, width, 3) RGB
 */
export function fit(pixels, from, to, shrinkTo = null) {
  const coarse = shrinkTo
    ? { width: Math.min(from.width, shrinkTo.width), height: Math.min(from.height, shrinkTo.height) }
    : from;
  return resize(resize(withoutAlpha(pixels), from, coarse, BICUBIC), coarse, to, BILINEAR);
}

/**
 * @param {Uint8Array} rgb
 * @param {Size} from
 * @param {Size} to
 * @param {Filter} filter
 */
function resize(rgb, from, to, filter) {
  // The order changes the rounding. This is the one of Pillow 13; before, rows always came first.
  if (from.height - to.height > 2 * Math.max(0, from.width - to.width)) {
    const low = alongColumns(rgb, from, to.height, filter);
    return alongRows(low, { width: from.width, height: to.height }, to.width, filter);
  }
  const narrow = alongRows(rgb, from, to.width, filter);
  return alongColumns(narrow, { width: to.width, height: from.height }, to.height, filter);
}

/** @param {Uint8Array | Uint8ClampedArray} pixels */
function withoutAlpha(pixels) {
  const out = new Uint8Array((pixels.length / 4) * 3);
  for (let source = 0, target = 0; target < out.length; source += 4) {
    out[target++] = pixels[source];
    out[target++] = pixels[source + 1];
    out[target++] = pixels[source + 2];
  }
  return out;
}

/**
 * @param {Uint8Array} pixels RGB
 * @param {Size} from
 * @param {number} width
 * @param {Filter} filter
 */
function alongRows(pixels, from, width, filter) {
  if (from.width === width) return pixels;
  const out = new Uint8Array(from.height * width * 3);
  const spans = spansOf(from.width, width, filter);
  for (let y = 0, target = 0; y < from.height; y++) {
    for (const { first, weights } of spans) {
      let [red, green, blue] = [HALF, HALF, HALF];
      for (let tap = 0, source = (y * from.width + first) * 3; tap < weights.length; tap++, source += 3) {
        const weight = weights[tap];
        red += pixels[source] * weight;
        green += pixels[source + 1] * weight;
        blue += pixels[source + 2] * weight;
      }
      out[target++] = byte(red);
      out[target++] = byte(green);
      out[target++] = byte(blue);
    }
  }
  return out;
}

/**
 * @param {Uint8Array} pixels RGB
 * @param {Size} from
 * @param {number} height
 * @param {Filter} filter
 */
function alongColumns(pixels, from, height, filter) {
  if (from.height === height) return pixels;
  const line = from.width * 3;
  const out = new Uint8Array(height * line);
  const sums = new Int32Array(line);
  spansOf(from.height, height, filter).forEach(({ first, weights }, y) => {
    sums.fill(HALF);
    weights.forEach((weight, tap) => {
      const source = (first + tap) * line;
      for (let x = 0; x < line; x++) sums[x] += pixels[source + x] * weight;
    });
    for (let x = 0; x < line; x++) out[y * line + x] = byte(sums[x]);
  });
  return out;
}

/**
 * For every target pixel the first source pixel that it sees, and the weights of that one and the next ones.
 *
 * @param {number} from pixels of the source's side
 * @param {number} to pixels of the target's
 * @param {Filter} filter
 */
function spansOf(from, to, filter) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: to }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const exact = Array.from({ length: end - first }, (_, tap) => filter.weight((first + tap - centre + 0.5) * (1 / stretch)));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    const fixed = exact.map((weight) => Math.trunc(Math.sign(weight) * 0.5 + (weight / sum) * (1 << BITS)));
    return { first, weights: Int32Array.from(fixed) };
  });
}

/** A cubic filter oversteps the range of a byte beside an edge. @param {number} sum in fixed point */
function byte(sum) {
  return Math.min(255, Math.max(0, sum >> BITS));
}

/** @param {number} x */
function cubic(x) {
  const a = -0.5;
  const far = Math.abs(x);
  if (far < 1) return ((a + 2) * far - (a + 3)) * far * far + 1;
  if (far < 2) return (((far - 5) * far + 8) * far - 4) * a;
  return 0;
}
