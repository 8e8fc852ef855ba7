"""Processes that meet in a store which still has what those before them wrote."""

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from data_util.config import ROOT
from data_util.world import World, meet


def meeting(store, size, seed):
    """The words on which `size` threads agree that come at random instants."""
    chance = random.Random(seed)
    delays = [chance.uniform(0, 0.2) for _ in range(size)]

    def come(rank):
        time.sleep(delays[rank])
        return meet(store, rank, size)

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(come, range(size)))


@pytest.mark.parametrize("size", [2, 5])
def test_each_start_agrees_on_a_word_of_its_own(size):
    store, words = dist.HashStore(), set()
    for seed in range(4):  # whoever comes first finds all that the start before has written
        (word,) = set(meeting(store, size, seed))
        assert word not in words
        words.add(word)


def test_a_start_that_was_cut_short_does_not_mislead_the_next():
    store = dist.HashStore()
    for rank in (1, 2):  # of three, ended before the first came
        with pytest.raises(RuntimeError, match="of 3 processes not all have started"):
            meet(store, rank, 3, timedelta(seconds=0.1))
    assert len(set(meeting(store, 3, 0))) == 1


def test_nobody_agrees_with_those_that_have_ended():
    store = dist.HashStore()
    meeting(store, 2, 0)
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match="connection"):
            meet(store, rank, 2, timedelta(seconds=0.3))


ENDS = {"return 0": 0, "return 3": 3, "sys.exit(4)": 4, "sys.exit()": 0, "raise ValueError('gone')": 1}


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("how", ENDS)
def test_one_of_several_that_fails_ends_before_anything_tidies_up(size, how):
    program = (
        "import atexit, sys\nfrom data_util.world import exit_with\natexit.register(print, 'tidied up')\n"
        f"def main():\n    print('worked')\n    {how}\nexit_with(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "WORLD_SIZE": str(size)},
                          capture_output=True, text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == ENDS[how]
    assert done.stdout.split("\n")[0] == "worked" and ("gone" in done.stderr) == ("gone" in how)
    assert ("tidied up" in done.stdout) == (size == 1 or ENDS[how] == 0)


class Partner(World):
    """One of two, the other of which says a number."""

    def most(self, number):
        return max(number, self.others)


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("error", [None, OSError("clip.wav is gone")])
def test_what_fails_one_ends_all(others, error):
    world = Partner(0, 2, None)
    world.others = others
    raised = None
    try:
        with world.together():
            if error:
                raise error
    except OSError as one:
        raised = one
    assert (raised is None) == (error is None and not others)
    assert error is None or raised is error
