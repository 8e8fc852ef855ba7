"""Flat start: an objective that never falls, synthetic speech recovered, durations that are valid, real clips."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.fft import idct

from data_util.audio import load_wav
from data_util.config import ROOT
from data_util.corpus import read_transcripts
from data_util.features import compute_mel
from model.monotonic_align import search
from tests.conftest import refused, with_keys
from text.symbols import FIRST, INSIDE, LAST, ONLY, SYMBOLS, pack, phones_along, states
from training import initial_alignment
from training.initial_alignment import (
    FRAMES_PER_GAUSSIAN,
    GAUSSIANS,
    VARIANCE_FLOOR,
    _estimate,
    _split,
    _start,
    _utterance,
    corpus_alignment,
    features,
    pause_scale,
)

N_MELS = 80


def fit(mels, x, units, iterations):
    """What is fitted. Its objective never falls, but where Gaussians are split: after a third and after two thirds of
    the iterations that are not tied."""
    flat_start = initial_alignment.fit(mels, x, units=units, iterations=iterations)
    n_tied = 0 if units == "characters" else iterations  # those are single states
    objective = np.array(flat_start.objective)
    assert np.isfinite(objective).all() and len(objective) == n_tied + iterations
    splits = [n_tied + iterations // 3, n_tied + 2 * iterations // 3] if iterations >= 3 else []
    falls = np.diff(objective) < -1e-9 * np.abs(objective[1:])
    assert set(np.flatnonzero(falls) + 1) <= set(splits), objective
    return flat_start


def aligned(flat_start, mels, x):
    """Durations alone, of symbols that stay as they are."""
    found = flat_start.align(mels, x, shortest_pause=1000)
    assert all(np.array_equal(ids, one) for (ids, _), one in zip(found, x))
    return [durations for _, durations in found]


def assert_valid(durations, mels, x):
    assert len(durations) == len(mels)
    for item, mel, ids in zip(durations, mels, x):
        assert item.dtype == np.int64 and item.shape == ids.shape
        assert item.min() >= 1 and item.sum() == mel.shape[1]


def with_blanks(ids):
    return np.concatenate([[0], np.stack([ids, np.zeros_like(ids)], axis=1).ravel()])


def noise_corpus(rng, units, n_utterances=12):
    """Frames that have nothing to do with the symbols."""
    x = [rng.integers(1, 9, rng.integers(1, 25)) for _ in range(n_utterances)]
    x = [with_blanks(ids) if units == "blanks" else ids for ids in x]
    mels = [rng.normal(-5, 2, (N_MELS, len(ids) + rng.integers(0, 60))).astype(np.float32) for ids in x]
    return mels, x


def synthetic_corpus(rng, n_utterances=40, n_ids=15, spread=0.6):
    """Symbols and blanks with a Gaussian each, on random durations: mels, ids with blanks, true durations.

    A symbol and its blank differ by less than two symbols do; a pair has 2 to 12 frames, each half at least one.
    """
    shapes = idct(np.eye(13, N_MELS), norm="ortho")  # that the features can see
    symbol_mean = -5 + 1.9 * rng.standard_normal((n_ids + 1, 13)) @ shapes
    blank_mean = symbol_mean + 0.9 * rng.standard_normal((n_ids + 1, 13)) @ shapes
    mels, x, durations = [], [], []
    for _ in range(n_utterances):
        ids = rng.integers(1, n_ids + 1, rng.integers(8, 25))
        pair = rng.integers(2, 13, len(ids))
        halves = np.stack([pair - pair // 2, pair // 2], axis=1).ravel()
        means = np.concatenate([blank_mean[:1], np.stack([symbol_mean[ids], blank_mean[ids]], axis=1).reshape(-1, 80)])
        true = np.concatenate([[rng.integers(2, 9)], halves])
        clean = np.repeat(means, true, axis=0)
        mels.append((clean + spread * rng.standard_normal(clean.shape)).T.astype(np.float32))
        x.append(with_blanks(ids))
        durations.append(true)
    return mels, x, durations


def share_right(durations, truth, unit):
    """Share of frames whose place in the utterance is the true one; unit 1: symbol and blank apart, 2: as a pair."""

    def places(items):
        return np.concatenate([np.repeat((np.arange(len(item)) + unit - 1) // unit, item) for item in items])

    return (places(durations) == places(truth)).mean()


def test_features_are_cepstra_and_slopes():
    ramp = np.tile(np.arange(10, dtype=np.float32), (N_MELS, 1))
    result = features(ramp)
    assert result.shape == (10, 39) and result.dtype == np.float32
    np.testing.assert_allclose(result[:, 0], np.arange(10) * np.sqrt(N_MELS), rtol=1e-6)
    np.testing.assert_allclose(result[2:-2, 13], np.sqrt(N_MELS), rtol=1e-6)
    np.testing.assert_allclose(result[:3, 13], np.sqrt(N_MELS) * np.array([0.5, 0.8, 1]), rtol=1e-6)
    np.testing.assert_allclose(result[0, 26], np.sqrt(N_MELS) * (0.3 + 2 * 0.5) / 10, rtol=1e-5)  # of those slopes
    np.testing.assert_allclose(result[4:-4, 26], 0, atol=1e-4)
    np.testing.assert_allclose(result[:, 1:13], 0, atol=1e-4)


@pytest.mark.parametrize(("units", "is_poor"), [("blanks", False), ("characters", False), ("blanks", True)])
def test_objective_never_falls_on_noise(units, is_poor, monkeypatch):
    """Not even where the search finds some path, and no good one."""
    rng = np.random.default_rng(0)

    def poor(scores, *rest):
        return search(rng.standard_normal(scores.shape), *rest)

    mels, x = noise_corpus(rng, units)
    if is_poor:
        monkeypatch.setattr(initial_alignment, "search", poor)
    flat_start = fit(mels, x, units, iterations=8)
    assert_valid(aligned(flat_start, mels, x), mels, x)


def test_objective_is_the_likelihood_of_the_durations():
    mels, x = noise_corpus(np.random.default_rng(0), "characters", n_utterances=40)
    flat_start = fit(mels, x, units="characters", iterations=30)
    assert flat_start.mean.shape == flat_start.variance.shape == (30, 4, 39)  # 8 ids, 0 and the unseen, three parts
    assert np.isfinite(flat_start.log_weight).sum(axis=1).max() >= 2
    total = 0.0
    for mel, ids, durations in zip(mels, x, aligned(flat_start, mels, x)):
        for frame, k in zip(features(mel).astype(np.float64), np.repeat(ids, durations)):
            mean, variance = flat_start.mean[3 * k], flat_start.variance[3 * k]
            density = -0.5 * ((frame - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
            total += (flat_start.log_weight[3 * k] + density).max()
    np.testing.assert_allclose(total, flat_start.objective[-1], rtol=1e-9)
    assert all(np.exp(weight).sum() == pytest.approx(1) for weight in flat_start.log_weight)


@pytest.mark.parametrize("n_utterances", [40, FRAMES_PER_GAUSSIAN // 12])
def test_a_sound_of_two_modes_has_gaussians_at_both_where_frames_are_enough(n_utterances):
    """Of two sounds of 12 frames an utterance one has two modes far apart; the few are half of what two Gaussians
    need."""
    rng, shapes = np.random.default_rng(0), idct(np.eye(13, N_MELS), norm="ortho")
    centres = rng.standard_normal((3, 13)) * [[12], [12], [3]]
    cepstra = [np.repeat(centres[[i % 2, 2]], 12, axis=0) for i in range(n_utterances)]
    mels = [((one + 0.5 * rng.standard_normal(one.shape)) @ shapes).T.astype(np.float32) for one in cepstra]
    x = [np.array([1, 2])] * n_utterances
    flat_start = fit(mels, x, units="characters", iterations=12)
    mean, share = flat_start.mean[3, :, :13], np.exp(flat_start.log_weight[3])
    if n_utterances < 40:
        assert (share > 0).sum() == 1
        return
    assert all((durations == 12).all() for durations in aligned(flat_start, mels, x))
    distance = np.linalg.norm(mean[:, None] - centres[None, :2], axis=2)  # (n_gaussians, 2)
    assert distance[share > 0].min(axis=1).max() < 1 < np.linalg.norm(centres[0] - centres[1]) / 10
    near = distance.argmin(axis=1)
    assert [share[near == mode].sum() for mode in range(2)] == pytest.approx([0.5, 0.5], abs=0.01)


def test_gaussians_that_become_two_share_what_they_had():
    mels, x, _ = synthetic_corpus(np.random.default_rng(0))
    utterances = [_utterance(i, features(mel), ids, "blanks") for i, (mel, ids) in enumerate(zip(mels, x))]
    model, floor = _start(utterances, "blanks")
    _estimate(model, utterances, False, floor)
    mean = model.mean[:, 0]
    _split(model, utterances)
    weights = np.exp(model.log_weight)  # (n_classes, 2)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    both = weights[:, 1] > 0
    assert both.any() and (weights[both] == 0.5).all()
    np.testing.assert_allclose(model.mean[both].mean(axis=1), mean[both])


def test_synthetic_utterances_are_recovered():
    mels, x, truth = synthetic_corpus(np.random.default_rng(0))
    flat_start = fit(mels, x, units="blanks", iterations=12)
    durations, objective = aligned(flat_start, mels, x), flat_start.objective
    assert objective[12] - objective[11] > 0.5 * sum(mel.shape[1] for mel in mels)  # untying the blanks pays
    assert_valid(durations, mels, x)
    assert share_right(durations, truth, unit=2) >= 0.98
    assert share_right(durations, truth, unit=1) >= 0.95


def corpus_of(mels, x):
    content = str([one.tolist() for one in x])
    return SimpleNamespace(mels=mels, ids=x, n_frames=np.array([mel.shape[1] for mel in mels]), content=content)


@pytest.fixture
def in_units(tiny_config):
    """What corpus_alignment gives, with the cache in a folder of the test."""

    def alignment(units, mels, x):
        return corpus_alignment(with_keys(tiny_config, "text", units=units), corpus_of(mels, x), progress=False)[0]

    return alignment


def durations_of(alignment):
    return [durations for _, durations in alignment]


SPACE, COMMA = SYMBOLS.index(" "), SYMBOLS.index(",")
VOICES = [i for i, symbol in enumerate(SYMBOLS) if symbol in "aeioumnszflvbgd"]


def spoken_corpus(rng, n_utterances=40, silence=None, spread=0.6):
    """Words of phones, each of three parts that differ, with silence at every comma and between some words.

    silence: frames of each, or None: drawn from 8 to 24. Returns mels, ids, which have a comma here and there and no
    space, and in truth the ids with a space for each silence between words, and their durations.
    """
    shapes = idct(np.eye(13, N_MELS), norm="ortho")
    means = {sound: -5 + 1.9 * rng.standard_normal((3, 13)) @ shapes for sound in VOICES}
    quiet = np.full((1, N_MELS), -11.0)
    mels, x, truth = [], [], []
    for _ in range(n_utterances):
        ids, durations, clean = [], [], []
        n_words = rng.integers(3, 7)
        for k in range(n_words):
            n = rng.integers(1, 6)
            places = [ONLY] if n == 1 else [FIRST, *[INSIDE] * (n - 2), LAST]
            for symbol, place in zip(rng.choice(VOICES, n), places):
                parts = rng.integers(1, 5, 3)
                ids.append(pack(int(symbol), int(rng.integers(3)), 0, place))
                durations.append(parts.sum())
                clean.append(np.repeat(means[symbol], parts, axis=0))
            mark = rng.choice([0, SPACE, COMMA]) if k < n_words - 1 else COMMA
            if mark:
                ids.append(int(mark))
                durations.append(rng.integers(8, 25) if silence is None or mark == COMMA else silence)
                clean.append(np.repeat(quiet, durations[-1], axis=0))
        clean = np.concatenate(clean)
        mels.append((clean + spread * rng.standard_normal(clean.shape)).T.astype(np.float32))
        truth.append((np.array(ids), np.array(durations)))
        x.append(truth[-1][0][truth[-1][0] != SPACE])
    return mels, x, truth


def labels(alignment):
    """Of each frame, the place of its phone in the utterance, or -1 in a pause."""
    frames = []
    for ids, durations in alignment:
        pause = np.isin(ids, (SPACE, COMMA))
        frames.append(np.repeat(np.where(pause, -1, np.cumsum(~pause)), durations))
    return np.concatenate(frames)


def test_phones_and_the_pauses_between_words_are_recovered(in_units):
    mels, x, truth = spoken_corpus(np.random.default_rng(0), n_utterances=24)
    found = in_units("phones", mels, x)
    for (ids, durations), (ids_true, _), mel in zip(found, truth, mels):
        np.testing.assert_array_equal(ids, ids_true)  # a space for each silence and no other
        assert ids.dtype == durations.dtype == np.int64 and ids.shape == durations.shape
        assert durations.min() >= 1 and durations.sum() == mel.shape[1]
    assert (labels(found) == labels(truth)).mean() >= 0.98


def test_states_are_aligned_as_their_phones(in_units):
    """Each id is one of the three states that a phone has anyway."""
    mels, x, _ = spoken_corpus(np.random.default_rng(2), n_utterances=8)
    for (ids, durations), (phones, lasting) in zip(
        in_units("states", mels, [np.array(states(one)) for one in x]), in_units("phones", mels, x), strict=True
    ):
        firsts, together = phones_along(ids, durations)
        assert ids[firsts].tolist() == phones.tolist() and together == lasting.tolist()
        assert len(ids) > len(phones) and durations.min() >= 1


def test_a_silence_shorter_than_a_pause_is_the_end_of_the_phone_before():
    mels, x, truth = spoken_corpus(np.random.default_rng(0), n_utterances=24, silence=5)
    flat_start = fit(mels, x, units="phones", iterations=8)
    joined = []
    for ids, durations in truth:
        space, longer = np.flatnonzero(ids == SPACE), durations.copy()
        longer[space - 1] += durations[space]
        joined.append((np.delete(ids, space), np.delete(longer, space)))
    apart, together = (flat_start.align(mels, x, shortest_pause) for shortest_pause in (1, 30))
    assert sum((ids == SPACE).sum() for ids, _ in apart) > 12
    for (ids, durations), one, mel in zip(together, x, mels):
        np.testing.assert_array_equal(ids, one)
        assert durations.min() >= 1 and durations.sum() == mel.shape[1]
    assert (labels(apart) == labels(truth)).mean() >= 0.98
    assert (labels(together) == labels(joined)).mean() >= 0.98


def test_the_scale_of_pauses_is_the_whole_by_the_rest():
    ids = [np.array([3, SPACE, 4, COMMA]), np.array([5, 6])]
    durations = [np.array([10, 15, 5, 10]), np.array([20, 15])]  # 75 frames, of which 15 no text announces
    assert pause_scale(ids, durations) == pytest.approx(75 / 60)
    assert pause_scale(ids[1:], durations[1:]) == 1


def test_there_is_no_pause_within_a_word():
    rng = np.random.default_rng(1)
    mels, _, _ = spoken_corpus(rng, n_utterances=6)
    x = [np.array([pack(int(one), 0, 0, place) for one, place in zip(rng.choice(VOICES, 4), places)])
         for places in [(FIRST, INSIDE, INSIDE, LAST), (INSIDE,) * 4] * 3]  # fmt: skip
    flat_start = fit(mels, x, units="phones", iterations=3)
    assert all(np.array_equal(ids, one) for (ids, _), one in zip(flat_start.align(mels, x, 1), x))


@pytest.mark.parametrize("damage", [None, "cut short", "empty", "foreign", "of other clips", "of other code"])
def test_what_is_aligned_comes_from_the_cache_unless_it_is_damaged(in_units, tiny_config, damage, monkeypatch):
    mels, x, _ = spoken_corpus(np.random.default_rng(2), n_utterances=4)
    first = in_units("phones", mels, x)
    assert sum(map(len, x)) < sum(len(ids) for ids, _ in first)
    (path,) = (ROOT / tiny_config.dataset.cache / "alignments").iterdir()
    if damage == "of other clips":
        with np.load(path) as arrays:
            others = {name: arrays[name] + (name == "durations") for name in arrays.files}
        np.savez(path, **others)
    elif damage == "of other code":
        monkeypatch.setattr(initial_alignment, "code_of", lambda _: damage)
    elif damage:
        content = {"cut short": path.read_bytes()[:-100], "empty": b"", "foreign": b"PK, and no more"}[damage]
        path.write_bytes(content)
    runs = [in_units("phones", mels, x)] if damage else []
    assert len(list(path.parent.iterdir())) == 1 + (damage == "of other code")
    monkeypatch.setattr(initial_alignment, "_fit", None)
    for again in [*runs, in_units("phones", mels, x)]:
        for (ids, durations), (ids_again, durations_again) in zip(first, again, strict=True):
            np.testing.assert_array_equal(ids, ids_again)
            np.testing.assert_array_equal(durations, durations_again)


def test_held_out_clips_are_aligned_as_the_corpus_was_by_what_the_cache_keeps(tiny_config):
    mels, x, _ = spoken_corpus(np.random.default_rng(2), n_utterances=8)
    config = with_keys(tiny_config, "text", units="phones")
    fitted, kept = (corpus_alignment(config, corpus_of(mels, x), progress=False) for _ in range(2))
    for name in ("units", "n_bases", *GAUSSIANS):
        np.testing.assert_array_equal(getattr(kept[1], name), getattr(fitted[1], name))
    for found, again in zip(fitted[0], kept[1].align(mels, x, config.shortest_pause), strict=True):
        np.testing.assert_array_equal(found, again)


def test_a_clip_too_short_for_three_states_a_phone_is_aligned(in_units):
    mels, x, _ = synthetic_corpus(np.random.default_rng(0), n_utterances=6)
    x = [np.array([pack(int(one) + 50, 0, 0, INSIDE) for one in ids[1::2]]) for ids in x]
    n_frames = [len(x[0]), 3 * len(x[1]) - 1, 3 * len(x[2])]
    mels = [np.tile(mel, 2)[:, :n] for mel, n in zip(mels, n_frames)] + mels[3:]
    for n in (6, 1):
        durations = durations_of(in_units("phones", mels[:n], x[:n]))
        assert_valid(durations, mels[:n], x[:n])
        assert (durations[0] == 1).all() and (n == 1 or (durations[2] == 3).all())


def test_length_tells_phones_apart_and_stress_and_place_do_not(in_units):
    mels, x, truth = synthetic_corpus(np.random.default_rng(1), n_utterances=3)
    mels = [mel[:, one[0] :] for mel, one in zip(mels, truth)]
    mels = [np.repeat(mel, 2, axis=1) for mel in mels]
    phones = [one[1::2] + 50 for one in x]

    def found(stress, every_long, place):
        marked = [np.array([pack(int(p), stress, int(every_long and i % every_long == 0), place)
                            for i, p in enumerate(one)]) for one in phones]  # fmt: skip
        return durations_of(in_units("phones", mels, marked))

    plain = found(0, 0, INSIDE)
    assert all(map(np.array_equal, plain, found(2, 0, FIRST)))
    assert not all(map(np.array_equal, plain, found(0, 2, INSIDE)))


def test_variance_has_a_floor():
    mels = [np.full((N_MELS, 30), -11.5, dtype=np.float32), np.zeros((N_MELS, 20), dtype=np.float32)]
    x = [np.array([1, 2, 3]), np.array([4])]
    flat_start = fit(mels, x, units="characters", iterations=3)
    frames = np.concatenate([features(mel) for mel in mels]).astype(np.float64)
    assert (flat_start.variance >= 0.999 * VARIANCE_FLOOR * frames.var(axis=0)).all() and flat_start.variance.min() > 0


@pytest.mark.parametrize(
    ("units", "ids"),
    [("blanks", ids) for ids in ([0], [0, 0, 0], [0, 0, 3, 0, 0, 3, 3, 0], [5, 0, 2], [0, 3, 0, 40, 0, 1000, 0, 9, 0])]
    + [("characters", [3, 40, 5, 9, 1000, 9])],
)
def test_unseen_symbols_and_blanks_in_odd_places_are_aligned(units, ids):
    rng = np.random.default_rng(4)
    mels, x = noise_corpus(rng, units)
    odd = [rng.normal(-5, 2, (N_MELS, 50)).astype(np.float32)], [np.array(ids)]
    flat_start = fit(mels, x, units=units, iterations=2)
    assert_valid(aligned(flat_start, *odd), *odd)
    if max(ids) < 10:
        fit(*odd, units=units, iterations=2)


class Lazy(list):
    """Remembers which of its items were asked for."""

    def __getitem__(self, i):
        self.asked.append(i)
        return super().__getitem__(i)


@pytest.fixture
def fitted_on(tiny_config):
    """corpus_alignment of symbols with blanks, fitted on so many frames of the clips at most."""
    frame = tiny_config.audio.hop_length / tiny_config.audio.sample_rate  # seconds

    def alignment(n_frames, mels, x, iterations=3, seed=0, progress=False):
        config = with_keys(with_keys(tiny_config, "text", units="blanks"), "system", seed=seed)
        config = with_keys(config, "alignment", em_iterations=iterations, em_minutes=n_frames * frame / 60)
        return corpus_alignment(config, corpus_of(mels, x), progress)

    return alignment


def test_corpus_is_fitted_on_a_part_and_aligned_whole(fitted_on, capsys):
    mels, x, truth = synthetic_corpus(np.random.default_rng(6))
    lazy, n_frames = Lazy(mels), sum(mel.shape[1] for mel in mels)
    lazy.asked = []
    found, _ = fitted_on(n_frames // 2, lazy, x, iterations=12, progress=True)
    durations = durations_of(found)
    drawn, longest = lazy.asked[: -len(mels)], max(mel.shape[1] for mel in mels)
    assert n_frames // 2 - longest < sum(mels[i].shape[1] for i in drawn) <= n_frames // 2
    assert lazy.asked[-len(mels) :] == list(range(len(mels)))
    shown = capsys.readouterr().err
    assert re.search("flat start: fit: 100%.* 24/24 ", shown) and re.search("flat start: align: 100%.* 40/40 ", shown)
    assert_valid(durations, mels, x)
    assert share_right(durations, truth, unit=2) >= 0.98


def test_the_seed_decides(fitted_on, tiny_config):
    mels, x = noise_corpus(np.random.default_rng(8), "blanks")
    kept, runs = ROOT / tiny_config.dataset.cache / "alignments", []
    for seed in (1, 1, 2):
        runs.append(fitted_on(100, mels, x, seed=seed))
        shutil.rmtree(kept)
    for first, second in zip(durations_of(runs[0][0]), durations_of(runs[1][0])):
        np.testing.assert_array_equal(first, second)
    assert runs[0][1].objective == runs[1][1].objective != runs[2][1].objective
    found, flat_start = fitted_on(1, mels, x)  # one utterance is always taken
    assert len(flat_start.objective) == 6
    assert_valid(durations_of(found), mels, x)


def test_errors_name_the_utterance():
    good, ids = np.zeros((N_MELS, 10), dtype=np.float32), np.array([1, 2, 3])
    flat_start = initial_alignment.fit([good], [ids], units="characters", iterations=1)
    for mel, x, words in (
        (good[:, :2], ids, "utterance 1: T_x = 3 symbols and T_mel = 2 frames"),
        (good, ids[:0], "utterance 1: T_x = 0"),
        (good, np.array([1, -2]), "utterance 1: id -2"),
        (np.full_like(good, np.nan), ids, "utterance 1: the mel holds NaN"),
    ):
        refused(ValueError, words, initial_alignment.fit, [good, mel], [ids, x], units="characters", iterations=1)
        refused(ValueError, words, flat_start.align, [good, mel], [ids, x], 1)
    refused(ValueError, "0 utterances", initial_alignment.fit, [], [], units="characters", iterations=1)


@pytest.mark.parametrize("units", ["blanks", "characters"])
def test_of_real_clips_punctuation_is_quiet_and_vowels_are_loud(real_root, tiny_config, units):
    """Letters as symbols, against an even division."""
    letters = " 'abcdefghijklmnopqrstuvwxyz,.;:-"
    texts = {name: text.lower() for name, text in read_transcripts(real_root / "metadata.csv").items()}
    audio, clips = tiny_config.audio, sorted(real_root.glob("wavs/*.wav"))
    mels = [compute_mel(load_wav(clip, audio.sample_rate), audio) for clip in clips]
    x = [np.array([1 + letters.index(letter) for letter in texts[clip.stem] if letter in letters]) for clip in clips]
    x = [with_blanks(ids) if units == "blanks" else ids for ids in x]
    flat_start = fit(mels, x, units, iterations=8)
    durations = aligned(flat_start, mels, x)
    assert flat_start.objective[-1] > flat_start.objective[0] + sum(mel.shape[1] for mel in mels)
    assert_valid(durations, mels, x)
    even = [np.diff(np.arange(len(ids) + 1) * mel.shape[1] // len(ids)) for mel, ids in zip(mels, x)]

    def level(durations, symbols):
        """Mean of some symbols' frames over those of their utterances, in nepers."""
        wanted = [1 + letters.index(one) for one in symbols]
        places = [np.isin(np.repeat(ids, n), wanted) for ids, n in zip(x, durations)]
        return np.concatenate([(mel.mean(axis=0) - mel.mean())[place] for mel, place in zip(mels, places)]).mean()

    assert level(durations, ",.") < level(even, ",.") - 0.2 and level(durations, "aeiou") > level(even, "aeiou") + 0.1
