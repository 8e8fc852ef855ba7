"""The ConvNeXt networks: what the score network starts as, inverse spectra, and pulses that keep their pitch."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_util.audio import MelSpectrogram
from model.convnext import LOCK_SPAN, MAX_GAIN, ConvNeXtScore, Excitation
from model.layers import InverseSTFT, bounded_exp
from model.vocoder import Source
from tests.conftest import spectra
from tests.test_networks import BLOCKS, STFT, convnext_vocoder

RATE = 22050  # Hz
N_INPUTS, HOP = 5, STFT["hop_length"]


def build(**sizes):
    torch.manual_seed(0)
    return convnext_vocoder(N_INPUTS, **sizes)


def given(batch, frames, hop=HOP):
    """features, None and a source, of a vocoder."""
    g = torch.Generator().manual_seed(0)
    features = torch.randn(batch, N_INPUTS, frames, generator=g)
    f0 = 100 + 300 * torch.rand(batch, 1, frames, generator=g)
    noise = torch.randn(batch, 1, frames * hop, generator=g)
    return features, None, Source(f0, torch.rand(batch, 1, frames, generator=g), noise)


@torch.no_grad()
def test_the_score_starts_at_zero_and_needs_no_condition_where_it_has_no_channels():
    x, mu, t = *torch.randn(2, 2, 6, 11), torch.rand(2)
    assert not ConvNeXtScore(6, 2, **BLOCKS)(x, t, None, mu, torch.randn(2, 2, 11)).any()
    score = ConvNeXtScore(6, 0, **BLOCKS)
    torch.nn.init.normal_(score.out.weight)
    assert score(x, t, None, mu).shape == x.shape and score(x, t, None, mu).any()


# the inverse STFT


@pytest.mark.parametrize(("n_fft", "hop"), [(1024, 256), (16, 4), (64, 32), (36, 12), (64, 8)])
def test_the_inverse_of_a_waveforms_spectra_is_the_waveform_to_both_ends(n_fft, hop):
    for frames in (1, 2, 3, 50):
        wav = torch.randn(2, frames * hop, generator=torch.Generator().manual_seed(0))
        padded = F.pad(wav, (n_fft, n_fft), value=0.3)[:, (n_fft + hop) // 2 : -(n_fft + hop) // 2]
        window = torch.hann_window(n_fft)
        spectrum = torch.stft(padded, n_fft, hop, window=window, center=False, return_complex=True)
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


# the excitation


@pytest.fixture
def excitation():
    return Excitation(1024, 256, RATE)


def pulses_of(f0, voicing=None, recording=None):
    """f0 and voicing (or it is 1): (T,), Hz; recording: (T 256,). Returns (T 256,) float64."""
    excitation, f0 = Excitation(1024, 256, RATE), torch.as_tensor(f0, dtype=torch.float32)[None, None]
    phase = excitation.phase(f0, torch.ones_like(f0) if voicing is None else voicing[None, None])
    if recording is not None:
        recording = torch.as_tensor(recording, dtype=torch.float32)[None, None]
    return excitation.pulses(f0, None, recording, phase)[0, 0].double().numpy()


def harmonics_of(cycles, f0):
    """The pulses by their definition: all harmonics under the Nyquist frequency. Both are of each sample."""
    n = np.ceil(RATE / 2 / f0).astype(int) - 1
    total = sum(np.cos(2 * np.pi * k * cycles) * (k <= n) for k in range(1, n.max() + 1))
    return total * np.sqrt(2 / n)


def at_samples(frames):
    """Values of frames, interpolated from the middle of each to its 256 samples."""
    places = (np.arange(len(frames) * 256) + 0.5) / 256 - 0.5
    return np.interp(places, np.arange(len(frames)), frames)  # which holds the ends


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
    f0 = at_samples(frames)
    expected, wav = harmonics_of(np.cumsum(f0 / RATE), f0), pulses_of(frames)
    # a sample in a thousand may have its harmonics counted otherwise, where one more reaches the Nyquist frequency
    assert np.quantile(np.abs(wav - expected), 0.999) < 2e-3
    assert np.square(wav - expected).mean() < 1e-4


def test_a_minute_later_the_pulses_are_still_in_place():
    frames = 60 * RATE // 256
    f0 = np.float64(np.float32(173.3))
    last = np.arange(frames * 256 - 4096, frames * 256)
    assert np.abs(pulses_of([f0] * frames)[last] - harmonics_of(f0 / RATE * (1 + last), f0)).max() < 1e-3


def test_pulses_are_right_where_a_phase_is_exactly_zero():
    for n in (1, 3):
        f0 = RATE / 2 / (n + 1)
        wav = pulses_of([f0] * 4)
        assert wav[2 * (n + 1) - 1] == pytest.approx(math.sqrt(2 * n), abs=1e-5)
        assert np.abs(wav - harmonics_of(f0 / RATE * np.arange(1, 1025), f0)).max() < 1e-4


@pytest.mark.parametrize("f0", [1e-3, RATE / 2, RATE])
def test_pulses_of_no_voice_are_finite(f0):
    assert np.isfinite(pulses_of([f0] * 4)).all()


def test_spectra_of_pulses_and_noise_are_equally_flat(excitation):
    torch.manual_seed(0)
    spectra = torch.complex(*excitation(Source(torch.full((1, 1, 400), 210.0), torch.ones(1, 1, 400))))
    power = spectra.abs().square()[:, 0, :, 3:-3].mean(-1)  # (2, 513)
    level = 10 * torch.log10(power[:, 10:490].unflatten(1, (-1, 40)).mean(2) / (3 / 8 * 1024))
    assert level.abs().max() < 0.7  # dB, in each of twelve bands


def test_a_voice_that_speaks_has_of_the_noise_its_phases_alone(excitation):
    noise = torch.randn(1, 1, 400 * 256, generator=torch.Generator().manual_seed(0))
    source = Source(torch.full((1, 1, 400), 210.0), torch.ones(1, 1, 400), noise)
    drawn, heard = (torch.complex(*excitation.train(trains)(source)) for trains in (True, False))
    assert torch.equal(heard[0], drawn[0])
    level = drawn[1].abs()[:, 1:-1, 3:-3].mean()  # at both ends there is less noise, and the outer bins are real
    usual = drawn[1].abs() > 0.2 * level
    assert torch.allclose(heard[1].abs()[usual], level, rtol=0.01)
    assert torch.allclose(torch.angle(heard[1] / drawn[1])[usual], torch.zeros(()), atol=1e-3)
    assert heard[1].abs().max() < 1.01 * level


def spectra_of(wav):
    """wav: (T 256,). Returns (513, T): with silence on both sides."""
    return spectra(np.pad(wav, (1024 - 256) // 2), 1024, 256)


@pytest.mark.parametrize("off", [0.0, 0.02])
def test_pulses_keep_step_with_a_recording(off):
    """The recording's F0 wavers by 1% about a contour that is `off` beside it; its lowest harmonic starts anywhere."""
    places = np.arange(256 * 60) / RATE
    cycles = np.cumsum(180 * (1 + 0.01 * np.sin(2 * np.pi * 6 * places))) / RATE + 0.37
    recording = sum(np.cos(2 * np.pi * (k * cycles + (0 if k == 1 else 0.1 * k))) / k for k in range(1, 9))
    f0 = 180 * (1 + off)
    expected, inner = harmonics_of(cycles, f0), slice(512, -512)  # the ends see less of the recording
    followed, free = pulses_of([f0] * 60, recording=recording), pulses_of([f0] * 60)
    assert np.corrcoef(followed[inner], expected[inner])[0, 1] > 0.9
    assert np.corrcoef(free[inner], expected[inner])[0, 1] < 0.5


