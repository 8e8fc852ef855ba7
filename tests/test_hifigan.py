"""The upsampling generators: lengths, masks, what a frame can reach, and folded weight norms that change nothing."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import parametrize

from data_util import config as configuration
from data_util.audio import sequence_mask
from model.hifigan import HiFiGAN, ISTFTNet

HOP, N_LATENTS = 8, 4
SIZES = {
    "n_inputs": N_LATENTS,
    "channels": 8,
    "upsample_rates": (4, 2),
    "upsample_kernels": (8, 4),
    "resblock_kernels": (3, 5),
    "resblock_dilations": (1, 3),
}
ISTFT_SIZES = {**SIZES, "upsample_rates": (2,), "upsample_kernels": (4,), "n_fft": 16, "hop_length": 4}
REACH = 24  # frames to either side that a frame can possibly be heard in


@pytest.fixture(params=["hifigan", "istft"])
def generator(request):
    """A tiny one of each kind, with weights large enough that its sound is no whisper."""
    torch.manual_seed(0)
    return loud(HiFiGAN(**SIZES) if request.param == "hifigan" else ISTFTNet(**ISTFT_SIZES))


@torch.no_grad()
def loud(generator):
    for module in generator.modules():
        if parametrize.is_parametrized(module):
            module.weight = torch.randn_like(module.weight) / module.weight[0].numel() ** 0.5
            module.bias.normal_(std=0.1)
    return generator.eval()


def latents(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths, frames):
    return sequence_mask(torch.tensor(lengths), frames).float()


def test_the_shipped_sizes_are_the_papers():
    generator = HiFiGAN(80, **dataclasses.asdict(configuration.load().hifigan))
    assert sum(p.numel() for p in generator.parameters()) == pytest.approx(13.9e6, abs=0.05e6)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 7, 40])
@pytest.mark.parametrize(("rates", "kernels"), [((4, 2), (8, 4)), ((2, 2, 2), (2, 4, 6)), ((8,), (16,)), ((3,), (5,))])
def test_a_frame_is_hop_length_samples(frames, rates, kernels):
    hop = int(torch.tensor(rates).prod())
    generator = HiFiGAN(**{**SIZES, "upsample_rates": rates, "upsample_kernels": kernels}).eval()
    wav = generator(latents(2, N_LATENTS, frames))
    assert wav.shape == (2, 1, frames * hop)


@torch.no_grad()
@pytest.mark.parametrize(("rates", "kernels", "n_fft", "hop"), [((2,), (4,), 16, 4), ((3, 2), (5, 4), 12, 6)])
def test_an_inverse_stft_makes_up_the_rest_of_hop_length(rates, kernels, n_fft, hop):
    sizes = {"upsample_rates": rates, "upsample_kernels": kernels, "n_fft": n_fft, "hop_length": hop}
    generator = ISTFTNet(**{**ISTFT_SIZES, **sizes}).eval()
    for frames in (1, 2, 7, 40):
        wav = generator(latents(2, N_LATENTS, frames))
        assert wav.shape == (2, 1, frames * int(torch.tensor(rates).prod()) * hop)


@torch.no_grad()
def test_an_inverse_stft_starts_quiet_but_heard_and_stays_finite():
    torch.manual_seed(0)
    generator = ISTFTNet(**ISTFT_SIZES).eval()
    assert -60 < 20 * generator(latents(2, N_LATENTS, 30)).square().mean().sqrt().log10() < -30
    assert loud(generator)(1e4 * latents(2, N_LATENTS, 30)).abs().max() < 16  # n_fft, whatever is asked for


def test_an_inverse_stft_in_half_precision_differs_little():
    torch.manual_seed(0)
    generator = ISTFTNet(**ISTFT_SIZES)
    wav = generator(latents(2, N_LATENTS, 30))
    with torch.autocast("cpu", torch.bfloat16):
        half = generator(latents(2, N_LATENTS, 30))
    assert half.dtype == torch.float32
    assert (half - wav).norm() < 0.05 * wav.norm()


@torch.no_grad()
def test_the_sound_stays_within_one():
    torch.manual_seed(0)
    wav = loud(HiFiGAN(**SIZES))(100 * latents(2, N_LATENTS, 30))
    assert 0.5 < wav.abs().max() <= 1


@torch.no_grad()
@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("padding", [0, 4, 32, 192])
def test_padding_changes_nothing(generator, length, padding):
    z0_hat = latents(1, N_LATENTS, length)
    wav = generator(z0_hat)
    padded = torch.cat([z0_hat, 10 * latents(1, N_LATENTS, padding, seed=1)], 2)
    padded_wav = generator(padded, mask_of([length], length + padding))
    assert (padded_wav[..., : length * HOP] - wav).abs().max() <= 1e-5
    assert not padded_wav[..., length * HOP :].any()


@torch.no_grad()
def test_a_batch_is_its_singles(generator):
    lengths = [13, 1, 6]
    z0_hat = latents(3, N_LATENTS, 13)
    wav = generator(z0_hat, mask_of(lengths, 13))
    for i, length in enumerate(lengths):
        assert (wav[i, :, : length * HOP] - generator(z0_hat[i : i + 1, :, :length])[0]).abs().max() <= 1e-5


@torch.no_grad()
def test_a_frame_is_heard_where_it_stands_and_nearby(generator):
    frame, z0_hat = 40, latents(1, N_LATENTS, 81)
    other = z0_hat.clone()
    other[..., frame] += 1
    heard = ((generator(other) - generator(z0_hat)).abs() > 1e-6)[0, 0].view(81, HOP).any(1)
    assert heard[frame]
    assert not heard[: frame - REACH].any() and not heard[frame + REACH + 1 :].any()
    places = torch.arange(81)[heard].float()
    assert places.mean().item() == pytest.approx(frame, abs=1)


@torch.no_grad()
def test_the_sound_moves_with_the_frames(generator):
    z0_hat = latents(1, N_LATENTS, 90)
    inside = slice(REACH * HOP, (80 - REACH) * HOP)
    assert torch.allclose(generator(z0_hat[..., 3:83])[..., inside], generator(z0_hat[..., :80])[
        ..., inside.start + 3 * HOP : inside.stop + 3 * HOP], atol=1e-5)  # fmt: skip


def published(generator, x, mask):
    """What Upsampler.upsample gives, of one-dimensional layers called as they are, over (B, C, T)."""
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
    return generator.conv_out(F.leaky_relu(x, 0.1))


def test_sound_and_gradients_are_those_of_one_dimensional_layers(generator):
    generator.double()
    z0_hat, mask = latents(2, N_LATENTS, 11).double(), mask_of([11, 5], 11).double()
    outputs, gradients = [], []
    for run in (lambda: generator.upsample(z0_hat, mask)[0], lambda: published(generator, z0_hat, mask)):
        outputs.append(run())
        outputs[-1].square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in generator.parameters()])
        generator.zero_grad()
    assert torch.allclose(*outputs, rtol=0, atol=1e-10)
    for one, other in zip(*gradients):
        assert torch.allclose(one, other, rtol=0, atol=1e-10 * (1 + other.abs().max().item()))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad])
def test_folding_changes_the_weights_and_not_the_sound(generator, frozen, grad):
    z0_hat = latents(2, N_LATENTS, 11)
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
    z0_hat = latents(1, N_LATENTS, 5)
    assert torch.allclose(folded(z0_hat), generator(z0_hat), atol=1e-6)
    assert not torch.allclose(other(z0_hat), generator(z0_hat), atol=1e-3)


def test_every_parameter_learns(generator):
    generator(latents(1, N_LATENTS, 6)).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad.abs().max() > 0, name
