// Two overlaid images of equal size that move and zoom together.

const element = (id) => document.getElementById(id);
const viewer = element("viewer");
const canvases = viewer.querySelectorAll("canvas");
const [rightCanvas, leftCanvas] = canvases;
let size = { width: 1, height: 1 };
let view = { x: 0, y: 0, zoom: 1, fitted: true }; // zoom in CSS pixels per image pixel

const fitZoom = () => Math.min(viewer.clientWidth / size.width, viewer.clientHeight / size.height);

function show() {
  if (view.fitted) view.zoom = fitZoom();
  for (const [axis, side, length] of [
    ["x", viewer.clientWidth, size.width],
    ["y", viewer.clientHeight, size.height],
  ]) {
    const room = side - length * view.zoom;
    view[axis] = room > 0 ? room / 2 : Math.min(0, Math.max(room, view[axis]));
  }
  for (const canvas of canvases) {
    canvas.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
    canvas.classList.toggle("pixels", view.zoom * devicePixelRatio >= 3);
  }
}

function zoomTo(zoom, x = viewer.clientWidth / 2, y = viewer.clientHeight / 2) {
  zoom = Math.min(8, Math.max(Math.min(fitZoom(), 1), zoom));
  const ratio = zoom / view.zoom;
  view = { x: x - ratio * (x - view.x), y: y - ratio * (y - view.y), zoom, fitted: false };
  show();
}

export function fit() {
  view.fitted = true;
  show();
}

/** Sets the images' size and clears them. */
export function setSize(width, height) {
  size = { width, height };
  for (const canvas of canvases) Object.assign(canvas, size);
  fit();
}

/** Draws pixels on the left or right image, at a position within it. */
export function paint(side, pixels, left, top, width, height) {
  const canvas = side === "left" ? leftCanvas : rightCanvas;
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), left, top);
}

function split(percent) {
  viewer.style.setProperty("--split", `${percent}%`);
  element("split").value = percent;
}

element("split").addEventListener("input", (event) => split(event.target.value));
element("in").addEventListener("click", () => zoomTo(view.zoom * 1.5));
element("out").addEventListener("click", () => zoomTo(view.zoom / 1.5));
element("fit").addEventListener("click", fit);
element("full").addEventListener("click", () => zoomTo(1 / devicePixelRatio));
new ResizeObserver(show).observe(viewer);

viewer.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const box = viewer.getBoundingClientRect();
    zoomTo(view.zoom * Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  },
  { passive: false },
);

const pointers = new Map();
let dividing = false;
viewer.addEventListener("pointerdown", (event) => {
  viewer.setPointerCapture(event.pointerId);
  if (!pointers.size) dividing = Boolean(event.target.closest("#divider"));
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
});
viewer.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = { x: event.clientX, y: event.clientY };
  const box = viewer.getBoundingClientRect();
  if (dividing) {
    split(Math.min(100, Math.max(0, (100 * (now.x - box.left)) / box.width)));
  } else if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    zoomTo((view.zoom * distance(now)) / distance(before), (now.x + other.x) / 2 - box.left, (now.y + other.y) / 2 - box.top);
  } else {
    view.x += now.x - before.x;
    view.y += now.y - before.y;
    show();
  }
  pointers.set(event.pointerId, now);
});
for (const name of ["pointerup", "pointercancel"]) viewer.addEventListener(name, (event) => pointers.delete(event.pointerId));

const KEYS = {
  ArrowLeft: () => (view.x += 60),
  ArrowRight: () => (view.x -= 60),
  ArrowUp: () => (view.y += 60),
  ArrowDown: () => (view.y -= 60),
  "+": () => zoomTo(view.zoom * 1.5),
  "=": () => zoomTo(view.zoom * 1.5),
  "-": () => zoomTo(view.zoom / 1.5),
  0: fit,
};
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
  show();
});
split(50);
