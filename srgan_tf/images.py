"""Reading and writing of image files."""

from __future__ import annotations

import io
import math
import mmap
import os
import struct
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srgan_tf.errors import ImageError
from srgan_tf.files import DEFAULT_QUALITY, IMAGE_SUFFIXES, atomic_write, first_line
from srgan_tf.formats import colour, containers, ifd
from srgan_tf.formats.containers import Parts
from srgan_tf.formats.decoding import decode
from srgan_tf.formats.libvips import check_process, pyvips, to_array

# Without chroma subsampling JPEG has no visible loss at a quality of 95, at 2 bits per pixel.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"subsample_mode": "off"},
    ".webp": {},
    ".tif": {"compression": "deflate", "predictor": "horizontal"},
}
_SAME_FORMAT = {".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
_LOSSY = (".jpg", ".webp")
_MAX_SIDE = {".jpg": 65500, ".webp": 16383}
# libwebp refused 192 megapixels, probably because a lossy WebP's block modes must fit 512 KB.
_MAX_PIXELS = {".webp": 2**27}
_SIXTEEN_BIT = (".png", ".tif")
_WITHOUT_ALPHA = (".jpg", ".bmp")
_DEFAULT_DPI = (72.0, 72.0)
# EXIF's ColorSpace; some cameras write 2.
_ADOBE_RGB, _UNCALIBRATED = 2, 0xFFFF


@dataclass(frozen=True)
class Metadata:
    """A photo's metadata; each part may be empty.

    Attributes:
        exif: without orientation, resolution, sizes and thumbnail, which describe the pixels.
        xmp: an XMP packet, likewise.
        iptc: IPTC-IIM records.
    """

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""


@dataclass(frozen=True)
class Photo:
    """A decoded image file.

    Attributes:
        pixels: uint8 or uint16; grey [H, W], grey and alpha [H, W, 2], RGB [H, W, 3] or
            RGB and alpha [H, W, 4].
        icc_profile: of the pixels; None for sRGB or unknown.
        dpi: horizontal and vertical; None if unknown.
        metadata: to copy to the result.
        note: which damaged or unsupported parts were ignored; empty if none.
    """

    pixels: np.ndarray
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    metadata: Metadata = field(default_factory=Metadata)
    note: str = ""


def to_levels(values: np.ndarray, dtype: type = np.uint8) -> np.ndarray:
    """Round float values, clipped to [0, 1], to the levels of uint8 or uint16."""
    highest = np.float32(np.iinfo(dtype).max)
    return np.rint(np.clip(values, 0.0, 1.0) * highest).astype(dtype)


def read_image(path: Path) -> Photo:
    """Decode a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or still GIF file.

    The EXIF orientation is applied. Grey, alpha and 16 bits per channel are kept; palettes become
    RGB, CMYK and Lab become sRGB, by the file's profile if it has one. Colour that a PNG states by
    cICP, gAMA and cHRM, and Adobe RGB that only EXIF states, becomes an ICC profile. Extra TIFF
    channels other than alpha, thumbnails and the smaller copies in a pyramid are ignored.

    Damaged metadata is ignored, and `Photo.note` says so. Damaged pixels are an error as far as
    the format allows to detect them: PNG and deflated TIFF have checksums, in a JPEG most damage
    shows, and in WebP, LZW and uncompressed files only missing data does.

    Raises:
        ImageError: empty, not an image, damaged, animated, of several pages, HDR, of another
            pixel format, or above Pillow's limit of pixels (a decompression bomb).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: can't be read: {first_line(error)}") from None
    try:
        pixels, parts = decode(data)
        icc_profile = _icc_profile(parts, grey=pixels.ndim == 2 or pixels.shape[2] == 2)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    metadata = Metadata(
        ifd.write_exif(ifd.keep_descriptive(parts.exif)),
        containers.strip_stale_xmp(parts.xmp),
        parts.iptc,
    )
    dpi = parts.dpi or parts.exif.dpi()
    if dpi and parts.orientation >= 5:
        dpi = dpi[::-1]
    pixels = _apply_orientation(pixels, parts.orientation)
    return Photo(pixels, icc_profile, dpi, metadata, "; ".join(parts.notes))


def read_photo(path: Path) -> np.ndarray:
    """Decode a file to uint8 RGB [H, W, 3], with the EXIF orientation applied.

    Raises:
        ImageError: see `read_image`.
    """
    return to_rgb(read_image(path).pixels)


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Convert uint8 or uint16 [H, W] or [H, W, 1 to 4] to uint8 [H, W, 3], dropping alpha."""
    if pixels.dtype.itemsize == 2:
        pixels = np.rint(pixels / 257.0).astype(np.uint8)
    if pixels.ndim == 2 or pixels.shape[-1] < 3:
        grey = pixels if pixels.ndim == 2 else pixels[..., 0]
        return np.stack([grey] * 3, axis=-1)
    return pixels[..., :3]


def has_alpha(pixels: np.ndarray) -> bool:
    """Return whether the last of an image's channels is alpha."""
    return pixels.ndim == 3 and pixels.shape[2] in (2, 4)


def is_transparent(pixels: np.ndarray) -> bool:
    """Return whether an image has alpha that is not opaque everywhere."""
    return has_alpha(pixels) and bool((pixels[..., -1] != np.iinfo(pixels.dtype).max).any())


def release_pages(pixels: np.ndarray) -> None:
    """Let the system reclaim the memory of a memory-mapped array; no-op for other arrays."""
    if isinstance(pixels, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
        pixels._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def check_writable(path: Path, height: int, width: int, transparent: bool) -> None:
    """Raise ImageError if the format of the path's suffix can't hold such an image."""
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ImageError(
            f"{path}: can't write {suffix or 'a file without suffix'}; use one of "
            f"{', '.join(IMAGE_SUFFIXES)}"
        )
    kind = _SAME_FORMAT.get(suffix, suffix)
    if transparent and kind in _WITHOUT_ALPHA:
        raise ImageError(f"{path}: {suffix} has no alpha channel; write .png, .webp or .tif")
    max_side, max_pixels = _MAX_SIDE.get(kind, math.inf), _MAX_PIXELS.get(kind, math.inf)
    if max(height, width) > max_side or height * width > max_pixels:
        size = f"{width}×{height}"
        raise ImageError(f"{path}: {size} is more than {suffix} holds; write .png or .tif")


def write_image(
    path: Path,
    pixels: np.ndarray,
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    metadata: Metadata | None = None,
    quality: int = DEFAULT_QUALITY,
) -> None:
    """Write an image atomically, in the format of the path's suffix.

    JPEG is written without chroma subsampling. 16 bits per channel are kept in PNG and TIFF and
    rounded to 8 in the other formats. BMP is converted to sRGB, as it is read without a profile.
    Opaque alpha is dropped where the format has no alpha.

    Args:
        path: with one of `IMAGE_SUFFIXES`; its folder is created.
        pixels: uint8 or uint16; [H, W], [H, W, 2], [H, W, 3] or [H, W, 4] as in `Photo`.
        icc_profile: of the pixels.
        dpi: horizontal and vertical; 72 if None.
        metadata: EXIF and XMP (not in BMP) and IPTC (not in WebP and BMP).
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        ImageError: the format can't hold this image, or the file can't be written.
        ValueError: JPEG and WebP have no such quality.
    """
    height, width = pixels.shape[:2]
    check_writable(path, height, width, is_transparent(pixels))
    kind = _SAME_FORMAT.get(path.suffix.lower(), path.suffix.lower())
    dpi, metadata = dpi or _DEFAULT_DPI, metadata or Metadata()
    exif = _result_exif(metadata.exif, width, height, dpi, always=kind == ".webp")
    options = dict(_SAVE_OPTIONS.get(kind, {}), keep="icc")
    if kind in _LOSSY:
        if not 1 <= quality <= 100:
            raise ValueError(f"quality {quality} is not from 1 to 100")
        options["Q"] = quality
    check_process()
    try:
        if icc_profile and kind == ".webp":  # which has no grey
            icc_profile = colour.rgb_profile(icc_profile)
        # Unlike Pillow, libvips encodes without another copy of the pixels.
        image = _to_vips(pixels, icc_profile, dpi)
        if has_alpha(pixels) and kind in _WITHOUT_ALPHA:
            image = image.extract_band(0, n=image.bands - 1)
        if pixels.dtype == np.uint16 and kind not in _SIXTEEN_BIT:
            image = (image / 257.0).rint().cast("uchar")
            image = image.copy(interpretation="b-w" if image.bands < 3 else "srgb")
        if isinstance(pixels, np.memmap):
            image.set_progress(True)
            image.signal_connect("eval", lambda *_: release_pages(pixels))
        with atomic_write(path) as temporary, temporary.open("r+b") as file:
            if kind == ".bmp":
                if icc_profile:
                    image = image.icc_transform("srgb", embedded=True)
                # To a file Pillow ignores an incomplete write, as on a full disk.
                buffer = io.BytesIO()
                Image.fromarray(to_array(image)).save(buffer, "BMP", dpi=dpi)
                file.write(buffer.getbuffer())
            elif kind == ".png":
                chunks = containers.png_chunks(exif, metadata.xmp, metadata.iptc)
                _write_with(file, image, kind, options, containers.PNG_HEAD, chunks)
            elif kind == ".jpg":
                segments = containers.jpeg_segments(dpi, exif, metadata.xmp, metadata.iptc)
                _write_with(file, image, kind, options, containers.JPEG_HEAD, segments)
            elif kind == ".webp":
                data = image.webpsave_buffer(**options)
                alpha = has_alpha(pixels)
                file.write(
                    containers.add_webp_metadata(data, (width, height), alpha, exif, metadata.xmp)
                )
            else:
                options["bigtiff"] = pixels.nbytes > 2**31
                _write_with(file, image, kind, options, 0, b"")
                ifd.add_to_tiff(file, _tiff_values(exif, metadata))
    except (OSError, ValueError, pyvips.Error) as error:
        raise ImageError(f"{path}: can't be written: {first_line(error)}") from None


def _icc_profile(parts: Parts, grey: bool) -> bytes | None:
    """Return the ICC profile of a file's colours, however it states them; None for sRGB.

    Raises:
        ImageError: HDR.
    """
    if parts.cicp is not None:
        try:
            return colour.cicp_profile(parts.cicp, grey) or None
        except ValueError as error:
            parts.notes.append(f"its colour description ({error}) is ignored")
    if parts.icc:
        try:
            return colour.validate_profile(parts.icc, grey)
        except ValueError as error:
            parts.notes.append(f"its ICC profile ({error}) is ignored")
    if parts.srgb:
        return None
    if parts.gamma or parts.primaries:
        try:
            return colour.gamma_profile(parts.gamma, parts.primaries, grey) or None
        except ValueError as error:
            parts.notes.append(f"its gamma or primaries ({error}) are ignored")
    details = parts.exif.directory(ifd.EXIF)
    space = details.number(ifd.COLOR_SPACE, 1)
    index = details.directory(ifd.INTEROP).raw(ifd.INTEROP_INDEX)
    if space == _ADOBE_RGB or (space == _UNCALIBRATED and index.startswith(b"R03")):
        return colour.adobe_rgb_profile(grey)
    return None


def _apply_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels with EXIF's orientation applied."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _result_exif(
    data: bytes, width: int, height: int, dpi: tuple[float, float], always: bool
) -> ifd.Directory:
    """Return EXIF with the result's resolution and size; if empty, only if `always`."""
    exif = ifd.read_exif(data)
    if not exif and not always:
        return exif
    details = exif.directory(ifd.EXIF)
    if details:
        details[ifd.PIXEL_WIDTH] = ifd.Value(ifd.LONG, struct.pack("<I", width))
        details[ifd.PIXEL_HEIGHT] = ifd.Value(ifd.LONG, struct.pack("<I", height))
    for tag, dots in zip((ifd.X_RESOLUTION, ifd.Y_RESOLUTION), dpi, strict=True):
        exif[tag] = ifd.Value(ifd.RATIONAL, struct.pack("<II", round(10000 * dots), 10000))
    exif[ifd.RESOLUTION_UNIT] = ifd.Value(ifd.SHORT, struct.pack("<H", 2))
    return exif


def _tiff_values(exif: ifd.Directory, metadata: Metadata) -> ifd.Directory:
    values = ifd.keep_descriptive(exif)
    if metadata.xmp:
        values[ifd.XMP] = ifd.Value(ifd.BYTE, metadata.xmp)
    if metadata.iptc:
        values[ifd.IPTC] = ifd.Value(ifd.UNDEFINED, metadata.iptc)
    return values


def _to_vips(pixels: np.ndarray, icc_profile: bytes | None, dpi: tuple[float, float]):
    grey = pixels.ndim == 2 or pixels.shape[2] == 2
    if pixels.dtype == np.uint16:
        interpretation = "grey16" if grey else "rgb16"
    else:
        interpretation = "b-w" if grey else "srgb"
    image = pyvips.Image.new_from_array(np.ascontiguousarray(pixels), interpretation=interpretation)
    image = image.copy(xres=dpi[0] / 25.4, yres=dpi[1] / 25.4)
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    if icc_profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc_profile)
    return image


def _write_with(
    file, image: pyvips.Image, kind: str, options: dict[str, Any], head: int, added: bytes
) -> None:
    """Write a file with `added` inserted after its first `head` bytes, without copying it."""
    file.seek(len(added))
    try:
        image.write_to_target(pyvips.Target.new_to_descriptor(file.fileno()), kind, **options)
    except pyvips.Error as error:
        # The variables of its frames would keep the deleted file open.
        traceback.clear_frames(error.__traceback__)
        os.write(file.fileno(), b"\0")  # raises the system's reason, such as a full disk
        raise
    file.seek(len(added))
    start = file.read(head)
    file.seek(0)
    file.write(start + added)
