"""What a run leaves on disk while it trains: the lines of its log and its checkpoints."""

import contextlib
import functools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from data_util.dataset import Batch
from training import checkpoint
from training.run_log import RunLog
from training.state import State, checkpoint_of

log = logging.getLogger("train")


@dataclass
class Run:
    """log: the first process's, None in others; has_unsaved: steps, or what a validation found, that no checkpoint
    has; is_due: a checkpoint is, which skipped steps put off."""

    folder: Path
    log: RunLog | None
    has_unsaved: bool = False
    is_due: bool = False

    # -- checkpoints

    def save_if_due(self, state: State, anyway: bool = False) -> None:
        """A checkpoint, where it is time or anyway, unless everything is in one."""
        if self.has_unsaved and (anyway or self.is_due and not state.skipped_steps):
            self.save(state)

    def save(self, state: State, alone: bool = False) -> None:
        """All that it takes to go on from here, by the first process: a copy, written while training goes on.

        alone: other processes may be elsewhere.
        """
        self.record_pending(state, alone=alone)
        if self.log is not None:
            with state.watch.part("saving"):
                state.unwritten = self.log.unwritten()
                ckpt, keep = checkpoint.to_host(checkpoint_of(state)), state.config.system.keep_ckpt
                state.writer.start(functools.partial(checkpoint.save_checkpoint, self.folder, state.step, ckpt, keep))
        self.has_unsaved = self.is_due = False

    @contextlib.contextmanager
    def saving_on_failure(self, state: State) -> Iterator[None]:
        """Where clips, a folder or memory are gone inside the with statement, between steps, training ends with a
        checkpoint."""
        try:
            yield
        except Exception:
            if self.has_unsaved:
                self.save(state, alone=True)
            raise

    # -- the log

    def record(self, state: State, micro_batches: list[Batch], values: dict[str, Tensor]) -> None:
        """Note the step that was made, and its losses (). On a GPU the last step is recorded only when the next has
        begun, so that the host does not wait for it."""
        state.writer.check()
        self.has_unsaved = True
        self.is_due |= state.step % state.config.system.save_ckpt == 0
        clips = [name for batch in micro_batches for name in batch.ids]
        state.pending.append((state.step, clips, values, state.skipped))
        on_gpu = state.processes.device.type == "cuda"
        self.record_pending(state, n_left=1 if on_gpu and not is_log_step(state) else 0)
        if has_skipped_too_many(state):
            self.record_pending(state)  # one more, which may have been a good one

    def record_pending(self, state: State, n_left: int = 0, alone: bool = False) -> None:
        """Record the steps that were made, all but n_left of them: reading whether one was skipped waits for a GPU,
        which meanwhile computes the next. alone: other processes may be elsewhere, whose clips are not asked for."""
        while len(state.pending) > n_left:
            step, clips, values, skipped = state.pending.popleft()
            with state.watch.part("update"):
                state.skipped_steps = state.skipped_steps + 1 if skipped.item() else 0
            if state.skipped_steps and not alone:
                clips = state.processes.all_gather(clips)
            self._record(state, step, clips, values)

    def _record(self, state, step, clips, values):
        """Count the losses of the step that led to `step` in, or say that it was skipped, and of which clips."""
        if self.log is None:
            return
        if not state.skipped_steps:
            self.log.add(values)
        else:
            broken = [name for name, value in values.items() if not math.isfinite(value)]
            log.warning("step %d skipped, not finite: %s; its clips: %s", step, ", ".join(broken), ", ".join(clips))
            self.log.write("skipped", step, {"not_finite": broken, "clips": clips})

    def show(self, state: State, bar: tqdm) -> None:
        """Every so many steps, in the first process: a line of the log, and beside the bar, which says itself how much
        is left, losses and where the time went."""
        if self.log is None or not is_log_step(state):
            return
        means, shares = self.log.flush(state.step), state.watch.shares()
        shown = {name.removeprefix("loss_"): f"{means[name]:.3g}" for name in means if "loss" in name}
        bar.set_postfix(shown | {"time": " ".join(f"{name} {share}" for name, share in shares.items())})


def is_log_step(state: State) -> bool:
    system = state.config.system
    last = state.step == state.config.training.train_num_steps
    return last or any(state.step % each == 0 for each in (system.save_ckpt, system.log_step))


def has_skipped_too_many(state: State) -> bool:
    return state.skipped_steps >= state.config.training.max_skipped


@contextlib.contextmanager
def all_written(state: State) -> Iterator[None]:
    """Nothing is left to be written after the with statement, however it ends."""
    try:
        yield
    except BaseException as error:
        suppressed = () if hasattr(error, "status") else (Exception,)  # Stopped promises that all is written
        with contextlib.suppress(*suppressed):
            state.writer.finish()
        raise
    state.writer.finish()
