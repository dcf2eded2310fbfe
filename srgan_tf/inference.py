"""Upscaler: enlarges arrays and image files with a generator, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from scipy import ndimage
from tqdm import tqdm

from srgan_tf import images
from srgan_tf.engines import Engine, open_engine
from srgan_tf.errors import ImageError, RequestError
from srgan_tf.tiles import cut
from srgan_tf.weights import default_model

DEFAULT_TILE = 512
PRECISIONS = ("float32", "mixed_bfloat16")
# Two results (one being written, one being computed) are held at once only below this.
_MEMORY_FOR_RESULTS = 256 * 2**20


class Upscaler:
    """Enlarges photos with a generator.

    Photos of any size are enlarged in overlapping tiles. The overlap is the generator's
    receptive field, so the result is that of the whole photo at once. Memory beyond the
    result's own, H·W·scale² pixels, does not grow with the photo's size.

    Grey goes through the network as RGB and comes back as the mean of the channels. Alpha
    is enlarged bicubically, which keeps opaque and transparent areas exactly so; the
    colours of invisible pixels are replaced by those of the nearest visible ones, lest
    they bleed into the edges.

    Args:
        model: a released name, a `.keras` file or a run folder; None: the best released.
        tile: side of a tile in LR pixels, without the overlap.
        self_ensemble: average the results of the 8 flips and quarter turns; 8 times slower.
        precision: `float32`, or `mixed_bfloat16`: faster on CPUs with AVX-512 BF16 or AMX and on
            newer GPUs, slower elsewhere; costs about 0.01 dB.
        progress: show a progress bar on stderr when it is a terminal.

    Attributes:
        scale: how many times as wide and high a result is.

    Raises:
        RequestError: no such model or precision, or a tile below 1.

    Example:
        >>> upscaler = Upscaler("srresnet-mse")
        >>> upscaler.upscale(np.zeros((120, 80, 3), np.uint8)).shape
        (480, 320, 3)
    """

    def __init__(
        self,
        model: str | Path | None = None,
        tile: int = DEFAULT_TILE,
        self_ensemble: bool = False,
        precision: str = "float32",
        progress: bool = False,
    ):
        if tile < 1:
            raise RequestError(f"a tile's side must be at least 1 pixel, not {tile}")
        if precision not in PRECISIONS:
            raise RequestError(f"precision is {' or '.join(PRECISIONS)}, not {precision}")
        engine = open_engine(default_model() if model is None else model, precision)
        self.scale, self._overlap = engine.scale, engine.radius
        self._enlarge = _self_ensemble(engine) if self_ensemble else engine
        self._tile = tile
        self._progress = progress

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarges an image.

        Args:
            pixels: uint8 or uint16 over the type's whole range; grey [H, W], grey and
                alpha [H, W, 2], RGB [H, W, 3] or RGB and alpha [H, W, 4].

        Returns:
            The same type and channels, [scale·H, scale·W] or [scale·H, scale·W, C].

        Raises:
            ValueError: another type or shape, or no pixel.
        """
        if pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels must be uint8 or uint16, not {pixels.dtype}")
        if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (2,), (3,), (4,)):
            raise ValueError(f"pixels must be [H, W] or [H, W, 2 to 4], not {pixels.shape}")
        if not pixels.size:
            raise ValueError(f"no pixel in {pixels.shape}")
        channels = pixels[..., None] if pixels.ndim == 2 else pixels
        channels = _fill_transparent(channels)
        height, width = (self.scale * side for side in channels.shape[:2])
        enlarged = np.empty((height, width, channels.shape[2]), pixels.dtype)
        tiles = cut(channels.shape[:2], self.scale, self._tile, self._overlap)
        # None: only on a terminal.
        disable = None if self._progress else True
        for tile in tqdm(tiles, unit="tile", leave=False, disable=disable):
            enlarged[tile.write] = self._upscale_tile(channels[tile.read])[tile.crop]
        return enlarged.reshape((height, width, *pixels.shape[2:]))

    def upscale_file(self, source: str | Path, target: str | Path) -> None:
        """Enlarges an image file; the target, written whole, has its suffix's format.

        EXIF orientation is applied; alpha, ICC profile, DPI and 16 bits a channel are
        kept; see `srgan_tf.images` for formats.

        Raises:
            ImageError: the source can't be read, or the target can't hold it.
        """
        for _, _, error in self.upscale_files([(source, target)]):
            if error is not None:
                raise error

    def upscale_files(
        self, files: Iterable[tuple[str | Path, str | Path]]
    ) -> Iterator[tuple[Path, Path, ImageError | None]]:
        """Enlarges (source, target) files; one is read and one written beside the network.

        Yields:
            (source, target, None), or an ImageError in place of None, in order.
        """
        jobs = [(Path(source), Path(target)) for source, target in files]
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading = [reader.submit(self._read, *job) for job in jobs[:1]]
            writing: list[tuple[Path, Path, Future]] = []
            bytes_written = 0
            for index, (source, target) in enumerate(jobs):
                read = reading.pop()
                # Only one photo ahead: a folder of huge ones must not fill the memory.
                reading += [reader.submit(self._read, *job) for job in jobs[index + 1 : index + 2]]
                done: Future = Future()
                try:
                    photo = read.result()
                    size = photo.pixels.nbytes * self.scale**2
                    if writing and bytes_written + size > _MEMORY_FOR_RESULTS:
                        yield _finished(*writing.pop())
                    # No name for the result here, which would keep it in memory.
                    done = writer.submit(
                        images.write_image,
                        target,
                        self.upscale(photo.pixels),
                        photo.icc_profile,
                        photo.dpi,
                    )
                    bytes_written = size
                except ImageError as error:
                    done.set_exception(error)
                except MemoryError:
                    done.set_exception(ImageError(f"{source}: its enlargement is too large"))
                if writing:
                    yield _finished(*writing.pop())
                writing.append((source, target, done))
            if writing:
                yield _finished(*writing.pop())

    def _read(self, source: Path, target: Path) -> images.Photo:
        photo = images.read_image(source)
        height, width = (self.scale * side for side in photo.pixels.shape[:2])
        images.check_writable(target, height, width, _has_alpha(photo.pixels))
        return photo

    def _upscale_tile(self, pixels: np.ndarray) -> np.ndarray:
        """[h, w, C] to [scale·h, scale·w, C], without tiles."""
        colours = pixels.shape[2] - _has_alpha(pixels)
        levels = np.iinfo(pixels.dtype).max
        lr = tf.cast(pixels[None, ..., :colours], tf.float32) / levels
        sr = self._enlarge(tf.repeat(lr, 3 // colours, axis=-1))
        if colours == 1:
            sr = tf.reduce_mean(sr, axis=-1, keepdims=True)
        convert = images.to_uint8 if pixels.dtype == np.uint8 else images.to_uint16
        enlarged = convert(sr)[0].numpy()
        if not _has_alpha(pixels):
            return enlarged
        alpha = tf.image.resize(pixels[..., -1:], enlarged.shape[:2], "bicubic")
        alpha = np.clip(np.rint(alpha), 0, levels).astype(pixels.dtype)
        return np.concatenate([enlarged, alpha], axis=-1)


def _self_ensemble(engine: Engine) -> Callable[[tf.Tensor], tf.Tensor]:
    def averaged(lr: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for turns in range(4):
            for step in (1, -1):  # as it is, and mirrored
                sr = engine(tf.image.rot90(lr[:, :, ::step], turns))
                total += tf.image.rot90(sr, -turns)[:, :, ::step]
        return total / 8.0

    return averaged


def _has_alpha(pixels: np.ndarray) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] in (2, 4)


def _fill_transparent(pixels: np.ndarray) -> np.ndarray:
    """Gives invisible pixels of [H, W, C] the colour of the nearest visible one."""
    if not _has_alpha(pixels):
        return pixels
    invisible = pixels[..., -1] == 0
    if not invisible.any() or invisible.all():
        return pixels
    nearest = ndimage.distance_transform_edt(invisible, return_distances=False, return_indices=True)
    filled = pixels[tuple(nearest)]
    filled[..., -1] = pixels[..., -1]
    return filled


def _finished(source: Path, target: Path, done: Future) -> tuple[Path, Path, ImageError | None]:
    try:
        done.result()
    except ImageError as error:
        return source, target, error
    return source, target, None
