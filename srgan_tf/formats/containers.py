"""Splitting PNG, JPEG and WebP files into pixel data and metadata.

Decoders get only the pixel data, so that damaged or huge metadata can't make them fail.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from srgan_tf.errors import ImageError
from srgan_tf.formats import ifd
from srgan_tf.formats.colour import Primaries

PNG_HEAD = 33  # signature and IHDR
JPEG_HEAD = 2  # SOI
_MAX_SEGMENT = 2**16 - 3
_MAX_TEXT = 2**26
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_ICC_IN_JPEG = b"ICC_PROFILE\0"
_XMP_IN_PNG = b"XML:com.adobe.xmp"
_PHOTOSHOP = b"Photoshop 3.0\0"
_RAW_PROFILE = b"Raw profile type "  # as ImageMagick and ExifTool write them
# Chunks that are read, and the prefix of their content.
_METADATA_CHUNKS = dict.fromkeys(
    (b"acTL", b"pHYs", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"iCCP", b"eXIf"), b""
)
_METADATA_CHUNKS |= {b"iTXt": _XMP_IN_PNG + b"\0", b"tEXt": _RAW_PROFILE, b"zTXt": _RAW_PROFILE}
_GAIN_MAPS = (b"hdrgm:Version", b"urn:iso:std:iso:ts:21496:-1", b"aux:hdrgainmap")
# Properties that don't apply to a result, and previews.
_STALE = rb"tiff:(?:Orientation|ImageWidth|ImageLength|[XY]Resolution|ResolutionUnit)"
_STALE += rb"|exif:Pixel[XY]Dimension|hdrgm:\w+|xmpNote:HasExtendedXMP"
_STALE += rb"|G?Camera:(?:MotionPhoto|MicroVideo)\w*"  # a video that follows the picture
_STALE_XMP = re.compile(
    rb"\s(?:%(names)s)=(?:\"[^\"]*\"|'[^']*')|<(%(names)s)>[^<]*</\1>"
    rb"|<(xmp:Thumbnails|Container:Directory)\b.*?</\2>" % {b"names": _STALE},
    re.DOTALL,
)
_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])\b")
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SOS = 0xDA
_APPLICATION = (*range(0xE0, 0xF0), 0xFE)  # and comments
_READABLE_SOF = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_PROGRESSIVE_OR_ARITHMETIC = {0xC2, 0xC9, 0xCA}
_WEBP_METADATA = (b"EXIF", b"XMP ", b"ICCP")


@dataclass
class Parts:
    """The parts of an image file.

    Attributes:
        stream: a file of the same format with the pixel data only.
        notes: messages on damaged parts that were dropped.
        exif, xmp, iptc, icc: as in the file; IPTC without Photoshop's wrapping.
        dpi: from the format's own field.
        cicp, gamma, primaries, srgb: a PNG's colour space.
        rows: of a Huffman-coded JPEG of one scan: the offset of its height in the stream, that
            height, and the number of rows of a coding unit.
    """

    stream: bytes = b""
    notes: list[str] = field(default_factory=list)
    exif: ifd.Directory = field(default_factory=ifd.Directory)
    xmp: bytes = b""
    iptc: bytes = b""
    icc: bytes = b""
    dpi: tuple[float, float] | None = None
    cicp: tuple[int, ...] | None = None
    gamma: float | None = None
    primaries: Primaries | None = None
    srgb: bool = False
    rows: tuple[int, int, int] | None = None

    @property
    def orientation(self) -> int:
        """Orientation, 1 to 8, from EXIF, else from XMP."""
        found = _XMP_ORIENTATION.search(self.xmp)
        return self.exif.orientation() or (int(found[1]) if found else 1)


def strip_stale_xmp(xmp: bytes) -> bytes:
    """Remove orientation, sizes, previews and references to a video from XMP."""
    return _STALE_XMP.sub(b"", xmp)


def extract_iptc(resources: bytes) -> bytes:
    """Extract the IPTC records from Photoshop's image resources; empty if there are none."""
    position = 0
    while resources[position : position + 4] == b"8BIM" and position + 12 <= len(resources):
        (kind,) = struct.unpack_from(">H", resources, position + 4)
        position += 6 + (resources[position + 6] + 2) // 2 * 2
        size = int.from_bytes(resources[position : position + 4])
        data = resources[position + 4 : position + 4 + size]
        if kind == 0x0404:
            return data
        position += 4 + (size + 1) // 2 * 2
    return b""


