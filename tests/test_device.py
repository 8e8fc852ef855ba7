"""By the rules of a GPU, without one: nothing is on the wrong device, and a step of training waits for nothing."""

import dataclasses

import numpy as np
import pytest
import torch

import export
import sampling
import train
from data_util import config as configuration
from data_util import gta
from data_util.config import ROOT
from data_util.dataset import fixed_batch
from evaluation.held_out import plan_along
from model.nisets import NiSETS
from sampling import Voice
from tests import fake_cuda
from tests.child import fake_f0
from tests.conftest import even_durations, prepared, with_keys
from tests.runs import break_losses, differences, load, only, steps
from text import SYMBOLS
from training import checkpoint, extract, initialise, realign, validation
from training.data import Data, clip_tensors, content_of_latents
from training.distributed import Processes
from training.state import build_state

FRAMES = ["tiny.yaml", "tiny_frames.yaml"]
# overlays, and what is over them; bfloat16: each kind of each part at least once
KINDS = {
    "plain": (["tiny.yaml"], ["speakers.names=[ann, ben]"], True),
    "frames": (FRAMES, ["loss.stft=1", "loss.phase=1"], True),
    "speakers": (["tiny.yaml"], ["speakers.names=[ann, ben]", "latent.kind=pooled", "prosody.kind=frame",
                                 "prosody.channels=8", "prosody.n_layers=1", "decoder.kind=convnext1d",
                                 "decoder.n_layers=1", "generator.inputs=[z0_hat, mu]"], False),
}  # fmt: skip
SEARCH = "model/monotonic_align/__init__.py: "


pytest_plugins = "tests.run_fixtures"


def tiny_config_of(overlays, overrides=()):
    more = ["system.cuda_graphs=false", "system.sample_clips=10"]
    return configuration.load([ROOT / "tests" / name for name in overlays], [*more, *overrides])


@pytest.fixture
def device(monkeypatch):
    with monkeypatch.context() as patch, fake_cuda.pretended(patch) as waits:
        yield waits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("runs")
def test_training_measuring_and_speaking_keep_to_the_device(kind, tiny_root, arguments, tmp_path, monkeypatch, request):
    for name in ("save_validation", "measure_spoken"):
        monkeypatch.setattr(validation, name, lambda *_: {})
    overlays, overrides, amp = KINDS[kind]
    config = tiny_config_of(overlays, [*overrides, *arguments[2:]])
    (tiny_root / "train.txt").write_text("tiny-1\ntiny-4\ntiny-6\ntiny-9\n")
    # a clip has a speaker where its list names one, which this one does not
    corpus = prepared(with_keys(config, "speakers", names=()))
    corpus.durations = even_durations(corpus)
    device = request.getfixturevalue("device")
    processes = Processes.join()
    assert processes.device.type == "cuda"
    state = build_state(config, processes, corpus.symbols, amp)
    batch = fixed_batch(corpus, config, range(4)).pin_memory().to(processes.device, non_blocking=True)
    initialise.solve_mean(config, state.model, corpus)
    device.clear()
    for has_durations in (True, False):
        state.step = 0 if has_durations else config.alignment.init_steps
        values = train.train_step(state, dataclasses.replace(batch, has_durations=has_durations))
        assert all(value.is_cuda for value in values.values()) and state.skipped.is_cuda
        assert [wait for wait in device if has_durations or not wait.startswith(SEARCH)] == []
    on_host = checkpoint.to_host(state.model.state_dict())
    assert not any(isinstance(value, fake_cuda.Cuda) for value in on_host.values())

    with state.ema.speaking_as(0):
        numbers, _ = validation.validate_clip(state, corpus, 3, tmp_path, None)
        assert numbers["loss_prior"].is_cuda and len(list(tmp_path.glob("tiny-9_*.wav"))) >= 2
        clip = clip_tensors(config, corpus, 3, processes.device)
        assert plan_along(state.ema, clip, np.random.default_rng(0)).mu.is_cuda
        x, random = torch.from_numpy(corpus.ids[3])[None].cuda(), np.random.default_rng(0)
        for n, solver in ((1, "posterior"), (2, "ancestral")):
            assert state.ema.synthesise(x, n, solver, length_scale=3.0, generator=random).wav.is_cuda
        plans = [state.ema.plan(x, length_scale=scale, generator=random) for scale in (2.0, 3.0)]
        assert all(one.wav.is_cuda for one in state.ema.decode(plans))
        assert all(chunk.is_cuda for chunk in state.ema.stream(plans[0]))
    realign.refresh(state, corpus)
    assert state.durations["frames"].device.type == "cpu"
    extract.extract(state, Data(corpus, corpus, corpus), tmp_path / "gta", gta.About([1.0, 0.5], [0.5, 0.5]))
    assert gta.GTALatents([tmp_path / "gta"], content_of_latents(config, corpus)).read(3, 0.7, 0, 4)[1] == 0.5


@pytest.mark.parametrize("overlays", [["tiny.yaml"], FRAMES], ids=["plain", "frames"])
def test_a_voice_and_the_graphs_of_its_parts_keep_to_the_device(overlays, tmp_path, monkeypatch, request):
    config, hop_length = tiny_config_of(overlays), 256
    monkeypatch.setattr(sampling, "track_f0", fake_f0)
    path = checkpoint.save_voice(tmp_path, 0, NiSETS(config, len(SYMBOLS)).state_dict(), config, SYMBOLS)
    device = request.getfixturevalue("device")
    voice = Voice.load(path, "cuda")
    settings = {"seed": 1, "length_scale": 3.0}
    spoken = voice.speak("Any text.", **settings, loudness=-23)
    streamed = np.concatenate(list(voice.stream("Any text.", **settings)))
    assert len(spoken.wav) == len(streamed) == hop_length * sum(spoken.durations) > 0
    assert len(voice.speak_batch(["One.", "Another one."], **settings)) == 2
    assert len(voice.copy(np.zeros(9 * hop_length, dtype=np.float32))) == 9 * hop_length

    values = {name: value.cuda() for name, value in export.example().items()}
    for graph in export.graphs(voice.model):
        if "noise_latents" in graph.inputs:
            n = -(-int(values["durations"].sum()) // 4) * 4
            values |= {name: value.cuda() for name, value in export.noises(voice.model, n).items()}
        values |= export.call(graph, values)
    assert values["wav"].is_cuda and device


def test_a_run_on_the_device_skips_saves_and_goes_on(quick, runs, device, monkeypatch, caplog):
    monkeypatch.setattr(validation, "validate", lambda *_: {"latent_l1": 1.0})
    monkeypatch.setattr(validation, "save_curves", lambda *_: None)
    break_losses(monkeypatch, lambda state: state.step == 1, "loss_score")
    more = ["system.cuda_graphs=false", "system.log_step=3", "system.save_ckpt=4", "training.train_num_steps=6"]
    assert train.main([*quick, *more]) == 0
    run = only(runs)
    assert steps(run) == [4, 6] and "step 2 skipped, not finite: loss_score" in caplog.text
    whole = load(run)
    assert train.main(["-id", run.name, "-ckpt", "4"]) == 0
    assert differences(load(run), whole) == []
    places = {wait.partition(",")[0] for wait in device}
    assert "training/recording.py: record_pending" in places and "training/run_log.py: add" not in places
