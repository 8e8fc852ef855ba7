"""Training from end to end at a tiny size: what it writes, that it learns, resumes to the bit, and splits exactly."""

import dataclasses
import errno
import gc
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

import text
import train
from data_util import audio, checkpoint, measures
from data_util import config as configuration
from data_util.config import ROOT
from data_util.dataset import batches, fixed_batch
from data_util.run_log import RunLog, read_lines
from data_util.world import World
from model import monotonic_align
from model.nisets import NiSETS
from tests.conftest import StubFrontEnd, with_keys, without_judges
from training import alignment, validation
from training.data import clip_tensors, prepare_data
from training.folder import begin_launch, end_launch, go_on_after_restart
from training.state import build_state, project_of, restore

ALONE = World(0, 1, torch.device("cpu"))
PROBES = {"score_ratio_1", "score_ratio_0.5", "score_ratio_0.2"}


@pytest.fixture
def arguments(tiny_root, tmp_path):
    """What makes train.py train the tiny model on the tiny corpus."""
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}"]
    return ["-c", str(ROOT / "tests" / "tiny.yaml"), *paths] + [
        f"dataset.metafile_{name}={tiny_root / 'train.txt'}" for name in ("train", "valid", "test")
    ]


@pytest.fixture
def runs(tmp_path, monkeypatch, stub_front_end):
    """A folder for the runs of this process, where the front end reads letters."""
    assert text.FrontEnd is stub_front_end
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "runs")
    without_judges(monkeypatch)
    return tmp_path / "runs"


@pytest.fixture
def config(arguments):
    return configuration.load(arguments[1], arguments[2:])


