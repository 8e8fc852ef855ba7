"""Compressed latents against closed forms: what is kept, what comes back, and that a corpus is fitted once."""

import dataclasses

import numpy as np
import pytest
import torch

from data_util import config as configuration
from model import latent
from model.latent import Compression, corpus_compression, fit
from tests.conftest import with_keys

STATISTICS = (-5.0, 2.0)  # mean and deviation that the log-mels below are normalised by
N_MELS, RANK = 12, 3


def drawn_mels(n_clips=6, n_frames=200, rank=N_MELS, noise=0.0):
    """Gaussian log-mels of a covariance of that rank, and a trace of noise."""
    random = np.random.default_rng(0)
    mixing, centre = random.standard_normal((N_MELS, rank)), random.standard_normal((N_MELS, 1))
    mels = []
    for _ in range(n_clips):
        frames = mixing @ random.standard_normal((rank, n_frames)) + centre
        frames += noise * random.standard_normal(frames.shape)
        mels.append((STATISTICS[0] + STATISTICS[1] * frames).astype(np.float32))
    return mels


def normalised(mels):
    """(1, N_MELS, all frames) float32."""
    return torch.from_numpy((np.concatenate(mels, axis=1) - STATISTICS[0]) / STATISTICS[1])[None]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(latent, "FIT_STEPS", 150)
    monkeypatch.setattr(latent, "FIT_BATCH", 256)


