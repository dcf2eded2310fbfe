"""Releases are replaced by scores on held-out photos, not on benchmark sets."""

import copy
import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location(
    "release", Path(__file__).parents[1] / "tools" / "release.py"
)
release = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(release)

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
def test_a_release_is_replaced_by_what_is_better_on_the_same_held_out_photos(card, reason):
    found = release.reason_to_keep(CARD, card)
    assert (found is None) if reason is None else (reason in found)
