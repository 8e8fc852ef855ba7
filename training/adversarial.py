"""What the discriminators and the generator learn from each other, as functions of tensors alone."""

import torch
from torch import Tensor, nn

from model import losses
from model.layers import full


def discriminate(discriminators: nn.Module, wav: Tensor, t: Tensor, amp: bool) -> list[tuple[Tensor, list[Tensor]]]:
    """What each discriminator says of wav (B, 1, T_wav): its logits and features, in full precision."""
    with torch.autocast(wav.device.type, torch.bfloat16, enabled=amp):
        judged = discriminators(wav, t)
    return [(full(logits), [full(feature) for feature in features]) for logits, features in judged]


def discriminator_loss(discriminators: nn.Module, wav: Tensor, wav_hat: Tensor, t: Tensor, amp: bool) -> Tensor:
    """The discriminators' loss on recorded and generated segments, (B, 1, T_wav) each, both under the same t (B,)."""
    both = torch.cat([wav, wav_hat])  # in one pass, since DDP wants one before each backward
    halves = [logits.chunk(2) for logits, _ in discriminate(discriminators, both, torch.cat([t, t]), amp)]
    real, generated = ([(half[k], []) for half in halves] for k in (0, 1))
    return losses.discriminator_loss(real, generated)


def generator_losses(
    discriminators: nn.Module, wav: Tensor, wav_hat: Tensor, t: Tensor, amp: bool
) -> tuple[Tensor, Tensor]:
    """The generator's adversarial and feature-matching losses, by discriminators that stand still."""
    with torch.no_grad():
        real = discriminate(discriminators, wav, t, amp)
    generated = discriminate(discriminators, wav_hat, t, amp)
    return losses.adversarial_loss(generated), losses.feature_loss(real, generated)
