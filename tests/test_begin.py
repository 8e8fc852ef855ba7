"""training.begin: the weights that a fresh training begins with, and the least squares behind them."""

import dataclasses

import numpy as np
import pytest
import torch

from data_util import config as configuration
from data_util.config import ROOT
from data_util.world import World
from model.losses import prior_loss
from model.nisets import stretch
from tests.conftest import with_keys
from training import begin
from training.state import build_state

ALONE = World(0, 1, torch.device("cpu"))


def evenly(corpus):
    """The corpus with durations that divide each clip evenly over its symbols."""
    corpus.durations = [np.diff(np.arange(len(ids) + 1) * n // len(ids)) for ids, n in zip(corpus.ids, corpus.n_frames)]
    return corpus


@pytest.fixture
def state(tiny_config, tiny):
    config = configuration.change(configuration.load(str(ROOT / "tests" / "tiny.yaml")), [])
    config = dataclasses.replace(config, dataset=tiny_config.dataset)
    state = build_state(config, ALONE, tiny.symbols)
    for network in (state.model, state.ema):
        network.latent_mean.fill_(tiny.statistics()[0])
        network.latent_std.fill_(tiny.statistics()[1])
    return state


@torch.no_grad()
def loss_and_moments(model, corpus, indices):
    """The prior's loss along the corpus's durations, and the features and latents that it is made of."""
    model.eval()
    features, latents, means = [], [], []
    for i in indices:
        x, durations = (torch.from_numpy(each[i])[None] for each in (corpus.ids, corpus.durations))
        z0 = model.latent(torch.from_numpy(corpus.mel(i))[None])
        mu_x, _, h = model.encode(x, torch.ones(1, 1, x.shape[1]))
        mask = torch.ones_like(z0[:, :1])
        features.append(stretch(h, durations, mask)[0])
        means.append(stretch(mu_x, durations, mask)[0])
        latents.append(z0[0])
    h, mu, z0 = (torch.cat(each, dim=1)[None].double() for each in (features, means, latents))
    n_frames = z0.shape[2]
    return prior_loss(z0, mu, torch.ones_like(z0[:, :1]), n_frames).item(), h[0], z0[0]


def moments_of(h, z0):
    rows = torch.cat([h, torch.ones_like(h[:1]), z0])
    return rows @ rows.T


# The least squares


def test_without_a_ridge_it_is_the_least_squares_of_the_rows():
    generator = torch.Generator().manual_seed(0)
    h, z0 = (torch.randn(n, 200, generator=generator).double() for n in (5, 3))
    weight, bias, error = begin.least_squares(moments_of(h, z0), 5, ridge=0.0)
    known = torch.linalg.lstsq(torch.cat([h, torch.ones_like(h[:1])]).T, z0.T).solution
    assert torch.allclose(weight, known[:-1].T) and torch.allclose(bias, known[-1])
    assert error == pytest.approx(((weight @ h + bias[:, None] - z0) ** 2).mean().item())


def test_with_a_ridge_nothing_about_it_is_lower():
    generator = torch.Generator().manual_seed(1)
    h, z0 = (3 + torch.randn(n, 50, generator=generator).double() for n in (4, 2))
    weight, bias, error = begin.least_squares(moments_of(h, z0), 4, ridge=0.3)
    weight, bias = (each.clone().requires_grad_() for each in (weight, bias))
    squares = ((weight @ h + bias[:, None] - z0) ** 2).sum(0).mean()
    (squares + 0.3 * (h**2).mean() * (weight**2).sum()).backward()  # convex: where its slope is zero is its least
    assert weight.grad.abs().max() < 1e-10 and bias.grad.abs().max() < 1e-10
    assert error == pytest.approx(squares.item() / 2)


def test_features_that_say_nothing_leave_the_mean():
    h, z0 = torch.zeros(3, 40).double(), torch.arange(80.0).double().view(2, 40)
    h[0] = 1.0  # as the bias does: without a ridge no solution is the only one
    weight, bias, error = begin.least_squares(moments_of(h, z0), 3, ridge=0.01)
    assert torch.allclose(weight @ h[:, 0] + bias, z0.mean(1), atol=1e-9)
    assert error == pytest.approx(z0.var(dim=1, unbiased=False).mean().item())


# The layer


def test_mu_is_solved_for_along_the_durations(state, tiny):
    corpus, model = evenly(tiny), state.model.train()
    indices = range(len(corpus))
    drawn_loss, *_ = loss_and_moments(model, corpus, indices)
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    loss, n_clips = begin.solve_mean(model, corpus)
    assert n_clips == len(corpus) and model.training  # ten minutes hold them all
    solved, h, z0 = loss_and_moments(model, corpus, indices)
    assert loss == pytest.approx(solved, abs=1e-4) and solved < drawn_loss - 0.05
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"text_encoder.mu.weight", "text_encoder.mu.bias"}
    weight, bias, _ = begin.least_squares(moments_of(h, z0), len(h), state.config.alignment.solve_ridge)
    assert torch.allclose(model.text_encoder.mu.weight[:, :, 0].double(), weight, atol=1e-4)
    assert torch.allclose(model.text_encoder.mu.bias.double(), bias, atol=1e-4)


def test_so_many_minutes_of_clips_are_drawn_but_one_always(state, tiny):
    corpus, config = evenly(tiny), state.config
    order = np.random.default_rng(config.system.seed).permutation(len(corpus))
    ends = np.cumsum(corpus.n_frames[order])
    seconds = config.audio.hop_length / config.audio.sample_rate
    for n_frames, n_clips in ((ends[3], 4), (ends[3] - 1, 3), (1, 1)):
        minutes = (n_frames + 0.5) * seconds / 60
        state.model.config = with_keys(config, "alignment", solve_minutes=minutes)
        loss, found = begin.solve_mean(state.model, corpus)
        assert found == n_clips
        assert loss == pytest.approx(loss_and_moments(state.model, corpus, order[:n_clips])[0], abs=1e-4)


# When


def test_the_averaged_weights_begin_with_it_too(state, tiny):
    before = state.model.text_encoder.mu.weight.clone()
    begin.begin(state, evenly(tiny))
    assert not torch.equal(state.model.text_encoder.mu.weight, before)
    for name, value in state.model.state_dict().items():
        assert torch.equal(value, state.ema.state_dict()[name]), name


@pytest.mark.parametrize("why", ["switched off", "no durations", "no text side"])
def test_it_is_drawn_where_there_is_nothing_to_solve(state, tiny, why):
    corpus, config = evenly(tiny), state.config
    if why == "switched off":
        state.config = with_keys(config, "alignment", solve_minutes=0.0)
    elif why == "no durations":
        corpus.durations = None
    else:
        stages = tuple(dataclasses.replace(one, parts={"generator": 1e-3}) for one in config.training.stages)
        state.config = with_keys(config, "training", stages=stages)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    begin.begin(state, corpus)
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())
