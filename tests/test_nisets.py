"""The whole model: which loss reaches which part, that padding does not exist, that speaking is what was trained."""

import dataclasses

import pytest
import torch

from data_util import config as configuration
from data_util.dataset import fixed_batch
from model import losses, nisets
from model.nisets import NiSETS
from model.sde import grid
from tests.conftest import TINY_FRAMES, with_keys

PARTS = ("text_encoder", "decoder", "generator")
T_ONE, T_OTHER = 0.1, 0.9  # u that becomes t = 1, and one that does not


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
        single = dataclasses.replace(batch, **rows, segments_full=full)
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
        r_1, mu, mask, t = asked[0]
        assert torch.equal(t, torch.ones(2))
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


def test_synthesise_makes_as_many_evaluations_as_steps_and_counts_frames(model):
    model.eval()
    x = torch.randint(0, 27, (1, 12))
    for n, solver in ((1, "posterior"), (2, "dpm2m"), (4, "ddim"), (7, "dpm2m")):
        calls = []
        hook = model.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        spoken = model.synthesise(x, n, solver, generator=torch.Generator().manual_seed(0))
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
