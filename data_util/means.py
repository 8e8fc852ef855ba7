"""Posterior means on disk: what one lane's score network gives for each clip, for another lane's generator to read."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_util.checkpoint import CheckpointError
from data_util.files import read_json, write_atomic, write_json

INDEX = "index.json"  # written last: a folder without it is not complete


def save_mean(folder: Path, index: int, mean: np.ndarray) -> None:
    """mean: (n_times, n_latents, T_mel) of the clip at this index of the whole list; kept in half precision."""
    half = mean.astype(np.float16)
    write_atomic(folder / f"{index:06d}.npy", lambda file: np.save(file, half), durable=False)


def complete(folder: Path, content: str, times: Sequence[float], indices: Sequence[int]) -> None:
    """Say that all means are there. content: Corpus.content of the whole list; times: t of each mean."""
    write_json(folder / INDEX, {"content": content, "times": list(times), "indices": list(map(int, indices))})


def is_complete(folder: Path) -> bool:
    return read_json(folder / INDEX) is not None


def discard(folder: Path) -> None:
    """Say that the means, if there are any, are to be written again."""
    (folder / INDEX).unlink(missing_ok=True)


class Means:
    """The means that lanes have written into their folders, for workers to read."""

    def __init__(self, folders: Sequence[Path], content: str, times: Sequence[float], shares: Sequence[float]):
        """times: t of the means to read; shares: how often each is read.

        Raises CheckpointError where a folder is not complete, or was made for other clips or times.
        """
        self.times, self.limits = tuple(times), np.cumsum(shares)
        self.folders: dict[int, Path] = {}
        for folder in folders:
            about = read_json(folder / INDEX)
            if not isinstance(about, dict) or about.get("times") != list(times) or about.get("content") != content:
                raise CheckpointError(f"{folder}: not the posterior means of these clips at training.mean_times. "
                                      "Remove the folder and go on with -id: they are written again")  # fmt: skip
            self.folders |= dict.fromkeys(about["indices"], folder)
        self.indices: Sequence[int] | None = None

    def of(self, indices: Sequence[int]) -> "Means":
        """The same means, read by the places in a part of the list. indices: where its clips stand in the whole."""
        part = copy.copy(self)
        part.indices = indices
        return part

    def read(self, index: int, u: float, start: int, n_frames: int) -> tuple[np.ndarray, float]:
        """One mean's frames from `start`, u in [0, 1) choosing its t: ((n_latents, n_frames) float32, t).

        It gives fewer frames where the clip ends first. Raises CheckpointError where the file is gone or damaged.
        """
        index = index if self.indices is None else self.indices[index]
        which = min(int(np.searchsorted(self.limits, u, side="right")), len(self.times) - 1)
        try:
            path = self.folders[index] / f"{index:06d}.npy"
            mean = np.load(path, mmap_mode="r", allow_pickle=False)
            return np.asarray(mean[which, :, start : start + n_frames], dtype=np.float32), self.times[which]
        except (OSError, ValueError, EOFError, IndexError, KeyError) as error:
            raise CheckpointError(f"posterior mean of clip {index} in {self.folders.get(index)}: {error}. Remove the "
                                  "folder and go on with -id: it is written again") from error  # fmt: skip
