"""`Upscaler`, which enlarges arrays and image files with a generator, tile by tile."""

from __future__ import annotations

import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from srgan_tf import images
from srgan_tf.errors import ImageError, UserError
from srgan_tf.files import DEFAULT_QUALITY, first_line
from srgan_tf.formats.libvips import check_process, pyvips, to_array
from srgan_tf.inference import OUT_OF_MEMORY, PRECISIONS
from srgan_tf.inference.engine import Engine, open_engine
from srgan_tf.inference.size import Size
from srgan_tf.inference.tiles import DEFAULT_TILE, Tile, cut_tiles
from srgan_tf.resize import bicubic_matrix, downscale
from srgan_tf.weights import DEFAULT_MODEL

# Two results, one being written and one being computed, are in memory at once only below this.
_MEMORY_FOR_RESULTS = 256 * 2**20
# Larger results are in temporary files, so that memory does not grow with the photo's size.
_LARGEST_IN_MEMORY = 512 * 2**20


class Upscaler:
    """Enlarges photos with a generator.

    Photos are enlarged in overlapping tiles. The overlap is the radius of the
    generator's receptive field, so that the result equals that of the entire photo, and
    the network takes no more memory for a larger photo. The photo and its result, H·W·scale²
    pixels, are held as a whole.

    Grey is enlarged as RGB and converted back to the mean of the channels. Alpha is enlarged by
    bicubic interpolation, which keeps opaque and transparent areas; the colours of invisible
    pixels are replaced by those of the nearest visible ones, which they would otherwise affect.

    Args:
        model: a released name, a `.keras` file, a run folder, or an export or its server's URL (see
            `srgan_tf.inference.engine.open_engine`).
        tile: side of a tile in LR pixels, without the overlap.
        self_ensemble: average the results of the 8 flips and quarter turns; 8 times slower.
        precision: `float32` or `mixed_bfloat16`, which is faster on CPUs with AVX-512 BF16 or AMX
            and on newer GPUs, slower on others, and costs about 0.01 dB.
        progress: show a progress bar on stderr if it is a terminal.
        tile_batch_size: number of tiles of one size per batch, for Keras generators on GPUs; above
            1, a few pixels may be rounded to the next level.
        engine: runtime of a released generator: `litert`, `tensorflow`, or `auto`, which is
            TensorFlow if it is installed and there is a GPU, LiteRT otherwise. Results differ by at
            most one grey level.
        size: size of the results; None for `scale` times the photo's.

    Attributes:
        scale: ratio of the result's side to the photo's, without `size`.

    Raises:
        UserError: no such model, precision or engine, a tile or `tile_batch_size` below 1, the
            latter above 1 with another engine than Keras', or a missing package.

    Example:
        >>> upscaler = Upscaler("srresnet-mse")
        >>> upscaler.upscale(np.zeros((120, 80, 3), np.uint8)).shape
        (480, 320, 3)
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        tile: int = DEFAULT_TILE,
        self_ensemble: bool = False,
        precision: str = "float32",
        progress: bool = False,
        tile_batch_size: int = 1,
        engine: str = "auto",
        size: Size | None = None,
    ):
        if tile < 1:
            raise UserError(f"a tile's side must be at least 1 pixel, not {tile}")
        if tile_batch_size < 1:
            raise UserError(f"tile_batch_size must be at least 1, not {tile_batch_size}")
        if precision not in PRECISIONS:
            raise UserError(f"precision must be {' or '.join(PRECISIONS)}, not {precision}")
        opened = open_engine(model, precision, engine, tile_batch_size)
        self.scale, self._overlap = opened.scale, opened.radius
        self._enlarge = _self_ensemble(opened) if self_ensemble else opened
        self._tile = min(tile, opened.tile)
        self._progress = progress
        self._size = size or Size()
        self._tile_batch_size = tile_batch_size

    def upscale(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarge an image.

        Args:
            pixels: uint8 or uint16 over the full range; grey [H, W], grey and alpha [H, W, 2], RGB
                [H, W, 3] or RGB and alpha [H, W, 4].

        Returns:
            The same dtype and channels, [scale·H, scale·W] or [scale·H, scale·W, C], or as `size`
            says. Without colours if `pixels` have none.

        Raises:
            ValueError: not an array, another dtype or shape, or no pixel.
            ImageError: `size` is more than `scale` times this image's.
        """
        return self.upscale_all([pixels])[0]

    def upscale_all(self, photos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Enlarge images as `upscale` does, with tiles of one size of all images in common batches.

        All results are in memory at once.

        Raises:
            ValueError: another dtype or shape, or no pixel.
            ImageError: `size` is more than `scale` times an image's.
        """
        channels, results, sizes = [], [], []
        tiles: dict[tuple[int, ...], list[tuple[int, Tile]]] = {}
        for index, pixels in enumerate(photos):
            _check_pixels(pixels)
            filled = _fill_transparent(pixels[..., None] if pixels.ndim == 2 else pixels)
            channels.append(_grey_if_neutral(filled))
            height, width = pixels.shape[:2]
            sizes.append(self._size.of(height, width, self.scale))
            shape = (self.scale * height, self.scale * width, *pixels.shape[2:])
            results.append(_allocate(shape, pixels.dtype))
            for tile in cut_tiles((height, width), self.scale, self._tile, self._overlap):
                size = channels[index][tile.read].shape[:2]
                tiles.setdefault(size, []).append((index, tile))
        disable = None if self._progress else True  # None: only on a terminal
        total = sum(map(len, tiles.values()))
        with tqdm(total=total, unit="tile", leave=False, disable=disable) as progress:
            for same in tiles.values():
                for start in range(0, len(same), self._tile_batch_size):
                    group = same[start : start + self._tile_batch_size]
                    parts = [channels[index][tile.read] for index, tile in group]
                    for (index, tile), part in zip(group, self._upscale_tiles(parts), strict=True):
                        result = results[index]
                        if result.ndim == 3 and part.shape[2] < result.shape[2]:
                            part = part[..., [0, 0, 0, 1][: result.shape[2]]]
                        result[tile.write] = part[tile.crop].reshape(result[tile.write].shape)
                        images.release_pages(result)
                    progress.update(len(group))
        for index, size in enumerate(sizes):
            if results[index].shape[:2] != size:
                enlarged = results[index]
                results[index] = _allocate((*size, *enlarged.shape[2:]), enlarged.dtype)
                downscale(enlarged, results[index])
        return results

    def upscale_file(
        self,
        source: str | Path,
        target: str | Path,
        quality: int = DEFAULT_QUALITY,
        strip_metadata: bool = False,
    ) -> None:
        """Enlarge an image file, and write the result atomically in the format of its suffix.

        The EXIF orientation is applied; alpha, colour space, DPI, 16 bits per channel, EXIF, XMP
        and IPTC are kept if the format supports them, see `srgan_tf.images`. Warns of damaged parts
        that were ignored.

        Args:
            source: an image file.
            target: file of the result; its folder is created.
            quality: of a JPEG or WebP, 1 to 100.
            strip_metadata: drop EXIF, XMP and IPTC.

        Raises:
            ImageError: the source can't be read, or the target's format can't hold the result.
            ValueError: a quality outside 1 to 100.
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
        """Enlarge files; while one is enlarged, the next is read and the previous is written.

        Args:
            files: (source, target) of each.
            quality: of JPEG and WebP, 1 to 100.
            strip_metadata: drop EXIF, XMP and IPTC.

        Yields:
            (source, target, None) or (source, target, ImageError), in order.
        """
        jobs = [(Path(source), Path(target)) for source, target in files]
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading = [reader.submit(self._read, *job) for job in jobs[:1]]
            writing: list[tuple[Path, Path, Future]] = []
            bytes_written = 0
            for index, (source, target) in enumerate(jobs):
                read = reading.pop()
                # Only the next photo, as more huge ones could fill the memory.
                reading += [reader.submit(self._read, *job) for job in jobs[index + 1 : index + 2]]
                done: Future = Future()
                try:
                    photo = read.result()
                    size = photo.pixels.nbytes * self.scale**2
                    if writing and bytes_written + size > _MEMORY_FOR_RESULTS:
                        yield _finished(*writing.pop())
                    # A variable for the result would keep it in memory.
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
                    done.set_exception(ImageError(f"{source}: {OUT_OF_MEMORY}"))
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
        """Enlarge a file's pixels. Raises ImageError with the file's name."""
        try:
            return self.upscale(pixels)
        except ImageError as error:
            raise ImageError(f"{source}: {error}") from None

    def _upscale_tiles(self, tiles: list[np.ndarray]) -> list[np.ndarray]:
        """Enlarge tiles [h, w, C] of one size to [scale·h, scale·w, C]."""
        sr = self._enlarge(np.concatenate([_to_rgb(pixels) for pixels in tiles]))
        return [_from_rgb(sr[i : i + 1], pixels) for i, pixels in enumerate(tiles)]


def _allocate(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Allocate an array in memory or, if it is large, in a temporary file that is deleted with it.

    Raises:
        ImageError: not enough space for the file.
    """
    size = math.prod(shape) * dtype.itemsize
    if size <= _LARGEST_IN_MEMORY:
        return np.empty(shape, dtype)
    try:
        # Without a name, so that nothing stays even if the process is killed.
        with tempfile.TemporaryFile(prefix="srgan-") as file:
            # Allocated now, as a page that can't be written later is a bus error.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                os.truncate(file.fileno(), size)
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise ImageError(
            f"its enlargement needs {size / 2**30:.1f} GB in {tempfile.gettempdir()}, which TMPDIR "
            f"moves ({first_line(error)})"
        ) from None


def _check_pixels(pixels: np.ndarray) -> None:
    if not isinstance(pixels, np.ndarray):
        raise ValueError(f"pixels must be a NumPy array, not {type(pixels).__name__}")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be uint8 or uint16, not {pixels.dtype}")
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (2,), (3,), (4,)):
        raise ValueError(f"pixels must be [H, W] or [H, W, 2 to 4], not {pixels.shape}")
    if not pixels.size:
        raise ValueError(f"no pixel in {pixels.shape}")


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Convert a tile [h, w, C] to the network's input, float32 [1, h, w, 3] in [0, 1]."""
    colours = pixels.shape[2] - images.has_alpha(pixels)
    lr = pixels[None, ..., :colours] / np.float32(np.iinfo(pixels.dtype).max)
    return np.repeat(lr, 3 // colours, axis=-1)


def _from_rgb(sr: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Convert the network's output, [1, H, W, 3], to the dtype and channels of its input tile."""
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
            for step in (1, -1):  # unchanged and mirrored
                turned = np.rot90(lr[:, :, ::step], turns, (1, 2))
                sr = engine(np.ascontiguousarray(turned))
                mean += np.rot90(sr, -turns, (1, 2))[:, :, ::step] / 8
        return mean

    return averaged


def _fill_transparent(pixels: np.ndarray) -> np.ndarray:
    """Return [H, W, C] with the colours of invisible pixels set to those of the nearest visible."""
    if not images.has_alpha(pixels):
        return pixels
    invisible = pixels[..., -1] == 0
    if not invisible.any() or invisible.all():
        return pixels
    places = np.where(invisible, 0, np.arange(1, invisible.size + 1).reshape(invisible.shape))
    check_process()
    nearest = to_array(pyvips.Image.new_from_array(places.astype(np.int32)).fill_nearest()) - 1
    filled = pixels.reshape(-1, pixels.shape[2])[nearest]
    filled[..., -1] = pixels[..., -1]
    return filled


def _grey_if_neutral(pixels: np.ndarray) -> np.ndarray:
    """Return grey, or grey and alpha, for an [H, W, C] image whose pixels all have R = G = B."""
    if pixels.shape[2] < 3:
        return pixels
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if not (np.array_equal(red, green) and np.array_equal(red, blue)):
        return pixels
    return pixels[..., ::3]  # red and, if there is one, alpha


def _finished(source: Path, target: Path, done: Future) -> tuple[Path, Path, ImageError | None]:
    error = done.exception()
    if isinstance(error, MemoryError):
        error = ImageError(f"{target}: {OUT_OF_MEMORY}")
    if error is not None and not isinstance(error, ImageError):
        raise error
    return source, target, error