def read_png(data: bytes) -> Parts:
    """Split a PNG.

    Raises:
        ImageError: a chunk of the pixels is damaged, or the PNG is animated.
    """
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ImageError("a damaged PNG: wrong signature, as after a transfer as text")
    parts, stream, position = Parts(), [data[:8]], 8
    while position < len(data):
        head = data[position : position + 8]
        length, kind = int.from_bytes(head[:4]), head[4:]
        payload = data[position + 8 : position + 8 + length]
        end = position + 12 + length
        # An upper-case first letter marks critical chunks.
        is_pixel_data = kind[:1].isupper() or kind == b"tRNS"
        if kind == b"IEND":
            break
        if end > len(data) and (is_pixel_data or len(kind) < 4):
            raise ImageError("a damaged PNG: truncated")
        intact = int.from_bytes(data[end - 4 : end]) == zlib.crc32(kind + payload)
        name = kind.decode("latin-1")
        if is_pixel_data:
            if not intact:
                raise ImageError(f"a damaged PNG: the checksum of its {name} is wrong")
            stream.append(data[position:end])
        elif kind in _METADATA_CHUNKS and payload.startswith(_METADATA_CHUNKS[kind]):
            try:
                if not intact:
                    raise ValueError
                _read_chunk(parts, kind, payload)
            except (ValueError, struct.error, zlib.error, IndexError):
                parts.notes.append(f"its {name} is damaged and ignored")
        position = end
    parts.stream = b"".join([*stream, _chunk(b"IEND", b"")])
    return parts


def png_chunks(exif: ifd.Directory, xmp: bytes, iptc: bytes) -> bytes:
    """Encode metadata as the chunks that follow a PNG's first `PNG_HEAD` bytes."""
    chunks = b""
    if exif:
        chunks += _chunk(b"eXIf", ifd.write_exif(exif))
    if xmp:
        chunks += _chunk(b"iTXt", _XMP_IN_PNG + bytes(5) + xmp)
    if iptc:
        resources = _photoshop_resources(iptc)
        text = b"\niptc\n%8d\n%s\n" % (len(resources), resources.hex().encode())
        chunks += _chunk(b"zTXt", _RAW_PROFILE + b"iptc\0\0" + zlib.compress(text))
    return chunks


def read_jpeg(data: bytes) -> Parts:
    """Split a JPEG.

    Raises:
        ImageError: truncated, damaged, lossless, or not of 8 bits per channel.
    """
    parts, frame, scans = Parts(), b"", 0
    stream, position = [b"\xff\xd8"], data.index(b"\xff\xd8\xff") + 2
    complete: set[int] = set()  # components of which all bits are read
    profile: list[bytes] = []  # segments of the ICC profile
    while (marker := _MARKER.search(data, position)) and marker[1] != b"\xd9":
        if not scans and data[position : marker.start()].strip(b"\xff"):  # padding
            raise ImageError("a damaged JPEG: unexpected bytes between its segments")
        kind, start = marker[1][0], marker.end()
        end = start + int.from_bytes(data[start : start + 2])
        payload = data[start + 2 : end]
        if end > len(data):
            raise ImageError("a damaged JPEG: truncated")
        if scans:
            stream.append(data[position : marker.start()])
        is_pixel_data = kind not in _APPLICATION or payload.startswith((b"JFIF\0", b"Adobe"))
        if scans or is_pixel_data:
            stream.append(data[marker.start() : end])
        if kind in _SOF:
            frame = bytes([kind]) + payload
            _check_frame(frame)
            unit = 8 * max(sampling & 15 for sampling in frame[8 : 8 + 3 * frame[6] : 3])
            place = sum(map(len, stream)) - len(payload) + 1
            parts.rows = place, int.from_bytes(frame[2:4]), unit
        elif kind == _SOS and payload:
            scans += 1
            if payload[-2:-1] != b"\0" and payload[-1] & 15 == 0:
                complete.update(payload[1 : 1 + 2 * payload[0] : 2])
        elif not scans and kind == 0xE2 and payload.startswith(_ICC_IN_JPEG):
            profile.append(payload)
        elif not scans:
            _read_segment(parts, kind, payload)
        position = end
    if not scans or not frame:
        raise ImageError("a damaged JPEG: it has no image")
    if not marker and complete != set(frame[7 : 7 + 3 * frame[6] : 3]):
        raise ImageError("a damaged JPEG: truncated")
    scan = data[position : marker.start() if marker else len(data)]
    if not marker and scan.endswith(bytes(16)):
        scan = scan.rstrip(b"\0")  # the end was never written
    stream.append(scan)
    parts.stream = b"".join([*stream, b"\xff\xd9"])
    if scans > 1 or frame[0] in _PROGRESSIVE_OR_ARITHMETIC:
        parts.rows = None
    # After the prefix is a number, by which they are ordered.
    profile.sort(key=lambda segment: segment[: len(_ICC_IN_JPEG) + 1])
    parts.icc = b"".join(segment[len(_ICC_IN_JPEG) + 2 :] for segment in profile)
    parts.iptc = extract_iptc(parts.iptc)
    if any(name in data for name in _GAIN_MAPS):
        parts.notes.append("its HDR gain map is ignored; the standard image is used")
    return parts


