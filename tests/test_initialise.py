"""training.initialise: the weights that a fresh training begins with, and the least squares behind them."""

import dataclasses

import numpy as np
import pytest
import torch

from data_util import config as configuration
from model.alignment import length_regulate
from model.losses import prior_loss
from model.prosody import pitch_and_energy
from tests.conftest import even_durations, prepared, with_keys
from tests.runs import ALONE, copied, differences
from training import initialise
from training.data import clip_tensors
from training.distributed import Processes
from training.state import build_state

pytest_plugins = "tests.run_fixtures"


@pytest.fixture
def make(config, runs):  # noqa: ARG001
    """Gives a state of the tiny model, and the tiny corpus, aligned, of a kind: two speakers say its clips in turn
    where there are two voices, and mu depends on pitch and energy where there is pitch."""

    def fresh(kind):
        ours = configuration.change(config, ["prosody.kind=frame"] if kind == "pitch" else [])
        corpus = prepared(ours)
        corpus.durations = even_durations(corpus)
        if kind == "two voices":
            ours = with_keys(ours, "speakers", names=("ann", "ben"))
            corpus.speakers = np.arange(len(corpus)) % 2
        state = build_state(ours, ALONE, corpus.symbols)
        state.model.latent_mean.fill_(corpus.statistics()[0])
        state.model.latent_std.fill_(corpus.statistics()[1])
        if kind == "two voices":
            torch.nn.init.normal_(state.model.text_encoder.speaker.weight)  # they begin alike
        if kind == "pitch":
            state.model.f0_mean.fill_(corpus.f0_statistics()[0])
            state.model.f0_std.fill_(corpus.f0_statistics()[1])
            torch.nn.init.normal_(state.model.text_encoder.condition.weight)  # as if they had been learnt
        state.ema.load_state_dict(state.model.state_dict())
        return state, corpus

    return fresh


@torch.no_grad()
def loss_and_pairs(model, corpus, indices):
    """The prior's loss along the corpus's durations, and the features and latents that it is made of."""
    model.eval()
    features, latents, means, inputs = [], [], [], []
    hook = model.text_encoder.mu.register_forward_hook(lambda _, args, __: inputs.append(args[0]))
    for i in indices:
        x, mel, f0 = clip_tensors(model.config, corpus, i, torch.device("cpu"))
        durations, z0 = torch.from_numpy(corpus.durations[i])[None], model.latent(mel)
        values = None
        if model.prosody is not None:
            values = pitch_and_energy(model.normalised(mel), model.normalised_f0(f0), durations)
        with model.speaking_as(int(corpus.speakers[i])):
            mu_x, _ = model.text_encoder(x, torch.ones(1, 1, x.shape[1]), values)
        mask = torch.ones_like(z0[:, :1])
        features.append(length_regulate(inputs.pop(), durations, mask)[0])
        means.append(length_regulate(mu_x, durations, mask)[0])
        latents.append(z0[0])
    hook.remove()
    h, mu, z0 = (torch.cat(each, dim=1)[None].double() for each in (features, means, latents))
    n_frames = z0.shape[2]
    return prior_loss(z0, mu, torch.ones_like(z0[:, :1]), n_frames).item(), h[0], z0[0]


def moments_of(h, z0):
    rows = torch.cat([h, torch.ones_like(h[:1]), z0])
    return rows @ rows.T


# The least squares


@pytest.mark.parametrize(("ridge", "far"), [(0.0, 0.0), (0.3, 0.0), (0.3, 1.0)])
def test_nothing_about_the_solution_is_better(ridge, far):
    generator = torch.Generator().manual_seed(1)
    h, z0 = (3 + torch.randn(n, 50, generator=generator).double() for n in (4, 2))
    start = far * torch.randn(2, 4, generator=generator).double()
    weight, bias, error = initialise.least_squares(moments_of(h, z0), start, ridge)
    weight, bias = (each.clone().requires_grad_() for each in (weight, bias))
    squares = ((weight @ h + bias[:, None] - z0) ** 2).sum(0).mean()
    # convex: where its slope is zero is its least
    (squares + ridge * (h**2).mean() * ((weight - start) ** 2).sum()).backward()
    assert weight.grad.abs().max() < 1e-10 and bias.grad.abs().max() < 1e-10
    assert error == pytest.approx(squares.item() / 2)


def test_features_that_say_nothing_leave_the_mean():
    h, z0 = torch.zeros(3, 40).double(), torch.arange(80.0).double().view(2, 40)
    h[0] = 1.0  # as the bias does: without a ridge no solution is the only one
    start = torch.ones(2, 3).double()
    weight, bias, error = initialise.least_squares(moments_of(h, z0), start, ridge=0.01)
    assert torch.allclose(weight @ h[:, 0] + bias, z0.mean(1), atol=1e-9)
    assert torch.allclose(weight, start)  # nothing in the clips speaks against it
    assert error == pytest.approx(z0.var(dim=1, unbiased=False).mean().item())


