"""Releases: their learning curves, and whether a run replaces one."""

import copy

import pytest
import release
import tensorflow as tf

CARD = {
    "data": {"photos": 100, "held_out": 16, "fingerprint": "abc"},
    "recipe": {"seed": 1, "data": {"validation_crop": 256, "batch_size": 16}},
    "validation": {"psnr": 26.5, "ssim": 0.7},
    "scores": {"Set5": {"psnr": 31.0}},
}


def changed(**values):
    """Return a copy of the card with values at paths such as data__held_out."""
    card = copy.deepcopy(CARD)
    for path, value in values.items():
        *sections, key = path.split("__")
        place = card
        for section in sections:
            place = place[section]
        place[key] = value
    return card


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (changed(validation__psnr=26.6, scores__Set5={"psnr": 30.0}), None),
        (changed(validation__psnr=26.6, recipe__data__batch_size=32), None),
        (changed(validation__psnr=26.5, scores__Set5={"psnr": 33.0}), "has 26.500 dB on held-out"),
        (changed(validation__psnr=27.0, data__fingerprint="def"), "other photos"),
        (changed(validation__psnr=27.0, recipe__seed=2), "other photos"),
        (changed(validation__psnr=27.0, recipe__data__validation_crop=96), "other photos"),
        (changed(validation__psnr=27.0, recipe__data__degradation="photo"), "other photos"),
    ],
)
def test_a_release_is_replaced_if_the_run_is_better_on_the_same_held_out_photos(card, reason):
    found = release.reason_to_keep(CARD, card)
    assert (found is None) if reason is None else (reason in found)


def test_interpolated_weights_without_a_validation_are_not_compared():
    interpolated = {key: value for key, value in CARD.items() if key != "validation"}
    for before, card in ((CARD, interpolated), (interpolated, CARD)):
        assert "was not validated" in release.reason_to_keep(before, card)


def test_the_curve_of_a_gan_has_validations_and_every_loss(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path)).as_default() as writer:
        for name, value in (("d_loss", 0.5), ("vgg54", 0.25)):
            tf.summary.scalar(f"train/{name}", value, step=1)
        tf.summary.scalar("steps_per_second", 9.0, step=1)
        tf.summary.scalar("validation/psnr", 30.0, step=2)
        tf.summary.scalar("validation/ssim", 0.75, step=2)
        writer.flush()
    assert release.curve(tmp_path) == [
        {"step": 1, "d_loss": 0.5, "vgg54": 0.25},
        {"step": 2, "psnr": 30.0, "ssim": 0.75},
    ]


def test_folders_are_not_published():
    recipe = {"data": {"source": "/home/me/photos"}, "gan": [{"start_from": "runs/a"}]}
    release.strip_folders(recipe)
    assert recipe == {"data": {"source": "photos"}, "gan": [{"start_from": "a"}]}
    release.strip_folders(tfds := {"source": "tfds:div2k/bicubic_x4"})
    assert tfds == {"source": "tfds:div2k/bicubic_x4"}


def test_a_run_without_logs_has_no_curve(tmp_path):
    assert release.curve(tmp_path / "logs") == []
