"""Pitch, energy, F0 and voicing: means over symbols, losses against loops, and what a text is spoken with."""

import math
from types import SimpleNamespace

import pytest
import torch

from data_util import pitch
from data_util.audio import sequence_mask
from model.alignment import N_POSITIONS
from model.prosody import F0_RESIDUAL_STD, N_VALUES, Frames, ProsodyNetwork, continuous, pitch_and_energy, symbol_values
from model.sde import dpm2m, grid
from tests.test_networks import CASES, CHANNELS, N_SYMBOLS, PROSODY
from tests.test_nisets import drawn_batch, forward, make_model

LENGTHS = (15, 2, 9)
MASK = sequence_mask(torch.tensor(LENGTHS)).float()


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# Values of symbols


def brute_force(frames, weights, durations):
    means = torch.zeros(*frames.shape[:2], durations.shape[1], dtype=torch.float64)
    for b, row in enumerate(durations.tolist()):
        start = 0
        for i, n_frames in enumerate(row):
            for c in range(frames.shape[1]):
                x = frames[b, c, start : start + n_frames].double()
                w = weights[b, c, start : start + n_frames].double()
                if n_frames:
                    means[b, c, i] = (x * w).sum() / w.sum() if w.sum() > 0 else x.mean()
            start += n_frames
    return means


@pytest.mark.parametrize("binary", [True, False])
def test_symbol_values_are_the_means_of_a_loop_that_reads_nothing_past_the_end(binary):
    durations = torch.tensor([[3, 0, 1, 6, 0], [2, 2, 0, 0, 0], [0, 1, 4, 2, 1]])  # sums 10, 4, 8: padded to 12
    frames, weights = random(3, 2, 12), random(3, 2, 12, seed=1).abs()
    if binary:
        weights = (weights > 0.7).float()
    weights[0, 0, 4:10] = 0  # a symbol of which no frame counts
    values = symbol_values(frames, weights, durations)
    assert values.shape == (3, 2, 5) and values.dtype == torch.float32
    torch.testing.assert_close(values.double(), brute_force(frames, weights, durations), atol=1e-6, rtol=1e-5)
    past = 1e6 * (~sequence_mask(durations.sum(1), 12)).float()
    torch.testing.assert_close(symbol_values(frames + past, weights, durations), values, atol=1e-6, rtol=0)


def test_symbol_values_stay_exact_at_the_end_of_a_long_clip():
    durations = torch.full((1, 2000), 10)
    frames = 100 + random(1, 1, 20_000)
    wanted = frames.view(1, 1, 2000, 10).double().mean(-1)
    values = symbol_values(frames, torch.ones_like(frames), durations)
    assert (values - wanted).abs().max() < 2e-5  # sums up to 2e6 in float32 would be off by a tenth


def test_pitch_counts_where_there_is_voice_and_energy_everywhere():
    f0 = torch.tensor([[[1.0, 3.0, 9.0, 5.0, 7.0], [1.0, 1.0, 0.0, 0.0, 0.0]]])
    mel = torch.arange(5.0).expand(1, 80, -1) + torch.linspace(-1, 1, 80)[:, None]
    wanted = torch.tensor([[[2.0, 6.0], [1.0, 3.5]]])  # the second symbol has no voice: the plain mean
    torch.testing.assert_close(pitch_and_energy(mel, f0, torch.tensor([[3, 2]])), wanted)


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 5, 50])
def test_a_contour_goes_on_where_there_is_no_voice_as_a_recordings_does(length):
    generator = torch.Generator().manual_seed(length)
    for share in (0.0, 0.2, 0.5, 0.9, 1.0):
        f0 = torch.randn(8, 1, length, generator=generator)
        voiced = torch.rand(8, 1, length, generator=generator) < share
        filled = continuous(f0, voiced)
        for item, values, voice in zip(filled, f0.numpy(), voiced.numpy()):
            expected = pitch.continuous(values[0], voice[0], 0.0) if voice.any() else values[0]
            assert item[0].numpy() == pytest.approx(expected, abs=1e-5)


# Networks


