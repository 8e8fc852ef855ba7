"""Train a voice: python train.py, or bash run.sh for torchrun. train_step and train are the algorithm."""

import argparse
import logging
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from data_util import config as configuration
from data_util.config import ROOT, ConfigError
from data_util.dataset import Batch, batches
from runtime import command
from training import checkpoint, gpu, realign, voices
from training.data import Data, prepare_data
from training.distributed import Processes, exit_with
from training.failures import Stopped, StopSignals, end_with_starter, exit_status, explain_failure, rollback
from training.fine_tuning import configuration_of
from training.initialise import initialise
from training.recording import Run, all_written, has_skipped_too_many
from training.run_folder import begin_launch, go_on_after_restart, is_finished, open_run
from training.state import State, load_agreed, make_state
from training.step import (
    adversarial_losses,
    forward,
    global_counts,
    set_learning_rates,
    step_discriminators,
    step_optimiser,
    update_averages,
    weighted_sum,
)
from training.trackers import name_of, start_trackers
from training.validation import tell_of_missing_packages, validate_once


def train_step(state: State, *micro_batches: Batch) -> dict[str, Tensor]:
    """One step of all parts that the stage trains, on what is one batch in several micro-batches.

    Returns the losses of the global batch, on the device, which the host does not wait for. Where a loss or a gradient
    is not finite, its optimiser takes no step, and state.skipped says so.
    """
    n, processes = len(micro_batches), state.processes
    state.skipped, disc_values, total = None, {}, torch.zeros((), device=processes.device)
    summed: dict[str, Tensor] = {}

    # the learning rates
    set_learning_rates(state, n)
    counts, adversarial = global_counts(micro_batches, processes), state.trains("discriminators")

    # the discriminators, where there are several micro-batches: on all of them before the generator hears of any
    if adversarial and n > 1:
        with torch.no_grad():
            outputs = [forward(state, batch, i, counts, state.model) for i, batch in enumerate(micro_batches)]
        disc_values = step_discriminators(state, outputs)

    for i, batch in enumerate(micro_batches):
        with processes.no_sync(state.wrapped["model"], i < n - 1):
            # forward: text to latents to a waveform
            output = forward(state, batch, i, counts, state.wrapped["model"])
            # the discriminators, and what they then say of the generated waveform
            if adversarial:
                disc_values = disc_values or step_discriminators(state, [output])
                output.losses.update(adversarial_losses(state, output))
            # backward
            loss = weighted_sum(state, output.losses) / n
            with state.watch.part("backward"):
                if loss.requires_grad:  # nothing trains where pitch and energy were alone and have stopped
                    loss.backward()
        total = total + loss.detach()
        summed = {name: summed.get(name, 0.0) + one.detach() / n for name, one in output.losses.items()}

    # the optimiser's step
    norms = step_optimiser(state, state.optimiser, total)

    # the averages: of the losses over the processes, of the weights over the steps
    values = summed | disc_values | norms
    values = dict(zip(values, processes.mean(torch.stack(list(values.values())))))
    update_averages(state, values.get("loss_duration"))
    state.step += 1
    return values


def train(state: State, data: Data, run: Run) -> None:
    """From state.step to train_num_steps.

    Raises Stopped after a SIGTERM or SIGINT, OutOfMemory, FloatingPointError where a rollback does not help, and
    OSError and ValueError where clips or the run's folder are gone or full.
    """
    config, processes = state.config, state.processes
    system, first, last = config.system, state.step, config.training.train_num_steps
    stream = stream_of(state, data)
    with (
        StopSignals() as stop,
        logging_redirect_tqdm(),
        progress(state, run) as bar,
        all_written(state),
    ):
        while True:
            is_validated, is_over = state.step == last or state.step % system.validation_step == 0 < state.step, False
            ending = processes.all_reduce_max(stop.signal)
            if run.is_due or is_validated or ending:
                run.record_pending(state)  # which may put the checkpoint off

            # validate
            if is_validated:
                was_due = run.is_due
                run.save_if_due(state)  # a validation takes its time
                with run.saving_on_failure(state), state.watch.part("validation"):
                    is_news, is_over = validate_once(state, data, run, stop.ending_at_once(state.step))
                run.has_unsaved |= is_news
                run.is_due = was_due  # once more after a validation, which may have ended the prosody
                ending = processes.all_reduce_max(stop.signal)

            # save
            run.save_if_due(state, anyway=bool(is_over or ending or state.step == last))
            if state.step >= last or is_over and state.step > first:
                break
            if ending:
                raise Stopped(ending, state.step)

            # align all clips anew, and read the next batch
            with run.saving_on_failure(state):
                if realign.is_due(config, state.step):
                    realign.refresh(state, data.own)
                    stream = stream_of(state, data)
                with state.watch.part("data"), processes.raise_on_all():
                    micro_batches = [next(stream) for _ in range(config.training.accumulate)]

            # a step, and its losses into the log
            values = explain_failure(train_step, state, micro_batches)
            bar.update()
            run.record(state, micro_batches, values)
            if has_skipped_too_many(state):
                rollback(state, run)
                first, stream, bar.n = state.step, stream_of(state, data), state.step
            run.show(state, bar)


def progress(state: State, run: Run) -> tqdm:
    """The bar of the first process."""
    return tqdm(total=state.config.training.train_num_steps, initial=state.step, desc=run.folder.name, unit="step",
                disable=not state.processes.is_main, ncols=command.columns())  # fmt: skip


