"""The benchmarks: that what they time is the same, and that their numbers are what they are called."""

import argparse
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import text
import train
from benchmarks import alignment, gpu_lease, packed, synthesis, training
from data_util import config as configuration
from data_util.config import ROOT
from data_util.dataset import batches
from data_util.world import World
from model.hifigan import HiFiGAN
from tests.conftest import TINY_FRAMES, with_keys
from training import adversarial
from training.data import read_data
from training.state import make_state

TINY = """
text_encoder: {channels: 8, ff_channels: 8, n_layers: 1, prenet_layers: 1, duration_channels: 8}
unet2d: {channels: 8, multipliers: [1, 2], groups: 2, n_heads: 1, head_channels: 4}
hifigan: {channels: 16, resblock_kernels: [3, 5], resblock_dilations: [1, 3]}
"""


@pytest.fixture(autouse=True)
def these_threads():
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


@torch.no_grad()
def test_the_plain_generator_is_the_generator():
    torch.manual_seed(0)
    generator = HiFiGAN(6, 32, (4, 2), (8, 6), (3, 7), (1, 3, 5)).eval().double()
    for parameter in generator.parameters():
        parameter.mul_(2)
    x = torch.randn(2, 6, 11, dtype=torch.float64)
    wav = generator(x)
    plain = synthesis.PlainHiFiGAN(generator.fold())(x)
    assert wav.abs().max() > 0.05 and (plain - wav).abs().max() <= 1e-10


def test_flop_are_counted():
    class Product(nn.Module):
        inputs, outputs = ("a", "b"), ("c",)

        def forward(self, a, b):
            return a @ b

    values = {"a": torch.ones(300, 200), "b": torch.ones(200, 500)}
    assert synthesis.gflop_of(Product(), values) == pytest.approx(2 * 300 * 200 * 500 / 1e9)


def test_a_median_of_rounds_is_what_is_told():
    """Real-time factors by the seconds of speech; the plain graph has the eager encoder and decoder."""
    bench = type("Bench", (), {"name": "tiny", "seconds": 2.0})
    spent = {("eager", "encoder"): 1.0, ("eager", "decoder"): 2.0, ("eager", "generator"): 3.0, ("eager", "whole"): 8.0,
             ("plain", "generator"): 5.0, ("eager", "first chunk"): 0.25}  # fmt: skip
    cases = [synthesis.Case("tiny", *key[:1], 2, key[1], None, spent=[100.0, one, 0.0]) for key, one in spent.items()]
    text, results = synthesis.speeds([bench], cases)
    eager, plain = results
    assert eager["real_time_factor"] == {"encoder": 0.5, "decoder": 1.0, "generator": 1.5}
    assert (eager["by_plain"], plain["by_plain"]) == (0.75, 1.0)
    assert (eager["whole"], eager["first_chunk"], plain["whole"]) == (4.0, 0.25, None)
    assert len({len(line) for line in text.splitlines()}) == 1 and "| 0.75 " in text and "| 250 " in text


def test_cases_take_turns():
    called, threads = [], []

    def case(name, n_threads):
        return synthesis.Case("tiny", name, n_threads, "whole", lambda: called.append(name) or threads.append(
            torch.get_num_threads()))  # fmt: skip

    cases = [case("a", 1), case("b", 2)]
    synthesis.rounds(cases, 3)
    assert called == ["a", "b"] * 3 and threads == [1, 2] * 3
    assert all(len(one.spent) == 3 and min(one.spent) >= 0 for one in cases)


