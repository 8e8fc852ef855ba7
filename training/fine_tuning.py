"""A training that begins with another's weights, on other recordings: what is taken, what is not, and what is new."""

import argparse
import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from data_util import config as configuration
from data_util.config import Config, ConfigError, parse_start
from model.nisets import NiSETS
from text.symbols import MARKS, VOWELS
from training import checkpoint, voices
from training.checkpoint import CheckpointError
from training.state import State

# what the recordings say, whoever is trained on them; the latents' mean and deviation are not of it, since the weights
# have learnt what a latent stands for, while F0 by its own mean is a melody, which another speaker has too
OF_THE_CORPUS = ("pause_scale", "f0_mean", "f0_std")
READ_LATENTS = {"text_encoder", "decoder", "generator"}  # with these parts go the latents' statistics
log = logging.getLogger("train")


@dataclass(frozen=True)
class Source:
    """weights: of a NiSETS under EMA, those that speak; discriminators: {} where the checkpoint has none; trained: the
    parts that have learnt; config: a tree, as files have it."""

    path: Path
    step: int
    config: dict
    symbols: tuple[str, ...]
    trained: frozenset[str]
    weights: dict[str, Tensor]
    discriminators: dict[str, Tensor]


def find_source(name: str) -> Path:
    """The file of a checkpoint: a run's name or folder, whose newest is taken, or a file. Raises CheckpointError."""
    path = Path(name)
    if path.suffix in (".pt", ".safetensors"):
        if not path.is_file():
            raise CheckpointError(f"-from {name}: no such file")
        return path.resolve()
    folder = checkpoint.RUNS / voices.run_id(name)
    kind = "project" if checkpoint.steps(folder, "project") else "voice"
    return checkpoint.find(folder, kind).resolve()


def load_source(path: Path) -> Source:
    """A checkpoint or a voice. Raises CheckpointError."""
    if path.suffix == ".pt":
        ckpt = checkpoint.load_checkpoint(path)
        return Source(path, ckpt["step"], ckpt["config"], tuple(ckpt["symbols"]), frozenset(ckpt["trained"]),
                      ckpt["ema"], ckpt["discriminators"])  # fmt: skip
    voice = checkpoint.load_voice(path)
    trained = frozenset(configuration.PARTS) - {"discriminators"}
    config = configuration.to_dict(voice.config)
    return Source(path, voice.step, config, voice.symbols, trained, voice.weights, {})


def configuration_of(args: argparse.Namespace) -> Config:
    """The configuration of a new run: config.yaml's, or with -from CHECKPOINT that checkpoint's, under -c and
    section.key=value.

    Raises ConfigError, also where the recordings would be read otherwise than a checkpoint has learnt to, or its
    weights would mean something else.
    """
    if not args.start:
        return configuration.load(args.c, args.overrides)
    starts = [(parts, find_source(name)) for parts, name in map(parse_start, args.start)]
    entries = [f"{','.join(parts)}={path}" if parts else str(path) for parts, path in starts]
    trees = {path: load_source(path).config for _, path in starts}
    whole = next((trees[path] for parts, path in starts if parts is None), None)
    base = configuration.read_tree(configuration.ROOT / "config.yaml")
    if whole is not None:
        system = whole["system"] | {"memory_formats": {}}  # which were for that run's processor
        dataset = whole["dataset"] | {"fold": "all"}  # not the half that a run of a recipe was on
        base = whole | {"system": system, "dataset": dataset, "fine_tuning": base["fine_tuning"]}
    start = f"fine_tuning.start={json.dumps(entries, ensure_ascii=False)}"
    config = configuration.load(args.c, [*args.overrides, start], base=base)
    if whole is not None and whole["training"]["train_num_steps"] == config.training.train_num_steps == 0:
        raise ConfigError(
            "training.train_num_steps = 0, as -from has it of a voice whose parts were trained apart: name a number, "
            "or with -c the overlay that the voice was made with"
        )
    for path, before in trees.items():
        configuration.check_same(config, before, ("audio",), path.name, "; prepare the recordings for that")
        configuration.check_same(config, before, configuration.MEANING, path.name)
    return config


def warm_start(state: State) -> set[str]:
    """Put the weights of fine_tuning.start into a fresh state, and say which were not taken.

    Returns the names of the model's that were. Raises CheckpointError where a checkpoint has nothing for this model.
    """
    starts = [(parts, load_source(Path(name))) for parts, name in map(parse_start, state.config.fine_tuning.start)]
    check_latents([source for parts, source in starts if parts is None or set(parts) & READ_LATENTS])
    taken = set()
    for parts, source in starts:
        taken |= take(state, source, parts)
    return taken


