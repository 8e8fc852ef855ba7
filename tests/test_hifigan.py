"""HiFi-GAN: lengths, the sums of one-dimensional layers, and folded weight norms that change nothing."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parametrize

from data_util.audio import sequence_mask
from model import hifigan
from model.hifigan import HiFiGAN, convolve
from model.tiled import tile
from runtime.chunking import window

N_INPUTS = 4
SIZES = {"n_inputs": N_INPUTS, "channels": 8, "upsample_rates": (4, 2), "resblock_kernels": (3, 5),
         "resblock_dilations": (1, 3)}  # fmt: skip


@pytest.fixture
def generator():
    return loud(**SIZES)


@torch.no_grad()
def loud(**sizes):
    """One with weights so large that its sound is no whisper."""
    torch.manual_seed(0)
    generator = HiFiGAN(**sizes)
    for module in generator.modules():
        if parametrize.is_parametrized(module):
            module.weight = torch.randn_like(module.weight) / module.weight[0].numel() ** 0.5
            module.bias.normal_(std=0.1)
    return generator.eval()


def latents(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def mask_of(lengths, frames):
    return sequence_mask(torch.tensor(lengths), frames).float()


@torch.no_grad()
@pytest.mark.parametrize("rates", [(4, 2), (2, 2, 2), (8,), (3,), (5, 3)])
def test_a_frame_is_hop_length_samples_within_one(rates):
    generator = loud(**{**SIZES, "upsample_rates": rates})
    for frames in (1, 2, 7, 40):
        wav = generator(100 * latents(2, N_INPUTS, frames))
        assert wav.shape == (2, 1, frames * math.prod(rates)) and 0.5 < wav.abs().max() <= 1


def published(generator, x, mask):
    """What HiFiGAN gives, of one-dimensional layers called as they are, over (B, C, T)."""
    x = generator.conv_in(x * mask) * mask
    for rate, upsample, resblocks in zip(generator.rates, generator.upsamples, generator.resblocks):
        mask = mask.repeat_interleave(rate, dim=-1)
        x, total = upsample(F.leaky_relu(x, 0.1)) * mask, 0
        for resblock in resblocks:
            y = x
            for dilated, plain in zip(resblock.dilated, resblock.plain):
                inner = dilated(F.leaky_relu(y, 0.1)) * mask
                y = y + plain(F.leaky_relu(inner, 0.1)) * mask
            total = total + y / len(resblocks)
        x = total
    return torch.tanh(generator.conv_out(F.leaky_relu(x, 0.1))) * mask


def test_sound_and_gradients_are_those_of_one_dimensional_layers(generator):
    generator.double()
    z0_hat, mask = latents(2, N_INPUTS, 11).double(), mask_of([11, 5], 11).double()
    outputs, gradients = [], []
    for run in (generator, lambda *args: published(generator, *args)):
        outputs.append(run(z0_hat, mask))
        outputs[-1].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in generator.parameters()])
        generator.zero_grad()
    assert torch.allclose(*outputs, rtol=0, atol=1e-10)
    for one, other in zip(*gradients):
        assert torch.allclose(one, other, rtol=0, atol=1e-10 * (1 + other.abs().max().item()))


@torch.no_grad()
@pytest.mark.parametrize("rates", [(4, 2), (8,), (5, 3)])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_part_has_the_samples_of_the_whole_by_less_work(rates, tiled, monkeypatch):
    generator, features = loud(**{**SIZES, "upsample_rates": rates}).double().fold(), latents(2, N_INPUTS, 45).double()
    if tiled:
        tile(generator)
    whole, hop_length, lengths = generator(features), math.prod(rates), []
    monkeypatch.setattr(hifigan, "convolve", lambda *args: lengths.append(args[1].shape[-1]) or convolve(*args))
    for first, last in [(0, 1), (0, 45), (20, 23), (44, 45), (1, 44)]:
        read, kept = window(first, last, 45, generator.reach)
        part = generator.part(features[..., read], None, kept)
        assert torch.allclose(part, whole[..., hop_length * first : hop_length * last], rtol=0, atol=1e-12)
        n_before, n_after = hop_length * first, hop_length * (45 - last)
        assert lengths[-1] == part.shape[-1] + min(3, n_before) + min(3, n_after)  # what the last layer reads


@pytest.mark.parametrize("name", ["contiguous_format", "channels_last"])
def test_training_has_its_memory_format_and_speaking_its_own(generator, name, monkeypatch):
    formats, weight = [], generator.conv_in.parametrizations.weight.original1
    generator.memory_format = getattr(torch, name)
    monkeypatch.setattr(hifigan, "convolve", lambda *args: formats.append(args[1].is_contiguous()) or convolve(*args))
    features, mask, found = latents(2, N_INPUTS, 11), mask_of([11, 5], 11), []
    for training in (True, False):
        wav = generator.train(training)(features, mask)
        found.append((wav, *torch.autograd.grad(wav.square().sum(), weight)))
    for trained, spoken in zip(*found):
        assert torch.allclose(trained, spoken, rtol=1e-4, atol=1e-6)
    half = len(formats) // 2
    assert set(formats[:half]) == {name == "contiguous_format"} and not any(formats[half:])


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad])
def test_folding_changes_the_weights_and_not_the_sound(generator, frozen, grad):
    z0_hat = latents(2, N_INPUTS, 11)
    before = generator(z0_hat, mask_of([11, 5], 11)).detach()
    if frozen:
        generator.requires_grad_(False)
    n_layers = sum(parametrize.is_parametrized(module) for module in generator.modules())
    with grad():
        assert generator.fold() is generator
    assert not any(parametrize.is_parametrized(module) for module in generator.modules())
    assert (generator(z0_hat, mask_of([11, 5], 11)) - before).abs().max() <= 1e-6

    named = dict(generator.named_parameters())
    weights = [name for name in named if name.endswith("weight")]
    assert len(weights) == n_layers == len([name for name in named if name.endswith("bias")])
    assert all(named[name].requires_grad != frozen for name in named)
    generator.to(torch.float64)  # as .to() a device would: everything comes along
    assert {value.dtype for value in generator.state_dict().values()} == {torch.float64}
    assert generator(z0_hat.double()).dtype == torch.float64
    assert generator.fold() is generator  # again: nothing left to do


@torch.no_grad()
def test_what_is_folded_has_no_say_in_what_is_trained(generator):
    other = copy.deepcopy(generator)
    folded = copy.deepcopy(generator).fold()
    other.conv_in.weight = 2 * other.conv_in.weight
    z0_hat = latents(1, N_INPUTS, 5)
    assert torch.allclose(folded(z0_hat), generator(z0_hat), atol=1e-6)
    assert not torch.allclose(other(z0_hat), generator(z0_hat), atol=1e-3)
