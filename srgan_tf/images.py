"""Image files to arrays and back, and the models' value range to grey levels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import tensorflow as tf
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from srgan_tf.errors import ImageError
from srgan_tf.files import IMAGE_SUFFIXES, first_line, written_whole

# Encoding at a quality of 95 without chroma subsampling: no visible loss at 2 bits a pixel.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"Q": 95, "subsample_mode": "off"},
    ".jpeg": {"Q": 95, "subsample_mode": "off"},
    ".webp": {"Q": 95},
    ".tif": {"compression": "deflate", "predictor": "horizontal"},
    ".tiff": {"compression": "deflate", "predictor": "horizontal"},
    ".bmp": {},
}
_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
# libwebp refused 192 megapixels, probably as the block modes of a lossy WebP must fit 512 KB.
_MOST_PIXELS = {".webp": 2**27}
_SIXTEEN_BIT = (".png", ".tif", ".tiff")
_WITHOUT_ALPHA = (".jpg", ".jpeg", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_DEFAULT_DPI = (72.0, 72.0)

# libvips would hand out a file's former pixels after it has changed.
pyvips.cache_set_max(0)


@dataclass(frozen=True)
class Photo:
    """A decoded image file.

    Attributes:
        pixels: uint8 or uint16; grey [H, W], grey and alpha [H, W, 2], RGB [H, W, 3] or
            RGB and alpha [H, W, 4].
        icc_profile: of the pixels; None: sRGB, or not known.
        dpi: horizontal and vertical, None when not known.
    """

    pixels: np.ndarray
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None


def to_uint8(images) -> tf.Tensor:
    """Models' output, float in [-1, 1], to the nearest grey levels, uint8, clipped."""
    return tf.cast(tf.clip_by_value(tf.round((images + 1.0) * 127.5), 0.0, 255.0), tf.uint8)


def to_uint16(images) -> tf.Tensor:
    """Models' output, float in [-1, 1], to the nearest of 65536 grey levels, clipped."""
    return tf.cast(tf.clip_by_value(tf.round((images + 1.0) * 32767.5), 0.0, 65535.0), tf.uint16)


def read_image(path: Path) -> Photo:
    """Decodes a PNG, JPEG, WebP, TIFF, BMP or still GIF file.

    It is turned as its EXIF orientation says. Grey, alpha and 16 bits a channel stay;
    palettes become RGB, and so does CMYK, by the file's profile if it has one.

    Raises:
        ImageError: empty, not an image, truncated, animated, of a pixel format
            that is none of the above, or of more pixels than Pillow takes for an attack.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # phones add previews and depth maps
                raise ImageError(f"{path}: animated or of several pages ({frames}), not one image")
            icc_profile, dpi = image.info.get("icc_profile"), _dpi(image)
            if image.mode == "CMYK":
                return Photo(_read_with_vips(path), None, dpi)
            if _is_16_bit(path, image):
                return Photo(_read_with_vips(path), icc_profile, dpi)
            return Photo(_read_8_bit(path, image), icc_profile, dpi)
    except ImageError:
        raise
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        problem = "an empty file" if empty else "not a PNG, JPEG, WebP, TIFF or BMP image"
        raise ImageError(f"{path}: {problem}") from None
    except Exception as error:  # decoders raise nearly anything at a broken file
        raise ImageError(f"{path}: can't be read: {first_line(error)}") from None


def has_alpha(pixels: np.ndarray) -> bool:
    """Whether the last of an image's channels is alpha."""
    return pixels.ndim == 3 and pixels.shape[2] in (2, 4)


def check_writable(path: Path, height: int, width: int, alpha: bool) -> None:
    """Raises ImageError when the format of the path's suffix can't hold such an image."""
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise ImageError(
            f"{path}: can't write {suffix or 'without suffix'}: {', '.join(IMAGE_SUFFIXES)}"
        )
    if alpha and suffix in _WITHOUT_ALPHA:
        raise ImageError(f"{path}: {suffix} has no alpha channel; write .png, .webp or .tif")
    longest, most = _LONGEST_SIDE.get(suffix, math.inf), _MOST_PIXELS.get(suffix, math.inf)
    if max(height, width) > longest or height * width > most:
        size = f"{width}×{height}"
        raise ImageError(f"{path}: {size} is more than {suffix} holds; write .png or .tif")


