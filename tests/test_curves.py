"""experiments.curves: which lines of a run are drawn."""

import json

import pytest

from experiments import curves
from training import checkpoint


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    for name, loss in (("mine", "latent_l1"), ("mine/vocoder", "loss_mel")):
        (tmp_path / name).mkdir()
        lines = [{"step": 2, "kind": "train", loss: 1.5}, {"step": 2, "kind": "skipped", "clips": ["a"]},
                 {"step": 4, "kind": "valid", loss: 1.25}]  # fmt: skip
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 6')
    return tmp_path / "mine"


def test_a_run_is_drawn_with_those_in_its_folder(run, capsys):
    assert curves.main(["mine", "-o", str(run / "all.png")]) == 0
    assert (run / "all.png").read_bytes().startswith(b"\x89PNG") and str(run / "all.png") in capsys.readouterr().out
    assert curves.lines_of(run, []) == [
        {"step": 2, "kind": "train", "latent_l1": 1.5}, {"step": 4, "kind": "valid", "latent_l1": 1.25},
        {"step": 2, "kind": "train", "vocoder: loss_mel": 1.5}, {"step": 4, "kind": "valid", "vocoder: loss_mel": 1.25},
    ]  # fmt: skip
    assert {name for line in curves.lines_of(run, ["mel", "prior"]) for name in line} == {
        "step", "kind", "vocoder: loss_mel"}  # fmt: skip
    assert [line["loss_mel"] for line in curves.lines_of(run / "vocoder", [])] == [1.5, 1.25]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nobody"], "no run nobody"), (["mine", "loss_prior"], "nothing in its log has loss_prior"), (["mine", "("], "")],
)
@pytest.mark.usefixtures("run")
def test_what_cannot_be_drawn_is_a_line(capsys, arguments, message):
    assert curves.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("curves: ") and message in error and error.count("\n") == 1
