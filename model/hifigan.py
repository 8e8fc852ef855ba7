"""The generator: latents to a waveform (HiFi-GAN V1, Kong et al. 2020, section 2.2 and appendix A.1)."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from model.layers import leaky_relu, masked


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


class HiFiGAN(nn.Module):
    """Transposed convolutions, each followed by the mean of residual blocks of several widths."""

    def __init__(
        self,
        n_latents: int,
        channels: int,
        upsample_rates: tuple[int, ...],
        upsample_kernels: tuple[int, ...],
        resblock_kernels: tuple[int, ...],
        resblock_dilations: tuple[int, ...],
    ):
        super().__init__()
        self.rates = upsample_rates
        widths = [channels // 2**i for i in range(len(upsample_rates) + 1)]
        self.conv_in = conv(n_latents, channels, 7)
        self.upsamples = nn.ModuleList(
            weight_norm(nn.ConvTranspose1d(a, b, kernel, stride=rate, padding=(kernel - rate) // 2))
            for a, b, rate, kernel in zip(widths, widths[1:], upsample_rates, upsample_kernels)
        )
        self.resblocks = nn.ModuleList(
            nn.ModuleList(ResBlock(width, kernel, resblock_dilations) for kernel in resblock_kernels)
            for width in widths[1:]
        )
        self.conv_out = conv(widths[-1], 1, 7)

    def forward(self, z0_hat: Tensor, mask: Tensor | None = None) -> Tensor:
        """z0_hat: (B, n_latents, T) normalised latents, mask: (B, 1, T) or None where every frame is valid.

        Returns wav (B, 1, T hop_length) in [-1, 1], zero past each end.
        """
        x = masked(self.conv_in(masked(z0_hat, mask)), mask)
        for rate, upsample, resblocks in zip(self.rates, self.upsamples, self.resblocks):
            mask = None if mask is None else mask.repeat_interleave(rate, dim=-1)
            x = masked(upsample(leaky_relu(x)), mask)
            x = torch.stack([resblock(x, mask) for resblock in resblocks]).mean(0)
        return masked(torch.tanh(self.conv_out(leaky_relu(x))), mask)

    @torch.no_grad()
    def fold(self) -> "HiFiGAN":
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
