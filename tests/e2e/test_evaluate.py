"""`srgan evaluate` as a user runs it."""

import json
import re
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from srgan_tf import cli
from srgan_tf.errors import ImageError
from srgan_tf.evaluation import benchmark, report
from srgan_tf.evaluation.methods import Bicubic
from srgan_tf.models import ESPCN


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    espcn = ESPCN()
    espcn.build()
    espcn.save(path)
    return path


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("Set5", 2), ("Own", 1)):
        for index in range(count):
            path = tmp_path / "data" / name / "HR" / f"img_{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            small = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(small).resize((81, 98), Image.Resampling.BICUBIC).save(path)
    return tmp_path / "data"


@pytest.fixture
def evaluate(data, tmp_path, monkeypatch, capsys):
    """Run `srgan evaluate` in this process; return the exit code and stderr."""
    monkeypatch.setenv("SRGAN_TF_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        words = ["evaluate", "--data", data, "--out", tmp_path / "out", "--vgg", "none", *arguments]
        with pytest.raises(SystemExit) as caught:
            cli.main([str(word) for word in words])
        return caught.value.code, capsys.readouterr().err

    return run


def results(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_the_report_has_tables_plots_and_images(evaluate, model, tmp_path):
    code, stderr = evaluate("--methods", f"nearest,bicubic,mine={model},hr")
    assert code == 0, stderr
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    assert files >= {"results.json", "report.md", "report.html"}
    assert files >= {"plots/bars-Set5.png", "plots/bars-Own.png"}
    assert len([f for f in files if f.startswith("images/Set5/")]) == 1
    assert len([f for f in files if f.startswith("images/Own/")]) == 1

    found = results(tmp_path)
    assert found["sets"] == {
        "Set5": {"images": 2, "lr": "made", "degradation": "clean"},
        "Own": {"images": 1, "lr": "made", "degradation": "clean"},
    }
    assert len(found["images"]) == 3 * 4
    hr = found["means"]["Set5"]["hr"]
    assert (hr["psnr"], hr["ssim"]) == ("inf", 1.0)
    assert 0 < hr["blur_effect"] < found["means"]["Set5"]["bicubic"]["blur_effect"] < 1
    assert found["versions"]["scikit-image"]
    assert found["versions"]["tensorflow"]
    assert len(found["methods"]["mine"]["sha256"]) == 64

    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "| Set5 | PSNR, dB |" in markdown and "28.43" in markdown
    assert "|  | blur effect |" in markdown and "LPIPS was not computed" in markdown
    assert_links_lead_to_files(tmp_path)


def assert_links_lead_to_files(tmp_path):
    markdown = (tmp_path / "out" / "report.md").read_text()
    links = re.findall(r"\]\(([^)]+)\)", markdown)
    assert links
    for link in links:
        assert " " not in link and (tmp_path / "out" / unquote(link)).is_file()


def test_psnr_is_scikit_images(evaluate, data, tmp_path):
    hr = np.asarray(Image.open(data / "Own" / "HR" / "img_0.png"))[:96, :80]
    noisy = np.clip(hr + np.random.default_rng(0).normal(0, 9, hr.shape), 0, 255).astype(np.uint8)
    (tmp_path / "other" / "Own").mkdir(parents=True)
    Image.fromarray(noisy).save(tmp_path / "other" / "Own" / "img_0_out.png")
    code, stderr = evaluate("--sets", "Own", "--methods", f"other={tmp_path / 'other'}")
    assert code == 0, stderr
    y = [x[4:-4, 4:-4] @ (np.array([65.481, 128.553, 24.966]) / 255) for x in (hr, noisy)]
    expected = peak_signal_noise_ratio(*y, data_range=255)
    assert results(tmp_path)["means"]["Own"]["other"]["psnr"] == pytest.approx(expected, abs=1e-3)


def test_the_page_refers_to_no_other_file(evaluate, tmp_path):
    assert evaluate("--methods", "bicubic,hr", "--images", "Own/img_0")[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    pictures = json.loads(re.search(r'id="pictures">(.*?)</script>', page, re.S)[1])
    assert list(pictures) == ["Own/img_0"]
    assert list(pictures["Own/img_0"]) == ["bicubic", "HR"]
    assert "$" not in re.sub(r"\$\{", "", page)


def test_degraded_lr_is_in_tables_plots_and_page(evaluate, data, tmp_path):
    (data / "Own").rename(data / "Our photos")
    kinds = "clean,noise5+jpeg75,resaved"
    code, stderr = evaluate("--methods", "nearest,bicubic,hr", "--degrade", kinds)
    assert code == 0, stderr
    found = results(tmp_path)
    assert list(found["sets"])[:3] == ["Set5", "Set5-noise5+jpeg75", "Set5-resaved"]
    assert found["sets"]["Our photos-resaved"]["degradation"] == "resaved"
    clean, noisy, resaved = (found["means"][name]["bicubic"] for name in list(found["sets"])[:3])
    assert clean["psnr"] > resaved["psnr"] != noisy["psnr"] < clean["psnr"]
    assert found["means"]["Set5-resaved"]["hr"]["ssim"] == 1
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "| Set5-noise5+jpeg75 | PSNR, dB |" in markdown and "| resaved | PSNR, dB |" in markdown
    assert (tmp_path / "out" / "plots" / "degradations-Our photos.png").is_file()
    assert_links_lead_to_files(tmp_path)
    pictures = re.search(
        r'id="pictures">(.*?)</script>', (tmp_path / "out" / "report.html").read_text(), re.S
    )
    shown = json.loads(pictures[1])
    assert "Our photos-resaved/img_0" in shown
    first = [name.split("/")[1] for name in shown if name.startswith("Set5")]
    assert len(first) == 3 and len(set(first)) == 1  # one image, with each degradation


def test_other_package_versions_are_measured_again(evaluate, tmp_path, monkeypatch):
    assert evaluate("--methods", "bicubic", "--sets", "Own")[0] == 0
    versions = {**benchmark.installed_versions(), "pillow": "1.0"}
    monkeypatch.setattr(benchmark, "installed_versions", lambda: versions)
    enlarged = []
    enlarge = Bicubic.enlarge
    monkeypatch.setattr(Bicubic, "enlarge", lambda *a: enlarged.append(a) or enlarge(*a))
    assert evaluate("--methods", "bicubic", "--sets", "Own")[0] == 0
    assert len(enlarged) == 1


def test_the_other_images_are_done_after_a_failure(evaluate, data, tmp_path, monkeypatch):
    Image.new("RGB", (12, 18), "red").save(data / "Own" / "HR" / "img_small.png")
    enlarge = Bicubic.enlarge

    def fail(self, image, lr, hr):
        if image.name == "img_1":
            raise MemoryError
        return enlarge(self, image, lr, hr)

    monkeypatch.setattr(Bicubic, "enlarge", fail)
    code, stderr = evaluate("--methods", "nearest,bicubic")
    assert code == 1
    assert stderr.count("Own/img_small: SSIM needs sides of at least 19 pixels") == 2
    assert "bicubic: Set5/img_1: MemoryError" in stderr
    found = results(tmp_path)
    assert len(found["images"]) == 7
    assert found["means"]["Own"]["bicubic"]["psnr"] is not None
    assert found["means"]["Own"]["bicubic"]["ssim"] is None
    for file in ("report.md", "report.html"):
        report = (tmp_path / "out" / file).read_text()
        assert "Missing are 3, such as bicubic: Own/img_small: SSIM needs sides of" in report


def test_results_are_cached(evaluate, tmp_path, monkeypatch):
    assert evaluate("--methods", "bicubic")[0] == 0
    before = results(tmp_path)["images"]

    def fail(*arguments):
        raise AssertionError("enlarged again")

    monkeypatch.setattr(Bicubic, "enlarge", fail)
    assert evaluate("--methods", "bicubic", "--jobs", "1")[0] == 0
    assert results(tmp_path)["images"] == before


@pytest.mark.parametrize("damage", [b"", b"no image", None])
def test_a_damaged_result_in_the_cache_is_computed_again(evaluate, tmp_path, monkeypatch, damage):
    assert evaluate("--methods", "bicubic")[0] == 0
    before = results(tmp_path)["images"]
    pictures = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*.png")}
    assert len(pictures) == 3

    def spoil(folder):
        for path, data in pictures.items():
            path.write_bytes(data[: len(data) // 2] if damage is None else damage)
            if folder:
                path.with_suffix(".json").write_bytes(damage or b"{")

    spoil(True)  # the scores have to be computed
    code, stderr = evaluate("--methods", "bicubic")
    assert code == 0, stderr
    assert {path: path.read_bytes() for path in pictures} == pictures

    spoil(False)  # only what is shown is needed
    enlarged = []
    enlarge = Bicubic.enlarge
    monkeypatch.setattr(Bicubic, "enlarge", lambda *a: enlarged.append(a) or enlarge(*a))
    code, stderr = evaluate("--methods", "bicubic")
    assert code == 0, stderr
    assert results(tmp_path)["images"] == before
    assert len(enlarged) == 2
    assert sum(path.read_bytes() == data for path, data in pictures.items()) == 2


def test_a_changed_photo_is_measured_again(evaluate, data, tmp_path):
    assert evaluate("--methods", "bicubic", "--sets", "Own")[0] == 0
    before = results(tmp_path)["means"]
    path = data / "Own" / "HR" / "img_0.png"
    Image.open(path).rotate(180).save(path)
    assert evaluate("--methods", "bicubic", "--sets", "Own")[0] == 0
    assert results(tmp_path)["means"] != before


def test_photos_that_can_t_be_read_are_named_and_not_shown(evaluate, data, tmp_path):
    for path in ("Own/HR/img_0.png", "Set5/HR/img_1.png"):
        (data / path).write_bytes(b"no image")
    for more in ([], ["--images", "Own/img_0,Set5/img_0,Set5/img_1"]):
        code, stderr = evaluate("--methods", "nearest,bicubic", *more)
        assert code == 1
        assert stderr.count("Own/HR/img_0.png: ") == stderr.count("Set5/HR/img_1.png: ") == 2
        assert len(results(tmp_path)["failures"]) == 4
        images = tmp_path / "out" / "images"
        assert list(images.rglob("*.*")) == [images / "Set5" / "img_0.jpg"]


def test_an_image_that_can_t_be_read_any_more_is_not_shown(evaluate, tmp_path, monkeypatch):
    def fail(scores, image):
        raise ImageError("img_0.png: is gone")

    monkeypatch.setattr(report, "contact_sheet", fail)
    code, stderr = evaluate("--methods", "bicubic", "--sets", "Own")
    message = "Own/img_0: not shown: img_0.png: is gone"
    assert code == 1 and message in stderr
    assert results(tmp_path)["failures"] == [message]
    assert (tmp_path / "out" / "report.html").is_file()


def test_names_are_escaped_in_the_page(evaluate, data, tmp_path):
    (data / "Own").rename(data / 'a"<b>')
    assert evaluate("--methods", "bicubic", "--sets", 'a"<b>')[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'alt="bars-a&quot;&lt;b&gt;"' in page


def test_a_missing_result_is_named_and_the_rest_is_done(evaluate, tmp_path):
    (tmp_path / "other").mkdir()
    code, stderr = evaluate("--methods", f"bicubic,other={tmp_path / 'other'}")
    assert code == 1
    assert stderr.count("no file for") == 3
    assert "other: Own/img_0" in stderr
    assert results(tmp_path)["means"]["Set5"]["other"]["psnr"] is None
    assert results(tmp_path)["means"]["Set5"]["bicubic"]["psnr"] is not None


def test_an_out_that_can_t_be_written_is_found_before_the_work(evaluate, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(Bicubic, "enlarge", None)
    code, stderr = evaluate("--methods", "bicubic", "--out", tmp_path / "file" / "out")
    assert code == 2 and stderr.endswith("file/out: can't be written to (Not a directory)\n")


def test_a_picture_that_can_t_be_written_is_named(evaluate, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "images").touch()
    code, stderr = evaluate("--methods", "bicubic")
    assert code == 1 and re.search(r"error: .*img_0.jpg: ", stderr)
    assert "Traceback" not in stderr
    (tmp_path / "out" / "images").unlink()
    assert evaluate("--methods", "bicubic")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "x" * 300], "x: can't be accessed (File name too long)"),
        (["--methods", "bicubix"], "did you mean bicubic?"),
        (["--sets", "Set6"], "no such set"),
        (["--images", "Set5/zzz"], "Set5/zzz: no such image"),
        (["--jobs", "0"], "at least 1"),
        (["--vgg", "nowhere.h5"], "nowhere.h5: no such file"),
        (["--lpips", "nowhere.npz"], "nowhere.npz: no such file"),
        (["--degrade", ","], "--degrade: ',' must be names"),
        (["--degrade", ""], "--degrade: '' must be names"),
        (["--degrade", "clean,jpg75"], "jpg75: no such degradation, did you mean jpeg75?"),
    ],
)
def test_a_wrong_request_does_nothing(evaluate, tmp_path, arguments, reason):
    code, stderr = evaluate(*arguments)
    assert code == 2
    assert reason in stderr
    assert not (tmp_path / "out").exists()
