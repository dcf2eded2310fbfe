"""Colour spaces that a file states by other means than an ICC profile."""

import io
import struct
import zlib

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms
from test_damage import chunk

from srgan_tf.errors import ImageError
from srgan_tf.formats import colour
from srgan_tf.images import read_image, write_image

LEVELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
SRGB = ImageCms.createProfile("sRGB")


def png(pixels, *chunks):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = file.getvalue()
    return data[:33] + b"".join(chunks) + data[33:]


def colorants(profile):
    """Read rXYZ, gXYZ and bXYZ by LittleCMS."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    return np.array([getattr(opened, f"{name}_colorant")[0] for name in ("red", "green", "blue")])


def to_srgb(pixels, profile):
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    image = Image.fromarray(pixels)
    return np.asarray(ImageCms.profileToProfile(image, opened, SRGB, outputMode="RGB"))


def test_adobe_rgb_has_the_published_primaries():
    """Adobe RGB (1998) Color Image Encoding, 4.3.6: XYZ relative to D50, and γ = 2.19921875."""
    expected = [
        [0.60974, 0.31111, 0.01947],
        [0.20528, 0.62567, 0.06087],
        [0.14919, 0.06322, 0.74457],
    ]
    np.testing.assert_allclose(colorants(colour.adobe_rgb_profile(False)), expected, atol=2e-4)


def test_display_p3_equals_apples_profile():
    """The colorants of Apple's profile; libvips' profile differs where they are negative."""
    expected = [
        [0.51512, 0.2412, -0.00105],
        [0.29198, 0.69225, 0.04189],
        [0.1571, 0.06657, 0.78407],
    ]
    ours = colour.cicp_profile((12, 13, 0, 1), grey=False)
    np.testing.assert_allclose(colorants(ours), expected, atol=2e-5)
    image = pyvips.Image.new_from_array(LEVELS, interpretation="srgb")
    theirs = bytes(image.icc_export(output_profile="p3").get("icc-profile-data"))
    difference = to_srgb(LEVELS, ours).astype(int) - to_srgb(LEVELS, theirs)
    assert np.abs(difference).mean() < 0.1


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
def test_gamma_profiles_apply_the_exponent(gamma):
    """From linear light to sRGB by IEC 61966-2-1's formula."""
    profile = colour.gamma_profile(1 / gamma, colour.ADOBE_RGB, False)
    assert len(profile) > 128
    profile = colour.gamma_profile(1 / gamma, None, False)
    if gamma == 2.2:
        assert profile == b""
        return
    light = (np.arange(256) / 255) ** gamma
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_allclose(to_srgb(greys, profile)[0, :, 1], 255 * expected, atol=1.5)


def test_grey_has_a_grey_profile():
    profile = colour.gamma_profile(1.0, None, True)
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    assert opened.xcolor_space.strip() == "GRAY"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("grey", [False, True])
def test_gamma_is_kept_as_a_profile(tmp_path, suffix, grey):
    levels = LEVELS[..., 0] if grey else LEVELS
    linear = chunk(b"gAMA", struct.pack(">I", 100000))
    (tmp_path / "in.png").write_bytes(png(levels, linear))
    photo = read_image(tmp_path / "in.png")
    np.testing.assert_array_equal(photo.pixels, levels)
    write_image(tmp_path / f"out{suffix}", photo.pixels, photo.icc_profile)
    found = read_image(tmp_path / f"out{suffix}").icc_profile
    if (suffix, grey) == (".webp", True):  # WebP has no grey
        assert found == colour.gamma_profile(1.0, None, grey=False)
    else:
        assert found == photo.icc_profile


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_grey_with_an_rgb_profile_keeps_its_curve(tmp_path, suffix):
    profile = colour.gamma_profile(1.0, colour.ADOBE_RGB, False)
    Image.fromarray(LEVELS[..., 0]).save(tmp_path / "in.jpg", icc_profile=profile)
    photo = read_image(tmp_path / "in.jpg")
    assert photo.icc_profile == colour.gamma_profile(1.0, None, True) and photo.note == ""
    write_image(tmp_path / f"out{suffix}", photo.pixels, photo.icc_profile)
    assert read_image(tmp_path / f"out{suffix}").icc_profile == photo.icc_profile


