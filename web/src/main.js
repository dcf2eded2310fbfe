import Runner from "./worker.js?worker";
import { paint, setSize } from "./viewer.js";

const element = (id) => document.getElementById(id);
const base = new URL("./", location.href).href;
const BICUBIC = "bicubic";
const MAX_MEGAPIXELS = 4; // a result takes 256 MB, and the page holds several
const MAX_SIDE = 32767; // of a canvas in Firefox; Chromium allows 65535
const SAMPLES = ["cat", "astronaut", "coffee"];

let models = [];
let worker;
let photo; // { name, pixels, width, height, results: model's name → pixels }
let job; // { id, name, pixels } that the worker is processing
let jobs = 0;
let opened = 0; // counts calls of open()
// ?accelerator=wasm or webgpu, the latter also on an emulated GPU
let accelerator = new URLSearchParams(location.search).get("accelerator");

function say(text) {
  element("note").textContent = text;
}

function fail(text) {
  element("error").textContent = text;
  element("error").hidden = !text;
  if (text) say("");
}

function startWorker() {
  worker?.terminate();
  worker = new Runner();
  worker.onmessage = ({ data }) => receive(data);
  worker.onerror = (event) => stop(`The models can't be run in this browser: ${event.message ?? "its worker did not start"}`);
  worker.postMessage({ type: "start", base, accelerator });
}

const find = (name) => models.find((model) => model.name === name);
const choice = (side) => element(side).value;

/** Shows a result, or bicubic until the result is ready. */
function draw(side) {
  const pixels = photo.results.get(choice(side)) ?? photo.results.get(BICUBIC);
  const scale = models[0].scale;
  element(`${side}-tag`).textContent = choice(side);
  if (pixels) paint(side, pixels, 0, 0, scale * photo.width, scale * photo.height);
}

/** Allows to save what is shown on the right, once it is complete. */
function allowSaving() {
  element("save").disabled = choice("right") !== BICUBIC && !photo.results.has(choice("right"));
}

/** Starts the next chosen model that has no result yet. */
function next() {
  if (job || !photo) return;
  element("cancel").textContent = "Cancel";
  const name = ["right", "left"].map(choice).find((chosen) => chosen !== BICUBIC && !photo.results.has(chosen));
  element("progress").hidden = !name;
  allowSaving();
  document.body.dataset.state = name ? "working" : "done";
  if (!name) return;
  const model = find(name);
  const length = photo.pixels.length * model.scale ** 2;
  job = { id: ++jobs, name, pixels: new Uint8ClampedArray(length) };
  const { pixels, width, height } = photo;
  say(`Loading ${name}…`);
  element("progress").firstElementChild.removeAttribute("value");
  worker.postMessage({ type: "enlarge", id: job.id, base, model, pixels, width, height });
}

function stop(message) {
  job = undefined;
  element("progress").hidden = true;
  document.body.dataset.state = message ? "failed" : "cancelled";
  fail(message);
}

function receive(data) {
  if (data.type === "ready") {
    const threads = `${data.threads} thread${data.threads > 1 ? "s" : ""}`;
    let why = "";
    if (!self.isSecureContext) why = ": threads need HTTPS or localhost";
    else if (!self.crossOriginIsolated) why = ": the host does not send COOP and COEP headers";
    else if (!data.relaxedSimd) why = ": threads need relaxed SIMD, which this browser lacks";
    element("runtime").textContent = data.backend === "webgpu" ? "On your GPU (WebGPU)" : `On your CPU, ${threads}${why}`;
    document.body.dataset.backend = data.backend;
    return;
  }
  if (data.type === "png") {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(data.blob);
    link.download = data.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    allowSaving();
    return;
  }
  if (data.type === "error") {
    if (data.gpu) {
      accelerator = "wasm"; // fall back to the CPU
      job = undefined;
      startWorker();
      next();
    } else if (!data.id || job?.id === data.id) stop(`Enlarging failed: ${data.message}`);
    return;
  }
  if (job?.id !== data.id) return; // from a cancelled job
  if (data.type === "bicubic") {
    photo.results.set(BICUBIC, data.pixels);
    draw("left");
    draw("right");
  } else if (data.type === "tile") {
    const width = models[0].scale * photo.width;
    for (let y = 0; y < data.height; y++)
      job.pixels.set(data.pixels.subarray(4 * y * data.width, 4 * (y + 1) * data.width), 4 * ((data.top + y) * width + data.left));
    for (const side of ["left", "right"])
      if (choice(side) === job.name) paint(side, data.pixels, data.left, data.top, data.width, data.height);
    element("progress").firstElementChild.value = data.done / data.of;
    say(`${job.name}: ${Math.round((100 * data.done) / data.of)} %`);
  } else if (data.type === "done") {
    photo.results.set(job.name, job.pixels);
    const { scale } = find(job.name);
    const [width, height] = [scale * photo.width, scale * photo.height];
    say(`${job.name}: ${photo.width} × ${photo.height} to ${width} × ${height} in ${data.seconds.toFixed(1)} s`);
    self.measured = { ...data, name: job.name };
    job = undefined;
    next();
  }
}