def jpeg_segments(dpi: tuple[float, float], exif: ifd.Directory, xmp: bytes, iptc: bytes) -> bytes:
    """Encode metadata as segments after a JPEG's first `JPEG_HEAD` bytes, dropping long ones."""
    x, y = (max(1, min(round(dots), 2**16 - 1)) for dots in dpi)
    segments = _segment(0xE0, b"JFIF\0\1\1\1" + struct.pack(">HH", x, y) + bytes(2))
    if exif:
        data = ifd.write_exif(exif)
        if len(data) > _MAX_SEGMENT - 6 and ifd.MAKER_NOTE in exif.directory(ifd.EXIF):
            del exif.directory(ifd.EXIF)[ifd.MAKER_NOTE]
            data = ifd.write_exif(exif)
        segments += _segment(0xE1, b"Exif\0\0" + data)
    if xmp:
        segments += _segment(0xE1, _XMP_IN_JPEG + xmp)
    if iptc:
        segments += _segment(0xED, _PHOTOSHOP + _photoshop_resources(iptc))
    return segments


def read_webp(data: bytes) -> Parts:
    """Split a WebP.

    Raises:
        ImageError: truncated.
    """
    parts, stream = Parts(), []
    for kind, payload in _riff_chunks(data):
        if kind == b"EXIF":
            parts.exif = ifd.read_exif(payload)
            if not parts.exif:
                parts.notes.append("its EXIF is damaged and ignored")
        elif kind == b"XMP ":
            parts.xmp = payload
        elif kind == b"ICCP":
            parts.icc = payload
        elif kind == b"VP8X" and payload:
            # Keep the flags of alpha and animation only.
            stream.append((kind, bytes([payload[0] & 0x12]) + payload[1:]))
        else:
            stream.append((kind, payload))
    parts.stream = _riff(stream)
    return parts


def add_webp_metadata(
    data: bytes, size: tuple[int, int], alpha: bool, exif: ifd.Directory, xmp: bytes
) -> bytes:
    """Add EXIF and XMP to a WebP file of the given width and height."""
    chunks = dict(_riff_chunks(data))
    flags = 0x20 * (b"ICCP" in chunks) | 0x10 * alpha | 0x08 | 0x04 * bool(xmp)
    width, height = (struct.pack("<I", side - 1)[:3] for side in size)
    chunks.pop(b"VP8X", None)
    chunks = {b"VP8X": bytes([flags, 0, 0, 0]) + width + height, **chunks}
    chunks[b"EXIF"] = ifd.write_exif(exif)
    if xmp:
        chunks[b"XMP "] = xmp
    return _riff(list(chunks.items()))


