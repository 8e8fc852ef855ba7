"""Bricks that several parts are built from."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK_SCALE = 0.1  # of a ConvNeXt block's residual at the start


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, T), each frame for itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class TimeEmbedding(nn.Module):
    """Sines and cosines of the diffusion time (Vaswani et al. 2017, section 3.5; t in thousandths as in Grad-TTS)."""

    def __init__(self, channels: int):
        super().__init__()
        steps = torch.arange(channels // 2) / max(1, channels // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * steps), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """t: (B,) in [0, 1]. Returns (B, channels) in [-1, 1], in t's precision, float32 or more."""
        angles = 1000 * full(t)[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution and two products a frame, with a residual (Liu et al. 2022, figure 4, on one axis).

    condition_channels: of a condition that scales and shifts the normalised frames (FiLM, Perez et al. 2018); 0: none.
    """

    def __init__(
        self, channels: int, hidden_channels: int, kernel: int, condition_channels: int = 0, dropout: float = 0.0
    ):
        super().__init__()
        self.depthwise = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.film = nn.Linear(condition_channels, 2 * channels) if condition_channels else None
        self.expand = nn.Linear(channels, hidden_channels)
        self.contract = nn.Linear(hidden_channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.scale = nn.Parameter(torch.full((channels,), BLOCK_SCALE))
        if self.film is not None:
            nn.init.zeros_(self.film.weight)
            nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """x: (B, C, T), masked; mask: (B, 1, T) or None; condition: (B, condition_channels). Returns (B, C, T)."""
        y = self.norm(self.depthwise(x).transpose(1, 2))  # (B, T, C)
        if self.film is not None:
            scale, shift = self.film(condition)[:, None].chunk(2, dim=-1)
            y = y * (1 + scale) + shift
        y = self.scale * self.contract(self.dropout(F.gelu(self.expand(y))))
        return masked(x + y.transpose(1, 2), mask)


class SymbolEmbedding(nn.Module):
    """Ids to vectors: a symbol's own, and of each mark that its id packs (text/symbols.py) one more.

    id = symbol + n_symbols (mark_0 + mark_sizes[0] (mark_1 + ...)); no mark_sizes: ids are symbols.
    """

    def __init__(self, n_symbols: int, channels: int, mark_sizes: tuple[int, ...] = ()):
        super().__init__()
        self.sizes = (n_symbols, *mark_sizes)
        self.tables = nn.ModuleList(nn.Embedding(size, channels) for size in self.sizes)
        for table in self.tables:
            nn.init.normal_(table.weight, std=channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T_x) ids. Returns (B, C, T_x)."""
        total = 0
        for size, table in zip(self.sizes, self.tables):
            total = total + table(x % size)
            x = torch.div(x, size, rounding_mode="floor")
        return total.transpose(1, 2) * math.sqrt(total.shape[-1])


def full(x: Tensor) -> Tensor:
    """x in float32 where it is in half precision: where sums and small differences are what matters."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x, in its own precision, with zeros past each item's end; None says that every frame is valid."""
    return x if mask is None else x * mask.to(x.dtype)


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)  # HiFi-GAN's slope, in generator and discriminators
