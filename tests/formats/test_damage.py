"""Damaged files: equal damage has equal results, whatever the format, depth and mode."""

import base64
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import pyvips
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from srgan_tf.errors import ImageError
from srgan_tf.formats.decoding import decode
from srgan_tf.images import read_image

HEIGHT, WIDTH = 48, 64
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
NAMES = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF", "webp": "WebP", "bmp": "BMP", "gif": "GIF"}


def photo(channels, dtype=np.uint8):
    """A smooth picture with noise, whose rows and columns all differ."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [2 * rows + 40, 3 * columns + 20, rows + columns + 60, 255 - 2 * rows]
    noise = np.random.default_rng(0).integers(-15, 16, (HEIGHT, WIDTH, 4))
    pixels = np.clip(np.stack(planes, axis=-1) + noise, 0, 255)[..., :channels].squeeze()
    return pixels.astype(np.uint8) if dtype == np.uint8 else (pixels * 257).astype(np.uint16)


def pillow(kind, mode, **options):
    file = io.BytesIO()
    Image.fromarray(photo(MODES.get(mode, 4 if mode == "CMYK" else 3))).convert(mode).save(
        file, kind, **options
    )
    return file.getvalue()


def vips(suffix, mode, dtype, **options):
    pixels = photo(MODES[mode], dtype)
    deep, grey = dtype == np.uint16, mode.startswith("L")
    interpretation = ("grey16" if grey else "rgb16") if deep else ("b-w" if grey else "srgb")
    image = pyvips.Image.new_from_array(pixels, interpretation=interpretation)
    return image.write_to_buffer(suffix, **options)


def tiff_of_pillow(mode, compression):
    file = io.BytesIO()
    image = Image.fromarray(photo(1, np.uint16)) if mode == "I;16" else Image.fromarray(photo(3))
    image.save(file, "TIFF", compression=compression)
    return file.getvalue()


def cmyk_tiff(dtype):
    file = io.BytesIO()
    tifffile.imwrite(file, photo(4, dtype), photometric="separated", compression="zlib")
    return file.getvalue()


FILES = {
    **{
        f"{depth}-{mode}.{suffix}": vips(f".{suffix}", mode, dtype, **options)
        for suffix, options in (("png", {}), ("tif", {"compression": "deflate"}))
        for depth, dtype in ((8, np.uint8), (16, np.uint16))
        for mode in MODES
    },
    **{
        f"lzw-{depth}-{mode}.tif": vips(".tif", mode, dtype, compression="lzw")
        for depth, dtype in ((8, np.uint8), (16, np.uint16))
        for mode in ("L", "RGB")
    },
    **{
        f"{compression}-{mode}.tif": tiff_of_pillow(mode, compression)
        for compression in ("zstd", "lzma")
        for mode in ("I;16", "RGB")
    },
    **{f"cmyk-{depth}.tif": cmyk_tiff(dtype) for depth, dtype in ((8, np.uint8), (16, np.uint16))},
    "tiles.tif": vips(
        ".tif", "RGB", np.uint8, compression="deflate", tile=True, tile_width=16, tile_height=16
    ),
    "palette.png": pillow("PNG", "P"),
    **{
        f"{way}-{sampling}-{mode}.jpg": pillow(
            "JPEG", mode, quality=90, subsampling=sampling, progressive=way == "progressive"
        )
        for way in ("sequential", "progressive")
        for sampling in ("4:4:4", "4:2:0")
        for mode in ("L", "RGB", "CMYK")
    },
    **{
        f"{way}-{mode}.webp": pillow("WEBP", mode, lossless=way == "lossless")
        for way in ("lossy", "lossless")
        for mode in ("RGB", "RGBA")
    },
    **{f"{mode}.bmp": pillow("BMP", mode) for mode in ("L", "P", "RGB", "RGBA")},
    "still.gif": pillow("GIF", "P"),
}
CHECKED = [
    name
    for name in FILES
    if name.endswith(".png")
    or (name.endswith(".tif") and not name.startswith(("lzw", "zstd", "lzma")))
]
# 8×8 noisy pixels, sequential and arithmetic-coded, which Pillow can't write.
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsL"
    "EBYQERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU"
    "FBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAIAAgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AGYN"
    "VPNwpzxcXrwDa4wy4Mnc/AZOvaE2rACpe7O/jsq5Xv/Z"
)
JPEGS = [name for name in FILES if name.endswith(".jpg")]


def outcome(data):
    try:
        return decode(data)[0]
    except ImageError as error:
        return str(error)


def assert_damaged(data, name):
    found = outcome(data)
    kind = NAMES[name.rpartition(".")[2]]
    assert isinstance(found, str), "pixels of a damaged file"
    assert found.startswith(f"a damaged {kind}") and len(found) > len(f"a damaged {kind}: ")


@pytest.mark.parametrize("name", FILES)
def test_a_good_file_has_the_pixels_of_its_own_library(name):
    pixels, parts = decode(FILES[name])
    assert not parts.notes
    assert pixels.dtype == (np.uint16 if "16" in name else np.uint8)
    if "cmyk" in name.lower():
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        return
    if "16" in name:
        channels = MODES.get(name.removesuffix(".tif").removesuffix(".png").rpartition("-")[2], 1)
        np.testing.assert_array_equal(pixels, photo(channels, np.uint16))
        return
    with Image.open(io.BytesIO(FILES[name])) as image:
        expected = image.convert({"P": "RGB", "PA": "RGBA"}.get(image.mode, image.mode))
        np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_an_arithmetic_coded_jpeg_is_read():
    pixels, _ = decode(ARITHMETIC)
    assert pixels.shape == (8, 8, 3)
    expected = [96, 134, 137, 150, 135, 135, 131, 131]
    np.testing.assert_allclose(pixels[0, :, 0].astype(int), expected, atol=2)


@pytest.mark.parametrize("sampling", [1, 2, 4])
def test_a_jpeg_of_one_grey_pixel(sampling):
    file = io.BytesIO()
    Image.new("L", (1, 1), 120).save(file, "JPEG")
    data = bytearray(file.getvalue())
    data[data.index(b"\xff\xc0") + 11] = 16 * sampling + sampling
    np.testing.assert_array_equal(decode(bytes(data))[0], [[120]])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.7, 0.9])
def test_a_truncated_file_is_damaged(name, part):
    data = FILES[name]
    assert_damaged(data[: int(part * len(data))], name)


@given(st.sampled_from(sorted(FILES)), st.floats(0, 1))
def test_a_file_cut_off_anywhere_is_an_error_or_the_complete_picture(name, part):
    data = FILES[name]
    found = outcome(data[: int(part * len(data))])
    if not isinstance(found, str):
        np.testing.assert_array_equal(found, decode(data)[0])


def pixel_data(name):
    """Return the range of the compressed pixels in a file."""
    data = FILES[name]
    if name.endswith(".png"):
        return data.index(b"IDAT") + 4, data.rindex(b"IEND") - 8
    if name.endswith(".jpg"):
        return data.index(b"\xff\xda") + 14, len(data) - 2
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        page = tiff.pages[0]
        return page.dataoffsets[0], page.dataoffsets[-1] + page.databytecounts[-1]


@given(st.sampled_from(CHECKED), st.floats(0, 0.999), st.integers(1, 255))
@example("16-RGBA.tif", 0.999, 1)  # without the end of the compressed data and its checksum
def test_one_wrong_byte_in_checked_data_is_an_error_or_has_no_effect(name, part, change):
    data = bytearray(FILES[name])
    first, last = pixel_data(name)
    data[first + int(part * (last - first))] ^= change
    found = outcome(bytes(data))
    if isinstance(found, str):
        assert_damaged(bytes(data), name)
    else:
        np.testing.assert_array_equal(found, decode(FILES[name])[0])


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("lzw")])
def test_wrong_bytes_in_lzw_data_are_an_error(name):
    data = bytearray(FILES[name])
    first, last = pixel_data(name)
    middle = (first + last) // 2
    data[middle : middle + 40] = bytes(byte ^ 0x5A for byte in data[middle : middle + 40])
    assert_damaged(bytes(data), name)


@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_a_jpeg_with_a_gap_is_damaged(name, part):
    first, last = pixel_data(name)
    place = first + int(part * (last - first))
    assert_damaged(FILES[name][:place] + FILES[name][place + (last - place) // 2 :], name)


@pytest.mark.parametrize("name", [name for name in JPEGS if name.startswith("sequential")])
def test_a_jpeg_with_data_twice_is_damaged(name):
    first, last = pixel_data(name)
    data, middle = FILES[name], (first + last) // 2
    assert_damaged(data[:middle] + data[first + 5 : middle] + data[middle:], name)


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_whose_end_was_never_written_is_damaged(name):
    first, last = pixel_data(name)
    written = (first + last) // 2
    assert_damaged(FILES[name][:written].ljust(len(FILES[name]), b"\0"), name)


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_without_its_last_two_bytes_or_with_extra_bytes_is_complete(name):
    data = FILES[name]
    expected = decode(data)[0]
    others = [data[:-2], b"\n" + data, data + bytes(5000)]
    if name.startswith("sequential"):  # libjpeg needs no bytes between a progressive file's scans
        others.append(data[:-2] + bytes(40) + data[-2:])
    for other in others:
        np.testing.assert_array_equal(decode(other)[0], expected)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".png")])
def test_a_png_without_its_end_is_complete(name):
    data = FILES[name]
    expected = decode(data)[0]
    for other in (data[:-12], data[:-3], data + b"garbage"):
        np.testing.assert_array_equal(decode(other)[0], expected)


def chunk(kind, payload):
    checksum = struct.pack(">I", zlib.crc32(kind + payload))
    return struct.pack(">I", len(payload)) + kind + payload + checksum


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda png: png[:4] + b"\n\x1a\n" + png[8:], "wrong signature"),
        (lambda png: b"\x09" + png[1:], "wrong signature"),
        (lambda png: png[:33] + png[33:].replace(b"IDAT", b"iDAT"), "header is wrong|read error"),
        (lambda png: png[:29] + bytes(4) + png[33:], "the checksum of its IHDR is wrong"),
    ],
)
def test_a_png_damaged_elsewhere(change, reason):
    with pytest.raises(ImageError, match=f"a damaged PNG: .*({reason})"):
        decode(change(FILES["8-RGB.png"]))


@pytest.mark.parametrize("offset", [8, 9])  # depth and kind of colour
@pytest.mark.parametrize("value", [5, 99])
def test_a_png_of_an_impossible_header(offset, value):
    data = FILES["8-RGB.png"]
    header = bytearray(data[16:29])
    header[offset] = value
    assert_damaged(data[:8] + chunk(b"IHDR", bytes(header)) + data[33:], ".png")


def test_jpegs_that_cannot_be_read_are_named():
    for old, new, words in (
        (b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c", "a 12-bit JPEG"),
        (b"\xff\xc0", b"\xff\xc3", "a lossless or hierarchical JPEG"),
    ):
        data = FILES["sequential-4:4:4-RGB.jpg"]
        with pytest.raises(ImageError, match=words):
            decode(data.replace(old, new, 1))


def test_threads_get_the_same_results_and_messages():
    files = [data[: int(part * len(data))] for data in FILES.values() for part in (0.5, 1.0)]
    expected = [outcome(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, alone in zip(pool.map(outcome, files), expected, strict=True):
                np.testing.assert_array_equal(found, alone)


def test_a_sound_jpeg_logs_no_warning(caplog):
    decode(pillow("JPEG", "RGB"))
    assert not caplog.records


def test_data_after_a_webp_is_ignored(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", lossless=True)
    (tmp_path / "a.webp").write_bytes(file.getvalue() + b"trailer of a program")
    np.testing.assert_array_equal(read_image(tmp_path / "a.webp").pixels, pixels)
