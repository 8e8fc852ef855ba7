"""Integrated loudness (ITU-R BS.1770-5) of a single channel at any sample rate, and the gain to a target."""

import math

import numpy as np

QUIETEST = -70.0  # LUFS, under which nothing is measured
PEAK = 0.99  # of full scale, which no gain exceeds
_BLOCK, _HOP = 0.4, 0.1  # seconds of what the loudness is a mean over, and between two of them
_BELOW = 10.0  # LU under the mean, from which on a block does not count
# the analogue filters behind the two of the recommendation, which gives them for 48 kHz alone
_SHELF = 1681.974450955533, 0.7071752369554196, 10 ** (3.999843853973347 / 20)  # Hz, Q, gain far above
_HIGH_PASS = 38.13547087602444, 0.5003270373238773, 1.0049949
_DECAY = 1.0  # seconds in which the filters' answer to a sound has ended


def loudness(wav: np.ndarray, sample_rate: int) -> float:
    """LUFS of a sound (T_wav,), -inf where all of it is under QUIETEST; one shorter than a block is repeated."""
    n_block, n_hop = round(_BLOCK * sample_rate), round(_HOP * sample_rate)
    wav = np.tile(wav.astype(np.float64), -(-n_block // len(wav)))
    sums = np.concatenate([[0.0], np.cumsum(np.square(_weighted(wav, sample_rate)))])
    starts = np.arange(0, len(wav) - n_block + 1, n_hop)
    power = (sums[starts + n_block] - sums[starts]) / n_block  # (n_blocks,)
    power = power[power > 10 ** ((QUIETEST + 0.691) / 10)]
    if len(power):
        power = power[power > power.mean() * 10 ** (-_BELOW / 10)]
    return -0.691 + 10 * math.log10(power.mean()) if len(power) else -math.inf


def gain(wav: np.ndarray, sample_rate: int, target: float) -> float:
    """The factor that brings a sound (T_wav,) to a loudness in LUFS, less where its peaks would pass PEAK; 1 for
    silence."""
    measured = loudness(wav, sample_rate)
    return 1.0 if measured == -math.inf else min(10 ** ((target - measured) / 20), PEAK / float(np.abs(wav).max()))


def _weighted(wav, sample_rate):
    """The K-weighted sound, (T_wav,), filtered by the product of spectra."""
    n = 1 << (len(wav) + round(_DECAY * sample_rate) - 1).bit_length()
    angles = np.pi * np.arange(n // 2 + 1) / n

    def s(hertz):  # of the bilinear transform, 1j at this frequency
        return 1j * np.tan(angles[:-1]) / math.tan(math.pi * hertz / sample_rate)

    hertz, q, far = _SHELF
    x = s(hertz)
    response = (far * x**2 + far**0.4996667741545416 * x / q + 1) / (x**2 + x / q + 1)
    hertz, q, above = _HIGH_PASS
    x = s(hertz)
    response = np.append(response * above * x**2 / (x**2 + x / q + 1), far * above)  # at the Nyquist frequency
    return np.fft.irfft(np.fft.rfft(wav, n) * response, n)[: len(wav)]
