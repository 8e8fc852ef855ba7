"""The log of a run: one JSON object a line, always on disk, and in trackers where asked."""

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from runtime.files import read_json_lines, write_atomic
from training.trackers import Tracker

log = logging.getLogger(__name__)


class RunLog:
    """log.jsonl in a run's folder, and what it says in trackers. Lines past `step` are dropped: they come again.

    A tracker that fails is told no more, with a warning: log.jsonl has it all, and training goes on.
    """

    def __init__(self, folder: Path, step: int, trackers: Sequence[Tracker] = ()):
        self.path, self.trackers = folder / "log.jsonl", list(trackers)
        self.sums: dict[str, Tensor | float] = {}
        self.counts: dict[str, int] = {}
        self.rewind(step)

    def rewind(self, step: int) -> None:
        """Forget what comes after a step."""
        self.sums, self.counts = {}, {}
        if self.path.exists():
            kept = [line for line in read_lines(self.path) if line["step"] <= step]
            write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._tell(lambda tracker: tracker.open(self.path.parent, step))

    def unwritten(self) -> dict[str, dict[str, float]]:
        """What has been counted in since the last line, in plain values, for go_on."""
        return {"sums": {name: float(value) for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def go_on(self, unwritten: dict[str, dict[str, float]]) -> None:
        """Count in what unwritten() gave, so that the next line is the one that there would have been."""
        self.sums = dict(unwritten["sums"])
        self.counts = {name: int(count) for name, count in unwritten["counts"].items()}

    def add(self, values: dict[str, Tensor]) -> None:
        """Count one step's losses in, without waiting for the device."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def flush(self, step: int) -> dict[str, float]:
        """Write the means since the last line, each over the steps that had the value."""
        means = {name: float(value) / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        if means:
            self.write("train", step, means)
        return means

    def read(self) -> list[dict]:
        """All lines so far."""
        return read_lines(self.path)

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """One line of JSON: the step, whether from train or valid, and the numbers by name; or that steps were skipped,
        or training went back, why and for which clips, which is not for trackers."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
        if kind in ("train", "valid"):
            named = {f"{kind}/{name}": value for name, value in values.items()}
            self._tell(lambda tracker: tracker.log(step, named))

    def write_samples(self, step: int, folder: Path) -> None:
        """What a validation left in a folder, for trackers."""
        self._tell(lambda tracker: tracker.log_samples(step, folder))

    def _tell(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                tell(tracker)
            except Exception as error:  # of a library, a network or a disk: whatever it is, no day of training ends
                log.warning("%s is told no more of this run: %.300s", type(tracker).__name__, error or type(error))
                self.trackers.remove(tracker)


def read_lines(path: Path) -> list[dict]:
    """The lines of a log, but for one that a running process has not finished; [] where there is no log."""
    return [line for line in read_json_lines(path) if isinstance(line.get("step"), int)]


def validations(folder: Path) -> list[dict]:
    """What a run's log has of its validations so far, one after another."""
    return [line for line in read_lines(folder / "log.jsonl") if line["kind"] == "valid"]


class Stopwatch:
    """Where the time goes, as the host sees it: it waits for a GPU once a step, in `update`, and
    then for the step before."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.inner = 0.0  # seconds that were counted within the part that is under way

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done meanwhile as this part's, but for what a part within it counts."""
        start, before, self.inner = time.perf_counter(), self.inner, 0.0
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent - self.inner
            self.inner = before + spent

    def shares(self) -> dict[str, str]:
        """Per cent of the time since the last call, by part."""
        total = sum(self.seconds.values())
        shares = {name: f"{seconds / total:.0%}" for name, seconds in self.seconds.items()}
        self.seconds = {}
        return shares
