"""What a run leaves beside its checkpoints: its folder with configuration and log, and its run in wandb."""

import argparse
import contextlib
import hashlib
import logging
import os
from pathlib import Path

from data_util import checkpoint
from data_util import config as configuration
from data_util.config import Config, ConfigError
from data_util.files import remove_torn, write_atomic
from data_util.run_log import RunLog
from data_util.world import World
from training.data import Data
from training.state import State, project_of

log = logging.getLogger("train")


def open_folder(state: State, data: Data, folder: Path, wandb_run) -> tuple[Path, RunLog | None]:
    """Make the run's folder ready for what comes after state.step: the folder, and the first process's log."""
    if not state.world.first:
        return folder, None
    checkpoint.set_aside(folder, state.step)
    remove_torn(folder)
    write_about(state.run_config, data, folder)
    optimisers = (state.optimiser, state.optimiser_discriminators)
    moments = [group["params"] for one in optimisers if not one.state for group in one.param_groups]
    checkpoint.check_room(folder, [project_of(state), moments, moments])  # now rather than after the first hours
    precision = "bfloat16" if state.model.amp else "float32"
    log.info("run %s from step %d on %s x %d in %s", folder.relative_to(checkpoint.RUNS), state.step,
             state.world.device, state.world.size, precision)  # fmt: skip
    run_log = RunLog(folder, state.step, wandb_run)
    if state.unwritten is not None:
        run_log.go_on(state.unwritten)
    return folder, run_log


def write_about(config: Config, data: Data, folder: Path) -> None:
    """The configuration of a run, and the clips that it leaves out, into its folder."""
    skipped = [*data.clips.skipped, *data.valid.skipped]
    write_atomic(folder / "config.yaml", configuration.to_yaml(config).encode())
    write_atomic(folder / "skipped.txt", "".join(f"{clip}\t{why}\n" for clip, why in skipped).encode())


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


def go_on_after_restart(args: argparse.Namespace, world: World) -> bool:
    """Make args go on with the newest checkpoint where torchrun starts the processes again, as all of them do.

    Returns False where there is nothing to be done again: the processes before have said why they ended.
    """
    if not _launch_file():
        return True
    # each node counts its own failures: where another's process has died, one starts again with its count at 0
    if world.most(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))) == 0:
        if world.first:
            begin_launch("")  # whatever an earlier launch of that name may have left
        return True
    name = world.agree(_launch_file().read_text() if world.first and _launch_file().is_file() else None)
    if not name:
        return name == ""  # a process was lost before there was a run: from the beginning
    args.name, args.ckpt, folder = name, None, checkpoint.RUNS / name
    if world.agree(any(checkpoint.steps(one, "project") for one in (folder, *folder.glob("*/")))):
        args.id, args.c = name, None
    return True


def start_wandb(args: argparse.Namespace, config: Config, name: str | None = None):
    """The wandb run that args ask for, the same one again when it is resumed. name: its id, if it has one already."""
    if args.test == "true":
        return None
    import wandb  # here, so that nothing else needs it

    try:
        return wandb.init(project=config.log.project, name=config.log.name, id=name, resume="allow",
                          config=configuration.to_dict(config))  # fmt: skip
    except wandb.errors.Error as error:
        raise ConfigError(f"wandb: {error}. Log in with `wandb login`, or train without it: -test true") from error
