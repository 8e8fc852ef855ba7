"""What the text leaves open in how it is said: pitch and energy of each symbol, F0 and voicing of each frame.

Pitch and energy are sampled by the same diffusion as the latents, at symbol rate, where an evaluation costs next to
nothing: their mean given the text, which one evaluation gives, is far flatter than speech. So is the mean of F0 within
a symbol, about which its course is sampled in the same way. Variance has an embedding of its own and shares no weights
with the text encoder, so that it can be stopped before it has learnt its corpus by heart; Course, which takes longer,
reads what Variance makes and teaches it nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import ConvNeXtBlock, SymbolEmbedding, TimeEmbedding, speaker_embedding, with_speaker

N_VALUES = 2  # of a symbol: pitch and energy; of a frame: F0 and voicing
COURSE_STD = 0.25  # of F0 about its mean given the text, in deviations of ln F0; 0.24 on 342 clips


class Variance(nn.Module):
    """Symbols to what conditions them, the score network over pitch and energy, and the contour over the frames."""

    def __init__(
        self,
        n_symbols: int,
        mark_sizes: tuple[int, ...],
        n_places: int,
        channels: int,
        hidden_channels: int,
        n_layers: int,
        kernel: int,
        dropout: float,
        frame_layers: int,
        n_speakers: int = 1,
    ):
        """n_places: channels of the place in a symbol, 0 where there is no contour to predict."""
        super().__init__()
        self.speaker = speaker_embedding(n_speakers, channels)
        block = (channels, hidden_channels, kernel)
        self.embedding = SymbolEmbedding(n_symbols, channels, mark_sizes)
        self.place = nn.Conv1d(2, channels, 1)
        self.encoder = nn.ModuleList(ConvNeXtBlock(*block, dropout=dropout) for _ in range(n_layers))
        self.time = nn.Sequential(TimeEmbedding(channels), nn.Linear(channels, channels), nn.SiLU())
        self.conv_in = nn.Conv1d(N_VALUES, channels, 1)
        self.blocks = nn.ModuleList(ConvNeXtBlock(*block, channels, dropout) for _ in range(n_layers))
        self.conv_out = nn.Conv1d(channels, N_VALUES, 1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)
        self.frames = None
        if n_places:
            self.frame_in = nn.Conv1d(channels + N_VALUES + n_places, channels, 1)
            self.frames = nn.ModuleList(ConvNeXtBlock(*block, dropout=dropout) for _ in range(frame_layers))
            self.frame_out = nn.Conv1d(channels, N_VALUES, 1)
            nn.init.zeros_(self.frame_out.weight)
            nn.init.zeros_(self.frame_out.bias)

    def encode(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x: (B, T_x) ids, x_mask: (B, 1, T_x). Returns c (B, C, T_x): what pitch, energy and contour depend on."""
        ahead = x_mask.cumsum(-1) - x_mask
        behind = x_mask.sum(-1, keepdim=True) - 1 - ahead  # symbols to the end: a pitch falls towards it
        place = torch.cat([(-ahead / 10).exp(), (-behind / 10).exp()], dim=1)  # (B, 2, T_x)
        c = with_speaker(self.embedding(x) + self.place(place), self.speaker) * x_mask
        for block in self.encoder:
            c = block(c, x_mask)
        return c

    def forward(self, r_t: Tensor, c: Tensor, x_mask: Tensor, t: Tensor) -> Tensor:
        """The score network. r_t: (B, 2, T_x) scaled pitch and energy at t, t: (B,). Returns F (B, 2, T_x)."""
        condition = self.time(t)  # (B, C)
        h = (self.conv_in(r_t) + c) * x_mask
        for block in self.blocks:
            h = block(h, x_mask, condition)
        return self.conv_out(h) * x_mask

    def contour(self, c: Tensor, values: Tensor, place: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """F0 and voicing of each frame.

        c: (B, C, T_mel) and values: (B, 2, T_mel) pitch and energy, both of the symbol that a frame belongs to;
        place: (B, n_places, T_mel) in it; mask: (B, 1, T_mel).
        Returns f0 (B, 1, T_mel), normalised like pitch, and the logit of voicing (B, 1, T_mel).
        """
        h = self.frame_in(torch.cat([c, values, place], dim=1)) * mask
        for block in self.frames:
            h = block(h, mask)
        about_pitch, voicing = (self.frame_out(h) * mask).chunk(2, dim=1)
        return values[:, :1] + about_pitch, voicing


class Course(nn.Module):
    """The score network over F0 about its mean in each frame, given the voicing."""

    def __init__(self, channels: int, hidden_channels: int, n_layers: int, kernel: int, dropout: float, n_places: int):
        """channels: of Variance's c, and of this; n_places: of the place in a symbol."""
        super().__init__()
        self.time = nn.Sequential(TimeEmbedding(channels), nn.Linear(channels, channels), nn.SiLU())
        self.conv_in = nn.Conv1d(1 + channels + 2 * N_VALUES + n_places, channels, 1)
        block = (channels, hidden_channels, kernel, channels, dropout)
        self.blocks = nn.ModuleList(ConvNeXtBlock(*block) for _ in range(n_layers))
        self.conv_out = nn.Conv1d(channels, 1, 1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, r_t: Tensor, condition: Tensor, mask: Tensor, t: Tensor) -> Tensor:
        """r_t: (B, 1, T_mel) scaled, at t (B,); condition: (B, C + 2 N_VALUES + n_places, T_mel), the c, values and
        place that Variance.contour reads, and the mean contour and voicing. Returns F (B, 1, T_mel)."""
        embedding = self.time(t)
        h = self.conv_in(torch.cat([r_t, condition], dim=1)) * mask
        for block in self.blocks:
            h = block(h, mask, embedding)
        return self.conv_out(h) * mask


def continuous(f0: Tensor, voiced: Tensor) -> Tensor:
    """F0 as recordings' are given (data_util.pitch.continuous): straight lines over the frames without voice, level
    before the first and after the last with it; as it is where there is none. f0: (B, 1, T), voiced: (B, 1, T) bool.
    """
    place = torch.arange(f0.shape[-1], device=f0.device, dtype=f0.dtype).expand_as(f0)
    count = voiced.long().cumsum(-1)  # of voiced frames, with this one
    slot, last = count * voiced, count[..., -1:]  # slot 0 is for all that are not voiced, and 0
    before = count.clamp(min=1)
    after = torch.minimum(count + 1 - voiced.long(), last).clamp(min=1)

    def beside(values):
        """The values at the voiced frames to both sides."""
        listed = F.pad(torch.zeros_like(values), (1, 0)).scatter(-1, slot, values * voiced)
        return listed.gather(-1, before), listed.gather(-1, after)

    (start, end), (left, right) = beside(place), beside(f0)
    way = ((place - start) / (end - start).clamp(min=1)).clamp(0, 1)
    return torch.where(voiced | (last == 0), f0, left + way * (right - left))


def symbol_values(frames: Tensor, weights: Tensor, durations: Tensor) -> Tensor:
    """The weighted mean of frames over each symbol, the plain mean where all weights are 0, and 0 without frames.

    frames: (B, C, T_mel), weights: (B, C, T_mel) zero or more, durations: (B, T_x). Returns (B, C, T_x).
    """
    total, plain, weight = (_sums(each, durations) for each in (frames * weights, frames, weights))
    count = durations[:, None].to(frames.dtype).clamp(min=1)
    return torch.where(weight > 0, total / weight.clamp(min=1e-6), plain / count)


def _sums(frames, durations):
    """(B, C, T_mel) added up over each symbol, (B, C, T_x), in float64: differences of long sums."""
    sums = F.pad(frames.double().cumsum(-1), (1, 0))
    ends = durations.cumsum(1)[:, None].expand(-1, frames.shape[1], -1)  # (B, C, T_x)
    starts = ends - durations[:, None]
    return (sums.gather(2, ends) - sums.gather(2, starts)).to(frames.dtype)
