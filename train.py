"""Train a voice: python train.py, or bash run.sh for torchrun. Reads as the algorithm: a step, the steps, main."""

import argparse
import contextlib
import errno
import functools
import logging
import math
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from data_util import checkpoint, gpu
from data_util import config as configuration
from data_util.config import ROOT, ConfigError, Stage
from data_util.dataset import WORKER_LOST, Batch, batches, is_worker_lost
from data_util.gpu import DeviceError
from data_util.lanes import Stop, end_with_starter
from data_util.means import Means
from data_util.run_log import RunLog
from data_util.world import World, exit_with, seed_everything
from model.nisets import Output
from training import alignment
from training.begin import begin
from training.data import Data, prepare_data
from training.folder import begin_launch, end_launch, go_on_after_restart, open_folder, start_wandb
from training.lanes import lanes_of, run_lane, run_lanes
from training.state import State, make_state, project_of, restore
from training.validation import n_stale, tell_of_missing_packages, validate_once
from training.warm_start import configuration_of

LOGW_VARIANCE_RATE = 0.01  # of the running mean that synthesis takes its log-normal's variance from
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
LEAST_RATE_SCALE = 0.01  # of the learning rates, under which going back once more would not help
log = logging.getLogger("train")


# -- one step


def train_step(state: State, *passes: Batch) -> dict[str, Tensor]:
    """One step over all parts that the stage trains, on what is one batch in several passes.

    Returns the losses of the global batch, on the device, which the host does not wait for. Where a loss or a gradient
    is not finite, its optimiser takes no step, and state.skipped says so.
    """
    config, world = state.config, state.world
    stage, scale = configuration.stage_at(config, state.step)
    if state.best_variance and state.best_variance["stopped"]:
        stage = replace(stage, parts={name: rate for name, rate in stage.parts.items() if name != "variance"})
    enter_stage(state, stage, scale * state.rate_scale * (world.size * len(passes)) ** config.training.rate_power)
    counts = torch.stack([global_counts(batch, world) for batch in passes]).mean(0)
    judges, judged = "discriminators" in stage.parts, {}
    state.skipped = None
    if judges and len(passes) > 1:  # they learn from all passes before the generator hears of any, as from one batch
        with torch.no_grad(), state.watch.part("forward"):
            outs = [forward(state, batch, i, counts, state.model) for i, batch in enumerate(passes)]
        judged = discriminator_step(state, *outs)

    summed, total = {}, 0.0
    for i, batch in enumerate(passes):
        with world.apart(state.wrapped["model"]) if i < len(passes) - 1 else contextlib.nullcontext():
            with state.watch.part("forward"):
                out = forward(state, batch, i, counts, state.wrapped["model"])
            if judges:
                judged = judged or discriminator_step(state, out)
                out.losses.update(adversarial_losses(state, out))
            loss = sum(getattr(config.loss, name.removeprefix("loss_")) * one for name, one in out.losses.items())
            loss = loss / len(passes)
            with state.watch.part("backward"):
                if loss.requires_grad:  # nothing trains where the variance part was alone and has stopped
                    loss.backward()
        total = total + loss.detach()
        summed = {name: summed.get(name, 0.0) + one.detach() / len(passes) for name, one in out.losses.items()}
    norms = update(state, state.optimiser, total)

    values = {name: value.detach() for name, value in (summed | judged | norms).items()}
    values = dict(zip(values, world.mean(torch.stack(list(values.values())))))
    update_averages(state, values.get("loss_duration"))
    state.step += 1
    return values


def forward(state: State, batch: Batch, number: int, counts: Tensor, model: nn.Module) -> Output:
    """One pass of a step, the same whenever it is made. number: of the pass; model: wrapped or not."""
    config, step = state.config, state.step
    # nothing random outlives a step, so nothing random needs to be saved
    seed_everything(config.system.seed, step, number * state.world.size + state.world.rank)
    keeps = step < config.alignment.init_steps or state.durations is not None
    realign = not (keeps and batch.has_durations)
    return model(batch, counts, state.stage, realign, configuration.search_noise(config, step))


def discriminator_step(state: State, *outs: Output) -> dict[str, Tensor]:
    """Train the discriminators on recorded and generated segments, both under the same t. Returns loss and norm."""
    total, network = 0.0, state.wrapped["discriminators"]
    with state.watch.part("discriminators"):
        for i, out in enumerate(outs):
            with state.world.apart(network) if i < len(outs) - 1 else contextlib.nullcontext():
                loss = state.discriminator_loss(network, out.wav, out.wav_hat.detach(), out.t, state.model.amp) / len(
                    outs
                )
                loss.backward()
            total = total + loss.detach()
    return {"loss_discriminator": total} | update(state, state.optimiser_discriminators, total)


