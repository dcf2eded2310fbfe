"""Image files: round trips, conversions, and errors on broken files."""

import errno
import os
import signal
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms

from srgan_tf.errors import ImageError
from srgan_tf.images import read_image, to_levels, write_image

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS = (".png", ".tif", ".bmp")
ALPHA = (".png", ".tif", ".webp")


def pixels(channels=3, dtype=np.uint8, height=20, width=30, seed=0):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def smooth(channels=3):
    rows, columns = np.mgrid[0:40, 0:60]
    planes = [2 * rows + 40, 3 * columns + 20, rows + columns + 60, 255 - 2 * rows]
    return np.stack(planes[:channels], axis=-1).astype(np.uint8)


def test_levels_are_rounded_and_clipped():
    values = np.array([-0.5, 0.0, 0.6 / 255, 0.5, 1.0, 1.5], np.float32)
    assert to_levels(values).tolist() == [0, 0, 1, 128, 255, 255]
    values = np.array([-0.5, 0.0, 0.6 / 65535, 1.0, 1.5], np.float32)
    assert to_levels(values, np.uint16).tolist() == [0, 0, 1, 65535, 65535]


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip(tmp_path, suffix, channels):
    expected = pixels(channels)
    write_image(tmp_path / f"a{suffix}", expected, dpi=(300, 300))
    photo = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.dpi == pytest.approx((300, 300), abs=0.02)


@pytest.mark.parametrize("suffix", [*LOSSLESS, ".jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_grey_pixel(tmp_path, suffix, dtype):
    write_image(tmp_path / f"a{suffix}", np.zeros((1, 1), dtype))
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, [[0]])


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_round_trip_is_close(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", smooth(), ICC, (200, 200))
    photo = read_image(tmp_path / f"a{suffix}")
    assert np.abs(photo.pixels.astype(int) - smooth()).mean() < 2
    assert photo.icc_profile == ICC
    assert photo.dpi == pytest.approx((200, 200), abs=0.02)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_kept(tmp_path, suffix, channels):
    expected = pixels(channels, np.uint16) // 200  # dark, so that no pixel is above 255
    write_image(tmp_path / f"a{suffix}", expected, ICC if channels > 2 else None, (240, 240))
    photo = read_image(tmp_path / f"a{suffix}")
    assert photo.pixels.dtype == np.uint16
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.icc_profile == (ICC if channels > 2 else None)
    assert photo.dpi == pytest.approx((240, 240), abs=0.02)


def test_16_bit_files_of_other_programs(tmp_path):
    grey, colour = pixels(1, np.uint16), pixels(3, np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").pixels, grey)
    for byteorder in "<>":
        for photometric, expected in (("rgb", colour), ("minisblack", grey)):
            path = tmp_path / "a.tif"
            tifffile.imwrite(path, expected, byteorder=byteorder, photometric=photometric)
            np.testing.assert_array_equal(read_image(path).pixels, expected)
    tifffile.imwrite(tmp_path / "planes.tif", colour.transpose(2, 0, 1), planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "planes.tif").pixels, colour)


def test_a_16_bit_png_written_here_reads_the_same_elsewhere(tmp_path):
    expected = pixels(3, np.uint16)
    write_image(tmp_path / "a.png", expected)
    data = (tmp_path / "a.png").read_bytes()
    assert struct.unpack(">IIBB", data[16:26]) == (30, 20, 16, 2)  # size, depth, RGB
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected >> 8)


def test_16_bits_are_rounded_to_8_where_the_format_has_no_more(tmp_path):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    write_image(tmp_path / "a.bmp", levels)
    expected = np.rint(levels / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.bmp").pixels, expected)


@pytest.mark.parametrize("suffix", ALPHA)
def test_alpha_is_kept(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", smooth(4))
    photo = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(photo.pixels[..., 3], smooth(4)[..., 3])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_and_alpha_are_kept(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", pixels(2))
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}").pixels, pixels(2))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["8-bit.png", "16-bit.png", "16-bit.tif", "8-bit.tif"])
def test_orientation_is_applied(tmp_path, orientation, kind):
    """By EXIF's definition of where the stored row 0 and column 0 are."""
    stored = pixels(3, np.uint16 if kind.startswith("16") else np.uint8)
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    image = pyvips.Image.new_from_array(stored).copy(xres=10.0, yres=5.0)
    image = image.copy(interpretation="rgb16" if stored.dtype == np.uint16 else "srgb")
    image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    image.write_to_file(str(tmp_path / kind))
    photo = read_image(tmp_path / kind)
    np.testing.assert_array_equal(photo.pixels, turned)
    x, y = (127, 254) if orientation >= 5 else (254, 127)
    assert photo.dpi == pytest.approx((x, y), abs=0.1)


def test_rotated_jpeg(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", exif=exif, quality=98, subsampling=0)
    photo = read_image(tmp_path / "a.jpg")
    assert photo.pixels.shape == (60, 40, 3)
    assert np.abs(photo.pixels.astype(int) - np.rot90(smooth(), -1)).mean() < 2


@pytest.mark.parametrize(
    ("mode", "channels"), [("1", None), ("L", None), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4)]
)
def test_modes(tmp_path, mode, channels):
    image = Image.fromarray(smooth(4 if "A" in mode else 3)).convert(mode)
    image.save(tmp_path / "a.png")
    photo = read_image(tmp_path / "a.png")
    assert photo.pixels.shape == ((40, 60, channels) if channels else (40, 60))
    expected = image.convert({None: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels])
    np.testing.assert_array_equal(photo.pixels, np.asarray(expected))


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    expected = np.full((2, 4, 4), (10, 20, 30, 255), np.uint8)
    expected[0, 1] = 200, 100, 50, 0
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").pixels, expected)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    cmyk = np.zeros((16, 64, 4), np.uint8)
    for index in range(4):  # white, cyan, yellow, black
        cmyk[:, 16 * index : 16 * (index + 1)] = [
            (0, 0, 0, 0),
            (255, 0, 0, 0),
            (0, 0, 255, 0),
            (0, 0, 0, 255),
        ][index]
    Image.fromarray(cmyk, "CMYK").save(tmp_path / f"a{suffix}")
    photo = read_image(tmp_path / f"a{suffix}")
    assert photo.pixels.dtype == np.uint8
    white, cyan, yellow, black = photo.pixels[8, 8::16].astype(int)
    assert white.min() >= 250
    assert cyan[0] < 60 < 120 < cyan[1:].min()
    assert yellow[2] < 60 < 200 < yellow[:2].min()
    assert black.max() < 60
    assert photo.icc_profile is None


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 3), (".tif", 4), (".webp", 3)])
def test_icc_profile_is_kept(tmp_path, suffix, channels):
    write_image(tmp_path / f"a{suffix}", pixels(channels), ICC)
    assert read_image(tmp_path / f"a{suffix}").icc_profile == ICC


