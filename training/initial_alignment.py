"""Flat-start alignment: a Viterbi-EM over Gaussian mixtures aligns a corpus before the first training step.

Viterbi training, also called segmental k-means (Juang & Rabiner 1990, "The segmental K-means algorithm for estimating
parameters of hidden Markov models"): the joint log-likelihood of the frames, their path and the Gaussian that each
frame is from is raised in turn over the Gaussians (the means, variances and shares of their own frames) and over the
path (monotonic alignment search), so it never falls while the number of Gaussians stays.
"""

import contextlib
import functools
import logging
import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from scipy.fft import dct
from scipy.signal import savgol_filter

from data_util.config import ROOT, Config
from data_util.corpus import Corpus
from data_util.features import bar, code_of, digest
from model.monotonic_align import search
from runtime.files import write_atomic
from text.symbols import N_STATES, PAUSES, SYMBOLS, unpack, word_gaps

N_CEPSTRA = 13
DELTA_FRAMES = 2  # on either side
VARIANCE_FLOOR = 0.01  # of the variance over all frames
SMALLEST_VARIANCE = 1e-6  # where a feature never changes
PAUSE_STATES = 2  # parts of a pause, one after another, with Gaussians of their own, as a phone has N_STATES
MAX_GAUSSIANS = 4  # of a state, a power of two
FRAMES_PER_GAUSSIAN = 60  # with fewer a state is not given more Gaussians
GAUSSIANS = ("mean", "variance", "log_weight")  # of FlatStart, which the cache keeps
SPLIT = 0.2  # standard deviations that two Gaussians are moved apart by when one becomes two

log = logging.getLogger(__name__)
Aligned = tuple[np.ndarray, np.ndarray]  # ids (T_x,) and their durations (T_x,) in frames


@dataclass
class FlatStart:
    """A mixture of diagonal Gaussians a state, and how they came to be.

    mean, variance: (n_classes, n_gaussians, n_features), see features(); log_weight: (n_classes, n_gaussians), -inf
    for none; n_bases: sounds seen are below it; objective: after each iteration, the log-likelihood in nats of all
    frames it was fitted on along their paths, each under the likeliest Gaussian of its state.
    """

    units: str
    n_bases: int
    mean: np.ndarray
    variance: np.ndarray
    log_weight: np.ndarray
    objective: list[float] = field(default_factory=list)

    def align(
        self, mels: Sequence[np.ndarray], x: Sequence[np.ndarray], shortest_pause: int, progress: bool = False
    ) -> list[Aligned]:
        """The most likely durations, utterance by utterance; mels may load each item as it is asked for.

        mels[i]: (n_mels, T_mel) natural log of amplitude; x[i]: (T_x,) ids, of which unseen ones have the Gaussian of
        all frames; shortest_pause: frames of silence between two words from which on they are a pause, see _aligned();
        progress: show a bar.
        Returns ids and durations (T_x,), int64, in frames, each at least 1, with sum T_mel; the ids are x[i], and where
        they are phones or states, with a space in them for each pause. Raises ValueError, which names the utterance,
        for fewer frames than symbols and for mels that are not finite.
        """
        found = []
        for i in bar(range(len(mels)), len(mels), "flat start: align", progress):
            utterance = _utterance(i, features(mels[i]), x[i], self.units)
            _realign(self, utterance, tied=False)
            found.append(_aligned(utterance, shortest_pause))
        return found


@dataclass
class _Utterance:
    """States (S,): base, what sound each is of; part, which part of it; owner, the symbol, or -1 - symbol for the pause
    that may follow it, which is optional; durations in frames. gaussians (T_mel,): which of its state's each is from.
    """

    frames: np.ndarray  # (T_mel, n_features) float32
    x: np.ndarray  # (T_x,)
    base: np.ndarray
    part: np.ndarray
    owner: np.ndarray
    durations: np.ndarray
    gaussians: np.ndarray


def features(mel: np.ndarray) -> np.ndarray:
    """Cepstra, their slopes and the slopes of these.

    mel: (n_mels, T_mel) natural log of amplitude. Returns (T_mel, n_features) float32: the first 13 coefficients of
    the orthonormal DCT-II; of each the slope a frame of a line through 5 frames, the edge frames repeated; and the
    slopes of the slopes.
    """
    cepstra = dct(np.asarray(mel, dtype=np.float32), axis=0, norm="ortho")[:N_CEPSTRA]
    slopes = functools.partial(savgol_filter, window_length=2 * DELTA_FRAMES + 1, polyorder=1, deriv=1, mode="nearest")
    slope = slopes(cepstra)
    return np.concatenate([cepstra, slope, slopes(slope)]).T.copy()


