"""The benchmark of synthesis: that what it times is the same, and that its numbers are what they are called."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import synthesis
from model.hifigan import HiFiGAN

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
