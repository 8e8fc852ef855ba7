"""Bricks that several parts are built from."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


def full(x: Tensor) -> Tensor:
    """x in float32 where it is in half precision: where sums and small differences are what matters."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x, in its own precision, with zeros past each item's end; None says that every frame is valid."""
    return x if mask is None else x * mask.to(x.dtype)


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.1)  # HiFi-GAN's slope, in generator and discriminators
