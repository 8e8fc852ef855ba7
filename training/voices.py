"""The voices of the runs in checkpoint/: which there are, what -id names, and which speaks where none is named."""

import argparse
import contextlib
from pathlib import Path

from training import checkpoint
from training.checkpoint import CheckpointError
from training.run_log import validations

INTELLIGIBLE = 0.5  # of the characters wrong at most, as a recogniser hears the last validation; babble has more


def add_arguments(parser: argparse.ArgumentParser, otherwise: str = "") -> None:
    """-id and -ckpt, which name a voice. otherwise: what there is without -id, beside the newest intelligible run."""
    said = f"a run in checkpoint/, or a path; else the newest intelligible one{otherwise}"
    parser.add_argument("-id", "--id", type=run_id, metavar="ID", help=said)
    parser.add_argument("-ckpt", "--ckpt", type=int, metavar="STEP", help="a voice's step; without it the newest")


def add_phonemizer(parser: argparse.ArgumentParser) -> None:
    """--phonemizer, which gives overrides of the voice's configuration."""
    said = "espeak or cmudict; by default the one that the voice learnt with"
    parser.add_argument("--phonemizer", dest="overrides", metavar="NAME", default=[], help=said,
                        type=lambda name: [f"text.phonemizer={name}"])  # fmt: skip


def run_id(name: str) -> str:
    """A run as the folders under checkpoint/ name it, given that name or a path to the folder or to a voice in it; of a
    run elsewhere, its path."""
    if not Path(name).is_absolute() and (checkpoint.RUNS / name).exists():
        return Path(name).as_posix()
    for path, runs in ((Path(name).absolute(), checkpoint.RUNS), (Path(name).resolve(), checkpoint.RUNS.resolve())):
        if path.is_relative_to(runs) and path.exists():
            return path.relative_to(runs).as_posix()
    return str(Path(name).absolute()) if Path(name).exists() else name


def find(name: str | None, step: int | None = None) -> tuple[Path, str]:
    """The .safetensors of a run, or of a file, that -id and -ckpt name, and a few words on which it is, why for None.

    Raises CheckpointError where there is none.
    """
    folder, why = (checkpoint.RUNS / name, "") if name is not None else choose()
    path = folder if folder.suffix == ".safetensors" else checkpoint.find(folder, "voice", step)
    return path, f"run {path.parent.name}, step {path.stem.partition('_')[2].lstrip('0') or 0}{why}"


def choose() -> tuple[Path, str]:
    """The run that wrote a voice last of those whose last validation was intelligible, else the bundled voice; and why,
    with the newer run that was passed over, if there is one. Raises CheckpointError without either."""
    passed_over = ""
    spoken = [folder for folder in checkpoint.RUNS.glob("*")
              if folder.is_dir() and folder != checkpoint.BUNDLED and checkpoint.steps(folder, "voice")]  # fmt: skip
    for folder in sorted(spoken, key=lambda one: checkpoint.find(one, "voice").stat().st_mtime, reverse=True):
        cer = last_cer(folder)
        if cer is not None and cer <= INTELLIGIBLE:
            return folder, passed_over
        heard = "its log has no CER" if cer is None else f"{cer:.0%} of its characters are heard wrong"
        passed_over = passed_over or f" ({folder.name} is newer, but {heard}: -id {folder.name} speaks with it)"
    if checkpoint.steps(checkpoint.BUNDLED, "voice"):
        return checkpoint.BUNDLED, f", the bundled voice{passed_over}"
    reason = f"no intelligible voice{passed_over}" if passed_over else "no voice"
    raise CheckpointError(f"{reason} in {checkpoint.RUNS} yet: train one with bash run.sh")


def last_cer(folder: Path) -> float | None:
    """The character error rate of a run's last validation; None where it was not measured."""
    lines = validations(folder)
    return lines[-1].get("cer") if lines else None


def table() -> str:
    """A line a run: its id, how its last validation was heard, its voices' steps; * is what speaks where none is
    named."""
    chosen = None
    with contextlib.suppress(CheckpointError):
        chosen, _ = choose()
    folders = sorted(path.parent for path in checkpoint.RUNS.glob("**/config.yaml"))
    if checkpoint.steps(checkpoint.BUNDLED, "voice"):
        folders.append(checkpoint.BUNDLED)
    rows = [("", "id", "CER", "voices"), *(_row(folder, chosen) for folder in folders)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows)


def _row(folder, chosen):
    cer = last_cer(folder)
    name = folder.relative_to(checkpoint.RUNS).as_posix() if folder != checkpoint.BUNDLED else folder.name
    return ("*" if folder == chosen else "", name, "-" if cer is None else f"{cer:.1%}",
            ", ".join(map(str, checkpoint.steps(folder, "voice"))) or "none")  # fmt: skip
