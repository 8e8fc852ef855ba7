"""Monotonic alignment search (Glow-TTS, Kim et al. 2020, Algorithm 1): which frames belong to which symbol.

Q[j, t] = max(Q[j - 1, t - 1], Q[j, t - 1]) + scores[j, t], followed back from the last symbol and the last frame
(equation 11). A symbol may be declared optional: then the path may also come from the one before it. core.pyx does it
in C; where that cannot be built, fallback.py gives the same paths in numpy.
"""

import functools
import importlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch

from . import fallback

HERE = Path(__file__).resolve().parent
BUILD_SECONDS = 600

Array = TypeVar("Array", torch.Tensor, np.ndarray)
Lengths = torch.Tensor | np.ndarray | Sequence[int]


def search(scores: Array, x_lengths: Lengths, mel_lengths: Lengths, optional: np.ndarray | None = None) -> Array:
    """The monotonic path that has the highest sum of scores and skips no symbol but optional ones.

    scores: (B, T_x, T_mel) log-likelihood of each frame under each symbol, in nats, tensor (any device) or numpy,
        read as float32; gradients do not flow. What lies past an item's lengths is not looked at. A view of
        (B, T_mel, T_x) saves a copy.
    x_lengths, mel_lengths: (B,) symbols and frames.
    optional: (B, T_x) bool, the symbols that may get no frame, of which no two are neighbours; None: none of them.
    Returns durations (B, T_x) in frames, of the kind of scores: a LongTensor on its device, or int64. Each is at least
    1, or 0 where optional, up to x_length and 0 beyond it; they sum to mel_length. Where two paths tie at a frame, it
    stays in the later symbol.
    Raises ValueError, which names the item, for lengths that do not fit, fewer frames than symbols that need one,
    neighbours that are both optional, and scores that are not finite.
    """
    array, x_lengths, mel_lengths = _scores(scores), _lengths(x_lengths), _lengths(mel_lengths)
    optional = np.zeros(array.shape[:2], dtype=bool) if optional is None else np.asarray(optional, dtype=bool)
    _check(array, x_lengths, mel_lengths, optional)
    frames = np.ascontiguousarray(array.transpose(0, 2, 1))
    n_threads = max(1, min(_n_threads(), len(x_lengths)))  # waking those that find nothing to do takes longer than it
    durations = _module().search(frames, x_lengths, mel_lengths, optional, n_threads).astype(np.int64)
    return torch.from_numpy(durations).to(scores.device) if isinstance(scores, torch.Tensor) else durations


def implementation() -> str:
    """`cython`, or `numpy` where the extension is missing and cannot be built. The first call may build it."""
    return "numpy" if _module() is fallback else "cython"


def _scores(scores):
    """(B, T_x, T_mel) float32 in numpy, frame after frame in memory."""
    if isinstance(scores, torch.Tensor):  # which copies on all cores
        scores = scores.detach().to(device="cpu", dtype=torch.float32)
        return scores.transpose(1, 2).contiguous().transpose(1, 2).numpy() if scores.dim() == 3 else scores.numpy()
    return np.asarray(scores, dtype=np.float32)


def _lengths(lengths):
    lengths = lengths.detach().cpu().numpy() if isinstance(lengths, torch.Tensor) else np.asarray(lengths)
    return np.ascontiguousarray(lengths, dtype=np.int32)


def _check(scores, x_lengths, mel_lengths, optional):
    if scores.ndim == 3 and optional.shape != scores.shape[:2]:
        raise ValueError(f"optional {optional.shape} must be (B, T_x) of scores {scores.shape}")
    if scores.ndim != 3 or not x_lengths.shape == mel_lengths.shape == scores.shape[:1]:
        raise ValueError(f"scores {scores.shape}, x_lengths {x_lengths.shape} and mel_lengths {mel_lengths.shape} "
                         "must be (B, T_x, T_mel), (B,) and (B,)")  # fmt: skip
    for item, (t_x, t_mel) in enumerate(zip(x_lengths, mel_lengths)):
        named = f"item {item} (T_x = {t_x}, T_mel = {t_mel})"
        if not (1 <= t_x <= scores.shape[1] and 1 <= t_mel <= scores.shape[2]):
            raise ValueError(f"{named}: lengths must be from 1 to {scores.shape[1]} and {scores.shape[2]}")
        if (optional[item, : t_x - 1] & optional[item, 1:t_x]).any():
            raise ValueError(f"{named}: two optional symbols in a row")
        if t_mel < max(1, t_x - optional[item, :t_x].sum()):
            raise ValueError(f"{named}: fewer frames than symbols")
        if not np.isfinite(scores[item, :t_x, :t_mel]).all():
            raise ValueError(f"{named}: scores hold NaN or infinity")


def _n_threads():
    """This process's share of the cores: PyTorch's threads, which OMP_NUM_THREADS sets, but under torchrun, which sets
    that to 1 whatever there is, as many as LOCAL_WORLD_SIZE processes divide the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "LOCAL_WORLD_SIZE" in os.environ:
        return max(1, cores // int(os.environ["LOCAL_WORLD_SIZE"]))
    return min(cores, torch.get_num_threads())


@functools.cache
def _module() -> ModuleType:
    """core, built first if it must be, or else fallback, with one warning."""
    try:
        return _import_core()
    except ImportError:  # missing, or built for another machine
        pass
    try:
        _build()
        return _import_core()
    except (OSError, ImportError, RuntimeError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).warning(
            "the alignment search could not be built and runs in numpy, with the same result but slower: %s", error
        )
        return fallback


def _import_core():
    built = [HERE / f"core{suffix}" for suffix in EXTENSION_SUFFIXES if (HERE / f"core{suffix}").exists()]
    if built and built[0].stat().st_mtime < (HERE / "core.pyx").stat().st_mtime:
        raise ImportError("the extension is older than its source")
    importlib.invalidate_caches()
    return importlib.import_module(".core", __package__)


def _build():
    """Build core in a folder of our own and move it in place in one step.

    Processes that start together may each build it; none ever sees half a file, and none waits for another.
    """
    workshop = HERE / "build"
    workshop.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workshop) as folder:
        for name in ("core.pyx", "setup.py"):
            shutil.copy(HERE / name, folder)
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        result = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                errors="replace", timeout=BUILD_SECONDS, check=False)  # fmt: skip
        built = [path for path in Path(folder).glob("core.*") if path.name.endswith(tuple(EXTENSION_SUFFIXES))]
        if result.returncode != 0 or not built:
            lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
            raise RuntimeError(f"setup.py build_ext ended with status {result.returncode}: {lines[-1]}")
        os.replace(built[0], HERE / built[0].name)
