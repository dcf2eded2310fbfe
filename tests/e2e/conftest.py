"""Fixtures of the tests of complete commands."""

import shutil

import pytest

from srgan_tf import cli
from srgan_tf.models import SRResNet

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WITHOUT_GPU = ["--disable-gpu"]
WEBGPU = [
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
]


@pytest.fixture
def train(capsys):
    """Run `srgan train` in this process; return the exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            cli.main(["train", *map(str, arguments)])
        return caught.value.code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """The file of a tiny ×2 generator."""
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model = SRResNet(scale=2, blocks=1, filters=4)
    model.build()
    model.save(path)
    return path


@pytest.fixture(scope="module")
def launch():
    """Start Chromium, with the GPU that SwiftShader emulates if `webgpu` is set."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed")
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:

        def start(webgpu=False):
            flags = FLAGS + (WEBGPU if webgpu else WITHOUT_GPU)
            return playwright.chromium.launch(executable_path=program, args=flags)

        yield start


@pytest.fixture(scope="module")
def browser(launch):
    launched = launch()
    yield launched
    launched.close()
