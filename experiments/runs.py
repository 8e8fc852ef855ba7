"""Trainings that experiments compare, each in a folder of its own; one that was killed goes on where it stopped."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import train
from data_util import checkpoint
from data_util import config as configuration
from data_util.config import Config, ConfigError
from data_util.files import write_atomic
from data_util.run_log import RunLog, read_lines
from data_util.world import World
from training.begin import begin
from training.data import prepare_data
from training.lanes import trained_parts
from training.state import make_state


def stage(parts: str, share: float = 1.0, latents: str = "joint", final: float = 0.02, gradient: str = "off") -> str:
    """A stage of one_lane, as a configuration has it.

    parts: what trains and how fast: `text_encoder: 1.0e-3, decoder: 1.0e-3`; share: of the steps; latents: that the
    generator is given; final: share of the rates at its end; gradient: feature_gradient.
    """
    return (f"{{lane: main, parts: {{{parts}}}, latents: '{latents}', share: {share!r}, final: {final}, "
            f"mu_gradient: true, feature_gradient: '{gradient}'}}")  # fmt: skip


def one_lane(*stages: str) -> list[str]:
    """Overrides that make one lane of any configuration, of these stages; without course F0 is its mean."""
    return [
        "training.lanes={main: {clips: all, start: [], means: []}}",
        f"training.stages=[{', '.join(stages)}]",
        *([] if any("course" in one for one in stages) else ["variance.course_layers=0"]),
    ]


def run(config: Config, folder: Path, world: World, start: Path | None = None, keep: bool = False) -> list[dict]:
    """Train one lane to its end, from where a former call was stopped, or first from where another run has ended.

    start: the folder of that run, whose steps then count; it may have another configuration. keep: the last project,
    for others to begin with. Returns the validations.
    Raises ConfigError where the folder is of another configuration.
    """
    check_folder(config, folder)
    if validation_at(folder, config.training.train_num_steps) is None:
        data = prepare_data(config, world)
        project, begun = None, [one for one in (folder, start) if one and checkpoint.steps(one, "project")]
        if begun:
            project = checkpoint.load_project(checkpoint.find(begun[0], "project"))
        state = make_state(train.parse_args([]), config, world, data, project)
        if project is None:
            begin(state, data.clips)
        state.sounding, state.reading = "generator" in trained_parts(config, list(config.training.lanes)), True
        checkpoint.set_aside(folder, state.step)
        write_atomic(folder / "config.yaml", configuration.to_yaml(config).encode())
        train.train(state, data, folder, RunLog(folder, state.step, None))
        for path in [] if keep else folder.glob("project_*.pt"):  # nobody goes on from there, and runs are many
            path.unlink()
    return validations(folder)


def check_folder(config: Config, folder: Path) -> None:
    """Raise ConfigError where a run's folder is of another configuration."""
    about = folder / "config.yaml"
    if about.is_file() and about.read_bytes() != configuration.to_yaml(config).encode():
        raise ConfigError(f"{folder} was begun with another configuration: give the options that it was begun with, "
                          "name another -o, or remove it")  # fmt: skip


def command(name: str, work: Callable[[World], str]) -> int:
    """Do a command's work, print what it returns, and return the exit status: 0, or after one clear line on standard
    error 1, or a signal's."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        said = work(World.join())
    except train.Stopped as stopped:
        print(f"{name}: stopped; the same command goes on from here", file=sys.stderr)
        return stopped.status
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        World.leave()
    print(said, end="")
    return 0


def validations(folder: Path) -> list[dict]:
    """The validations of a run so far, one after another; [] where there is none."""
    return [line for line in read_lines(folder / "log.jsonl") if line["kind"] == "valid"]


def validation_at(folder: Path, step: int) -> dict | None:
    return next((line for line in validations(folder) if line["step"] == step), None)
