"""Lanes: processes that wait for each other, and a run of several lanes from its first clip to its voice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import text
import train
from data_util import checkpoint, measures
from data_util import config as configuration
from data_util.audio import save_wav
from data_util.config import ROOT
from data_util.lanes import run_all
from data_util.means import INDEX
from tests.conftest import StubFrontEnd, without_judges
from training import begin, lanes, validation

LENGTHS = (30, 12, 44, 25, 60, 33, 18)  # frames of clips 0, 1, ...: of four even and three odd ones
LANES = ("even", "tone", "odd", "sound", "text", "course")
SIDES = {"even": (0, 2, 4, 6), "odd": (1, 3, 5)}
TIMES = [1.0, 0.5]
STEPS = {"even": 4, "tone": 2, "odd": 4, "sound": 6, "text": 6, "course": 2}


# -- processes that wait for each other


def python(code):
    return [sys.executable, "-S", "-c", code]


def told(folder):
    """What the processes of a test wrote, by file name."""
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """run_all over processes that note when they begin, and end when n_at_once have begun; gives the notes in order."""
    monkeypatch.setattr("data_util.lanes.POLL_SECONDS", 0.005)

    def start(after, n_at_once):
        code = """
import time
def note(word):
    with open({order!r}, "a") as file: file.write(word)
note("+{name} ")
while open({order!r}).read().count("+") < {n}: time.sleep(0.01)
note("-{name} ")
"""
        order = str(tmp_path / "order")
        commands = {name: python(code.format(order=order, name=name, n=n_at_once)) for name in after}
        assert run_all(commands, after, n_at_once, 4) == 0
        return (tmp_path / "order").read_text().split()

    return start


def test_each_begins_when_those_before_it_have_ended(processes):
    order = processes({"sound": {"tone", "even"}, "voice": {"sound"}, "tone": set(), "even": set()}, 2)
    assert len(order) == 8
    for later, earlier in (("sound", "tone"), ("sound", "even"), ("voice", "sound")):
        assert order.index(f"+{later}") > order.index(f"-{earlier}")


@pytest.mark.parametrize("n_at_once", [1, 2])
def test_as_many_at_once_as_asked_for(processes, n_at_once):
    order = processes({name: set() for name in "abcd"}, n_at_once)
    running = np.cumsum([1 if word[0] == "+" else -1 for word in order])
    assert running.max() == n_at_once and running[-1] == 0 and len(order) == 8


def test_each_of_those_at_once_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    given = {}

    def noted(*arguments):
        given.update(n_at_once=arguments[2], environments=arguments[4])
        return 0

    monkeypatch.setattr(lanes, "run_all", noted)
    args = train.parse_args(["-id", "run", "--device", "cuda"])
    config = configuration.load(str(ROOT / "tests" / "tiny_lanes.yaml"))
    for visible, wanted in ((None, "012"), ("3,5,7", "357")):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert lanes.run_processes(args, config, tmp_path, 3, on_gpus=True) == 0
        assert given["environments"] == [{"CUDA_VISIBLE_DEVICES": one} for one in wanted] and given["n_at_once"] == 3
    assert lanes.lane_command(args, "text")[-2:] == ["--device", "cuda"]
    seen = str(tmp_path / "seen")
    code = f"import os; open({seen!r} + os.environ['PLACE'], 'w')"
    assert (
        run_all({name: python(code) for name in "ab"}, {"a": set(), "b": set()}, 2, 2, [{"PLACE": "0"}, {"PLACE": "1"}])
        == 0
    )
    assert {path.name for path in tmp_path.glob("seen*")} == {"seen0", "seen1"}


def test_one_at_a_time_they_keep_their_order(processes):
    assert processes({"b": set(), "a": set(), "c": {"a"}}, 1) == ["+b", "-b", "+a", "-a", "+c", "-c"]


@pytest.mark.parametrize(("end", "status"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), 9)", 137)])
def test_a_failure_ends_the_others_and_gives_its_status(tmp_path, monkeypatch, end, status):
    monkeypatch.setattr("data_util.lanes.POLL_SECONDS", 0.005)
    there = str(tmp_path / "other")
    commands = {
        "other": python(f"import os, time; open({there!r}, 'w').write(str(os.getpid()) + '.'); time.sleep(60)"),
        "bad": python(
            f"import os, sys, time\nwhile not (os.path.exists({there!r}) and open({there!r}).read()[-1:] == '.'):"
            f" time.sleep(0.01)\n{end}"
        ),
        "next": python(f"open({str(tmp_path / 'next')!r}, 'w')"),
        "after": python(f"open({str(tmp_path / 'after')!r}, 'w')"),
    }
    began = time.monotonic()
    assert run_all(commands, {"other": set(), "bad": set(), "next": set(), "after": {"bad"}}, 2, 2) == status
    assert time.monotonic() - began < 30 and set(told(tmp_path)) == {"other"}
    with pytest.raises(ProcessLookupError):
        os.kill(int(told(tmp_path)["other"][:-1]), 0)


def starter(code):
    """A process that runs another through run_all, and ends with its status."""
    call = f"run_all({{'a': {python(code)!r}}}, {{'a': set()}}, 1, 1)"
    main = f"import sys; from data_util.lanes import run_all; sys.exit({call})"
    return subprocess.Popen([sys.executable, "-c", main], cwd=ROOT)


def test_who_ends_it_ends_all(tmp_path):
    there = tmp_path / "there"
    sleeper = f"import os, time; open({str(there)!r}, 'w').write(str(os.getpid()) + '.'); time.sleep(60)"
    process = starter(sleeper)
    while not there.exists() or not there.read_text().endswith("."):
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(there.read_text()[:-1]), 0)


def test_nobody_is_left_when_the_starter_is_killed(tmp_path):
    """And those that are left to themselves get a signal that lets them save."""
    there, saved = tmp_path / "there", tmp_path / "saved"
    process = starter(f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from data_util.lanes import Stop, end_with_starter
end_with_starter()
with Stop() as stop:
    open({str(there)!r}, "w").write(str(os.getpid()) + ".")
    while not stop.signal: time.sleep(0.01)
open({str(saved)!r}, "w").write(str(stop.signal))
""")
    wait_until(lambda: there.exists() and there.read_text().endswith("."))
    process.kill()
    process.wait()
    wait_until(lambda: saved.exists() and saved.read_text() == str(int(signal.SIGTERM)))
    wait_until(lambda: not is_running(int(there.read_text()[:-1])))


