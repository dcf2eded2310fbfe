"""ICC profiles for colour that a file states in another way."""

from __future__ import annotations

import struct

import numpy as np

from srgan_tf.errors import ImageError

_D50 = np.array([0.9642, 1.0, 0.8249])
_D65 = (0.3127, 0.3290)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)

Primaries = tuple[tuple[float, float], ...]
"""x and y of red, green, blue and white."""

SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65)
ADOBE_RGB: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65)
# By the numbers of ITU-T H.273.
_PRIMARIES: dict[int, Primaries] = {
    1: SRGB,
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
# ICC's parametric curves (γ, a, b, c, d): (a·x + b)^γ from d on, c·x below.
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: dict[int, tuple[float, ...]] = {1: _BT709_CURVE, 6: _BT709_CURVE, 14: _BT709_CURVE}
_CURVES |= {15: _BT709_CURVE, 4: (2.2,), 5: (2.8,), 8: (1.0,), 13: _SRGB_CURVE}
_HDR = {16: "PQ", 18: "HLG"}
# libpng's threshold for equal exponents.
_SAME_GAMMA = 0.05


def cicp_profile(cicp: tuple[int, ...], grey: bool) -> bytes:
    """Return the ICC profile of a PNG file's coding-independent code points (ITU-T H.273).

    Returns:
        The profile; empty for sRGB.

    Raises:
        ImageError: HDR.
        ValueError: not full-range RGB, or unknown code points.
    """
    primaries, transfer, matrix, full = cicp
    _refuse_hdr(transfer)
    if primaries not in _PRIMARIES or transfer not in _CURVES or matrix != 0 or full != 1:
        raise ValueError(f"cICP {'-'.join(map(str, cicp))}")
    if (primaries, transfer) == (1, 13):
        return b""
    return _profile(_PRIMARIES[primaries], _parametric(_CURVES[transfer]), grey)


def gamma_profile(gamma: float | None, primaries: Primaries | None, grey: bool) -> bytes:
    """Return the ICC profile of an encoding exponent, such as 1/2.2, and primaries.

    Returns:
        The profile; empty if it is sRGB or nearly so.

    Raises:
        ValueError: no display has such a gamma or such primaries.
    """
    usual = gamma is None or abs(gamma * 2.2 - 1) < _SAME_GAMMA
    if usual and (primaries is None or grey or np.allclose(primaries, SRGB, atol=0.005)):
        return b""
    curve = _SRGB_CURVE if gamma is None or usual else (1 / gamma,)
    try:
        return _profile(primaries or SRGB, _parametric(curve), grey)
    except (ArithmeticError, np.linalg.LinAlgError, struct.error):
        raise ValueError("implausible") from None


def adobe_rgb_profile(grey: bool) -> bytes:
    """Return the ICC profile of Adobe RGB (1998)."""
    return _profile(ADOBE_RGB, _parametric((563 / 256,)), grey, "Compatible with Adobe RGB (1998)")


def validate_profile(profile: bytes, grey: bool) -> bytes:
    """Return a valid ICC profile for the pixels, without trailing bytes.

    An RGB profile of grey pixels is replaced by a grey one with its green curve, as few formats
    support the former.

    Raises:
        ImageError: HDR.
        ValueError: damaged, or for another kind of pixels.
    """
    size = int.from_bytes(profile[:4])
    if not 132 <= size <= len(profile) or profile[36:40] != b"acsp":
        raise ValueError("damaged")
    profile, space = profile[:size], profile[16:20]
    _refuse_hdr(_tag(profile, b"cicp").ljust(12, b"\0")[9])
    if space == b"RGB " and grey:
        return _grey_or_rgb(_tag(profile, b"gTRC"), grey)
    if space != (b"GRAY" if grey else b"RGB "):
        raise ValueError(f"of {space.decode('latin-1').strip()}")
    if grey and not _tag(profile, b"kTRC"):
        raise ValueError("without a curve")
    return profile


def rgb_profile(profile: bytes) -> bytes:
    """Return a grey profile converted to RGB, or an RGB profile unchanged."""
    return _grey_or_rgb(_tag(profile, b"kTRC"), False) if profile[16:20] == b"GRAY" else profile


def _grey_or_rgb(transfer: bytes, grey: bool) -> bytes:
    if not transfer:
        raise ValueError("without a curve")
    return _profile(SRGB, transfer, grey)


def _tag(profile: bytes, name: bytes) -> bytes:
    """Return the value of a profile's tag; empty without the tag."""
    for index in range(int.from_bytes(profile[128:132])):
        entry = profile[132 + 12 * index : 144 + 12 * index]
        if entry[:4] == name or len(entry) < 12:
            start = int.from_bytes(entry[4:8])
            return profile[start : start + int.from_bytes(entry[8:12])]
    return b""


def _refuse_hdr(transfer: int) -> None:
    if transfer in _HDR:
        raise ImageError(f"an HDR image ({_HDR[transfer]}); convert it to sRGB or Display P3")


def _parametric(curve: tuple[float, ...]) -> bytes:
    """Encode a curve as ICC's parametricCurveType."""
    return b"para" + bytes(4) + struct.pack(">HH", 0 if len(curve) == 1 else 3, 0) + _fixed(curve)


def _profile(primaries: Primaries, transfer: bytes, grey: bool, name: str = "") -> bytes:
    """Build an ICC profile, version 4.3, for a grey or RGB display."""
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries]).T
    colorants, white = xyz[:, :3], xyz[:, 3]
    cone = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    adaptation = np.linalg.inv(_BRADFORD) @ cone @ _BRADFORD
    colorants = adaptation @ (colorants * np.linalg.solve(colorants, white))
    tags = {
        b"desc": _text(name or ("Grey" if grey else "RGB")),
        b"cprt": _text("CC0"),
        b"wtpt": b"XYZ " + bytes(4) + _fixed(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(adaptation.ravel()),
    }
    if grey:
        tags[b"kTRC"] = transfer
    else:
        for letter, colorant in zip((b"r", b"g", b"b"), colorants.T, strict=True):
            tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(colorant)
            tags[letter + b"TRC"] = transfer
    table, values = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    head = struct.pack(">I4sI", start + len(values), bytes(4), 0x04300000) + b"mntr"
    head += (b"GRAY" if grey else b"RGB ") + b"XYZ " + struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    head += b"acsp" + bytes(28) + _fixed(_D50)
    return head.ljust(128, b"\0") + table + values


def _fixed(numbers) -> bytes:
    """Encode numbers as ICC's s15Fixed16Number."""
    return b"".join(struct.pack(">i", round(65536 * number)) for number in numbers)


def _text(text: str) -> bytes:
    """Encode a text as ICC's multiLocalizedUnicodeType."""
    data = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(data), 28) + data
