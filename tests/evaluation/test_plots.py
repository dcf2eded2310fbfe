"""Plots of an evaluation."""

import pytest

from srgan_tf.evaluation.plots import _limits


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("psnr", [26.0, 30.0], (24.8, 31.3)),
        ("psnr", [26.0], (0.0, 32.5)),
        ("vgg54", [0.1, 0.2], (0.0, 0.25)),
        ("top_octave", [-20.0, -4.0, 0.0], (-25.0, 5.0)),
        ("top_octave", [-20.0, -4.0], (-25.0, 5.0)),
        ("top_octave", [0.0], (0.0, 1.0)),
    ],
)
def test_bars_and_their_labels_fit(metric, values, expected):
    assert _limits(metric, values) == pytest.approx(expected)
