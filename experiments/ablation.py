"""One change at a time, each on the same small model, clips, steps and seeds: python -m experiments.ablation -o DIR.

A run that was killed goes on where it stopped when the same command is given again; what is done is not done again.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence

import numpy as np

from data_util import config as configuration
from data_util.config import Config
from experiments import runs
from training.distributed import Processes

ARMS = {  # what is changed in the base, which is the overlay of -c
    "base": [],
    "v": ["sde.parametrisation=v"],
    "z0": ["sde.parametrisation=z0"],
    "noise": ["sde.parametrisation=noise"],
    "uniform_t": ["sde.t_one=0", "sde.t_uniform=1"],
    "pooled": ["latent.kind=pooled"],
    "drawn": ["alignment.solve_minutes=0"],
    "search": ["alignment.solve_minutes=0", "alignment.init_steps=0"],  # differs from `drawn`
}
DEFAULT_ARMS = ("base", "noise", "uniform_t", "pooled", "search")
COLUMNS = {  # of the last validation: title
    "loss_prior": "prior",
    "score_ratio_1": "F-loss at 1",
    "score_ratio_0.5": "at .5",
    "score_ratio_0.2": "at .2",
    "latent_l1": "one-step L1",
    "duration_ratio": "duration ratio",
    "distillmos": "DistillMOS",
    "cer": "CER",
}


def stages(args: argparse.Namespace, base: Config) -> list[dict]:
    """The acoustic model; with --sound prosody, too, then the vocoder on true latents, and on posterior means against
    discriminators, while the acoustic model stands still."""
    text = {"text_encoder": 1e-3, "decoder": 1e-3}
    if args.sound is None:
        return [{"parts": text, "final": 0.02}]
    prosody = {"prosody": 1e-3} if base.with_f0 else {}
    sound = {"generator": 5e-4, "discriminators": 2e-3}
    shares = [n / (args.steps + sum(args.sound)) for n in (args.steps, *args.sound)]
    return [{"parts": text | prosody, "final": 0.02, "share": shares[0]},
            {"parts": {"generator": 1e-3}, "latents": "true", "final": 0.5, "share": shares[1]},
            {"parts": sound, "final": 0.1, "share": shares[2]}]  # fmt: skip


def arm_config(arm: str, seed: int, args: argparse.Namespace) -> Config:
    """The configuration of one run: the overlay, the arm's changes, the command line's over both."""
    base = configuration.load(args.c, args.overrides)
    own = [f"system.seed={seed}", "system.validation_clips=100", f"system.sample_clips={100 if args.sound else 1}",
           *ARMS[arm]]  # fmt: skip
    return runs.load(args.c, stages(args, base), args.steps + sum(args.sound or ()), own, args.overrides)


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """A row an arm, means over its seeds, with half of their range. results: {arm: validations}."""
    names = [name for name in COLUMNS if any(name in one for seeds in results.values() for one in seeds)]
    rows = [["arm", "seeds", *(COLUMNS[name] for name in names)]]
    for arm, seeds in results.items():
        rows.append([arm, str(len(seeds)), *(cell([one[name] for one in seeds if name in one]) for name in names)])
    return runs.table(rows)


def cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    spread = f" ± {(max(values) - min(values)) / 2:.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = runs.parser("ablation", __doc__, "small")
    parser.add_argument("--steps", type=int, default=300, help="of the acoustic model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1234, 1235], help="of each arm")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(DEFAULT_ARMS), help="what is compared")
    parser.add_argument("--sound", type=int, nargs=2, metavar=("TRUE", "MEANS"),
                        help="then train a vocoder: steps on true latents, and adversarial ones on means")  # fmt: skip
    return configuration.parse(parser, argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)

    def work(processes: Processes) -> str:
        results = {arm: [] for arm in args.arms}
        for seed, arm in itertools.product(args.seeds, args.arms):  # every arm has a seed before any has a second
            config, folder = arm_config(arm, seed, args), args.out / f"{arm}_{seed}"
            last = config.training.train_num_steps
            results[arm] += [line for line in runs.run(config, folder, processes) if line["step"] == last]
        return table(results)

    return runs.command("ablation", work, args.out)


if __name__ == "__main__":
    sys.exit(main())