def test_what_conditions_a_symbol_knows_how_far_it_is_from_both_ends():
    network = ProsodyNetwork(SimpleNamespace(**{**PROSODY, "n_layers": 0}), N_SYMBOLS, ())
    with torch.no_grad():
        network.embedding.tables[0].weight.zero_()
        network.position.bias.zero_()
        network.position.weight.copy_(torch.eye(CHANNELS)[:, :2, None])
    c = network.encode(torch.zeros(3, 15, dtype=torch.long), MASK)
    for one, length in zip(c, LENGTHS):
        place = torch.arange(length)
        wanted = torch.stack([(-place / 10).exp(), (-(length - 1 - place) / 10).exp()])
        torch.testing.assert_close(one[:2, :length], wanted)
        assert not one[:, length:].any()


@torch.no_grad()
def test_the_start_is_the_flattest_guess():
    network, c, values = CASES["prosody"].build().eval(), random(3, CHANNELS, 15), random(3, N_VALUES, 15)
    assert not network(values, torch.rand(3), MASK, c).any()
    f0, voicing = network.contour(Frames(c, values, random(3, N_POSITIONS, 15), MASK))
    assert torch.equal(f0, values[:, :1]) and not voicing.any()
    residual, condition = CASES["f0 residual"].build(), random(3, CHANNELS + 2 * N_VALUES + N_POSITIONS, 15)
    assert not residual(random(3, 1, 15), torch.rand(3), MASK, condition).any()


def test_marks_are_read():
    marked = ProsodyNetwork(SimpleNamespace(**PROSODY), N_SYMBOLS, (3, 2))
    x = torch.arange(15)[None] % N_SYMBOLS
    assert not torch.equal(marked.encode(x, MASK[:1]), marked.encode(x + N_SYMBOLS, MASK[:1]))


# Losses


def test_contour_losses_are_those_of_a_loop():
    prosody, mask = make_model("contour").prosody, sequence_mask(torch.tensor([6, 3])).float()
    f0_hat, logit, f0 = (random(2, 1, 6, seed=seed) for seed in range(3))
    voicing = torch.tensor([[1.0, 0, 1, 1, 0, 1], [1, 1, 0, 1, 1, 1]])[:, None]
    prosody.network.contour = lambda _: (f0_hat, logit)
    frames = Frames(*[torch.zeros(2, 2, 6)] * 3, mask)
    found = prosody.contour_losses(torch.cat([f0, voicing], 1), frames, torch.tensor(20.0))
    squares, entropies = 0.0, 0.0
    for b, n_frames in enumerate((6, 3)):
        for k in range(n_frames):
            probability, voiced = logit[b, 0, k].sigmoid().item(), voicing[b, 0, k].item()
            squares += voiced * (f0_hat[b, 0, k] - f0[b, 0, k]).item() ** 2
            entropies -= math.log(probability if voiced else 1 - probability)
    assert found["loss_f0"].item() == pytest.approx(squares / 20, rel=1e-5)
    assert found["loss_voicing"].item() == pytest.approx(entropies / 20, rel=1e-5)


def frames_given():
    """A text's frames, half of which have a voice."""
    given = [random(1, n, 40, seed=n) for n in (8, N_VALUES, N_POSITIONS)]
    return Frames(*given, torch.ones(1, 1, 40)), random(1, 1, 40, seed=5) < 0


