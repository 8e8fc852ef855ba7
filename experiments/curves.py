"""Draw a run: python -m experiments.curves ID [NAME ...] [-o FILE]. The values of its log, in groups."""

import argparse
import re
import sys
from pathlib import Path

from runtime import command
from training import checkpoint, voices
from training.checkpoint import CheckpointError
from training.plots import save_curves
from training.run_log import read_lines


def lines_of(folder: Path, names: list[str]) -> list[dict]:
    """The log of a run and, where a recipe made it, of the runs in its folder, whose values are named `run: value`.

    names: patterns, of which a value's name must have one in it; none: all. Raises CheckpointError.
    """
    if not folder.is_dir():
        checkpoint.find(folder, "project")  # which says what there is
    lines = []
    for path in (folder / "log.jsonl", *sorted(folder.glob("*/log.jsonl"))):
        prefix = "" if path.parent == folder else f"{path.parent.name}: "
        for line in (line for line in read_lines(path) if line["kind"] in ("train", "valid")):
            values = {prefix + name: value for name, value in line.items() if name not in ("step", "kind")}
            values = {name: one for name, one in values.items() if not names or any(re.search(n, name) for n in names)}
            lines += [{"step": line["step"], "kind": line["kind"], **values}] if values else []
    if not lines:
        what = f"has {' or '.join(names)}" if names else "is written yet"
        raise CheckpointError(f"{folder}: nothing in its log {what}")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.curves", description=__doc__.split(":")[0],
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("id", type=voices.run_id, metavar="ID", help="the run in checkpoint/, or a path")
    parser.add_argument("names", nargs="*", metavar="NAME", help="regular expressions: only values that match one")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="a PNG; without it curves.png of the run")
    args = parser.parse_args(argv)
    folder = checkpoint.RUNS / args.id
    out = args.out or folder / "curves.png"
    try:
        save_curves(out, lines_of(folder, args.names))
    except (CheckpointError, OSError, re.error) as error:
        print(f"curves: {error}", file=sys.stderr)
        return 1
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
