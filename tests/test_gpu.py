"""Which GPUs can be used, and on one, where there is one, what the pretended device of test_device.py cannot show: the
numbers."""

import dataclasses
import os

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

CPU = World(0, 1, torch.device("cpu"))


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine whose nvidia-smi shows a card, while PyTorch, built for CUDA 13.0, sees none."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 3060, 535.54.03'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "__version__", "2.11.0")


@pytest.mark.usefixtures("driver")
def test_a_driver_that_is_too_old_is_named_with_what_to_install():
    with pytest.raises(gpu.DeviceError) as error:
        gpu.use_gpu()
    said = str(error.value)
    assert said.startswith("driver 535.54.03 of NVIDIA GeForce RTX 3060 does not run torch 2.11.0, which was built for")
    assert "CUDA 13.0 and needs driver 580 or newer: update the driver, or install" in said and "--device cpu" in said


@pytest.mark.usefixtures("driver")
def test_a_build_for_cpus_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(gpu.DeviceError, match="torch 2.11.0 is a build for CPUs: install"):
        gpu.use_gpu()


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("hidden", ["", "-1", " ", "none", "NoDevFiles", "7", "-1,0"])
def test_a_gpu_that_is_hidden_or_not_wanted_is_no_fault(monkeypatch, hidden):
    assert not gpu.use_gpu("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not gpu.use_gpu()
    with pytest.raises(gpu.DeviceError, match="no NVIDIA GPU is visible here"):
        gpu.use_gpu("cuda")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("visible", ["0", "GPU-8932f937", None])
def test_a_driver_that_is_new_enough_is_not_blamed(monkeypatch, visible):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(gpu, "installed", lambda: [("NVIDIA H100", "580.95.05")])
    monkeypatch.setattr(gpu, "why_cuda_fails", lambda: "CUDA unknown error")
    with pytest.raises(gpu.DeviceError, match="CUDA 13.0 of torch 2.11.0 does not start: CUDA unknown error;"):
        gpu.use_gpu()


def test_without_nvidia_smi_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert gpu.installed() == [] and not gpu.use_gpu()


@pytest.mark.parametrize(
    ("capability", "built", "least"),
    [((6, 1), ["sm_75", "sm_80", "sm_90"], "7.5"), ((8, 9), ["sm_75", "sm_80", "sm_90"], None),
     ((12, 0), ["sm_75", "sm_90", "compute_90"], None), ((12, 0), ["sm_75", "sm_90a"], "7.5"),
     ((9, 0), ["sm_90a"], None), ((8, 0), ["sm_86"], "8.6"),
     ((9, 0), ["gfx90a"], None)],
)  # fmt: skip
def test_a_card_without_kernels_is_named(monkeypatch, capability, built, least):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # of which the first is a good one
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda i: capability if i else (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "an old card")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(gpu, "fault_of_card", lambda i, known=gpu.fault_of_card: known(i) if i else "")
    assert gpu.use_gpu(cards=[0])
    if least is None:
        assert gpu.use_gpu() and gpu.use_gpu(cards=[1])
        return
    with pytest.raises(gpu.DeviceError, match=f"an old card has compute capability .* has kernels from {least} on"):
        gpu.use_gpu()


@pytest.mark.usefixtures("driver")
def test_train_stops_before_anything_is_made(capsys):
    assert train.main(["-c", "light"]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("train.py: driver 535.54.03 of NVIDIA GeForce RTX 3060")


@pytest.mark.usefixtures("driver")
def test_run_sh_is_told_how_many_processes(capsys, monkeypatch, tmp_path):
    def counted(*arguments):
        assert train.main(["--count", *arguments]) == 0
        return int(capsys.readouterr().out)

    assert train.main(["--count", "-c", "light"]) == 1 and capsys.readouterr().err.startswith("run.sh: driver 535")
    assert counted("-c", "light", "--device", "cpu") == 1
    monkeypatch.setattr(gpu, "use_gpu", lambda _: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    (tmp_path / "mine.yaml").write_text("over: small\n")
    monkeypatch.chdir(tmp_path)
    assert counted("-c", "light", "training.batch_size=4") == 4 and counted("-c", "nothing.yaml") == 4
    assert counted("-c", "small") == counted("-c", "mine.yaml") == counted("-from", "ljspeech-small") == 1  # lanes


@pytest.fixture
def config(tiny_config):
    tree = configuration.to_dict(configuration.load(ROOT / "tests" / "tiny.yaml"))
    tree["dataset"] = configuration.to_dict(tiny_config)["dataset"]
    tree["alignment"] |= {"init": "none"}
    return configuration.from_dict(tree)


@pytest.mark.gpu
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


@pytest.mark.gpu
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


@pytest.mark.gpu
def test_it_speaks_as_on_the_cpu(config, tiny):
    gpu.set_precision("cuda", False)
    state, x = build_state(config, CPU, tiny.symbols), torch.from_numpy(tiny.ids[9])[None]
    wavs = []
    for device in ("cpu", "cuda"):
        model = state.ema.to(device)
        wavs.append(model.synthesise(x.to(device), length_scale=3.0, generator=np.random.default_rng(0)).wav.cpu())
        plan = model.plan(x.to(device), length_scale=3.0, generator=np.random.default_rng(0))
        wavs.append(torch.cat([chunk.cpu() for chunk in model.stream(plan)], dim=-1))
    for wav in wavs[1:]:
        assert wav == pytest.approx(wavs[0], abs=1e-4)


@pytest.mark.gpu
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
