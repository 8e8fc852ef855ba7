"""What it saves to begin with another voice's weights: python -m experiments.fine_tuning -o DIR.

A small model learns a voice of espeak-ng. Minutes of another are then learnt twice: from the beginning, and in a
quarter of the steps from that model (-from). What is done is not done again.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import soundfile

from data_util import checkpoint, demo
from data_util import config as configuration
from data_util.config import Config
from data_util.corpus import read_metafile
from data_util.files import write_atomic
from data_util.world import World
from experiments import runs
from model.losses import LOG_TWO_PI

PARTS = "text_encoder: 2.0e-3, variance: 2.0e-3, decoder: 2.0e-3, generator: 2.0e-3"
SHARE = 4  # scratch has so many times the steps of the fine-tuned one
VALIDATIONS = 4  # of each run
GAUSSIAN = ("loss_prior", "loss_frame")  # nats of normalised latents, whose unit is each model's own
ROWS = {  # of a validation: title
    "loss": "all losses, summed",
    "loss_prior": "prior",
    "loss_frame": "prior, refined",
    "loss_duration": "durations",
    "loss_variance": "pitch and energy",
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
    """The overlay with one lane and without discriminators, on one voice's list train_short.txt."""
    root = args.out.resolve()
    corpus = root / voice
    overrides = [
        *runs.one_lane(runs.stage(PARTS)),
        f"training.train_num_steps={steps}",
        f"system.validation_step={every}",
        "system.save_ckpt=50",
        "system.keep_ckpt=1",
        "system.validation_clips=100",
        "system.sample_clips=1",
        f"dataset.prtpath={corpus}",
        f"dataset.cache={root / 'cache'}",
        f"dataset.metafile_train={corpus / 'train_short.txt'}",
        f"dataset.metafile_valid={corpus / 'valid.txt'}",
    ]
    return configuration.load(args.c, [*overrides, *more, *args.overrides])


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


def best(lines: list[dict]) -> dict[str, float]:
    """The least that each number ever was."""
    return {name: min(line[name] for line in lines) for name in ROWS if name in lines[0]}


def reached(lines: list[dict], name: str, value: float) -> int | None:
    """The first step at which a number was as low."""
    return next((line["step"] for line in lines if line[name] <= value), None)


def table(scratch: list[dict], tuned: list[dict]) -> str:
    """Markdown: a row for each number. scratch, tuned: the validations of both runs, in the same units."""
    least, last = best(scratch), scratch[-1]["step"]
    lines = [
        f"| held out | from scratch, best of {last} steps | fine-tuned, best of {tuned[-1]['step']} | as low at step |",
        "|---|---:|---:|---:|",
    ]
    for name, value in least.items():
        step = reached(tuned, name, value)
        lines.append(f"| {ROWS[name]} | {value:.3f} | {best(tuned)[name]:.3f} | {'' if step is None else step} |")
    step = reached(tuned, "loss", least["loss"])
    said = f"after {step} steps, {step / last:.0%} of" if step is not None else f"not in {tuned[-1]['step']} of"
    return "\n".join([*lines, "", f"as low a loss as from scratch: {said} its {last}"]) + "\n"


def measure(args: argparse.Namespace, world: World) -> tuple[list[dict], list[dict]]:
    """The validations of the run from scratch and of the fine-tuned one, in the same units."""
    config = configuration.load(args.c, args.overrides)
    for voice, minutes in ((args.first, float("inf")), (args.second, args.minutes)):
        corpus = args.out / voice
        demo.make(corpus, config, demo.sentences()[: args.sentences], voices=[voice])
        write_atomic(corpus / "train_short.txt", first_minutes(corpus / "train.txt", corpus, minutes).encode())
    runs.run(config_of(args, args.first, args.first_steps, args.first_steps), args.out / "first", world)
    start = f"fine_tuning.start='{checkpoint.find(args.out / 'first', 'voice').resolve()}'"
    few, found, unit = args.steps // SHARE, [], None
    for name, steps, more in (("scratch", args.steps, []), ("tuned", few, [start])):
        config = config_of(args, args.second, steps, max(1, steps // VALIDATIONS), more)
        lines = runs.run(config, args.out / name, world)
        latent_std = checkpoint.load_voice(checkpoint.find(args.out / name, "voice")).weights["latent_std"].item()
        unit = unit or latent_std
        found.append(in_units(lines, latent_std, unit))
    return found[0], found[1]


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.fine_tuning", description=__doc__.split("\n")[0])
    parser.add_argument("-c", default="demo", metavar="NAME_OR_FILE", help="the overlay that the models are made of")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="the corpora and the runs")
    parser.add_argument("--first", default="en-us+m3", metavar="VOICE", help="of espeak-ng, that there is a model of")
    parser.add_argument("--second", default="en-us+f2", metavar="VOICE", help="that it is to become")
    parser.add_argument("--sentences", type=int, default=len(demo.sentences()), help="of data_util/demo.txt")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the second voice, at most")
    parser.add_argument("--first-steps", type=int, default=1200, help="of the first model", metavar="STEPS")
    parser.add_argument("--steps", type=int, default=400, help="of that from scratch, four times those of fine-tuning")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the overlay")
    args = parser.parse_intermixed_args(argv)
    if args.first == args.second:
        parser.error(f"--second {args.second}: must be another voice than --first")
    if args.steps < SHARE * VALIDATIONS or args.sentences < demo.VALID_EVERY:
        parser.error(f"--steps must be at least {SHARE * VALIDATIONS}, --sentences at least {demo.VALID_EVERY}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_args(argv)

    def work(world: World) -> str:
        said = table(*measure(args, world))
        write_atomic(args.out / "table.md", said.encode())
        return said

    return runs.command("fine_tuning", work)


if __name__ == "__main__":
    sys.exit(main())
