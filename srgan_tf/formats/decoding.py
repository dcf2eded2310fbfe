"""Decoding of image files, strictly, by libvips, or by Pillow where libvips can't."""

from __future__ import annotations

import importlib.util
import io
import re
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from srgan_tf.errors import ImageError, install_command
from srgan_tf.formats import containers, ifd
from srgan_tf.formats.containers import Parts
from srgan_tf.formats.libvips import LOCK, check_process, pyvips, to_array

_MAGIC = {b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF"}
_MAGIC |= {b"GIF8": "GIF", b"RIFF": "WebP"}
# Channels without alpha, by TIFF's photometric interpretation.
_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_PALETTE, _CMYK, _LAB = 3, 5, 8
_OTHER_PHOTOMETRICS = {
    -1: "no stated photometric interpretation",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "a raw photo",
    34892: "a raw photo",
}
_OTHER_NUMBERS = {2: "signed integers", 3: "floating point"}
_SUB_DIRECTORIES = 330
# PyPI's libvips is built without these.
_PILLOW_COMPRESSIONS = {34925: "LZMA", 50000: "ZSTD"}
_DEFLATE = (8, 32946)
# Code points of ITU-T H.273. Transfer characteristics of video and unspecified or old primaries are
# shown as sRGB.
_VIDEO_TRANSFERS, _VIDEO_PRIMARIES = (1, 2, 6, 14, 15), (2, 5, 6)
_SRGB_TRANSFER, _BT709_PRIMARIES = 13, 1
_NCLX = re.compile(rb"colrnclx(.{4})", re.DOTALL)
_CHUNK_BYTES = 2**20
# Prefixes of libvips' and zlib's messages.
_MESSAGE_PREFIX = re.compile(
    r"^(?:\w+: (?:Corrupt \w+ data: |Invalid input: |Unspecified: )*"
    r"|Error -\d+ while decompressing data: )"
)
# libheif causes such lines for sound files, too.
_SEEKS = re.compile(r"^source: bad seek .*\n?", re.MULTILINE)
_CMYK_PROFILE, _SRGB_PROFILE = "cmyk", "srgb"  # libvips' own


def decode(data: bytes) -> tuple[np.ndarray, Parts]:
    """Decode a file to pixels as in `srgan_tf.images.Photo`, without applying the orientation.

    Raises:
        ImageError: not a readable image; the message does not have the file's name.
    """
    kind = _kind(data)
    if kind is None:
        raise ImageError(
            "not a PNG, JPEG, WebP, TIFF, BMP, AVIF or HEIC image" if data else "an empty file"
        )
    check_process()
    try:
        with LOCK:
            return _DECODERS[kind](data)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = _reason(error)
        if "not configured" in reason or "not been built in" in reason:
            raise ImageError(f"a {kind} that can't be read: {reason}") from None
        raise ImageError(f"a damaged {kind}: {reason}") from None


def _kind(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] != b"WEBP":
        return None
    if data[:4] in _MAGIC:
        return _MAGIC[data[:4]]
    if data[4:8] == b"ftyp":
        brands = data[8 : int.from_bytes(data[:4])]
        return "AVIF" if b"avi" in brands else "HEIC" if b"he" in brands else None
    if data[1:4] == b"PNG":  # a transfer as text may have damaged the byte before
        return "PNG"
    if b"\xff\xd8\xff" in data[:16]:  # some have a byte before
        return "JPEG"
    return "BMP" if data[:2] == b"BM" else None


def _reason(error: Exception) -> str:
    text = _SEEKS.sub("", str(getattr(error, "detail", error))).strip()
    return _MESSAGE_PREFIX.sub("", text.partition("\n")[0]) or "its header is wrong"


def _decode_png(data: bytes) -> tuple[np.ndarray, Parts]:
    parts = containers.read_png(data)
    image = pyvips.Image.pngload_buffer(parts.stream, fail_on="warning", unlimited=True)
    return _checked_array(image), parts


def _decode_jpeg(data: bytes) -> tuple[np.ndarray, Parts]:
    parts = containers.read_jpeg(data)
    image = _load_jpeg(parts.stream)
    height = image.height
    _check_size(image.width, height)
    if parts.rows:
        _check_end(parts.stream, parts.rows)
        if parts.rows[2] == 8:
            # libvips checks for warnings before every 8 rows, so it misses those of the last rows.
            image = _load_jpeg(_with_rows(parts.stream, parts.rows))
    if image.interpretation == "cmyk":
        image = _to_srgb(_with_profile(image, parts.icc), parts)
    return to_array(image)[:height], parts


def _with_profile(image: pyvips.Image, icc_profile: bytes) -> pyvips.Image:
    image = image.copy()
    if icc_profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc_profile)
    return image


