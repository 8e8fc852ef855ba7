"""Stacks of 1-D convolutions for speaking on a CPU: fewer multiplications, and what passes between layers in its cache.

Signals are (T, C) here, a sample's channels side by side. A wide convolution is computed on short tiles, of which a
Fourier transform makes a product for each frequency (overlap-save, Oppenheim and Schafer, section 8.7). The transform
is a product with a small matrix, and a complex product is three real ones (Gauss), so all of it is three batched
products of real matrices. The sums are those of the convolution in another order.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import leaky_relu

LEAST_KERNEL, LEAST_CHANNELS = 5, 64  # of a convolution from which on tiles were faster than the library's own
BLOCK = 2**20  # numbers of a signal that are worked on at a time: 4 MB


def transforms(n: int, kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of the correlation of n samples, n even, with a kernel: (of samples (P, n), of weights (P, kernel), back
    (n - kernel + 1, P)), float64. Samples and weights transformed, multiplied and transformed back are the correlation.

    P = n / 2 * 3 - 1: two real frequencies, and (a + bi)(c + di) of each other in a, b and a + b:
    its parts are (a + b) c - b (c + d) and (a + b) c + a (d - c).
    """
    spectra = torch.fft.rfft(torch.eye(n, dtype=torch.float64), dim=0)  # (n / 2 + 1, n)
    ends, a, b = spectra.real[[0, -1]], spectra.real[1:-1], spectra.imag[1:-1]
    c, d = a[:, :kernel], -b[:, :kernel]  # the conjugate: a correlation
    samples = torch.cat([ends, a, b, a + b])
    weights = torch.cat([ends[:, :kernel], d - c, c + d, c])
    # a real signal is 2 / n of the sum of re cos - im sin over its middle frequencies, and half of that at the ends
    re, im = 2 / n * a.T, 2 / n * b.T
    back = torch.cat([ends.T / n, im, -re, re + im], dim=1)
    return samples, weights, back[: n - kernel + 1]


class Conv(nn.Module):
    """An nn.Conv1d that keeps the length, on (T, C), with the weights that it has now.

    tiled: whether on tiles; None: where they are faster.
    """

    bias: Tensor
    weight: Tensor
    samples: Tensor
    back: Tensor
    spectrum: Tensor

    def __init__(self, layer: nn.Conv1d, tiled: bool | None = None):
        super().__init__()
        assert layer.bias is not None
        kernel, self.dilation, self.reach = layer.kernel_size[0], layer.dilation[0], int(layer.padding[0])
        weight = layer.weight.detach()
        is_wide = kernel >= LEAST_KERNEL and min(weight.shape[:2]) >= LEAST_CHANNELS
        self.tiled = is_wide if tiled is None else tiled
        self.register_buffer("bias", layer.bias.detach(), persistent=False)
        if not self.tiled:
            last = weight[:, :, None].contiguous(memory_format=torch.channels_last)
            self.register_buffer("weight", last, persistent=False)
            return
        self.n = 3 * kernel - 1
        samples, weights, back = (matrix.to(weight) for matrix in transforms(self.n, kernel))
        self.register_buffer("samples", samples, persistent=False)
        self.register_buffer("back", back, persistent=False)
        spectrum = weights @ weight.permute(2, 1, 0).flatten(1)
        self.register_buffer("spectrum", spectrum.view(-1, *weight.shape[1::-1]), persistent=False)  # (P, C_in, C_out)

    def forward(self, x: Tensor) -> Tensor:
        """x: (T, C_in), contiguous. Returns (T, C_out), contiguous."""
        if self.tiled:
            return self._on_tiles(x)
        y = F.conv2d(x.T[None, :, None], self.weight, self.bias, 1, (0, self.reach), (1, self.dilation))
        return y[0, :, 0].T

    def _on_tiles(self, x):
        """Of dilated samples, each dilation-th makes a signal of its own; they lie side by side, as channels do."""
        frames, channels = x.shape
        n_outputs, dilation = self.bias.numel(), self.dilation
        row, step = dilation * channels, len(self.back) * dilation  # numbers of a row, samples that a tile gives
        n_tiles = (frames + step - 1) // step
        x = F.pad(x, (0, 0, self.reach, n_tiles * step + self.reach - frames))
        if torch.compiler.is_exporting():
            y = self._gathered(x.reshape(-1, row), n_tiles)
            return y.reshape(-1, n_outputs)[:frames] + self.bias
        products = len(self.samples)
        tiles = x.as_strided((n_tiles, self.n, row), (step * channels, row, 1))
        spectra = torch.bmm(self.samples.expand(n_tiles, -1, -1), tiles)  # (n_tiles, P, dilation C_in)
        spectra = spectra.view(n_tiles, products, dilation, channels).transpose(0, 1)
        spectra = torch.bmm(spectra.reshape(products, n_tiles * dilation, channels), self.spectrum)
        spectra = spectra.view(products, n_tiles, dilation * n_outputs).transpose(0, 1)
        y = torch.bmm(self.back.expand(n_tiles, -1, -1), spectra)  # (n_tiles, step / dilation, dilation C_out)
        return y.view(-1, n_outputs)[:frames].add_(self.bias)

    def _gathered(self, x, n_tiles):
        """The same for a graph, which has no strides: tiles are gathered side by side, so that each of their transforms
        is one product. x: (T / dilation, dilation C_in), padded. Returns (n_tiles step / dilation, dilation C_out)."""
        products, n_new, n_inputs = len(self.samples), len(self.back), self.spectrum.shape[1]
        tile = torch.arange(n_tiles, device=x.device)
        of_samples = torch.arange(self.n, device=x.device)[:, None] + n_new * tile  # (n, n_tiles)
        tiles = x.index_select(0, of_samples.flatten())
        spectra = self.samples @ tiles.reshape(self.n, -1)
        spectra = spectra.reshape(products, -1, n_inputs) @ self.spectrum
        y = self.back @ spectra.reshape(products, -1)  # (n_new, n_tiles dilation C_out)
        in_time = n_tiles * torch.arange(n_new, device=x.device) + tile[:, None]  # (n_tiles, n_new)
        return y.reshape(n_new * n_tiles, -1).index_select(0, in_time.flatten())