@pytest.mark.parametrize(
    ("chunks", "has_profile"),
    [
        ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455))], False),
        ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))], False),
        ([(b"gAMA", struct.pack(">I", 45455))], False),
        ([(b"gAMA", struct.pack(">I", 0))], False),
        ([(b"gAMA", struct.pack(">I", 55556))], True),
        ([(b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", struct.pack(">I", 100000))], False),
        ([(b"cICP", bytes([9, 1, 0, 1]))], True),
        (
            [
                (b"gAMA", struct.pack(">I", 45455)),
                (
                    b"cHRM",
                    struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
                ),
            ],
            False,
        ),
        (
            [
                (b"gAMA", struct.pack(">I", 45455)),
                (
                    b"cHRM",
                    struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000),
                ),
            ],
            True,
        ),
    ],
)
def test_which_colour_chunk_applies(tmp_path, chunks, has_profile):
    (tmp_path / "a.png").write_bytes(png(LEVELS, *(chunk(*values) for values in chunks)))
    photo = read_image(tmp_path / "a.png")
    assert (photo.icc_profile is not None) == has_profile and photo.note == ""


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("way", ["cICP", "ICC"])
def test_hdr_is_refused(tmp_path, transfer, name, way):
    cicp = bytes([9, transfer, 0, 1])
    if way == "cICP":
        added = chunk(b"cICP", cicp)
    else:
        profile = bytearray(colour.adobe_rgb_profile(False))
        profile[132:140] = b"cicp" + struct.pack(">I", len(profile))
        profile += b"cicp" + bytes(4) + cicp
        profile[:4] = struct.pack(">I", len(profile))
        added = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(profile)))
    (tmp_path / "a.png").write_bytes(png(LEVELS, added))
    with pytest.raises(ImageError, match=rf"a\.png: an HDR image \({name}\)"):
        read_image(tmp_path / "a.png")


def test_ignored_code_points_are_noted(tmp_path):
    (tmp_path / "a.png").write_bytes(png(LEVELS, chunk(b"cICP", bytes([9, 9, 0, 1]))))
    assert "cICP 9-9-0-1" in read_image(tmp_path / "a.png").note


@pytest.mark.parametrize(
    ("space", "index", "is_adobe_rgb"),
    [(1, "R98", False), (65535, "R03", True), (65535, "R98", False), (2, "R98", True)],
)
def test_adobe_rgb_by_exif(tmp_path, space, index, is_adobe_rgb):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: space, 0xA005: {1: index}}
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg", exif=exif)
    profile = read_image(tmp_path / "a.jpg").icc_profile
    assert (profile == colour.adobe_rgb_profile(False)) == is_adobe_rgb
    assert (profile is None) != is_adobe_rgb
    icc = ImageCms.ImageCmsProfile(SRGB).tobytes()
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg", exif=exif, icc_profile=icc)
    assert read_image(tmp_path / "a.jpg").icc_profile == icc


def test_the_segments_of_a_jpegs_profile_are_ordered_by_their_numbers(tmp_path):
    icc, file = ImageCms.ImageCmsProfile(SRGB).tobytes(), io.BytesIO()
    Image.fromarray(LEVELS).save(file, "JPEG")
    data, segments = file.getvalue(), b""
    for number, part in ((2, icc[300:]), (1, icc[:300])):
        payload = b"ICC_PROFILE\0" + bytes([number, 2]) + part
        segments += struct.pack(">HH", 0xFFE2, len(payload) + 2) + payload
    (tmp_path / "a.jpg").write_bytes(data[:2] + segments + data[2:])
    photo = read_image(tmp_path / "a.jpg")
    assert photo.icc_profile == icc and photo.note == ""


def test_a_profile_of_other_pixels_is_ignored(tmp_path):
    grey = colour.gamma_profile(1.0, None, True)
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg", icc_profile=grey)
    photo = read_image(tmp_path / "a.jpg")
    assert photo.icc_profile is None and photo.note == "its ICC profile (of GRAY) is ignored"


def test_a_bmp_is_converted_to_srgb(tmp_path):
    profile = colour.adobe_rgb_profile(False)
    write_image(tmp_path / "a.bmp", LEVELS, profile)
    found = read_image(tmp_path / "a.bmp")
    assert found.icc_profile is None
    difference = found.pixels.astype(int) - to_srgb(LEVELS, profile)
    assert np.abs(difference).max() <= 2
