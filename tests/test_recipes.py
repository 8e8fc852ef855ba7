"""recipes/*.sh: the order, the signals and the failures of their steps, told by a stub; and one recipe trained."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

import train
from data_util import config as configuration
from data_util import gta
from data_util.audio import save_wav
from data_util.config import PARTS, ROOT
from evaluation import held_out
from model.alignment import length_regulate
from model.nisets import NiSETS
from model.prosody import pitch_and_energy
from runtime.files import read_json, write_json
from tests.conftest import corpus_keys, quick_runs
from tests.runs import ALONE, load, spy
from training import checkpoint, extract, failures, initialise
from training import data as training_data
from training.fine_tuning import parse_start

# a step of a recipe: it notes its begin and its end, and meanwhile does what the environment's ACTIONS says of its name
STUB = f"""#!{sys.executable} -SE
import json, os, signal, sys, time

args, environ = sys.argv[1:], os.environ
if "--count" in args:  # of the processes of a step, which run.sh asks for first
    sys.exit(print(1))
if args[0].endswith("train.py"):
    step = args[args.index("-name") + 1].partition("/")[2] or "voice"
elif args[:2] == ["-m", "training.extract"]:
    step = args[2].partition("/")[2] + "/gta"
else:
    sys.exit(print(environ["CORES"]) if "n_cpus" in args[1] else 0)
action = json.loads(environ["ACTIONS"]).get(step)

def note(event):
    about = {{name: environ.get(name) for name in ("OMP_NUM_THREADS", "TQDM_POSITION", "TRAIN_STARTER",
                                                      "CUDA_VISIBLE_DEVICES")}}
    with open(environ["NOTES"], "a") as file:
        file.write(json.dumps(about | dict(event=event, step=step, args=args)) + "\\n")

def save(*_):
    time.sleep(0.3)
    note("saved")
    os._exit(0 if action == "finish" else 143)  # an exception is lost where a file is being closed as garbage

for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, save)
note("begin")
deadline = time.monotonic() + 60
while action is not None and open(environ["NOTES"]).read().count('"begin"') < 2:  # of two that run side by side
    assert time.monotonic() < deadline
while action in ("hold", "finish"):
    assert time.monotonic() < deadline
    try:
        os.kill(int(environ["TRAIN_STARTER"]), 0)
    except OSError:
        save()
    time.sleep(0.01)
if isinstance(action, int):
    sys.exit(action) if action >= 0 else os.kill(os.getpid(), -action)
