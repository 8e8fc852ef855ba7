"""Sounds and spectrograms for an HTML page that needs no other file: data URIs, and the style that such pages share."""

import base64
import functools
import io
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from data_util.audio import AudioError
from data_util.config import Audio
from data_util.features import compute_mel

N_BANDS, N_COLUMNS = 80, 320  # of the picture of a row's longest sound: about 10 kB
N_LEVELS = 32  # shades of it; more can hardly be told apart and fill the file
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, those of MPEG 1, 2 and 2.5
MP3_COMPRESSION = 0.5  # 0, the largest, to 1; at 22,050 Hz 7 kB a second of speech, and nothing cut off under 10 kHz
DEPTH = 8.0  # nats of amplitude from the brightest shade to the darkest, about 70 dB


def read_sound(path: Path) -> tuple[np.ndarray, int]:
    """(T_wav, n_channels) float32 in [-1, 1], and its rate in Hz. Raises AudioError."""
    try:
        wav, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: not a readable recording") from error
    if not len(wav) or not np.isfinite(wav).all():
        raise AudioError(f"{path}: no samples, or some that are not finite")
    return wav, sample_rate


def audio_uri(wav: np.ndarray, sample_rate: int) -> str:
    """MP3 of about 55 kbit/s, which every browser plays; WAV for a rate that MP3 does not have, or where libsndfile was
    built without it. wav: (T_wav, n_channels) in [-1, 1]."""
    memory = io.BytesIO()
    if "MP3" in soundfile.available_formats() and sample_rate in MP3_RATES:
        soundfile.write(memory, wav, sample_rate, format="MP3", subtype="MPEG_LAYER_III",
                        bitrate_mode="VARIABLE", compression_level=MP3_COMPRESSION)  # fmt: skip
        return _uri("audio/mpeg", memory.getvalue())
    soundfile.write(memory, np.clip(wav, -1, 1), sample_rate, format="WAV", subtype="PCM_16")
    return _uri("audio/wav", memory.getvalue())


def spectrograms(sounds: dict[str, tuple[np.ndarray, int]]) -> dict[str, tuple[str, float]]:
    """{name: (data URI of a picture, its length by that of the longest)}, all with the same scale of time and level.

    sounds: {name: (wav, sample_rate)}, wav (T_wav, n_channels) in [-1, 1].
    """
    seconds = {name: len(wav) / rate for name, (wav, rate) in sounds.items()}
    longest = max(seconds.values(), default=0)
    mels = {name: _mel(wav.mean(axis=1), rate) for name, (wav, rate) in sounds.items()}
    brightest = max((mel.max() for mel in mels.values()), default=0)
    found = {}
    for name, mel in mels.items():
        share = seconds[name] / longest
        columns = np.linspace(0, mel.shape[1], max(round(N_COLUMNS * share), 1), endpoint=False).astype(int)
        reduced = np.maximum.reduceat(mel, columns, axis=1)  # (N_BANDS, n_columns); a maximum keeps what is short
        level = np.clip(1 + (reduced - brightest) / DEPTH, 0, 1)
        found[name] = _uri("image/png", png(np.round(level[::-1] * (N_LEVELS - 1)).astype(np.uint8), _palette())), share
    return found


def png(shades: np.ndarray, palette: bytes) -> bytes:
    """A picture of (height, width) uint8 numbers of a palette, which has red, green and blue bytes of each."""
    image, memory = Image.fromarray(shades, mode="P"), io.BytesIO()
    image.putpalette(palette)
    image.save(memory, format="PNG", optimize=True)
    return memory.getvalue()


def _mel(wav, sample_rate):
    n_fft = 2 ** round(np.log2(0.046 * sample_rate))
    audio = Audio(sample_rate=sample_rate, n_fft=n_fft, hop_length=n_fft // 8, win_length=n_fft,
                  n_mels=N_BANDS, f_min=0, f_max=min(8000, sample_rate / 2))  # fmt: skip
    return compute_mel(np.pad(wav, (0, audio.hop_length)), audio)  # what is short has a frame too


@functools.cache
def _palette():
    import matplotlib  # here, since it takes a second

    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, N_LEVELS))[:, :3]
    return np.round(255 * colours).astype(np.uint8).tobytes()


def _uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5c5c66; --line: #d8d8de; --ground: #fff; --raised: #f5f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --soft: #a2a2ad; --line: #3a3a42; --ground: #16161a; --raised: #212127; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 110rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .5rem 0; }
dd { margin: 0; } dt, small, td p { color: var(--soft); }
table { border-collapse: collapse; }
.scroll { overflow-x: auto; }
.numbers { width: 100%; }
.numbers th, .numbers td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.numbers th:first-child { text-align: left; min-width: 9rem; width: 24%; }
.numbers th small { font-weight: 400; }
.numbers small { display: block; }
summary { cursor: pointer; padding: .3rem 0; }
:focus-visible { outline: 2px solid #4a8cff; outline-offset: 2px; }
.sentences { width: 100%; table-layout: fixed; overflow-wrap: anywhere; }
.sentences thead th { position: sticky; top: 0; z-index: 1; padding: .5rem; text-align: left;
  background: var(--raised); }
.sentences td { vertical-align: top; padding: .3rem .5rem; }
.sentences .text th { text-align: left; font-weight: 600; padding: 1.2rem .5rem .3rem;
  border-top: 1px solid var(--line); }
.sentences small { font-weight: 400; }
.sentences audio { width: 100%; height: 2.5rem; display: block; margin-bottom: .4rem; }
.sentences img { height: 5.5rem; display: block; }
.sentences td p { margin: .3rem 0; font-size: .875rem; }
.alignment { position: relative; } .alignment img { width: 100%; }
.alignment ol { display: flex; margin: 0; padding: 0; list-style: none; }
.alignment li { flex: none; overflow: visible; border-left: 1px solid var(--line); font-size: .75rem; height: 1.3rem;
  white-space: nowrap; }
"""
