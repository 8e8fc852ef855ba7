"""One change at a time, each on the same small model, clips, steps and seeds: python -m experiments.ablation -o DIR.

A run that was killed goes on where it stopped when the same command is given again; what is done is not done again.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_util import config as configuration
from data_util.config import Config
from data_util.files import write_atomic
from data_util.world import World
from experiments import runs

ARMS = {  # what is changed in the base, which is the overlay of -c with one lane
    "base": [],
    "v": ["sde.parametrisation=v"],
    "z0": ["sde.parametrisation=z0"],
    "noise": ["sde.parametrisation=noise"],
    "uniform_t": ["sde.t_one=0", "sde.t_uniform=1"],
    "pooled": ["latent.kind=pooled"],
    "pca": ["latent.kind=pca"],
    "learned": ["latent.kind=learned"],
    # these three differ from `search`, the rest from `base`
    "search": ["alignment.init_steps=0"],
    "search_prior": ["alignment.init_steps=0", "alignment.prior_scale=1"],
    "search_noise": ["alignment.init_steps=0", "alignment.noise=0.1"],
    # and these change the sound alone, which only --sound trains
    "mel_45": ["loss.mel_blur=0"],
    "mel_22": ["loss.mel_blur=0", "loss.mel=22"],
    "mel_15": ["loss.mel_blur=0", "loss.mel=15"],
}
DEFAULT_ARMS = ("base", "noise", "uniform_t", "pca", "learned", "search", "search_prior", "search_noise")
MAX_ARMS = 8
TEXT_PARTS = "text_encoder: 1.0e-3, decoder: 1.0e-3"
SOUND_PARTS = "generator: 5.0e-4, discriminators: 2.0e-3"
COLUMNS = {  # of the last validation: title, and by how much less of it is better
    "loss_prior": "prior",
    "loss_frame": "prior, refined",
    "score_ratio_1": "F-loss at 1",
    "score_ratio_0.5": "at .5",
    "score_ratio_0.2": "at .2",
    "latent_l1": "one-step L1",
    "duration_ratio": "duration ratio",
    "dnsmos": "DNSMOS",
    "cer": "CER",
}


def arm_config(arm: str, seed: int, args: argparse.Namespace) -> Config:
    """The configuration of one run: the overlay with one lane, the arm's changes, the command line's over both."""
    parts = TEXT_PARTS + (f", {SOUND_PARTS}" if args.sound else "")
    overrides = [
        *runs.one_lane(parts),
        f"training.train_num_steps={args.steps}",
        f"alignment.noise_steps={args.steps}",
        f"system.seed={seed}",
        f"system.validation_step={args.steps}",
        f"system.save_ckpt={args.save_every}",
        "system.keep_ckpt=1",
        "system.validation_clips=100",
        f"system.sample_clips={100 if args.sound else 0}" if args.sound else "system.sample_clips=1",
    ]
    return configuration.load(args.c, [*overrides, *ARMS[arm], *args.overrides])


def run_arm(config: Config, folder: Path, world: World) -> dict[str, float]:
    """Train, from where a former call was stopped, and validate. Returns the numbers of the held-out clips."""
    runs.run(config, folder, world)
    return numbers_of(folder, config.training.train_num_steps)


def numbers_of(folder: Path, step: int) -> dict[str, float]:
    """The validation of a step in a run's log, {} where there is none."""
    found = runs.validation_at(folder, step) or {}
    return {name: found[name] for name in COLUMNS if name in found}


def table(results: dict[str, dict[int, dict[str, float]]]) -> str:
    """Markdown: a row an arm, means over its seeds, with half of their range. results: {arm: {seed: numbers}}."""
    names = [name for name in COLUMNS if any(name in one for arm in results.values() for one in arm.values())]
    lines = [
        "| arm | seeds | " + " | ".join(COLUMNS[name] for name in names) + " |",
        "|---|" + "---:|" * (len(names) + 1),
    ]
    for arm, seeds in results.items():
        cells = [cell([one[name] for one in seeds.values() if name in one]) for name in names]
        lines.append(f"| {arm} | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(values: Iterable[float]) -> str:
    values = list(values)
    if not values:
        return ""
    spread = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m experiments.ablation", description=__doc__.split("\n")[0])
    parser.add_argument("-c", default="small", metavar="NAME_OR_FILE", help="the overlay that the base is made of")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="a folder for each run in it")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1234, 1235])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(DEFAULT_ARMS))
    parser.add_argument("--sound", action="store_true", help="train generator and discriminators, too")
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS", help="between two checkpoints")
    parser.add_argument("--table", action="store_true", help="only print the table of what is done")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over every arm")
    args = parser.parse_intermixed_args(argv)
    if len(args.arms) > MAX_ARMS:
        parser.error(f"{len(args.arms)} arms: at most {MAX_ARMS}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_args(argv)

    def work(world: World) -> str:
        results: dict[str, dict[int, dict[str, float]]] = {arm: {} for arm in args.arms}
        for seed in args.seeds:  # every arm has a seed before any has a second
            for arm in args.arms:
                folder = args.out / f"{arm}_{seed}"
                config = arm_config(arm, seed, args)
                numbers = numbers_of(folder, args.steps) if args.table else run_arm(config, folder, world)
                if numbers:
                    results[arm][seed] = numbers
                    write_atomic(args.out / "table.md", table(results).encode())
        return table(results)

    return runs.command("ablation", work)


if __name__ == "__main__":
    sys.exit(main())