def adversarial_losses(state: State, out: Output) -> dict[str, Tensor]:
    """What the discriminators, now standing still, tell the generator."""
    state.discriminators.requires_grad_(False)
    adversarial, feature = state.generator_losses(state.discriminators, out.wav, out.wav_hat, out.t, state.model.amp)
    state.discriminators.requires_grad_(True)
    return {"loss_adversarial": adversarial, "loss_feature": feature}


def update(state: State, optimiser: torch.optim.Optimizer, loss: Tensor) -> dict[str, Tensor]:
    """Clip each part's gradient to its norm, step, and forget the gradients; where the loss or a norm is not finite,
    set state.skipped instead of a step.

    loss: what the gradients are of, in this process. Returns the norms by part, the same in every process.
    """
    norms = {}
    with state.watch.part("update"):
        for group in optimiser.param_groups:
            if group["name"] in state.stage.parts:
                norm = nn.utils.clip_grad_norm_(group["params"], state.config.training.clip_norm[group["name"]])
                norms[f"norm_{group['name']}"] = norm
        numbers = [state.world.mean(loss.detach().clone()), *norms.values()]
        is_broken = (~torch.stack([number.detach() for number in numbers]).isfinite().all()).float()
        step_if_finite(optimiser, is_broken)
        optimiser.zero_grad(set_to_none=True)
    state.skipped = is_broken if state.skipped is None else torch.maximum(state.skipped, is_broken)
    return norms


def step_if_finite(optimiser: torch.optim.Optimizer, is_broken: Tensor) -> None:
    """A step of a fused optimiser, or where is_broken (), on its device, is 1, none: that the host need not know."""
    optimiser.found_inf = is_broken
    optimiser.step()
    del optimiser.found_inf


@torch.no_grad()
def update_averages(state: State, loss_duration: Tensor | None) -> None:
    """The EMA of the weights that train, and the variance of log-durations that a duration's mean needs."""
    step, model, ema = state.step, state.model, state.ema
    if loss_duration is not None:
        new = model.logw_variance.lerp(loss_duration, max(LOGW_VARIANCE_RATE, 1 / (step + 1)))
        is_good = new.isfinite() if state.skipped is None else new.isfinite() & (state.skipped == 0)
        model.logw_variance.copy_(torch.where(is_good, new, model.logw_variance))
    decay = min(state.config.training.ema_decay, (1 + step) / (10 + step))
    ours, theirs = (
        [
            p
            for name, part in network.parts().items()
            if name in state.stage.parts
            for one in part
            for p in one.parameters()
        ]
        for network in (ema, model)
    )
    if ours:
        get_ema_multi_avg_fn(decay)(ours, theirs, step)
    for buffer, source in zip(ema.buffers(), model.buffers()):
        buffer.copy_(source)


def enter_stage(state: State, stage: Stage, scale: float) -> None:
    """Set the learning rates, and at a stage's start what trains; what does not is read without dropout."""
    for optimiser in (state.optimiser, state.optimiser_discriminators):
        for group in optimiser.param_groups:
            group["lr"] = scale * stage.parts.get(group["name"], 0.0)
    if stage == state.stage:
        return
    state.stage = stage
    for name, part in state.model.parts().items():
        for network in part:
            network.requires_grad_(name in stage.parts).train(name in stage.parts)
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


class Stopped(Exception):
    """A signal asked for the end; the step has been finished and saved."""

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} after step {step}: -id goes on from the newest checkpoint")
        self.status = 128 + number


class OutOfMemory(Exception):
    """The message says in which batch, and what to lower."""


