"""What ends or sets back a training: signals, lack of memory, losses that are not finite, processes that die."""

import argparse
import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from data_util.config import ConfigError
from data_util.dataset import Batch
from data_util.features import WORKER_LOST, is_worker_lost
from training import checkpoint
from training.distributed import Processes
from training.gpu import DeviceError
from training.recording import Run
from training.run_folder import end_launch
from training.state import State, load_agreed, restore

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
LEAST_LR_SCALE = 0.01  # of the learning rates, under which another rollback would not help
STARTER = "TRAIN_STARTER"  # the environment's name of the process whose end ends this one
STARTER_POLL = 1.0  # seconds
log = logging.getLogger("train")


class Stopped(Exception):
    """A signal asked for the end; the step has been finished and saved."""

    def __init__(self, number: int, step: int):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} after step {step}: -id goes on from the newest checkpoint")
        self.status = 128 + number


class OutOfMemory(Exception):
    """The message says in which batch, and what to lower."""


class StopSignals:
    """While it is entered, SIGTERM and SIGINT only say so, in `signal`: whoever asks finishes what must be finished.
    What can be done again, within ending_at_once(), ends with Stopped.

    A second SIGINT, a second or more after the first signal, raises KeyboardInterrupt. In a thread that is not the main
    one, which gets no signals, nothing changes.
    """

    def __init__(self) -> None:
        self.signal, self._since = 0, 0.0
        self._before: dict = {}
        self._step: int | None = None  # after which what is under way ends at once; None: it is finished

    def __enter__(self) -> "StopSignals":
        with contextlib.suppress(ValueError):
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._tell)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _tell(self, number, _frame):
        if number == signal.SIGINT and self.signal and time.monotonic() > self._since + 1:
            raise KeyboardInterrupt
        if not self.signal:
            self.signal, self._since = int(number), time.monotonic()
        if self._step is not None:
            raise Stopped(self.signal, self._step)

    @contextlib.contextmanager
    def ending_at_once(self, step: int) -> Iterator[None]:
        """Within it a signal raises Stopped, of that step."""
        self._step = step
        try:
            yield
        finally:
            self._step = None


def end_with_starter() -> None:
    """Get SIGTERM when the process whose number the environment has as TRAIN_STARTER is gone, however it ended."""
    starter = os.environ.get(STARTER, "")
    if starter:
        threading.Thread(target=_wait_for_end, args=(int(starter),), daemon=True).start()


def _wait_for_end(starter):
    while True:
        try:
            os.kill(starter, 0)
        except OSError:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(STARTER_POLL)


# -- in a step


def explain_failure(
    train_step: Callable[..., dict[str, Tensor]], state: State, micro_batches: list[Batch]
) -> dict[str, Tensor]:
    """train_step(state, *micro_batches). Raises OutOfMemory, OSError where a process that loads data was killed."""
    try:
        return train_step(state, *(batch.to(state.processes.device, non_blocking=True) for batch in micro_batches))
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            longest = max(micro_batches, key=lambda batch: batch.mel.shape[-1])
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


def rollback(state: State, run: Run) -> None:
    """Back to the last checkpoint, with lower learning rates. Raises FloatingPointError where that cannot help."""
    n_skipped, step, processes = state.skipped_steps, state.step, state.processes
    scale = state.lr_scale * state.config.training.lr_decay
    advice = "lower the learning rates in training.stages, or train without -a true"
    state.writer.finish()
    there = processes.broadcast(bool(checkpoint.steps(run.folder, "project")))
    if not there or scale < LEAST_LR_SCALE:
        why = "there is no checkpoint yet" if not there else f"learning rates times {state.lr_scale:g} did not help"
        raise FloatingPointError(f"{n_skipped} steps in a row to step {step} were not finite, and {why}: {advice}")
    restore(state, load_agreed(run.folder, None, processes))
    state.lr_scale, run.has_unsaved, run.is_due = scale, False, False
    processes.all_reduce_max(0)  # all have read it
    if run.log is not None:  # in the first process
        checkpoint.set_aside(run.folder, state.step)
        skipped = [line for line in run.log.read() if line["kind"] == "skipped" and line["step"] > state.step]
        run.log.rewind(state.step)  # which forgets them
        clips = sorted({clip for line in skipped for clip in line["clips"]})
        run.log.write("rollback", state.step, {"from": step, "lr_scale": scale, "clips": clips})
        log.warning("%d steps in a row to step %d were not finite: back to step %d, with learning rates times %g",
                    n_skipped, step, state.step, scale)  # fmt: skip


# -- around the whole


def exit_status(run: Callable[[], int], args: argparse.Namespace) -> int:
    """What run() returns, or after one clear line on standard error 1, or 128 and the number of a signal."""
    is_main = os.environ.get("RANK", "0") == "0"
    try:
        status = run()
    except Stopped as stopped:
        status = stopped.status
        if is_main:
            print(f"train.py: {stopped}", file=sys.stderr)
    except (ValueError, OSError, FloatingPointError, OutOfMemory) as error:
        end_launch()  # the same would come of starting again
        if args.debug:
            raise
        all_have_it = isinstance(error, (ConfigError, checkpoint.CheckpointError, DeviceError))
        if is_main or not all_have_it:
            print(f"train.py: {described(error)}", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:
        return end_of_processes(error, args)
    except KeyboardInterrupt:
        end_launch()
        print("train.py: interrupted; -id goes on from the last checkpoint", file=sys.stderr)
        return 130
    end_launch()
    Processes.leave()
    return status


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
