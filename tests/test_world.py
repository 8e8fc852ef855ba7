"""Processes that meet in a store which still has what those before them wrote."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from data_util.world import meet


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
