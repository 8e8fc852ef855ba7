"""data_util.dataset: order, draws, batches."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from data_util import config as configuration
from data_util import features
from data_util.audio import AudioError, MelSpectrogram, cut
from data_util.dataset import Batch, BatchOrder, batches, draw, fixed_batch
from tests.child import fake_f0
from tests.conftest import HOP, TINY_FRAMES, corpus_keys, even_durations, prepared, with_keys
from text.symbols import unpack

N_TINY = len(TINY_FRAMES)


class Numbered:
    """Latents that say where they were read: the clip, the u and the frame, in three of the channels; t is u / 2."""

    def __init__(self, n_missing=0):
        self.n_missing = n_missing  # frames at the end

    def read(self, index, u, start, n_frames):
        n_frames -= self.n_missing
        latent = np.zeros((40, n_frames), dtype=np.float32)
        latent[0], latent[1], latent[2] = index, u, start + np.arange(n_frames)
        return latent, u / 2


def take(n, config, corpus, **where):
    stream = batches(corpus, config, **where)
    taken = list(itertools.islice(stream, n))
    stream.close()
    return taken


def assert_same(a: Batch, b: Batch):
    for field in dataclasses.fields(Batch):
        one, other = getattr(a, field.name), getattr(b, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


def assert_wav_is_of_the_mels_frames(batch, config):
    """Features of the segment's samples equal the clip's at those frames, but for frames that see past the edges."""
    training = config.training
    spectrogram = MelSpectrogram(**dataclasses.asdict(config.audio))
    segments = cut(cut(batch.mel, batch.cut_starts, training.cut_frames), batch.segment_starts, training.segment_frames)
    n_seen = 0
    for mel, wav, length in zip(segments, batch.wav, batch.segment_lengths.tolist()):
        inner = slice(2, length - 3)
        expected = spectrogram(wav[:, : length * HOP])[0]
        torch.testing.assert_close(mel[:, :length][:, inner], expected[:, inner], atol=2e-3, rtol=0)
        n_seen += mel[:, :length][:, inner].numel()
    assert n_seen > 0


# Order and draws


@pytest.mark.parametrize(("n_clips", "size"), [(100, 4), (37, 8), (3, 8), (1, 4)])
def test_every_clip_comes_equally_often(n_clips, size):
    order = BatchOrder(np.arange(n_clips) % 7, size, seed=1, window=4)
    counts = Counter()
    for step in range(4 * n_clips):  # whole windows and whole epochs
        indices = order.indices(step)
        assert indices.shape == (size,)
        counts.update(indices.tolist())
        if (step + 1) % 4 == 0:
            seen = [counts[i] for i in range(n_clips)]
            assert max(seen) - min(seen) <= 1
    assert [counts[i] for i in range(n_clips)] == [4 * size] * n_clips


def test_the_order_is_a_function_of_the_step():
    lengths = np.random.default_rng(0).integers(2, 900, 50)
    forwards = [BatchOrder(lengths, 8, seed=1).indices(step) for step in range(40)]
    order = BatchOrder(lengths, 8, seed=1)
    for step in (39, 3, 17, 0, 16, 3):
        np.testing.assert_array_equal(order.indices(step), forwards[step])
    other = [BatchOrder(lengths, 8, seed=2).indices(step) for step in range(40)]
    assert not np.array_equal(np.stack(forwards), np.stack(other))
    assert not np.array_equal(np.sort(forwards[0]), np.sort(forwards[16]))


def test_clips_of_like_length_share_a_batch():
    lengths = np.random.default_rng(0).integers(100, 900, 2000)
    order = BatchOrder(lengths, 16, seed=1)
    batches_of = [lengths[order.indices(step)] for step in range(125)]
    assert sum(16 * one.max() for one in batches_of) < 1.05 * sum(one.sum() for one in batches_of)
    means = [one.mean() for one in batches_of[:16]]
    assert means != sorted(means)


def test_the_longest_come_first_and_under_a_budget_the_most_second():
    lengths = np.random.default_rng(0).permutation(np.arange(100, 900))
    for size, budget in ((4, 0), (16, 4000)):
        order = BatchOrder(lengths, size, seed=1, window=8, budget=budget)
        window = [order.indices(step) for step in range(8)]
        assert lengths[window[0]].sum() == sum(range(900 - len(window[0]), 900))
        if budget:
            assert len(window[0]) < len(window[1]) == max(map(len, window))
            assert lengths[window[1]].max() == max(lengths[one].max() for one in window if len(one) == len(window[1]))


def test_a_budget_makes_batches_of_long_clips_smaller():
    lengths = np.random.default_rng(0).integers(100, 900, 300)
    lengths[7] = 2000  # a part of its own each, over the budget
    order = BatchOrder(lengths, 16, seed=1, budget=3000, n_parts=2)
    taken = [order.indices(step) for step in range(400)]
    for one in taken:
        assert len(one) % 2 == 0 and len(one) <= 16
        assert len(one) // 2 * lengths[one].max() <= 3000 or len(one) == 2
    assert {len(one) for one in taken} > {16, 8}
    counts = Counter(np.concatenate(taken).tolist())
    assert len(counts) == 300 and max(counts.values()) - min(counts.values()) <= 2
    padded = sum(len(one) * lengths[one].max() for one in taken)
    assert sum(lengths[one].sum() for one in taken) > 0.95 * padded
    again = BatchOrder(lengths, 16, seed=1, budget=3000, n_parts=2)
    for step in (399, 3, 170, 0):
        np.testing.assert_array_equal(again.indices(step), taken[step])


def test_a_draw_is_a_function_of_its_place():
    kwargs = {"true_latents": 0.5, "n_latents": 3, "cut_frames": 5}
    first = draw(1, 7, 8, 3, **kwargs)
    same = draw(1, 7, 8, 3, **kwargs)
    assert dataclasses.astuple(first)[:4] == dataclasses.astuple(same)[:4]
    np.testing.assert_array_equal(first.noise, same.noise)
    assert first.noise.shape == (3, 5)
    assert first.noise.dtype == np.float32
    for other in (draw(2, 7, 8, 3, **kwargs), draw(1, 8, 8, 3, **kwargs), draw(1, 7, 8, 4, **kwargs)):
        assert not np.array_equal(other.noise, first.noise)
        assert other.u != first.u
        assert other.cut_u != first.cut_u


@pytest.mark.parametrize(("share", "at_least"), [(0.0, 0), (0.2, 3), (0.25, 4)])
def test_draws_are_stratified(share, at_least):
    chosen_at = Counter()
    for step in range(100):
        draws = [draw(5, step, 16, place, true_latents=share, n_latents=1, cut_frames=1) for place in range(16)]
        assert sorted(int(16 * one.u) for one in draws) == list(range(16))
        n_chosen = sum(one.true_latent for one in draws)
        assert at_least <= n_chosen <= at_least + (16 * share > at_least)
        chosen_at.update(place for place, one in enumerate(draws) if one.true_latent)
    assert sum(chosen_at.values()) == pytest.approx(100 * 16 * share, abs=25)
    assert len(chosen_at) == (16 if share else 0)  # every place has its turn


def test_draws_have_their_distributions():
    draws = [draw(5, step, 1, 0, true_latents=0.3, n_latents=8, cut_frames=8) for step in range(2000)]
    for name in ("u", "cut_u", "segment_u"):
        values = np.sort([getattr(one, name) for one in draws])
        assert np.abs(values - (np.arange(2000) + 0.5) / 2000).max() < 0.04  # Kolmogorov and Smirnov, 0.3%
    assert np.mean([one.true_latent for one in draws]) == pytest.approx(0.3, abs=0.04)
    true = np.array([one.true_latent for one in draws])
    for name in ("u", "cut_u", "segment_u"):  # of which it depends on none
        low = np.array([getattr(one, name) for one in draws]) < 0.3
        assert true[low].mean() == pytest.approx(0.3, abs=0.08) and true[~low].mean() == pytest.approx(0.3, abs=0.05)
    noise = np.stack([one.noise for one in draws])
    assert noise.mean() == pytest.approx(0, abs=0.02)
    assert noise.std() == pytest.approx(1, abs=0.02)


# Batches


def test_a_batch_holds_what_it_says(tiny, tiny_config):
    names, seen = [clip.id for clip in tiny.clips], set()
    for batch in take(10, tiny_config, tiny):
        assert batch.noise.shape == (4, 40, 32)
        assert batch.wav.shape == (4, 1, 8 * HOP)
        assert not batch.has_durations
        assert not batch.durations.any()
        for b, name in enumerate(batch.ids):
            i = names.index(name)
            n_frames, n_symbols = TINY_FRAMES[i], len(tiny.ids[i])
            assert (batch.mel_lengths[b], batch.x_lengths[b]) == (n_frames, n_symbols)
            np.testing.assert_array_equal(batch.mel[b, :, :n_frames], tiny.mel(i))
            assert not batch.mel[b, :, n_frames:].any()
            np.testing.assert_array_equal(batch.x[b, :n_symbols], tiny.ids[i])
            assert not batch.x[b, n_symbols:].any()
            start, length = int(batch.cut_starts[b]), int(batch.cut_lengths[b])
            assert length == min(n_frames, 32)
            assert 0 <= start <= n_frames - length
            start, length = int(batch.segment_starts[b]), int(batch.segment_lengths[b])
            assert length == min(n_frames, 8)
            assert 0 <= start <= batch.cut_lengths[b] - length
            start += int(batch.cut_starts[b])
            np.testing.assert_array_equal(batch.wav[b, 0, : length * HOP], tiny.wav(i, start, length))
            assert not batch.wav[b, 0, length * HOP :].any()
            seen.add(i)
        assert batch.f0.shape == (4, 2, 0) and batch.latent.shape == (4, 40, 0)  # there are none
        assert batch.f0.dtype == batch.latent.dtype == batch.latent_t.dtype == torch.float32
        assert torch.equal(batch.latent_t, torch.zeros(4))
        assert_wav_is_of_the_mels_frames(batch, tiny_config)
    assert 0 in seen  # the shortest, of two frames


def test_cuts_reach_both_ends_of_a_clip(tiny, tiny_config):
    long = N_TINY - 1
    starts = Counter()
    config = with_keys(tiny_config, "training", cut_frames=128, segment_frames=128)
    for seed in range(40):
        starts.update(fixed_batch(tiny, with_keys(config, "system", seed=seed), [long]).cut_starts.tolist())
    assert set(starts) == {0, 1, 2}


def test_neither_workers_nor_a_later_first_step_change_anything(tiny, tiny_config):
    state, whole = torch.random.get_rng_state(), take(20, tiny_config, tiny)
    assert whole[0].ids != whole[1].ids
    for n_workers, first in ((2, 0), (0, 1), (0, 16), (1, 19)):
        config = with_keys(tiny_config, "system", num_workers=n_workers)
        for mine, theirs in zip(take(20 - first, config, tiny, first_step=first), whole[first:], strict=True):
            assert_same(mine, theirs)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("how", ["processes", "micro-batches"])
def test_two_processes_or_micro_batches_have_the_rows_of_one(tiny, tiny_config, how):
    whole = take(6, with_keys(tiny_config, "training", batch_size=8), tiny)
    if how == "processes":
        parts = [take(6, tiny_config, tiny, rank=rank, world_size=2) for rank in (0, 1)]
    else:
        halves = take(12, with_keys(tiny_config, "training", accumulate=2), tiny)
        parts = halves[::2], halves[1::2]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert batch.ids == first.ids + second.ids
        for name in ("u", "true_latent", "noise", "wav", "cut_starts", "segment_starts", "mel_lengths"):
            assert torch.equal(getattr(batch, name), torch.cat([getattr(first, name), getattr(second, name)])), name
        assert sorted((8 * batch.u).int().tolist()) == list(range(8))


def test_durations_travel_with_their_clips(tiny, tiny_config):
    tiny.durations = even_durations(tiny)
    batch = take(1, with_keys(tiny_config, "system", num_workers=1), tiny)[0]
    assert batch.has_durations
    assert torch.equal(batch.durations.sum(1), batch.mel_lengths)
    assert not batch.durations[batch.x == 0].any()


@pytest.mark.usefixtures("stub_front_end")
def test_f0_travels_with_its_clip_and_changes_nothing_else(tiny, tiny_config, monkeypatch):
    monkeypatch.setattr(features, "track_f0", fake_f0)
    config = configuration.change(tiny_config, ["prosody.kind=frame"])
    corpus = prepared(config)
    before = take(6, tiny_config, tiny)
    for without, batch in zip(before, take(6, with_keys(config, "system", num_workers=1), corpus)):
        assert_same(dataclasses.replace(batch, f0=without.f0), without)
        assert batch.f0.shape == (4, 2, batch.mel.shape[2])
        assert batch.f0.dtype == torch.float32
        for f0, n_frames in zip(batch.f0, batch.mel_lengths.tolist()):
            np.testing.assert_array_equal(f0[:, :n_frames], fake_f0(np.zeros(n_frames * HOP)))
            assert not f0[:, n_frames:].any()


def test_latents_are_read_at_the_segment(tiny, tiny_config):
    names = [clip.id for clip in tiny.clips]
    config = with_keys(tiny_config, "system", num_workers=2)
    for without, batch in zip(take(10, tiny_config, tiny), take(10, config, tiny, latents=Numbered()), strict=True):
        assert_same(dataclasses.replace(batch, latent=without.latent, latent_t=without.latent_t), without)
        assert batch.latent.shape == (4, 40, 8)
        torch.testing.assert_close(batch.latent_t, batch.u / 2)
        for b, name in enumerate(batch.ids):
            length = int(batch.segment_lengths[b])
            index, u, frames = batch.latent[b, :3, :length]
            assert index.tolist() == [names.index(name)] * length
            assert u.tolist() == [batch.u[b]] * length
            first = int(batch.cut_starts[b] + batch.segment_starts[b])
            assert frames.tolist() == list(range(first, first + length))
            assert not batch.latent[b, :, length:].any()


def test_latents_shorter_than_their_segment_are_padded(tiny, tiny_config):
    batch = fixed_batch(tiny, tiny_config, [3, 0], latents=Numbered(n_missing=1))
    assert batch.segment_lengths.tolist() == [8, 2]
    assert (batch.latent[:, 1] > 0).tolist() == [[True] * 7 + [False], [True] + [False] * 7]


def test_a_fixed_batch_is_fixed(tiny, tiny_config):
    batch = fixed_batch(tiny, tiny_config, [3, 1, 8])
    assert batch.ids == ["tiny-3", "tiny-1", "tiny-8"]
    assert_same(batch, fixed_batch(tiny, tiny_config, [3, 1, 8]))
    moved = batch.to("meta")
    assert moved.mel.device.type == moved.u.device.type == "meta"
    assert moved.ids == batch.ids


def test_a_clip_that_vanishes_is_replaced_and_named_once(tiny_root, tiny, tiny_config, caplog):
    before = fixed_batch(tiny, tiny_config, [4, 5])
    (tiny_root / "wavs/tiny-4.wav").unlink()
    stream = batches(tiny, tiny_config)
    names = [name for _ in range(20) for name in next(stream).ids]
    assert "tiny-4" not in names
    assert caplog.text.count("tiny-4 cannot be read any more") == 1
    after = fixed_batch(tiny, tiny_config, [4, 5])
    assert after.ids == ["tiny-5", "tiny-5"]
    assert torch.equal(after.wav[1], before.wav[1])
    for i in range(N_TINY):
        (tiny_root / f"wavs/tiny-{i}.wav").unlink(missing_ok=True)
    with pytest.raises(AudioError, match="10 clips in a row"):
        next(stream)


def test_real_clips_have_log_mels_of_speech_and_known_symbols(real_root, tmp_path):
    keys = [*corpus_keys(real_root, tmp_path), "training.batch_size=4", "system.num_workers=0"]
    config = configuration.load(overrides=keys)
    corpus = prepared(config)
    assert len(corpus) == 8
    mean, std = corpus.statistics()
    assert -6.2 < mean < -4.7
    assert 1.8 < std < 2.4
    batch = take(1, config, corpus)[0]
    assert (batch.mel_lengths > batch.x_lengths).all()
    assert max(unpack(int(packed))[0] for packed in batch.x.flatten()) < len(corpus.symbols)
    assert_wav_is_of_the_mels_frames(batch, config)
