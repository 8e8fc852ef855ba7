"""What ends or sets back a training: each is one line that says what to do, and costs no step that could be saved."""

import errno
import gc
import multiprocessing
import os
import re
import shutil
import signal
import time

import pytest
import torch

import train
from data_util import audio
from data_util import config as configuration
from tests.runs import ALONE, break_losses, copied, differences, lines, load, moved, only, said, spy, steps
from training import validation
from training.failures import Stopped, StopSignals
from training.run_folder import begin_launch, end_launch, go_on_after_restart
from training.schedule import stage_at

pytest_plugins = "tests.run_fixtures"
pytestmark = pytest.mark.usefixtures("fast")


# -- steps that are not finite


def test_a_step_that_is_not_finite_is_skipped_and_its_clips_are_named(quick, runs, monkeypatch, caplog):
    """And a checkpoint that is due then follows the next good one."""
    break_losses(monkeypatch, lambda state: state.step in (2, 3), "loss_score")
    seen, step = {}, train.train_step

    def spied(state, batch):
        before = copied(dict(state.model.named_parameters()))
        values = step(state, batch)
        seen[state.step] = bool(moved(before, dict(state.model.named_parameters()))), batch.ids
        return values

    monkeypatch.setattr(train, "train_step", spied)
    assert train.main([*quick, "training.train_num_steps=7", "system.keep_ckpt=9"]) == 0
    run = only(runs)
    assert [number for number, (has_moved, _) in seen.items() if not has_moved] == [3, 4]
    assert steps(run) == [2, 5, 6, 7]
    skipped = lines(run, "skipped")
    assert [line["step"] for line in skipped] == [3, 4]
    for line in skipped:
        assert line["clips"] == seen[line["step"]][1] and "loss_score" in line["not_finite"]
        named = f"not finite: {', '.join(line['not_finite'])}; its clips: {', '.join(line['clips'])}"
        assert f"step {line['step']} skipped, {named}" in caplog.text
    ckpt = load(run)
    assert all(value.isfinite().all() for name in ("model", "ema") for value in ckpt[name].values())


def test_steps_in_a_row_that_are_not_finite_lead_back_with_lower_rates(quick, runs, monkeypatch, caplog):
    more = [*quick, "training.max_skipped=2", "training.lr_decay=0.25"]
    with monkeypatch.context() as patch:
        break_losses(patch, lambda state: state.step >= 5 and state.lr_scale == 1, "loss_score")
        assert train.main(more) == 0
    run = only(runs)
    assert "back to step 4, with learning rates times 0.25" in caplog.text
    whole = load(run)
    assert (whole["step"], whole["lr_scale"]) == (8, 0.25)
    _, scale = stage_at(configuration.load(quick[1], more[2:]), 7)
    rates = {group["name"]: group["lr"] for group in whole["optimiser"]["param_groups"]}
    assert rates["text_encoder"] == rates["decoder"] == pytest.approx(0.25 * scale * 1e-3)
    assert [line["step"] for line in lines(run, "train")] == [2, 4, 6, 8]
    (rollback,) = lines(run, "rollback")  # which clips it was is not forgotten
    assert (rollback["step"], rollback["from"], rollback["lr_scale"]) == (4, 7, 0.25)
    assert rollback["clips"] and all(clip.startswith("tiny-") for clip in rollback["clips"])
    assert train.main(["-id", run.name, "-ckpt", "6"]) == 0  # a resumed run keeps the lower rates
    assert differences(load(run), whole) == []


@pytest.mark.parametrize(
    ("first", "said_why", "saved"),
    [(4, "learning rates times 0.05 did not help", [2, 4]), (0, "no checkpoint yet", [])],
)
def test_what_stays_broken_ends_in_a_line(quick, runs, monkeypatch, capsys, first, said_why, saved):
    break_losses(monkeypatch, lambda state: state.step >= first, "loss_score")
    assert train.main([*quick, "training.max_skipped=2", "training.lr_decay=0.05"]) == 1
    error = said(capsys)
    assert f"steps in a row to step {first + 2} were not finite, and " in error
    assert said_why in error and "training.stages" in error
    assert steps(only(runs)) == saved


# -- memory, processes, disks and clips that are gone