def test_the_command_measures_a_configuration(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(synthesis, "apart", lambda function, *arguments: function(*arguments))
    (tmp_path / "tiny.yaml").write_text(TINY, "utf-8")
    arguments = ("-c", tmp_path / "tiny.yaml", "--runtimes", "plain", "eager", "--threads", 1, "--seconds", 3.5,
                 "--rounds", 2, "-o", tmp_path / "out.json")  # fmt: skip
    assert synthesis.main([*map(str, arguments)]) == 0
    out, found = capsys.readouterr().out, json.loads((tmp_path / "out.json").read_bytes())
    assert [one["runtime"] for one in found["results"]] == ["plain", "eager"]
    for one in found["results"]:
        assert all(0 < part < 100 for part in one["real_time_factor"].values())
    assert 0 < found["results"][1]["whole"] < 100 and 0 < found["results"][1]["first_chunk"] < 60
    differs = out.split("generator, plain by eager: up to ")[1].split()[0]
    assert float(differs) <= 1e-5 and "NOT" not in out
    assert "parameters, M" in out and "memory, MB" in out


def test_speech_is_as_long_as_asked_for(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY, "utf-8")
    voice = synthesis.Voice.load(synthesis.random_voice(str(tmp_path / "tiny.yaml"), tmp_path / "runs"))
    for seconds in (3.0, 7.0):
        scale = synthesis.length_scale_for(voice, synthesis.TEXT, seconds)
        wav = synthesis.whole(voice, scale)
        assert len(wav) / 22050 == pytest.approx(seconds, abs=0.03)
        assert int(synthesis.tensors_of(voice, scale)["durations"].sum()) * 256 == len(wav)
    assert np.array_equal(synthesis.first_chunk(voice, scale), next(voice.stream(
        synthesis.SENTENCE, seed=0, length_scale=scale)))  # fmt: skip


# -- of training


@pytest.fixture
def arguments(tiny_root, tmp_path, stub_front_end):
    """What makes a benchmark take the tiny model and corpus."""
    assert text.FrontEnd is stub_front_end
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}"]
    return ["-c", str(ROOT / "tests" / "tiny.yaml"), *paths, f"dataset.metafile_train={tiny_root / 'train.txt'}",
            f"dataset.metafile_valid={tiny_root / 'train.txt'}"]  # fmt: skip


