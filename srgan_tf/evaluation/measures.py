"""What results are measured by: fidelity to HR, perceptual distance from it, and blur."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
import tempfile
import threading
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from skimage.filters import window
from skimage.measure import blur_effect

from srgan_tf.errors import ImageError, RequestError
from srgan_tf.losses import VggFeatures
from srgan_tf.metrics import luma, psnr_y, ssim_y

VGG_CROP = 192
"""Side of the central square that VGG54 looks at, in pixels: features of a whole photo of BSD100
cost as much as to enlarge it four times."""

_ALEXNET = "torchvision's AlexNet weights, alexnet-owt-7be5be79.pth"
_ALEXNET_SIDE = 31  # pixels of which its second pooling leaves one


@dataclass(frozen=True)
class Measure:
    """How a measure is written.

    Attributes:
        heading: with its unit.
        format: of its values.
        better: `higher`, `lower` or `near HR's`.
        meaning: in a sentence.
        packages: that it is taken with, beside what everything here needs.
    """

    heading: str
    format: str
    better: str
    meaning: str
    packages: tuple[str, ...] = ()


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
    "lpips": Measure(
        "LPIPS",
        ".3f",
        "lower",
        "of Zhang et al. 2018, version 0.1 with AlexNet, on the whole RGB image, by torchmetrics",
        ("torch", "torchvision", "torchmetrics"),
    ),
    "blur_effect": Measure(
        "blur effect",
        ".3f",
        "near HR's",
        "of Crete et al. 2007, without a reference, on Y without the border, by scikit-image (0 is "
        "sharp, 1 blurred; noise, ringing and blocks count as sharp, so that less than HR's is no "
        "merit)",
        ("scikit-image",),
    ),
    "top_octave": Measure(
        "top octave, dB",
        ".1f",
        "near 0",
        "power of Y at the finest detail, from half of the highest frequency up, in the radially "
        "averaged spectrum, against HR's (less: blurred; more: noise or invented detail)",
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


class Lpips:
    """LPIPS (Zhang et al., CVPR 2018, version 0.1) with AlexNet, on RGB without a border cut.

    Args:
        weights: torchvision's file of AlexNet's weights.

    Raises:
        RequestError: no such file, one of another network, or torchmetrics or torchvision is
            missing.
    """

    names = ("lpips",)

    def __init__(self, weights: Path):
        if not weights.is_file():
            raise RequestError(f"--lpips {weights}: no such file; give {_ALEXNET}")
        self._metric = _open_lpips(weights)
        # A torchmetrics metric keeps what it was last given.
        self._lock = threading.Lock()
        self.identity = (
            f"lpips alex torchmetrics {importlib.metadata.version('torchmetrics')} "
            f"{hashlib.sha256(weights.read_bytes()).hexdigest()}"
        )

    def reference(self, hr: np.ndarray) -> Any:
        return hr

    def __call__(self, sr: np.ndarray, reference: Any, scale: int) -> dict[str, float]:
        """Raises ImageError when a side has less pixels than AlexNet needs."""
        import torch

        if min(sr.shape[:2]) < _ALEXNET_SIDE:
            raise ImageError(f"LPIPS needs at least {_ALEXNET_SIDE} pixels a side")
        with self._lock, torch.inference_mode():
            value = self._metric(
                *(torch.tensor(x).permute(2, 0, 1)[None] / 255 for x in (reference, sr))
            )
            self._metric.reset()
        return {"lpips": float(value)}


def _open_lpips(weights: Path) -> Any:
    # torch takes triton, which it doesn't need here, for missing: importing it after TensorFlow
    # 2.20 or newer crashes the process (tensorflow issue 124205).
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
    try:
        import torch
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        from torchvision.models import AlexNet_Weights
    except (ImportError, RuntimeError) as error:  # Runtime: a torchvision of another torch
        raise RequestError(
            f"--lpips needs torchmetrics and torchvision: pip install 'srgan-tf[lpips]' ({error})"
        ) from error
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        # torchmetrics has AlexNet from torchvision alone, and that looks here before it downloads.
        file = Path(folder, "checkpoints", Path(AlexNet_Weights.DEFAULT.url).name)
        file.parent.mkdir()
        torch.hub.set_dir(folder)
        try:
            # Written anew, as torchvision would carry out what else a file may have in it.
            torch.save(torch.load(weights, map_location="cpu", weights_only=True), file)
            return LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
        except Exception as error:
            raise RequestError(f"--lpips {weights}: not AlexNet's; give {_ALEXNET}") from error
        finally:
            torch.hub.set_dir(before)


class BlurEffect:
    """The blur effect (Crete et al., SPIE 6492, 2007) on Y without a border of `scale` pixels.

    It needs no HR: 0 is sharp, 1 blurred.
    """

    names = ("blur_effect",)
    identity = f"blur effect scikit-image {importlib.metadata.version('scikit-image')}"

    def reference(self, hr: np.ndarray) -> Any:
        return None

    def __call__(self, sr: np.ndarray, reference: Any, scale: int) -> dict[str, float]:
        return {"blur_effect": float(blur_effect(_luma_within(sr, scale) / 255))}


class TopOctave:
    """Power of the finest detail of Y against HR's, in dB: 0 is as much of it, -3 is half.

    The finest detail is the top octave, from 0.25 to 0.5 cycles a pixel, of the radially averaged
    power spectrum, without a border of `scale` pixels and under a Hann window.
    """

    names = ("top_octave",)
    identity = "top octave 1"

    def reference(self, hr: np.ndarray) -> Any:
        """HR's power as a function of the border, computed once."""
        return cache(partial(_top_octave_power, hr))

    def __call__(self, sr: np.ndarray, reference: Any, scale: int) -> dict[str, float]:
        found, wanted = _top_octave_power(sr, scale), reference(scale)
        # A constant image has no detail: both get a power far below that of one grey level.
        return {"top_octave": float(10 * np.log10((found + 1e-6) / (wanted + 1e-6)))}


def _top_octave_power(image: np.ndarray, border: int) -> float:
    y = _luma_within(image, border)
    windowed = (y - y.mean()) * window("hann", y.shape)
    power = np.abs(np.fft.fft2(windowed)) ** 2 / y.size
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, y.shape), indexing="ij"))
    rings = (radius * min(y.shape)).astype(int)
    averages = np.bincount(rings.ravel(), power.ravel()) / np.maximum(np.bincount(rings.ravel()), 1)
    return float(averages[min(y.shape) // 4 : min(y.shape) // 2].mean())


def _luma_within(image: np.ndarray, border: int) -> np.ndarray:
    return luma(image).numpy()[border:-border, border:-border, 0].astype(np.float64)


Taken = Fidelity | Vgg54 | Lpips | BlurEffect | TopOctave


def open_measures(vgg: str, lpips: Path | None = None) -> tuple[list[Taken], list[str]]:
    """The measures that can be taken here.

    Args:
        vgg: `imagenet`, the file of VGG19's weights without top, or `none`.
        lpips: torchvision's file of AlexNet's weights.

    Returns:
        The measures, and a sentence on each that can't be taken.

    Raises:
        RequestError: no such file, or LPIPS can't be taken with it.
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
    if lpips is not None:
        measures.append(Lpips(lpips))
    else:
        notes.append("LPIPS was not measured: --lpips FILE, AlexNet's weights, was not given.")
    measures += [BlurEffect(), TopOctave()]
    return measures, notes
