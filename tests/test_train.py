"""train.py from end to end: what it writes, in which order, that it ends well, resumes and splits exactly."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

import train
from data_util import config as configuration
from data_util.config import ROOT
from data_util.dataset import batches
from model.nisets import NiSETS
from tests.child import finish, save_gradients, start
from tests.conftest import StubFrontEnd, with_keys
from tests.runs import ALONE, break_losses, differences, lines, load, only, said, spy, steps
from training import checkpoint, realign, validation
from training.data import clip_tensors, prepare_data
from training.distributed import Processes
from training.recording import Run
from training.run_log import Stopwatch
from training.state import build_state

pytest_plugins = "tests.run_fixtures"


# -- what a run writes


def test_a_run_writes_what_the_design_lists(arguments, runs, tiny_root, capsys, caplog, monkeypatch):
    save_curves = validation.save_curves  # slow, so once is enough
    monkeypatch.setattr(validation, "save_curves", lambda path, log: len(log) < 6 or save_curves(path, log))
    (tiny_root / "wavs" / "tiny-4.wav").write_bytes(b"RIFF, and no more")
    with open(tiny_root / "train.txt", "a") as file:
        file.write("nobody\n")
    with caplog.at_level("INFO", logger="train"):
        assert train.main(arguments) == 0
    run = only(runs)
    assert re.fullmatch("off_[0-9a-f]{8}", run.name)
    assert configuration.load(run / "config.yaml") == configuration.load(arguments[1], arguments[2:])
    assert steps(run) == [6, 8]  # every second step, of which keep_ckpt = 2 stay
    assert checkpoint.steps(run, "voice") == [4, 8]
    faulty = (run / "skipped.txt").read_text().splitlines()  # of both lists
    assert sorted(faulty) == ["nobody\tno transcript"] * 2 + ["tiny-4\tunreadable"] * 2
    samples = sorted(path.name for path in (run / "samples" / "00000008").iterdir())
    assert samples == ["tiny-0.png", "tiny-0_copy.wav", "tiny-0_one_step.wav", "tiny-0_recording.wav"]
    assert (run / "curves.png").is_file()
    printed = capsys.readouterr().out
    assert str(run / "samples") in printed and f"python sampling.py -id {run.name}" in printed

    log, valid = lines(run, "train"), lines(run, "valid")
    assert [line["step"] for line in log] == [2, 4, 6, 8] and [line["step"] for line in valid] == [4, 8]
    assert set(log[0]) >= {"loss_duration", "loss_prior", "loss_score", "loss_mel", "loss_feature",
                           "loss_adversarial", "loss_discriminator", "norm_generator"}  # fmt: skip
    assert set(valid[0]) >= {"loss_prior", "loss_duration", "latent_l1", "copy_mel_l1", "score_ratio_1",
                             "score_ratio_0.5", "score_ratio_0.2", "train_latent_l1", "train_score_ratio_1",
                             "train_loss_prior"}  # fmt: skip
    assert all(np.isfinite(value) for line in log + valid for value in line.values() if not isinstance(value, str))
    # what needs no packages is measured of what was spoken, and that some are missing is said once
    assert caplog.text.count("measured without jiwer, distillmos: pip install") == 1
    assert all({"mcd", "voicing_error", "duration_total", "global_variance"} <= set(line) for line in valid)
    assert not {"cer", "distillmos"} & set(valid[0])

    # the voice is the average of the weights
    whole, about = load(run), json.loads((run / "voice_00000008.json").read_text())
    voice = safetensors.torch.load_file(checkpoint.find(run, "voice"))
    assert differences(voice, whole["ema"]) == []
    assert differences(voice, {name: whole["model"][name] for name in voice}) != []
    assert about["symbols"] == whole["symbols"] == list(StubFrontEnd.symbols) and about["step"] == whole["step"] == 8
    assert about["version"] == whole["version"] == checkpoint.VERSION

    # and to measure it changes nothing that is trained
    monkeypatch.setattr(validation, "validate", lambda *_: {"latent_l1": 1.0})
    monkeypatch.setattr(validation, "save_curves", lambda *_: None)
    shutil.rmtree(runs)
    assert train.main(arguments) == 0
    assert differences(load(only(runs)), whole) == []


@pytest.mark.usefixtures("fast")
def test_a_run_of_no_steps_writes_the_voice_that_it_begins_with(arguments, runs):
    assert train.main([*arguments, "-name", "trained", "training.train_num_steps=2"]) == 0
    nothing = ["training.train_num_steps=0", "training.stages=[]"]
    assert train.main(["-from", "trained", "-name", "again", *arguments, *nothing]) == 0
    voices = [checkpoint.load_voice(checkpoint.find(runs / name, "voice")) for name in ("trained", "again")]
    assert voices[1].step == 0 and differences(*(voice.weights for voice in voices)) == []
    assert [line["kind"] for line in lines(runs / "again")] == ["valid"]


@pytest.mark.usefixtures("fast")
def test_a_run_does_not_write_over_a_voice(arguments, runs, capsys):
    assert train.main([*arguments, "-name", "a voice", "training.train_num_steps=2"]) == 0
    assert "sampling.py -id 'a voice' " in capsys.readouterr().out
    for path in (runs / "a voice").glob("project_*.pt"):
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*")}
    assert train.main([*arguments, "-name", "a voice"]) == 1
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*")} == before
    assert "has a voice, and no checkpoint to go on from: take another name" in said(capsys)
    (runs / "a voice" / "recipe.txt").touch()  # whose last step was killed behind its voice
    assert train.main([*arguments, "-name", "a voice", "training.train_num_steps=2"]) == 0


@pytest.mark.usefixtures("fast")
def test_the_bar_says_where_the_time_went(arguments, runs, monkeypatch):
    shown, shares = [], Stopwatch.shares
    monkeypatch.setattr(Stopwatch, "shares", lambda watch: shown.append(shares(watch)) or shown[-1])
    monkeypatch.setattr(train.tqdm, "set_postfix", lambda _, values: shown.append(values))
    more = ["alignment.refresh_steps=2", "training.train_num_steps=5", "system.log_step=1"]
    assert train.main([*arguments, *more]) == 0
    assert {name for spent in shown[::2] for name in spent} == {
        "data", "alignment", "forward", "discriminators", "backward", "update", "validation", "saving"}  # fmt: skip
    spent, postfix = shown[-2:]
    assert sum(int(share.removesuffix("%")) for share in spent.values()) == pytest.approx(100, abs=4)
    assert postfix["time"] == " ".join(f"{name} {share}" for name, share in spent.items())
    assert postfix["mel"] == f"{lines(only(runs), 'train')[-1]['loss_mel']:.3g}"


class Refusal(Exception):
    pass


def refuse(**_):
    raise Refusal("nobody logged in")


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("module", "installed", "more", "words"),
    [
        ("wandb", None, ["-test", "false"], "train.py: wandb is not installed"),
        ("wandb", SimpleNamespace(errors=SimpleNamespace(Error=Refusal), init=refuse), ["-test", "false"],
         "train.py: wandb: nobody logged in"),
        ("torch.utils.tensorboard", None, ["system.tensorboard=true"],
         "requirements-extra.txt, or train with system.tensorboard=false"),
    ],
)  # fmt: skip
def test_who_logs_is_asked_before_anything_is_made(quick, runs, monkeypatch, capsys, module, installed, more, words):
    monkeypatch.setattr(train, "prepare_data", lambda *_: pytest.fail("clips are read"))
    monkeypatch.setitem(sys.modules, module, installed)
    assert train.main([*quick, *more]) == 1
    assert words in said(capsys) and not runs.exists()


def test_wandb_goes_on_in_the_same_run(quick, runs, tmp_path, monkeypatch):
    for name, value in (("MODE", "offline"), ("DIR", str(tmp_path)), ("SILENT", "true")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    assert train.main([*quick, "-test", "false", "training.train_num_steps=2"]) == 0
    run = only(runs)
    assert not run.name.startswith("off_")
    assert train.main(["-id", run.name, "-test", "false", "training.train_num_steps=4"]) == 0
    assert only(runs) == run and steps(run)[-1] == 4
    kept = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert kept and all(name.endswith(run.name) for name in kept)


# -- the loop


def spy_on_the_loop(patch):
    """The steps, validations and saves of the runs from here on, in order. patch: a MonkeyPatch."""
    events = []
    spy(patch, train, "train_step", lambda state, *_: events.append(f"{state.step + 1}"))
    spy(patch, validation, "validate", lambda state, *_: events.append(f"validate {state.step}"))
    spy(patch, Run, "save", lambda _, state, **__: events.append(f"save {state.step}"))
    return events


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("save_ckpt", "validation_step", "expected"),
    [
        # due at a validation: before it, which takes its time, and again with what it found
        (2, 4, "1, 2, save 2, 3, 4, save 4, validate 4, save 4, 5, 6, save 6, validate 6, save 6"),
        # not due: what it found waits for the next step that is, and for the end
        (3, 2, "1, 2, validate 2, 3, save 3, 4, validate 4, 5, 6, save 6, validate 6, save 6"),
    ],
)
def test_the_loop_steps_saves_and_validates_in_order(quick, runs, monkeypatch, save_ckpt, validation_step, expected):
    more = [f"system.save_ckpt={save_ckpt}", f"system.validation_step={validation_step}", "training.train_num_steps=6"]
    events = spy_on_the_loop(monkeypatch)
    assert train.main([*quick, *more]) == 0
    assert events == expected.split(", ")
    events.clear()
    run = only(runs)
    assert train.main(["-id", run.name]) == 0 and events == []  # there is nothing left to do
    log = lines(run)  # but where a kill prevented the last validation it is made up for
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log[:-1]))
    assert train.main(["-id", run.name]) == 0 and events == ["validate 6", "save 6"] and lines(run) == log


@pytest.mark.usefixtures("fast")
def test_a_finished_run_is_left_alone_unless_more_is_asked_of_it(quick, runs, capsys):
    words = [*quick, "-name", "first"]
    assert train.main([*words, "training.train_num_steps=2"]) == 0
    assert train.main(words[2:]) == 0 and "checkpoint/first is finished" in capsys.readouterr().out
    assert train.main([*words, "training.num_steps=4"]) == 1 and "unknown key training.num_steps" in said(capsys)
    assert train.main([*words, "training.train_num_steps=4"]) == 0 and steps(runs / "first")[-1] == 4
    kept = (runs / "first" / "config.yaml").read_text()
    assert train.main([*words, "training.train_num_steps=3"]) == 1 and "at least 4, the checkpoint" in said(capsys)
    assert (runs / "first" / "config.yaml").read_text() == kept


def test_a_new_run_may_be_named_by_its_path(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    runs.mkdir()
    (runs.parent / "new").mkdir()  # of another's, which a bare name does not mean
    for given in ("new", f"{runs.name}/new", f"./{runs.name}/new/", str(runs / "new")):
        assert train.parse_args(["-name", given]).name == "new"
    for given in ("", ".", str(runs)):
        with pytest.raises(SystemExit):
            train.parse_args(["-name", given])
        assert "a run needs a name of its own" in capsys.readouterr().err


@pytest.mark.usefixtures("fast")
def test_training_ends_where_the_metric_gets_no_better(quick, runs, monkeypatch):
    found = {2: 0.5, 4: 0.4, 6: 0.4, 8: 0.6}
    monkeypatch.setattr(validation, "validate", lambda state, *_: {"latent_l1": found.get(state.step, 0.7)})
    events = spy_on_the_loop(monkeypatch)
    more = ["system.validation_step=2", "system.patience=2", "system.save_ckpt=100", "training.train_num_steps=20"]
    assert train.main([*quick, *more, "-name", "patient"]) == 0
    assert events[-3:] == ["8", "validate 8", "save 8"]
    events.clear()
    assert train.main([*quick, *more, "-name", "patient"]) == 0 and events == []  # it is finished
    assert train.main(["-id", only(runs).name]) == 0  # who goes on wants more of it
    assert events == ["9", "10", "validate 10", "save 10"]


@contextlib.contextmanager
def signalling():
    os.kill(os.getpid(), signal.SIGTERM)
    yield


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("place", "number", "status", "ends_after", "saved"),
    [
        ("before the first step", signal.SIGTERM, 143, 0, []),
        ("in a step", signal.SIGINT, 130, 4, [3, 4]),
        ("in a validation", signal.SIGTERM, 143, 5, [3, 5]),
        ("in a skipped step", signal.SIGTERM, 143, 4, [3, 4]),
    ],
)
def test_a_signal_finishes_what_is_under_way_and_saves_it(
    quick, runs, monkeypatch, capsys, place, number, status, ends_after, saved
):
    """And who goes on from there ends as if there had been none, to the bit, with the same log."""
    quick = [*quick, "system.save_ckpt=3", "system.log_step=4", "system.validation_step=5",
             "training.train_num_steps=7"]  # fmt: skip
    if place == "in a skipped step":
        break_losses(monkeypatch, lambda state: state.step == 3, "loss_score")
    assert train.main([*quick, "-name", "whole"]) == 0
    with monkeypatch.context() as patch:

        def kill(at):
            return lambda state, *_: os.kill(os.getpid(), number) if state.step == at else None

        if place == "before the first step":
            patch.setattr(train, "logging_redirect_tqdm", signalling)
        elif place == "in a validation":
            spy(patch, validation, "validate", kill(5))
        else:
            spy(patch, train, "train_step", kill(3))
        assert train.main([*quick, "-name", "stopped"]) == status
    assert f"stopped by {number.name} after step {ends_after}" in said(capsys)
    assert steps(runs / "stopped") == saved
    assert train.main([*quick, "-name", "stopped"]) == 0
    assert differences(load(runs / "stopped"), load(runs / "whole")) == []
    assert lines(runs / "stopped") == lines(runs / "whole")


def test_a_signal_to_all_of_its_processes_finishes_the_step_too(quick, tmp_path):
    """As torchrun, timeout and a terminal send it: its workers get it as well."""
    more = ["system.num_workers=2", "system.log_step=1", "system.save_ckpt=10000", "system.validation_step=10000",
            "training.train_num_steps=10000"]  # fmt: skip
    process, until = start("quick", tmp_path / "runs", [*quick, *more]), time.monotonic() + 120
    while time.monotonic() < until and not any(lines(run) for run in (tmp_path / "runs").glob("*")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    output = finish(process, 143)
    assert "stopped by SIGTERM after step" in output.strip().splitlines()[-1] and "Traceback" not in output
    run = only(tmp_path / "runs")
    assert steps(run) == [lines(run)[-1]["step"]]


# -- resuming

FRAMES = ["-c", str(ROOT / "tests" / "tiny_frames.yaml")]  # over tests/tiny.yaml: all parts that there are


def prosody_is_best_at(patch, best):
    """Validations find that out, and nothing else. patch: a MonkeyPatch."""
    patch.setattr(validation, "validate", lambda state, *_: {"loss_prosody": 1.0 + abs(state.step - best)})


@pytest.mark.usefixtures("fast")
def test_a_resumed_run_ends_as_one_in_one_piece(arguments, runs, monkeypatch):
    """All parts train, clips are aligned anew at steps 2, 5 and 8, pitch and energy are read along the durations
    before, and the prosody stops at step 8, where it has not been better for two validations."""
    prosody_is_best_at(monkeypatch, 4)
    more = ["prosody.patience=2", "alignment.init_steps=2", "alignment.refresh_steps=3", "system.validation_step=2",
            "system.keep_ckpt=9", "system.log_step=3", "training.train_num_steps=10"]  # fmt: skip
    assert train.main([*arguments, *FRAMES, *more]) == 0
    run = only(runs)
    whole, log = load(run), lines(run)
    assert whole["durations"] is not None
    assert whole["best_prosody"]["stopped"] and whole["best_prosody"]["loss"] == 1.0
    assert [line["step"] for line in lines(run, "train") if "loss_prosody" in line] == [2, 3, 4, 6, 8]
    best = {f"prosody.network.{name}": value for name, value in whole["best_prosody"]["weights"].items()}
    assert len(best) > 10 and differences(best, {name: whole["ema"][name] for name in best}) == []
    for step in (2, 4, 8):
        assert train.main(["-id", run.name, "-ckpt", str(step)]) == 0
        assert differences(load(run), whole) == [] and lines(run) == log
    # what stood beyond the step that it went back to is kept, but nobody takes it for the newest
    assert {path.name for path in (run / "abandoned").iterdir()} >= {
        "project_00000010.pt", "voice_00000010.json", "voice_00000010.safetensors"}  # fmt: skip


@pytest.mark.usefixtures("fast")
def test_where_patience_ends_a_run_its_prosody_goes_back_to_its_best_too(arguments, runs, monkeypatch):
    monkeypatch.setattr(validation, "validate", lambda s, *_: {"latent_l1": s.step, "loss_prosody": 1.0 + s.step})
    more = ["system.validation_step=2", "system.patience=2", "prosody.patience=9", "training.train_num_steps=20"]
    assert train.main([*arguments, *FRAMES, *more]) == 0
    ended = load(only(runs))
    assert ended["step"] == 6 and ended["best_prosody"]["step"] == 6 and not ended["best_prosody"]["stopped"]
    assert ended["best_prosody"]["loss"] == 3.0  # after two steps
    best = {f"prosody.network.{name}": value for name, value in ended["best_prosody"]["weights"].items()}
    spoken = checkpoint.load_voice(checkpoint.find(only(runs), "voice", 6)).weights
    for weights in (ended["ema"], spoken):
        assert len(best) > 10 and differences(best, {name: weights[name] for name in best}) == []


@pytest.mark.usefixtures("fast")
def test_a_validation_whose_run_was_killed_behind_it_has_been_heard(arguments, runs, monkeypatch):
    """The checkpoint before it is there, its line is in the log, the checkpoint after it is not: here the last one, of
    a prosody that has gone back to its best weights."""
    prosody_is_best_at(monkeypatch, 2)
    more = [*arguments, *FRAMES, "system.validation_step=2", "prosody.patience=2", "training.train_num_steps=4"]
    assert train.main([*more, "-name", "whole"]) == 0
    with monkeypatch.context() as patch:

        def killed(state, *_):
            if state.step == 4:
                raise KeyboardInterrupt

        patch.setattr(validation, "keep_best", killed)
        assert train.main([*more, "-name", "killed"]) == 130
    assert steps(runs / "killed") == [2, 4] and lines(runs / "killed")[-1]["kind"] == "valid"
    assert train.main(["-id", "killed"]) == 0
    whole = load(runs / "whole")
    best = {f"prosody.network.{name}": value for name, value in whole["best_prosody"]["weights"].items()}
    assert differences(best, {name: whole["ema"][name] for name in best}) == []
    assert differences(load(runs / "killed"), whole) == []
    assert lines(runs / "killed") == lines(runs / "whole")


@pytest.mark.usefixtures("fast")
def test_a_resumed_run_takes_its_new_settings_and_keeps_its_precision(arguments, runs, tmp_path):
    assert train.main([*arguments, "-a", "true", "training.train_num_steps=2"]) == 0
    name = only(runs).name
    assert train.main(["-id", name, "training.train_num_steps=4", "training.weight_decay=0.5"]) == 0
    assert all(np.isfinite(line["loss_mel"]) for line in lines(runs / name, "train"))
    ckpt = load(runs / name, 4)
    assert ckpt["amp"] is True
    for optimiser in ("optimiser", "optimiser_discriminators"):
        assert {group["weight_decay"] for group in ckpt[optimiser]["param_groups"]} == {0.5}
    shutil.move(runs / name, tmp_path / "elsewhere")
    assert train.main(["-id", str(tmp_path / "elsewhere"), "training.train_num_steps=5"]) == 0
    assert steps(tmp_path / "elsewhere") == [4, 5]


@pytest.mark.usefixtures("fast")
def test_what_cannot_be_gone_on_with_is_a_line(quick, runs, capsys, monkeypatch):
    assert train.main([*quick, "latent.kind=pca", "latent.channels=80", "training.train_num_steps=2"]) == 0
    run = only(runs)
    path, written = checkpoint.find(run, "project"), (run / "config.yaml").read_text()
    before = path.read_bytes()

    def refused(words, *argv):
        assert train.main([*argv, "training.train_num_steps=4"]) == 1
        message = said(capsys)
        assert message.startswith("train.py: ") and words in message, message

    # another model, whose weights have other shapes; and others where the same shapes would mean something else
    refused("decoder.channels = 16: must be 8", "-id", run.name, "decoder.channels=16")
    for change, right in (("latent.kind=pooled", "pca"), ("latent.kind=normalised", "pca"),
                          ("latent.channels=40", "80"), ("sde.parametrisation=v", "edm"),
                          ("sde.sigma_data=1.0", "0.5"), ("audio.f_max=7000.0", "8000.0")):  # fmt: skip
        key, value = change.split("=")
        for argv in (["-id", run.name], ["-from", run.name]):
            refused(f"{key} = {value}: must be {right}, as ", *argv, change)
    for change, right in (("text_encoder.n_heads=1", "2"), ("generator.resblock_dilations=[1, 5]", "[1, 3]"),
                          ("discriminators.periods=[2, 5]", "[2, 3]")):  # fmt: skip
        refused(f"{change.replace('=', ' = ')}: must be {right}, as ", "-id", run.name, change)
    with monkeypatch.context() as patch:
        patch.setattr(StubFrontEnd, "symbols", (*StubFrontEnd.symbols[:-2], "z", "y"))
        refused("same symbols in another order", "-id", run.name)
    # an earlier version, which named weights and keys otherwise
    torch.save({name: value for name, value in load(run).items() if name != "version"}, path)
    earlier = path.read_bytes()
    for argv in (["-id", run.name], ["-from", run.name]):
        refused("was written by version 1 of the project", *argv)
    assert path.read_bytes() == earlier != before
    path.write_bytes(before[:-1000])
    refused(f"{path} was not loaded: it is damaged", "-id", run.name)
    # none of which has changed or begun anything
    assert path.read_bytes() == before[:-1000] and (run / "config.yaml").read_text() == written and only(runs) == run


@pytest.mark.usefixtures("fast")
def test_a_damaged_newest_checkpoint_is_passed_over(quick, runs, caplog):
    assert train.main([*quick, "training.train_num_steps=4"]) == 0
    run = only(runs)
    path = checkpoint.find(run, "project", 4)
    whole, content = load(run), bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 600):  # more than the padding before an entry
        content[place] ^= 1
    path.write_bytes(content)
    assert train.main(["-id", run.name, "-ckpt", "4"]) == 1  # who names it means it
    assert train.main(["-id", run.name]) == 0
    assert f"{path} is damaged: going on from the one before, of step 2" in caplog.text
    assert differences(load(run), whole) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["training.batch_sise=4"], "training.batch_sise"),
        (["dataset.metafile_train=nothing.txt"], "nothing.txt"),
        (["dataset.prtpath=nowhere"], "dataset.prtpath"),
        (["audio.sample_rate=16000", "audio.f_max=8000"], "audio.sample_rate"),
        (["-from", "nobody"], "nobody"),
        (None, "no run nobody"),  # to go on with, which never begins one
    ],
)
def test_faults_are_one_line(arguments, runs, capsys, change, message):
    assert train.main([*arguments, *change] if change else ["-id", "nobody", "-ckpt", "3"]) == 1
    error = said(capsys)
    assert error.startswith("train.py: ") and message in error and not runs.exists()


def test_a_fold_without_clips_is_a_line(arguments, tiny_root, capsys):
    (tiny_root / "train.txt").write_text("tiny-9\n")
    assert train.main([*arguments, "dataset.fold=odd"]) == 1
    assert "dataset.fold = odd: none of the 1 clips of dataset.metafile_train is in it" in said(capsys)


def test_debug_shows_the_traceback(arguments):
    with pytest.raises(configuration.ConfigError, match="training.batch_sise"):
        train.main([*arguments, "--debug", "training.batch_sise=4"])


# -- durations


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("init", "searched"), [("em", []), ("none", [0, 1])])
def test_between_refreshes_every_step_has_the_durations_of_the_last(quick, runs, monkeypatch, init, searched):
    """Flat start or own searches, to init_steps; then what the averaged weights find, every refresh_steps steps."""
    seen, refreshed, searches, refresh = {}, {}, [], realign.refresh

    def see(state, batch, *_):
        frames = dict(zip(batch.ids, (d[:n].tolist() for d, n in zip(batch.durations, batch.x_lengths))))
        seen[state.step] = frames if batch.has_durations else None

    def refresh_and_keep(state, corpus):
        if state.step == 5:  # weights so unlike those of step 2 that the durations are others
            for parameter in state.ema.text_encoder.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        refresh(state, corpus)
        found = torch.split(state.durations["frames"], [len(ids) for ids in corpus.ids])
        refreshed[state.step] = {clip.id: one.tolist() for clip, one in zip(corpus.clips, found)}

    spy(monkeypatch, train, "forward", see)
    monkeypatch.setattr(realign, "refresh", refresh_and_keep)
    spy(monkeypatch, NiSETS, "align", lambda model, *_: searches.append(len(seen) - 1) if model.training else None)
    more = ["alignment.refresh_steps=3", f"alignment.init={init}", "training.train_num_steps=7"]
    assert train.main([*quick, *more]) == 0
    assert searches == searched and list(refreshed) == [2, 5] and refreshed[2] != refreshed[5]
    for step, frames in seen.items():
        if step >= 2:
            last = refreshed[2 if step < 5 else 5]
            assert frames == {name: last[name] for name in frames}, step
        else:
            assert (frames is None) == (init == "none")
    assert load(only(runs))["durations"]["frames"].tolist() == sum(refreshed[5].values(), [])


def test_processes_share_a_refresh_and_all_have_all_of_it(config, tiny, monkeypatch):
    config = with_keys(with_keys(config, "alignment", refresh_steps=3), "training", batch_size=3)
    state, shares, whole = build_state(config, ALONE, tiny.symbols), [], []
    with monkeypatch.context() as patch:
        patch.setattr(Processes, "all_gather", lambda _, own: whole.extend(own) or own)
        realign.refresh(state, tiny)
    alone, state.durations = state.durations, None
    frames = torch.split(alone["frames"], [len(ids) for ids in tiny.ids])
    for i, one in enumerate(frames):  # each as it is found by itself
        x, mel, _ = clip_tensors(config, tiny, i, torch.device("cpu"))
        mu_x, _ = state.ema.encode_text(x, torch.ones(1, 1, x.shape[1]))
        assert one.tolist() == state.ema.align(mu_x, state.ema.latent(mel), [x.shape[1]], [mel.shape[2]])[0].tolist()
    monkeypatch.setattr(Processes, "all_reduce_max", lambda _, number: number)
    for gather in (lambda _, own: shares.append(own) or whole, lambda *_: sum(shares, [])):
        monkeypatch.setattr(Processes, "all_gather", gather)
        for rank in range(2):
            state.processes = Processes(rank, 2, torch.device("cpu"))
            realign.refresh(state, tiny)
            assert differences(state.durations, alone) == []
            state.durations = None
    assert [[place for place, _ in share] for share in shares] == [[0, 2], [1, 3]]  # of micro-batches of three clips


@pytest.mark.usefixtures("fast")
def test_a_resumed_run_may_have_other_clips_or_search_in_every_step_again(quick, runs, tiny_root, caplog, monkeypatch):
    assert train.main([*quick, "alignment.refresh_steps=3", "training.train_num_steps=4"]) == 0
    name = only(runs).name
    assert train.main(["-id", name, "alignment.refresh_steps=0", "training.train_num_steps=6"]) == 0
    assert load(runs / name)["durations"] is None
    (tiny_root / "wavs" / "tiny-3.wav").unlink()
    searches = []
    spy(monkeypatch, NiSETS, "align", lambda model, *_: searches.append(model.training))
    assert train.main(["-id", name, "-ckpt", "4", "training.train_num_steps=7"]) == 0
    assert caplog.text.count("are of other clips") == 1
    assert searches == [True] + [False] * 5  # the step before the refresh at 5, which has five batches of nine clips


# -- several processes, and killed ones


@pytest.mark.usefixtures("runs")
def test_two_processes_compute_the_gradients_of_one_train_and_end_together(arguments, tmp_path):
    """So do two micro-batches of one process; and clips that one process cannot read cost no step."""
    exact = [*arguments, "text_encoder.dropout=0", "text_encoder.prenet_dropout=0", "alignment.init_steps=0",
             "training.train_num_steps=4"]  # fmt: skip
    (tmp_path / "two").mkdir()
    process = start("together", tmp_path / "two", [*exact, "training.batch_size=2"], processes=2)
    save_gradients(tmp_path / "one.pt", [*exact, "training.batch_size=4"])
    save_gradients(tmp_path / "micro.pt", [*exact, "training.batch_size=2", "training.accumulate=2"])
    output = finish(process, 1)
    one, micro, two = (
        torch.load(tmp_path / path, weights_only=True) for path in ("one.pt", "micro.pt", "two/gradients.pt")
    )
    assert one.keys() == two.keys() == micro.keys() and len(one) > 200
    for name, gradient in one.items():
        assert gradient.dtype == torch.float64 and (two[name] - gradient).abs().max() <= 1e-6, name
        assert (micro[name] - gradient).abs().max() <= 1e-6, name

    whole, faulty = (only(tmp_path / "two" / name) for name in ("whole", "faulty"))
    assert steps(whole)[-1] == 4 and "cpu x 2" in output
    assert [line["step"] for line in lines(whole, "train")] == [2, 4] and len(lines(whole, "valid")) == 1
    assert "train.py: clip.wav is gone" in output and "another training process cannot go on" in output
    assert steps(faulty) == [3]


@pytest.mark.parametrize("n_kills", [2, pytest.param(30, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_instants_ends_as_one_that_was_not(arguments, tmp_path, n_kills):
    last = 6 * n_kills + 2
    more = [*arguments, *FRAMES, f"training.train_num_steps={last}", "system.validation_step=2", "system.save_ckpt=1",
            "system.keep_best=1000", "system.num_workers=1", "prosody.patience=4", "alignment.init_steps=2",
            "alignment.refresh_steps=4"]  # fmt: skip
    finish(start("lives", tmp_path, more, environment={"KILLS": str(n_kills)}), seconds=1800)
    whole, killed = (only(tmp_path / name) for name in ("whole", "killed"))
    assert differences(*(load(run, last) for run in (whole, killed))) == []
    assert load(whole)["best_prosody"]["stopped"]
    assert lines(whole) == lines(killed) and {line["kind"] for line in lines(whole)} == {"train", "valid"}
    voices = checkpoint.steps(whole, "voice")
    assert voices == checkpoint.steps(killed, "voice") == list(range(2, last + 1, 2))
    for step in voices:
        weights = [checkpoint.load_voice(checkpoint.find(run, "voice", step)).weights for run in (whole, killed)]
        assert differences(*weights) == []
    assert not list(killed.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("n_nodes", [1, 2])
def test_torchrun_starts_again_what_lost_a_process(arguments, tmp_path, n_nodes):
    """One node of two processes, or two nodes of one that meet on the loopback; rank 1 kills itself at step 5."""
    more = [*arguments, "training.batch_size=2", "alignment.refresh_steps=3"]
    finish(start("quick", tmp_path / "whole", more, processes=2), seconds=900)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [start("quick", tmp_path / "killed", more, processes=2 // n_nodes, n_nodes=n_nodes, port=port,
                   environment={"KILL_RANK_AT": "1 5"}) for _ in range(n_nodes)]  # fmt: skip
    output = "".join(finish(node, seconds=900) for node in nodes)
    whole, killed = (only(tmp_path / name) for name in ("whole", "killed"))  # a single run, under its first name
    assert (tmp_path / "killed.once").exists() and "from step 4" in output
    assert differences(*(load(run, 8) for run in (whole, killed))) == []


@pytest.mark.slow
def test_one_clip_is_learned_by_heart(real_root, tmp_path):
    """A few hundred steps on one clip: prior (normalised) under 1.05, F-loss at t = 1 under 0.1."""
    (tmp_path / "one.txt").write_text((real_root / "train.txt").read_text().splitlines()[1] + "\n")
    config = configuration.load("light", [
        f"dataset.prtpath={real_root}", f"dataset.cache={tmp_path / 'cache'}", "system.num_workers=0",
        f"dataset.metafile_train={tmp_path / 'one.txt'}", f"dataset.metafile_valid={tmp_path / 'one.txt'}",
        "text_encoder.dropout=0", "text_encoder.prenet_dropout=0", "training.train_num_steps=600",
        "training.stages=[{parts: {text_encoder: 2.e-3, decoder: 2.e-3}, final: 0.05, mu_gradient: false}]",
        "training.batch_size=4", "sde.t_one=0.7", "decoder.channels=32",
    ])  # fmt: skip
    corpus = prepare_data(config, ALONE).own
    state = build_state(config, ALONE, corpus.symbols)
    mean, std = corpus.statistics()
    state.model.latent_mean.fill_(mean)
    state.model.latent_std.fill_(std)
    for _, batch in zip(range(config.training.train_num_steps), batches(corpus, config)):
        train.train_step(state, batch)
    numbers = validation.validate(state, corpus, tmp_path / "samples")
    assert numbers["loss_prior"] < 1.05, numbers
    assert numbers["score_ratio_1"] < 0.1, numbers