def train(state: State, data: Data, folder: Path, run_log: RunLog | None, latents: Means | None = None) -> None:
    """From state.step to train_num_steps. run_log: the first process's; latents: what stages of means read.

    Raises Stopped after a SIGTERM or SIGINT, OutOfMemory, FloatingPointError where going back does not help, and
    OSError and ValueError where clips or the run's folder are gone or full.
    """
    config, world = state.config, state.world
    system, last, first_step = config.system, config.training.train_num_steps, state.step
    stream, due = stream_of(state, data, latents), False  # due: a checkpoint; a skipped step puts it off
    if state.sounding and state.reading:
        tell_of_missing_packages()
    with (
        Stop() as stop,
        logging_redirect_tqdm(),
        tqdm(total=last, initial=state.step, desc=folder.name, unit="step", disable=not world.first) as bar,
        all_written(state),
    ):
        while True:
            stopped, is_new = False, state.step > first_step
            due |= is_new and state.step % system.save_ckpt == 0
            is_measured = state.step > 0 and (state.step % system.validation_step == 0 or state.step == last)
            ending = world.most(stop.signal)
            if due or is_measured or ending:
                record_pending(state, run_log)  # which may put the checkpoint off
            if is_measured:
                saved = due and not state.misses
                if saved:  # a validation takes its time
                    save(state, folder, run_log)
                with saving_first(state, folder, run_log, is_new and not saved), state.watch.part("validation"):
                    is_new |= validate_once(state, data.valid, folder, run_log)
                stopped = world.agree(world.first and 0 < system.patience <= n_stale(config, run_log))
                due |= is_new and (stopped or state.step == last)
                ending = world.most(stop.signal)
            saved = is_new and (due and not state.misses or ending or state.step == last)
            if saved:  # once more after the validation, which may have ended the variance part
                save(state, folder, run_log)
                due = False
            if state.step >= last or stopped and state.step > first_step:
                break
            if ending:
                raise Stopped(ending, state.step)
            with saving_first(state, folder, run_log, is_new and not saved):
                if alignment.is_due(config, state.step):
                    refresh(state, data)
                    stream = stream_of(state, data, latents)
                with state.watch.part("data"), world.together():
                    passes = [next(stream) for _ in range(config.training.accumulate)]
            values = step_or_explain(state, passes)
            bar.update()
            if needs_rollback(state, passes, values, run_log):
                go_back(state, folder, run_log)
                stream, first_step, due = stream_of(state, data, latents), state.step, False
                bar.n = state.step
            if world.first and is_log_step(state):
                show(bar, run_log.flush(state.step), state.watch.shares())


def refresh(state: State, data: Data) -> None:
    """Align all clips anew, and let nothing be written while the processes that load data are started: a fork should
    find no thread in the middle of something."""
    with state.watch.part("alignment"):
        alignment.refresh(state, data.own)
    with state.world.together():
        state.writer.finish()


def stream_of(state: State, data: Data, latents: Means | None) -> Iterator[Batch]:
    """The batches of this process, from state.step on."""
    world = state.world
    return batches(alignment.aligned(state, data.own), state.config, first_step=state.step, rank=world.rank,
                   world_size=world.size, latents=latents, pin_memory=world.device.type == "cuda")  # fmt: skip


@contextlib.contextmanager
def saving_first(state: State, folder: Path, run_log: RunLog | None, is_unsaved: bool) -> Iterator[None]:
    """Where clips, a folder or memory are gone inside the with statement, between steps, and training ends, its steps
    are not."""
    try:
        yield
    except Exception:
        if is_unsaved:
            save(state, folder, run_log, alone=True)
        raise


def save(state: State, folder: Path, run_log: RunLog | None, alone: bool = False) -> None:
    """All that it takes to go on from here, by the first process: a copy, which is written while training goes on.

    alone: other processes may be elsewhere.
    """
    record_pending(state, run_log, alone=alone)
    if state.world.first:
        with state.watch.part("saving"):
            state.unwritten = run_log.unwritten()
            project, keep = checkpoint.to_host(project_of(state)), state.config.system.keep_ckpt
            state.writer.start(functools.partial(checkpoint.save_project, folder, state.step, project, keep))


@contextlib.contextmanager
def all_written(state: State) -> Iterator[None]:
    """Nothing is left to be written after the with statement, however it ends."""
    try:
        yield
    except Stopped:
        state.writer.finish()  # what it promises to go on from has to be there
        raise
    except BaseException:
        with contextlib.suppress(Exception):  # what ended it is what should be heard of
            state.writer.finish()
        raise
    state.writer.finish()


def is_log_step(state: State) -> bool:
    system = state.config.system
    last = state.step == state.config.training.train_num_steps
    return last or any(state.step % each == 0 for each in (system.save_ckpt, system.log_step))