def test_a_signal_is_waited_for_until_all_have_saved(tmp_path):
    there, saved = tmp_path / "there", tmp_path / "saved"
    process = starter(f"""
import signal, sys, time
def save(*_):
    time.sleep(0.5)
    open({str(saved)!r}, "w").write("all")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
open({str(there)!r}, "w").close()
time.sleep(60)
""")
    wait_until(there.exists)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 128 + signal.SIGINT and saved.read_text() == "all"


def wait_until(truth):
    deadline = time.monotonic() + 120
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(number):
    try:
        return (Path("/proc") / str(number) / "stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_they_share_the_cores_and_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr("data_util.lanes.POLL_SECONDS", 0.005)
    code = """
import os, pathlib, time
folder = pathlib.Path({!r})
(folder / {!r}).write_text(os.environ["OMP_NUM_THREADS"] + " " + os.environ["TQDM_POSITION"] + " " + os.environ["HOME"])
while len(list(folder.iterdir())) < 2: time.sleep(0.01)
"""
    monkeypatch.setenv("HOME", "kept")
    for n_cores, threads in ((5, "2"), (1, "1")):
        folder = tmp_path / threads
        folder.mkdir()
        commands = {name: python(code.format(str(folder), name)) for name in "ab"}
        assert run_all(commands, {"a": set(), "b": set()}, 2, n_cores) == 0
        assert told(folder) == {"a": f"{threads} 0 kept", "b": f"{threads} 1 kept"}


# -- a run of several lanes


@pytest.fixture(scope="module")
def corpus_root(tmp_path_factory):
    """Clips of voiced sound and of noise, one after the other in each, and of letters."""
    root, random = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    lines = []
    for i, n_frames in enumerate(LENGTHS):
        time_s = np.arange(256 * n_frames) / 22050
        voice = sum(np.cos(2 * np.pi * (110 + 15 * i) * k * time_s) / k for k in range(1, 20))
        wav = np.where(time_s < 0.7 * time_s[-1], 0.1 * voice, 0.05 * random.standard_normal(len(time_s)))
        save_wav(root / "wavs" / f"clip-{i}.wav", wav, 22050)
        lines.append(f"clip-{i}.wav|{'abcdefghij'[i : i + 4]}\n")
    (root / "train.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def arguments(corpus_root, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    metafiles = [f"dataset.metafile_{name}={corpus_root / 'train.txt'}" for name in ("train", "valid", "test")]
    overlay = str(ROOT / "tests" / "tiny_lanes.yaml")
    return ["-c", overlay, f"dataset.prtpath={corpus_root}", f"dataset.cache={cache}", *metafiles]


class Watch:
    """What was trained on: by lane, in the order of the steps; the generator that each lane began with, and the clips
    on which its text side was solved for, None where it was not."""

    def __init__(self, patch):
        self.lane, self.batches, self.generators, self.solved, solved = "", {}, {}, {}, []
        train_lane, step, solve = train.train, train.train_step, begin.solve_mean

        def spied_solve(config, model, corpus, keeps):
            solved.append({int(clip.id.removeprefix("clip-").removesuffix(".wav")) for clip in corpus.clips})
            return solve(config, model, corpus, keeps)

        def spied_train(state, data, folder, *rest):
            self.lane = folder.name
            self.solved[self.lane] = solved.pop() if solved else None
            self.generators[self.lane] = weights(state.model.state_dict(), "generator")
            return train_lane(state, data, folder, *rest)

        def spied_step(state, batch):
            self.batches.setdefault(self.lane, []).append(batch)
            return step(state, batch)

        patch.setattr(begin, "solve_mean", spied_solve)
        patch.setattr(train, "train", spied_train)
        patch.setattr(train, "train_step", spied_step)

    def clips(self, lane):
        return {int(name.removeprefix("clip-")) for batch in self.batches[lane] for name in batch.ids}


def without_pictures(patch):
    """Empty files instead, since drawing takes longer than these lanes."""
    for name in ("save_validation", "save_curves"):
        patch.setattr(validation, name, lambda path, *_: path.touch())


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """A finished run whose lanes were trained in a row, and the Watch over it."""
    runs = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "FrontEnd", StubFrontEnd)
        patch.setattr(checkpoint, "RUNS", runs)
        without_pictures(patch)
        without_judges(patch)
        watch = Watch(patch)
        assert train.main(arguments) == 0
    (run,) = runs.iterdir()
    return run, watch


@pytest.fixture
def again(whole, tmp_path, monkeypatch):
    """A copy of the finished run, to go on with."""
    monkeypatch.setattr(text, "FrontEnd", StubFrontEnd)
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    without_pictures(monkeypatch)
    without_judges(monkeypatch)
    shutil.copytree(whole[0], tmp_path / whole[0].name)
    return tmp_path / whole[0].name


def weights(state_dict, part):
    return {name: value.clone() for name, value in state_dict.items() if name.startswith(f"{part}.")}


def project_of(run, lane, step=None):
    return checkpoint.load_project(checkpoint.find(run / lane, "project", step))


def voice_of(run):
    return safetensors.torch.load_file(checkpoint.find(run, "voice"))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(value, b[name]) for name, value in a.items())


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def forget(run, *lanes):
    """As if these lanes and the voice had never been."""
    for lane in lanes:
        shutil.rmtree(run / lane)
    for path in (*run.glob("voice_*"), run / "log.jsonl"):
        path.unlink()


