"""What a run leaves beside its checkpoints: its folder with configuration and log, and its run in wandb."""

import argparse
import logging
from pathlib import Path

from data_util import checkpoint
from data_util import config as configuration
from data_util.config import Config, ConfigError
from data_util.files import write_atomic
from data_util.run_log import RunLog
from training.data import Data
from training.state import State

log = logging.getLogger("train")


def open_folder(state: State, data: Data, folder: Path, wandb_run) -> tuple[Path, RunLog | None]:
    """Make the run's folder ready for what comes after state.step: the folder, and the first process's log."""
    if not state.world.first:
        return folder, None
    checkpoint.set_aside(folder, state.step)
    write_about(state.run_config, data, folder)
    precision = "bfloat16" if state.model.amp else "float32"
    log.info("run %s from step %d on %s x %d in %s", folder.relative_to(checkpoint.RUNS), state.step,
             state.world.device, state.world.size, precision)  # fmt: skip
    return folder, RunLog(folder, state.step, wandb_run)


def write_about(config: Config, data: Data, folder: Path) -> None:
    """The configuration of a run, and the clips that it leaves out, into its folder."""
    skipped = [*data.clips.skipped, *data.valid.skipped]
    write_atomic(folder / "config.yaml", configuration.to_yaml(config).encode())
    write_atomic(folder / "skipped.txt", "".join(f"{clip}\t{why}\n" for clip, why in skipped).encode())


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
