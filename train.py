"""Train a voice: python train.py, or bash run.sh for torchrun. Reads as the algorithm: a step, the steps, main."""

import argparse
import logging
import math
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from data_util import checkpoint
from data_util import config as configuration
from data_util.config import ROOT, ConfigError, Stage
from data_util.dataset import Batch, batches
from data_util.means import Means
from data_util.run_log import RunLog
from data_util.world import World, seed_everything
from model import losses
from model.layers import full
from model.nisets import Output
from training.data import Data, prepare_data
from training.folder import open_folder, start_wandb
from training.lanes import lanes_of, run_lane, run_lanes
from training.state import State, make_state, project_of
from training.validation import n_stale, tell_of_missing_packages, validate_once
from training.warm_start import configuration_of, warm_start

LOGW_VARIANCE_RATE = 0.01  # of the running mean that synthesis takes its log-normal's variance from
log = logging.getLogger("train")


# -- one step


def train_step(state: State, batch: Batch) -> dict[str, Tensor]:
    """One step over all parts that the stage trains. Returns the losses of the global batch, on the device."""
    config, step = state.config, state.step
    stage, scale = configuration.stage_at(config, step)
    if state.best_variance and state.best_variance["stopped"]:
        stage = replace(stage, parts={name: rate for name, rate in stage.parts.items() if name != "variance"})
    enter_stage(state, stage, scale)
    # nothing random outlives a step, so nothing random needs to be saved
    seed_everything(config.system.seed, step, state.world.rank)
    realign = not (batch.has_durations and step < config.alignment.init_steps)

    judged = {}
    noise = configuration.search_noise(config, step)
    out: Output = state.wrapped["model"](batch, global_counts(batch, state.world), stage, realign, noise)
    if "discriminators" in stage.parts:
        judged = discriminator_step(state, out)
        out.losses.update(adversarial_losses(state, out))
    total = sum(getattr(config.loss, name.removeprefix("loss_")) * loss for name, loss in out.losses.items())
    if total.requires_grad:  # nothing trains where the variance part was alone and has stopped
        total.backward()
    norms = update(state, state.optimiser)

    values = {name: value.detach() for name, value in (out.losses | judged | norms).items()}
    values = dict(zip(values, state.world.mean(torch.stack(list(values.values())))))
    update_averages(state, values.get("loss_duration"))
    state.step += 1
    return values


def discriminator_step(state: State, out: Output) -> dict[str, Tensor]:
    """Train the discriminators on recorded and generated segments, both under the same t. Returns loss and norm."""
    both = torch.cat([out.wav, out.wav_hat.detach()])  # in one pass, since DDP wants one before each backward
    judged = judge(state.wrapped["discriminators"], both, torch.cat([out.t, out.t]), state.model.amp)
    halves = [logits.chunk(2) for logits, _ in judged]
    loss = losses.discriminator_loss([(real, []) for real, _ in halves], [(generated, []) for _, generated in halves])
    loss.backward()
    return {"loss_discriminator": loss} | update(state, state.optimiser_discriminators)


def adversarial_losses(state: State, out: Output) -> dict[str, Tensor]:
    """What the discriminators, now standing still, tell the generator."""
    state.discriminators.requires_grad_(False)
    with torch.no_grad():
        real = judge(state.discriminators, out.wav, out.t, state.model.amp)
    generated = judge(state.discriminators, out.wav_hat, out.t, state.model.amp)
    state.discriminators.requires_grad_(True)
    return {
        "loss_adversarial": losses.adversarial_loss(generated),
        "loss_feature": losses.feature_loss(real, generated),
    }


def judge(discriminators: nn.Module, wav: Tensor, t: Tensor, amp: bool) -> list[tuple[Tensor, list[Tensor]]]:
    """What each discriminator says of wav (B, 1, T_wav): its logits and features, in full precision."""
    with torch.autocast(wav.device.type, torch.bfloat16, enabled=amp):
        judged = discriminators(wav, t)
    return [(full(logits), [full(feature) for feature in features]) for logits, features in judged]


