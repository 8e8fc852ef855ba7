"""By the rules of a GPU, without one: nothing is on the wrong device, and a step of training waits for nothing."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

import export
import train
from data_util import checkpoint, means
from data_util import config as configuration
from data_util.config import ROOT
from data_util.corpus import prepare
from data_util.dataset import fixed_batch
from data_util.world import World
from sampling import Voice
from tests import fake_cuda
from tests.conftest import with_keys
from tests.test_nisets import SMALL, VARIANTS
from tests.test_sampling import CONFIG as TINY
from tests.test_sampling import weights_of
from text import SYMBOLS
from training import alignment, begin, lanes, validation
from training.data import Data, clip_tensors
from training.state import build_state

CLIPS = [1, 4, 6, 9]
# kind of model, speakers, bfloat16: each value of each at least once
KINDS = [
    ("plain", ("ann", "ben"), True),
    ("source", (), True),
    ("course", ("ann", "ben"), False),
    ("learned", (), False),
]
PLAIN = ("plain", (), False)
SEARCH = "model/monotonic_align/__init__.py: "


def tiny(variant, tiny_config, names):
    """The tiny configuration of a kind of model, which searches for durations with all that a search may have."""
    tree = configuration.to_dict(configuration.load(ROOT / "tests" / "tiny.yaml"))
    tree["dataset"] = configuration.to_dict(tiny_config)["dataset"]
    if variant != "plain":
        tree = {name: keys | SMALL.get(name, {}) if isinstance(keys, dict) else keys for name, keys in tree.items()}
    for section, keys in VARIANTS[variant].items():
        tree[section] |= keys
    variance = VARIANTS[variant].get("variance", {})
    parts = ["variance"] * bool(variance) + ["course"] * bool(variance.get("course_layers"))
    tree["training"]["stages"][0]["parts"] |= dict.fromkeys(parts, 1e-3)
    tree["alignment"] |= {"prior_scale": 1.0, "noise": 0.5}
    tree["system"] |= {"cuda_graphs": False, "sample_clips": 10}
    tree["speakers"]["names"] = list(names)
    return configuration.from_dict(tree)


@pytest.fixture
def device(monkeypatch):
    with monkeypatch.context() as patch, fake_cuda.pretended(patch) as waits:
        yield waits


@pytest.fixture
def made(request, tiny_config, stub_front_end):
    """(config, corpus) of a kind of model."""
    assert stub_front_end
    variant, names, amp = request.param
    config = tiny(variant, tiny_config, names)
    corpus = prepare(with_keys(config, "speakers", names=()), config.dataset.metafile_train, progress=False)
    corpus.durations = [
        np.diff(np.linspace(0, n, len(ids) + 1).astype(int)) for n, ids in zip(corpus.n_frames, corpus.ids)
    ]
    return config, corpus, amp


@pytest.mark.parametrize("made", KINDS, indirect=True, ids=lambda kind: "-".join(map(str, kind)))
def test_training_measuring_and_speaking_keep_to_the_device(made, device, tmp_path, monkeypatch):
    config, corpus, amp = made
    monkeypatch.setattr(validation, "save_validation", lambda *_: None)
    monkeypatch.setattr(validation, "measure_spoken", lambda *_: {})
    world = World.join()
    assert world.device.type == "cuda"
    state = build_state(config, world, corpus.symbols, amp)
    batch = fixed_batch(corpus, config, CLIPS).pin_memory().to(world.device, non_blocking=True)
    begin.solve_mean(config, state.model, corpus)
    device.clear()
    for has_durations in (True, False):
        state.step = 0 if has_durations else config.alignment.init_steps
        values = train.train_step(state, dataclasses.replace(batch, has_durations=has_durations))
        assert all(value.is_cuda for value in values.values()) and state.skipped.is_cuda
        assert [wait for wait in device if has_durations or not wait.startswith(SEARCH)] == []
    project = checkpoint.to_host(state.model.state_dict())
    assert not any(isinstance(value, fake_cuda.Cuda) for value in project.values())
    with state.ema.speaking_as(0):
        numbers, _ = validation.validate_clip(state, corpus, 9, tmp_path)
        assert numbers["loss_prior"].is_cuda and len(list(tmp_path.glob("tiny-9_*.wav"))) == 3
        clip = clip_tensors(config, corpus, 9, world.device)
        assert state.ema.copy_latent(*clip, 3, "dpm2m", torch.Generator().manual_seed(0)).is_cuda
        x = torch.from_numpy(corpus.ids[9])[None].cuda()
        for n, solver in ((1, "posterior"), (3, "ancestral")):
            spoken = state.ema.synthesise(x, n, solver, length_scale=3.0, generator=np.random.default_rng(0))
            assert spoken.wav.is_cuda
        plans = [state.ema.plan(x, length_scale=scale, generator=np.random.default_rng(0)) for scale in (2.0, 3.0)]
        assert all(one.wav.is_cuda for one in state.ema.render(plans))
        assert all(chunk.is_cuda for chunk in state.ema.stream(plans[0]))
    alignment.refresh(state, corpus)
    assert state.durations["frames"].device.type == "cpu"
    lanes.write_means(state, Data(corpus, corpus, corpus), "even", tmp_path / "means")
    assert means.is_complete(tmp_path / "means")


@pytest.mark.parametrize("made", [PLAIN, KINDS[1]], indirect=True, ids=["plain", "source"])
def test_a_voice_and_the_graphs_of_its_parts_keep_to_the_device(made, device):
    config, corpus, _ = made
    with tempfile.TemporaryDirectory() as folder:
        model = build_state(config, World(0, 1, torch.device("cpu")), corpus.symbols).ema
        path = checkpoint.save_voice(Path(folder), 0, model.state_dict(), config, corpus.symbols)
        voice = Voice.load(path, "cuda")
    values = {"x": torch.from_numpy(corpus.ids[9])[None], "length_scale": torch.tensor(3.0, dtype=torch.float64),
              "noise_values": torch.randn(1, 2, len(corpus.ids[9]))}  # fmt: skip
    values = {name: value.cuda() for name, value in values.items()}
    for graph in export.graphs(voice.model):
        if "noise_latents" in graph.inputs:
            n_frames = -(-int(values["durations"].sum()) // 4) * 4
            values |= {"noise_latents": torch.randn(1, config.n_latents, n_frames, device="cuda"),
                       "noise_course": torch.randn(1, 1, n_frames, device="cuda"),
                       "noise_wav": torch.randn(1, 1, n_frames * config.audio.hop_length, device="cuda")}  # fmt: skip
        values |= export.call(graph, values)
    assert values["wav"].is_cuda
    assert device
    copied = voice.copy(corpus.wav(9))
    assert len(copied) == corpus.n_frames[9] * config.audio.hop_length


def test_a_voice_speaks_on_the_device(device, tmp_path):
    voice = Voice.load(checkpoint.save_voice(tmp_path, 5, weights_of(), TINY, SYMBOLS), "cuda")
    settings = {"seed": 1, "length_scale": 3.0, "loudness": -23}
    spoken = voice.speak("Any text.", **settings)
    streamed = np.concatenate(list(voice.stream("Any text.", seed=1, length_scale=3.0)))
    assert len(spoken.wav) == len(streamed) > 0 and sum(spoken.durations) > 0
    assert len(voice.speak_batch(["One.", "Another one."], **settings)) == 2 and device


@pytest.mark.parametrize("made", [PLAIN], indirect=True, ids=["plain"])
def test_a_run_on_the_device_skips_saves_and_goes_on(made, device, tmp_path, monkeypatch, caplog):
    config, _, _ = made
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(validation, "validate", lambda *_: {"latent_l1": 1.0})
    monkeypatch.setattr(validation, "save_curves", lambda *_: None)
    path = tmp_path / "config.yaml"
    path.write_text(configuration.to_yaml(with_keys(config, "system", log_step=3, save_ckpt=4)), encoding="utf-8")
    forward = train.forward

    def spoilt(state, *rest):
        out = forward(state, *rest)
        if state.step == 1:
            out.losses["loss_mel"] = out.losses["loss_mel"] * torch.nan
        return out

    monkeypatch.setattr(train, "forward", spoilt)
    assert train.main(["-c", str(path), "training.train_num_steps=6"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert checkpoint.steps(run, "project") == [4, 6] and "step 2 skipped, not finite: loss_mel" in caplog.text
    whole = checkpoint.load_project(checkpoint.find(run, "project"))
    assert train.main(["-id", run.name, "-ckpt", "4"]) == 0
    again = checkpoint.load_project(checkpoint.find(run, "project"))
    assert all(torch.equal(again["model"][name], value) for name, value in whole["model"].items())
    places = {wait.partition(",")[0] for wait in device}
    assert "train.py: record_pending" in places and "data_util/run_log.py: add" not in places