def _read_segment(parts: Parts, kind: int, payload: bytes) -> None:
    if kind == 0xE0 and payload.startswith(b"JFIF\0"):
        unit, x, y = struct.unpack_from(">BHH", payload.ljust(12, b"\0"), 7)
        dots_per_unit = {1: 1.0, 2: 2.54}.get(unit, 0.0)
        parts.dpi = ifd.plausible_dpi(dots_per_unit * x, dots_per_unit * y)
    elif kind == 0xE1 and payload.startswith(b"Exif\0") and not parts.exif:
        parts.exif = ifd.read_exif(payload)
        if not parts.exif:
            parts.notes.append("its EXIF is damaged and ignored")
    elif kind == 0xE1 and payload.startswith(_XMP_IN_JPEG):
        parts.xmp = payload[len(_XMP_IN_JPEG) :]
    elif kind == 0xED and payload.startswith(_PHOTOSHOP):
        parts.iptc += payload[len(_PHOTOSHOP) :]


def _read_chunk(parts: Parts, kind: bytes, payload: bytes) -> None:
    if kind == b"acTL":
        (frames,) = struct.unpack_from(">I", payload)
        if frames > 1:
            raise ImageError(f"animated or of several pages ({frames}), not one image")
    elif kind == b"pHYs":
        x, y, unit = struct.unpack(">IIB", payload)
        parts.dpi = ifd.plausible_dpi(0.0254 * x, 0.0254 * y) if unit == 1 else None
    elif kind == b"sRGB":
        parts.srgb = True
    elif kind == b"gAMA":
        parts.gamma = int.from_bytes(payload) / 100000 or None
    elif kind == b"cHRM":
        numbers = [number / 100000 for number in struct.unpack(">8I", payload)]
        white, *colours = zip(numbers[::2], numbers[1::2], strict=True)
        if all(y > 0 for _, y in (white, *colours)):
            parts.primaries = (*colours, white)
    elif kind == b"cICP":
        parts.cicp = struct.unpack(">4B", payload)
    elif kind == b"iCCP":
        parts.icc = _inflate(payload.partition(b"\0")[2][1:])
    elif kind == b"eXIf":
        parts.exif = ifd.read_exif(payload)
        if not parts.exif:
            raise ValueError
    elif kind == b"iTXt":
        compressed = payload[len(_XMP_IN_PNG) + 1]
        text = payload[len(_XMP_IN_PNG) + 3 :].split(b"\0", 2)[2]
        parts.xmp = _inflate(text) if compressed else text
    else:
        name, _, text = payload.partition(b"\0")
        _, _, *digits = (_inflate(text[1:]) if kind == b"zTXt" else text).split()
        profile = bytes.fromhex(b"".join(digits).decode())
        if name.endswith((b"exif", b"APP1")) and profile.startswith(b"Exif") and not parts.exif:
            parts.exif = ifd.read_exif(profile)
        elif name.endswith((b"iptc", b"8bim")):
            parts.iptc = extract_iptc(profile)
        elif name.endswith(b"xmp") and not parts.xmp:
            parts.xmp = profile


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MAX_TEXT)
    if not inflater.eof:
        raise ValueError
    return text


def _chunk(kind: bytes, payload: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + payload))
    return struct.pack(">I", len(payload)) + kind + payload + checksum


def _check_frame(frame: bytes) -> None:
    if len(frame) < 7 or len(frame) < 7 + 3 * frame[6]:
        raise ImageError("a damaged JPEG: its header is truncated")
    if frame[0] not in _READABLE_SOF:
        raise ImageError("a lossless or hierarchical JPEG, which is not supported")
    if frame[1] != 8:
        raise ImageError(f"a {frame[1]}-bit JPEG; only 8 bits per channel are supported")


def _segment(kind: int, payload: bytes) -> bytes:
    if len(payload) > _MAX_SEGMENT:
        return b""
    return struct.pack(">BBH", 0xFF, kind, len(payload) + 2) + payload


def _photoshop_resources(iptc: bytes) -> bytes:
    head = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc))
    return head + iptc + bytes(len(iptc) % 2)


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))  # other data may follow
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        payload = data[position + 8 : position + 8 + length]
        if len(payload) < length and kind not in _WEBP_METADATA:
            raise ImageError("a damaged WebP: truncated")
        yield kind, payload
        position += 8 + length + length % 2


def _riff(chunks: list[tuple[bytes, bytes]]) -> bytes:
    body = b"WEBP"
    for kind, payload in chunks:
        body += kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body
