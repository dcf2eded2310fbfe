"""Comparison of exported models with the Keras model."""

from functools import partial

import numpy as np
import pytest
from PIL import Image

from srgan_tf import cli
from srgan_tf.data.store import PhotoSource
from srgan_tf.errors import UserError
from srgan_tf.export import fidelity
from srgan_tf.export.fidelity import TOLERANCES, ReferencePhoto, Tolerance, compare
from srgan_tf.inference.keras import KerasEngine


def reference_photo(offset=0):
    hr = np.full((40, 48, 3), 100, np.uint8)
    hr[::2, ::2] = 140
    reference = np.full_like(hr, 110 + offset)
    return ReferencePhoto("a", hr, hr[::2, ::2], reference)


def test_differences_are_to_the_keras_model_and_psnr_is_to_hr():
    photos = [reference_photo(), reference_photo(4)]
    results = [photo.reference.copy() for photo in photos]
    results[1][3, 5, 0] += 7
    found = compare(photos, results, 2, Tolerance(max_difference=7))
    assert (found.max_difference, found.passed) == (7, True)
    assert found.mean_difference == pytest.approx(7 / (40 * 48 * 3) / 2, abs=1e-4)
    # 3 of 4 pixels are 10 levels off, the others 30: on luma by 219/255 of that.
    mse = (0.75 * 10**2 + 0.25 * 30**2) * (219 / 255) ** 2
    alone = compare(photos[:1], results[:1], 2, Tolerance())
    assert alone.psnr == pytest.approx(10 * np.log10(255**2 / mse), abs=0.01)
    assert alone.psnr_loss == 0


@pytest.mark.parametrize(
    ("tolerance", "passed"),
    [
        (Tolerance(), True),
        (Tolerance(max_difference=2), True),
        (Tolerance(max_difference=1), False),
        (Tolerance(psnr_loss=5.0), True),
        (Tolerance(psnr_loss=0.001), False),
    ],
)
def test_tolerances(tolerance, passed):
    photo = reference_photo()
    worse = photo.reference - 2
    assert compare([photo], [worse], 2, tolerance).passed is passed


def test_the_help_has_the_tolerances(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        cli.main(["export", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    limits = [f"{mode} {t.psnr_loss:g}" for mode, t in TOLERANCES.items() if t.psnr_loss]
    assert f"default: {', '.join(limits)}; float32 and saved-model 1 grey level" in shown


def test_photos_are_held_out_from_calibration(generator, tmp_path):
    for index in range(6):
        Image.new("RGB", (200, 210), (40 * index,) * 3).save(tmp_path / f"{index}.png")
    engine = KerasEngine(generator)
    photos = fidelity.reference_photos(str(tmp_path), engine, held_out=True)
    assert [photo.name for photo in photos] == ["2.png", "5.png"]
    calibration = fidelity.calibration_photos(str(tmp_path), 2, held_out=True)
    levels = {round(float(level) * 255) for batch in calibration for level in batch[:, 0, 0, 0]}
    assert levels == {0, 40, 120, 160}
    assert {batch.shape for batch in calibration} == {(8, 96, 96, 3)}


def test_calibration_uses_photos_at_equal_distances(tmp_path, monkeypatch):
    photos = [np.full((192, 200, 3), level, np.uint8) for level in range(100)]
    for number in (24, 25, 100):
        named = [(str(level), photo) for level, photo in enumerate(photos[:number])]
        source = PhotoSource("photos", "key", number, partial(iter, named))
        monkeypatch.setattr(fidelity, "open_source", lambda name, source=source: source)
        batches = fidelity.calibration_photos("photos", 2, held_out=False)
        levels = np.rint(np.concatenate(batches)[:, 0, 0, 0] * 255).astype(int)
        assert len(levels) == 24
        distances = np.diff(np.unique(levels))
        assert set(distances) == {{24: 1, 25: 2, 100: 8}[number]}
        assert np.unique(levels)[-1] > number - 9


def test_photos_fit_the_scale(generator, tmp_path):
    Image.new("RGB", (601, 33)).save(tmp_path / "wide.png")
    Image.new("RGB", (5, 4)).save(tmp_path / "tiny.png")
    (tmp_path / "broken.png").touch()
    engine = KerasEngine(generator)
    (photo,) = fidelity.reference_photos(str(tmp_path), engine, held_out=False)
    assert photo.hr.shape == photo.reference.shape == (32, 512, 3)
    assert photo.lr.shape == (16, 256, 3)
    (fixed,) = fidelity.reference_photos(str(tmp_path), engine, held_out=False, size=(16, 20))
    assert fixed.lr.shape == (16, 20, 3)
    with pytest.raises(UserError, match="no photo is large enough to compare on: 17×20"):
        fidelity.reference_photos(str(tmp_path), engine, held_out=False, size=(17, 20))
    with pytest.raises(UserError, match="at least 192×192"):
        fidelity.calibration_photos(str(tmp_path), 2, held_out=False)


def test_side_by_side_shows_every_result():
    photo = reference_photo()
    sheet = fidelity.side_by_side(photo, {"a": photo.reference, "b": photo.reference + 2})
    assert sheet.size == (4 * 48, 2 * (40 + 14))
    pixels = np.asarray(sheet)
    assert pixels[14 + 20, 2 * 48 + 5].tolist() == photo.reference[20, 5].tolist()
    assert (pixels[-20, 2 * 48 + 5] == 128).all() and (pixels[-20, 3 * 48 + 5] == 160).all()
