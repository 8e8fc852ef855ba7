"""Features of recordings, made once: a store by content, beside an index that spares reading what is known."""

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_util.audio import AudioError, MelSpectrogram, decode_wav
from data_util.config import Audio, Pitch
from data_util.pitch import track_f0
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
    """A .npy, float32, of each feature of each content of a recording: of "mel" (n_mels, T_mel), and where `pitch` is
    given of "f0" (2, T_mel), track_f0's; in a folder of its own for the settings and the code that it depends on.

    index.json of the mels says which content a path had at a size and mtime, so that an untouched file is not read
    again.
    """

    def __init__(self, cache: Path, audio: Audio, pitch: Pitch | None = None):
        self.audio, self.pitch = audio, pitch
        self.folders = {"mel": cache / "features" / digest(code_of(MelSpectrogram), str(audio))[:16]}
        self.n_rows = {"mel": audio.n_mels, "f0": 2}
        if pitch is not None:
            settings = audio.sample_rate, audio.hop_length, pitch
            self.folders["f0"] = cache / "f0" / digest(code_of(track_f0), str(settings))[:16]
        self._index_path = self.folders["mel"] / "index.json"

    def path(self, feature: str, key: str) -> Path:
        return self.folders[feature] / key[:2] / f"{key}.npy"

    def read(self, feature: str, key: str, n_frames: int) -> np.ndarray | None:
        """None where it is not there or damaged."""
        try:
            array = np.load(self.path(feature, key), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        shape = self.n_rows[feature], n_frames
        right = isinstance(array, np.ndarray) and array.dtype == np.float32 and array.shape == shape
        return array if right else None

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
        for feature in self.folders:
            if self.read(feature, key, n_frames) is None:
                array = compute_mel(wav, self.audio) if feature == "mel" else track_f0(wav, self.audio, self.pitch)
                write_atomic(self.path(feature, key), functools.partial(np.save, arr=array), durable=False)
        return Features(key, n_frames, "", (status.st_size, status.st_mtime_ns))

    def prepare(self, paths: Sequence[Path], n_workers: int, progress: bool) -> dict[Path, Features]:
        """Features of many recordings, each made where the index or the cache does not have it."""
        index = read_json(self._index_path, {})
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
                write_json(self._index_path, read_json(self._index_path, {}) | made, durable=False)
        return features

    def _known(self, path, entry):
        try:
            size, mtime_ns, key, n_frames = entry
            status = path.stat()
            sizes = {feature: NPY_HEADER + 4 * self.n_rows[feature] * n_frames for feature in self.folders}
            whole = all(self.path(feature, key).stat().st_size == n_bytes for feature, n_bytes in sizes.items())
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


def compute_mel(wav: np.ndarray, audio: Audio) -> np.ndarray:
    """wav: (T_wav,) float32 in [-1, 1]. Returns (n_mels, T_mel) float32, natural log of amplitude."""
    with torch.no_grad():
        return _spectrogram(audio)(torch.from_numpy(wav)[None])[0].numpy()


@functools.cache
def _spectrogram(audio):
    return MelSpectrogram(**dataclasses.asdict(audio))


def bar(items: Iterable, n_items: int, name: str, progress: bool) -> Iterable:
    """The items, with a progress bar on stderr where there are any and `progress` is set."""
    return tqdm(items, total=n_items, desc=name, disable=not progress or n_items == 0, ncols=columns())


def digest(*texts: str) -> str:
    """sha256, in hexadecimal, of several texts; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for one in texts:
        digest.update(f"{len(one)}:{one}".encode())
    return digest.hexdigest()


def code_of(computed_by: Callable) -> str:
    """The text of the file that defines a function or class: in a cache's key, it makes edited code compute anew."""
    return Path(inspect.getfile(computed_by)).read_text(encoding="utf-8")


def n_cpus() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def statistics(folder: Path, keys: Sequence[str], arrays: Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of the features of these keys in a folder of the cache, computed unless it has them.

    Raises ValueError where they hold no values.
    """
    path = folder / f"statistics-{digest(*sorted(keys))[:32]}.json"
    known = read_json(path, [])
    if len(known) == 2:
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
