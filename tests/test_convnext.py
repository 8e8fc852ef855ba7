"""The ConvNeXt networks: masks, what the score network hears, inverse spectra, and pulses that keep their pitch."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_util.audio import MelSpectrogram, sequence_mask
from model.convnext import LOCK_SPAN, MAX_GAIN, ConvNeXtGenerator, ConvNeXtScore, Excitation
from model.layers import InverseSTFT, bounded_exp, to_spectrum

RATE = 22050  # Hz
N_LATENTS, N_CONDITION, N_INPUTS, HOP = 6, 2, 5, 16
SCORE = {"channels": 8, "hidden_channels": 16, "n_layers": 2, "kernel": 5}
GENERATOR = {**SCORE, "n_fft": 64, "hop_length": HOP, "sample_rate": RATE}
HEADS = pytest.mark.parametrize("head", ["plain", "source"])
PADDINGS = pytest.mark.parametrize("padding", [0, 4, 32, 192])
LENGTHS = pytest.mark.parametrize("length", [1, 2, 9])


@torch.no_grad()
def perturbed(network, std=0.2):
    """In which nothing is at zero, as after some training."""
    for parameter in network.parameters():
        parameter.add_(std * torch.randn_like(parameter))
    return network.eval()


@pytest.fixture
def score():
    torch.manual_seed(0)
    return perturbed(ConvNeXtScore(N_LATENTS, N_CONDITION, **SCORE))


def build(head, seed=0, **sizes):
    torch.manual_seed(seed)
    return ConvNeXtGenerator(N_INPUTS, head=head, **{**GENERATOR, **sizes})


def draw(batch, frames, seed=0):
    """x, mu, t and condition of the score network."""
    g = torch.Generator().manual_seed(seed)
    x, mu = torch.randn(2, batch, N_LATENTS, frames, generator=g)
    return x, mu, torch.rand(batch, generator=g), torch.randn(batch, N_CONDITION, frames, generator=g)


def sources(batch, frames, seed=0):
    """x, f0, voicing and noise of a generator."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, N_INPUTS, frames, generator=g)
    f0 = 100 + 300 * torch.rand(batch, 1, frames, generator=g)
    return x, f0, torch.rand(batch, 1, frames, generator=g), torch.randn(batch, 1, frames * HOP, generator=g)


def mask_of(lengths, frames):
    return sequence_mask(torch.tensor(lengths), frames).float()


# the score network


def test_the_score_starts_at_zero_whatever_it_is_told():
    score = ConvNeXtScore(N_LATENTS, N_CONDITION, **SCORE)
    x, mu, t, condition = draw(2, 11)
    y = score(x, mu, mask_of([11, 4], 11), t, condition)
    assert y.shape == x.shape and not y.any()


@torch.no_grad()
@pytest.mark.parametrize("which", ["x", "mu", "t", "condition"])
def test_the_score_hears_each_input_of_its_own_item(score, which):
    inputs = dict(zip(("x", "mu", "t", "condition"), draw(2, 11)))
    before = score(mask=mask_of([11, 11], 11), **inputs)
    inputs[which] = inputs[which].clone()
    inputs[which][0] = inputs[which][0] * 0.5
    changed = (score(mask=mask_of([11, 11], 11), **inputs) - before).abs().amax((1, 2))
    assert changed[0] > 1e-3 and changed[1] <= 1e-6


@torch.no_grad()
def test_the_score_needs_no_condition_where_it_has_no_channels():
    score = perturbed(ConvNeXtScore(N_LATENTS, 0, **SCORE))
    x, mu, t, _ = draw(2, 11)
    y = score(x, mu, mask_of([11, 4], 11), t)
    assert y.shape == x.shape and y[0].any() and not y[1, :, 4:].any()


@torch.no_grad()
def test_the_one_step_embedding_starts_at_zero_and_belongs_to_t_one(score):
    assert not ConvNeXtScore(N_LATENTS, N_CONDITION, **SCORE).one_step.any()
    x, mu, t, condition = draw(4, 8)
    t[1] = t[3] = 1.0
    before = score(x, mu, mask_of([8] * 4, 8), t, condition)
    score.one_step.add_(1)
    changed = (score(x, mu, mask_of([8] * 4, 8), t, condition) - before).abs().amax((1, 2))
    assert (changed[[1, 3]] > 1e-4).all() and not changed[[0, 2]].any()


