"""Corpora to test on: a tiny one laid out as LJSpeech, of tones and noise, and eight real clips."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import text
from data_util import config as configuration
from data_util.audio import save_wav
from data_util.corpus import prepare
from evaluation import metrics

REAL = Path(__file__).resolve().parent / "ljspeech"
SAMPLE_RATE, HOP = 22050, 256
VISIBLE, gpu_is_available = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.is_available
TINY_FRAMES = (2, 9, 20, 33, 40, 47, 64, 80, 100, 130)  # of the clips tiny-0, tiny-1, ...


os.environ["HF_HUB_OFFLINE"] = "1"  # no test waits for a model from a hub
# GPUs are hidden from the tests, which compare to the bit, and from the processes that they start
os.environ["CUDA_VISIBLE_DEVICES"] = ""
torch.cuda.is_available = lambda: False


@pytest.fixture(autouse=True)
def visible_gpus(request, monkeypatch):
    """GPUs for a test marked gpu, which is skipped where there is none."""
    if request.node.get_closest_marker("gpu") is None:
        return
    monkeypatch.setattr(torch.cuda, "is_available", gpu_is_available)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if VISIBLE is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE)
    if not gpu_is_available():  # asked only now: CUDA remembers what it was shown first
        pytest.skip("no GPU")


class StubFrontEnd:
    """A front end whose phonemes are the letters; it counts the texts it is asked for."""

    symbols = ("_", *"abcdefghijklmnopqrstuvwxyz")
    asked: list[str] = []

    def __init__(self, language, units, phonemizer="espeak", lexicon=None):
        self.language, self.units, self.phonemizer, self.lexicon = language, units, phonemizer, lexicon

    def phonemise_many(self, texts):
        StubFrontEnd.asked += texts
        return ["".join(c for c in one.lower() if c in self.symbols) for one in texts]

    def to_ids(self, phonemes):
        return [self.symbols.index(c) for c in phonemes]

    def label(self, packed):
        return self.symbols[packed]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tensors as small as these gain nothing from threads, which on busy machines only wait for each other."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def without_judges(patch):
    """As if recogniser and DistillMOS were not installed, which take seconds a validation. patch: a MonkeyPatch."""
    patch.setattr(metrics, "missing_packages", lambda names=("jiwer", "distillmos"): [*names])


@pytest.fixture
def stub_front_end(monkeypatch):
    """Letters instead of phonemes, without blanks; gives the class, whose `asked` lists the texts it was given."""
    monkeypatch.setattr(text, "FrontEnd", StubFrontEnd)
    monkeypatch.setattr(StubFrontEnd, "asked", [])
    return StubFrontEnd


def save_tiny(root, lengths):
    """A folder as LJSpeech has it: clips of so many frames, tones and noise in turn, and train.txt over all."""
    random, lines, letters = np.random.default_rng(0), [], "abcdefghij"
    for i, n_frames in enumerate(lengths):
        n_samples = HOP * n_frames + 13 * i  # a rest that fills no frame
        tone = np.sin(2 * np.pi * 220 * (i + 1) * np.arange(n_samples) / SAMPLE_RATE)
        wav = 0.5 * tone if i % 2 else 0.1 * random.standard_normal(n_samples)
        save_wav(root / "wavs" / f"tiny-{i}.wav", wav, SAMPLE_RATE)
        lines.append(f'tiny-{i}|raw {i}|"{letters[: i + 1]}"\n' if i else "tiny-0|a|\n")
    (root / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    (root / "train.txt").write_text("".join(f"tiny-{i}\n" for i in range(len(lengths))), encoding="utf-8")
    return root


@pytest.fixture
def tiny_root(tmp_path):
    """save_tiny's folder, of ten clips."""
    return save_tiny(tmp_path / "tiny", TINY_FRAMES)


def spectra(padded, n_fft, hop_length):
    """The STFT by its definition, in float64: a Hann window of n_fft samples at every hop_length-th, and a DFT of each.

    padded: (..., T_wav). Returns (..., n_fft / 2 + 1, T).
    """
    frames = np.lib.stride_tricks.sliding_window_view(padded.astype(np.float64), n_fft, axis=-1)[..., ::hop_length, :]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return np.fft.rfft(frames * window).swapaxes(-1, -2)


def refused(error, match, function, *arguments, **keywords):
    """The error, of one line, with which a call has to end. match: a regular expression that its message has."""
    with pytest.raises(error, match=match) as caught:
        function(*arguments, **keywords)
    assert "\n" not in str(caught.value)
    return caught.value


def corpus_keys(root, cache):
    """The overrides of a corpus in a folder, of which train.txt is each of the three lists."""
    lists = [f"dataset.metafile_{name}={root / 'train.txt'}" for name in ("train", "valid", "test")]
    return [f"dataset.prtpath={root}", f"dataset.cache={cache}", *lists]


def even_durations(corpus):
    """The frames of each clip, divided among its symbols alike."""
    return [np.diff(np.linspace(0, n, len(ids) + 1).astype(int)) for n, ids in zip(corpus.n_frames, corpus.ids)]


@pytest.fixture
def tiny_config(tiny_root, tmp_path):
    """The shipped configuration over the tiny corpus: batches of 4, cuts of 32 frames, segments of 8, no workers."""
    sizes = ["training.batch_size=4", "training.cut_frames=32", "training.segment_frames=8", "system.num_workers=0",
             "text.units=blanks"]  # fmt: skip
    return configuration.load(overrides=[*corpus_keys(tiny_root, tmp_path / "cache"), *sizes])


def prepared(config):
    """The clips that a configuration trains on."""
    return prepare(config, config.dataset.metafile_train, progress=False)


@pytest.fixture
def tiny(tiny_config, stub_front_end):
    """The tiny corpus, prepared with the stub for a front end."""
    assert text.FrontEnd is stub_front_end
    return prepared(tiny_config)


def with_keys(config, section, **keys):
    """The configuration with other values in one section, unchecked."""
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **keys)})


@pytest.fixture(scope="session")
def real_root(tmp_path_factory):
    """Eight clips of real speech laid out as LJSpeech, with train.txt over all."""
    clips = sorted(REAL.glob("wavs/*.flac"))
    root = tmp_path_factory.mktemp("ljspeech")
    (root / "wavs").mkdir()
    for clip in clips:
        wav, sample_rate = soundfile.read(clip, dtype="int16")
        soundfile.write(root / "wavs" / f"{clip.stem}.wav", wav, sample_rate, subtype="PCM_16")
    shutil.copyfile(REAL / "metadata.csv", root / "metadata.csv")
    (root / "train.txt").write_text("".join(f"{clip.stem}\n" for clip in clips), encoding="utf-8")
    return root


def quick_runs(patch, root):
    """Runs in root/checkpoint, reading letters, without pictures, recognisers and log lines. patch: a MonkeyPatch."""
    from training import checkpoint, data, validation  # here, since most tests train nothing

    patch.setattr(text, "FrontEnd", StubFrontEnd)
    patch.setattr(checkpoint, "RUNS", root / "checkpoint")
    patch.setattr(data, "ROOT", root)
    patch.setattr("logging.basicConfig", lambda **_: None)
    for name in ("save_validation", "save_curves"):
        patch.setattr(validation, name, lambda path, *_: path.touch())
    without_judges(patch)
