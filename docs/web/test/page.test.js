import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { serve } from "../serve.js";
import { DESCRIPTION, DIST, MODEL, onnx } from "./files.js";
import { python } from "./python.js";

const ROOT = new URL("../../../", import.meta.url);
const CAMVID = new URL("../shared/camvid/val/", ROOT);
const PHOTOGRAPHS = existsSync(CAMVID) ? [new URL(readdirSync(CAMVID).sort()[0], CAMVID)] : [];
const PICTURES = [new URL("examples/street.jpg", ROOT), ...PHOTOGRAPHS].map((picture) => fileURLToPath(picture));
const AGREEMENT = 0.999;

/** @type {import("playwright-core").Browser} */
let browser;

before(async () => {
  const executablePath = process.env.CHROMIUM || spawnSync("which", ["chromium"], { encoding: "utf-8" }).stdout.trim();
  assert.ok(executablePath, "no chromium was found: install it, or name it with CHROMIUM=/path/to/chromium");
  browser = await chromium.launch({
    executablePath,
    args: [
      ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
      ...[
        "--disable-component-update",
        "--disable-sync",
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
      ],
      // Whatever should ask another host fails, which the console would tell.
      "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ],
  });
});

after(() => browser?.close());

/**
 * A test on the page, freshly opened; it fails on any complaint of the console and any request to another host.
 *
 * @param {string} name
 * @param {(page: import("playwright-core").Page, complaints: string[]) => Promise<void>} body
 * @param {Parameters<typeof serve>[1] & { model?: boolean }} options `model` says whether there is one beside the page
 */
function onPage(name, body, { model = true, ...options } = {}) {
  test(name, { timeout: 120_000 }, async () => {
    const server = await serve(fileURLToPath(DIST), { prefix: "/some/folder/", ...options });
    const context = await browser.newContext();
    context.setDefaultTimeout(60_000);
    /** @type {string[]} */
    const complaints = [];
    try {
      const page = await context.newPage();
      page.on("console", (message) => {
        if (["error", "warning"].includes(message.type())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(String(error)));
      context.on("request", (request) => {
        if (!request.url().startsWith(server.url) && !/^(blob|data):/.test(request.url())) complaints.push(request.url());
      });
      if (!model) await page.route("**/model.onnx", (route) => route.fulfill({ status: 200, body: "gone" }));
      await page.goto(server.url);
      if (model) await page.getByText("espnetv2_seg_s0_5.cityscapes_256").waitFor();
      await body(page, complaints);
      assert.deepEqual(complaints, []);
    } finally {
      await context.close();
      await server.close();
    }
  });
}

/** @typedef {{ name: string, names: string[], classes: number[], width: number, height: number, milliseconds: number }} Answer */

/**
 * What the page answers next, once `action` is done.
 *
 * @param {import("playwright-core").Page} page
 * @param {() => Promise<unknown>} action
 */
async function answer(page, action) {
  await page.evaluate("delete espnetv2.result");
  await action();
  // Playwright's own waiting evaluates text in the page, which its policy forbids.
  while (!(await page.evaluate("Boolean(espnetv2.result)"))) await page.waitForTimeout(20);
  return page.evaluate(
    /** @returns {Answer} */ () => {
      const { description, result } = /** @type {any} */ (window).espnetv2;
      return { name: description.name, names: description.classes, ...result, classes: [...result.classes] };
    },
  );
}

/**
 * The share of each class that occurs as the legend should tell it, the largest first.
 *
 * @param {Uint8Array} classes
 * @param {string[]} names
 */
function legend(classes, names) {
  return names
    .map((name, index) => ({ name, share: classes.filter((value) => value === index).length / classes.length }))
    .filter(({ share }) => share > 0)
    .sort((a, b) => b.share - a.share)
    .map(({ name, share }) => `${name} ${share < 0.001 ? "<0.1%" : `${(100 * share).toFixed(1)}%`}`);
}

for (const isolated of [true, false]) {
  onPage(
    `the class map is Python's (the page is ${isolated ? "" : "not "}cross-origin isolated)`,
    async (page) => {
      assert.match(
        (await page.locator("#runtime").textContent()) ?? "",
        isolated ? /SIMD, [2-4] threads$/ : /SIMD, 1 thread \(the page is not/,
      );
      for (const picture of PICTURES) {
        const found = await answer(page, () => page.locator("#picture-file").setInputFiles(picture));
        const expected = python(["classes", found.name, `${found.width}x${found.height}`, picture]);
        assert.equal(found.classes.length, expected.length);
        const same = found.classes.filter((value, index) => value === expected[index]).length / expected.length;
        console.log(
          `${picture.split("/").at(-1)}: ${(100 * same).toFixed(4)} % as in Python, ${found.milliseconds.toFixed(0)} ms`,
        );
        assert.ok(same >= AGREEMENT, `${picture}: ${same}`);
        const entries = await page.locator("#legend li").allTextContents();
        assert.deepEqual(entries, legend(Uint8Array.from(found.classes), found.names));
        assert.match((await page.locator("#time").textContent()) ?? "", /^\d+ ms$/);
      }
    },
    { isolated },
  );
}

onPage("the overlay lies over the picture and can be faded", async (page) => {
  await answer(page, () => page.getByRole("button", { name: "Sample picture" }).click());
  const [picture, overlay] = [page.locator("#picture"), page.locator("#overlay")];
  assert.deepEqual(await overlay.boundingBox(), await picture.boundingBox());
  assert.match((await picture.getAttribute("aria-label")) ?? "", /^Segmented picture: road \d/);
  await page.getByLabel("Overlay").fill("20");
  assert.equal(await overlay.evaluate((canvas) => getComputedStyle(canvas).opacity), "0.2");
});

onPage("the camera runs until it is stopped", async (page) => {
  const found = await answer(page, () => page.getByRole("button", { name: "Start the camera" }).click());
  assert.equal(found.classes.length, 512 * 256);
  const times = [];
  for (let frame = 0; frame < 8; frame++) times.push((await answer(page, async () => {})).milliseconds);
  assert.ok(Number(await page.locator("#fps").textContent()) > 0);
  console.log(
    `camera: ${await page.locator("#fps").textContent()} frames/s, fastest frame ${Math.min(...times).toFixed(0)} ms`,
  );
  await page.getByRole("button", { name: "Stop the camera" }).click();
  await page.getByText("The camera is running").waitFor({ state: "hidden" });
  await page.evaluate("delete espnetv2.result");
  await page.waitForTimeout(500);
  assert.equal(await page.evaluate("espnetv2.result"), undefined);
  assert.equal(await page.locator("#fps").textContent(), "–");
});

onPage("mistakes are told in one line, and what worked before still does", async (page) => {
  const error = page.getByRole("alert");
  /** @type {[string, string, Buffer, RegExp][]} */
  const mistakes = [
    ["#model-file", "notes.onnx", Buffer.from("notes"), /^notes\.onnx: not an ONNX file that espnetv2 exported; make one with/],
    ["#model-file", "empty.onnx", onnx("espnetv2", JSON.stringify(DESCRIPTION)), /^empty\.onnx: cannot be run here \(.+\)$/],
    ["#model-file", "cut.onnx", MODEL.subarray(0, MODEL.length / 2), /^cut\.onnx: /],
    ["#picture-file", "notes.jpg", Buffer.from("notes"), /^notes\.jpg: not a picture that this browser can decode/],
  ];
  for (const [input, name, buffer, message] of mistakes) {
    await page.locator(input).setInputFiles({ name, mimeType: "", buffer });
    await error.getByText(name).waitFor();
    assert.match((await error.textContent()) ?? "", message);
  }
  await page.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotFoundError"));
  });
  await page.getByRole("button", { name: "Start the camera" }).click();
  await error.getByText("no camera was found: connect one, or choose a picture").waitFor();
  await answer(page, () => page.getByRole("button", { name: "Sample picture" }).click());
  assert.equal(await error.count(), 0);
});

onPage(
  "without a model a picture waits for one",
  async (page) => {
    const error = page.getByRole("alert");
    await error.getByText("model.onnx: not an ONNX file").waitFor();
    for (const name of ["Sample picture", "Start the camera"]) {
      await page.getByRole("button", { name }).click();
      await error.getByText("no model is loaded: choose an .onnx file").waitFor();
      await page.getByText("Segmenting").waitFor({ state: "hidden" });
    }
    assert.equal(await page.getByRole("button", { name: "Start the camera" }).count(), 1);
    const model = { name: "own.onnx", mimeType: "", buffer: MODEL };
    const found = await answer(page, () => page.locator("#model-file").setInputFiles(model));
    assert.equal(found.name, "espnetv2_seg_s0_5.cityscapes_256");
  },
  { model: false },
);

onPage("the page may ask no other host", async (page, complaints) => {
  assert.equal(await page.evaluate('fetch("https://example.org/").catch(({ message }) => message)'), "Failed to fetch");
  assert.match(complaints.splice(0).join(" "), /violates the following Content Security Policy directive/);
});

onPage("a model of one's own takes the place of the first", async (page) => {
  await answer(page, () => page.getByRole("button", { name: "Sample picture" }).click());
  const { info } = DESCRIPTION;
  const own = { ...DESCRIPTION, info: { ...info, preprocessing: { ...info.preprocessing, height: 256, width: 512 } } };
  // Two serialised messages in a row are one; the first description counts.
  const file = Buffer.concat([onnx("espnetv2", JSON.stringify(own)), MODEL]);
  const found = await answer(page, () =>
    page.locator("#model-file").setInputFiles({ name: "own.onnx", mimeType: "", buffer: file }),
  );
  assert.equal(found.name, "espnetv2_seg_s0_5.mine");
  assert.equal(await page.locator("#model").textContent(), found.name);
});
