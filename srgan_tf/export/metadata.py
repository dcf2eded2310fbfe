"""Metadata of .tflite files in the TensorFlow Lite Metadata format.

Android Studio, MediaPipe and the TFLite Support library read it. The format is a FlatBuffer
(metadata_schema.fbs, identifier M001) inside the model's. The few tables needed are written slot by
slot, as tflite-support has had no release since 2023, and mediapipe, which has the schema too,
requires PortAudio and another build of OpenCV than the extra selfexsr.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import flatbuffers
from ai_edge_litert.schema_py_generated import BufferT, MetadataT
from ai_edge_litert.tools import flatbuffer_utils

from srgan_tf.inference.litert import METADATA, ModelInfo

_STANDARD = "TFLITE_METADATA"
_IMAGE_PROPERTIES, _RGB, _NORMALIZATION = 2, 1, 1


def with_metadata(model: bytes, info: ModelInfo, uint8: bool) -> bytes:
    """Return a .tflite model with metadata added.

    Args:
        model: content of the file.
        info: for srgan-tf's own entry.
        uint8: whether tensors are uint8 grey levels, or else float32 in [0, 1].
    """
    tree = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    entries = {
        _STANDARD: _standard_metadata(info, 255.0 if uint8 else 1.0),
        METADATA: json.dumps(asdict(info)).encode(),
    }
    tree.metadata = tree.metadata or []
    for name, content in entries.items():
        buffer = BufferT()
        buffer.data = list(content)
        tree.buffers.append(buffer)
        entry = MetadataT()
        entry.name, entry.buffer = name, len(tree.buffers) - 1
        tree.metadata.append(entry)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(tree))


def _standard_metadata(info: ModelInfo, highest: float) -> bytes:
    builder = flatbuffers.Builder(1024)
    text, table, tables = builder.CreateString, _Tables(builder).table, _Tables(builder).tables

    def image(name: str, description: str) -> int:
        properties = table({0: ("byte", _RGB)})
        content = table({0: ("byte", _IMAGE_PROPERTIES), 1: ("table", properties)})
        # (x - mean) / std: no normalization.
        options = table({0: ("floats", [0.0]), 1: ("floats", [1.0])})
        unit = table({0: ("byte", _NORMALIZATION), 1: ("table", options)})
        stats = table({0: ("floats", [highest] * 3), 1: ("floats", [0.0] * 3)})
        return table(
            {
                0: ("table", text(name)),
                1: ("table", text(description)),
                3: ("table", content),
                4: ("table", tables([unit])),
                5: ("table", stats),
            }
        )

    values = f"RGB, values from 0 to {highest:g}"
    inputs = image("image", f"{values}; height and width are free unless fixed at export")
    outputs = image("enlarged", f"{values}; {info.scale} times the input's height and width")
    subgraph = table(
        {
            0: ("table", text("enlarge")),
            2: ("table", tables([inputs])),
            3: ("table", tables([outputs])),
        }
    )
    root = table(
        {
            0: ("table", text(info.name)),
            1: (
                "table",
                text(f"Super-resolution ×{info.scale} (SRGAN, Ledig et al. 2017), {info.mode}"),
            ),
            2: ("table", text(info.version)),
            3: ("table", tables([subgraph])),
            4: ("table", text("srgan-tf")),
            5: ("table", text("Apache-2.0")),
            7: ("table", text("1.0.0")),
        }
    )
    builder.Finish(root, file_identifier=b"M001")
    return bytes(builder.Output())


class _Tables:
    """Tables of a FlatBuffer from {slot: (kind, value)}."""

    def __init__(self, builder: flatbuffers.Builder):
        self._builder = builder

    def table(self, fields: dict[int, tuple[str, object]]) -> int:
        builder = self._builder
        # Vectors must be finished before a table is started.
        done = {
            slot: ("table", self._floats(value)) if kind == "floats" else (kind, value)
            for slot, (kind, value) in fields.items()
        }
        builder.StartObject(max(fields) + 1)
        for slot, (kind, value) in done.items():
            if kind == "byte":
                builder.PrependInt8Slot(slot, value, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return builder.EndObject()

    def tables(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return self._builder.EndVector()

    def _floats(self, values) -> int:
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return self._builder.EndVector()
