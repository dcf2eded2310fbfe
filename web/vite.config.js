import { cpSync } from "node:fs";
import { fileURLToPath } from "node:url";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
const output = path("../srgan_tf/demo/static");

const runtime = {
  name: "litert-wasm",
  closeBundle: () => cpSync(path("node_modules/@litertjs/core/wasm"), `${output}/litert`, { recursive: true }),
};

export default {
  base: "./",
  // LiteRT.js loads its runtime with importScripts, which module workers don't have.
  worker: { format: "iife" },
  build: { outDir: output, emptyOutDir: true, chunkSizeWarningLimit: 1000 },
  plugins: [runtime],
};
