"""Training batches as a tf.data pipeline, and pairs of the held-out photos.

LR is float32 in [0, 1], HR float32 in [-1, 1], both NHWC.
"""

from __future__ import annotations

import atexit
import gc

import tensorflow as tf

from srgan_tf.config import DataConfig
from srgan_tf.cores import available_cores
from srgan_tf.data.crops import validation_crops
from srgan_tf.data.loader import load_batches
from srgan_tf.data.store import PhotoStore
from srgan_tf.ranges import normalize

# The iterator of a stopped run is in a reference cycle. If it were collected only at Python's
# finalization, it would wait forever for a batch whose thread can no longer get the GIL.
atexit.register(gc.collect)


def to_pair(lr, hr) -> tuple[tf.Tensor, tf.Tensor]:
    """Convert uint8 LR and HR images to float32, in [0, 1] and [-1, 1]."""
    return tf.cast(lr, tf.float32) / 255.0, normalize(tf.cast(hr, tf.float32))


def training_dataset(
    photos: PhotoStore,
    config: DataConfig,
    scale: int,
    seed: int,
    steps: range,
    context: tf.distribute.InputContext | None = None,
) -> tf.data.Dataset:
    """Return the batches of `steps` as a dataset with one element per step and local replica.

    Every worker and replica gets its own slice of the same global batch.

    Args:
        photos: the photos to train on.
        config: the recipe's `data`.
        scale: ratio of HR's side to LR's.
        seed: seed of all batches.
        steps: indices of the batches, from 0.
        context: this worker's index and the numbers of workers and replicas; None for one replica.

    Returns:
        A dataset of (lr, hr), float32 [b, crop/scale, crop/scale, 3] and [b, crop, crop, 3], where
        b is the batch size divided by the number of replicas.

    Raises:
        ValueError: the batch size is not a multiple of the number of replicas.
    """
    context = context or tf.distribute.InputContext()
    share = context.get_per_replica_batch_size(config.batch_size)
    local = context.num_replicas_in_sync // context.num_input_pipelines
    first = context.input_pipeline_id * local

    def load():
        elements = (
            (step, range((first + replica) * share, (first + replica + 1) * share))
            for step in steps
            for replica in range(local)
        )
        processes = max(1, available_cores() // 2)
        return load_batches(photos.open, config, scale, seed, elements, processes)

    crop = config.hr_crop
    dataset = tf.data.Dataset.from_generator(
        load,
        output_signature=(
            tf.TensorSpec([share, crop // scale, crop // scale, 3], tf.uint8),
            tf.TensorSpec([share, crop, crop, 3], tf.uint8),
        ),
    )
    return dataset.map(to_pair).prefetch(2)


def validation_pairs(
    photos: PhotoStore, config: DataConfig, scale: int, seed: int
) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return the pairs of `validation_crops` as float32 (lr, hr), each a batch of one."""
    crops = validation_crops(photos, config, scale, seed)
    return [to_pair(lr[None], hr[None]) for lr, hr in crops]