def cells(out):
    """The rows of the tables in what was printed, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    return {name: rest for name, *rest in rows}


def test_a_step_is_timed_by_part(arguments, capsys):
    assert training.main(["step", *arguments, "--rounds", "2", "alignment.refresh_steps=3"]) == 0
    out = capsys.readouterr().out
    rows = cells(out)
    assert set(training.PARTS) < set(rows)
    spent = {part: float(rows[part][1]) for part in training.PARTS}
    whole = float(rows["the step, without data"][1])
    assert all(one >= 0 for one in spent.values()) and 0 < max(spent[part] for part in spent if part != "data") <= whole
    assert re.search(r"alignment: \d+\.\d\d% of a step that searches, which is none after .*init_steps: then a refresh "
                     r"takes \d+\.\d s for these 10 clips, \d+\.\d{3}% of the 3 steps", out)  # fmt: skip
    assert re.search(r"padding of these batches: \d+\.\d% of the frames, \d+\.\d% of the symbols", out)
    assert re.search(r"frames a second .*\n- at most \d+\.\d and \d+\.\d GiB", out)
    assert float(out.split("first step differ by ")[1].split()[0]) <= training.TOLERANCE


def test_sides_that_differ_are_an_error(arguments, capsys, monkeypatch):
    def wrong(step):
        return lambda state, batch: {name: 1.01 * value for name, value in step(state, batch).items()}

    monkeypatch.setitem(training.LEVERS, "wrong", wrong)
    assert training.main(["step", *arguments, "--rounds", "1", "--warm-up", "0"]) == 1
    assert "differ by more than" in capsys.readouterr().err


def test_steps_without_a_lever_are_the_same_steps(arguments, monkeypatch):
    """The same losses and weights, to rounding; and each lever is really off."""
    config = training.joint(configuration.load(arguments[1], arguments[2:]))
    data, world = read_data(config, progress=False), World(0, 1, torch.device("cpu"))
    batch = next(batches(data.own, config))
    seen = []
    plain, step = training.plain_upsample, torch.optim.AdamW.step
    judge = adversarial.discriminate
    monkeypatch.setattr(training, "plain_upsample", lambda *rest: seen.append("plain") or plain(*rest))
    monkeypatch.setattr(
        adversarial, "discriminate", lambda judges, *rest: seen.append(judges_learn(judges)) or judge(judges, *rest)
    )
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda optimiser: seen.append(
        ("fused", optimiser.param_groups[0]["fused"])) or step(optimiser))  # fmt: skip

    def judges_learn(judges):
        return "learn", all(parameter.requires_grad for parameter in judges.parameters())

    def outcome(way):
        state = make_state(argparse.Namespace(a=None), config, world, data, None)
        seen.clear()
        with training.without_dropout(state):  # which one of them draws otherwise
            values = way(state, batch)
        assert all(parameter.grad is None for parameter in state.discriminators.parameters())
        assert {group["fused"] for group in state.optimiser.param_groups} == {True}
        weights = {name: value.clone() for name, value in state.model.state_dict().items()}
        return values, weights, list(seen)

    values, weights, usual = outcome(train.train_step)
    fused = ("fused", True)
    assert usual == [("learn", True), fused, ("learn", False), ("learn", False), fused]
    for name, lever in training.LEVERS.items():
        ours, theirs, calls = outcome(lever(train.train_step))
        assert values.keys() == ours.keys()
        for key in values:
            torch.testing.assert_close(ours[key], values[key], rtol=1e-4, atol=1e-6, msg=f"{name}: {key}")
        # Adam's first step is of signs: a rounding may turn one
        exact = lever not in (training.in_one_dimension, training.with_masks)
        assert not exact or all((theirs[key] - weights[key]).abs().max() <= 1e-6 for key in weights), name
        wanted = {
            training.in_one_dimension: ["plain", *usual],
            training.with_learning_judges: [("learn", True), fused, ("learn", True), ("learn", True), fused],
            training.with_many_kernels: [one if one[0] == "learn" else ("fused", False) for one in usual],
        }
        assert calls == wanted.get(lever, usual), name


def test_levers_are_timed_one_by_one(arguments, capsys):
    assert training.main(["levers", *arguments, "--rounds", "2", "--warm-up", "0"]) == 0
    rows = cells(capsys.readouterr().out)
    assert set(rows) >= {*training.LEVERS, "nothing", "any of them"}
    assert all(float(rows[name][1]) > 0 for name in training.LEVERS)


class Lengths(list):
    """Clips of these numbers of frames, in place of a corpus."""

    def __init__(self, n_frames, n_symbols):
        super().__init__(n_frames)
        self.n_frames, self.ids = np.array(n_frames), [np.zeros(n) for n in n_symbols]
        self.speakers = np.zeros(len(n_frames))


def test_padding_is_counted_as_it_is(tiny_config):
    config = with_keys(tiny_config, "training", batch_size=4)

    def planned(n_frames, n_symbols, config, n_epochs=3):
        return cells(training.plan_padding(config, Lengths(n_frames, n_symbols), n_epochs))

    equal = planned([50] * 64, [5] * 64, config)
    assert equal["by length, as in training"] == equal["of the same sizes, at random"] == [
        "0.0%", "0.0%", "4 to 4", "at most 200"]  # fmt: skip
    fours = [100 * g + 10 * i for g in range(16) for i in (1, 2, 3, 4)], [1, 1, 1, 5] * 16  # a batch each, 60 too few
    whole = planned(*fours, config)["by length, as in training"]
    assert whole == [f"{100 * 16 * 60 / (4 * sum(range(40, 1600, 100))):.1f}%", "60.0%", "4 to 4", "at most 6160"]
    parts = planned(*fours, with_keys(config, "training", batch_size=2, accumulate=2))["by length, as in training"]
    assert parts == ["0.6%", "33.3%", "2 to 2", "at most 3080"]  # 320 of 49,920; 4 of 12 in the batch
    lengths = np.random.default_rng(0).integers(20, 800, 300)
    rows = planned(lengths, lengths // 5, with_keys(config, "training", batch_size=16, batch_frames=4000))
    by_length, at_random = rows["by length, as in training"], rows["of the same sizes, at random"]
    assert float(by_length[0].strip("%")) < 10 < float(at_random[0].strip("%"))
    assert int(by_length[3].split()[-1]) <= 4000 < int(at_random[3].split()[-1]) and by_length[2] == at_random[2]


def test_padding_of_a_configuration_needs_no_model(arguments, capsys, monkeypatch):
    monkeypatch.setattr(training, "make_state", None)
    assert training.main(["padding", *arguments, "--epochs", "2"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("10 clips, 5 steps, 2 epochs; training.batch_size 4") and "by length" in out


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kind", [torch.nn.Conv1d, torch.nn.ConvTranspose1d])
def test_a_convolution_costs_as_much_again_for_each_gradient(groups, kind):
    conv, x = kind(8, 12, 5, stride=2, groups=groups, bias=False), torch.randn(3, 8, 21)
    n_places = conv(x).shape[2] if kind is torch.nn.Conv1d else 21
    forward = 2 * 3 * conv.weight.numel() * n_places
    for requires_grad, times in ((False, 2), (True, 3)):
        side = SimpleNamespace(run=lambda batch: conv(batch).sum().backward())
        assert training.step_flop(side, x.clone().requires_grad_(requires_grad)) == times * forward


# -- of the alignment


def test_searches_are_compared(monkeypatch, capsys):
    monkeypatch.setattr(alignment, "SHAPE", (2, 5, 12))
    monkeypatch.setattr(alignment, "importable", lambda _: None)
    assert alignment.main(["search", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    rows = cells(out)
    assert "no other search is installed" in out
    assert rows["ours, as the model gives scores"][1] == "1.00" and float(rows["ours in numpy"][0]) > 0
    peer = SimpleNamespace(maximum_path=lambda *_: torch.eye(5)[:, [0] * 8 + [1, 2, 3, 4]].expand(2, -1, -1))
    monkeypatch.setattr(alignment, "importable", lambda name: peer if name == "monotonic_align" else None)
    with pytest.raises(ValueError, match="monotonic_align finds other paths"):
        alignment.compare_searches(1)


@pytest.mark.parametrize("units", ["blanks", "small"])
def test_starts_are_compared(arguments, tmp_path, capsys, units):
    more = ["variance.kind=frame", "pitch.f_max=2000", "generator.inputs=[z0_hat, f0]"] if units == "small" else []
    picture = tmp_path / "start" / "curves.png"
    limits = ["--target", "1e9", "--limit", "100", "-o", str(picture)]
    assert alignment.main(["start", *arguments, *more, *limits]) == 0
    out = capsys.readouterr().out.splitlines()
    assert re.match(r"flat start: \d+ s for the durations of 10 clips", out[0])
    assert out[1].startswith("flat start: 1e+09 after") or out[1].startswith("flat start: 1000000000.0 after")
    assert ", 0 steps in " in out[1] and ", 0 steps in " in out[2]
    assert re.match(r"the search takes \d+\.\d times as long", out[3])
    rows = [line.split("\t") for line in picture.with_suffix(".txt").read_text().splitlines()]
    assert [(name, step) for name, *_, step in rows] == [("flat start", "0"), ("search", "0")]
    assert picture.stat().st_size > 1000


def test_starts_of_several_speakers_are_compared(arguments, tiny_root, tmp_path, capsys):
    lines = [f"tiny-{i}.wav|{'ab'[i % 2]}|{'abcdefghij'[: i + 1]}\n" for i in range(len(TINY_FRAMES))]
    (tiny_root / "train.txt").write_text("".join(lines), "utf-8")
    more = ["speakers.names=[a, b]", "--target", "0.1", "--limit", "0.01", "-o", str(tmp_path / "a.png")]
    assert alignment.main(["start", *arguments, *more]) == 0
    assert "at best" in capsys.readouterr().out


def test_a_start_that_does_not_come_down_says_how_far_it_came(arguments, tmp_path, capsys):
    assert (
        alignment.main(["start", *arguments, "--target", "0.1", "--limit", "0.01", "-o", str(tmp_path / "a.png")]) == 0
    )
    out = capsys.readouterr().out
    found = re.findall(rf"(?:flat start|search): \d+\.\d{{3}} at best, {alignment.EVERY} steps", out)
    assert len(found) == 2 and "times as" not in out
    rows = [line.split("\t") for line in (tmp_path / "a.txt").read_text().splitlines()]
    first = {name: float(loss) for name, _, loss, step in rows if step == "0"}
    assert first["flat start"] < first["search"] - 0.02  # solved for, and drawn


# -- a GPU for some minutes


@pytest.mark.parametrize(
    ("results", "amp", "graphs", "n_steps"),
    [
        ({"steps tf32": (100, 1)}, "false", "false", 1000),
        ({"steps tf32": (100, 1), "graphed tf32": (50, 1)}, "false", "true", 2000),
        ({"graphed tf32": (50, 1), "graphed bfloat16": (45, 1)}, "false", "true", 2000),  # it has to win clearly,
        ({"graphed tf32": (50, 1), "graphed bfloat16": (25, 1)}, "true", "true", 4000),
        ({"graphed tf32": (50, 1), "graphed bfloat16": (25, 0)}, "false", "true", 2000),  # and to be finite
    ],
)
def test_the_voice_of_a_lease_is_trained_as_fast_as_was_measured(tmp_path, capsys, results, amp, graphs, n_steps):
    out, command = tmp_path / "results.json", ["--label", "voice: ", "--seconds", "125", "--share", "0.8", "plan"]
    assert gpu_lease.main(["-o", str(out), *command]) == 0  # where nothing was
    assert capsys.readouterr().out == "-a false training.train_num_steps=1000\n"
    found = {f"voice: {name}": {"ms a step": ms, "finite": finite} for name, (ms, finite) in results.items()}
    out.write_text(json.dumps(found))
    assert gpu_lease.main(["-o", str(out), *command]) == 0
    wanted = f"-a {amp} system.cuda_graphs={graphs} training.train_num_steps={n_steps}\n"
    assert capsys.readouterr().out == wanted


def test_clips_that_are_carried_come_back(real_root, tmp_path, monkeypatch):
    names = [line for line in (real_root / "train.txt").read_text().split()]
    for name in ("small_train.txt", "small_test.txt"):
        (tmp_path / "data_util").mkdir(exist_ok=True)
        (tmp_path / "data_util" / name).write_text("\n".join(names[:3] if "train" in name else names[3:5]))
    monkeypatch.setattr(packed, "ROOT", tmp_path)
    packed.pack(real_root, tmp_path / "packed")
    packed.unpack(tmp_path / "packed", tmp_path / "corpus")
    kept = (tmp_path / "corpus" / "train.txt").read_text().split()
    assert set(kept) <= set(names[:3]) and (tmp_path / "corpus" / "valid.txt").read_text().split() == names[3:5]
    assert [line.split("|")[0] for line in (tmp_path / "corpus" / "metadata.csv").read_text().splitlines()] == [
        *kept, *names[3:5]]  # fmt: skip
    for name in names[3:5]:
        (ours, rate), (theirs, _) = (
            soundfile.read(root / "wavs" / f"{name}.wav") for root in (tmp_path / "corpus", real_root)
        )
        assert rate == 22050 and len(ours) == len(theirs)
        assert ((ours - theirs) ** 2).sum() < 0.01 * (theirs**2).sum()  # 20 dB


def test_what_a_lease_measures_can_be_rehearsed_on_a_cpu(tiny_root, tmp_path, stub_front_end):
    assert stub_front_end
    paths = [f"dataset.prtpath={tiny_root}", f"dataset.cache={tmp_path / 'cache'}"]
    paths += [f"dataset.metafile_{name}={tiny_root / 'train.txt'}" for name in ("train", "valid", "test")]
    out = tmp_path / "results.json"
    for part in ("equality", "graphed"):
        more = [
            "--device",
            "cpu",
            "-c",
            str(ROOT / "tests" / "tiny.yaml"),
            "--seconds",
            "0",
            "--precisions",
            "tf32",
            "--",
        ]
        assert gpu_lease.main(["-o", str(out), *more, part, *paths]) == 0
    found = json.loads(out.read_text())
    assert set(found["equality float32"].values()) == {0.0} and found["equality bfloat16"]["gradient of generator"] > 0
    assert found["graphed tf32"]["ms a step"] > 0 and max(found["graphed equality tf32"].values()) == 0
