"""The web page that enlarges photos in the browser: its models and its server."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from srgan_tf.cache import cache_error
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_write, first_line, is_folder, sha256, write_json

STATIC = Path(__file__).parent / "static"
BUILD = "npm ci --prefix web && npm run build --prefix web"
MODELS = ("srgan-mobile-photo", "srgan-photo", "srresnet-photo", "srresnet-mse", "srgan-vgg54")
SCALE = 4
SIDE = 256  # of the models' input; the page reduces it for small photos
# An int8 model is a quarter as large, faster in WebAssembly, and gives the same result on every
# machine; WebGPU supports only floats.
MODES = {"webgpu": "float32", "wasm": "int8"}
_BICUBIC = "bicubic"  # the page's own choice
_SAMPLES = {"cat": "chelsea.png", "astronaut": "astronaut.png", "coffee": "coffee.png"}
_FORMAT = 4  # of the cache; increase it when the exported files change


def require_page() -> None:
    """Raise UserError if the page is not built."""
    if not (STATIC / "index.html").is_file():
        raise UserError(
            f"the page is not built: {STATIC}/index.html is missing. Build it with Node.js 20.19, "
            f"22.12 or newer in a checkout of srgan-tf: {BUILD}"
        )


def write_site(folder: Path, names: Iterable[str], cache: Path) -> None:
    """Write the page and its models to a folder for any static host.

    Args:
        folder: new or empty, or of an earlier call, whose models are removed.
        names: of generators, see `srgan_tf.weights.load_generator`; the first is preselected.
        cache: folder for exported models.

    Raises:
        UserError: the page is not built, no such generator, two of one title, a generator that
            can't be exported or has another scale, or the folder has other files or can't be
            written.
    """
    from srgan_tf.weights import find_generator, generator_title

    require_page()
    if is_folder(folder) and any(folder.iterdir()) and not (folder / "models.json").is_file():
        raise UserError(f"{folder}: contains other files; give a new folder, or an earlier export")
    models: dict[str, Path] = {}
    for name in names:
        weights, title = find_generator(name), generator_title(name)
        if title in (_BICUBIC, *models):
            raise UserError(
                f"{title}: two choices have this name; leave one out, or rename its file or folder"
            )
        models[title] = weights
    exported = [_exported(title, weights, cache) for title, weights in models.items()]
    for _, model in exported:
        if model["scale"] != SCALE:
            raise UserError(f"{model['name']}: enlarges ×{model['scale']}; the page, ×{SCALE}")
    try:
        shutil.copytree(STATIC, folder, dirs_exist_ok=True)
        (folder / "models").mkdir(exist_ok=True)
        for earlier in (folder / "models").glob("*.tflite"):
            earlier.unlink()
        for source, model in exported:
            for accelerator, mode in MODES.items():
                target = folder / "models" / model["files"][accelerator]
                shutil.copyfile(source / f"{mode}.tflite", target)
        write_json(folder / "models.json", [model for _, model in exported])
        _write_samples(folder / "samples")
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({first_line(error)})") from None


def _exported(title: str, weights: Path, cache: Path) -> tuple[Path, dict]:
    """Export a generator, unless it is cached.

    Returns:
        The folder in the cache, and the generator's entry in models.json.
    """
    digest = sha256(weights)[:16]
    folder = cache / f"{_FORMAT}-{digest}-{title}"  # the files contain the title
    if not (folder / "model.json").is_file():
        try:
            _export(title, weights, folder)
        except OSError as error:
            raise cache_error(folder, error) from None
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    # A file's name changes with its content, so that browsers may cache it.
    files = {accelerator: f"{title}-{digest}-{mode}.tflite" for accelerator, mode in MODES.items()}
    return folder, {"name": title, **model, "files": files}


def _export(title: str, weights: Path, folder: Path) -> None:
    from srgan_tf.export.fidelity import calibration_photos
    from srgan_tf.export.tflite import convert
    from srgan_tf.weights import load_generator

    generator = load_generator(weights)
    photos = calibration_photos("samples", generator.scale, held_out=False)
    for mode in MODES.values():
        content = convert(generator, mode, title, (SIDE, SIDE), photos)
        with atomic_write(folder / f"{mode}.tflite") as temporary:
            temporary.write_bytes(content)
    entry = {
        "scale": generator.scale,
        "side": SIDE,
        "radius": generator.features_radius + generator.upsample_radius,
    }
    write_json(folder / "model.json", entry)


def _write_samples(folder: Path) -> None:
    """Write small sample photos, which come with scikit-image."""
    import skimage.data
    from PIL import Image

    folder.mkdir(exist_ok=True)
    source = Path(skimage.data.__file__).parent
    for name, file in _SAMPLES.items():
        with Image.open(source / file) as image:
            small = image.convert("RGB").reduce(2)
        with atomic_write(folder / f"{name}.jpg") as temporary:
            small.save(temporary, quality=95)


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".tflite": "application/octet-stream",
    }

    def end_headers(self) -> None:
        # Browsers allow WebAssembly threads only on cross-origin isolated pages.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def list_directory(self, path):
        self.send_error(404)

    def log_message(self, format: str, *args) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def __init__(self, folder: Path, host: str, port: int):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), partial(_Handler, directory=str(folder)))

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the visitor has left
            super().handle_error(request, client_address)


def make_server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """Create a server of a folder that `write_site` fills; it listens but does not answer yet.

    Raises:
        UserError: the address is not available.
    """
    try:
        return _Server(folder, host, port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"{host}, port {port}: can't listen ({first_line(error)}); choose another with --host "
            "or --port"
        ) from None
