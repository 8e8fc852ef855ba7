"""Which GPUs there are, whether PyTorch can use them, and in which precision they compute.

python -m data_util.gpu [arguments of train.py]: the number of processes to train with, one a GPU, or one on a CPU.
"""

import argparse
import os
import subprocess
import sys

import torch

from data_util import config as configuration
from data_util.config import ROOT

NEEDED_DRIVER = {"13": "580", "12": "525", "11": "450"}  # on Linux, by the CUDA that PyTorch was built for (NVIDIA,
# CUDA Compatibility, table 1)


class DeviceError(ValueError):
    """A GPU that is there and cannot be used; the message says why, and what to do."""


def is_chosen(device: str | None = None) -> bool:
    """Whether to compute on GPUs. device: cuda or cpu, as asked for; None: GPUs where there are any.

    Raises DeviceError where a GPU is asked for, or installed and not hidden, and PyTorch cannot use it.
    """
    if device == "cpu":
        return False
    fault = fault_of_cuda()
    if fault:
        raise DeviceError(f"{fault}, or train on the CPU with --device cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("--device cuda: no NVIDIA GPU is visible here (nvidia-smi, CUDA_VISIBLE_DEVICES)")
    return torch.cuda.is_available()


def fault_of_cuda() -> str:
    """Why PyTorch cannot use a GPU that the driver shows, and what to install; "" where it can, or where there is none.

    A GPU that CUDA_VISIBLE_DEVICES hides is not there.
    """
    if torch.cuda.is_available():
        return next(filter(None, map(fault_of_card, range(torch.cuda.device_count()))), "")
    gpus = [] if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1") else installed()
    if not gpus:
        return ""
    card, driver = gpus[0]
    if torch.version.cuda is None:
        return (f"{card} (driver {driver}) is there, but torch {torch.__version__} is a build for CPUs: install the "
                "builds of torch and torchaudio that PyPI has")  # fmt: skip
    needed = NEEDED_DRIVER.get(torch.version.cuda.split(".")[0])
    return (f"driver {driver} of {card} does not run torch {torch.__version__}, which was built for CUDA "
            f"{torch.version.cuda}" + (f" and needs driver {needed} or newer" if needed else "") +
            ": update the driver, or install builds of torch and torchaudio for an older CUDA")  # fmt: skip


def fault_of_card(index: int) -> str:
    """Why this build of PyTorch has no kernels for a GPU, "" where it has."""
    major, minor = torch.cuda.get_device_capability(index)
    built = [name.removesuffix("a").split("_") for name in torch.cuda.get_arch_list()]
    built = [(kind, int(number[:-1]), int(number[-1])) for kind, number in built if number.isdigit()]
    runs = any(
        (kind == "sm" and (a, b <= minor) == (major, True)) or (kind == "compute" and (a, b) <= (major, minor))
        for kind, a, b in built
    )
    if runs or not built:
        return ""
    least = ".".join(map(str, min((a, b) for _, a, b in built)))
    return (f"{torch.cuda.get_device_name(index)} has compute capability {major}.{minor}, and torch "
            f"{torch.__version__} for CUDA {torch.version.cuda} has kernels from {least} on: install builds of torch "
            "and torchaudio for an older CUDA")  # fmt: skip


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


def has_lanes(names: list[str] | None, run: str | None) -> bool:
    """Whether a configuration, or a run's, has several lanes, which have a GPU each rather than all together."""
    try:
        config = configuration.load(names if run is None else str(ROOT / "checkpoint" / run / "config.yaml"))
        return len(config.training.lanes) > 1
    except (ValueError, OSError):  # train.py says what is wrong
        return False


def main(argv: list[str]) -> int:
    """Print the number of processes to train with. Returns the exit status."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--device")
    parser.add_argument("-c", action="append")
    parser.add_argument("-id")
    args, _ = parser.parse_known_args(argv)
    try:
        print(torch.cuda.device_count() if is_chosen(args.device) and not has_lanes(args.c, args.id) else 1)
    except DeviceError as error:
        print(f"run.sh: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
