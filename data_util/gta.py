"""Teacher-forced (ground-truth aligned, GTA) latents on disk: the one-step posterior means of clips, written by
training/extract.py with a network that has not seen them, for the vocoder to be trained on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from runtime.files import read_json, write_atomic, write_json

INDEX = "index.json"  # written last: a folder without it is not complete


class LatentsError(ValueError):
    """Latents that are not there, not complete, or of other clips; the message says what to do."""


def save(folder: Path, index: int, latents: np.ndarray) -> None:
    """latents: (n_times, n_latents, T_mel) of the clip at this index of the whole list; kept in half precision."""
    half = latents.astype(np.float16)
    write_atomic(folder / f"{index:06d}.npy", lambda file: np.save(file, half), durable=False)


@dataclass(frozen=True)
class About:
    """times: t of each of a clip's latents, in (0, 1]; shares: how often training reads each, 1 in all; source: what
    they were made with; mean and std: of the log-mels, by which the network that made them normalises."""

    times: list[float]
    shares: list[float]
    source: str = ""
    mean: float = 0.0
    std: float = 1.0


def complete(folder: Path, content: str, indices: Sequence[int], about: About) -> None:
    """Write the index, which says that all latents are there. content: what they depend on, as
    training.data.content_of_latents has it of the whole list."""
    write_json(folder / INDEX, {"content": content, "indices": list(map(int, indices)), **asdict(about)})


class GTALatents:
    """The latents of one or more folders, for workers to read."""

    def __init__(self, folders: Sequence[Path], content: str, indices: Sequence[int] | None = None):
        """content: as of complete(); indices: the places in the whole list of the clips that are read, by which read()
        then counts; None: all of it.

        Raises LatentsError where a folder is not complete or was made for other clips or another kind of latent, they
        differ in times, or have none of some clip.
        """
        self.folders: dict[int, Path] = {}
        self.times: list[float] = []
        self.statistics: dict[Path, tuple[float, float]] = {}
        for folder in folders:
            about = read_json(folder / INDEX, {})
            if about.get("content") != content:
                raise LatentsError(
                    f"{folder}: no such latents of these clips: write them with python -m training.extract"
                )
            if self.times and (about["times"], about["shares"]) != (self.times, self.shares):
                raise LatentsError(f"{folder}: its times and shares are not those of {folders[0]}")
            self.times, self.shares = about["times"], about["shares"]
            self.statistics[folder] = about["mean"], about["std"]
            self.folders |= dict.fromkeys(about["indices"], folder)
        self.limits = np.cumsum(self.shares)
        self.indices = indices
        missing = next((index for index in indices or () if index not in self.folders), None)
        if missing is not None:
            raise LatentsError(f"training.gta_folders: no latents of clip {missing} of dataset.metafile_train")

    def check(self, mean: float, std: float) -> None:
        """Raise LatentsError where latents are normalised by other numbers than a vocoder's own."""
        for folder, theirs in self.statistics.items():
            if not np.allclose(theirs, (mean, std), rtol=1e-4, atol=1e-4):
                raise LatentsError(
                    f"{folder}: its latents are normalised by mean and deviation {theirs[0]:.4g} and {theirs[1]:.4g}, "
                    f"this run's by {mean:.4g} and {std:.4g}, since one of the two began with another voice (-from): "
                    "begin both with the same"
                )

    def read(self, index: int, u: float, start: int, n_frames: int) -> tuple[np.ndarray, float]:
        """Frames of one latent from `start`, u in [0, 1) choosing its t: ((n_latents, n_frames) float32, t).

        It gives fewer frames where the clip ends first. Raises LatentsError where the file is gone or damaged.
        """
        index = index if self.indices is None else self.indices[index]
        which = min(int(np.searchsorted(self.limits, u, side="right")), len(self.times) - 1)
        try:
            latents = np.load(self.folders[index] / f"{index:06d}.npy", mmap_mode="r", allow_pickle=False)
            return np.asarray(latents[which, :, start : start + n_frames], dtype=np.float32), self.times[which]
        except (OSError, ValueError, EOFError, IndexError, KeyError) as error:
            raise LatentsError(f"latents of clip {index} in {self.folders.get(index)}: {error}. Write them again with "
                               "python -m training.extract") from error  # fmt: skip