def test_pooled_is_the_mean_of_neighbours_in_the_bands_order():
    mels = drawn_mels()
    x = normalised(mels)
    z0 = fit("pooled", 4, mels, STATISTICS, 0)(x)
    torch.testing.assert_close(z0, x.unflatten(1, (4, 3)).mean(2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["pooled", "pca"])
def test_what_comes_back_is_the_best_that_a_linear_map_can_do(kind):
    """Over the corpus it was fitted on, what is missing has the mean 0 and no correlation with the latent."""
    mels = drawn_mels()
    x, compression = normalised(mels), fit(kind, 4, mels, STATISTICS, 0)
    z0 = compression(x)
    missing = (x - compression.expand(z0))[0].double()
    centred = (z0 - z0.mean(2, keepdim=True))[0].double()
    assert missing.mean(1).abs().max() < 1e-4
    assert (missing @ centred.T / x.shape[2]).abs().max() < 1e-3
    assert missing.var() > 0.01  # something is


def test_pca_keeps_the_largest_powers_of_the_covariance_and_their_distances():
    mels, n = drawn_mels(), 5
    x, compression = normalised(mels), fit("pca", n, mels, STATISTICS, 0)
    z0 = compression(x)
    powers = np.linalg.eigvalsh(np.cov(x[0].double().numpy(), bias=True))[::-1]
    lost = ((x - compression.expand(z0)) ** 2).sum(1).mean().item()
    assert lost == pytest.approx(powers[n:].sum(), rel=1e-3)
    assert z0.mean((0, 2)).abs().max() < 1e-3
    assert z0.var(2, correction=0).mean().item() == pytest.approx(1, rel=1e-3)
    channels = np.cov(z0[0].double().numpy(), bias=True)
    scale = n / powers[:n].sum()
    np.testing.assert_allclose(channels, np.diag(powers[:n] * scale), atol=1e-3)  # falling, and uncorrelated
    # one number beside an orthonormal basis: distances among what comes back are those among latents, times it
    back = compression.expand(z0)[0]
    apart = (back[:, :100] - back[:, 100:200]).norm(dim=0) * scale**0.5
    torch.testing.assert_close(apart, (z0[0, :, :100] - z0[0, :, 100:200]).norm(dim=0), atol=1e-3, rtol=1e-3)


def test_pca_with_as_many_channels_as_the_data_has_directions_loses_nothing():
    mels = drawn_mels(rank=RANK)
    x, compression = normalised(mels), fit("pca", RANK, mels, STATISTICS, 0)
    torch.testing.assert_close(compression.expand(compression(x)), x, atol=1e-3, rtol=1e-3)


def test_the_fit_does_not_depend_on_the_order_of_the_clips_nor_on_a_sign():
    mels = drawn_mels()
    one, other = fit("pca", 4, mels, STATISTICS, 0), fit("pca", 4, mels[::-1], STATISTICS, 1)
    torch.testing.assert_close(one.encode_matrix, other.encode_matrix, atol=1e-5, rtol=1e-4)
    largest = one.encode_matrix.abs().argmax(1)
    assert (one.encode_matrix[torch.arange(4), largest] > 0).all()


def test_learned_starts_as_pca_and_learns_what_is_no_linear_function():
    """Bands that are squares of the others: two channels hold all of it, which two principal components cannot."""
    random = np.random.default_rng(1)
    mels = []
    for _ in range(4):
        few = random.standard_normal((2, 400))
        bands = np.concatenate([few, few**2, few[:1] * few[1:]])
        mels.append((STATISTICS[0] + STATISTICS[1] * bands).astype(np.float32))
    x = normalised(mels)
    linear, learned = fit("pca", 2, mels, STATISTICS, 0), fit("learned", 2, mels, STATISTICS, 0)
    lost_linear, lost = (((x - one.expand(one(x))) ** 2).mean().item() for one in (linear, learned))
    assert lost < 0.8 * lost_linear
    assert torch.equal(learned.encode_matrix, linear.encode_matrix)
    for network in (learned.encoder, learned.decoder):  # without what they have learnt it is pca
        torch.nn.init.zeros_(network[-1].weight)
        torch.nn.init.zeros_(network[-1].bias)
    assert torch.equal(learned(x), linear(x)) and torch.equal(learned.expand(linear(x)), linear.expand(linear(x)))


def test_the_fit_of_learned_is_the_seeds_alone_and_trains_nothing_else():
    mels, state = drawn_mels(), torch.get_rng_state()
    one, again, other = (fit("learned", 4, mels, STATISTICS, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in one.state_dict().items())
    assert not torch.equal(one.encoder[0].weight, other.encoder[0].weight)
    assert not any(p.requires_grad for p in one.parameters())


@pytest.mark.parametrize("kind", ["pooled", "pca", "learned"])
def test_each_frame_is_compressed_for_itself(kind):
    mels = drawn_mels()
    x, compression = normalised(mels)[:, :, :20], fit(kind, 4, mels, STATISTICS, 0)
    soiled = x.clone()
    soiled[:, :, 10:] = 1e3
    torch.testing.assert_close(compression(soiled)[:, :, :10], compression(x)[:, :, :10])
    z0 = compression(x)
    torch.testing.assert_close(compression.expand(z0)[:, :, 3:4], compression.expand(z0[:, :, 3:4]))


def test_bands_that_never_move_can_be_fitted():
    mels = [np.full((N_MELS, 30), STATISTICS[0], dtype=np.float32)]
    for kind in ("pooled", "pca"):
        compression = fit(kind, 4, mels, STATISTICS, 0)
        x = normalised(mels)
        torch.testing.assert_close(compression.expand(compression(x)), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["pooled", "learned"])
def test_a_corpus_is_fitted_once_and_a_damaged_cache_mended(kind, tiny, tiny_config, monkeypatch):
    config = with_keys(with_keys(tiny_config, "latent", kind=kind, channels=20), "decoder", kind="convnext1d")
    state = corpus_compression(config, tiny)
    Compression(kind, 80, 20).load_state_dict(state)
    (path,) = (configuration.ROOT / config.dataset.cache / "latents").iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:100])
    again = corpus_compression(config, tiny)
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    monkeypatch.setattr(latent, "fit", lambda *_: pytest.fail("fitted again"))
    kept = corpus_compression(config, tiny)
    assert all(torch.equal(value, kept[name]) for name, value in state.items())
    with pytest.raises(pytest.fail.Exception):  # another seed, other clips or sizes are another fit
        corpus_compression(with_keys(config, "latent", channels=16), tiny)
    with pytest.raises(pytest.fail.Exception):
        corpus_compression(config, tiny.subset([1, 2, 3]))


def test_all_bands_need_no_compression(tiny, tiny_config):
    assert corpus_compression(tiny_config, tiny) is None
    assert not (configuration.ROOT / tiny_config.dataset.cache / "latents").exists()
    assert dataclasses.asdict(tiny_config.latent)["kind"] == "normalised"
