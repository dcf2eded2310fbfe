"""EXIF, XMP, IPTC and resolution, which are kept in results and never make a photo unreadable."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, IptcImagePlugin
from test_damage import chunk

from srgan_tf.formats import ifd
from srgan_tf.formats.containers import strip_stale_xmp
from srgan_tf.formats.decoding import decode
from srgan_tf.images import Metadata, read_image, write_image

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
SUFFIXES = (".jpg", ".jfif", ".png", ".webp", ".tif")
MAKE, MODEL, DATE, COPYRIGHT, EXPOSURE, COMMENT = 0x10F, 0x110, 0x132, 0x8298, 0x829A, 0x9286
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'tiff:Orientation="6" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="image/jpeg">'
    b"<tiff:ImageWidth>32</tiff:ImageWidth><xmp:Thumbnails><rdf:Alt><rdf:li>/9j/4AAQ</rdf:li>"
    b"</rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x05\x00\x05Title\x1c\x02\x50\x00\x08Jane Doe"


def exif(endian="<", orientation=6):
    tags = Image.Exif()
    tags.endian = endian
    tags[MAKE], tags[MODEL], tags[DATE] = "Maker", "Model 7", "2020:01:02 03:04:05"
    tags[COPYRIGHT] = "Jane Doe"
    tags[ifd.ORIENTATION] = orientation
    tags[ifd.X_RESOLUTION], tags[ifd.Y_RESOLUTION], tags[ifd.RESOLUTION_UNIT] = 300.0, 200.0, 2
    tags[ifd.EXIF] = {EXPOSURE: 0.01, COMMENT: b"ASCII\0\0\0text", ifd.PIXEL_WIDTH: 32}
    tags[ifd.GPS] = {1: "N", 2: (47.0, 22.0, 10.5), 3: "E", 4: (8.0, 32.0, 0.0)}
    return tags


def with_thumbnail(data):
    """Return EXIF with a second directory, the thumbnail's."""
    (count,) = struct.unpack_from("<H", data, 14)
    link = 6 + 8 + 2 + 12 * count
    offset = len(data) - 6
    thumbnail = b"\xff\xd8thumbnail\xff\xd9"
    second = struct.pack("<H2HII", 1, 0x201, 4, 1, offset + 18) + bytes(4) + thumbnail
    return data[:link] + struct.pack("<I", offset) + data[link + 4 :] + second


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("endian", "<>")
def test_metadata_is_kept(tmp_path, suffix, endian):
    data = exif(endian).tobytes()
    data = with_thumbnail(data) if endian == "<" else data
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", exif=data, xmp=XMP, quality=98)
    photo = read_image(tmp_path / "in.jpg")
    assert photo.pixels.shape == (32, 24, 3)  # turned
    assert photo.dpi == pytest.approx((200, 300))
    assert b"thumbnail" not in photo.metadata.exif
    metadata = Metadata(photo.metadata.exif, photo.metadata.xmp, IPTC)
    large = np.repeat(np.repeat(photo.pixels, 2, 0), 2, 1)
    out = tmp_path / f"out{suffix}"
    write_image(out, large, None, photo.dpi, metadata)

    with Image.open(out) as image:
        image.load() if suffix == ".png" else None
        found = image.getexif()
        assert [found[tag] for tag in (MAKE, MODEL, DATE)] == ["Maker", "Model 7", exif()[DATE]]
        assert found[COPYRIGHT] == "Jane Doe"
        assert found.get(ifd.ORIENTATION, 1) == 1
        resolution = [found[tag] for tag in (ifd.X_RESOLUTION, ifd.Y_RESOLUTION)]
        assert resolution == [pytest.approx(200), pytest.approx(300)]
        details = found.get_ifd(ifd.EXIF)
        assert details[EXPOSURE] == pytest.approx(0.01) and details[COMMENT].endswith(b"text")
        assert (details[ifd.PIXEL_WIDTH], details[ifd.PIXEL_HEIGHT]) == (48, 64)
        assert found.get_ifd(ifd.GPS)[2] == (47.0, 22.0, 10.5)
        if suffix in (".jpg", ".jfif", ".tif"):
            assert IptcImagePlugin.getiptcinfo(image)[2, 5] == b"Title"
        xmp = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
    assert b"dc:format" in xmp
    assert not any(word in xmp for word in (b"Orientation", b"ImageWidth", b"Thumbnails", b"9j"))

    again = read_image(out)
    assert again.note == "" and again.dpi == pytest.approx((200, 300), abs=0.01)
    assert again.metadata.xmp == metadata.xmp
    assert again.metadata.iptc == (b"" if suffix == ".webp" else IPTC)
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(again.pixels, large)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_photo_without_metadata_has_a_result_without_metadata(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", PIXELS)
    metadata = read_image(tmp_path / f"a{suffix}").metadata
    assert metadata == Metadata()
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert ifd.COLOR_SPACE not in image.getexif().get_ifd(ifd.EXIF)
        assert "xmp" not in image.info and "photoshop" not in image.info


def test_text_in_other_letters_is_kept_byte_by_byte(tmp_path):
    artist = "Jürgen Müller ©".encode()
    tags = ifd.Directory({315: ifd.Value(2, artist + b"\0")})
    for suffix in SUFFIXES:
        write_image(tmp_path / f"a{suffix}", PIXELS, metadata=Metadata(ifd.write_exif(tags)))
        found = ifd.read_exif(read_image(tmp_path / f"a{suffix}").metadata.exif)
        assert found.raw(315) == artist + b"\0"


def test_exif_in_a_large_tiff(tmp_path):
    """BigTIFF has other offsets and directories; values are added without copying the file."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", bigtiff=True, metadata=None)
    details = ifd.Directory({COMMENT: ifd.Value(ifd.UNDEFINED, b"a long comment")})
    with path.open("r+b") as file:
        ifd.add_to_tiff(
            file, ifd.Directory({MAKE: ifd.Value(2, b"A long name\0"), ifd.EXIF: details})
        )
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff and len(tiff.pages) == 1
        assert tiff.pages[0].tags["Make"].value == "A long name"
        assert tiff.pages[0].tags["ExifTag"].value["UserComment"] == b"a long comment"
        np.testing.assert_array_equal(tiff.asarray(), PIXELS)
    assert ifd.read_pages(path.read_bytes())[0].directory(ifd.EXIF) == details


def test_descriptions_of_a_tiffs_layout_are_dropped(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb")  # {"shape": [24, 32, 3]}
    assert b"shape" not in read_image(tmp_path / "a.tif").metadata.exif
    tifffile.imwrite(
        tmp_path / "a.tif", PIXELS, photometric="rgb", description="A boat", metadata=None
    )
    found = ifd.read_exif(read_image(tmp_path / "a.tif").metadata.exif)
    assert found.raw(ifd.DESCRIPTION) == b"A boat\0"


def saved(kind, data):
    file = io.BytesIO()
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
    Image.fromarray(PIXELS).save(file, kind, exif=data, **options)
    return file.getvalue()


@given(
    st.sampled_from(["JPEG", "PNG", "WEBP"]),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_exif_does_not_affect_the_pixels(kind, changes):
    data = bytearray(exif(orientation=1).tobytes())
    for place, value in changes:
        data[6 + int(place * (len(data) - 6))] = value
    pixels, _ = decode(saved(kind, bytes(data)))
    np.testing.assert_array_equal(pixels, decode(saved(kind, exif().tobytes()))[0])


@given(st.binary(max_size=300), st.sampled_from("<>"))
def test_any_bytes_can_be_read_as_exif(data, order):
    start = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    directory = ifd.read_exif(start + data)
    assert ifd.read_exif(ifd.write_exif(directory)) == directory
    for tag in directory:
        directory.number(tag, 0)
    directory.orientation(), directory.dpi()


def entry(tag, kind, count, value):
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


@pytest.mark.parametrize(
    ("entries", "orientation"),
    [
        ([(0x112, 3, 1, b"\x06\0")], 6),
        ([(0x112, 1, 1, b"\x06")], 6),
        ([(0x112, 4, 1, b"\x06\0\0\0")], 6),
        ([(0x112, 3, 2, b"\x06\0\x06\0")], 6),
        ([(0x112, 2, 2, b"6\0")], 1),
        ([(0x112, 3, 1, b"\x09\0")], 1),
        ([(0x11A, 2, 4, b"300\0"), (0x11B, 2, 4, b"300\0")], 1),
    ],
)
def test_odd_types_are_read_or_replaced_by_the_default(tmp_path, entries, orientation):
    data = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    data += b"".join(entry(*values) for values in entries) + bytes(4)
    for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")):
        (tmp_path / f"a.{suffix}").write_bytes(saved(kind, data))
        photo = read_image(tmp_path / f"a.{suffix}")
        assert photo.pixels.shape == ((32, 24, 3) if orientation == 6 else (24, 32, 3))
        assert photo.dpi is None and photo.note == ""


def png_with(*chunks):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    data = file.getvalue()
    return data[:33] + b"".join(chunks) + data[33:]


@pytest.mark.parametrize(
    ("added", "note"),
    [
        (chunk(b"tEXt", b"a\0b")[:-1] + b"x", ""),
        (chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3 << 20))), ""),
        (chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(3 << 20))), ""),
        (chunk(b"gAMA", b"\0\0\xb1\x8f")[:-1] + b"x", "its gAMA is damaged and ignored"),
        (chunk(b"eXIf", b"nonsense"), "its eXIf is damaged and ignored"),
        (chunk(b"iCCP", b"icc\0\0nonsense"), "its iCCP is damaged and ignored"),
        (chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(200))), "its ICC profile (damaged)"),
        (chunk(b"pHYs", b"\0"), "its pHYs is damaged and ignored"),
        (chunk(b"cHRM", bytes(32)), ""),
        (chunk(b"cHRM", struct.pack(">8I", *[30000] * 8)), "its gamma or primaries (implausible)"),
        (chunk(b"gAMA", struct.pack(">I", 1)), "its gamma or primaries (implausible)"),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0"), "its iTXt is damaged and ignored"),
    ],
)
def test_odd_chunks_do_not_affect_the_pixels(tmp_path, added, note):
    (tmp_path / "a.png").write_bytes(png_with(added))
    photo = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.pixels, PIXELS)
    assert photo.icc_profile is None
    assert photo.note.startswith(note) and bool(photo.note) == bool(note)


def test_a_png_with_imagemagicks_profiles(tmp_path):
    def raw(name, data):
        return (
            b"Raw profile type "
            + name
            + b"\0\n%s\n%8d\n%s\n" % (name, len(data), data.hex().encode())
        )

    resources = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)
    data = png_with(
        chunk(b"tEXt", raw(b"exif", exif().tobytes())), chunk(b"tEXt", raw(b"iptc", resources))
    )
    (tmp_path / "a.png").write_bytes(data)
    photo = read_image(tmp_path / "a.png")
    assert photo.pixels.shape == (32, 24, 3)
    assert photo.metadata.iptc == IPTC
    assert ifd.read_exif(photo.metadata.exif).raw(MAKE) == b"Maker\0"


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_xmps_orientation_applies_without_exifs(tmp_path, kind):
    path = tmp_path / "a"
    if kind == "PNG":
        path.write_bytes(png_with(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)))
    elif kind == "JPEG":
        Image.fromarray(PIXELS).save(path, kind, xmp=XMP)
    else:
        tifffile.imwrite(path, PIXELS, photometric="rgb", extratags=[(700, 1, len(XMP), XMP, True)])
    assert read_image(path).pixels.shape == (32, 24, 3)


@pytest.mark.parametrize("tags", [{}, {ifd.ORIENTATION: 6}])
@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd"])  # decoded by libvips and Pillow
def test_exifs_and_xmps_orientation_apply_once(tmp_path, tags, compression):
    options = {"compression": compression, "tiffinfo": {**tags, ifd.XMP: XMP}}
    Image.fromarray(PIXELS).save(tmp_path / "a.tif", **options)
    photo = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(photo.pixels, np.rot90(PIXELS, -1))
    assert b"Orientation" not in photo.metadata.xmp
    assert ifd.ORIENTATION not in ifd.read_exif(photo.metadata.exif)


def test_an_implausible_resolution_is_ignored(tmp_path, capfd):
    (tmp_path / "a.png").write_bytes(
        png_with(chunk(b"pHYs", struct.pack(">IIB", 2**31 - 1, 2**31 - 1, 1)))
    )
    photo = read_image(tmp_path / "a.png")
    assert photo.dpi is None
    write_image(tmp_path / "b.tif", photo.pixels, dpi=photo.dpi)
    assert read_image(tmp_path / "b.tif").dpi == (72, 72)
    assert capfd.readouterr().err == ""


def test_a_tiff_without_a_resolution_has_none(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").dpi is None
    Image.fromarray(PIXELS).save(
        tmp_path / "a.tif", resolution_unit=3, x_resolution=100, y_resolution=50
    )
    assert read_image(tmp_path / "a.tif").dpi == pytest.approx((254, 127))


def test_xmp_of_a_result_names_no_video():
    stale = (
        b'GCamera:MotionPhoto="1"',
        b'GCamera:MicroVideoOffset="99"',
        b'Camera:MotionPhotoVersion="1"',
        b'xmpNote:HasExtendedXMP="0A"',
    )
    xmp = XMP.replace(b"dc:format", b" ".join([*stale, b"dc:format"]))
    elements = [b"<%s>%s</%s>" % (n, v.strip(b'"'), n) for n, v in (s.split(b"=") for s in stale)]
    xmp = xmp.replace(b"<tiff:", b"".join([*elements, b"<tiff:"]))
    assert strip_stale_xmp(xmp) == strip_stale_xmp(XMP)


def test_an_ignored_hdr_gain_map_is_noted(tmp_path):
    hdr = XMP.replace(b"dc:format", b'hdrgm:Version="1.0" dc:format')
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", xmp=hdr)
    photo = read_image(tmp_path / "a.jpg")
    assert "HDR gain map" in photo.note and b"hdrgm" not in photo.metadata.xmp
