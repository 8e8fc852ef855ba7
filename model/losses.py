"""Losses as pure functions. A masked one divides by the count it is given, not by its own, so that processes that
share a batch add up to the one process that holds it all.

Masks are (B, 1, T), 1 where a symbol or a frame is valid, counts (); real and generated are what discriminate() in
discriminator.py gives.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from data_util.audio import power_spectrum
from model.layers import to_float32

LOG_TWO_PI = math.log(2 * math.pi)

# Of the magnitudes of stft_loss, which are of white noise its standard deviation:
STFT_FLOOR = 2**-15  # one step of 16-bit sound, so that what was rounded away is not heard by the logarithm
STFT_QUIET = 1e-3  # root mean square of an item, below which its spectral convergence is no longer relative to it


def duration_loss(logw: Tensor, durations: Tensor, x_mask: Tensor, n_symbols: Tensor) -> Tensor:
    """Squared error of log-durations. logw: (B, 1, T_x), durations: (B, T_x) frames, 0 as 1, x_mask: (B, 1, T_x).

    Its running mean is the variance, half of which predict_durations adds (update_averages in training/step.py):
    another loss here needs the squared error beside it for that, or the rate of speech changes.
    """
    target = durations.clamp(min=1).log()[:, None]
    return ((logw - target) ** 2 * x_mask).sum() / n_symbols


def prior_loss(z0: Tensor, mu: Tensor, mel_mask: Tensor, n_frames: Tensor) -> Tensor:
    """Negative log-density of N(mu, I), in nats a latent channel and frame. z0, mu: (B, n_latents, T_mel)."""
    squares = ((z0 - mu) ** 2 * mel_mask).sum() / (n_frames * z0.shape[1])
    return 0.5 * (squares + LOG_TWO_PI)


def score_loss(output: Tensor, target: Tensor, mask: Tensor, n_frames: Tensor) -> Tensor:
    """Squared error of the score network's preconditioned output. output, target: (B, n_latents, T)."""
    return ((output - target) ** 2 * mask).sum() / (n_frames * output.shape[1])


def mel_loss(mel_hat: Tensor, mel: Tensor, mask: Tensor, n_frames: Tensor) -> Tensor:
    """L1 of log-mels. mel_hat, mel: (B, n_mels, T) natural log."""
    return ((mel_hat - mel).abs() * mask).sum() / (n_frames * mel.shape[1])


def stft_loss(wav_hat: Tensor, wav: Tensor, resolutions: tuple[int, ...]) -> Tensor:
    """Multi-resolution STFT loss (Yamamoto et al. 2020, equations 3 to 6), the mean over items.

    wav_hat, wav: (B, 1, T_wav) in [-1, 1], zeros in both past an item's end; resolutions: n_fft of each, samples. In
    float32, also under autocast; gradients are finite, also for silence.
    """
    with torch.autocast(wav.device.type, enabled=False):
        items = []
        for n_fft in resolutions:
            magnitude_hat, magnitude = _stft_magnitude(wav_hat, n_fft), _stft_magnitude(wav, n_fft)
            quiet = STFT_QUIET * math.sqrt(magnitude[0].numel())
            convergence = _norm(magnitude - magnitude_hat) / _norm(magnitude).clamp(min=quiet)
            items.append(convergence + (magnitude.log() - magnitude_hat.log()).abs().mean((1, 2)))
        return torch.stack(items).mean()


def phase_loss(wav_hat: Tensor, wav: Tensor, voiced: Tensor, n_fft: int) -> Tensor:
    """1 - cos of the angle between the spectra of a sound and of the recording that its pulses are in step with, of
    each item the mean over its voiced frames' bins by the recording's magnitude, 0 without any, then over the items.
    A magnitude that is wrong costs nothing.

    wav_hat, wav: (B, 1, T hop_length) in [-1, 1]; voiced: (B, 1, T), 0 or 1; n_fft: samples.
    """
    hop_length = wav.shape[-1] // voiced.shape[-1]
    with torch.autocast(wav.device.type, enabled=False):
        spectrum_hat, spectrum = (_spectrum(to_float32(each), n_fft, hop_length) for each in (wav_hat, wav))
        product = spectrum_hat * spectrum.conj()
        magnitude = (spectrum_hat.real.square() + spectrum_hat.imag.square() + STFT_FLOOR**2).sqrt()
        total = (spectrum.abs() * voiced).sum((1, 2))
        agreeing = (product.real / magnitude * voiced).sum((1, 2))
        return ((total - agreeing) / total.clamp(min=STFT_QUIET * spectrum[0].numel())).mean()


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


def _spectrum(wav, n_fft, hop_length):
    """(B, 1, T hop_length) to (B, n_fft / 2 + 1, T) complex, of which white noise has its variance."""
    padding = (n_fft - hop_length) // 2
    window = torch.hann_window(n_fft, dtype=wav.dtype, device=wav.device)
    wav = F.pad(wav, (padding, padding))[:, 0]
    return torch.stft(wav, n_fft, hop_length, window=window / window.norm(), center=False, return_complex=True)


def _stft_magnitude(wav, n_fft):
    """(B, 1, T_wav) to (B, n_fft / 2 + 1, T_wav // hop), hop n_fft / 4; too short to be reflected: then silence."""
    wav = to_float32(wav)
    window = torch.hann_window(n_fft, dtype=wav.dtype, device=wav.device)
    # Added, not clamped to: sound under the floor still has a gradient that lifts it.
    return (power_spectrum(wav, window / window.norm(), n_fft, n_fft // 4) + STFT_FLOOR**2).sqrt()


def _norm(x):
    return torch.linalg.vector_norm(x, dim=(1, 2))  # (B,), Frobenius's of each item; its gradient at 0 is 0
