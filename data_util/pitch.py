"""The fundamental frequency of a recording, frame by frame, at the frames of the mel spectrogram."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve

from data_util.config import Audio, Pitch

PERIODS = 3  # of f_min in what one frame sees: with more, the edges of voicing blur and quick turns are missed
RESOLUTION = 0.125  # semitones between the pitches that are told apart; with half of it it takes twice the time
HARMONICS, SPAN, SMOOTHING, REACH = 3, 0.04, 0.7, 0.06  # of `refined`: by these the harmonics stand sharpest
THRESHOLDS = (2, 12)  # of the beta distribution of YIN's threshold: at (2, 18) glides are lost, at (2, 8) pauses voiced


def track_f0(wav: np.ndarray, audio: Audio, pitch: Pitch) -> np.ndarray:
    """F0 by pYIN (Mauch and Dixon, 2014), of which a Viterbi search makes one contour of the whole recording, and then
    by the harmonics' phases, which see what its coarse grid and its long frames do not.

    wav: (T_wav,) float32 in [-1, 1]; pitch: f_min and f_max in Hz, between which F0 is looked for.
    Returns (2, T_wav // hop_length) float32: the natural log of F0 in Hz, as `continuous` has it, then voicing, 0 or 1.
    A recording without a voiced frame has the log of the geometric mean of f_min and f_max.
    Frame i is about the middle of samples [hop_length * i, hop_length * (i + 1)), as MelSpectrogram's.
    """
    n_frames = len(wav) // audio.hop_length
    if n_frames == 0:
        return np.zeros((2, 0), dtype=np.float32)
    import librosa  # here, since it takes seconds to load and most starts find F0 in the cache

    half = max(math.ceil(PERIODS / 2 * audio.sample_rate / pitch.f_min), audio.hop_length // 2)  # samples
    left = half - audio.hop_length // 2
    padded = np.zeros(audio.hop_length * (n_frames - 1) + 2 * half, dtype=np.float32)  # n_frames frames and no more
    heard = wav[: len(padded) - left]
    padded[left : left + len(heard)] = heard
    f0, voiced, _ = librosa.pyin(padded, fmin=pitch.f_min, fmax=pitch.f_max, sr=audio.sample_rate, center=False,
                                 frame_length=2 * half, hop_length=audio.hop_length, resolution=RESOLUTION,
                                 beta_parameters=THRESHOLDS, fill_na=1.0)  # fmt: skip
    middle = 0.5 * math.log(pitch.f_min * pitch.f_max)
    log_f0 = continuous(np.log(f0), voiced, middle)
    if voiced.any():
        log_f0 = continuous(np.log(refined(wav[: n_frames * audio.hop_length], np.exp(log_f0), audio)), voiced, middle)
    return np.stack([log_f0, voiced]).astype(np.float32)


def refined(wav: np.ndarray, f0: np.ndarray, audio: Audio) -> np.ndarray:
    """F0 where the recording's own harmonics have it (instantaneous frequency, Flanagan and Golden 1966).

    Each of the lowest harmonics is shifted down by its multiple of F0; how fast it still turns within a frame says how
    far off F0 is there. wav: (T_mel hop_length,), f0: (T_mel,) Hz about right. Returns (T_mel,) Hz.
    """
    hop = audio.hop_length
    places = (np.arange(len(wav)) + 0.5) / hop - 0.5  # of the samples, in frames
    cycles = np.cumsum(np.interp(places, np.arange(len(f0)), f0)) / audio.sample_rate
    window = np.hanning(2 * int(SPAN / 2 * audio.sample_rate) + 1)
    edges = np.minimum(np.arange(len(f0) + 1) * hop, len(wav) - 1)
    turn, weight = np.zeros(len(f0)), np.full(len(f0), np.finfo(float).tiny)
    for n in range(1, HARMONICS + 1):
        low = fftconvolve(wav * np.exp(-2j * np.pi * n * cycles), window, "same")
        steps = gaussian_filter1d(low[edges[1:]] * low[edges[:-1]].conj(), SMOOTHING)
        turn += n * np.abs(steps) * np.angle(steps)  # least squares over the harmonics: the n-th turns n times as fast
        weight += n**2 * np.abs(steps)
    shift = turn / weight / (2 * np.pi) * audio.sample_rate / hop  # Hz
    return f0 + np.clip(shift, -REACH * f0, REACH * f0)


def continuous(log_f0: np.ndarray, voiced: np.ndarray, middle: float) -> np.ndarray:
    """log_f0 (T_mel,) with straight lines over the frames that are not voiced, level before the first and after the
    last that is; `middle` everywhere where none is. voiced: (T_mel,) bool."""
    frames = np.flatnonzero(voiced)
    if len(frames) == 0:
        return np.full(len(log_f0), middle)
    return np.interp(np.arange(len(log_f0)), frames, log_f0[frames])
