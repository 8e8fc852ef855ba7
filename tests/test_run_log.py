"""The log of a run: means are means, and a resumed run takes up where its checkpoint is."""

import json
import time

import numpy as np
import pytest
import torch

from data_util.audio import save_wav
from tests.runs import lines
from training.plots import save_curves
from training.run_log import RunLog, Stopwatch
from training.trackers import TensorBoard, Wandb


class FakeWandb:
    def __init__(self):
        self.logged, self.metrics = [], []

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append((values["step"], {name: value for name, value in values.items() if name != "step"}))


def media_in(folder):
    """What a validation leaves: a sound of half a second at 8 kHz, and a picture, wider than it is high."""
    save_wav(folder / "a_one_step.wav", np.linspace(-0.5, 0.5, 4000, dtype=np.float32), 8000)
    save_curves(folder / "a.png", [{"step": 1, "kind": "train", "loss_mel": 1.0}])
    return folder


def test_a_line_is_the_mean_of_the_steps_since_the_last(tmp_path):
    """Of those that have the value, as where a stage begins between two lines; what is given stays as it is."""
    log, value = RunLog(tmp_path, 0), torch.tensor(2.0)
    assert log.flush(1) == {} and not (tmp_path / "log.jsonl").exists()
    log.add({"loss_score": value})
    log.add({"loss_score": torch.tensor(4.0), "loss_mel": torch.tensor(5.0)})
    assert log.flush(2) == {"loss_score": 3.0, "loss_mel": 5.0} and value == 2.0
    log.add({"loss_mel": torch.tensor(7.0)})
    assert log.flush(4) == {"loss_mel": 7.0}
    assert lines(tmp_path) == [
        {"step": 2, "kind": "train", "loss_score": 3.0, "loss_mel": 5.0},
        {"step": 4, "kind": "train", "loss_mel": 7.0},
    ]


def test_what_no_line_has_yet_goes_into_a_checkpoint(tmp_path):
    log = RunLog(tmp_path, 0)
    for value in (1.0, 4.0):
        log.add({"loss_mel": torch.tensor(value)})
    unwritten = json.loads(json.dumps(log.unwritten()))  # plain values
    log.add({"loss_mel": torch.tensor(7.0)})
    again = RunLog(tmp_path, 0)
    again.go_on(unwritten)
    again.add({"loss_mel": torch.tensor(7.0)})
    assert again.flush(3) == log.flush(3) == {"loss_mel": 4.0}


def test_wandb_gets_the_same(tmp_path):
    run = FakeWandb()
    log = RunLog(tmp_path, 0, [Wandb(run, audio=lambda path: ("sound", path), image=lambda path: ("picture", path))])
    for value in (1.0, 4.0):
        log.add({"loss_mel": torch.tensor(value)})
    log.flush(2)
    log.write("skipped", 2, {"clips": ["tiny-0"]})  # which is not for it
    log.write("valid", 2, {"loss_prior": 1.25})
    folder = media_in(tmp_path / "samples" / "00000002")
    log.write_samples(2, folder)
    media = {"samples/a": ("picture", f"{folder}/a.png"), "samples/a_one_step": ("sound", f"{folder}/a_one_step.wav")}
    assert run.logged == [(2, {"train/loss_mel": 2.5}), (2, {"valid/loss_prior": 1.25}), (2, media)]
    assert run.metrics == [("*", "step")]
    assert [line["kind"] for line in lines(tmp_path)] == ["train", "skipped", "valid"]


def test_a_tracker_that_fails_ends_no_training(tmp_path, caplog):
    """It is told no more; the other one and the log go on."""

    def fail(values):
        raise ConnectionError(f"no route for step {values['step']}")

    broken, well = FakeWandb(), FakeWandb()
    log = RunLog(tmp_path, 0, [Wandb(run, audio=None, image=None) for run in (broken, well)])
    log.write("train", 2, {"loss_mel": 1.0})
    broken.log = fail
    for step in (4, 6):
        log.write("train", step, {"loss_mel": 1.0})
    assert [step for step, _ in broken.logged] == [2] and [step for step, _ in well.logged] == [2, 4, 6]
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6]
    (warning,) = caplog.records
    assert warning.getMessage() == "Wandb is told no more of this run: no route for step 4"


def test_tensorboard_shows_what_the_log_says(tmp_path):
    """Numbers, sounds and pictures; of a run that went back, each step once."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = RunLog(tmp_path, 0, [TensorBoard()])
    for step in (2, 4, 6):
        log.write("train", step, {"loss_mel": float(step)})
    log.write("skipped", 6, {"clips": ["tiny-0"]})
    log.write("valid", 4, {"loss_prior": 1.25})
    log.write_samples(4, media_in(tmp_path / "samples" / "00000004"))
    log.rewind(4)
    log.write("train", 6, {"loss_mel": 7.0})
    seen = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(one.step, one.value) for one in seen.Scalars("train/loss_mel")] == [(2, 2.0), (4, 4.0), (6, 7.0)]
    assert [(one.step, one.value) for one in seen.Scalars("valid/loss_prior")] == [(4, 1.25)]
    assert sorted(seen.Tags()["scalars"]) == ["train/loss_mel", "valid/loss_prior"]
    (sound,), (picture,) = seen.Audio("samples/a_one_step"), seen.Images("samples/a")
    assert (sound.step, sound.sample_rate, sound.length_frames) == (4, 8000, 4000)
    assert picture.step == 4 and picture.width > picture.height


@pytest.mark.parametrize(
    "torn", [b"", b'{"step": 6, "ki', b'{"step": 6, "kind": "train"}', b"\xff\x00", b'[]\n{"step": null}\n{}\n\n']
)
def test_a_resumed_run_drops_what_comes_again(tmp_path, torn):
    log = RunLog(tmp_path, 0)
    for step in range(2, 13, 2):
        log.write("train", step, {"loss": float(step)})
        if step % 4 == 0:
            log.write("valid", step, {"loss": -float(step)})
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(torn)
    for _ in range(2):  # whoever is resumed twice has each step once
        log = RunLog(tmp_path, 6)
        assert [(line["step"], line["kind"]) for line in lines(tmp_path)] == [
            (2, "train"), (4, "train"), (4, "valid"), (6, "train")]  # fmt: skip
        log.write("train", 8, {"loss": 1.0})
        assert lines(tmp_path)[-1] == {"step": 8, "kind": "train", "loss": 1.0} and len(lines(tmp_path)) == 5


def test_a_part_within_a_part_is_counted_once(monkeypatch):
    watch, now = Stopwatch(), [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work(seconds):
        now[0] += seconds

    with watch.part("forward"):
        work(1)
        for _ in range(2):
            with watch.part("alignment"):
                work(2)
                with watch.part("inner"):
                    work(0.5)
        work(2)
    watch.part("alignment")(work)(2)
    assert watch.seconds == {"inner": 1, "alignment": 6, "forward": 3}
    assert watch.shares() == {"inner": "10%", "alignment": "60%", "forward": "30%"} and watch.seconds == {}
