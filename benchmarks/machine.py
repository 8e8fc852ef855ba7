"""What a benchmark's machine can do, so that its numbers can be told from another's."""

import torch

from evaluate import device_name


def described(device: torch.device | None = None) -> str:
    """The processor, with the instructions that PyTorch uses of it, or a GPU."""
    name = device_name(str(device or "cpu"))
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}" if name.startswith("cpu") else name