def fit(mels: Sequence[np.ndarray], x: Sequence[np.ndarray], *, units: str, iterations: int) -> FlatStart:
    """Fit the Gaussians on a corpus.

    mels[i]: (n_mels, T_mel) natural log of amplitude, loaded one by one: only features stay in memory; x[i]: (T_x,) ids
    from 0, what they are is in units, as in text.FrontEnd. characters: a state a symbol; blanks: a symbol and the blank
    after it (id 0) are the two states of one sound; phones: N_STATES a phone, PAUSE_STATES a pause and, where no pause
    stands between two words, one that may be skipped; states: the same, each with an id of its own. For `iterations`
    iterations all states of a sound share a Gaussian, unless it has but one; then for as many each has its own, which
    become two and four on the way. Raises ValueError, which names the utterance, for fewer frames than symbols and for
    mels that are not finite.
    """
    return _fit([_utterance(i, features(mels[i]), x[i], units) for i in range(len(mels))], units, iterations)


def corpus_alignment(config: Config, corpus: Corpus, progress: bool) -> tuple[list[Aligned], FlatStart]:
    """Fit on clips drawn by the seed, which have alignment.em_minutes together at most, and align all of them; or from
    the cache, where that has been done with the same clips and texts.

    progress: show bars. Returns ids, with pauses where they are phones or states, and durations (T_x,) int64 in frames
    for each clip, and what others are aligned with; raises OSError where the cache cannot be written.
    """
    alignment, audio = config.alignment, config.audio
    fitting = (alignment.em_iterations, alignment.em_minutes, alignment.shortest_pause)
    settings = (fitting, config.text.units, config.system.seed, asdict(audio))
    key = digest(code_of(corpus_alignment), corpus.content, str(settings))
    path = ROOT / config.dataset.cache / "alignments" / f"{key}.npz"
    damage = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)
    with contextlib.suppress(*damage), np.load(path, allow_pickle=False) as known:
        ends = np.cumsum(known["lengths"])[:-1]
        found = list(zip(np.split(known["ids"], ends), np.split(known["durations"], ends)))
        gaussians = {name: known[name] for name in GAUSSIANS}
        if [d.sum() for _, d in found] == list(corpus.n_frames):
            return found, FlatStart(config.text.units, int(known["n_bases"]), **gaussians)
    units, indices = config.text.units, draw_clips(config, corpus.n_frames, alignment.em_minutes)
    drawn = [_utterance(i, features(corpus.mels[i]), corpus.ids[i], units) for i in indices]
    fitted = _fit(drawn, units, alignment.em_iterations, progress)
    found = fitted.align(corpus.mels, corpus.ids, config.shortest_pause, progress)
    n_pauses = sum(len(ids) for ids, _ in found) - sum(map(len, corpus.ids))
    log.info("flat start: log-likelihood from %.4g to %.4g; %d pauses without punctuation",
             fitted.objective[0], fitted.objective[-1], n_pauses)  # fmt: skip
    ids, durations = (np.concatenate(each) for each in zip(*found))
    lengths = [len(one) for one, _ in found]
    gaussians = {name: getattr(fitted, name) for name in GAUSSIANS}
    write_atomic(path, lambda file: np.savez(file, ids=ids, durations=durations, lengths=lengths,
                                             n_bases=fitted.n_bases, **gaussians), durable=False)  # fmt: skip
    return found, fitted


def draw_clips(config: Config, n_frames: np.ndarray, minutes: float) -> np.ndarray:
    """Indices of clips in an order that the seed decides, of as many as have `minutes` together at most, but always of
    one. n_frames: (n_clips,)."""
    order = np.random.default_rng(config.system.seed).permutation(len(n_frames))
    longest = minutes * 60 * config.audio.sample_rate / config.audio.hop_length
    n_clips = int((np.cumsum(n_frames[order]) <= longest).sum())
    return order[: max(1, n_clips)]


def pause_scale(ids: Sequence[np.ndarray], durations: Sequence[np.ndarray]) -> float:
    """How much longer clips are than their symbols without the pauses that corpus_alignment has found; at least 1.

    ids, durations: (T_x,) of each clip, where units are phones or states.
    """
    total = sum(int(one.sum()) for one in durations)
    pauses = sum(int(d[x == SYMBOLS.index(" ")].sum()) for x, d in zip(ids, durations))
    return total / (total - pauses)


# -- states


