"""Losses against loops and closed forms; shares of a batch add up to the whole."""

import math

import numpy as np
import pytest
import torch

from data_util.audio import sequence_mask
from model import losses

F64 = torch.float64
LENGTHS = torch.tensor([5, 2, 4, 1])
BATCH, CHANNELS, FRAMES = 4, 3, 5
MASK = sequence_mask(LENGTHS, FRAMES).to(F64)
N = MASK.sum()


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def arguments(name):
    """Two arguments of each masked loss, and what it takes besides the mask and the count."""
    a, b = draw(BATCH, CHANNELS, FRAMES, seed=1), draw(BATCH, CHANNELS, FRAMES, seed=2)
    if name == "duration_loss":
        return [draw(BATCH, 1, FRAMES), draw(BATCH, FRAMES, seed=3).abs().mul(4).long() + 1]
    return [a, b]


def test_duration_loss_is_a_loop():
    logw, durations = arguments("duration_loss")
    durations[0, 1] = 0  # counts as one frame
    wanted = durations.clamp(min=1).to(F64).log()[:, None]
    expected = sum((logw[b, 0, i] - wanted[b, 0, i]).item() ** 2 for b in range(BATCH) for i in range(LENGTHS[b]))
    loss = losses.duration_loss(logw, durations.to(F64), MASK, N)
    assert loss.item() == pytest.approx(expected / N.item(), abs=1e-12)
    assert losses.duration_loss(logw, durations, MASK, N).item() == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "of_one"),
    [
        ("prior_loss", lambda z0, mu: -torch.distributions.Normal(mu, 1.0).log_prob(z0)),
        ("score_loss", lambda output, target: (output - target) ** 2),
        ("mel_loss", lambda mel_hat, mel: abs(mel_hat - mel)),
    ],
)
def test_a_masked_loss_is_a_loop(name, of_one):
    a, b = arguments(name)
    values = [of_one(a[i, c, k], b[i, c, k]).item() for i in range(BATCH) for c in range(CHANNELS)
              for k in range(LENGTHS[i])]  # fmt: skip
    assert getattr(losses, name)(a, b, MASK, N).item() == pytest.approx(np.mean(values), abs=1e-12)


@pytest.mark.parametrize("name", ["duration_loss", "prior_loss", "score_loss", "mel_loss"])
@pytest.mark.parametrize("parts", [((0, 3), (1, 2)), ((0,), (1,), (2,), (3,))])
def test_processes_that_share_a_batch_average_to_the_one_that_holds_it_all(name, parts):
    """The count is that of the whole batch, divided by the number of processes; losses and gradients are averaged."""
    loss, (first, *rest) = getattr(losses, name), arguments(name)
    whole_first = first.clone().requires_grad_()
    whole = loss(whole_first, *rest, MASK, N)
    whole.backward()
    first.requires_grad_()
    shares = []
    for rows in (list(rows) for rows in parts):
        shares.append(loss(first[rows], *(other[rows] for other in rest), MASK[rows], N / len(parts)))
    mean = torch.stack(shares).mean()
    mean.backward()
    assert mean.item() == pytest.approx(whole.item(), abs=1e-12)
    assert torch.allclose(first.grad, whole_first.grad, atol=1e-12)


def outputs(seed):
    """What two discriminators of two and one layers say of a sound."""
    one = (draw(4, 1, 7, seed=seed), [draw(4, 2, 9, seed=seed + 1), draw(4, 3, 5, seed=seed + 2)])
    return [one, (draw(2, 1, 3, seed=seed + 3), [draw(2, 6, 8, seed=seed + 4)])]


def test_feature_loss_sums_the_means_of_layers_and_detaches_the_recording():
    real, generated = outputs(10), outputs(20)
    pairs = [pair for (_, reals), (_, generateds) in zip(real, generated) for pair in zip(reals, generateds)]
    for feature in (feature for pair in pairs for feature in pair):
        feature.requires_grad_()
    expected = sum((r - g).abs().mean().item() for r, g in pairs)
    loss = losses.feature_loss(real, generated)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    loss.backward()
    assert all(r.grad is None and g.grad.abs().min() > 0 for r, g in pairs)