def show(bar: tqdm, averages: dict[str, float], shares: dict[str, str]) -> None:
    """Losses and where the time went, beside the bar, which says itself how much is left."""
    shown = {name.removeprefix("loss_"): f"{averages[name]:.3g}" for name in averages if "loss" in name}
    bar.set_postfix(shown | {"time": " ".join(f"{name} {share}" for name, share in shares.items())})


def step_or_explain(state: State, passes: list[Batch]) -> dict[str, Tensor]:
    """train_step. Raises OutOfMemory, OSError where a process that loads data was killed meanwhile."""
    try:
        return train_step(state, *(batch.to(state.world.device, non_blocking=True) for batch in passes))
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            longest = max(passes, key=lambda batch: batch.mel.shape[-1])
            raise OutOfMemory(
                f"out of memory at step {state.step + 1} with {len(longest.ids)} clips of up to "
                f"{longest.mel.shape[-1]} frames ({', '.join(longest.ids)}): lower training.batch_size, and raise "
                "training.accumulate by as much, or set training.batch_frames; on a GPU system.cuda_graphs=false takes "
                "less, too"
            ) from error
        if is_worker_lost(error):
            raise OSError(WORKER_LOST) from error
        raise


def is_out_of_memory(error: Exception) -> bool:
    said = str(error).lower()  # the libraries under PyTorch have no type for it
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in said for words in ("out of memory", "allocate memory", "alloc_failed")
    )


def needs_rollback(state: State, passes: list[Batch], values: dict[str, Tensor], run_log: RunLog | None) -> bool:
    """Note the step that was made. Returns whether too many in a row were skipped; on a GPU the last one is known only
    when the next has begun, so that the host does not wait for it."""
    state.writer.check()
    clips = [name for batch in passes for name in batch.ids]
    state.pending.append((state.step, clips, values, state.skipped))
    most, on_gpu = state.config.training.max_skipped, state.world.device.type == "cuda"
    record_pending(state, run_log, n_left=1 if on_gpu and not is_log_step(state) else 0)
    if state.misses >= most:
        record_pending(state, run_log)  # one more, which may have been a good one
    return state.misses >= most


def record_pending(state: State, run_log: RunLog | None, n_left: int = 0, alone: bool = False) -> None:
    """Record the steps that were made, all but n_left of them: reading whether one was skipped waits for a GPU, which
    meanwhile computes the next. alone: other processes may be elsewhere, and their clips are not asked for."""
    while len(state.pending) > n_left:
        step, clips, values, skipped = state.pending.popleft()
        with state.watch.part("update"):
            state.misses = state.misses + 1 if skipped.item() else 0
        if state.misses and not alone:
            clips = state.world.gather(clips)
        record(state, step, clips, values, run_log)


def record(state: State, step: int, clips: list[str], values: dict[str, Tensor], run_log: RunLog | None) -> None:
    """Count the losses of the step that led to `step` in, or say that it was skipped, and of which clips."""
    if state.world.first and not state.misses:
        run_log.add(values)
    elif state.world.first:
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        log.warning("step %d skipped, not finite: %s; its clips: %s", step, ", ".join(broken), ", ".join(clips))
        run_log.write("skipped", step, {"not_finite": broken, "clips": clips})


def go_back(state: State, folder: Path, run_log: RunLog | None) -> None:
    """To the last checkpoint, with lower learning rates. Raises FloatingPointError where that cannot help any more."""
    misses, step, world = state.misses, state.step, state.world
    scale = state.rate_scale * state.config.training.back_off
    advice = "lower the learning rates in training.stages, or train without -a true"
    state.writer.finish()
    there = world.agree(bool(checkpoint.steps(folder, "project")))
    if not there or scale < LEAST_RATE_SCALE:
        why = "there is no checkpoint yet" if not there else f"learning rates times {state.rate_scale:g} did not help"
        raise FloatingPointError(f"{misses} steps in a row to step {step} were not finite, and {why}: {advice}")
    restore(state, load_agreed(folder, None, world))
    state.rate_scale = scale
    world.most(0)  # all have read it
    if world.first:
        checkpoint.set_aside(folder, state.step)
        skipped = [line for line in run_log.read() if line["kind"] == "skipped" and line["step"] > state.step]
        run_log.rewind(state.step)  # which forgets them
        clips = sorted({clip for line in skipped for clip in line["clips"]})
        run_log.write("back", state.step, {"from": step, "rate_scale": scale, "clips": clips})
        log.warning("%d steps in a row to step %d were not finite: back to step %d, with learning rates times %g",
                    misses, step, state.step, scale)  # fmt: skip


