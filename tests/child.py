"""What tests run in processes of their own: python -m tests.child COMMAND PATH [the arguments of train.py]."""

import functools
import itertools
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

import text
import train
from data_util import config as configuration
from data_util import features
from data_util.audio import AudioError
from data_util.config import ROOT
from data_util.dataset import batches
from evaluation import metrics
from tests.conftest import HOP, StubFrontEnd
from training import checkpoint, step, validation
from training.data import prepare_data
from training.distributed import Processes, exit_with
from training.state import build_state

# -- for tests, which start such processes


def start(command, path, arguments, processes=1, n_nodes=1, port=0, environment=None):
    """A process of this file, or torchrun's of several: `processes` in this one of n_nodes that meet at a port. It is
    the first of its group."""
    launcher, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--max-restarts=2",
                                            f"--nproc_per_node={processes}"]  # fmt: skip
    if n_nodes > 1:
        launcher = [*torchrun, f"--nnodes={n_nodes}", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}",
                    "--rdzv-id=test"]  # fmt: skip
    elif processes > 1:
        launcher = [*torchrun, "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    return subprocess.Popen([*launcher, "-m", "tests.child", command, str(path), *arguments], cwd=ROOT,
                            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            start_new_session=True)  # fmt: skip


def finish(process, status=0, seconds=600):
    """What a process says, which has to end with this status."""
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.terminate()  # torchrun takes those that it has started along
        raise AssertionError(f"not done in {seconds} s: {process.communicate()[0]}") from None
    assert process.returncode == status, output
    return output


# -- what they run


def fake_f0(wav, *_):
    """In place of pYIN, which takes longer than the training."""
    frames = np.arange(len(wav) // HOP)
    return np.stack([np.log(200 + 40 * np.sin(frames / 5)), frames % 7 < 5]).astype(np.float32)


def make_quick(measures=False):
    """Letters instead of phonemes, no pYIN, no pictures, and no measures but where a validation is to have them."""
    text.FrontEnd, features.track_f0, metrics.track_f0 = StubFrontEnd, fake_f0, fake_f0
    metrics.missing_packages = lambda names=("jiwer", "distillmos", "speechmos"): [*names]
    validation.save_validation = validation.save_curves = lambda *_: None
    if not measures:
        validation.validate = lambda *_: {"latent_l1": 1.0}


def run_train(runs: str, argv: list[str]) -> int:
    """train.py with its runs in another folder."""
    checkpoint.RUNS = Path(runs)
    return train.main(argv)


def run_quick(runs: str, argv: list[str]) -> int:
    """run_train, reading letters and measuring nothing, where a rank kills itself once, at a step; both are in the
    environment's KILL_RANK_AT."""
    make_quick()
    rank, _, at = os.environ.get("KILL_RANK_AT", "").partition(" ")
    once = Path(f"{runs}.once")
    if rank and os.environ["RANK"] == rank and not once.exists():
        once.touch()
        train.train_step = functools.partial(_kill_at, int(at), train.train_step)
    return run_train(runs, argv)


def _kill_at(at, train_step, state, *micro_batches):
    if state.step == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(state, *micro_batches)


def run_together(folder: str, argv: list[str]) -> int:
    """One after the other: the gradients of some steps, a whole run, and a run where the clips of rank 1 can no longer
    be read after some batches, which fails."""
    make_quick(measures=True)
    if save_gradients(f"{folder}/gradients.pt", argv) != 0 or run_train(f"{folder}/whole", argv) != 0:
        return 2
    validation.validate = lambda *_: {"latent_l1": 1.0}
    if os.environ["RANK"] == "1":
        train.batches = _break_off
    return run_train(f"{folder}/faulty", [*argv, "system.save_ckpt=100"])


def _break_off(*arguments, **keywords):
    yield from itertools.islice(batches(*arguments, **keywords), 3)
    raise AudioError("clip.wav is gone")


def run_lives(folder: str, argv: list[str]) -> int:
    """A run in one life, in whole/, and one in KILLS + 1, in killed/, ended by SIGKILL at random instants, of steps,
    of saving, and of validations, which take half of the time."""
    make_quick()
    validation.validate = _validate_slowly
    chance, killed = random.Random(0), Path(folder) / "killed"
    whole = _life(Path(folder) / "whole", argv)
    if os.waitpid(whole, 0)[1] != 0:
        return 1
    kills = int(os.environ["KILLS"])
    while kills > 0:
        (name,) = [path.name for path in killed.glob("*")] or [None]
        before = _newest(killed)
        life = _life(killed, ["-id", name] if before else argv)
        target = before + chance.randint(1, 3)
        while _newest(killed) < target and os.waitpid(life, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(life, signal.SIGKILL)
        if os.waitpid(life, 0)[1] != signal.SIGKILL:
            return 1  # it had ended before
        kills -= 1
    return os.waitstatus_to_exitcode(os.waitpid(_life(killed, ["-id", name]), 0)[1])


def _validate_slowly(state, *_):
    """The prosody is best at step 4, and has stopped before the end."""
    time.sleep(0.04)
    return {"latent_l1": 1.0, "loss_prosody": 1.0 + (state.step != 4)}


def _life(runs, argv):
    """A process of its own that trains: a fork, which has no need to import anything."""
    life = os.fork()
    if life == 0:
        status = 1
        try:
            status = run_train(str(runs), argv)
        finally:
            os._exit(status)
    return life


def _newest(runs):
    return max((step for run in runs.glob("*") for step in checkpoint.steps(run, "project")), default=0)


def save_gradients(out: str, argv: list[str]) -> int:
    """The gradients of one step in each stage, in float64, as they are before clipping, into a file."""
    args = train.parse_args(argv)
    processes = Processes.join()
    config = configuration.load(args.c, args.overrides)
    corpus = prepare_data(config, processes).own
    gradients, step_optimiser = {}, train.step_optimiser
    for stage, number in enumerate((0, config.training.train_num_steps - 1)):
        state = build_state(config, processes, corpus.symbols)
        state.step = number
        for network in (state.model, state.ema, state.discriminators):
            network.double()
        train.step_optimiser = step.step_optimiser = functools.partial(_keep, gradients, stage)
        stream = batches(corpus, config, first_step=number, rank=processes.rank, world_size=processes.size)
        micro_batches = [next(stream) for _ in range(config.training.accumulate)]
        for batch in micro_batches:
            for name in ("mel", "wav", "noise", "u"):
                setattr(batch, name, getattr(batch, name).double())
        values = train.train_step(state, *micro_batches)
        gradients |= {f"{stage} {name}": value for name, value in values.items()}
    train.step_optimiser = step.step_optimiser = step_optimiser
    if processes.is_main:
        torch.save(gradients, out)
    processes.leave()
    return 0


def _keep(gradients, stage, state, optimiser, _loss):
    """In place of step_optimiser: keep the gradients and change nothing."""
    for group in optimiser.param_groups:
        for i, parameter in enumerate(group["params"]):
            gradients[f"{stage} {group['name']} {i}"] = parameter.grad.clone()
    optimiser.zero_grad()
    state.skipped = torch.zeros(())
    return {}


COMMANDS = {"train": run_train, "quick": run_quick, "lives": run_lives, "together": run_together}

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    command, path, *rest = sys.argv[1:]
    exit_with(functools.partial(COMMANDS[command], path, rest))
