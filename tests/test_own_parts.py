"""A researcher's own parts, as CONTRIBUTING.md asks for them: they train, speak, stream and are exported, and the model
is told of them in its registry alone."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import export
import train
from data_util import config as configuration
from data_util.config import ROOT, ConfigError, Count, Inputs, Kind, Odd
from model import networks
from model.denoiser import Denoiser
from model.layers import TimeEmbedding, masked
from model.networks import n_prosody_channels, sizes
from model.nisets import drawn
from model.prosody import N_VALUES
from model.vocoder import Source, Vocoder
from runtime import chunking
from sampling import Voice
from tests.conftest import HOP, corpus_keys, without_judges
from tests.runs import ALONE, stirred
from tests.test_nisets import LN_F0, N_SYMBOLS, SPOKEN, drawn_batch
from text import SYMBOLS
from training import checkpoint, validation
from training.state import build_state

# Vocoders


class OneLayerSizes(Kind):
    inputs: Inputs = ("z0_hat",)


class OneLayer(Vocoder):
    """A single transposed convolution."""

    reach = 1

    def __init__(self, n_inputs, hop_length):
        super().__init__()
        self.hop_length = hop_length
        self.upsample = nn.ConvTranspose1d(n_inputs, 1, 2 * hop_length, hop_length, hop_length // 2)

    def forward(self, features, mask=None, source=None):  # noqa: ARG002
        wav = torch.tanh(self.upsample(masked(features, mask)))
        return masked(wav, None if mask is None else mask.repeat_interleave(self.hop_length, -1))


class SourceSizes(OneLayerSizes):
    needs_source = True  # so that prosody.kind has to be frame


class Breath(OneLayer):
    """Noise, with the gain that a transposed convolution gives."""

    needs_source = True

    def forward(self, features, mask=None, source=None):
        gain = super().forward(features, mask)
        return gain * (torch.randn_like(gain) if source.noise is None else source.noise)


class SineAndNoise(Vocoder):
    """A sine at F0 and noise, each with a gain that a transposed convolution gives."""

    reach, needs_source = 1, True

    def __init__(self, n_inputs, hop_length, sample_rate):
        super().__init__()
        self.hop_length, self.sample_rate = hop_length, sample_rate
        self.gains = nn.ConvTranspose1d(n_inputs, 2, 2 * hop_length, hop_length, hop_length // 2)

    def forward(self, features, mask=None, source=None):
        source = source if source.phase is not None else self.with_phase(source)
        steps = torch.arange(self.hop_length, device=features.device) / self.sample_rate
        cycles = source.phase[..., None] + source.f0[..., None] * steps  # (B, 1, T, hop_length)
        sine = torch.sin(2 * math.pi * cycles).flatten(-2) * source.voicing.repeat_interleave(self.hop_length, -1)
        noise = torch.randn_like(sine) if source.noise is None else source.noise
        wav = (self.gains(masked(features, mask)) * torch.cat([sine, noise], dim=1)).sum(1, keepdim=True)
        return masked(wav, None if mask is None else mask.repeat_interleave(self.hop_length, -1))

    def with_phase(self, source: Source) -> Source:
        cycles = (source.f0.double() * self.hop_length / self.sample_rate).cumsum(-1)
        return source._replace(phase=F.pad(cycles[..., :-1], (1, 0)).remainder(1).to(source.f0.dtype))


# A score network


class Sizes(Kind):
    channels: Count = 16
    kernel: Odd = 5


class TwoLayers(nn.Module):
    """Two convolutions over time, told t between them."""

    def __init__(self, n_latents, n_conditions, channels, kernel):
        super().__init__()
        self.time = nn.Sequential(TimeEmbedding(channels), nn.Linear(channels, channels))
        self.conv_in = nn.Conv1d(2 * n_latents + n_conditions, channels, kernel, padding=kernel // 2)
        self.conv_out = nn.Conv1d(channels, n_latents, kernel, padding=kernel // 2)

    def forward(self, x, t, mask, mu, f0=None):
        inputs = torch.cat([x, mu] if f0 is None else [x, mu, f0], dim=1)
        h = F.silu(self.conv_in(masked(inputs, mask)) + self.time(t)[:, :, None])
        return masked(self.conv_out(masked(h, mask)), mask)


# A text encoder


class Neighbours(nn.Module):
    """A symbol and its neighbours: an embedding and a convolution."""

    def __init__(self, n_ids, n_latents, channels, kernel):
        super().__init__()
        self.embedding = nn.Embedding(n_ids, channels)
        self.conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)
        self.condition = nn.Conv1d(N_VALUES, channels, 1)
        self.mu = nn.Conv1d(channels, n_latents, 1)
        self.duration = nn.Conv1d(channels, 1, 1)

    def forward(self, x, x_mask, condition=None):
        h = F.silu(self.conv(self.embedding(x).transpose(1, 2) * x_mask)) * x_mask
        logw = self.duration(h.detach()) * x_mask
        if condition is not None:
            h = (h + self.condition(condition)) * x_mask
        return self.mu(h) * x_mask, logw


class Own(NamedTuple):
    section: str
    registry: dict
    sizes: type
    build: Callable
    has_frames: bool = True  # it is tried beside what tests/tiny_frames.yaml has


OWN = {
    "one_layer": Own("generator", networks.VOCODERS, OneLayerSizes, has_frames=False,
                     build=lambda config, n_inputs: OneLayer(n_inputs, config.audio.hop_length)),
    "breath": Own("generator", networks.VOCODERS, SourceSizes,
                  lambda config, n_inputs: Breath(n_inputs, config.audio.hop_length)),
    "sine_and_noise": Own("generator", networks.VOCODERS, SourceSizes,
                          lambda config, n_inputs: SineAndNoise(n_inputs, HOP, config.audio.sample_rate)),
    "two_layers": Own("decoder", networks.DECODERS, Sizes, lambda config: TwoLayers(
        config.n_latents, n_prosody_channels(config), **sizes(config.decoder))),
    "neighbours": Own("text_encoder", networks.TEXT_ENCODERS, Sizes,
                      lambda config, n_symbols, mark_sizes: Neighbours(
                          n_symbols * math.prod(mark_sizes), config.n_latents, **sizes(config.text_encoder))),
}  # fmt: skip
EACH = pytest.mark.parametrize("kind", OWN)
TINY, FRAMES = ROOT / "tests/tiny.yaml", ROOT / "tests/tiny_frames.yaml"


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for kind, own in OWN.items():
        monkeypatch.setitem(configuration.KINDS[own.section], kind, own.sizes)
        monkeypatch.setitem(own.registry, kind, own.build)


def load(*kinds):
    overlays = [TINY] + [FRAMES] * all(OWN[kind].has_frames for kind in kinds)
    return configuration.load(overlays, [f"{OWN[kind].section}.kind={kind}" for kind in kinds])


def make_model(*kinds, n_symbols=N_SYMBOLS):
    model = stirred(load(*kinds), n_symbols, 0.05).eval()
    model.f0_mean.fill_(LN_F0[0])
    return model


@EACH
def test_it_trains(kind):
    config = load(kind)
    state = build_state(config, ALONE, tuple(map(str, range(N_SYMBOLS))))
    network, batch, losses = getattr(state.model, OWN[kind].section), drawn_batch(config), []
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for _ in range(4):
        values = train.train_step(state, batch)
        assert all(value.isfinite() for value in values.values()) and not state.skipped
        losses.append(values)
    after = dict(network.named_parameters())
    assert [name for name, value in before.items() if torch.equal(value, after[name])] == []
    assert losses[-1]["loss_mel"] < losses[0]["loss_mel"]


def test_a_vocoder_whose_section_says_that_it_needs_a_source_is_refused_without_f0():
    with pytest.raises(ConfigError, match="prosody.kind = none: must be frame"):
        configuration.load(TINY, ["generator.kind=sine_and_noise"])


@EACH
def test_it_speaks_and_a_stream_is_what_is_made_at_once(kind, monkeypatch):
    monkeypatch.setattr(chunking, "FIRST_CHUNK", 5)
    model, x = make_model(kind), torch.cat([SPOKEN] * 3, dim=1)
    spoken = model.synthesise(x, length_scale=3.0, generator=np.random.default_rng(0))
    assert spoken.wav.shape[-1] == HOP * spoken.durations.sum() and spoken.wav.std() > 1e-3
    parts = list(model.stream(model.plan(x, length_scale=3.0, generator=np.random.default_rng(0))))
    assert len(parts) > 2 and (torch.cat(parts, dim=-1) - spoken.wav).abs().max() <= 1e-5


@torch.no_grad()
@EACH
def test_the_graphs_of_its_export_give_the_same_samples(kind, monkeypatch):
    """Also where a researcher has put something, guidance for one, into Denoiser.sample."""
    model, generator, sample = make_model(kind), np.random.default_rng(0), Denoiser.sample
    monkeypatch.setattr(Denoiser, "sample", lambda *arguments, **given: 2 * sample(*arguments, **given))
    spoken = model.synthesise(SPOKEN, length_scale=2.0, generator=np.random.default_rng(0))
    n, stride, values = spoken.mu.shape[-1], export.stride_of(model), {"x": SPOKEN, "length_scale": torch.tensor(2.0)}
    if model.prosody is not None:
        values["noise_values"] = drawn(generator, (1, N_VALUES, SPOKEN.shape[1]))
        values["noise_f0"] = F.pad(drawn(generator, (1, 1, n)), (0, -n % stride))
    values["noise_latents"] = F.pad(drawn(generator, spoken.mu.shape), (0, -n % stride))
    values |= {"noise_wav": drawn(generator, spoken.wav.shape), **export.context()}
    encoder, decoder, vocoder = export.graphs(model)
    values |= export.call(encoder, values)
    values |= {name: value[..., :n] for name, value in export.call(decoder, values).items()}
    assert torch.equal(values["durations"], spoken.durations)
    assert (export.call(vocoder, values)["wav"] - spoken.wav).abs().max() <= 1e-5
    values |= export.context(1, 2)  # frames that are read and not made
    assert (export.call(vocoder, values)["wav"] - spoken.wav[..., HOP : -2 * HOP]).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("vocoder", ["one_layer", "breath", "sine_and_noise"])
def test_they_speak_without_pytorch(vocoder, tmp_path):
    pytest.importorskip("onnxscript")
    from tests.test_export import spoken_without_torch

    model = make_model(vocoder, "two_layers", "neighbours", n_symbols=len(SYMBOLS))
    path = checkpoint.save_voice(tmp_path / "run", 1, model.state_dict(), model.config, SYMBOLS)
    module = export.export(Voice.load(path), tmp_path / "out")
    made, speech = spoken_without_torch(module, ["A bee."], {"seed": 1}), Voice.load(path).speak("A bee.", seed=1)
    assert np.array_equal(made["durations0"], speech.durations) and np.abs(speech.wav).max() > 1e-3
    assert made["wav0"].shape == speech.wav.shape and np.abs(made["wav0"] - speech.wav).max() <= 1e-4


def test_a_run_of_own_parts_alone_makes_a_voice(tiny_root, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    without_judges(monkeypatch)
    for name in ("save_validation", "save_curves"):  # pictures, which take a while
        monkeypatch.setattr(validation, name, lambda *_: None)
    kinds = [f"{OWN[kind].section}.kind={kind}" for kind in ("sine_and_noise", "two_layers", "neighbours")]
    arguments = ["-name", "own", "-c", str(TINY), "-c", str(FRAMES), *kinds, *corpus_keys(tiny_root, tmp_path),
                 "text.units=characters", "training.train_num_steps=2"]  # fmt: skip
    assert train.main(arguments) == 0
    voice = Voice.load(tmp_path / "own")
    assert isinstance(voice.model.generator, SineAndNoise) and isinstance(voice.model.decoder, TwoLayers)
    speech = voice.speak("A bee.", seed=1)
    assert np.isfinite(speech.wav).all() and np.abs(speech.wav).max() > 0


# A loss

FUNCTION = '''

def level_loss(wav_hat: Tensor, wav: Tensor) -> Tensor:
    """Squared difference of the items' levels in nepers. wav_hat, wav: (B, 1, T_wav) in [-1, 1]."""
    level_hat, level = (each.square().mean((1, 2)).add(1e-6).log() / 2 for each in (wav_hat, wav))
    return (level_hat - level).square().mean()
