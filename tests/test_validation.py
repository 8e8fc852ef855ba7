"""Held-out clips: what is measured of them and by whom, which voices are kept for it, and when the prosody stops."""

import dataclasses
import re

import numpy as np
import pytest
import soundfile
import torch

import train
from evaluation import metrics
from model.nisets import Plan
from tests.conftest import with_keys, without_judges
from tests.runs import ALONE, said, spy
from training import checkpoint, validation
from training.distributed import Processes
from training.run_log import RunLog
from training.state import build_state

pytest_plugins = "tests.run_fixtures"


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Which take longer than what is measured."""
    monkeypatch.setattr(validation, "save_validation", lambda *_: None)


# -- what is measured


@pytest.mark.usefixtures("runs")
def test_processes_share_a_validation(config, tiny, tmp_path, monkeypatch):
    """Each measures some of the clips, or none, and all know what they are together."""
    config = with_keys(config, "system", validation_clips=5, sample_clips=2)
    state = build_state(config, ALONE, tiny.symbols)
    alone, shares = validation.validate(state, tiny, tmp_path), []
    for rank in range(7):
        state.processes = Processes(rank, 7, torch.device("cpu"))
        monkeypatch.setattr(Processes, "all_reduce_max", lambda _, number: number)
        monkeypatch.setattr(Processes, "all_gather", lambda _, own: shares.append(own) or own or [(0, ({}, {}))])
        validation.validate(state, tiny, tmp_path)
    assert [[i for i, *_ in own] for own in shares] == [[0], [1], [2], [3], [4], [], []]
    monkeypatch.setattr(Processes, "all_gather", lambda *_: sum(reversed(shares), []))
    assert validation.validate(state, tiny, tmp_path) == alone


@pytest.mark.parametrize(
    "trained", [{"generator"}, {"text_encoder", "decoder"}, {"generator", "text_encoder", "decoder"}]
)
def test_what_has_not_learnt_is_not_measured(config, tiny, tmp_path, trained):
    """And only a voice is listened to."""
    state = build_state(config, ALONE, tiny.symbols)
    state.trained = trained
    numbers = validation.validate(state, tiny, tmp_path)
    reads, sounds = "decoder" in trained, "generator" in trained
    assert ("loss_prior" in numbers, "copy_mel_l1" in numbers, "mcd" in numbers) == (reads, sounds, reads and sounds)
    if reads and sounds and not metrics.missing_packages():
        assert 1 <= numbers["distillmos"] <= 5 and numbers["cer"] >= 0


def test_clips_of_training_are_measured_as_held_out_ones_are(config, tiny, tmp_path, monkeypatch):
    """As many of them, from the first to the last, each by one of the processes."""
    config = with_keys(config, "system", validation_clips=4, sample_clips=1)
    state, last = build_state(config, ALONE, tiny.symbols), len(tiny) - 1
    state.trained = {"text_encoder", "decoder"}
    chosen = [0, round(last / 3), round(2 * last / 3), last]
    alone, measured = validation.measure_seen(state, tiny), []
    each = [validation.validate(state, tiny.subset([i]), tmp_path) for i in chosen]
    for name in validation.SEEN:  # the noise is another, by the clip's place
        assert alone[f"train_{name}"] == pytest.approx(np.mean([one[name] for one in each]), rel=0.05), name
    monkeypatch.setattr(Processes, "all_reduce_max", lambda _, number: number)
    monkeypatch.setattr(Processes, "all_gather", lambda _, own: own)
    spy(monkeypatch, validation, "clip_tensors", lambda _, __, i, ___: measured.append(i))
    for rank in range(2):
        state.processes = Processes(rank, 2, torch.device("cpu"))
        validation.measure_seen(state, tiny)
    assert measured == [*chosen[::2], *chosen[1::2]]
    state.trained = {"generator"}
    assert validation.measure_seen(state, tiny) == {}


def test_voices_are_compared_with_the_recordings_of_the_other_sample_clips(config, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "embedding_of", lambda _: np.array([1.0, 0.0]))
    without_judges(monkeypatch)
    for n, wanted in ((2, 1.0), (1, None)):  # where there is one, there is no other
        state = build_state(with_keys(config, "system", validation_clips=3, sample_clips=n), ALONE, tiny.symbols)
        state.trained = {"text_encoder", "decoder", "generator"}
        assert validation.validate(state, tiny, tmp_path).get("speaker") == wanted


@pytest.mark.parametrize(("log_duration", "cut"), [(6.0, 1.0), (-3.0, 0.0)])
def test_speech_is_cut_at_twice_its_recording(config, tiny, tmp_path, monkeypatch, log_duration, cut):
    """As an untrained voice needs it, which may speak for minutes."""
    without_judges(monkeypatch)
    state = build_state(with_keys(config, "system", validation_clips=2, sample_clips=2), ALONE, tiny.symbols)
    state.trained = {"text_encoder", "decoder", "generator"}
    torch.nn.init.zeros_(state.ema.text_encoder.duration.out.weight)
    torch.nn.init.constant_(state.ema.text_encoder.duration.out.bias, log_duration)
    assert validation.validate(state, tiny, tmp_path)["speech_cut"] == cut
    for clip, n_frames in zip(tiny.clips[:2], tiny.n_frames):
        longest = 2 * n_frames * config.audio.hop_length
        n_samples = soundfile.info(tmp_path / f"{clip.id}_one_step.wav").frames
        assert n_samples == longest if cut else 0 < n_samples < longest


def test_a_plan_is_shortened_from_its_end():
    plan = Plan(torch.randn(1, 3, 9), torch.tensor([[2, 0, 4, 3]]), torch.randn(1, 2, 9), torch.randn(1, 3, 9),
                np.random.default_rng())  # fmt: skip
    short = validation.shortened(plan, 5)
    assert short.durations.tolist() == [[2, 0, 3, 0]]
    for name in ("mu", "f0", "r_1"):
        assert torch.equal(getattr(short, name), getattr(plan, name)[..., :5])
    assert validation.shortened(plan, 9).durations.tolist() == plan.durations.tolist()


# -- which voices are kept


@pytest.mark.parametrize("metric", ["latent_l1", "cer", "distillmos"])
def test_the_best_voices_and_the_newest_are_kept(config, tmp_path, caplog, metric):
    config = with_keys(config, "system", best_metric=metric)
    state, run_log = build_state(config, ALONE, ("_", "a")), RunLog(tmp_path, 0)
    sign = -1 if metric.endswith("mos") else 1  # of which more is better
    found = [sign * number for number in (0.5, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8)]
    with caplog.at_level("INFO", logger="train"):
        for state.step, number in enumerate(found, 1):
            for suffix in ("json", "safetensors"):
                (tmp_path / f"voice_{state.step:08d}.{suffix}").touch()
            run_log.write("valid", state.step, {metric: number, "loss_prior": 1.0})
            validation.keep_best(state, tmp_path, run_log)
            best = sorted(range(1, state.step + 1), key=lambda each: sign * found[each - 1])[: config.system.keep_best]
            assert checkpoint.steps(tmp_path, "voice") == sorted({*best, state.step})
            assert ("has not improved" in caplog.text) == (state.step >= 2 + validation.STALE_VALIDATIONS)
    assert f"{metric} has not improved in 5 validations: it was best at step 2, {found[1]:.4g}" in caplog.text


def test_validations_without_a_voice_take_no_voices_place(config, tmp_path):
    state, run_log = build_state(config, ALONE, ("_", "a")), RunLog(tmp_path, 0)
    for state.step in range(1, 9):  # the first four are of an acoustic model alone, which is better by itself
        for suffix in ("json", "safetensors") if state.step > 4 else ():
            (tmp_path / f"voice_{state.step:08d}.{suffix}").touch()
        run_log.write("valid", state.step, {"latent_l1": state.step})
        validation.keep_best(state, tmp_path, run_log)
    assert checkpoint.steps(tmp_path, "voice") == [*range(5, 5 + config.system.keep_best), 8]


def test_a_metric_that_is_not_measured_is_named(config, tmp_path, caplog):
    """Such as that of an acoustic model, of a vocoder's run, or of copies, of a vocoder that reads mu."""
    run_log = RunLog(tmp_path, 0)
    run_log.write("valid", 1, {"copy_mel_l1": 1.0})
    for patience, n_said in ((0, 0), (1, 1)):
        state = build_state(with_keys(config, "system", patience=patience), ALONE, ("_", "a"))
        validation.keep_best(state, tmp_path, run_log)
        assert caplog.text.count("system.best_metric = latent_l1 is not measured here") == n_said


