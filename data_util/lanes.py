"""Several processes that wait for each other's results, as many at once as asked for, and end with who started them."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

POLL_SECONDS = 0.5
STARTER = "TRAIN_STARTER"  # the environment's name of a pipe that ends with the process that started this one


def run_all(
    commands: Mapping[str, Sequence[str]],
    after: Mapping[str, set[str]],
    n_at_once: int,
    n_cores: int,
    environments: Sequence[Mapping[str, str]] = (),
) -> int:
    """Run each command once those that it comes after have ended well, the first that can start first.

    commands: arguments by name; after: names by name, without circles; n_at_once: processes, which share n_cores;
    environments: what is added to that of the first, second, ... of those that run at once.
    Returns 0, or the exit status of the first that failed, when the others have been ended too, or 128 and the number
    of the SIGTERM or SIGINT that came, which was passed on to all. They are waited for as long as they take to save;
    a second SIGINT kills them.
    """
    waiting, running, done = dict(commands), {}, set()
    threads = str(max(1, n_cores // n_at_once))
    stop = Stop()
    theirs, ours = os.pipe()  # closed by whatever ends this process, SIGKILL too, and then they end by themselves
    try:
        with stop:
            while (waiting or running) and not stop.signal:
                for name in [name for name in waiting if after[name] <= done][: n_at_once - len(running)]:
                    place = min(set(range(n_at_once)) - {place for _, place in running.values()})
                    # one line of the terminal for each bar; threads that outnumber the cores only wait for each other
                    more = {"OMP_NUM_THREADS": threads, "TQDM_POSITION": str(place), STARTER: str(theirs)}
                    more |= environments[place] if environments else {}
                    process = subprocess.Popen(waiting.pop(name), env=os.environ | more, pass_fds=(theirs,))
                    running[name] = process, place
                for name, (process, _) in list(running.items()):
                    status = process.poll()
                    if status is not None:
                        del running[name]
                        done.add(name)
                        if status != 0:
                            return status if status > 0 else 128 - status
                time.sleep(POLL_SECONDS)
            return 128 + stop.signal if stop.signal else 0
    finally:
        _end([process for process, _ in running.values()])
        os.close(theirs)
        os.close(ours)


def _end(processes):
    for process in processes:
        process.terminate()
    try:
        with Stop(at_once=True):
            for process in processes:
                process.wait()
    finally:
        for process in processes:
            process.kill()
            process.wait()


class Stop:
    """While it is entered, SIGTERM and SIGINT only say so, in `signal`: whoever asks finishes what must be finished.

    A second SIGINT, a second or more after the first signal, raises KeyboardInterrupt. In a thread that is not the main
    one, which gets no signals, nothing changes.
    """

    def __init__(self, at_once: bool = False):
        """at_once: the first SIGINT raises already."""
        self.signal, self.at_once, self._before, self._since = 0, at_once, {}, 0.0

    def __enter__(self) -> "Stop":
        with contextlib.suppress(ValueError):
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._tell)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _tell(self, number, _frame):
        if number == signal.SIGINT and (self.at_once or self.signal and time.monotonic() > self._since + 1):
            raise KeyboardInterrupt
        if not self.signal:
            self.signal, self._since = int(number), time.monotonic()


def end_with_starter() -> None:
    """Get SIGTERM when the process that started this one through run_all has ended, however it did."""
    descriptor = os.environ.pop(STARTER, "")
    if descriptor:
        threading.Thread(target=_wait_for_end, args=(int(descriptor),), daemon=True).start()


def _wait_for_end(descriptor):
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
