"""The benchmarks: that their numbers are what they are called, and that what a lease of a GPU runs works on a CPU."""

import json
import re
from types import SimpleNamespace

import pytest
import soundfile
import torch
from torch import nn

import train
from benchmarks import gpu_lease, growth, packed, synthesis, training
from data_util import config as configuration
from data_util.config import ROOT
from training import gpu

pytest_plugins = "tests.run_fixtures"

TINY = [str(ROOT / "tests" / name) for name in ("tiny.yaml", "tiny_frames.yaml")]


@pytest.fixture(autouse=True)
def these_threads():
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def cells(out):
    """The rows of the tables in what was printed, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    return {name: rest for name, *rest in rows}


# -- of speaking


def test_flop_are_counted():
    class Product(nn.Module):
        inputs, outputs = ("a", "b"), ("c",)

        def forward(self, a, b):
            return (a @ b,)

    values = {"a": torch.ones(300, 200), "b": torch.ones(200, 500)}
    assert synthesis.gflop_of(Product(), values) == pytest.approx(2 * 300 * 200 * 500 / 1e9)


def test_cases_take_turns_and_their_medians_are_shown_by_the_seconds_of_speech():
    called, threads = [], []

    def case(name, n_threads, part):
        return synthesis.Case(name, "eager", n_threads, part, lambda: called.append((name, part)) or threads.append(
            torch.get_num_threads()))  # fmt: skip

    parts = (*synthesis.PARTS, "whole", "first chunk")
    cases = [case(name, n_threads, part) for name, n_threads in (("a", 1), ("b", 2)) for part in parts]
    synthesis.rounds(cases, 3)
    assert called == [(name, part) for name in "ab" for part in parts] * 3 and threads == ([1] * 5 + [2] * 5) * 3
    assert all(len(one.spent) == 3 and min(one.spent) >= 0 for one in cases)
    for one, seconds in zip(cases, (1.0, 2.0, 3.0, 8.0, 0.25, *[4.0] * 5)):
        one.spent = [100.0, seconds, 0.0]
    benches = [SimpleNamespace(name="a", seconds=2.0, gflop={"decoder": 20.0, "vocoder": 10.0}),
               SimpleNamespace(name="b", seconds=4.0, gflop={"vocoder": 3.0})]  # fmt: skip
    rows = cells(synthesis.speeds(benches, cases, {1: 100e9, 2: 4e9}))
    headings = ["encoder", "decoder", "vocoder", "sum", "whole", "first chunk, ms", "of a plain product"]
    assert rows["configuration"][2:] == headings
    assert rows["a"] == ["eager", "1", "0.5000", "1.0000", "1.5000", "3.0000", "4.0000", "250", "10%"]
    assert rows["b"] == ["eager", "2", *["1.0000"] * 3, "3.0000", "1.0000", "4000", "25%"]


@pytest.mark.parametrize("runtimes", [["eager"], pytest.param(["eager", "onnx"], marks=pytest.mark.slow)])
def test_the_command_measures_a_configuration(monkeypatch, capsys, runtimes):
    monkeypatch.setattr(synthesis, "apart", lambda function, *arguments: function(*arguments))
    arguments = ("-c", "+".join(TINY), "--runtimes", *runtimes, "--threads", "1", "--seconds", "3", "--rounds", "1")
    assert synthesis.main([*arguments]) == 0
    out = capsys.readouterr().out
    sizes, speeds, starts = (cells(part) for part in re.split("Real-time|The first", out))
    name = "tiny+tiny_frames"  # all overlays: two configurations with the same last one stay apart
    n_million, *gflop, total = map(float, sizes[name])
    assert 0 < n_million < 1 and total == pytest.approx(sum(gflop), abs=0.02) and 0 < total < 1
    assert "NOT" not in out and speeds[name][0] == starts[name][0] == runtimes[-1]
    assert all(0 < float(cell.strip("%")) < 1e4 for cell in (*speeds[name][1:-1], *starts[name][1:]))
    assert torch.backends.cpu.get_cpu_capability() in out and "GFLOP/s by threads: " in out


def test_speech_is_as_long_as_asked_for(tmp_path):
    voice = synthesis.Voice.load(synthesis.random_voice("+".join(TINY), tmp_path))
    for seconds in (3.0, 7.0):
        scale = synthesis.length_scale_for(voice, synthesis.TEXT, seconds)
        speech = voice.speak(synthesis.TEXT, seed=0, length_scale=scale)
        assert speech.seconds == pytest.approx(seconds, abs=0.03)
        assert int(synthesis.tensors_of(voice, scale)["durations"].sum()) * 256 == len(speech.wav)


# -- of training


@pytest.mark.parametrize("kind", ["tiny", "frames"])
@pytest.mark.usefixtures("stub_front_end")
def test_a_step_is_timed_by_part(arguments, capsys, kind):
    more = ["-c", TINY[1], "pitch.f_max=2000", "alignment.init_steps=100"] if kind == "frames" else []
    assert training.main([*arguments, *more, "--rounds", "2", "--threads", "1", "system.seed=1"]) == 0
    out = capsys.readouterr().out
    rows = cells(out)
    spent = {row: float(rows[row][0]) for row in training.ROWS}
    assert sum(float(rows[row][1].strip("%")) for row in training.ROWS) == pytest.approx(100, abs=0.1)
    assert sum(spent.values()) == pytest.approx(float(rows["the step"][0]), rel=0.3, abs=0.005)
    absent = {"prosody"} if kind == "tiny" else {"alignment"}  # where the flat start's durations last
    for row in training.ROWS:  # to the last digit that is shown
        assert (float(rows[row][1].strip("%")) > 0) == (row not in absent), row
    assert float(rows["making its batch"][0]) > 0 and "4 clips a step" in out if kind == "tiny" else "2 clips" in out
    tflop = {row: float(rows[row][2]) for row in (*training.ROWS, "the step")}
    assert 0 < tflop["the step"] < 0.1 and tflop["optimiser"] == 0
    assert sum(tflop[row] for row in training.ROWS) == pytest.approx(tflop["the step"], abs=0.01)
    assert 0.1 < float(out.split("at most ")[1].split()[0]) < 8 and torch.backends.cpu.get_cpu_capability() in out


def test_what_is_computed_is_charged_to_its_part():
    watch, once, flop = training.Stopwatch(torch.device("cpu")), torch.ones(30, 20), 2 * 30 * 20 * 30

    def step():
        product(once.T)
        product(once.T)
        once @ once.T

    product = watch.watched(lambda a: once @ a, "decoder")
    assert watch.flop(step) == {"decoder": 2 * flop, "rest": flop, "whole": 3 * flop}
    assert watch.timed(step)["whole"] < 60  # seconds again


def test_a_plain_product_is_timed_by_what_it_computes(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(gpu, "SIDE", 8)
    monkeypatch.setattr(gpu.time, "perf_counter", lambda: 0.5 * next(now))
    assert gpu.product_rate() == 2 * 8**3 / 0.5


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kind", [torch.nn.Conv1d, torch.nn.ConvTranspose1d])
def test_a_convolution_costs_as_much_again_for_each_gradient(groups, kind):
    conv, x = kind(8, 12, 5, stride=2, groups=groups, bias=False), torch.randn(3, 8, 21)
    n_places = conv(x).shape[2] if kind is torch.nn.Conv1d else 21
    forward = 2 * 3 * conv.weight.numel() * n_places
    for requires_grad, times in ((False, 2), (True, 3)):
        x.requires_grad_(requires_grad)
        with training.counting_flop() as counter:
            conv(x).sum().backward()
        assert counter.get_total_flops() == times * forward


# -- how cost grows


def test_clips_are_as_long_as_asked_for_and_spoken_in_turns(tmp_path):
    clips = growth.corpus(tmp_path, 1.5, 5, 2, 8000)
    lines = [line.split("|") for line in clips.read_text("utf-8").splitlines()]
    assert [who for _, who, _ in lines] == ["speaker0", "speaker1"] * 2 + ["speaker0"]
    assert {soundfile.info(tmp_path / "wavs" / name).frames for name, *_ in lines} == {12000}
    assert {len(text) for *_, text in lines} == {len(lines[0][2])} and abs(len(lines[0][2]) - 1.5 * 14) <= 1


def test_a_step_and_speech_are_timed_and_their_memory_is_told():
    for spent, peak in (growth.step(TINY[:1], [], 1, 2, 2, 2), growth.speech(TINY[:1], 1, 2)):
        assert spent > 0 and peak > 1e8


def test_each_case_grows_alone(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(growth, "apart", lambda function, *given: asked.append((function, *given)) or (2.0, 2**30))
    assert growth.main(["-c", "light", "sde.t_one=0.5"]) == 0
    steps = [one[1:] for one in asked if one[0] is growth.step]
    assert steps[:5] == [(["light"], ["sde.t_one=0.5"], 1, *sizes) for sizes in
                         ((2, 8, 1), (5, 8, 1), (10, 8, 1), (20, 8, 1), (5, 1, 1))]  # fmt: skip
    assert [one for one in asked if one[0] is growth.speech][0] == (growth.speech, ["light"], 1, 2)
    out = capsys.readouterr().out
    assert "| clips of a step | 4 | 2.000 | 0.500 a clip | 1.00 |" in out
    assert "| speakers | 100 | 2.000 |  | 1.00 |" in out and "8 clips of 5 s, one speaker" in out


# -- a GPU for some minutes


@pytest.mark.parametrize(
    ("results", "amp", "graphs", "n_steps"),
    [
        ({}, "false", "true", 1000),  # nothing was measured
        ({"steps tf32": (100, 1)}, "false", "false", 1000),
        ({"steps tf32": (100, 1), "graphed tf32": (50, 1)}, "false", "true", 2000),
        ({"graphed tf32": (50, 1), "graphed bfloat16": (45, 1)}, "false", "true", 2000),  # it has to win clearly,
        ({"graphed tf32": (50, 1), "graphed bfloat16": (25, 1)}, "true", "true", 4000),
        ({"graphed tf32": (50, 1), "graphed bfloat16": (25, 0)}, "false", "true", 2000),  # and to be finite
    ],
)
def test_the_voice_of_a_lease_is_trained_as_fast_as_was_measured(tmp_path, capsys, results, amp, graphs, n_steps):
    out = tmp_path / "results.json"
    found = {f"voice: {name}": {"ms a step": ms, "finite": finite} for name, (ms, finite) in results.items()}
    out.write_text(json.dumps(found))
    assert gpu_lease.main(["-o", str(out), "--label", "voice: ", "--seconds", "125", "--share", "0.8", "plan"]) == 0
    args = train.parse_args(["-c", str(ROOT / "benchmarks" / "gpu_lease.yaml"), *capsys.readouterr().out.split()])
    config = configuration.load(args.c, args.overrides)
    assert (args.a, config.system.cuda_graphs) == (amp, graphs == "true")
    assert config.training.train_num_steps == n_steps and len(config.training.stages) == 2


def test_clips_that_are_carried_come_back(real_root, tmp_path, monkeypatch):
    names = (real_root / "train.txt").read_text().split()
    (tmp_path / "data_util").mkdir()
    for name, ids in (("small_train.txt", names[:3]), ("small_test.txt", names[3:5])):
        (tmp_path / "data_util" / name).write_text("\n".join(ids))
    monkeypatch.setattr(packed, "ROOT", tmp_path)
    packed.pack(real_root, tmp_path / "packed")
    packed.unpack(tmp_path / "packed", tmp_path / "corpus")
    kept = (tmp_path / "corpus" / "train.txt").read_text().split()
    assert set(kept) <= set(names[:3]) and (tmp_path / "corpus" / "valid.txt").read_text().split() == names[3:5]
    lines = (tmp_path / "corpus" / "metadata.csv").read_text().splitlines()
    assert [line.split("|")[0] for line in lines] == [*kept, *names[3:5]]
    for name in names[3:5]:
        (ours, rate), (theirs, _) = (
            soundfile.read(root / "wavs" / f"{name}.wav") for root in (tmp_path / "corpus", real_root)
        )
        assert rate == 22050 and len(ours) == len(theirs)
        assert ((ours - theirs) ** 2).sum() < 0.01 * (theirs**2).sum()  # 20 dB


def rehearsed(tmp_path, *words):
    """What a part of a lease finds on a CPU."""
    out = tmp_path / "results.json"
    assert gpu_lease.main(["-o", str(out), "--device", "cpu", "--seconds", "0", "--rounds", "1", *words]) == 0
    return json.loads(out.read_text())


@pytest.mark.usefixtures("stub_front_end")
def test_what_a_lease_measures_of_training(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_lease, "drawn", lambda *args, drawn=gpu_lease.drawn: drawn(*args, n=2))
    for part in ("equality", "graphed", "steps"):
        found = rehearsed(tmp_path, *arguments[:2], "--precisions", "tf32", "--", part, *arguments[2:])
    assert set(found["equality float32"].values()) == {0.0} and found["equality bfloat16"]["gradient of generator"] > 0
    assert found["equality bfloat16"]["gradient of discriminators"] > 0
    assert found["graphed tf32"]["ms a step"] > 0 and max(found["graphed equality tf32"].values()) == 0
    assert found["steps tf32"]["finite"] == 1 and found["checkpoint"]["MB"] > 0


def test_what_a_lease_measures_of_speech(tmp_path, monkeypatch):
    for name, value in (("SPEECH_SECONDS", 1.0), ("N_TEXTS", 2)):
        monkeypatch.setattr(gpu_lease, name, value)
    found = rehearsed(tmp_path, "--configs", "+".join(TINY), "--", "speech")
    assert [name.split(", ")[-1] for name in found] == list(gpu_lease.PRECISIONS)
    for speech in found.values():
        assert len(speech) == 5 and min(speech.values()) > 0
