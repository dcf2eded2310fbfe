// Pixels are RGBA, 8 bits per channel, not premultiplied.

/** Keys' cubic kernel (a = -0.5). */
function cubic(x) {
  const d = Math.abs(x);
  if (d < 1) return (1.5 * d - 2.5) * d * d + 1;
  return d < 2 ? ((-0.5 * d + 2.5) * d - 4) * d + 2 : 0;
}

function taps(length, scale) {
  return Array.from({ length: length * scale }, (_, i) => {
    const centre = (i + 0.5) / scale - 0.5;
    const first = Math.floor(centre) - 1;
    const found = [];
    for (let j = Math.max(first, 0); j <= Math.min(first + 3, length - 1); j++) found.push([j, cubic(centre - j)]);
    const sum = found.reduce((total, [, weight]) => total + weight, 0);
    return found.map(([j, weight]) => [j, weight / sum]);
  });
}

/** Whether all pixels have R = G = B. */
export function isGrey(pixels) {
  for (let i = 0; i < pixels.length; i += 4) {
    if (pixels[i] !== pixels[i + 1] || pixels[i] !== pixels[i + 2]) return false;
  }
  return true;
}

/** Bicubic enlargement. */
export function bicubic(pixels, width, height, scale) {
  const result = new Uint8ClampedArray(pixels.length * scale * scale);
  const columns = taps(width, scale);
  const rows = taps(height, scale);
  const wide = new Map(); // source rows, enlarged along x
  const widen = (y) => {
    const line = new Float32Array(4 * width * scale);
    columns.forEach((found, x) => {
      for (const [j, weight] of found)
        for (let c = 0; c < 4; c++) line[4 * x + c] += weight * pixels[4 * (y * width + j) + c];
    });
    return line;
  };
  const line = new Float32Array(4 * width * scale);
  rows.forEach((found, y) => {
    for (const key of wide.keys()) if (key < found[0][0]) wide.delete(key);
    line.fill(0);
    for (const [j, weight] of found) {
      if (!wide.has(j)) wide.set(j, widen(j));
      const source = wide.get(j);
      for (let i = 0; i < line.length; i++) line[i] += weight * source[i];
    }
    result.set(line, 4 * y * width * scale);
  });
  return result;
}

/** Gives transparent pixels the colour of a nearby visible one, so that black does not bleed into edges. */
export function fillTransparent(pixels, width, height) {
  const queue = [];
  const known = new Uint8Array(width * height);
  for (let i = 0; i < known.length; i++) {
    if (pixels[4 * i + 3]) {
      known[i] = 1;
      queue.push(i);
    }
  }
  if (queue.length === known.length || !queue.length) return pixels;
  const filled = pixels.slice();
  for (let next = 0; next < queue.length; next++) {
    const i = queue[next];
    const x = i % width;
    for (const [j, inside] of [
      [i - 1, x > 0],
      [i + 1, x < width - 1],
      [i - width, i >= width],
      [i + width, i + width < known.length],
    ]) {
      if (!inside || known[j]) continue;
      known[j] = 1;
      for (let c = 0; c < 3; c++) filled[4 * j + c] = filled[4 * i + c];
      queue.push(j);
    }
  }
  return filled;
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n >>> 0;
});

function chunk(type, data) {
  const bytes = new Uint8Array(12 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  let crc = ~0;
  for (let i = 4; i < bytes.length - 4; i++) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  view.setUint32(bytes.length - 4, ~crc);
  return bytes;
}

/** Encodes a PNG file; a canvas would round colours where alpha is low, and limits the size. */
export async function encodePng(pixels, width, height) {
  let opaque = true;
  for (let i = 3; opaque && i < pixels.length; i += 4) opaque = pixels[i] === 255;
  const channels = opaque ? 3 : 4;
  let y = 0;
  const rows = new ReadableStream({
    pull(controller) {
      if (y === height) return controller.close();
      const row = new Uint8Array(1 + channels * width);
      row[0] = 2; // filter type Up
      for (let x = 0; x < width; x++)
        for (let c = 0; c < channels; c++) {
          const i = 4 * (y * width + x) + c;
          row[1 + channels * x + c] = pixels[i] - (y ? pixels[i - 4 * width] : 0);
        }
      y += 1;
      controller.enqueue(row);
    },
  });
  const content = await new Response(rows.pipeThrough(new CompressionStream("deflate"))).arrayBuffer();
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, opaque ? 2 : 6, 0, 0, 0], 8);
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  const parts = [signature, chunk("IHDR", header), chunk("IDAT", new Uint8Array(content)), chunk("IEND", new Uint8Array())];
  return new Blob(parts, { type: "image/png" });
}
