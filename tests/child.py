"""What tests run in processes of their own: python -m tests.child COMMAND PATH [the arguments of train.py]."""

import functools
import itertools
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

import text
import train
from data_util import checkpoint, measures
from data_util import config as configuration
from data_util.audio import AudioError
from data_util.dataset import batches
from data_util.world import World, exit_with
from tests.conftest import StubFrontEnd
from training import lanes, validation
from training.data import prepare_data
from training.state import build_state


def run_train(runs: str, argv: list[str]) -> int:
    """train.py with its runs in another folder."""
    checkpoint.RUNS = Path(runs)
    return train.main(argv)


def run_lanes(runs: str, argv: list[str]) -> int:
    """run_train, reading letters and leaving no pictures, whose lanes are processes like it.

    The environment's KILL_LANE_AT, a lane and a step, is when that lane kills itself.
    """
    text.FrontEnd = StubFrontEnd
    validation.save_validation = validation.save_curves = lambda *_: None
    measures.missing_packages = lambda names=("jiwer", "speechmos"): [*names]
    lanes.lane_command = lambda args, name: [sys.executable, "-m", "tests.child", "lanes", runs, "-id", args.id,
                                             "-lane", name]  # fmt: skip
    lane, _, step = os.environ.get("KILL_LANE_AT", "").partition(" ")
    if lane in argv:
        train.train_step = functools.partial(_kill_at, int(step), train.train_step)
    return run_train(runs, argv)


def _kill_at(step, train_step, state, batch):
    if state.step == step:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(state, batch)


def run_restarted(runs: str, argv: list[str]) -> int:
    """run_train, measuring nothing, where a rank kills itself once, at a step; both are in KILL_RANK_AT."""
    _make_quick()
    rank, _, step = os.environ.get("KILL_RANK_AT", "").partition(" ")
    once = Path(f"{runs}.once")
    if os.environ["RANK"] == rank and not once.exists():
        once.touch()
        train.train_step = functools.partial(_kill_at, int(step), train.train_step)
    return run_train(runs, argv)


def _make_quick():
    """Letters instead of phonemes, and validations that measure nothing."""
    text.FrontEnd = StubFrontEnd
    validation.validate, validation.save_curves = (lambda *_: {"latent_l1": 1.0}), lambda *_: None


def run_quick(runs: str, argv: list[str]) -> int:
    """run_train, reading letters and measuring nothing."""
    _make_quick()
    return run_train(runs, argv)


def run_faulty(runs: str, argv: list[str]) -> int:
    """run_train, measuring nothing, where the clips of FAULTY_RANK can no longer be read after some batches."""
    _make_quick()
    if os.environ["RANK"] == os.environ["FAULTY_RANK"]:
        train.batches = _break_off
    return run_train(runs, argv)


def _break_off(*arguments, **keywords):
    yield from itertools.islice(batches(*arguments, **keywords), 5)
    raise AudioError("clip.wav is gone")


def run_lives(folder: str, argv: list[str]) -> int:
    """A run in one life, in whole/, and one in KILLS + 1, in killed/, ended by SIGKILL at random instants, of steps,
    of saving, and of validations, which take half of the time."""
    _make_quick()
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
    """Pitch and energy are best at step 4, and have stopped before the end."""
    time.sleep(0.04)
    return {"latent_l1": 1.0, "loss_variance": 1.0 + (state.step != 4)}


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
    world = World.join()
    config = configuration.load(args.c, args.overrides)
    corpus = prepare_data(config, world).own
    gradients = {}
    for stage, step in enumerate((0, config.training.train_num_steps - 1)):
        state = build_state(config, world, corpus.symbols)
        state.step = step
        for network in (state.model, state.ema, state.discriminators):
            network.double()

        train.update = functools.partial(_keep, gradients, stage)
        stream = batches(corpus, config, first_step=step, rank=world.rank, world_size=world.size)
        passes = [next(stream) for _ in range(config.training.accumulate)]
        for batch in passes:
            for name in ("mel", "wav", "noise", "u"):
                setattr(batch, name, getattr(batch, name).double())
        values = train.train_step(state, *passes)
        gradients |= {f"{stage} {name}": value for name, value in values.items()}
    if world.first:
        torch.save(gradients, out)
    world.leave()
    return 0


def _keep(gradients, stage, _state, optimiser, _loss):
    """In place of train.update: keep the gradients and change nothing."""
    for group in optimiser.param_groups:
        for i, parameter in enumerate(group["params"]):
            gradients[f"{stage} {group['name']} {i}"] = parameter.grad.clone()
    optimiser.zero_grad()
    return {}


COMMANDS = {"train": run_train, "lanes": run_lanes, "gradients": save_gradients, "restarted": run_restarted,
            "lives": run_lives, "quick": run_quick, "faulty": run_faulty}  # fmt: skip

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    command, path, *rest = sys.argv[1:]
    exit_with(functools.partial(COMMANDS[command], path, rest))
