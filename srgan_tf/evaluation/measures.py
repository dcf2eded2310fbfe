"""What results are measured by: fidelity to HR, and perceptual distance from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from srgan_tf.errors import RequestError
from srgan_tf.losses import VggFeatures
from srgan_tf.metrics import psnr_y, ssim_y

VGG_CROP = 192
"""Side of the central square that VGG54 looks at, in pixels: features of a whole photo of BSD100
cost as much as to enlarge it four times."""


@dataclass(frozen=True)
class Measure:
    """How a measure is written.

    Attributes:
        heading: with its unit.
        format: of its values.
        better: `higher` or `lower`.
        meaning: in a sentence.
    """

    heading: str
    format: str
    better: str
    meaning: str


MEASURES = {
    "psnr": Measure("PSNR, dB", ".2f", "higher", "on Y without the border"),
    "ssim": Measure(
        "SSIM", ".4f", "higher", "on Y without the border, with a Gaussian window of 11×11, σ 1.5"
    ),
    "vgg54": Measure(
        "VGG54 distance",
        ".3f",
        "lower",
        "mean squared difference of VGG19's feature maps after the fourth convolution before the "
        f"fifth pooling, scaled by 1/12.75, of the central {VGG_CROP}×{VGG_CROP} pixels",
    ),
}


class Fidelity:
    """PSNR and SSIM on Y without a border of `scale` pixels."""

    names = ("psnr", "ssim")
    identity = "fidelity"

    def reference(self, hr: np.ndarray) -> Any:
        """What the measure needs of HR, once an image."""
        return hr

    def __call__(self, sr: np.ndarray, reference: Any, scale: int) -> dict[str, float]:
        """Measures by name, of uint8 [H, W, 3]."""
        return {
            "psnr": float(psnr_y(reference, sr, border=scale)),
            "ssim": float(ssim_y(reference, sr, border=scale)),
        }


class Vgg54:
    """The distance of VGG19's feature maps.

    Args:
        weights: `imagenet` (downloaded by Keras) or a `.weights.h5` without top.
    """

    names = ("vgg54",)

    def __init__(self, weights: str):
        self.weights = weights

    @cached_property
    def identity(self) -> str:
        """Of the weights and of the crop."""
        file = Path(self.weights)
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else self.weights
        return f"vgg54 {VGG_CROP} {digest}"

    @cached_property
    def _features(self):
        features = VggFeatures("vgg54", self.weights)
        pixels = tf.TensorSpec([None, None, 3], tf.uint8)
        return tf.function(
            lambda image: features(tf.cast(image, tf.float32)[None] / 127.5 - 1.0),
            input_signature=[pixels],
        )

    def reference(self, hr: np.ndarray) -> Any:
        return self._features(_centre(hr, VGG_CROP))

    def __call__(self, sr: np.ndarray, reference: Any, scale: int) -> dict[str, float]:
        features = self._features(_centre(sr, VGG_CROP))
        return {"vgg54": float(tf.reduce_mean(tf.square(features - reference)))}


def _centre(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


Taken = Fidelity | Vgg54


def open_measures(vgg: str) -> tuple[list[Taken], list[str]]:
    """The measures that can be taken here.

    Args:
        vgg: `imagenet`, the file of VGG19's weights without top, or `none`.

    Returns:
        The measures, and a sentence on each that can't be taken.

    Raises:
        RequestError: no such file.
    """
    measures: list[Taken] = [Fidelity()]
    notes = []
    if vgg == "imagenet":
        try:
            VggFeatures("vgg54")  # Keras has the weights, or can download them
            measures.append(Vgg54(vgg))
        except RequestError:
            notes.append(
                "The VGG54 distance was not measured: VGG19's weights can't be downloaded here, "
                "and --vgg FILE was not given."
            )
    elif vgg != "none":
        if not Path(vgg).is_file():
            raise RequestError(f"--vgg {vgg}: no such file; give VGG19's weights without top")
        measures.append(Vgg54(vgg))
    return measures, notes
