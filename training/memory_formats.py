"""Which memory format is faster for each part's convolutions on this processor.

Some networks have two ways to the same sums: HiFi-GAN in one dimension or, channels last, in two; the UNet and the
discriminators of spectrograms with channels apart or side by side. Which is faster depends on the processor
(docs/results.md), so that each part is tried in both as a run begins, and takes the clearly faster one. The run keeps
what was found in its configuration, so that it resumes to the bit, and another run with it computes the same numbers.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from data_util.config import Config, FormattedPart
from model.discriminator import discriminate
from model.networks import build_discriminators
from model.nisets import NiSETS
from training.distributed import Processes

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CLIPS = 1  # of a trial
SECONDS, TRIALS = 0.5, 3  # that each format is tried for, whichever lasts longer
CLEARLY = 0.97  # of the usual format's time: a format that takes less is faster, and not by chance

log = logging.getLogger("train")


def use(part: nn.Module, name: str) -> None:
    """Let a part train in this format, as far as it has several."""
    for module in with_formats(part):
        module.memory_format = FORMATS[name]


def with_formats(part: nn.Module) -> list[Any]:
    """Its modules that read memory_format when they train."""
    return [module for module in part.modules() if hasattr(module, "memory_format")]


def complete(config: Config, processes: Processes, n_symbols: int, amp: bool) -> Config:
    """The configuration with the clearly faster format, or else the usual one, of each part that has several and that
    system.memory_formats does not name. On a CPU; the first process tries them, and all take what it has found."""
    if processes.device.type != "cpu" or config.training.train_num_steps == 0:
        return config
    found = processes.broadcast(fastest(config, n_symbols, amp) if processes.is_main else None)
    system = dataclasses.replace(config.system, memory_formats=config.system.memory_formats | found)
    return dataclasses.replace(config, system=system)


def fastest(config: Config, n_symbols: int, amp: bool) -> dict[FormattedPart, str]:
    """By part, of those that a stage trains, that have several formats and that no format is named for."""
    trained = {part for stage in config.training.stages for part in stage.parts} - set(config.system.memory_formats)
    model, discriminators = NiSETS(config, n_symbols, amp), build_discriminators(config)
    parts, calls = model.parts() | {"discriminators": discriminators}, trials_of(model, discriminators)
    found: dict[FormattedPart, str] = {}
    for part in [name for name in calls if name in trained and with_formats(parts[name])]:
        usual = next(name for name, one in FORMATS.items() if one == with_formats(parts[part])[0].memory_format)
        with model.speaking_as(0):
            spent = seconds(parts[part], calls[part])
        best = min(spent, key=spent.__getitem__)
        found[part] = best if spent[best] < CLEARLY * spent[usual] else usual
        tried = ", ".join(f"{name} {s:.3f} s" for name, s in spent.items())
        log.info("memory format of %s: %s (tried: %s)", part, found[part], tried)
    return found


def trials_of(model: NiSETS, discriminators: nn.Module) -> dict[FormattedPart, Callable[[], Tensor]]:
    """By part, a call as training makes it, on noise."""
    config, training = model.config, model.config.training
    n_frames, t = training.segment_frames, torch.rand(CLIPS)
    r, mu = torch.randn(2, CLIPS, config.n_latents, training.cut_frames)
    f0 = torch.randn(CLIPS, 2, training.cut_frames) if config.with_f0 else None
    wav = 0.1 * torch.randn(CLIPS, 1, n_frames * config.audio.hop_length)

    def vocoded() -> Tensor:
        z0_hat, f0_cut = mu[..., :n_frames], None if f0 is None else f0[..., :n_frames]
        features = model.vocoder_features(z0_hat, t, z0_hat, f0_cut)
        return model.vocode(features, None, model.source(f0_cut, recording=wav))

    def judged() -> Tensor:
        return torch.cat([logits.flatten() for logits, _ in discriminate(discriminators, wav, t, model.amp)])

    return {
        "decoder": lambda: model.denoiser.denoise(r, t, mu=mu, f0=f0)[0],
        "generator": vocoded,
        "discriminators": judged,
    }


def seconds(part: nn.Module, call: Callable[[], Tensor]) -> dict[str, float]:
    """By format, the least time of a call of a part, forwards and backwards; the formats take turns."""
    spent: dict[str, list[float]] = {name: [] for name in FORMATS}
    n_turns, start = 0, time.perf_counter()
    while n_turns < 1 + TRIALS or time.perf_counter() - start < SECONDS * len(FORMATS):
        for name, times in spent.items():
            use(part, name)
            before = time.perf_counter()
            call().square().mean().backward()
            times.append(time.perf_counter() - before)
        n_turns += 1
    return {name: min(times[1:]) for name, times in spent.items()}  # the first warms up