def test_a_recordings_lead_is_that_of_a_sum_over_a_window(excitation):
    """The angle of the recording, shifted down by F0, under a Hann window about each sample, written out."""
    generator = np.random.default_rng(0)
    recording, cycles = generator.standard_normal(900), np.cumsum(np.full(900, 150 / RATE))
    lead = excitation.lead(*(torch.as_tensor(each)[None, None] for each in (recording, cycles)))
    half = int(LOCK_SPAN / 2 * RATE)
    window = np.hanning(2 * half + 1)
    shifted = np.pad(recording * np.exp(-2j * np.pi * cycles), half)
    for i in (0, 1, 300, 450, 899):
        angle = np.angle(np.sum(shifted[i : i + 2 * half + 1] * window)) / (2 * np.pi)
        assert abs((lead[0, 0, i].item() - angle + 0.5) % 1 - 0.5) < 1e-4


def test_pulses_are_silent_without_voice_and_whole_with_it(excitation):
    f0 = torch.linspace(90, 300, 30)[None, None]
    voicing = torch.cat([torch.ones(10), torch.zeros(10), torch.ones(10)])[None, None]
    noise = torch.randn(1, 1, 30 * 256, generator=torch.Generator().manual_seed(0))
    gains = torch.ones_like(f0), torch.zeros_like(f0), voicing
    whole, silent, mixed = (torch.complex(*excitation(Source(f0, gain, noise))) for gain in gains)
    assert np.abs(whole[0, 0].numpy() - spectra_of(pulses_of(f0[0, 0]))).max() < 1e-2
    assert not silent[0].any()
    anew = pulses_of(f0[0, 0], voicing[0, 0])
    apart = [*range(8), *range(22, 30)]  # whose windows reach no frame of other voicing
    assert np.abs(mixed[0, 0].numpy() - spectra_of(anew))[..., apart].max() < 1e-2
    assert torch.equal(mixed[0][..., :8], whole[0][..., :8])
    assert not mixed[0, ..., 12:18].any() and mixed[0, ..., 10].any()
    assert torch.equal(whole[1], silent[1]) and torch.equal(whole[1], mixed[1])  # the noise knows of no voice