note("end")
"""
SIDE_BY_SIDE = {"small": ("fold_even", "fold_odd"), "demo": ("acoustic_model", "vocoder_pretraining")}
OF_THE_TEST = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
TWO_GPUS = "GPU 0: card (UUID: GPU-a)\nGPU 1: card (UUID: GPU-b)"
LENGTHS = (30, 60, 44, 25, 12, 33, 18)  # frames of clips 0, 1, ...: of four even and three odd ones
FOLDS = {"even": [0, 2, 4, 6], "odd": [1, 3, 5]}
TIMES = [1.0, 0.48, 0.1]
SPOKEN = set(PARTS) - {"discriminators"}
TEXT_SIDE = {"text_encoder", "prosody", "decoder"}


class Project:
    """A copy of the scripts whose Python is STUB."""

    def __init__(self, root):
        self.root, self.notes, bin_folder = root, root / "notes", root / "environment" / "bin"
        for name in ("run.sh", "setup.sh", "requirements.txt", "recipes", "configs"):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, root / name)
        bin_folder.mkdir(parents=True)
        for name, content in (("python", STUB), ("nvidia-smi", '#!/bin/sh\ntest -n "$GPU" && echo "$GPU"\n')):
            (bin_folder / name).write_text(content)
            (bin_folder / name).chmod(0o755)
        inherited = {name: value for name, value in os.environ.items() if name not in OF_THE_TEST}
        self.environment = inherited | {"NOTES": str(self.notes), "VIRTUAL_ENV": str(bin_folder.parent),
                                        "PATH": f"{bin_folder}:{os.environ['PATH']}"}  # fmt: skip

    def start(self, *arguments, cores=2, actions=(), cwd=ROOT, **variables):
        self.notes.write_text("")
        environment = self.environment | variables | {"CORES": str(cores), "ACTIONS": json.dumps(dict(actions))}
        command = ["env", "--default-signal=INT", "bash", str(self.root / "run.sh"), *arguments]
        return subprocess.Popen(command, env=environment, cwd=cwd, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments, **keys):
        """The exit status, and what it says but of setting up."""
        process = self.start(*arguments, **keys)
        _, error = process.communicate(timeout=60)
        return process.returncode, [line for line in error.splitlines() if not line.startswith("set-up: installing")]

    def start_two(self):
        """With two steps under way that hold."""
        process = self.start("-c", "small", actions=dict.fromkeys(SIDE_BY_SIDE["small"], "hold"))
        deadline = time.monotonic() + 60
        while len(self.told("begin")) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    def told(self, *events):
        lines = [json.loads(line) for line in self.notes.read_text().splitlines()]
        return [line for line in lines if not events or line["event"] in events]

    def names(self, event):
        return [line["step"] for line in self.told(event)]

    def trained(self):
        """The arguments of the steps that train, by step."""
        return {line["step"]: line["args"][1:] for line in self.told("begin") if line["args"][0] != "-m"}


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


# -- the steps


def read_by(line):
    """The steps whose results a step reads, by its arguments."""
    if line["step"].endswith("/gta"):
        return {line["args"][2].partition("/")[2]}
    args = train.parse_args(line["args"][1:])
    folders = [one for one in args.overrides if one.startswith("training.gta_folders=")]
    latents = {name for name in ("fold_even/gta", "fold_odd/gta") if name in str(folders)}
    return latents | {parse_start(start)[1].partition("/")[2] for start in args.start or ()}


@pytest.mark.parametrize(
    ("recipe", "cores", "variables", "more", "at_once", "threads"),
    [
        ("small", 5, {}, (), 2, "2"),
        ("small", 1, {}, (), 1, None),
        ("demo", 4, {"GPU": TWO_GPUS, "CUDA_VISIBLE_DEVICES": "1"}, (), 1, None),
        ("demo", 5, {"GPU": TWO_GPUS}, (), 2, "2"),
        ("small", 1, {"GPU": TWO_GPUS}, (), 2, "1"),
        ("demo", 3, {"GPU": TWO_GPUS}, ("--device=cpu",), 2, "1"),
        ("demo", 3, {"GPU": TWO_GPUS, "CUDA_VISIBLE_DEVICES": "-1"}, (), 2, "1"),
    ],
)
def test_steps_come_after_what_they_read_and_share_the_cores(project, recipe, cores, variables, more, at_once, threads):
    meeting = dict.fromkeys(SIDE_BY_SIDE[recipe] if at_once == 2 else (), "meet")
    assert project.run("-c", recipe, *more, actions=meeting, cores=cores, **variables)[0] == 0
    ended, running, most = set(), 0, 0
    for line in project.told():
        running += 1 if line["event"] == "begin" else -1
        most = max(most, running)
        if line["event"] == "end":
            ended.add(line["step"])
        else:
            assert read_by(line) <= ended, line
        is_alone = line["step"] == "voice" or (recipe, line["step"]) == ("demo", "vocoder")
        assert line["OMP_NUM_THREADS"] == (None if is_alone else threads)
    assert most == at_once and len(ended) == len(project.names("begin")) == {"small": 8, "demo": 4}[recipe]
    assert project.names("begin")[-1] == "voice"
    assert {line["TQDM_POSITION"] for line in project.told()} == ({None, "0", "1"} if at_once == 2 else {None})
    gpus = {line["TQDM_POSITION"] or "0": line["CUDA_VISIBLE_DEVICES"] for line in project.told()}
    hidden = "" if more else variables.get("CUDA_VISIBLE_DEVICES")
    if "GPU" not in variables or hidden in ("", "-1"):  # by what every step is told, training.extract among them
        assert set(gpus.values()) == {hidden}
    else:
        assert gpus == ({"0": "0", "1": "1"} if at_once == 2 else {"0": variables.get("CUDA_VISIBLE_DEVICES", "0")})


@pytest.mark.parametrize("overlays", [("small", "16khz"), ("small", "small-gpu"), ("demo",)])
def test_every_step_is_a_configuration_that_trains_what_the_voice_takes(project, overlays):
    """The user's arguments lie over the steps' own, but for those of a voice that is only put together."""
    given, n_steps = [word for name in overlays for word in ("-c", name)], "training.train_num_steps=7"
    assert project.run(*given, "-name=mine", n_steps, "-a", "true", cores=1)[0] == 0
    has = {}
    for step, words in project.trained().items():
        args = train.parse_args(words)
        starts = [parse_start(start) for start in args.start or ()]
        entries = f"fine_tuning.start={json.dumps([name for _, name in starts])}"
        config = configuration.load(args.c, [*args.overrides, entries])
        assert (args.c, args.a, args.name) == ([*overlays], "true", "mine" if step == "voice" else f"mine/{step}")
        assert config.training.train_num_steps == (0 if step == "voice" else 7)
        stages = config.training.stages if step != "voice" else ()
        has[step] = {part for stage in stages for part in stage.parts}
        if (overlays[0], step) == ("small", "vocoder"):
            learnt = [(stage.latents, set(stage.parts)) for stage in stages]
            assert learnt == [("true", {"generator"}), ("gta", {"generator", "discriminators"})]
        for parts, name in starts:
            assert set(parts) <= has[name.removeprefix("mine/")]
            has[step] |= set(parts)
    assert has["voice"] >= SPOKEN - (set() if config.has_f0_residual else {"f0_residual"})


@pytest.mark.parametrize(("step", "action", "status"), [(0, 3, 3), (1, -signal.SIGKILL, 137)])
def test_a_step_that_fails_ends_the_others_and_gives_its_status(project, step, action, status):
    failing, other = SIDE_BY_SIDE["small"][step], SIDE_BY_SIDE["small"][1 - step]
    assert project.run("-c", "small", actions={failing: action, other: "hold"})[0] == status
    assert len(project.told("begin")) == 2 and project.names("saved") == [other]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_reaches_every_step_and_waits_until_they_have_saved(project, number, status):
    process = project.start_two()
    process.send_signal(number)
    assert process.wait(timeout=60) == status and sorted(project.names("saved")) == sorted(SIDE_BY_SIDE["small"])
    process.communicate(timeout=60)  # whoever is left has its standard error open
    assert len(project.told("begin")) == 2


def test_no_step_begins_after_a_signal_that_another_has_ended_with_all_the_same(project):
    actions = {"fold_even": "finish", "fold_odd": 3}
    assert project.run("-c", "small", actions=actions)[0] == 3
    assert project.names("saved") == ["fold_even"] and len(project.told("begin")) == 2


def test_nothing_is_left_of_a_recipe_that_is_killed(project):
    process = project.start_two()
    assert {line["TRAIN_STARTER"] for line in project.told()} == {str(process.pid)}
    process.kill()
    process.wait()
    process.communicate(timeout=60)
    assert len(project.told("saved")) == 2 and len(project.told("begin")) == 2


def test_a_voice_goes_on_with_the_arguments_that_it_was_begun_with(project):
    begun = ("-c", "demo", "-c", "24khz", "text.lexicon=my words.txt", "-name", "mine")
    assert project.run(*begun, actions={"vocoder_pretraining": 3}, cores=1)[0] == 3
    before = project.trained()
    assert project.run("-id", "mine", cores=1)[0] == 0 and project.trained().items() > before.items()
    assert project.run(*begun, cores=1)[0] == 0 and len(project.trained()) == 4
    status, said = project.run("-c", "demo", "-name", "mine")
    assert status == 1 and not project.told() and len(said) == 1
    assert "checkpoint/mine was begun with other arguments (-c demo -c 24khz text.lexicon=my words.txt" in said[0]


def test_a_configuration_is_looked_for_where_the_user_stands(project):
    """Not where the steps run; its voice is called as its folder. -id goes on from any other folder."""
    there = project.root / "there"
    (there / "ann: one").mkdir(parents=True)
    (there / "ann: one" / "voice.yaml").write_text("speakers: {names: [ann]}")
    given = ("-c=small", "-c", "./voice.yaml")
    assert project.run(*given, actions={"fold_odd": 3}, cores=1, cwd=there / "ann: one")[0] == 3
    before, folder = project.trained(), project.root / "checkpoint" / "ann: one"
    assert project.run("-id", "ann: one", cores=1, cwd=there)[0] == 0 and project.trained().items() > before.items()
    for words in project.trained().values():
        args = train.parse_args(words)
        assert args.c[0] == "small" and os.path.samefile(args.c[1], there / "ann: one" / "voice.yaml")
        config = configuration.load(args.c, [*args.overrides, f"fine_tuning.start={args.start or []}"])
        assert all(name.startswith(f"checkpoint/{folder.name}/fold_") for name in config.training.gta_folders)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("file", ["project_00000002.pt", "voice_00000000.safetensors"])
def test_a_recipe_leaves_another_run_and_a_voice_alone(project, file):
    folder = project.root / "checkpoint" / "mine"
    folder.mkdir(parents=True)
    (folder / file).touch()
    status, said = project.run("-c", "small", "-name", "mine")
    assert status == 1 and said == ["recipe: checkpoint/mine is another run or voice: name this one with -name"]
    assert not project.told() and [path.name for path in folder.iterdir()] == [file]


def test_a_recipe_goes_on_without_other_arguments_alone(project):
    assert project.run("-c", "demo", "-name", "mine", actions={"vocoder_pretraining": 3}, cores=1)[0] == 3
    status, said = project.run("-id", "mine", "--device", "cpu")
    assert status == 1 and not project.told() and len(said) == 1
    assert "a recipe goes on as it was begun: bash run.sh -id mine, without other arguments" in said[0]


@pytest.mark.parametrize("arguments", [("-c", "light"), ("-c", "small", "-from", "another"), ("-id", "off_1")])
def test_other_runs_have_no_recipe(project, arguments):
    assert project.run(*arguments, "-name", "x/y")[0] == 0
    assert project.trained() == {"y": [*arguments, "-name", "x/y"]} and not (project.root / "checkpoint").exists()


# -- one at a time


def test_a_run_prepares_when_no_other_process_does(tiny_config, monkeypatch):
    """Also where the other is killed."""
    code = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path; from runtime.files import one_at_a_time
with one_at_a_time(Path({tiny_config.dataset.cache!r})):
    print("inside", flush=True); sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"inside\n"
    read, arguments = threading.Event(), (tiny_config, ALONE)
    monkeypatch.setattr(training_data, "read_data", lambda *_, **__: read.set())
    thread = threading.Thread(target=training_data.prepare_data, args=arguments)
    thread.start()
    assert not read.wait(0.3)
    other.kill()
    other.communicate()
    assert read.wait(60)
    thread.join()


# -- the recipe small, trained


@pytest.fixture(scope="module")
def corpus_root(tmp_path_factory):
    """Clips of voiced sound and of noise, one after the other in each, and of letters."""
    root, random, lines = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0), []
    for i, n_frames in enumerate(LENGTHS):
        seconds = np.arange(256 * n_frames) / 22050
        voice = sum(np.cos(2 * np.pi * (110 + 15 * i) * k * seconds) / k for k in range(1, 20))
        wav = np.where(seconds < 0.7 * seconds[-1], 0.1 * voice, 0.05 * random.standard_normal(len(seconds)))
        save_wav(root / "wavs" / f"clip-{i}.wav", wav, 22050)
        lines.append(f"clip-{i}.wav|{'abcdefghij'[i : i + 4]}\n")
    (root / "train.txt").write_text("".join(lines))
    (root / "shorter.txt").write_text("".join(lines[:-1]))
    return root


class Watch:
    """By run: its batches, the weights before the first, raw and averaged, and on which clips mu was solved for."""

    def __init__(self, patch):
        self.batches, self.begun, self.solved = {}, {}, {}
        solved = []

        def solve(_, __, corpus, *___, **____):
            solved.extend(int(clip.id[-1]) for clip in corpus.clips)

        def begin(state, _, run):
            self.name = run.folder.name
            self.solved[self.name], solved[:] = solved[:], []
            self.begun[self.name] = checkpoint.to_host([state.model.state_dict(), state.ema.state_dict()])

        spy(patch, initialise, "solve_mean", solve)
        spy(patch, train, "train", begin)
        spy(patch, train, "train_step", lambda _, *batches: self.batches.setdefault(self.name, []).extend(batches))


@pytest.fixture(scope="module")
def whole(corpus_root, tmp_path_factory):
    """The steps of recipes/small.sh, trained here one after another: the voice's folder, the Watch, the commands."""
    project, root, commands = Project(tmp_path_factory.mktemp("stub")), tmp_path_factory.mktemp("whole"), {}
    tiny = [word for name in ("tiny", "tiny_frames") for word in ("-c", str(ROOT / "tests" / f"{name}.yaml"))]
    given = corpus_keys(corpus_root, tmp_path_factory.mktemp("cache"))
    given += ["prosody.residual_layers=1", "training.train_num_steps=4"]
    assert project.run("-c", "small", *given, cores=1)[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        quick_runs(patch, root)
        watch = Watch(patch)
        for line in project.told("begin"):
            main, args = (extract.main, line["args"][2:]) if line["args"][0] == "-m" else (train.main, line["args"][1:])
            if main == train.main:
                at = args.index("-c")
                args[at : at + 2] = tiny
            commands[line["step"]] = args
            assert main(args) == 0, line
    return root / "checkpoint" / "small", watch, commands


@pytest.fixture
def here(whole, tmp_path, monkeypatch):
    """A copy of the trained voice, to go on with."""
    quick_runs(monkeypatch, tmp_path)
    shutil.copytree(whole[0], tmp_path / "checkpoint" / "small")
    return tmp_path / "checkpoint" / "small"


def model_of(ckpt):
    model = NiSETS(configuration.from_dict(ckpt["config"]), len(ckpt["symbols"]))
    model.load_state_dict(ckpt["ema"])
    return model.eval()


def same_parts(model, weights, others):
    """Of the parts of a model, those whose weights are the same in two state dicts."""
    differ = {model.part_of(name) for name, value in weights.items() if not torch.equal(value, others[name])}
    return SPOKEN - differ


def test_a_fold_never_sees_the_other_one(whole):
    watch, everything = whole[1], list(range(len(LENGTHS)))
    seen = {name: {int(one[-1]) for batch in batches for one in batch.ids} for name, batches in watch.batches.items()}
    assert {len(batches) for batches in watch.batches.values()} == {4} and len(seen) == 5
    assert seen["fold_even"] <= set(FOLDS["even"]) and seen["fold_odd"] <= set(FOLDS["odd"])
    for name in ("vocoder", "acoustic_model"):
        assert seen[name] & set(FOLDS["even"]) and seen[name] & set(FOLDS["odd"])
    assert {name: clips for name, clips in watch.solved.items() if clips} == {
        "fold_even": FOLDS["even"], "fold_odd": FOLDS["odd"], "acoustic_model": everything}  # fmt: skip


@torch.no_grad()
def mean_along(model, clip, durations):
    """mu of each symbol, told pitch and energy along durations."""
    x, mel, f0 = clip
    values = pitch_and_energy(model.normalised(mel), model.normalised_f0(f0), durations)
    return model.encode_text(x, torch.ones_like(x[:, None], dtype=mel.dtype), values)[0]


@pytest.mark.parametrize(("fold", "other"), [("even", "odd"), ("odd", "even")])
def test_a_fold_writes_the_teacher_forced_latents_of_the_other_one(here, fold, other):
    folder, model = here / f"fold_{fold}" / "gta", model_of(load(here / f"fold_{fold}"))
    index = read_json(folder / gta.INDEX)
    assert (index["indices"], index["times"], index["shares"]) == (FOLDS[other], TIMES, [0.8, 0.1, 0.1])
    assert {path.name for path in folder.iterdir()} == {gta.INDEX, *(f"{i:06d}.npy" for i in FOLDS[other])}
    clips = training_data.read_data(model.config, progress=False).clips
    for i in FOLDS[other]:
        clip = training_data.clip_tensors(model.config, clips, i, torch.device("cpu"))
        x_length, length = torch.tensor([clip[0].shape[1]]), torch.tensor([clip[1].shape[2]])
        mu_x = mean_along(model, clip, torch.from_numpy(clips.durations[i])[None])
        durations = model.align(mu_x, model.latent(clip[1]), x_length, length)  # of its last steps
        noise = torch.Generator().manual_seed(model.config.system.seed + i)
        latents = held_out.teacher_forced(model, clip, durations, TIMES, noise)
        assert latents.shape == (len(TIMES), 80, LENGTHS[i])
        np.testing.assert_allclose(np.load(folder / f"{i:06d}.npy"), latents.numpy(), rtol=2**-10, atol=2**-10)


def test_latents_are_made_along_the_durations_that_the_run_learnt_with(here, whole, monkeypatch):
    """Its own search's, once it searches: by what the text says of the symbols, no path fits the recording better."""
    made = []

    def error(model, clip, durations, along):
        """Squared error of mu along durations, of which pitch and energy are along others."""
        mu = length_regulate(mean_along(model, clip, along), durations, torch.ones_like(clip[1][:, :1]))
        return float((model.latent(clip[1]) - mu).square().sum())

    spy(monkeypatch, extract, "teacher_forced", lambda *given: made.append(given[:3]))
    command = whole[2]["fold_even/gta"]
    assert extract.main([*command, "-o", str(here / "initial"), "alignment.init_steps=100"]) == 0
    assert extract.main([*command, "-o", str(here / "own")]) == 0
    n = len(FOLDS["odd"])
    assert len(made) == 2 * n
    assert extract.main([*command, "-o", str(here / "own")]) == 0 and len(made) == 2 * n
    gains = []
    for (model, clip, initial), (_, _, own) in zip(made[:n], made[n:]):
        assert own.sum() == initial.sum() and own.min() >= 1
        gains.append(error(model, clip, initial, initial) - error(model, clip, own, initial))
    assert min(gains) >= 0 and max(gains) > 1
    assert extract.main([*command, "-o", str(here / "own"), "alignment.init_steps=100"]) == 0
    assert len(made) == 3 * n  # along others


def test_the_vocoder_reads_the_latents_of_the_fold_that_has_not_seen_the_clip(whole):
    run, watch, _ = whole
    for batch in watch.batches["vocoder"]:
        for place, name in enumerate(batch.ids):
            i, (which,) = int(name[-1]), np.flatnonzero(np.isclose(TIMES, float(batch.latent_t[place])))
            latents = np.load(run / f"fold_{'odd' if i % 2 == 0 else 'even'}" / "gta" / f"{i:06d}.npy")[which]
            start = int(batch.cut_starts[place] + batch.segment_starts[place])
            length = int(batch.segment_lengths[place])
            assert np.array_equal(batch.latent[place, :, :length].numpy(), latents[:, start : start + length])
    others = [batch for name in watch.batches if name != "vocoder" for batch in watch.batches[name]]
    assert all(batch.latent.shape[-1] == 0 for batch in others)


def test_steps_begin_with_the_parts_they_name_and_the_seed_for_the_others(whole):
    run, watch, _ = whole
    model, fresh = model_of(load(run)), watch.begun["vocoder"]
    for name, taken in (("f0_residual", {"acoustic_model": TEXT_SIDE}),
                        ("small", {"vocoder": {"generator"}, "f0_residual": TEXT_SIDE | {"f0_residual"}})):  # fmt: skip
        for mine, seeded, which in zip(watch.begun[name], fresh, ("model", "ema")):
            for source, parts in taken.items():  # the averages for both
                assert parts <= same_parts(model, mine, load(run / source)["ema"]), (name, source, which)
            assert same_parts(model, mine, seeded) == SPOKEN - set().union(*taken.values()), (name, which)
    assert same_parts(model, watch.begun["fold_odd"][0], fresh[0]) == SPOKEN - {"text_encoder"}  # its mu is solved for


def test_the_voice_has_each_part_as_the_step_that_trained_it_left_it(whole):
    run, _, _ = whole
    voice, model = checkpoint.load_voice(checkpoint.find(run, "voice")), model_of(load(run))
    assert voice.step == 0 and voice.weights["logw_variance"] > 0
    for name, parts in (("vocoder", {"generator"}), ("f0_residual", TEXT_SIDE | {"f0_residual"}),
                        ("acoustic_model", TEXT_SIDE)):  # fmt: skip
        assert same_parts(model, voice.weights, load(run / name)["ema"]) == parts, name
    (line,) = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert line["kind"] == "valid" and {"latent_l1", "copy_mel_l1", "loss_f0_residual", "mcd"} <= set(line)
    assert len([*(run / "samples").glob("*/*one_step.wav")]) == 1
    assert not checkpoint.steps(run / "vocoder", "voice") and not checkpoint.steps(run / "acoustic_model", "voice")


def test_what_is_finished_is_left_alone_and_what_was_stopped_goes_on(here, whole, monkeypatch, capsys):
    first, _, commands = whole
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(train, "train", None)
        patch.setattr(extract, "extract", None)
        for step, command in commands.items():
            assert (extract if step.endswith("/gta") else train).main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*") if path.is_file()} == before
    assert "checkpoint/small/fold_even is finished" in capsys.readouterr().out
    shutil.rmtree(here / "vocoder")

    def interrupt(state, *_):
        if state.step == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        spy(patch, train, "train_step", interrupt)
        assert train.main(commands["vocoder"]) == 130
    watch = Watch(monkeypatch)
    assert train.main(commands["vocoder"]) == 0 and len(watch.batches["vocoder"]) == 2
    for which in ("model", "ema", "discriminators"):
        mine, whole_one = load(here / "vocoder")[which], load(first / "vocoder")[which]
        assert all(torch.equal(value, whole_one[name]) for name, value in mine.items()), which


def test_latents_follow_the_run_that_they_are_of(here, whole):
    latents = here / "fold_even" / "gta" / "000001.npy"
    before = latents.read_bytes()
    assert train.main(["-id", "small/fold_even", "training.train_num_steps=6"]) == 0
    assert extract.main(whole[2]["fold_even/gta"]) == 0 and latents.read_bytes() != before


def test_latents_of_other_statistics_are_refused(here, whole, capsys):
    """Those of a network that began with another voice, whose statistics it keeps."""
    index = here / "fold_odd" / "gta" / gta.INDEX
    about = read_json(index, {})
    assert about["mean"] == load(here / "fold_odd")["model"]["latent_mean"] != 0
    assert about["std"] == load(here / "fold_odd")["model"]["latent_std"] != 1
    write_json(index, about | {"mean": about["mean"] + 0.1})
    assert train.main(["-name", "another", *whole[2]["vocoder"][2:]]) == 1
    assert f"{index.parent}: its latents are normalised by mean and deviation" in capsys.readouterr().err


def test_training_saves_and_ends_when_its_recipe_is_gone(here, whole, monkeypatch):
    shutil.rmtree(here / "acoustic_model")
    starter = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(failures, "STARTER_POLL", 0.01)
    monkeypatch.setenv(failures.STARTER, str(starter.pid))

    def kill(state, *_):
        if state.step == 3:
            starter.kill()
            starter.wait()

    spy(monkeypatch, train, "train_step", kill)
    more = [f"{key}=3000" for key in ("training.train_num_steps", "system.validation_step", "system.save_ckpt")]
    assert train.main([*whole[2]["acoustic_model"], *more]) == 128 + signal.SIGTERM
    assert checkpoint.steps(here / "acoustic_model", "project")[0] > 3


@pytest.mark.parametrize(
    ("step", "old", "new", "message"),
    [
        ("vocoder", "fold_even/gta", "fold_even", "fold_even: no such latents of these clips: write them with"),
        ("vocoder", ', "checkpoint/small/fold_odd/gta"', "", "no latents of clip 0 of dataset.metafile_train"),
        ("vocoder", "train.txt", "shorter.txt", "fold_even/gta: no such latents of these clips"),
        ("f0_residual", "acoustic_model", "nobody", "no run nobody in"),
        ("voice", "text_encoder,prosody", "vocoder", "vocoder,f0_residual,decoder=small"),
        ("fold_even/gta", "fold_even", "nobody", "no run nobody in"),
    ],
)
def test_what_does_not_fit_is_a_line(here, whole, capsys, step, old, new, message):
    command = [word.replace(old, new) for word in whole[2][step]]
    if step != "fold_even/gta":
        command[:2] = ["-name", "another"]
    assert (extract if step.endswith("/gta") else train).main(command) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (here.parent / "another").exists()
