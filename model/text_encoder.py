"""Phonemes to a mean of the latent and a log-duration each (Grad-TTS, Popov et al. 2021; Glow-TTS, Kim et al. 2020).

A mean is the same for all frames of its symbol.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import ChannelNorm, Dropout, SymbolEmbedding, speaker_embedding, with_speaker, zero_init


class Prenet(nn.Module):
    """Residual stack of convolutions that starts as the identity."""

    def __init__(self, channels: int, kernel: int, n_layers: int, dropout: float):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in range(n_layers))
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(n_layers))
        self.dropout = Dropout(dropout)
        self.out = nn.Conv1d(channels, channels, 1)
        zero_init(self.out)

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x: (B, C, T_x), x_mask: (B, 1, T_x). Returns (B, C, T_x), zero past each end."""
        y = x
        for conv, norm in zip(self.convs, self.norms):
            y = self.dropout(F.relu(norm(conv(y * x_mask))))
        return (x + self.out(y)) * x_mask


class RelativeAttention(nn.Module):
    """Self-attention with learned positions up to `window` symbols away (Shaw et al. 2018, equations 3 and 4)."""

    def __init__(self, channels: int, n_heads: int, window: int, dropout: float):
        super().__init__()
        self.n_heads, self.window = n_heads, window
        width = channels // n_heads
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = nn.Conv1d(channels, channels, 1)
        self.dropout = Dropout(dropout)
        self.key_positions = nn.Parameter(torch.randn(2 * window + 1, width) * width**-0.5)
        self.value_positions = nn.Parameter(torch.randn(2 * window + 1, width) * width**-0.5)
        nn.init.xavier_uniform_(self.qkv.weight)

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x: (B, C, T_x), x_mask: (B, 1, T_x). Returns (B, C, T_x); rows past an end are to be masked by the caller."""
        batch, channels, length = x.shape
        qkv = self.qkv(x).view(batch, 3, self.n_heads, -1, length).transpose(-1, -2)  # (B, 3, H, T_x, width)
        query, key, value = qkv.unbind(1)
        query = query / math.sqrt(query.shape[-1])
        scores = query @ key.transpose(-1, -2) + band_to_square(query @ self.key_positions.T)  # (B, H, T_x, T_x)
        scores = scores.masked_fill(x_mask[:, None] == 0, torch.finfo(scores.dtype).min)
        weights = self.dropout(scores.softmax(-1))
        y = weights @ value + square_to_band(weights, self.window) @ self.value_positions
        return self.out(y.transpose(-1, -2).reshape(batch, channels, length))


def band_to_square(band: Tensor) -> Tensor:
    """Spread what each row says of its 2 w + 1 neighbours over the columns that they stand in, zero elsewhere.

    band: (..., T, 2 w + 1), entry k of row i meant for column i + k - w. Returns (..., T, T).
    """
    *rest, length, width = band.shape
    window = width // 2
    # rows of T + 2 w + 1 entries, read on as rows of T + 2 w: each starts one column further to the right
    rows = F.pad(band, (0, length)).flatten(-2)[..., : length * (length + 2 * window)]
    return rows.view(*rest, length, length + 2 * window)[..., window : window + length]


def square_to_band(square: Tensor, window: int) -> Tensor:
    """The reverse: (..., T, T) to (..., T, 2 w + 1), zero where a neighbour would stand outside."""
    *rest, length, _ = square.shape
    rows = F.pad(square, (window, window)).flatten(-2)  # (..., T (T + 2 w))
    return F.pad(rows, (0, length)).view(*rest, length, length + 2 * window + 1)[..., : 2 * window + 1]


class EncoderLayer(nn.Module):
    """Attention and a convolutional feed-forward, each with a residual and a norm after it."""

    def __init__(self, channels: int, n_heads: int, window: int, ff_channels: int, kernel: int, dropout: float):
        super().__init__()
        self.attention = RelativeAttention(channels, n_heads, window, dropout)
        self.norm_attention = ChannelNorm(channels)
        self.conv_in = nn.Conv1d(channels, ff_channels, kernel, padding=kernel // 2)
        self.conv_out = nn.Conv1d(ff_channels, channels, kernel, padding=kernel // 2)
        self.norm_conv = ChannelNorm(channels)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x: (B, C, T_x), x_mask: (B, 1, T_x). Returns (B, C, T_x)."""
        x = self.norm_attention(x + self.dropout(self.attention(x, x_mask)))
        y = self.dropout(F.relu(self.conv_in(x * x_mask)))
        return self.norm_conv(x + self.dropout(self.conv_out(y * x_mask)))


