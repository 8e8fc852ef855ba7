"""HiFi-GAN (Kong et al. 2020, section 2.2 and appendix A.1): latents to samples by convolutions that upsample.

The layers are one-dimensional; inside, they run as convolutions in two dimensions over (B, C, 1, T), channels last in
memory, for which libraries mostly have faster kernels: the same sums in another order. Training may take one dimension.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from model.layers import leaky_relu, masked, span, speaker_embedding, with_speaker
from model.vocoder import Source, Vocoder


def conv(in_channels: int, out_channels: int, kernel: int, dilation: int = 1) -> nn.Module:
    layer = nn.Conv1d(in_channels, out_channels, kernel, dilation=dilation, padding=dilation * (kernel // 2))
    return weight_norm(layer)


def convolve(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of the kind of conv(), or its transpose, along T. x: (B, C, 1, T), in memory channels last, for two
    dimensions, or contiguous, for one; a single frame is both. Returns (B, C', 1, T'), likewise."""
    assert isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d))
    if x.is_contiguous():
        return layer(x[:, :, 0])[:, :, None]
    weight, padding = layer.weight[:, :, None], (0, int(layer.padding[0]))  # (., ., 1, kernel)
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


class HiFiGAN(Vocoder):
    """Transposed convolutions, each followed by the mean of residual blocks of several widths."""

    def __init__(
        self,
        n_inputs: int,
        channels: int,
        upsample_rates: tuple[int, ...],
        resblock_kernels: tuple[int, ...],
        resblock_dilations: tuple[int, ...],
        n_speakers: int = 1,
    ):
        """channels: halved by each upsampling; the product of upsample_rates is the hop length."""
        super().__init__()
        self.speaker = speaker_embedding(n_speakers, channels)
        self.rates = upsample_rates
        widths = [channels // 2**i for i in range(len(upsample_rates) + 1)]
        self.conv_in = conv(n_inputs, channels, 7)
        self.upsamples = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(a, b, kernel_of(rate), stride=rate, padding=(kernel_of(rate) - rate) // 2))
            for a, b, rate in zip(widths, widths[1:], upsample_rates)
        )
        self.resblocks = nn.ModuleList(
            ResBlocks(ResBlock(width, kernel, resblock_dilations) for kernel in resblock_kernels)
            for width in widths[1:]
        )
        self.memory_format = torch.channels_last  # in training: convolve; training.memory_formats may change it
        self.tiled: nn.ModuleList | None = None  # the same as resblocks, faster on a CPU: tiled.tile
        self.conv_out = conv(widths[-1], 1, 7)
        widest = max(kernel // 2 * sum(dilation + 1 for dilation in resblock_dilations) for kernel in resblock_kernels)
        self.reach, *self.reaches = reaches_of(upsample_rates, widest)

    def forward(self, features: Tensor, mask: Tensor | None = None, source: Source | None = None) -> Tensor:  # noqa: ARG002
        """As of Vocoder; no source is read."""
        return self._samples(features, mask)

    def part(self, features: Tensor, source: Source | None, kept: slice) -> Tensor:  # noqa: ARG002
        return self._samples(features, None, kept)

    def _samples(self, features, mask, kept=None):
        """forward, or part, which after each upsampling leaves out the samples that no kept one depends on."""
        mask = None if mask is None else mask[:, :, None]
        x = masked(features[:, :, None], mask)  # (B, n_inputs, 1, T)
        x = x.contiguous(memory_format=self.memory_format if self.training else torch.channels_last)
        x = masked(with_speaker(convolve(self.conv_in, x), self.speaker), mask)
        stages = self.resblocks if self.tiled is None else self.tiled
        for rate, reach, upsample, resblocks in zip(self.rates, self.reaches, self.upsamples, stages):
            mask = None if mask is None else mask.repeat_interleave(rate, dim=-1)
            x = masked(convolve(upsample, leaky_relu(x)), mask)
            x = resblocks(x, mask)
            if kept is not None:
                start, stop = rate * kept.start, rate * kept.stop
                read = slice(torch.sym_max(0, start - reach), torch.sym_min(stop + reach, x.shape[-1]))
                x, kept = span(x, read), slice(start - read.start, stop - read.start)
        x = convolve(self.conv_out, leaky_relu(x))
        wav = masked(torch.tanh(x[:, :, 0]), None if mask is None else mask[:, :, 0])
        return wav if kept is None else span(wav, kept)

    @torch.no_grad()
    def fold(self) -> "HiFiGAN":
        """Make the weight norms part of the weights, for speaking; the output stays the same. Returns self."""
        layers: list[Any] = list(self.modules())
        for module in layers:
            if parametrize.is_parametrized(module):
                # by hand: remove_parametrizations breaks every deep copy of the module, whose class it changes
                last = module.weight.transpose(1, 2).contiguous().transpose(1, 2)  # channels last, as convolve wants it
                weight = nn.Parameter(last, requires_grad=module.bias.requires_grad)
                plain = parametrize.type_before_parametrizations(module)
                del module.parametrizations
                module.__class__ = plain
                module.weight = weight
        return self


def kernel_of(rate: int) -> int:
    """Of a transposed convolution: twice its stride, or for an odd stride one more, so that its padding is whole."""
    return 2 * rate + rate % 2


def reaches_of(upsample_rates: tuple[int, ...], widest: int) -> list[int]:
    """How far to either side a sample depends on the input, in frames, and on what each upsampling with its residual
    blocks gives, in samples of that; widest: samples of the widest residual block's reach."""
    reaches = [3]
    for rate in reversed(upsample_rates):
        reaches.append(-(-(reaches[-1] + widest + (kernel_of(rate) - rate) // 2) // rate))
    reaches[-1] += 3
    return reaches[::-1]
