"""What is measured of held-out clips: against the parts written out, the same each time, and leaving no trace."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_util import config as configuration
from evaluation.held_out import PROBED_DRAWS, PROBED_TIMES, measure, plan_along, teacher_forced, with_pauses
from model.prosody import pitch_and_energy
from tests.test_nisets import VARIANTS, drawn_batch, loss_names, make_model
from text.symbols import FIRST, LAST, MARK_SIZES, ONLY, SYMBOLS, pack, unpack

EACH = pytest.mark.parametrize("name", VARIANTS)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def clip_of(model):
    """One of drawn_batch's clips as validation reads it, x, mel and f0; and its durations."""
    batch = drawn_batch(model.config)
    n_symbols, n_frames = int(batch.x_lengths[1]), int(batch.mel_lengths[1])
    clip = batch.x[1:2, :n_symbols], batch.mel[1:2, :, :n_frames], batch.f0[1:2, :, :n_frames]
    return clip, batch.durations[1:2, :n_symbols]


@EACH
def test_measuring_gives_finite_numbers_and_leaves_no_trace(name):
    model = make_model(name).eval()
    (x, mel, f0), _ = clip_of(model)
    state, weights = torch.get_rng_state(), {key: value.clone() for key, value in model.state_dict().items()}
    numbers, durations = measure(model, (x, mel, f0), seeded(0))
    again, _ = measure(model, (x, mel, f0), seeded(0))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    wanted = loss_names(model.config, "joint") - {"loss_mel", "loss_stft", "loss_phase", "loss_score"}
    assert set(numbers) == wanted | {"latent_l1", "duration_ratio", *(f"score_ratio_{t:g}" for t in PROBED_TIMES)}
    assert all(value.isfinite() and torch.equal(value, again[key]) for key, value in numbers.items())
    assert durations.shape == x.shape and durations.sum() == mel.shape[-1] and durations.min() >= 1


@torch.no_grad()
def test_score_ratios_are_of_edm_and_the_distance_of_latents_is_in_nats_of_log_mel():
    """A ratio is the score loss over that of an output 0; the distance is one step's, as it is heard."""
    model = make_model("plain").eval()
    (x, mel, f0), _ = clip_of(model)
    numbers, durations = measure(model, (x, mel, f0), seeded(3))
    z0, mask = (mel + 5) / 2, torch.ones(1, 1, mel.shape[-1])
    noise = torch.randn(z0.shape, generator=seeded(3))
    mu = model.encode_text(x, torch.ones(1, 1, x.shape[1]))[0].repeat_interleave(durations[0], dim=2)
    for t in PROBED_TIMES:
        at, r_0 = torch.full((1,), t), z0 - mu
        r_0_hat, output = model.denoiser.denoise(model.sde.perturb(r_0, noise, at), at, mask, mu=mu, f0=None)
        target = model.sde.target(r_0, noise, at)
        ratio = ((output - target) ** 2).sum() / (target**2).sum()
        assert numbers[f"score_ratio_{t:g}"].item() == pytest.approx(ratio.item(), rel=1e-4)
        if t == 1:
            assert numbers["latent_l1"].item() == pytest.approx(2 * (r_0_hat - r_0).abs().mean().item(), rel=1e-5)


@EACH
def test_a_copy_is_as_far_from_the_clip_as_is_measured(name):
    """The start of the copy is no alpha z0 + sigma noise, but differs from it by under a hundredth."""
    model = make_model(name).eval()
    clip, _ = clip_of(model)
    made = model.mel(model.decode([plan_along(model, clip, np.random.default_rng(3))])[0].z0_hat)
    far = measure(model, clip, seeded(3))[0]["latent_l1"].item()
    assert made.shape == clip[1].shape and (made - clip[1]).abs().mean().item() == pytest.approx(far, rel=0.05)


@torch.no_grad()
@EACH
def test_durations_are_compared_with_the_alignment_that_is_given(name):
    model = make_model(name).eval()
    (x, mel, f0), durations = clip_of(model)
    middle = x.shape[1] // 2
    ids = torch.cat([x[:, :middle], x[:, :1], x[:, middle:]], dim=1)  # with a pause
    frames = torch.cat([durations[:, :middle], torch.ones_like(x[:, :1]), durations[:, middle:]], dim=1)
    frames[0, frames.argmax()] -= 1
    numbers, found = measure(model, (x, mel, f0), seeded(0), (ids, frames))
    without, path = measure(model, (x, mel, f0), seeded(0))
    assert torch.equal(found, path) and found.shape == x.shape
    changed = {key for key in numbers if not torch.equal(numbers[key], without[key])}
    assert changed == {"loss_duration"}
    contour = model.normalised_f0(f0)
    values = None if model.prosody is None else pitch_and_energy(model.normalised(mel), contour, frames)
    _, logw = model.encode_text(ids, torch.ones(1, 1, ids.shape[1]), values)
    assert numbers["loss_duration"].item() == pytest.approx(((logw - frames.log()) ** 2).mean().item(), rel=1e-5)


