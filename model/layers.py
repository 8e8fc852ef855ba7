"""Bricks that several parts are built from."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAKY_SLOPE = 0.1  # HiFi-GAN's, in generator and discriminators
BLOCK_SCALE = 0.1  # of a ConvNeXt block's residual at the start


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, T), each frame for itself."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014, section 4), scaled so that the mean stays, whose mask costs little on a CPU."""

    def __init__(self, p: float):
        """p: the share that is dropped, 0 to below 1."""
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape; unchanged where nothing trains."""
        if not self.training or self.p == 0:
            return x
        return x * scaled_mask(x, self.p) if x.device.type == "cpu" else F.dropout(x, self.p)


def scaled_mask(x: Tensor, p: float) -> Tensor:
    """Zeros in a share p, to 2^-16, of x's places, else one over the rest; of x's shape and precision.

    16 random bits decide a place, so that one draw does for four, where PyTorch's own mask draws for each.
    """
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    n_dropped = round(p * 2**16)  # of the 2^16 values
    kept = bits[: x.numel()].view(x.shape) >= n_dropped - 2**15
    return kept.to(x.dtype).mul_(2**16 / (2**16 - n_dropped))


class TimeEmbedding(nn.Module):
    """Sines and cosines of the diffusion time (Vaswani et al. 2017, section 3.5; t in thousandths as in Grad-TTS)."""

    frequencies: Tensor

    def __init__(self, channels: int):
        super().__init__()
        steps = torch.arange(channels // 2) / max(1, channels // 2 - 1)
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * steps), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """t: (B,) in [0, 1]. Returns (B, channels) in [-1, 1], in t's precision, float32 or more."""
        angles = 1000 * to_float32(t)[:, None] * self.frequencies
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
        self.dropout = Dropout(dropout)
        self.scale = nn.Parameter(torch.full((channels,), BLOCK_SCALE))
        if self.film is not None:
            zero_init(self.film)

    def forward(self, x: Tensor, mask: Tensor | None = None, condition: Tensor | None = None) -> Tensor:
        """x: (B, C, T), masked; mask: (B, 1, T) or None; condition: (B, condition_channels). Returns (B, C, T)."""
        y = self.norm(self.depthwise(x).transpose(1, 2))  # (B, T, C)
        if self.film is not None:
            scale, shift = self.film(condition)[:, None].chunk(2, dim=-1)
            y = y * (1 + scale) + shift
        y = self.scale * self.contract(self.dropout(F.gelu(self.expand(y))))
        return masked(x + y.transpose(1, 2), mask)


def zero_init(layer: nn.Module) -> None:
    """Have a layer begin with weights and biases of zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


class SymbolEmbedding(nn.Module):
    """Ids to vectors: a symbol's own, and of each mark that its id packs (text/symbols.py) one more.

    id = symbol + n_symbols (mark_0 + mark_sizes[0] (mark_1 + ...)); no mark_sizes: ids are symbols.
    """

    def __init__(self, n_symbols: int, channels: int, mark_sizes: tuple[int, ...] = ()):
        super().__init__()
        self.sizes = (n_symbols, *mark_sizes)
        tables = [nn.Embedding(size, channels) for size in self.sizes]
        for table in tables:
            nn.init.normal_(table.weight, std=channels**-0.5)
        self.tables = nn.ModuleList(tables)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T_x) ids. Returns (B, C, T_x)."""
        total = torch.zeros((), device=x.device)
        for size, table in zip(self.sizes, self.tables):
            total = total + table(x % size)  # (B, T_x, C)
            x = torch.div(x, size, rounding_mode="floor")
        return total.transpose(1, 2) * math.sqrt(total.shape[-1])


class SpeakerEmbedding(nn.Module):
    """What a part has learnt of each speaker: (B, C) of those that NiSETS.speaking_as has chosen.

    The choice is no argument, since every part reads it and a whole text or batch has one. All speakers start at zeros.
    """

    def __init__(self, n_speakers: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_speakers, channels))
        self.chosen: Tensor | None = None  # (B,) or (1,) ids

    def forward(self) -> Tensor:
        """Returns (B, C), or (1, C) for all alike. Raises ValueError outside of NiSETS.speaking_as."""
        if self.chosen is None:
            raise ValueError(f"a model of {len(self.weight)} speakers: choose one with NiSETS.speaking_as")
        return self.weight[self.chosen]


def speaker_embedding(n_speakers: int, channels: int) -> SpeakerEmbedding | None:
    """None for a single speaker, who needs none."""
    return SpeakerEmbedding(n_speakers, channels) if n_speakers > 1 else None


def with_speaker(x: Tensor, speaker: SpeakerEmbedding | None) -> Tensor:
    """x: (B, C, ..., T), moved by what is known of the speaker."""
    return x if speaker is None else x + speaker().to(x.dtype).unflatten(1, (-1, *[1] * (x.dim() - 2)))


class ScoreNetwork(nn.Module):
    """What a score network is told of all frames alike: the diffusion time and who speaks."""

    def __init__(self, channels: int, n_speakers: int):
        super().__init__()
        self.speaker = speaker_embedding(n_speakers, channels)
        self.time = nn.Sequential(
            TimeEmbedding(channels), nn.Linear(channels, 4 * channels), nn.Mish(), nn.Linear(4 * channels, channels)
        )
        # what the decoder knows at t = 1 beyond the score, where the losses on the waveform teach it; these reach the
        # other weights too, which all t share
        self.one_step = nn.Parameter(torch.zeros(channels))

    def embed(self, t: Tensor) -> Tensor:
        """t: (B,) in [0, 1]. Returns (B, channels)."""
        embedding = self.time(t) + (t == 1).to(t.dtype)[:, None] * self.one_step
        return embedding if self.speaker is None else embedding + self.speaker()


