"""Upscaler: enlarges arrays and image files with a generator, tile by tile."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyvips
from tqdm import tqdm

from srgan_tf import images
from srgan_tf.errors import ImageError, UserError
from srgan_tf.files import DEFAULT_QUALITY, first_line
from srgan_tf.inference import PRECISIONS
from srgan_tf.inference.engine import Engine, open_engine
from srgan_tf.inference.size import Size
from srgan_tf.inference.tiles import DEFAULT_TILE, Tile, cut
from srgan_tf.resize import bicubic_matrix, downscale
from srgan_tf.weights import default_model

# Two results (one being written, one being computed) are held at once only below this.
_MEMORY_FOR_RESULTS = 256 * 2**20
# A larger result is in a temporary file, so that memory doesn't grow with the photo's size.
_LARGEST_IN_MEMORY = 512 * 2**20


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
        together: how many tiles of one size the network gets at a time, which is for a GPU and for
            Keras generators; above 1, a few pixels may be rounded to the next level.
        engine: what runs a released generator: `litert`, `tensorflow`, or `auto`: TensorFlow where
            it is installed and there is a GPU for it, else LiteRT. Their results differ by at
            most one grey level.
        size: of results; None: `scale` times as wide and high.

    Attributes:
        scale: how many times as wide and high a result is that no `size` makes smaller.

    Raises:
        UserError: no such model, precision or engine, a tile or `together` below 1, `together`
            above 1 and another kind of model, or a package is missing.

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
        together: int = 1,
        engine: str = "auto",
        size: Size | None = None,
    ):
        if tile < 1:
            raise UserError(f"a tile's side must be at least 1 pixel, not {tile}")
        if together < 1:
            raise UserError(f"the network gets at least 1 tile at a time, not {together}")
        if precision not in PRECISIONS:
            raise UserError(f"precision is {' or '.join(PRECISIONS)}, not {precision}")
        model = default_model() if model is None else model
        opened = open_engine(model, precision, engine, together)
        self.scale, self._overlap = opened.scale, opened.radius
        self._enlarge = _self_ensemble(opened) if self_ensemble else opened
        self._tile = min(tile, opened.tile)
        self._progress = progress
        self._size = size or Size()
        self._together = together

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarges an image.

        Args:
            pixels: uint8 or uint16 over the type's whole range; grey [H, W], grey and
                alpha [H, W, 2], RGB [H, W, 3] or RGB and alpha [H, W, 4].

        Returns:
            The same type and channels, [scale·H, scale·W] or [scale·H, scale·W, C], or of `size`.

        Raises:
            ValueError: another type or shape, or no pixel.
            ImageError: `size` is more than `scale` times this image's.
        """
        return self.upscale_all([pixels])[0]

    def upscale_all(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Enlarges images as `upscale` does, tiles of one size together, whosever they are.

        All the results are held at once.

        Raises:
            ValueError: another type or shape, or no pixel.
            ImageError: `size` is more than `scale` times that of an image.
        """
        channels, results, sizes = [], [], []
        tiles: dict[tuple[int, ...], list[tuple[int, Tile]]] = {}
        for index, pixels in enumerate(photos):
            _check(pixels)
            channels.append(_fill_transparent(pixels[..., None] if pixels.ndim == 2 else pixels))
            height, width = pixels.shape[:2]
            sizes.append(self._size.of(height, width, self.scale))
            shape = (self.scale * height, self.scale * width, *pixels.shape[2:])
            results.append(_empty(shape, pixels.dtype))
            for tile in cut((height, width), self.scale, self._tile, self._overlap):
                size = channels[index][tile.read].shape[:2]
                tiles.setdefault(size, []).append((index, tile))
        # None: only on a terminal.
        disable = None if self._progress else True
        total = sum(map(len, tiles.values()))
        with tqdm(total=total, unit="tile", leave=False, disable=disable) as progress:
            for same in tiles.values():
                for start in range(0, len(same), self._together):
                    group = same[start : start + self._together]
                    parts = [channels[index][tile.read] for index, tile in group]
                    for (index, tile), part in zip(group, self._upscale_tiles(parts), strict=True):
                        result = results[index]
                        result[tile.write] = part[tile.crop].reshape(result[tile.write].shape)
                        images.release_pages(result)
                    progress.update(len(group))
        for index, size in enumerate(sizes):
            if results[index].shape[:2] != size:
                results[index] = downscale(results[index], *size)
        return results

    def upscale_file(
        self,
        source: str | Path,
        target: str | Path,
        quality: int = DEFAULT_QUALITY,
        strip_metadata: bool = False,
    ) -> None:
        """Enlarges an image file; the target, written whole, has its suffix's format.

        EXIF orientation is applied; alpha, colours, DPI, 16 bits a channel, EXIF, XMP and IPTC
        are kept; see `srgan_tf.images` for formats. Warns of what could not be kept.

        Args:
            source: an image file.
            target: the result's.
            quality: of a JPEG or WebP, 1 to 100.
            strip_metadata: leave out EXIF, XMP and IPTC.

        Raises:
            ImageError: the source can't be read, or the target can't hold it.
        """
        for _, _, error in self.upscale_files([(source, target)], quality, strip_metadata):
            if error is not None:
                raise error

    def upscale_files(
        self,
        files: Iterable[tuple[str | Path, str | Path]],
        quality: int = DEFAULT_QUALITY,
        strip_metadata: bool = False,
    ) -> Iterator[tuple[Path, Path, ImageError | None]]:
        """Enlarges (source, target) files; one is read and one written beside the network.

        Args:
            files: sources and targets.
            quality: of JPEG and WebP, 1 to 100.
            strip_metadata: leave out EXIF, XMP and IPTC.

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
                        self._enlarged(source, photo.pixels),
                        photo.icc_profile,
                        photo.dpi,
                        None if strip_metadata else photo.metadata,
                        quality,
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
        height, width = photo.pixels.shape[:2]
        try:
            height, width = self._size.of(height, width, self.scale)
        except ImageError as error:
            raise ImageError(f"{source}: {error}") from None
        images.check_writable(target, height, width, images.is_transparent(photo.pixels))
        if photo.note:
            warnings.warn(f"{source}: {photo.note}", stacklevel=2)
        return photo

    def _enlarged(self, source: Path, pixels: np.ndarray) -> np.ndarray:
        try:
            return self.upscale(pixels)
        except ImageError as error:
            raise ImageError(f"{source}: {error}") from None

    def _upscale_tiles(self, tiles: list[np.ndarray]) -> list[np.ndarray]:
        """Each [h, w, C] of one size to [scale·h, scale·w, C]."""
        sr = self._enlarge(np.concatenate([_to_rgb(pixels) for pixels in tiles]))
        return [_from_rgb(sr[i : i + 1], pixels) for i, pixels in enumerate(tiles)]


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array in memory, or, of a large one, in a temporary file that goes with it.

    Raises:
        ImageError: no room for the file.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= _LARGEST_IN_MEMORY:
        return np.empty(shape, dtype)
    handle, name = tempfile.mkstemp(prefix="srgan-")
    try:
        # Now rather than as a bus error when a page can't be written.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
        else:
            os.truncate(handle, size)
        result = np.memmap(name, dtype, "r+", shape=shape)
    except OSError as error:
        Path(name).unlink()
        raise ImageError(
            f"its enlargement needs {size / 2**30:.1f} GB in {Path(name).parent}, which TMPDIR "
            f"moves ({first_line(error)})"
        ) from None
    finally:
        os.close(handle)
    weakref.finalize(result, Path(name).unlink, missing_ok=True)
    return result


def _check(pixels: np.ndarray) -> None:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be uint8 or uint16, not {pixels.dtype}")
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (2,), (3,), (4,)):
        raise ValueError(f"pixels must be [H, W] or [H, W, 2 to 4], not {pixels.shape}")
    if not pixels.size:
        raise ValueError(f"no pixel in {pixels.shape}")


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    """[h, w, C] to what the network takes, [1, h, w, 3]."""
    colours = pixels.shape[2] - images.has_alpha(pixels)
    lr = pixels[None, ..., :colours] / np.float32(np.iinfo(pixels.dtype).max)
    return np.repeat(lr, 3 // colours, axis=-1)


def _from_rgb(sr: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """What the network gave, [1, H, W, 3], to the type and channels of the tile it is of."""
    if pixels.shape[2] < 3:
        sr = sr.mean(axis=-1, keepdims=True)
    enlarged = images.to_levels(sr[0], pixels.dtype.type)
    if not images.has_alpha(pixels):
        return enlarged
    rows, columns = map(bicubic_matrix, pixels.shape[:2], enlarged.shape[:2])
    alpha = rows @ pixels[..., -1].astype(np.float32) @ columns.T / np.iinfo(pixels.dtype).max
    return np.dstack([enlarged, images.to_levels(alpha, pixels.dtype.type)])


def _self_ensemble(engine: Engine) -> Callable[[np.ndarray], np.ndarray]:
    def averaged(lr: np.ndarray) -> np.ndarray:
        _, height, width, _ = lr.shape
        mean = np.zeros((len(lr), engine.scale * height, engine.scale * width, 3), np.float32)
        for turns in range(4):
            for step in (1, -1):  # as it is, and mirrored
                turned = np.rot90(lr[:, :, ::step], turns, (1, 2))
                sr = engine(np.ascontiguousarray(turned))
                mean += np.rot90(sr, -turns, (1, 2))[:, :, ::step] / 8
        return mean

    return averaged


def _fill_transparent(pixels: np.ndarray) -> np.ndarray:
    """Gives invisible pixels of [H, W, C] the colour of the nearest visible one."""
    if not images.has_alpha(pixels):
        return pixels
    invisible = pixels[..., -1] == 0
    if not invisible.any() or invisible.all():
        return pixels
    places = np.where(invisible, 0, np.arange(1, invisible.size + 1).reshape(invisible.shape))
    nearest = pyvips.Image.new_from_array(places.astype(np.int32)).fill_nearest().numpy() - 1
    filled = pixels.reshape(-1, pixels.shape[2])[nearest]
    filled[..., -1] = pixels[..., -1]
    return filled


def _finished(source: Path, target: Path, done: Future) -> tuple[Path, Path, ImageError | None]:
    try:
        done.result()
    except ImageError as error:
        return source, target, error
    return source, target, None
