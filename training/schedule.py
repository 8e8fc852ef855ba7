"""Which parts train at a step, and at which learning rates."""

import dataclasses
import math
from collections.abc import Sequence

from data_util.config import Config, Stage


def stage_at(config: Config, step: int) -> tuple[Stage, float]:
    """The stage that a step belongs to, and what its learning rates are multiplied by there: warm-up, then cosine."""
    training, start = config.training, 0.0
    for stage in training.stages:
        first = round(start * training.train_num_steps)
        end = round((start + stage.share) * training.train_num_steps)
        if step < end or stage is training.stages[-1]:
            break
        start += stage.share
    progress = min(1.0, (step - first) / max(1, end - first))
    cosine = stage.final + (1 - stage.final) * 0.5 * (1 + math.cos(math.pi * progress))
    warm_up = min(1.0, (step - first + 1) / max(1, min(training.warmup_steps, 0.1 * (end - first))))
    if not config.fine_tuning.start:
        return stage, warm_up * cosine
    return without(stage, config.fine_tuning.frozen), config.fine_tuning.rate * warm_up * cosine


def first_step(config: Config, part: str) -> int:
    """Of the first stage that trains a part."""
    start = 0.0
    for stage in config.training.stages:
        if part in stage.parts:
            break
        start += stage.share
    return round(start * config.training.train_num_steps)


def without(stage: Stage, frozen: Sequence[str]) -> Stage:
    """The stage, but that some parts do not train: then neither do those that have nobody left to train against."""
    parts = {name: rate for name, rate in stage.parts.items() if name not in frozen}
    if "generator" not in parts:
        parts.pop("discriminators", None)
    gradient = stage.feature_gradient if {"decoder", "generator"} & set(parts) else "off"
    return dataclasses.replace(stage, parts=parts, feature_gradient=gradient)
