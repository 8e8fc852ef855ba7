"""Discriminators of waveforms (HiFi-GAN, Kong et al. 2020, section 2.3) and of their spectrograms (UnivNet, Jang et
al. 2021, section 2.2), each told the t of the generator's input.

At a higher t the vocoder is given a smoother posterior mean, so what can be asked of its sound differs; the
discriminators are told the same t of recorded and generated sound.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from data_util.audio import power_spectrum
from model import losses
from model.layers import LEAKY_SLOPE, TimeEmbedding, leaky_relu, precision, to_float32

WAV_GAIN = 10.0  # brings speech at its usual level to a standard deviation of about 1, which the layers want


class ConvStack(nn.Module):
    """Convolutions over one axis or two with the embedding of t added to each, then one to a logit per place."""

    def __init__(self, layers: list[nn.Conv1d] | list[nn.Conv2d], t_channels: int):
        super().__init__()
        convolution = type(layers[-1])  # asked before the weight norm, which changes it
        for layer in layers:  # PyTorch's default would let the sound fade out from layer to layer, beside the biases
            nn.init.kaiming_normal_(layer.weight, LEAKY_SLOPE)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.convs = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.times = nn.ModuleList(nn.Linear(t_channels, layer.out_channels) for layer in layers)
        self.out = weight_norm(convolution(layers[-1].out_channels, 1, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x: (N, 1, T) or (N, 1, F, T), embedding: (N, t_channels).

        Returns logits, (N, 1, T') or (N, 1, F', T'), and the features of every layer.
        """
        features = []
        for conv, time in zip(self.convs, self.times):
            shift = time(embedding).unflatten(1, (-1, *[1] * (x.dim() - 2)))  # (N, C, 1) or (N, C, 1, 1)
            x = leaky_relu(conv(x) + shift)
            features.append(x)
        return self.out(x), features


