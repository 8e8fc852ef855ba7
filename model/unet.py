"""The score network: a UNet over frequency and time (Grad-TTS, Popov et al. 2021), in which padding does not exist."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import ScoreNetwork, masked, mish, to_float32


class MaskedGroupNorm(nn.Module):
    """Group norm whose statistics see valid frames only."""

    def __init__(self, groups: int, channels: int):
        super().__init__()
        self.groups, self.eps = groups, 1e-5
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, C, F, T), zero where mask (B, 1, 1, T) is; None: nowhere. Returns (B, C, F, T), not masked."""
        if mask is None:
            return F.group_norm(to_float32(x), self.groups, self.weight, self.bias, self.eps).to(x.dtype)
        channels, bands = x.shape[1:3]
        grouped = to_float32(x).unflatten(1, (self.groups, -1)).flatten(2)  # (B, groups, C / groups F T)
        count = channels // self.groups * bands * mask.sum((1, 2, 3))[:, None].clamp(min=1)
        # sums see no padding, which is zero; on a CPU torch.var_mean takes twenty times as long as both
        mean = grouped.sum(-1) / count  # (B, groups)
        var = torch.linalg.vector_norm(grouped, dim=-1).square() / count - mean.square()
        scale = torch.rsqrt(var.clamp(min=0) + self.eps)
        shift = -mean * scale
        scale, shift = (s.repeat_interleave(channels // self.groups, dim=1) for s in (scale, shift))
        weight = scale * self.weight
        bias = shift * self.weight + self.bias
        return torch.addcmul(bias[:, :, None, None], x, weight[:, :, None, None]).to(x.dtype)


class Block(nn.Module):
    def __init__(self, in_channels: int, channels: int, groups: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm = MaskedGroupNorm(groups, channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, C_in, F, T), zero where the mask is. Returns (B, C, F, T), not masked."""
        return mish(self.norm(masked(self.conv(x), mask), mask))


class ResnetBlock(nn.Module):
    """Two blocks, the time added between them, and a residual."""

    def __init__(self, in_channels: int, channels: int, t_channels: int, groups: int):
        super().__init__()
        self.block1 = Block(in_channels, channels, groups)
        self.block2 = Block(channels, channels, groups)
        self.time = nn.Linear(t_channels, channels)
        self.residual = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None, embedding: Tensor) -> Tensor:
        """x: (B, C_in, F, T), mask: (B, 1, 1, T) or None, embedding: (B, t_channels). Returns (B, C, F, T), masked."""
        h = self.block1(x, mask) + self.time(mish(embedding))[:, :, None, None]
        return masked(self.block2(masked(h, mask), mask) + self.residual(x), mask)


class LinearAttention(nn.Module):
    """Attention linear in F T (Shen et al. 2021), with a residual whose gate starts at zero (ReZero)."""

    def __init__(self, channels: int, n_heads: int, head_channels: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Conv2d(channels, 3 * n_heads * head_channels, 1, bias=False)
        self.out = nn.Conv2d(n_heads * head_channels, channels, 1)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, C, F, T), masked by mask (B, 1, 1, T), if any. Returns (B, C, F, T), masked."""
        assert self.out.bias is not None
        batch, channels, bands, frames = x.shape
        to_query, to_key_value = self.qkv.weight.split([self.out.in_channels, 2 * self.out.in_channels])
        key_value = F.conv2d(x, to_key_value).reshape(batch, 2, self.n_heads, -1, bands * frames)
        key, value = key_value.unbind(1)  # (B, H, D, F T)
        key = to_float32(key)
        if mask is not None:
            valid = mask.expand(batch, 1, bands, frames).reshape(batch, 1, 1, bands * frames)
            key = key.masked_fill(valid == 0, -torch.inf)
        key = key.softmax(-1).to(value.dtype)
        context = value @ key.transpose(-1, -2)  # (B, H, D, D)
        # queries, what they read and what is made of that are linear in x: one matrix of each item, (B, C, C)
        read = (context @ to_query.view(self.n_heads, -1, channels)).flatten(1, 2)  # (B, H D, C)
        y = (self.out.weight.flatten(1) @ read @ x.flatten(2)).view_as(x)
        y = y + self.out.bias.to(y.dtype)[:, None, None]
        return x + masked(self.gate.to(x.dtype) * y, mask)


class Level(nn.ModuleList):
    """Two blocks and attention at one resolution."""

    def forward(self, x: Tensor, mask: Tensor | None, embedding: Tensor) -> Tensor:
        """x: (B, C_in, F, T), mask: (B, 1, 1, T) or None, embedding: (B, t_channels). Returns (B, C, F, T), masked."""
        first, second, attention = self
        return attention(second(first(x, mask, embedding), mask, embedding), mask)


class UNet(ScoreNetwork):
    """F(r_t, mu, t), what the posterior mean is made of."""

    def __init__(
        self,
        channels: int,
        multipliers: tuple[int, ...],
        groups: int,
        n_heads: int,
        head_channels: int,
        n_speakers: int = 1,
    ):
        super().__init__(channels, n_speakers)
        self.stride = 2 ** (len(multipliers) - 1)
        self.memory_format = torch.contiguous_format  # in training; training.memory_formats may change it

        def block(in_width: int, width: int) -> ResnetBlock:
            return ResnetBlock(in_width, width, channels, groups)

        def attention(width: int) -> LinearAttention:
            return LinearAttention(width, n_heads, head_channels)

        def level(in_width: int, width: int) -> Level:
            return Level([block(in_width, width), block(width, width), attention(width)])

        widths = [channels * multiplier for multiplier in multipliers]
        self.down = nn.ModuleList(level(a, b) for a, b in zip([2, *widths], widths))
        self.downsamples = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        widest = widths[-1]
        self.middle = nn.ModuleList([block(widest, widest), attention(widest), block(widest, widest)])
        self.up = nn.ModuleList(level(2 * b, a) for a, b in zip(widths[-2::-1], widths[:0:-1]))
        self.upsamples = nn.ModuleList(
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1) for width in widths[-2::-1]
        )
        self.final = Block(widths[0], widths[0], groups)
        self.out = nn.Conv2d(widths[0], 1, 1)

    def forward(self, r_t: Tensor, t: Tensor, mask: Tensor | None, mu: Tensor, f0: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """r_t, times c_in, and mu: (B, n_latents, T), t: (B,) in [0, 1], mask: (B, 1, T) or None where every frame is
        valid; f0 is not read.

        Returns (B, n_latents, T), masked.
        """
        frames = r_t.shape[-1]
        if mask is None and frames % self.stride:
            mask = torch.ones_like(r_t[:, :1])  # for the frames that are added
        if mask is not None:
            mask = F.pad(mask, (0, -frames % self.stride))[:, None]  # (B, 1, 1, T)
        x = torch.stack([mu, r_t], dim=1)  # (B, 2, F, T)
        x = masked(F.pad(x, (0, -frames % self.stride)), mask)
        x = x.contiguous(memory_format=self.memory_format if self.training else torch.contiguous_format)
        embedding = self.embed(t)

        masks, skips = [mask], []
        for i, level in enumerate(self.down):
            x = level(x, masks[-1], embedding)
            skips.append(x)
            if i < len(self.downsamples):
                masks.append(None if masks[-1] is None else masks[-1][..., ::2])
                x = masked(self.downsamples[i](x), masks[-1])

        first, attention, second = self.middle
        x = second(attention(first(x, masks[-1], embedding), masks[-1]), masks[-1], embedding)

        # as in Grad-TTS, the finest resolution has no skip
        for level, upsample in zip(self.up, self.upsamples):
            x = level(torch.cat([x, skips.pop()], dim=1), masks.pop(), embedding)
            x = masked(upsample(x), masks[-1])
        return masked(self.out(self.final(x, mask)), mask)[:, 0, :, :frames]