@torch.no_grad()
@LENGTHS
@PADDINGS
def test_padding_changes_nothing_of_the_score(score, length, padding):
    x, mu, t, condition = draw(1, length)
    alone = score(x, mu, mask_of([length], length), t, condition)
    garbage = draw(1, padding, seed=1)
    x, mu, condition = (torch.cat([a, 10 * b], 2) for a, b in zip((x, mu, condition), (*garbage[:2], garbage[3])))
    y = score(x, mu, mask_of([length], length + padding), t, condition)
    assert (y[..., :length] - alone).abs().max() <= 1e-5 and not y[..., length:].any()


@torch.no_grad()
def test_a_batch_of_scores_is_its_singles(score):
    lengths = [13, 1, 6]
    x, mu, t, condition = draw(3, 13)
    y = score(x, mu, mask_of(lengths, 13), t, condition)
    for i, n in enumerate(lengths):
        item = slice(i, i + 1)
        alone = score(x[item, :, :n], mu[item, :, :n], mask_of([n], n), t[item], condition[item, :, :n])
        assert (y[i, :, :n] - alone[0]).abs().max() <= 1e-5


def test_every_parameter_of_the_score_learns(score):
    x, mu, _, condition = draw(2, 9)
    score(x, mu, mask_of([9, 5], 9), torch.tensor([0.3, 1.0]), condition).square().sum().backward()
    for name, parameter in score.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("t", [1.0, 0.3])
def test_the_score_in_half_precision_differs_little(score, t):
    x, mu, _, condition = draw(2, 20)
    inputs = (x, mu, mask_of([20, 7], 20), torch.full((2,), t), condition)
    y = score(*inputs).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = score(*inputs)
    half.float().square().sum().backward()
    assert (half.float() - y).norm() < 0.03 * y.norm()
    assert all(parameter.grad.isfinite().all() for parameter in score.parameters() if parameter.grad is not None)


