"""data_util.pitch: F0 of signals whose F0 is known."""

import math

import numpy as np
import pytest

from data_util import config as configuration
from data_util.pitch import continuous, refined, track_f0
from tests.conftest import HOP, SAMPLE_RATE

CONFIG = configuration.load()
MIDDLE = 0.5 * math.log(CONFIG.pitch.f_min * CONFIG.pitch.f_max)


def track(wav):
    return track_f0(wav.astype(np.float32), CONFIG.audio, CONFIG.pitch)


def harmonics(f0):
    """Eight harmonics that fall off, of an F0 (T_wav,) in Hz at each sample: (T_wav,)."""
    phase = 2 * np.pi * np.cumsum(f0) / SAMPLE_RATE
    return 0.2 * sum(np.sin(k * phase) / k for k in range(1, 9))


def noise(n_samples, amplitude=0.1):
    return amplitude * np.random.default_rng(0).standard_normal(n_samples)


def middles(n_frames):
    """Samples at the middle of each frame."""
    return HOP * np.arange(n_frames) + HOP // 2


@pytest.mark.parametrize(("first", "last"), [(100, 200), (400, 150)])
def test_a_glide_is_followed(first, last):
    f0 = np.geomspace(first, last, HOP * 50 + 100)
    log_f0, voicing = track(harmonics(f0))
    assert log_f0.shape == voicing.shape == (50,)
    assert log_f0.dtype == voicing.dtype == np.float32
    inner = slice(3, -3)  # the frames there see nothing of the silence beyond the ends
    errors = (log_f0 - np.log(f0[middles(50)]))[inner]
    assert voicing[inner].all()
    assert np.abs(errors).max() < 0.01
    assert abs(errors.mean()) < 0.003  # half a frame off is 0.007 for the first and 0.010 for the second


def test_harmonics_refine_what_is_off():
    """A voice that wavers by 3% five times a second, and a contour of it that is level and 2% too high."""
    seconds = np.arange(HOP * 80) / SAMPLE_RATE
    f0 = 170 * (1 + 0.03 * np.sin(2 * np.pi * 5 * seconds))
    wav = harmonics(f0) + noise(len(f0), 0.01)
    better = refined(wav, np.full(80, 170 * 1.02), CONFIG.audio)
    errors = (better / f0[middles(80)] - 1)[4:-4]
    assert np.abs(errors).max() < 0.01
    assert np.sqrt(np.square(errors).mean()) < 0.004  # the level contour's: 0.029
    far = refined(harmonics(np.full(HOP * 30, 170.0)), np.full(30, 250.0), CONFIG.audio)
    assert (np.abs(far / 250 - 1) < 0.061).all()  # another voice's contour does not run away


def test_a_step_is_at_its_frame():
    for first, last in ((150, 190), (190, 150)):
        f0 = np.where(np.arange(HOP * 40) < HOP * 21, first, last)
        log_f0, voicing = track(harmonics(f0))
        after = np.abs(log_f0 - math.log(last)) < np.abs(log_f0 - math.log(first))
        assert voicing[3:20].all() and voicing[22:-3].all()  # where it sees both it may be of two minds
        assert abs(int(np.argmax(after)) - 21) <= 1
        assert np.count_nonzero(np.diff(after.astype(int))) == 1


def test_noise_has_no_voice_and_a_voice_between_noises_has_its_place():
    assert track(noise(HOP * 60))[1].mean() < 0.1
    voice = harmonics(np.full(HOP * 30, 120.0)) + noise(HOP * 30, 0.005)
    log_f0, voicing = track(np.concatenate([noise(HOP * 20, 0.02), voice, noise(HOP * 20, 0.02)]))
    first, last = np.flatnonzero(voicing)[[0, -1]]
    assert abs(first - 20) <= 2
    assert abs(last - 49) <= 2
    assert voicing[first : last + 1].all()
    np.testing.assert_array_equal(log_f0[:first], log_f0[first])
    np.testing.assert_array_equal(log_f0[last:], log_f0[last])


def test_gaps_are_bridged_by_straight_lines():
    voiced = np.array([False, True, False, False, False, True, True, False, False])
    log_f0 = np.array([9.0, 4.0, 9.0, 9.0, 9.0, 6.0, 5.0, 9.0, 9.0])
    expected = [4.0, 4.0, 4.5, 5.0, 5.5, 6.0, 5.0, 5.0, 5.0]
    np.testing.assert_array_equal(continuous(log_f0, voiced, 1.0), expected)
    np.testing.assert_array_equal(continuous(log_f0, np.zeros(9, dtype=bool), 1.0), np.ones(9))
    tone = harmonics(np.full(HOP * 25, 150.0))
    wav = np.concatenate([tone, np.zeros(HOP * 20), harmonics(np.full(HOP * 25, 210.0))])
    log_f0, voicing = track(wav)
    gap = np.flatnonzero(voicing[10:-10] == 0) + 10
    before, after = gap[0] - 1, gap[-1] + 1
    assert len(gap) > 14
    np.testing.assert_allclose(log_f0[before : after + 1], np.linspace(*log_f0[[before, after]], len(gap) + 2), 1e-6)
    assert log_f0[after] - log_f0[before] == pytest.approx(math.log(210 / 150), abs=0.02)


@pytest.mark.parametrize("n_samples", [HOP - 1, HOP, HOP * 2, HOP * 2 + 77, HOP * 9])
def test_short_and_silent_recordings(n_samples):
    log_f0, voicing = track(np.zeros(n_samples))
    np.testing.assert_allclose(log_f0, np.full(n_samples // HOP, MIDDLE), 1e-6)
    assert not voicing.any()
    for wav in (noise(n_samples), np.ones(n_samples)):
        log_f0, voicing = track(wav)
        assert log_f0.shape == (n_samples // HOP,)
        assert np.isfinite(log_f0).all()
        assert set(voicing.tolist()) <= {0.0, 1.0}


def test_low_voices_and_other_rates_are_heard():
    for hz in (75.0, 430.0):
        log_f0, voicing = track(harmonics(np.full(HOP * 30, hz)))
        assert voicing[3:-3].all()
        np.testing.assert_allclose(log_f0[3:-3], math.log(hz), atol=0.01)
    audio = configuration.change(CONFIG, ["audio.sample_rate=44100"]).audio
    log_f0, voicing = track_f0(harmonics(np.full(HOP * 60, 100.0)).astype(np.float32), audio, CONFIG.pitch)
    assert voicing[6:-6].all()
    np.testing.assert_allclose(log_f0[6:-6], math.log(200), atol=0.01)
