"""The fundamental frequency of a recording, frame by frame, at the frames of the mel spectrogram."""

import math

import numpy as np

from data_util.config import Audio, Pitch

PERIODS = 3  # of f_min in what one frame sees: with more, the edges of voicing blur and quick turns are missed
RESOLUTION = 0.125  # semitones between the pitches that are told apart; with half of it it takes twice the time
THRESHOLDS = (2, 12)  # of the beta distribution of YIN's threshold: at (2, 18) glides are lost, at (2, 8) pauses voiced


def track_f0(wav: np.ndarray, audio: Audio, pitch: Pitch) -> np.ndarray:
    """F0 by pYIN (Mauch and Dixon, 2014), of which a Viterbi search makes one contour of the whole recording.

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
    return np.stack([continuous(np.log(f0), voiced, middle), voiced]).astype(np.float32)


def settings(audio: Audio, pitch: Pitch) -> list:
    """All that F0 depends on but the recording, as plain values."""
    return [audio.sample_rate, audio.hop_length, pitch.f_min, pitch.f_max, PERIODS, RESOLUTION, THRESHOLDS]


def continuous(log_f0: np.ndarray, voiced: np.ndarray, middle: float) -> np.ndarray:
    """log_f0 (T_mel,) with straight lines over the frames that are not voiced, level before the first and after the
    last that is; `middle` everywhere where none is. voiced: (T_mel,) bool."""
    frames = np.flatnonzero(voiced)
    if len(frames) == 0:
        return np.full(len(log_f0), middle)
    return np.interp(np.arange(len(log_f0)), frames, log_f0[frames])
