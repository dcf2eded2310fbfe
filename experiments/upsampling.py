"""Measure which upsamplers and losses prevent a grid with the period of LR's pixels.

    python experiments/upsampling.py --data PHOTOS --vgg FILE [--out FILE]

A small SRResNet is pretrained on L1 and then trained as SRGAN-VGG22, each time from the same seed
and on the same batches, with five defences against the grid:

- none: pixel shuffles with Glorot's random initialization;
- ICNR: the same, with equal kernels for all places of a shuffle (Aitken et al. 2017);
- resize-convolution: nearest-neighbour enlargement and convolution (Odena et al. 2016);
- shift: none, and `jitter` in the GAN's phase;
- coherence: none, and the coherence loss in the GAN's phase.

The grid is measured by the coherence loss on held-out photos, after the first phase and after the
second.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.cli.common import run
from srgan_tf.config import DataConfig, GanConfig, PretrainConfig
from srgan_tf.data.pipeline import training_dataset, validation_pairs
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import open_store, split_photos
from srgan_tf.files import write_json
from srgan_tf.losses import ContentLosses, coherence_loss
from srgan_tf.models import Discriminator, SRResNet
from srgan_tf.training.loop import compile_step
from srgan_tf.training.trainers import GanTrainer, Pretrainer

OUT = Path(__file__).resolve().parent.parent / "docs/results/upsampling.json"
SCALE, BLOCKS, FILTERS = 4, 4, 32
STEPS = {"pretrain": 250, "gan": 100}
LOSSES = {"vgg22": 1e-3, "adversarial": 1e-2}
GAN: dict[str, dict[str, Any]] = {
    "none": {},
    "ICNR": {},
    "resize-convolution": {},
    "shift": {"jitter": True},
    "coherence": {"losses": {**LOSSES, "coherence": 10.0}},
}


class Shuffling(SRResNet):
    """SRResNet whose upsampler is initialized at random, or by ICNR."""

    def __init__(self, icnr: bool = False, **kwargs):
        self.icnr = icnr
        super().__init__(**kwargs)

    def _start_as_interpolation(self):
        for conv in self.upsample_convs if self.icnr else []:
            kernel = conv.kernel.numpy()
            conv.kernel.assign(np.tile(kernel[..., : self.filters], (1, 1, 1, 4)))


class Resizing(Shuffling):
    """SRResNet with nearest-neighbour enlargement and convolution instead of pixel shuffles."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.upsample_convs = [
            keras.layers.Conv2D(self.filters, 3, padding="same") for _ in self.upsample_convs
        ]

    def upsample(self, x):
        for conv, prelu in zip(self.upsample_convs, self.upsample_prelus, strict=True):
            x = prelu(conv(tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)))
        return self.tail(x)


def generator(name: str) -> SRResNet:
    keras.utils.set_random_seed(0)
    size = {"scale": SCALE, "blocks": BLOCKS, "filters": FILTERS}
    model = Resizing(**size) if name == "resize-convolution" else Shuffling(name == "ICNR", **size)
    model.build()
    return model


def measure_all(arguments: argparse.Namespace) -> int:
    data = DataConfig(
        source=arguments.data, hr_crop=64, batch_size=8, min_downscale=0.6, crop_attempts=2
    )
    photos, held_out = split_photos(open_store(open_source(data.source)), data, seed=0)
    pairs = validation_pairs(held_out, data, SCALE, seed=0)

    def measure(model: SRResNet) -> float:
        values = [float(coherence_loss(hr, model(lr), SCALE)) for lr, hr in pairs]
        return round(float(np.mean(values)), 4)

    def train(trainer: Pretrainer | GanTrainer, seed: int) -> SRResNet:
        steps = trainer.section.steps
        batches = iter(training_dataset(photos, data, SCALE, seed, range(steps)))
        update = compile_step(trainer, tf.distribute.get_strategy(), jit_compile=False)
        for step in range(steps):
            trainer.set_learning_rate(step)
            update(batches)
        return trainer.ema_generator

    hr_coherence = np.mean([coherence_loss(hr, hr, SCALE) for _, hr in pairs])
    results: dict[str, Any] = {"HR": round(float(hr_coherence), 4)}
    for name, section in GAN.items():
        first = PretrainConfig(
            steps=STEPS["pretrain"], losses={"l1": 1.0}, learning_rate=1e-3, schedule="cosine"
        )
        losses = ContentLosses(first.losses, SCALE)
        start = train(Pretrainer(generator(name), generator(name), losses, first), seed=0)
        before = measure(start)

        second = GanConfig(
            **{"steps": STEPS["gan"], "losses": LOSSES, "learning_rate": 2e-4, **section}
        )
        trained, average = generator(name), generator(name)
        for model in (trained, average):
            model.set_weights(start.get_weights())
        discriminator = Discriminator(filters=16, dense_units=64)
        discriminator.build((None, data.hr_crop, data.hr_crop, 3))
        content = [loss for loss in second.losses if loss != "adversarial"]
        losses = ContentLosses(content, SCALE, arguments.vgg)
        after = measure(train(GanTrainer(trained, average, discriminator, losses, second), seed=1))
        results[name] = {"after pretrain": before, "after gan": after}
        print(f"{name}: {results[name]}", flush=True)
    text = {
        "command": "python experiments/upsampling.py --data PHOTOS --vgg FILE",
        "steps": STEPS,
        "coherence": results,
    }
    write_json(arguments.out, text)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="a folder of photos")
    parser.add_argument("--vgg", default="imagenet", help="VGG19's weights without its top")
    parser.add_argument("--out", type=Path, default=OUT)
    run(parser, None, measure_all)


if __name__ == "__main__":
    main()
