"""A run of several lanes: which is trained when, from what, and what each leaves for the others."""

import argparse
import gc
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from data_util import checkpoint, means
from data_util import config as configuration
from data_util.config import ROOT, Config, ConfigError
from data_util.features import n_cpus
from data_util.files import read_json, write_json
from data_util.lanes import run_all
from data_util.means import Means
from data_util.run_log import RunLog
from data_util.world import World
from training.begin import begin
from training.data import Data, clip_tensors, other_indices, own_indices, prepare_data
from training.folder import begin_launch, open_folder, start_wandb, write_about
from training.state import State, make_state, start_from
from training.validation import tell_of_missing_packages, validate_once
from training.warm_start import configuration_of, warm_start

Train = Callable[..., None]  # train.py's train, which trains a state to its end


def lanes_of(args: argparse.Namespace) -> Config | None:
    """The configuration that args ask for if it has several lanes, else None."""
    if args.id is None:
        config = configuration_of(args)
    else:
        written = checkpoint.RUNS / args.id / "config.yaml"
        if not written.is_file():
            return None  # whoever looks for the checkpoint says what there is
        before = configuration.completed(configuration.read_tree(written))
        config = configuration.load(None, args.overrides, base=before)
        configuration.check_meaning(config, before, f"run {args.id}")  # before any lane has begun
    if len(config.training.lanes) == 1:
        if args.lane is not None:
            raise ConfigError(f"-lane {args.lane}: the run has a single one; leave -lane away")
        return None
    if args.lane is not None and args.lane not in config.training.lanes:
        raise ConfigError(f"-lane {args.lane}: must be one of {', '.join(config.training.lanes)}")
    if args.ckpt is not None and args.lane is None:
        raise ConfigError("-ckpt STEP of a run of several lanes needs -lane NAME, the lane that it is a step of")
    return config


def run_lanes(args: argparse.Namespace, config: Config, world: World, train: Train) -> tuple[str, int]:
    """Every lane, one after another, or several at once on a CPU; then the voice. Returns its name and exit status."""
    data = prepare_data(config, world)  # once, before the lanes read it
    wandb_run = start_wandb(args, config, args.id or args.name) if world.first else None
    name = world.agree(wandb_run.id if wandb_run else args.id or args.name or checkpoint.new_run_id())
    args.id, folder = name, checkpoint.RUNS / name
    remember_precision(args, folder)
    if world.first:
        begin_launch(name)
        write_about(config, data, folder)
        write_json(folder / "run.json", {"amp": args.a == "true"})
    n_at_once = config.training.processes if world.device.type == "cpu" else torch.cuda.device_count()
    if world.size == 1 and n_at_once > 1:
        status = run_processes(args, config, folder, n_at_once, world.device.type == "cuda")
        if status != 0:
            return name, status
    else:
        for lane in config.training.lanes:
            run_lane(args, config, world, lane, data, train)
            gc.collect()  # a state refers to itself, and holds a GPU's memory
    state = make_state(args, config, world, data, None)
    if config.fine_tuning.start:
        warm_start(state)  # of parts that no lane trains
    start_from(state, last_projects(config, folder, list(config.training.lanes)))
    state.step = config.training.train_num_steps
    tell_of_missing_packages()
    validate_once(state, data.valid, folder, RunLog(folder, state.step, wandb_run) if world.first else None)
    return name, 0


def remember_precision(args: argparse.Namespace, folder: Path) -> None:
    """Without -a, what the run was started with: also for lanes that have not begun."""
    if args.a is None:
        args.a = "true" if (read_json(folder / "run.json") or {}).get("amp") else None


def run_processes(args: argparse.Namespace, config: Config, folder: Path, n_at_once: int, on_gpus: bool) -> int:
    """Each lane in a process of its own, so many of them at once, on GPUs one each. Returns the exit status."""
    lanes = config.training.lanes
    todo = [name for name in lanes if not is_done(config, folder, name)]
    commands = {name: lane_command(args, name) for name in todo}
    after = {name: {*lanes[name].start, *lanes[name].means} & set(todo) for name in todo}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(n_at_once)))
    places = [{"CUDA_VISIBLE_DEVICES": one} for one in visible.split(",")] if on_gpus else ()
    return run_all(commands, after, n_at_once, n_cpus(), places)