def stream_of(state: State, data: Data) -> Iterator[Batch]:
    """The batches of this process, from state.step on."""
    processes = state.processes
    return batches(realign.aligned(state, data.own), state.config, first_step=state.step, rank=processes.rank,
                   world_size=processes.size, latents=data.latents,
                   pin_memory=processes.device.type == "cuda")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Train what args ask for, from the start or from a checkpoint. Returns the exit status."""
    processes = Processes.join(args.device)
    if not go_on_after_restart(args, processes):
        return 1
    named = checkpoint.RUNS / args.name if processes.is_main and args.name is not None else None
    if processes.broadcast(named is not None and is_finished(named, args.overrides)):
        if processes.is_main:
            print(f"train.py: checkpoint/{args.name} is finished")
        return 0
    refuse_voice(args.name)
    ckpt = None
    if args.id is not None:
        ckpt = load_agreed(checkpoint.RUNS / args.id, args.ckpt, processes)
        config = configuration.change(configuration.from_dict(ckpt["config"]), args.overrides)
    else:
        config = configuration_of(args)
    if processes.is_main and processes.device.type == "cpu" and args.id is None and args.c is None and not args.start:
        print(gpu.without_one(config.training.train_num_steps))
    trackers = start_trackers(args, config) if processes.is_main else []
    data = prepare_data(config, processes)
    state = make_state(config, processes, data, ckpt, args.a and args.a == "true")
    if ckpt is None:
        initialise(state, data.own)
    if data.latents is not None:
        data.latents.check(float(state.model.latent_mean), float(state.model.latent_std))
    name = processes.broadcast(args.id or args.name or name_of(trackers) or f"off_{secrets.token_hex(4)}")
    if processes.is_main:
        begin_launch(name)
        if {"text_encoder", "decoder", "generator"} <= state.trained_at_the_end:
            tell_of_missing_packages()
    train(state, data, open_run(state, data, checkpoint.RUNS / name, trackers))
    if processes.is_main:
        tell_how_to_speak(name)
    return 0


def refuse_voice(name: str | None) -> None:
    """Raise ConfigError where a new run's name is that of a voice, which the run would write over, but for the last
    step of a recipe."""
    folder = checkpoint.RUNS / (name or "")
    is_taken = name and checkpoint.steps(folder, "voice") and not checkpoint.steps(folder, "project")
    if is_taken and not (folder / "recipe.txt").is_file():
        raise ConfigError(f"-name {name}: {folder} has a voice, and no checkpoint to go on from: take another name")


def tell_how_to_speak(name: str) -> None:
    folder = checkpoint.RUNS / name
    print(f"pictures and WAVs: {folder / 'samples'}")
    if checkpoint.steps(folder, "voice"):
        python = "python" if shutil.which("python") == sys.executable else os.path.relpath(sys.executable)
        script = os.path.relpath(ROOT / "sampling.py")
        print(f'speak with it: {shlex.quote(python)} {shlex.quote(script)} -id {shlex.quote(name)} "Any text."')


def run_name(name: str) -> str:
    """-name as the folders under checkpoint/ name a run, which may be given as a path to what is yet to be."""
    path = Path(name).absolute()
    name = path.relative_to(checkpoint.RUNS).as_posix() if path.is_relative_to(checkpoint.RUNS) else name
    if name in ("", "."):
        raise argparse.ArgumentTypeError("a run needs a name of its own")
    return name


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="train.py", description="Train NiSETS.", allow_abbrev=False,
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("-c", "--config", dest="c", metavar="NAME_OR_FILE", action="append",
                        help="an overlay in configs/, or a YAML file, over config.yaml and those before")  # fmt: skip
    parser.add_argument("-id", "--id", type=voices.run_id, metavar="ID",
                        help="resume the run in checkpoint/ID, or of a path")  # fmt: skip
    parser.add_argument("-from", "--from", dest="start", metavar="[PART,...=]CHECKPOINT", action="append",
                        help="a new run that begins with all weights, or some parts', of a run or voice")  # fmt: skip
    parser.add_argument("-name", "--name", type=run_name, metavar="NAME",
                        help="of the run in checkpoint/: begun, resumed, or left if finished")  # fmt: skip
    parser.add_argument("-ckpt", "--ckpt", type=int, metavar="STEP", help="from this step; without it the newest")
    parser.add_argument("-a", "--amp", dest="a", choices=["true", "false"], help="networks in bfloat16; a run keeps "
                        "what it was started with, by default false")  # fmt: skip
    parser.add_argument("--device", choices=["cuda", "cpu"], help="by default GPUs, where there are any")
    parser.add_argument("-test", "--test", choices=["true", "false"], default="true", help="false: log to wandb too")
    parser.add_argument("--count", action="store_true", help="print how many processes run.sh is to start")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over all the files")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    if args.ckpt is not None and args.id is None:
        parser.error("-ckpt STEP needs -id ID, the run that it is a step of")
    if args.id is not None and (args.start or args.name):
        parser.error("-id goes on with a run as it was, -from and -name begin a new one: give one of them")
    if args.c is not None and args.id is not None:
        parser.error("-id goes on with the run's own configuration: use section.key=value to change it, not -c")
    if args.name is not None and checkpoint.steps(checkpoint.RUNS / args.name, "project"):
        args.id, args.c, args.start = args.name, None, None
    return args


def print_count(args: argparse.Namespace) -> None:
    """Check what args ask for as far as that takes no data, and print the number of processes that train: one a GPU, or
    one on a CPU."""
    if args.id is None:
        configuration_of(args)
    print(torch.cuda.device_count() if gpu.use_gpu(args.device) else 1)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error, or 128 and a signal's number."""
    args = parse_args(argv)
    if args.count:
        return command.exit_status(print_count, args, "run.sh")
    is_main = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if is_main else logging.WARNING, format="%(message)s")
    end_with_starter()
    return exit_status(lambda: run(args), args)


if __name__ == "__main__":
    exit_with(main)
