"""data_util.ship, and the voice that comes with the repository."""

import dataclasses
import os

import numpy as np
import pytest
import safetensors.torch
import torch

from data_util import checkpoint, ship
from data_util import config as configuration
from data_util.checkpoint import CheckpointError
from data_util.files import read_json, write_json
from data_util.measures import RECOGNISER, error_rates, letters, missing_packages, recognise
from data_util.pitch import track_f0
from model.nisets import NiSETS
from sampling import Voice

CONFIG = configuration.load("tests/tiny.yaml")
SYMBOLS = ("a", "b", "c")
MEGABYTES = 25  # that a voice in a repository may have


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    monkeypatch.setattr(checkpoint, "SHIPPED", tmp_path / "ljspeech-small")
    return tmp_path


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return NiSETS(CONFIG, len(SYMBOLS)).state_dict()


def test_kernels_are_halved_and_the_rest_stays(weights):
    for name, tensor in ship.halved(weights).items():
        if tensor.dim() > 1:
            assert tensor.dtype == torch.float16
            # 2^-11 of a number, and half of a float16's smallest step
            assert torch.allclose(tensor.float(), weights[name], rtol=2**-11, atol=2**-25)
        else:
            assert torch.equal(tensor, weights[name])


@pytest.mark.parametrize("value", [7e4, float("nan")])
def test_what_half_precision_cannot_hold_is_named(value):
    with pytest.raises(CheckpointError, match="decoder.weight"):
        ship.halved({"decoder.weight": torch.full((2, 2), value), "decoder.bias": torch.ones(2)})


def test_a_voice_is_shipped_in_place_of_another(runs, weights, capsys):
    there = dataclasses.replace(CONFIG, dataset=dataclasses.replace(CONFIG.dataset, prtpath="/somebody/s/corpus"))
    for step in (3, 7):
        checkpoint.save_voice(runs / "off_1", step, weights, there, SYMBOLS)
    assert ship.main(["-id", "off_1", "-o", str(checkpoint.SHIPPED)]) == 0
    assert ship.main(["-id", "off_1", "-ckpt", "3", "-o", str(checkpoint.SHIPPED)]) == 0
    assert checkpoint.steps(checkpoint.SHIPPED, "voice") == [3]
    whole, half = (checkpoint.find(runs / run, "voice", 3) for run in ("off_1", "ljspeech-small"))
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    voice = checkpoint.load_voice(half)
    assert voice.config == CONFIG and voice.symbols == SYMBOLS
    assert all(tensor.dtype == torch.float32 for tensor in voice.weights.values())
    assert "MB" in capsys.readouterr().out
    assert ship.main(["-id", "off_2"]) == 1
    assert "no run off_2" in capsys.readouterr().err


def test_a_run_of_ones_own_comes_before_the_voice_that_ships(runs, weights):
    with pytest.raises(CheckpointError, match="no voice"):
        checkpoint.newest_run()
    checkpoint.save_voice(checkpoint.SHIPPED, 9, weights, CONFIG, SYMBOLS)
    assert checkpoint.newest_run() == checkpoint.SHIPPED
    for i, run in enumerate(("off_2", "off_1")):
        path = checkpoint.save_voice(runs / run, 1, weights, CONFIG, SYMBOLS)
        os.utime(path, (1000 + i, 1000 + i))  # long before the other was written
    assert checkpoint.newest_run() == runs / "off_1"


def test_a_voice_of_before_a_key_was_there_has_the_default(runs, weights):
    path = checkpoint.save_voice(runs / "off_1", 1, weights, CONFIG, SYMBOLS)
    about = read_json(path.with_suffix(".json"))
    del about["config"]["loss"]["phase"]
    write_json(path.with_suffix(".json"), about)
    assert checkpoint.load_voice(path).config == CONFIG
    about["config"]["loss"]["phrase"] = 1.0
    write_json(path.with_suffix(".json"), about)
    with pytest.raises(CheckpointError, match="loss.phrase"):
        checkpoint.load_voice(path)


# -- the voice in the box


SENTENCE = "The prisoners were allowed to walk about the yard for an hour every morning."


@pytest.fixture(scope="module")
def shipped():
    return Voice.load(checkpoint.SHIPPED)


def test_the_voice_in_the_box_is_small_and_in_half_precision(shipped):
    size = sum(path.stat().st_size for path in checkpoint.SHIPPED.iterdir())
    assert size <= 1e6 * MEGABYTES
    stored = safetensors.torch.load_file(shipped.saved.path)
    assert {tensor.dtype for tensor in stored.values() if tensor.dim() > 1} == {torch.float16}


def test_the_voice_in_the_box_speaks_as_its_reader_does(shipped):
    speech = shipped.speak(SENTENCE, seed=0)
    seconds = len(speech.wav) / speech.sample_rate
    assert 3.5 < seconds < 6  # 77 characters; the corpus has 14 to 18 of them a second
    assert 0.02 < np.sqrt(np.square(speech.wav).mean()) < 0.2
    audio = shipped.saved.config.audio
    log_f0, voiced = track_f0(speech.wav, audio, shipped.saved.config.pitch)
    assert 0.4 < voiced.mean() < 0.85
    assert 170 < np.exp(np.median(log_f0[voiced > 0])) < 260  # Hz, as the reader's
    assert log_f0[voiced > 0].std() > 0.1


@pytest.mark.skipif(bool(missing_packages(RECOGNISER)), reason="needs requirements-extra.txt")
def test_the_voice_in_the_box_is_understood(shipped):
    errors, total = 0, 0
    for text in (SENTENCE, "She had been there for many years, and nobody knew why.", "It was a very cold winter."):
        speech = shipped.speak(text, seed=0)
        wrong, count = error_rates(letters(text), recognise(speech.wav, speech.sample_rate))["cer"]
        errors, total = errors + wrong, total + count
    assert errors / total < 0.35  # of babble the recogniser makes something else altogether, 0.7 and more
