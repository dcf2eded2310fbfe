"""`srgan demo` as a user runs it: the command line, the server, and a real browser."""

import base64
import io
import json
import re
import shutil
import socket
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from skimage import data

from srgan_tf import Upscaler, cli, demo
from srgan_tf.errors import UserError
from srgan_tf.models import SRResNet

pytestmark = pytest.mark.slow

MODEL = demo.MODELS[0]
TINY = "tiny #1?"
PHOTO = data.astronaut()[:200, 100:440]


def srgan(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", *map(str, arguments)])
    return caught.value.code


@contextmanager
def served(folder):
    with demo.make_server(folder, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not (demo.STATIC / "index.html").is_file():
        pytest.skip(f"the demo's page is not built: {demo.BUILD}")
    folder = tmp_path_factory.mktemp("demo")
    tiny = SRResNet(blocks=1, filters=4)
    tiny.build()
    tiny.save(folder / f"{TINY}.keras")
    double = SRResNet(2, blocks=1, filters=4)
    double.build()
    double.save(folder / "double.keras")
    models = f"{MODEL},{folder / TINY}.keras"
    assert srgan("--export", folder / "site", "--models", models) == 0
    return folder / "site"


@pytest.fixture(scope="module")
def exact_site(site):
    """The site with float32 models in WebAssembly too."""
    folder = site.parent / "exact"
    shutil.copytree(site, folder)
    models = json.loads((folder / "models.json").read_text())
    for model in models:
        model["files"]["wasm"] = model["files"]["webgpu"]
    (folder / "models.json").write_text(json.dumps(models))
    return folder


@contextmanager
def opened(browser, site, query=""):
    with served(site) as address:
        page = browser.new_page()
        failures = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address + query)
        page.wait_for_selector("body[data-backend]", timeout=60_000)
        yield page
        page.close()
        assert not failures


def drop(page, name, content):
    drop_all(page, [(name, content)])


def drop_all(page, files, first=""):
    """Drop files one after the other, after a click on an element."""
    page.evaluate(
        """([files, first]) => {
            if (first) document.querySelector(first).click();
            for (const [name, content] of files) {
                const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], name));
                window.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
            }
        }""",
        [[(name, base64.b64encode(content).decode()) for name, content in files], first],
    )


def wait(page, state):
    page.wait_for_selector(f"body[data-state={state}]", timeout=120_000)


def enlarged(page, name, content):
    """Drop a file on the page and return the downloaded result."""
    page.evaluate("document.body.dataset.state = 'before'")
    drop(page, name, content)
    wait(page, "done")
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == f"{name.rpartition('.')[0]}-x4.png"
    with Image.open(download.value.path()) as image:
        return np.asarray(image)


def encoded(pixels, **options):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", **options)
    return content.getvalue()


def difference(a, b):
    assert a.shape == b.shape
    return np.abs(a.astype(int) - b.astype(int)).max()


def by_litert(path, pixels):
    """Enlarge a photo of one tile by LiteRT in Python."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=2)
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(taken["index"], (1, *pixels.shape))
    interpreter.allocate_tensors()
    unit = 1 if taken["dtype"] == np.uint8 else np.float32(255)
    interpreter.set_tensor(taken["index"], (pixels[None] / unit).astype(taken["dtype"]))
    interpreter.invoke()
    return np.rint(unit * interpreter.get_tensor(given["index"])[0]).astype(np.uint8)


def test_a_page_that_is_not_built(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "STATIC", tmp_path)
    assert srgan("--export", tmp_path / "site") == 2
    assert "npm run build" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


def test_wrong_requests(site, tmp_path, capsys):
    (tmp_path / "file").touch()
    for arguments, words in [
        (["--export", tmp_path / "file"], "not a folder"),
        (["--export", tmp_path / "a", "--models", "srgan-mobil"], "did you mean srgan-mobile?"),
        (["--export", tmp_path / "b", "--models", ","], "--models: ',' must be names"),
        (["--export", tmp_path / "c", "--models", "srcnn"], "SRCNN can't be exported"),
        (
            ["--export", tmp_path / "d", "--models", site.parent / "double.keras"],
            "double: enlarges ×2",
        ),
        (["--port", "70000"], "another with --host or --port"),
    ]:
        assert srgan(*arguments) == 2
        assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_served_files_and_headers(tmp_path):
    (tmp_path / "index.html").write_text("page")
    (tmp_path / "models").mkdir()
    (tmp_path / "a.wasm").write_bytes(b"")
    with served(tmp_path) as address:
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == b"page"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        with urllib.request.urlopen(f"{address}a.wasm") as answer:
            assert answer.headers["Content-Type"] == "application/wasm"
        for path in ("models/", "../secret"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path)


def test_a_visitor_who_leaves_during_a_download(tmp_path, capsys):
    (tmp_path / "a.wasm").write_bytes(bytes(2**26))
    with demo.make_server(tmp_path, "127.0.0.1", 0) as server:
        server.daemon_threads = False  # closing waits for them
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/a.wasm") as answer:
            answer.read(1)
        server.shutdown()
    assert capsys.readouterr().err == ""


def test_an_ipv6_address(monkeypatch, capsys):
    def stop(server):
        raise KeyboardInterrupt

    try:
        with socket.socket(socket.AF_INET6) as free:
            free.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    monkeypatch.setattr(demo, "require_page", lambda: None)
    monkeypatch.setattr("srgan_tf.cli.demo._write", lambda *_: None)
    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", stop)
    assert srgan("--host", "::1", "--port", 0) == 0
    assert re.match(r"http://\[::1\]:\d+/\n", capsys.readouterr().out)


def test_models_of_one_name(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "require_page", lambda: None)
    monkeypatch.setattr(demo, "_exported", None)
    paths = [tmp_path / name for name in ("a/x.keras", "b/x.keras", f"{MODEL}.keras")]
    paths += [tmp_path / "bicubic" / "generator.keras"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for names in (paths[:2], [MODEL, paths[2]], [MODEL, MODEL], [paths[3].parent]):
        with pytest.raises(UserError, match="two choices have this name"):
            demo.write_site(tmp_path / "site", names, tmp_path / "cache")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A generator, for a page that is an empty index.html."""
    monkeypatch.setattr(demo, "STATIC", tmp_path / "static")
    demo.STATIC.mkdir()
    (demo.STATIC / "index.html").touch()
    generator = SRResNet(blocks=1, filters=4)
    generator.build()
    return generator


def test_exported_files_contain_the_title_and_no_path(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "srgan_tf.export.tflite.convert", lambda generator, mode, name, *_: name.encode()
    )
    tiny.save(tmp_path / "one.keras")
    shutil.copyfile(tmp_path / "one.keras", tmp_path / "two.keras")
    for title in ("one", "two"):  # of the same content
        demo.write_site(tmp_path / title, [tmp_path / f"{title}.keras"], tmp_path / "cache")
        files = list((tmp_path / title / "models").iterdir())
        assert [file.read_bytes() for file in files] == 2 * [title.encode()]


def test_only_an_earlier_export_is_replaced(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("srgan_tf.export.tflite.convert", lambda *_: b"")
    for title in ("one", "two"):
        tiny.save(tmp_path / f"{title}.keras")
        demo.write_site(tmp_path / "site", [tmp_path / f"{title}.keras"], tmp_path / "cache")
        files = list((tmp_path / "site" / "models").iterdir())
        assert len(files) == 2 and all(file.name.startswith(title) for file in files)
    with pytest.raises(UserError, match="static: contains other files"):
        demo.write_site(demo.STATIC, [tmp_path / "one.keras"], tmp_path / "cache")


def test_models_listed(site):
    models = json.loads((site / "models.json").read_text())
    assert [(model["name"], model["radius"]) for model in models] == [
        (MODEL, 16),
        (TINY, 10),
    ]
    for model in models:
        assert list(model["files"]) == ["webgpu", "wasm"]
        assert all((site / "models" / file).is_file() for file in model["files"].values())


@pytest.mark.parametrize(
    ("host", "isolated", "words"),
    [
        ("127.0.0.1", "true", "1 thread: threads need relaxed SIMD"),
        ("127.0.0.1", "false", "1 thread: the host does not send COOP and COEP"),
        ("0.0.0.0", "false", "1 thread: threads need HTTPS or localhost"),
    ],
)
def test_the_page_says_why_it_has_one_thread(browser, tmp_path, host, isolated, words):
    if not (demo.STATIC / "index.html").is_file():
        pytest.skip(f"the demo's page is not built: {demo.BUILD}")
    shutil.copytree(demo.STATIC, tmp_path, dirs_exist_ok=True)
    (tmp_path / "models.json").write_text("[]")
    with demo.make_server(tmp_path, "0.0.0.0", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.add_init_script(
            f"""
            Object.defineProperty(self, "crossOriginIsolated", {{ value: {isolated} }});
            const data = {{ type: "ready", backend: "wasm", threads: 1, relaxedSimd: false }};
            self.Worker = class {{ postMessage() {{ this.onmessage({{ data }}); }} }};
            """
        )
        page.goto(f"http://{host}:{server.server_port}/")
        page.wait_for_selector("body[data-backend]")
        assert words in page.inner_text("#runtime")
        page.close()
        server.shutdown()


def test_a_photo_without_colours_stays_so(browser, site):
    grey = np.repeat(PHOTO[:50, :70, :1], 3, axis=-1)
    with opened(browser, site) as page:
        found = enlarged(page, "grey.png", encoded(grey))
    assert np.ptp(found[..., :3], axis=-1).max() == 0
    assert difference(found, Upscaler(MODEL).upscale(grey)) < 40  # int8


def test_signs_in_a_model_s_name(browser, site):
    with opened(browser, site) as page:
        small = encoded(PHOTO[:50, :70])
        enlarged(page, "a.png", small)
        page.select_option("#right", TINY)
        assert enlarged(page, "b.png", small).shape == (200, 280, 3)
        assert TINY in page.inner_text("#note")


def test_tiles_join_to_the_whole_photo(browser, exact_site):
    expected = Upscaler(MODEL).upscale(PHOTO)
    with opened(browser, exact_site) as page:
        found = enlarged(page, "photo.png", encoded(PHOTO))
        assert page.evaluate("self.crossOriginIsolated")
    assert difference(found, expected) <= 1


def test_one_tile_as_by_litert_in_python(browser, exact_site):
    (model,) = exact_site.glob(f"models/{MODEL}-*-float32.tflite")
    with opened(browser, exact_site) as page:
        for small in (PHOTO[40:130, 60:180], PHOTO[:3, :5], PHOTO[:1, :1]):
            found = enlarged(page, "small.png", encoded(small))
            assert difference(found, by_litert(model, small)) <= 1


def test_one_tile_with_8_bits(browser, site):
    (model,) = site.glob(f"models/{MODEL}-*-int8.tflite")
    small = PHOTO[40:130, 60:180]
    with opened(browser, site) as page:
        found = enlarged(page, "small.png", encoded(small))
    assert difference(found, by_litert(model, small)) <= 1


def test_webgpu_as_by_litert_in_python(launch, site):
    (model,) = site.glob(f"models/{MODEL}-*-float32.tflite")
    browser = launch(webgpu=True)
    small = PHOTO[40:130, 60:180]
    with opened(browser, site, "?accelerator=webgpu") as page:
        if page.get_attribute("body", "data-backend") != "webgpu":
            pytest.skip("this Chromium has no WebGPU, not even SwiftShader's")
        found = enlarged(page, "small.png", encoded(small))
        assert page.get_attribute("body", "data-backend") == "webgpu"
    browser.close()
    assert difference(found, by_litert(model, small)) <= 1


def test_alpha_and_orientation(browser, exact_site):
    (model,) = exact_site.glob(f"models/{MODEL}-*-float32.tflite")
    rgb = PHOTO[20:100, 80:190]
    alpha = np.zeros((*rgb.shape[:2], 1), np.uint8)
    alpha[:, 40:] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # rotate by 90° clockwise
    with opened(browser, exact_site) as page:
        found = enlarged(page, "alpha.png", encoded(np.concatenate([rgb, alpha], 2)))
        assert found.shape == (320, 440, 4)
        assert np.all(found[:, :150, 3] == 0) and np.all(found[:, 170:, 3] == 255)
        # Invisible pixels have the colour of the nearest visible one.
        seen = rgb.copy()
        seen[:, :40] = rgb[:, 40:41]
        assert difference(found[..., :3], by_litert(model, seen)) <= 1
        found = enlarged(page, "turned.png", encoded(rgb, exif=turned))
        assert difference(found, by_litert(model, np.rot90(rgb, -1))) <= 1


def test_refused_files(browser, site):
    large = io.BytesIO()
    Image.new("RGB", (3000, 2000)).save(large, "PNG")
    with opened(browser, site) as page:
        for name, content, words in [
            ("a.png", b"", "a.png: the file is empty"),
            ("b.jpg", b"no picture", "b.jpg: this browser can't read it"),
            ("c.png", encoded(PHOTO)[:5000], "c.png: this browser"),
            ("d.png", large.getvalue(), "d.png: 3000 × 2000 is too large"),
            ("e.png", encoded(np.zeros((1, 8192, 3), np.uint8)), "e.png: 8192 × 1 is too long"),
        ]:
            drop(page, name, content)
            page.wait_for_function("t => document.body.innerText.includes(t)", arg=words)
            assert page.locator("#error").is_visible()
        small = PHOTO[:60, :60]
        assert enlarged(page, "good.png", encoded(small)).shape == (240, 240, 3)
        assert page.locator("#error").is_hidden()


def test_the_last_of_several_files_is_enlarged(browser, site):
    images = [("large.png", encoded(PHOTO)), ("small.png", encoded(PHOTO[:50, :70]))]
    with opened(browser, site) as page:
        drop_all(page, images)
        wait(page, "done")
        assert "70 × 50" in page.inner_text("#note")
        with page.expect_download() as download:
            page.click("#save")
        with Image.open(download.value.path()) as image:
            assert image.size == (280, 200)


def test_a_picture_is_saved_by_its_name_though_another_is_opened(browser, site):
    with opened(browser, site) as page:
        assert enlarged(page, "one.png", encoded(PHOTO)).shape == (800, 1360, 3)
        with page.expect_download() as download:
            drop_all(page, [("two.png", encoded(PHOTO[:50, :70]))], first="#save")
        assert download.value.suggested_filename == "one-x4.png"
        with Image.open(download.value.path()) as image:
            assert image.size == (1360, 800)
        wait(page, "done")
        assert page.locator("#save").is_enabled()


def test_cancel(browser, site):
    large = np.tile(PHOTO, (4, 3, 1))
    with opened(browser, site) as page:
        drop(page, "large.png", encoded(large))
        wait(page, "working")
        page.click("#cancel")
        wait(page, "cancelled")
        assert "Cancelled" in page.inner_text("#note") and page.locator("#save").is_disabled()
        assert enlarged(page, "small.png", encoded(PHOTO[:50, :70])).shape == (200, 280, 3)
