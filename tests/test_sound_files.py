"""Sound in files and streams, and its loudness."""

import io
import struct
import wave

import numpy as np
import pytest
import soundfile

from runtime import loudness, sound_files
from runtime.files import write_atomic

RATE = 22050


def tone(seconds=2.0, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * 997 * np.arange(round(seconds * rate)) / rate).astype("f4")


def chunks(wav):
    return [wav[i : i + 5000] for i in range(0, len(wav), 5000)]


@pytest.mark.parametrize("suffix", sound_files.FORMATS)
def test_files_hold_the_sound(tmp_path, suffix):
    path = tmp_path / f"a{suffix.upper()}"
    assert sound_files.write_sound(path, chunks(tone()), RATE) == 2
    wav, rate = soundfile.read(path)
    assert rate == RATE and len(wav) >= 2 * RATE and soundfile.info(path).format == suffix[1:].upper()
    if suffix in (".wav", ".flac"):
        assert np.abs(wav - tone()).max() <= 0.5 / 32768
    assert np.std(wav) == pytest.approx(0.5 / 2**0.5, rel=0.02)


@pytest.mark.parametrize("kind", ["wav", "pcm", *sound_files.STREAMS])
def test_streams_hold_the_sound_and_come_as_it_is_made(kind):
    rate, made = 24000, []
    source = (made.append(1) or one for one in chunks(tone(4, 24000)))
    parts = sound_files.stream(source, rate, kind)
    first = next(parts)
    assert kind == "flac" or first and len(made) <= 1
    content = b"".join([first, *parts])
    if kind == "pcm":
        wav = np.frombuffer(content, "<i2") / 32768
    else:
        wav, its_rate = soundfile.read(io.BytesIO(content))
        assert its_rate == rate
    assert len(wav) == pytest.approx(4 * rate, abs=2500) and len(wav) >= 4 * rate
    assert np.std(wav[2500 : 4 * rate - 2500]) == pytest.approx(0.5 / 2**0.5, rel=0.06)  # LAME takes 5% off


def test_the_header_of_a_stream_is_a_wav_of_unknown_length():
    with wave.open(io.BytesIO(b"".join(sound_files.stream([tone()], RATE, "wav")))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert len(file.readframes(10**7)) == 4 * RATE
    header = next(sound_files.stream([], RATE, "wav"))
    assert struct.unpack("<I", header[40:])[0] == 2**32 - 1


@pytest.mark.parametrize("suffix", sound_files.FORMATS)
def test_a_full_disk_is_said_and_nothing_is_left(tmp_path, monkeypatch, suffix):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    def onto_a_full_disk(path, content):
        write_atomic(path, lambda _: content(Full()))

    monkeypatch.setattr(sound_files, "write_atomic", onto_a_full_disk)
    with pytest.raises(OSError, match="No space left"):
        sound_files.write_sound(tmp_path / f"a{suffix}", chunks(tone()), RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_written(tmp_path, bad):
    for suffix in sound_files.FORMATS:
        with pytest.raises(ValueError, match="not finite: take another checkpoint"):
            sound_files.write_sound(tmp_path / f"a{suffix}", [np.zeros(5), np.array([0, bad])], RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rate", [16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.05, 2])
def test_loudness_is_that_of_the_recommendation(rate, seconds):
    """ITU-R BS.1770: a full-scale sine of 997 Hz in one channel has -3.01 LUFS; here it has half of full scale."""
    assert loudness.loudness(tone(seconds, rate), rate) == pytest.approx(-3.01 - 6.02, abs=0.06)
    assert loudness.gain(tone(seconds, rate), rate, -23.0) == pytest.approx(10 ** ((-23 + 9.03) / 20), rel=0.01)


def test_pauses_do_not_count_for_loudness_and_peaks_stay_under_full_scale():
    speech = tone()
    for pause in (0, 1e-3):  # under -70 LUFS, and more than 10 LU under the speech
        paused = np.concatenate([speech, np.full(5 * RATE, pause, "f4") * tone(5), speech])
        assert loudness.loudness(paused, RATE) == pytest.approx(loudness.loudness(speech, RATE), abs=0.7)
    assert loudness.loudness(np.zeros(RATE), RATE) == -np.inf and loudness.gain(np.zeros(RATE), RATE, -23.0) == 1
    assert loudness.gain(speech, RATE, 0.0) == pytest.approx(2 * loudness.PEAK, rel=1e-4)