@torch.no_grad()
def test_f0_is_denoised_about_the_mean_contour_in_its_own_unit():
    """The loss is that of EDM, written out, of F0 less the mean contour's line, where there is voice."""
    prosody = make_model("full").eval().prosody
    frames, voiced = frames_given()
    f0 = torch.cat([random(1, 1, 40, seed=6), voiced.float()], dim=1)
    noise, u = random(1, 1, 40, seed=7), torch.tensor([0.95])
    mean, condition = prosody.mean_contour(frames, voiced)
    lines = pitch.continuous(prosody.network.contour(frames)[0][0, 0].numpy(), voiced[0, 0].numpy(), 0.0)
    assert mean[0, 0].numpy() == pytest.approx(lines, abs=1e-5)
    assert torch.equal(condition, torch.cat([frames.c, frames.values, frames.position, mean, voiced.float()], dim=1))

    sde = prosody.f0_residual.sde
    r_0, t = (f0[:, :1] - mean) / F0_RESIDUAL_STD, sde.t_from_uniform(u)
    r_0_hat, _ = prosody.f0_residual.denoise(sde.perturb(r_0, noise, t), t, frames.mask, condition=condition)
    weighed = ((r_0_hat - r_0) / sde.coefficients(t)[1]).square()[voiced].sum() / 40
    loss = prosody.residual_loss(f0, frames, u, noise, torch.tensor(40.0))
    assert (sde.sigma_data, sde.parametrisation) == (1.0, "edm")
    assert loss.item() == pytest.approx(weighed.item(), rel=1e-4)
    other = torch.cat([torch.where(voiced, f0[:, :1], 9.0), f0[:, 1:]], dim=1)  # what is said where there is no voice
    assert prosody.residual_loss(other, frames, u, torch.where(voiced, noise, -9.0), torch.tensor(40.0)) == loss


def test_f0_teaches_what_conditions_a_symbol_and_its_residual_does_not():
    model = make_model("full")
    losses = forward(model, drawn_batch(model.config)).losses
    for name in ("loss_f0", "loss_voicing", "loss_f0_residual"):
        model.zero_grad(set_to_none=True)
        losses[name].backward(retain_graph=True)
        gradient = model.prosody.network.embedding.tables[0].weight.grad
        assert (gradient is not None and bool(gradient.any())) == (name != "loss_f0_residual"), name


# Speaking


@torch.no_grad()
@pytest.mark.parametrize("n", [1, 8])
def test_pitch_and_energy_are_sampled_each_at_its_temperature(n):
    prosody = make_model("convnext1d", prosody={"n_timesteps": n, "pitch_temperature": 0.5}).eval().prosody
    x, x_mask, noise = torch.arange(1, 11)[None], torch.ones(1, 1, 10), random(1, N_VALUES, 10)
    c, values = prosody.sample_symbols(x, x_mask, lambda _: noise)
    assert torch.equal(c, prosody.network.encode(x, x_mask)) and prosody.sizes.energy_temperature == 0
    noise = noise * torch.tensor([0.5, 0.0])[:, None]

    def mean(r_t, t):
        return prosody.pitch_energy.denoise(r_t, torch.tensor([t]), x_mask, c=c)[0]

    wanted = mean(noise, 1.0) if n == 1 else dpm2m(prosody.pitch_energy.sde, mean, noise, grid(8))
    assert torch.equal(values, wanted)


@torch.no_grad()
@pytest.mark.parametrize("name", ["contour", "full"])
def test_the_spoken_f0_is_the_contour_and_what_the_solver_makes_of_its_residual(name):
    more = {"residual_temperature": 0.5, "residual_timesteps": 6} if name == "full" else {}
    prosody, (frames, _) = make_model(name, prosody=more).eval().prosody, frames_given()
    prosody.network.frame_out.bias[1] -= prosody.network.contour(frames)[1].median()  # half has a voice
    f0, logit = prosody.network.contour(frames)
    noise, (_, condition) = random(1, 1, 40, seed=8), prosody.mean_contour(frames)
    spoken, residual = prosody.sample_frames(frames, lambda _: noise), 0

    def denoise(r_t, t):
        return prosody.f0_residual.denoise(r_t, torch.tensor([t]), frames.mask, condition=condition)[0]

    if name == "full":
        residual = F0_RESIDUAL_STD * dpm2m(prosody.f0_residual.sde, denoise, 0.5 * noise, grid(6))
    voiced = logit > 0
    assert torch.equal(spoken[:, 1:], voiced.float()) and 0 < voiced.sum() < 40
    torch.testing.assert_close(spoken[:, :1][voiced], (f0 + residual)[voiced])
    lines = pitch.continuous(spoken[0, 0].numpy(), voiced[0, 0].numpy(), 0.0)  # as recordings' are given
    assert spoken[0, 0].numpy() == pytest.approx(lines, abs=1e-5)