@pytest.mark.parametrize("metric", ["cer", "distillmos"])
def test_a_metric_whose_package_is_not_there_stops_before_anything_is_made(arguments, runs, capsys, metric):
    assert train.main([*arguments, f"system.best_metric={metric}"]) == 1
    error = said(capsys)
    assert re.fullmatch(f"train.py: system.best_metric = {metric}: needs .*: pip install -r .*txt", error), error
    assert not runs.exists()


# -- early stopping of the prosody


def validated(state, step, loss):
    """The state after a validation at this step, the prosody's averages all being the step, its weights less."""
    state.step = step
    with torch.no_grad():
        for network, value in ((state.ema, step), (state.model, step - 0.5)):
            for parameter in network.prosody.parameters():
                parameter.fill_(value)
    numbers = {"loss_prosody": loss - 0.75, "loss_f0": 0.5, "loss_voicing": 0.25, "loss_prior": -9}
    is_news = validation.watch_prosody(state, numbers)
    validation.settle_prosody(state, step >= state.config.training.train_num_steps)
    return is_news


def prosody_of(network):
    """The one value of all its weights."""
    (value,) = {value for parameter in network.prosody.parameters() for value in parameter.detach().flatten().tolist()}
    return value


def test_early_stopping_counts_misses_and_goes_back_to_the_best(prosody_config):
    state = build_state(prosody_config, ALONE, ("_", "a"))
    for step, loss, best, misses in ((1, 3.0, 1, 0), (2, 3.5, 1, 1), (3, 2.0, 3, 0), (4, 2.5, 3, 1)):
        assert validated(state, step, loss)
        assert (state.best_prosody["n_since"], state.best_prosody["stopped"]) == (misses, False)
        assert {float(weight.flatten()[0]) for weight in state.best_prosody["weights"].values()} == {best}
        assert (prosody_of(state.ema), prosody_of(state.model)) == (step, step - 0.5)
    assert state.best_prosody["loss"] == 2.0
    assert not validated(state, 4, 1.0)  # it has heard of that step
    assert validated(state, 5, 2.0)  # as good is no gain
    assert state.best_prosody["stopped"] and prosody_of(state.ema) == prosody_of(state.model) == 3
    assert not validated(state, 6, 0.0)
    assert state.best_prosody["loss"] == 2.0 and prosody_of(state.ema) == 3


