"""What all networks have in common: padding does not exist, items know nothing of each other, everything learns."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from data_util.audio import sequence_mask
from model.alignment import N_POSITIONS
from model.convnext import ConvNeXtScore, ConvNeXtVocoder
from model.hifigan import HiFiGAN
from model.prosody import N_VALUES, F0ResidualNetwork, Frames, ProsodyNetwork
from model.text_encoder import TextEncoder
from model.unet import UNet
from model.vocoder import Source
from tests.conftest import HOP
from tests.test_nisets import LN_F0, VARIANTS, make_model

N_SYMBOLS, N_LATENTS, CHANNELS = 9, 8, 12
BLOCKS = {"channels": CHANNELS, "hidden_channels": 16, "n_layers": 2, "kernel": 5}
TEXT_ENCODER = {"channels": CHANNELS, "prenet_layers": 2, "prenet_kernel": 5,
                "prenet_dropout": 0.5, "n_layers": 2, "n_heads": 2, "window": 2, "ff_channels": 24, "kernel": 3,
                "dropout": 0.1, "duration_channels": 10}  # fmt: skip
UNET = {"channels": 8, "multipliers": (1, 2, 4), "groups": 2, "n_heads": 2, "head_channels": 4}
HIFIGAN = {"channels": 8, "upsample_rates": (4, 2), "resblock_kernels": (3, 5), "resblock_dilations": (1, 3)}
STFT = {"n_fft": 64, "hop_length": 16, "sample_rate": 22050}
PROSODY = {**BLOCKS, "dropout": 0.2, "frame_layers": 2}


def text_encoder(mark_sizes=()):
    return TextEncoder(SimpleNamespace(**TEXT_ENCODER), N_SYMBOLS, N_LATENTS, mark_sizes, 2)


def convnext_vocoder(n_inputs=5, **changed):
    sizes = {**BLOCKS, **{name: value for name, value in changed.items() if name not in STFT}}
    stft = {name: changed.get(name, value) for name, value in STFT.items()}
    return ConvNeXtVocoder(SimpleNamespace(**sizes), n_inputs, **stft)


@dataclass
class Case:
    """A network, the channels of each of its inputs, or what else they are, and how it is called: a list of outputs."""

    build: Callable[[], nn.Module]
    inputs: dict[str, int | str]
    call: Callable[..., list]
    masked: bool = True  # the mask is always given


def prosody(network, mask, x, r_t, t, position):
    c = network.encode(x, mask)
    f0, voicing = network.contour(Frames(c, r_t, position, mask))
    return [network(r_t, t, mask, c), f0 * mask, voicing]


def sourced(network, mask, features, f0, voicing, noise):
    return [network(features, mask, Source(f0, voicing, noise))]


CASES = {
    "text encoder": Case(
        text_encoder,
        {"x": "ids", "condition": 2},
        lambda network, mask, x, condition: [*network(x, mask, condition)],
    ),
    "unet": Case(
        lambda: UNet(**UNET),
        {"r_t": N_LATENTS, "t": "t", "mu": N_LATENTS},
        lambda network, mask, r_t, t, mu: [network(r_t, t, mask, mu)],
        masked=False,
    ),
    "convnext score": Case(
        lambda: ConvNeXtScore(N_LATENTS, 2, **BLOCKS),
        {"r_t": N_LATENTS, "t": "t", "mu": N_LATENTS, "f0": 2},
        lambda network, mask, r_t, t, mu, f0: [network(r_t, t, mask, mu, f0)],
        masked=False,
    ),
    "hifigan": Case(
        lambda: HiFiGAN(5, **HIFIGAN), {"features": 5}, lambda network, mask, features: [network(features, mask)],
        masked=False,
    ),
    "convnext vocoder": Case(
        convnext_vocoder,
        {"features": 5, "f0": "hertz", "voicing": "share", "noise": "noise"},
        sourced,
        masked=False,
    ),
    "prosody": Case(
        lambda: ProsodyNetwork(SimpleNamespace(**PROSODY), N_SYMBOLS, ()),
        {"x": "ids", "r_t": N_VALUES, "t": "t", "position": N_POSITIONS},
        prosody,
    ),
    "f0 residual": Case(
        lambda: F0ResidualNetwork(SimpleNamespace(**PROSODY, residual_layers=2)),
        {"r_t": 1, "t": "t", "condition": CHANNELS + 2 * N_VALUES + N_POSITIONS},
        lambda network, mask, r_t, t, condition: [network(r_t, t, mask, condition)],
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", CASES)


def make(name, std=0.2):
    """A network in which nothing is at zero, as after some training."""
    torch.manual_seed(0)
    network = CASES[name].build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(std * torch.randn_like(parameter))
    return network


def draw(name, batch, frames, seed=0):
    """The inputs of a case, by name."""
    g = torch.Generator().manual_seed(seed)
    drawn = {
        "ids": lambda: torch.randint(N_SYMBOLS, (batch, frames), generator=g),
        "t": lambda: torch.rand(batch, generator=g),
        "hertz": lambda: 100 + 300 * torch.rand(batch, 1, frames, generator=g),
        "share": lambda: 0.5 + 0.5 * torch.rand(batch, 1, frames, generator=g),
        "noise": lambda: torch.randn(batch, 1, 16 * frames, generator=g),
    }
    return {key: drawn[kind]() if isinstance(kind, str) else torch.randn(batch, kind, frames, generator=g)
            for key, kind in CASES[name].inputs.items()}  # fmt: skip


def doubled(inputs):
    return {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}


def garbage(name, batch, frames):
    """What may stand past an end: much of it, and F0 that is none."""
    inputs = draw(name, batch, frames, seed=1)
    return {key: value if key in ("x", "t") else torch.where(value < 250, -value, 0) if key == "f0" else 10 * value
            for key, value in inputs.items()}  # fmt: skip


def run(name, network, inputs, lengths=None):
    """The outputs; lengths: None for as many frames as there are, of which a network that can is told nothing."""
    frames = next(value.shape[-1] for key, value in inputs.items() if key not in ("t", "noise"))
    batch = len(next(iter(inputs.values())))
    mask = sequence_mask(torch.tensor(lengths or [frames] * batch), frames).to(next(network.parameters()).dtype)
    return CASES[name].call(network, None if lengths is None and not CASES[name].masked else mask, **inputs)


def part(inputs, i, frames):
    """One item of them, cut to its length."""
    sizes = {key: 16 * frames if key == "noise" else frames for key in inputs}
    return {key: value[i : i + 1] if value.dim() == 1 else value[i : i + 1, ..., : sizes[key]]
            for key, value in inputs.items()}  # fmt: skip


@EACH
@pytest.mark.parametrize("frames", [16, 20, 45])
@torch.no_grad()
def test_a_batch_is_its_singles_whatever_stands_past_their_ends(name, frames):
    """In double precision, in which other orders of sums make no difference."""
    network, lengths = make(name).double(), [16, 1, 2, 3, 9, 13]
    inputs, past = doubled(draw(name, 6, frames)), garbage(name, 6, frames)
    for key in inputs.keys() - {"t"}:
        for i, length in enumerate(lengths):
            n = inputs[key].shape[-1] // frames * length  # of noise, there are several values a frame
            inputs[key][i, ..., n:] = past[key][i, ..., n:]
    together = run(name, network, inputs, lengths)
    for i, length in enumerate(lengths):
        for one, whole in zip(run(name, network, part(inputs, i, length)), together):
            n = one.shape[-1]
            assert whole.shape[-1] * length == n * frames and one.abs().max() > 1e-3
            assert (whole[i, ..., :n] - one[0]).abs().max() <= 1e-9 and not whole[i, ..., n:].any()


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.masked])
def test_without_a_mask_every_frame_is_valid(name):
    """In double precision: the same function, with another order of sums, and so are its gradients."""
    network = make(name).double()
    for frames in (1, 8, 30):
        inputs, outputs, gradients = doubled(draw(name, 2, frames)), [], []
        for lengths in (None, [frames, frames]):
            outputs += run(name, network, inputs, lengths)
            network.zero_grad()
            outputs[-1].square().sum().backward()
            gradients.append([parameter.grad.clone() for parameter in network.parameters()])
        assert (outputs[0] - outputs[1]).abs().max() <= 1e-10
        assert all((a - b).abs().max() <= 1e-7 * (1 + b.abs().max()) for a, b in zip(*gradients))


@EACH
@torch.no_grad()
def test_each_channel_of_each_input_is_heard(name):
    network, inputs = make(name), draw(name, 2, 9)
    before = run(name, network, inputs)
    for key, value in inputs.items():
        for channel in range(value.shape[1] if value.dim() == 3 else 1):
            other = value.clone()
            if key == "x":
                other[0] = (value[0] + 1) % N_SYMBOLS
            elif key == "noise":  # of which the level does not count
                other[0] = value[0].flip(-1)
            else:
                other[(0, channel) if value.dim() == 3 else 0] *= 0.8
            changed = [(a - b).abs().flatten(1).amax(1)
                       for a, b in zip(run(name, network, {**inputs, key: other}), before)]  # fmt: skip
            assert torch.stack(changed).amax(0)[0] > 1e-4, (key, channel)


@EACH
def test_everything_learns_and_nothing_from_padding(name):
    network, inputs = make(name), draw(name, 2, 9)
    inputs |= {"t": torch.tensor([1.0, 0.4])} if "t" in inputs else {}
    untaught = {"x", "t", "noise"} | ({"f0", "voicing"} if name == "convnext vocoder" else set())
    given = [value.requires_grad_() for key, value in inputs.items() if key not in untaught]
    sources = [value.requires_grad_() for key, value in inputs.items() if key in untaught - {"x", "t"}]
    sum(out.square().sum() for out in run(name, network, inputs, [9, 5])).backward()
    for parameter_of, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, parameter_of
    for value in given:
        assert value.grad.isfinite().all() and value.grad[1, :, :5].any() and not value.grad[1, :, 5:].any()
    assert all(value.grad is None for value in sources)  # F0's slope says nothing of the pitch


@EACH
def test_half_precision_differs_little(name):
    network, inputs = make(name, std=0.05), draw(name, 2, 20)
    exact = [out.detach() for out in run(name, network, inputs, [20, 7])]
    with torch.autocast("cpu", torch.bfloat16):
        half = [out.float() for out in run(name, network, inputs, [20, 7])]
    for one, other in zip(exact, half):
        assert 0 < (one - other).norm() < 0.05 * one.norm()
    sum(out.square().sum() for out in half).backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize("name", ["unet", "convnext score"])
def test_the_one_step_embedding_starts_at_zero_and_belongs_to_t_one(name):
    assert not CASES[name].build().one_step.any()
    network, inputs = make(name), draw(name, 4, 8)
    inputs["t"][1] = inputs["t"][3] = 1.0
    before = run(name, network, inputs)[0]
    network.one_step.add_(1)
    changed = (run(name, network, inputs)[0] - before).abs().amax((1, 2))
    assert (changed[[1, 3]] > 1e-4).all() and not changed[[0, 2]].any()


@pytest.mark.parametrize("name", ["hifigan", "convnext vocoder"])
def test_a_vocoders_reach_is_as_far_as_a_frame_is_heard(name):
    network, n_frames = make(name, std=0.3).double(), 61
    inputs = doubled(draw(name, 1, n_frames))
    features = inputs["features"].requires_grad_()
    wav = run(name, network, inputs)[0][0, 0]
    hop, heard = len(wav) // n_frames, torch.zeros(n_frames, dtype=torch.bool)
    for sample in (0, hop // 2, hop - 1):
        heard |= torch.autograd.grad(wav[30 * hop + sample], features, retain_graph=True)[0].abs().amax((0, 1)) > 0
    assert (heard.nonzero() - 30).abs().max() == network.reach
    assert CASES[name].build().needs_source == (name == "convnext vocoder")


# The parts together


@pytest.mark.parametrize("name", VARIANTS)
def test_every_entry_of_the_state_has_its_part(name):
    model = make_model(name)
    owners = {entry: model.part_of(entry) for entry in model.state_dict()}
    of_corpus = {entry for entry, part in owners.items() if part == "" and not entry.startswith("compression.")}
    assert of_corpus == {"latent_mean", "latent_std", "f0_mean", "f0_std", "pause_scale"}
    assert owners["logw_variance"] == "text_encoder"
    for part_name, network in model.parts().items():
        n_owned = sum(p.numel() for entry, p in model.named_parameters() if owners[entry] == part_name)
        assert n_owned == sum(p.numel() for p in network.parameters()) > 0
    optional = {"convnext1d": {"prosody"}, "contour": {"prosody"}, "full": {"prosody", "f0_residual"}}
    assert set(model.parts()) == {"text_encoder", "decoder", "generator"} | optional.get(name, set())
    assert make_model("plain").part_of("prosody.network.conv_in.weight") == ""


def test_log_mels_and_f0_are_normalised_by_the_corpus_and_come_back():
    model, mel = make_model("plain"), torch.randn(2, 80, 5)
    torch.testing.assert_close(model.latent(mel), (mel + 5) / 2)
    torch.testing.assert_close(model.mel(model.latent(mel)), mel)
    f0 = torch.tensor([[[5.2, 5.45, 4.7], [1.0, 0.0, 1.0]]])
    assert model.normalised_f0(f0) is None
    model = make_model("full")
    normalised = model.normalised_f0(f0)
    torch.testing.assert_close(normalised, torch.tensor([[[0.0, 1.0, -2.0], [1.0, 0.0, 1.0]]]), atol=1e-5, rtol=0)
    source = model.source(normalised, torch.zeros(1, 1, 3 * HOP))
    torch.testing.assert_close(source.f0, f0[:, :1].exp())
    assert LN_F0 == (5.2, 0.25) and torch.equal(source.voicing, f0[:, 1:])