# The layer


@pytest.mark.parametrize(("kind", "keeps"), [("plain", True), ("plain", False), ("two voices", False), ("pitch", True)])
def test_mu_is_solved_for_along_the_durations(make, kind, keeps):
    state, corpus = make(kind)
    model, indices = state.model, range(len(corpus))
    drawn_loss, *_ = loss_and_pairs(model, corpus, indices)
    before = copied(model.train().state_dict())
    loss, n_clips = initialise.solve_mean(state.config, model, corpus, keeps)
    assert n_clips == len(corpus) and model.training  # ten minutes hold them all
    solved, h, z0 = loss_and_pairs(model, corpus, indices)
    assert loss == pytest.approx(solved, abs=1e-4) and solved < drawn_loss - 0.05
    assert differences(before, model.state_dict()) == ["/text_encoder.mu.weight", "/text_encoder.mu.bias"]
    start = before["text_encoder.mu.weight"][:, :, 0].double() * keeps
    weight, bias, _ = initialise.least_squares(moments_of(h, z0), start, state.config.alignment.solve_ridge)
    assert torch.allclose(model.text_encoder.mu.weight[:, :, 0].double(), weight, atol=1e-4)
    assert torch.allclose(model.text_encoder.mu.bias.double(), bias, atol=1e-4)


def test_so_many_minutes_of_clips_are_drawn_but_one_always(make):
    state, corpus = make("plain")
    config = state.config
    order = np.random.default_rng(config.system.seed).permutation(len(corpus))
    ends = np.cumsum(corpus.n_frames[order])
    seconds = config.audio.hop_length / config.audio.sample_rate
    for n_frames, n_clips in ((ends[3], 4), (ends[3] - 1, 3), (1, 1)):
        minutes = (n_frames + 0.5) * seconds / 60
        some = with_keys(config, "alignment", solve_minutes=minutes)
        loss, found = initialise.solve_mean(some, state.model, corpus)
        assert found == n_clips
        assert loss == pytest.approx(loss_and_pairs(state.model, corpus, order[:n_clips])[0], abs=1e-4)


# When


@pytest.mark.parametrize("why_not", [None, "switched off", "no durations", "no acoustic model", "frozen"])
def test_it_is_solved_for_where_there_is_something_to_solve(make, monkeypatch, why_not):
    """For the averaged weights too."""
    state, corpus = make("plain")
    config = state.config
    if why_not == "switched off":
        state.config = with_keys(config, "alignment", solve_minutes=0.0)
    elif why_not == "no durations":
        corpus.durations = None
    elif why_not == "frozen":
        monkeypatch.setattr(initialise, "warm_start", lambda _: set())
        state.config = with_keys(config, "fine_tuning", frozen=("text_encoder",), start=("any.pt",))
    elif why_not == "no acoustic model":
        stages = (dataclasses.replace(config.training.stages[0], share=1.0, parts={"generator": 1e-3}, latents="true"),)
        state.config = with_keys(config, "training", stages=stages)
    before = copied(state.model.state_dict())
    initialise.initialise(state, corpus)
    changed = [] if why_not else ["/text_encoder.mu.weight", "/text_encoder.mu.bias"]
    assert differences(before, state.model.state_dict()) == changed
    assert differences(state.model.state_dict(), state.ema.state_dict()) == []


@pytest.mark.parametrize("fits", [True, False])
def test_anothers_weights_are_kept_where_the_clips_leave_them_open(make, monkeypatch, fits):
    (state, corpus), kept = make("plain"), []
    monkeypatch.setattr(initialise, "warm_start", lambda _: {"text_encoder.mu.weight"} if fits else set())
    monkeypatch.setattr(initialise, "solve_mean", lambda *_, keeps: kept.append(keeps) or (0.0, 1))
    state.config = with_keys(state.config, "fine_tuning", start=("voice.safetensors",))
    initialise.initialise(state, corpus)
    assert kept == [fits]


def test_a_clip_that_is_gone_for_one_process_is_told_to_the_others(make, monkeypatch):
    (state, corpus), told = make("plain"), []
    monkeypatch.setattr(Processes, "all_reduce_max", lambda _, number: told.append(number) or number)
    initialise.initialise(state, corpus)
    assert told == [False]

    def gone(_):
        raise OSError("clip.wav is gone")

    monkeypatch.setattr(corpus, "mel", gone)
    with pytest.raises(OSError, match="clip.wav is gone"):
        initialise.initialise(state, corpus)
    assert told == [False, True]
