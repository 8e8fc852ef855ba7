"""The whole model: which loss reaches which part, that padding does not exist, that speaking is what was trained."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import betabinom
from torch.nn import functional as F

from data_util import config as configuration
from data_util import pitch, speech
from data_util.audio import cut, sequence_mask
from data_util.dataset import Batch, fixed_batch
from model import losses, nisets
from model.nisets import NiSETS
from model.sde import dpm2m, grid, solver_times
from model.text_encoder import N_PLACES, places
from model.variance import COURSE_STD, N_VALUES
from tests.conftest import HOP, TINY_FRAMES, with_keys

PARTS = ("text_encoder", "decoder", "generator")
T_ONE, T_OTHER = 0.1, 0.9  # u that becomes t = 1, and one that does not
LN_F0 = (5.2, 0.25)  # mean and standard deviation of ln Hz

# what differs from the plain model, which is small in all the others too
SMALL = {
    "text_encoder": {"prenet_dropout": 0.0, "dropout": 0.0, "frame_hidden_channels": 16, "frame_kernel": 3},
    "variance": {"channels": 8, "hidden_channels": 16, "n_layers": 2, "kernel": 3, "dropout": 0.0, "frame_layers": 1},
    "convnext1d": {"channels": 8, "hidden_channels": 16, "n_layers": 2, "kernel": 3},
    "istft": {"channels": 16, "resblock_kernels": [3], "resblock_dilations": [1]},
    "convnext": {"channels": 8, "hidden_channels": 16, "n_layers": 2, "kernel": 3},
}
VARIANTS = {
    "plain": {},
    "refined": {"text_encoder": {"frame_layers": 2}, "loss": {"stft": 1.0}},
    "phone": {"variance": {"kind": "phone"}, "generator": {"inputs": ["z0_hat", "mu"]}},
    "source": {
        "text": {"units": "phones"},
        "text_encoder": {"frame_layers": 2},
        "variance": {"kind": "frame"},
        "decoder": {"kind": "convnext1d"},
        "generator": {"kind": "convnext", "inputs": ["z0_hat", "f0", "t"]},
        "loss": {"stft": 1.0, "phase": 1.0},
    },
    "pooled": {"latent": {"kind": "pooled", "channels": 40}},
    "learned": {
        "latent": {"kind": "learned", "channels": 20},
        "text_encoder": {"frame_layers": 2},
        "variance": {"kind": "phone"},
        "decoder": {"kind": "convnext1d"},
    },
    "istft": {"variance": {"kind": "frame"}, "generator": {"kind": "istft", "inputs": ["f0", "z0_hat"]}},
}
VARIANTS["course"] = VARIANTS["source"] | {"variance": {"kind": "frame", "course_layers": 2}}
WITH_VARIANCE = ("phone", "learned", "source", "istft", "course")


@pytest.fixture
def config(tiny_config):
    """The tiny corpus under the tiny model, without dropout."""
    tree = configuration.to_dict(configuration.load("tests/tiny.yaml"))
    tree["dataset"] = configuration.to_dict(tiny_config)["dataset"]
    tree["text_encoder"] |= {"prenet_dropout": 0.0, "dropout": 0.0}
    return configuration.from_dict(tree)


@pytest.fixture
def model(config):
    return make_model(config)


def make_model(config, **keywords):
    torch.manual_seed(0)
    model = NiSETS(config, 27, **keywords)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # gates and some layers start at zero, which would hide them
            if "generator" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.latent_mean.fill_(-5.0)
    model.latent_std.fill_(2.0)
    if model.compression is not None:  # whatever corpora it may have been fitted on
        torch.nn.init.orthogonal_(model.compression.encode_matrix)
        model.compression.decode_matrix.copy_(model.compression.encode_matrix.T)
    return model


def batch_of(corpus, config, indices=(1, 4, 6, 9), **changes):
    return dataclasses.replace(fixed_batch(corpus, config, list(indices)), **changes)


def counts_of(batch):
    lengths = (batch.x_lengths, batch.mel_lengths, batch.cut_lengths, batch.segment_lengths)
    return torch.stack([length.sum() for length in lengths]).float()


def stage_with(config, **changes):
    return dataclasses.replace(config.training.stages[0], **changes)


def forward(model, batch, **changes):
    return model(batch, counts_of(batch), stage_with(model.config, **changes), realign=True)


def reached(model, loss):
    """The parts with a gradient from this loss that is not zero."""
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {
        part
        for part in PARTS
        if any(p.grad is not None and p.grad.abs().max() > 0 for p in getattr(model, part).parameters())
    }


def adversarial(model, out):
    discriminators = nisets.build_discriminators(model.config)
    real, generated = discriminators(out.wav, out.t), discriminators(out.wav_hat, out.t)
    return {
        "loss_adversarial": losses.adversarial_loss(generated),
        "loss_feature": losses.feature_loss(real, generated),
    }


@pytest.mark.parametrize("mu_gradient", [True, False])
@pytest.mark.parametrize("feature_gradient", ["off", "at_one", "on"])
@pytest.mark.parametrize("u", [T_ONE, T_OTHER])
def test_which_loss_reaches_which_part(model, tiny, config, mu_gradient, feature_gradient, u):
    batch = batch_of(tiny, config, u=torch.full((4,), u), true_latent=torch.zeros(4, dtype=torch.bool))
    out = forward(model, batch, mu_gradient=mu_gradient, feature_gradient=feature_gradient)
    through_feature = feature_gradient == "on" or (feature_gradient == "at_one" and u == T_ONE)
    behind_mu = {"text_encoder"} if mu_gradient else set()
    wanted = {
        "loss_duration": {"text_encoder"},
        "loss_prior": {"text_encoder"},
        "loss_score": {"decoder"} | behind_mu,
    }
    sound = {"generator"} | ({"decoder"} | behind_mu if through_feature else set())
    wanted |= {name: sound for name in ("loss_mel", "loss_adversarial", "loss_feature")}
    values = out.losses | adversarial(model, out)
    assert {name: reached(model, loss) for name, loss in values.items()} == wanted


def test_duration_loss_trains_the_duration_predictor_alone(model, tiny, config):
    reached(model, forward(model, batch_of(tiny, config)).losses["loss_duration"])
    for name, parameter in model.text_encoder.named_parameters():
        touched = parameter.grad is not None and parameter.grad.abs().max() > 0
        assert touched == name.startswith("duration."), name


def test_a_true_latent_lets_nothing_through(model, tiny, config):
    batch = batch_of(tiny, config, u=torch.full((4,), T_ONE), true_latent=torch.ones(4, dtype=torch.bool))
    out = forward(model, batch, feature_gradient="on")
    assert reached(model, out.losses["loss_mel"]) == {"generator"}
    assert torch.equal(out.t, torch.zeros(4))


def test_every_parameter_is_reached_by_some_loss(model, tiny, config):
    batch = batch_of(tiny, config, u=torch.tensor([T_ONE, T_OTHER, T_ONE, 0.5]))
    out = forward(model, batch)
    sum((out.losses | adversarial(model, out)).values()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert silent == []


def test_a_stage_without_generator_runs_none(model, tiny, config):
    calls = []
    model.generator.register_forward_hook(lambda *_: calls.append(1))
    out = forward(model, batch_of(tiny, config), parts={"text_encoder": 1e-3, "decoder": 1e-3})
    assert calls == [] and set(out.losses) == {"loss_duration", "loss_prior", "loss_score"}


@pytest.mark.parametrize("frames", [0, 4, 32, 192])
def test_garbage_past_the_ends_changes_no_loss(model, tiny, config, frames):
    model.eval()
    batch = batch_of(tiny, config)
    dirty = dataclasses.replace(
        batch,
        x=torch.nn.functional.pad(batch.x, (0, frames), value=7),
        mel=torch.nn.functional.pad(batch.mel, (0, frames)),
        durations=torch.nn.functional.pad(batch.durations, (0, frames)),
        noise=batch.noise.clone(),
    )
    for i in range(4):
        dirty.x[i, batch.x_lengths[i] :] = 7
        dirty.mel[i, :, batch.mel_lengths[i] :] = 1e3
        dirty.noise[i, :, batch.cut_lengths[i] :] = -1e3
    clean, soiled = forward(model, batch), forward(model, dirty)
    for name, value in clean.losses.items():
        assert soiled.losses[name].item() == pytest.approx(value.item(), abs=1e-5), name
    assert torch.allclose(soiled.wav_hat, clean.wav_hat, atol=1e-5)


def test_a_batch_is_the_sum_of_its_singles(model, tiny, config):
    model.eval()
    batch = batch_of(tiny, config, indices=range(len(TINY_FRAMES) - 1))
    counts = counts_of(batch)
    whole = forward(model, batch)
    total = dict.fromkeys(whole.losses, 0.0)
    for i in range(len(batch.ids)):
        rows = {
            f.name: getattr(batch, f.name)[i : i + 1]
            for f in dataclasses.fields(batch)
            if not isinstance(getattr(batch, f.name), bool)
        }
        full = bool(batch.segment_lengths[i] == config.training.segment_frames)
        cut_full = bool(batch.cut_lengths[i] == config.training.cut_frames)
        single = dataclasses.replace(batch, **rows, cuts_full=cut_full, segments_full=full)
        single.x, single.durations = (s[:, : batch.x_lengths[i]] for s in (single.x, single.durations))
        single.mel = single.mel[:, :, : batch.mel_lengths[i]]
        out = model(single, counts, stage_with(config), realign=True)
        assert torch.allclose(out.wav_hat, whole.wav_hat[i : i + 1], atol=1e-5)
        for name, value in out.losses.items():
            total[name] += value.item()
    total["loss_prior"] -= (len(batch.ids) - 1) * 0.5 * losses.LOG_TWO_PI  # the constant, counted once a call
    for name, value in whole.losses.items():
        assert total[name] == pytest.approx(value.item(), abs=1e-5 * max(1, abs(value.item()))), name


def test_clips_from_two_frames_up_give_finite_gradients(model, tiny, config):
    assert TINY_FRAMES[0] == 2
    out = forward(model, batch_of(tiny, config, indices=(0, 0, 1, 2)))
    sum((out.losses | adversarial(model, out)).values()).backward()
    assert all(torch.isfinite(value) for value in out.losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_one_step_is_the_training_feature_to_the_bit(tiny, config):
    config = with_keys(config, "training", segment_frames=32)
    model = make_model(config).eval()
    batch = batch_of(tiny, config, indices=(9, 8), u=torch.full((2,), T_ONE), true_latent=torch.zeros(2).bool())
    heard, asked = [], []
    model.generator.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    decode = model.denoise
    model.denoise = lambda *args: asked.append(args) or decode(*args)
    with torch.no_grad():
        forward(model, batch)
        r_1, mu, mask, t, f0 = asked[0]
        assert torch.equal(t, torch.ones(2)) and f0 is None
        spoken = mu + model.solve(r_1, mu, mask, 1, "posterior", torch.randn_like)
    assert torch.equal(spoken, heard[0])
    assert torch.equal(spoken, mu + decode(r_1, mu, mask, t)[0])


def test_the_generator_is_given_the_true_latent_where_asked(tiny, config):
    config = with_keys(config, "training", segment_frames=32)
    model = make_model(config).eval()
    chosen = torch.tensor([True, False])
    batch = batch_of(tiny, config, indices=(9, 8), true_latent=chosen, u=torch.full((2,), T_ONE))
    heard = []
    model.generator.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    out = forward(model, batch)
    start = int(batch.cut_starts[0])
    assert torch.equal(heard[0][0], model.latent(batch.mel)[0, :, start : start + 32])
    assert out.t.tolist() == [0.0, 1.0]


def test_realign_searches_and_otherwise_keeps_the_durations_given(model, tiny, config):
    even = batch_of(tiny, config)
    for i, (n_symbols, n_frames) in enumerate(zip(even.x_lengths, even.mel_lengths)):
        even.durations[i, :n_symbols] = 1
        even.durations[i, n_symbols - 1] += n_frames - n_symbols
    stage = stage_with(config)
    given = model.eval()(even, counts_of(even), stage, realign=False)
    searched = model(even, counts_of(even), stage, realign=True)
    assert searched.losses["loss_prior"] < given.losses["loss_prior"]  # the path of the highest likelihood


def diagonal(t_x, t_mel, scale):
    """ln of the beta-binomial of each symbol (rows) in each frame, from its textbook form in scipy."""
    t = np.arange(1, t_mel + 1)
    return betabinom.logpmf(np.arange(t_x)[:, None], t_x - 1, scale * t, scale * (t_mel + 1 - t))


def test_the_prior_and_the_noise_are_in_the_scores_that_the_search_sees(model, monkeypatch):
    generator, lengths = torch.Generator().manual_seed(4), (torch.tensor([3, 5]), torch.tensor([9, 7]))
    mu_x = torch.randn(2, 80, 5, generator=generator)
    z0 = torch.randn(2, 80, 9, generator=generator)
    seen, search = [], nisets.monotonic_align.search
    monkeypatch.setattr(nisets.monotonic_align, "search", lambda *args: seen.append(args[0]) or search(*args))
    plain, scores = model.align(mu_x, z0, *lengths), nisets.frame_log_likelihood(mu_x, z0)
    state = torch.get_rng_state()
    assert torch.equal(seen[-1], scores) and plain.sum(1).tolist() == [9, 7]
    model.align(mu_x, z0, *lengths, 0.0, 0.0)
    assert torch.equal(seen[-1], scores) and torch.equal(torch.get_rng_state(), state)  # off, it draws nothing
    model.align(mu_x, z0, *lengths, 2.0, 0.0)
    for i, (t_x, t_mel) in enumerate(zip(*lengths)):
        prior = torch.from_numpy(diagonal(int(t_x), int(t_mel), 2.0)).float()
        torch.testing.assert_close(seen[-1][i, :t_x, :t_mel], scores[i, :t_x, :t_mel] + prior, atol=1e-4, rtol=1e-5)
    torch.manual_seed(7)
    model.align(mu_x, z0, *lengths, 0.0, 0.3)
    torch.manual_seed(7)
    drawn = torch.randn_like(scores)
    for i, (t_x, t_mel) in enumerate(zip(*lengths)):
        valid = scores[i, :t_x, :t_mel]
        wanted = valid + 0.3 * valid.std(correction=0) * drawn[i, :t_x, :t_mel]
        torch.testing.assert_close(seen[-1][i, :t_x, :t_mel], wanted, atol=1e-4, rtol=1e-5)


def test_training_searches_with_its_switches_and_measuring_without(model, tiny, config, monkeypatch):
    asked, align = [], model.align
    monkeypatch.setattr(model, "align", lambda *args: asked.append(args[4:]) or align(*args))
    model.config = with_keys(config, "alignment", prior_scale=0.5)
    batch = batch_of(tiny, config)
    model(batch, counts_of(batch), stage_with(config), True, 0.25)
    forward(model, batch)
    model.measure(
        batch.x[1:2, : batch.x_lengths[1]], batch.mel[1:2, :, : batch.mel_lengths[1]], batch.f0[1:2], seeded(0)
    )
    assert asked == [(0.5, 0.25), (0.5, 0.0), ()]


def test_the_mel_weight_falls_with_what_is_irreducible_or_is_a_constant(model):
    t = torch.tensor([0.0, 1e-5, 0.3, 1.0])
    weight = model.config.loss.mel * model.mel_weight(t)
    assert weight[0] == 45 and weight[3].item() == pytest.approx(16.9, abs=0.05) and (weight.diff() <= 0).all()
    model.config = with_keys(model.config, "loss", mel=22.0, mel_blur=0.0)
    assert torch.equal(model.config.loss.mel * model.mel_weight(t), torch.full((4,), 22.0))


def test_stretch_repeats_each_mean():
    mu_x = torch.randn(2, 3, 4)
    durations = torch.tensor([[2, 0, 1, 3], [1, 1, 0, 0]])
    mask = torch.tensor([[1.0] * 6, [1.0] * 2 + [0.0] * 4])[:, None]
    mu = nisets.stretch(mu_x, durations, mask)
    assert torch.equal(mu[0], mu_x[0].repeat_interleave(durations[0], dim=1))
    assert torch.equal(mu[1, :, :2], mu_x[1, :, :2]) and torch.equal(mu[1, :, 2:], torch.zeros(3, 4))


def test_frame_log_likelihood_is_the_gaussian_but_for_a_constant_of_the_frame():
    mu_x, z0 = torch.randn(2, 3, 4), torch.randn(2, 3, 5)
    density = torch.distributions.Normal(mu_x[:, :, :, None], 1.0).log_prob(z0[:, :, None]).sum(1)
    difference = density - nisets.frame_log_likelihood(mu_x, z0)
    assert torch.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-5)


def test_predicted_durations_keep_the_total_and_the_mean_of_a_log_normal():
    generator = torch.Generator().manual_seed(0)
    logw, variance = torch.randn(1, 1, 500, generator=generator), torch.tensor(0.4)
    durations = nisets.predict_durations(logw, variance, 1.5)
    wanted = 1.5 * (logw[0, 0].double() + 0.2).exp()
    assert durations.sum().item() == round(wanted.sum().item())
    assert durations.min() == 0 and (durations[0] - wanted).abs().max() < 1
    draws = torch.randn(200_000, generator=generator) * variance.sqrt() + 1.0
    mean = nisets.predict_durations(torch.ones(1, 1, 1000), variance, 1.0).sum().item() / 1000
    assert mean == pytest.approx(draws.exp().mean().item(), rel=0.01)
    assert nisets.predict_durations(torch.full((1, 1, 2), -20.0), variance, 1.0).sum() == 1


def test_pauses_that_no_text_announces_lengthen_all_of_it(model):
    model.eval()
    x = torch.randint(0, 27, (1, 30))

    def durations(pause_scale, length_scale):
        model.pause_scale.fill_(pause_scale)
        return model.synthesise(x, length_scale=length_scale, generator=np.random.default_rng(0)).durations

    assert torch.equal(durations(1.5, 2.0), durations(1.0, 3.0))
    assert durations(1.5, 1.0).sum() > durations(1.0, 1.0).sum()


def test_synthesise_makes_as_many_evaluations_as_steps_and_counts_frames(model):
    model.eval()
    x = torch.randint(0, 27, (1, 12))
    for n, solver in ((1, "posterior"), (2, "dpm2m"), (4, "ddim"), (7, "dpm2m")):
        calls = []
        hook = model.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        spoken = model.synthesise(x, n, solver, generator=np.random.default_rng(0))
        hook.remove()
        assert len(calls) == n == len(grid(n))
        frames = int(spoken.durations.sum())
        assert spoken.wav.shape == (1, 1, frames * model.config.audio.hop_length)
        assert spoken.z0_hat.shape == (1, model.config.n_latents, frames)


def test_bfloat16_networks_leave_float32_losses_close(tiny, config):
    batch = batch_of(tiny, config)
    exact, rough = (forward(make_model(config, amp=amp).eval(), batch) for amp in (False, True))
    for name, value in exact.losses.items():
        assert rough.losses[name].dtype == torch.float32
        assert rough.losses[name].item() == pytest.approx(value.item(), rel=0.1), name
        assert rough.losses[name].item() != value.item() or name == "loss_prior", "nothing ran in bfloat16"
    sum(rough.losses.values()).backward()


def test_config_yaml_has_the_papers_sizes():
    model = NiSETS(configuration.load(), 178)
    millions = {part: sum(p.numel() for p in getattr(model, part).parameters()) / 1e6 for part in PARTS}
    assert millions == pytest.approx({"text_encoder": 7.2, "decoder": 7.6, "generator": 13.9}, abs=0.05)


# Variants: pitch and energy, frame layers, other networks


def variant(name):
    """The tiny model with the options of VARIANTS; where there is pitch and energy, they train."""
    tree = configuration.to_dict(configuration.load("tests/tiny.yaml"))
    for section in SMALL | VARIANTS[name]:
        tree[section] |= SMALL.get(section, {}) | VARIANTS[name].get(section, {})
    if name in WITH_VARIANCE:
        for stage in tree["training"]["stages"]:
            stage["parts"]["variance"] = 1e-3
    if name == "course":
        for stage in tree["training"]["stages"]:
            stage["parts"]["course"] = 1e-3
    return configuration.from_dict(tree)


def make_variant(name):
    model = make_model(variant(name))
    model.f0_mean.fill_(LN_F0[0])
    model.f0_std.fill_(LN_F0[1])
    return model


def drawn_batch(config, x_lengths=(2, 5, 8, 4), mel_lengths=(5, 40, 64, 21), **changes):
    """Noise for clips, with durations, F0 and latents, which no corpus need be read for."""
    generator, training = torch.Generator().manual_seed(1), config.training
    n_items, x_lengths, mel_lengths = len(x_lengths), torch.tensor(x_lengths), torch.tensor(mel_lengths)
    n_symbols, n_frames, n_segment = int(x_lengths.max()), int(mel_lengths.max()), training.segment_frames
    x_mask, mel_mask = sequence_mask(x_lengths), sequence_mask(mel_lengths)
    durations = torch.arange(1, n_symbols + 1).expand(n_items, -1) * x_mask[:, 0]  # 1, 2, ..., and the rest
    durations[torch.arange(n_items), x_lengths - 1] += mel_lengths - durations.sum(1)
    cut_lengths = mel_lengths.clamp(max=training.cut_frames)
    segment_lengths = cut_lengths.clamp(max=n_segment)
    f0 = torch.randn(n_items, 1, n_frames, generator=generator) * LN_F0[1] + LN_F0[0]
    voicing = (torch.rand(n_items, 1, n_frames, generator=generator) < 0.7).float()

    def normal(*shape):
        return torch.randn(n_items, *shape, generator=generator)

    batch = Batch(
        x=torch.randint(1, 27, (n_items, n_symbols), generator=generator) * x_mask[:, 0],
        x_lengths=x_lengths,
        mel=(2 * normal(80, n_frames) - 5) * mel_mask,
        mel_lengths=mel_lengths,
        durations=durations,
        has_durations=True,
        cut_starts=(mel_lengths - cut_lengths) // 2,
        cut_lengths=cut_lengths,
        cuts_full=bool((cut_lengths == training.cut_frames).all()),
        segment_starts=(cut_lengths - segment_lengths) // 3,
        segment_lengths=segment_lengths,
        segments_full=bool((segment_lengths == n_segment).all()),
        wav=0.1 * normal(1, n_segment * HOP) * sequence_mask(segment_lengths * HOP, n_segment * HOP),
        noise=normal(config.n_latents, training.cut_frames),
        u=torch.tensor([T_ONE, T_OTHER, 0.5, T_ONE])[:n_items],
        true_latent=torch.tensor([False, False, True, False])[:n_items],
        ids=[str(i) for i in range(n_items)],
        speaker=torch.zeros(n_items, dtype=torch.int64),
        f0=torch.cat([f0, voicing], dim=1) * mel_mask,
        latent=normal(config.n_latents, n_segment) * sequence_mask(segment_lengths, n_segment),
        latent_t=torch.tensor([1.0, 0.5, 1.0, 0.1])[:n_items],
    )
    return dataclasses.replace(batch, **changes)


def steady_draws(model):
    """Let what the model draws for itself depend on the place in the clip alone, not on the shape of the batch."""
    values_loss, course_loss, generate = model._values_loss, model._course_loss, model.generate
    table = torch.randn(1, 2, 64 * HOP, generator=torch.Generator().manual_seed(2))

    def steady_values_loss(values, c, x_mask, u, noise, n_symbols):
        noise = table[..., : values.shape[-1]].expand_as(values)
        return values_loss(values, c, x_mask, torch.full_like(u, 0.7), noise, n_symbols)

    def steady_course_loss(f0, c, values, place, mask, u, noise, n_frames):
        noise = table[:, :1, : noise.shape[-1]].expand_as(noise)
        return course_loss(f0, c, values, place, mask, torch.full_like(u, 0.7), noise, n_frames)

    def steady_generate(z0_hat, mask=None, **inputs):
        noise = table[:, :1, : z0_hat.shape[-1] * HOP].expand(len(z0_hat), -1, -1)
        return generate(z0_hat, mask, **inputs, noise=noise)

    model._values_loss, model._course_loss, model.generate = steady_values_loss, steady_course_loss, steady_generate
    return model


def loss_names(config, latents):
    """What forward is to give."""
    names = {"loss_mel"} | {f"loss_{name}" for name in ("stft", "phase") if getattr(config.loss, name)}
    if latents != "joint":
        return names
    names |= {"loss_duration", "loss_prior", "loss_score"}
    names |= {"loss_frame"} if config.text_encoder.frame_layers else set()
    names |= {"loss_variance"} if config.variance.kind != "off" else set()
    names |= {"loss_f0", "loss_voicing"} if config.variance.kind == "frame" else set()
    return names | ({"loss_course"} if config.variance.course_layers else set())


def listen(model):
    """What the generator is given from now on: a list of (inputs, mask, keywords)."""
    heard = []

    def keep(_, args, keywords):
        heard.append((*args, keywords))

    model.generator.register_forward_pre_hook(keep, with_kwargs=True)
    return heard


@pytest.mark.parametrize("part", ["variance", "course"])
def test_what_the_text_leaves_open_is_learnt_without_the_rest(part):
    """The same losses as beside the rest, of which nothing runs."""
    model = steady_draws(make_variant("course").eval())
    batch = drawn_batch(model.config)
    stage, counts = stage_with(model.config), counts_of(batch)
    beside = model(batch, counts, stage, realign=False).losses
    alone = dataclasses.replace(stage, parts={part: 1e-3})
    for name in ("encode", "align", "denoise", "generate"):
        setattr(model, name, None)
    out = model(batch, counts, alone, realign=False)
    names = {"variance": {"loss_variance", "loss_f0", "loss_voicing"}, "course": {"loss_course"}}[part]
    assert {name: loss.item() for name, loss in out.losses.items()} == {name: beside[name].item() for name in names}


WITHOUT_MU = [name for name in VARIANTS if name != "phone"]  # mu is known to joint stages alone


@pytest.mark.parametrize(
    ("name", "latents"),
    [(name, "joint") for name in VARIANTS] + [(name, how) for how in ("true", "means") for name in WITHOUT_MU],
)
def test_each_variant_gives_its_losses(name, latents):
    model = make_variant(name)
    batch = drawn_batch(model.config)
    heard = listen(model)
    out = forward(model, batch, latents=latents)
    assert set(out.losses) == loss_names(model.config, latents)
    assert all(loss.shape == () and loss.dtype == torch.float32 and loss.isfinite() for loss in out.losses.values())
    assert out.wav_hat.shape == batch.wav.shape
    z0_hat = heard[0][0][:, 2:] if name == "istft" else heard[0][0][:, : model.config.n_latents]
    mask = sequence_mask(batch.segment_lengths, 8)
    z0 = cut(model.latent(batch.mel), batch.cut_starts + batch.segment_starts, 8)
    true = batch.true_latent | (latents == "true")
    assert torch.equal((z0_hat * mask)[true], (z0 * mask)[true])
    t = {"joint": model.sde.t_from_uniform(batch.u), "true": torch.zeros(4), "means": batch.latent_t}[latents]
    assert torch.equal(out.t, torch.where(true, 0.0, t))
    if latents == "means":
        assert torch.equal(z0_hat[~true], batch.latent[~true])
    if latents == "joint":
        assert ((z0_hat - z0) * mask)[~true].abs().amax((1, 2)).min() > 0.1


def test_the_generator_is_given_its_inputs_in_their_order():
    model = make_variant("source")
    batch, heard = drawn_batch(model.config), listen(model)
    out = forward(model, batch, latents="means")
    inputs, mask, keywords = heard[0]
    assert inputs.shape == (4, 80 + 2 + nisets.T_CHANNELS, 8)
    f0 = cut(batch.f0, batch.cut_starts + batch.segment_starts, 8)
    torch.testing.assert_close(inputs[:, 80:81] * mask, (f0[:, :1] - LN_F0[0]) / LN_F0[1] * mask)
    assert torch.equal(inputs[:, 81:82], f0[:, 1:])
    assert torch.equal(inputs[:, 82:], model.t_embedding(out.t)[:, :, None].expand(-1, -1, 8))
    hertz = keywords["f0"] * mask
    torch.testing.assert_close(hertz, f0[:, :1].exp() * mask, rtol=1e-5, atol=0)
    assert hertz[hertz > 0].min() > 50 and keywords["f0"].min() > 0  # past an end too the source must run


def networks_reached(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    touched = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert {model.part_of(name) for name in touched} <= set(model.parts())
    return {name.split(".")[0] for name in touched}


@pytest.mark.parametrize("feature_gradient", ["off", "on"])
@pytest.mark.parametrize("mu_gradient", [True, False])
@pytest.mark.parametrize("name", ["phone", "source", "istft", "course"])
def test_which_loss_reaches_which_network_of_a_variant(name, mu_gradient, feature_gradient):
    model = make_variant(name)
    batch = drawn_batch(model.config, true_latent=torch.zeros(4, dtype=torch.bool))
    out = forward(model, batch, mu_gradient=mu_gradient, feature_gradient=feature_gradient)
    encoders = {"text_encoder", "frame_encoder"} if model.frame_encoder is not None else {"text_encoder"}
    behind_mu = encoders if mu_gradient else set()
    sound = {"generator"} | ({"decoder"} | behind_mu if feature_gradient == "on" else set())
    wanted = {name: sound for name in ("loss_mel", "loss_stft", "loss_phase", "loss_adversarial", "loss_feature")}
    wanted |= {name: {"variance"} for name in ("loss_variance", "loss_f0", "loss_voicing")}
    wanted |= {"loss_course": {"course"}}
    wanted |= {name: {"text_encoder"} for name in ("loss_duration", "loss_prior")}
    wanted |= {"loss_frame": encoders, "loss_score": {"decoder"} | behind_mu}
    values = out.losses | adversarial(model, out)
    assert {name: networks_reached(model, loss) for name, loss in values.items()} == {
        name: wanted[name] for name in values
    }


@pytest.mark.parametrize("name", ["refined", *WITH_VARIANCE])
def test_every_parameter_of_a_variant_is_reached_by_some_loss(name):
    model = make_variant(name)
    out = forward(model, drawn_batch(model.config))
    sum((out.losses | adversarial(model, out)).values()).backward()
    trainable = [(name, p) for name, p in model.named_parameters() if not name.startswith("compression.")]
    silent = [name for name, p in trainable if p.grad is None or p.grad.abs().max() == 0]
    assert silent == []
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith("compression."))


@pytest.mark.parametrize(("name", "latents"), [(name, "joint") for name in VARIANTS] + [("source", "means")])
@pytest.mark.parametrize("frames", [0, 32])
def test_garbage_past_the_ends_changes_no_loss_of_a_variant(name, latents, frames):
    model = steady_draws(make_variant(name).eval())
    batch = drawn_batch(model.config)
    names = ("x", "mel", "f0", "durations")
    dirty = dataclasses.replace(batch, **{key: F.pad(getattr(batch, key), (0, frames)) for key in names})
    dirty.noise, dirty.latent = batch.noise.clone(), batch.latent.clone()
    for i in range(4):
        dirty.x[i, batch.x_lengths[i] :] = 7
        dirty.mel[i, :, batch.mel_lengths[i] :] = 1e3
        dirty.f0[i, :, batch.mel_lengths[i] :] = 10.0
        dirty.noise[i, :, batch.cut_lengths[i] :] = -1e3
        dirty.latent[i, :, batch.segment_lengths[i] :] = 1e3
    clean, soiled = (forward(model, each, latents=latents) for each in (batch, dirty))
    for key, value in clean.losses.items():
        assert soiled.losses[key].item() == pytest.approx(value.item(), abs=1e-5, rel=1e-5), key
    assert torch.allclose(soiled.wav_hat, clean.wav_hat, atol=1e-5)


@pytest.mark.parametrize("name", ["refined", *WITH_VARIANCE])
def test_a_batch_of_a_variant_is_the_sum_of_its_singles(name):
    model = steady_draws(make_variant(name).eval())
    batch = drawn_batch(model.config)
    counts, whole = counts_of(batch), forward(model, batch)
    total = dict.fromkeys(whole.losses, 0.0)
    for i in range(4):
        tensors = {key: value[i : i + 1] for key, value in vars(batch).items() if isinstance(value, torch.Tensor)}
        for key, lengths in (("x", "x"), ("durations", "x"), ("mel", "mel"), ("f0", "mel")):
            tensors[key] = tensors[key][..., : int(getattr(batch, f"{lengths}_lengths")[i])]
        full, cut_full = (
            bool(getattr(batch, f"{name}_lengths")[i] == size) for name, size in (("segment", 8), ("cut", 32))
        )
        single = dataclasses.replace(batch, **tensors, cuts_full=cut_full, segments_full=full)
        out = model(single, counts, stage_with(model.config), True)
        assert torch.allclose(out.wav_hat, whole.wav_hat[i : i + 1], atol=1e-5)
        for key, value in out.losses.items():
            total[key] += value.item() / (4 if key in ("loss_stft", "loss_phase") else 1)  # the means over the items
    for key in {"loss_prior", "loss_frame"} & set(total):
        total[key] -= 3 * 0.5 * losses.LOG_TWO_PI  # the constant, counted once a call
    for key, value in whole.losses.items():
        assert total[key] == pytest.approx(value.item(), abs=2e-5 * max(1, abs(value.item()))), key


def test_pitch_and_energy_are_those_of_the_durations_that_are_learnt():
    model = make_variant("phone")
    batch = drawn_batch(model.config)
    batch.durations.zero_()  # as a corpus without an alignment gives them
    encoded, searched, drawn = [], [], []
    encode, align, values_loss = model.encode, model.align, model._values_loss
    model.encode = lambda *args: encoded.append(args[2]) or encode(*args)
    model.align = lambda *args: searched.append(align(*args)) or searched[-1]
    model._values_loss = lambda *args: drawn.append(args[0]) or values_loss(*args)
    forward(model, batch)
    mask = sequence_mask(batch.mel_lengths)
    wanted = model.values(model.normalised(batch.mel) * mask, model.conditions(batch.f0) * mask, searched[0])
    assert len(searched) == 1 and searched[0].sum(1).tolist() == batch.mel_lengths.tolist()
    assert torch.equal(encoded[-1], wanted) and torch.equal(drawn[0], wanted)


def test_bfloat16_networks_leave_the_losses_of_a_variant_close():
    model = steady_draws(make_variant("source").eval())
    exact = forward(model, drawn_batch(model.config))
    model.amp = True
    rough = forward(model, drawn_batch(model.config))
    for key, value in exact.losses.items():
        assert rough.losses[key].dtype == torch.float32
        assert rough.losses[key].item() == pytest.approx(value.item(), rel=0.1), key
        assert rough.losses[key].item() != value.item() or key == "loss_prior", "nothing ran in bfloat16"
    sum(rough.losses.values()).backward()


# What the options leave alone


def plain_forward(model, batch, counts):
    """Training as the paper has it, written from the parts: mu constant over a symbol, nothing but it conditions."""
    x_mask, mel_mask = sequence_mask(batch.x_lengths).float(), sequence_mask(batch.mel_lengths).float()
    z0 = (batch.mel - model.latent_mean) / model.latent_std * mel_mask
    mu_x, logw, _ = model.text_encoder(batch.x, x_mask)
    mu = torch.zeros_like(z0)
    for i, row in enumerate(batch.durations):
        mu[i, :, : batch.mel_lengths[i]] = mu_x[i].repeat_interleave(row, dim=1)
    n_cut, n_segment, cut_mask = 32, 8, sequence_mask(batch.cut_lengths, 32).float()
    z0_cut, mu_cut = cut(z0, batch.cut_starts, n_cut), cut(mu, batch.cut_starts, n_cut)
    t, r_0 = model.sde.t_from_uniform(batch.u), z0_cut - mu_cut
    r_t = model.sde.perturb(r_0, batch.noise, t) * cut_mask
    c_skip, c_out, c_in = (each[:, None, None] for each in model.sde.coefficients(t))
    output = model.decoder(c_in * r_t, mu_cut, cut_mask, t)
    z0_hat = mu_cut + (c_skip * r_t + c_out * output) * cut_mask
    segments = cut(z0_hat, batch.segment_starts, n_segment), cut(z0_cut, batch.segment_starts, n_segment)
    feature = torch.where(batch.true_latent[:, None, None], segments[1], segments[0])
    mask = sequence_mask(batch.segment_lengths, n_segment).float()
    wav_hat = model.generator(feature, mask)
    variance = model.sde.posterior_variance(torch.where(batch.true_latent, 0.0, t))
    weight, mels = (
        1 / (1 + variance / model.config.loss.mel_blur),
        (model.full_band(wav_hat), model.full_band(batch.wav)),
    )
    return wav_hat, {
        "loss_duration": losses.duration_loss(logw, batch.durations, x_mask, counts[0]),
        "loss_prior": losses.prior_loss(z0, mu, mel_mask, counts[1]),
        "loss_score": losses.score_loss(output, model.sde.target(r_0, batch.noise, t), cut_mask, counts[2]),
        "loss_mel": losses.mel_loss(*mels, weight, mask, counts[3]),
    }


def test_off_is_the_papers_model_to_the_bit():
    model = make_variant("plain")
    batch = drawn_batch(model.config)
    stage = stage_with(model.config)
    out = model(batch, counts_of(batch), stage, realign=False)
    wav_hat, values = plain_forward(model, batch, counts_of(batch))
    assert torch.equal(out.wav_hat, wav_hat)
    assert {name: loss.item() for name, loss in out.losses.items()} == {name: v.item() for name, v in values.items()}


def test_off_has_no_trace_of_the_options_and_reads_no_f0():
    model = make_variant("plain").eval()
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == set(PARTS)
    assert not any("condition" in name for name in model.state_dict())
    batch = drawn_batch(model.config)
    outs = [
        forward(model, dataclasses.replace(batch, f0=f0, latent=latent))
        for f0, latent in ((batch.f0, batch.latent), (torch.zeros(4, 2, 0), torch.full((4, 80, 0), torch.nan)))
    ]
    assert torch.equal(outs[0].wav_hat, outs[1].wav_hat)
    assert all(torch.equal(outs[0].losses[name], outs[1].losses[name]) for name in outs[0].losses)


def test_every_entry_of_the_state_has_its_part():
    model = make_variant("source")
    owners = {name: model.part_of(name) for name in model.state_dict()}
    of_corpus = {name for name, part in owners.items() if part == ""}
    assert of_corpus == {"latent_mean", "latent_std", "f0_mean", "f0_std", "pause_scale"}
    assert owners["logw_variance"] == "text_encoder"
    for part, modules in model.parts().items():
        n_owned = sum(p.numel() for name, p in model.named_parameters() if owners[name] == part)
        assert n_owned == sum(p.numel() for module in modules for p in module.parameters()) > 0
    assert set(model.parts()) == {"text_encoder", "variance", "decoder", "generator"}
    assert make_variant("plain").part_of("variance.conv_in.weight") == ""


# Pitch and energy


def test_conditions_are_normalised_ln_f0_and_voicing():
    f0 = torch.tensor([[[5.2, 5.45, 4.7], [1.0, 0.0, 1.0]]])
    normalised = make_variant("source").conditions(f0)
    torch.testing.assert_close(normalised, torch.tensor([[[0.0, 1.0, -2.0], [1.0, 0.0, 1.0]]]), atol=1e-5, rtol=0)
    assert make_variant("plain").conditions(f0) is None


def test_values_are_pitch_where_there_is_voice_and_energy_everywhere():
    model = make_variant("phone")
    f0 = torch.tensor([[[1.0, 3.0, 9.0, 5.0, 7.0], [1.0, 1.0, 0.0, 0.0, 0.0]]])
    z0 = torch.arange(5.0).expand(1, 80, -1) + torch.linspace(-1, 1, 80)[:, None]
    wanted = torch.tensor([[[2.0, 6.0], [1.0, 3.5]]])  # the second symbol has no voice: the plain mean
    torch.testing.assert_close(model.values(z0, f0, torch.tensor([[3, 2]])), wanted)


def test_contour_losses_are_those_of_a_loop():
    model, generator = make_variant("istft"), torch.Generator().manual_seed(0)
    f0_hat, logit, f0 = (torch.randn(2, 1, 6, generator=generator) for _ in range(3))
    voicing = torch.tensor([[1.0, 0, 1, 1, 0, 1], [1, 1, 0, 1, 1, 1]])[:, None]
    mask = sequence_mask(torch.tensor([6, 3])).float()
    model.variance.contour = lambda *_: (f0_hat, logit)
    empty = torch.zeros(2, 2, 6)
    found = model._contour_losses(torch.cat([f0, voicing], 1), empty, empty, empty, mask, torch.tensor(20.0))
    squares, entropies = 0.0, 0.0
    for b, n_frames in enumerate((6, 3)):
        for k in range(n_frames):
            probability, voiced = logit[b, 0, k].sigmoid().item(), voicing[b, 0, k].item()
            squares += voiced * (f0_hat[b, 0, k] - f0[b, 0, k]).item() ** 2
            entropies -= math.log(probability if voiced else 1 - probability)
    assert found["loss_f0"].item() == pytest.approx(squares / 20, rel=1e-5)
    assert found["loss_voicing"].item() == pytest.approx(entropies / 20, rel=1e-5)


def draw_values(model, noise, **keys):
    """_draw_values for ten symbols with the noise given, a number or a tensor; temperature: of pitch and energy."""
    if "temperature" in keys:
        keys["pitch_temperature"] = keys["energy_temperature"] = keys.pop("temperature")
    model.config = with_keys(model.config, "variance", **keys)
    x = torch.arange(1, 11)[None]
    return model._draw_values(x, torch.ones(1, 1, 10), lambda like: torch.zeros_like(like) + noise)


def test_one_evaluation_samples_the_posterior_mean():
    model = make_variant("phone").eval()
    noise = torch.randn(1, 2, 10)
    with torch.no_grad():
        c, values = draw_values(model, noise, n_timesteps=1, temperature=0.5)
        t, x_mask = torch.ones(1), torch.ones(1, 1, 10)
        assert torch.equal(c, model.variance.encode(torch.arange(1, 11)[None], x_mask))
        assert torch.equal(values, model.denoise_values(0.5 * noise, c, x_mask, t)[0])
        sde = model.variance_sde
        output = model.variance(sde.coefficients(t)[2] * 0.5 * noise, c, x_mask, t)
        c_skip, c_out, _ = sde.coefficients(t)
    torch.testing.assert_close(values, c_skip * 0.5 * noise + c_out * output)
    assert (sde.sigma_data, sde.parametrisation) == (1.0, "edm")


@pytest.mark.parametrize("n", [5, 8, 100])
def test_more_evaluations_sample_a_gaussian_with_its_mean_and_deviation(n):
    model, mean, deviation = make_variant("phone"), 0.7, 0.6
    times = []

    def analytic(r_t, _c, _mask, t):
        """E[r_0 | r_t] where r_0 ~ N(mean, deviation^2)."""
        alpha, sigma = (each(t)[:, None, None] for each in (model.variance_sde.alpha, model.variance_sde.sigma))
        gain = alpha * deviation**2 / (alpha**2 * deviation**2 + sigma**2)
        times.append(t.item())
        return mean + gain * (r_t - alpha * mean), None

    model.denoise_values = analytic
    # the solver is affine in the noise, so that two draws of it tell the mean and the deviation of all
    at_zero, at_one = (draw_values(model, noise, n_timesteps=n, temperature=1.0)[1] for noise in (0.0, 1.0))
    assert times == pytest.approx(2 * grid(n)) and len(times) == 2 * n
    assert at_zero.mean().item() == pytest.approx(mean, abs=0.02)
    assert (at_one - at_zero).mean().item() == pytest.approx(deviation, abs=0.01)
    cold = draw_values(model, 1.0, n_timesteps=n, temperature=0.5)[1]
    torch.testing.assert_close(cold, at_zero + 0.5 * (at_one - at_zero), atol=1e-4, rtol=0)
    pitch, energy = draw_values(model, 1.0, n_timesteps=n, pitch_temperature=1.0, energy_temperature=0.0)[1].unbind(1)
    assert torch.equal(pitch, at_one[:, 0]) and torch.equal(energy, at_zero[:, 1])  # each has its own
    flat = draw_values(model, 1.0, n_timesteps=1)[1] - draw_values(model, 0.0, n_timesteps=1)[1]
    assert flat.abs().max() < 0.05 * deviation  # one evaluation gives the mean, whatever the noise


# Speaking and measuring with variants

SPOKEN = torch.tensor([[3, 1, 4, 15, 9, 2, 6, 5]])


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def speak(model, seed=0, n_timesteps=1, **keywords):
    return model.synthesise(SPOKEN, n_timesteps, generator=np.random.default_rng(seed), **keywords)


@pytest.mark.parametrize("name", VARIANTS)
def test_one_step_is_the_posterior_mean_of_the_noise_to_the_bit(name):
    model = make_variant(name).eval()
    spoken, generator = speak(model, temperature=0.8), np.random.default_rng(0)
    if model.variance is not None:
        nisets.drawn(generator, (1, 2, SPOKEN.shape[1]))
    if name == "course":
        nisets.drawn(generator, (1, 1, spoken.mu.shape[-1]))
    r_1 = 0.8 * nisets.drawn(generator, spoken.mu.shape)
    t = torch.ones(1)
    with torch.no_grad():
        r_0_hat, _ = model.denoise(r_1, spoken.mu, None, t, spoken.f0)
        noise = nisets.drawn(generator, spoken.wav.shape)
        wav = model.generate(spoken.z0_hat, mu=spoken.mu, f0=spoken.f0, t=t, noise=noise)
    assert torch.equal(spoken.z0_hat, spoken.mu + r_0_hat)
    assert torch.equal(spoken.wav, wav)


@pytest.mark.parametrize("n_timesteps", [1, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_texts_spoken_together_sound_as_each_alone(name, n_timesteps):
    model, solver = make_variant(name).eval(), nisets.default_solver(n_timesteps)
    texts = [SPOKEN, SPOKEN[:, :3], torch.cat([SPOKEN, SPOKEN, SPOKEN], dim=1)]
    plans = [model.plan(x, 0.8, 2.0, np.random.default_rng(i)) for i, x in enumerate(texts)]
    together = model.render(plans, n_timesteps, solver)
    assert len({one.wav.shape[-1] for one in together}) == 3  # there is padding
    for i, (x, one) in enumerate(zip(texts, together)):
        alone = model.synthesise(x, n_timesteps, solver, 0.8, 2.0, np.random.default_rng(i))
        assert torch.equal(one.durations, alone.durations)
        for name_of in ("wav", "z0_hat", "mu"):
            torch.testing.assert_close(getattr(one, name_of), getattr(alone, name_of), atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_timesteps", [1, 3])
@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_streamed_is_what_is_made_at_once(name, n_timesteps, monkeypatch):
    monkeypatch.setattr(speech, "FIRST_CHUNK", 5)
    monkeypatch.setattr(speech, "LONGEST_CHUNK", 40)
    model, solver = make_variant(name).eval(), nisets.default_solver(n_timesteps)
    x, rng = torch.cat([SPOKEN] * 4, dim=1), np.random.default_rng

    def stream():
        plan = model.plan(x, 0.8, 4.0, rng(0))
        return list(model.stream(plan, n_timesteps, solver))

    whole = model.synthesise(x, n_timesteps, solver, 0.8, 4.0, rng(0)).wav
    parts = stream()
    assert [part.shape[-1] for part in parts[:3]] == [5 * HOP, 10 * HOP, 20 * HOP] and len(parts) > 4
    assert (torch.cat(parts, dim=-1) - whole).abs().max() <= 1e-5
    model.generator.reach = 0
    assert (torch.cat(stream(), dim=-1) - whole).abs().max() > 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_the_reach_of_a_generator_is_as_far_as_a_frame_is_heard(name):
    generator, n_frames = make_variant(name).eval().double().generator, 61
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    g = torch.Generator().manual_seed(0)
    n_inputs = generator.conv_in.weight.shape[1]
    x = torch.randn(1, n_inputs, n_frames, generator=g, dtype=torch.float64, requires_grad=True)
    source = {}
    if getattr(generator, "needs_f0", False):
        hertz = torch.full((1, 1, n_frames), 150.0, dtype=torch.float64)
        source = {"f0": hertz, "voicing": torch.ones_like(hertz), "noise": torch.zeros(1, 1, n_frames * HOP)}
    wav = generator(x, None, **source)[0, 0, 30 * HOP : 31 * HOP]
    heard = torch.zeros(n_frames, dtype=torch.bool)
    for sample in (0, HOP // 2, HOP - 1):
        heard |= torch.autograd.grad(wav[sample], x, retain_graph=True)[0].abs().amax((0, 1)) > 0
    assert (heard.nonzero() - 30).abs().max() == generator.reach


@pytest.mark.parametrize("name", VARIANTS)
def test_a_seed_decides_all_that_is_spoken(name):
    model = make_variant(name).eval()
    state = torch.get_rng_state()
    spoken, again, other = speak(model), speak(model), speak(model, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(getattr(spoken, key), getattr(again, key)) for key in ("wav", "z0_hat", "mu", "durations"))
    assert not torch.equal(spoken.wav, other.wav)
    assert torch.equal(spoken.durations, other.durations)  # they are read off before pitch and energy
    assert torch.equal(spoken.mu, other.mu) == (name not in WITH_VARIANCE)
    if model.config.variance.kind == "frame":
        assert spoken.f0.shape == (1, 2, spoken.mu.shape[-1]) and not torch.equal(spoken.f0, other.f0)
        assert set(spoken.f0[:, 1].unique().tolist()) <= {0.0, 1.0}
    else:
        assert spoken.f0 is None


@pytest.mark.parametrize("name", VARIANTS)
def test_without_temperature_nothing_is_left_to_the_seed(name):
    model = make_variant(name).eval()
    model.config = with_keys(model.config, "variance", pitch_temperature=0.0, course_temperature=0.0)
    one, other = (speak(model, seed, temperature=0.0) for seed in (0, 1))
    assert torch.equal(one.mu, other.mu) and torch.equal(one.z0_hat, other.z0_hat)
    assert name in ("source", "course") or torch.equal(one.wav, other.wav)  # whose breath is noise at any temperature
    assert name not in ("source", "course") or torch.equal(one.f0, other.f0)


def test_pitch_reaches_f0_and_the_source_is_given_it_in_hertz():
    model = make_variant("source").eval()
    with torch.no_grad():  # the contour then is the pitch itself
        model.variance.frame_out.weight.zero_()
        model.variance.frame_out.bias.zero_()
    heard, draw = listen(model), model._draw_values
    spoken = speak(model)

    def higher(*args):
        c, values = draw(*args)
        return c, values + torch.tensor([0.5, 0.0])[:, None]

    model._draw_values = higher
    raised = speak(model)
    assert torch.equal(spoken.durations, raised.durations)
    torch.testing.assert_close(raised.f0[:, 0], spoken.f0[:, 0] + 0.5)
    ratio = heard[1][-1]["f0"] / heard[0][-1]["f0"]
    torch.testing.assert_close(ratio, torch.full_like(ratio, math.exp(0.5 * LN_F0[1])), rtol=1e-5, atol=0)
    wanted = (spoken.f0[:, :1] * LN_F0[1] + LN_F0[0]).exp()
    torch.testing.assert_close(heard[0][-1]["f0"], wanted, rtol=1e-5, atol=0)
    assert not torch.equal(raised.mu, spoken.mu)


def test_the_spoken_contour_is_that_of_the_values_along_the_spoken_durations():
    model, drawn = make_variant("istft").eval(), []
    draw, contour = model._draw_values, model.variance.contour
    model._draw_values = lambda *args: drawn.append(draw(*args)) or drawn[-1]

    def centred(*args):
        """The contour, of which half of the frames have a voice."""
        f0, logit = contour(*args)
        return f0, logit - logit.median()

    model.variance.contour = centred
    spoken = speak(model)
    mask, durations = torch.ones(1, 1, spoken.mu.shape[-1]), spoken.durations
    stretched = [each.repeat_interleave(durations[0], dim=2) for each in drawn[0]]
    f0, logit = contour(*stretched, places(durations, mask), mask)
    voiced = logit > logit.median()
    assert torch.equal(spoken.f0[:, 1:], voiced.float()) and 0 < voiced.sum() < voiced.numel()
    assert torch.equal(spoken.f0[:, :1][voiced], f0[voiced])
    lines = pitch.continuous(f0[0, 0].detach().numpy(), voiced[0, 0].numpy(), 0.0)  # as recordings' are given
    assert spoken.f0[0, 0].numpy() == pytest.approx(lines, abs=1e-5)


def course_given():
    """A contour with voice in half of its frames, and what model.mean_contour is given for it."""
    generator = torch.Generator().manual_seed(5)
    given = [torch.randn(1, n, 40, generator=generator) for n in (8, N_VALUES, N_PLACES)]
    return [*given, torch.ones(1, 1, 40)], torch.rand(1, 1, 40, generator=generator) < 0.5


@torch.no_grad()
def test_a_course_is_denoised_about_the_mean_in_its_own_unit():
    """The network's loss is that of EDM, written out, of F0 less the mean contour's line, where there is voice."""
    model = make_variant("course").eval()
    (c, values, place, mask), voiced = course_given()
    f0 = torch.cat([torch.randn(1, 1, 40, generator=torch.Generator().manual_seed(6)), voiced.float()], dim=1)
    noise, u = torch.randn(1, 1, 40), torch.tensor([0.95])
    mean, condition = model.mean_contour(c, values, place, mask, voiced)
    contour = model.variance.contour(c, values, place, mask)[0]
    lines = pitch.continuous(contour[0, 0].numpy(), voiced[0, 0].numpy(), 0.0)
    assert mean[0, 0].numpy() == pytest.approx(lines, abs=1e-5)
    assert torch.equal(condition, torch.cat([c, values, place, mean, voiced.float()], dim=1))

    r_0, t = (f0[:, :1] - mean) / COURSE_STD, model.variance_sde.t_from_uniform(u)
    r_t = model.sde.alpha(t) * r_0 + model.sde.sigma(t) * noise
    r_0_hat, output = model.denoise_course(r_t, condition, mask, t)
    _, c_out, _ = model.variance_sde.coefficients(t)
    weighed = ((r_0_hat - r_0) / c_out).square()[voiced].sum() / 40
    loss = model._course_loss(f0, c, values, place, mask, u, noise, torch.tensor(40.0))
    assert loss.item() == pytest.approx(weighed.item(), rel=1e-4) and output.shape == r_t.shape
    other = torch.where(voiced, f0[:, :1], 9.0), torch.where(voiced, noise, -9.0)  # where there is no voice
    given = (torch.cat([other[0], f0[:, 1:]], dim=1), c, values, place, mask, u, other[1])
    assert model._course_loss(*given, torch.tensor(40.0)).item() == loss.item()


@torch.no_grad()
def test_the_spoken_course_is_what_the_solver_makes_of_the_noise():
    model = make_variant("course").eval()
    model.config = with_keys(model.config, "variance", course_temperature=0.5, course_timesteps=6)
    (c, values, place, mask), _ = course_given()
    model.variance.frame_out.bias[1] = -model.variance.contour(c, values, place, mask)[1].median()  # half has a voice
    mean, condition = model.mean_contour(c, values, place, mask)
    voiced, noise = condition[:, -1:] > 0, torch.randn(1, 1, 40)
    durations = torch.ones(1, 40, dtype=torch.long)
    spoken = model._draw_contour(c, values, durations, place, mask, noise.expand_as)

    def denoise(r_t, t):
        return model.denoise_course(r_t, condition, mask, torch.tensor([t]))[0]

    course = dpm2m(model.variance_sde, denoise, 0.5 * noise, grid(6))
    assert 0 < voiced.sum() < 40 and torch.equal(spoken[:, 1:] > 0, voiced)
    torch.testing.assert_close(spoken[:, :1][voiced], (mean + COURSE_STD * course)[voiced])


@pytest.mark.parametrize(("n", "solver"), [(1, "posterior"), (2, "dpm2m"), (6, "ddim")])
def test_the_generator_is_told_the_t_of_the_last_evaluation(n, solver):
    model = make_variant("source").eval()
    heard, asked, denoise = listen(model), [], model.denoise
    model.denoise = lambda *args: asked.append(args[3]) or denoise(*args)
    speak(model, n_timesteps=n, solver=solver)
    assert len(asked) == n and asked[-1].item() == pytest.approx(grid(n)[-1])
    assert torch.equal(heard[0][0][0, 82:, 0], model.t_embedding(asked[-1])[0])


@pytest.mark.parametrize(("n", "solver"), [(1, "original"), (2, "euler")])
def test_the_generator_is_told_that_a_sample_is_one(n, solver):
    model = make_variant("source").eval()
    heard, asked, denoise = listen(model), [], model.denoise
    model.denoise = lambda *args: asked.append(args[3].item()) or denoise(*args)
    speak(model, n_timesteps=n, solver=solver)
    assert asked == list(solver_times(solver, n))
    assert torch.equal(heard[0][0][0, 82:, 0], model.t_embedding(torch.zeros(1))[0])


@pytest.mark.parametrize(("n", "solver"), [(1, "original"), (3, "sde"), (3, "ancestral")])
def test_solvers_that_draw_noise_draw_each_text_its_own(n, solver):
    model = make_variant("learned").eval()
    texts = [SPOKEN, SPOKEN[:, :3]]
    together = model.render([model.plan(x, generator=np.random.default_rng(i)) for i, x in enumerate(texts)], n, solver)
    for i, (x, one) in enumerate(zip(texts, together)):
        alone = model.synthesise(x, n, solver, generator=np.random.default_rng(i))
        torch.testing.assert_close(one.z0_hat, alone.z0_hat, atol=1e-5, rtol=0)
        assert not torch.equal(alone.z0_hat, model.synthesise(x, n, solver, generator=np.random.default_rng(9)).z0_hat)


def clip_of(model, i=1):
    """One of drawn_batch's clips as validation reads it: x, mel, f0 and durations."""
    batch = drawn_batch(model.config)
    n_symbols, n_frames = int(batch.x_lengths[i]), int(batch.mel_lengths[i])
    f0 = batch.f0[i : i + 1, :, :n_frames] if model.config.with_f0 else torch.zeros(1, 2, 0)
    return batch.x[i, None, :n_symbols], batch.mel[i, None, :, :n_frames], f0, batch.durations[i, None, :n_symbols]


