"""Random degradation of HR crops to LR like that of photos: blur, resizing, noise, compression.

The functions are pure, given an image and a random generator, and use NumPy and Pillow, that is,
libjpeg and libwebp. The order of a pass and its repetition follow Real-ESRGAN (Wang et al. 2021,
section 3).
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from srgan_tf.resize import bicubic_downscale, resize_matrix, round_to_uint8

if TYPE_CHECKING:
    from srgan_tf.config import (
        BlurConfig,
        CompressionConfig,
        DegradationConfig,
        DegradationPass,
        NoiseConfig,
    )


def degrade(
    hr: np.ndarray, scale: int, config: DegradationConfig | None, rng: np.random.Generator
) -> np.ndarray:
    """Degrade an HR crop to LR, by the passes of a recipe.

    Args:
        hr: uint8 [H, W, 3]; H and W multiples of `scale`.
        scale: ratio of HR's side to LR's.
        config: the recipe's `data.degradation`; None for MATLAB's bicubic downscaling.
        rng: source of all random choices.

    Returns:
        uint8 [H/scale, W/scale, 3].
    """
    if config is None or rng.random() < config.clean:
        return bicubic_downscale(hr, scale)
    *earlier, last = config.passes
    image = hr
    for earlier_pass in earlier:
        if rng.random() < earlier_pass.probability:
            factor = rng.uniform(*earlier_pass.size)
            shape = [max(1, round(side * factor)) for side in hr.shape[:2]]
            image = _apply(earlier_pass, image, shape, rng)
    return _apply(last, image, [side // scale for side in hr.shape[:2]], rng)


def _apply(
    config: DegradationPass, image: np.ndarray, shape: list[int], rng: np.random.Generator
) -> np.ndarray:
    """Apply a pass to uint8 [H, W, 3]; the result's height and width are `shape`."""
    kernel = config.filters[rng.integers(len(config.filters))]
    matrices = [
        _resize_matrix(old, new, kernel) for old, new in zip(image.shape, shape, strict=False)
    ]
    if config.blur is not None and rng.random() < config.blur.probability:
        # σ is in pixels of the smaller image.
        unit = max(1.0, image.shape[0] / shape[0])
        blurs = _blurs(image.shape, unit, config.blur, rng)
        matrices = [resize @ blur for resize, blur in zip(matrices, blurs, strict=True)]
    rows, columns = matrices
    pixels = (rows @ image.reshape(len(image), -1).astype(np.float32)).reshape(shape[0], -1, 3)
    pixels = columns @ pixels.transpose(1, 0, 2).reshape(len(columns[0]), -1)
    pixels = pixels.reshape(*shape[::-1], 3).transpose(1, 0, 2)
    if config.noise is not None and rng.random() < config.noise.probability:
        pixels = _add_noise(pixels, config.noise, rng)
    result = round_to_uint8(pixels)
    for codec in ("webp", "jpeg"):
        settings: CompressionConfig | None = getattr(config, codec)
        if settings is not None and rng.random() < settings.probability:
            return _compress(result, codec, settings, rng)
    return result


# More sizes than `bicubic_matrix` caches, as passes resize to random ones.
_resize_matrix = functools.lru_cache(maxsize=1024)(resize_matrix)


def _blurs(
    shape: tuple[int, ...], unit: float, config: BlurConfig, rng: np.random.Generator
) -> list[np.ndarray]:
    """Draw a separable blur: a matrix for the rows and one for the columns."""
    if rng.random() < config.sinc:
        cutoff = rng.uniform(0.5, 1.0) / unit  # as a share of the Nyquist frequency
        return [_low_pass(side, cutoff) for side in shape[:2]]
    sigma = rng.uniform(*config.sigma)
    stretch = rng.uniform(1.0, config.anisotropy)
    sigmas = [sigma * stretch, sigma / stretch]
    if rng.integers(2):
        sigmas.reverse()
    return [_gaussian(side, s * unit) for side, s in zip(shape, sigmas, strict=False)]


@functools.lru_cache
def _distances(side: int) -> np.ndarray:
    pixels = np.arange(side)
    return np.abs(pixels[:, None] - pixels)


def _filter_matrix(weights: np.ndarray) -> np.ndarray:
    """Return the matrix of a symmetric filter, given its weights by distance."""
    matrix = weights.astype(np.float32)[_distances(len(weights))]
    return matrix / matrix.sum(1, keepdims=True)


def _gaussian(side: int, sigma: float) -> np.ndarray:
    return _filter_matrix(np.exp(-0.5 * np.square(np.arange(side) / max(sigma, 0.05))))


def _low_pass(side: int, cutoff: float) -> np.ndarray:
    reach = 4.0 / cutoff
    distances = np.arange(side)
    window = np.where(distances < reach, np.cos(0.5 * np.pi * distances / reach), 0.0)
    return _filter_matrix(np.sinc(cutoff * distances) * window)


def _add_noise(pixels: np.ndarray, config: NoiseConfig, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise, or noise with a variance ∝ brightness, which approximates Poisson's."""
    low, high = config.sigma
    sigma = np.float32(low + (high - low) * rng.random() ** 2)  # most photos have little noise
    channels = 1 if rng.random() < config.grey else 3
    noise = rng.standard_normal((*pixels.shape[:2], channels), np.float32)
    if rng.random() < config.poisson:
        light = pixels.mean(-1, keepdims=True) if channels == 1 else pixels
        noise = noise * np.sqrt(np.maximum(light, 0.0) / np.float32(128))
    return pixels + sigma * noise


def _compress(
    image: np.ndarray, codec: str, config: CompressionConfig, rng: np.random.Generator
) -> np.ndarray:
    """Compress and decode, with the codec's grid of blocks at a random position."""
    quality = int(rng.integers(config.quality[0], config.quality[1] + 1))
    offsets = rng.integers(0, 16, 2)
    rows, columns = (
        _mirrored(side, int(offset)) for side, offset in zip(image.shape, offsets, strict=False)
    )
    if codec == "jpeg":
        options = {"subsampling": 2 if rng.random() < config.subsampled else 0}  # 4:2:0 or 4:4:4
    else:
        options = {"method": 2}  # lossy WebP is always 4:2:0
    file = io.BytesIO()
    Image.fromarray(image[rows[:, None], columns]).save(file, codec, quality=quality, **options)
    saved = np.asarray(Image.open(file, formats=(codec,)))
    height, width = image.shape[:2]
    return saved[offsets[0] : offsets[0] + height, offsets[1] : offsets[1] + width]


@functools.lru_cache(maxsize=4096)
def _mirrored(side: int, before: int) -> np.ndarray:
    """Return the indices of an axis with `before` mirrored pixels in front."""
    indices = np.abs(np.arange(-before, side)) % (2 * side)
    return np.minimum(indices, 2 * side - 1 - indices)
