"""Which GPUs can be used, and on one, where there is one, what the pretended device of test_device.py cannot show: the
numbers."""

import os

import numpy as np
import pytest
import torch

import train
from benchmarks.gpu_lease import distance, gradients
from data_util import config as configuration
from data_util.dataset import fixed_batch
from tests.conftest import even_durations, prepared, refused, with_keys
from tests.runs import ALONE, only, steps
from training import checkpoint, gpu
from training.data import Data
from training.distributed import Processes
from training.state import build_state

pytest_plugins = "tests.run_fixtures"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine whose nvidia-smi shows a card, while PyTorch, built for CUDA 13.0, sees none."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho 'an RTX 3060, 535.54.03'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "__version__", "2.11.0")


OLD = [("an RTX 3060", "535.54.03")]
NEW = [("an H100", "580.95.05")]


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("cuda", "cards", "visible", "words"),
    [
        ("13.0", OLD, None, "driver 535.54.03 of an RTX 3060 does not run torch 2.11.0, which was built for "
                            "CUDA 13.0 and needs driver 580 or newer: update the driver, or install "),
        (None, OLD, None, "an RTX 3060 (driver 535.54.03) is there, but torch 2.11.0 is a build for CPUs: "),
        *(("13.0", NEW, visible, "an H100 (driver 580.95.05) is there, but CUDA 13.0 of torch 2.11.0 does not start: "
                                 "CUDA unknown error;") for visible in (None, "0", "GPU-8932f937")),
    ],
)  # fmt: skip
def test_what_keeps_pytorch_from_a_card_is_named_with_what_to_do(monkeypatch, cuda, cards, visible, words):
    assert gpu.installed() == OLD
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(gpu, "installed", lambda: cards)
    monkeypatch.setattr(gpu, "why_cuda_fails", lambda: "CUDA unknown error")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(gpu.DeviceError) as error:
        gpu.use_gpu()
    assert str(error.value).startswith(words) and str(error.value).endswith("--device cpu")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("hidden", ["", "-1", "none", "NoDevFiles", "7", "-1,0"])
def test_a_gpu_that_is_hidden_or_not_wanted_is_no_fault(monkeypatch, hidden):
    assert not gpu.use_gpu("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not gpu.use_gpu()
    refused(gpu.DeviceError, "no NVIDIA GPU is visible here", gpu.use_gpu, "cuda")


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
    refused(gpu.DeviceError, f"an old card has compute capability .* has kernels from {least} on", gpu.use_gpu)


@pytest.mark.usefixtures("driver")
def test_run_sh_is_told_how_many_processes(capsys, monkeypatch):
    def counted(*arguments):
        assert train.main(["--count", *arguments]) == 0
        return int(capsys.readouterr().out)

    assert train.main(["-c", "light"]) == 1 and capsys.readouterr().err.startswith("train.py: driver 535")
    assert train.main(["--count", "-c", "light"]) == 1 and capsys.readouterr().err.startswith("run.sh: driver 535")
    assert counted("-c", "light", "--device", "cpu") == 1
    monkeypatch.setattr(gpu, "use_gpu", lambda _: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert counted("-c", "light", "training.batch_size=4") == 4
    for wrong, words in (("nothing.yaml", "nothing.yaml"), ("light", "unknown key training.batch")):
        assert train.main(["--count", "-c", wrong, "training.batch=4"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("run.sh: ") and words in error and error.count("\n") == 1


@pytest.fixture
def config(config):
    return configuration.change(config, ["alignment.init=none"])


@pytest.mark.gpu
@pytest.mark.parametrize("graphed", [False, True])
def test_a_step_has_the_losses_and_gradients_of_the_cpu(config, tiny, graphed):
    made, data = [fixed_batch(tiny, config, clips) for clips in ([1, 4, 6, 9], [9, 8, 7, 5])], Data(tiny, tiny, tiny)
    truth = gradients(config, data, ALONE, *made, precision="float32")
    processes = Processes.join("cuda")
    on_gpu = with_keys(config, "system", cuda_graphs=graphed)
    ours = gradients(on_gpu, data, processes, *(batch.to(processes.device) for batch in made), precision="float32")
    assert {name: distance(ours[name], truth[name]) for name in truth} == pytest.approx(
        dict.fromkeys(truth, 0), abs=1e-3
    )


@pytest.mark.gpu
@pytest.mark.usefixtures("stub_front_end")
def test_a_step_does_not_wait_for_the_device(config):
    config = with_keys(config, "alignment", init="em", init_steps=10**6)
    corpus = prepared(config)
    corpus.durations = even_durations(corpus)
    processes = Processes.join("cuda")
    state = build_state(config, processes, corpus.symbols)
    batch = fixed_batch(corpus, config, [1, 4, 6, 9]).to(processes.device)
    train.train_step(state, batch)  # kernels are loaded
    torch.cuda.set_sync_debug_mode("error")
    try:
        train.train_step(state, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_it_speaks_as_on_the_cpu(config, tiny):
    gpu.set_precision("cuda", False)
    state, x = build_state(config, ALONE, tiny.symbols), torch.from_numpy(tiny.ids[9])[None]
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
def test_a_run_trains_and_goes_on(arguments, runs, amp):
    keys = ["alignment.init=none", "system.num_workers=1", "training.train_num_steps=4"]
    assert train.main([*arguments, *keys, "-a", amp]) == 0
    run = only(runs)
    assert train.main(["-id", run.name, "training.train_num_steps=8"]) == 0
    assert steps(run)[-1] == 8 and checkpoint.steps(run, "voice")[-1] == 8
