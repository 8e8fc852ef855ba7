"""What a run leaves in its folder, written whole or not at all, and read without running any code from it.

checkpoint/<id>/  config.yaml  log.jsonl  curves.png  skipped.txt  samples/<step>/
                  project_<step:08d>.pt                    all of training, for resuming
                  voice_<step:08d>.safetensors and .json   EMA weights, config, symbols, for speaking
"""

import dataclasses
import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from data_util import config as configuration
from data_util.config import ROOT, Config
from runtime.files import check_space, write_atomic, write_json

RUNS = ROOT / "checkpoint"
VERSION = "2.0.0"  # of the project, as pyproject.toml has it; what another major version wrote is not read
BUNDLED = RUNS / "ljspeech-small"  # the voice that comes with the repository
SLACK = 1.05  # of a checkpoint's file over its tensors
log = logging.getLogger("train")


class CheckpointError(ValueError):
    """A run, a step or a checkpoint that is not there or cannot be used; the message says what to do."""


class DamagedError(CheckpointError):
    """A checkpoint that is not as it was written."""


@dataclass(frozen=True)
class Voice:
    """weights: the state of a NiSETS; sha256: of their file."""

    weights: dict[str, Tensor]
    config: Config
    symbols: tuple[str, ...]
    step: int
    path: Path
    sha256: str


def steps(folder: Path, kind: str) -> list[int]:
    """The steps at which a run's folder has a checkpoint, rising. kind: project, of all of training, or voice."""
    pattern = re.compile(rf"{kind}_(\d{{8,}})\.(pt|safetensors)")
    found = (pattern.fullmatch(path.name) for path in folder.glob(f"{kind}_*"))
    return sorted(int(match[1]) for match in found if match)


def find(folder: Path, kind: str, step: int | None = None) -> Path:
    """The checkpoint of a step, or the newest. Raises CheckpointError, which says what there is instead."""
    if not folder.is_dir():
        known = ", ".join(sorted(path.name for path in folder.parent.glob("*") if path.is_dir())) or "none"
        raise CheckpointError(f"no run {folder.name} in {folder.parent} (there are: {known})")
    there = steps(folder, kind)
    if not there:
        raise CheckpointError(f"run {folder.name} has no {kind} checkpoint yet: train it longer")
    if step is not None and step not in there:
        raise CheckpointError(
            f"run {folder.name} has no {kind} of step {step} (there are: {', '.join(map(str, there))})"
        )
    return path_of(folder, kind, there[-1] if step is None else step)


def path_of(folder: Path, kind: str, step: int) -> Path:
    """Where the checkpoint of a step is, if it is. kind: as of steps."""
    return folder / f"{kind}_{step:08d}.{'pt' if kind == 'project' else 'safetensors'}"


def check_version(path: Path, version: str | None) -> None:
    """Raise CheckpointError where a checkpoint was written by another major version, which named other things."""
    if version is None or version.partition(".")[0] != VERSION.partition(".")[0]:
        raise CheckpointError(f"{path} was written by version {version or '1'} of the project, and this is {VERSION}: "
                              "use that version of the code, or train it again")  # fmt: skip


def check_symbols(where: Path | str, saved: Sequence[str], ours: Sequence[str]) -> None:
    """Raise CheckpointError, with the difference, where a checkpoint's ids count in other symbols than text/ has."""
    if list(saved) != list(ours):
        only_here, only_there = ("".join(sorted(set(a) - set(b))) for a, b in ((ours, saved), (saved, ours)))
        order = "" if only_here or only_there else " (the same symbols in another order)"
        raise CheckpointError(
            f"{where} was trained on other symbols than text/ has: only here {only_here!r}, only there {only_there!r}"
            f"{order}. Use the version of the code that trained it"
        )


def set_aside(folder: Path, step: int) -> None:
    """Move what a run wrote after a step into its folder abandoned/: it is resumed from there, and goes another way."""
    for kind in ("project", "voice"):
        for later in (one for one in steps(folder, kind) if one > step):
            for path in folder.glob(f"{kind}_{later:08d}.*"):
                (folder / "abandoned").mkdir(exist_ok=True)
                path.replace(folder / "abandoned" / path.name)


