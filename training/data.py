"""The clips that a run trains on and is measured on."""

import logging
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data_util import measures
from data_util.config import Config, ConfigError
from data_util.corpus import Corpus, prepare
from data_util.world import World
from model import flat_start, latent, monotonic_align

log = logging.getLogger("train")


@dataclass
class Data:
    """clips: all to train on, aligned where alignment.init asks for it; own: those of this lane; valid: held out."""

    clips: Corpus
    own: Corpus
    valid: Corpus


def prepare_data(config: Config, world: World) -> Data:
    """What a configuration of one lane trains on, or of several lanes have in common.

    The first process makes what the cache does not have; the others then read it, or end where the first has failed.
    """
    check_packages(config)
    if world.first:
        with world.telling_of_failure():
            return read_data(config, progress=True)
    if world.failed_elsewhere():
        sys.exit(1)  # the first process says why
    return read_data(config, progress=False)


def read_data(config: Config, progress: bool) -> Data:
    """prepare_data of one process; progress: show bars."""
    clips = prepare(config, config.dataset.metafile_train, progress=progress)
    valid = prepare(config, config.dataset.metafile_valid, progress=progress)
    if config.alignment.init == "em":
        aligned = flat_start.corpus_alignment(config, clips, monotonic_align.search, progress=progress)
        clips.ids, clips.durations = map(list, zip(*aligned))
    latent.corpus_compression(config, clips)  # into the cache, where every process finds it
    log.info("latent: mean %.3f, standard deviation %.3f", *clips.statistics())
    if config.with_f0:
        log.info("ln F0: mean %.3f, standard deviation %.3f", *clips.f0_statistics())
    return Data(clips, clips, valid)


def clip_tensors(config: Config, clips: Corpus, index: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """One clip as the model reads it: x (1, T_x), mel (1, n_mels, T_mel), f0 (1, 2, T_mel), empty where unread."""
    mel = clips.mel(index)
    f0 = clips.f0(index) if config.with_f0 else np.zeros((2, 0), dtype=np.float32)
    return tuple(torch.from_numpy(array)[None].to(device) for array in (clips.ids[index], mel, f0))


def check_packages(config: Config) -> None:
    """Raise ConfigError where what measures system.best_metric is not installed, before anything that takes time."""
    needed = {"cer": measures.RECOGNISER, "dnsmos": measures.DNSMOS}.get(config.system.best_metric, ())
    missing = measures.missing_packages(needed)
    if missing:
        raise ConfigError(f"system.best_metric = {config.system.best_metric}: needs {', '.join(missing)}: "
                          "pip install -r requirements-extra.txt")  # fmt: skip


def own_indices(clips: str, n_clips: int) -> range:
    """The places in the list of training clips that a lane trains on. clips: all | even | odd, as in Lane."""
    return {"all": range(n_clips), "even": range(0, n_clips, 2), "odd": range(1, n_clips, 2)}[clips]


def other_indices(clips: str, n_clips: int) -> range:
    """The places that a lane writes posterior means of: those that it has not trained on, or all if there are none."""
    return own_indices({"all": "all", "even": "odd", "odd": "even"}[clips], n_clips)
