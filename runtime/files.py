"""Files that are whole or not there: every file of the project is written through write_atomic."""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def write_atomic(path: str | Path, content: bytes | Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Write a file so that a reader, or a crash at any moment, finds the old one or the new one, never a part.

    path: its folder is made where it is missing; content: the bytes, or a function that writes them to the open
    binary file it is given; durable: also survive a loss of power (what can be made again need not).
    Raises OSError, and whatever `content` raises; the temporary file is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # short: the name may already be at its limit
    temporary = path.parent / f".{os.getpid()}-{secrets.token_hex(6)}.tmp"
    try:
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_folder(path.parent)


def check_space(folder: str | Path, n_bytes: int) -> None:
    """Raise OSError, which says how much is missing, where a folder's disk has less room than n_bytes."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise OSError(errno.ENOSPC, f"{n_bytes / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free: make room",
                      str(folder))  # fmt: skip


def remove_torn(folder: str | Path) -> None:
    """Remove what processes that were killed while they wrote into a folder have left there."""
    for path in Path(folder).glob(".*.tmp"):
        match = re.fullmatch(r"\.(\d+)-[0-9a-f]{12}\.tmp", path.name)
        if match and not _is_alive(int(match[1])):
            path.unlink(missing_ok=True)


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return pid != os.getpid()


def check_folder(folder: Path) -> None:
    """Raise OSError, before anything is computed, where nothing can be written into a folder; it is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} cannot be written ({error.strerror}): name another place with -o") from error


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Inside the with statement no other process is in one for the same folder, which is made; it is waited for.

    On systems without file locks nothing is waited for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by the end of the process
        yield


def write_json(path: str | Path, tree: Any, *, durable: bool = True) -> None:
    """Write plain values as JSON, atomically. Raises OSError; ValueError and TypeError for what JSON cannot hold."""
    text = json.dumps(tree, ensure_ascii=False, allow_nan=False, indent=0)
    write_atomic(path, text.encode("utf-8"), durable=durable)


def read_json(path: str | Path, default: Any = None) -> Any:
    """What write_json wrote, or `default` where the file is missing, unreadable, damaged or of another type."""
    try:
        tree = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return default
    return tree if default is None or isinstance(tree, type(default)) else default


def read_json_lines(path: str | Path) -> list[dict]:
    """The objects of a file that has one a line, [] where there is no file; of damaged lines, and of the last while it
    is being written, or where its writer was killed, none."""
    if not Path(path).is_file():
        return []
    objects = []
    for line in Path(path).read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            with contextlib.suppress(ValueError, RecursionError):
                objects.append(json.loads(line))
    return [one for one in objects if isinstance(one, dict)]


def _sync_folder(folder):
    if os.name == "nt":  # there a folder cannot be opened, and a rename needs no more
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
