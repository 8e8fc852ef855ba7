"""What a benchmark's machine can do, so that its numbers can be told from another's."""

import statistics
import time

import torch

from evaluate import device_name

SIDE = 1536  # of the matrices of a plain product, which do not fit a core's cache and fill its units
N_PRODUCTS = 5


def product_rate(device: torch.device | None = None) -> float:
    """What a plain float32 product computes with torch's threads: FLOP/s, the median of some."""
    a = b = torch.randn(SIDE, SIDE, device=device)
    spent = []
    for _ in range(1 + N_PRODUCTS):  # the first is not counted
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for a GPU, too
        spent.append(time.perf_counter() - start)
    return 2 * SIDE**3 / statistics.median(spent[1:])


def described(device: torch.device | None = None) -> str:
    """The processor, with the instructions that PyTorch uses of it, or a GPU."""
    name = device_name(str(device or "cpu"))
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}" if name.startswith("cpu") else name
