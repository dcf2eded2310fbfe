"""Portable training steps: StableHLO modules that `srgan_tf.training.jax_runner` runs.

A module is a trainer's `train_step`, optimizers and moving average included, as TensorFlow passes
it to XLA.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from srgan_tf.config import Config, Phase
from srgan_tf.data.pipeline import to_pair
from srgan_tf.data.sources import open_source
from srgan_tf.data.store import open_store, split_photos
from srgan_tf.errors import UserError
from srgan_tf.files import atomic_write, make_writable_folder, write_json, write_text
from srgan_tf.training.checkpoints import training_state
from srgan_tf.training.history import ancestry
from srgan_tf.training.jax_runner import (
    PLAN_FILE,
    STATE_FILE,
    STEP_FILE,
    VALIDATION_FILE,
    draw_uniform,
)
from srgan_tf.training.run import build_trainer, find_start
from srgan_tf.weights import find_generator

DRAWN_SIZE = 100_000
"""Size above which a new discriminator's kernel is not written, but drawn by the runner."""


def write_portable_step(config: Config, phase: Phase, folder: Path) -> None:
    """Write everything that the runner needs except for the photos.

    The folder receives `step.mlir`, `validation.mlir`, `state.npz` and `plan.json`.

    Args:
        config: the recipe, with another precision than `auto`.
        phase: of the recipe.
        folder: created if needed.

    Raises:
        UserError: the recipe can't be exported, or names something that is missing or invalid, or
            the folder can't be written to.
    """
    if config.precision == "auto":
        raise UserError(
            "precision: auto would measure this machine, not the one that trains; choose one, such "
            "as --set precision=mixed_bfloat16"
        )
    if config.generator.architecture == "drcn":
        raise UserError(
            "generator.architecture: drcn's training step can't be exported, as its loss depends "
            "on the number of steps; train without --export-step"
        )
    if config.data.source.startswith("tfds:"):
        raise UserError(
            f"data.source: {config.data.source} can't be exported, as the runner reads a folder of "
            "photos; give one by --data"
        )
    make_writable_folder(folder)
    (folder / PLAN_FILE).unlink(missing_ok=True)  # of an older export, until this one is complete
    store = open_store(open_source(config.data.source))
    photos, held_out = split_photos(store, config.data, config.seed)
    start = find_start(config, phase, {})
    weights = find_generator(start) if start is not None else None
    keras.utils.set_random_seed(config.seed)
    trainer = build_trainer(config, phase.section, weights)
    draws = _draw_discriminator(trainer, config.seed)

    data, scale = config.data_of(phase), config.generator.scale
    batch, crop = data.batch_size, data.hr_crop
    lr = tf.TensorSpec([batch, crop // scale, crop // scale, 3], tf.uint8)
    hr = tf.TensorSpec([batch, crop, crop, 3], tf.uint8)
    names = {id(v.handle): key for key, v in training_state(trainer).items()}
    for optimizer in trainer.optimizers:
        names[id(optimizer._learning_rate.value.handle)] = "learning_rate"
    step = _write_module(
        lambda lr, hr: trainer.train_step(to_pair(lr, hr)), (lr, hr), names, folder / STEP_FILE
    )
    side = data.validation_crop
    small = tf.TensorSpec([1, side // scale, side // scale, 3], tf.uint8)
    validation = _write_module(
        lambda lr: {"sr": trainer.ema_generator(tf.cast(lr, tf.float32) / 255.0, training=False)},
        (small,),
        names,
        folder / VALIDATION_FILE,
    )
    variables = step.pop("variables") | validation.pop("variables")
    arrays, descriptions = _compress_values(variables, draws)
    with atomic_write(folder / STATE_FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    plan = {
        "phase": phase.name,
        "stage": phase.stage,
        "place": phase.index_in_stage,
        "batch_seed": config.seed + phase.index,
        "config": config.model_dump(),
        "data": data.model_dump(),
        "parents": ancestry(weights) if weights is not None else [],
        "step": step,
        "validation": validation,
        "variables": descriptions,
        "fingerprint": store.fingerprint,
        "names": store.names,
        "photos": [store.names.index(name) for name in photos.names],
        "held_out": [store.names.index(name) for name in held_out.names],
    }
    write_json(folder / PLAN_FILE, plan)


def _draw_discriminator(trainer, seed: int) -> dict[int, dict[str, Any]]:
    """Assign values that the runner can draw itself to a new discriminator's large kernels.

    Returns:
        Seed and limit of each such kernel, by the id of its variable's handle.
    """
    draws: dict[int, dict[str, Any]] = {}
    if not hasattr(trainer, "discriminator"):
        return draws
    for index, weight in enumerate(trainer.discriminator.trainable_variables):
        if np.prod(weight.shape) > DRAWN_SIZE:
            *receptive, inputs, outputs = weight.shape
            field = int(np.prod(receptive))
            limit = float(np.sqrt(6.0 / (field * (inputs + outputs))))  # Glorot and Bengio 2010
            draw = {"seed": [seed, index], "limit": limit}
            weight.assign(draw_uniform(draw, tuple(weight.shape)))
            draws[id(weight.value.handle)] = draw
    return draws


def _write_module(function, inputs, names: dict[int, str], path: Path) -> dict[str, Any]:
    """Compile a function of uint8 arrays and write it as a StableHLO module.

    Args:
        function: returns a dictionary of tensors, the logs.
        inputs: specifications of its arguments.
        names: keys of variables by the ids of their handles.
        path: file of the module.

    Returns:
        `inputs` (keys of the variables that follow the arguments), `logs` (names of the first
        outputs), `replaces` (the key of the variable that an output replaces, by the output's
        number) and `variables` (by key).
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)
    graph = compiled.get_concrete_function(*inputs)
    variables = {id(v.handle): v for v in graph.graph.variables}
    captured = [variables[id(handle)] for handle in graph.captured_inputs]
    intermediate = compiled.experimental_get_compiler_ir(
        *(tf.zeros(spec.shape, spec.dtype) for spec in inputs)
    )
    # JAX's GPU plugins don't support the operation by which TensorFlow copies outputs.
    module = intermediate(stage="stablehlo").replace(
        " mhlo.copy ", " stablehlo.optimization_barrier "
    )
    header = intermediate(stage="hlo").split("\n", 1)[0]
    aliases = re.findall(r"\{(\d+)\}: \((\d+),", header)
    main = module[module.index("func.func @main") :]
    unread = [a for _, a in aliases if len(re.findall(rf"%arg{a}\b", main)) < 2]
    if unread:  # every step would use their current values
        raise AssertionError(
            f"{path}: XLA compiled {len(unread)} variables as constants; no operation may need a "
            "variable's value at compile time"
        )
    write_text(path, module)
    keys = [names.get(id(v.handle), f"constant/{i}-{v.name}") for i, v in enumerate(captured)]
    first = len(inputs)
    return {
        "inputs": keys,
        "logs": sorted(graph.structured_outputs),
        "replaces": {output: keys[int(number) - first] for output, number in aliases},
        "variables": dict(zip(keys, captured, strict=True)),
    }


def _compress_values(variables, draws) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Encode variables: zeros, duplicates and drawn values are described, not stored.

    Returns:
        Arrays by key, and each variable's shape, dtype and, if its values are in no array, how
        to make them.
    """
    arrays: dict[str, np.ndarray] = {}
    descriptions: dict[str, Any] = {}
    seen: dict[tuple, str] = {}
    for key, variable in variables.items():
        value = variable.numpy()
        about: dict[str, Any] = {"shape": value.shape, "dtype": value.dtype.name}
        descriptions[key] = about
        content = (value.shape, value.dtype.name, value.tobytes())
        if id(variable.handle) in draws:
            about["draw"] = draws[id(variable.handle)]
        elif not value.any():
            about["zeros"] = True
        elif content in seen:
            about["same_as"] = seen[content]
        else:
            seen[content] = key
            levels = np.unique(value) if value.size > 1024 else value
            if value.size > 1024 and levels.size <= 256:  # VGG19's 8-bit weights
                codes = np.searchsorted(levels, value).astype(np.uint8)
                arrays[f"{key}:levels"], arrays[f"{key}:codes"] = levels, codes
            else:
                arrays[key] = value
    return arrays, descriptions
