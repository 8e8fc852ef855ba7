"""Discriminators of waveforms (HiFi-GAN, Kong et al. 2020, section 2.3), each told the t of the generator's input.

At a higher t the generator is given a smoother posterior mean, so what can be asked of its sound differs; real and
generated sound are judged under the same t.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from model.layers import TimeEmbedding, leaky_relu


class ConvStack(nn.Module):
    """Convolutions with the embedding of t added to each, then one to a logit per place."""

    def __init__(self, layers: list[nn.Conv1d], out_kernel: int, t_channels: int):
        super().__init__()
        self.convs = nn.ModuleList(weight_norm(layer) for layer in layers)
        self.times = nn.ModuleList(nn.Linear(t_channels, layer.out_channels) for layer in layers)
        self.out = weight_norm(nn.Conv1d(layers[-1].out_channels, 1, out_kernel, padding=out_kernel // 2))

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """x: (N, 1, T), embedding: (N, t_channels). Returns logits (N, 1, T') and the features of every layer."""
        features = []
        for conv, time in zip(self.convs, self.times):
            x = leaky_relu(conv(x) + time(embedding)[:, :, None])
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
        self.stack = ConvStack(layers, 3, t_channels)

    def forward(self, wav: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """wav: (B, 1, T), embedding: (B, t_channels). Returns logits and features, (B period, ..., T')."""
        wav = F.pad(wav, (0, -wav.shape[-1] % self.period), "reflect")
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
        self.stack = ConvStack(layers, 3, t_channels)

    def forward(self, wav: Tensor, embedding: Tensor) -> tuple[Tensor, list[Tensor]]:
        """wav: (B, 1, T), embedding: (B, t_channels). Returns logits and features, (B, ..., T')."""
        for _ in range(self.scale):
            wav = F.avg_pool1d(wav, 4, stride=2, padding=2)
        return self.stack(wav, embedding)


class Discriminators(nn.Module):
    """All of them, with one embedding of t each."""

    def __init__(
        self,
        periods: tuple[int, ...],
        period_channels: tuple[int, ...],
        scales: int,
        scale_channels: tuple[int, ...],
        t_channels: int,
    ):
        super().__init__()
        self.time = TimeEmbedding(t_channels)
        self.members = nn.ModuleList(
            [PeriodDiscriminator(period, period_channels, t_channels) for period in periods]
            + [ScaleDiscriminator(scale, scale_channels, t_channels) for scale in range(scales)]
        )

    def forward(self, wav: Tensor, t: Tensor) -> list[tuple[Tensor, list[Tensor]]]:
        """wav: (B, 1, T) in [-1, 1], t: (B,) of the feature it was, or might have been, generated from.

        Returns, a discriminator, its logits (N, 1, T') and the features (N, C, T'') of its layers, N a multiple of B
        with all of an item's rows together.
        """
        embedding = self.time(t).to(wav.dtype)
        return [member(wav, embedding) for member in self.members]
