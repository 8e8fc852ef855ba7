"""Which parts train at a step, and at which learning rates."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from data_util.config import Config, Stage


def stage_at(config: Config, step: int) -> tuple[Stage, float]:
    """The stage that a step belongs to, and what its learning rates are multiplied by there: warm-up, then cosine."""
    training, edges = config.training, edges_of(config)
    i = min(sum(step >= end for end in edges[1:]), len(training.stages) - 1)
    stage, first, end = training.stages[i], edges[i], edges[i + 1]
    progress = min(1.0, (step - first) / max(1, end - first))
    cosine = stage.final + (1 - stage.final) * 0.5 * (1 + math.cos(math.pi * progress))
    warm_up = min(1.0, (step - first + 1) / max(1, min(training.warmup_steps, 0.1 * (end - first))))
    rate = config.fine_tuning.rate if config.fine_tuning.start else 1.0
    return without(stage, config.fine_tuning.frozen), rate * warm_up * cosine


def edges_of(config: Config) -> list[int]:
    """The first step of each stage, and the number of all steps."""
    starts = itertools.accumulate((stage.share for stage in config.training.stages), initial=0.0)
    return [round(start * config.training.train_num_steps) for start in starts]


def first_step(config: Config, part: str) -> int:
    """The first step of the first stage that trains a part, which one does."""
    return next(first for first, stage in zip(edges_of(config), config.training.stages) if part in stage.parts)


def without(stage: Stage, frozen: Sequence[str]) -> Stage:
    """The stage, but that some parts do not train: then neither do those that have nobody left to train against."""
    parts = {name: rate for name, rate in stage.parts.items() if name not in frozen}
    if "generator" not in parts:
        parts.pop("discriminators", None)
    gradient = stage.feature_gradient if {"decoder", "generator"} & set(parts) else "off"
    return dataclasses.replace(stage, parts=parts, feature_gradient=gradient)