def test_the_pulses_phase_is_their_cycles_since_they_were_silent(excitation):
    f0 = torch.linspace(90, 300, 30, dtype=torch.float64)[None, None]
    cycles = np.cumsum(at_samples(f0[0, 0])) / RATE
    before = np.concatenate([[0], cycles[255:-1:256]])  # of all frames before

    def check(silent, since):
        voicing = torch.ones_like(f0)
        voicing[..., silent] = 0
        apart = excitation.phase(f0, voicing)[0, 0].numpy() - (before - before[since])
        assert np.abs(apart - apart.round()).max() < 1e-9

    check([], [0] * 30)
    check([12], [0] * 30)  # one silent frame alone is heard at both ends
    check([0, 1, 12, 13, 14], [0, *[1] * 12, 13, *[14] * 16])


def test_voicing_is_interpolated_from_frame_to_frame(excitation):
    f0, voicing = torch.full((1, 1, 6), 150.0), torch.tensor([0.0, 0.2, 1.0, 1.0, 0.5, 0.0])[None, None]
    found = torch.complex(*excitation(Source(f0, voicing)))[0, 0].numpy()
    assert np.abs(found - spectra_of(at_samples(voicing[0, 0]) * pulses_of(f0[0, 0]))).max() < 1e-2


# the vocoder


@torch.no_grad()
def test_a_frame_is_hop_length_samples_and_it_starts_quiet_but_heard():
    for frames in (1, 2, 7):
        wav = build()(*given(2, frames))
        assert wav.shape == (2, 1, frames * HOP) and wav.dtype == torch.float32
    vocoder = build(channels=64, hidden_channels=64, n_fft=1024, hop_length=256)
    level = 20 * vocoder(*given(4, 200, hop=256)).square().mean().sqrt().log10()
    assert level == pytest.approx(-40, abs=5)


def test_it_needs_a_source():
    with pytest.raises(ValueError, match="needs a source"):
        build()(given(1, 4)[0])


@torch.no_grad()
def test_the_noise_is_all_that_is_random():
    vocoder, (features, _, source) = build(), given(2, 12)
    assert torch.equal(vocoder(features, None, source), vocoder(features, None, source))
    free = source._replace(noise=None)
    assert not torch.allclose(vocoder(features, None, free), vocoder(features, None, free), atol=1e-4)
    torch.manual_seed(5)
    drawn = vocoder(features, None, free)
    torch.manual_seed(5)
    assert torch.equal(drawn, vocoder(features, None, source._replace(noise=torch.randn_like(source.noise))))


@torch.no_grad()
def test_without_noise_the_sound_repeats_at_f0():
    vocoder = build(n_fft=1024, hop_length=256)
    pulse_gain, angle, noise_gain = vocoder.head.out.bias.chunk(3)
    vocoder.head.out.weight.zero_()
    bins = torch.arange(513)
    pulse_gain.copy_(-(bins / 200))  # nepers: a slope of the spectrum
    angle.copy_(0.3 * torch.sin(bins / 50))

    def repeats():
        f0 = torch.full((1, 1, 60), 210.0)
        wav = vocoder(torch.ones(1, N_INPUTS, 60), None, Source(f0, torch.ones_like(f0)))[0, 0, 2048:-2048]
        return ((wav[105:] - wav[:-105]).norm() / wav.norm()).item()  # 22050 / 210 = 105 samples

    noise_gain.fill_(-100)
    assert repeats() < 0.02
    noise_gain.fill_(-1)
    assert repeats() > 0.2


@pytest.mark.parametrize("bias", [200.0, -200.0])
def test_the_loudest_and_the_quietest_are_finite_and_so_are_their_gradients(bias):
    vocoder, (features, _, source) = build(), given(1, 9)
    torch.nn.init.constant_(vocoder.head.out.bias, bias)
    features = (1e4 * features).requires_grad_()
    wav = vocoder(features, None, source)
    wav.sum().backward()
    assert wav.isfinite().all() and wav.abs().max() <= 10 * MAX_GAIN
    assert all(value.grad.isfinite().all() for value in (features, *vocoder.parameters()))
