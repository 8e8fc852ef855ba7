"""Processes that meet in a store which still has what those before them wrote."""

import contextlib
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from training.distributed import Processes, exit_with, meet


def meeting(store, size, seed):
    """The words on which `size` threads agree that come at random instants."""
    chance = random.Random(seed)
    delays = [chance.uniform(0, 0.1) for _ in range(size)]

    def come(rank):
        time.sleep(delays[rank])
        return meet(store, rank, size)

    with ThreadPoolExecutor(size) as threads:
        return list(threads.map(come, range(size)))


@pytest.mark.parametrize("size", [2, 5])
def test_each_start_agrees_on_a_word_of_its_own(size):
    store, words = dist.HashStore(), set()
    for seed in range(3):  # whoever comes first finds all that the start before has written
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


class Left(BaseException):
    """In place of os._exit, which tidies nothing up."""


def fail():
    raise ValueError("gone")


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    ("main", "status"),
    [(lambda: 0, 0), (lambda: 3, 3), (lambda: sys.exit(4), 4), (sys.exit, 0), (lambda: sys.exit("why"), 1), (fail, 1)],
)
def test_one_of_several_that_fails_ends_at_once(monkeypatch, capsys, size, main, status):
    def leave(status):
        raise Left(status)

    monkeypatch.setenv("WORLD_SIZE", str(size))
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(BaseException) as ended:
        exit_with(main)
    if size == 1:  # alone it ends as any program does
        assert ended.type is (ValueError if main is fail else SystemExit)
        assert main is fail or ended.value.code in (status, None, "why")
    else:
        assert ended.type is (Left if status else SystemExit) and ended.value.args[0] == status
        assert ("gone" in capsys.readouterr().err) == (main is fail)


class Partner(Processes):
    """One of two, the other of which says a number."""

    def all_reduce_max(self, number):
        return max(number, self.others)


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("error", [None, OSError("clip.wav is gone")])
def test_what_fails_one_ends_all(others, error):
    processes = Partner(0, 2, None)
    processes.others = others
    expected = error or others and OSError("another training process cannot go on, and says why")
    with (
        pytest.raises(OSError, match=str(expected)) if expected else contextlib.nullcontext(),
        processes.raise_on_all(),
    ):
        if error:
            raise error


@pytest.mark.parametrize("size", [1, 2, 4])
def test_what_is_shared_is_done_once_and_all_have_it_in_order(monkeypatch, size):
    shares, done = [], []
    monkeypatch.setattr(Processes, "all_reduce_max", lambda _, number: number)
    monkeypatch.setattr(Processes, "all_gather", lambda _, own: shares.append(own) or own)
    for rank in range(size):
        Processes(rank, size, None).share(lambda item: done.append(item) or item.upper(), "abc")
    assert sorted(done) == ["a", "b", "c"]
    monkeypatch.setattr(Processes, "all_gather", lambda *_: sum(reversed(shares), []))
    assert Processes(0, size, None).share(str.upper, "abc") == ["A", "B", "C"]
