"""Which frames belong to which symbol: the search, what follows from durations, and durations for a new text."""

import torch
from torch import Tensor

from model import monotonic_align

N_POSITIONS = 3  # features of a frame's position in its phone, see phone_positions()


def frame_log_likelihood(mu_x: Tensor, z0: Tensor) -> Tensor:
    """ln N(z0; mu_x, I) of every frame under every symbol, but for a constant of the frame.

    mu_x: (B, n_latents, T_x), z0: (B, n_latents, T_mel). Returns (B, T_x, T_mel), nats.
    """
    frames = z0.transpose(1, 2) @ mu_x - 0.5 * (mu_x**2).sum(1)[:, None]  # (B, T_mel, T_x), as the search reads it
    return frames.transpose(1, 2)


@torch.no_grad()
def align(mu_x: Tensor, z0: Tensor, x_lengths: Tensor, mel_lengths: Tensor) -> Tensor:
    """Durations (B, T_x) in frames: the path on which z0 is likeliest under N(mu, I) (Glow-TTS, equation 11).

    mu_x: (B, n_latents, T_x), z0: (B, n_latents, T_mel), x_lengths, mel_lengths: (B,).
    """
    # where numbers are not finite any path will do: the losses along it are not either, and the step is skipped
    scores = frame_log_likelihood(mu_x, z0).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    return monotonic_align.search(scores, x_lengths, mel_lengths)


def length_regulate(values: Tensor, durations: Tensor, mel_mask: Tensor) -> Tensor:
    """Each symbol's values, repeated over its frames.

    values: (B, C, T_x), durations: (B, T_x) frames, which sum to the frames of mel_mask (B, 1, T_mel).
    Returns (B, C, T_mel), masked.
    """
    frames = torch.arange(mel_mask.shape[-1], device=values.device).expand(values.shape[0], -1).contiguous()
    symbol = torch.searchsorted(durations.cumsum(1), frames, right=True)  # (B, T_mel)
    symbol = symbol.clamp(max=values.shape[2] - 1)[:, None].expand(-1, values.shape[1], -1)
    return values.gather(2, symbol) * mel_mask


def phone_positions(durations: Tensor, mask: Tensor) -> Tensor:
    """Where each frame stands in its phone, or in its state where ids are those.

    durations: (B, T_x) int64 frames, zeros allowed, which sum to the frames of mask (B, 1, T_mel). Returns (B, 3,
    T_mel), zero past each end. Of frame k of a phone of d frames, seen at its centre: the part of the phone before it,
    (k + 1/2) / d; the phone's length, ln d; and how near the closer neighbour is, ln(min(k, d - 1 - k) + 1/2), for a
    transition takes about as long in a short phone as in a long one.
    """
    frames = torch.arange(mask.shape[-1], device=durations.device).expand(len(durations), -1).contiguous()
    ends = durations.cumsum(1)
    phone = torch.searchsorted(ends, frames, right=True).clamp(max=durations.shape[1] - 1)  # (B, T_mel)
    length = durations.gather(1, phone)
    after = ends.gather(1, phone) - frames - 1  # frames of the phone that follow
    before = length - 1 - after
    # past an end these are no lengths: any that has a logarithm will do there
    length, nearest = length.clamp(min=1).to(mask.dtype), torch.minimum(before, after).clamp(min=0).to(mask.dtype)
    return torch.stack([(before + 0.5) / length, length.log(), (nearest + 0.5).log()], dim=1) * mask


def predict_durations(logw: Tensor, logw_variance: Tensor, length_scale: float | Tensor) -> Tensor:
    """The mean of a log-normal duration, exp(logw + v / 2), rounded so that the total is kept.

    logw: (B, 1, T_x) log-frames; logw_variance: () of the log-durations about logw. Returns (B, T_x) frames, int64;
    a symbol may get none, a text gets at least one.
    """
    durations = (logw[:, 0].double() + 0.5 * logw_variance.double()).exp() * length_scale
    ends = durations.cumsum(1).round().long()
    ends[:, -1].clamp_(min=1)
    return ends.diff(dim=1, prepend=torch.zeros_like(ends[:, :1]))
