"""Metadata of .tflite files in the TensorFlow Lite Metadata format.

Android Studio, MediaPipe and the TFLite Support library read it. The format is a FlatBuffer
(metadata_schema.fbs, identifier M001) inside the model's. The few tables needed are written by
`flatbuffers` itself, as tflite-support has had no release since 2023, and mediapipe, which has the
schema too, requires PortAudio and another build of OpenCV than the extra selfexsr.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import flatbuffers
from ai_edge_litert.schema_py_generated import BufferT, MetadataT
from ai_edge_litert.tools import flatbuffer_utils

from srgan_tf.inference.litert import METADATA, ModelInfo

_STANDARD = "TFLITE_METADATA"
# The schema's fields by table, in its order, which is that of their slots. Unions have a type too.
_FIELDS = {
    "ModelMetadata": (
        *("name", "description", "version", "subgraph_metadata", "author", "license"),
        *("associated_files", "min_parser_version"),
    ),
    "SubGraphMetadata": (
        *("name", "description", "input_tensor_metadata", "output_tensor_metadata"),
    ),
    "TensorMetadata": (
        *("name", "description", "dimension_names", "content", "process_units", "stats"),
    ),
    "Content": ("content_properties_type", "content_properties"),
    "ImageProperties": ("color_space",),
    "ProcessUnit": ("options_type", "options"),
    "NormalizationOptions": ("mean", "std"),
    "Stats": ("max", "min"),
}
# Values of the schema's enumerations.
_IMAGE_PROPERTIES, _RGB, _NORMALIZATION_OPTIONS = 2, 1, 1


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
    def image(name: str, description: str) -> _Table:
        return _Table(
            "TensorMetadata",
            name=name,
            description=f"RGB, values from 0 to {highest:g}; {description}",
            content=_Table(
                "Content",
                content_properties_type=_IMAGE_PROPERTIES,
                content_properties=_Table("ImageProperties", color_space=_RGB),
            ),
            process_units=[
                _Table(
                    "ProcessUnit",
                    options_type=_NORMALIZATION_OPTIONS,
                    # (x - mean) / std: no normalization.
                    options=_Table("NormalizationOptions", mean=[0.0], std=[1.0]),
                )
            ],
            stats=_Table("Stats", max=[highest] * 3, min=[0.0] * 3),
        )

    lr = image("image", "height and width are free unless fixed at export")
    sr = image("enlarged", f"{info.scale} times the input's height and width")
    model = _Table(
        "ModelMetadata",
        name=info.name,
        description=f"Super-resolution ×{info.scale} (SRGAN, Ledig et al. 2017), {info.mode}",
        version=info.version,
        subgraph_metadata=[
            _Table(
                "SubGraphMetadata",
                name="enlarge",
                input_tensor_metadata=[lr],
                output_tensor_metadata=[sr],
            )
        ],
        author="srgan-tf",
        license="Apache-2.0",
        min_parser_version="1.0.0",
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(_write(builder, model), file_identifier=b"M001")
    return bytes(builder.Output())


class _Table:
    """A table of the schema: fields of type str, int (an enumeration), _Table, or list."""

    def __init__(self, table: str, /, **fields: Any):
        self.size = len(_FIELDS[table])
        self.slots = {_FIELDS[table].index(field): value for field, value in fields.items()}


def _write(builder: flatbuffers.Builder, value: str | list[float] | list[_Table] | _Table) -> int:
    """Write a value, after those that it contains, and return its offset."""
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, _Table):
        slots = {
            slot: field if isinstance(field, int) else _write(builder, field)
            for slot, field in value.slots.items()
        }
        builder.StartObject(value.size)
        for slot, number in slots.items():
            if isinstance(value.slots[slot], int):
                builder.PrependInt8Slot(slot, number, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(slot, number, 0)
        return builder.EndObject()
    items = [item if isinstance(item, float) else _write(builder, item) for item in value]
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        if isinstance(item, float):
            builder.PrependFloat32(item)
        else:
            builder.PrependUOffsetTRelative(item)
    return builder.EndVector()