def update(state: State, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Clip each part's gradient to its norm, step, and forget the gradients. Returns the norms by part."""
    norms = {}
    for group in optimiser.param_groups:
        if group["name"] in state.stage.parts:
            norm = nn.utils.clip_grad_norm_(group["params"], state.config.training.clip_norm[group["name"]])
            norms[f"norm_{group['name']}"] = norm
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return norms


@torch.no_grad()
def update_averages(state: State, loss_duration: Tensor | None) -> None:
    """The EMA of the weights, and the variance of log-durations that a duration's mean needs."""
    step, model, ema = state.step, state.model, state.ema
    if loss_duration is not None:
        model.logw_variance.lerp_(loss_duration, max(LOGW_VARIANCE_RATE, 1 / (step + 1)))
    decay = min(state.config.training.ema_decay, (1 + step) / (10 + step))
    get_ema_multi_avg_fn(decay)(list(ema.parameters()), list(model.parameters()), step)
    for ours, theirs in zip(ema.buffers(), model.buffers()):
        ours.copy_(theirs)


def enter_stage(state: State, stage: Stage, scale: float) -> None:
    """Set the learning rates, and at a stage's start what trains."""
    for optimiser in (state.optimiser, state.optimiser_discriminators):
        for group in optimiser.param_groups:
            group["lr"] = scale * stage.parts.get(group["name"], 0.0)
    if stage == state.stage:
        return
    state.stage = stage
    for name, part in state.model.parts().items():
        for network in part:
            network.requires_grad_(name in stage.parts)
    state.discriminators.requires_grad_("discriminators" in stage.parts)
    state.wrapped = {
        "model": state.world.wrap(state.model),
        "discriminators": state.world.wrap(state.discriminators),
    }


def global_counts(batch: Batch, world: World) -> Tensor:
    """(4,) symbols, frames, cut frames, segment frames: the mean over processes, what masked losses divide by."""
    lengths = (batch.x_lengths, batch.mel_lengths, batch.cut_lengths, batch.segment_lengths)
    return world.mean(torch.stack([length.sum() for length in lengths]).to(batch.mel.dtype))


# -- the whole


def train(state: State, data: Data, folder: Path, run_log: RunLog | None, latents: Means | None = None) -> None:
    """From state.step to train_num_steps. run_log: the first process's; latents: what stages of means read."""
    config, world = state.config, state.world
    system, last = config.system, config.training.train_num_steps
    stream = batches(data.own, config, first_step=state.step, rank=world.rank, world_size=world.size, latents=latents)
    first_step = state.step
    if state.sounding and state.reading:
        tell_of_missing_packages()
    with (
        logging_redirect_tqdm(),
        tqdm(total=last, initial=state.step, desc=folder.name, unit="step", disable=not world.first) as bar,
    ):
        while True:
            stopped = False
            saves, is_new = state.step % system.save_ckpt == 0 or state.step == last, state.step > first_step
            if state.step > 0 and (state.step % system.validation_step == 0 or state.step == last):
                if world.first:
                    is_new |= validate_once(state, data.valid, folder, run_log)
                state.best_variance = world.agree(state.best_variance)
                stopped = world.agree(world.first and 0 < system.patience <= n_stale(config, run_log))
            if (
                world.first and (saves or stopped) and is_new
            ):  # after the validation, which may end the variance part's training
                checkpoint.save_project(folder, state.step, project_of(state), system.keep_ckpt)
            if state.step >= last or stopped and state.step > first_step:
                break
            values = train_step(state, next(stream).to(world.device, non_blocking=True))
            bar.update()
            if not world.first:
                continue
            run_log.add(values)
            if any(state.step % each == 0 for each in (system.save_ckpt, system.log_step)) or state.step == last:
                averages = run_log.flush(state.step)
                check_finite(averages, state.step)
                bar.set_postfix(
                    {name.removeprefix("loss_"): f"{averages[name]:.3g}" for name in averages if "loss" in name}
                )


def check_finite(averages: dict[str, float], step: int) -> None:
    """Stop before a checkpoint is written from which nobody could go on. Raises FloatingPointError."""
    broken = [name for name, average in averages.items() if not math.isfinite(average)]
    if broken:
        raise FloatingPointError(
            f"{', '.join(broken)} not finite by step {step}: -id goes on from the last checkpoint; "
            "lower the learning rates in training.stages, or train without -a true"
        )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train NiSETS.", allow_abbrev=False)
    parser.add_argument("-c", metavar="NAME_OR_FILE", action="append",
                        help="an overlay in configs/, or a YAML file, over config.yaml and those before")  # fmt: skip
    parser.add_argument("-id", metavar="ID", help="resume the run in checkpoint/ID")
    parser.add_argument("-from", dest="start", metavar="CHECKPOINT",
                        help="a new run that begins with the weights of a run, a voice or a project")  # fmt: skip
    parser.add_argument("-ckpt", type=int, metavar="STEP", help="from this step; without it from the newest")
    parser.add_argument("-lane", metavar="NAME", help="only this one of a run's several lanes (with -id)")
    parser.add_argument(
        "-a", choices=["true", "false"], help="networks in bfloat16; a run keeps what it was started with"
    )
    parser.add_argument("-test", choices=["true", "false"], default="true", help="false: log to wandb too")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over all the files")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    if args.ckpt is not None and args.id is None:
        parser.error("-ckpt STEP needs -id ID, the run that it is a step of")
    if args.lane is not None and args.id is None:
        parser.error("-lane NAME needs -id ID, the run that it is a lane of")
    if args.start is not None and args.id is not None:
        parser.error(
            "-id goes on with a run as it was, -from begins a new one with another's weights: give one of them"
        )
    if args.c is not None and args.id is not None:
        parser.error("-id goes on with the run's own configuration: use section.key=value to change it, not -c")
    return args


def run(args: argparse.Namespace) -> int:
    """Train what args ask for. Returns the exit status."""
    world = World.join()
    config = lanes_of(args)
    if config is None:
        name = run_one(args, world)
    elif args.lane is not None:
        run_lane(args, config, world, args.lane, prepare_data(config, world), train)
        return 0
    else:
        name, status = run_lanes(args, config, world, train)
        if status != 0:
            return status
    if world.first:
        python = "python" if shutil.which("python") == sys.executable else os.path.relpath(sys.executable)
        script = os.path.relpath(ROOT / "sampling.py")
        samples = checkpoint.RUNS / name / "samples"
        print(f'pictures and WAVs: {samples}\nspeak with it: {python} {script} -id {name} "Any text."')
    return 0


def run_one(args: argparse.Namespace, world: World) -> str:
    """A run of one lane, from the start or from its checkpoint. Returns its name."""
    project = None
    if args.id is not None:
        project = checkpoint.load_project(checkpoint.find(checkpoint.RUNS / args.id, "project", args.ckpt))
        config = configuration.change(configuration.from_dict(project["config"]), args.overrides)
    else:
        config = configuration_of(args)
    data = prepare_data(config, world)
    state = make_state(args, config, world, data, project)
    if config.fine_tuning.start and project is None:
        warm_start(state)
    wandb_run = start_wandb(args, config, args.id) if world.first else None
    name = world.agree(wandb_run.id if wandb_run else args.id or checkpoint.new_run_id())
    train(state, data, *open_folder(state, data, checkpoint.RUNS / name, wandb_run))
    return name


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error."""
    args = parse_args(argv)
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, format="%(message)s")
    try:
        return run(args)
    except (ValueError, OSError, FloatingPointError) as error:
        if args.debug:
            raise
        if first or not isinstance(error, (ConfigError, checkpoint.CheckpointError)):  # those all processes have alike
            print(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("train.py: interrupted; -id goes on from the last checkpoint", file=sys.stderr)
        return 130
    finally:
        World.leave()


if __name__ == "__main__":
    sys.exit(main())