def lane_command(args: argparse.Namespace, name: str) -> list[str]:
    """What trains one lane in a process of its own."""
    command = [sys.executable, str(ROOT / "train.py"), "-id", args.id, "-lane", name, "-test", args.test]
    command += ["-a", args.a] if args.a else []
    command += ["--device", args.device] if args.device else []
    return command + (["--debug"] if args.debug else [])


def run_lane(args: argparse.Namespace, config: Config, world: World, name: str, data: Data, train: Train) -> None:
    """Train one lane to its end, from where it stands, and write the posterior means that others read."""
    folder, lane = checkpoint.RUNS / args.id / name, config.training.lanes[name]
    remember_precision(args, folder.parent)
    own_config, project = configuration.lane_config(config, name), None
    if checkpoint.steps(folder, "project"):
        project = checkpoint.load_newest(folder, args.ckpt)
    state = make_state(args, own_config, world, data, project)
    state.run_config = config
    own = data.clips.subset(own_indices(lane.clips, len(data.clips)))
    if project is None:
        begin(state, own, trained_parts(config, lane.start))
        start_from(state, last_projects(config, folder.parent, lane.start))
    trained = trained_parts(config, [name, *lane.start])
    state.sounding, state.reading = "generator" in trained, {"text_encoder", "decoder"} <= trained
    latents = None
    if lane.means:
        folders, training = [folder.parent / one / "means" for one in lane.means], config.training
        indices = list(own_indices(lane.clips, len(data.clips)))
        latents = Means(folders, data.clips.content, training.mean_times, training.mean_shares).of(indices)
    wandb_run = start_wandb(args, own_config, f"{args.id}-{name}") if world.first else None
    data = Data(data.clips, own, data.valid)
    if world.first and state.step < own_config.training.train_num_steps:
        means.discard(folder / "means")  # of an earlier end
    train(state, data, *open_folder(state, data, folder, wandb_run), latents)
    if world.first and is_read(config, name):
        write_means(state, data, lane.clips, folder / "means")
    world.agree(True)  # nobody goes on to a lane whose means are not there yet
    if wandb_run is not None:
        wandb_run.finish()


@torch.no_grad()
def write_means(state: State, data: Data, clips: str, folder: Path) -> None:
    """The posterior means of clips that other lanes read, from the averaged weights, unless they are there."""
    device, training = state.world.device, state.config.training
    indices = other_indices(clips, len(data.clips))
    if means.is_complete(folder):
        return
    for i in tqdm(indices, desc=f"{folder.parent.name}: posterior means", unit="clip"):
        durations = torch.from_numpy(data.clips.durations[i])[None].to(device)
        generator = torch.Generator().manual_seed(state.config.system.seed + i)
        with state.ema.speaking_as(int(data.clips.speakers[i])):
            clip = clip_tensors(state.config, data.clips, i, device)
            mean = state.ema.means(*clip, durations, training.mean_times, generator)
        means.save_mean(folder, i, mean.cpu().numpy())
    means.complete(folder, data.clips.content, training.mean_times, indices)


def trained_parts(config: Config, lanes: list[str]) -> set[str]:
    return {part for stage in config.training.stages if stage.lane in lanes for part in stage.parts}


def last_projects(config: Config, folder: Path, lanes: Sequence[str]) -> dict[str, dict]:
    """The newest checkpoint that holds each part, from the last of these lanes, in the order of the list, to train it.

    Raises CheckpointError where a lane has none.
    """
    projects = {}
    for name in (name for name in config.training.lanes if name in lanes):
        project = checkpoint.load_newest(folder / name)
        projects |= dict.fromkeys(trained_parts(config, [name]), project)
    return projects


def is_read(config: Config, name: str) -> bool:
    return any(name in lane.means for lane in config.training.lanes.values())


def is_done(config: Config, folder: Path, name: str) -> bool:
    """Whether a lane has come to its end, and has written what others read."""
    last = configuration.lane_config(config, name).training.train_num_steps
    trained = last in checkpoint.steps(folder / name, "project")
    return trained and (not is_read(config, name) or means.is_complete(folder / name / "means"))
