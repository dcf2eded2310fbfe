"""Where HR photos come from: a folder, a tensorflow-datasets name, or bundled samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from srgan_tf.errors import RequestError

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
SAMPLES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)


@dataclass(frozen=True)
class PhotoSource:
    """HR photos that can be read one after the other.

    Attributes:
        name: as the user wrote it.
        key: changes whenever the photos may have changed.
        count: how many photos `photos()` yields, None when not known beforehand.
        photos: yields (name, uint8 [H, W, 3]), or (name, Exception) for an unreadable one.
    """

    name: str
    key: str
    count: int | None
    photos: Callable[[], Iterator[tuple[str, np.ndarray | Exception]]]


def open_source(name: str) -> PhotoSource:
    """Opens `samples`, `tfds:NAME` or a folder of photos.

    Args:
        name: `samples` for photos that scikit-image ships; `tfds:NAME` for the train split of
            any tensorflow-datasets name with an image feature, downloaded on first use; else a
            folder, searched recursively for png, jpg, webp, bmp and tiff files.

    Raises:
        RequestError: no such folder, no image file in it, or no such data set.
    """
    if name == "samples":
        return _sample_photos()
    if name.startswith("tfds:"):
        return _tfds_photos(name.removeprefix("tfds:"))
    return _folder_photos(name)


def read_photo(path: Path) -> np.ndarray:
    """Decodes a file to uint8 RGB [H, W, 3], turned as its EXIF orientation says."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def _read_files(root: Path, files: list[Path]):
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            yield name, read_photo(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            yield name, error


def _files_source(name: str, root: Path, files: list[Path]) -> PhotoSource:
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return PhotoSource(name, digest.hexdigest(), len(files), lambda: _read_files(root, files))


def _folder_photos(name: str) -> PhotoSource:
    root = Path(name).expanduser()
    if not root.is_dir():
        raise RequestError(
            f"{name}: no such folder; data is a folder of photos, tfds:NAME or samples"
        )
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
    if not files:
        raise RequestError(f"{name}: no photo in this folder ({', '.join(EXTENSIONS)})")
    return _files_source(name, root.resolve(), [p.resolve() for p in files])


def _sample_photos() -> PhotoSource:
    import skimage.data

    root = Path(skimage.data.__file__).parent
    return _files_source("samples", root, [root / file for file in SAMPLES])


def _tfds_photos(name: str) -> PhotoSource:
    # Imported here: it takes seconds, and only this source needs it.
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise RequestError(
            f"tfds:{name}: tensorflow-datasets can't open it ({error}); for example "
            "tfds:div2k/bicubic_x4"
        ) from None
    feature = _image_feature(builder, name)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise RequestError(
            f"tfds:{name}: can't be downloaded ({error}); without a network give a folder of "
            "photos, or samples"
        ) from error
    if "train" not in builder.info.splits:
        raise RequestError(f"tfds:{name}: has no train split")

    def photos():
        dataset = builder.as_dataset(split="train", shuffle_files=False)
        for index, example in enumerate(tfds.as_numpy(dataset)):
            image = example[feature]
            if image.shape[-1] == 1:
                image = np.repeat(image, 3, axis=-1)
            yield f"{builder.info.full_name}/train/{index}", image[..., :3]

    key = hashlib.sha256(f"{builder.data_path}\0{builder.info.full_name}".encode()).hexdigest()
    return PhotoSource(f"tfds:{name}", key, builder.info.splits["train"].num_examples, photos)


def _image_feature(builder, name: str) -> str:
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [
        key
        for key, feature in getattr(features, "items", dict)()
        if isinstance(feature, tfds.features.Image)
    ]
    for wanted in ("hr", "image"):
        if wanted in images:
            return wanted
    if len(images) != 1:
        raise RequestError(
            f"tfds:{name}: needs one image feature, named hr or image; it has "
            f"{', '.join(images) or 'none'}"
        )
    return images[0]
