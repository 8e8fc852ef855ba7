"""The clips that a run trains on and is measured on."""

import contextlib
import logging
import zipfile
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from data_util.config import ROOT, Config, ConfigError
from data_util.corpus import Corpus, prepare
from data_util.features import code_of, digest
from data_util.gta import GTALatents
from evaluation import metrics
from model import latent
from runtime.files import one_at_a_time, write_atomic
from training import initial_alignment
from training.distributed import Processes

# by dataset.fold: the clips of metafile_train that a run trains on, and those that a run has not seen, or all where it
# trains on all
FOLDS = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}
HELD_BACK = {"all": FOLDS["all"], "even": FOLDS["odd"], "odd": FOLDS["even"]}
log = logging.getLogger("train")


@dataclass
class Data:
    """clips: all of the list, aligned where alignment.init asks for it; own: those of dataset.fold, which training
    uses; valid: held out; valid_alignment: by what has aligned clips, ids with pauses and durations of each; latents:
    teacher-forced ones of own, where a stage reads them."""

    clips: Corpus
    own: Corpus
    valid: Corpus
    valid_alignment: list[initial_alignment.Aligned] | None = None
    latents: GTALatents | None = None


def prepare_data(config: Config, processes: Processes) -> Data:
    """What a configuration trains on.

    The first process makes what the cache does not have, one run at a time; the others then read it.
    """
    check_packages(config)
    lock = one_at_a_time(ROOT / config.dataset.cache) if processes.is_main else contextlib.nullcontext()
    with processes.main_first(), lock:
        return read_data(config, progress=processes.is_main)


def read_data(config: Config, progress: bool) -> Data:
    """prepare_data of one process; progress: show bars."""
    clips = prepare(config, config.dataset.metafile_train, progress=progress)
    valid = prepare(config, config.dataset.metafile_valid, progress=progress)
    valid_alignment = None
    if config.alignment.init == "em":
        aligned, flat_start = initial_alignment.corpus_alignment(config, clips, progress=progress)
        clips.ids, clips.durations = map(list, zip(*aligned))
        valid_alignment = flat_start.align(valid.mels, valid.ids, config.shortest_pause)
    corpus_compression(config, clips)  # into the cache, where every process finds it
    log.info("latent: mean %.3f, standard deviation %.3f", *clips.statistics())
    if config.with_f0:
        log.info("ln F0: mean %.3f, standard deviation %.3f", *clips.f0_statistics())
    indices = range(len(clips))[FOLDS[config.dataset.fold]]
    if not indices:
        raise ConfigError(f"dataset.fold = {config.dataset.fold}: none of the {len(clips)} clips of "
                          "dataset.metafile_train is in it: add recordings")  # fmt: skip
    latents = None
    if any(stage.latents == "gta" for stage in config.training.stages):
        folders = [ROOT / folder for folder in config.training.gta_folders]
        latents = GTALatents(folders, content_of_latents(config, clips), indices)
    return Data(clips, clips.subset(indices), valid, valid_alignment, latents)


def clip_tensors(config: Config, clips: Corpus, index: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """One clip as the model reads it: x (1, T_x), mel (1, n_mels, T_mel), f0 (1, 2, T_mel), empty where unread."""
    contour = clips.f0(index) if config.with_f0 else np.zeros((2, 0), dtype=np.float32)
    arrays = (clips.ids[index], clips.mel(index), contour)
    x, mel, f0 = (torch.from_numpy(array)[None].to(device) for array in arrays)
    return x, mel, f0


def check_packages(config: Config) -> None:
    """Raise ConfigError where what measures system.best_metric is not installed, before anything that takes time."""
    packages = {"cer": metrics.POCKETSPHINX, "distillmos": metrics.DISTILLMOS}
    needed = packages.get(config.system.best_metric, ())
    missing = metrics.missing_packages(needed)
    if missing:
        raise ConfigError(f"system.best_metric = {config.system.best_metric}: needs {', '.join(missing)}: "
                          "pip install -r requirements-extra.txt")  # fmt: skip


def content_of_latents(config: Config, corpus: Corpus) -> str:
    """What the latents of a corpus depend on: its clips, and what a latent of them is."""
    return digest("3", corpus.content, str((asdict(config.latent), asdict(config.audio))))


def corpus_compression(config: Config, corpus: Corpus) -> dict[str, Tensor] | None:
    """The state of the Compression that a configuration asks for, fitted on a corpus or from the cache; None: none.

    Raises OSError where the cache cannot be written.
    """
    if config.latent.kind == "normalised":
        return None
    key = digest(code_of(latent.Compression), content_of_latents(config, corpus))
    path = ROOT / config.dataset.cache / "latents" / f"{key}.npz"
    damage = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)
    with contextlib.suppress(*damage), np.load(path, allow_pickle=False) as known:
        return {name: torch.from_numpy(known[name]) for name in known.files}
    state = latent.fit(config.latent.kind, config.n_latents, corpus.mels, corpus.statistics()).state_dict()
    arrays = {name: value.numpy() for name, value in state.items()}
    write_atomic(path, lambda file: np.savez(file, **arrays))
    return state
