"""training.publish, and the voice that comes with the repository."""

import numpy as np
import pytest
import safetensors.torch
import torch

from data_util import config as configuration
from data_util.config import ROOT
from data_util.pitch import track_f0
from evaluation.metrics import POCKETSPHINX, error_rates, letters, missing_packages, recognise
from model.nisets import NiSETS
from sampling import Voice
from tests.conftest import with_keys
from training import checkpoint, publish
from training.checkpoint import CheckpointError

CONFIG = configuration.load(ROOT / "tests" / "tiny.yaml")
SYMBOLS = ("a", "b", "c")
MEGABYTES = 25  # that a voice in a repository may have


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return NiSETS(CONFIG, len(SYMBOLS)).state_dict()


def test_kernels_are_halved_and_the_rest_stays(weights):
    for name, tensor in publish.halved(weights).items():
        if tensor.dim() > 1:
            assert tensor.dtype == torch.float16
            # 2^-11 of a number, and half of a float16's smallest step
            assert torch.allclose(tensor.float(), weights[name], rtol=2**-11, atol=2**-25)
        else:
            assert torch.equal(tensor, weights[name])


@pytest.mark.parametrize("value", [7e4, float("nan")])
def test_what_half_precision_cannot_hold_is_named(value):
    with pytest.raises(CheckpointError, match="decoder.weight"):
        publish.halved({"decoder.weight": torch.full((2, 2), value), "decoder.bias": torch.ones(2)})


def test_a_voice_is_published_in_place_of_another(tmp_path, monkeypatch, weights, capsys):
    """And nothing of the machine that it was trained on with it."""
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    monkeypatch.setattr(checkpoint, "BUNDLED", tmp_path / "ljspeech-small")
    there = with_keys(CONFIG, "dataset", prtpath="/somebody/s/corpus", cache="/somebody/s/cache",
                      metafile_valid="/somebody/s/list/valid.txt")  # fmt: skip
    there = with_keys(with_keys(there, "system", recogniser="/somebody/s/model"), "text", lexicon="/somebody/s/lexicon")
    there = with_keys(there, "fine_tuning", start=("decoder=/somebody/s/a/project_00000001.pt", "/somebody/s/b/v.pt"))
    there = with_keys(there, "training", gta_folders=("/somebody/s/a/gta",))
    for step in (3, 7):
        checkpoint.save_voice(tmp_path / "off_1", step, weights, there, SYMBOLS)
    assert publish.main(["-id", "off_1", "-o", str(checkpoint.BUNDLED)]) == 0
    assert publish.main(["-id", "off_1", "-ckpt", "3", "-o", str(checkpoint.BUNDLED)]) == 0
    assert checkpoint.steps(checkpoint.BUNDLED, "voice") == [3]
    whole, half = (checkpoint.find(tmp_path / run, "voice", 3) for run in ("off_1", "ljspeech-small"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    voice = checkpoint.load_voice(half)
    assert voice.config.dataset == with_keys(CONFIG, "dataset", metafile_valid="valid.txt").dataset
    assert (voice.config.text, voice.config.system, voice.symbols) == (CONFIG.text, CONFIG.system, SYMBOLS)
    assert voice.config.fine_tuning.start == ("decoder=project_00000001.pt", "v.pt")
    assert "somebody" not in half.with_suffix(".json").read_text()
    assert all(tensor.dtype == torch.float32 for tensor in voice.weights.values())
    assert "MB\nwithout its lexicon, /somebody/s/lexicon: speak with -l FILE" in capsys.readouterr().out
    assert publish.main(["-id", "off_2"]) == 1
    assert "no run off_2" in capsys.readouterr().err
    assert publish.main([]) == 1  # what speaks where none is named is the bundled voice itself
    assert "ljspeech-small is published already: name another run with -id" in capsys.readouterr().err


# -- the bundled voice

SENTENCE = "The prisoners were allowed to walk about the yard for an hour every morning."


@pytest.fixture(scope="module")
def bundled():
    return Voice.load(checkpoint.BUNDLED)


def test_the_bundled_voice_is_small_and_in_half_precision(bundled):
    size = sum(path.stat().st_size for path in checkpoint.BUNDLED.iterdir())
    assert size <= 1e6 * MEGABYTES
    stored = safetensors.torch.load_file(bundled.saved.path)
    assert {tensor.dtype for tensor in stored.values() if tensor.dim() > 1} == {torch.float16}


def test_the_bundled_voice_speaks_as_its_reader_does(bundled):
    speech = bundled.speak(SENTENCE, seed=0)
    seconds = len(speech.wav) / speech.sample_rate
    assert 3.5 < seconds < 6  # 77 characters; the corpus has 14 to 18 of them a second
    assert 0.02 < np.sqrt(np.square(speech.wav).mean()) < 0.2
    audio = bundled.saved.config.audio
    log_f0, voiced = track_f0(speech.wav, audio, bundled.saved.config.pitch)
    assert 0.4 < voiced.mean() < 0.9
    assert 170 < np.exp(np.median(log_f0[voiced > 0])) < 260  # Hz, as the reader's
    assert log_f0[voiced > 0].std() > 0.1


@pytest.mark.skipif(bool(missing_packages(POCKETSPHINX)), reason="needs requirements-extra.txt")
def test_the_bundled_voice_is_understood(bundled):
    errors, total = 0, 0
    for text in (SENTENCE, "She had been there for many years, and nobody knew why."):
        speech = bundled.speak(text, seed=0)
        wrong, count = error_rates(letters(text), recognise(speech.wav, speech.sample_rate, "base.en"))["cer"]
        errors, total = errors + wrong, total + count
    assert errors / total < 0.35  # of babble the recogniser makes something else altogether, 0.7 and more
