"""Pictures for people who would rather look than read."""

import io
from pathlib import Path

import numpy as np

from runtime.files import write_atomic


def save_curves(path: Path, lines: list[dict]) -> None:
    """The log of a run, a panel for each value over the steps: in training a line, on held-out clips dots."""
    from matplotlib.figure import Figure  # here, since a training process need not pay for it at its start

    lines = [line for line in lines if line["kind"] in ("train", "valid")]
    names = sorted({name for line in lines for name in line} - {"step", "kind"})
    n_columns = min(4, len(names))
    n_rows = -(-len(names) // n_columns)
    figure = Figure(figsize=(4.5 * n_columns, 2.6 * n_rows), layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, names):
        for kind, style in (("train", "-"), ("valid", "o--")):
            points = [(line["step"], line[name]) for line in lines if line["kind"] == kind and name in line]
            if points:
                axis.plot(*zip(*points), style, linewidth=1, markersize=3, label=kind)
        axis.set_title(name, fontsize=9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=100)
    write_atomic(path, memory.getvalue(), durable=False)


def save_validation(
    path: Path, mels: dict[str, np.ndarray], durations: np.ndarray | None, symbols: list[str], seconds: float
) -> None:
    """Log-mels under each other, each (n_mels, T_mel) with its title, and the alignment below them, if there is one.

    durations: (T_x,) frames of each of `symbols`, a few characters each; seconds: length of a frame.
    """
    from matplotlib.figure import Figure  # here, since a training process need not pay for it at its start

    low, high = (float(f(mel.min() if f is min else mel.max() for mel in mels.values())) for f in (min, max))
    n_frames, n_panels = max(mel.shape[1] for mel in mels.values()), len(mels) + (durations is not None)
    width = float(np.clip(2.5 * n_frames * seconds, 10, 30))  # inches, so that the symbols find room
    figure = Figure(figsize=(width, 2.4 * n_panels), layout="constrained")
    axes = figure.subplots(n_panels, 1, squeeze=False)[:, 0]
    for axis, (title, mel) in zip(axes, mels.items()):
        extent = (0, mel.shape[1] * seconds, 0, mel.shape[0])
        image = axis.imshow(mel, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap="magma")
        axis.set(title=title, ylabel="mel band")
    figure.colorbar(image, ax=list(axes[: len(mels)]), label="ln amplitude")
    if durations is not None:
        _alignment(axes[-1], durations, symbols, seconds)
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=100)
    write_atomic(path, memory.getvalue(), durable=False)


def _alignment(axis, durations, symbols, seconds):
    ends = np.cumsum(durations) * seconds
    starts = ends - durations * seconds
    axis.hlines(np.arange(len(durations)), starts, ends, linewidth=2, color="tab:purple")
    axis.set(title="alignment of the recording", xlabel="seconds", ylabel="symbol", xlim=(0, ends[-1]))
    for i, (symbol, start, duration) in enumerate(zip(symbols, starts, durations)):
        if duration > 0 and symbol.strip("_ "):
            axis.annotate(symbol, (start, i), fontsize=7, ha="right", va="center")
