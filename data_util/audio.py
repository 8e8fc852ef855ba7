"""Waveforms and their features: reading, writing, the log-mel spectrogram, and cuts of both at the same frames."""

import contextlib
import functools
import io
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from runtime.sound_files import write_sound

FLOOR = 1e-5  # of the mel amplitude, before the logarithm: HiFi-GAN's
SLOWEST, FASTEST = 4000, 768000  # Hz, beyond which a header is wrong
LONGEST_HOURS = 4  # of a recording, which is held in memory
BLOCK = 1 << 20  # samples that are read at once
UNKNOWN = 1 << 48  # samples from which on a header does not say how many there are
STREAMED = (1 << 31) - (1 << 20)  # bytes from which on a size means that it was not known
MP3_HEADERS = (b"Xing", b"Info")  # of a first frame that says how many there are: without one it is estimated
MP3_SLACK = 2 * 1152  # samples, two frames, that decoders may leave away at the ends
FFMPEG_SECONDS = 600  # for one file
ENDED_EARLY = re.compile(rb"prematurely|truncated|partial file")  # ffmpeg's words, with which it gives what is there
NEEDS_FFMPEG = "needs ffmpeg"
SNDFILE_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc")
FFMPEG_SUFFIXES = (".m4a", ".m4b", ".aac", ".mp4", ".mov", ".mkv", ".mka", ".webm", ".weba", ".wma", ".wmv", ".amr",
                   ".3gp", ".avi", ".mpg", ".mpeg", ".ac3", ".flv")  # fmt: skip
MAGIC = {b"\x1a\x45\xdf\xa3": "Matroska", b"\x30\x26\xb2\x75": "ASF", b"#!AMR": "AMR", b"\xff\xf1": "AAC",
         b"\xff\xf9": "AAC", b"FLV": "Flash"}  # how files begin that libsndfile does not read  # fmt: skip


class AudioError(ValueError):
    """A recording that cannot be used. str() is one line with the file's name; `reason` a word or two for counting."""

    def __init__(self, message: str, reason: str = "unreadable"):
        super().__init__(message)
        self.reason = reason


class UnknownFormat(AudioError):
    """A file that libsndfile does not take for a recording."""


class Sound(NamedTuple):
    """wav: (T_wav,) float32 in [-1, 1], the mean of the channels; sample_rate: Hz; channels, as recorded."""

    wav: np.ndarray
    sample_rate: int
    channels: int


@functools.cache
def suffixes() -> frozenset[str]:
    """Endings of audio files that libsndfile or ffmpeg reads, in small letters."""
    known = (f".{one.lower()}" for one in soundfile.available_formats() if one != "RAW")
    return frozenset(known) | set(SNDFILE_SUFFIXES) | set(FFMPEG_SUFFIXES)


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
        self.n_fft, self.hop_length = n_fft, hop_length
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
            power = power_spectrum(wav, self.window, self.n_fft, self.hop_length)[..., :n_frames]
            amplitude = torch.sqrt(power + 1e-9)  # under the floor below; keeps the gradient of silence finite
            return torch.matmul(self.filters, amplitude).clamp(min=FLOOR).log()