def test_a_phones_jpeg_with_a_second_picture_is_its_first(tmp_path):
    other = Image.fromarray(smooth()[::-1])
    Image.fromarray(smooth()).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[other], quality=98
    )
    photo = read_image(tmp_path / "a.jpg")
    assert np.abs(photo.pixels.astype(int) - smooth()).mean() < 4


def test_a_changed_file_is_read_again(tmp_path):
    for seed in (0, 1):
        write_image(tmp_path / "a.png", pixels(3, np.uint16, seed=seed))
        found = read_image(tmp_path / "a.png").pixels
        np.testing.assert_array_equal(found, pixels(3, np.uint16, seed=seed))


def png_of_size(width, height):
    def chunk(kind, data):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bad_file(folder, kind):
    """Create a file that can't be enlarged; return its path and a word of its error."""
    frames = [Image.fromarray(pixels(3, seed=seed)) for seed in range(3)]
    if kind == "empty":
        (folder / "empty.png").touch()
        return folder / "empty.png", "empty"
    if kind == "text":
        (folder / "text.png").write_text("not an image")
        return folder / "text.png", "not a PNG"
    if kind == "bomb":
        (folder / "bomb.png").write_bytes(png_of_size(60000, 60000))
        return folder / "bomb.png", "decompression bomb"
    if kind.startswith("truncated"):
        path = folder / kind
        write_image(path, pixels(3, np.uint16 if "16" in kind else np.uint8, 200, 200))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path, ""
    frames[0].save(folder / kind, save_all=True, append_images=frames[1:])
    return folder / kind, "(3)"


BAD = (
    "empty",
    "text",
    "bomb",
    "truncated.png",
    "truncated.jpg",
    "truncated.webp",
    "truncated.tif",
    "truncated.bmp",
    "truncated.jfif",
    "truncated-16.png",
    "truncated-16.tif",
    "animated.gif",
    "animated.webp",
    "animated.png",
    "pages.tif",
)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_says_what_is_wrong(tmp_path, kind):
    path, word = bad_file(tmp_path, kind)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert word in message
    assert len(message) > len(f"{path}: ") + 8


