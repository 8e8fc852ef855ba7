"""Features of recordings, made once: a store by content, beside an index that spares reading what is known."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_util.audio import AudioError, MelSpectrogram, decode_wav
from data_util.config import Audio, Pitch
from data_util.pitch import settings, track_f0
from runtime.command import columns
from runtime.files import read_json, write_atomic, write_json

CLIPS_A_WORKER = 16  # fewer are not worth a process
WORKER_LOST = ("a process that loads data was ended, as the system does for want of memory: lower system.num_workers "
               "or training.batch_size")  # fmt: skip
NPY_HEADER = 128  # bytes before the numbers of a small .npy


@dataclass(frozen=True)
class Features:
    """Where the features of one recording are; `fault`: why there are none."""

    key: str = ""  # sha256 of the file's bytes
    n_frames: int = 0
    fault: str = ""
    stamp: tuple[int, int] = (0, 0)  # size in bytes and mtime in ns of the file that was read


class FeatureStore:
    """One .npy (n_mels, T_mel) float32 for each content of a recording, in a folder for each setting of audio.*.

    index.json there says which content a path had at a size and mtime, so that an untouched file is not read again.
    Where `pitch` is given there is F0 too, (2, T_mel) float32, in a folder for each setting that it depends on.
    """

    def __init__(self, cache: Path, audio: Audio, pitch: Pitch | None = None):
        self.audio, self.pitch = audio, pitch
        self.folder = cache / "features" / digest("1", json.dumps(dataclasses.asdict(audio)))[:16]
        if pitch is not None:
            self.f0_folder = cache / "f0" / digest("1", json.dumps(settings(audio, pitch)))[:16]
        self._mel: MelSpectrogram | None = None

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"

    def f0_path(self, key: str) -> Path:
        return self.f0_folder / key[:2] / f"{key}.npy"

    def read(self, key: str, n_frames: int) -> np.ndarray | None:
        """The features, or None where they are not there or damaged."""
        return _load(self.path(key), (self.audio.n_mels, n_frames))

    def read_f0(self, key: str, n_frames: int) -> np.ndarray | None:
        """track_f0's, or None where it is not there or damaged."""
        return _load(self.f0_path(key), (2, n_frames))

    def make(self, path: Path) -> Features:
        """Features of a recording, each computed and written unless its content is known."""
        try:
            status = path.stat()  # before the content, so that a later change is seen as one
            content = path.read_bytes()
            wav = decode_wav(io.BytesIO(content), str(path), self.audio.sample_rate)
        except AudioError as error:
            return Features(fault=error.reason)
        except OSError as error:
            return Features(fault="missing" if isinstance(error, FileNotFoundError) else "unreadable")
        key, n_frames = hashlib.sha256(content).hexdigest(), len(wav) // self.audio.hop_length
        if self.read(key, n_frames) is None:
            mel = compute_mel(self._spectrogram(), wav)
            write_atomic(self.path(key), lambda file: np.save(file, mel), durable=False)
        if self.pitch is not None and self.read_f0(key, n_frames) is None:
            f0 = track_f0(wav, self.audio, self.pitch)
            write_atomic(self.f0_path(key), lambda file: np.save(file, f0), durable=False)
        return Features(key, n_frames, "", (status.st_size, status.st_mtime_ns))

    def prepare(self, paths: Sequence[Path], n_workers: int, progress: bool) -> dict[Path, Features]:
        """Features of many recordings, each made where the index or the cache does not have it."""
        index = self._read_index()
        features = {path: self._known(path, index.get(str(path))) for path in paths}
        todo = [path for path, known in features.items() if known is None]
        made: dict[str, list] = {}
        try:
            for one, path in zip(bar(self._make_all(todo, n_workers), len(todo), "features", progress), todo):
                features[path] = one
                if not one.fault:
                    made[str(path)] = [*one.stamp, one.key, one.n_frames]
        finally:  # an interrupted preparation goes on where it stopped
            if made:
                write_json(self.folder / "index.json", self._read_index() | made, durable=False)
        return features

    def _spectrogram(self):
        if self._mel is None:
            self._mel = MelSpectrogram(**dataclasses.asdict(self.audio))
        return self._mel

    def _read_index(self):
        index = read_json(self.folder / "index.json")
        return index if isinstance(index, dict) else {}

    def _known(self, path, entry):
        try:
            size, mtime_ns, key, n_frames = entry
            status = path.stat()
            rows = {self.path(key): self.audio.n_mels} | ({} if self.pitch is None else {self.f0_path(key): 2})
            whole = all(file.stat().st_size == NPY_HEADER + 4 * n * n_frames for file, n in rows.items())
            if (status.st_size, status.st_mtime_ns) == (size, mtime_ns) and whole:
                return Features(key, n_frames)
        except (OSError, TypeError, ValueError):  # not in the index, gone, or an index that says nonsense
            pass
        return None

    def _make_all(self, paths: Sequence[Path], n_workers: int) -> Iterator[Features]:
        """make() of each path, in order, in several processes where that is worth it.

        With F0 the first good one is made by this process: librosa compiles for it, and processes that compile at the
        same time can spoil numba's cache, which then ends whoever reads it by a segmentation fault.
        """
        n_done, is_compiled = 0, self.pitch is None
        while not is_compiled and n_done < len(paths):
            (made,) = each(self.make, paths[n_done : n_done + 1], 0)
            n_done, is_compiled = n_done + 1, not made.fault
            yield made
        yield from each(self.make, paths[n_done:], n_workers)


