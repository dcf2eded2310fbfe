"""AVIF and HEIC files, read by libvips or pillow-heif."""

import base64
import importlib.util
import io

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, features

from srgan_tf.errors import ImageError
from srgan_tf.formats import decoding
from srgan_tf.images import read_image

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
MAKE, ORIENTATION = 0x010F, 0x0112
# 64×64 pixels of (200, 120, 40), HEVC of quality 50.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABegABAAAAAAAAABwAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAAAAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34"
    "+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmu"
    "bgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAA"
    "QAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAACRtZGF0AAAAGCgBrxOA5qhw07/xpR//"
    "bX54fJhQtJ5v3w=="
)

avif = pytest.mark.skipif(
    not (features.check("avif") and ".avif" in pyvips.get_suffixes()),
    reason="Pillow can't write AVIF, or libvips can't read it",
)


def picture():
    rows, columns = np.mgrid[0:40, 0:60]
    return np.stack([2 * rows + 40, 3 * columns + 20, rows + columns + 60], -1).astype(np.uint8)


def encoded(**options):
    stream = io.BytesIO()
    Image.fromarray(picture()).save(stream, "AVIF", quality=95, subsampling="4:4:4", **options)
    return stream.getvalue()


def read(folder, data, name="photo.avif"):
    (folder / name).write_bytes(data)
    return read_image(folder / name)


@avif
def test_avif_keeps_colours_and_metadata_and_is_turned_once(tmp_path):
    exif = Image.Exif()
    exif[MAKE], exif[ORIENTATION] = "Camera", 6  # rotate by 90° clockwise
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    photo = read(tmp_path, encoded(exif=exif.tobytes(), xmp=xmp, icc_profile=ICC))
    expected = np.rot90(picture(), -1)
    assert photo.pixels.shape == expected.shape
    assert np.abs(photo.pixels.astype(int) - expected).mean() < 2
    assert photo.icc_profile == ICC
    kept = Image.Exif()
    kept.load(photo.metadata.exif)
    assert kept[MAKE] == "Camera" and ORIENTATION not in kept


@avif
def test_avif_of_10_bits_has_16(tmp_path):
    levels = picture().astype(np.uint16) * 257
    image = pyvips.Image.new_from_array(levels, interpretation="rgb16")
    data = image.heifsave_buffer(compression="av1", bitdepth=10, Q=95, subsample_mode="off")
    pixels = read(tmp_path, data).pixels
    assert pixels.dtype == np.uint16
    assert np.abs(pixels.astype(int) - levels).mean() < 2 * 257


@avif
@pytest.mark.parametrize("bits", [10, 12])
def test_white_and_opaque_avif_has_the_highest_level(tmp_path, bits):
    levels = np.full((20, 30, 4), 65535, np.uint16)
    levels[:, 15:, :3] = 0
    image = pyvips.Image.new_from_array(levels, interpretation="rgb16")
    data = image.heifsave_buffer(compression="av1", bitdepth=bits, lossless=True)
    np.testing.assert_array_equal(read(tmp_path, data).pixels, levels)


@avif
def test_hdr_is_refused(tmp_path):
    data = encoded()
    srgb, pq = b"colrnclx\0\1\0\x0d", b"colrnclx\0\x09\0\x10"
    assert srgb in data and read(tmp_path, data).icc_profile is None
    with pytest.raises(ImageError, match="HDR"):
        read(tmp_path, data.replace(srgb, pq))


@avif
@pytest.mark.parametrize("end", [-100, 60])
def test_a_damaged_avif_is_refused(tmp_path, end):
    with pytest.raises(ImageError, match=r"a damaged AVIF: [A-Z]"):
        read(tmp_path, encoded()[:end])


def test_whether_a_heic_needs_pillow_heif_does_not_depend_on_a_message(tmp_path, monkeypatch):
    def fail(image):
        raise pyvips.Error("", "VipsJpeg: premature end of JPEG image")

    monkeypatch.setattr(decoding, "to_array", fail)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"pip install 'srgan-tf\[heic\]'"):
        read(tmp_path, HEIC, "photo.heic")


def test_heic_is_read_or_says_what_it_needs(tmp_path):
    try:
        pyvips.Image.heifload_buffer(HEIC).avg()
        readable = True
    except pyvips.Error:
        readable = importlib.util.find_spec("pillow_heif") is not None
    if readable:
        photo = read(tmp_path, HEIC, "photo.heic")
        assert photo.pixels.shape == (64, 64, 3)
        assert np.abs(photo.pixels.astype(int) - (200, 120, 40)).max() < 6
    else:
        with pytest.raises(ImageError, match=r"pip install 'srgan-tf\[heic\]'"):
            read(tmp_path, HEIC, "photo.heic")
