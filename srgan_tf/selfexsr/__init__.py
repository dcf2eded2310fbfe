"""SelfExSR: super-resolution from transformed self-exemplars (Huang, Singh and Ahuja 2015).

It needs no training: each patch of the image is replaced by a larger, similar one from elsewhere in
the image, transformed according to the planes of the scene.

The parameters are those of the authors' program, with these differences: it works on Y instead of
RGB, with the weights of the costs divided by three; segments come from LSD and vanishing points
from pairs of segments, instead of a closed program; the density of segments is relative to the
image's size.
"""

from __future__ import annotations

import numpy as np
from skimage.color import rgb2ycbcr, ycbcr2rgb
from tqdm import tqdm

from srgan_tf.errors import UserError, install_command
from srgan_tf.inference.tiles import cut_tiles

MIN_SIDE = 32
# A tile's side after enlargement. A result of 2304×2304, overlap included, takes 0.5 GB.
_TILE = 2048
_OVERLAP = 32


def upscale(
    pixels: np.ndarray, scale: int = 4, seed: int = 0, progress: bool = False
) -> np.ndarray:
    """Enlarge an image from its own patches: Y by SelfExSR, Cb and Cr by bicubic.

    Images with sides above 512 pixels (at ×4) are enlarged in overlapping tiles, each from its own
    patches, so that memory besides the result stays below 1 GB.

    Args:
        pixels: uint8, RGB [H, W, 3] or grey [H, W], with sides of at least 32 pixels.
        scale: 2 to 8.
        seed: of the random search; results are reproducible.
        progress: show a progress bar if stderr is a terminal.

    Returns:
        uint8 [scale·H, scale·W, 3] or [scale·H, scale·W].

    Raises:
        UserError: Numba or OpenCV is not installed, or the image is too small.
        ValueError: another dtype, shape or scale.

    Example:
        >>> upscale(np.zeros((40, 32, 3), np.uint8)).shape
        (160, 128, 3)
    """
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"pixels must be a NumPy array, not {type(pixels).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"pixels must be uint8 [H, W] or [H, W, 3], not {pixels.dtype} {pixels.shape}"
        )
    if not isinstance(scale, int) or scale not in range(2, 9):
        raise ValueError(f"the scale must be an integer from 2 to 8, not {scale}")
    size = pixels.shape[:2]
    if min(size) < MIN_SIDE:
        raise UserError(
            f"SelfExSR needs sides of at least {MIN_SIDE} pixels, not {size[1]}×{size[0]}"
        )
    try:
        from srgan_tf.selfexsr.planes import detect_planes
        from srgan_tf.selfexsr.synthesis import enlarge, resize, schedule
    except ModuleNotFoundError as error:
        raise UserError(f"SelfExSR needs {error.name}: {install_command('selfexsr')}") from None
    colour = pixels.ndim == 3
    planes = detect_planes(pixels)
    enlarged = np.empty((scale * size[0], scale * size[1], *pixels.shape[2:]), np.uint8)
    tiles = cut_tiles(size, scale, _TILE // scale, _OVERLAP)
    height, width = (side.stop - side.start for side in tiles[0].read)
    total = len(tiles) * sum(n * h * w for (h, w), n in schedule(height, width, scale))
    # None shows the bar on a terminal only.
    disable = None if progress else True
    with tqdm(total=total, unit="px", unit_scale=True, leave=False, disable=disable) as bar:
        for tile in tiles:
            lr = pixels[tile.read]
            channels = (rgb2ycbcr(lr) if colour else lr[..., None]).astype(np.float32) / 255.0
            y = enlarge(channels[..., 0], planes.crop(tile.read, size), scale, seed, bar.update)
            chroma = [resize(channels[..., c], y.shape) for c in range(1, channels.shape[2])]
            sr = 255.0 * np.stack([y, *chroma], axis=-1)
            sr = 255.0 * ycbcr2rgb(sr) if colour else sr[..., 0]
            enlarged[tile.write] = np.rint(sr.clip(0.0, 255.0))[tile.crop]
    return enlarged
