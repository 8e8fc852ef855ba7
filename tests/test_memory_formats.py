"""Memory formats: the same sums in each, the faster one by trial, and a run that keeps what it has found."""

import logging

import pytest
import torch
from torch import nn

import train
from data_util import config as configuration
from model.discriminator import SpectrogramDiscriminator
from model.unet import UNet
from tests.runs import ALONE, differences, load
from training import memory_formats
from training.distributed import Processes
from training.fine_tuning import configuration_of

pytest_plugins = "tests.run_fixtures"

N_SYMBOLS = 5
UNNAMED = "system.memory_formats={}"
TIMES = {"UNet": (2.0, 1.0), "HiFiGAN": (1.0, 3.0), "Discriminators": (4.0, 3.9)}  # s, of each format
FASTER = {"decoder": "channels_last", "generator": "contiguous", "discriminators": "contiguous"}  # not by chance


def faked(part, call):
    """What seconds might find."""
    assert call().requires_grad
    return dict(zip(memory_formats.FORMATS, TIMES[type(part).__name__]))


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("part", "inputs"), [
    (lambda: UNet(8, (1, 2), 2, 2, 4), (drawn(2, 8, 12), drawn(2).sigmoid(), None, drawn(2, 8, 12))),
    (lambda: SpectrogramDiscriminator(64, (4, 8), 6), (drawn(2, 1, 640), drawn(2, 6))),
], ids=["decoder", "discriminators"])  # fmt: skip
def test_each_format_gives_the_same_sums_and_gradients(part, inputs):
    torch.manual_seed(0)
    part, found, strides = part().double(), [], []
    with torch.no_grad():
        for parameter in part.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # also where a gate starts at zero
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, __, result: strides.append(result.stride()))
    for name in memory_formats.FORMATS:
        memory_formats.use(part, name)
        part.zero_grad()
        strides.append(name)
        result = part(*inputs)
        result = result[0] if isinstance(result, tuple) else result
        result.square().sum().backward()
        found.append([result.detach(), *(p.grad for p in part.parameters() if p.grad is not None)])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    middle = strides.index("channels_last")
    assert strides[1:middle] != strides[middle + 1 :]


def test_both_formats_are_tried_in_turns_forwards_and_backwards():
    part, calls = nn.Sequential(nn.Conv2d(1, 1, 1)), []
    part[0].memory_format = None

    def call():
        calls.append((part[0].memory_format, part[0].weight.grad is not None))
        return part(torch.ones(1, 1, 1, 1))

    spent = memory_formats.seconds(part, call)
    formats, has_gradient = zip(*calls)
    assert list(formats) == list(memory_formats.FORMATS.values()) * (len(formats) // 2) and len(formats) > 6
    assert list(spent) == list(memory_formats.FORMATS) and all(s > 0 for s in spent.values())
    assert not has_gradient[0] and all(has_gradient[1:])


def test_a_run_takes_the_faster_where_none_is_named(config, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(memory_formats, "seconds", faked)
    one = configuration.change(config, ["system.memory_formats={generator: channels_last}"])
    found = memory_formats.complete(one, ALONE, N_SYMBOLS, amp=False)
    assert found.system.memory_formats == FASTER | {"generator": "channels_last"}
    assert "memory format of decoder: channels_last (tried: contiguous 2.000 s, channels_last 1.000 s)" in caplog.text
    assert "generator" not in caplog.text and found.decoder == config.decoder
    on_gpu = Processes(0, 1, torch.device("cuda"))
    assert memory_formats.complete(one, on_gpu, N_SYMBOLS, amp=False) == one


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("overrides", [
    ["speakers.names=[a, b]", "generator.inputs=[z0_hat, mu, f0, t]", "prosody.kind=frame"],
    ["decoder.kind=convnext1d", "discriminators.resolutions=[]"],
])  # fmt: skip
def test_every_configuration_can_be_tried(config, monkeypatch, amp, overrides):
    monkeypatch.setattr(memory_formats, "SECONDS", 0.0)
    config = configuration.change(config, [UNNAMED, *overrides])
    found = set(memory_formats.complete(config, ALONE, N_SYMBOLS, amp).system.memory_formats)
    assert found == {"generator"} | (FASTER.keys() if config.n_speakers > 1 else set())


def test_processes_take_what_the_first_one_finds(config, monkeypatch):
    monkeypatch.setattr(memory_formats, "seconds", pytest.fail)
    monkeypatch.setattr(Processes, "broadcast", lambda _, word: word or FASTER)
    second = Processes(1, 2, torch.device("cpu"))
    config = configuration.change(config, [UNNAMED])
    assert memory_formats.complete(config, second, N_SYMBOLS, amp=False).system.memory_formats == FASTER


@pytest.mark.usefixtures("fast")
def test_a_run_keeps_its_formats_and_gives_them_to_others(arguments, runs, monkeypatch):
    monkeypatch.setattr(memory_formats, "seconds", faked)
    assert train.main([*arguments, UNNAMED, "-name", "whole"]) == 0
    monkeypatch.setattr(memory_formats, "seconds", pytest.fail)
    whole = load(runs / "whole")
    assert whole["config"]["system"]["memory_formats"] == FASTER
    assert train.main(["-id", "whole", "-ckpt", "6"]) == 0  # resumed
    assert train.main(["-c", str(runs / "whole" / "config.yaml"), "-name", "again"]) == 0
    tuned = configuration_of(train.parse_args(["-from", "whole"]))
    assert tuned.system.memory_formats == {}  # a processor's, not a voice's
    for run in ("whole", "again"):
        assert differences(load(runs / run), whole) == []
