import { readFileSync } from "node:fs";

export const DIST = new URL("../dist/", import.meta.url);
export const MODEL = readFileSync(new URL("model.onnx", DIST));

/** What this page reads of the description that `espnetv2 export` writes. */
export const DESCRIPTION = {
  layout: 1,
  info: {
    model: "espnetv2_seg_s0_5",
    tag: "mine",
    classes: ["sky"],
    palette: [[1, 2, 3]],
    preprocessing: { height: 32, width: 64, fit: "stretch" },
  },
  input: "uint8",
  output: "classes",
};

/**
 * An ONNX file without a graph: producer, version, and one entry of metadata_props.
 *
 * @param {string} key
 * @param {string} value
 */
export function onnx(key, value) {
  const entry = Buffer.concat([bytes(1, Buffer.from(key)), bytes(2, Buffer.from(value))]);
  return Buffer.concat([Buffer.from([8, 10]), bytes(2, Buffer.from("test")), bytes(14, entry)]);
}

/**
 * A field of a protocol buffer that holds bytes.
 *
 * @param {number} number
 * @param {Buffer} content
 */
function bytes(number, content) {
  const length = [];
  for (let left = content.length; ; left >>= 7) {
    length.push(left > 127 ? (left & 127) | 128 : left);
    if (left <= 127) break;
  }
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), content]);
}