class Fourier(nn.Module):
    """The discrete Fourier transform of real frames, its spectra as real and imaginary parts; nothing in it learns."""

    def __init__(self, n_fft: int):
        super().__init__()
        self.n_fft = n_fft

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames: (..., n_fft) float32. Returns the real and the imaginary part, (..., n_fft / 2 + 1)."""
        real, imag = torch.view_as_real(torch.fft.rfft(frames)).unbind(-1)
        return real, imag

    def inverse(self, real: Tensor, imag: Tensor) -> Tensor:
        """real, imag: (..., n_fft / 2 + 1) float32. Returns frames (..., n_fft)."""
        return torch.fft.irfft(torch.complex(real, imag), self.n_fft)


class InverseSTFT(nn.Module):
    """Spectra to a waveform: Hann-windowed frames added up, over the sum of the squared windows that reach a sample
    (Griffin and Lim 1984, equation 6).

    n_fft: samples, a multiple of hop_length, which is an even number of samples below it. Frame i is centred on samples
    [hop_length i, hop_length (i + 1)), as in data_util.audio.MelSpectrogram. Computes in float32, also under autocast.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int):
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        self.padding = (n_fft - hop_length) // 2
        self.reach = n_fft // hop_length // 2  # frames to either side that a frame's samples depend on
        self.fourier = Fourier(n_fft)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, real: Tensor, imag: Tensor, mask: Tensor | None = None) -> Tensor:
        """real, imag: (B, n_fft / 2 + 1, T), of torch.stft's scale; mask: (B, 1, T) or None.

        Returns wav (B, 1, T hop_length), zero past each end, where frames count for nothing. A waveform's own spectra
        give it back from the first sample to the last, whatever it was padded with.
        """
        spectrum = (to_float32(part).transpose(1, 2) for part in (real, imag))  # (B, T, n_fft / 2 + 1) each
        frames = self.fourier.inverse(*spectrum) * self.window  # (B, T, n_fft)
        valid = frames.new_ones(1, frames.shape[1], 1) if mask is None else mask.to(frames.dtype).transpose(1, 2)
        # near zero past the end alone: a frame's window is wide open over its own samples
        weight = self.overlap_add(valid * self.window.square())
        wav = self.overlap_add(frames * valid) / weight.clamp(min=1e-5)
        return masked(wav, None if mask is None else mask.repeat_interleave(self.hop_length, dim=-1))

    def overlap_add(self, frames: Tensor) -> Tensor:
        """frames: (B, T, n_fft). Returns their sum (B, 1, T hop_length), without what lies outside."""
        pieces = frames.split(self.hop_length, dim=2)  # of (B, T, hop_length), the k-th for k hops later
        spread = (F.pad(piece, (0, 0, k, len(pieces) - 1 - k)) for k, piece in enumerate(pieces))
        total = sum(spread, start=frames.new_zeros(()))
        return total.flatten(1)[:, None, self.padding : self.padding + frames.shape[1] * self.hop_length]


def to_float32(x: Tensor) -> Tensor:
    """x in float32 where it is in half precision: where sums and small differences are what matters."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def precision(x: Tensor, amp: bool) -> torch.autocast:
    """The with statement in which a network computes: in bfloat16 where amp is true, else in x's precision."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=amp)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """x, in its own precision, with zeros past each item's end; None says that every frame is valid."""
    return x if mask is None else x * mask.to(x.dtype)


def span(x: Tensor, places: slice) -> Tensor:
    """x[..., places]; an export knows the result's length where places' ends are of its inputs' lengths."""
    if not torch.compiler.is_exporting():
        return x[..., places]
    return x.index_select(-1, places.start + torch.arange(places.stop - places.start, device=x.device))


def overlapping(x: Tensor, size: int, step: int) -> Tensor:
    """x.unfold(-1, size, step), whose size and length are multiples of step; in an export, where its own way gathers
    number by number, by copies of whole steps."""
    if not torch.compiler.is_exporting():
        return x.unfold(-1, size, step)
    steps, n = x.unflatten(-1, (-1, step)), size // step
    return torch.cat([steps[..., k : k + 1 - n or None, :] for k in range(n)], dim=-1)


def mish(x: Tensor) -> Tensor:
    """x tanh(ln(1 + exp x)) (Misra 2020), which is x - 2 x / ((1 + exp x)^2 + 1); on a CPU PyTorch's own takes over
    twice as long, but keeps less for a gradient."""
    if torch.is_grad_enabled() or x.device.type != "cpu" or torch.compiler.is_exporting():
        return F.mish(x)
    exact = to_float32(x)
    squares = exact.exp().add_(1).square_().add_(1)  # infinite far from zero, where mish is x
    return torch.addcdiv(exact, exact, squares, value=-2).to(x.dtype)


def leaky_relu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, LEAKY_SLOPE)


def bounded_exp(x: Tensor, bound: float) -> Tensor:
    """exp(x) where that is far below the bound, which it approaches smoothly and never passes."""
    return bound * torch.sigmoid(x - math.log(bound))