def test_what_is_written_where(whole, arguments):
    run, _ = whole
    assert configuration.load(run / "config.yaml") == configuration.load(arguments[1], arguments[2:])
    assert {path.name for path in run.iterdir()} == {
        *LANES, "config.yaml", "run.json", "skipped.txt", "log.jsonl", "curves.png", "samples",
        "voice_00000008.json", "voice_00000008.safetensors"}  # fmt: skip
    assert [line["step"] for line in log_of(run)] == [8] and log_of(run)[0]["kind"] == "valid"
    for lane, last in STEPS.items():
        there = {path.name for path in (run / lane).iterdir()} - {"means"}
        projects = {f"project_{step:08d}.pt" for step in (last - 2, last) if step > 0}
        assert there == {"config.yaml", "skipped.txt", "log.jsonl", "curves.png", "samples", *projects}, lane
        assert (run / lane / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
        assert log_of(run / lane)[-1]["step"] == last
        assert (run / lane / "means").exists() == (lane in SIDES)
    samples = {lane: {path.name for path in (run / lane / "samples").glob("*/*")} for lane in (*LANES, ".")}
    silent = {"clip-0.png", "clip-0_recording.wav"}
    assert samples["even"] == samples["odd"] == samples["text"] == samples["course"] == silent
    assert samples["tone"] == samples["sound"] == silent | {"clip-0_copy.wav"}
    assert samples["."] == silent | {"clip-0_copy.wav", "clip-0_one_step.wav"}


def test_each_lane_measures_what_it_has(whole):
    run, _ = whole
    values = {lane: set(log_of(run / lane)[-1]) - {"step", "kind"} for lane in (*LANES, ".")}
    assert values["tone"] == values["sound"] == {"copy_mel_l1"}
    assert {"loss_prior", "loss_frame", "latent_l1"} <= values["even"] & values["odd"]
    assert "copy_mel_l1" not in values["even"] | values["text"] and values["course"] == values["text"]
    heard = values["."] & {*measures.WATCHED}  # only where both sides are there is there a voice
    assert {"mcd", "duration_total"} <= heard
    assert values["."] == values["text"] | {"copy_mel_l1"} | heard and "loss_voicing" in values["."]


def test_the_voice_has_each_part_from_the_last_lane_that_trained_it(whole):
    run, _ = whole
    voice, text_side = voice_of(run), project_of(run, "text")["ema"]
    assert same(weights(voice, "generator"), weights(project_of(run, "sound")["ema"], "generator"))
    for part in ("text_encoder", "frame_encoder", "variance", "decoder"):
        assert weights(voice, part) and same(weights(voice, part), weights(text_side, part)), part
    assert same(weights(voice, "course"), weights(project_of(run, "course")["ema"], "course"))
    assert not same(weights(voice, "course"), weights(text_side, "course"))
    assert torch.equal(voice["logw_variance"], text_side["logw_variance"]) and voice["logw_variance"] > 0
    for lane, part in (("tone", "generator"), ("odd", "decoder"), ("odd", "text_encoder"), ("sound", "text_encoder")):
        assert not same(weights(voice, part), weights(project_of(run, lane)["ema"], part)), (lane, part)
    loaded = checkpoint.load_voice(checkpoint.find(run, "voice"))
    assert loaded.step == 8 and loaded.config == configuration.load(run / "config.yaml")


def test_lanes_begin_with_the_weights_they_are_told_to(whole):
    run, watch = whole
    tone = project_of(run, "tone")
    assert same(watch.generators["sound"], weights(tone["model"], "generator"))
    assert not same(watch.generators["tone"], watch.generators["sound"])
    for lane in ("even", "odd", "text"):  # which nobody told to: as the seed has it
        assert same(watch.generators[lane], watch.generators["tone"])


def test_a_half_never_sees_the_other_one(whole):
    _, watch = whole
    for lane, clips in SIDES.items():
        assert watch.clips(lane) and watch.clips(lane) <= set(clips), lane
        assert len(watch.batches[lane]) == STEPS[lane]
    for lane in ("sound", "text"):
        assert watch.clips(lane) & set(SIDES["even"]) and watch.clips(lane) & set(SIDES["odd"]), lane


def test_text_sides_begin_with_what_their_own_clips_say(whole):
    _, watch = whole
    halves = {lane: set(SIDES[lane]) for lane in ("even", "odd")}
    others = {"text": set(range(len(LENGTHS))), "tone": None, "sound": None, "course": None}
    assert watch.solved == halves | others


def test_a_half_writes_the_means_of_the_other_one(whole):
    run, _ = whole
    for lane, other in (("even", "odd"), ("odd", "even")):
        folder = run / lane / "means"
        about = json.loads((folder / INDEX).read_text())
        assert about["indices"] == list(SIDES[other]) and about["times"] == TIMES
        assert {path.name for path in folder.iterdir()} == {INDEX, *(f"{i:06d}.npy" for i in SIDES[other])}
        for i in SIDES[other]:
            mean = np.load(folder / f"{i:06d}.npy")
            assert mean.shape == (2, 80, LENGTHS[i]) and np.isfinite(mean).all()


def test_the_generator_reads_the_means_of_the_half_that_has_not_seen_the_clip(whole):
    run, watch = whole
    times = set()
    for batch in watch.batches["sound"]:
        for place, name in enumerate(batch.ids):
            i, t = int(name.removeprefix("clip-")), float(batch.latent_t[place])
            lane = "odd" if i % 2 == 0 else "even"
            mean = np.load(run / lane / "means" / f"{i:06d}.npy")[TIMES.index(t)]
            start = int(batch.cut_starts[place] + batch.segment_starts[place])
            length = int(batch.segment_lengths[place])
            assert np.array_equal(batch.latent[place, :, :length].numpy(), mean[:, start : start + length])
            times.add(t)
    assert times == set(TIMES)
    assert all(batch.latent.shape[-1] == 0 for lane in LANES if lane != "sound" for batch in watch.batches[lane])


def test_a_lane_that_has_both_sides_writes_voices_too(again):
    """As where it starts from all the others to train them jointly: its voices say the run's configuration."""
    lanes = configuration.to_dict(configuration.load(again / "config.yaml"))["training"]["lanes"]
    lanes["text"]["start"] = ["sound"]
    forget(again, "text")
    assert train.main(["-id", again.name, f"training.lanes={json.dumps(lanes)}"]) == 0
    (voice,) = (again / "text").glob("voice_*.safetensors")
    loaded = checkpoint.load_voice(voice)
    assert loaded.config == configuration.load(again / "config.yaml")
    assert same(loaded.weights, project_of(again, "text")["ema"])
    assert [path.name for path in (again / "text" / "samples").glob("*/*one_step.wav")] == ["clip-0_one_step.wav"]


def test_a_finished_run_is_not_trained_again(again, monkeypatch):
    before = {path: path.read_bytes() for path in again.rglob("*") if path.is_file()}
    monkeypatch.setattr(train, "train_step", None)
    monkeypatch.setattr(validation, "validate", None)
    assert train.main(["-id", again.name]) == 0
    assert {path: path.read_bytes() for path in again.rglob("*") if path.is_file()} == before


def test_a_voice_that_is_gone_is_written_again(again, monkeypatch):
    before, log = checkpoint.find(again, "voice").read_bytes(), log_of(again)
    checkpoint.find(again, "voice").unlink()
    monkeypatch.setattr(train, "train_step", None)
    monkeypatch.setattr(validation, "validate", None)
    assert train.main(["-id", again.name]) == 0
    assert checkpoint.find(again, "voice").read_bytes() == before and log_of(again) == log


def test_lanes_that_have_not_begun_keep_the_precision(again):
    forget(again, "text")
    (again / "run.json").write_text('{"amp": true}')
    assert train.main(["-id", again.name, "-lane", "text"]) == 0
    assert project_of(again, "text")["amp"] is True and project_of(again, "tone")["amp"] is False


def test_means_that_are_gone_are_written_again(again, monkeypatch):
    folder = again / "odd" / "means"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    monkeypatch.setattr(train, "train_step", None)
    assert train.main(["-id", again.name]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_only_what_is_missing_is_trained(again, whole, monkeypatch):
    forget(again, "sound")
    watch = Watch(monkeypatch)
    assert train.main(["-id", again.name]) == 0
    assert set(watch.batches) == {"sound"} and len(watch.batches["sound"]) == STEPS["sound"]
    assert same(voice_of(again), voice_of(whole[0]))


def test_a_lane_goes_on_where_it_was_interrupted(again, whole, monkeypatch, capsys):
    forget(again, "sound", "text")
    with monkeypatch.context() as patch:
        step = train.train_step

        def interrupted(state, batch):
            if state.step == 3:
                raise KeyboardInterrupt
            return step(state, batch)

        patch.setattr(train, "train_step", interrupted)
        assert train.main(["-id", again.name]) == 130
    assert "-id goes on" in capsys.readouterr().err
    assert checkpoint.steps(again / "sound", "project") == [2] and not (again / "text").exists()
    watch = Watch(monkeypatch)
    assert train.main(["-id", again.name]) == 0
    assert len(watch.batches["sound"]) == 4 and len(watch.batches["text"]) == 6
    assert same(voice_of(again), voice_of(whole[0]))
    assert log_of(again / "sound") == log_of(whole[0] / "sound")


def test_one_lane_alone(again, whole, monkeypatch):
    forget(again, "sound", "text")
    watch = Watch(monkeypatch)
    assert train.main(["-id", again.name, "-lane", "sound"]) == 0
    assert set(watch.batches) == {"sound"} and not list(again.glob("voice_*"))
    assert same(project_of(again, "sound")["ema"], project_of(whole[0], "sound")["ema"])


def test_one_lane_from_an_earlier_step(again, whole, monkeypatch):
    watch = Watch(monkeypatch)
    assert train.main(["-id", again.name, "-lane", "sound", "-ckpt", "4"]) == 0
    assert len(watch.batches["sound"]) == 2 and (again / "sound" / "abandoned" / "project_00000006.pt").exists()
    assert same(project_of(again, "sound")["ema"], project_of(whole[0], "sound")["ema"])


def test_means_follow_the_lane_that_is_trained_on(again):
    before = (again / "even" / "means" / "000001.npy").read_bytes()
    assert train.main(["-id", again.name, "-lane", "even", "training.train_num_steps=12"]) == 0
    assert checkpoint.steps(again / "even", "project")[-1] == 6
    assert (again / "even" / "means" / "000001.npy").read_bytes() != before


@pytest.mark.parametrize(("patience", "last"), [(1, 4), (5, 6)])
def test_the_voice_has_the_best_weights_of_the_variance_part(again, monkeypatch, patience, last):
    """Its held-out loss rises from step 2 on, and it stops, or comes to its end."""
    validate, averages = validation.validate, {}

    def scripted(state, *rest):
        averages[state.step] = weights(state.ema.state_dict(), "variance")
        return validate(state, *rest) | {"loss_variance": float(state.step), "loss_f0": 0.0, "loss_voicing": 0.0}

    monkeypatch.setattr(validation, "validate", scripted)
    forget(again, "text")
    assert train.main(["-id", again.name, "system.validation_step=2", f"variance.patience={patience}"]) == 0
    assert same(weights(voice_of(again), "variance"), averages[2])
    assert not same(averages[2], averages[last])
    stopped = [line["step"] for line in log_of(again / "text") if line["kind"] == "train" and "loss_f0" in line]
    assert stopped == list(range(2, last + 1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["-lane", "nobody"], "-lane nobody: must be one of even, tone, odd, sound, text, course"),
        (["-ckpt", "2"], "-ckpt STEP of a run of several lanes needs -lane NAME"),
        (["-lane", "sound", "-ckpt", "3"], "has no project of step 3 (there are: 4, 6)"),
        (["training.mean_times=[1.0, 0.25]"], "not the posterior means of these clips at training.mean_times"),
        (["-lane", "text", "decoder.kind=unet2d"], "does not fit"),
        (["latent.kind=pca"], "latent.kind = pca: must be normalised, as run"),
        (["sde.parametrisation=z0"], "sde.parametrisation = z0: must be edm, as run"),
    ],
)
def test_what_cannot_be_resumed_is_a_line(again, capsys, change, message):
    assert train.main(["-id", again.name, *change]) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_lane_before_those_that_it_needs_is_a_line(again, capsys):
    forget(again, "sound", "even")
    assert train.main(["-id", again.name, "-lane", "sound"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "even/means: not the posterior means" in error
    shutil.rmtree(again / "tone")
    assert train.main(["-id", again.name, "-lane", "sound"]) == 1
    assert "no run tone" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (again / "sound").exists()


def test_lane_names_a_lane_of_a_run(again, capsys):
    for arguments, message in ((["-lane", "even"], "-lane NAME needs -id ID"), (["-ckpt", "2"], "-ckpt STEP needs")):
        with pytest.raises(SystemExit):
            train.main(arguments)
        assert message in capsys.readouterr().err
    assert train.main(["-id", "nobody", "-lane", "even"]) == 1
    assert "no run nobody" in capsys.readouterr().err
    single = ["training.lanes={text: {clips: all, start: [], means: []}}",
              "training.stages=[{lane: text, parts: {text_encoder: 1.e-3}, latents: joint, share: 1, final: 1, "
              "mu_gradient: true, feature_gradient: off}]", "variance.course_layers=0"]  # fmt: skip
    assert train.main(["-id", again.name, "-lane", "text", *single]) == 1
    assert "-lane text: the run has a single one" in capsys.readouterr().err


def test_lanes_in_processes_give_the_same_voice_even_if_one_is_killed(again, whole):
    """Two at once, of those that are still to do; sound dies after its third step, as if killed for want of memory."""
    forget(again, "even", "sound", "text")

    def start(argv, **environment):
        command = [sys.executable, "-m", "tests.child", "lanes", str(again.parent), "-id", again.name, *argv]
        return subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, timeout=900,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip

    done = start(["training.processes=2"], KILL_LANE_AT="sound 3")
    assert done.returncode == 128 + signal.SIGKILL, done.stdout
    assert checkpoint.steps(again / "sound", "project") == [2] and not list(again.glob("voice_*"))
    done = start([])
    assert done.returncode == 0, done.stdout
    assert same(voice_of(again), voice_of(whole[0]))
    assert log_of(again) == log_of(whole[0])
    for lane in LANES:
        assert log_of(again / lane) == log_of(whole[0] / lane), lane
        assert checkpoint.steps(again / lane, "project")[-1] == STEPS[lane]
