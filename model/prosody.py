"""What the text leaves open in how it is said: pitch and energy of each symbol, F0 and voicing of each frame.

Pitch and energy are sampled by the same diffusion as the latents, at symbol rate, where an evaluation costs next to
nothing: their mean given the text, which one evaluation gives, is far flatter than speech. So is the mean of F0 within
a symbol, the F0 contour, about which the F0 residual is sampled in the same way. ProsodyNetwork has an embedding of its
own and shares no weights with the text encoder, so that it can be stopped before it has learnt its corpus by heart;
F0ResidualNetwork, which takes longer, reads what ProsodyNetwork makes and teaches it nothing.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.alignment import N_POSITIONS, length_regulate, phone_positions
from model.denoiser import Denoiser
from model.layers import (
    ConvNeXtBlock,
    SymbolEmbedding,
    TimeEmbedding,
    precision,
    speaker_embedding,
    to_float32,
    with_speaker,
    zero_init,
)
from model.sde import SDE, Draw, default_solver

N_VALUES = 2  # of a symbol: pitch and energy; of a frame: F0 and voicing
F0_RESIDUAL_STD = 0.25  # of F0 about its contour, in deviations of ln F0; 0.24 on 342 clips


class Counts(NamedTuple):
    """What masked losses divide by: () each, symbols, frames, frames of the cuts and of the segments of a batch."""

    symbols: Tensor
    frames: Tensor
    cut_frames: Tensor
    segment_frames: Tensor


@dataclass
class Frames:
    """A text's frames as the F0 contour reads them: c (B, C, T_mel) from encode and values (B, 2, T_mel), pitch and
    energy, of the symbol that a frame belongs to; position (B, 3, T_mel) of phone_positions; mask (B, 1, T_mel)."""

    c: Tensor
    values: Tensor
    position: Tensor
    mask: Tensor

    @classmethod
    def along(cls, c: Tensor, values: Tensor, durations: Tensor, mask: Tensor) -> "Frames":
        """c, values: (B, ., T_x), durations: (B, T_x), mask: (B, 1, T_mel)."""
        c, values = (length_regulate(each, durations, mask) for each in (c, values))
        return cls(c, values, phone_positions(durations, mask), mask)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Frames":
        return Frames(**{field.name: change(getattr(self, field.name)) for field in fields(self)})


@dataclass
class Recorded:
    """Symbols and what was measured of their recordings: x (B, T_x) ids, x_mask (B, 1, T_x), values (B, 2, T_x) of
    pitch_and_energy, f0 (B, 2, T_mel) normalised F0 and voicing, durations (B, T_x), mask (B, 1, T_mel)."""

    x: Tensor
    x_mask: Tensor
    values: Tensor
    f0: Tensor
    durations: Tensor
    mask: Tensor


class Prosody(nn.Module):
    """Pitch, energy, F0 and voicing: what training learns of recordings (losses), and what a text is spoken with
    (sample_symbols, then, along its durations, sample_frames)."""

    def __init__(self, sizes: Any, n_symbols: int, mark_sizes: tuple[int, ...], sde: SDE, amp: bool, n_speakers: int):
        """sizes: the section prosody; sde: the latents', whose schedule and density of t hold here too."""
        super().__init__()
        self.sizes, self.amp = sizes, amp
        self.network = ProsodyNetwork(sizes, n_symbols, mark_sizes, n_speakers)
        self.residual = F0ResidualNetwork(sizes) if sizes.residual_layers else None
        sde = replace(sde, sigma_data=1.0, parametrisation="edm")  # of what is normalised
        self.pitch_energy = Denoiser(sde, self.network, amp)
        self.f0_residual = None if self.residual is None else Denoiser(sde, self.residual, amp)
        self.sde = sde

    def set_precision(self, amp: bool) -> None:
        """Whether the networks run in bfloat16 from here on."""
        self.amp = self.pitch_energy.amp = amp
        if self.f0_residual is not None:
            self.f0_residual.amp = amp

    # -- training

    def losses(
        self, parts: Collection[str], recorded: Recorded, cut: Callable[[Tensor], Tensor], counts: Counts
    ) -> dict[str, Tensor]:
        """The losses of the parts prosody and f0_residual, as far as they train. cut: frames (B, C, T_mel) to those
        that the contour is taught on; the residual is taught on all."""
        c = self.network.encode(recorded.x, recorded.x_mask)
        frames, values, found = Frames.along(c, recorded.values, recorded.durations, recorded.mask), recorded.values, {}
        if "prosody" in parts:
            u, noise = torch.rand_like(values[:, 0, 0]), torch.randn_like(values)
            found["loss_prosody"] = self.pitch_energy_loss(values, c, recorded.x_mask, u, noise, counts.symbols)
            found |= self.contour_losses(cut(recorded.f0), frames.map(cut), counts.cut_frames)
        if "f0_residual" in parts:
            u, noise = torch.rand_like(values[:, 0, 0]), torch.randn_like(recorded.mask)
            found["loss_f0_residual"] = self.residual_loss(recorded.f0, frames, u, noise, counts.frames)
        return found

    def pitch_energy_loss(
        self, values: Tensor, c: Tensor, x_mask: Tensor, u: Tensor, noise: Tensor, n_symbols: Tensor
    ) -> Tensor:
        """The score loss of pitch and energy. u: (B,) in [0, 1) for t; noise: (B, 2, T_x) standard normal."""
        return self.pitch_energy.loss(values, noise, self.sde.t_from_uniform(u), x_mask, n_symbols, c=c)[0]

    def contour_losses(self, f0: Tensor, frames: Frames, n_frames: Tensor) -> dict[str, Tensor]:
        """Squared error of F0 where there is voice, and the cross-entropy of voicing. f0: (B, 2, T)."""
        with precision(frames.values, self.amp):
            f0_hat, logit = self.network.contour(frames)
        voiced = f0[:, 1:]
        cross_entropy = F.binary_cross_entropy_with_logits(to_float32(logit), voiced, reduction="none")
        return {
            "loss_f0": ((to_float32(f0_hat) - f0[:, :1]) ** 2 * voiced * frames.mask).sum() / n_frames,
            "loss_voicing": (cross_entropy * frames.mask).sum() / n_frames,
        }

    def residual_loss(self, f0: Tensor, frames: Frames, u: Tensor, noise: Tensor, n_frames: Tensor) -> Tensor:
        """The score loss of F0 about its contour, where there is voice. u: (B,) in [0, 1); noise: (B, 1, T)."""
        voiced = f0[:, 1:] * frames.mask
        contour, condition = self.mean_contour(frames, voiced > 0)
        r_0 = (f0[:, :1] - contour) / F0_RESIDUAL_STD * frames.mask
        t = self.sde.t_from_uniform(u)
        assert self.f0_residual is not None  # the configuration names no part that is not there
        return self.f0_residual.loss(r_0, noise, t, frames.mask, n_frames, loss_mask=voiced, condition=condition)[0]

    def mean_contour(self, frames: Frames, voiced: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """F0's mean in each frame, going on without voice as recordings' does, and what its residual depends on, the
        last channel of which is the voicing; neither teaches the contour. voiced: (B, 1, T) bool; None: as predicted.
        """
        with precision(frames.values, self.amp), torch.no_grad():
            mean, logit = self.network.contour(frames)
        voiced = to_float32(logit) > 0 if voiced is None else voiced
        mean = continuous(to_float32(mean), voiced) * frames.mask
        inputs = [frames.c.detach(), frames.values, frames.position, mean, voiced.to(mean.dtype)]
        return mean, torch.cat(inputs, dim=1)

    # -- speaking

    def sample_symbols(self, x: Tensor, x_mask: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Pitch and energy as a text may be said: c (1, C, T_x), what the frames depend on, and values (1, 2, T_x)."""
        c, sizes = self.network.encode(x, x_mask), self.sizes
        temperatures = x_mask.new_tensor((sizes.pitch_temperature, sizes.energy_temperature))[:, None]
        noise = temperatures * draw(x_mask.expand(-1, N_VALUES, -1))
        return c, self.pitch_energy.sample(noise, sizes.n_timesteps, default_solver(sizes.n_timesteps), x_mask, c=c)

    def sample_frames(self, frames: Frames, draw: Draw) -> Tensor:
        """F0 and voicing of each frame, (1, 2, T_mel) normalised."""
        # where there is no voice nothing taught the contour, and vocoder and decoder know the recordings' lines
        f0, condition = self.mean_contour(frames)
        voicing, sizes = condition[:, -1:], self.sizes
        if self.f0_residual is not None:
            noise, solver = sizes.residual_temperature * draw(f0), default_solver(sizes.residual_timesteps)
            residual = self.f0_residual.sample(
                noise, sizes.residual_timesteps, solver, frames.mask, condition=condition
            )
            f0 = continuous(f0 + F0_RESIDUAL_STD * residual, voicing > 0)
        return torch.cat([f0, voicing], dim=1)


class ProsodyNetwork(nn.Module):
    """Symbols to what conditions them, the score network over pitch and energy, and the contour over the frames."""

    def __init__(self, sizes: Any, n_symbols: int, mark_sizes: tuple[int, ...], n_speakers: int = 1):
        """sizes: the section prosody of the configuration, or what has its fields."""
        super().__init__()
        channels, n_layers, dropout = sizes.channels, sizes.n_layers, sizes.dropout
        self.speaker = speaker_embedding(n_speakers, channels)
        block = (channels, sizes.hidden_channels, sizes.kernel)
        self.embedding = SymbolEmbedding(n_symbols, channels, mark_sizes)
        self.position = nn.Conv1d(2, channels, 1)
        self.encoder = nn.ModuleList(ConvNeXtBlock(*block, dropout=dropout) for _ in range(n_layers))
        self.time = nn.Sequential(TimeEmbedding(channels), nn.Linear(channels, channels), nn.SiLU())
        self.conv_in = nn.Conv1d(N_VALUES, channels, 1)
        self.blocks = nn.ModuleList(ConvNeXtBlock(*block, channels, dropout) for _ in range(n_layers))
        self.conv_out = nn.Conv1d(channels, N_VALUES, 1)
        zero_init(self.conv_out)
        self.frame_in = nn.Conv1d(channels + N_VALUES + N_POSITIONS, channels, 1)
        self.frames = nn.ModuleList(ConvNeXtBlock(*block, dropout=dropout) for _ in range(sizes.frame_layers))
        self.frame_out = nn.Conv1d(channels, N_VALUES, 1)
        zero_init(self.frame_out)

    def encode(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x: (B, T_x) ids, x_mask: (B, 1, T_x). Returns c (B, C, T_x): what pitch, energy and contour depend on."""
        ahead = x_mask.cumsum(-1) - x_mask
        behind = x_mask.sum(-1, keepdim=True) - 1 - ahead  # symbols to the end: a pitch falls towards it
        position = torch.cat([(-ahead / 10).exp(), (-behind / 10).exp()], dim=1)  # (B, 2, T_x)
        c = with_speaker(self.embedding(x) + self.position(position), self.speaker) * x_mask
        for block in self.encoder:
            c = block(c, x_mask)
        return c

    def forward(self, r_t: Tensor, t: Tensor, x_mask: Tensor, c: Tensor) -> Tensor:
        """The score network. r_t: (B, 2, T_x) scaled pitch and energy at t, t: (B,). Returns F (B, 2, T_x)."""
        condition = self.time(t)  # (B, C)
        h = (self.conv_in(r_t) + c) * x_mask
        for block in self.blocks:
            h = block(h, x_mask, condition)
        return self.conv_out(h) * x_mask

    def contour(self, frames: Frames) -> tuple[Tensor, Tensor]:
        """F0 (B, 1, T_mel), normalised like pitch, and the logit of voicing (B, 1, T_mel) of each frame."""
        h = self.frame_in(torch.cat([frames.c, frames.values, frames.position], dim=1)) * frames.mask
        for block in self.frames:
            h = block(h, frames.mask)
        about_pitch, voicing = (self.frame_out(h) * frames.mask).chunk(2, dim=1)
        return frames.values[:, :1] + about_pitch, voicing


class F0ResidualNetwork(nn.Module):
    """The score network over F0 about its contour, given the voicing."""

    def __init__(self, sizes: Any):
        """sizes: as of ProsodyNetwork, with whose c this has the channels in common."""
        super().__init__()
        channels = sizes.channels
        self.time = nn.Sequential(TimeEmbedding(channels), nn.Linear(channels, channels), nn.SiLU())
        self.conv_in = nn.Conv1d(1 + channels + 2 * N_VALUES + N_POSITIONS, channels, 1)
        block = (channels, sizes.hidden_channels, sizes.kernel, channels, sizes.dropout)
        self.blocks = nn.ModuleList(ConvNeXtBlock(*block) for _ in range(sizes.residual_layers))
        self.conv_out = nn.Conv1d(channels, 1, 1)
        zero_init(self.conv_out)

    def forward(self, r_t: Tensor, t: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """r_t: (B, 1, T_mel) scaled, at t (B,); condition: (B, C + 2 N_VALUES + N_POSITIONS, T_mel) of
        Prosody.mean_contour. Returns F (B, 1, T_mel)."""
        embedding = self.time(t)
        r_t = r_t * condition[:, -1:]  # where there is no voice nothing is taught, and so nothing read
        h = self.conv_in(torch.cat([r_t, condition], dim=1)) * mask
        for block in self.blocks:
            h = block(h, mask, embedding)
        return self.conv_out(h) * mask


def continuous(f0: Tensor, voiced: Tensor) -> Tensor:
    """F0 as recordings' are given (data_util.pitch.continuous): straight lines over the frames without voice, level
    before the first and after the last with it; as it is where there is none. f0: (B, 1, T), voiced: (B, 1, T) bool.
    """
    frame = torch.arange(f0.shape[-1], device=f0.device, dtype=f0.dtype).expand_as(f0)
    count = voiced.long().cumsum(-1)  # of voiced frames, with this one
    slot, last = count * voiced, count[..., -1:]  # slot 0 is for all that are not voiced, and 0
    before = count.clamp(min=1)
    after = torch.minimum(count + 1 - voiced.long(), last).clamp(min=1)

    def beside(values):
        """The values at the voiced frames to both sides."""
        listed = F.pad(torch.zeros_like(values), (1, 0)).scatter(-1, slot, values * voiced)
        return listed.gather(-1, before), listed.gather(-1, after)

    (start, end), (left, right) = beside(frame), beside(f0)
    share = ((frame - start) / (end - start).clamp(min=1)).clamp(0, 1)
    return torch.where(voiced | (last == 0), f0, left + share * (right - left))


def pitch_and_energy(mel: Tensor, f0: Tensor, durations: Tensor) -> Tensor:
    """Pitch, the mean of normalised ln F0 over a symbol's voiced frames, and energy, that of the log-mel's bands.

    mel: (B, n_mels, T_mel) normalised, f0: (B, 2, T_mel) normalised F0 and voicing, durations: (B, T_x).
    Returns (B, 2, T_x).
    """
    energy = mel.mean(1, keepdim=True)
    weights = torch.cat([f0[:, 1:], torch.ones_like(energy)], dim=1)
    return symbol_values(torch.cat([f0[:, :1], energy], dim=1), weights, durations)


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