# the inverse STFT


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 256), (16, 4), (64, 32), (36, 12), (64, 8)])
@pytest.mark.parametrize("frames", [1, 2, 3, 50])
def test_the_inverse_of_a_waveforms_spectra_is_the_waveform_to_both_ends(n_fft, hop, frames):
    wav = torch.randn(2, frames * hop, generator=torch.Generator().manual_seed(0))
    padded = F.pad(wav, (n_fft, n_fft), value=0.3)[:, (n_fft + hop) // 2 : -(n_fft + hop) // 2]
    spectrum = torch.stft(
        padded, n_fft, hop, window=torch.hann_window(n_fft), center=False, return_complex=True
    )  # (B, n_fft / 2 + 1, T)
    assert spectrum.shape[-1] == frames
    back = InverseSTFT(n_fft, hop)(spectrum.real, spectrum.imag)
    assert back.shape == (2, 1, frames * hop)
    assert (back[:, 0] - wav).abs().max() <= 1e-5


def test_the_frames_are_those_of_the_mel_spectrogram():
    """A click in one hop's middle is loudest in that hop's frame, forth and back."""
    mel = MelSpectrogram(sample_rate=RATE, n_fft=1024, hop_length=256, win_length=1024, n_mels=20, f_min=0, f_max=8000)
    spectrum = torch.zeros(1, 513, 21)
    spectrum[0, :, 7] = (-1.0) ** torch.arange(513)  # of a click at the window's middle
    wav = InverseSTFT(1024, 256)(spectrum, torch.zeros_like(spectrum))
    assert wav[0, 0].abs().argmax() == 256 * 7 + 128
    assert (mel(wav)[0].argmax(dim=1) == 7).all()


def test_magnitudes_are_bounded_smoothly_and_start_out_exponential():
    x = torch.tensor([-200.0, -5.0, 0.0, 3.0, 200.0], dtype=torch.float64, requires_grad=True)
    y = bounded_exp(x, 512)
    assert torch.allclose(y[:4], x[:4].exp(), rtol=0.05) and y[4] <= 512
    y.sum().backward()
    assert x.grad.isfinite().all() and (x.grad >= 0).all()
    real, imag = to_spectrum(torch.full((1, 18, 3), 1e4))
    assert torch.hypot(real, imag).max() == pytest.approx(8)


# the excitation


def pulses_of(f0):
    """f0: (T,) Hz. Returns (T 256,) float64."""
    excitation, f0 = Excitation(1024, 256, RATE), torch.as_tensor(f0, dtype=torch.float32)[None, None]
    return excitation.pulses(f0, phase=excitation.phase(f0, torch.ones_like(f0)))[0, 0].double().numpy()


def harmonics_of(f0, n):
    """The pulses by their definition. f0: Hz and n: harmonics, of each sample. Returns as many samples."""
    phase = 2 * np.pi * np.cumsum(np.asarray(f0, dtype=np.float64) / RATE)
    total = sum(np.cos(k * phase) * (k <= n) for k in range(1, n.max() + 1))
    return total * np.sqrt(2 / n)


@pytest.mark.parametrize("f0", [80.0, 110.25, 173.3, 225.0, 400.0, 6000.0])
def test_pulses_have_equal_harmonics_up_to_nyquist_nothing_else_and_power_one(f0):
    wav = pulses_of([f0] * 80)
    assert np.square(wav).mean() == pytest.approx(1, abs=0.02)
    n = math.ceil(RATE / 2 / f0) - 1  # one that falls on the Nyquist frequency is left out
    window = np.blackman(len(wav)) / np.blackman(len(wav)).sum()

    def heights(frequencies):
        angles = 2 * np.pi * np.outer(frequencies, np.arange(len(wav))) / RATE
        return np.abs((np.exp(-1j * angles) * (window * wav)).sum(1))

    level = 20 * np.log10(heights(f0 * np.arange(1, n + 1)) / np.sqrt(1 / 2 / n))
    assert np.abs(level).max() < 0.1  # dB of each harmonic's amplitude, sqrt(2 / n)
    assert heights(f0 * np.arange(1, n + 1) + f0 / 2)[:-1].max(initial=0) < 1e-4
    above = np.fft.rfftfreq(len(wav), 1 / RATE) > n * f0 + 10
    assert np.abs(np.fft.rfft(window * wav))[above].max() < 1e-4


def test_a_gliding_pitch_has_one_phase_that_never_jumps():
    frames = np.linspace(100, 330, 90)  # Hz
    places = ((np.arange(90 * 256) + 0.5) / 256 - 0.5).clip(0, 89)  # in frames
    f0 = np.interp(places, np.arange(90), frames)
    expected = harmonics_of(f0, np.ceil(RATE / 2 / f0).astype(int) - 1)
    wav = pulses_of(frames)
    # a sample in a thousand may have its harmonics counted otherwise, where one more reaches the Nyquist frequency
    assert np.quantile(np.abs(wav - expected), 0.999) < 2e-3
    assert np.square(wav - expected).mean() < 1e-4


def test_a_minute_later_the_pulses_are_still_in_place():
    frames = 60 * RATE // 256
    f0 = np.float64(np.float32(173.3))
    last = slice(frames * 256 - 4096, None)
    phase = 2 * np.pi * f0 / RATE * np.arange(1, frames * 256 + 1)[last]
    n = math.ceil(RATE / 2 / f0) - 1
    expected = sum(np.cos(k * phase) for k in range(1, n + 1)) * np.sqrt(2 / n)
    assert np.abs(pulses_of([f0] * frames)[last] - expected).max() < 1e-3


def test_pulses_are_right_where_a_phase_is_exactly_zero():
    for n in (1, 3):
        f0 = RATE / 2 / (n + 1)
        wav = pulses_of([f0] * 4)
        assert wav[2 * (n + 1) - 1] == pytest.approx(math.sqrt(2 * n), abs=1e-5)
        assert np.abs(wav - harmonics_of([f0] * 1024, np.full(1024, n))).max() < 1e-4


@pytest.mark.parametrize("f0", [1e-3, RATE / 2, RATE])
def test_pulses_of_no_voice_are_finite(f0):
    assert np.isfinite(pulses_of([f0] * 4)).all()


def test_spectra_of_pulses_and_noise_are_equally_flat():
    torch.manual_seed(0)
    excitation = Excitation(1024, 256, RATE)
    spectra = torch.complex(*excitation(torch.full((1, 1, 400), 210.0), torch.ones(1, 1, 400)))
    power = spectra.abs().square()[:, 0, :, 3:-3].mean(-1)  # (2, 513)
    level = 10 * torch.log10(power[:, 10:490].unflatten(1, (-1, 40)).mean(2) / (3 / 8 * 1024))
    assert level.abs().max() < 0.7  # dB, in each of twelve bands


def spectra_of(wav, n_fft=1024, hop=256):
    """wav: (T hop,). Returns (n_fft / 2 + 1, T) as defined: silence on both sides, a Hann window, a DFT a frame."""
    padded = np.pad(wav, (n_fft - hop) // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return np.stack([np.fft.rfft(window * padded[i : i + n_fft]) for i in range(0, len(wav), hop)], axis=1)


@pytest.mark.parametrize("off", [0.0, 0.02])
def test_pulses_keep_step_with_a_recording(off):
    """The recording's F0 wavers by 1% about a contour that is `off` beside it; its lowest harmonic starts anywhere."""
    places = np.arange(256 * 60) / RATE
    cycles = np.cumsum(180 * (1 + 0.01 * np.sin(2 * np.pi * 6 * places))) / RATE + 0.37
    recording = sum(np.cos(2 * np.pi * (k * cycles + (0 if k == 1 else 0.1 * k))) / k for k in range(1, 9))
    excitation = Excitation(1024, 256, RATE)
    f0 = torch.full((1, 1, 60), 180 * (1 + off))
    recording = torch.as_tensor(recording, dtype=torch.float32)[None, None]
    followed = excitation.pulses(f0, recording=recording)[0, 0].double().numpy()
    n = math.ceil(RATE / 2 / (180 * (1 + off))) - 1
    expected = sum(np.cos(2 * np.pi * k * cycles) for k in range(1, n + 1)) * np.sqrt(2 / n)
    inner = slice(512, -512)  # the ends see less of the recording
    assert np.corrcoef(followed[inner], expected[inner])[0, 1] > 0.9
    free = excitation.pulses(f0)[0, 0].double().numpy()
    assert np.corrcoef(free[inner], expected[inner])[0, 1] < 0.5


def test_a_recordings_lead_is_that_of_a_sum_over_a_window():
    """The angle of the recording, shifted down by F0, under a Hann window about each sample, written out."""
    generator = np.random.default_rng(0)
    recording, cycles = generator.standard_normal(900), np.cumsum(np.full(900, 150 / RATE))
    lead = Excitation(1024, 256, RATE).lead(*(torch.as_tensor(each)[None, None] for each in (recording, cycles)))
    half = int(LOCK_SPAN / 2 * RATE)
    window = np.hanning(2 * half + 1)
    shifted = np.pad(recording * np.exp(-2j * np.pi * cycles), half)
    for i in (0, 1, 300, 450, 899):
        angle = np.angle(np.sum(shifted[i : i + 2 * half + 1] * window)) / (2 * np.pi)
        assert abs((lead[0, 0, i].item() - angle + 0.5) % 1 - 0.5) < 1e-4


def test_pulses_are_silent_without_voice_and_whole_with_it():
    f0 = torch.linspace(90, 300, 30)[None, None]
    voicing = torch.cat([torch.ones(10), torch.zeros(10), torch.ones(10)])[None, None]
    noise = torch.randn(1, 1, 30 * 256, generator=torch.Generator().manual_seed(0))
    excitation = Excitation(1024, 256, RATE)
    gains = torch.ones_like(f0), torch.zeros_like(f0), voicing
    whole, silent, mixed = (torch.complex(*excitation(f0, gain, noise)) for gain in gains)
    assert np.abs(whole[0, 0].numpy() - spectra_of(pulses_of(f0[0, 0]))).max() < 1e-2
    assert not silent[0].any()
    anew = excitation.pulses(f0, phase=excitation.phase(f0, voicing))[0, 0].numpy()
    apart = [*range(8), *range(22, 30)]  # whose windows reach no frame of other voicing
    assert np.abs(mixed[0, 0].numpy() - spectra_of(anew))[..., apart].max() < 1e-2
    assert torch.equal(mixed[0][..., :8], whole[0][..., :8])
    assert not mixed[0, ..., 12:18].any() and mixed[0, ..., 10].any()
    assert torch.equal(whole[1], silent[1]) and torch.equal(whole[1], mixed[1])  # the noise knows of no voice


def test_the_pulses_phase_is_their_cycles_since_they_were_silent():
    excitation, f0 = Excitation(1024, 256, RATE), torch.linspace(90, 300, 30, dtype=torch.float64)[None, None]
    places = ((np.arange(30 * 256) + 0.5) / 256 - 0.5).clip(0, 29)  # in frames
    cycles = np.cumsum(np.interp(places, np.arange(30), f0[0, 0])) / RATE
    before = np.concatenate([[0], cycles[255:-1:256]])  # of all frames before

    def check(silent, since):
        voicing = torch.ones_like(f0)
        voicing[..., silent] = 0
        apart = excitation.phase(f0, voicing)[0, 0].numpy() - (before - before[since])
        assert np.abs(apart - apart.round()).max() < 1e-9

    check([], [0] * 30)
    check([12], [0] * 30)  # one silent frame alone is heard at both ends
    check([0, 1, 12, 13, 14], [0, *[1] * 12, 13, *[14] * 16])


def test_voicing_is_interpolated_from_frame_to_frame():
    f0, voicing = torch.full((1, 1, 6), 150.0), torch.tensor([0.0, 0.2, 1.0, 1.0, 0.5, 0.0])[None, None]
    places = ((np.arange(6 * 256) + 0.5) / 256 - 0.5).clip(0, 5)  # in frames
    gain = np.interp(places, np.arange(6), voicing[0, 0])
    found = torch.complex(*Excitation(1024, 256, RATE)(f0, voicing))[0, 0].numpy()
    assert np.abs(found - spectra_of(gain * pulses_of(f0[0, 0]))).max() < 1e-2


# the generator


@torch.no_grad()
@HEADS
@pytest.mark.parametrize("frames", [1, 2, 7, 40])
def test_a_frame_is_hop_length_samples(head, frames):
    x, f0, voicing, _ = sources(2, frames)
    wav = build(head)(x, None, f0, voicing)
    assert wav.shape == (2, 1, frames * HOP) and wav.dtype == torch.float32


def test_the_source_head_alone_needs_f0_and_voicing():
    x, f0, voicing, _ = sources(1, 4)
    assert build("source").needs_f0 and not build("plain").needs_f0
    build("plain")(x)
    for given in ({}, {"f0": f0}, {"voicing": voicing}):
        with pytest.raises(ValueError, match="f0 and voicing"):
            build("source")(x, **given)


@torch.no_grad()
@HEADS
def test_it_starts_quiet_but_heard(head):
    x, f0, voicing, _ = sources(4, 200)
    sizes = {"channels": 64, "hidden_channels": 64, "n_fft": 1024, "hop_length": 256}
    level = 20 * build(head, **sizes)(x, None, f0, voicing).square().mean().sqrt().log10()
    assert level == pytest.approx(-40, abs=5)


@torch.no_grad()
@HEADS
@LENGTHS
@PADDINGS
def test_padding_changes_nothing_of_the_sound(head, length, padding):
    generator = perturbed(build(head), std=0.5)
    inputs = sources(1, length)
    wav = generator(inputs[0], None, *inputs[1:])
    x, f0, voicing, noise = sources(1, padding, seed=1)
    garbage = 10 * x, torch.where(f0 < 250, -f0, 0), 10 * voicing, 10 * noise
    x, *source = (torch.cat(pair, dim=2) for pair in zip(inputs, garbage))
    padded_wav = generator(x, mask_of([length], length + padding), *source)
    assert wav.abs().max() > 0.01
    assert (padded_wav[..., : length * HOP] - wav).abs().max() <= 1e-5
    assert not padded_wav[..., length * HOP :].any()


@torch.no_grad()
@HEADS
def test_a_batch_is_its_singles(head):
    generator, lengths = perturbed(build(head)), [13, 1, 6]
    x, f0, voicing, noise = sources(3, 13)
    wav = generator(x, mask_of(lengths, 13), f0, voicing, noise)
    for i, n in enumerate(lengths):
        one = slice(i, i + 1), slice(None), slice(n)
        alone = generator(x[one], None, f0[one], voicing[one], noise[i : i + 1, :, : n * HOP])
        assert (wav[i, :, : n * HOP] - alone[0]).abs().max() <= 1e-5


@torch.no_grad()
def test_the_noise_is_all_that_is_random():
    generator = build("source")
    x, *source, noise = sources(2, 12)
    assert torch.equal(generator(x, None, *source, noise), generator(x, None, *source, noise))
    assert not torch.allclose(generator(x, None, *source), generator(x, None, *source), atol=1e-4)
    torch.manual_seed(5)
    drawn = generator(x, None, *source)
    torch.manual_seed(5)
    assert torch.equal(drawn, generator(x, None, *source, torch.randn_like(noise)))


@torch.no_grad()
def test_without_noise_the_sound_repeats_at_f0():
    generator = build("source", n_fft=1024, hop_length=256)
    pulse_gain, angle, noise_gain = generator.head.out.bias.chunk(3)
    generator.head.out.weight.zero_()
    bins = torch.arange(513)
    pulse_gain.copy_(-(bins / 200))  # nepers: a slope of the spectrum
    angle.copy_(0.3 * torch.sin(bins / 50))

    def repeats():
        x, f0 = torch.ones(1, N_INPUTS, 60), torch.full((1, 1, 60), 210.0)
        wav = generator(x, None, f0, torch.ones_like(f0))[0, 0, 2048:-2048]
        return ((wav[105:] - wav[:-105]).norm() / wav.norm()).item()  # 22050 / 210 = 105 samples

    noise_gain.fill_(-100)
    assert repeats() < 0.02
    noise_gain.fill_(-1)
    assert repeats() > 0.2


@HEADS
def test_every_parameter_learns_and_f0_and_voicing_do_not(head):
    generator = perturbed(build(head))
    x, f0, voicing, noise = sources(2, 9)
    f0.requires_grad_()
    voicing.requires_grad_()
    generator(x, mask_of([9, 4], 9), f0, voicing, noise).square().sum().backward()
    assert f0.grad is None and voicing.grad is None
    for name, parameter in generator.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@HEADS
def test_the_loudest_and_the_quietest_are_finite_and_so_are_their_gradients(head):
    for bias in (200.0, -200.0):
        generator = build(head)
        with torch.no_grad():
            generator.head.out.bias.fill_(bias)
        x, *source = sources(1, 9)
        x = (1e4 * x).requires_grad_()
        wav = generator(x, None, *source)
        wav.sum().backward()
        assert wav.isfinite().all() and wav.abs().max() <= 10 * MAX_GAIN
        assert x.grad.isfinite().all()
        assert all(parameter.grad.isfinite().all() for parameter in generator.parameters())


@HEADS
def test_half_precision_differs_little(head):
    generator = build(head)
    x, *source = sources(2, 20)
    wav = generator(x, None, *source).detach()
    with torch.autocast("cpu", torch.bfloat16):
        half = generator(x, None, *source)
    assert half.dtype == torch.float32
    assert (half - wav).norm() < 0.05 * wav.norm()
    half.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in generator.parameters())


def vowel(frames):
    """(1, 1, T 256) one vowel with its melody, and its F0 (1, 1, T) Hz."""
    time = np.arange(frames * 256) / RATE
    f0 = 120 + 30 * np.sin(4 * np.pi * time)
    phase = 2 * np.pi * np.cumsum(f0 / RATE)
    wav = np.zeros_like(time)
    for k in range(1, 60):
        formants = ((700, 90), (1200, 120), (2600, 200))  # Hz, and Hz wide
        wav += sum(1 / (1 + ((k * f0 - centre) / width) ** 2) for centre, width in formants) * np.cos(k * phase)
    wav = 0.5 * wav / np.abs(wav).max() + 1e-3 * np.random.default_rng(0).standard_normal(len(wav))
    return torch.tensor(wav, dtype=torch.float32)[None, None], torch.tensor(f0[128::256], dtype=torch.float32)[
        None, None
    ]


def log_spectra(wav):
    spectra = (torch.stft(wav[:, 0], n, n // 4, window=torch.hann_window(n), return_complex=True) for n in (512, 2048))
    return [torch.log(spectrum.abs() + 1e-2) for spectrum in spectra]


@HEADS
def test_a_vowel_is_learnt_in_a_handful_of_steps(head):
    wav, f0 = vowel(86)
    mel = MelSpectrogram(sample_rate=RATE, n_fft=1024, hop_length=256, win_length=1024, n_mels=20, f_min=0, f_max=8000)
    torch.manual_seed(0)
    generator = ConvNeXtGenerator(20, 32, 64, 2, 7, head, 1024, 256, RATE)
    optimiser = torch.optim.Adam(generator.parameters(), 5e-3, betas=(0.8, 0.99))
    x, wanted, values = mel(wav) / 3 + 2, log_spectra(wav), []
    for _ in range(60):
        loss = sum(
            (a - b).abs().mean() for a, b in zip(log_spectra(generator(x, None, f0, torch.ones_like(f0))), wanted)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < {"plain": 0.4, "source": 0.25}[head] * values[0]