def write_image(
    path: Path,
    pixels: np.ndarray,
    icc_profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Writes an image in the format of the path's suffix, whole or not at all.

    JPEG and WebP are written at quality 95, JPEG without chroma subsampling. 16 bits a
    channel are kept in PNG and TIFF and rounded to 8 in the other formats. BMP has no
    ICC profile.

    Args:
        path: with one of `IMAGE_SUFFIXES`; its folder is made.
        pixels: uint8 or uint16; [H, W], [H, W, 2], [H, W, 3] or [H, W, 4] as in `Photo`.
        icc_profile: of the pixels.
        dpi: horizontal and vertical; 72 if None.

    Raises:
        ImageError: the format can't hold this image, or the file can't be written.
    """
    height, width = pixels.shape[:2]
    check_writable(path, height, width, has_alpha(pixels))
    suffix = path.suffix.lower()
    if pixels.dtype == np.uint16 and suffix not in _SIXTEEN_BIT:
        pixels = ((pixels + np.uint32(128)) // 257).astype(np.uint8)
    try:
        with written_whole(path) as temporary:
            if suffix == ".bmp":
                Image.fromarray(pixels).save(temporary, dpi=dpi or _DEFAULT_DPI)
            else:
                # Unlike Pillow, libvips encodes without another copy of the pixels.
                image = _to_vips(pixels, icc_profile, dpi or _DEFAULT_DPI)
                options = _SAVE_OPTIONS[suffix]
                if suffix.startswith(".tif") and pixels.nbytes > 2**31:
                    options = options | {"bigtiff": True}
                # By descriptor, as it takes names for UTF-8 and [ ] in them for options.
                with temporary.open("r+b") as file:
                    target = pyvips.Target.new_to_descriptor(file.fileno())
                    image.write_to_target(target, suffix, **options)
    except (OSError, ValueError, pyvips.Error) as error:
        raise ImageError(f"{path}: can't be written: {first_line(error)}") from None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    exif = image.getexif()
    dpi = image.info.get("dpi")
    if dpi is None:  # a WebP has it in EXIF only
        dots_a_unit = {2: 1.0, 3: 2.54}.get(exif.get(0x0128, 2), 0.0)
        dpi = [dots_a_unit * float(exif.get(tag, 0)) for tag in (0x011A, 0x011B)]
    x, y = (float(value) for value in dpi)
    if not (x > 0 and y > 0):
        return None
    return (y, x) if exif.get(0x0112, 1) >= 5 else (x, y)  # turned by a quarter


def _is_16_bit(path: Path, image: Image.Image) -> bool:
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24] == 16  # the bit depth in IHDR
    if isinstance(image, TiffImageFile):
        depths, kinds = image.tag_v2.get(258, (1,)), image.tag_v2.get(339, (1,))
        return max(depths) == 16 and set(kinds) == {1}
    return False


def _read_with_vips(path: Path) -> np.ndarray:
    """What Pillow can't: colours of 16 bits a channel, and CMYK by its profile."""
    with path.open("rb") as file:
        source = pyvips.Source.new_from_descriptor(file.fileno())
        image = pyvips.Image.new_from_source(source, "", fail_on="truncated").autorot()
        if image.interpretation == "cmyk":
            depth = 16 if image.format == "ushort" else 8
            image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
        return image.numpy()


def _read_8_bit(path: Path, image: Image.Image) -> np.ndarray:
    ImageOps.exif_transpose(image, in_place=True)
    alpha = image.has_transparency_data
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("LA" if alpha else "L"))
    if image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
        return np.asarray(image.convert("RGBA" if alpha else "RGB"))
    raise ImageError(f"{path}: pixels of kind {image.mode}, not 8 or 16 bits a channel")


def _to_vips(pixels: np.ndarray, icc_profile: bytes | None, dpi: tuple[float, float]):
    grey = pixels.ndim == 2 or pixels.shape[2] == 2
    if pixels.dtype == np.uint16:
        interpretation = "grey16" if grey else "rgb16"
    else:
        interpretation = "b-w" if grey else "srgb"
    image = pyvips.Image.new_from_array(pixels, interpretation=interpretation)
    image = image.copy(xres=dpi[0] / 25.4, yres=dpi[1] / 25.4)
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    if icc_profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc_profile)
    return image
