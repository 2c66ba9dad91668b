// What an exported file says of itself: model, classes, colours and size, from the ONNX file's own metadata.

/** @typedef {import("./resize.js").Size} Size */

/**
 * @typedef {object} Description
 * @property {string} name model and tag
 * @property {string[]} classes
 * @property {[number, number, number][]} palette colour of each class
 * @property {number} height of the network's input and class map, in pixels
 * @property {number} width
 * @property {Size | null} shrinkTo size to which longer sides of a picture are shrunk first
 */

/** Something that the user can mend: one line with value, reason and fix. */
export class UserError extends Error {}

const KEY = "espnetv2";
const LAYOUT = 1;
const METADATA_FIELD = 14;
const LARGEST_SIDE = 65536;
const EXPORT = "espnetv2 export NAME --format onnx --size WxH --input uint8 --output classes --out FILE";

/**
 * @param {Uint8Array} bytes of an ONNX file
 * @param {string} file its name, for messages
 * @returns {Description}
 * @throws {UserError} the file is none of this project's, or one that this page cannot run
 */
export function describe(bytes, file) {
  const text = metadata(bytes, KEY);
  if (text === null) throw new UserError(`${file}: not an ONNX file that espnetv2 exported; make one with: ${EXPORT}`);
  const found = parsed(text, file);
  if (found?.layout !== LAYOUT)
    throw new UserError(`${file}: exported by another version of espnetv2; export it again with this one`);
  const { info, input, output } = found;
  const { model, tag, classes, palette, preprocessing } = info ?? {};
  if (!isSound(classes, palette, preprocessing)) throw new UserError(`${file}: its description is damaged; export it again`);
  if (!palette.length) throw new UserError(`${file}: ${model} names whole pictures; this page needs a segmentation model`);
  for (const [option, found, needed] of [
    ["--input", input, "uint8"],
    ["--output", output, "classes"],
  ]) {
    if (found !== needed)
      throw new UserError(`${file}: exported with ${option} ${found}; export it again with ${option} ${needed}`);
  }
  const { fit, height, width, shrink_to } = preprocessing;
  if (fit !== "stretch") throw new UserError(`${file}: wants pictures cropped; this page only stretches them`);
  const shrinkTo = shrink_to ? { height: shrink_to[0], width: shrink_to[1] } : null;
  return { name: tag ? `${model}.${tag}` : model, classes, palette, height, width, shrinkTo };
}

/**
 * Whether a description is what it should be: a file comes from anywhere, and its colours go into the page's style.
 *
 * @param {unknown} classes
 * @param {unknown} palette
 * @param {any} preprocessing
 */
function isSound(classes, palette, preprocessing) {
  if (!Array.isArray(classes) || !Array.isArray(palette) || !preprocessing) return false;
  const { height, width, shrink_to } = preprocessing;
  const sizes = [height, width, ...(shrink_to ?? [])];
  return (
    classes.every((name) => typeof name === "string") &&
    (!palette.length || palette.length === classes.length) &&
    palette.every(
      (colour) => Array.isArray(colour) && colour.length === 3 && colour.every((value) => isWhole(value, 0, 255)),
    ) &&
    sizes.every((side) => isWhole(side, 1, LARGEST_SIDE))
  );
}

/**
 * @param {unknown} value
 * @param {number} least
 * @param {number} most
 */
function isWhole(value, least, most) {
  return Number.isInteger(value) && Number(value) >= least && Number(value) <= most;
}

/**
 * @param {string} text
 * @param {string} file
 */
function parsed(text, file) {
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`${file}: its description is damaged; export it again`);
  }
}

/**
 * The value of one key of `metadata_props` in a serialised ModelProto, or null where there is none.
 *
 * @param {Uint8Array} bytes
 * @param {string} key
 */
function metadata(bytes, key) {
  for (const [field, value] of fields(bytes)) {
    if (field !== METADATA_FIELD) continue;
    const entry = new Map(fields(value));
    if (decoded(entry.get(1)) === key) return decoded(entry.get(2));
  }
  return null;
}

/** @param {Uint8Array | undefined} bytes */
function decoded(bytes) {
  return new TextDecoder().decode(bytes);
}

/**
 * The fields of a protocol buffer that hold bytes: number and content. Ends where the bytes are no protocol buffer.
 *
 * @param {Uint8Array} bytes
 * @returns {Generator<[number, Uint8Array]>}
 */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    return Number.NaN;
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      if (!(at + length <= bytes.length)) return;
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else return;
  }
}