function cancel() {
  if (!job) return;
  worker.postMessage({ type: "cancel", id: job.id });
  stop("");
  element("progress").hidden = false;
  element("progress").firstElementChild.value = 0;
  element("cancel").textContent = "Start again";
  say("Cancelled.");
}

/** Opens a file, or shows why it can't be enlarged. */
async function open(file) {
  const number = ++opened;
  if (job) cancel();
  fail("");
  const name = file.name ?? "photo";
  const refuse = (why) => {
    document.body.dataset.state = "failed";
    fail(`${name}: ${why}`);
  };
  if (!file.size) return refuse("the file is empty.");
  let image;
  try {
    image = await createImageBitmap(file, { premultiplyAlpha: "none" }); // applies EXIF orientation
  } catch {
    if (number !== opened) return;
    return refuse("this browser can't read it as an image; use PNG, JPEG or WebP.");
  }
  if (number !== opened) return image.close(); // another file has been opened since
  if (job) cancel(); // of another model, begun since
  const { width, height } = image;
  if (width * height > MAX_MEGAPIXELS * 1e6) {
    image.close();
    return refuse(
      `${width} × ${height} is too large for a browser; the limit is ${MAX_MEGAPIXELS} megapixels. srgan upscale enlarges photos of up to 178.`,
    );
  }
  const maxSide = Math.floor(MAX_SIDE / models[0].scale);
  if (Math.max(width, height) > maxSide) {
    image.close();
    return refuse(`${width} × ${height} is too long for a browser; the limit is ${maxSide} pixels a side. srgan upscale enlarges it.`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  image.close();
  const pixels = context.getImageData(0, 0, width, height).data;
  photo = { name: name.replace(/\.[^.]*$/, ""), pixels, width, height, results: new Map() };
  element("start").hidden = true;
  element("work").hidden = false;
  setSize(models[0].scale * width, models[0].scale * height);
  draw("left");
  draw("right");
  next();
  element("viewer").focus({ preventScroll: true, focusVisible: false });
}

function fill() {
  for (const side of ["left", "right"]) {
    const names = [...(side === "left" ? [BICUBIC] : []), ...models.map((model) => model.name)];
    element(side).replaceChildren(...names.map((name) => new Option(name, name)));
    element(side).addEventListener("change", () => {
      fail("");
      draw(side);
      next();
    });
  }
  for (const sample of SAMPLES) {
    const button = document.createElement("button");
    button.innerHTML = `<img src="samples/${sample}.jpg" alt="Sample photo: ${sample}" />`;
    button.addEventListener("click", async () => {
      const content = await (await fetch(`samples/${sample}.jpg`)).blob();
      open(new File([content], `${sample}.jpg`));
    });
    element("samples").append(button);
  }
}

element("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) open(file);
  event.target.value = "";
});
element("another").addEventListener("keydown", (event) => {
  if (event.key === "Enter" || event.key === " ") element("file").click();
});
element("cancel").addEventListener("click", () => (job ? cancel() : next()));
element("save").addEventListener("click", () => {
  const { scale } = models[0];
  const [width, height] = [scale * photo.width, scale * photo.height];
  element("save").disabled = true;
  const name = `${photo.name}-x${scale}.png`;
  worker.postMessage({ type: "png", name, pixels: photo.results.get(choice("right")), width, height });
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) open(file);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  element("over").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) element("over").hidden = true;
});
addEventListener("drop", (event) => {
  event.preventDefault();
  element("over").hidden = true;
  const [file] = event.dataTransfer.files;
  if (file) open(file);
  else fail("That is not a file; save the image first, or copy and paste it.");
});

try {
  const response = await fetch("models.json");
  if (!response.ok) throw new Error(`models.json: ${response.status}`);
  models = await response.json();
  fill();
  startWorker();
  document.body.dataset.state = "empty";
} catch (error) {
  stop(`The page is incomplete: ${error.message}. srgan demo --export writes all files.`);
}
