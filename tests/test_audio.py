"""data_util.audio and runtime.files: features against first principles, recordings, cuts, whole files."""

import dataclasses
import os
import sys

import librosa
import numpy as np
import pytest
import soundfile
import torch

from data_util import config as configuration
from data_util.audio import AudioError, MelSpectrogram, cut, load_sound, load_wav, save_wav, sequence_mask
from runtime.files import read_json, read_json_lines, write_atomic, write_json
from tests.conftest import refused, spectra

AUDIO = configuration.load().audio
RATE, N_FFT, HOP = AUDIO.sample_rate, AUDIO.n_fft, AUDIO.hop_length


@pytest.fixture(scope="module")
def mel():
    return MelSpectrogram(**dataclasses.asdict(AUDIO))


def noise(*shape):
    return torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32))


def naive_log_mel(wav):
    """The definition, in float64: reflect, DFTs, amplitude, librosa's filters, floor, logarithm."""
    filters = librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=AUDIO.n_mels, fmin=AUDIO.f_min, fmax=AUDIO.f_max,
                                  norm="slaney", dtype=np.float64)  # fmt: skip
    padded = np.pad(wav, (N_FFT - HOP) // 2, mode="reflect")
    return np.log(np.maximum(filters @ np.abs(spectra(padded, N_FFT, HOP)), 1e-5))


def test_mels_are_those_of_their_definition(mel):
    wav = noise(1, HOP * 9 + 100)
    np.testing.assert_allclose(mel(wav)[0].numpy(), naive_log_mel(wav[0].numpy()), atol=1e-4)


def test_frames_are_whole_hops(mel):
    for n_samples in (0, 1, 255, 256, 384, 385, 511, 512, 513, 1023, 1024, 5000, 22050):
        out = mel(noise(2, n_samples))
        assert out.shape == (2, AUDIO.n_mels, n_samples // HOP)
        assert torch.isfinite(out).all()


def test_both_shapes_of_a_wav_and_any_type_give_float32(mel):
    wav = noise(2, HOP * 4)
    assert torch.equal(mel(wav), mel(wav[:, None])) and mel(wav.double()).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = mel(wav)
    assert under_autocast.dtype == torch.float32 and torch.equal(under_autocast, mel(wav))


def test_a_short_wav_counts_as_followed_by_silence(mel):
    pad = (N_FFT - HOP) // 2
    wav = noise(1, 300)
    assert torch.equal(mel(wav), mel(torch.nn.functional.pad(wav, (0, pad + 1 - 300))))


def test_silence_has_the_floor_and_gradients_are_finite_and_reach_every_sample(mel):
    silence, loud = torch.zeros(1, HOP * 4, requires_grad=True), noise(1, HOP * 4).requires_grad_()
    torch.testing.assert_close(mel(silence), torch.full((1, AUDIO.n_mels, 4), np.log(1e-5).item()))
    for wav in (silence, loud):
        mel(wav).sum().backward()
        assert torch.isfinite(wav.grad).all()
    assert (loud.grad != 0).all() and not mel.state_dict()


def test_cut_gives_each_item_its_own_frames_and_zeros_past_the_end():
    x, starts = noise(3, 2, 40) + 1, torch.tensor([0, 7, 35])
    x_cut = cut(x.requires_grad_(), starts, 8)
    assert x_cut.shape == (3, 2, 8)
    for b, start in enumerate(starts.tolist()):
        n = min(8, 40 - start)
        assert torch.equal(x_cut[b, :, :n], x[b, :, start : start + 8]) and not x_cut[b, :, n:].any()
    assert not cut(x, torch.tensor([40, 50, 41]), 6).any()
    x_cut.sum().backward()  # gradients reach what is shown only
    assert [row.nonzero().flatten().tolist() for row in x.grad[:, 0]] == [
        [*range(8)], [*range(7, 15)], [*range(35, 40)]]  # fmt: skip


def test_a_mask_is_true_up_to_each_length():
    mask = sequence_mask(torch.tensor([0, 2, 3]), 4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[[0, 0, 0, 0]], [[1, 1, 0, 0]], [[1, 1, 1, 0]]]
    assert sequence_mask(torch.tensor([1, 3])).shape == (2, 1, 3)


def test_recordings_come_back_to_the_bit(tmp_path):
    pcm = np.random.default_rng(0).integers(-32768, 32768, 3000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", pcm, RATE, subtype="PCM_16")
    save_wav(tmp_path / "b.wav", load_wav(tmp_path / "a.wav", RATE), RATE)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize("subtype", ["PCM_16", "GSM610"])
def test_a_part_of_a_recording_is_of_the_whole_also_where_a_codec_cannot_seek(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", noise(8000).numpy(), RATE, subtype=subtype)
    whole = load_wav(tmp_path / "a.wav", RATE)
    assert whole.dtype == np.float32 and len(whole) >= 8000
    np.testing.assert_array_equal(load_wav(tmp_path / "a.wav", RATE, 1000, 500), whole[1000:1500])
    np.testing.assert_array_equal(load_wav(tmp_path / "a.wav", RATE, 7990, 500), whole[7990:])
    assert len(load_wav(tmp_path / "a.wav", RATE, 9000, 50)) == 0


def test_save_clips_and_refuses_what_is_not_finite(tmp_path):
    wav = np.array([3.0, -3.0, *noise(1000)])
    save_wav(tmp_path / "a.wav", wav, RATE)
    np.testing.assert_allclose(load_wav(tmp_path / "a.wav", RATE), wav.clip(-1, 1), atol=1 / 32768)
    refused(AudioError, "not finite", save_wav, tmp_path / "b.wav", np.array([np.nan]), RATE)
    assert os.listdir(tmp_path) == ["a.wav"]


def test_every_fault_has_its_reason_in_one_line(tmp_path):
    folder, wav = tmp_path, noise(5000).numpy()
    soundfile.write(folder / "rate.wav", wav, 16000)
    soundfile.write(folder / "stereo.wav", np.stack([wav, wav], 1), RATE)
    soundfile.write(folder / "none.wav", wav[:0], RATE)
    soundfile.write(folder / "nan.wav", np.full(100, np.nan, np.float32), RATE, subtype="FLOAT")
    save_wav(folder / "cut.wav", wav, RATE)
    (folder / "cut.wav").write_bytes((folder / "cut.wav").read_bytes()[:3000])
    soundfile.write(folder / "cut.flac", wav, RATE)
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:3000])
    (folder / "zero.wav").write_bytes(b"")
    (folder / "text.wav").write_bytes(b"this is no recording")
    (folder / "folder.wav").mkdir()
    faults = {
        "gone.wav": ("missing", "no such file"),
        "rate.wav": ("wrong sample rate", "16000 Hz.*22050 Hz"),
        "stereo.wav": ("not mono", "2 channels"),
        "none.wav": ("empty", "no samples"),
        "zero.wav": ("empty", "empty"),
        "nan.wav": ("not finite", "not finite"),
        "cut.wav": ("unreadable", "ends early: data of 10000 bytes, 2956 are there"),
        "cut.flac": ("unreadable", "cut.flac"),
        "text.wav": ("unreadable", "not a readable recording"),
        "folder.wav": ("unreadable", "directory"),
    }
    for name, (reason, words) in faults.items():
        error = refused(AudioError, words, load_wav, folder / name, RATE)
        assert error.reason == reason and name in str(error)


KINDS = [(8000, 1, "WAV", "PCM_16"), (48000, 2, "WAV", "PCM_24"), (22050, 1, "WAV", "FLOAT"), (8000, 1, "WAV", "ULAW"),
         (22050, 1, "RF64", "PCM_16"), (22050, 1, "WAV", "GSM610"), (44100, 2, "FLAC", "PCM_24"),
         (22050, 6, "WAV", "PCM_32"), (24000, 1, "OGG", "VORBIS"), (48000, 2, "OGG", "OPUS"),
         (44100, 2, "AIFF", "PCM_16"),
         (44100, 1, "MP3", "MPEG_LAYER_III"), (22050, 1, "WAV", "IMA_ADPCM"), (22050, 1, "CAF", "ALAC_16"),
         (22050, 1, "W64", "PCM_U8"), (22050, 1, "AU", "ALAW")]  # fmt: skip


@pytest.mark.parametrize(("rate", "channels", "kind", "subtype"), KINDS)
@pytest.mark.parametrize("ending", ["right", "wav", "mp3"])
def test_any_recording_is_read_whatever_it_is_called(tmp_path, rate, channels, kind, subtype, ending):
    tone = 0.3 * np.sin(2 * np.pi * 300 * np.arange(rate) / rate)
    path = tmp_path / f"a.{kind.lower() if ending == 'right' else ending}"
    soundfile.write(path, np.stack([tone] * channels, 1), rate, format=kind, subtype=subtype)
    wav, sample_rate, n_channels = load_sound(path)
    assert (sample_rate, n_channels) == (rate, channels) and wav.dtype == np.float32 and wav.ndim == 1
    assert len(wav) / rate == pytest.approx(1, abs=0.06)  # a codec may add some
    assert np.abs(np.fft.rfft(wav)).argmax() * rate / len(wav) == pytest.approx(300, abs=5)
    assert wav.std() == pytest.approx(0.3 / 2**0.5, abs=0.02)


@pytest.mark.parametrize("title", [b"", b"ID3\x04\0\0\0\0\x02\0" + bytes(256)])
def test_an_mp3_that_was_cut_off_is_refused(tmp_path, title):
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.1 * noise(RATE).numpy().ravel(), RATE)
    content = path.read_bytes()
    path.write_bytes(title + content)
    assert len(load_sound(path).wav) == RATE
    path.write_bytes(title + content[: len(content) * 3 // 4])
    refused(AudioError, f"ends after .* samples, promises {RATE}", load_sound, path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0])
def test_a_wav_that_was_written_into_a_pipe_is_whole(tmp_path, size):
    save_wav(tmp_path / "a.wav", noise(3000).numpy(), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    if size:
        assert len(load_sound(tmp_path / "a.wav").wav) == 3000
    else:
        refused(AudioError, "no samples", load_sound, tmp_path / "a.wav")


def test_a_length_that_a_header_invents_needs_no_memory(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(3000).numpy(), RATE)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F  # the high bits of the number of samples: 64 thousand million of them
    (tmp_path / "a.flac").write_bytes(content)
    refused(AudioError, "ends after 3000 samples|damaged", load_sound, tmp_path / "a.flac")


@pytest.fixture
def m4a(tmp_path):
    """A file that only ffmpeg knows, as far as its beginning goes."""
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(range(256)))
    return tmp_path / "a.m4a"


def ffmpeg(folder, script):
    """A program of that name, alone on the PATH but for the shell's own."""
    folder.mkdir()
    (folder / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ffmpeg").chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def test_a_header_that_points_before_the_beginning_shows_no_traceback(tmp_path, monkeypatch):
    path, shown = tmp_path / "a.raw", []
    monkeypatch.setattr(sys, "unraisablehook", shown.append)
    soundfile.write(path, np.zeros(9000), 22050, format="AIFF", subtype="PCM_16")
    assert len(load_sound(path).wav) == 9000  # whatever it is called
    content = bytearray(path.read_bytes())
    content[37:41] = b"\x7f\xff\xff\xff"  # the end of the rate, and the name of the next chunk
    path.write_bytes(content)
    with pytest.raises(AudioError, match="not a readable recording"):
        load_sound(path)
    assert not shown


def test_what_libsndfile_cannot_read_goes_through_ffmpeg(m4a, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "real.wav", noise(3000).numpy(), 32000, subtype="FLOAT")
    script = f'case "$*" in *"-i file:{m4a} "*) cat {tmp_path / "real.wav"} ;; *) exit 3 ;; esac'
    monkeypatch.setenv("PATH", ffmpeg(tmp_path / "bin", script))
    wav, rate, _ = load_sound(m4a)
    assert rate == 32000
    np.testing.assert_allclose(wav, noise(3000).numpy(), atol=1e-6)
    save_wav(tmp_path / "plain.wav", noise(100).numpy(), RATE)
    assert len(load_sound(tmp_path / "plain.wav").wav) == 100  # which the stand-in would refuse


@pytest.mark.parametrize(
    ("script", "reason", "words"),
    [
        (None, "needs ffmpeg", "ffmpeg is not installed"),
        ("echo moov atom not found >&2; exit 1", "unreadable", "ffmpeg cannot read it .moov atom not found"),
        ("exit 0", "unreadable", "ffmpeg cannot read it"),
        ("echo File ended prematurely >&2; echo RIFF", "unreadable", "ended prematurely"),
    ],
)
def test_without_ffmpeg_or_where_it_fails_one_line_says_so(m4a, tmp_path, monkeypatch, script, reason, words):
    monkeypatch.setenv("PATH", str(tmp_path) if script is None else ffmpeg(tmp_path / "bin", script))
    for ending in (".m4a", ".wav"):  # known by its ending, and by how it begins
        m4a = m4a.rename(m4a.with_suffix(ending))
        assert refused(AudioError, words, load_sound, m4a).reason == reason


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new folder" / "a.json"
    write_json(path, {"a": "ü"})

    def fail(file):
        file.write(b"half")
        assert read_json(path) == {"a": "ü"}  # a reader meanwhile
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert read_json(path) == {"a": "ü"}
    assert os.listdir(path.parent) == ["a.json"]


def test_write_atomic_replaces_and_syncs_before_it_does(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, name=name, real=real: (calls.append(name), real(*a))[1])
    write_atomic(tmp_path / "a", b"1")
    write_atomic(tmp_path / "a", lambda file: file.write(b"2"), durable=False)
    assert (tmp_path / "a").read_bytes() == b"2"
    assert calls == ["fsync", "replace", "fsync", "replace"]


def test_of_json_lines_those_count_that_are_whole_and_objects(tmp_path):
    assert read_json_lines(tmp_path / "gone.jsonl") == read_json_lines(tmp_path) == []
    lines = ['{"a": "line\u2028of \x85 one"}', '{"a": 1', "", "[1]", "7", "[" * 100_000, '{"b": 2}\r', '{"b": 3}']
    (tmp_path / "a.jsonl").write_bytes(b"\xff{}\n" + "\n".join(lines).encode())
    assert read_json_lines(tmp_path / "a.jsonl") == [{"a": "line\u2028of \x85 one"}, {"b": 2}]
    with open(tmp_path / "a.jsonl", "a") as file:
        file.write("\n")
    assert read_json_lines(tmp_path / "a.jsonl")[-1] == {"b": 3}


def test_a_damaged_json_file_reads_as_none(tmp_path):
    assert read_json(tmp_path / "gone.json") is None
    (tmp_path / "a.json").write_bytes(b'{"a": 1')
    assert read_json(tmp_path / "a.json") is None
