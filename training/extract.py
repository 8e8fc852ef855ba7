"""Write the teacher-forced (GTA) latents that a vocoder trains on: python -m training.extract ID [-o FOLDER].

They are the one-step posterior means of the clips that a run has not trained on (dataset.fold; all, where it trained on
all), from its averaged weights, at the diffusion times that --times names. Their durations are such as the run has
learnt with: the initial alignment's up to alignment.init_steps, from then on those that it searches for itself.
"""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from data_util import config as configuration
from data_util import gta
from data_util.config import ConfigError
from evaluation.held_out import teacher_forced
from runtime import command
from runtime.files import read_json
from training import checkpoint, voices
from training.data import HELD_BACK, Data, clip_tensors, content_of_latents, prepare_data
from training.distributed import Processes
from training.failures import end_with_starter
from training.realign import realigned
from training.state import State, make_state


@torch.no_grad()
def extract(state: State, data: Data, folder: Path, about: gta.About) -> None:
    """Write the latents of all clips that state's run has not trained on, into a folder.

    Raises ConfigError where the clips have no durations, OSError.
    """
    if data.clips.durations is None:
        raise ConfigError("alignment.init = none: must be em, whose durations the latents are made along")
    about = replace(about, mean=float(state.ema.latent_mean), std=float(state.ema.latent_std))
    indices = range(len(data.clips))[HELD_BACK[state.config.dataset.fold]]
    searches = state.step > state.config.alignment.init_steps
    for i in tqdm(indices, desc=f"{folder.name}: latents", unit="clip", ncols=command.columns()):
        durations = realigned(state, data.clips, [i])[0] if searches else torch.from_numpy(data.clips.durations[i])
        generator = torch.Generator().manual_seed(state.config.system.seed + i)
        with state.ema.speaking_as(int(data.clips.speakers[i])):
            clip = clip_tensors(state.config, data.clips, i, state.processes.device)
            latents = teacher_forced(state.ema, clip, durations[None].to(clip[0].device), about.times, generator)
        gta.save(folder, i, latents.cpu().numpy())
    gta.complete(folder, content_of_latents(state.config, data.clips), indices, about)


def run(args: argparse.Namespace) -> None:
    run_folder = checkpoint.RUNS / args.id
    folder = args.out or run_folder / "gta"
    path = checkpoint.find(run_folder, "project", args.ckpt)
    source = " ".join([f"{path.name} of {path.stat().st_mtime_ns}", *args.overrides])
    ckpt, processes = checkpoint.load_checkpoint(path), Processes.join(args.device)
    config = configuration.change(configuration.from_dict(ckpt["config"]), args.overrides)
    data = prepare_data(config, processes)
    wanted = {"content": content_of_latents(config, data.clips), "times": args.times, "shares": args.shares}
    if (wanted | {"source": source}).items() <= read_json(folder / gta.INDEX, {}).items():
        print(f"training.extract: {folder} is there")
        return
    (folder / gta.INDEX).unlink(missing_ok=True)  # what latents are there is written again
    state = make_state(config, processes, data, ckpt)
    extract(state, data, folder, gta.About(args.times, args.shares, source))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.extract", allow_abbrev=False,
                                     description="Write the latents that a vocoder trains on.",
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("id", type=voices.run_id, metavar="ID", help="the run in checkpoint/, or a path")
    parser.add_argument("-ckpt", "--ckpt", type=int, metavar="STEP", help="from this step; without it the newest")
    parser.add_argument("-o", "--out", type=Path, metavar="FOLDER", help="without it checkpoint/ID/gta")
    parser.add_argument("--times", type=float, nargs="+", default=[1.0], metavar="T", help="diffusion times in (0, 1]")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0], metavar="SHARE",
                        help="how often training reads each of them; 1 in all")  # fmt: skip
    parser.add_argument("--device", choices=["cuda", "cpu"], help="by default a GPU, where there is one")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the run's configuration")
    args = configuration.parse(parser, argv)
    if not all(0 < t <= 1 for t in args.times):
        parser.error("--times: each must be over 0 and at most 1")
    if len(args.times) != len(args.shares) or abs(sum(args.shares) - 1) > 1e-9 or min(args.shares) < 0:
        parser.error(f"--shares: must be one for each of the {len(args.times)} times, none negative, and 1 in all")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status, as of command.exit_status."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    end_with_starter()
    return command.exit_status(run, args, "training.extract")


if __name__ == "__main__":
    sys.exit(main())
