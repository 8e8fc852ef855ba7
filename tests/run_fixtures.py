"""Fixtures of the tests that train, which name this file in pytest_plugins."""

import pytest

import text
from data_util import config as configuration
from data_util import features
from data_util.config import ROOT
from evaluation import metrics
from tests.child import fake_f0
from tests.conftest import corpus_keys, without_judges
from tests.runs import QUICK
from training import checkpoint, validation


@pytest.fixture
def arguments(tiny_root, tmp_path):
    """What makes train.py train the tiny model on the tiny corpus."""
    return ["-c", str(ROOT / "tests" / "tiny.yaml"), *corpus_keys(tiny_root, tmp_path / "cache")]


@pytest.fixture
def quick(arguments):
    """The same, of a model that learns hardly anything, in a moment."""
    return [*arguments, *QUICK]


@pytest.fixture
def config(arguments):
    return configuration.load(arguments[1], arguments[2:])


@pytest.fixture
def prosody_config(config):
    """With prosody, along given durations."""
    stages = "[{parts: {text_encoder: 1.e-3, prosody: 1.e-3, decoder: 1.e-3}}]"
    return configuration.change(config, ["prosody.kind=frame", "prosody.channels=8", "prosody.hidden_channels=8",
                                         "prosody.n_layers=1", "prosody.frame_layers=1", "prosody.patience=2",
                                         "alignment.init_steps=100", "training.train_num_steps=100",
                                         f"training.stages={stages}"])  # fmt: skip


@pytest.fixture
def runs(tmp_path, monkeypatch, stub_front_end):
    """A folder for the runs of this process, where the front end reads letters, and F0 takes no time."""
    assert text.FrontEnd is stub_front_end
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "runs")
    for module in (features, metrics):
        monkeypatch.setattr(module, "track_f0", fake_f0)
    without_judges(monkeypatch)
    return tmp_path / "runs"


@pytest.fixture
def fast(monkeypatch):
    """Neither pictures nor measures, which take longer than the training."""
    monkeypatch.setattr(validation, "validate", lambda *_: {"latent_l1": 1.0})
    monkeypatch.setattr(validation, "measure_seen", lambda *_: {})
    monkeypatch.setattr(validation, "save_curves", lambda *_: None)
