"""Generators that upsample by convolutions: HiFi-GAN V1 (Kong et al. 2020, section 2.2 and appendix A.1), all the way
to samples, and iSTFTNet (Kaneko et al. 2022), part of the way and then by an inverse STFT.

The layers are one-dimensional; inside, they run as convolutions in two dimensions over (B, C, 1, T), channels last in
memory, for which libraries have faster kernels: the same sums in another order.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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


def convolve(layer: nn.Conv1d | nn.ConvTranspose1d, x: Tensor) -> Tensor:
    """A layer of the kind of conv(), or its transpose, along T. x: (B, C, 1, T). Returns (B, C', 1, T')."""
    weight, padding = layer.weight[:, :, None], (0, layer.padding[0])  # (., ., 1, kernel)
    if isinstance(layer, nn.ConvTranspose1d):
        return F.conv_transpose2d(x, weight, layer.bias, (1, layer.stride[0]), padding)
    return F.conv2d(x, weight, layer.bias, 1, padding, (1, layer.dilation[0]))


class ResBlock(nn.Module):
    """Residual pairs of convolutions, the first of each pair dilated."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.dilated = nn.ModuleList(conv(channels, channels, kernel, dilation) for dilation in dilations)
        self.plain = nn.ModuleList(conv(channels, channels, kernel) for _ in dilations)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, C, 1, T), masked; mask: (B, 1, 1, T) or None. Returns (B, C, 1, T), masked."""
        for dilated, plain in zip(self.dilated, self.plain):
            y = masked(convolve(dilated, leaky_relu(x)), mask)
            x = x + masked(convolve(plain, leaky_relu(y)), mask)
        return x


class ResBlocks(nn.ModuleList):
    """The mean of residual blocks of several widths."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """As ResBlock."""
        return sum(resblock(x, mask) for resblock in self) / len(self)


def reach_of(
    upsample_rates: tuple[int, ...],
    upsample_kernels: tuple[int, ...],
    resblock_kernels: tuple[int, ...],
    resblock_dilations: tuple[int, ...],
    beyond: int,
) -> int:
    """Frames to either side that what an Upsampler makes of a frame depends on, if that is used with `beyond` outputs
    of conv_out to either side."""
    widest = max(kernel // 2 * sum(dilation + 1 for dilation in resblock_dilations) for kernel in resblock_kernels)
    reach = beyond + 3
    for rate, kernel in zip(reversed(upsample_rates), reversed(upsample_kernels)):
        reach = -(-(reach + widest + (kernel - rate) // 2) // rate)
    return reach + 3


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
            ResBlocks(ResBlock(width, kernel, resblock_dilations) for kernel in resblock_kernels)
            for width in widths[1:]
        )
        self.tiled: nn.ModuleList | None = None  # what does as resblocks do, and sooner: tiled.tile
        self.conv_out = conv(widths[-1], n_outputs, 7)

    def upsample(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """x: (B, n_inputs, T), mask: (B, 1, T) or None where every frame is valid.

        Returns (B, n_outputs, T'), not masked, and the mask (B, 1, T') or None, where T' is T times all the rates.
        """
        mask = None if mask is None else mask[:, :, None]
        x = masked(x[:, :, None], mask).contiguous(memory_format=torch.channels_last)  # (B, n_inputs, 1, T)
        x = masked(with_speaker(convolve(self.conv_in, x), self.speaker), mask)
        stages = self.resblocks if self.tiled is None or torch.compiler.is_compiling() else self.tiled
        for rate, upsample, resblocks in zip(self.rates, self.upsamples, stages):
            mask = None if mask is None else mask.repeat_interleave(rate, dim=-1)
            x = masked(convolve(upsample, leaky_relu(x)), mask)
            x = resblocks(x, mask)
        x = convolve(self.conv_out, leaky_relu(x))
        return x[:, :, 0], None if mask is None else mask[:, :, 0]

    @torch.no_grad()
    def fold(self) -> "Upsampler":
        """Make the weight norms part of the weights, for speaking; the output stays the same. Returns self."""
        for module in list(self.modules()):
            if parametrize.is_parametrized(module):
                # by hand: remove_parametrizations breaks every deep copy of the module, whose class it changes
                last = module.weight.transpose(1, 2).contiguous().transpose(1, 2)  # channels last, as convolve wants it
                weight = nn.Parameter(last, requires_grad=module.bias.requires_grad)
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
        self.reach = reach_of(upsample_rates, upsample_kernels, resblock_kernels, resblock_dilations, 0)

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
        self.reach = reach_of(
            upsample_rates, upsample_kernels, resblock_kernels, resblock_dilations, self.inverse_stft.reach
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, n_inputs, T), as normalised latents; mask: (B, 1, T) or None where every frame is valid.

        Returns wav (B, 1, T' hop_length), T' being T times all the rates, about [-1, 1] and not held to it, zero past
        each end; float32.
        """
        x, mask = self.upsample(x, mask)
        return self.inverse_stft(*to_spectrum(x), mask)