@pytest.mark.parametrize("last_loss", [1.0, 3.0])
def test_the_end_goes_back_to_the_best_too(prosody_config, last_loss):
    state = build_state(with_keys(prosody_config, "training", train_num_steps=8), ALONE, ("_", "a"))
    validated(state, 4, 2.0)
    validated(state, 8, last_loss)
    assert prosody_of(state.ema) == prosody_of(state.model) == (4 if last_loss > 2.0 else 8)
    assert not state.best_prosody["stopped"]  # a run that is given more steps trains it on


@pytest.mark.parametrize(("seen", "best"), [(50, 40), (52, 52)])
def test_only_a_stage_that_trains_the_prosody_watches_it(prosody_config, seen, best):
    """And the first validation after it, where the stage has ended between two."""
    (stage,) = prosody_config.training.stages
    stages = (dataclasses.replace(stage, share=0.5), dataclasses.replace(stage, share=0.5, parts={"decoder": 1e-3}))
    state = build_state(with_keys(prosody_config, "training", stages=stages), ALONE, ("_", "a"))
    assert validated(state, 40, 2.0) and prosody_of(state.ema) == 40
    assert validated(state, seen, 1.0 if seen == best else 3.0)
    assert not validated(state, 53, 0.0)
    assert prosody_of(state.ema) == prosody_of(state.model) == best
