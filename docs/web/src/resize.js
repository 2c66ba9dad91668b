// Pillow's bilinear resize with antialiasing, bit for bit: what a network sees here is what it sees in Python.
//
// Two passes over 8-bit values, each with triangle weights in fixed point. A canvas scales otherwise.

const BITS = 22;
const HALF = 1 << (BITS - 1);

/** @typedef {{ width: number, height: number }} Size */

/**
 * @param {Uint8Array | Uint8ClampedArray} pixels (height, width, 4) RGBA; A is left out
 * @param {Size} from
 * @param {Size} to
 * @returns {Uint8Array} (height, width, 3) RGB
 */
export function resize(pixels, from, to) {
  const rgb = withoutAlpha(pixels);
  // The order changes the rounding. This is the one of Pillow 13; before, rows always came first.
  if (from.height - to.height > 2 * Math.max(0, from.width - to.width)) {
    const low = alongColumns(rgb, from, to.height);
    return alongRows(low, { width: from.width, height: to.height }, to.width);
  }
  const narrow = alongRows(rgb, from, to.width);
  return alongColumns(narrow, { width: to.width, height: from.height }, to.height);
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
 */
function alongRows(pixels, from, width) {
  if (from.width === width) return pixels;
  const out = new Uint8Array(from.height * width * 3);
  const spans = triangles(from.width, width);
  for (let y = 0, target = 0; y < from.height; y++) {
    for (const { first, weights } of spans) {
      let [red, green, blue] = [HALF, HALF, HALF];
      for (let tap = 0, source = (y * from.width + first) * 3; tap < weights.length; tap++, source += 3) {
        const weight = weights[tap];
        red += pixels[source] * weight;
        green += pixels[source + 1] * weight;
        blue += pixels[source + 2] * weight;
      }
      out[target++] = red >> BITS;
      out[target++] = green >> BITS;
      out[target++] = blue >> BITS;
    }
  }
  return out;
}

/**
 * @param {Uint8Array} pixels RGB
 * @param {Size} from
 * @param {number} height
 */
function alongColumns(pixels, from, height) {
  if (from.height === height) return pixels;
  const line = from.width * 3;
  const out = new Uint8Array(height * line);
  const sums = new Int32Array(line);
  triangles(from.height, height).forEach(({ first, weights }, y) => {
    sums.fill(HALF);
    weights.forEach((weight, tap) => {
      const source = (first + tap) * line;
      for (let x = 0; x < line; x++) sums[x] += pixels[source + x] * weight;
    });
    for (let x = 0; x < line; x++) out[y * line + x] = sums[x] >> BITS;
  });
  return out;
}

/**
 * For every target pixel the first source pixel that it sees, and the weights of that one and the next ones.
 *
 * @param {number} from pixels of the source's side
 * @param {number} to pixels of the target's
 */
function triangles(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const exact = Array.from({ length: end - first }, (_, tap) => triangle((first + tap - centre + 0.5) * (1 / support)));
    const sum = exact.reduce((total, weight) => total + weight, 0);
    return { first, weights: Int32Array.from(exact, (weight) => Math.trunc(0.5 + (weight / sum) * (1 << BITS))) };
  });
}

/** @param {number} x */
function triangle(x) {
  return Math.max(0, 1 - Math.abs(x));
}
