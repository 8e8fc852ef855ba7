"""Compressed latents against closed forms: what is kept, what comes back, and that a corpus is fitted once."""

import numpy as np
import pytest
import torch

from data_util import config as configuration
from model import latent
from model.latent import Compression, fit
from tests.conftest import with_keys
from training import data
from training.data import content_of_latents, corpus_compression

STATISTICS = (-5.0, 2.0)  # mean and deviation that the log-mels below are normalised by
N_MELS = 12
KINDS = pytest.mark.parametrize("kind", ["pooled", "pca"])


def drawn_mels():
    random = np.random.default_rng(0)
    mixing, centre = random.standard_normal((N_MELS, N_MELS)), random.standard_normal((N_MELS, 1))
    frames = [mixing @ random.standard_normal((N_MELS, 200)) + centre for _ in range(6)]
    return [(STATISTICS[0] + STATISTICS[1] * one).astype(np.float32) for one in frames]


def normalised(mels):
    """(1, N_MELS, all frames) float32."""
    return torch.from_numpy((np.concatenate(mels, axis=1) - STATISTICS[0]) / STATISTICS[1])[None]


@pytest.mark.parametrize("n_latents", [4, 6, 8, 12])  # of means of three alone, to of bands alone
def test_pooled_is_the_low_bands_and_the_means_of_three_above_them_in_order(n_latents):
    x = normalised(drawn_mels())
    z0 = fit("pooled", n_latents, drawn_mels(), STATISTICS)(x)
    n_means = (N_MELS - n_latents) // 2
    low, high = x[:, : n_latents - n_means], x[:, n_latents - n_means :]
    means = [high[:, i : i + 3].mean(1, keepdim=True) for i in range(0, 3 * n_means, 3)]
    torch.testing.assert_close(z0, torch.cat([low, *means], dim=1), atol=1e-5, rtol=1e-5)


@KINDS
def test_what_comes_back_is_the_best_that_a_linear_map_of_each_frame_can_do(kind):
    """Over the corpus it was fitted on, what is missing has the mean 0 and no correlation with the latent."""
    x, compression = normalised(drawn_mels()), fit(kind, 4, drawn_mels(), STATISTICS)
    z0 = compression(x)
    missing = (x - compression.expand(z0))[0].double()
    centred = (z0 - z0.mean(2, keepdim=True))[0].double()
    assert missing.mean(1).abs().max() < 1e-4
    assert (missing @ centred.T / x.shape[2]).abs().max() < 1e-3
    assert missing.var() > 0.01  # something is
    torch.testing.assert_close(compression(x[:, :, 3:4]), z0[:, :, 3:4])
    torch.testing.assert_close(compression.expand(z0[:, :, 3:4]), compression.expand(z0)[:, :, 3:4])


def test_pca_keeps_the_largest_powers_of_the_covariance_and_their_distances():
    mels, n = drawn_mels(), 5
    x, compression = normalised(mels), fit("pca", n, mels, STATISTICS)
    z0 = compression(x)
    powers = np.linalg.eigvalsh(np.cov(x[0].double().numpy(), bias=True))[::-1]
    lost = ((x - compression.expand(z0)) ** 2).sum(1).mean().item()
    assert lost == pytest.approx(powers[n:].sum(), rel=1e-3)
    assert z0.mean((0, 2)).abs().max() < 1e-3
    channels = np.cov(z0[0].double().numpy(), bias=True)
    scale = n / powers[:n].sum()  # the mean variance is 1
    np.testing.assert_allclose(channels, np.diag(powers[:n] * scale), atol=1e-3)  # falling, and uncorrelated
    # one number beside an orthonormal basis: distances among what comes back are those among latents, times it
    back = compression.expand(z0)[0]
    apart = (back[:, :100] - back[:, 100:200]).norm(dim=0) * scale**0.5
    torch.testing.assert_close(apart, (z0[0, :, :100] - z0[0, :, 100:200]).norm(dim=0), atol=1e-3, rtol=1e-3)


def test_the_fit_does_not_depend_on_the_order_of_the_clips_nor_on_a_sign():
    one, other = (fit("pca", 4, mels, STATISTICS).encode_matrix for mels in (drawn_mels(), drawn_mels()[::-1]))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert (one[torch.arange(4), one.abs().argmax(1)] > 0).all()


def test_latents_of_another_kind_are_named_otherwise(tiny, tiny_config):
    bands = "latent.kind=normalised"
    changes = [], ["latent.channels=60"], [bands], [bands, "audio.f_max=9000"], ["latent.kind=pca"]
    configs = [configuration.change(tiny_config, change) for change in changes]
    found = [content_of_latents(config, clips) for config in configs for clips in (tiny, tiny.subset([1, 2]))]
    assert len(set(found)) == 10


@KINDS
def test_bands_that_never_move_can_be_fitted(kind):
    mels = [np.full((N_MELS, 30), STATISTICS[0], dtype=np.float32)]
    x, compression = normalised(mels), fit(kind, 4, mels, STATISTICS)
    torch.testing.assert_close(compression.expand(compression(x)), x, atol=1e-4, rtol=0)


def test_a_kind_that_nobody_has_written_is_refused():
    with pytest.raises(ValueError, match="latent.kind = dct"):
        fit("dct", 4, drawn_mels(), STATISTICS)


def test_a_corpus_is_fitted_once_and_a_damaged_cache_mended(tiny, tiny_config, monkeypatch):
    assert corpus_compression(configuration.change(tiny_config, ["latent.kind=normalised"]), tiny) is None
    folder = configuration.ROOT / tiny_config.dataset.cache / "latents"
    assert not folder.exists()  # all bands need no compression
    state = corpus_compression(tiny_config, tiny)
    Compression(80, 40).load_state_dict(state)
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])

    def is_kept():
        again = corpus_compression(tiny_config, tiny)
        return all(torch.equal(value, again[name]) for name, value in state.items())

    assert is_kept()
    monkeypatch.setattr(latent, "fit", lambda *_: pytest.fail("fitted again"))
    assert is_kept()
    for other in ((with_keys(tiny_config, "latent", channels=28), tiny), (tiny_config, tiny.subset([1, 2, 3]))):
        with pytest.raises(pytest.fail.Exception):  # other sizes or clips are another fit
            corpus_compression(*other)
    monkeypatch.setattr(data, "code_of", lambda _: "other code")
    with pytest.raises(pytest.fail.Exception):
        corpus_compression(tiny_config, tiny)
