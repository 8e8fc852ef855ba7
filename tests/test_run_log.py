"""The log of a run: means are means, and a resumed run takes up where its checkpoint is."""

import json
import time

import pytest
import torch

from data_util.run_log import RunLog, Stopwatch


class FakeWandb:
    def __init__(self):
        self.logged, self.metrics = [], []

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append((values["step"], {name: value for name, value in values.items() if name != "step"}))


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_line_is_the_mean_of_the_steps_since_the_last(tmp_path):
    log = RunLog(tmp_path, 0)
    for value in (1.0, 2.0, 6.0):
        log.add({"loss_mel": torch.tensor(value), "loss_score": torch.tensor(10 * value)})
    assert log.flush(3) == {"loss_mel": 3.0, "loss_score": 30.0}
    log.add({"loss_mel": torch.tensor(7.0)})
    assert log.flush(4) == {"loss_mel": 7.0}
    assert lines(tmp_path) == [
        {"step": 3, "kind": "train", "loss_mel": 3.0, "loss_score": 30.0},
        {"step": 4, "kind": "train", "loss_mel": 7.0},
    ]


def test_a_loss_that_some_steps_do_not_have_is_the_mean_of_those_that_do(tmp_path):
    """As where a stage begins between two lines."""
    log = RunLog(tmp_path, 0)
    log.add({"loss_score": torch.tensor(2.0)})
    log.add({"loss_score": torch.tensor(4.0), "loss_mel": torch.tensor(5.0)})
    assert log.flush(2) == {"loss_score": 3.0, "loss_mel": 5.0}


def test_nothing_new_is_no_line(tmp_path):
    log = RunLog(tmp_path, 0)
    assert log.flush(1) == {}
    assert not (tmp_path / "log.jsonl").exists()


def test_values_given_are_not_changed(tmp_path):
    log, value = RunLog(tmp_path, 0), torch.tensor(2.0)
    log.add({"loss": value})
    log.add({"loss": value})
    assert value == 2.0 and log.flush(2) == {"loss": 2.0}


def test_wandb_gets_the_same(tmp_path):
    wandb = FakeWandb()
    log = RunLog(tmp_path, 0, wandb)
    for value in (1.0, 4.0):
        log.add({"loss_mel": torch.tensor(value)})
    log.flush(2)
    log.write("valid", 2, {"loss_prior": 1.25})
    assert wandb.logged == [(2, {"train/loss_mel": 2.5}), (2, {"valid/loss_prior": 1.25})]
    for (step, values), line in zip(wandb.logged, lines(tmp_path)):
        assert {"step": step, **values} == {
            "step": line.pop("step"), **{f"{kind}/{name}": line[name] for kind in [line.pop("kind")] for name in line}
        }  # fmt: skip


def written(folder, last):
    log = RunLog(folder, 0)
    for step in range(2, last + 1, 2):
        log.write("train", step, {"loss": float(step)})
        if step % 4 == 0:
            log.write("valid", step, {"loss": -float(step)})


TORN = (
    b"",
    b'{"step": 6, "ki',
    b'{"step": 6, "kind": "train"}',
    b"\xff\x00",
    b"[]\n",
    b'{"step": null}\n',
    b"{}\n",
    b"\n",
)


@pytest.mark.parametrize("torn", TORN)
def test_a_resumed_run_drops_what_comes_again(tmp_path, torn):
    written(tmp_path, 12)
    with open(tmp_path / "log.jsonl", "ab") as file:
        file.write(torn)
    log = RunLog(tmp_path, 6)
    assert [(line["step"], line["kind"]) for line in lines(tmp_path)] == [
        (2, "train"), (4, "train"), (4, "valid"), (6, "train")]  # fmt: skip
    log.write("train", 8, {"loss": 1.0})
    assert lines(tmp_path)[-1] == {"step": 8, "kind": "train", "loss": 1.0}
    assert len(lines(tmp_path)) == 5


def test_a_run_resumed_twice_has_each_step_once(tmp_path):
    written(tmp_path, 8)
    for _ in range(2):
        log = RunLog(tmp_path, 4)
        for step in (6, 8):
            log.write("train", step, {"loss": 0.5})
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 4, 6, 8]


def test_a_run_resumed_at_its_end_loses_nothing(tmp_path):
    written(tmp_path, 8)
    before = (tmp_path / "log.jsonl").read_bytes()
    RunLog(tmp_path, 8)
    assert (tmp_path / "log.jsonl").read_bytes() == before


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
