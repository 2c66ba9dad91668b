// Pillow's bilinear resize with antialiasing, bit for bit: what a network sees here is what it sees in Python.
//
// Two passes over 8-bit values, first along rows, each with triangle weights in fixed point. A canvas scales otherwise.

const BITS = 22;
const HALF = 1 << (BITS - 1);

/**
 * @param {Uint8Array | Uint8ClampedArray} pixels (height, width, 4) RGBA; A is left out
 * @param {{ width: number, height: number }} from
 * @param {{ width: number, height: number }} to
 * @returns {Uint8Array} (height, width, 3) RGB
 */
export function resize(pixels, from, to) {
  const narrow = from.width === to.width ? withoutAlpha(pixels) : alongRows(pixels, from, to.width);
  return from.height === to.height ? narrow : alongColumns(narrow, to.width, from.height, to.height);
}

/** @param {Uint8Array | Uint8ClampedArray} pixels */
function withoutAlpha(pixels) {
  const out = new Uint8Array((pixels.length / 4) * 3);
  for (let source = 0, target = 0; target < out.length; source++) if (source % 4 !== 3) out[target++] = pixels[source];
  return out;
}

/**
 * @param {Uint8Array | Uint8ClampedArray} pixels RGBA
 * @param {{ width: number, height: number }} from
 * @param {number} width
 */
function alongRows(pixels, from, width) {
  const out = new Uint8Array(from.height * width * 3);
  const spans = triangles(from.width, width);
  for (let y = 0, target = 0; y < from.height; y++) {
    for (const { first, weights } of spans) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      for (let tap = 0, source = (y * from.width + first) * 4; tap < weights.length; tap++, source += 4) {
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
 * @param {number} width
 * @param {number} from
 * @param {number} to
 */
function alongColumns(pixels, width, from, to) {
  const line = width * 3;
  const out = new Uint8Array(to * line);
  const sums = new Int32Array(line);
  triangles(from, to).forEach(({ first, weights }, y) => {
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
