// Runs the models with LiteRT.js, on WebGPU if available, else in WebAssembly.
import { getWebGpuDevice, loadAndCompile, loadLiteRt, supportsFeature, Tensor } from "@litertjs/core";
import { setInputSize } from "./inputsize.js";
import { cut } from "./tiles.js";
import { bicubic, encodePng, fillTransparent, isGrey } from "./pixels.js";

let backend; // a promise of "webgpu" or "wasm"
let loaded = {}; // the last compiled model
const cancelled = new Set();
let queue = Promise.resolve(); // one photo at a time

async function hasGpu(emulated) {
  if (!navigator.gpu || !(await supportsFeature("jspi"))) return false;
  const adapter = await navigator.gpu.requestAdapter().catch(() => null);
  return Boolean(adapter && (emulated || !adapter.info?.isFallbackAdapter));
}

async function start({ base, accelerator }) {
  const folder = `${base}litert/`;
  const useGpu = accelerator !== "wasm" && (await hasGpu(accelerator === "webgpu"));
  const relaxedSimd = await supportsFeature("relaxedSimd");
  const threads =
    !useGpu &&
    self.crossOriginIsolated &&
    navigator.hardwareConcurrency > 1 &&
    relaxedSimd &&
    (await supportsFeature("threads"));
  // Threads are started from this script, not from the worker's script.
  self.Module = {
    locateFile: (file) => folder + file,
    mainScriptUrlOrBlob: threads ? `${folder}litert_wasm_threaded_internal.js` : undefined,
  };
  const litert = await loadLiteRt(folder, { jspi: useGpu, threads });
  const found = useGpu && getWebGpuDevice() ? "webgpu" : "wasm";
  self.postMessage({ type: "ready", backend: found, threads: threads ? litert.liteRtWasm.getThreadCount() : 1, relaxedSimd });
  return found;
}

async function compile(base, model, width, height, accelerator) {
  const file = model.files[accelerator];
  const key = `${file} ${width} ${height}`;
  if (loaded.key === key) return loaded.compiled;
  loaded.compiled?.delete();
  loaded = {};
  const response = await fetch(`${base}models/${encodeURIComponent(file)}`);
  if (!response.ok) throw new Error(`${file} can't be loaded: ${response.status} ${response.statusText}`);
  const content = new Uint8Array(await response.arrayBuffer());
  setInputSize(content, model.side, width, height);
  const compiled = await loadAndCompile(content, { accelerator, gpuOptions: { precision: "fp32" } });
  loaded = { key, compiled };
  return compiled;
}

async function enlarge({ id, base, model, pixels, width, height }) {
  const accelerator = await backend;
  const { scale, radius } = model;
  if (cancelled.delete(id)) return;
  const started = performance.now();
  const filled = fillTransparent(pixels, width, height);
  const enlarged = bicubic(filled, width, height, scale);
  self.postMessage({ type: "bicubic", id, pixels: enlarged });
  const { tiles, ...size } = cut(width, height, model.side, radius);
  const compiled = await compile(base, model, size.width, size.height, accelerator);
  const compiledAt = performance.now();
  // The values of int8 models are grey levels, of others [0, 1].
  const levels = compiled.getInputDetails()[0].dtype === "uint8";
  const [Values, unit] = levels ? [Uint8Array, 1] : [Float32Array, 255];
  const input = new Values(3 * size.width * size.height);
  const grey = isGrey(filled);
  for (const [index, tile] of tiles.entries()) {
    await new Promise((resolve) => setTimeout(resolve)); // let a cancel message in
    if (cancelled.delete(id)) return;
    for (let y = 0, i = 0; y < size.height; y++) {
      let source = 4 * ((tile.y + y) * width + tile.x);
      for (let x = 0; x < size.width; x++, source += 4)
        for (let c = 0; c < 3; c++) input[i++] = filled[source + c] / unit;
    }
    const tensor = new Tensor(input, [1, size.height, size.width, 3]);
    const [output] = await compiled.run(tensor);
    tensor.delete();
    const values = await output.data();
    output.delete();
    const [left, top] = [scale * tile.left, scale * tile.top];
    const [w, h] = [scale * tile.right - left, scale * tile.bottom - top];
    const part = new Uint8ClampedArray(4 * w * h);
    for (let y = 0, i = 0; y < h; y++) {
      let source = 3 * ((top - scale * tile.y + y) * scale * size.width + left - scale * tile.x);
      let alpha = 4 * ((top + y) * scale * width + left) + 3;
      for (let x = 0; x < w; x++, source += 3, alpha += 4) {
        if (grey) {
          const mean = (values[source] + values[source + 1] + values[source + 2]) / 3;
          part.fill(Math.round(unit * mean), i, i + 3);
          i += 3;
        } else for (let c = 0; c < 3; c++) part[i++] = Math.round(unit * values[source + c]);
        part[i++] = enlarged[alpha];
      }
    }
    const message = { type: "tile", id, pixels: part, left, top, width: w, height: h, done: index + 1, of: tiles.length };
    self.postMessage(message, [part.buffer]);
  }
  const seconds = (performance.now() - compiledAt) / 1000;
  self.postMessage({ type: "done", id, seconds, loading: (compiledAt - started) / 1000 });
}

self.onmessage = async ({ data }) => {
  try {
    if (data.type === "start") {
      backend = start(data);
      await backend;
    } else if (data.type === "cancel") {
      cancelled.add(data.id);
    } else if (data.type === "enlarge") {
      queue = queue.catch(() => {}).then(() => enlarge(data));
      await queue;
    } else {
      const { name, pixels, width, height } = data;
      self.postMessage({ type: "png", name, blob: await encodePng(pixels, width, height) });
    }
  } catch (error) {
    const gpu = (await Promise.resolve(backend).catch(() => "")) === "webgpu";
    self.postMessage({ type: "error", id: data.id, gpu, message: error.message ?? String(error) });
  }
};
