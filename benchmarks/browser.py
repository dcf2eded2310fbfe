"""Measure `srgan demo`'s and UpscalerJS' models in Chromium: seconds per megapixel, and PSNR.

    npm ci --prefix web && npm run build --prefix web
    npm ci --prefix benchmarks/upscalerjs
    python benchmarks/browser.py --data Set5 [--rounds N] [--out FILE]

All models enlarge one photo (scikit-image's cat, 226×150 → 904×600) in turns, in one headless
Chromium without a GPU: ours in the demo's page, with WebAssembly threads; UpscalerJS with its
defaults, the whole photo at once, on TensorFlow.js' WebAssembly backend with threads and SIMD.
Results are medians of the rounds after a first one, without loading and PNG encoding. PSNR is on
Set5 (HR/*.png and LRx4/*.png in the folder), Y, border 4.
"""

from __future__ import annotations

import argparse
import base64
import importlib.metadata
import os
import shutil
import statistics
import sys
import tempfile
import threading
from io import BytesIO
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from srgan_tf import demo
from srgan_tf.cache import cache_folder
from srgan_tf.files import write_json
from srgan_tf.metrics import psnr_y
from srgan_tf.weights import released

THEIRS = Path(__file__).parent / "upscalerjs"
UPSCALERJS = ("esrgan-slim", "esrgan-medium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Demo:
    """The demo's page, on which files are dropped."""

    def __init__(self, page: Page, address: str):
        self.page = page
        page.set_default_timeout(600_000)
        page.goto(address)
        page.wait_for_selector("body[data-backend]")
        self.runtime = page.inner_text("#runtime")

    def enlarge(self, name: str, photo: bytes) -> tuple[float, np.ndarray]:
        """Return the seconds that an encoded photo takes, and the result, uint8 [4·H, 4·W, 3]."""
        page = self.page
        page.evaluate("n => document.querySelector('#right').value = n", name)
        page.evaluate(
            """content => {
                self.measured = undefined;
                const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], "photo.png"));
                window.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
            }""",
            base64.b64encode(photo).decode(),
        )
        page.wait_for_function("self.measured && document.body.dataset.state === 'done'")
        with page.expect_download() as download:
            page.click("#save")
        with Image.open(download.value.path()) as image:
            return page.evaluate("self.measured.seconds"), np.asarray(image.convert("RGB"))


class UpscalerJS:
    """A page with UpscalerJS."""

    def __init__(self, page: Page, address: str):
        self.page = page
        page.set_default_timeout(600_000)
        page.goto(f"{address}upscalerjs/")
        self.runtime = f"TensorFlow.js, {page.evaluate('start(`wasm`)')}"

    def enlarge(self, name: str, photo: bytes) -> tuple[float, np.ndarray]:
        """Return what `Demo.enlarge` does."""
        found = self.page.evaluate(
            "([name, content]) => enlarge(name, content)", [name, base64.b64encode(photo).decode()]
        )
        return found["seconds"], np.array(found["values"], np.uint8).reshape(found["shape"])


def sample(site: Path) -> bytes:
    """Return the photo to measure on, as PNG."""
    content = BytesIO()
    with Image.open(site / "samples/cat.jpg") as image:
        image.save(content, "PNG")
    return content.getvalue()


def psnr(contestant: Any, name: str, folder: Path) -> float:
    """Compute the mean PSNR on Y over a set's photos, in dB."""
    values = []
    for path in sorted((folder / "HR").glob("*.png")):
        with Image.open(path) as image:
            hr = np.asarray(image.convert("RGB"))
        with Image.open(folder / "LRx4" / path.name) as image:
            content = BytesIO()
            image.convert("RGB").save(content, "PNG")
        sr = contestant.enlarge(name, content.getvalue())[1]
        height, width = sr.shape[:2]
        values.append(float(psnr_y(hr[:height, :width], sr, 4)))
    return statistics.mean(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="Set5's folder")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("docs/results/browser.json"))
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        site = Path(temporary)
        names = [name for name in demo.MODELS if name in released()]
        demo.write_site(site, names, cache_folder() / "demo")
        (site / "upscalerjs").symlink_to(THEIRS.resolve())
        server = demo.make_server(site, "127.0.0.1", 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        with sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
            ours = Demo(browser.new_page(), address)
            theirs = UpscalerJS(browser.new_page(), address)
            contestants: dict[str, Demo | UpscalerJS] = dict.fromkeys(names, ours)
            contestants |= dict.fromkeys(UPSCALERJS, theirs)
            photo = sample(site)
            seconds: dict[str, list[float]] = {name: [] for name in contestants}
            megapixels = 0.0
            for _ in range(arguments.rounds + 1):
                for name, contestant in contestants.items():
                    taken, result = contestant.enlarge(name, photo)
                    seconds[name].append(taken)
                    megapixels = result.shape[0] * result.shape[1] / 1e6
            results = {}
            for name, contestant in contestants.items():
                entry = {
                    "runtime": contestant.runtime,
                    "seconds_per_megapixel": round(
                        statistics.median(seconds[name][1:]) / megapixels, 2
                    ),
                    "set5_psnr": round(psnr(contestant, name, arguments.data), 2),
                }
                results[name] = entry
                print(f"{name:16}{entry['seconds_per_megapixel']:8.2f} s/MP", end="")
                print(f"{entry['set5_psnr']:8.2f} dB  {contestant.runtime}", flush=True)
            version = browser.version
    summary = {
        "command": f"python benchmarks/browser.py --data Set5 --rounds {arguments.rounds}",
        "chromium": version,
        "cores": os.cpu_count(),
        "rounds": arguments.rounds,
        "result_megapixels": megapixels,
        "srgan_tf": importlib.metadata.version("srgan-tf"),
        "python": sys.version.split()[0],
        "models": results,
    }
    write_json(arguments.out, summary)


if __name__ == "__main__":
    main()