def each(function: Callable, items: Sequence, n_workers: int) -> Iterator:
    """function of each item, in order, in several processes where that is worth it; both can be pickled."""
    n_workers = min(n_workers, len(items) // CLIPS_A_WORKER)
    if n_workers < 2:
        with _one_thread():
            yield from map(function, items)
    else:
        loader = torch.utils.data.DataLoader(
            Each(function, items), batch_size=None, num_workers=n_workers, prefetch_factor=8,
            generator=torch.Generator(),  # its own, so that the global one stays as it is
        )  # fmt: skip
        with worker_errors():
            yield from loader


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Within it what a DataLoader's worker raises is raised without its traceback, which the loader puts into the
    message, and OSError where a worker was killed."""
    try:
        yield
    except (ValueError, OSError) as error:
        if not str(error).startswith("Caught "):  # by the loader
            raise
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise kind(str(error).strip().splitlines()[-1].removeprefix(f"{name}: ")) from error
    except RuntimeError as error:
        if not is_worker_lost(error):
            raise
        raise OSError(WORKER_LOST) from error


def is_worker_lost(error: Exception) -> bool:
    """Whether it says that a DataLoader's worker was killed; it is raised wherever the main process happens to be."""
    return "DataLoader worker" in str(error)


class Each(Sequence):
    """function of each item, called when it is asked for."""

    def __init__(self, function: Callable, items: Sequence):
        self.function, self.items = function, items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.function(self.items[index])


def compute_mel(spectrogram: MelSpectrogram, wav: np.ndarray) -> np.ndarray:
    """wav: (T_wav,) float32 in [-1, 1]. Returns (n_mels, T_mel) float32, natural log of amplitude."""
    with torch.no_grad():
        return spectrogram(torch.from_numpy(wav)[None])[0].numpy()


def bar(items: Iterable, n_items: int, name: str, progress: bool) -> Iterable:
    """The items, with a progress bar on stderr where there are any and `progress` is set."""
    return tqdm(items, total=n_items, desc=name, disable=not progress or n_items == 0, ncols=columns())


def digest(*texts: str) -> str:
    """sha256, in hexadecimal, of several texts; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for one in texts:
        digest.update(f"{len(one)}:{one}".encode())
    return digest.hexdigest()


def n_cpus() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load(path, shape):
    try:
        feature = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    right = isinstance(feature, np.ndarray) and feature.dtype == np.float32 and feature.shape == shape
    return feature if right else None


def statistics(folder: Path, keys: Sequence[str], arrays: Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of the features of these keys in a folder of the cache, computed unless it has them.

    Raises ValueError where they hold no values.
    """
    path = folder / f"statistics-{digest(*sorted(keys))[:32]}.json"
    known = read_json(path)
    if isinstance(known, list) and len(known) == 2 and all(isinstance(value, float) for value in known):
        return known[0], known[1]
    sums = np.zeros(3)  # values, their sum, their squares' sum; exact enough in float64
    for array in arrays:
        values = array.astype(np.float64)
        sums += values.size, values.sum(), np.square(values).sum()
    if sums[0] == 0:
        raise ValueError(f"statistics of {len(keys)} recordings that hold no values")
    mean = float(sums[1] / sums[0])
    std = float(np.sqrt(max(sums[2] / sums[0] - mean**2, 0.0)))
    write_json(path, [mean, std], durable=False)
    return mean, std


@contextlib.contextmanager
def _one_thread():
    """One thread for torch, as in a worker: in transforms so small more only wait for each other, ten times as long."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