class PeriodDiscriminator(nn.Module):
    """Sees every period-th sample. The period is folded into the batch: the same sums as a (k, 1) convolution's."""

    def __init__(self, period: int, channels: tuple[int, ...], t_channels: int):
        super().__init__()
        self.period = period
        pairs = list(zip((1, *channels), channels))
        strides = [3] * (len(pairs) - 1) + [1]
        layers = [nn.Conv1d(a, b, 5, stride=stride, padding=2) for (a, b), stride in zip(pairs, strides)]
        self.stack = ConvStack(layers, t_channels)

    def forward(self, wav: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """wav: (B, 1, T), embedding: (B, t_channels). Returns logits and features, (B period, ..., T')."""
        wav = WAV_GAIN * F.pad(wav, (0, -wav.shape[-1] % self.period), "reflect")
        x = wav.view(wav.shape[0], -1, self.period).transpose(1, 2).reshape(-1, 1, wav.shape[-1] // self.period)
        return self.stack(x, embedding.repeat_interleave(self.period, dim=0))


class ScaleDiscriminator(nn.Module):
    """Sees the waveform averaged over 2^scale samples. Weight norms throughout: no state but the weights."""

    kernels, strides, groups = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1), (1, 4, 16, 16, 16, 16, 1)

    def __init__(self, scale: int, channels: tuple[int, ...], t_channels: int):
        super().__init__()
        self.scale = scale
        shapes = zip((1, *channels), channels, self.kernels, self.strides, self.groups)
        layers = [nn.Conv1d(a, b, k, stride=s, groups=g, padding=k // 2) for a, b, k, s, g in shapes]
        self.stack = ConvStack(layers, t_channels)

    def forward(self, wav: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """wav: (B, 1, T), embedding: (B, t_channels). Returns logits and features, (B, ..., T')."""
        for _ in range(self.scale):
            wav = F.avg_pool1d(wav, 4, stride=2, padding=2)
        return self.stack(WAV_GAIN * wav, embedding)


class SpectrogramDiscriminator(nn.Module):
    """Sees the magnitudes at one resolution: a Hann window of n_fft samples, n_fft / 4 samples apart.

    The first layer strides over 8 rows of frequency, the others over 2; 2 throughout would take four times as long.
    """

    exponent = 0.3  # of the magnitude: quiet and loud come within a few octaves, as loudness has them
    centre, gain = 0.4, 4.0  # bring the loudness of speech to a mean of about 0 and a standard deviation of about 1
    floor = 1e-4  # of the magnitude, some steps of 16-bit sound: keeps the gradient of silence finite
    window: Tensor

    def __init__(self, n_fft: int, channels: tuple[int, ...], t_channels: int):
        super().__init__()
        self.n_fft, self.hop_length = n_fft, n_fft // 4
        self.memory_format = torch.contiguous_format  # training.memory_formats may change it
        window = torch.hann_window(n_fft)
        self.register_buffer("window", window / window.norm(), persistent=False)  # white noise keeps its variance
        pairs = list(zip((1, *channels), channels))
        shapes = [(9, 8)] + [(5, 2)] * (len(pairs) - 1)  # kernel and stride along frequency
        layers = [
            nn.Conv2d(a, b, (kernel, 3), stride=(stride, 1), padding=(kernel // 2, 1))
            for (a, b), (kernel, stride) in zip(pairs, shapes)
        ]
        self.stack = ConvStack(layers, t_channels)

    def forward(self, wav: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """wav: (B, 1, T), embedding: (B, t_channels). Returns logits and features, (B, ..., F', T // hop_length)."""
        x = self.gain * (self.loudness(wav) - self.centre).to(wav.dtype)
        x = x.clone(memory_format=self.memory_format)  # contiguous() would leave a single channel as it is
        return self.stack(x, embedding)

    def loudness(self, wav: Tensor) -> Tensor:
        """wav: (B, 1, T) in [-1, 1]. Returns magnitudes^0.3, (B, 1, n_fft / 2 + 1, T // hop_length), at least 1e-4^0.3.

        In float32, also under autocast. A wav too short to be reflected counts as followed by silence.
        """
        with torch.autocast(wav.device.type, enabled=False):
            wav = to_float32(wav)
            power = power_spectrum(wav, self.window.to(wav.dtype), self.n_fft, self.hop_length)[:, None]
            return (power + self.floor**2) ** (self.exponent / 2)


class Discriminators(nn.Module):
    """All of them, with one embedding of t each."""

    def __init__(
        self,
        periods: tuple[int, ...],
        period_channels: tuple[int, ...],
        scales: int,
        scale_channels: tuple[int, ...],
        resolutions: tuple[int, ...],
        resolution_channels: tuple[int, ...],
        t_channels: int,
    ):
        """resolutions: n_fft of each spectrogram, samples. Of periods, scales and resolutions, none builds none."""
        super().__init__()
        self.time = TimeEmbedding(t_channels)
        self.members = nn.ModuleList(
            [PeriodDiscriminator(period, period_channels, t_channels) for period in periods]
            + [ScaleDiscriminator(scale, scale_channels, t_channels) for scale in range(scales)]
            + [SpectrogramDiscriminator(n_fft, resolution_channels, t_channels) for n_fft in resolutions]
        )

    def forward(self, wav: Tensor, t: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """wav: (B, 1, T) in [-1, 1], t: (B,) of the feature it was, or might have been, generated from.

        Returns, a discriminator, its logits (N, 1, ...) and the features (N, C, ...) of its layers: the places are
        one axis of time for the waveform's, (F', T') for a spectrogram's. N is a multiple of B with all of an item's
        rows together.
        """
        embedding = self.time(t).to(wav.dtype)
        return [member(wav, embedding) for member in self.members]


def discriminate(discriminators: nn.Module, wav: Tensor, t: Tensor, amp: bool) -> list[tuple[Tensor, list[Tensor]]]:
    """What each discriminator says of wav (B, 1, T_wav): its logits and features, in full precision."""
    with precision(wav, amp):
        disc_outputs = discriminators(wav, t)
    return [(to_float32(logits), [to_float32(feature) for feature in features]) for logits, features in disc_outputs]


def discriminator_loss(discriminators: nn.Module, wav: Tensor, wav_hat: Tensor, t: Tensor, amp: bool) -> Tensor:
    """The discriminators' loss on recorded and generated segments, (B, 1, T_wav) each, both under the same t (B,)."""
    both = torch.cat([wav, wav_hat])  # in one pass, since DDP wants one before each backward
    halves = [logits.chunk(2) for logits, _ in discriminate(discriminators, both, torch.cat([t, t]), amp)]
    return losses.discriminator_loss([(real, []) for real, _ in halves], [(made, []) for _, made in halves])


def generator_losses(
    discriminators: nn.Module, wav: Tensor, wav_hat: Tensor, t: Tensor, amp: bool
) -> tuple[Tensor, Tensor]:
    """The generator's adversarial and feature-matching losses, by discriminators that stand still."""
    with torch.no_grad():
        real = discriminate(discriminators, wav, t, amp)
    generated = discriminate(discriminators, wav_hat, t, amp)
    return losses.adversarial_loss(generated), losses.feature_loss(real, generated)
