"""The discriminators: periods folded as a two-dimensional convolution has them, spectrograms of the STFT's definition,
items apart, and each told its t."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_util import config as configuration
from model import losses
from model.discriminator import (
    WAV_GAIN,
    Discriminators,
    PeriodDiscriminator,
    ScaleDiscriminator,
    SpectrogramDiscriminator,
    discriminate,
    discriminator_loss,
    generator_losses,
)
from tests.conftest import spectra

F64 = torch.float64
SIZES = {"periods": (2, 3), "period_channels": (4, 8, 8), "scales": 2, "scale_channels": (16, 16, 16),
         "resolutions": (64, 32), "resolution_channels": (4, 8, 6), "t_channels": 8}  # fmt: skip
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
def test_a_folded_period_is_a_convolution_of_k_by_one(period):
    torch.manual_seed(1)
    member, embedding = PeriodDiscriminator(period, (4, 8, 6), 8).to(F64).eval(), torch.randn(3, 8, dtype=F64)
    for length in (84, 85, 83, 7):
        wav = sounds(3, 1, length).to(F64)
        logits, features = member(wav, embedding)
        padded = F.pad(wav, (0, -length % period), "reflect")
        x = 10 * padded.view(3, 1, -1, period)  # (B, 1, T / period, period): row after row
        for conv, time, feature, stride in zip(member.stack.convs, member.stack.times, features, (3, 3, 1)):
            x = F.conv2d(x, conv.weight[..., None], conv.bias, stride=(stride, 1), padding=(2, 0))
            x = F.leaky_relu(x + time(embedding)[:, :, None, None], 0.1)
            assert (feature.view(3, period, *feature.shape[1:]).permute(0, 2, 3, 1) - x).abs().max() < 1e-5
        x = F.conv2d(x, member.stack.out.weight[..., None], member.stack.out.bias, padding=(1, 0))
        assert (logits.view(3, period, 1, -1).permute(0, 2, 3, 1) - x).abs().max() < 1e-5


@torch.no_grad()
def test_a_scale_hears_the_average_of_its_samples():
    torch.manual_seed(2)
    member = ScaleDiscriminator(2, (16, 16, 16), 8).eval()
    wav, embedding = sounds(2, 1, 128), torch.randn(2, 8)
    pooled = wav
    for _ in range(2):
        pooled = F.pad(pooled, (2, 2))[:, 0].unfold(1, 4, 2).mean(2)[:, None]
    (found, found_features), (logits, features) = member(wav, embedding), member.stack(WAV_GAIN * pooled, embedding)
    assert difference([found, *found_features], [logits, *features]) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("length", [200, 207, 20])
def test_a_spectrogram_is_an_stft_of_the_reflected_sound(length):
    n_fft, hop_length = 64, 16
    wav = sounds(2, 1, length).to(F64)
    loudness = SpectrogramDiscriminator(n_fft, (4,), 8).to(F64).loudness(wav)

    x = np.pad(wav[:, 0].numpy(), ((0, 0), (0, max(0, 25 - length))))  # silence behind what cannot be reflected
    x = np.pad(x, ((0, 0), (24, 24)), mode="reflect")
    power_of_the_window = 3 / 8 * n_fft
    expected = (np.abs(spectra(x, n_fft, hop_length)) ** 2 / power_of_the_window + 1e-8) ** 0.15
    assert loudness.shape == (2, 1, n_fft // 2 + 1, max(length, 25) // hop_length)
    assert np.abs(loudness[:, 0].numpy() - expected).max() < 1e-6


@torch.no_grad()
def test_the_shapes_are_those_of_every_member_and_layer_also_of_short_segments(discriminators):
    for length in (256, 257, 255, 101):
        outputs = discriminators(sounds(3, 1, length), torch.rand(3))
        for (logits, features), rows in zip(outputs, (6, 9, 3, 3, 3, 3), strict=True):
            assert logits.shape[:2] == (rows, 1) and logits.isfinite().all()
            assert len(features) == 3 and all(feature.shape[0] == rows for feature in features)
    member = SpectrogramDiscriminator(1024, (4, 4, 4), 8)
    for length in (4096, 385, 384, 100):
        logits, features = member(sounds(2, 1, length), torch.zeros(2, 8))
        assert logits.shape == (2, 1, 17, max(length, 385) // 256) and logits.isfinite().all()
        assert [feature.shape[1:3] for feature in features] == [(4, 65), (4, 33), (4, 17)]


@torch.no_grad()
def test_each_layer_is_told_the_t_of_each_item(discriminators):
    wav, t = sounds(1, 1, 200).expand(3, -1, -1), torch.tensor([1.0, 0.3, 1.0])
    for member in discriminators(wav, t):
        assert difference(item(member, 0, 3), item(member, 2, 3)) < 1e-6  # the same sound under the same t
        for layer, (a, b) in enumerate(zip(item(member, 0, 3), item(member, 1, 3))):
            assert (a - b).abs().max() > 1e-4, layer


@torch.no_grad()
@pytest.mark.parametrize("amp", [False, True])
def test_the_losses_are_those_of_each_sound_for_itself_in_float32(discriminators, amp):
    wav, wav_hat, t = sounds(2, 1, 200), sounds(2, 1, 200, seed=1), torch.tensor([1.0, 0.3])
    real, generated = (discriminate(discriminators, each, t, amp) for each in (wav, wav_hat))
    assert all(x.dtype == torch.float32 for logits, features in real for x in (logits, *features))
    wanted = losses.discriminator_loss(real, generated).item()
    close = {"rel": 0.03 if amp else 1e-5}
    assert discriminator_loss(discriminators, wav, wav_hat, t, amp).item() == pytest.approx(wanted, **close)
    adversarial, feature = generator_losses(discriminators, wav, wav_hat, t, amp)
    assert adversarial.item() == pytest.approx(losses.adversarial_loss(generated).item(), **close)
    assert feature.item() == pytest.approx(losses.feature_loss(real, generated).item(), **close)


@pytest.mark.parametrize("overrides, n_scales, n_fft", [
    ([], 0, [2048, 1024, 512]),
    (["discriminators.scales=3", "discriminators.resolutions=[]"], 3, []),  # HiFi-GAN's
])  # fmt: skip
def test_the_shipped_ones_are_hifigans_periods_and_spectrograms(overrides, n_scales, n_fft):
    sizes = dataclasses.asdict(configuration.load(None, overrides).discriminators)
    assert sizes["period_channels"][-1] == sizes["scale_channels"][-1] == 1024
    narrow = {name: tuple(16 for _ in sizes[name]) for name in ("period_channels", "scale_channels")}
    members = Discriminators(**{**sizes, **narrow}).members
    assert [member.period for member in members if isinstance(member, PeriodDiscriminator)] == [2, 3, 5, 7, 11]
    assert [member.scale for member in members if isinstance(member, ScaleDiscriminator)] == list(range(n_scales))
    assert [member.n_fft for member in members if isinstance(member, SpectrogramDiscriminator)] == n_fft
    assert [conv.stride[0] for conv in members[0].stack.convs] == [3, 3, 3, 3, 1]


# Scale


def noise_like_speech(n_items):
    """White noise as loud as speech is, RMS 0.1."""
    return 0.1 * torch.randn(n_items, 1, 8192, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("n_fft", [512, 1024, 2048])
def test_what_the_layers_are_given_is_near_zero_mean_and_unit_variance(n_fft):
    """Within limits: white noise is as loud in every band as speech is in the loud ones."""
    heard = []
    for member in (PeriodDiscriminator(3, (4,), 8), SpectrogramDiscriminator(n_fft, (4,), 8)):
        member.stack.convs[0].register_forward_pre_hook(lambda _, given: heard.append(given[0]))
        member(noise_like_speech(2), torch.zeros(2, 8))
    assert heard[0].std() == pytest.approx(1, abs=0.1) and heard[0].mean().abs() < 0.1
    assert 0.2 < heard[1].std() < 2 and heard[1].mean().abs() < 1


MEMBERS = {
    "period 2": lambda: PeriodDiscriminator(2, (16, 32, 64, 64, 64), 16),
    "period 7": lambda: PeriodDiscriminator(7, (16, 32, 64, 64, 64), 16),
    "scale": lambda: ScaleDiscriminator(0, (32, 32, 64, 64, 64, 64, 64), 16),
    "spectrogram": lambda: SpectrogramDiscriminator(1024, (32, 32, 32, 32, 32), 16),
}


def fading(name, seed):
    """By how much what the sound moves is less in the last layer than in the first: the deviations from the mean of
    each channel, which t and the biases move alone."""
    torch.manual_seed(seed)
    with torch.no_grad():
        features = MEMBERS[name]()(noise_like_speech(4), torch.zeros(4, 16))[1]
    first, last = (x.transpose(0, 1).flatten(1).var(1).mean().sqrt().item() for x in (features[0], features[-1]))
    return first / last


@pytest.mark.parametrize("name", MEMBERS)
def test_sound_reaches_the_last_layer_at_the_scale_of_the_first_and_would_not_by_pytorchs_default(name, monkeypatch):
    assert all(1 / 3 < fading(name, seed) < 3 for seed in range(3))
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", lambda weight, *_: weight)  # as PyTorch made it
    assert fading(name, 0) > 6


@pytest.mark.parametrize("name", MEMBERS)
def test_a_few_steps_tell_noise_from_a_tone(name):
    torch.manual_seed(0)
    member, tell, place = MEMBERS[name](), torch.zeros(4, 16), torch.arange(1024) / 22050
    optimiser = torch.optim.AdamW(member.parameters(), 3e-3, betas=(0.8, 0.99))
    for _ in range(40):
        hertz, phase = 100 + 900 * torch.rand(4, 1, 1), 6.3 * torch.rand(4, 1, 1)
        tones = 0.1 * 2**0.5 * torch.sin(2 * torch.pi * hertz * place + phase)
        real, generated = member(tones, tell)[0], member(0.1 * torch.randn(4, 1, 1024), tell)[0]
        loss = (real - 1).square().mean() + generated.square().mean()  # of sounds that it has not seen
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.2  # 0.5 for one that cannot tell


# Numbers


@torch.no_grad()
def test_bfloat16_sound_is_judged_and_its_spectrogram_is_in_float32(discriminators):
    member, wav = SpectrogramDiscriminator(64, (4,), 8), sounds(2, 1, 256)
    expected = member.loudness(wav)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(member.loudness(wav), expected)
        assert member.loudness(wav.bfloat16()).dtype == torch.float32
        assert all(logits.isfinite().all() for logits, _ in discriminators(wav.bfloat16(), torch.ones(2)))


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-6, 1.0])
def test_gradients_are_finite_also_of_silence_and_every_parameter_learns(discriminators, level):
    wav = (level * sounds(2, 1, 256)).requires_grad_()
    outputs = discriminators(wav, torch.tensor([1.0, 0.2]))
    sum((logits - 1).square().mean() + sum(f.abs().mean() for f in features) for logits, features in outputs).backward()
    assert wav.grad.isfinite().all()
    for name, parameter in discriminators.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert level < 1 or parameter.grad.abs().max() > 0 or name.endswith("original0"), name
    assert set(discriminators.state_dict()) == {name for name, _ in discriminators.named_parameters()}


@torch.no_grad()
@pytest.mark.parametrize("kinds", [(), ("periods",), ("scales",), ("resolutions",), ("periods", "scales")])
def test_a_kind_may_be_absent_and_spectrograms_come_last(discriminators, kinds):
    torch.manual_seed(0)
    fewer = Discriminators(**{**SIZES, **NONE, **{kind: SIZES[kind] for kind in kinds}})
    outputs = fewer(sounds(2, 1, 128), torch.tensor([1.0, 0.2]))
    assert len(outputs) == len(fewer.members) == 2 * len(kinds)
    if kinds == ("periods", "scales"):  # what is drawn for these does not depend on those
        weights, more = fewer.state_dict(), discriminators.state_dict()
        assert list(weights) == list(more)[: len(weights)]
        assert all(torch.equal(weights[name], more[name]) for name in weights)