def _utterance(index, frames, x, units):
    """Checked, and divided as evenly as possible."""
    x = np.asarray(x, dtype=np.int64)
    if not 1 <= len(x) <= len(frames):
        raise ValueError(f"utterance {index}: T_x = {len(x)} symbols and T_mel = {len(frames)} frames; "
                         "there must be a symbol, and a frame for each")  # fmt: skip
    if x.min() < 0:
        raise ValueError(f"utterance {index}: id {x.min()}: ids start at 0")
    if not np.isfinite(frames).all():
        raise ValueError(f"utterance {index}: the mel holds NaN or infinity")
    base, part, owner = _states(x, units, len(frames))
    durations = np.zeros(len(base), dtype=np.int64)
    durations[owner >= 0] = _evenly(len(frames), (owner >= 0).sum())
    return _Utterance(frames, x, base, part, owner, durations, np.zeros(len(frames), dtype=np.int64))


def _evenly(total, n):
    return np.diff(np.arange(n + 1) * total // n)


def _states(x, units, n_frames):
    """base, part and owner (S,), as an _Utterance has them."""
    if units in ("phones", "states"):
        return _phone_states(x, n_frames)
    symbols = np.arange(len(x))
    if units == "characters":
        return x, np.zeros_like(x), symbols
    # a blank is the second part of the symbol before it; one that leads is a sound of its own, 0
    base = x[np.maximum.accumulate(np.where(x == 0, 0, symbols))]
    return base, ((x == 0) & (base > 0)).astype(np.int64), symbols


def _phone_states(x, n_frames):
    """A phone sounds much the same under stress and wherever it stands: its sound is its symbol and its length, for
    each needs frames of its own; and all pauses are one sound, 0. A clip too short for it has a state a symbol."""
    symbol, _, long, _, state = unpack(x)
    pause = np.isin(x, PAUSES)
    sound = np.where(pause, 0, 1 + symbol + len(SYMBOLS) * long)
    n_parts = np.where(pause, PAUSE_STATES, 1 if state.any() else N_STATES)
    if n_parts.sum() > n_frames:
        n_parts[:] = 1
    ends = np.isin(np.arange(len(x)), word_gaps(x))
    base, part, owner = [], [], []
    for k, n in enumerate(n_parts):
        base += [sound[k]] * n + [0] * int(ends[k])
        part += [*range(state[k], state[k] + n)] + [0] * int(ends[k])
        owner += [k] * n + [-1 - k] * int(ends[k])
    return np.array(base), np.array(part), np.array(owner)


def _aligned(utterance, shortest_pause):
    """Ids and durations of an utterance from those of its states, with a space for each optional pause that is not too
    short to be one: less is the end of the symbol before it."""
    owner, durations = utterance.owner, utterance.durations
    own = np.bincount(owner[owner >= 0], durations[owner >= 0], len(utterance.x)).astype(np.int64)
    pauses = np.bincount(-1 - owner[owner < 0], durations[owner < 0], len(utterance.x)).astype(np.int64)
    real = pauses >= shortest_pause
    own += np.where(real, 0, pauses)
    after = np.flatnonzero(real) + 1
    return np.insert(utterance.x, after, SYMBOLS.index(" ")), np.insert(own, after, pauses[real])


# -- fitting


def _fit(utterances, units, iterations, progress=False):
    if not utterances or iterations < 1:
        raise ValueError(f"{len(utterances)} utterances, {iterations} iterations: a fit needs at least one of each")
    model, floor = _start(utterances, units)
    n_tied = 0 if units == "characters" else iterations
    splits = [n_tied + k * iterations // 3 for k in (1, 2)] if iterations >= 3 else []
    for iteration in bar(range(n_tied + iterations), n_tied + iterations, "flat start: fit", progress):
        tied = iteration < n_tied
        if iteration == n_tied:
            for utterance in utterances:
                _divide(utterance)
        _estimate(model, utterances, tied, floor)
        if iteration in splits:
            _split(model, utterances)
        model.objective.append(math.fsum(_realign(model, utterance, tied) for utterance in utterances))
    return model


def _start(utterances, units):
    """All states with the Gaussian of all frames; and the variances' floor."""
    count = sum(len(utterance.frames) for utterance in utterances)
    mean = sum(utterance.frames.sum(axis=0, dtype=np.float64) for utterance in utterances) / count
    variance = sum(((utterance.frames - mean) ** 2).sum(axis=0) for utterance in utterances) / count
    floor = np.maximum(VARIANCE_FLOOR * variance, SMALLEST_VARIANCE)
    n_bases = 1 + max(int(utterance.base.max()) for utterance in utterances)
    n_classes = (n_bases + 1) * N_STATES  # the last are of sounds unseen
    shape = (n_classes, 1, len(mean))
    log_weight = np.zeros((n_classes, 1))
    model = FlatStart(units, n_bases, np.full(shape, mean), np.full(shape, np.maximum(variance, floor)), log_weight)
    return model, floor


def _classes(model, utterance, tied):
    """(S,): of each state, the row of the model's arrays; of the parts of a sound the same one while tied."""
    return np.minimum(utterance.base, model.n_bases) * N_STATES + (0 if tied else utterance.part)


def _divide(utterance):
    """Divide the frames of each symbol evenly over its states: under a shared Gaussian no path is better than another.

    A sound's states are those that follow each other with the parts 0, 1, ...
    """
    own = utterance.owner >= 0
    sound = np.cumsum(utterance.part[own] == 0) - 1
    totals = np.bincount(sound, utterance.durations[own]).astype(np.int64)
    n_states = np.bincount(sound)
    utterance.durations[own] = np.concatenate([_evenly(total, n) for total, n in zip(totals, n_states)])


def _powers(frames):
    """(T_mel, 2 n_features) float64: all that a Gaussian needs to know about a frame."""
    frames = frames.astype(np.float64)
    return np.hstack([frames, frames**2])


def _estimate(model, utterances, tied, floor):
    """The likeliest Gaussians with variances from the floor up, given the paths: written into the model.

    The likelihood rises with the variance up to that of the frames and falls beyond it, so clamping is the maximum.
    """
    n_classes, n_gaussians, n_features = model.mean.shape
    count, total = np.zeros(n_classes * n_gaussians), np.zeros((n_classes * n_gaussians, 2 * n_features))
    for utterance in utterances:
        classes = np.repeat(_classes(model, utterance, tied), utterance.durations)
        present, which = np.unique(classes * n_gaussians + utterance.gaussians, return_inverse=True)
        one_hot = (which == np.arange(len(present))[:, None]).astype(np.float64)
        count[present] += one_hot.sum(axis=1)
        total[present] += one_hot @ _powers(utterance.frames)
    seen = count > 0
    moments = total[seen] / count[seen, None]
    mean, variance = model.mean.reshape(-1, n_features), model.variance.reshape(-1, n_features)  # views
    mean[seen] = moments[:, :n_features]
    variance[seen] = np.maximum(moments[:, n_features:] - moments[:, :n_features] ** 2, floor)
    count = count.reshape(n_classes, n_gaussians)
    used = count.sum(axis=1) > 0
    with np.errstate(divide="ignore"):
        model.log_weight[used] = np.log(count[used] / count[used].sum(axis=1, keepdims=True))


def _split(model, utterances):
    """Twice as many Gaussians where the frames are enough, a little apart."""
    if model.mean.shape[1] >= MAX_GAUSSIANS:
        return
    count = np.zeros(model.log_weight.shape)
    for utterance in utterances:
        np.add.at(count, (np.repeat(_classes(model, utterance, False), utterance.durations), utterance.gaussians), 1)
    enough = count >= 2 * FRAMES_PER_GAUSSIAN  # (n_classes, n_gaussians)
    apart = SPLIT * np.sqrt(model.variance) * enough[:, :, None]
    half = model.log_weight - math.log(2)
    model.log_weight = np.hstack([np.where(enough, half, model.log_weight), np.where(enough, half, -np.inf)])
    model.mean = np.concatenate([model.mean - apart, model.mean + apart], axis=1)
    model.variance = np.tile(model.variance, (1, 2, 1))


def _realign(model, utterance, tied):
    """Put the most likely durations into the utterance; returns the log-likelihood of its path in nats.

    The search sums float32 scores, which may prefer a path that is worse by rounding: then the old path stays.
    """
    present, states = np.unique(_classes(model, utterance, tied), return_inverse=True)
    scores, gaussians = _scores(model, present, utterance.frames)  # (K, T_mel)
    per_state = scores.astype(np.float32)[states]  # (S, T_mel)
    found = search(per_state[None], [len(states)], [scores.shape[1]], (utterance.owner < 0)[None])[0]
    frames = np.arange(scores.shape[1])

    def along(durations):
        return scores[np.repeat(states, durations), frames].sum()

    old, new = along(utterance.durations), along(found)
    if new >= old:
        utterance.durations = found
    utterance.gaussians = gaussians[np.repeat(states, utterance.durations), frames]
    return max(old, new)


def _scores(model, classes, frames):
    """ln of the weight and the density of each frame under the likeliest Gaussian of each class, and which that is.

    classes: (K,). Returns (K, T_mel) twice.
    """
    log_weight = model.log_weight[classes]  # (K, n_gaussians)
    some = np.isfinite(log_weight)
    mean, variance = model.mean[classes][some], model.variance[classes][some]
    weights = np.hstack([mean / variance, -0.5 / variance])
    constant = log_weight[some] - 0.5 * (mean**2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
    scores = np.full((*log_weight.shape, len(frames)), -np.inf)
    scores[some] = weights @ _powers(frames).T + constant[:, None]
    return scores.max(axis=1), scores.argmax(axis=1)
