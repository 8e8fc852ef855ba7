"""data_util.demo: the sentences, and espeak-ng speaking them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from data_util import config as configuration
from data_util import demo
from data_util.config import ROOT
from data_util.corpus import read_metafile
from text import FrontEnd

TEXTS = ["The old dog sleeps.", "The old dog sleeps in front of the warm fire all day."]
# each folder in a process of its own, forked from one that has imported what takes long
MAKE = """
import multiprocessing, sys
from pathlib import Path
from data_util import audio, config, demo

def make(folder):
    return demo.make(Path(folder), config.load("demo"), sys.argv[3:], progress=False)

with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    assert pool.map(make, sys.argv[1:3], chunksize=1) == [True, True]
"""


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Hundreds of clips are written here, none of which has to survive a loss of power."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The corpus of TEXTS, made twice, each time by a process of its own."""
    made = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    subprocess.run([sys.executable, "-c", MAKE, *made, *TEXTS], cwd=ROOT, check=True, timeout=300)
    return made


def test_sentences_are_short_and_have_the_sounds_of_english():
    sentences = demo.sentences()
    assert len(sentences) >= 300 and len({sentence.lower() for sentence in sentences}) == len(sentences)
    assert all(3 <= len(sentence.split()) <= 9 for sentence in sentences)
    assert all(sentence[0].isupper() and sentence[-1] in ".?" and "|" not in sentence for sentence in sentences)
    phonemes = set("".join(FrontEnd().phonemise_many(sentences)))
    assert set("pbtdkɡfvθðszʃʒhmnŋlɹjw" + "iɪɛæɑɔʊuʌəɚɐeoa") <= phonemes


def test_clips_are_speech_at_the_right_rate(folders):
    wavs = []
    for i in (1, 2):
        path = folders[0] / "wavs" / f"demo-00{i}.wav"
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (22050, 1, "PCM_16")
        wavs.append(soundfile.read(path)[0])
        assert 0.01 < np.sqrt(np.mean(wavs[-1] ** 2)) < 0.5
        loud = np.flatnonzero(np.abs(wavs[-1]) > demo.SILENCE)
        pause = round(demo.PAUSE * 22050)
        assert loud[0] <= pause and len(wavs[-1]) - 1 - loud[-1] <= pause
    assert 0.5 < len(wavs[0]) / 22050 < 2.5 and len(wavs[1]) > 1.5 * len(wavs[0])


def test_the_same_process_gives_the_same_samples(folders):
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in folders]
    assert files[0] == files[1] and len(files[0]) == 5
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in files[0])


def test_what_is_whole_is_not_made_again(folders, monkeypatch):
    config, asked = configuration.load("demo"), []
    monkeypatch.setattr(demo, "speak", lambda texts, *_: asked.append(texts) or iter([np.zeros(9)] * len(texts)))
    assert not demo.make(folders[1], config, TEXTS, progress=False) and not asked
    (folders[1] / "wavs" / "demo-002.wav").unlink()
    assert demo.make(folders[1], config, TEXTS, progress=False)
    assert demo.make(folders[1], config, TEXTS[::-1], progress=False) and asked == [TEXTS, TEXTS[::-1]]


def test_an_interrupted_corpus_is_no_corpus(tmp_path, monkeypatch):
    def speak(*_):
        yield np.zeros(9)
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "speak", speak)
    with pytest.raises(KeyboardInterrupt):
        demo.make(tmp_path, configuration.load("demo"), TEXTS, progress=False)
    assert not (tmp_path / "metadata.csv").exists() and (tmp_path / "wavs" / "demo-001.wav").exists()


def test_lists_and_transcripts_fit_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "speak", lambda texts, *_: iter([np.zeros(9)] * len(texts)))
    config = configuration.load("demo")
    demo.make(tmp_path, config, progress=False)
    train, valid = (read_metafile(tmp_path / name, tmp_path) for name in ("train.txt", "valid.txt"))
    assert [clip.text for clip in sorted(train + valid, key=lambda clip: clip.id)] == demo.sentences()
    assert all(clip.wav_path.is_file() for clip in train + valid)
    assert len(valid) >= config.system.validation_clips and not {c.id for c in train} & {c.id for c in valid}
    lists = [config.dataset.metafile_train, config.dataset.metafile_valid]
    assert lists == [f"{config.dataset.prtpath}/{name}" for name in ("train.txt", "valid.txt")]


def test_voices_say_the_same_and_are_named(tmp_path, monkeypatch):
    asked, config = [], configuration.load("demo")
    monkeypatch.setattr(demo, "speak", lambda texts, _, voice: asked.append(voice) or iter([np.zeros(9)] * len(texts)))
    voices, texts = ["en-us+m3", "en-us+f2"], [f"Sentence {i}." for i in range(1, 41)]
    assert demo.make(tmp_path, config, texts, progress=False, voices=voices) and asked == voices
    train, valid = (read_metafile(tmp_path / name, tmp_path) for name in ("train.txt", "valid.txt"))
    assert {(clip.speaker, clip.text) for clip in valid} == {(v, texts[i]) for v in voices for i in (19, 39)}
    assert {(clip.speaker, clip.text) for clip in train + valid} == {(v, text) for v in voices for text in texts}
    assert all(clip.wav_path.is_file() and clip.speaker in clip.id for clip in train + valid)
    assert not demo.make(tmp_path, config, texts, progress=False, voices=voices)


def test_variants_of_a_voice_sound_different():
    """Each in a process of its own: what espeak-ng makes depends on what it has said before."""
    code = ("import sys; from data_util import config, demo; c = config.load('demo')\n"
            "for wav in demo.speak(sys.argv[2:], c, sys.argv[1]): print(hash(wav.tobytes()))")  # fmt: skip
    said = [subprocess.run([sys.executable, "-c", code, voice, TEXTS[0]], cwd=ROOT, check=True, capture_output=True,
                           env={**os.environ, "PYTHONHASHSEED": "0"}).stdout
            for voice in ("", "en-us", "en-us+m3", "en-us+f2")]  # fmt: skip
    assert said[0] == said[1] and len(set(said)) == 3


def test_another_rate_or_voice_stops():
    for keys, voice, words in ((["audio.sample_rate=16000"], "", "audio.sample_rate = 16000: must be 22050"),
                               (["text.language=xx-none"], "", r"no voice 'xx-none' \(text.language\)"),
                               ([], "en-us+nobody", r"no voice 'en-us\+nobody'")):  # fmt: skip
        with pytest.raises(demo.DemoError, match=words):
            next(demo.speak(TEXTS, configuration.load("demo", keys), voice))
