"""Pictures for people who would rather look than read."""

import io
from pathlib import Path

import numpy as np

from data_util.files import write_atomic


def save_validation(path: Path, mels: dict[str, np.ndarray], durations: np.ndarray, symbols: list[str], seconds: float):
    """Log-mels under each other, each (n_mels, T_mel) with its title, and the alignment below them.

    durations: (T_x,) frames of each of `symbols`, one character each; seconds: length of a frame.
    """
    from matplotlib.figure import Figure  # here, since a training process need not pay for it at its start

    low, high = (float(f(mel.min() if f is min else mel.max() for mel in mels.values())) for f in (min, max))
    width = float(np.clip(2.5 * durations.sum() * seconds, 10, 30))  # inches, so that the symbols find room
    figure = Figure(figsize=(width, 2.4 * (len(mels) + 1)), layout="constrained")
    axes = figure.subplots(len(mels) + 1, 1)
    for axis, (title, mel) in zip(axes, mels.items()):
        extent = (0, mel.shape[1] * seconds, 0, mel.shape[0])
        image = axis.imshow(mel, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap="magma")
        axis.set(title=title, ylabel="mel band")
    figure.colorbar(image, ax=list(axes[:-1]), label="ln amplitude")
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