class ResBlock(nn.Module):
    """A hifigan.ResBlock on (T, C)."""

    def __init__(self, resblock: Any):
        super().__init__()
        dilated, plain = list(map(Conv, resblock.dilated)), list(map(Conv, resblock.plain))
        self.dilated, self.plain = nn.ModuleList(dilated), nn.ModuleList(plain)
        self.reach = sum(conv.reach for conv in (*dilated, *plain))
        self.is_tiled = any(conv.tiled for conv in (*dilated, *plain))

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain):
            x = plain(leaky_relu(dilated(leaky_relu(x)))).add_(x)
        return x


class ResBlocks(nn.Module):
    """A hifigan.ResBlocks, on some samples at a time."""

    def __init__(self, resblocks: Any):
        super().__init__()
        made = list(map(ResBlock, resblocks))
        self.resblocks, self.reaches = nn.ModuleList(made), [resblock.reach for resblock in made]
        self.originals = list(resblocks)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, C, 1, T), channels last, masked; mask: (B, 1, 1, T) or None, valid samples first. Returns the same."""
        if torch.compiler.is_exporting():
            return self._at_once(x)
        made = torch.zeros_like(x)
        for b in range(len(x)):
            frames = x.shape[-1] if mask is None else int(mask[b].sum())
            rows, out = x[b, :, 0, :frames].T.contiguous(), made[b, :, 0, :frames].T
            for resblock, reach in zip(self.resblocks, self.reaches):
                in_blocks(resblock, rows, reach, out)
        return made.div_(len(self.resblocks))

    def _at_once(self, x):
        """forward of one sound without blocks, which a graph does not have; what is not on tiles stays as it was."""
        rows = x[0, :, 0].T
        tiled = [resblock(rows) for resblock in self.resblocks if resblock.is_tiled]
        made = [original(x, None) for one, original in zip(self.resblocks, self.originals) if not one.is_tiled]
        return sum([*made, *([sum(tiled).T[None, :, None]] if tiled else [])]) / len(self.resblocks)


def in_blocks(call: Callable[[Tensor], Tensor], x: Tensor, reach: int, out: Tensor) -> None:
    """Add call(x) to out, block by block. x, out: (T, C); reach: samples to either side that one depends on."""
    frames, size = len(x), max(1, BLOCK // x.shape[1])
    for start in range(0, frames, size):
        first, end = max(0, start - reach), min(start + size, frames)
        out[start:end] += call(x[first : end + reach])[start - first : end - first]


def tile(generator: nn.Module) -> nn.Module:
    """Have a generator speak as this file does, on a CPU, without gradients and with the weights that it has now; one
    without hifigan.ResBlocks stays as it is. Returns the generator."""
    resblocks = getattr(generator, "resblocks", None)
    if resblocks is not None:
        generator.tiled = nn.ModuleList(map(ResBlocks, resblocks))
    return generator