class DurationPredictor(nn.Module):
    """Two convolutions to one log-duration a symbol."""

    def __init__(self, channels: int, hidden_channels: int, kernel: int, dropout: float):
        super().__init__()
        widths = (channels, hidden_channels, hidden_channels)
        self.convs = nn.ModuleList(nn.Conv1d(a, b, kernel, padding=kernel // 2) for a, b in zip(widths, widths[1:]))
        self.norms = nn.ModuleList(ChannelNorm(hidden_channels) for _ in self.convs)
        self.dropout = Dropout(dropout)
        self.out = nn.Conv1d(hidden_channels, 1, 1)

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x: (B, C, T_x), x_mask: (B, 1, T_x). Returns logw (B, 1, T_x), log-frames, zero past each end."""
        for conv, norm in zip(self.convs, self.norms):
            x = self.dropout(norm(F.relu(conv(x * x_mask))))
        return self.out(x * x_mask) * x_mask


class TextEncoder(nn.Module):
    """Embedding, prenet, transformer; a mean per symbol and, from detached features, a log-duration.

    mark_sizes: of the marks that ids pack (text/symbols.py), () where ids are symbols; condition_channels: numbers
    given for each symbol, its pitch for one, that the mean depends on and the duration does not; 0: none.
    """

    def __init__(
        self,
        sizes: Any,
        n_symbols: int,
        n_latents: int,
        mark_sizes: tuple[int, ...] = (),
        condition_channels: int = 0,
        n_speakers: int = 1,
    ):
        """sizes: the section text_encoder of the configuration, or what has its fields."""
        super().__init__()
        channels = sizes.channels
        self.speaker = speaker_embedding(n_speakers, channels)
        self.duration_speaker = speaker_embedding(n_speakers, channels)
        self.embedding = SymbolEmbedding(n_symbols, channels, mark_sizes)
        self.prenet = Prenet(channels, sizes.prenet_kernel, sizes.prenet_layers, sizes.prenet_dropout)
        layer = (channels, sizes.n_heads, sizes.window, sizes.ff_channels, sizes.kernel, sizes.dropout)
        self.layers = nn.ModuleList(EncoderLayer(*layer) for _ in range(sizes.n_layers))
        self.condition = nn.Conv1d(condition_channels, channels, 1, bias=False) if condition_channels else None
        if self.condition is not None:
            zero_init(self.condition)
        self.mu = nn.Conv1d(channels, n_latents, 1)
        self.duration = DurationPredictor(channels, sizes.duration_channels, sizes.kernel, sizes.dropout)

    def forward(self, x: Tensor, x_mask: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x: (B, T_x) ids, x_mask: (B, 1, T_x) ones and zeros, condition: (B, condition_channels, T_x); None: zeros.

        Returns mu_x (B, n_latents, T_x), normalised latents, and logw (B, 1, T_x), log-frames; both zero past each end.
        """
        h = with_speaker(self.embedding(x), self.speaker)  # (B, C, T_x)
        h = self.prenet(h, x_mask)
        for layer in self.layers:
            h = layer(h, x_mask)
        h = h * x_mask
        # detached: a duration is read off the features that explain the sound, and must not bend them
        logw = self.duration(with_speaker(h.detach(), self.duration_speaker), x_mask)
        if condition is not None:  # after the durations: what is conditioned on may be measured along them
            assert self.condition is not None
            h = (h + self.condition(condition)) * x_mask
        return self.mu(h) * x_mask, logw
