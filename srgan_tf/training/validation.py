"""Validation of a generator on held-out photos during training."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.images import to_levels, write_image
from srgan_tf.metrics import mean_psnr, psnr_y, ssim_y
from srgan_tf.ranges import denormalize
from srgan_tf.resize import bicubic_upscale


class Validation:
    """Measures PSNR and SSIM of a generator on pairs of photos.

    Args:
        generator: maps float32 [N, h, w, 3] in [0, 1] to [N, H, W, 3] in [-1, 1].
        pairs: (lr, hr), one image each, in the same ranges.
        writer: of TensorBoard's logs.
        picture: image file to write for the first photo: LR enlarged by bicubic | SR | HR.

    Attributes:
        scores: `psnr` (dB) and `ssim`, means on Y, of the last validation; empty before the first.
    """

    def __init__(self, generator: keras.Model, pairs, writer, picture: Path):
        self.scale, self.pairs, self.writer, self.picture = generator.scale, pairs, writer, picture
        self.scores: dict[str, float] = {}
        self._enlarge = tf.function(
            lambda lr: generator(lr, training=False),
            input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)],
        )

    def measure(self, step: int) -> None:
        """Compute and log the scores after `step` steps, and write the picture."""
        psnr, ssim = [], []
        for index, (lr, hr) in enumerate(self.pairs):
            sr, hr = (to_levels(denormalize(x.numpy()) / 255.0) for x in (self._enlarge(lr), hr))
            psnr.append(psnr_y(hr, sr, border=self.scale))
            ssim.append(ssim_y(hr, sr, border=self.scale))
            if index == 0:
                bicubic = bicubic_upscale(to_levels(lr.numpy()), self.scale)
                row = np.concatenate([bicubic, sr, hr], axis=2)
        self.scores = {"psnr": mean_psnr(psnr), "ssim": float(np.mean(ssim))}
        write_image(self.picture, row[0])
        with self.writer.as_default(step):
            tf.summary.scalar("validation/psnr", self.scores["psnr"])
            tf.summary.scalar("validation/ssim", self.scores["ssim"])
            tf.summary.image("validation/bicubic, SR, HR", row)