def power_spectrum(wav: Tensor, window: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Squared magnitudes (B, n_fft / 2 + 1, T_wav // hop_length), of frames that lie as MelSpectrogram's.

    wav: (B, 1, T_wav), reflected at both ends; window: (win_length,). A wav too short to be reflected counts as
    followed by silence, and has one frame.
    """
    padding = (n_fft - hop_length) // 2
    wav = F.pad(wav, (0, max(0, padding + 1 - wav.shape[-1], hop_length - wav.shape[-1])))
    wav = F.pad(wav, (padding, padding), mode="reflect")[:, 0]
    spectrum = torch.stft(wav, n_fft, hop_length, len(window), window, center=False, return_complex=True)
    return spectrum.real.square() + spectrum.imag.square()


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
    with _opened(file, name) as (sound, slack):
        if sound.samplerate != sample_rate:
            raise AudioError(f"{name}: {sound.samplerate} Hz, but audio.sample_rate is {sample_rate} Hz: resample the "
                             "recording", "wrong sample rate")  # fmt: skip
        if sound.channels != 1:
            raise AudioError(f"{name}: {sound.channels} channels, must be mono", "not mono")
        if sound.frames <= 0:
            raise AudioError(f"{name}: no samples", "empty")
        return _read(sound, name, slack, start, n_samples)


def decode_sound(file: BinaryIO, name: str) -> Sound:
    """A recording of any rate and channels that libsndfile reads, from an open binary file.

    Raises AudioError, which calls it `name`: unreadable, empty, not finite, shorter than it says, over LONGEST_HOURS.
    """
    with _opened(file, name) as (sound, slack):
        if not SLOWEST <= sound.samplerate <= FASTEST:
            raise AudioError(f"{name}: a sample rate of {sound.samplerate} Hz, must be {SLOWEST} to {FASTEST}")
        wav = _read(sound, name, slack)
        if not len(wav):
            raise AudioError(f"{name}: no samples", "empty")
        return Sound(wav, sound.samplerate, sound.channels)


def load_sound(path: str | Path) -> Sound:
    """decode_sound of a file, which goes through ffmpeg where libsndfile does not know what it is, such as M4A, AAC and
    videos. Raises AudioError as that does, with the reason NEEDS_FFMPEG where ffmpeg would read it and is not there."""
    try:
        with open(path, "rb") as file:
            return decode_sound(file, str(path))
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file", "no recording") from error
    except OSError as error:
        raise AudioError(f"{path}: {error.strerror or error}", f"unreadable ({error.strerror})") from error
    except UnknownFormat as error:
        if not (program := shutil.which("ffmpeg")):
            if "unimplemented" in str(error) or _is_for_ffmpeg(Path(path)):
                raise AudioError(
                    f"{path}: libsndfile cannot read it, and ffmpeg is not installed", NEEDS_FFMPEG
                ) from error
            raise
    return decode_sound(io.BytesIO(_convert(program, path)), str(path))


def _convert(program, path):
    """The first sound of a file as a WAV, by ffmpeg."""
    command = [program, "-nostdin", "-v", "error", "-xerror", "-i", f"file:{Path(path).absolute()}", "-map", "0:a:0",
               "-t", str(LONGEST_HOURS * 3600 + 1), "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=FFMPEG_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AudioError(f"{path}: ffmpeg: {error}") from error
    if done.returncode or not done.stdout or ENDED_EARLY.search(done.stderr):
        said = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:]
        raise AudioError(f"{path}: ffmpeg cannot read it ({said or f'exit status {done.returncode}'})")
    return done.stdout


def _is_for_ffmpeg(path):
    """By its ending, or by how it begins where that is of another kind."""
    with open(path, "rb") as file:
        head = file.read(12)
    return path.suffix.lower() in FFMPEG_SUFFIXES or head[4:8] == b"ftyp" or head.startswith(tuple(MAGIC))


class _Seekable:
    """An open file without its name, since soundfile takes a file called .raw for samples without a header. A seek to
    before the beginning, as a damaged header asks for, moves nothing: its error would only show a traceback."""

    def __init__(self, file: BinaryIO):
        self.read, self.readinto, self.tell, self._seek = file.read, file.readinto, file.tell, file.seek

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._seek(offset, whence)


@contextlib.contextmanager
def _opened(file, name):
    """soundfile's view of an open file, and by how many samples it may fall short of what its header says. What goes
    wrong while it is used is an AudioError."""
    if file.seek(0, io.SEEK_END) == 0:
        raise AudioError(f"{name}: the file is empty", "empty")
    file.seek(0)
    try:
        sound = soundfile.SoundFile(_Seekable(file))
    except soundfile.SoundFileError as error:
        raise UnknownFormat(f"{name}: not a readable recording ({str(error).rstrip('.').split(': ')[-1]})") from error
    with sound:
        slack = 0 if sound.format != "MP3" else MP3_SLACK if _counts_frames(file) else math.inf
        try:
            yield sound, slack
        except soundfile.SoundFileError as error:
            raise AudioError(f"{name}: damaged ({str(error).rstrip('.').split(': ')[-1]})") from error


def _counts_frames(file):
    """Whether an MP3 says how many frames it has: in the first one, after title and pictures. The file's position
    stays."""
    place = file.tell()
    file.seek(0)
    head = file.read(10)
    after = 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(head[6:])) if head.startswith(b"ID3") else 0
    file.seek(after)
    first = file.read(2048)
    file.seek(place)
    return any(name in first for name in MP3_HEADERS)


def _read(sound, name, slack, start=0, n_samples=None):
    """(n,) float32 from sample start, the mean of the channels. Block by block: what a header says of the number of
    samples may be anything, and not every codec can seek."""
    promised = sound.frames if sound.frames < UNKNOWN else None
    left = LONGEST_HOURS * 3600 * sound.samplerate if n_samples is None else n_samples
    if start and sound.seekable():
        sound.seek(min(start, sound.frames))
    elif start:
        sound.read(start)
    blocks, n_read = [np.zeros(0, dtype=np.float32)], 0
    while n_read < left:
        block = sound.read(min(BLOCK, left - n_read), dtype="float32", always_2d=True)  # (n, n_channels)
        if not len(block):
            break
        blocks.append(block.mean(axis=1))
        n_read += len(block)
    wav = np.concatenate(blocks)
    if n_samples is None and n_read == left and len(sound.read(1)):
        raise AudioError(f"{name}: longer than {LONGEST_HOURS} hours", f"longer than {LONGEST_HOURS} hours")
    if promised is not None and n_read + slack < min(left, max(promised - start, 0)):
        raise AudioError(f"{name}: ends after {start + n_read} samples, promises {promised}")
    if (cut := _cut_off(sound.extra_info)) and n_samples is None:
        raise AudioError(f"{name}: ends early: {cut}")
    if not np.isfinite(wav).all():
        raise AudioError(f"{name}: samples that are not finite", "not finite")
    return wav


def _cut_off(log):
    """What libsndfile's log of a file says where a block should be longer than the file is; "" where all are whole. A
    program that writes into a pipe gives the largest size, since it does not know it."""
    for name, size, there in re.findall(r"((?i:data|ssnd|size)|riff)\s*:\s*(\d+) \(should be (\d+)\)", log):
        if int(there) < int(size) < STREAMED:
            return f"{name} of {size} bytes, {there} are there"
    return ""


def save_wav(path: str | Path, wav: np.ndarray, sample_rate: int) -> None:
    """Write a .wav of 16-bit PCM, atomically. wav: (T_wav,), clipped to [-1, 1]; sample_rate: Hz.

    Raises AudioError where a sample is not finite, OSError where the file cannot be written.
    """
    wav = np.asarray(wav, dtype=np.float32)
    if not np.isfinite(wav).all():
        raise AudioError(f"{path}: refused to write samples that are not finite", "not finite")
    write_sound(Path(path), [wav], sample_rate)  # what load_wav read comes back to the bit


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
