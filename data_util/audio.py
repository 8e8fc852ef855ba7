"""Waveforms and their features: reading, writing, the log-mel spectrogram, and cuts of both at the same frames."""

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from runtime.files import write_atomic

FLOOR = 1e-5  # of the mel amplitude, before the logarithm: HiFi-GAN's


class AudioError(ValueError):
    """A recording that cannot be used. str() is one line with the file's name; `reason` a word or two for counting."""

    def __init__(self, message: str, reason: str = "unreadable"):
        super().__init__(message)
        self.reason = reason


class MelSpectrogram(nn.Module):
    """HiFi-GAN's features: frame i sees n_fft samples about the middle of samples [hop_length i, hop_length (i + 1)).

    sample_rate, f_min, f_max: Hz; n_fft, hop_length, win_length: samples; n_mels: bands, Slaney's scale and norm.
    Computes in float32 whatever the input's type, also under autocast; gradients are finite, also for silence.
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        win_length: int,
        n_mels: int,
        f_min: float,
        f_max: float,
    ):
        super().__init__()
        self.n_fft, self.hop_length, self.win_length = n_fft, hop_length, win_length
        self.padding = (n_fft - hop_length) // 2
        filters = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, float(f_min), float(f_max), n_mels, sample_rate, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)  # (n_mels, n_fft / 2 + 1)

    def forward(self, wav: Tensor) -> Tensor:
        """wav: (B, T_wav) or (B, 1, T_wav) in [-1, 1].

        Returns (B, n_mels, T_wav // hop_length), natural log of amplitude, at least ln(1e-5); float32.
        A wav too short to be reflected, of (n_fft - hop_length) / 2 samples or fewer, counts as followed by silence.
        """
        with torch.autocast(wav.device.type, enabled=False):
            wav = wav.to(self.window.dtype)  # float32, unless the module was cast
            if wav.dim() == 2:
                wav = wav[:, None]
            n_frames = wav.shape[-1] // self.hop_length
            missing = max(self.padding + 1, self.hop_length) - wav.shape[-1]
            if missing > 0:
                wav = F.pad(wav, (0, missing))
            wav = F.pad(wav, (self.padding, self.padding), mode="reflect")[:, 0]
            spectrum = torch.stft(
                wav, self.n_fft, self.hop_length, self.win_length, self.window, center=False, return_complex=True
            )[..., :n_frames]
            power = spectrum.real.square() + spectrum.imag.square()
            amplitude = torch.sqrt(power + 1e-9)  # under the floor below; keeps the gradient of silence finite
            return torch.matmul(self.filters, amplitude).clamp(min=FLOOR).log()


def load_wav(path: str | Path, sample_rate: int, start: int = 0, n_samples: int | None = None) -> np.ndarray:
    """Read a mono recording, or n_samples of it from sample `start`: (T_wav,) float32 in [-1, 1].

    It gives fewer than n_samples where the file ends first. Raises AudioError: missing, unreadable, empty,
    wrong sample rate, not mono, not finite.
    """
    try:
        with open(path, "rb") as file:
            return decode_wav(file, str(path), sample_rate, start, n_samples)
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file", "missing") from error
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}") from error


def decode_wav(file: BinaryIO, name: str, sample_rate: int, start: int = 0, n_samples: int | None = None) -> np.ndarray:
    """load_wav from an open binary file; `name` is what errors call it."""
    if file.seek(0, io.SEEK_END) == 0:
        raise AudioError(f"{name}: the file is empty", "empty")
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            _check_format(sound, name, sample_rate)
            n_left = max(sound.frames - start, 0)
            wanted = n_left if n_samples is None else min(n_samples, n_left)
            sound.seek(min(start, sound.frames))
            wav = sound.read(wanted, dtype="float32")
    except soundfile.SoundFileError as error:
        raise AudioError(f"{name}: not a readable recording ({str(error).rstrip('.').split(': ')[-1]})") from error
    if len(wav) < wanted:
        raise AudioError(f"{name}: ends after {start + len(wav)} samples, promises {start + wanted}")
    if not np.isfinite(wav).all():
        raise AudioError(f"{name}: samples that are not finite", "not finite")
    return wav


def save_wav(path: str | Path, wav: np.ndarray, sample_rate: int) -> None:
    """Write 16-bit PCM, atomically. wav: (T_wav,), clipped to [-1, 1]; sample_rate: Hz.

    Raises AudioError where a sample is not finite, OSError where the file cannot be written.
    """
    wav = np.asarray(wav, dtype=np.float32)
    if not np.isfinite(wav).all():
        raise AudioError(f"{path}: refused to write samples that are not finite", "not finite")
    pcm = np.clip(np.round(wav * 32768.0), -32768, 32767).astype(np.int16)  # what load_wav read comes back to the bit
    memory = io.BytesIO()
    soundfile.write(memory, pcm, sample_rate, format="WAV", subtype="PCM_16")
    write_atomic(path, memory.getvalue())


def cut(x: Tensor, starts: Tensor, n_frames: int) -> Tensor:
    """Cut each item of a batch at its own frame. Corpus.wav cuts the samples at the same frames.

    x: (B, C, T); starts: (B,) frames, from 0.
    Returns (B, C, n_frames), x[b, :, starts[b] : starts[b] + n_frames], zero past x's end.
    """
    index = starts.to(x.device)[:, None, None] + torch.arange(n_frames, device=x.device)  # (B, 1, n_frames)
    gathered = x.gather(2, index.clamp(max=x.shape[2] - 1).expand(-1, x.shape[1], -1))
    return gathered.masked_fill(index >= x.shape[2], 0)


def sequence_mask(lengths: Tensor, max_length: int | None = None) -> Tensor:
    """lengths: (B,) integers. Returns (B, 1, T) bool, true inside; T is max_length, else the longest."""
    if max_length is None:
        max_length = int(lengths.max())
    return (torch.arange(max_length, device=lengths.device) < lengths[:, None])[:, None]


def _check_format(sound, name, sample_rate):
    if sound.samplerate != sample_rate:
        message = f"{name}: {sound.samplerate} Hz, but audio.sample_rate is {sample_rate} Hz: resample the recording"
        raise AudioError(message, "wrong sample rate")
    if sound.channels != 1:
        raise AudioError(f"{name}: {sound.channels} channels, must be mono", "not mono")
    if sound.frames <= 0:
        raise AudioError(f"{name}: no samples", "empty")