@pytest.mark.parametrize(
    ("real", "fake", "adversarial", "discriminator"),
    [(1.0, 0.0, 1.0, 0.0), (1.0, 1.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 0.25, 0.5), (0.0, 3.0, 4.0, 10.0)],
)
def test_least_squares_values(real, fake, adversarial, discriminator):
    """Also of one discriminator beside another, which has logits of another shape."""
    reals, fakes = ([(torch.full((n, 1, 3), value), []) for n in (2, 7, 1)] for value in (real, fake))
    assert losses.adversarial_loss(fakes).item() == pytest.approx(3 * adversarial)
    assert losses.discriminator_loss(reals, fakes).item() == pytest.approx(3 * discriminator)


RESOLUTIONS = (32, 64)


def sounds(*shape, seed=0, level=0.3):
    return level * draw(*shape, seed=seed)


def naive_stft_loss(wav_hat, wav, resolutions):
    """Equations 3 to 6 of one item, (T_wav,) each: frame after frame, in float64."""

    def magnitudes(x, n_fft):
        hop_length = n_fft // 4
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
        x = np.pad(x, (n_fft - hop_length) // 2, mode="reflect")
        spectra = [np.fft.rfft(window * x[i : i + n_fft]) for i in range(0, len(x) - n_fft + 1, hop_length)]
        return np.sqrt(np.abs(spectra) ** 2 / (window**2).sum() + 2.0**-30)

    total = 0.0
    for n_fft in resolutions:
        m_hat, m = magnitudes(wav_hat, n_fft), magnitudes(wav, n_fft)
        total += np.sqrt(((m - m_hat) ** 2).sum()) / max(np.sqrt((m**2).sum()), 1e-3 * np.sqrt(m.size))
        total += np.abs(np.log(m) - np.log(m_hat)).mean()
    return total / len(resolutions)


@pytest.mark.parametrize("length", [200, 256, 30])
def test_stft_loss_is_its_equations_frame_after_frame(length):
    wav_hat, wav = sounds(4, 1, length, seed=1), sounds(4, 1, length, seed=2)
    wav_hat[2, :, length // 2 :] = wav[2, :, length // 2 :] = 0  # one that ends earlier
    wav[1] *= 1e-5  # one so quiet that its convergence is not relative to it
    each = [naive_stft_loss(a.numpy(), b.numpy(), RESOLUTIONS) for a, b in zip(wav_hat[:, 0], wav[:, 0])]
    expected = np.mean(each)
    loss = losses.stft_loss(wav_hat.requires_grad_(), wav, RESOLUTIONS)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert (wav_hat.grad.abs().amax((1, 2)) > 0).tolist() == [True] * 4
    single = losses.stft_loss(wav_hat.detach().float(), wav.float(), RESOLUTIONS)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected, rel=1e-4)


def stft_loss_and_gradient(wav_hat, wav):
    wav_hat = wav_hat.clone().requires_grad_()
    loss = losses.stft_loss(wav_hat, wav, RESOLUTIONS)
    loss.backward()
    return loss.item(), wav_hat.grad


def test_stft_loss_of_silence_is_nothing_and_its_gradient_finite():
    silence, hiss = torch.zeros(1, 1, 256), sounds(1, 1, 256, level=0.01).float()
    loss, gradient = stft_loss_and_gradient(silence, silence)
    assert loss == 0 and not gradient.any()
    loss, gradient = stft_loss_and_gradient(silence, hiss)
    assert 0 < loss < 20 and torch.isfinite(gradient).all()
    loss, gradient = stft_loss_and_gradient(hiss, silence)  # 10 of convergence, six of the logarithm
    assert 0 < loss < 20 and torch.isfinite(gradient).all() and gradient.abs().min() > 0


def test_stft_loss_does_not_hear_what_16_bits_round_away_and_lifts_what_is_far_too_soft():
    silence = torch.zeros(1, 1, 2048)
    rounding = (torch.rand(silence.shape, generator=torch.Generator().manual_seed(0)) - 0.5) / 2**15
    assert stft_loss_and_gradient(rounding, silence)[0] < 0.05
    loud, soft = sounds(1, 1, 256, seed=1).float(), sounds(1, 1, 256, seed=2, level=1e-6).float()
    loss, gradient = stft_loss_and_gradient(soft, loud)
    assert stft_loss_and_gradient(soft - 1e-6 * gradient / gradient.abs().max(), loud)[0] < loss


def test_stft_loss_stays_in_float32_under_autocast():
    wav_hat, wav = sounds(2, 1, 256, seed=1).float(), sounds(2, 1, 256, seed=2).float()
    expected = losses.stft_loss(wav_hat, wav, RESOLUTIONS)
    with torch.autocast("cpu", torch.bfloat16):
        assert losses.stft_loss(wav_hat, wav, RESOLUTIONS) == expected
        half = losses.stft_loss(wav_hat.bfloat16(), wav, RESOLUTIONS)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected.item(), rel=0.02)