def n_bytes(tree) -> int:
    """What the tensors in a tree of plain values take."""
    return sum(leaf.nbytes for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def check_room(folder: Path, ckpt: dict | list) -> None:
    """Raise OSError where a checkpoint would find no room in a run's folder."""
    check_space(folder, int(SLACK * n_bytes(ckpt)) + 1_000_000)


def save_checkpoint(folder: Path, step: int, ckpt: dict, keep: int) -> None:
    """Write all that training needs to go on; of these keep `keep`, this one and the newest others.

    Raises OSError, before anything is written where there is no room for it. The file is a zip archive: it has a
    checksum of every entry, which load_checkpoint compares.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_room(folder, ckpt)
    write_atomic(path_of(folder, "project", step), lambda file: _save(ckpt, file))
    others = [other for other in steps(folder, "project") if other != step]
    for old in others[: max(0, len(others) + 1 - keep)]:
        path_of(folder, "project", old).unlink(missing_ok=True)


class Writer:
    """Writes in a thread of its own, one thing at a time, so that nothing waits for the disk."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._written: Future[None] | None = None  # until what it raised is raised here

    def start(self, write: Callable[[], None]) -> None:
        """Call write in the background, once what was begun before has ended; raises what that raised."""
        self.finish()
        self._written = self._thread.submit(write)

    def check(self) -> None:
        """Raise what the last write raised, if it has ended with that; does not wait."""
        if self._written is not None and self._written.done():
            written, self._written = self._written, None
            written.result()

    def finish(self) -> None:
        """Wait until all is written. Raises what the last write raised."""
        if self._written is not None:
            wait([self._written])
        self.check()


def to_host(tree):
    """A tree of plain values and tensors, the tensors copied to the CPU."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), tree)


def _save(ckpt, file):
    """torch.save, which reports what the file says, a full disk for one, as an error of its own."""
    try:
        torch.save(ckpt, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_newest(folder: Path, step: int | None = None) -> dict:
    """The checkpoint of a step, or the newest that is whole, with a warning about each newer one that is not.

    Raises CheckpointError where there is none, or it is foreign or carries code; of `step`, also where it is damaged.
    """
    path = find(folder, "project", step)
    older = [] if step is not None else steps(folder, "project")[:-1]
    while True:
        try:
            return load_checkpoint(path)
        except DamagedError:
            if not older:
                raise
            log.warning("%s is damaged: going on from the one before, of step %d", path, older[-1])
            path = find(folder, "project", older.pop())


def load_checkpoint(path: Path) -> dict:
    """What save_checkpoint wrote, on the CPU. Raises CheckpointError where it is damaged, foreign or carries code."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not compare the checksums that it has written
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(damaged)
        ckpt = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError) as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except Exception as error:  # there is hardly one that some damage does not raise
        carries_code = "unsupported global" in str(error).lower()
        kind, reason = (CheckpointError, "it carries code") if carries_code else (DamagedError, "it is damaged")
        raise kind(f"{path} was not loaded: {reason}. Name an earlier step with -ckpt") from error
    if not isinstance(ckpt, dict) or not {"step", "config", "symbols", "model"} <= set(ckpt):
        raise CheckpointError(f"{path} is no checkpoint of this project")
    check_version(path, ckpt.get("version"))
    return ckpt


def save_voice(folder: Path, step: int, weights: dict[str, Tensor], config: Config, symbols: tuple[str, ...]) -> Path:
    """Write weights and, beside them, the JSON that says how to use them. Raises OSError."""
    path = path_of(folder, "voice", step)
    content = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()})
    about = {"version": VERSION, "step": step, "symbols": list(symbols), "config": configuration.to_dict(config),
             "sha256": hashlib.sha256(content).hexdigest()}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    check_space(folder, len(content) + 1_000_000)
    write_json(path.with_suffix(".json"), about)
    write_atomic(path, content)
    return path


def keep_voices(folder: Path, kept: set[int]) -> None:
    """Remove the voices of all other steps."""
    for step in set(steps(folder, "voice")) - kept:
        for path in folder.glob(f"voice_{step:08d}.*"):
            path.unlink(missing_ok=True)


def load_voice(path: Path, overrides: Sequence[str] = ()) -> Voice:
    """What save_voice wrote, on the CPU, in float32, overrides section.key=value in its configuration. Raises
    CheckpointError, ConfigError."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        content = path.read_bytes()
        if about["sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError("its weights are not those that were written")
        check_version(path, about.get("version"))
        weights = {name: tensor.float() for name, tensor in safetensors.torch.load(content).items()}
        config = configuration.from_dict(about["config"])
        voice = Voice(weights, config, tuple(about["symbols"]), int(about["step"]), path, about["sha256"])
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{error.filename or path}: no such file; a voice is a .safetensors and a .json"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path} is not a voice, or damaged: {' '.join(str(error).split())}") from error
    return dataclasses.replace(voice, config=configuration.change(voice.config, overrides))
