import assert from "node:assert/strict";
import { test } from "node:test";
import { describe, UserError } from "../src/description.js";
import { DESCRIPTION, MODEL, onnx } from "./files.js";

test("an exported file says what it is", () => {
  const { name, classes, palette, width, height } = describe(MODEL, "model.onnx");
  assert.equal(name, "espnetv2_seg_s0_5.cityscapes_256");
  assert.deepEqual([width, height], [512, 256]);
  assert.deepEqual([classes.length, classes[0], classes[18]], [19, "road", "bicycle"]);
  assert.deepEqual([palette.length, palette[0]], [19, [128, 64, 128]]);
});

test("a description is read behind other fields", () => {
  const { name, width, height } = describe(onnx("espnetv2", JSON.stringify(DESCRIPTION)), "a.onnx");
  assert.deepEqual({ name, width, height }, { name: "espnetv2_seg_s0_5.mine", width: 64, height: 32 });
});

test("a description may ask for pictures to be shrunk first", () => {
  const preprocessing = { ...DESCRIPTION.info.preprocessing, shrink_to: [16, 24] };
  const { shrinkTo } = describe(changed({ info: { ...DESCRIPTION.info, preprocessing } }), "a.onnx");
  assert.deepEqual(shrinkTo, { height: 16, width: 24 });
});

/** @type {[string, Buffer, RegExp][]} */
const REFUSED = [
  ["nothing", Buffer.alloc(0), /not an ONNX file that espnetv2 exported; make one with: espnetv2 export/],
  ["text", Buffer.from("this is no protocol buffer at all"), /not an ONNX file that espnetv2 exported/],
  ["a cut file", onnx("espnetv2", JSON.stringify(DESCRIPTION)).subarray(0, 60), /not an ONNX file that espnetv2 exported/],
  ["another program's file", onnx("names", "{}"), /not an ONNX file that espnetv2 exported/],
  ["a damaged description", onnx("espnetv2", "{"), /its description is damaged; export it again/],
  ["nothing described", onnx("espnetv2", "null"), /exported by another version of espnetv2/],
  ["a description without content", onnx("espnetv2", '{"layout": 1}'), /its description is damaged; export it again/],
  ["another layout", changed({ layout: 2 }), /exported by another version of espnetv2; export it again/],
  ["float input", changed({ input: "float32" }), /exported with --input float32; export it again with --input uint8/],
  ["logits", changed({ output: "logits" }), /exported with --output logits; export it again with --output classes/],
  ["a classifier", changed({ info: { ...DESCRIPTION.info, palette: [] } }), /this page needs a segmentation model/],
  ["cropping", preprocessed({ fit: "crop" }), /wants pictures cropped/],
  ["a size that is text", preprocessed({ width: "64" }), /its description is damaged; export it again/],
  ["a size that is too large", preprocessed({ shrink_to: [16, 1e9] }), /its description is damaged; export it again/],
  ["a style in place of a colour", coloured([["0", "0", "0) url(https://example.org/"]]), /its description is damaged/],
  ["a colour out of range", coloured([[0, 0, 256]]), /its description is damaged; export it again/],
];

for (const [what, file, message] of REFUSED) {
  test(`${what} is refused in one line`, () => {
    assert.throws(
      () => describe(file, "a.onnx"),
      (error) => error instanceof UserError && /^a\.onnx: [^\n]+$/.test(error.message) && message.test(error.message),
    );
  });
}

/** @param {object} change of the preprocessing */
function preprocessed(change) {
  return changed({ info: { ...DESCRIPTION.info, preprocessing: { ...DESCRIPTION.info.preprocessing, ...change } } });
}

/** @param {unknown[]} first colours */
function coloured(first) {
  return changed({ info: { ...DESCRIPTION.info, palette: [...first, ...DESCRIPTION.info.palette.slice(first.length)] } });
}

/** @param {object} change */
function changed(change) {
  return onnx("espnetv2", JSON.stringify({ ...DESCRIPTION, ...change }));
}