@pytest.mark.parametrize("parametrisation", ["edm", "v", "z0"])
def test_score_ratios_do_not_depend_on_what_the_output_means(parametrisation):
    """A network that knows nothing but r_t, as an EDM output of 0 does, has the ratio 1 under each parametrisation."""
    model = make_model("plain").eval()
    edm = dataclasses.replace(model.sde, parametrisation="edm")
    model.sde = model.denoiser.sde = dataclasses.replace(model.sde, parametrisation=parametrisation)

    def knows_nothing(r_in, t, _mask, **_):
        c_skip, c_out, c_in = (each[:, None, None] for each in model.sde.coefficients(t))
        return (edm.coefficients(t)[0][:, None, None] - c_skip) * r_in / c_in / c_out

    model.denoiser.network = knows_nothing
    numbers, _ = measure(model, clip_of(model)[0], seeded(3))
    for t in PROBED_TIMES:
        assert numbers[f"score_ratio_{t:g}"].item() == pytest.approx(1, abs=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", ["convnext1d", "full"])
def test_the_measured_prosody_loss_is_the_mean_over_its_noise_levels(name):
    model = make_model(name).eval()
    (x, mel, f0), _ = clip_of(model)
    numbers, durations = measure(model, (x, mel, f0), seeded(0))
    generator, x_mask, denoiser = seeded(0), torch.ones(1, 1, x.shape[1]), model.prosody.pitch_energy
    torch.randn(model.latent(mel).shape, generator=generator)
    noise = torch.randn(PROBED_DRAWS, 2, x.shape[1], generator=generator)
    values = pitch_and_energy(model.normalised(mel), model.normalised_f0(f0), durations)
    c, total = model.prosody.network.encode(x, x_mask), 0.0
    for i, one in enumerate(noise.split(1)):
        t = denoiser.sde.t_from_uniform(torch.tensor([(i + 0.5) / PROBED_DRAWS]))
        r_0_hat, _ = denoiser.denoise(denoiser.sde.perturb(values, one, t), t, x_mask, c=c)
        total += (((r_0_hat - values) / denoiser.sde.coefficients(t)[1]) ** 2).mean().item()
    assert numbers["loss_prosody"].item() == pytest.approx(total / PROBED_DRAWS, rel=1e-3)


@torch.no_grad()
def test_a_clip_is_aligned_by_the_pitch_and_energy_that_a_path_without_them_gives():
    model = make_model("contour").eval()
    torch.nn.init.normal_(model.text_encoder.condition.weight)
    (x, mel, f0), _ = clip_of(model)
    lengths, x_mask = [torch.tensor([each.shape[-1]]) for each in (x, mel)], torch.ones(1, 1, x.shape[1])
    values, paths = torch.zeros(1, 2, x.shape[1]), []
    for _ in range(2):
        mu_x, _ = model.encode_text(x, x_mask, values)
        paths.append(model.align(mu_x, model.latent(mel), *lengths))
        values = pitch_and_energy(model.normalised(mel), model.normalised_f0(f0), paths[-1])
    assert not torch.equal(*paths) and torch.equal(measure(model, (x, mel, f0), seeded(0))[1], paths[1])


@EACH
@torch.no_grad()
def test_teacher_forced_latents_are_the_posterior_means_along_the_durations_given(name):
    model, times = make_model(name).eval(), (1.0, 0.5, 0.1)
    (x, mel, f0), durations = clip_of(model)
    state = torch.get_rng_state()
    latents = teacher_forced(model, (x, mel, f0), durations, times, seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert latents.shape == (3, model.config.n_latents, mel.shape[-1])

    generator, x_mask, mask = seeded(3), torch.ones(1, 1, x.shape[1]), torch.ones(1, 1, mel.shape[-1])
    z0, f0 = model.latent(mel), model.normalised_f0(f0)
    values = None if f0 is None else pitch_and_energy((mel + 5) / 2, f0, durations)
    mu = model.text_encoder(x, x_mask, values)[0].repeat_interleave(durations[0], dim=2)
    for latent, t in zip(latents, torch.tensor(times)[:, None]):
        r_t = model.sde.alpha(t) * (z0 - mu) + model.sde.sigma(t) * torch.randn(z0.shape, generator=generator)
        wanted = mu + model.denoiser.denoise(r_t, t, mask, mu=mu, f0=f0)[0]
        torch.testing.assert_close(latent, wanted[0])


def test_silences_between_words_become_pauses_where_ids_are_phones():
    a, b, c, d = (SYMBOLS.index(each) for each in "aeio")
    x = torch.tensor([[pack(a, 0, 0, ONLY), pack(b, 0, 0, FIRST), pack(c, 0, 0, LAST), pack(d, 0, 0, ONLY)]])
    space = SYMBOLS.index(" ")
    sounds = torch.randn(len(SYMBOLS), 8, generator=seeded(0)) * 3
    config = configuration.load()
    n = config.shortest_pause
    for silence, wanted in ((n + 3, [a, space, b, c, d]), (n - 1, [a, b, c, d])):
        spoken = [a] * 9 + [space] * silence + [b] * 5 + [c] * 7 + [d] * 6
        model = SimpleNamespace(
            mark_sizes=MARK_SIZES["phones"], prosody=None, config=config, latent=lambda mel: mel,
            encode_text=lambda ids, *_: (sounds[unpack(ids[0])[0]].T[None], None),
        )  # fmt: skip
        found = with_pauses(model, x, sounds[torch.tensor(spoken)].T[None])
        assert unpack(found)[0].tolist() == [wanted]
    model.mark_sizes = ()
    assert with_pauses(model, x, torch.zeros(1, 8, 40)) is x