def take(state: State, source: Source, parts: Sequence[str] | None) -> set[str]:
    """Put the weights of one checkpoint, all or those of some parts, into a fresh state. Returns their names."""
    speakers = source.config["speakers"]["names"], state.config.speakers.names
    rows_of = (source.symbols, state.symbols), speakers
    otherwise = computed_otherwise(state.config, source)
    wanted = set(parts or configuration.PARTS) - set(otherwise)
    wanted |= {""} if wanted & READ_LATENTS else set()
    own = state.model.state_dict()
    found, missed = matched(own, source.weights, *rows_of)
    found = {name: value for name, value in found.items() if state.model.part_of(name) in wanted}
    missed = {name: why for name, why in missed.items() if state.model.part_of(name) in wanted}
    if not found and parts != ("discriminators",):  # which stand beside the model
        raise CheckpointError(f"{source.path}: has nothing that fits this model")
    for network in (state.model, state.ema):
        network.load_state_dict(found, strict=False)
    partly = {state.model.part_of(name) for name in missed if name in own}
    missed |= {part: why for part, why in otherwise.items() if parts is None or part in parts}
    if "discriminators" in wanted:
        missed |= take_discriminators(state, source)
    state.trained |= source.trained & {state.model.part_of(name) for name in found} - {"", *partly}
    n_numbers = sum(value.numel() for value in found.values()) / 1e6
    log.info("from %s, step %d: %d tensors of %.2f million numbers taken", source.path.name, source.step, len(found),
             n_numbers)  # fmt: skip
    for name, why in by_part(state.model, found, missed).items():
        log.info("not taken: %s: %s", name, why)
    return set(found)


def computed_otherwise(config: Config, source: Source) -> dict[str, str]:
    """The trained parts of a checkpoint that would compute something else here from the same weights, and why."""
    found = {}
    for part in sorted(source.trained & set(configuration.UNSHAPED)):
        try:
            configuration.check_same(config, source.config, configuration.UNSHAPED[part], source.path.name)
        except ConfigError as error:
            found[part] = f"{error}; it starts afresh"
    return found


def by_part(model: NiSETS, found: Iterable[str], missed: dict[str, str]) -> dict[str, str]:
    """missed, with one line for a part of which nothing was found. Both by the names of the model's state."""
    taken = {model.part_of(name) for name in found}
    shown = {}
    for name, why in missed.items():
        part = model.part_of(name)
        if part and part not in taken:
            shown[part] = "the checkpoint has nothing that fits; it starts afresh"
        else:
            shown[name] = why
    return shown


def check_latents(sources: Sequence[Source]) -> None:
    """Raise CheckpointError where parts that read latents come from runs whose latents have other statistics, or are
    otherwise compressed."""
    for name in ("latent_mean", "latent_std"):
        values = [(float(source.weights[name]), source.path) for source in sources]
        for value, path in values[1:]:
            if not math.isclose(value, values[0][0], rel_tol=1e-4, abs_tol=1e-4):
                both = f"{values[0][0]:.4g} in {values[0][1]} and {value:.4g} in {path}"
                raise CheckpointError(f"{name} is {both}: take parts from runs on the same recordings")
    for name in ("compression.encode_matrix", "compression.encode_bias"):
        having = [source for source in sources if name in source.weights]
        for other in having[1:]:
            ours, theirs = having[0].weights[name], other.weights[name]
            if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-4):
                raise CheckpointError(f"latents are compressed otherwise in {having[0].path} than in {other.path}: "
                                      "take parts from runs with the same latent.kind and recordings")  # fmt: skip


def take_discriminators(state: State, source: Source) -> dict[str, str]:
    """Put those of a checkpoint into a fresh state. Returns why some were not taken, by name."""
    if not source.discriminators:
        return {"the discriminators": "a voice does not have them; they start afresh"}
    found, missed = matched(state.discriminators.state_dict(), source.discriminators)
    state.discriminators.load_state_dict(found, strict=False)
    return {f"discriminators.{name}": why for name, why in missed.items()}


def matched(
    ours: dict[str, Tensor],
    theirs: dict[str, Tensor],
    symbols: tuple[Sequence[str], Sequence[str]] = ((), ()),
    speakers: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What of a checkpoint goes into a model: (tensors by name, why each of the others does not).

    symbols, speakers: theirs and ours. Tables are taken row by row, each by what it stands for: a new symbol starts as
    the mean of its kind (vowels, other letters, marks), a new speaker as the mean of those known.
    """
    taken, missed = {}, {}
    for name, value in ours.items():
        found, is_table = theirs.get(name), name.endswith("speaker.weight")
        if name in OF_THE_CORPUS:
            continue
        if found is None and is_table:
            missed["speakers"] = "all start as the one that the checkpoint has"
        elif found is None:
            missed[name] = "the checkpoint does not have it; it starts afresh"
        elif is_table and found.shape[1:] == value.shape[1:]:
            taken[name], new = rows(found, *speakers, lambda _: "")
            if new:
                missed[f"{name}, rows"] = "new speakers start as the mean of those known: " + ", ".join(new)
        elif name.endswith("embedding.tables.0.weight") and found.shape[1:] == value.shape[1:]:
            taken[name], new = rows(found, *symbols, kind_of)
            if new:
                missed[f"{name}, rows"] = "new symbols start as the mean of their kind: " + " ".join(new)
        elif found.shape != value.shape:
            missed[name] = f"{tuple(found.shape)} in the checkpoint, {tuple(value.shape)} here; it starts afresh"
        else:
            taken[name] = found.to(value.dtype)
    unknown = sorted({_unknown(name, ours) for name in theirs if name not in ours})
    missed |= {root: "this model has no such thing" for root in unknown if not root.endswith("speaker")}
    if any(root.endswith("speaker") for root in unknown):
        missed["speakers"] = "this voice starts as none of them: list them in speakers.names, and new ones behind them"
    return taken, missed


def _unknown(name: str, ours: Iterable[str]) -> str:
    """The outermost module of a tensor that a model has nothing of, or the tensor itself. ours: the model's names."""
    ends = [i for i, char in enumerate(name) if char == "."]
    return next((name[:end] for end in ends if not any(one.startswith(name[: end + 1]) for one in ours)), name)


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
