"""Kinds of TIFF that are read, and errors on others."""

import struct

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from srgan_tf.errors import ImageError
from srgan_tf.images import read_image, write_image

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (40, 60, 3), np.uint8)
GREY = RGB[..., 0]
MASK = np.where(np.arange(60) < 30, 0, 200)[None].repeat(40, 0).astype(np.uint8)
DEPTHS = (np.uint8, np.uint16)


def deep(pixels, dtype):
    return pixels if dtype == np.uint8 else pixels.astype(np.uint16) * 257


def written(path, pixels, dtype, **options):
    tifffile.imwrite(path, deep(pixels, dtype), **options)
    return read_image(path).pixels


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("colours", [GREY, RGB])
@pytest.mark.parametrize(
    ("kinds", "alpha"),
    [
        (["unspecified"], None),
        (["unassalpha"], 0),
        (["unspecified", "unassalpha"], 1),
        (["unassalpha", "unspecified"], 0),
        (["unspecified", "unspecified"], None),
    ],
)
def test_only_alpha_is_taken_for_transparency(tmp_path, dtype, colours, kinds, alpha):
    extra = [MASK, 255 - MASK]
    pixels = np.dstack([colours, *extra[: len(kinds)]])
    photometric = "rgb" if colours is RGB else "minisblack"
    found = written(
        tmp_path / "a.tif",
        pixels,
        dtype,
        photometric=photometric,
        extrasamples=kinds,
        planarconfig="contig",
    )
    expected = colours if alpha is None else np.dstack([colours, extra[alpha]])
    np.testing.assert_array_equal(found, deep(expected, dtype))


@pytest.mark.parametrize("dtype", DEPTHS)
def test_premultiplied_colours_are_divided_by_alpha(tmp_path, dtype):
    most = np.iinfo(dtype).max
    alpha = np.full((40, 60), most // 2, dtype)
    straight = deep(RGB, dtype)
    multiplied = np.rint(straight * (alpha[..., None] / most)).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"]
    )
    found = read_image(path).pixels
    np.testing.assert_array_equal(found[..., 3], alpha)
    assert np.abs(found[..., :3].astype(int) - straight).max() <= 1


@pytest.mark.parametrize("dtype", DEPTHS)
def test_the_picture_among_its_smaller_copies_is_taken(tmp_path, dtype):
    full, small = deep(RGB, dtype), RGB[::4, ::4].copy()
    for name, pages in {
        "last": [(full, 0), (small, 1)],
        "first": [(small, 1), (full, 0)],
    }.items():
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as tiff:
            for pixels, subfiletype in pages:
                photometric = "rgb" if pixels.ndim == 3 else "minisblack"
                tiff.write(pixels, photometric=photometric, subfiletype=subfiletype)
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.tif").pixels, full)
    image = pyvips.Image.new_from_array(full)
    image.tiffsave(
        str(tmp_path / "pyramid.tif"), pyramid=True, tile=True, tile_width=16, tile_height=16
    )
    np.testing.assert_array_equal(read_image(tmp_path / "pyramid.tif").pixels, full)


def test_several_pictures_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RGB, RGB, RGB]), photometric="rgb")
    with pytest.raises(ImageError, match=r"of several pages \(3\)"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", DEPTHS)
def test_cmyk_with_alpha(tmp_path, dtype):
    white = np.zeros((40, 60, 4), np.uint8)
    found = written(
        tmp_path / "a.tif",
        np.dstack([white, MASK]),
        dtype,
        photometric="separated",
        extrasamples=["unassalpha"],
    )
    assert found.dtype == dtype and found.shape == (40, 60, 4)
    assert found[..., :3].min() >= deep(np.uint8(250), dtype)
    np.testing.assert_array_equal(found[..., 3], deep(MASK, dtype))


def test_cmyk_of_either_decoder_becomes_the_same_rgb(tmp_path):
    cmyk = Image.fromarray(np.dstack([RGB, MASK]), "CMYK")
    found = []
    for compression in ("raw", "zstd"):
        cmyk.save(tmp_path / "a.tif", compression=compression)
        found.append(read_image(tmp_path / "a.tif").pixels)
    np.testing.assert_array_equal(found[0], found[1])


def test_lab_becomes_srgb(tmp_path):
    """L* of 0, 50 and 100; CIE 1976 and IEC 61966-2-1 give mid-grey as 118.9 of 255."""
    lightness = np.repeat(np.array([0, 50, 100]), 20)[None].repeat(40, 0)
    for dtype, scale in ((np.uint8, 255 / 100), (np.uint16, 65535 / 100)):
        lab = np.zeros((40, 60, 3), dtype)
        lab[..., 0] = np.rint(lightness * scale)
        tifffile.imwrite(tmp_path / "a.tif", lab, photometric="cielab")
        found = read_image(tmp_path / "a.tif").pixels
        assert found.dtype == dtype
        levels = found[20, [10, 30, 50]] / np.iinfo(dtype).max * 255
        np.testing.assert_allclose(levels, [[0] * 3, [118.9] * 3, [255] * 3], atol=2.5)


@pytest.mark.parametrize("dtype", DEPTHS)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("way", [{}, {"tile": (16, 16)}, {"planarconfig": "separate"}])
def test_structures(tmp_path, dtype, order, big, way):
    pixels = deep(RGB, dtype)
    stored = pixels.transpose(2, 0, 1).copy() if "planarconfig" in way else pixels
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", byteorder=order, bigtiff=big, **way
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


@pytest.mark.parametrize("dtype", DEPTHS)
def test_white_is_zero(tmp_path, dtype):
    inverted = np.iinfo(dtype).max - deep(GREY, dtype)
    tifffile.imwrite(tmp_path / "a.tif", inverted, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, deep(GREY, dtype))


def test_white_is_zero_in_what_only_pillow_decodes(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(deep(GREY, np.uint16)).save(path, compression="zstd")
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<HHI", 262, 3, 1))
    data[place + 8] = 0
    path.write_bytes(data)
    np.testing.assert_array_equal(read_image(path).pixels, 65535 - deep(GREY, np.uint16))


@pytest.mark.slow
def test_one_large_strip(tmp_path):
    """As written by raw converters; libvips refuses more than 50 MB without `unlimited`."""
    noise = rng.integers(0, 2**16, (3000, 3000, 3), np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", noise, photometric="rgb", compression="zlib", rowsperstrip=3000
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, noise)


@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        ((RGB / 255).astype(np.float32), {"photometric": "rgb"}, "32-bit floating point"),
        ((RGB / 255).astype(np.float16), {"photometric": "rgb"}, "16-bit floating point"),
        (GREY.astype(np.int16), {"photometric": "minisblack"}, "16-bit signed integers"),
        (GREY.astype(np.uint32), {"photometric": "minisblack"}, "32-bit integers"),
        (GREY, {"photometric": "cfa"}, "a raw photo"),
    ],
)
def test_the_error_of_other_kinds_names_them(tmp_path, pixels, options, words):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    with pytest.raises(ImageError, match=f"a TIFF of {words}"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", DEPTHS)
def test_what_is_written_here_is_read_by_others(tmp_path, channels, dtype):
    pixels = deep(rng.integers(0, 256, (40, 60, channels), np.uint8).squeeze(), dtype)
    write_image(tmp_path / "a.tif", pixels)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert len(tiff.pages) == 1
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(tmp_path / "a.tif")), pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)
