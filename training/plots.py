"""Pictures for people who would rather look than read."""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.files import write_atomic


class Panel(NamedTuple):
    """What is drawn together: values whose names match a pattern, over the steps."""

    title: str
    unit: str  # of the y axis
    pattern: str  # a regular expression
    is_log: bool = False  # whether the y axis is logarithmic


PANELS = (  # a value is drawn in the first that it matches
    Panel("prior", "nats a channel and frame", r"loss_prior$"),
    Panel("durations", "squared error of ln frames", r"loss_duration$"),
    Panel("prosody", "losses", r"loss_(prosody|f0|voicing|f0_residual)$"),
    Panel("score network", "loss; error by that of predicting nothing", r"loss_score$|score_ratio"),
    Panel("spectra", "L1 of log-mels, nats; losses", r"loss_(mel|stft|phase)$|mel_l1$|latent_l1$"),
    Panel("adversarial losses", "losses", r"loss_(adversarial|feature|discriminator)$", is_log=True),
    Panel("gradient norms", "before clipping", r"norm_", is_log=True),
    Panel("errors of speech", "share of characters, of frames", r"(^|: )cer$|voicing_error$|speech_cut$"),
    Panel("DistillMOS", "1 to 5", r"distillmos$"),
    Panel("mel-cepstral distortion", "dB", r"mcd$"),
    Panel("speech by its recording", "ratio; cosine", r"ratio$|duration_total$|global_variance$|speaker$"),
    Panel("other values", "", r""),
)
INCHES_A_SECOND = 2.5  # of a picture of speech, so that its symbols find room
ROWS = 4  # of symbols, so that neighbours do not overlap
FIRST = 0.03  # of the steps that are shown, those whose values do not set the limits of the y axis


def save_curves(path: Path, lines: list[dict]) -> None:
    """The log of a run, its values in groups: in training lines, on held-out clips dots of the same colour. Without any
    value there is no picture."""
    from matplotlib.figure import Figure  # here, since a training process need not pay for it at its start

    lines = [line for line in lines if line["kind"] in ("train", "valid")]
    groups = panels_of(lines)
    if not groups:
        return
    n_columns = min(3, len(groups))
    n_rows = -(-len(groups) // n_columns)
    figure = Figure(figsize=(5.4 * n_columns, 3.2 * n_rows), layout="constrained")
    axes = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axis in axes[len(groups) :]:
        axis.set_axis_off()
    for axis, (panel, names) in zip(axes, groups.items()):
        _draw_panel(axis, panel, names, lines)
    write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=100), durable=False)


def panels_of(lines: list[dict]) -> dict[Panel, list[str]]:
    """The panels that a log needs, with the names of the values of each."""
    groups: dict[Panel, list[str]] = {}
    for name in sorted({name for line in lines for name in line} - {"step", "kind"}):
        panel = next(panel for panel in PANELS if re.search(panel.pattern, name))
        groups.setdefault(panel, []).append(name)
    return {panel: groups[panel] for panel in PANELS if panel in groups}


def _draw_panel(axis, panel, names, lines):
    numbers = []
    for i, name in enumerate(names):
        short, colour = re.sub(r"(^|: |_)(loss|norm)_", r"\1", name), f"C{i % 10}"
        for kind, style in (("train", "-"), ("valid", "o:")):
            points = [(line["step"], line[name]) for line in lines if line["kind"] == kind and name in line]
            if points:
                label = f"{short}, held out" if kind == "valid" and name.startswith("loss_") else short
                axis.plot(*zip(*points), style, linewidth=1, markersize=3, color=colour, label=label)
                numbers += shown(points)
    low, high = min(numbers), max(numbers)
    if panel.is_log and low > 0:
        axis.set_yscale("log")
        axis.set_ylim(low / 1.2, high * 1.2)
    elif high > low:
        axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
    axis.set(title=panel.title, xlabel="step", ylabel=panel.unit)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)


def shown(points: list[tuple[int, float]]) -> list[float]:
    """The finite values of one line that the y axis has room for: all, or without the first steps', which are far off.

    points: (step, value), by step.
    """
    kept = [value for step, value in points if step > FIRST * points[-1][0] and math.isfinite(value)]
    return kept or [value for _, value in points if math.isfinite(value)] or [0.0]


def save_validation(
    path: Path, mels: dict[str, np.ndarray], durations: np.ndarray | None, symbols: list[str], seconds: float
) -> None:
    """Log-mels under each other, each (n_mels, T_mel) with its title, and below the first one its alignment, if there
    is one, all along one axis of time.

    durations: (T_x,) frames of each of `symbols`, a few characters each; seconds: length of a frame.
    """
    from matplotlib.figure import Figure  # here, since a training process need not pay for it at its start

    low, high = min(mel.min() for mel in mels.values()), max(mel.max() for mel in mels.values())
    longest = max(mel.shape[1] for mel in mels.values()) * seconds
    heights = [2.4] * len(mels)  # inches
    if durations is not None:
        heights.insert(1, 1.0)
    width = float(np.clip(INCHES_A_SECOND * longest, 10, 30))
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0].tolist()
    if durations is not None:
        _alignment(panels.pop(1), durations, symbols, seconds)
    for axis, (title, mel) in zip(panels, mels.items()):
        extent = (0, mel.shape[1] * seconds, 0, mel.shape[0])
        image = axis.imshow(mel, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap="magma")
        axis.set(title=title, ylabel="mel band", xlim=(0, longest))
        axis.tick_params(labelbottom=True)
    panels[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=panels, label="ln amplitude", pad=0.01, fraction=0.02)
    write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=100), durable=False)


def _alignment(axis, durations, symbols, seconds):
    """Where each symbol begins and ends: a bar, and the symbol in its middle, in rows that take turns."""
    ends = np.cumsum(durations) * seconds
    spoken = [i for i, symbol in enumerate(symbols) if durations[i] > 0 and symbol.strip("_ ")]
    for place, i in enumerate(spoken):
        start, row = ends[i] - durations[i] * seconds, place % ROWS
        axis.hlines(row, start, ends[i], linewidth=2, color=f"C{row}")
        axis.annotate(symbols[i], ((start + ends[i]) / 2, row + 0.15), fontsize=8, ha="center", va="bottom")
    axis.set(title="alignment of the recording", ylim=(-0.4, ROWS + 0.1), yticks=[])
