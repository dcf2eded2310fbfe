"""Learning rate schedules, as functions of the step that need no TensorFlow."""

from __future__ import annotations

import math


def learning_rate(section, step: int) -> float:
    """Return the learning rate of an update.

    Args:
        section: the phase's section of the recipe, with `learning_rate`, `schedule`,
            `warmup_steps` and `steps`.
        step: index of the update, from 0.
    """
    peak = section.learning_rate
    if section.schedule == "drop":
        return peak if step < section.steps // 2 else peak / 10
    if section.schedule == "cosine":
        if step < section.warmup_steps:
            return peak * step / section.warmup_steps
        done = min(1.0, (step - section.warmup_steps) / (section.steps - section.warmup_steps))
        return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    return peak
