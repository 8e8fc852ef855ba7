"""On a GPU, where there is one: what the pretended device of test_device.py cannot show, the numbers."""

import dataclasses

import numpy as np
import pytest
import torch

import train
from benchmarks.gpu_lease import distance, gradients
from data_util import checkpoint, gpu
from data_util import config as configuration
from data_util.config import ROOT
from data_util.corpus import prepare
from data_util.dataset import fixed_batch
from data_util.world import World
from tests.conftest import with_keys
from training.data import Data
from training.state import build_state

pytestmark = pytest.mark.gpu
CPU = World(0, 1, torch.device("cpu"))


@pytest.fixture
def config(tiny_config):
    tree = configuration.to_dict(configuration.load(ROOT / "tests" / "tiny.yaml"))
    tree["dataset"] = configuration.to_dict(tiny_config)["dataset"]
    tree["alignment"] |= {"init": "none"}
    return configuration.from_dict(tree)


@pytest.mark.parametrize("how", ["plain", "graphed", "compiled"])
def test_a_step_has_the_losses_and_gradients_of_the_cpu(config, tiny, how):
    made, data = [fixed_batch(tiny, config, clips) for clips in ([1, 4, 6, 9], [9, 8, 7, 5])], Data(tiny, tiny, tiny)
    truth = gradients(config, data, CPU, *made, precision="float32")
    world = World.join("cuda")
    on_gpu = with_keys(config, "system", compile=how == "compiled", cuda_graphs=how == "graphed")
    ours = gradients(on_gpu, data, world, *(batch.to(world.device) for batch in made), precision="float32")
    assert {name: distance(ours[name], truth[name]) for name in truth} == pytest.approx(
        dict.fromkeys(truth, 0), abs=1e-3
    )


def test_a_step_does_not_wait_for_the_device(config, stub_front_end):
    assert stub_front_end
    config = dataclasses.replace(config, alignment=dataclasses.replace(config.alignment, init="em", init_steps=10**6))
    corpus = prepare(config, config.dataset.metafile_train, progress=False)
    corpus.durations = [
        np.diff(np.linspace(0, n, len(ids) + 1).astype(int)) for n, ids in zip(corpus.n_frames, corpus.ids)
    ]
    world = World.join("cuda")
    state, batch = (
        build_state(config, world, corpus.symbols),
        fixed_batch(corpus, config, [1, 4, 6, 9]).to(world.device),
    )
    train.train_step(state, batch)  # kernels are loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        train.train_step(state, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_it_speaks_as_on_the_cpu(config, tiny):
    gpu.set_precision(False)
    state, x = build_state(config, CPU, tiny.symbols), torch.from_numpy(tiny.ids[9])[None]
    wavs = []
    for device in ("cpu", "cuda"):
        model = state.ema.to(device)
        wavs.append(model.synthesise(x.to(device), length_scale=3.0, generator=np.random.default_rng(0)).wav.cpu())
        plan = model.plan(x.to(device), length_scale=3.0, generator=np.random.default_rng(0))
        wavs.append(torch.cat([chunk.cpu() for chunk in model.stream(plan)], dim=-1))
    for wav in wavs[1:]:
        assert wav == pytest.approx(wavs[0], abs=1e-4)


@pytest.mark.parametrize("amp", ["false", "true"])
def test_a_run_trains_and_goes_on(config, stub_front_end, tmp_path, monkeypatch, amp):
    assert stub_front_end
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path / "runs")
    path = tmp_path / "config.yaml"
    path.write_text(configuration.to_yaml(with_keys(config, "system", num_workers=1)))
    assert train.main(["-c", str(path), "-a", amp, "training.train_num_steps=4"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert train.main(["-id", run.name, "training.train_num_steps=8"]) == 0
    assert checkpoint.steps(run, "project")[-1] == 8 and checkpoint.steps(run, "voice")[-1] == 8
