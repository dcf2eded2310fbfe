"use strict";

// All pages work without this script. It adds keys, exact pixels and preloading, and keeps a double
// click or a hasty key from rating a picture that was not seen yet.

const HASTE = 350; // ms; earlier clicks were meant for the previous page

const pictures = [...document.querySelectorAll(".stage img")];
const rating = document.getElementById("rating");
let shown = null;

// Each image pixel covers an integer number of screen pixels, about one CSS pixel, so that the
// browser does not resample it.
function fit() {
  const ratio = window.devicePixelRatio || 1;
  const side = Math.max(1, Math.floor(ratio + 0.01)) / ratio;
  for (const picture of pictures) {
    picture.style.width = `${picture.getAttribute("width") * side}px`;
    picture.style.height = `${picture.getAttribute("height") * side}px`;
  }
}

function center() {
  for (const stage of document.querySelectorAll(".stage:not(.pair)")) {
    stage.scrollLeft = (stage.scrollWidth - stage.clientWidth) / 2;
    stage.scrollTop = (stage.scrollHeight - stage.clientHeight) / 2;
  }
}

function preload() {
  for (const address of (document.body.dataset.preload || "").split(" ").filter(Boolean)) {
    new Image().src = address;
  }
}

async function show() {
  try {
    await Promise.all(pictures.map((picture) => picture.decode()));
  } catch {
    const trouble = document.querySelector(".trouble");
    if (trouble) {
      trouble.hidden = false;
      pictures.forEach((picture) => picture.remove());
    }
    return;
  }
  requestAnimationFrame((now) => (shown = now));
  preload();
}

function mayRate() {
  return shown !== null && performance.now() - shown >= HASTE;
}

function fillIn(name, value) {
  const field = rating.elements[name];
  field.value = value;
  field.disabled = false;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent || (form === rating && !mayRate())) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  if (form === rating) {
    fillIn("milliseconds", Math.round(performance.now() - shown));
    fillIn("pixel_ratio", window.devicePixelRatio || 1);
    event.submitter?.classList.add("chosen");
  }
});

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input:not([type=checkbox])")) return;
  const digit = /^(?:Digit|Numpad)([1-5])$/.exec(event.code);
  const key = digit ? digit[1] : event.key === "Backspace" ? "u" : event.key.toLowerCase();
  const control = /^[1-5up]$/.test(key) && document.querySelector(`[data-key="${key}"]`);
  if (control) {
    event.preventDefault();
    control.click();
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  const copied = navigator.clipboard
    ? navigator.clipboard.writeText(field.value)
    : Promise.resolve(document.execCommand("copy")); // pages without https have no clipboard
  copied.then(() => (button.textContent = "Copied"));
});

// A page from the back-forward cache may be outdated.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

if (pictures.length) {
  fit();
  center();
  window.addEventListener("resize", fit);
  show();
}
