"""Trainings that experiments compare, each in a folder of its own; one that was killed goes on where it stopped."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import train
from data_util import config as configuration
from data_util.config import Config, ConfigError
from runtime.command import Help
from runtime.files import write_atomic
from training import checkpoint
from training.data import prepare_data
from training.distributed import Processes
from training.failures import Stopped
from training.initialise import initialise
from training.recording import Run
from training.run_log import RunLog, validations
from training.state import make_state


def overrides_of(stages: Sequence[dict], base: Config) -> list[str]:
    """Overrides that give a configuration these stages, each as training.stages has it; where none of them trains
    f0_residual F0 is its mean."""
    without = base.has_f0_residual and not any("f0_residual" in stage["parts"] for stage in stages)
    return [f"training.stages={json.dumps(stages)}", *(["prosody.residual_layers=0"] if without else [])]


def load(overlay: str, stages: Sequence[dict], steps: int, more: Sequence[str], overrides: Sequence[str]) -> Config:
    """The configuration of so many steps, validated at the last: an overlay, stages, more, and overrides over all."""
    own = [f"training.train_num_steps={steps}", f"system.validation_step={steps}", "system.save_ckpt=50",
           "system.keep_ckpt=1", "system.sample_clips=1"]  # fmt: skip
    of_stages = overrides_of(stages, configuration.load(overlay, overrides))
    return configuration.load(overlay, [*of_stages, *own, *more, *overrides])


def of_corpus(folder: Path, cache: Path) -> list[str]:
    """Overrides that name a corpus as data_util.demo makes it."""
    paths = {"prtpath": folder, "cache": cache, "metafile_train": folder / "train.txt",
             "metafile_valid": folder / "valid.txt"}  # fmt: skip
    values = {name: json.dumps(str(path), ensure_ascii=False) for name, path in paths.items()}  # a value is YAML
    return [f"dataset.{name}={value}" for name, value in values.items()]


def run(config: Config, folder: Path, processes: Processes) -> list[dict]:
    """Train to the end, from where a former call was stopped. Returns the validations.

    Raises ConfigError where the folder is of another configuration.
    """
    written, about = configuration.to_yaml(config).encode(), folder / "config.yaml"
    if about.is_file() and about.read_bytes() != written:
        raise ConfigError(f"{folder} was begun with another configuration: give the options that it was begun with, "
                          "name another -o, or remove it")  # fmt: skip
    if config.training.train_num_steps not in [line["step"] for line in validations(folder)]:
        data, is_begun = prepare_data(config, processes), checkpoint.steps(folder, "project")
        ckpt = checkpoint.load_newest(folder) if is_begun else None
        state = make_state(config, processes, data, ckpt)
        if ckpt is None:
            initialise(state, data.own)
        checkpoint.set_aside(folder, state.step)
        write_atomic(about, written)
        train.train(state, data, Run(folder, RunLog(folder, state.step)))
        for path in folder.glob("project_*.pt"):  # nobody goes on from there, and runs are many
            path.unlink()
    return validations(folder)


def parser(name: str, about: str, overlay: str) -> argparse.ArgumentParser:
    """Of a command that trains what overlay, or -c, names, in the folder -o."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{name}", description=about.split("\n", maxsplit=1)[0],
                                     formatter_class=Help)  # fmt: skip
    parser.add_argument("-c", "--config", dest="c", default=overlay, metavar="NAME_OR_FILE",
                        help="the overlay that the models are made of")  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="a folder for each run, the "
                        "corpora, and table.md")  # fmt: skip
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the overlay")
    return parser


def command(name: str, work: Callable[[Processes], str], out: Path) -> int:
    """Do a command's work, print the table that it returns, which goes into out/table.md too, and return the exit
    status: 0, or after one clear line on standard error 1, or a signal's."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        said = work(Processes.join())
        write_atomic(out / "table.md", said.encode())
    except Stopped as stopped:
        print(f"{name}: stopped; the same command goes on from here", file=sys.stderr)
        return stopped.status
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        Processes.leave()
    print(said, end="")
    return 0


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown, of cells, the headings first; numbers stand to the right."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]]) + "\n"