'''
EDITS = {  # file: the line that one is put after, None the last, and what is put there
    "model/losses.py": (None, FUNCTION),
    "model/nisets.py": ('        found["loss_mel"] = ',
                        '        found["loss_level"] = losses.level_loss(wav_hat, batch.wav)\n'),
    "data_util/config.py": ("    mel: NotNegative", "    level: NotNegative\n"),
    "config.yaml": ("  mel: ", "  level: 0.5               # squared nepers\n"),
}  # fmt: skip
PROGRAM = """
import json, train
from tests.test_nisets import N_SYMBOLS, drawn_batch, forward, make_model, networks_reached, variant
from tests.runs import ALONE
from training.state import build_state
from training.step import weighted_sum

model = make_model("plain")
batch = drawn_batch(model.config)
losses = forward(model, batch).losses
config = variant("plain", loss={"level": 2.0})
state = build_state(config, ALONE, tuple(map(str, range(N_SYMBOLS))))
print(json.dumps({
    "weight": model.config.loss.level, "reached": sorted(networks_reached(model, losses["loss_level"])),
    "logged": "loss_level" in train.train_step(state, batch), "total": weighted_sum(state, {"loss_level": 3.0}),
}))
"""


def test_a_loss_takes_a_function_a_call_and_a_weight(tmp_path):
    """In a copy of the sources, in which CONTRIBUTING.md's steps are the only lines that are put in."""
    for folder in ("text", "runtime", "data_util", "model", "evaluation", "training", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("build", "ljspeech"))
    for path in (*ROOT.glob("*.py"), ROOT / "config.yaml"):
        shutil.copy(path, tmp_path)
    for name, (after, line) in EDITS.items():
        lines = (tmp_path / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (place,) = [len(lines)] if after is None else [i + 1 for i, one in enumerate(lines) if one.startswith(after)]
        lines.insert(place, line)
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    found = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
                           capture_output=True, text=True, check=False)  # fmt: skip
    assert found.returncode == 0, found.stderr
    wanted = {"weight": 0.5, "reached": ["generator"], "logged": True, "total": 6.0}
    assert json.loads(found.stdout) == wanted