# phases


def tones(angle, level=1.0):
    """(2, 1, 32 T) tones of full bins, turned by an angle in radians."""
    places = torch.arange(32 * 20, dtype=F64) * 2 * math.pi / 128
    return level * torch.stack([(5 * places + angle).cos(), (9 * places + angle).cos()])[:, None]


@pytest.mark.parametrize("angle", [0.0, 0.7, math.pi / 2, math.pi, 5.0])
@pytest.mark.parametrize("level", [0.01, 3.0])
def test_phase_loss_is_one_minus_the_cosine_whatever_the_level(angle, level):
    voiced = torch.zeros(2, 1, 20, dtype=F64)
    voiced[:, :, 3:-3] = 1  # the frames that see whole tones
    loss = losses.phase_loss(tones(angle, level), tones(0.0, 0.3), voiced, 128)
    assert loss.item() == pytest.approx(1 - math.cos(angle), abs=1e-4)


def test_phase_loss_hears_voiced_frames_alone_and_each_item_alike():
    right, wrong = tones(0.0), tones(math.pi)
    voiced = torch.zeros(2, 1, 20, dtype=F64)
    assert losses.phase_loss(wrong, right, voiced, 128) == 0
    voiced[0, :, 3:9] = 1
    assert losses.phase_loss(wrong, right, voiced, 128).item() == pytest.approx(2 / 2, abs=1e-4)
    voiced[1, :, 3:17] = 1
    mixed = torch.cat([right[:1], wrong[1:]])
    assert losses.phase_loss(mixed, right, voiced, 128).item() == pytest.approx(2 / 2, abs=1e-4)


def test_phase_loss_hardly_hears_a_recording_of_next_to_nothing():
    """Whose phases are rounding's: below STFT_QUIET a bin it counts by its own magnitude."""
    voiced, quiet = torch.ones(2, 1, 20, dtype=F64), tones(0.0, 1e-5)
    spectrum = losses._spectrum(quiet, 128, 32).abs()
    expected = 2 * spectrum.mean().item() / losses.STFT_QUIET  # the phases are opposite
    assert losses.phase_loss(tones(math.pi), quiet, voiced, 128).item() == pytest.approx(expected, rel=0.01)
    assert expected < 0.01


def test_phase_loss_turns_what_is_wrong_and_is_finite_in_silence():
    voiced = torch.ones(2, 1, 20, dtype=F64)
    for level_hat, level in ((1, 0), (0, 1), (0, 0)):
        wav_hat, wav = tones(0.5, level_hat).requires_grad_(), tones(0.0, level)
        losses.phase_loss(wav_hat, wav, voiced, 128).backward()
        assert wav_hat.grad.isfinite().all()
    angle = torch.tensor(0.5, dtype=F64, requires_grad=True)
    losses.phase_loss(tones(angle), tones(0.0), voiced, 128).backward()
    assert angle.grad.item() == pytest.approx(math.sin(0.5), abs=0.05)