def test_lack_of_memory_names_the_batch_and_what_to_lower(quick, runs, monkeypatch, capsys):
    def greedy(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr(train, "forward", greedy)
    assert train.main(quick) == 1
    error = said(capsys)
    assert "out of memory at step 1 with 2 clips of up to 130 frames (" in error  # the longest comes first
    assert "tiny-9" in error and "lower training.batch_size" in error and only(runs)


@pytest.mark.parametrize(
    ("error", "words", "save_ckpt"),
    [(audio.AudioError("clip.wav is gone"), "clip.wav is gone", 3), (MemoryError(), "lower training.batch_size", 100)],
)
def test_a_validation_that_fails_is_a_line_and_takes_no_step(quick, runs, monkeypatch, capsys, error, words, save_ckpt):
    def fail(*_):
        raise error

    monkeypatch.setattr(validation, "validate", fail)
    assert train.main([*quick, "system.validation_step=3", f"system.save_ckpt={save_ckpt}"]) == 1
    assert words in said(capsys) and steps(only(runs)) == [3]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corpus_that_vanishes_is_a_line_after_a_save(quick, runs, tiny_root, monkeypatch, capsys, workers):
    spy(monkeypatch, train, "train_step", lambda state, *_: state.step == 4 and shutil.rmtree(tiny_root / "wavs"))
    assert train.main([*quick, f"system.num_workers={workers}", "training.train_num_steps=60"]) == 1
    error = said(capsys)
    assert re.match(r"train.py: 10 clips in a row cannot be read any more, the last: .*tiny-\d.wav", error), error
    assert "Traceback" not in error and steps(only(runs))[-1] >= 5


def test_a_worker_that_is_killed_in_the_middle_of_a_step_is_a_line(quick, runs, monkeypatch, capsys):
    def kill(state, _):
        if state.step == 3:
            for worker in multiprocessing.active_children():
                worker.kill()
            time.sleep(10)  # cut short by what says that the worker is gone

    spy(monkeypatch, train, "train_step", kill)
    assert train.main([*quick, "system.num_workers=1"]) == 1
    gc.collect()  # the loader, whose signal handler would speak of its worker again in whatever runs next
    error = said(capsys)
    assert error.startswith("train.py: a process that loads data was ended") and "lower system.num_workers" in error
    assert steps(only(runs)) == [2]


@pytest.mark.parametrize("fault", ["full", "full when a signal comes", "read-only"])
def test_a_disk_that_takes_no_more_is_a_line_and_takes_nothing(quick, runs, monkeypatch, capsys, fault):
    """Root may write anywhere, so it is the call that fails."""
    is_broken, usage, replace = False, shutil.disk_usage, os.replace

    def refuse(path, target):
        if is_broken and str(target).startswith(str(runs)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
        replace(path, target)

    def spoil(state, _):
        nonlocal is_broken
        if state.step == 5:
            state.writer.finish()
            is_broken = True
            if "signal" in fault:
                os.kill(os.getpid(), signal.SIGTERM)

    if fault == "read-only":
        monkeypatch.setattr(os, "replace", refuse)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=1000 if is_broken else 10**12))
    with monkeypatch.context() as patch:
        spy(patch, train, "train_step", spoil)
        assert train.main([*quick, "system.save_ckpt=4"]) == 1
    run = only(runs)
    for _ in range(2):
        error = said(capsys)
        assert ("Read-only file system" if fault == "read-only" else "MB are needed") in error
        assert "what was saved is whole, and -id goes on" in error and str(run) in error and steps(run) == [4]
        assert train.main(["-id", run.name]) == 1  # before the first step
    is_broken = False
    assert train.main(["-id", run.name]) == 0


# -- signals, and who sends them


def test_a_second_interrupt_a_second_later_is_meant(monkeypatch):
    now, before = [0.0], signal.getsignal(signal.SIGINT)  # which a job in the background ignores
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with StopSignals() as stop:
        for _ in range(2):  # as a terminal and torchrun send it
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGINT
        now[0] = 1.5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_can_be_done_again_ends_at_once():
    with StopSignals() as stop:
        with pytest.raises(Stopped, match="stopped by SIGTERM after step 7") as stopped, stop.ending_at_once(7):
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("it has gone on")
        assert stopped.value.status == 143 and stop.signal == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGTERM)  # which is only noted again


# -- torchrun, which may start the processes again


@pytest.mark.parametrize(
    ("count", "left", "goes_on", "name"),
    [
        (0, "old", True, None),
        (0, None, True, None),
        (1, None, False, None),
        (1, "", True, None),
        (1, "new", True, "new"),
    ],
)
def test_a_launch_goes_on_with_its_own_run_alone(runs, monkeypatch, count, left, goes_on, name):
    """left: what stands in the launch's file, of an earlier launch of that name where count is 0; None: it is gone."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "voice")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(count))
    begin_launch("another" if left is None else left)
    if left is None:
        end_launch()
    args = train.parse_args(["-c", "light"])
    assert go_on_after_restart(args, ALONE) == goes_on
    assert (args.name, args.id, args.c) == (name, None, ["light"])
    if count == 0:  # then a process is lost before there is a run
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        assert go_on_after_restart(args, ALONE) and args.name is None
    end_launch()
    assert list(runs.iterdir()) == []
