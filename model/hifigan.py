"""Generators that upsample by convolutions: HiFi-GAN V1 (Kong et al. 2020, section 2.2 and appendix A.1), all the way
to samples, and iSTFTNet (Kaneko et al. 2022), part of the way and then by an inverse STFT."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from model.layers import (
    InverseSTFT,
    leaky_relu,
    masked,
    speaker_embedding,
    start_quiet,
    to_spectrum,
    with_speaker,
)


def conv(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Module:
    layer = nn.Conv1d(in_channels, out_channels, kernel, dilation=dilation, padding=dilation * (kernel // 2))
    return weight_norm(layer)


class ResBlock(nn.Module):
    """Residual pairs of convolutions, the first of each pair dilated."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.dilated = nn.ModuleList(conv(channels, channels, kernel, dilation) for dilation in dilations)
        self.plain = nn.ModuleList(conv(channels, channels, kernel) for _ in dilations)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, C, T), masked. Returns (B, C, T), masked."""
        for dilated, plain in zip(self.dilated, self.plain):
            y = masked(dilated(leaky_relu(x)), mask)
            x = x + masked(plain(leaky_relu(y)), mask)
        return x


class Upsampler(nn.Module):
    """Transposed convolutions, each followed by the mean of residual blocks of several widths."""

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        channels: int,
        upsample_rates: tuple[int, ...],
        upsample_kernels: tuple[int, ...],
        resblock_kernels: tuple[int, ...],
        resblock_dilations: tuple[int, ...],
        n_speakers: int = 1,
    ):
        super().__init__()
        self.speaker = speaker_embedding(n_speakers, channels)
        self.rates = upsample_rates
        widths = [channels // 2**i for i in range(len(upsample_rates) + 1)]
        self.conv_in = conv(n_inputs, channels, 7)
        self.upsamples = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(a, b, kernel, stride=rate, padding=(kernel - rate) // 2))
            for a, b, rate, kernel in zip(widths, widths[1:], upsample_rates, upsample_kernels)
        )
        self.resblocks = nn.ModuleList(
            nn.ModuleList(ResBlock(width, kernel, resblock_dilations) for kernel in resblock_kernels)
            for width in widths[1:]
        )
        self.conv_out = conv(widths[-1], n_outputs, 7)

    def upsample(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x: (B, n_inputs, T), mask: (B, 1, T) or None where every frame is valid.

        Returns (B, n_outputs, T'), not masked, and the mask (B, 1, T') or None, where T' is T times all the rates.
        """
        x = masked(with_speaker(self.conv_in(masked(x, mask)), self.speaker), mask)
        for rate, upsample, resblocks in zip(self.rates, self.upsamples, self.resblocks):
            mask = None if mask is None else mask.repeat_interleave(rate, dim=-1)
            x = masked(upsample(leaky_relu(x)), mask)
            x = torch.stack([resblock(x, mask) for resblock in resblocks]).mean(0)
        return self.conv_out(leaky_relu(x)), mask

    @torch.no_grad()
    def fold(self) -> "Upsampler":
        """Make the weight norms part of the weights, for speaking; the output stays the same. Returns self."""
        for module in list(self.modules()):
            if parametrize.is_parametrized(module):
                # by hand: remove_parametrizations breaks every deep copy of the module, whose class it changes
                weight = nn.Parameter(module.weight.clone(), requires_grad=module.bias.requires_grad)
                plain = parametrize.type_before_parametrizations(module)
                del module.parametrizations
                module.__class__ = plain
                module.weight = weight
        return self


class HiFiGAN(Upsampler):
    """A waveform from convolutions alone."""

    def __init__(
        self,
        n_inputs: int,
        channels: int,
        upsample_rates: tuple[int, ...],
        upsample_kernels: tuple[int, ...],
        resblock_kernels: tuple[int, ...],
        resblock_dilations: tuple[int, ...],
        n_speakers: int = 1,
    ):
        sizes = (channels, upsample_rates, upsample_kernels, resblock_kernels, resblock_dilations, n_speakers)
        super().__init__(n_inputs, 1, *sizes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, n_inputs, T), as normalised latents; mask: (B, 1, T) or None where every frame is valid.

        Returns wav (B, 1, T hop_length) in [-1, 1], zero past each end.
        """
        x, mask = self.upsample(x, mask)
        return masked(torch.tanh(x), mask)


class ISTFTNet(Upsampler):
    """A waveform from spectra that are finer in time and coarser in frequency than the inputs.

    n_fft, hop_length: samples, of the inverse STFT, as InverseSTFT wants them.
    """

    def __init__(
        self,
        n_inputs: int,
        channels: int,
        upsample_rates: tuple[int, ...],
        upsample_kernels: tuple[int, ...],
        resblock_kernels: tuple[int, ...],
        resblock_dilations: tuple[int, ...],
        n_fft: int,
        hop_length: int,
        n_speakers: int = 1,
    ):
        sizes = (channels, upsample_rates, upsample_kernels, resblock_kernels, resblock_dilations, n_speakers)
        super().__init__(n_inputs, 2 * (n_fft // 2 + 1), *sizes)
        start_quiet(self.conv_out.bias)
        self.inverse_stft = InverseSTFT(n_fft, hop_length)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, n_inputs, T), as normalised latents; mask: (B, 1, T) or None where every frame is valid.

        Returns wav (B, 1, T' hop_length), T' being T times all the rates, about [-1, 1] and not held to it, zero past
        each end; float32.
        """
        x, mask = self.upsample(x, mask)
        return self.inverse_stft(*to_spectrum(x), mask)
