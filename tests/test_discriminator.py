"""The discriminators: periods folded as a two-dimensional convolution has them, spectrograms as a naive DFT does, items
apart, and each told its t."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_util import config as configuration
from model.discriminator import (
    WAV_GAIN,
    Discriminators,
    PeriodDiscriminator,
    ScaleDiscriminator,
    SpectrogramDiscriminator,
)

F64 = torch.float64
SIZES = {
    "periods": (2, 3),
    "period_channels": (4, 8, 8),
    "scales": 2,
    "scale_channels": (16, 16, 16),
    "resolutions": (64, 32),
    "resolution_channels": (4, 8, 6),
    "t_channels": 8,
}
NONE = {"periods": (), "scales": 0, "resolutions": ()}


@pytest.fixture
def discriminators():
    torch.manual_seed(0)
    return Discriminators(**SIZES).eval()


def sounds(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def item(output, index, batch):
    """An item's logits and features out of what one member says of a batch."""
    logits, features = output
    return [x.view(batch, x.shape[0] // batch, *x.shape[1:])[index] for x in (logits, *features)]


def difference(a, b):
    return max((x - y).abs().max().item() for x, y in zip(a, b))


@torch.no_grad()
@pytest.mark.parametrize("period", [2, 3, 7])
@pytest.mark.parametrize("length", [84, 85, 83, 7])
def test_a_folded_period_is_a_convolution_of_k_by_one(period, length):
    torch.manual_seed(1)
    member = PeriodDiscriminator(period, (4, 8, 6), 8).to(F64).eval()
    wav, embedding = sounds(3, 1, length).to(F64), torch.randn(3, 8, dtype=F64)
    logits, features = member(wav, embedding)

    padded = F.pad(wav, (0, -length % period), "reflect")
    x = 10 * padded.view(3, 1, -1, period)  # (B, 1, T / period, period): row after row
    strides = (3, 3, 1)
    for i, (conv, time) in enumerate(zip(member.stack.convs, member.stack.times)):
        x = F.conv2d(x, conv.weight[..., None], conv.bias, stride=(strides[i], 1), padding=(2, 0))
        x = F.leaky_relu(x + time(embedding)[:, :, None, None], 0.1)
        assert (features[i].view(3, period, *features[i].shape[1:]).permute(0, 2, 3, 1) - x).abs().max() < 1e-5
    x = F.conv2d(x, member.stack.out.weight[..., None], member.stack.out.bias, padding=(1, 0))
    assert (logits.view(3, period, 1, -1).permute(0, 2, 3, 1) - x).abs().max() < 1e-5


@torch.no_grad()
def test_a_period_sees_only_its_own_samples():
    member = PeriodDiscriminator(5, (4, 4), 8).eval()
    wav, embedding = sounds(1, 1, 100), torch.zeros(1, 8)
    other = wav.clone()
    other[..., 32] += 0.5
    changed = (member(other, embedding)[0] - member(wav, embedding)[0]).abs().amax((1, 2)) > 0
    assert changed.tolist() == [False, False, True, False, False]


@torch.no_grad()
def test_a_scale_hears_the_average_of_its_samples():
    torch.manual_seed(2)
    member = ScaleDiscriminator(2, (16, 16, 16), 8).eval()
    wav, embedding = sounds(2, 1, 128), torch.randn(2, 8)
    pooled = wav
    for _ in range(2):
        padded = F.pad(pooled, (2, 2))[:, 0]
        pooled = padded.unfold(1, 4, 2).mean(2)[:, None]
    logits, features = member.stack(WAV_GAIN * pooled, embedding)
    assert difference([member(wav, embedding)[0], *member(wav, embedding)[1]], [logits, *features]) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("length", [256, 257, 255, 101])
def test_the_shapes_are_those_of_every_member_and_layer(discriminators, length):
    outputs = discriminators(sounds(3, 1, length), torch.rand(3))
    assert len(outputs) == 6
    for (logits, features), rows in zip(outputs, (6, 9, 3, 3, 3, 3)):
        assert logits.shape[:2] == (rows, 1)
        assert len(features) == 3
        assert all(feature.shape[0] == rows for feature in features)
        assert torch.isfinite(logits).all()


@torch.no_grad()
def test_items_do_not_see_each_other(discriminators):
    wav, t = sounds(3, 1, 200), torch.tensor([1.0, 0.3, 0.0])
    together = discriminators(wav, t)
    for i in range(3):
        alone = discriminators(wav[i : i + 1], t[i : i + 1])
        for member, one in zip(together, alone):
            assert difference(item(member, i, 3), item(one, 0, 1)) < 1e-5
    halves = [[x.chunk(3)[1] for x in (logits, *features)] for logits, features in together]  # as training cuts them
    for half, one in zip(halves, discriminators(wav[1:2], t[1:2])):
        assert difference(half, [one[0], *one[1]]) < 1e-5


@torch.no_grad()
def test_each_is_told_the_t_of_each_item(discriminators):
    wav, t = sounds(1, 1, 200).expand(3, -1, -1), torch.tensor([1.0, 0.3, 1.0])
    permuted = torch.tensor([1, 0, 2])
    for member, other in zip(discriminators(wav, t), discriminators(wav, t[permuted])):
        assert difference(item(member, 0, 3), item(member, 2, 3)) < 1e-6  # the same sound under the same t
        for layer, (a, b) in enumerate(zip(item(member, 0, 3), item(member, 1, 3))):
            assert (a - b).abs().max() > 1e-4, layer  # each layer of each member
        for i, j in enumerate(permuted.tolist()):
            assert difference(item(other, i, 3), item(member, j, 3)) < 1e-6


def test_the_shipped_ones_are_hifigans():
    none = {"resolutions": (), "resolution_channels": ()}
    sizes = dataclasses.asdict(configuration.load().discriminators) | none  # those of waveforms are HiFi-GAN's
    assert sizes["period_channels"][-1] == sizes["scale_channels"][-1] == 1024
    narrow = {name: tuple(16 for _ in sizes[name]) for name in ("period_channels", "scale_channels")}
    members = Discriminators(**{**sizes, **narrow}).members
    periods = [member.period for member in members if isinstance(member, PeriodDiscriminator)]
    scales = [member.scale for member in members if isinstance(member, ScaleDiscriminator)]
    assert (periods, scales) == ([2, 3, 5, 7, 11], [0, 1, 2])
    assert len(members) == 8
    strides = [conv.stride[0] for conv in members[0].stack.convs]
    assert strides == [3, 3, 3, 3, 1]


@torch.no_grad()
@pytest.mark.parametrize("length", [200, 207, 20])
def test_a_spectrogram_is_a_naive_dft_of_reflected_frames(length):
    n_fft, hop_length = 64, 16
    wav = sounds(2, 1, length).to(F64)
    loudness = SpectrogramDiscriminator(n_fft, (4,), 8).to(F64).loudness(wav)

    n = np.arange(n_fft)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / n_fft)
    matrix = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), n) / n_fft)
    x = np.pad(wav[:, 0].numpy(), ((0, 0), (0, max(0, 25 - length))))  # silence behind what cannot be reflected
    x = np.pad(x, ((0, 0), (24, 24)), mode="reflect")
    starts = hop_length * np.arange(max(length, 25) // hop_length)
    spectra = np.stack([(window * x[:, i : i + n_fft]) @ matrix.T for i in starts], axis=-1)
    expected = (np.abs(spectra) ** 2 / (window**2).sum() + 1e-8) ** 0.15
    assert loudness.shape == (2, 1, n_fft // 2 + 1, len(starts))
    assert np.abs(loudness[:, 0].numpy() - expected).max() < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("length", [2048, 4096, 385, 384, 100])
def test_a_spectrogram_of_a_short_segment_is_judged(length):
    wav, embedding = sounds(2, 1, length), torch.zeros(2, 8)
    logits, features = SpectrogramDiscriminator(1024, (4, 4, 4), 8)(wav, embedding)
    assert logits.shape == (2, 1, 17, max(length, 385) // 256)
    assert [feature.shape[1:3] for feature in features] == [(4, 65), (4, 33), (4, 17)]
    assert torch.isfinite(logits).all()


@torch.no_grad()
@pytest.mark.parametrize("n_fft", [512, 1024, 2048])
def test_what_the_layers_are_given_is_near_zero_mean_and_unit_variance(n_fft):
    """Within limits: white noise is as loud in every band as speech is in the loud ones."""
    wav, heard = noise_like_speech(2), []
    for member in (PeriodDiscriminator(3, (4,), 8), SpectrogramDiscriminator(n_fft, (4,), 8)):
        member.stack.convs[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
        member(wav, torch.zeros(2, 8))
    assert heard[0].std() == pytest.approx(1, abs=0.1) and heard[0].mean().abs() < 0.1
    assert 0.2 < heard[1].std() < 2 and heard[1].mean().abs() < 1


def noise_like_speech(n_items, seed=0):
    """White noise as loud as speech is, RMS 0.1."""
    return 0.1 * torch.randn(n_items, 1, 8192, generator=torch.Generator().manual_seed(seed))


MEMBERS = [
    lambda: PeriodDiscriminator(2, (16, 32, 64, 64, 64), 16),
    lambda: PeriodDiscriminator(7, (16, 32, 64, 64, 64), 16),
    lambda: ScaleDiscriminator(0, (32, 32, 64, 64, 64, 64, 64), 16),
    lambda: SpectrogramDiscriminator(1024, (32, 32, 32, 32, 32), 16),
]
MEMBERS = pytest.mark.parametrize("build", MEMBERS, ids=["period 2", "period 7", "scale", "spectrogram"])


def fading(member):
    """By how much what the sound moves is less in the last layer than in the first: the deviations from the mean of
    each channel, which t and the biases move alone."""
    with torch.no_grad():
        features = member(noise_like_speech(4), torch.zeros(4, 16))[1]
    first, last = (x.transpose(0, 1).flatten(1).var(1).mean().sqrt().item() for x in (features[0], features[-1]))
    return first / last


@MEMBERS
@pytest.mark.parametrize("seed", range(3))
def test_sound_reaches_the_last_layer_at_the_scale_of_the_first(build, seed):
    torch.manual_seed(seed)
    assert 1 / 3 < fading(build()) < 3


@MEMBERS
def test_sound_would_fade_out_with_the_default_start(build, monkeypatch):
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda weight, *_: weight)  # as PyTorch made it
    torch.manual_seed(0)
    assert fading(build()) > 6


@MEMBERS
def test_a_few_steps_tell_noise_from_a_tone(build):
    torch.manual_seed(0)
    member, tell = build(), torch.zeros(4, 16)
    optimiser = torch.optim.AdamW(member.parameters(), 1e-3, betas=(0.8, 0.99))
    time = torch.arange(2048) / 22050

    def judge():
        hertz, phase = 100 + 900 * torch.rand(4, 1, 1), 6.3 * torch.rand(4, 1, 1)
        tones = 0.1 * 2**0.5 * torch.sin(2 * torch.pi * hertz * time + phase)
        return member(tones, tell)[0], member(0.1 * torch.randn(4, 1, 2048), tell)[0]

    for _ in range(100):
        real, generated = judge()
        optimiser.zero_grad()
        ((real - 1).square().mean() + generated.square().mean()).backward()
        optimiser.step()
    with torch.no_grad():
        real, generated = judge()
    assert (real - 1).square().mean() + generated.square().mean() < 0.3  # 0.5 for one that cannot tell


@torch.no_grad()
def test_a_spectrogram_is_in_float32_under_autocast():
    member, wav = SpectrogramDiscriminator(64, (4,), 8), sounds(2, 1, 256)
    expected = member.loudness(wav)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(member.loudness(wav), expected)
        assert member.loudness(wav.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-6])
def test_silence_has_finite_gradients(discriminators, level):
    wav = (level * sounds(2, 1, 256)).requires_grad_()
    outputs = discriminators(wav, torch.tensor([1.0, 0.2]))
    sum((logits - 1).square().mean() + sum(f.abs().mean() for f in features) for logits, features in outputs).backward()
    assert torch.isfinite(wav.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in discriminators.parameters())


@torch.no_grad()
@pytest.mark.parametrize("kinds", [(), ("periods",), ("scales",), ("resolutions",), ("periods", "resolutions")])
def test_a_kind_may_be_absent(kinds):
    fewer = Discriminators(**{**SIZES, **NONE, **{kind: SIZES[kind] for kind in kinds}})
    outputs = fewer(sounds(2, 1, 128), torch.tensor([1.0, 0.2]))
    assert len(outputs) == len(fewer.members) == 2 * len(kinds)


@torch.no_grad()
def test_spectrograms_change_nothing_of_those_of_waveforms(discriminators):
    torch.manual_seed(0)
    fewer = Discriminators(**{**SIZES, "resolutions": ()}).eval()
    weights, more = fewer.state_dict(), discriminators.state_dict()
    assert list(weights) == list(more)[: len(weights)]  # those of spectrograms come last
    assert all(torch.equal(weights[name], more[name]) for name in weights)


def test_they_have_no_state_but_their_weights(discriminators):
    discriminators(sounds(2, 1, 256), torch.tensor([1.0, 0.2]))
    assert set(discriminators.state_dict()) == {name for name, _ in discriminators.named_parameters()}


def test_every_parameter_learns(discriminators):
    outputs = discriminators(sounds(2, 1, 256), torch.tensor([1.0, 0.2]))
    sum(logits.square().sum() for logits, _ in outputs).backward()
    for name, parameter in discriminators.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0 or name.endswith("original0"), name


def test_bfloat16_sound_is_judged_in_bfloat16(discriminators):
    with torch.autocast("cpu", torch.bfloat16):
        outputs = discriminators(sounds(1, 1, 128).bfloat16(), torch.ones(1))
    assert all(torch.isfinite(logits.float()).all() for logits, _ in outputs)
