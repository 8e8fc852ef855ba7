"""Flat-start alignment: a Viterbi-EM over Gaussians aligns a corpus before the first training step.

Viterbi training, also called segmental k-means (Juang & Rabiner 1990, "The segmental K-means algorithm for estimating
parameters of hidden Markov models"): the joint log-likelihood of the frames and their path is raised in turn over the
Gaussians (the means and variances of each class's own frames) and over the path (monotonic alignment search), so it
never falls.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.fft import dct
from tqdm import tqdm

from data_util.config import ROOT, Config
from data_util.corpus import Corpus
from data_util.features import digest
from data_util.files import write_atomic
from text.symbols import SYMBOLS, unpack

N_CEPSTRA = 20
DELTA_FRAMES = 2  # on either side
VARIANCE_FLOOR = 0.01  # of the variance over all frames
SMALLEST_VARIANCE = 1e-6  # where a feature never changes

log = logging.getLogger(__name__)
Search = Callable[[np.ndarray, Sequence[int], Sequence[int]], np.ndarray]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FlatStart:
    """One diagonal Gaussian a class, and how they came to be.

    mean, variance: (n_classes, n_features), see features() and _classes(); n_ids: ids seen are below it; objective:
    after each iteration, the log-likelihood in nats of all frames it was fitted on along their paths.
    """

    mean: np.ndarray
    variance: np.ndarray
    n_ids: int
    blanks: bool
    objective: list[float]
    search: Search

    def align(
        self, mels: Sequence[np.ndarray], x: Sequence[np.ndarray], progress: Progress | None = None
    ) -> list[np.ndarray]:
        """The most likely durations, utterance by utterance; mels may load each item as it is asked for.

        mels[i]: (n_mels, T_mel) natural log of amplitude; x[i]: (T_x,) ids, of which unseen ones have the Gaussian of
        all frames; progress: called as progress("align", done, total).
        Returns durations (T_x,) int64 in frames, each at least 1, with sum T_mel; raises ValueError, which names the
        utterance, for fewer frames than symbols and for mels that are not finite.
        """
        durations = []
        for i in range(len(mels)):
            utterance = _utterance(i, features(mels[i]), x[i])
            _realign(self, utterance, tied=False)
            durations.append(utterance.durations)
            if progress is not None:
                progress("align", i + 1, len(mels))
        return durations


@dataclass
class _Utterance:
    frames: np.ndarray  # (T_mel, n_features) float32
    x: np.ndarray  # (T_x,)
    durations: np.ndarray  # (T_x,) frames


def features(mel: np.ndarray) -> np.ndarray:
    """Cepstra and their slopes.

    mel: (n_mels, T_mel) natural log of amplitude. Returns (T_mel, n_features) float32: the first 20 coefficients of
    the orthonormal DCT-II, and of each the slope a frame of a line through 5 frames, the edge frames repeated.
    """
    cepstra = dct(np.asarray(mel, dtype=np.float32), axis=0, norm="ortho")[:N_CEPSTRA]
    return np.concatenate([cepstra, _slope(cepstra)]).T.copy()


def fit(
    mels: Sequence[np.ndarray],
    x: Sequence[np.ndarray],
    *,
    blanks: bool,
    search: Search,
    iterations: int,
    progress: Progress | None = None,
) -> FlatStart:
    """Fit the Gaussians on a corpus.

    mels[i]: (n_mels, T_mel) natural log of amplitude, loaded one by one: only features stay in memory; x[i]: (T_x,)
    ids from 0. blanks: id 0 is the blank, as in [0, p1, 0, p2, 0]; for `iterations` iterations a symbol and the blank
    after it share a Gaussian, then for as many the blank after p has its own. Without blanks: one Gaussian a symbol.
    search: monotonic_align.search. progress: called as progress("fit", done, total).
    Raises ValueError, which names the utterance, for fewer frames than symbols and for mels that are not finite.
    """
    return _fit(
        [_utterance(i, features(mels[i]), x[i]) for i in range(len(mels))], blanks, search, iterations, progress
    )


def align_corpus(
    mels: Sequence[np.ndarray],
    x: Sequence[np.ndarray],
    *,
    blanks: bool,
    search: Search,
    iterations: int,
    fit_frames: int,
    seed: int,
    progress: Progress | None = None,
) -> tuple[list[np.ndarray], FlatStart]:
    """Fit on some utterances, drawn by `seed`, and align all of them.

    fit_frames: the utterances drawn have at most so many frames together, but one is always taken. The rest as for
    fit() and FlatStart.align(), whose durations come first in what is returned.
    """
    drawn, total = [], 0
    for i in np.random.default_rng(seed).permutation(len(mels)):
        utterance = _utterance(i, features(mels[i]), x[i])
        total += len(utterance.frames)
        if drawn and total > fit_frames:
            break
        drawn.append(utterance)
    flat_start = _fit(drawn, blanks, search, iterations, progress)
    return flat_start.align(mels, x, progress), flat_start


def corpus_durations(config: Config, corpus: Corpus, search: Search, progress: bool) -> list[np.ndarray]:
    """align_corpus as the configuration has it, or from the cache where it has run on the same clips and texts.

    Where ids are phones, each has two Gaussians in turn, see _states(). progress: show a bar. Returns durations (T_x,)
    int64 in frames for each clip; raises OSError where the cache cannot be written.
    """
    alignment, audio = config.alignment, config.audio
    settings = (alignment.em_iterations, alignment.em_minutes, config.text.units, config.system.seed, asdict(audio))
    path = ROOT / config.dataset.cache / "alignments" / f"{digest(corpus.content, str(settings))}.npy"
    lengths = [len(ids) for ids in corpus.ids]
    with contextlib.suppress(OSError, ValueError, EOFError):
        known = np.load(path, allow_pickle=False)
        if known.shape == (sum(lengths),):
            return np.split(known, np.cumsum(lengths)[:-1])
    x, blanks = corpus.ids, config.text.units != "characters"
    if config.text.units == "phones":
        x = [_states(ids, n_frames) for ids, n_frames in zip(corpus.ids, corpus.n_frames)]
    with tqdm(desc="flat start", unit="step", disable=not progress) as bar:

        def show(phase: str, done: int, total: int) -> None:
            bar.set_postfix_str(f"{phase} {done}/{total}", refresh=False)
            bar.update()

        durations, fitted = align_corpus(
            corpus.mels,
            x,
            blanks=blanks,
            search=search,
            iterations=alignment.em_iterations,
            fit_frames=round(alignment.em_minutes * 60 * audio.sample_rate / audio.hop_length),
            seed=config.system.seed,
            progress=show,
        )
    durations = [one.reshape(n_ids, -1).sum(axis=1) for n_ids, one in zip(lengths, durations)]  # states to phones
    log.info("flat start: log-likelihood from %.4g to %.4g", fitted.objective[0], fitted.objective[-1])
    write_atomic(path, lambda file: np.save(file, np.concatenate(durations)), durable=False)
    return durations


def _states(ids, n_frames):
    """Of packed ids (T_x,), the classes of their first and second halves in turn, the second as the first's blank.

    Returns [p1, 0, p2, 0, ...], or [p1, p2, ...] for a clip too short for two frames each. A class is a symbol and its
    length: a phone sounds much the same under stress and wherever it stands, and each class needs frames of its own.
    """
    symbol, _, long, _ = unpack(ids)
    phones = 1 + symbol + len(SYMBOLS) * long  # 0 is the second half
    return np.stack([phones, np.zeros_like(phones)], axis=1).ravel() if n_frames >= 2 * len(ids) else phones


def _slope(cepstra):
    t_mel, ks = cepstra.shape[1], range(1, DELTA_FRAMES + 1)
    padded = np.pad(cepstra, ((0, 0), (DELTA_FRAMES, DELTA_FRAMES)), mode="edge")
    shifted = {k: padded[:, DELTA_FRAMES + k :][:, :t_mel] for k in range(-DELTA_FRAMES, DELTA_FRAMES + 1)}
    return sum(k * (shifted[k] - shifted[-k]) for k in ks) / (2 * sum(k * k for k in ks))


def _utterance(index, frames, x):
    """Checked, and divided as evenly as possible."""
    x = np.asarray(x, dtype=np.int64)
    if not 1 <= len(x) <= len(frames):
        raise ValueError(f"utterance {index}: T_x = {len(x)} symbols and T_mel = {len(frames)} frames; "
                         "there must be a symbol, and a frame for each")  # fmt: skip
    if x.min() < 0:
        raise ValueError(f"utterance {index}: id {x.min()}: ids start at 0")
    if not np.isfinite(frames).all():
        raise ValueError(f"utterance {index}: the mel holds NaN or infinity")
    return _Utterance(frames, x, np.diff(np.arange(len(x) + 1) * len(frames) // len(x)))


def _fit(utterances, blanks, search, iterations, progress):
    if not utterances or iterations < 1:
        raise ValueError(f"{len(utterances)} utterances, {iterations} iterations: a fit needs at least one of each")
    mean, variance = _global_gaussian(utterances)
    n_ids = 1 + max(int(utterance.x.max()) for utterance in utterances)
    n_classes, floor = 2 * (n_ids + 1), np.maximum(VARIANCE_FLOOR * variance, SMALLEST_VARIANCE)
    start = np.tile(mean, (n_classes, 1)), np.tile(np.maximum(variance, floor), (n_classes, 1))
    model = FlatStart(*start, n_ids, blanks, [], search)
    n_iterations = 2 * iterations if blanks else iterations
    for iteration in range(n_iterations):
        tied = iteration < iterations
        if iteration == iterations:
            for utterance in utterances:
                _halve(utterance)
        _estimate(model, utterances, tied, floor)
        model.objective.append(math.fsum(_realign(model, utterance, tied) for utterance in utterances))
        if progress is not None:
            progress("fit", iteration + 1, n_iterations)
    return model


def _global_gaussian(utterances):
    count = sum(len(utterance.frames) for utterance in utterances)
    mean = sum(utterance.frames.sum(axis=0, dtype=np.float64) for utterance in utterances) / count
    return mean, sum(((utterance.frames - mean) ** 2).sum(axis=0) for utterance in utterances) / count


def _classes(model, x, tied):
    """The class of each symbol, (T_x,): id p is class p, and any id unseen class n_ids.

    A blank belongs to the symbol p before it: class p while tied, then n_ids + 1 + p; a blank that leads is class 0.
    """
    if not model.blanks:
        return np.minimum(x, model.n_ids)
    owner = x[np.maximum.accumulate(np.where(x == 0, 0, np.arange(len(x))))]
    own = (x == 0) & (owner > 0) & (not tied)
    return np.minimum(owner, model.n_ids) + np.where(own, model.n_ids + 1, 0)


def _halve(utterance):
    """Divide the frames of each symbol and its blank evenly: under a shared Gaussian no path is better than another."""
    x, durations = utterance.x, utterance.durations.copy()
    blank = np.flatnonzero((x[1:] == 0) & (x[:-1] != 0)) + 1
    both = durations[blank - 1] + durations[blank]
    durations[blank] = both // 2
    durations[blank - 1] = both - both // 2
    utterance.durations = durations


def _powers(frames):
    """(T_mel, 2 n_features) float64: all that a Gaussian needs to know about a frame."""
    frames = frames.astype(np.float64)
    return np.hstack([frames, frames**2])


def _estimate(model, utterances, tied, floor):
    """The most likely Gaussians with variances from the floor up, given the path: written into the model.

    The likelihood rises with the variance up to that of the frames and falls beyond it, so clamping is the maximum.
    """
    n_classes, n_features = model.mean.shape
    count, total = np.zeros(n_classes), np.zeros((n_classes, 2 * n_features))
    for utterance in utterances:
        present, symbol_class = np.unique(_classes(model, utterance.x, tied), return_inverse=True)
        frame_class = np.repeat(symbol_class, utterance.durations)
        one_hot = (frame_class == np.arange(len(present))[:, None]).astype(np.float64)
        count[present] += one_hot.sum(axis=1)
        total[present] += one_hot @ _powers(utterance.frames)
    seen = count > 0
    moments = total[seen] / count[seen, None]
    model.mean[seen] = moments[:, :n_features]
    model.variance[seen] = np.maximum(moments[:, n_features:] - moments[:, :n_features] ** 2, floor)


def _realign(model, utterance, tied):
    """Put the most likely durations into the utterance; returns the log-likelihood of its path in nats.

    The search sums float32 scores, which may prefer a path that is worse by rounding: then the old path stays.
    """
    present, symbol_class = np.unique(_classes(model, utterance.x, tied), return_inverse=True)
    scores = _log_likelihood(model.mean[present], model.variance[present], utterance.frames)  # (K, T_mel)
    per_symbol = scores.astype(np.float32)[symbol_class]  # (T_x, T_mel)
    found = model.search(per_symbol[None], [per_symbol.shape[0]], [per_symbol.shape[1]])[0]

    def along(durations):
        return scores[np.repeat(symbol_class, durations), np.arange(scores.shape[1])].sum()

    old, new = along(utterance.durations), along(found)
    if new >= old:
        utterance.durations = found
    return max(old, new)


def _log_likelihood(mean, variance, frames):
    """mean, variance: (K, n_features). Returns ln N(frame; mean, variance), (K, T_mel), as one product."""
    weights = np.hstack([mean / variance, -0.5 / variance])
    constant = -0.5 * (mean**2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
    return weights @ _powers(frames).T + constant[:, None]
