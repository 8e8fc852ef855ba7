"""The whole model: which loss reaches which part, that padding does not exist, that speaking is what was trained."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_util import config as configuration
from data_util.audio import cut, sequence_mask
from data_util.config import ROOT
from data_util.dataset import Batch
from model import losses
from model.discriminator import generator_losses
from model.networks import T_CHANNELS, build_discriminators
from model.nisets import NiSETS, drawn, let_through
from model.prosody import N_VALUES, Counts, pitch_and_energy
from model.sde import default_solver, result_time, solver_times
from runtime import chunking
from tests.conftest import HOP
from tests.runs import stirred

T_ONE, T_OTHER = 0.1, 0.9  # u that becomes t = 1, and one that does not
LN_F0 = (5.2, 0.25)  # mean and standard deviation of ln Hz
N_SYMBOLS = 27
SMALL = {"channels": 8, "hidden_channels": 16, "n_layers": 1, "kernel": 3}
PARTS = "text_encoder: 1e-3, decoder: 1e-3, generator: 1e-3, discriminators: 1e-3"
WITH_PROSODY = {"training": {"stages": f"[{{parts: {{{PARTS}, prosody: 1e-3}}}}]"}}

# what each differs in from tests/tiny.yaml, "full" from tests/tiny_frames.yaml over it
VARIANTS = {
    "plain": {},
    "convnext1d": WITH_PROSODY | {
        "prosody": {"kind": "frame", **SMALL, "frame_layers": 1},
        "latent": {"kind": "pca", "channels": 20},
        "decoder": {"kind": "convnext1d", **SMALL},
        "generator": {"inputs": ["z0_hat", "mu"]},
        "loss": {"stft": 1.0},
    },
    "contour": WITH_PROSODY | {
        "prosody": {"kind": "frame", **SMALL, "frame_layers": 1},
        "latent": {"kind": "pooled", "channels": 40},
        "generator": {"inputs": ["z0_hat", "f0"]},
    },
    "full": {"text": {"units": "states"}, "loss": {"stft": 1.0, "phase": 1.0}},
}  # fmt: skip
NETWORKS = {  # that learn
    "plain": {"text_encoder", "decoder", "generator"},
    "convnext1d": {"text_encoder", "prosody.network", "decoder", "generator"},
    "contour": {"text_encoder", "prosody.network", "decoder", "generator"},
    "full": {"text_encoder", "prosody.network", "prosody.residual", "decoder", "generator"},
}
OF_PROSODY = {"loss_prosody": "network", "loss_f0": "network", "loss_voicing": "network",
              "loss_f0_residual": "residual"}  # fmt: skip


def variant(name, **sections):
    """The configuration of a variant, without dropout; sections: more keys, by name."""
    values = {("text_encoder", "dropout"): 0.0, ("text_encoder", "prenet_dropout"): 0.0}
    for keys_of in (VARIANTS[name], {} if name == "plain" else {"prosody": {"dropout": 0.0}}, sections):
        values |= {(section, key): value for section, keys in keys_of.items() for key, value in keys.items()}
    overlays = [ROOT / "tests/tiny.yaml"] + [ROOT / "tests/tiny_frames.yaml"] * (name == "full")
    return configuration.load(overlays, [f"{section}.{key}={value}" for (section, key), value in values.items()])


def make_model(name, **sections):
    """A variant with random weights, none of which is at zero, as of a corpus."""
    model = stirred(variant(name, **sections), N_SYMBOLS, 0.1)
    for statistic, value in (("latent_mean", -5.0), ("latent_std", 2.0), ("f0_mean", LN_F0[0]), ("f0_std", LN_F0[1])):
        getattr(model, statistic).fill_(value)
    if model.compression is not None:  # whatever corpus it may have been fitted on
        torch.nn.init.orthogonal_(model.compression.encode_matrix)
        model.compression.decode_matrix.copy_(model.compression.encode_matrix.T)
    return model


def drawn_batch(config, x_lengths=(2, 5, 8, 4), mel_lengths=(5, 40, 64, 21), **changes):
    """Noise for clips, with durations, F0 and latents, which no corpus need be read for."""
    generator, training = torch.Generator().manual_seed(1), config.training
    n_items, x_lengths, mel_lengths = len(x_lengths), torch.tensor(x_lengths), torch.tensor(mel_lengths)
    n_symbols, n_frames, n_segment = int(x_lengths.max()), int(mel_lengths.max()), training.segment_frames
    x_mask, mel_mask = sequence_mask(x_lengths), sequence_mask(mel_lengths)
    durations = torch.ones(n_items, n_symbols, dtype=torch.long) * x_mask[:, 0]
    durations[torch.arange(n_items), x_lengths - 1] += mel_lengths - x_lengths
    cut_lengths = mel_lengths.clamp(max=training.cut_frames)
    segment_lengths = cut_lengths.clamp(max=n_segment)
    f0 = torch.randn(n_items, 1, n_frames, generator=generator) * LN_F0[1] + LN_F0[0]
    voicing = (torch.rand(n_items, 1, n_frames, generator=generator) < 0.7).float()

    def normal(*shape):
        return torch.randn(n_items, *shape, generator=generator)

    batch = Batch(
        x=torch.randint(1, N_SYMBOLS, (n_items, n_symbols), generator=generator) * x_mask[:, 0],
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
        f0=torch.cat([f0, voicing], dim=1) * mel_mask if config.with_f0 else torch.zeros(n_items, 2, 0),
        latent=normal(config.n_latents, n_segment) * sequence_mask(segment_lengths, n_segment),
        latent_t=torch.tensor([1.0, 0.5, 1.0, 0.1])[:n_items],
    )
    return dataclasses.replace(batch, **changes)


@pytest.fixture
def steady(monkeypatch):
    """What a model draws for itself depends on the place in the clip alone, not on the shape of the batch."""
    table = torch.randn(1, 2, 64 * HOP, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(
        torch, "randn_like", lambda like: table[:, : like.shape[1], : like.shape[-1]].expand_as(like).clone()
    )
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, 0.7))


def counts_of(batch):
    lengths = (batch.x_lengths, batch.mel_lengths, batch.cut_lengths, batch.segment_lengths)
    return Counts(*(length.sum().float() for length in lengths))


def stage_with(model, **changes):
    return dataclasses.replace(model.config.training.stages[0], **changes)


def forward(model, batch, realign=True, **changes):
    return model(batch, counts_of(batch), stage_with(model, **changes), realign)


def adversarial(model, out):
    pair = generator_losses(build_discriminators(model.config), out.wav, out.wav_hat, out.t, amp=False)
    return dict(zip(("loss_adversarial", "loss_feature"), pair))


def listen(model):
    """What the generator is given from now on: a list of (features, mask, source)."""
    heard = []
    model.generator.register_forward_pre_hook(lambda _, args: heard.append(args))
    return heard


def spied(monkeypatch, owner, name):
    """The arguments that a function is called with from now on, and what it gives: a list of (args, keywords, out)."""
    calls, function = [], getattr(owner, name)

    def call(*args, **keywords):
        calls.append((args, keywords, function(*args, **keywords)))
        return calls[-1][2]

    monkeypatch.setattr(owner, name, call)
    return calls


# Training: losses


def loss_names(config, latents):
    """What forward is to give."""
    names = {"loss_mel"} | {f"loss_{name}" for name in ("stft", "phase") if getattr(config.loss, name)}
    if latents != "joint":
        return names
    names |= {"loss_duration", "loss_prior", "loss_score"}
    names |= {"loss_prosody", "loss_f0", "loss_voicing"} if config.prosody.kind != "none" else set()
    return names | ({"loss_f0_residual"} if config.has_f0_residual else set())


WITHOUT_MU = [name for name in VARIANTS if name != "convnext1d"]  # mu is known to joint stages alone


@pytest.mark.parametrize(
    ("name", "latents"),
    [(name, "joint") for name in VARIANTS] + [(name, how) for how in ("true", "gta") for name in WITHOUT_MU],
)
def test_each_variant_gives_its_losses_and_each_kind_of_latents_to_the_generator(name, latents):
    model = make_model(name)
    batch, heard = drawn_batch(model.config), listen(model)
    out = forward(model, batch, latents=latents)
    assert set(out.losses) == loss_names(model.config, latents)
    assert all(loss.shape == () and loss.dtype == torch.float32 and loss.isfinite() for loss in out.losses.values())
    assert out.wav_hat.shape == batch.wav.shape
    z0_hat, mask = heard[0][0][:, : model.config.n_latents], sequence_mask(batch.segment_lengths, 8)
    z0 = cut(model.latent(batch.mel), batch.cut_starts + batch.segment_starts, 8)
    true = batch.true_latent | (latents == "true")
    assert torch.equal((z0_hat * mask)[true], (z0 * mask)[true])
    t = {"joint": model.sde.t_from_uniform(batch.u), "true": torch.zeros(4), "gta": batch.latent_t}[latents]
    assert torch.equal(out.t, torch.where(true, 0.0, t))
    if latents == "gta":
        assert torch.equal(z0_hat[~true], batch.latent[~true])
    if latents == "joint":
        assert ((z0_hat - z0) * mask)[~true].abs().amax((1, 2)).min() > 0.1


def test_the_generator_is_given_its_inputs_in_their_order():
    model = make_model("full")
    batch, heard = drawn_batch(model.config), listen(model)
    out = forward(model, batch, latents="gta")
    features, mask, source = heard[0]
    assert features.shape == (4, 80 + 2 + T_CHANNELS, 8)
    f0 = cut(batch.f0, batch.cut_starts + batch.segment_starts, 8)
    torch.testing.assert_close(features[:, 80:81] * mask, (f0[:, :1] - LN_F0[0]) / LN_F0[1] * mask)
    assert torch.equal(features[:, 81:82], f0[:, 1:]) and torch.equal(source.voicing, f0[:, 1:])
    assert torch.equal(features[:, 82:], model.t_embedding(out.t)[:, :, None].expand(-1, -1, 8))
    torch.testing.assert_close(source.f0 * mask, f0[:, :1].exp() * mask, rtol=1e-5, atol=0)
    assert source.f0.min() > 0 and torch.equal(source.recording, batch.wav)  # past an end too the source must run


@pytest.mark.usefixtures("steady")
def test_pitch_and_energy_are_those_of_the_durations_that_are_learnt(monkeypatch):
    model = make_model("convnext1d")
    batch = drawn_batch(model.config)
    batch.durations.zero_()  # as a corpus without an alignment gives them
    encoded, searched = spied(monkeypatch, model, "encode_text"), spied(monkeypatch, model, "align")
    learnt = spied(monkeypatch, model.prosody, "pitch_energy_loss")
    forward(model, batch)
    mask, ((_, _, durations),) = sequence_mask(batch.mel_lengths), searched
    wanted = pitch_and_energy(model.normalised(batch.mel) * mask, model.normalised_f0(batch.f0) * mask, durations)
    assert durations.sum(1).tolist() == batch.mel_lengths.tolist()
    assert torch.equal(encoded[-1][0][2], wanted) and torch.equal(learnt[0][0][0], wanted)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("part", ["prosody", "f0_residual"])
def test_prosody_that_trains_alone_has_the_losses_that_it_has_beside_the_rest_of_which_nothing_runs(part):
    model = make_model("full").eval()
    batch = drawn_batch(model.config)
    beside = forward(model, batch, realign=False).losses
    for name in ("encode_text", "align", "vocode"):
        setattr(model, name, None)
    out = forward(model, batch, realign=False, parts={part: 1e-3})
    names = {"prosody": {"loss_prosody", "loss_f0", "loss_voicing"}, "f0_residual": {"loss_f0_residual"}}[part]
    assert {name: loss.item() for name, loss in out.losses.items()} == {name: beside[name].item() for name in names}


def test_a_stage_without_generator_runs_none():
    model = make_model("plain")
    model.vocode = None
    out = forward(model, drawn_batch(model.config), parts={"text_encoder": 1e-3, "decoder": 1e-3})
    assert set(out.losses) == {"loss_duration", "loss_prior", "loss_score"} and out.wav is None


# Training: gradients


def owner(name):
    """The network, of NETWORKS, that a parameter belongs to."""
    return ".".join(name.split(".")[: 1 + name.startswith("prosody")])


def networks_reached(model, loss):
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {owner(name) for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}


THROUGH = [("off", T_ONE, False), ("at_one", T_OTHER, False), ("at_one", T_ONE, True), ("on", T_OTHER, True)]


@pytest.mark.parametrize(
    ("feature_gradient", "reached"), [("off", []), ("at_one", [1.0]), ("on", [1.0, 0.999, 0.95, 0.5, 0.0])]
)
def test_the_waveforms_losses_pass_by_the_t_of_each_item(feature_gradient, reached):
    t, z0_hat = torch.tensor([1.0, 0.999, 0.95, 0.5, 0.0]), torch.ones(5, 2, 3, requires_grad=True)
    passed = let_through(z0_hat, t, feature_gradient)
    assert torch.equal(passed, z0_hat)
    if reached:
        passed.sum().backward()
        wanted = torch.tensor([float(each in reached) for each in t])[:, None, None]
        assert torch.equal(z0_hat.grad, wanted.expand(5, 2, 3))
    else:
        assert not passed.requires_grad


@pytest.mark.parametrize(
    ("name", "mu_gradient", "feature_gradient", "u", "through"),
    [("plain", mu, *case) for mu in (True, False) for case in THROUGH]
    + [("full", mu, *case) for mu in (True, False) for case in (THROUGH[0], THROUGH[3])]
    + [
        (name, mu, *case)
        for name in ("convnext1d", "contour")
        for mu, case in ((True, THROUGH[3]), (False, THROUGH[0]))
    ]
    + [("convnext1d", True, *THROUGH[0])],  # whose vocoder reads mu
)
def test_which_loss_reaches_which_network(name, mu_gradient, feature_gradient, u, through):
    model = make_model(name)
    batch = drawn_batch(model.config, u=torch.full((4,), u), true_latent=torch.zeros(4, dtype=torch.bool))
    out = forward(model, batch, mu_gradient=mu_gradient, feature_gradient=feature_gradient)
    behind_mu = {"text_encoder"} if mu_gradient else set()
    sound = {"generator"} | ({"decoder"} | behind_mu if through else set())
    wanted = {name: sound for name in ("loss_mel", "loss_stft", "loss_phase", "loss_adversarial", "loss_feature")}
    wanted |= {name: {f"prosody.{network}"} for name, network in OF_PROSODY.items()}
    wanted |= {name: {"text_encoder"} for name in ("loss_duration", "loss_prior")}
    wanted |= {"loss_score": {"decoder"} | behind_mu}
    values = out.losses | adversarial(model, out)
    assert {key: networks_reached(model, loss) for key, loss in values.items()} == {key: wanted[key] for key in values}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_is_reached_by_some_loss_and_all_is_finite_from_two_frames_up(name):
    model = make_model(name)
    assert {owner(key) for key, _ in model.named_parameters()} == NETWORKS[name]
    for lengths in ({"x_lengths": (1, 1, 2, 3), "mel_lengths": (2, 2, 9, 5)}, {}):
        model.zero_grad()
        out = forward(model, drawn_batch(model.config, **lengths))
        sum((out.losses | adversarial(model, out)).values()).backward()
        assert all(value.isfinite() for value in out.losses.values())
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert [key for key, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


# Training: padding, batches, precision


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(("name", "latents"), [*((name, "joint") for name in VARIANTS), ("full", "gta")])
@pytest.mark.parametrize("frames", [0, 32])
def test_a_batch_is_the_sum_of_its_singles_whatever_stands_past_their_ends(name, latents, frames):
    model = make_model(name).eval()
    batch = drawn_batch(model.config)
    dirty = {key: F.pad(getattr(batch, key), (0, frames)) for key in ("x", "mel", "f0", "durations")}
    dirty = dataclasses.replace(batch, **dirty, noise=batch.noise.clone(), latent=batch.latent.clone())
    for i in range(4):
        dirty.x[i, batch.x_lengths[i] :] = 7
        dirty.mel[i, :, batch.mel_lengths[i] :] = 1e3
        dirty.f0[i, :, batch.mel_lengths[i] :] = 10.0
        dirty.noise[i, :, batch.cut_lengths[i] :] = -1e3
        dirty.latent[i, :, batch.segment_lengths[i] :] = 1e3
    counts, whole = counts_of(batch), forward(model, dirty, latents=latents)
    total = dict.fromkeys(whole.losses, 0.0)
    for i in range(4):
        rows = {key: value[i : i + 1] for key, value in vars(batch).items() if isinstance(value, torch.Tensor)}
        for key, lengths in (("x", "x"), ("durations", "x"), ("mel", "mel"), ("f0", "mel")):
            rows[key] = rows[key][..., : int(getattr(batch, f"{lengths}_lengths")[i])]
        full = {f"{key}s_full": bool(rows[f"{key}_lengths"] == n) for key, n in (("cut", 32), ("segment", 8))}
        out = model(dataclasses.replace(batch, **rows, **full), counts, stage_with(model, latents=latents), True)
        assert torch.allclose(out.wav_hat, whole.wav_hat[i : i + 1], atol=1e-5)
        for key, value in out.losses.items():
            total[key] += value.item() / (4 if key in ("loss_stft", "loss_phase") else 1)  # the means over the items
    if latents == "joint":
        total["loss_prior"] -= 3 * 0.5 * losses.LOG_TWO_PI  # the constant, counted once a call
    for key, value in whole.losses.items():
        assert total[key] == pytest.approx(value.item(), abs=2e-5 * max(1, abs(value.item()))), key


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("name", ["plain", "full"])
def test_bfloat16_networks_leave_float32_losses_close(name):
    model = make_model(name).eval()
    batch = drawn_batch(model.config)
    exact = forward(model, batch)
    model.set_precision(True)
    rough = forward(model, batch)
    for key, value in exact.losses.items():
        assert rough.losses[key].dtype == torch.float32
        assert rough.losses[key].item() == pytest.approx(value.item(), rel=0.1), key
        assert rough.losses[key].item() != value.item() or key == "loss_prior", "nothing ran in bfloat16"
    sum(rough.losses.values()).backward()


# The paper's model


def plain_forward(model, batch, counts):
    """Training as the paper has it, written from the parts: mu constant over a symbol, nothing but it conditions."""
    x_mask, mel_mask = sequence_mask(batch.x_lengths).float(), sequence_mask(batch.mel_lengths).float()
    z0 = (batch.mel - model.latent_mean) / model.latent_std * mel_mask
    mu_x, logw = model.text_encoder(batch.x, x_mask)
    mu = torch.zeros_like(z0)
    for i, row in enumerate(batch.durations):
        mu[i, :, : batch.mel_lengths[i]] = mu_x[i].repeat_interleave(row, dim=1)
    n_cut, n_segment, cut_mask = 32, 8, sequence_mask(batch.cut_lengths, 32).float()
    z0_cut, mu_cut = cut(z0, batch.cut_starts, n_cut), cut(mu, batch.cut_starts, n_cut)
    t, r_0 = model.sde.t_from_uniform(batch.u), z0_cut - mu_cut
    r_t = model.sde.perturb(r_0, batch.noise, t) * cut_mask
    c_skip, c_out, c_in = (each[:, None, None] for each in model.sde.coefficients(t))
    output = model.decoder(c_in * r_t, t, cut_mask, mu_cut)
    z0_hat = mu_cut + (c_skip * r_t + c_out * output) * cut_mask
    segments = cut(z0_hat, batch.segment_starts, n_segment), cut(z0_cut, batch.segment_starts, n_segment)
    feature = torch.where(batch.true_latent[:, None, None], segments[1], segments[0])
    mask = sequence_mask(batch.segment_lengths, n_segment).float()
    wav_hat = model.generator(feature, mask)
    mels = [*map(model.full_band, (wav_hat, batch.wav))]
    return wav_hat, {
        "loss_duration": losses.duration_loss(logw, batch.durations, x_mask, counts.symbols),
        "loss_prior": losses.prior_loss(z0, mu, mel_mask, counts.frames),
        "loss_score": losses.score_loss(output, model.sde.target(r_0, batch.noise, t), cut_mask, counts.cut_frames),
        "loss_mel": losses.mel_loss(*mels, mask, counts.segment_frames),
    }


def test_the_plain_variant_is_the_papers_model_to_the_bit():
    model = make_model("plain")
    batch = drawn_batch(model.config)
    out = forward(model, batch, realign=False)
    wav_hat, values = plain_forward(model, batch, counts_of(batch))
    assert torch.equal(out.wav_hat, wav_hat)
    assert {name: loss.item() for name, loss in out.losses.items()} == {name: v.item() for name, v in values.items()}


def test_config_yaml_has_the_papers_sizes():
    model = NiSETS(configuration.load(), 178)
    millions = {name: sum(p.numel() for p in getattr(model, name).parameters()) / 1e6 for name in NETWORKS["plain"]}
    assert millions == pytest.approx({"text_encoder": 7.2, "decoder": 7.6, "generator": 13.8}, abs=0.05)


def test_one_step_is_the_training_feature_to_the_bit(monkeypatch):
    model = make_model("plain", training={"segment_frames": 32}).eval()
    batch = drawn_batch(model.config, (8, 5), (64, 40), u=torch.full((2,), T_ONE), true_latent=torch.zeros(2).bool())
    heard, asked = listen(model), spied(monkeypatch, model.denoiser, "denoise")
    with torch.no_grad():
        forward(model, batch)
        ((r_1, t, mask), conditions, (r_0_hat, _)) = asked[0]
        assert torch.equal(t, torch.ones(2)) and conditions["f0"] is None and mask is None
        spoken = conditions["mu"] + model.denoiser.sample(r_1, 1, "posterior", mask, **conditions)
    assert torch.equal(spoken, heard[0][0]) and torch.equal(spoken, conditions["mu"] + r_0_hat)


# Speaking

SPOKEN = torch.tensor([[3, 1, 4, 15, 9, 2, 6, 5]])


def speak(model, seed=0, n_timesteps=1, **keywords):
    return model.synthesise(SPOKEN, n_timesteps, generator=np.random.default_rng(seed), **keywords)


@torch.no_grad()
@pytest.mark.parametrize("name", VARIANTS)
def test_one_step_is_the_posterior_mean_of_the_noise_to_the_bit(name):
    model = make_model(name).eval()
    spoken, generator = speak(model, temperature=0.8), np.random.default_rng(0)
    assert spoken.wav.shape[-1] == HOP * spoken.mu.shape[-1] == HOP * spoken.durations.sum()
    if model.prosody is not None:
        drawn(generator, (1, N_VALUES, SPOKEN.shape[1]))
    if name == "full":
        drawn(generator, (1, 1, spoken.mu.shape[-1]))
    r_1, t = 0.8 * drawn(generator, spoken.mu.shape), torch.ones(1)
    r_0_hat, _ = model.denoiser.denoise(r_1, t, None, mu=spoken.mu, f0=spoken.f0)
    assert torch.equal(spoken.z0_hat, spoken.mu + r_0_hat)
    source = model.source(spoken.f0, drawn(generator, spoken.wav.shape))
    features = model.vocoder_features(spoken.z0_hat, t, spoken.mu, spoken.f0)
    assert torch.equal(spoken.wav, model.vocode(features, None, source))


SOLVED = [(name, 1, "posterior") for name in VARIANTS] + [("full", 3, "dpm2m"), ("plain", 1, "original"),
          ("plain", 3, "sde"), ("contour", 3, "ancestral")]  # fmt: skip


@pytest.mark.parametrize(("name", "n", "solver"), SOLVED)
def test_texts_spoken_together_sound_as_each_alone(name, n, solver):
    """Also where the solver draws noise, each text its own."""
    model = make_model(name).eval()
    texts = [SPOKEN, SPOKEN[:, :3], torch.cat([SPOKEN, SPOKEN, SPOKEN], dim=1)]
    plans = [model.plan(x, 0.8, 2.0, np.random.default_rng(i)) for i, x in enumerate(texts)]
    together = model.decode(plans, n, solver)
    assert len({one.wav.shape[-1] for one in together}) == 3  # there is padding
    for i, (x, one) in enumerate(zip(texts, together)):
        alone = model.synthesise(x, n, solver, 0.8, 2.0, np.random.default_rng(i))
        assert torch.equal(one.durations, alone.durations)
        for key in ("wav", "z0_hat", "mu"):
            torch.testing.assert_close(getattr(one, key), getattr(alone, key), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "n"), [*((name, 1) for name in VARIANTS), ("full", 3)])
def test_what_is_streamed_is_what_is_made_at_once(name, n, monkeypatch):
    monkeypatch.setattr(chunking, "FIRST_CHUNK", 5)
    monkeypatch.setattr(chunking, "LONGEST_CHUNK", 40)
    model, solver = make_model(name).eval(), default_solver(n)
    x, rng = torch.cat([SPOKEN] * 4, dim=1), np.random.default_rng

    def stream():
        return list(model.stream(model.plan(x, 0.8, 4.0, rng(0)), n, solver))

    whole = model.synthesise(x, n, solver, 0.8, 4.0, rng(0)).wav
    parts = stream()
    assert [part.shape[-1] for part in parts[:3]] == [5 * HOP, 10 * HOP, 20 * HOP] and len(parts) > 4
    assert (torch.cat(parts, dim=-1) - whole).abs().max() <= 1e-5
    model.generator.reach = 0
    assert (torch.cat(stream(), dim=-1) - whole).abs().max() > 1e-4


@pytest.mark.parametrize("name", VARIANTS)
def test_a_seed_decides_all_that_is_spoken_and_without_temperature_nothing(name):
    model = make_model(name).eval()
    state = torch.get_rng_state()
    spoken, again, other = speak(model), speak(model), speak(model, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(getattr(spoken, key), getattr(again, key)) for key in ("wav", "z0_hat", "mu", "durations"))
    assert not torch.equal(spoken.wav, other.wav)
    assert torch.equal(spoken.durations, other.durations)  # they are read off before pitch and energy
    assert torch.equal(spoken.mu, other.mu) == (name == "plain")
    if model.prosody is not None:
        assert spoken.f0.shape == (1, 2, spoken.mu.shape[-1]) and not torch.equal(spoken.f0, other.f0)
        assert set(spoken.f0[:, 1].unique().tolist()) <= {0.0, 1.0}
        cold = {"pitch_temperature": 0.0} | ({"residual_temperature": 0.0} if name == "full" else {})
        model.prosody.sizes = dataclasses.replace(model.prosody.sizes, **cold)
    one, other = (speak(model, seed, temperature=0.0) for seed in (0, 1))
    assert torch.equal(one.mu, other.mu) and torch.equal(one.z0_hat, other.z0_hat)
    assert torch.equal(one.wav, other.wav) == (name != "full")  # whose breath is noise at any temperature


@pytest.mark.parametrize(("n", "solver"), [(1, "posterior"), (2, "dpm2m"), (6, "ddim"), (1, "original"), (2, "euler")])
def test_evaluations_are_as_many_as_asked_for_and_the_generator_is_told_the_t_of_the_result(n, solver, monkeypatch):
    """That of the last evaluation, or 0 of what is a sample."""
    model = make_model("full").eval()
    heard, asked = listen(model), spied(monkeypatch, model.denoiser, "denoise")
    speak(model, n_timesteps=n, solver=solver)
    assert [args[1].item() for args, _, _ in asked] == pytest.approx(solver_times(solver, n))
    told = model.t_embedding(torch.tensor([result_time(solver, n)]))[0]
    assert torch.equal(heard[0][0][0, 82:, 0], told)


def test_pauses_that_no_text_announces_lengthen_all_of_it_and_given_ones_stay():
    model = make_model("plain").eval()
    x = torch.randint(0, N_SYMBOLS, (1, 30))

    def durations(pause_scale, length_scale, pauses=None):
        model.pause_scale.fill_(pause_scale)
        return model.plan(x, 1.0, length_scale, np.random.default_rng(0), pauses).durations

    assert torch.equal(durations(1.5, 2.0), durations(1.0, 3.0))
    assert durations(1.5, 1.0).sum() > durations(1.0, 1.0).sum()
    given, free = durations(1.0, 3.0, {4: 17}), durations(1.0, 3.0)
    assert given[0, 4] == 17 and (given != free).sum() <= 1