def child(command, path, arguments, processes=1, n_nodes=1, port=0, environment=None):
    """A process of tests/child.py, or torchrun's of several: `processes` in this one of n_nodes that meet at a port.
    It is the first of its group."""
    launcher, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--max-restarts=2",
                                            f"--nproc_per_node={processes}"]  # fmt: skip
    if n_nodes > 1:
        launcher = [*torchrun, f"--nnodes={n_nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}",
                    "--rdzv-id=test"]  # fmt: skip
    elif processes > 1:
        launcher = [*torchrun, "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen([*launcher, "-m", "tests.child", command, str(path), *arguments], cwd=ROOT,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)  # fmt: skip


def finish(process, seconds=300):
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun takes those that it has started along
        pytest.fail(f"not done in {seconds} s: {process.communicate()[0]}")
    assert process.returncode == 0, output
    return output


def only(folder):
    (entry,) = list(folder.iterdir())
    return entry


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same(a, b, place=""):
    """Assert that two trees of plain values and tensors are equal to the bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), place
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            same(a[key], b[key], f"{place}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), place
        for i, (one, other) in enumerate(zip(a, b)):
            same(one, other, f"{place}/{i}")
    else:
        assert a == b, place


def test_a_run_writes_what_the_design_lists(arguments, runs, capsys):
    assert train.main(arguments) == 0
    run = only(runs)
    assert run.name.startswith("off_") and len(run.name) == len("off_XXXXXXXX")
    assert configuration.load(run / "config.yaml") == configuration.load(arguments[1], arguments[2:])
    assert checkpoint.steps(run, "project") == [6, 8]  # every second step, of which keep_ckpt = 2 stay
    assert checkpoint.steps(run, "voice") == [4, 8]
    # "b" on nine frames is fine, but tiny-0 has two frames for "a"; the stub has no blanks, so nothing is skipped
    assert (run / "skipped.txt").read_text() == ""
    samples = sorted(path.name for path in (run / "samples" / "00000008").iterdir())
    assert samples == ["tiny-0.png", "tiny-0_copy.wav", "tiny-0_one_step.wav", "tiny-0_recording.wav"]
    log = lines(run)
    assert [line["step"] for line in log if line["kind"] == "train"] == [2, 4, 6, 8]
    assert set(log[0]) >= {"loss_duration", "loss_prior", "loss_score", "loss_mel", "loss_feature",
                           "loss_adversarial", "loss_discriminator", "norm_generator"}  # fmt: skip
    valid = [line for line in log if line["kind"] == "valid"]
    assert [line["step"] for line in valid] == [4, 8]
    assert set(valid[0]) >= PROBES | {"loss_prior", "loss_duration", "latent_l1", "copy_mel_l1"}
    assert set(valid[0]) >= {"mcd", "voicing_error", "duration_total", "global_variance"}
    assert all(np.isfinite(value) for line in log for value in line.values() if not isinstance(value, str))
    about = json.loads((run / "voice_00000008.json").read_text())
    assert about["symbols"] == list(StubFrontEnd.symbols) and about["step"] == 8
    said = capsys.readouterr().out
    assert str(run / "samples") in said and f"python sampling.py -id {run.name}" in said


def test_the_voice_is_the_average_of_the_weights(arguments, runs):
    train.main(arguments)
    run = only(runs)
    project = checkpoint.load_project(checkpoint.find(run, "project"))
    voice = safetensors.torch.load_file(checkpoint.find(run, "voice"))
    same(voice, project["ema"])
    assert any(not torch.equal(value, project["model"][name]) for name, value in voice.items())


def test_ema_follows_its_recursion(config, tiny):
    state = build_state(config, ALONE, tiny.symbols)
    stream = batches(tiny, config)
    wanted = {name: p.detach().double().clone() for name, p in state.model.named_parameters()}
    for step in range(4):
        train.train_step(state, next(stream))
        decay = min(config.training.ema_decay, (1 + step) / (10 + step))
        for name, parameter in state.model.named_parameters():
            wanted[name] = decay * wanted[name] + (1 - decay) * parameter.detach()
    for name, parameter in state.ema.named_parameters():
        assert torch.allclose(parameter.double(), wanted[name], atol=1e-6), name


def test_losses_fall(config, tiny):
    config = with_keys(config, "training", train_num_steps=80)
    state = build_state(config, ALONE, tiny.symbols)
    stream = batches(tiny, config)
    rows = [{name: value.item() for name, value in train.train_step(state, next(stream)).items()} for _ in range(80)]
    for name in ("loss_duration", "loss_prior", "loss_score", "loss_mel", "loss_discriminator"):
        first, last = (np.mean([row[name] for row in part]) for part in (rows[:10], rows[-10:]))
        assert last < 0.97 * first, name


@pytest.mark.parametrize(("power", "factor"), [(0, 1), (0.5, 2), (1, 4)])
def test_learning_rates_follow_the_global_batch(config, tiny, power, factor):
    config = with_keys(config, "training", accumulate=4, rate_power=power)
    state, stream = build_state(config, ALONE, tiny.symbols), batches(tiny, config)
    train.train_step(state, *(next(stream) for _ in range(4)))
    stage, scale = configuration.stage_at(config, 0)
    for optimiser in (state.optimiser, state.optimiser_discriminators):
        for group in optimiser.param_groups:
            assert group["lr"] == pytest.approx(factor * scale * stage.parts[group["name"]]), group["name"]


@pytest.mark.usefixtures("fast")
def test_the_bar_says_where_the_time_went(arguments, runs, monkeypatch):
    shown, show = [], train.show
    monkeypatch.setattr(train, "show", lambda bar, *rest: shown.append(rest) or show(bar, *rest) or shown.append(bar))
    assert train.main([*arguments, "alignment.refresh_steps=3", "system.log_step=4"]) == 0 and only(runs)
    parts = {part for averages, shares in shown[::2] for part in shares}
    assert parts == {"data", "alignment", "forward", "discriminators", "backward", "update", "validation", "saving"}
    (averages, shares), bar = shown[-2:]
    assert f"mel={averages['loss_mel']:.3g}" in bar.postfix and f"forward {shares['forward']}" in bar.postfix
    assert sum(float(share.rstrip("%")) for share in shares.values()) == pytest.approx(100, abs=5)


def test_a_step_of_one_side_leaves_the_other_alone(config, tiny):
    state = build_state(config, ALONE, tiny.symbols)
    batch = next(batches(tiny, config))
    train.enter_stage(state, config.training.stages[0], 1.0)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    out = state.model(batch, train.global_counts(batch, ALONE), state.stage, realign=True)
    train.discriminator_step(state, out)
    same(before, {name: value for name, value in state.model.state_dict().items()})
    assert all(p.grad is None for p in state.model.parameters())

    judges = {name: p.detach().clone() for name, p in state.discriminators.named_parameters()}
    sum(train.adversarial_losses(state, out).values()).backward()
    train.update(state, state.optimiser, torch.zeros(()))
    assert all(p.grad is None and p.requires_grad for p in state.discriminators.parameters())
    same(judges, {name: p.detach() for name, p in state.discriminators.named_parameters()})
    changed = [name for name, value in state.model.state_dict().items() if not torch.equal(value, before[name])]
    assert any(name.startswith("generator") for name in changed)


def test_discriminators_are_told_the_t_of_the_feature(config, tiny):
    state = build_state(config, ALONE, tiny.symbols)
    batch = next(batches(tiny, config))
    batch.true_latent[:] = torch.tensor([True, False, False, False])
    train.enter_stage(state, config.training.stages[0], 1.0)
    told = []
    state.discriminators.register_forward_pre_hook(lambda _, args: told.append(args[1]))
    out = state.model(batch, train.global_counts(batch, ALONE), state.stage, realign=True)
    train.discriminator_step(state, out)
    train.adversarial_losses(state, out)
    wanted = state.model.sde.t_from_uniform(batch.u).masked_fill(batch.true_latent, 0.0)
    assert wanted[0] == 0 and len(set(wanted.tolist())) > 1
    both, recording, generated = told
    assert torch.equal(both, torch.cat([wanted, wanted]))
    assert torch.equal(recording, wanted) and torch.equal(generated, wanted)


def test_without_a_flat_start_every_step_searches(config, tiny, monkeypatch):
    searches = []
    search = monotonic_align.search
    monkeypatch.setattr(monotonic_align, "search", lambda *args: searches.append(1) or search(*args))
    tiny.durations = None
    state = build_state(config, ALONE, tiny.symbols)
    for _, batch in zip(range(3), batches(tiny, config)):
        train.train_step(state, batch)
    assert len(searches) == 3


@pytest.mark.parametrize("part", ["text_encoder", "decoder", "generator"])
def test_parts_that_a_stage_leaves_out_stay_as_they_are(config, tiny, part):
    parts = {name: rate for name, rate in config.training.stages[0].parts.items() if name != part}
    if part == "generator":
        del parts["discriminators"]
    stage = dataclasses.replace(config.training.stages[0], parts=parts, share=1.0)
    config = with_keys(config, "training", stages=(stage,))
    state = build_state(config, ALONE, tiny.symbols)
    with torch.no_grad():
        for parameter in state.ema.parameters():
            parameter.add_(1)  # as averages of a lane before may be far from the weights
    before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
    averages = {name: p.clone() for name, p in state.ema.named_parameters()}
    for _, batch in zip(range(2), batches(tiny, config)):
        train.train_step(state, batch)
    drifted = {name.split(".")[0] for name, p in state.ema.named_parameters() if not torch.equal(p, averages[name])}
    assert drifted == {"text_encoder", "decoder", "generator"} - {part}
    moved = {name.split(".")[0] for name, p in state.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"text_encoder", "decoder", "generator"} - {part}


def test_learning_rates_warm_up_fall_and_follow_the_stages(config):
    config = with_keys(config, "training", train_num_steps=100, warmup_steps=5)
    first, second = config.training.stages
    stages = [configuration.stage_at(config, step)[0] for step in (0, 74, 75, 99, 150)]
    assert stages == [first, first, second, second, second]
    scales = [configuration.stage_at(config, step)[1] for step in range(100)]
    assert scales[0] == pytest.approx(0.2, rel=1e-3) and scales[75] == pytest.approx(
        0.4, rel=1e-3
    )  # a tenth of 25 steps
    assert scales[4:75] == sorted(scales[4:75], reverse=True)
    assert scales[74] == pytest.approx(first.final, abs=1e-2)
    halfway = first.final + (1 - first.final) * 0.5
    assert 0.5 * (scales[37] + scales[38]) == pytest.approx(halfway, abs=1e-3)


def test_training_does_not_depend_on_the_random_state_that_it_finds(config, tiny):
    weights = []
    for disturbance in (0, 1):
        state = build_state(config, ALONE, tiny.symbols)
        for _, batch in zip(range(2), batches(tiny, config)):
            torch.manual_seed(disturbance)
            np.random.seed(disturbance)
            train.train_step(state, batch)
        weights.append(state.model.state_dict())
    same(*weights)


def test_resuming_in_process_is_exact_and_truncates_the_log(arguments, runs):
    assert train.main(arguments) == 0
    whole = only(runs)
    expected, log = checkpoint.load_project(checkpoint.find(whole, "project", 8)), lines(whole)
    assert train.main(["-id", whole.name, "-ckpt", "6"]) == 0
    same(checkpoint.load_project(checkpoint.find(whole, "project", 8)), expected)
    assert lines(whole) == log
    # what stood beyond the step that it went back to is kept, but nobody takes it for the newest
    assert sorted(path.name for path in (whole / "abandoned").iterdir()) == [
        "project_00000008.pt", "voice_00000008.json", "voice_00000008.safetensors"]  # fmt: skip


def test_a_killed_run_with_workers_ends_as_one_that_was_not(arguments, tmp_path):
    more = ["system.num_workers=2", "training.train_num_steps=12", "system.validation_step=6"]
    arguments = [*arguments, *more]
    finish(child("train", tmp_path / "whole", arguments))
    whole = only(tmp_path / "whole")

    process = child("train", tmp_path / "killed", arguments)
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("killed/*/project_*.pt")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed = only(tmp_path / "killed")
    assert checkpoint.steps(killed, "project")[-1] < 12, "killed too late to show anything"
    finish(child("train", tmp_path / "killed", ["-id", killed.name]))
    same(*(checkpoint.load_project(checkpoint.find(run, "project", 12)) for run in (whole, killed)))
    assert lines(whole) == lines(killed)


def test_two_processes_or_two_passes_compute_the_gradients_of_one(arguments, tmp_path):
    no_dropout = ["text_encoder.dropout=0", "text_encoder.prenet_dropout=0", "alignment.init_steps=0"]
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    finish(child("gradients", one, [*arguments, *no_dropout, "training.batch_size=4"]))
    finish(child("gradients", two, [*arguments, *no_dropout, "training.batch_size=2"], processes=2))
    ours, theirs = (torch.load(path, weights_only=True) for path in (one, two))
    finish(child("gradients", tmp_path / "passes.pt", [*arguments, *no_dropout, "training.batch_size=2",
                                                       "training.accumulate=2"]))  # fmt: skip
    passes = torch.load(tmp_path / "passes.pt", weights_only=True)
    assert ours.keys() == theirs.keys() == passes.keys() and len(ours) > 200
    for name, gradient in ours.items():
        assert gradient.dtype == torch.float64 and (theirs[name] - gradient).abs().max() <= 1e-6, name
        assert (passes[name] - gradient).abs().max() <= 1e-6, name


def test_torchrun_trains_with_two_processes(arguments, tmp_path):
    output = finish(child("train", tmp_path / "runs", [*arguments, "training.batch_size=2"], processes=2))
    run = only(tmp_path / "runs")
    assert checkpoint.steps(run, "project")[-1] == 8 and "cpu x 2" in output
    assert [line["step"] for line in lines(run) if line["kind"] == "train"] == [2, 4, 6, 8]


@pytest.mark.parametrize(("init", "steps"), [("em", [2, 3]), ("none", [0, 1, 2, 3])])
def test_the_search_takes_over_from_the_flat_start(arguments, runs, monkeypatch, init, steps):
    done, noises, passes = [], [], NiSETS.forward

    def forward(model, batch, counts, stage, realign, search_noise):
        done.append(realign)
        noises.append(search_noise)
        return passes(model, batch, counts, stage, realign, search_noise)

    monkeypatch.setattr(NiSETS, "forward", forward)
    noise = ["alignment.noise=0.1", "alignment.noise_steps=4"]
    assert train.main([*arguments, *noise, f"alignment.init={init}", "training.train_num_steps=4"]) == 0
    assert [step for step, realign in enumerate(done) if realign] == steps and only(runs)
    assert noises == pytest.approx([0.1, 0.075, 0.05, 0.025])


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("init", "searched"), [("em", []), ("none", [0, 1])])
def test_between_refreshes_every_step_has_the_durations_of_the_last(arguments, runs, monkeypatch, init, searched):
    """Flat start or own searches, to init_steps; then what the averaged weights find, every refresh_steps steps."""
    seen, refreshed, passes, refresh = {}, {}, train.forward, alignment.refresh

    def forward(state, batch, *rest):
        frames = dict(zip(batch.ids, (d[:n].tolist() for d, n in zip(batch.durations, batch.x_lengths))))
        seen[state.step] = frames if batch.has_durations else None
        return passes(state, batch, *rest)

    def refresh_and_keep(state, corpus):
        if state.step == 5:  # weights so unlike those of step 2 that the durations are others
            for parameter in state.ema.text_encoder.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        refresh(state, corpus)
        found = {}
        for i, clip in enumerate(corpus.clips):  # each by itself
            x, mel, _ = clip_tensors(state.config, corpus, i, state.world.device)
            mu_x, _, _ = state.ema.encode(x, torch.ones(1, 1, x.shape[1]))
            found[clip.id] = state.ema.align(mu_x, state.ema.latent(mel), [x.shape[1]], [mel.shape[2]])[0].tolist()
        refreshed[state.step] = found

    monkeypatch.setattr(train, "forward", forward)
    monkeypatch.setattr(alignment, "refresh", refresh_and_keep)
    searches, search = [], NiSETS.align
    monkeypatch.setattr(NiSETS, "align", lambda model, *rest: (
        searches.append(len(seen) - 1) if model.training else None, search(model, *rest))[1])  # fmt: skip
    assert train.main([*arguments, "alignment.refresh_steps=3", f"alignment.init={init}"]) == 0
    assert searches == searched and list(refreshed) == [2, 5]
    for step, frames in seen.items():
        if step >= 2:
            last = refreshed[2 if step < 5 else 5]
            assert frames == {name: last[name] for name in frames}, step
        else:
            assert (frames is None) == (init == "none")
    project = checkpoint.load_project(checkpoint.find(only(runs), "project", 8))
    kept = project["durations"]["frames"].tolist()
    assert kept == [frame for found in refreshed[5].values() for frame in found]
    assert refreshed[2] != refreshed[5]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("kind", ["off", "phone"])
def test_a_resumed_run_has_the_durations_that_it_had(arguments, runs, kind):
    """Pitch and energy are read along the durations before, so that a refresh depends on them too."""
    more = ["variance.channels=8", "variance.hidden_channels=8", "variance.n_layers=1", "pitch.f_max=2000"]
    assert train.main([*arguments, "alignment.refresh_steps=3", f"variance.kind={kind}", *more,
                       "system.keep_ckpt=4"]) == 0  # fmt: skip
    run = only(runs)
    whole = checkpoint.load_project(checkpoint.find(run, "project"))
    assert whole["durations"] is not None
    for step in (2, 4, 6):  # before the first refresh, and after each
        assert train.main(["-id", run.name, "-ckpt", str(step)]) == 0
        same(checkpoint.load_project(checkpoint.find(run, "project", 8)), whole)


def test_processes_share_a_refresh_and_all_have_all_of_it(config, tiny):
    config = with_keys(with_keys(config, "alignment", refresh_steps=3), "training", batch_size=3)
    states, parts = [build_state(config, ALONE, tiny.symbols) for _ in range(3)], {}

    class Shared(World):
        def gather(self, words):
            parts[self.rank] = words
            return [word for part in parts.values() for word in part]

        def most(self, number):
            return number

    for rank, state in enumerate(states):
        state.step = 2
        if rank < 2:
            state.world = Shared(rank, 2, torch.device("cpu"))
    with pytest.raises(KeyError):
        alignment.refresh(states[0], tiny)  # the other's share is not there yet
    for state in (states[1], states[0], states[2]):
        alignment.refresh(state, tiny)
    shares = [[index for index, _ in part] for part in parts.values()]
    assert sorted(sum(shares, [])) == list(range(10)) and min(map(len, shares)) >= 3
    for state in states[:2]:
        same(state.durations, states[2].durations)
    frames = torch.split(states[2].durations["frames"], [len(ids) for ids in tiny.ids])
    assert [int(one.sum()) for one in frames] == tiny.n_frames.tolist()


def test_a_refresh_searches_without_noise(config, tiny):
    """Its durations stay until the next one: a draw of noise would, too."""
    found = []
    for noise in (0.0, 5.0):
        noisy = with_keys(config, "alignment", noise=noise, refresh_steps=3)
        state = build_state(noisy, ALONE, tiny.symbols)
        before = torch.get_rng_state()
        alignment.refresh(state, tiny)
        assert torch.equal(torch.get_rng_state(), before)
        found.append(state.durations)
    same(*found)


@pytest.mark.usefixtures("fast")
def test_durations_of_other_clips_are_not_used(arguments, runs, tiny_root, caplog, monkeypatch):
    short = "training.train_num_steps=4"
    assert train.main([*arguments, "alignment.refresh_steps=3", short]) == 0
    (tiny_root / "wavs" / "tiny-3.wav").unlink()
    searches, search = [], NiSETS.align
    monkeypatch.setattr(NiSETS, "align", lambda model, *rest: searches.append(model.training) or search(model, *rest))
    assert train.main(["-id", only(runs).name, "training.train_num_steps=7"]) == 0
    assert caplog.text.count("are of other clips") == 1
    assert searches == [True] + [False] * 3  # the step before the refresh at 5, which has three batches of nine clips


@pytest.mark.usefixtures("fast")
def test_a_resumed_run_may_search_in_every_step_again(arguments, runs):
    assert train.main([*arguments, "alignment.refresh_steps=3", "training.train_num_steps=4"]) == 0
    assert train.main(["-id", only(runs).name, "alignment.refresh_steps=0", "training.train_num_steps=6"]) == 0
    assert checkpoint.load_project(checkpoint.find(only(runs), "project"))["durations"] is None


def test_bfloat16_trains(arguments, runs):
    assert train.main([*arguments, "-a", "true", "training.train_num_steps=4"]) == 0
    assert all(np.isfinite(line["loss_mel"]) for line in lines(only(runs)) if line["kind"] == "train")


def test_wandb_goes_on_in_the_same_run(arguments, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert train.main([*arguments, "-test", "false", "training.train_num_steps=4"]) == 0
    run = only(runs)
    assert not run.name.startswith("off_")
    assert train.main(["-id", run.name, "-test", "false", "training.train_num_steps=6"]) == 0
    assert only(runs) == run and checkpoint.steps(run, "project")[-1] == 6
    kept = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert kept and all(name.endswith(run.name) for name in kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["training.batch_sise=4"], "training.batch_sise"),
        (["dataset.metafile_train=nothing.txt"], "nothing.txt"),
        (["dataset.prtpath=nowhere"], "dataset.prtpath"),
        (["audio.sample_rate=16000", "audio.f_max=8000"], "audio.sample_rate"),
        (["training.batch_size=four"], "training.batch_size"),
    ],
)
def test_faults_are_one_line(arguments, runs, capsys, change, message):
    assert train.main([*arguments, *change]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and "Traceback" not in error
    assert not runs.exists()


def test_debug_shows_the_traceback(arguments, runs):
    with pytest.raises(configuration.ConfigError, match="training.batch_sise"):
        train.main([*arguments, "--debug", "training.batch_sise=4"])
    assert not runs.exists()


def test_faulty_clips_are_listed_and_do_not_stop(arguments, runs, tiny_root):
    (tiny_root / "wavs" / "tiny-3.wav").unlink()
    (tiny_root / "wavs" / "tiny-4.wav").write_bytes(b"RIFF, and no more")
    with open(tiny_root / "train.txt", "a") as file:
        file.write("nobody\n")
    assert train.main([*arguments, "training.train_num_steps=2"]) == 0
    skipped = dict(line.split("\t") for line in (only(runs) / "skipped.txt").read_text().splitlines())
    assert skipped == {"tiny-3": "missing", "tiny-4": "unreadable", "nobody": "no transcript"}


@pytest.mark.parametrize("damage", ["truncated", "foreign", "code"])
def test_a_bad_checkpoint_stops(arguments, runs, capsys, damage):
    assert train.main([*arguments, "training.train_num_steps=2"]) == 0
    path = checkpoint.find(only(runs), "project")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        torch.save({"step": 2} if damage == "foreign" else {"step": 2, "config": only}, path)
    before = path.read_bytes()
    assert train.main(["-id", only(runs).name]) == 1
    (error,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert path.name in error and {"truncated": "damaged", "foreign": "no checkpoint", "code": "code"}[damage] in error
    assert path.read_bytes() == before


@pytest.mark.parametrize("names", [["-id", "nobody"], ["-id", "nobody", "-ckpt", "3"]])
def test_resuming_what_is_not_there_never_starts_anew(runs, capsys, names):
    assert train.main(names) == 1
    assert "nobody" in capsys.readouterr().err
    assert not runs.exists()


def test_a_checkpoint_of_another_model_is_refused(arguments, runs, capsys):
    assert train.main(arguments) == 0
    assert train.main(["-id", only(runs).name, "unet2d.channels=16", "unet2d.groups=4"]) == 1
    assert "does not fit" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.usefixtures("fast")
def test_weights_are_not_read_as_something_else(arguments, runs, capsys):
    """All of these have the same shapes."""
    small = ["decoder.kind=convnext1d", "convnext1d.channels=8", "convnext1d.n_layers=1", "latent.channels=80"]
    assert train.main([*arguments, *small, "latent.kind=pca", "training.train_num_steps=2"]) == 0
    run = only(runs)
    written = (run / "config.yaml").read_text()
    for change, right in (("latent.kind=pooled", "pca"), ("latent.kind=normalised", "pca"),
                          ("latent.channels=40", "80"), ("sde.parametrisation=v", "edm")):  # fmt: skip
        key, value = change.split("=")
        for resumed in (["-id", run.name], ["-from", run.name, *arguments]):
            assert train.main([*resumed, change, "training.train_num_steps=4"]) == 1
            error = capsys.readouterr().err.strip().splitlines()[-1]
            assert f"{key} = {value}: must be {right}, as " in error
    assert (run / "config.yaml").read_text() == written and only(runs) == run


def test_a_checkpoint_of_other_meaning_is_refused_whatever_the_file_says(config, tiny):
    state = build_state(config, ALONE, tiny.symbols)
    project = project_of(state)
    other = build_state(with_keys(config, "sde", parametrisation="noise"), ALONE, tiny.symbols)
    with pytest.raises(configuration.ConfigError, match="parametrisation = noise: must be edm, as the checkpoint was"):
        restore(other, project)
    # without a compression the number of channels is nobody's, and what is learnt from may change
    changed = with_keys(with_keys(config, "latent", channels=20), "loss", mel=1.0)
    restore(build_state(changed, ALONE, tiny.symbols), project)


def test_a_resumed_run_takes_its_new_settings_and_keeps_its_precision(arguments, runs):
    short = "training.train_num_steps=4"
    assert train.main([*arguments, short, "-a", "true"]) == 0
    name = only(runs).name
    assert train.main(["-id", name, "training.train_num_steps=6", "training.weight_decay=0.5"]) == 0
    project = checkpoint.load_project(checkpoint.find(runs / name, "project", 6))
    assert project["amp"] is True
    for optimiser in ("optimiser", "optimiser_discriminators"):
        assert {group["weight_decay"] for group in project[optimiser]["param_groups"]} == {0.5}


def test_other_symbols_are_not_trained_on(arguments, runs, capsys, monkeypatch):
    assert train.main(arguments) == 0
    monkeypatch.setattr(StubFrontEnd, "symbols", (*StubFrontEnd.symbols[:-2], "z", "y"))
    assert train.main(["-id", only(runs).name]) == 1
    assert "same symbols in another order" in capsys.readouterr().err


# -- what goes wrong


def broken_at(monkeypatch, broken):
    """Losses that are not finite in steps of which broken(state) is true."""
    forward = train.forward

    def spoilt(state, *rest):
        out = forward(state, *rest)
        if broken(state):
            out.losses["loss_mel"] = out.losses["loss_mel"] * torch.nan
        return out

    monkeypatch.setattr(train, "forward", spoilt)


@pytest.fixture
def fast(monkeypatch):
    """Neither pictures nor measures, which take longer than the training."""
    monkeypatch.setattr(validation, "validate", lambda *_: {"latent_l1": 1.0})
    monkeypatch.setattr(validation, "save_curves", lambda *_: None)


@pytest.mark.usefixtures("fast")
def test_a_step_that_is_not_finite_is_skipped_and_its_clips_are_named(arguments, runs, monkeypatch, caplog):
    broken_at(monkeypatch, lambda state: state.step == 4)
    seen, step = {}, train.train_step

    def spied(state, batch):
        before = {name: p.detach().clone() for name, p in state.model.named_parameters()}
        values = step(state, batch)
        moved = any(not torch.equal(p, before[name]) for name, p in state.model.named_parameters())
        seen[state.step] = moved, float(state.skipped), batch.ids
        return values

    monkeypatch.setattr(train, "train_step", spied)
    assert train.main(arguments) == 0
    assert {number: one[:2] for number, one in seen.items()} == {
        **dict.fromkeys((1, 2, 3, 4, 6, 7, 8), (True, 0)), 5: (False, 1)}  # fmt: skip
    (line,) = [line for line in lines(only(runs)) if line["kind"] == "skipped"]
    assert (line["step"], line["clips"]) == (5, seen[5][2]) and "loss_mel" in line["not_finite"]
    assert (
        f"step 5 skipped, not finite: {', '.join(line['not_finite'])}; its clips: {', '.join(seen[5][2])}"
        in caplog.text
    )
    project = checkpoint.load_project(checkpoint.find(only(runs), "project"))
    assert all(value.isfinite().all() for name in ("model", "ema") for value in project[name].values())


@pytest.mark.usefixtures("fast")
def test_steps_in_a_row_that_are_not_finite_lead_back_with_lower_rates(arguments, runs, monkeypatch, caplog):
    broken_at(monkeypatch, lambda state: state.step >= 5 and state.rate_scale == 1)
    more = [*arguments, "training.max_skipped=2", "training.back_off=0.25"]
    assert train.main(more) == 0
    run = only(runs)
    assert "back to step 4, with learning rates times 0.25" in caplog.text
    whole = checkpoint.load_project(checkpoint.find(run, "project"))
    assert (whole["step"], whole["rate_scale"]) == (8, 0.25)
    rates = [group["lr"] for group in whole["optimiser"]["param_groups"]]
    _, scale = configuration.stage_at(configuration.load(arguments[1], more[2:]), 7)
    assert rates == pytest.approx([0.25 * scale * 1e-4] * len(rates))
    assert [line["step"] for line in lines(run) if line["kind"] == "train"] == [2, 4, 6, 8]
    (back,) = [line for line in lines(run) if line["kind"] == "back"]  # which clips it was is not forgotten
    assert (back["step"], back["from"]) == (4, 7) and all(clip.startswith("tiny-") for clip in back["clips"])
    assert back["clips"]
    assert train.main(["-id", run.name, "-ckpt", "6"]) == 0  # a resumed run keeps the lower rates
    same(checkpoint.load_project(checkpoint.find(run, "project")), whole)


@pytest.mark.parametrize(
    ("skipped", "known", "lost"),
    [
        ("0000", [0, 0, 0, 0], []),
        ("0100", [0, 0, 1, 0], []),
        ("0110", [0, 0, 1, 0], []),  # the last one, which had begun, was a good one
        ("0111", [0, 0, 1, 3], [4]),
    ],
)
def test_on_a_gpu_a_step_is_known_when_the_next_has_begun(config, tiny, monkeypatch, skipped, known, lost):
    """The host then waits for nothing that is not done; before a run goes back it asks for the last one, too."""
    state, recorded = build_state(with_keys(config, "training", max_skipped=2), ALONE, tiny.symbols), []
    state.world = World(0, 1, torch.device("cuda"))
    monkeypatch.setattr(train, "record", lambda _, step, *__: recorded.append(step))
    monkeypatch.setattr(train, "is_log_step", lambda _: False)
    batch, seen, misses = fixed_batch(tiny, config, [1, 4]), [], []
    for step, flag in enumerate(skipped, 1):
        state.step, state.skipped = step, torch.tensor(float(flag))
        if train.needs_rollback(state, [batch], {}, None):
            seen.append(step)
        assert recorded == list(range(1, len(recorded) + 1)) and len(recorded) >= step - 1
        misses.append(state.misses)
    assert seen == lost and misses == known
    train.record_pending(state, None)
    assert recorded == list(range(1, len(skipped) + 1))


@pytest.mark.usefixtures("fast")
def test_what_stays_broken_ends_in_a_line(arguments, runs, monkeypatch, capsys):
    broken_at(monkeypatch, lambda state: state.step >= 4)
    assert train.main([*arguments, "training.max_skipped=2", "training.back_off=0.05"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "steps in a row to step 6 were not finite" in error and "training.stages" in error
    assert checkpoint.steps(only(runs), "project") == [2, 4]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_step_and_saves_it(arguments, runs, monkeypatch, capsys, number, status):
    assert train.main(arguments) == 0
    whole = only(runs)
    step = train.train_step
    with monkeypatch.context() as patch:

        def signalled(state, batch):
            if state.step == 4:
                os.kill(os.getpid(), number)
            return step(state, batch)

        patch.setattr(train, "train_step", signalled)
        assert train.main([*arguments, "system.log_step=3"]) == status
    assert f"stopped by {number.name} after step 5" in capsys.readouterr().err.strip().splitlines()[-1]
    (stopped,) = set(runs.iterdir()) - {whole}
    assert checkpoint.steps(stopped, "project") == [4, 5]
    assert train.main(["-id", stopped.name, "system.log_step=2"]) == 0
    ours, theirs = (checkpoint.load_project(checkpoint.find(run, "project")) for run in (stopped, whole))
    same(ours, theirs)
    assert lines(stopped)[-3:] == lines(whole)[-3:]


def test_a_signal_to_all_of_its_processes_finishes_the_step_too(arguments, tmp_path):
    """As torchrun, timeout and a terminal send it: its workers get it as well."""
    more = ["system.num_workers=2", "system.log_step=1", "system.save_ckpt=10000", "system.validation_step=10000",
            "training.train_num_steps=10000"]  # fmt: skip
    process, until = child("quick", tmp_path / "runs", [*arguments, *more]), time.monotonic() + 120
    while time.monotonic() < until and not any(read_lines(run / "log.jsonl") for run in (tmp_path / "runs").glob("*")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    assert "stopped by SIGTERM after step" in output.strip().splitlines()[-1] and "Traceback" not in output
    run = only(tmp_path / "runs")
    assert checkpoint.steps(run, "project") == [lines(run)[-1]["step"]]


@pytest.mark.usefixtures("fast")
def test_a_signal_during_a_skipped_step_saves_what_was_won(arguments, runs, monkeypatch, capsys):
    broken_at(monkeypatch, lambda state: state.step == 4)
    step = train.train_step

    def signalled(state, batch):
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(state, batch)

    monkeypatch.setattr(train, "train_step", signalled)
    assert train.main([*arguments, "system.save_ckpt=100"]) == 143
    assert "after step 5" in capsys.readouterr().err and checkpoint.steps(only(runs), "project") == [5]


@pytest.mark.usefixtures("fast")
def test_a_checkpoint_that_is_due_at_a_skipped_step_follows_the_next(arguments, runs, monkeypatch):
    broken_at(monkeypatch, lambda state: state.step in (3, 4))
    assert train.main([*arguments, "system.keep_ckpt=9"]) == 0
    assert checkpoint.steps(only(runs), "project") == [2, 6, 8]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("error", "said"),
    [(audio.AudioError("clip.wav is gone"), "clip.wav is gone"), (MemoryError(), "lower training.batch_size")],
)
def test_a_validation_that_fails_is_a_line_and_takes_no_step(arguments, runs, monkeypatch, capsys, error, said):
    def fails(state, *_):
        if state.step == 3:
            raise error
        return {"latent_l1": 1.0}

    monkeypatch.setattr(validation, "validate", fails)
    for save_ckpt in (3, 100):
        assert train.main([*arguments, "system.validation_step=3", f"system.save_ckpt={save_ckpt}"]) == 1
        assert said in capsys.readouterr().err.strip().splitlines()[-1]
        run = max(runs.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        assert checkpoint.steps(run, "project") == [3]
        shutil.rmtree(run)


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


@pytest.mark.usefixtures("fast")
def test_a_full_disk_is_a_line_and_takes_nothing(arguments, runs, monkeypatch, capsys):
    free, usage = [10**12], shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=free[0]))
    step = train.train_step

    def fill(state, batch):
        free[0] = 10**12 if state.step < 5 else 1000
        return step(state, batch)

    monkeypatch.setattr(train, "train_step", fill)
    assert train.main(arguments) == 1
    (error,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "MB are needed" in error and "-id goes on" in error and str(only(runs)) in error
    assert checkpoint.steps(only(runs), "project") == [2, 4]
    assert train.main(["-id", only(runs).name]) == 1  # before the first step
    free[0] = 10**12
    monkeypatch.setattr(train, "train_step", step)
    assert train.main(["-id", only(runs).name]) == 0


@pytest.mark.usefixtures("fast")
def test_a_disk_that_is_full_when_a_signal_comes_is_said(arguments, runs, monkeypatch, capsys):
    usage, step = shutil.disk_usage, train.train_step

    def signalled(state, batch):
        if state.step == 4:
            monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(path)._replace(free=1000))
            os.kill(os.getpid(), signal.SIGTERM)
        return step(state, batch)

    monkeypatch.setattr(train, "train_step", signalled)
    assert train.main(arguments) == 1
    assert "MB are needed" in capsys.readouterr().err.strip().splitlines()[-1]
    assert checkpoint.steps(only(runs), "project") == [2, 4]


def test_a_skipped_step_says_nothing_of_durations(config, tiny, monkeypatch):
    state = build_state(config, ALONE, tiny.symbols)
    train.train_step(state, fixed_batch(tiny, config, [1, 4, 6, 9]))
    before, forward = float(state.model.logw_variance), train.forward

    def spoilt(state, *rest):
        out = forward(state, *rest)
        out.losses["loss_duration"] = out.losses["loss_duration"] + 1e25  # finite, and its gradient is
        out.losses["loss_mel"] = out.losses["loss_mel"] * torch.nan
        return out

    monkeypatch.setattr(train, "forward", spoilt)
    train.train_step(state, fixed_batch(tiny, config, [1, 4, 6, 9]))
    assert float(state.skipped) == 1 and float(state.model.logw_variance) == before > 0


@pytest.mark.usefixtures("fast")
def test_a_damaged_newest_checkpoint_is_passed_over(arguments, runs, caplog):
    assert train.main(arguments) == 0
    run = only(runs)
    path = checkpoint.find(run, "project", 8)
    whole, content = checkpoint.load_project(path), bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 600):  # more than the padding before an entry
        content[place] ^= 1
    path.write_bytes(content)
    assert train.main(["-id", run.name, "-ckpt", "8"]) == 1  # who names it means it
    assert train.main(["-id", run.name]) == 0
    assert f"{path} is damaged: going on from the one before, of step 6" in caplog.text
    same(checkpoint.load_project(path), whole)


@pytest.mark.usefixtures("fast")
def test_lack_of_memory_names_the_batch_and_what_to_lower(arguments, runs, monkeypatch, capsys):
    def greedy(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr(train, "forward", greedy)
    assert train.main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "out of memory at step 1 with 4 clips of up to 130 frames (" in error  # the longest comes first
    assert "tiny-9" in error and "lower training.batch_size" in error and only(runs)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_corpus_that_vanishes_is_a_line_after_a_save(arguments, runs, tiny_root, monkeypatch, capsys, workers):
    step = train.train_step

    def vanish(state, batch):
        if state.step == 4:
            shutil.rmtree(tiny_root / "wavs")
        return step(state, batch)

    monkeypatch.setattr(train, "train_step", vanish)
    assert train.main([*arguments, f"system.num_workers={workers}", "training.train_num_steps=60"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"train.py: 10 clips in a row cannot be read any more, the last: .*tiny-\d.wav", error), error
    assert "Traceback" not in error and checkpoint.steps(only(runs), "project")[-1] >= 5


@pytest.mark.usefixtures("fast")
def test_a_worker_that_is_killed_in_the_middle_of_a_step_is_a_line(arguments, runs, monkeypatch, capsys):
    step = train.train_step

    def kill(state, batch):
        if state.step == 3:
            for worker in multiprocessing.active_children():
                worker.kill()
            time.sleep(10)  # cut short by what says that the worker is gone
        return step(state, batch)

    monkeypatch.setattr(train, "train_step", kill)
    assert train.main([*arguments, "system.num_workers=1"]) == 1
    gc.collect()  # the loader, whose signal handler would speak of its worker again in whatever runs next
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("train.py: a process that loads data was ended") and "lower system.num_workers" in error
    assert checkpoint.steps(only(runs), "project") == [2]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("begun", [False, True])
def test_a_folder_that_cannot_be_written_is_a_line(arguments, runs, monkeypatch, capsys, begun):
    """From the start, or from some step on: root may write anywhere, so it is the call that fails."""
    replace, step, state_of = os.replace, train.train_step, {"step": 0}

    def refuse(path, target):
        if str(target).startswith(str(runs)) and (not begun or state_of["step"] >= 5):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(target))
        replace(path, target)

    def spied(state, batch):
        state_of["step"] = state.step
        return step(state, batch)

    monkeypatch.setattr(train, "train_step", spied)
    monkeypatch.setattr(os, "replace", refuse)
    assert train.main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Read-only file system" in error and "what was saved is whole" in error
    assert checkpoint.steps(only(runs), "project") == ([2, 4] if begun else [])


def test_a_search_among_numbers_that_are_not_finite_skips_the_step(arguments, runs, monkeypatch, caplog):
    encode = NiSETS.encode

    def spoilt(model, *rest):
        mu_x, *more = encode(model, *rest)
        return (mu_x * torch.nan if model.training and len(calls) == 3 else mu_x, *more)

    calls, forward = [], train.forward
    monkeypatch.setattr(train, "forward", lambda *rest: calls.append(0) or forward(*rest))
    monkeypatch.setattr(NiSETS, "encode", spoilt)
    assert train.main([*arguments, "alignment.init=none"]) == 0
    assert [line["step"] for line in lines(only(runs)) if line["kind"] == "skipped"] == [3]
    assert "step 3 skipped, not finite" in caplog.text and "tiny-" in caplog.text


def test_clips_that_one_process_cannot_read_cost_no_step(arguments, tmp_path):
    process = child("faulty", tmp_path / "runs", [*arguments, "training.batch_size=2", "system.save_ckpt=100"],
                    processes=2, environment={"FAULTY_RANK": "1"})  # fmt: skip
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "train.py: clip.wav is gone" in output, output
    assert "another training process cannot go on" in output
    assert checkpoint.steps(only(tmp_path / "runs"), "project") == [5]


@pytest.mark.parametrize("n_kills", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_instants_ends_as_one_that_was_not(arguments, tmp_path, n_kills):
    more = [*arguments, f"training.train_num_steps={6 * n_kills}", "system.validation_step=2", "system.save_ckpt=1",
            "system.keep_best=1000", *VARIANCE, SOUNDING, "variance.patience=4", "alignment.init_steps=2",
            "alignment.refresh_steps=4"]  # fmt: skip
    finish(child("lives", tmp_path, more, environment={"KILLS": str(n_kills)}), 1800)
    whole, killed = (only(tmp_path / name) for name in ("whole", "killed"))
    same(*(checkpoint.load_project(checkpoint.find(run, "project", 6 * n_kills)) for run in (whole, killed)))
    assert checkpoint.load_project(checkpoint.find(whole, "project"))["best_variance"]["stopped"]
    assert lines(whole) == lines(killed) and {line["kind"] for line in lines(whole)} == {"train", "valid"}
    voices = checkpoint.steps(whole, "voice")
    assert voices == checkpoint.steps(killed, "voice") == list(range(2, 6 * n_kills + 1, 2))
    for step in voices:
        same(*(checkpoint.load_voice(checkpoint.find(run, "voice", step)).weights for run in (whole, killed)))
    assert not list(killed.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("n_nodes", [1, 2])
def test_torchrun_starts_again_what_lost_a_process(arguments, tmp_path, n_nodes):
    """One node of two processes, or two nodes of one that meet on the loopback; rank 1 kills itself at step 5."""
    more = [*arguments, "training.batch_size=2", "alignment.refresh_steps=3"]
    finish(child("restarted", tmp_path / "whole", more, processes=2), 900)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = [child("restarted", tmp_path / "killed", more, processes=2 // n_nodes, n_nodes=n_nodes, port=port,
                   environment={"KILL_RANK_AT": "1 5"}) for _ in range(n_nodes)]  # fmt: skip
    output = "".join(finish(node, 900) for node in nodes)
    whole, killed = (only(tmp_path / name) for name in ("whole", "killed"))  # a single run, under its first name
    assert (tmp_path / "killed.once").exists() and "from step 4" in output
    same(*(checkpoint.load_project(checkpoint.find(run, "project", 8)) for run in (whole, killed)))


def test_a_validation_that_a_kill_prevented_is_made_up_for(arguments, runs, monkeypatch):
    assert train.main([*arguments, "training.train_num_steps=4"]) == 0
    run = only(runs)
    log, voice = lines(run), checkpoint.find(run, "voice").read_bytes()
    (run / "voice_00000004.safetensors").unlink()
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log if line["kind"] == "train"))
    monkeypatch.setattr(train, "train_step", None)  # there is nothing left to train
    assert train.main(["-id", run.name]) == 0
    assert lines(run) == log and checkpoint.find(run, "voice").read_bytes() == voice


# -- early stopping of the variance part

VARIANCE = [
    "variance.kind=phone", "variance.channels=8", "variance.hidden_channels=8", "variance.n_layers=1",
    "variance.patience=2", "variance.n_timesteps=5", "pitch.f_max=2000", "alignment.init_steps=100",
    "training.stages=[{lane: main, latents: joint, parts: {text_encoder: 1.e-3, variance: 1.e-3, decoder: 1.e-3}, "
    "share: 1, final: 1, mu_gradient: true, feature_gradient: off}]",
]  # fmt: skip
SOUNDING = (
    "training.stages=[{lane: main, latents: joint, share: 1, final: 1, mu_gradient: true, feature_gradient: off, "
    "parts: {text_encoder: 1.e-3, variance: 1.e-3, decoder: 1.e-3, generator: 1.e-3, discriminators: 1.e-3}}]"
)


@pytest.fixture
def variance_config(arguments):
    return configuration.load(arguments[1], [*arguments[2:], *VARIANCE])


def validated(state, step, loss):
    """The state after a validation at this step, the variance part's averages all being the step, its weights less."""
    state.step = step
    with torch.no_grad():
        for network, value in ((state.ema, step), (state.model, step - 0.5)):
            for parameter in network.variance.parameters():
                parameter.fill_(value)
    validation.watch_variance(
        state, {"loss_variance": loss - 0.75, "loss_f0": 0.5, "loss_voicing": 0.25, "loss_prior": -9}
    )
    validation.settle_variance(state)


def variance_of(network):
    """The one value of all its weights."""
    (value,) = {value for parameter in network.variance.parameters() for value in parameter.detach().flatten().tolist()}
    return value


def test_early_stopping_counts_misses_and_goes_back_to_the_best(variance_config):
    state = build_state(with_keys(variance_config, "training", train_num_steps=100), ALONE, ("_", "a"))
    for step, loss, best, misses in ((1, 3.0, 1, 0), (2, 3.5, 1, 1), (3, 2.0, 3, 0), (4, 2.5, 3, 1)):
        validated(state, step, loss)
        assert (state.best_variance["misses"], state.best_variance["stopped"]) == (misses, False)
        assert {float(weight.flatten()[0]) for weight in state.best_variance["weights"].values()} == {best}
        assert (variance_of(state.ema), variance_of(state.model)) == (step, step - 0.5)
    assert state.best_variance["loss"] == 2.0
    validated(state, 5, 2.0)  # as good is no gain
    assert state.best_variance["stopped"] and variance_of(state.ema) == variance_of(state.model) == 3
    validation.watch_variance(state, {"loss_variance": 0.0})
    assert state.best_variance["loss"] == 2.0 and variance_of(state.ema) == 3


def test_the_end_goes_back_to_the_best_too(variance_config):
    state = build_state(variance_config, ALONE, ("_", "a"))
    validated(state, 4, 1.0)
    validated(state, 8, 2.0)
    assert state.best_variance["misses"] == 1 and state.best_variance["stopped"]
    assert variance_of(state.ema) == variance_of(state.model) == 4
    state = build_state(variance_config, ALONE, ("_", "a"))
    validated(state, 4, 2.0)
    validated(state, 8, 1.0)
    assert not state.best_variance["stopped"] and variance_of(state.ema) == 8


def test_only_a_stage_that_trains_the_variance_part_watches_it(variance_config):
    (stage,) = variance_config.training.stages
    stages = (dataclasses.replace(stage, share=0.5), dataclasses.replace(stage, share=0.5, parts={"decoder": 1e-3}))
    state = build_state(with_keys(variance_config, "training", stages=stages), ALONE, ("_", "a"))
    validated(state, 4, 2.0)  # the last of the first stage's steps
    validated(state, 5, 1.0)
    assert state.best_variance["loss"] == 2.0 and state.best_variance["misses"] == 0


@pytest.mark.parametrize("alone", [False, True])
def test_what_has_stopped_is_left_alone(variance_config, tiny_root, stub_front_end, alone):
    assert text.FrontEnd is stub_front_end and tiny_root.is_dir()
    if alone:
        stage = dataclasses.replace(variance_config.training.stages[0], parts={"variance": 1e-3})
        variance_config = with_keys(variance_config, "training", stages=(stage,))
    clips = prepare_data(variance_config, ALONE).clips
    state = build_state(variance_config, ALONE, clips.symbols)
    stream = batches(clips, variance_config)
    before = [{name: value.clone() for name, value in state.model.state_dict().items()}]
    for stopped in (False, True):
        state.best_variance = {"stopped": stopped, "loss": 0.0, "misses": 0, "weights": {}, "step": 0}
        if stopped:
            state.ema.variance.load_state_dict(state.model.variance.state_dict())  # as watch_variance leaves them
        for _ in range(2):
            values = train.train_step(state, next(stream))
            assert {"loss_variance", "norm_variance"} & set(values) == (
                set() if stopped else {"loss_variance", "norm_variance"}
            )
        before.append({name: value.clone() for name, value in state.model.state_dict().items()})
    moved = [{name.split(".")[0] for name, value in b.items() if not torch.equal(value, a[name])}
             for a, b in zip(before, before[1:])]  # fmt: skip
    others = set() if alone else {"text_encoder", "decoder"}
    assert moved[0] - {"logw_variance"} == {"variance"} | others and moved[1] - {"logw_variance"} == others
    same(dict(state.ema.variance.named_parameters()), dict(state.model.variance.named_parameters()))


def test_what_does_not_train_is_read_without_dropout(variance_config):
    (stage,) = variance_config.training.stages
    state = build_state(variance_config, ALONE, ("_", "a"))
    for parts in ({"decoder"}, {"text_encoder", "variance"}):
        train.enter_stage(state, dataclasses.replace(stage, parts=dict.fromkeys(parts, 1e-3)), 1.0)
        modes = {
            name: {module.training for network in networks for module in network.modules()}
            for name, networks in state.model.parts().items()
        }
        assert modes == {name: {name in parts} for name in state.model.parts()}


def test_a_resumed_run_knows_what_its_validations_said(arguments, runs, monkeypatch):
    """Also where it goes on from the very step of a validation."""
    losses = {2: 1.0, 4: 0.5, 6: 0.7, 8: 0.8, 10: 0.9}
    monkeypatch.setattr(validation, "validate", lambda state, *_: {"loss_variance": losses[state.step]})
    monkeypatch.setattr(validation, "save_curves", lambda *_: None)  # which takes longer than the training
    more = [*VARIANCE, "system.validation_step=2", "system.keep_ckpt=9", "training.train_num_steps=10"]
    assert train.main([*arguments, *more]) == 0
    run = only(runs)
    whole = checkpoint.load_project(checkpoint.find(run, "project", 10))
    assert whole["best_variance"]["stopped"] and whole["best_variance"]["loss"] == 0.5
    assert [line["step"] for line in lines(run) if "loss_variance" in line and line["kind"] == "train"] == [2, 4, 6, 8]
    same({f"variance.{name}": value for name, value in whole["best_variance"]["weights"].items()},
         {name: value for name, value in whole["ema"].items() if name.startswith("variance.")})  # fmt: skip
    for step in (4, 8):
        assert train.main(["-id", run.name, "-ckpt", str(step)]) == 0
        same(checkpoint.load_project(checkpoint.find(run, "project", 10)), whole)


def test_a_validation_whose_run_was_killed_behind_it_has_been_heard(arguments, runs, monkeypatch):
    """The checkpoint before it is there, its line is in the log, the checkpoint after it is not."""
    losses = {2: 1.0, 4: 0.5, 6: 0.7, 8: 0.8, 10: 0.9}
    monkeypatch.setattr(validation, "validate", lambda state, *_: {"loss_variance": losses[state.step]})
    monkeypatch.setattr(validation, "save_curves", lambda *_: None)
    more = [*VARIANCE, "system.validation_step=2", "system.save_ckpt=2", "training.train_num_steps=10"]
    assert train.main([*arguments, *more]) == 0
    whole, keep_best = only(runs), validation.keep_best

    def killed(state, *_):
        if state.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(validation, "keep_best", killed)
    assert train.main([*arguments, *more]) == 130
    monkeypatch.setattr(validation, "keep_best", keep_best)
    (other,) = set(runs.iterdir()) - {whole}
    assert checkpoint.steps(other, "project") == [2, 4] and lines(other)[-1]["kind"] == "valid"
    assert train.main(["-id", other.name]) == 0
    same(*(checkpoint.load_project(checkpoint.find(run, "project", 10)) for run in (whole, other)))
    assert lines(other) == lines(whole)


@pytest.mark.slow
def test_one_clip_is_learned_by_heart(real_root, tmp_path):
    """A few hundred steps on one clip: prior (normalised) under 1.05, F-loss at t = 1 under 0.1."""
    (tmp_path / "one.txt").write_text((real_root / "train.txt").read_text().splitlines()[1] + "\n")
    config = configuration.load("light", [
        f"dataset.prtpath={real_root}", f"dataset.cache={tmp_path / 'cache'}", "system.num_workers=0",
        f"dataset.metafile_train={tmp_path / 'one.txt'}", f"dataset.metafile_valid={tmp_path / 'one.txt'}",
        "text_encoder.dropout=0", "text_encoder.prenet_dropout=0", "training.train_num_steps=600",
        "training.stages=[{lane: main, latents: joint, parts: {text_encoder: 2.e-3, decoder: 2.e-3}, share: 1, "
        "final: 0.05, mu_gradient: false, feature_gradient: off}]", "training.batch_size=4", "sde.t_one=0.7",
        "unet2d.channels=32",
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


def test_the_best_voices_and_the_newest_are_kept(config, tiny, tmp_path, caplog):
    state = build_state(config, ALONE, tiny.symbols)
    run_log, found = RunLog(tmp_path, 0), (0.5, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8)
    with caplog.at_level("INFO", logger="train"):
        for step, number in enumerate(found, 1):
            state.step = step
            checkpoint.save_voice(tmp_path, step, state.ema.state_dict(), config, tiny.symbols)
            run_log.write("valid", step, {"latent_l1": number})
            validation.keep_best(state, tmp_path, run_log)
            best = sorted(range(1, step + 1), key=lambda each: found[each - 1])[: config.system.keep_best]
            assert checkpoint.steps(tmp_path, "voice") == sorted({*best, step})
            assert ("has not improved" in caplog.text) == (step >= 2 + validation.STALE_VALIDATIONS)
    assert "best at step 2, 0.2" in caplog.text


@pytest.mark.parametrize("metric", ["cer", "dnsmos"])
def test_the_best_voice_is_the_one_that_is_heard_best(config, tiny, tmp_path, metric):
    config = with_keys(config, "system", best_metric=metric, keep_best=1)
    state, run_log = build_state(config, ALONE, tiny.symbols), RunLog(tmp_path, 0)
    for state.step, number in enumerate((0.3, 0.1, 0.9, 0.5), 1):
        checkpoint.save_voice(tmp_path, state.step, state.ema.state_dict(), config, tiny.symbols)
        run_log.write("valid", state.step, {metric: number, "latent_l1": 1.0})
        validation.keep_best(state, tmp_path, run_log)
    assert checkpoint.steps(tmp_path, "voice") == [{"cer": 2, "dnsmos": 3}[metric], 4]


@pytest.mark.parametrize("metric", ["cer", "dnsmos"])
def test_a_metric_whose_package_is_not_there_stops_before_anything_is_made(arguments, runs, capsys, metric):
    assert train.main([*arguments, f"system.best_metric={metric}"]) == 1
    error = capsys.readouterr().err.strip()
    assert re.fullmatch(f"train.py: system.best_metric = {metric}: needs .*: pip install -r .*txt", error), error
    assert not runs.exists()


def test_without_the_packages_the_rest_is_measured_and_it_is_said_once(arguments, runs, caplog):
    with caplog.at_level("INFO", logger="train"):
        assert train.main(arguments) == 0
    assert caplog.text.count("measured without jiwer, speechmos: pip install") == 1
    valid = [line for line in lines(only(runs)) if line["kind"] == "valid"]
    assert len(valid) == 2 and all({"mcd", "duration_total"} <= set(line) for line in valid)
    assert not {"cer", "dnsmos"} & set(valid[0])


@pytest.mark.usefixtures("stub_front_end")
def test_processes_share_a_validation(config, tiny, tmp_path, monkeypatch):
    """Each measures some of the clips, and all know what they are together."""
    without_judges(monkeypatch)
    config = with_keys(config, "system", validation_clips=5, sample_clips=3)
    state = build_state(config, ALONE, tiny.symbols)
    alone, shares = validation.validate(state, tiny, tmp_path), []
    for size in (2, 7):
        shares.clear()
        for rank in range(size):
            state.world = World(rank, size, torch.device("cpu"))
            monkeypatch.setattr(World, "most", lambda _, number: number)
            monkeypatch.setattr(World, "gather", lambda _, own: shares.append(own) or own or [(0, {"none": 0.0}, [])])
            validation.validate(state, tiny, tmp_path)
        assert [i for own in shares for i, *_ in own] == [i for rank in range(size) for i in range(rank, 5, size)]
        together = [clip for own in shares for clip in own]
        monkeypatch.setattr(World, "gather", lambda _, __, together=together: together)
        assert validation.validate(state, tiny, tmp_path) == alone


@pytest.mark.slow  # the compiler takes a minute
def test_a_compiled_step_is_the_same_step(config, tiny):
    batch, values = fixed_batch(tiny, config, [1, 4, 6, 9]), []
    for is_compiled in (True, False):
        state = build_state(with_keys(config, "system", compile=is_compiled), ALONE, tiny.symbols)
        names = [name for name, _ in state.model.named_parameters()]
        values.append({name: float(value) for name, value in train.train_step(state, batch).items()})
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert not any("_orig_mod" in name for name in names)


@pytest.mark.parametrize(("sounding", "reading"), [(True, True), (True, False), (False, True)])
def test_only_a_voice_is_listened_to(config, tiny, tmp_path, sounding, reading):
    state = build_state(config, ALONE, tiny.symbols)
    state.sounding, state.reading = sounding, reading
    numbers = validation.validate(state, tiny, tmp_path)
    assert ("mcd" in numbers) == (sounding and reading)
    if sounding and reading and not measures.missing_packages():
        assert 1 <= numbers["dnsmos"] <= 5 and numbers["cer"] >= 0


def test_what_is_measured_of_the_recording_itself_is_perfect(config, real_root):
    wav, _ = soundfile.read(min(real_root.glob("wavs/*.wav"), key=lambda path: path.stat().st_size), dtype="float32")
    found = measures.pooled([validation.measure_spoken(config, {"one_step": wav, "recording": wav}, "")])
    assert {name: found[name] for name in ("mcd", "voicing_error", "duration_total", "global_variance")} == {
        "mcd": 0, "voicing_error": 0, "duration_total": 1, "global_variance": 1}  # fmt: skip


def test_listening_changes_nothing_that_is_trained(arguments, runs, monkeypatch):
    projects = []
    for heard in (True, False):
        if not heard:
            monkeypatch.setattr(validation, "measure_spoken", lambda *_: {})
        assert train.main(arguments) == 0
        run = max(runs.iterdir(), key=lambda folder: folder.stat().st_mtime)
        projects.append(checkpoint.load_project(checkpoint.find(run, "project")))
    assert len(list(runs.iterdir())) == 2
    same(*projects)