def _load_jpeg(stream: bytes) -> pyvips.Image:
    return pyvips.Image.jpegload_buffer(stream, fail_on="warning", unlimited=True)


def _with_rows(stream: bytes, rows: tuple[int, int, int]) -> bytes:
    """Round up a JPEG's height to a multiple of its coding unit, plus 8 rows if a unit has 8."""
    place, height, unit = rows
    more = -(-height // unit) * unit + (8 if unit == 8 else 0)
    return stream[:place] + struct.pack(">H", min(more, 65500)) + stream[place + 2 :]


def _check_end(stream: bytes, rows: tuple[int, int, int]) -> None:
    """Raise ImageError if a JPEG's image ends well before its data.

    Wrong bits in a scan decode to other pixels, and to too many or too few; libjpeg detects only
    too few. So an undamaged scan must become too short when its end (besides padding) is removed.
    """
    cut = stream[:-2].rstrip(b"\0\xff")[:-8] + b"\xff\xd9"
    with suppress(pyvips.Error):
        _load_jpeg(_with_rows(cut, rows)).avg()
        raise ImageError("a damaged JPEG: more data than pixels")


def _decode_webp(data: bytes) -> tuple[np.ndarray, Parts]:
    parts = containers.read_webp(data)
    image = pyvips.Image.webpload_buffer(parts.stream, fail_on="warning")
    frames = image.get("n-pages") if image.get_typeof("n-pages") else 1
    _check_frames(frames)
    return _checked_array(image), parts


def _decode_heif(kind: str, data: bytes) -> tuple[np.ndarray, Parts]:
    image = pyvips.Image.heifload_buffer(data, fail_on="warning", unlimited=True)
    _check_frames(image.get("n-pages"))
    parts = _parts_of_heif(image, data)
    try:
        pixels = _checked_array(image)
        if pixels.dtype == np.uint16:
            pixels |= pixels >> image.get("bits-per-sample")  # libvips leaves the low bits 0
        return pixels, parts
    except pyvips.Error:
        if kind != "HEIC":
            raise
    # PyPI's libvips has no HEVC decoder.
    if importlib.util.find_spec("pillow_heif") is None:
        raise ImageError(
            f"a HEIC photo, which libvips can't decode: {install_command('heic')}; or save it as "
            "JPEG or PNG"
        )
    from pillow_heif import open_heif

    return np.asarray(open_heif(data)), parts


def _parts_of_heif(image: pyvips.Image, data: bytes) -> Parts:
    """Return a HEIF file's metadata; libvips has applied the orientation."""

    def field(name: str) -> bytes:
        return image.get(name) if image.get_typeof(name) else b""

    parts = Parts(icc=field("icc-profile-data"), xmp=field("xmp-data"))
    parts.exif = ifd.read_exif(field("exif-data").removeprefix(b"Exif\0\0"))
    parts.exif[ifd.ORIENTATION] = ifd.UPRIGHT  # whatever XMP states
    found = _NCLX.search(data)
    primaries, transfer = (
        struct.unpack(">HH", found[1]) if found else (_BT709_PRIMARIES, _SRGB_TRANSFER)
    )
    transfer = _SRGB_TRANSFER if transfer in _VIDEO_TRANSFERS else transfer
    if not parts.icc or transfer != _SRGB_TRANSFER:
        parts.cicp = (
            _BT709_PRIMARIES if primaries in _VIDEO_PRIMARIES else primaries,
            transfer,
            0,
            1,
        )
    return parts


def _decode_tiff(data: bytes) -> tuple[np.ndarray, Parts]:
    pages = ifd.read_pages(data)
    pictures = [number for number, page in enumerate(pages) if _is_picture(page)]
    if not pictures and len(pages) == 1 and _SUB_DIRECTORIES not in pages[0]:
        pictures = [0]
    if not pictures:
        raise ImageError("a TIFF with only previews, such as a raw photo")
    _check_frames(len(pictures))
    page = pages[pictures[0]]
    photometric, bits = _check_page(page)
    parts = Parts(
        exif=page,
        xmp=page.raw(ifd.XMP),
        iptc=page.raw(ifd.IPTC) or containers.extract_iptc(page.raw(ifd.PHOTOSHOP)),
        icc=page.raw(ifd.ICC),
    )
    compression = int(page.number(ifd.COMPRESSION, 1))
    if compression in _PILLOW_COMPRESSIONS or (photometric, bits) == (_LAB, 8):
        try:
            pixels = _decode_with_pillow("TIFF", data, pictures[0])
        except UnidentifiedImageError:
            name = _PILLOW_COMPRESSIONS.get(compression, "no")
            raise ImageError(
                f"a {bits}-bit TIFF with {name} compression, which is not supported; save it with "
                "deflate"
            ) from None
        if photometric == _CMYK:
            image = pyvips.Image.new_from_array(pixels, interpretation="cmyk")
            pixels = _checked_array(_to_srgb(_with_profile(image, parts.icc), parts))
        if photometric == _LAB:
            parts.icc = b""
        if photometric == 0 and pixels.dtype == np.uint16:
            pixels = 65535 - pixels  # Pillow does not invert 16 bits
        page[ifd.ORIENTATION] = ifd.UPRIGHT  # Pillow has applied it, or XMP's
        return pixels, parts
    image = pyvips.Image.tiffload_buffer(data, page=pictures[0], fail_on="error", unlimited=True)
    if compression in _DEFLATE:
        _check_deflated(data, page)
    return _checked_array(_channels(image, page, parts)), parts


def _check_deflated(data: bytes, page: ifd.Directory) -> None:
    """Raise zlib.error if a checksum is wrong or missing, which libtiff does not always check."""
    for offsets, lengths in ((ifd.STRIPS, ifd.STRIP_LENGTHS), (ifd.TILES, ifd.TILE_LENGTHS)):
        for offset, length in zip(page.numbers(offsets), page.numbers(lengths), strict=False):
            inflater, rest = zlib.decompressobj(), data[int(offset) : int(offset + length)]
            while not inflater.eof:
                inflated = inflater.decompress(rest, _CHUNK_BYTES)
                rest = inflater.unconsumed_tail
                if not inflated and not rest and not inflater.eof:
                    raise zlib.error("the compressed data has no end")


def _is_picture(page: ifd.Directory) -> bool:
    """Return whether a page is neither a smaller copy nor a mask of another."""
    copy_or_mask = int(page.number(ifd.SUBFILE_TYPE, 0)) & 0b101
    return not copy_or_mask and page.number(ifd.OLD_SUBFILE_TYPE, 0) != 2


def _check_page(page: ifd.Directory) -> tuple[int, int]:
    """Return (photometric interpretation, bits per channel). Raises ImageError if unsupported."""
    photometric = int(page.number(ifd.PHOTOMETRIC, -1))  # -1: not stated
    bits = {int(depth) for depth in page.numbers(ifd.BITS) or [1]}
    numbers = {int(number) for number in page.numbers(ifd.SAMPLE_FORMAT)}
    if photometric not in _CHANNELS:
        content = _OTHER_PHOTOMETRICS.get(photometric, f"photometric interpretation {photometric}")
        raise ImageError(f"a TIFF of {content}, which is not supported")
    for number, name in _OTHER_NUMBERS.items():
        if number in numbers:
            raise ImageError(f"a TIFF of {max(bits)}-bit {name}, not 8 or 16 bits per channel")
    if len(bits) != 1 or not bits <= {1, 2, 4, 8, 16}:
        depths = ", ".join(map(str, sorted(bits)))
        raise ImageError(f"a TIFF of {depths}-bit integers, not 8 or 16 bits per channel")
    return photometric, bits.pop()


def _channels(image: pyvips.Image, page: ifd.Directory, parts: Parts) -> pyvips.Image:
    """Extract grey or RGB, and alpha if there is one, from a TIFF's channels."""
    photometric = int(page.number(ifd.PHOTOMETRIC, 0))
    extra = int(page.number(ifd.SAMPLES, 1)) - _CHANNELS[photometric]
    kinds = [int(number) for number in page.numbers(ifd.EXTRA_SAMPLES)]
    if not kinds and extra == 1:
        kinds = [2]  # older programs wrote alpha like this
    alpha = next(
        (index for index, kind in enumerate(kinds[: max(extra, 0)]) if kind in (1, 2)), None
    )
    colours = image.extract_band(0, n=image.bands - max(extra, 0))
    colours = colours.copy(interpretation=image.interpretation)
    if alpha is not None:
        channel = image.extract_band(colours.bands + alpha)
    if image.interpretation == "cmyk":
        colours = _to_srgb(colours, parts)
    elif image.interpretation == "labs":
        colours = colours.colourspace("rgb16")
        parts.icc = b""
    elif photometric == _PALETTE and colours.bands == 1:  # a palette of greys
        colours = colours.bandjoin([colours, colours])
    return colours if alpha is None else colours.bandjoin(channel)


def _to_srgb(image: pyvips.Image, parts: Parts) -> pyvips.Image:
    """Convert CMYK to sRGB, by its profile if it has a valid one."""
    parts.icc = b""
    # EXIF must not contradict.
    details = parts.exif.directory(ifd.EXIF)
    if ifd.COLOR_SPACE in details:
        details[ifd.COLOR_SPACE] = ifd.Value(ifd.SHORT, struct.pack("<H", 1))
    return image.icc_transform(
        _SRGB_PROFILE,
        embedded=True,
        input_profile=_CMYK_PROFILE,
        depth=16 if image.format == "ushort" else 8,
    )


def _checked_array(image: pyvips.Image) -> np.ndarray:
    _check_size(image.width, image.height)
    return to_array(image)


def _decode_gif(data: bytes) -> tuple[np.ndarray, Parts]:
    return _decode_with_pillow("GIF", data), Parts()


def _decode_bmp(data: bytes) -> tuple[np.ndarray, Parts]:
    parts = Parts()
    (header,) = struct.unpack_from("<I", data, 14)
    if header >= 40:
        x, y = struct.unpack_from("<ii", data, 38)  # dots per metre
        parts.dpi = ifd.plausible_dpi(0.0254 * x, 0.0254 * y)
    if header >= 124 and data[70:74] == b"DEBM":  # PROFILE_EMBEDDED
        offset, size = struct.unpack_from("<II", data, 14 + 112)
        parts.icc = data[14 + offset : 14 + offset + size]
    return _decode_with_pillow("BMP", data), parts


def _decode_with_pillow(kind: str, data: bytes, page: int = 0) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            if kind != "TIFF":
                _check_frames(getattr(image, "n_frames", 1))
            image.seek(page)
            _check_size(image.width, image.height)
            image.load()
            alpha = image.has_transparency_data
            if image.mode in ("1", "L", "LA", "La"):
                return np.asarray(image.convert("LA" if alpha else "L"))
            if image.mode in ("I;16", "CMYK"):
                return np.asarray(image)
            if image.mode == "LAB":
                lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
                return np.asarray(ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"))
            if image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"):
                return np.asarray(image.convert("RGBA" if alpha else "RGB"))
            raise ImageError(f"a {kind} with pixels of mode {image.mode}, which is not supported")
    except Image.DecompressionBombError:
        raise ImageError("larger than Pillow's limit against decompression bombs") from None


def _check_size(width: int, height: int) -> None:
    if Image.MAX_IMAGE_PIXELS and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        raise ImageError(
            f"{width}×{height}: larger than {limit} megapixels, Pillow's limit against "
            "decompression bombs"
        )


def _check_frames(frames: int) -> None:
    if frames > 1:
        raise ImageError(f"animated or of several pages ({frames}), not one image")


_DECODERS: dict[str, Callable[[bytes], tuple[np.ndarray, Parts]]] = {
    "PNG": _decode_png,
    "JPEG": _decode_jpeg,
    "WebP": _decode_webp,
    "TIFF": _decode_tiff,
    "GIF": _decode_gif,
    "BMP": _decode_bmp,
    "AVIF": partial(_decode_heif, "AVIF"),
    "HEIC": partial(_decode_heif, "HEIC"),
}
