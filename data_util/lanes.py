"""Several processes that wait for each other's results, as many at once as asked for."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

POLL_SECONDS = 0.5


def run_all(commands: Mapping[str, Sequence[str]], after: Mapping[str, set[str]], n_at_once: int, n_cores: int) -> int:
    """Run each command once those that it comes after have ended well, the first that can start first.

    commands: arguments by name; after: names by name, without circles; n_at_once: processes, which share n_cores.
    Returns 0, or the exit status of the first that failed, when the others have been ended too.
    """
    waiting, running, done = dict(commands), {}, set()
    threads = str(max(1, n_cores // n_at_once))
    # through the `finally`, so that no process is left behind to train what a resumed run trains too
    on_sigterm = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        while waiting or running:
            for name in [name for name in waiting if after[name] <= done][: n_at_once - len(running)]:
                place = min(set(range(n_at_once)) - {place for _, place in running.values()})
                # one line of the terminal for each bar; threads that outnumber the cores only wait for each other
                environment = os.environ | {"OMP_NUM_THREADS": threads, "TQDM_POSITION": str(place)}
                running[name] = subprocess.Popen(waiting.pop(name), env=environment), place
            for name, (process, _) in list(running.items()):
                status = process.poll()
                if status is not None:
                    del running[name]
                    done.add(name)
                    if status != 0:
                        return status if status > 0 else 128 - status
            time.sleep(POLL_SECONDS)
        return 0
    finally:
        _end([process for process, _ in running.values()])
        signal.signal(signal.SIGTERM, on_sigterm)


def _end(processes):
    for process in processes:
        process.terminate()
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            continue
        process.kill()
        process.wait()
