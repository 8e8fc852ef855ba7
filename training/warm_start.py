"""A training that begins with another's weights, on other recordings: what is taken, what is not, and what is new."""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_util import checkpoint
from data_util import config as configuration
from data_util.checkpoint import CheckpointError
from data_util.config import Config
from text.symbols import MARKS, VOWELS
from training.state import State

# what the recordings say, whoever is trained on them; the latents' mean and deviation are not of it, since the weights
# have learnt what a latent stands for, while F0 by its own mean is a melody, which another speaker has too
OF_THE_CORPUS = ("pause_scale", "f0_mean", "f0_std")
log = logging.getLogger("train")


@dataclass(frozen=True)
class Source:
    """weights: of a NiSETS; discriminators: {} where the checkpoint has none; config: a tree, as files have it."""

    path: Path
    step: int
    config: dict
    symbols: tuple[str, ...]
    weights: dict[str, Tensor]
    discriminators: dict[str, Tensor]


def find_source(name: str) -> Path:
    """The file of a checkpoint: a run's name or folder, whose newest is taken, or a file. Raises CheckpointError."""
    path = Path(name)
    if path.suffix in (".pt", ".safetensors"):
        if not path.is_file():
            raise CheckpointError(f"-from {name}: no such file")
        return path.resolve()
    folder = path if path.is_dir() else checkpoint.RUNS / name
    kind = "project" if checkpoint.steps(folder, "project") else "voice"
    return checkpoint.find(folder, kind).resolve()


def load_source(path: Path) -> Source:
    """A project, of which the averaged weights are read, or a voice. Raises CheckpointError."""
    if path.suffix == ".pt":
        project = checkpoint.load_project(path)
        weights = project.get("ema", project["model"])
        found = (project["step"], project["config"], tuple(project["symbols"]))
        return Source(path, *found, weights, project.get("discriminators", {}))
    voice = checkpoint.load_voice(path)
    return Source(path, voice.step, configuration.to_dict(voice.config), voice.symbols, voice.weights, {})


def configuration_of(args: argparse.Namespace) -> Config:
    """The configuration of a new run: config.yaml's, or with -from the checkpoint's, under -c and section.key=value.

    Raises ConfigError, also where the recordings would be read otherwise than the checkpoint has learnt to, or its
    weights would mean something else.
    """
    if args.start is None:
        return configuration.load(args.c, args.overrides)
    path = find_source(args.start)
    before = {name: keys for name, keys in load_source(path).config.items() if name != "fine_tuning"}
    before = configuration.completed(before)
    config = configuration.load(args.c, [*args.overrides, f"fine_tuning.start={path}"], base=before)
    of_recordings = [*(("audio", key) for key in before["audio"]), ("text", "units")]
    configuration.check_same(config, before, of_recordings, path.name, "; prepare the recordings for that")
    configuration.check_meaning(config, before, path.name)
    return config


def warm_start(state: State) -> dict[str, Tensor]:
    """Put the weights of fine_tuning.start into a fresh state, and say which were not taken.

    Returns the model's that were, by name. Raises CheckpointError where the checkpoint has nothing for this model.
    """
    source = load_source(Path(state.config.fine_tuning.start))
    speakers = source.config.get("speakers", {}).get("names", [])
    taken, missed = matched(state.model.state_dict(), source.weights, (source.symbols, state.symbols),
                            (speakers, state.config.speakers.names))  # fmt: skip
    if not taken:
        raise CheckpointError(f"{source.path}: has nothing that fits this model")
    for network in (state.model, state.ema):
        network.load_state_dict(taken, strict=False)
    judges, missed_judges = matched(state.discriminators.state_dict(), source.discriminators, ((), ()), ((), ()))
    state.discriminators.load_state_dict(judges, strict=False)
    if source.discriminators:
        missed |= {f"discriminators.{name}": why for name, why in missed_judges.items()}
    n_taken = sum(value.numel() for value in taken.values()) / 1e6
    log.info("from %s, step %d: %d tensors of %.2f million numbers taken", source.path.name, source.step,
             len(taken) + len(judges), n_taken)  # fmt: skip
    for name, why in missed.items():
        log.info("not taken: %s: %s", name, why)
    if not source.discriminators:
        log.info("not taken: the discriminators, which a voice does not have; they start afresh")
    return taken


def matched(
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
    symbols: tuple[Sequence[str], Sequence[str]],
    speakers: tuple[Sequence[str], Sequence[str]],
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What of a checkpoint goes into a model: (tensors by name, why each of the others does not).

    symbols, speakers: theirs and ours. Tables are taken row by row, each by what it stands for: a new symbol starts as
    the mean of its kind (vowels, other letters, marks), a new speaker as the mean of those known.
    """
    taken, missed = {}, {}
    for name, value in ours.items():
        found = theirs.get(name)
        if name in OF_THE_CORPUS:
            continue
        if name.endswith("embedding.tables.0.weight") and found is not None and found.shape[1:] == value.shape[1:]:
            taken[name], new = rows(found, *symbols, kind_of)
            if new:
                missed[f"{name}, rows"] = "new symbols start as the mean of their kind: " + " ".join(new)
        elif name.endswith("speaker.weight") and found is not None and found.shape[1:] == value.shape[1:]:
            taken[name], new = rows(found, *speakers, lambda _: "")
            if new:
                missed[f"{name}, rows"] = "new speakers start as the mean of those known: " + ", ".join(new)
        elif found is None:
            missed[name] = "the checkpoint does not have it; it starts afresh"
        elif found.shape != value.shape:
            missed[name] = f"{tuple(found.shape)} in the checkpoint, {tuple(value.shape)} here; it starts afresh"
        else:
            taken[name] = found.to(value.dtype)
    missed |= {name: "this model has no such thing" for name in theirs if name not in ours}
    return taken, missed


def rows(table: Tensor, theirs: Sequence[str], ours: Sequence[str], kind) -> tuple[Tensor, list[str]]:
    """table: (len(theirs), C). Returns (len(ours), C), and those of ours that are new."""
    places = {name: place for place, name in enumerate(theirs)}
    new = [name for name in ours if name not in places]
    means = {}
    for one in {kind(name) for name in new}:
        like = [place for name, place in places.items() if kind(name) == one] or list(places.values())
        means[one] = table[like].mean(0)
    return torch.stack([table[places[name]] if name in places else means[kind(name)] for name in ours]), new


def kind_of(symbol: str) -> str:
    return "vowel" if symbol in VOWELS else "mark" if symbol in MARKS else "letter"
