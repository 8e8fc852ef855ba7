"""ConvNeXt blocks over frames: a score network, and a vocoder that ends in an inverse STFT (Vocos, Siuzdak 2023)."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import fftconvolve

from model.layers import (
    ChannelNorm,
    ConvNeXtBlock,
    Fourier,
    InverseSTFT,
    ScoreNetwork,
    bounded_exp,
    masked,
    overlapping,
    speaker_embedding,
    to_float32,
    with_speaker,
    zero_init,
)
from model.vocoder import Source, Vocoder

LOCK_SPAN = 0.03  # seconds of a recording by which the phase of its lowest harmonic is known
START = 0.01  # RMS, of full scale, that the spectra start near: -40 dB
MEAN_SIZE = math.sqrt(math.pi) / 2  # of the magnitudes of white noise's spectra by their RMS: Rayleigh's distribution
SMALL = 0.01  # by the RMS: magnitudes that stay small, since their phases would be rounding's
MAX_GAIN = 30.0  # of the excitation, which has power one: a whole harmonic of a low voice may fill the scale


class ConvNeXtScore(ScoreNetwork):
    """F(r_t, mu, t), what the posterior mean is made of: convolutions over time with the bands as channels."""

    def __init__(
        self,
        n_latents: int,
        condition_channels: int,
        channels: int,
        hidden_channels: int,
        n_layers: int,
        kernel: int,
        n_speakers: int = 1,
    ):
        super().__init__(channels, n_speakers)
        self.conv_in = nn.Conv1d(2 * n_latents + condition_channels, channels, kernel, padding=kernel // 2)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, hidden_channels, kernel, condition_channels=channels) for _ in range(n_layers)
        )
        self.norm = ChannelNorm(channels)
        self.out = nn.Conv1d(channels, n_latents, 1)
        zero_init(self.out)

    def forward(self, r_t: Tensor, t: Tensor, mask: Tensor | None, mu: Tensor, f0: Tensor | None = None) -> Tensor:
        """r_t, times c_in, and mu: (B, n_latents, T), t: (B,) in [0, 1], mask: (B, 1, T) or None where every frame is
        valid; f0: (B, condition_channels, T) normalised F0 and voicing, or None.

        Returns (B, n_latents, T), masked; zero before the first step of training.
        """
        embedding = F.mish(self.embed(t))
        inputs = [r_t, mu] if f0 is None else [r_t, mu, f0]
        x = masked(self.conv_in(masked(torch.cat(inputs, dim=1), mask)), mask)
        for block in self.blocks:
            x = block(x, mask, embedding)
        return masked(self.out(self.norm(x)), mask)


class Excitation(nn.Module):
    """Spectra of a pulse train at F0 and of noise, both flat and of power one; nothing in it learns.

    In training the noise is white, with magnitudes of Rayleigh's distribution. A voice that speaks takes its phases
    alone, and the mean magnitude in each bin, which sounds better than learning with that.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int, sample_rate: int):
        super().__init__()
        self.n_fft, self.hop_length, self.sample_rate = n_fft, hop_length, sample_rate
        self.padding = (n_fft - hop_length) // 2
        self.fourier = Fourier(n_fft)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    # F0 learns nothing here: the phase's slope in F0 grows with all the samples before, and says nothing of the pitch
    @torch.no_grad()
    def forward(self, source: Source, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """mask: (B, 1, T) or None.

        Returns the real and the imaginary part, (2, B, n_fft / 2 + 1, T) each: the pulses' spectra and the noise's,
        frames as of InverseSTFT.
        """
        f0, voicing, noise, recording, phase = source
        pulses = self.pulses(f0, mask, recording, self.phase(f0, voicing, mask) if phase is None else phase)
        gain = interpolated(held(voicing, mask).to(pulses.dtype), self.hop_length)
        pulses = pulses * gain
        noise = torch.randn_like(pulses) if noise is None else noise.to(pulses.dtype)
        wavs = torch.stack([pulses, noise]).squeeze(2)  # (2, B, T hop_length)
        if mask is not None:
            wavs = masked(wavs, mask.squeeze(1).repeat_interleave(self.hop_length, dim=-1))
        frames = overlapping(F.pad(wavs, (self.padding, self.padding)), self.n_fft, self.hop_length)
        real, imag = self.fourier(frames * self.window)
        if not self.training:
            level = self.window.norm()  # of white noise, RMS
            size = (real[1].square() + imag[1].square() + (SMALL * level) ** 2).sqrt()
            flat = torch.stack([torch.ones_like(size), MEAN_SIZE * level / size])
            real, imag = flat * real, flat * imag
        return real.transpose(2, 3), imag.transpose(2, 3)

    def phase(self, f0: Tensor, voicing: Tensor, mask: Tensor | None = None) -> Tensor:
        """The cycles of the pulses before each frame, within half a cycle of 0: what a part of a text has to be told.

        Where they are silent the count begins anew: so that the rounding of F0, which other machines and runtimes do
        otherwise, adds up over a stretch of voice alone. f0, voicing, mask: as of forward. Returns (B, 1, T), F0's
        precision or more.
        """
        f0 = held(to_float32(f0), mask)
        before, after = torch.cat([f0[..., :1], f0[..., :-1]], dim=-1), torch.cat([f0[..., 1:], f0[..., -1:]], dim=-1)
        # the sum of what is interpolated over a frame, in samples of the frame before it, the one after it, itself
        n_half = self.hop_length // 2
        beside = n_half * (self.hop_length - n_half) / (2 * self.hop_length)
        total = beside * (before.double() + after.double()) + (self.hop_length - 2 * beside) * f0.double()
        # in float64: after a minute float32 is off by 1e-3 of a cycle, and the highest harmonic by a hundred times that
        cycles = torch.cumsum(total / self.sample_rate, dim=-1)
        cycles = F.pad(cycles[..., :-1], (1, 0))
        silent = held(voicing, mask) == 0
        anew = torch.cat([torch.zeros_like(silent[..., :1]), silent[..., 1:] & silent[..., :-1]], dim=-1)
        n_anew = anew.long().cumsum(-1)
        starts = torch.zeros_like(F.pad(cycles, (0, 1))).scatter(-1, n_anew * anew, cycles * anew)
        cycles = cycles - starts.gather(-1, n_anew)
        return (cycles - cycles.round()).to(f0.dtype)

    def pulses(self, f0: Tensor, mask: Tensor | None, recording: Tensor | None, phase: Tensor) -> Tensor:
        """f0: (B, 1, T) Hz, mask: (B, 1, T) or None; recording: (B, 1, T hop_length), in whose lowest harmonic's phase
        the pulses then are, or None; phase: (B, 1, T) of phase(). Returns (B, 1, T hop_length) of power one, F0's
        precision or more.

        All n harmonics below the Nyquist frequency in one closed form, the Dirichlet kernel:
        cos x + cos 2x + ... + cos n x = (sin((2n + 1) x / 2) / sin(x / 2) - 1) / 2.
        """
        f0 = held(to_float32(f0), mask)
        contour = interpolated(f0, self.hop_length)
        within = contour.unflatten(-1, (-1, self.hop_length)).cumsum(-1) / self.sample_rate  # (B, 1, T, hop_length)
        cycles = (phase[..., None] + within).flatten(-2)
        if recording is not None:
            cycles = cycles + self.lead(recording, cycles)
        half = math.pi * (cycles - cycles.round())  # x / 2, within a quarter turn
        n_harmonics = (torch.ceil(self.sample_rate / 2 / contour) - 1).clamp(min=1)
        kernel = torch.sin((2 * n_harmonics + 1) * half) / torch.sin(half)
        kernel = torch.where(half == 0, 2 * n_harmonics + 1, kernel)
        return (kernel - 1) / (2 * n_harmonics).sqrt()

    def lead(self, recording: Tensor, cycles: Tensor) -> Tensor:
        """How many cycles, within half a one, a recording's lowest harmonic is ahead. Both (B, 1, T_wav), as is what is
        returned; noise where there is no voice."""
        size = 2 * int(LOCK_SPAN / 2 * self.sample_rate) + 1
        window = torch.hann_window(size, periodic=False, device=cycles.device)
        angle = 2 * math.pi * (cycles - cycles.round()).to(window.dtype)
        shifted = torch.cat([recording * angle.cos(), -recording * angle.sin()])  # down by F0
        # eight times as fast as conv1d
        real, imag = fftconvolve(to_float32(shifted), window[None, None], "same").chunk(2)
        return torch.atan2(imag, real) / (2 * math.pi)


def interpolated(values: Tensor, hop_length: int) -> Tensor:
    """F.interpolate(mode="linear") of (B, 1, T) to (B, 1, T hop_length), as an image of one row, which is
    as exact, and faster on a CPU and in ONNX Runtime."""
    return F.interpolate(values[:, :, None], scale_factor=(1, hop_length), mode="bilinear")[:, :, 0]


def held(values: Tensor, mask: Tensor | None) -> Tensor:
    """Past an item's end its last value: what stands there is heard before the end otherwise, where it is interpolated.

    values: (B, 1, T), mask: (B, 1, T) or None.
    """
    if mask is None:
        return values
    places = torch.arange(values.shape[-1], device=values.device)
    last = (mask.long().sum(-1, keepdim=True) - 1).clamp(min=0)  # (B, 1, 1)
    return values.gather(2, torch.minimum(places, last))


class SourceHead(nn.Module):
    """Frames to spectra: of each bin a log-gain and a phase for the pulses' and a log-gain for the noise's."""

    def __init__(self, channels: int, n_fft: int):
        super().__init__()
        self.out = nn.Linear(channels, 3 * (n_fft // 2 + 1))
        with torch.no_grad():
            pulse_gain, angle, noise_gain = self.out.bias.chunk(3)
            pulse_gain.fill_(math.log(START / math.sqrt(2)))  # the two powers add up
            angle.zero_()
            noise_gain.fill_(math.log(START / math.sqrt(2)))

    def forward(self, x: Tensor, excitation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """x: (B, T, channels); excitation: what Excitation gives.

        Returns the real and the imaginary part, (B, n_fft / 2 + 1, T).
        """
        pulse_gain, angle, noise_gain = to_float32(self.out(x)).transpose(1, 2).chunk(3, dim=1)
        pulse_gain, noise_gain = bounded_exp(pulse_gain, MAX_GAIN), bounded_exp(noise_gain, MAX_GAIN)
        real, imag = pulse_gain * angle.cos(), pulse_gain * angle.sin()
        (pulses_real, noise_real), (pulses_imag, noise_imag) = (part.unbind(0) for part in excitation)
        return (
            real * pulses_real - imag * pulses_imag + noise_gain * noise_real,
            real * pulses_imag + imag * pulses_real + noise_gain * noise_imag,
        )


class ConvNeXtVocoder(Vocoder):
    """Inputs to a waveform, all of it at frame rate but the inverse STFT.

    Where Vocos has magnitudes and phases, these are gains and phases on a pulse train at F0 and on noise.
    n_fft, hop_length: samples, as InverseSTFT wants them; sample_rate: Hz.
    """

    needs_source = True

    def __init__(
        self, sizes: Any, n_inputs: int, *, n_fft: int, hop_length: int, sample_rate: int, n_speakers: int = 1
    ):
        """sizes: the section generator of the configuration, or what has its fields."""
        super().__init__()
        channels, n_layers, kernel = sizes.channels, sizes.n_layers, sizes.kernel
        self.speaker = speaker_embedding(n_speakers, channels)
        self.conv_in = nn.Conv1d(n_inputs, channels, kernel, padding=kernel // 2)
        self.norm_in = ChannelNorm(channels)
        self.blocks = nn.ModuleList(ConvNeXtBlock(channels, sizes.hidden_channels, kernel) for _ in range(n_layers))
        self.norm = nn.LayerNorm(channels)
        self.excitation = Excitation(n_fft, hop_length, sample_rate)
        self.head = SourceHead(channels, n_fft)
        self.inverse_stft = InverseSTFT(n_fft, hop_length)
        # frames to either side that a frame's samples depend on; the excitation, which interpolates, sees one further
        self.reach = self.inverse_stft.reach + max((n_layers + 1) * (kernel // 2), self.inverse_stft.reach + 1)

    def forward(self, features: Tensor, mask: Tensor | None = None, source: Source | None = None) -> Tensor:
        """As of Vocoder; the wav is float32, and not held to [-1, 1]. Raises ValueError without a source."""
        if source is None:
            raise ValueError("this vocoder needs a source")
        x = self.conv_in(masked(features, mask))
        x = masked(self.norm_in(with_speaker(x, self.speaker)), mask)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x.transpose(1, 2))  # (B, T, channels)
        real, imag = self.head(x, self.excitation(source, mask))
        return self.inverse_stft(real, imag, mask)

    def with_phase(self, source: Source) -> Source:
        return source._replace(phase=self.excitation.phase(source.f0, source.voicing))
