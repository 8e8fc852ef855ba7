"""Sound in files and streams: WAV, FLAC, Ogg and MP3 through libsndfile, written as it is made."""

import contextlib
import io
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runtime.files import write_atomic

FORMATS = {  # by suffix: libsndfile's format and subtype
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
STREAMS = {"ogg": FORMATS[".ogg"], "opus": ("OGG", "OPUS"), "mp3": FORMATS[".mp3"], "flac": FORMATS[".flac"]}
BLOCK = 65536  # samples that libsndfile is given at a time: its Vorbis encoder fails on millions
_UNKNOWN = 0xFFFFFFFF  # of a length in a WAV's header


def to_pcm(wav: np.ndarray) -> bytes:
    """(n,) in [-1, 1] to 16 bits. Raises ValueError where a sample is not finite."""
    if not np.isfinite(wav).all():
        raise ValueError("the voice made samples that are not finite: take another checkpoint, or train it anew")
    return np.clip(np.round(wav * 32768.0), -32768, 32767).astype("<i2").tobytes()


def write_sound(path: Path, wavs: Iterable[np.ndarray], sample_rate: int) -> float:
    """Write a file, in the format of its suffix, as its sound (n,) is made, whole or not at all. Returns its seconds.

    Raises OSError, and ValueError where a sample is not finite or the suffix is none of FORMATS.
    """
    format_and_subtype, n_samples = format_of(path), 0

    def content(file):
        nonlocal n_samples
        with _encoder(file, format_and_subtype, sample_rate) as write:
            for wav in wavs:
                write(wav)
                n_samples += len(wav)

    write_atomic(path, content)
    return n_samples / sample_rate


def format_of(path: Path) -> tuple[str, str]:
    """Of a file, by its suffix in any case. Raises ValueError for one that is not written."""
    found = FORMATS.get(path.suffix.lower())
    if found is None:
        raise ValueError(
            f"{path}: sound is written as {', '.join(FORMATS)}; a folder is there already, or has no suffix"
        )
    return found


def stream(wavs: Iterable[np.ndarray], sample_rate: int, kind: str) -> Iterator[bytes]:
    """The bytes of sound (n,) as it is made. kind: wav, whose header names no length; pcm, 16 bits without a header;
    or one of STREAMS, of which flac comes in one part at the end, after empty ones, since its header has the length.

    Raises ValueError where a sample is not finite.
    """
    if kind in ("wav", "pcm"):
        parts = map(to_pcm, wavs)
        yield (_wav_header(sample_rate) if kind == "wav" else b"") + next(parts, b"")
        yield from parts
        return
    memory, n_sent = io.BytesIO(), 0

    def fresh():  # the bytes that were not sent yet; where the encoder goes back to change a header, that is not sent
        nonlocal n_sent
        content = bytes(memory.getbuffer()[n_sent:])
        n_sent += len(content)
        return content

    # by a constant rate of bits readers tell how long an MP3 is
    more = {"bitrate_mode": "CONSTANT", "compression_level": 0.5} if kind == "mp3" else {}
    with _encoder(memory, STREAMS[kind], sample_rate, **more) as write:
        if kind == "mp3":
            fresh()  # a frame that says how many follow, which is not known
        for wav in wavs:
            write(wav)
            yield b"" if kind == "flac" else fresh()
    yield fresh()


def _wav_header(sample_rate):
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", _UNKNOWN, b"WAVE", b"fmt ", 16, 1, 1, sample_rate,
                       2 * sample_rate, 2, 16, b"data", _UNKNOWN)  # fmt: skip


@contextlib.contextmanager
def _encoder(
    file: Any, format_and_subtype: tuple[str, str], sample_rate: int, **more: Any
) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives what writes sound (n,) into an open binary file through libsndfile. Raises what the file raises. more: of
    soundfile.SoundFile."""
    import soundfile  # here, so that what writes no sound needs no package

    kind, subtype = format_and_subtype
    guarded = _Guarded(file)

    def write(wav):
        samples = np.frombuffer(to_pcm(wav), dtype="<i2")
        for start in range(0, len(samples), BLOCK):
            sound.write(samples[start : start + BLOCK])
            guarded.check()

    try:
        with soundfile.SoundFile(guarded, "w", sample_rate, 1, subtype, format=kind, **more) as sound:
            yield write
    finally:
        guarded.check()


class _Guarded:
    """A file whose first failure to write is kept: libsndfile would hear of it as of a short write."""

    def __init__(self, file: Any):
        self._file, self.seek, self.tell = file, file.seek, file.tell
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self._file.write(content)
        except OSError as error:
            self.failure = self.failure or error
            return 0

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure
