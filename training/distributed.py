"""The processes that train together."""

import contextlib
import hashlib
import os
import random
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training import gpu

PATIENCE = timedelta(hours=2)  # of processes that wait while the first prepares the corpus or validates
MEETING = timedelta(minutes=10)  # of processes that wait for each other to start
MEETING_POLL = 0.05  # seconds
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Processes:
    """The processes that train together, as this one of them sees it; alone it is the first of one."""

    rank: int
    size: int
    device: torch.device
    words: dist.ProcessGroup | None = None  # on the host, for what must not wait for a GPU

    @classmethod
    def join(cls, device: str | None = None) -> "Processes":
        """Meet the processes that torchrun started, if it did: NCCL on GPUs, gloo on CPUs.

        device: cuda or cpu; None: GPUs where there are any. Raises DeviceError where a GPU cannot be used.
        """
        rank, size, local = (int(os.environ.get(n, d)) for n, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
        cuda = gpu.use_gpu(device, [local])
        own = torch.device("cuda", local) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(own)
        if size > 1:
            # torchrun's store outlives processes: those that it starts again would find the addresses of the ended ones
            is_old = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            place: dict[str, Any] = {}
            if is_old:
                place = {"store": fresh_store(rank, size), "rank": rank, "world_size": size}
            dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE, **place)
        words = dist.new_group(backend="gloo", timeout=PATIENCE) if size > 1 and cuda else None
        return cls(rank, size, own, words)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """What is inside the first process does before the others, which end where it has failed."""
        if not self.is_main:
            if self.broadcast(None):
                sys.exit(1)  # the first process says why
            yield
            return
        failed = True
        try:
            yield
            failed = False
        finally:
            self.broadcast(failed)

    @contextlib.contextmanager
    def raise_on_all(self) -> Iterator[None]:
        """What each process does by itself: where a file or a clip fails one, all end. Raises what did, or OSError."""
        failure = None
        try:
            yield
        except (ValueError, OSError) as error:
            failure = error
        if self.all_reduce_max(failure is not None):
            raise failure or OSError("another training process cannot go on, and says why")

    def broadcast(self, word):
        """What the first process says, plain values and tensors on the host, for all."""
        words = [word]
        if self.size > 1:
            dist.broadcast_object_list(words, group=self.words)
        return words[0]

    def all_reduce_max(self, number: int) -> int:
        """The largest of what all processes say; none goes on before all have said it."""
        if self.size == 1:
            return number
        x = torch.tensor(number)
        dist.all_reduce(x, dist.ReduceOp.MAX, group=self.words)
        return int(x)

    def all_gather(self, words: list) -> list:
        """The lists of all processes, one after the other."""
        if self.size == 1:
            return words
        lists: list[Any] = [None] * self.size
        dist.all_gather_object(lists, words, group=self.words)
        return [word for one in lists for word in one]

    def share(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """work(item) of each item, in order: every process does some of them, and all have all results.

        Raises what fails one, in the others OSError.
        """
        with self.raise_on_all():
            own = [(i, work(items[i])) for i in range(self.rank, len(items), self.size)]
        return [result for _, result in sorted(self.all_gather(own), key=lambda pair: pair[0])]

    def mean(self, x: Tensor) -> Tensor:
        """The mean over all processes; the host does not wait for a GPU."""
        if self.size > 1:
            dist.all_reduce(x)
            x = x / self.size
        return x

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network under DDP, where there are several processes and it has something to learn."""
        if self.size == 1 or not any(p.requires_grad for p in network.parameters()):
            return network
        # every process computes the same buffers, so none are sent
        return DistributedDataParallel(network, broadcast_buffers=False, gradient_as_bucket_view=True)

    def no_sync(self, network: nn.Module, active: bool) -> contextlib.AbstractContextManager:
        """Inside the with statement, where it is active, a wrapped network's gradients stay with their process: more
        are added to them."""
        if active and isinstance(network, DistributedDataParallel):
            return network.no_sync()
        return contextlib.nullcontext()

    @staticmethod
    def leave() -> None:
        """Let go of the others, if there were any."""
        if dist.is_initialized():
            dist.destroy_process_group()


def fresh_store(rank: int, size: int) -> dist.Store:
    """A part of torchrun's store that the processes of this start have to themselves."""
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=PATIENCE)
    return dist.PrefixStore(meet(store, rank, size), store)


def meet(store: dist.Store, rank: int, size: int, patience: timedelta = MEETING) -> str:
    """A word on which `size` processes agree that call this at about the same time, and on which nobody did before.

    The store may hold all that processes before them, which have ended, have written here. Everybody says a new name;
    the first offers the names that it reads, until everybody has seen an offer with their own, and so with nobody's old
    one. Raises RuntimeError where somebody does not come.
    """
    mine, deadline = secrets.token_hex(8), time.monotonic() + patience.total_seconds()
    store.set(f"meeting/name/{rank}", mine)
    while time.monotonic() < deadline:
        if rank == 0:
            store.set("meeting/offer", " ".join(_read(store, f"meeting/name/{i}") for i in range(size)))
        offer = _read(store, "meeting/offer")
        if mine in offer.split():
            store.set(f"meeting/seen/{rank}", offer)
            if rank == 0 and all(_read(store, f"meeting/seen/{i}") == offer for i in range(size)):
                store.set("meeting/agreed", offer)
            if _read(store, "meeting/agreed") == offer:
                return hashlib.sha256(offer.encode()).hexdigest()[:16]
        time.sleep(MEETING_POLL)
    raise RuntimeError(f"no connection: of {size} processes not all have started within {patience}")


def _read(store, key):
    return store.get(key).decode() if store.check([key]) else ""


def exit_with(main: Callable[[], int]) -> NoReturn:
    """End with main's status. Of several processes one that has failed ends at once: what would tidy up its connections
    waits for the others, who may be waiting for it."""
    status = 1
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        sys.exit(main())
    try:
        status = main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # the interpreter would print it, and then tidy up
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    if status != 0:
        os._exit(status)
    sys.exit(0)


def seed_everything(seed: int, step: int, rank: int) -> None:
    """Give every library the random state of a step: dropout, and whatever else may draw."""
    state = np.random.SeedSequence([seed, step, rank]).generate_state(1)[0]
    random.seed(int(state))
    np.random.seed(state)
    torch.manual_seed(int(state))
