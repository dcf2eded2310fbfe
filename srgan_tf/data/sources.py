"""Sources of HR photos: a folder, a tensorflow-datasets dataset, or scikit-image's samples."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import os
import warnings
from pathlib import Path

import numpy as np

from srgan_tf.data.store import PhotoSource, files_key
from srgan_tf.errors import UserError
from srgan_tf.files import READ_SUFFIXES, escape_non_utf8, find_images, first_line, is_folder
from srgan_tf.images import read_photo, to_rgb

SAMPLES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)


def open_source(name: str) -> PhotoSource:
    """Open `samples`, `tfds:NAME` or a folder of photos.

    Args:
        name: `samples` for photos that scikit-image contains; `tfds:NAME` for the train split of a
            tensorflow-datasets dataset with an image feature, read from `$TFDS_DATA_DIR` or
            downloaded on first use; otherwise a folder, searched recursively for image files.

    Raises:
        UserError: no such folder, no image file in it, or no such dataset.
    """
    if name == "samples":
        return _open_samples()
    if name.startswith("tfds:"):
        return _open_tfds(name.removeprefix("tfds:"))
    return _open_folder(name)


def _read_files(root: Path, files: list[Path]):
    for path in files:
        name = escape_non_utf8(path.relative_to(root).as_posix())
        try:
            yield name, read_photo(path)
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
            yield name, error


def _files_source(name: str, root: Path, files: list[Path]) -> PhotoSource:
    key = files_key(root, files)
    # So that photos which could not be read are tried again once that may have changed.
    if any(path.suffix.lower() in (".heic", ".heif") for path in files):
        key += f"\0pillow-heif {importlib.util.find_spec('pillow_heif') is not None}"
    if unreadable := [path for path in files if not os.access(path, os.R_OK)]:
        key += f"\0unreadable {files_key(root, unreadable)}"
    return PhotoSource(name, key, len(files), lambda: _read_files(root, files))


def _open_folder(name: str) -> PhotoSource:
    try:
        root = Path(name).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a cycle of links, …
        raise UserError(f"{name}: can't be read ({first_line(error)})") from None
    if not is_folder(root):
        raise UserError(f"{name}: no such folder; give a folder of photos, tfds:NAME or samples")
    files = []
    for path, problem in find_images(root):
        if problem is None:
            files.append(path)
        else:
            warnings.warn(f"{path}: {problem}", stacklevel=2)
    if not files:
        raise UserError(f"{name}: no photo in this folder ({', '.join(READ_SUFFIXES)})")
    return _files_source(name, root, files)


def _open_samples() -> PhotoSource:
    import skimage.data

    root = Path(skimage.data.__file__).parent
    return _files_source("samples", root, [root / file for file in SAMPLES])


def _open_tfds(name: str) -> PhotoSource:
    # Imported here, as it takes seconds.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except Exception as error:  # any type: a wrong version is an AssertionError
        near = difflib.get_close_matches(name, tfds.list_builders(), n=1)
        raise UserError(
            f"tfds:{name}: tensorflow-datasets can't open it ({first_line(error)}); "
            f"{'did you mean' if near else 'for example'} "
            f"tfds:{near[0] if near else 'div2k/bicubic_x4'}?"
        ) from None
    feature = _image_feature(builder, name)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise UserError(
            f"tfds:{name}: can't be downloaded ({first_line(error)}); without a network give a "
            "folder of photos, or samples"
        ) from error
    if "train" not in builder.info.splits:
        raise UserError(f"tfds:{name}: has no train split; give another dataset")

    def photos():
        dataset = builder.as_dataset(split="train", shuffle_files=False)
        for index, example in enumerate(tfds.as_numpy(dataset)):
            yield f"{builder.info.full_name}/train/{index}", to_rgb(example[feature])

    train = builder.info.splits["train"]
    identity = (builder.data_path, builder.info.full_name, train.num_examples, train.num_bytes)
    cache_key = hashlib.sha256("\0".join(map(str, identity)).encode()).hexdigest()
    return PhotoSource(f"tfds:{name}", cache_key, train.num_examples, photos)


def _image_feature(builder, name: str) -> str:
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [
        key
        for key, feature in getattr(features, "items", dict)()
        if isinstance(feature, tfds.features.Image) and feature.np_dtype in (np.uint8, np.uint16)
    ]
    for usual in ("hr", "image"):
        if usual in images:
            return usual
    if len(images) != 1:
        raise UserError(
            f"tfds:{name}: needs one image feature, named hr or image; it has "
            f"{', '.join(images) or 'none'}"
        )
    return images[0]
