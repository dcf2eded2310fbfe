"""Image file directories (IFD), the structure of TIFF files and EXIF.

Values are kept as bytes, so that unknown ones are preserved. Unreadable entries are dropped:
damaged metadata is never a reason to refuse an image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x112, 0x11A, 0x11B, 0x128
EXIF, GPS, INTEROP, MAKER_NOTE = 0x8769, 0x8825, 0xA005, 0x927C
COLOR_SPACE, PIXEL_WIDTH, PIXEL_HEIGHT, INTEROP_INDEX = 0xA001, 0xA002, 0xA003, 1
SUBFILE_TYPE, OLD_SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION = 254, 255, 256, 257, 258, 259
DESCRIPTION, PHOTOMETRIC, SAMPLES, EXTRA_SAMPLES, SAMPLE_FORMAT = 270, 262, 277, 338, 339
STRIPS, STRIP_LENGTHS, TILES, TILE_LENGTHS = 273, 279, 324, 325
XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
BYTE, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7

# Descriptions of a file's pages by tifffile, ImageJ and microscopes.
_LAYOUTS = (b'{"shape":', b"ImageJ=", b"<?xml", b"<OME")
_POINTERS = (EXIF, GPS, INTEROP)
# Tags of a first directory that describe the photo, not how its pixels are stored: document name,
# description, make, model, software, date, artist, computer, ratings, copyright, XP*.
_DESCRIPTIVE = {269, 270, 271, 272, 305, 306, 315, 316, 0x4746, 0x4749, 0x8298, EXIF, GPS}
_DESCRIPTIVE |= {0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F}
# Bytes of a value, and of the numbers it consists of, by type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_NUMBERS = {kind: 4 if kind in (5, 10) else size for kind, size in _SIZES.items()}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True)
class Value:
    """One or more values of a TIFF type.

    Attributes:
        kind: number of the type, such as `SHORT`.
        data: the values' bytes, little-endian.
    """

    kind: int
    data: bytes

    def numbers(self) -> list[float]:
        """Return integer or rational values; empty for other types; x/0 is 0."""
        if self.kind in (5, 10):
            pairs = struct.iter_unpack("<II" if self.kind == 5 else "<ii", self.data)
            return [numerator / (denominator or np.inf) for numerator, denominator in pairs]
        if self.kind not in _INTEGERS:
            return []
        return [number for (number,) in struct.iter_unpack(f"<{_INTEGERS[self.kind]}", self.data)]


UPRIGHT = Value(SHORT, b"\1\0")
"""Value of `ORIENTATION` of pixels that are upright."""


class Directory(dict[int, "Value | Directory"]):
    """Values by tag; a pointer to another directory is replaced by that directory."""

    def numbers(self, tag: int) -> list[float]:
        """Return a tag's numbers; empty if it has none."""
        value = self.get(tag)
        return value.numbers() if isinstance(value, Value) else []

    def number(self, tag: int, default: float) -> float:
        """Return the first of a tag's numbers; the default if it has no numbers."""
        return (self.numbers(tag) or [default])[0]

    def raw(self, tag: int) -> bytes:
        """Return the bytes of a tag's value; empty without the tag."""
        value = self.get(tag)
        return value.data if isinstance(value, Value) else b""

    def directory(self, tag: int) -> Directory:
        """Return the directory that a tag points to; empty if it points to none."""
        value = self.get(tag)
        return value if isinstance(value, Directory) else Directory()

    def orientation(self) -> int | None:
        """Return EXIF's orientation, 1 to 8; None if it is missing or invalid."""
        orientation = self.number(ORIENTATION, 0)
        return int(orientation) if 1 <= orientation <= 8 else None

    def dpi(self) -> tuple[float, float] | None:
        """Return the horizontal and vertical resolution; None if it is missing or implausible."""
        dots_per_unit = {2: 1.0, 3: 2.54}.get(int(self.number(RESOLUTION_UNIT, 2)), 0.0)
        return plausible_dpi(
            dots_per_unit * self.number(X_RESOLUTION, 0),
            dots_per_unit * self.number(Y_RESOLUTION, 0),
        )


def plausible_dpi(x: float, y: float) -> tuple[float, float] | None:
    """Return a resolution, or None if it is outside the range that all formats support."""
    return (x, y) if 1 <= x < 2**16 and 1 <= y < 2**16 else None


def read_exif(data: bytes) -> Directory:
    """Read EXIF's first directory, without the thumbnail's, the second; empty if damaged."""
    if data.startswith(b"Exif\0"):
        data = data[6:]
    try:
        return next(_directories(data), Directory())
    except ValueError:
        return Directory()


def write_exif(directory: Directory) -> bytes:
    """Encode EXIF as in a PNG or WebP file; empty for an empty directory."""
    if not directory:
        return b""
    return b"II*\0\x08\0\0\0" + _directory_bytes(directory, 8, "<", big=False)


def keep_descriptive(directory: Directory) -> Directory:
    """Return a first directory without the tags of how pixels are stored."""
    kept = Directory({tag: value for tag, value in directory.items() if tag in _DESCRIPTIVE})
    if kept.raw(DESCRIPTION).startswith(_LAYOUTS):
        del kept[DESCRIPTION]
    return kept


