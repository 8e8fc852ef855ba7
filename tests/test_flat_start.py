"""Flat start: an objective that never falls, synthetic speech recovered, durations that are valid, real clips."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from scipy.fft import idct

from model.flat_start import VARIANCE_FLOOR, align_corpus, corpus_durations, features, fit
from model.monotonic_align import search
from tests.conftest import with_keys
from text.symbols import pack

SPEECH = Path(__file__).resolve().parents[2] / "shared" / "ljspeech"
N_MELS = 80


def assert_never_falls(objective):
    objective = np.array(objective)
    assert np.isfinite(objective).all()
    assert (np.diff(objective) >= -1e-9 * np.abs(objective[1:])).all(), objective


def assert_valid(durations, mels, x):
    assert len(durations) == len(mels)
    for item, mel, ids in zip(durations, mels, x):
        assert item.dtype == np.int64 and item.shape == ids.shape
        assert item.min() >= 1 and item.sum() == mel.shape[1]


def with_blanks(ids):
    return np.concatenate([[0], np.stack([ids, np.zeros_like(ids)], axis=1).ravel()])


def noise_corpus(rng, blanks, n_utterances=12):
    """Frames that have nothing to do with the symbols."""
    x = [rng.integers(1, 9, rng.integers(1, 25)) for _ in range(n_utterances)]
    x = [with_blanks(ids) if blanks else ids for ids in x]
    mels = [rng.normal(-5, 2, (N_MELS, len(ids) + rng.integers(0, 60))).astype(np.float32) for ids in x]
    return mels, x


def synthetic_corpus(rng, n_utterances=40, n_ids=15, spread=0.6):
    """Symbols and blanks with a Gaussian each, on random durations: mels, ids with blanks, true durations.

    A symbol and its blank differ by less than two symbols do; a pair has 2 to 12 frames, each half at least one.
    """
    shapes = idct(np.eye(20, N_MELS), norm="ortho")  # that the features can see
    symbol_mean = -5 + 1.5 * rng.standard_normal((n_ids + 1, 20)) @ shapes
    blank_mean = symbol_mean + 0.7 * rng.standard_normal((n_ids + 1, 20)) @ shapes
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
    assert result.shape == (10, 40) and result.dtype == np.float32
    np.testing.assert_allclose(result[:, 0], np.arange(10) * np.sqrt(N_MELS), rtol=1e-6)
    np.testing.assert_allclose(result[2:-2, 20], np.sqrt(N_MELS), rtol=1e-6)
    np.testing.assert_allclose(result[0, 20], np.sqrt(N_MELS) * 0.5, rtol=1e-6)  # (1 * 1 + 2 * 2) / 10
    np.testing.assert_allclose(result[:, 1:20], 0, atol=1e-4)


@pytest.mark.parametrize("blanks", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_objective_never_falls_on_noise(blanks, seed):
    mels, x = noise_corpus(np.random.default_rng(seed), blanks)
    flat_start = fit(mels, x, blanks=blanks, search=search, iterations=8)
    assert len(flat_start.objective) == (16 if blanks else 8)
    assert_never_falls(flat_start.objective)
    assert_valid(flat_start.align(mels, x), mels, x)


def test_objective_never_falls_even_where_the_search_is_poor():
    rng = np.random.default_rng(9)

    def poor(scores, x_lengths, mel_lengths):
        return search(rng.standard_normal(scores.shape), x_lengths, mel_lengths)

    mels, x = noise_corpus(rng, blanks=True)
    assert_never_falls(fit(mels, x, blanks=True, search=poor, iterations=8).objective)


def test_objective_is_the_likelihood_of_the_durations():
    mels, x = noise_corpus(np.random.default_rng(0), blanks=False)
    flat_start = fit(mels, x, blanks=False, search=search, iterations=20)
    total = 0.0
    for mel, ids, durations in zip(mels, x, flat_start.align(mels, x)):
        classes = np.repeat(ids, durations)
        mean, variance = flat_start.mean[classes], flat_start.variance[classes]
        total -= 0.5 * ((features(mel) - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum()
    np.testing.assert_allclose(total, flat_start.objective[-1], rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_synthetic_utterances_are_recovered(seed):
    mels, x, truth = synthetic_corpus(np.random.default_rng(seed))
    flat_start = fit(mels, x, blanks=True, search=search, iterations=12)
    durations = flat_start.align(mels, x)
    assert_never_falls(flat_start.objective)
    assert_valid(durations, mels, x)
    assert share_right(durations, truth, unit=2) >= 0.98
    assert share_right(durations, truth, unit=1) >= 0.95


@pytest.fixture
def in_units(tiny_config):
    """What corpus_durations gives, with the cache in a folder of the test."""

    def durations(units, mels, x):
        content = str([one.tolist() for one in x])
        corpus = SimpleNamespace(mels=mels, ids=x, n_frames=[mel.shape[1] for mel in mels], content=content)
        return corpus_durations(with_keys(tiny_config, "text", units=units), corpus, search, progress=False)

    return durations


def as_phones(rng, x, truth):
    """A synthetic corpus without its leading blanks: packed ids, with marks that say nothing, and true durations."""
    ids = [one[1::2] for one in x]
    packed = [np.array([pack(int(p), *rng.integers((3, 1, 4))) for p in one]) for one in ids]
    return packed, [one[1:].reshape(-1, 2).sum(axis=1) for one in truth]


@pytest.mark.parametrize("seed", range(3))
def test_phones_are_recovered(in_units, seed):
    rng = np.random.default_rng(seed)
    mels, x, truth = synthetic_corpus(rng)
    mels = [mel[:, one[0] :] for mel, one in zip(mels, truth)]
    x, truth = as_phones(rng, x, truth)
    durations = in_units("phones", mels, x)
    assert_valid(durations, mels, x)
    assert share_right(durations, truth, unit=1) >= 0.98
    for one, again in zip(durations, in_units("phones", mels, x)):  # from the cache
        np.testing.assert_array_equal(one, again)


def test_a_clip_too_short_for_two_states_a_phone_is_aligned(in_units):
    rng = np.random.default_rng(0)
    mels, x, truth = synthetic_corpus(rng, n_utterances=6)
    x, truth = as_phones(rng, x, truth)
    n_frames = [len(x[0]), 2 * len(x[1]) - 1, 2 * len(x[2]), 2 * len(x[3]) + 1]
    mels = [mel[:, :n] for mel, n in zip(mels, n_frames)] + mels[4:]
    durations = in_units("phones", mels, x)
    assert_valid(durations, mels, x)
    assert (durations[0] == 1).all() and durations[1].min() == 1 and (durations[2] == 2).all()
    alone = in_units("phones", mels[:1], x[:1])
    assert_valid(alone, mels[:1], x[:1])


def test_length_tells_phones_apart_and_stress_and_place_do_not(in_units):
    rng = np.random.default_rng(1)
    mels, x, truth = synthetic_corpus(rng, n_utterances=6)
    mels = [mel[:, one[0] :] for mel, one in zip(mels, truth)]
    phones = [one[1::2] for one in x]
    plain = in_units("phones", mels, phones)
    marked = in_units("phones", mels, [np.array([pack(int(p), 2, 0, 3) for p in one]) for one in phones])
    long = in_units(
        "phones", mels, [np.array([pack(int(p), 0, i % 2, 0) for i, p in enumerate(one)]) for one in phones]
    )
    assert all(map(np.array_equal, plain, marked))
    assert not all(map(np.array_equal, plain, long))


@pytest.mark.parametrize("units", ["blanks", "characters"])
def test_other_units_are_aligned_as_they_are(in_units, tiny_config, units):
    mels, x, _ = synthetic_corpus(np.random.default_rng(2), n_utterances=8)
    x = x if units == "blanks" else [one[1::2] for one in x]
    fit_frames, settings = sum(mel.shape[1] for mel in mels), tiny_config.alignment
    expected, _ = align_corpus(mels, x, blanks=units == "blanks", search=search, iterations=settings.em_iterations,
                               fit_frames=fit_frames, seed=tiny_config.system.seed)  # fmt: skip
    assert all(map(np.array_equal, in_units(units, mels, x), expected))


def test_untying_the_blanks_pays():
    mels, x, truth = synthetic_corpus(np.random.default_rng(3))
    objective = fit(mels, x, blanks=True, search=search, iterations=6).objective
    n_frames = sum(mel.shape[1] for mel in mels)
    assert objective[6] - objective[5] > 0.5 * n_frames


def test_variance_has_a_floor():
    mels = [np.full((N_MELS, 30), -11.5, dtype=np.float32), np.zeros((N_MELS, 20), dtype=np.float32)]
    x = [np.array([1, 2, 3]), np.array([4])]
    flat_start = fit(mels, x, blanks=False, search=search, iterations=3)
    frames = np.concatenate([features(mel) for mel in mels]).astype(np.float64)
    assert (flat_start.variance >= 0.999 * VARIANCE_FLOOR * frames.var(axis=0)).all() and flat_start.variance.min() > 0
    assert_never_falls(flat_start.objective)


@pytest.mark.parametrize("blanks", [True, False])
def test_unseen_symbols_are_aligned(blanks):
    rng = np.random.default_rng(4)
    mels, x = noise_corpus(rng, blanks)
    flat_start = fit(mels, x, blanks=blanks, search=search, iterations=2)
    ids = np.array([3, 40, 5, 9, 1000, 9])
    x = [with_blanks(ids) if blanks else ids]
    mels = [rng.normal(-5, 2, (N_MELS, 50)).astype(np.float32)]
    assert_valid(flat_start.align(mels, x), mels, x)


@pytest.mark.parametrize("ids", [[0], [0, 0, 0], [0, 0, 3, 0, 0, 3, 3, 0], [5, 0, 2]])
def test_blanks_in_odd_places(ids):
    rng = np.random.default_rng(5)
    mels, x = [rng.normal(-5, 2, (N_MELS, 40)).astype(np.float32) for _ in range(3)], [np.array(ids)] * 3
    flat_start = fit(mels, x, blanks=True, search=search, iterations=4)
    assert_never_falls(flat_start.objective)
    assert_valid(flat_start.align(mels, x), mels, x)


class Lazy:
    """Mels that are loaded one at a time; remembers which."""

    def __init__(self, mels):
        self.mels, self.asked = mels, []

    def __len__(self):
        return len(self.mels)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.mels[i]


def test_corpus_is_fitted_on_a_part_and_aligned_whole():
    mels, x, truth = synthetic_corpus(np.random.default_rng(6))
    lazy, calls = Lazy(mels), []
    n_frames = sum(mel.shape[1] for mel in mels)
    durations, _ = align_corpus(lazy, x, blanks=True, search=search, iterations=12, fit_frames=n_frames // 2, seed=0,
                                progress=lambda *call: calls.append(call))  # fmt: skip
    drawn = lazy.asked[: -len(mels)]  # the last of these was one too many
    assert sum(mels[i].shape[1] for i in drawn[:-1]) <= n_frames // 2 < sum(mels[i].shape[1] for i in drawn)
    assert lazy.asked[-len(mels) :] == list(range(len(mels)))
    assert calls[23] == ("fit", 24, 24) and calls[-1] == ("align", len(mels), len(mels)) and len(calls) == 24 + 40
    assert_valid(durations, mels, x)
    assert share_right(durations, truth, unit=2) >= 0.98


def test_one_utterance_is_always_taken():
    mels, x, _ = synthetic_corpus(np.random.default_rng(7), n_utterances=4)
    durations, flat_start = align_corpus(mels, x, blanks=True, search=search, iterations=1, fit_frames=1, seed=0)
    assert len(flat_start.objective) == 2
    assert_valid(durations, mels, x)


def test_the_seed_decides():
    mels, x = noise_corpus(np.random.default_rng(8), blanks=True)
    runs = [
        align_corpus(mels, x, blanks=True, search=search, iterations=3, fit_frames=100, seed=seed) for seed in (1, 1, 2)
    ]
    for first, second in zip(runs[0][0], runs[1][0]):
        np.testing.assert_array_equal(first, second)
    assert runs[0][1].objective == runs[1][1].objective != runs[2][1].objective


def test_errors_name_the_utterance():
    good, ids = np.zeros((N_MELS, 10), dtype=np.float32), np.array([1, 2, 3])
    for mel, x, words in (
        (good[:, :2], ids, "utterance 1: T_x = 3 symbols and T_mel = 2 frames"),
        (good, ids[:0], "utterance 1: T_x = 0"),
        (good, np.array([1, -2]), "utterance 1: id -2"),
        (np.full_like(good, np.nan), ids, "utterance 1: the mel holds NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            fit([good, mel], [ids, x], blanks=False, search=search, iterations=1)
        with pytest.raises(ValueError, match=words):
            fit([good], [ids], blanks=False, search=search, iterations=1).align([good, mel], [ids, x])
    with pytest.raises(ValueError, match="0 utterances"):
        fit([], [], blanks=False, search=search, iterations=1)


def log_mel(path, filters):
    wav, sample_rate = soundfile.read(path, dtype="float32")
    padded = torch.nn.functional.pad(torch.from_numpy(wav)[None, None], (384, 384), mode="reflect")[0, 0]
    spectrum = torch.stft(padded, 1024, 256, window=torch.hann_window(1024), center=False, return_complex=True)
    assert sample_rate == 22050
    return (filters @ spectrum.abs()).clamp(min=1e-5).log().numpy()


@pytest.mark.skipif(not SPEECH.is_dir(), reason=f"no real speech: {SPEECH.name} is not beside the project")
@pytest.mark.parametrize("blanks", [True, False])
def test_real_clips(blanks):
    """Letters as symbols, 40 clips: frames given to commas come out quiet, which an even division does not do."""
    letters = " 'abcdefghijklmnopqrstuvwxyz,.;:-"
    lines = (SPEECH / "metadata.csv").read_text(encoding="utf-8").splitlines()
    texts = {name: text.lower() for name, _, text in (line.split("|") for line in lines)}
    clips = sorted((SPEECH / "wavs").glob("*.flac"))[:40]
    filters = torchaudio.functional.melscale_fbanks(
        513, 0.0, 8000.0, N_MELS, 22050, norm="slaney", mel_scale="slaney"
    ).T
    mels = [log_mel(clip, filters) for clip in clips]
    x = [np.array([1 + letters.index(letter) for letter in texts[clip.stem] if letter in letters]) for clip in clips]
    x = [with_blanks(ids) for ids in x] if blanks else x
    flat_start = fit(mels, x, blanks=blanks, search=search, iterations=8)
    durations = flat_start.align(mels, x)
    assert_never_falls(flat_start.objective)
    assert flat_start.objective[-1] > flat_start.objective[0] + sum(mel.shape[1] for mel in mels)
    assert_valid(durations, mels, x)
    even = [np.diff(np.arange(len(ids) + 1) * mel.shape[1] // len(ids)) for mel, ids in zip(mels, x)]
    comma = 1 + letters.index(",")
    loudness = [mel.mean(axis=0) - mel.mean() for mel in mels]
    assert level(loudness, x, durations, comma) < level(loudness, x, even, comma) - 0.7


def level(loudness, x, durations, symbol):
    """Mean of a symbol's frames over those of its utterance, in nepers."""
    frames = [item[np.repeat(ids, d) == symbol] for item, ids, d in zip(loudness, x, durations)]
    return np.concatenate(frames).mean()
