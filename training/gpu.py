"""Which GPUs there are, whether PyTorch can use them, and in which precision they compute."""

import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterable

import torch

NEEDED_DRIVER = {"13": 580, "12": 525, "11": 450}  # on Linux, by the CUDA that PyTorch was built for (NVIDIA, CUDA
# Compatibility, table 1)
STEP_OPERATIONS = 3.1e12  # of a step of config.yaml (python -m benchmarks.training)
SIDE = 1536  # of the matrices of a plain product, which do not fit a core's cache and fill its units
N_PRODUCTS = 5


class DeviceError(ValueError):
    """A GPU that is there and cannot be used; the message says why, and what to do."""


def use_gpu(device: str | None = None, cards: Iterable[int] | None = None) -> bool:
    """Whether to compute on GPUs. device: cuda or cpu, as asked for; None: GPUs where there are any; cards: the visible
    ones that will be used; None: all.

    Raises DeviceError where a GPU is asked for, or installed and not hidden, and PyTorch cannot use it.
    """
    if device == "cpu":
        return False
    if torch.cuda.is_available():
        faults = map(fault_of_card, range(torch.cuda.device_count()) if cards is None else cards)
        fault = next(filter(None, faults), "")
    else:
        fault = fault_of_cuda()
    if fault:
        raise DeviceError(f"{fault}, or train on the CPU with --device cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: no NVIDIA GPU is visible here (nvidia-smi, CUDA_VISIBLE_DEVICES)")
    return torch.cuda.is_available()


def fault_of_cuda() -> str:
    """Why PyTorch sees none of the GPUs that the driver shows, and what to install; "" where there is none, or where
    CUDA_VISIBLE_DEVICES hides them."""
    gpus = installed()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    named = first.startswith(("GPU-", "MIG-")) or first.isdigit() and int(first) < len(gpus)
    if not gpus or not named:
        return ""
    card, driver = gpus[0]
    if torch.version.cuda is None:
        return (f"{card} (driver {driver}) is there, but torch {torch.__version__} is a build for CPUs: install the "
                "builds of torch and torchaudio that PyPI has")  # fmt: skip
    needed = NEEDED_DRIVER.get(torch.version.cuda.split(".")[0], 0)
    if int(driver.split(".")[0]) < needed:
        return (f"driver {driver} of {card} does not run torch {torch.__version__}, which was built for CUDA "
                f"{torch.version.cuda} and needs driver {needed} or newer: update the driver, or install builds of "
                "torch and torchaudio for an older CUDA")  # fmt: skip
    return (f"{card} (driver {driver}) is there, but CUDA {torch.version.cuda} of torch {torch.__version__} does not "
            f"start: {why_cuda_fails()}; see to that")  # fmt: skip


def why_cuda_fails() -> str:
    """In one line."""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return " ".join(str(error).split())[:200]
    return "no reason is given"


def fault_of_card(index: int) -> str:
    """Why this build of PyTorch has no kernels for a visible GPU, "" where it has."""
    major, minor = torch.cuda.get_device_capability(index)
    names = re.findall(r"\b(sm|compute)_(\d+)(\d)a?\b", " ".join(torch.cuda.get_arch_list()))
    built = [(kind, (int(a), int(b))) for kind, a, b in names]
    # kernels (sm) run on cards of their generation, PTX (compute) is compiled for all that come after
    runs = any(least <= (major, minor) and (kind == "compute" or least[0] == major) for kind, least in built)
    if runs or not built:
        return ""
    least = ".".join(map(str, min(version for _, version in built)))
    return (f"{torch.cuda.get_device_name(index)} has compute capability {major}.{minor}, and torch "
            f"{torch.__version__} for CUDA {torch.version.cuda} has kernels from {least} on: leave it out of "
            "CUDA_VISIBLE_DEVICES, or install builds of torch and torchaudio for an older CUDA")  # fmt: skip


def installed() -> list[tuple[str, str]]:
    """(card, driver) of each GPU that nvidia-smi shows; [] without it."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.rsplit(",", 1) for line in said.splitlines() if "," in line]
    return [(card.strip(), driver.strip()) for card, driver in rows]


def set_precision(device: torch.device | str, tf32: bool) -> None:
    """Whether this process's float32 products and convolutions on a GPU multiply in TF32, which has 10 bits of mantissa
    for 23. On a CPU nothing changes."""
    if torch.device(device).type == "cpu":
        return
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def product_rate(device: torch.device | None = None) -> float:
    """What a plain float32 product computes with torch's threads: FLOP/s, the median of some."""
    a = b = torch.randn(SIDE, SIDE, device=device)
    spent = []
    for _ in range(1 + N_PRODUCTS):  # the first is not counted
        start = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for a GPU, too
        spent.append(time.perf_counter() - start)
    return 2 * SIDE**3 / statistics.median(spent[1:])


def without_one(n_steps: int) -> str:
    """About how long config.yaml takes this CPU, and what takes less: lines for whoever starts it there."""
    step = STEP_OPERATIONS / product_rate()
    hours = n_steps * step / 3600
    long = f"{hours / 24:,.0f} days" if hours > 48 else f"{hours:,.0f} hours"
    lines = (f"no GPU is used: a step of config.yaml takes this CPU, as busy as it is, about {step:.0f} s, and "
             f"{n_steps:,} steps about {long}.",
             "bash run.sh -c small makes a voice on two cores in about two hours, -c demo in minutes one that shows "
             "that training works")  # fmt: skip
    return "\n".join(lines)