def load_agreed(folder: Path, step: int | None, world: World) -> dict:
    """The project of a step, or the newest that is whole, the same in every process: the first one chooses.

    Raises CheckpointError there; the others then end.
    """
    if world.first:
        with world.telling_of_failure():
            project = checkpoint.load_newest(folder, step)
    elif world.failed_elsewhere():
        sys.exit(1)
    step = world.agree(project["step"] if world.first else None)
    return project if world.first else checkpoint.load_project(checkpoint.project_path(folder, step))


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
    parser.add_argument("--device", choices=["cuda", "cpu"], help="by default GPUs, where there are any")
    parser.add_argument("-test", choices=["true", "false"], default="true", help="false: log to wandb too")
    parser.add_argument("--count", action="store_true", help="print how many processes run.sh is to start, and end")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over all the files")
    parser.set_defaults(name=None)  # of a run that torchrun starts again before it has saved anything
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


def run(args: argparse.Namespace, world: World) -> int:
    """Train what args ask for. Returns the exit status."""
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
        project = load_agreed(checkpoint.RUNS / args.id, args.ckpt, world)
        config = configuration.change(configuration.from_dict(project["config"]), args.overrides)
    else:
        config = configuration_of(args)
    data = prepare_data(config, world)
    state = make_state(args, config, world, data, project)
    if project is None:
        begin(state, data.clips)
    wandb_run = start_wandb(args, config, args.id or args.name) if world.first else None
    name = world.agree(wandb_run.id if wandb_run else args.id or args.name or checkpoint.new_run_id())
    if world.first:
        begin_launch(name)
    train(state, data, *open_folder(state, data, checkpoint.RUNS / name, wandb_run))
    return name


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error."""
    args = parse_args(argv)
    if args.count:
        return print_count(args)
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if first else logging.WARNING, format="%(message)s")
    end_with_starter()
    try:
        world = World.join(args.device)
        if not go_on_after_restart(args, world):
            return 1
        status = run(args, world)
        end_launch()
        World.leave()
        return status
    except Stopped as stopped:
        end_launch()
        World.leave()
        if first:
            print(f"train.py: {stopped}", file=sys.stderr)
        return stopped.status
    except (ValueError, OSError, FloatingPointError, OutOfMemory) as error:
        end_launch()  # the same would come of starting again
        if args.debug:
            raise
        if first or not isinstance(
            error, (ConfigError, checkpoint.CheckpointError, DeviceError)
        ):  # those all processes have alike
            print(f"train.py: {described(error)}", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:
        return end_of_processes(error, args)
    except KeyboardInterrupt:
        end_launch()
        print("train.py: interrupted; -id goes on from the last checkpoint", file=sys.stderr)
        return 130


def print_count(args: argparse.Namespace) -> int:
    """Print the number of processes that train what args ask for: one a GPU, or one that starts others for the lanes of
    a run, or one on a CPU. Returns the exit status: 1 after one clear line."""
    try:
        n_processes = torch.cuda.device_count() if gpu.use_gpu(args.device) else 1
    except DeviceError as error:
        print(f"run.sh: {error}", file=sys.stderr)
        return 1
    with contextlib.suppress(ValueError, OSError):  # said by whoever trains
        n_processes = 1 if lanes_of(args) is not None else n_processes
    print(n_processes)
    return 0


def end_of_processes(error: RuntimeError | MemoryError, args: argparse.Namespace) -> int:
    """Say in one line that memory or another process is gone. Returns the exit status; raises what is neither."""
    is_ours = is_out_of_memory(error) or is_worker_lost(error)
    if is_ours:
        end_launch()
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    others = not alone and any(word in str(error).lower() for word in ("gloo", "nccl", "connection"))
    if is_ours and args.debug or not is_ours and not others:
        raise error
    said = "another training process has ended, and so does this one"
    if is_worker_lost(error):
        said = WORKER_LOST
    elif is_out_of_memory(error):
        said = (f"out of memory beside the training steps ({described(error)}): lower training.batch_size, with which "
                "clips are aligned, or leave longer clips out of dataset.metafile_valid")  # fmt: skip
    print(f"train.py: {said}", file=sys.stderr)
    return 1


def described(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        more = "; what was saved is whole, and -id goes on from it" if error.errno in DISK_ERRORS else ""
        return f"{error.filename}: {' '.join(error.strerror.split())}{more}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    exit_with(main)
