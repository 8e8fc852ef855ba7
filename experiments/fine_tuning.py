"""What it saves to begin with another voice's weights: python -m experiments.fine_tuning -o DIR.

A small model learns a voice of espeak-ng. Minutes of another are then learnt twice: from the beginning, and in a
quarter of the steps from that model (-from). What is done is not done again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import soundfile

from data_util import config as configuration
from data_util import demo
from data_util.config import Config
from data_util.corpus import read_metafile
from experiments import runs
from model.losses import LOG_TWO_PI
from runtime.files import write_atomic
from training import checkpoint
from training.distributed import Processes

SHARE = 4  # scratch has so many times the steps of the fine-tuned one
VALIDATIONS = 4  # of each run
GAUSSIAN = ("loss_prior", "loss_frame")  # nats of normalised latents, whose unit is each model's own
ROWS = {  # of a validation: title
    "loss": "all losses, summed",
    "loss_prior": "prior",
    "loss_frame": "prior, refined",
    "loss_duration": "durations",
    "loss_prosody": "pitch and energy",
    "loss_f0": "F0",
    "loss_voicing": "voicing",
    "latent_l1": "one-step L1, nats",
    "copy_mel_l1": "copy synthesis, mel L1, nats",
}


def first_minutes(metafile: Path, root: Path, minutes: float) -> str:
    """The lines of a list whose recordings come to so many minutes, from the first on; all where there are fewer."""
    lines = metafile.read_text(encoding="utf-8").splitlines(keepends=True)
    seconds = [soundfile.info(clip.wav_path).duration for clip in read_metafile(metafile, root)]
    return "".join(line for line, until in zip(lines, accumulate(seconds)) if until <= 60 * minutes)


def config_of(args: argparse.Namespace, voice: str, steps: int, every: int, more: Sequence[str] = ()) -> Config:
    """The overlay without discriminators, on one voice's list train_short.txt."""
    root = args.out.resolve()
    own = [f"system.validation_step={every}", "system.validation_clips=100"]
    corpus = runs.of_corpus(root / voice, root / "cache", "train_short.txt")
    return runs.load(args.c, [runs.WITHOUT_DISCRIMINATORS], steps, [*own, *corpus, *more], args.overrides)


def in_units(lines: list[dict], latent_std: float, of: float) -> list[dict]:
    """Validations of a model whose latents are log-mels over latent_std, as they would be were they over `of`, with
    the sum of all losses. A squared error counts in the square of the unit; the Gaussian's constant in none."""
    scale, found = (latent_std / of) ** 2, []
    for line in lines:
        here = {name: value for name, value in line.items() if name in ROWS or name == "step"}
        for name in (name for name in GAUSSIAN if name in here):
            here[name] = 0.5 * LOG_TWO_PI + (here[name] - 0.5 * LOG_TWO_PI) * scale
        found.append(here | {"loss": sum(value for name, value in here.items() if name.startswith("loss_"))})
    return found


def reached(lines: list[dict], name: str, value: float) -> int | None:
    """The first step at which a number was as low."""
    return next((line["step"] for line in lines if line[name] <= value), None)


def table(scratch: list[dict], tuned: list[dict]) -> str:
    """Markdown: a row for each number. scratch, tuned: the validations of both runs, in the same units."""
    last, rows = scratch[-1]["step"], []
    for name in (name for name in ROWS if name in scratch[0]):
        best, other = (min(line[name] for line in lines) for lines in (scratch, tuned))
        step = reached(tuned, name, best)
        rows.append([ROWS[name], f"{best:.3f}", f"{other:.3f}", "" if step is None else str(step)])
    step = reached(tuned, "loss", min(line["loss"] for line in scratch))
    said = f"after {step} steps, {step / last:.0%} of" if step is not None else f"not in {tuned[-1]['step']} of"
    heads = ["held out", f"from scratch, best of {last} steps", f"fine-tuned, best of {tuned[-1]['step']}"]
    return f"{runs.table([[*heads, 'as low at step'], *rows])}\nas low a loss as from scratch: {said} its {last}\n"


def measure(args: argparse.Namespace, processes: Processes) -> tuple[list[dict], list[dict]]:
    """The validations of the run from scratch and of the fine-tuned one, in the same units."""
    config = configuration.load(args.c, args.overrides)
    for voice, minutes in ((args.first, float("inf")), (args.second, args.minutes)):
        corpus = args.out / voice
        demo.make(corpus, config, demo.sentences()[: args.sentences], voices=[voice])
        write_atomic(corpus / "train_short.txt", first_minutes(corpus / "train.txt", corpus, minutes).encode())
    runs.run(config_of(args, args.first, args.first_steps, args.first_steps), args.out / "first", processes)
    start = f"fine_tuning.start={json.dumps([str(checkpoint.find(args.out / 'first', 'voice').resolve())])}"
    few, found, unit = args.steps // SHARE, [], None
    for name, steps, more in (("scratch", args.steps, []), ("tuned", few, [start])):
        config = config_of(args, args.second, steps, max(1, steps // VALIDATIONS), more)
        lines = runs.run(config, args.out / name, processes)
        latent_std = checkpoint.load_voice(checkpoint.find(args.out / name, "voice")).weights["latent_std"].item()
        unit = unit or latent_std
        found.append(in_units(lines, latent_std, unit))
    return found[0], found[1]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = runs.parser("fine_tuning", __doc__, "demo")
    parser.add_argument("--first", default="en-us+m3", metavar="VOICE", help="of espeak-ng, that there is a model of")
    parser.add_argument("--second", default="en-us+f2", metavar="VOICE", help="that it is to become")
    parser.add_argument("--sentences", type=int, default=len(demo.sentences()), help="of data_util/demo.txt")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the second voice, at most")
    parser.add_argument("--first-steps", type=int, default=1200, help="of the first model", metavar="STEPS")
    parser.add_argument("--steps", type=int, default=400, help="of that from scratch, four times those of fine-tuning")
    args = parser.parse_intermixed_args(argv)
    if args.first == args.second:
        parser.error(f"--second {args.second}: must be another voice than --first")
    if args.steps < SHARE * VALIDATIONS or args.sentences < demo.VALID_EVERY:
        parser.error(f"--steps must be at least {SHARE * VALIDATIONS}, --sentences at least {demo.VALID_EVERY}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_args(argv)
    return runs.command("fine_tuning", lambda processes: table(*measure(args, processes)), args.out)


if __name__ == "__main__":
    sys.exit(main())
