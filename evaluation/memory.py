"""How much memory a process has needed."""

import re
import sys
from pathlib import Path


def peak_memory() -> int | None:
    """The most main memory that this process has had, in bytes; None where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    if found:  # first, since on Linux getrusage also counts what the process had that started this one
        return 1024 * int(found[1])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
