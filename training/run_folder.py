"""What a run leaves beside its checkpoints: its folder with configuration and log."""

import argparse
import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from data_util import config as configuration
from runtime.files import remove_torn, write_atomic
from training import checkpoint, voices
from training.data import Data
from training.distributed import Processes
from training.recording import Run
from training.run_log import RunLog, validations
from training.state import State, checkpoint_of
from training.trackers import Tracker
from training.validation import has_stopped_improving

log = logging.getLogger("train")


def open_run(state: State, data: Data, folder: Path, trackers: list[Tracker]) -> Run:
    """Make the run's folder ready for what comes after state.step."""
    if not state.processes.is_main:
        return Run(folder, None)
    checkpoint.set_aside(folder, state.step)
    remove_torn(folder)
    left_out = (*data.clips.skipped, *data.valid.skipped)
    write_atomic(folder / "config.yaml", configuration.to_yaml(state.config).encode())
    write_atomic(folder / "skipped.txt", "".join(f"{clip}\t{why}\n" for clip, why in left_out).encode())
    optimisers = (state.optimiser, state.optimiser_discriminators)
    moments = [group["params"] for one in optimisers if not one.state for group in one.param_groups]
    checkpoint.check_room(folder, [checkpoint_of(state), moments, moments])  # now rather than after the first hours
    precision = "bfloat16" if state.model.amp else "float32"
    log.info("run %s from step %d on %s x %d in %s", voices.run_id(str(folder)), state.step, state.processes.device,
             state.processes.size, precision)  # fmt: skip
    run_log = RunLog(folder, state.step, trackers)
    if state.unwritten is not None:
        run_log.go_on(state.unwritten)
    return Run(folder, run_log)


def is_finished(folder: Path, overrides: Sequence[str]) -> bool:
    """Whether a run has come to its end, or to that of its patience, has been validated there and saved. overrides:
    section.key=value over its configuration, such as more steps. Raises ConfigError."""
    if not (folder / "config.yaml").is_file():
        return False
    config = configuration.load((), overrides, folder / "config.yaml")
    lines = validations(folder)
    step = lines[-1]["step"] if lines else None
    is_over = has_stopped_improving(config, lines) or step == config.training.train_num_steps
    return is_over and step in checkpoint.steps(folder, "project")


# -- a launch by torchrun, which may start the processes again


def _launch_file():
    """Where the processes that torchrun starts in place of ended ones find the run's name; None without torchrun."""
    launch = os.environ.get("TORCHELASTIC_RUN_ID")
    return launch and checkpoint.RUNS / f".launch-{hashlib.sha256(launch.encode()).hexdigest()[:12]}"


def begin_launch(name: str) -> None:
    """Say which run it is that this launch trains, "" before there is one."""
    if _launch_file():
        write_atomic(_launch_file(), name.encode())


def end_launch() -> None:
    """Say that starting again would not help, or is not needed."""
    if _launch_file():
        with contextlib.suppress(OSError):  # what ended it is what should be heard of
            _launch_file().unlink(missing_ok=True)


def go_on_after_restart(args: argparse.Namespace, processes: Processes) -> bool:
    """Make args go on with the newest checkpoint where torchrun starts the processes again, as all of them do.

    Returns False where there is nothing to be done again: the processes before have said why they ended.
    """
    if not _launch_file():
        return True
    # each node counts its own failures: where another's process has died, one starts again with its count at 0
    if processes.all_reduce_max(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))) == 0:
        if processes.is_main:
            begin_launch("")  # whatever an earlier launch of that name may have left
        return True
    name = processes.broadcast(_launch_file().read_text() if processes.is_main and _launch_file().is_file() else None)
    if not name:
        return name == ""  # a process was lost before there was a run: from the beginning
    args.name, args.ckpt = name, None
    if processes.broadcast(bool(checkpoint.steps(checkpoint.RUNS / name, "project"))):
        args.id, args.c = name, None
    return True
