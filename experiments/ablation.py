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

SEARCH = ("alignment.init_steps=0", "alignment.solve_minutes=0")
ARMS = {  # what is changed in the base, which is the overlay of -c with one lane
    "base": [],
    "v": ["sde.parametrisation=v"],
    "z0": ["sde.parametrisation=z0"],
    "noise": ["sde.parametrisation=noise"],
    "uniform_t": ["sde.t_one=0", "sde.t_uniform=1"],
    "pooled": ["latent.kind=pooled"],
    "pca": ["latent.kind=pca"],
    "learned": ["latent.kind=learned"],
    "drawn": ["alignment.solve_minutes=0"],
    # search differs from `drawn`, the other two from `search`
    "search": [*SEARCH],
    "search_prior": [*SEARCH, "alignment.prior_scale=1"],
    "search_noise": [*SEARCH, "alignment.noise=0.1"],
    # and these change the last stage alone, which only --sound has (changes, stages); at_one differs from joint
    "mel_45": ["loss.mel_blur=0"],
    "mel_22": ["loss.mel_blur=0"],
    "mel_15": ["loss.mel_blur=0"],
    "joint": [],
    "at_one": [],
}
MEL_WEIGHTS = {"mel_45": 45.0, "mel_22": 22.0, "mel_15": 15.0}  # the same at every t
JOINT = {"joint": "off", "at_one": "at_one"}  # the text side trains in the last stage, too: its feature_gradient
LAST_STAGE_ONLY = ("base", *MEL_WEIGHTS, *JOINT)  # these begin with what one run has learnt before
DEFAULT_ARMS = ("base", "noise", "uniform_t", "pca", "learned", "search", "search_prior", "search_noise")
MAX_ARMS = 8  # that are trained in one command
TEXT_PARTS = "text_encoder: 1.0e-3, decoder: 1.0e-3"
VARIANCE_PARTS = "variance: 1.0e-3"
TONE_PARTS = "generator: 1.0e-3"
SOUND_PARTS = "generator: 5.0e-4, discriminators: 2.0e-3"
JOINT_PARTS = f"text_encoder: 1.0e-4, decoder: 1.0e-4, {SOUND_PARTS}"
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


def stages(arm: str, args: argparse.Namespace, last: bool) -> list[str]:
    """The text side; with --sound variance, too, then the generator on true latents, and, where `last`, on posterior
    means against discriminators, while the text side stands still."""
    if args.sound is None:
        return [runs.stage(TEXT_PARTS)]
    text = TEXT_PARTS
    if configuration.load(args.c, args.overrides).variance.kind != "off":
        text += f", {VARIANCE_PARTS}"
    tone, sound = args.sound
    total = args.steps + tone + last * sound
    before = [
        runs.stage(text, args.steps / total),
        runs.stage(TONE_PARTS, tone / total, latents="true", final=0.5),
    ]
    if not last:
        return before
    parts = JOINT_PARTS if arm in JOINT else SOUND_PARTS
    return [*before, runs.stage(parts, sound / total, final=0.1, gradient=JOINT.get(arm, "off"))]


def changes(arm: str, args: argparse.Namespace) -> list[str]:
    """What an arm changes in the base. Where it weighs the mel loss, the STFT loss goes along."""
    if arm not in MEL_WEIGHTS:
        return ARMS[arm]
    loss, mel = configuration.load(args.c, args.overrides).loss, MEL_WEIGHTS[arm]
    return [*ARMS[arm], f"loss.mel={mel}", f"loss.stft={loss.stft * mel / loss.mel}"]


def arm_config(arm: str, seed: int, args: argparse.Namespace, last: bool = True) -> Config:
    """The configuration of one run: the overlay with one lane, the arm's changes, the command line's over both.

    last: False is the run without the last stage of --sound, with which others begin.
    """
    steps = args.steps if args.sound is None else args.steps + args.sound[0] + last * args.sound[1]
    overrides = [
        *runs.one_lane(*stages(arm, args, last)),
        f"training.train_num_steps={steps}",
        f"alignment.noise_steps={args.steps}",
        f"system.seed={seed}",
        f"system.validation_step={steps}",
        f"system.save_ckpt={args.save_every}",
        "system.keep_ckpt=1",
        "system.validation_clips=100",
        f"system.sample_clips={100 if args.sound and last else 1}",
    ]
    own = [] if not last and arm in LAST_STAGE_ONLY else changes(arm, args)
    return configuration.load(args.c, [*overrides, *own, *args.overrides])


def run_arm(arm: str, seed: int, args: argparse.Namespace, world: World) -> None:
    """Train, from where a former call was stopped, and validate on the held-out clips."""
    start = None
    if args.sound is not None:
        start = args.out / f"start{'' if arm in LAST_STAGE_ONLY else f'_{arm}'}_{seed}"
        runs.run(arm_config(arm, seed, args, last=False), start, world, keep=True)
    runs.run(arm_config(arm, seed, args), folder_of(arm, seed, args), world, start)


def folder_of(arm: str, seed: int, args: argparse.Namespace) -> Path:
    return args.out / f"{arm}_{seed}"


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
    parser.add_argument("--sound", type=int, nargs=2, metavar=("TRUE", "MEANS"),
                        help="then train a generator, too: steps on true latents, and against discriminators on "
                        "posterior means")  # fmt: skip
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS", help="between two checkpoints")
    parser.add_argument("--table", action="store_true", help="only print the table of what is done")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over every arm")
    args = parser.parse_intermixed_args(argv)
    alone = set(args.arms) & {*MEL_WEIGHTS, *JOINT}
    if args.sound is None and alone:
        parser.error(f"--arms {' '.join(sorted(alone))}: needs --sound")
    if len(args.arms) > MAX_ARMS and not args.table:
        parser.error(f"{len(args.arms)} arms: at most {MAX_ARMS}")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status."""
    args = parse_args(argv)

    def work(world: World) -> str:
        results: dict[str, dict[int, dict[str, float]]] = {arm: {} for arm in args.arms}
        for seed in args.seeds:  # every arm has a seed before any has a second
            for arm in args.arms:
                if not args.table:
                    run_arm(arm, seed, args, world)
                config, folder = arm_config(arm, seed, args), folder_of(arm, seed, args)
                runs.check_folder(config, folder)
                numbers = numbers_of(folder, config.training.train_num_steps)
                if numbers:
                    results[arm][seed] = numbers
                    write_atomic(args.out / "table.md", table(results).encode())
        return table(results)

    return runs.command("ablation", work)


if __name__ == "__main__":
    sys.exit(main())
