"""(seed, step) to a batch of LR and HR crops, and the held-out photos.

Arrays: LR float32 in [0, 1], HR float32 in [-1, 1], NHWC.
"""

from __future__ import annotations

import atexit
import gc

import numpy as np
import tensorflow as tf
from PIL import Image

from srgan_tf.config import DataConfig
from srgan_tf.data.degrade import bicubic_downscale
from srgan_tf.data.store import PhotoStore

# The iterator of a run that was stopped is in a reference cycle. Collected only when Python is
# shutting down, it would wait for ever for a batch under way, which can't have the GIL any more.
atexit.register(gc.collect)


def split_photos(store: PhotoStore, config: DataConfig, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the photos to train on and of those held out for validation.

    At most a fifth of the photos is held out; a single photo serves as both.
    """
    order = np.random.default_rng((seed, len(store))).permutation(len(store)).tolist()
    held_out = min(config.validation_photos, len(store) // 5) or 1
    return sorted(order[held_out:] or order), sorted(order[:held_out])


def hr_batch(
    store: PhotoStore, photos: list[int], config: DataConfig, seed: int, step: int
) -> np.ndarray:
    """Random crops, downscaled, flipped and turned by quarters: a pure function of its arguments.

    Returns:
        uint8 [config.batch_size, config.hr_crop, config.hr_crop, 3].
    """
    rng = np.random.default_rng((seed, step))
    crop = config.hr_crop
    batch = np.empty((config.batch_size, crop, crop, 3), np.uint8)
    for i in range(config.batch_size):
        photo = store[photos[rng.integers(len(photos))]]
        side = crop
        if config.photo_scale < 1:
            side = min(round(crop / rng.uniform(config.photo_scale, 1)), *photo.shape[:2])
        candidates = []
        for _ in range(config.crop_candidates):
            y = rng.integers(photo.shape[0] - side + 1)
            x = rng.integers(photo.shape[1] - side + 1)
            candidates.append(photo[y : y + side, x : x + side])
        piece = candidates[0]
        if len(candidates) > 1:
            piece = max(candidates, key=lambda candidate: _detail(candidate, crop // 4))
        piece = _downscaled(piece, crop)
        if rng.integers(2):
            piece = piece[:, ::-1]
        batch[i] = np.rot90(piece, int(rng.integers(4)))
    return batch


def _downscaled(piece: np.ndarray, side: int) -> np.ndarray:
    if len(piece) == side:
        return piece
    return np.asarray(Image.fromarray(piece).resize((side, side), Image.Resampling.BICUBIC))


def _detail(piece: np.ndarray, side: int) -> float:
    """The mean squared difference of neighbouring pixels of the green channel at LR's size.

    What differs between pixels of HR alone, grain and grass, nobody can restore.
    """
    green = Image.fromarray(np.ascontiguousarray(piece[..., 1]))
    small = np.asarray(green.resize((side, side), Image.Resampling.BOX), np.float32)
    return sum(float(np.mean(np.square(np.diff(small, axis=axis)))) for axis in (0, 1))


def to_pair(hr, scale: int) -> tuple[tf.Tensor, tf.Tensor]:
    """uint8 HR images to the pair (lr, hr) that the models see."""
    lr = bicubic_downscale(hr, scale) / 255.0
    return lr, tf.cast(hr, tf.float32) / 127.5 - 1.0


def training_dataset(
    store: PhotoStore,
    photos: list[int],
    config: DataConfig,
    scale: int,
    seed: int,
    steps: range,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """The batches of `steps`, one element a local replica and step.

    Every worker and replica takes its own slice of the same global batch.

    Yields:
        (lr, hr): float32 [b, crop/scale, crop/scale, 3] and [b, crop, crop, 3], where b is
        the batch size divided by the replicas.

    Raises:
        ValueError: the batch does not divide by the number of replicas.
    """
    context = context or tf.distribute.InputContext()
    share = context.get_per_replica_batch_size(config.batch_size)
    local = context.num_replicas_in_sync // context.num_input_pipelines
    first = context.input_pipeline_id * local
    crop = config.hr_crop

    def load(element):
        step, replica = divmod(int(element), local)
        batch = hr_batch(store, photos, config, seed, step)
        start = (first + replica) * share
        return batch[start : start + share]

    def pair(element):
        hr = tf.numpy_function(load, [element], tf.uint8, stateful=False)
        return to_pair(tf.ensure_shape(hr, [share, crop, crop, 3]), scale)

    elements = tf.data.Dataset.range(steps.start * local, steps.stop * local)
    return elements.map(pair, num_parallel_calls=2, deterministic=True).prefetch(4)


def validation_pairs(
    store: PhotoStore, photos: list[int], config: DataConfig, scale: int
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """The central crops of the held-out photos as pairs (lr, hr) of one image each."""
    pairs = []
    for index in photos:
        crop = central_crop(store[index], config.validation_crop, scale)
        pairs.append(to_pair(crop[None], scale))
    return pairs


def central_crop(photo: np.ndarray, side: int, multiple: int) -> np.ndarray:
    """The centre of a photo [H, W, 3]: at most `side` pixels a side, multiples of `multiple`."""
    height, width = (min(side, length) // multiple * multiple for length in photo.shape[:2])
    y, x = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return photo[y : y + height, x : x + width]
