"""Which run speaks: the one that -id names, or the newest intelligible one, or the bundled voice."""

import json
import os
import shutil

import pytest

from training import checkpoint, voices
from training.checkpoint import CheckpointError


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "checkpoint")
    monkeypatch.setattr(checkpoint, "BUNDLED", tmp_path / "checkpoint" / "ljspeech-small")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "checkpoint"


def write(folder, when, *cers, steps=(8,)):
    """A run whose voices were written at a time, and whose validations had these CERs, None: it was not measured."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").touch()
    for step in steps:
        for suffix in ("safetensors", "json"):
            (folder / f"voice_{step:08d}.{suffix}").touch()
            os.utime(folder / f"voice_{step:08d}.{suffix}", (when, when))
    lines = [{"step": 1, "kind": "train", "loss_mel": 1.0}]
    lines += [{"step": 8, "kind": "valid", "loss_mel": 1.0} | ({} if cer is None else {"cer": cer}) for cer in cers]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_run_that_is_not_intelligible_does_not_displace_the_bundled_voice(runs):
    with pytest.raises(CheckpointError, match="no voice in .* yet: train one"):
        voices.choose()
    write(runs / "off_8", 3000)  # of eight steps, which has not been validated
    with pytest.raises(CheckpointError, match="no intelligible voice .*off_8 is newer, but its log has no CER"):
        voices.choose()
    write(checkpoint.BUNDLED, 1000)
    write(runs / "babble", 4000, 0.2, 0.83)
    folder, why = voices.choose()
    assert folder == checkpoint.BUNDLED
    assert why == (", the bundled voice (babble is newer, but 83% of its characters are heard wrong: -id babble speaks "
                   "with it)")  # fmt: skip
    write(runs / "unmeasured", 5000, None)
    assert "unmeasured is newer, but its log has no CER" in voices.choose()[1]


def test_the_newest_intelligible_run_speaks(runs):
    write(checkpoint.BUNDLED, 9000)
    write(runs / "good", 1000, 0.9, 0.1)
    assert voices.find(None) == (runs / "good" / "voice_00000008.safetensors", "run good, step 8")
    write(runs / "better", 2000, voices.INTELLIGIBLE, steps=(5, 10))
    assert voices.find(None)[1] == "run better, step 10" and voices.find(None, 5)[1] == "run better, step 5"
    write(runs / "newer", 3000, 0.51)
    assert voices.find(None)[1].startswith("run better, step 10 (newer is newer, but 51%")


@pytest.mark.parametrize("form", ["{}", "checkpoint/{}", "checkpoint/{}/", "{}/", "./checkpoint/{}"])
def test_an_id_is_a_name_or_a_path(runs, form):
    write(runs / "small" / "vocoder", 1000)
    write(runs / "small-2", 1000)
    for name in ("small/vocoder", "small-2"):
        assert voices.run_id(form.format(name)) == voices.run_id(str(runs / name)) == name
        assert voices.find(voices.run_id(form.format(name)))[0].parent == runs / name


def test_a_path_to_a_voice_or_to_a_run_elsewhere(runs, tmp_path):
    write(runs / "small", 1000, steps=(5, 10))
    write(tmp_path / "elsewhere" / "mine", 1000)
    path = runs / "small" / "voice_00000005.safetensors"
    assert voices.find(voices.run_id("checkpoint/small/voice_00000005.safetensors")) == (path, "run small, step 5")
    assert voices.find(voices.run_id("elsewhere/mine"))[0].parent == tmp_path / "elsewhere" / "mine"
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert voices.run_id("link/checkpoint/small") == "small"
    with pytest.raises(CheckpointError, match="no run nowhere"):
        voices.find(voices.run_id("nowhere"))


def test_the_table_lists_runs_and_voices(runs):
    write(runs / "off_8", 3000)
    assert [line.split() for line in voices.table().splitlines()][1:] == [["off_8", "-", "8"]]
    shutil.rmtree(runs / "off_8")
    write(checkpoint.BUNDLED, 1000, steps=(4000,))
    (checkpoint.BUNDLED / "config.yaml").unlink()
    write(runs / "small", 2000, 0.123, steps=(5, 10))
    write(runs / "small" / "vocoder", 2000, steps=())
    rows = [line.split(maxsplit=3) for line in voices.table().splitlines()]
    assert rows == [["id", "CER", "voices"], ["*", "small", "12.3%", "5, 10"], ["small/vocoder", "-", "none"],
                    ["ljspeech-small", "-", "4000"]]  # fmt: skip
