"""Image quality metrics: distortion, perceptual distance and sharpness."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from skimage.filters import window
from skimage.measure import blur_effect

from srgan_tf.data.crops import central_crop
from srgan_tf.errors import UserError
from srgan_tf.evaluation.lpips import MIN_SIDE, AlexNetLpips
from srgan_tf.files import sha256
from srgan_tf.losses import VGG54, VggFeatures, paper_features
from srgan_tf.metrics import luma, psnr_y, ssim_y
from srgan_tf.ranges import normalize

VGG_CROP = 192
"""Side in pixels of the central square for VGG54. Features of an entire photo of BSD100 would take
as long as enlarging it four times."""


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is presented.

    Attributes:
        heading: name and unit.
        format: format specification of values.
        better: `higher`, `lower` or `near …`.
        meaning: a sentence.
    """

    heading: str
    format: str
    better: str
    meaning: str


METRICS = {
    "psnr": MetricInfo("PSNR, dB", ".2f", "higher", "on Y without the border"),
    "ssim": MetricInfo(
        "SSIM", ".4f", "higher", "on Y without the border, with a Gaussian window of 11×11, σ 1.5"
    ),
    "vgg54": MetricInfo(
        "VGG54 distance",
        ".3f",
        "lower",
        "mean squared difference of VGG19's feature maps after the fourth convolution before the "
        f"fifth pooling, scaled by 1/12.75, of the central {VGG_CROP}×{VGG_CROP} pixels",
    ),
    "lpips": MetricInfo(
        "LPIPS",
        ".3f",
        "lower",
        "of Zhang et al. 2018, version 0.1 with AlexNet, on RGB with the border",
    ),
    "blur_effect": MetricInfo(
        "blur effect",
        ".3f",
        "near HR's",
        "of Crete et al. 2007, without a reference, on Y without the border, by scikit-image (0 is "
        "sharp, 1 blurred; noise, ringing and blocks count as sharp, so a value below HR's is not "
        "better)",
    ),
    "top_octave": MetricInfo(
        "top octave, dB",
        ".1f",
        "near 0",
        "power of Y in the upper half of frequencies of the radially averaged spectrum, against "
        "HR's (less: blurred; more: noise or invented detail)",
    ),
}


class Metric(ABC):
    """A metric.

    Attributes:
        name: its key in `METRICS`.
        cache_key: changes whenever the same images would get another value.
    """

    name: str
    cache_key: str

    @abstractmethod
    def min_side(self, scale: int) -> int:
        """Return the smallest side of an image in pixels."""

    def reference(self, hr: np.ndarray) -> Any:
        """Compute the part that depends on HR only, once per image."""
        return hr

    @abstractmethod
    def __call__(self, sr: np.ndarray, reference: Any, scale: int) -> float:
        """Compute the metric of uint8 [H, W, 3]."""


class Psnr(Metric):
    """PSNR on Y without a border of `scale` pixels."""

    name = "psnr"
    cache_key = "psnr 2"

    def min_side(self, scale):
        return 2 * scale + 1

    def __call__(self, sr, reference, scale):
        return float(psnr_y(reference, sr, border=scale))


class Ssim(Metric):
    """SSIM on Y without a border of `scale` pixels."""

    name = "ssim"
    cache_key = "ssim 2"

    def min_side(self, scale):
        return 2 * scale + 11

    def __call__(self, sr, reference, scale):
        return float(ssim_y(reference, sr, border=scale))


class Vgg54(Metric):
    """Mean squared difference of VGG19's feature maps.

    Args:
        weights: `imagenet` (downloaded by Keras) or a `.weights.h5` without top.
    """

    name = "vgg54"

    def __init__(self, weights: str):
        file = Path(weights)
        digest = sha256(file) if file.is_file() else weights
        self.cache_key = f"vgg54 {VGG_CROP} {digest}"
        features = VggFeatures([VGG54], weights)
        self._features = tf.function(
            lambda image: paper_features(
                features(normalize(tf.cast(image, tf.float32)[None])), VGG54
            ),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )

    def min_side(self, scale):
        return 16  # four poolings leave one pixel

    def reference(self, hr):
        return self._features(central_crop(hr, (VGG_CROP, VGG_CROP)))

    def __call__(self, sr, reference, scale):
        features = self._features(central_crop(sr, (VGG_CROP, VGG_CROP)))
        return float(tf.reduce_mean(tf.square(features - reference)))


