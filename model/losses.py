"""Losses as pure functions. A masked one divides by the count it is given, not by its own, so that processes that
share a batch add up to the one process that holds it all."""

import math

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


def duration_loss(logw: Tensor, durations: Tensor, x_mask: Tensor, n_symbols: Tensor) -> Tensor:
    """Squared error of log-durations. logw: (B, 1, T_x), durations: (B, T_x) frames >= 1, x_mask: (B, 1, T_x)."""
    target = durations.clamp(min=1).log()[:, None]
    return ((logw - target) ** 2 * x_mask).sum() / n_symbols


def prior_loss(z0: Tensor, mu: Tensor, mel_mask: Tensor, n_frames: Tensor) -> Tensor:
    """Negative log-density of N(mu, I), in nats a latent channel and frame. z0, mu: (B, n_latents, T_mel)."""
    squares = ((z0 - mu) ** 2 * mel_mask).sum() / (n_frames * z0.shape[1])
    return 0.5 * (squares + LOG_TWO_PI)


def score_loss(output: Tensor, target: Tensor, mask: Tensor, n_frames: Tensor) -> Tensor:
    """Squared error of the score network's preconditioned output. output, target: (B, n_latents, T)."""
    return ((output - target) ** 2 * mask).sum() / (n_frames * output.shape[1])


def mel_loss(mel_hat: Tensor, mel: Tensor, weight: Tensor, mask: Tensor, n_frames: Tensor) -> Tensor:
    """L1 of log-mels, each item weighed. mel_hat, mel: (B, n_mels, T) natural log, weight: (B,) at most 1."""
    return ((mel_hat - mel).abs() * mask * weight[:, None, None]).sum() / (n_frames * mel.shape[1])


def feature_loss(real: list, generated: list) -> Tensor:
    """L1 between the discriminators' features of the recording and of the generated sound, summed over layers."""
    pairs = [
        (r.detach(), g)
        for (_, reals), (_, generateds) in zip(real, generated)
        for r, g in zip(reals, generateds)
    ]  # fmt: skip
    return torch.stack([(r - g).abs().mean() for r, g in pairs]).sum()


def adversarial_loss(generated: list) -> Tensor:
    """What the generator minimises: squared distance of the logits of its sound from 1 (Mao et al. 2017)."""
    return torch.stack([((logits - 1) ** 2).mean() for logits, _ in generated]).sum()


def discriminator_loss(real: list, generated: list) -> Tensor:
    """What the discriminators minimise: real logits to 1, generated logits to 0."""
    losses = [((r - 1) ** 2).mean() + (g**2).mean() for (r, _), (g, _) in zip(real, generated)]
    return torch.stack(losses).sum()