@pytest.mark.parametrize("name", VARIANTS)
def test_means_are_the_posterior_means_along_the_durations_given(name):
    model, times = make_variant(name).eval(), (1.0, 0.5, 0.1)
    x, mel, f0, durations = clip_of(model)
    state = torch.get_rng_state()
    means = model.means(x, mel, f0, durations, times, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert means.shape == (3, model.config.n_latents, mel.shape[-1])

    generator, x_mask, mask = seeded(3), torch.ones(1, 1, x.shape[1]), torch.ones(1, 1, mel.shape[-1])
    with torch.no_grad():
        z0, conditions = model.latent(mel), model.conditions(f0)
        values = None if conditions is None else model.values((mel + 5) / 2, conditions, durations)
        mu_x, _, h = model.text_encoder(x, x_mask, values)
        mu, h = (each.repeat_interleave(durations[0], dim=2) for each in (mu_x, h))
        if model.frame_encoder is not None:
            contour = conditions if model.config.variance.kind == "frame" else None
            mu = mu + model.frame_encoder(h, places(durations, mask), mask, contour)
        for mean, t in zip(means, torch.tensor(times)[:, None]):
            noise = torch.randn(z0.shape, generator=generator)
            r_t = model.sde.alpha(t) * (z0 - mu) + model.sde.sigma(t) * noise
            torch.testing.assert_close(mean, (mu + model.denoise(r_t, mu, mask, t, conditions)[0])[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_measuring_gives_finite_numbers_and_leaves_no_trace(name):
    model = make_variant(name).eval()
    x, mel, f0, _ = clip_of(model)
    state, weights = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
    numbers, durations = model.measure(x, mel, f0, seeded(0))
    again, _ = model.measure(x, mel, f0, seeded(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    wanted = loss_names(model.config, "joint") - {"loss_mel", "loss_stft", "loss_phase", "loss_score"}
    wanted |= {"latent_l1", "duration_ratio", *(f"score_ratio_{t:g}" for t in nisets.PROBED_TIMES)}
    assert set(numbers) == wanted
    assert all(value.isfinite() and torch.equal(value, again[key]) for key, value in numbers.items())
    assert durations.shape == x.shape and durations.sum() == mel.shape[-1] and durations.min() >= 1


@pytest.mark.parametrize("name", ["plain", "pooled", "learned"])
def test_what_is_measured_of_the_latents_is_in_nats_of_log_mel_and_of_edm(name):
    """The one-step distance is that of copy_latent's log-mel; a ratio is the score loss over that of an output 0."""
    model = make_variant(name).eval()
    x, mel, f0, _ = clip_of(model)
    numbers, durations = model.measure(x, mel, f0, seeded(3))
    made = model.copy_latent(x, mel, f0, 1, "posterior", seeded(3))
    if name == "plain":
        torch.testing.assert_close(model.mel(model.latent(mel)), mel)
        z0, generator, mask = (mel + 5) / 2, seeded(3), torch.ones(1, 1, mel.shape[-1])
        noise = torch.randn(z0.shape, generator=generator)
        with torch.no_grad():
            mu = model.encode(x, torch.ones(1, 1, x.shape[1]))[0].repeat_interleave(durations[0], dim=2)
            for t in nisets.PROBED_TIMES:
                at, r_0 = torch.full((1,), t), z0 - mu
                target = model.sde.target(r_0, noise, at)
                r_0_hat, output = model.denoise(model.sde.perturb(r_0, noise, at), mu, mask, at)
                ratio = ((output - target) ** 2).sum() / (target**2).sum()
                assert numbers[f"score_ratio_{t:g}"].item() == pytest.approx(ratio.item(), rel=1e-4)
                if t == 1:  # whose start is not alpha z0 + sigma noise, but differs from it by under a hundredth
                    l1 = 2 * (r_0_hat - r_0).abs().mean().item()
                    assert numbers["latent_l1"].item() == pytest.approx(l1, rel=1e-5)
    assert made.shape == mel.shape
    assert (made - mel).abs().mean().item() == pytest.approx(numbers["latent_l1"].item(), rel=0.05)


@pytest.mark.parametrize("parametrisation", ["edm", "v", "z0"])
def test_the_measured_ratios_do_not_depend_on_what_the_output_means(parametrisation):
    """A network that knows nothing but r_t, as an EDM output of 0 does, has the ratio 1 under each parametrisation."""
    model = make_variant("plain").eval()
    edm = dataclasses.replace(model.sde, parametrisation="edm")
    model.sde = dataclasses.replace(model.sde, parametrisation=parametrisation)

    def knows_nothing(r_in, _mu, _mask, t):
        c_skip, c_out, c_in = (each[:, None, None] for each in model.sde.coefficients(t))
        return (edm.coefficients(t)[0][:, None, None] - c_skip) * r_in / c_in / c_out

    model.decoder.forward = knows_nothing
    numbers, _ = model.measure(*clip_of(model)[:3], seeded(3))
    for t in nisets.PROBED_TIMES:
        assert numbers[f"score_ratio_{t:g}"].item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", WITH_VARIANCE)
def test_the_measured_variance_loss_is_the_mean_over_its_noise_levels(name):
    model = make_variant(name).eval()
    x, mel, f0, _ = clip_of(model)
    numbers, durations = model.measure(x, mel, f0, seeded(0))
    generator, x_mask, n = seeded(0), torch.ones(1, 1, x.shape[1]), nisets.PROBED_DRAWS
    torch.randn(model.latent(mel).shape, generator=generator)
    noise = torch.randn(n, 2, x.shape[1], generator=generator)
    with torch.no_grad():
        values = model.values(model.normalised(mel), model.conditions(f0), durations)
        c, total = model.variance.encode(x, x_mask), 0.0
        for i in range(n):
            t = model.variance_sde.t_from_uniform(torch.tensor([(i + 0.5) / n]))
            r_t = model.variance_sde.perturb(values, noise[i : i + 1], t)
            r_0_hat, _ = model.denoise_values(r_t, c, x_mask, t)
            c_out = model.variance_sde.coefficients(t)[1]
            total += (((r_0_hat - values) / c_out) ** 2).mean().item()  # the score loss is the denoiser's, weighed
    assert numbers["loss_variance"].item() == pytest.approx(total / n, rel=1e-3)
