"""experiments.curves: which lines of a run are drawn."""

import json

import pytest

from data_util import checkpoint
from experiments import curves


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    for name, loss in (("off_1", "latent_l1"), ("off_1/text", "loss_prior")):
        (tmp_path / name).mkdir()
        lines = [{"step": 2, "kind": "train", loss: 1.5}, {"step": 2, "kind": "skipped", "clips": ["a"]},
                 {"step": 4, "kind": "valid", loss: 1.25}]  # fmt: skip
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6')
    return tmp_path / "off_1"


def test_a_run_is_drawn_with_its_lanes(run, capsys):
    assert curves.main(["off_1", "-o", str(run / "all.png")]) == 0
    assert (run / "all.png").read_bytes().startswith(b"\x89PNG") and str(run / "all.png") in capsys.readouterr().out
    assert curves.lines_of(run, []) == [
        {"step": 2, "kind": "train", "latent_l1": 1.5}, {"step": 4, "kind": "valid", "latent_l1": 1.25},
        {"step": 2, "kind": "train", "text: loss_prior": 1.5}, {"step": 4, "kind": "valid", "text: loss_prior": 1.25},
    ]  # fmt: skip
    assert {name for line in curves.lines_of(run, ["prior", "mel"]) for name in line} == {
        "step", "kind", "text: loss_prior"}  # fmt: skip
    assert [line["loss_prior"] for line in curves.lines_of(run / "text", [])] == [1.5, 1.25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nobody"], "no run nobody"), (["off_1", "loss_mel"], "nothing in its log has loss_mel"), (["off_1", "("], "")],
)
def test_what_cannot_be_drawn_is_a_line(run, capsys, arguments, message):
    assert curves.main(arguments) == 1 and run.is_dir()
    error = capsys.readouterr().err
    assert error.startswith("curves: ") and message in error and error.count("\n") == 1
