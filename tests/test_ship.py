"""data_util.ship, and the voice that comes with the repository."""

import os

import pytest
import torch

from data_util import checkpoint, ship
from data_util import config as configuration
from data_util.checkpoint import CheckpointError
from data_util.files import read_json, write_json
from model.nisets import NiSETS

CONFIG = configuration.load("tests/tiny.yaml")
SYMBOLS = ("a", "b", "c")
MEGABYTES = 25  # that a voice in a repository may have
SENTENCE = "The prisoners were allowed to walk about the yard for an hour every morning."


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
    for step in (3, 7):
        checkpoint.save_voice(runs / "off_1", step, weights, CONFIG, SYMBOLS)
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