class Lpips(Metric):
    """LPIPS on RGB, border included.

    Args:
        weights: see `srgan_tf.evaluation.lpips.AlexNetLpips`.

    Raises:
        UserError: no such file, or not these weights.
    """

    name = "lpips"

    def __init__(self, weights: Path):
        self._lpips = AlexNetLpips(weights)
        self.cache_key = f"lpips {sha256(weights)}"

    def min_side(self, scale):
        return MIN_SIDE

    def reference(self, hr):
        return self._lpips.features(hr)

    def __call__(self, sr, reference, scale):
        return self._lpips.distance(self._lpips.features(sr), reference)


class BlurEffect(Metric):
    """The blur effect (Crete et al., SPIE 6492, 2007) on Y without a border of `scale` pixels.

    It needs no HR: 0 is sharp, 1 blurred or flat.
    """

    name = cache_key = "blur_effect"

    def min_side(self, scale):
        return 2 * scale + 4  # scikit-image ignores 3 at the edges

    def reference(self, hr):
        return None

    def __call__(self, sr, reference, scale):
        return float(blur_effect(luma(sr, scale) / 255))


class TopOctave(Metric):
    """Power of Y's finest detail relative to HR's, in dB: 0 for equal power, -3 for half.

    The finest detail is the top octave, 0.25 to 0.5 cycles per pixel, of the radially averaged
    power spectrum of a Hann window, without a border of `scale` pixels.
    """

    name = "top_octave"
    cache_key = "top octave 1"

    def min_side(self, scale):
        return 2 * scale + 4

    def reference(self, hr):
        """Return HR's power as a cached function of the border."""
        return cache(partial(_top_octave_power, hr))

    def __call__(self, sr, reference, scale):
        found, wanted = _top_octave_power(sr, scale), reference(scale)
        # A constant image has no power: add one far below that of a grey level to both.
        return float(10 * np.log10((found + 1e-6) / (wanted + 1e-6)))


def _top_octave_power(image: np.ndarray, border: int) -> float:
    y = luma(image, border)
    windowed = (y - y.mean()) * window("hann", y.shape)
    power = np.abs(np.fft.fft2(windowed)) ** 2 / y.size
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, y.shape), indexing="ij"))
    rings = (radius * min(y.shape)).astype(int)
    averages = np.bincount(rings.ravel(), power.ravel()) / np.maximum(np.bincount(rings.ravel()), 1)
    return float(averages[min(y.shape) // 4 : min(y.shape) // 2].mean())


def open_metrics(vgg: str, lpips: Path | None = None) -> tuple[list[Metric], list[str]]:
    """Return the available metrics.

    Args:
        vgg: `imagenet`, a file of VGG19's weights without top, or `none`.
        lpips: a file of AlexNet's weights for LPIPS.

    Returns:
        The metrics, and a sentence on each unavailable one.

    Raises:
        UserError: no such file, or not these weights.
    """
    metrics: list[Metric] = [Psnr(), Ssim()]
    notes = []
    if vgg == "imagenet":
        try:
            metrics.append(Vgg54(vgg))
        except UserError:  # not downloaded, and no network
            notes.append(
                "The VGG54 distance was not computed: VGG19's weights can't be downloaded; give "
                "them with --vgg FILE."
            )
    elif vgg != "none":
        if not Path(vgg).is_file():
            raise UserError(f"--vgg {vgg}: no such file; give VGG19's weights without top")
        metrics.append(Vgg54(vgg))
    if lpips is not None:
        metrics.append(Lpips(lpips))
    else:
        notes.append("LPIPS was not computed: give AlexNet's weights with --lpips FILE.")
    metrics += [BlurEffect(), TopOctave()]
    return metrics, notes
