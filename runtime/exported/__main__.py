"""The command of the voice, also as python -m."""

import sys

PROG = str(__package__).replace("_", "-")


def run() -> int:
    """Returns the exit status, as of command.exit_status."""
    try:
        from .runtime.onnx_runtime import main

        return main(prog=PROG)
    except ModuleNotFoundError as error:
        print(f"{PROG}: the package {error.name} is not installed: pip install {error.name}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(run())