def test_32_bit_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="a TIFF of 32-bit floating point"):
        read_image(tmp_path / "a.tif")


def test_images_that_a_format_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ImageError, match="alpha"):
        write_image(tmp_path / "a.jpg", pixels(4))
    for shape in ((1, 16384), (12000, 16000)):
        with pytest.raises(ImageError, match=r"more than \.webp holds; write \.png"):
            write_image(tmp_path / "a.webp", np.broadcast_to(np.uint8(0), shape))
    with pytest.raises(ImageError, match=r"\.xyz"):
        write_image(tmp_path / "a.xyz", pixels())
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_alpha_is_dropped_in_formats_without_alpha(tmp_path, suffix, channels, dtype):
    opaque = smooth(channels).astype(dtype) * (np.iinfo(dtype).max // 255)
    opaque[..., -1] = np.iinfo(dtype).max
    write_image(tmp_path / f"a{suffix}", opaque)
    found = read_image(tmp_path / f"a{suffix}").pixels
    expected = smooth(channels)[..., :-1].squeeze()
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("suffix", [".jpg", ".jfif", ".jpeg", ".webp"])
def test_quality(tmp_path, suffix):
    sizes = []
    for quality in (10, 50, 95):
        write_image(tmp_path / f"a{suffix}", pixels(), quality=quality)
        sizes.append((tmp_path / f"a{suffix}").stat().st_size)
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert image.format == ("WEBP" if suffix == ".webp" else "JPEG")
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("quality", [-5, 0, 101])
def test_a_quality_that_does_not_exist_is_refused(tmp_path, suffix, quality):
    with pytest.raises(ValueError, match=f"quality {quality}"):
        write_image(tmp_path / f"a{suffix}", pixels(), quality=quality)
    assert not any(tmp_path.iterdir())


def lowest_free_descriptor():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("missing", [1, 20000])
def test_a_failed_write_names_the_systems_reason_and_closes_the_file(tmp_path, suffix, missing):
    resource = pytest.importorskip("resource")
    path, image = tmp_path / f"a{suffix}", pixels(3, height=120, width=160)
    write_image(path, image)
    size, free = path.stat().st_size, lowest_free_descriptor()
    path.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, hard))
    try:
        with pytest.raises(ImageError, match=f"written: {os.strerror(errno.EFBIG)}") as caught:
            write_image(path, image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert lowest_free_descriptor() == free, caught
    assert not any(tmp_path.iterdir())


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    def fail(self, target, suffix, **options):
        raise pyvips.Error("disk full")

    monkeypatch.setattr(pyvips.Image, "write_to_target", fail)
    with pytest.raises(ImageError, match="can't be written"):
        write_image(tmp_path / "a.png", pixels())
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_after_libvips_was_used_gets_an_error(tmp_path):
    write_image(tmp_path / "a.png", pixels(3, np.uint8, 4, 5))
    code = """
import multiprocessing, pathlib, sys, numpy as np
from srgan_tf import Upscaler, images
path = pathlib.Path(sys.argv[1])
photo = np.full((4, 5, 4), 200, np.uint8)
photo[0, 0, 3] = 0
def read(): images.read_image(path)
def write(): images.write_image(path.with_name("b.jpg"), photo[..., :3])
def fill(): Upscaler("srgan-mobile").upscale(photo)
def error(number):
    try:
        (read, write, fill)[number]()
    except RuntimeError as error:
        return str(error)
read()
with multiprocessing.get_context("fork").Pool(1) as pool:
    errors = pool.map(error, range(3))
assert all("spawn" in error for error in errors), errors
"""
    command = [sys.executable, "-c", code, tmp_path / "a.png"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert not (tmp_path / "b.jpg").exists()


def test_ctrl_c_is_not_lost_while_libvips_works(tmp_path):
    photo = pixels(height=1500, width=1500)
    threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(20):
            write_image(tmp_path / "a.png", photo)


def test_libvips_prints_nothing_on_damage(tmp_path):
    Image.fromarray(pixels(height=300, width=300)).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: len(content) // 2])
    program = "from srgan_tf.images import read_image\nimport pathlib, sys\n"
    program += "try: read_image(pathlib.Path(sys.argv[1]))\nexcept Exception as error: print(error)"
    words = [sys.executable, "-c", program, tmp_path / "a.tif"]
    run = subprocess.run(words, capture_output=True, text=True)
    assert "damaged TIFF" in run.stdout and not run.stderr
