"""A run's voice in half precision, small enough for a repository. python -m training.publish [-id ID] [-o FOLDER]"""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from data_util import config as configuration
from data_util.config import Config
from runtime import command
from training import checkpoint, voices
from training.checkpoint import CheckpointError


def halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in float16, which read back differ by at most 2^-11 of themselves; what is small or has one
    axis, as statistics, norms and biases have, stays as it is.

    Raises CheckpointError where a weight does not fit: over 65,504.
    """
    halves = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in weights.items()}
    broken = [name for name, tensor in halves.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(f"{', '.join(broken)}: too large for half precision, or not finite")
    return halves


def strip_paths(config: Config) -> Config:
    """Without the folders of the machine that it was trained on: those of config.yaml instead, and of other runs' and
    corpora's files the names. A lexicon, which is a file of that machine too, is not named any more."""
    usual, dataset, system = configuration.load(), config.dataset, config.system
    lists = {name: Path(path) for name, path in vars(dataset).items() if name.startswith("metafile_")}
    named = {name: path.name for name, path in lists.items() if path.is_absolute()}
    recogniser = usual.system.recogniser if Path(system.recogniser).is_absolute() else system.recogniser
    start = tuple(re.sub(r"(^|=)[^=]*/", r"\1", entry) for entry in config.fine_tuning.start)
    folders = tuple(Path(folder).name for folder in config.training.gta_folders)
    return replace(
        config,
        system=replace(system, recogniser=recogniser),
        text=replace(config.text, lexicon=""),
        dataset=replace(dataset, prtpath=usual.dataset.prtpath, cache=usual.dataset.cache, **named),
        training=replace(config.training, gta_folders=folders),
        fine_tuning=replace(config.fine_tuning, start=start),
    )


def publish(path: Path, folder: Path) -> Path:
    """Write a voice into a folder, and remove others that are there. path: its .safetensors.

    Returns the .safetensors; beside it is the .json. Raises CheckpointError, OSError.
    """
    if path.parent.resolve() == folder.resolve():
        raise CheckpointError(f"{path.parent.name} is published already: name another run with -id")
    voice = checkpoint.load_voice(path)
    path = checkpoint.save_voice(folder, voice.step, halved(voice.weights), strip_paths(voice.config), voice.symbols)
    checkpoint.keep_voices(folder, {voice.step})
    return path


def run(args: argparse.Namespace) -> None:
    source, which = voices.find(args.id, args.ckpt)
    print(which)
    path = publish(source, args.out)
    size = sum(file.stat().st_size for file in (path, path.with_suffix(".json")))
    print(f"{path} and its .json: {size / 1e6:.1f} MB")
    if lexicon := checkpoint.load_voice(source).config.text.lexicon:
        print(f"without its lexicon, {lexicon}: speak with -l FILE, as the voice has learnt")


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status, as of command.exit_status."""
    parser = argparse.ArgumentParser(prog="python -m training.publish", description=__doc__.splitlines()[0],
                                     formatter_class=command.Help)  # fmt: skip
    voices.add_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, default=checkpoint.BUNDLED, help="a folder")
    args = parser.parse_args(argv)
    return command.exit_status(run, args, "training.publish")


if __name__ == "__main__":
    sys.exit(main())