def read_pages(data: bytes) -> list[Directory]:
    """Read the directories of a TIFF file's pages.

    Raises:
        ValueError: truncated.
    """
    return list(_directories(data))


def add_to_tiff(file, added: Directory) -> None:
    """Add values to the only page of a TIFF file, opened for reading and writing, in place."""
    file.seek(0)
    order, big = _byte_order(file.read(4))
    layout = _Layout(order, big)
    file.seek(8 if big else 4)
    (start,) = struct.unpack(layout.offset, file.read(layout.width))
    file.seek(start)
    (count,) = struct.unpack(layout.count, file.read(layout.count_width))
    entries = [file.read(layout.entry) for _ in range(count)]
    # Encode the new directory on its own for its entries, whose offsets are those in the file.
    end = file.seek(0, 2)
    padding = -end % 8
    offset = end + padding
    body = _directory_bytes(added, offset, order, big)
    (own,) = struct.unpack_from(layout.count, body)
    for position in range(own):
        at = layout.count_width + position * layout.entry
        entries.append(body[at : at + layout.entry])
    entries.sort(key=lambda entry: struct.unpack_from(f"{order}H", entry))
    body += bytes(-len(body) % 8)
    table = struct.pack(layout.count, len(entries)) + b"".join(entries) + bytes(layout.width)
    file.write(bytes(padding) + body + table)
    file.seek(8 if big else 4)
    file.write(struct.pack(layout.offset, offset + len(body)))


class _Layout:
    """Sizes and formats of a directory's fields: 4-byte offsets, or BigTIFF's of 8 bytes."""

    def __init__(self, order: str, big: bool):
        self.width, self.offset = (8, f"{order}Q") if big else (4, f"{order}I")
        self.count_width, self.count = (8, f"{order}Q") if big else (2, f"{order}H")
        self.entry = 20 if big else 12
        self.head = f"{order}HHQ" if big else f"{order}HHI"


def _byte_order(start: bytes) -> tuple[str, bool]:
    """Return (byte order, whether it is BigTIFF) from a file's first four bytes."""
    kinds = {b"II*\0": ("<", False), b"MM\0*": (">", False)}
    kinds |= {b"II+\0": ("<", True), b"MM\0+": (">", True)}
    if start not in kinds:
        raise ValueError("not a TIFF structure")
    return kinds[start]


def _directories(data: bytes) -> Iterator[Directory]:
    order, big = _byte_order(data[:4])
    layout = _Layout(order, big)
    seen: set[int] = set()
    try:
        (start,) = struct.unpack_from(layout.offset, data, 8 if big else 4)
        while start and start not in seen:
            seen.add(start)
            (count,) = struct.unpack_from(layout.count, data, start)
            yield _directory(data, start, order, big)
            end = start + layout.count_width + count * layout.entry
            (start,) = struct.unpack_from(layout.offset, data, end)
    except struct.error:
        raise ValueError("a directory is truncated") from None


def _directory(data: bytes, start: int, order: str, big: bool, depth: int = 0) -> Directory:
    layout, directory = _Layout(order, big), Directory()
    try:
        (count,) = struct.unpack_from(layout.count, data, start)
        for position in range(count):
            at = start + layout.count_width + position * layout.entry
            tag, kind, length = struct.unpack_from(layout.head, data, at)
            size = length * _SIZES.get(kind, 0)
            at += layout.entry - layout.width
            if size > layout.width:
                (at,) = struct.unpack_from(layout.offset, data, at)
            if not 0 < size <= len(data) - at:
                continue
            value = Value(kind, _swap_bytes(data[at : at + size], kind, order))
            if tag not in _POINTERS:
                directory[tag] = value
            elif depth < 2 and value.numbers():
                inner = _directory(data, int(value.numbers()[0]), order, big, depth + 1)
                if inner:
                    directory[tag] = inner
    except struct.error:
        pass  # keep the entries read so far
    return directory


def _directory_bytes(directory: Directory, start: int, order: str, big: bool) -> bytes:
    layout = _Layout(order, big)
    length = layout.count_width + len(directory) * layout.entry + layout.width
    table, values = struct.pack(layout.count, len(directory)), b""
    for tag, value in sorted(directory.items()):
        values += bytes(-(length + len(values)) % 8)
        offset = start + length + len(values)
        if isinstance(value, Directory):
            kind, count = LONG if not big else 18, 1
            values += _directory_bytes(value, offset, order, big)
            data = struct.pack(layout.offset, offset)
        else:
            kind, count = value.kind, len(value.data) // _SIZES[value.kind]
            data = _swap_bytes(value.data, kind, order)
            if len(data) > layout.width:
                values += data
                data = struct.pack(layout.offset, offset)
        table += struct.pack(layout.head, tag, kind, count) + data.ljust(layout.width, b"\0")
    return table + bytes(layout.width) + values


def _swap_bytes(data: bytes, kind: int, order: str) -> bytes:
    """Convert a value's bytes from a byte order to little-endian, or back."""
    if order == "<" or _NUMBERS[kind] == 1:
        return data
    return np.frombuffer(data, f"u{_NUMBERS[kind]}").byteswap().tobytes()
