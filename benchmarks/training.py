"""What a step of training costs, by part: python -m benchmarks.training [-c small] [section.key=value ...].

Two states with the same weights take turns at the same batches: one trains as train.py does, the other by a plain
reading of the same losses. A table has the medians over the rounds: what else the machine does falls on both alike, and
ratios hold where times do not.
"""

import argparse
import contextlib
import functools
import logging
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from tqdm import tqdm

import train
from data_util import config as configuration
from data_util.config import Config, Lane, Stage
from data_util.dataset import Batch, batches
from data_util.world import World
from model import losses
from model.hifigan import HiFiGAN
from model.layers import leaky_relu, masked
from model.nisets import Output
from training.data import read_data
from training.state import State, make_state

PARTS = ("data", "encoder", "alignment", "decoder", "generator", "discriminators", "optimiser", "rest")
TOLERANCE = 1e-3  # relative, of losses and gradient norms in the first step: what float32 sums differ by
log = logging.getLogger("training")


class Stopwatch:
    """Charges the time between two laps to the part that the second one names."""

    def __init__(self, device: torch.device):
        self.device = device
        self.spent: dict[str, float] = defaultdict(float)
        self.last = time.perf_counter()

    def lap(self, part: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        self.spent[part] += now - self.last
        self.last = now


@dataclass
class Side:
    """One way to train: its state, how each round's time was spent, and the values of its first step."""

    name: str
    state: State
    step: Callable[[State, Batch], dict[str, Tensor]]
    watch: Stopwatch
    rounds: list[dict[str, float]] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0  # GiB

    def median(self, part: str | None = None) -> float:
        """Seconds a step, of a part or of all of it without the data, which both sides share."""
        spent = [sum(each.values()) - each["data"] if part is None else each[part] for each in self.rounds]
        return statistics.median(spent)


def watch_parts(state: State, watch: Stopwatch) -> None:
    """Have the watch told when a part begins and ends, forward and backward."""
    model, discriminators = state.model, state.discriminators
    networks = {name: "encoder" for name in ("text_encoder", "frame_encoder", "variance")}
    networks |= {"decoder": "decoder", "generator": "generator"}
    parts = [(getattr(model, name), part) for name, part in networks.items() if getattr(model, name) is not None]
    for network, part in [*parts, (discriminators, "discriminators")]:
        network.register_forward_pre_hook(lambda *_: watch.lap("rest"))
        network.register_forward_hook(functools.partial(_at_end_of, watch, part))
        for parameter in network.parameters():  # whose gradients come one after another, part by part
            parameter.register_post_accumulate_grad_hook(functools.partial(_at_end_of, watch, part))
    align = model.align

    def watched_align(*arguments):
        watch.lap("rest")
        durations = align(*arguments)
        watch.lap("alignment")
        return durations

    model.align = watched_align
    for optimiser in (state.optimiser, state.optimiser_discriminators):
        optimiser.register_step_post_hook(lambda *_: watch.lap("optimiser"))  # clipping, too


def _at_end_of(watch, part, _network, _inputs=None, output=None):
    watch.lap(part)
    if part == "generator" and isinstance(output, Tensor) and output.requires_grad:  # the sound: behind it, backwards,
        output.register_hook(lambda _: watch.lap("discriminators"))  # are the discriminators and the mel loss


# -- the plain reading


def plain_upsample(generator: HiFiGAN, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Upsampler.upsample of one-dimensional convolutions over (B, C, T)."""
    x = masked(generator.conv_in(masked(x, mask)), mask)
    for rate, upsample, resblocks in zip(generator.rates, generator.upsamples, generator.resblocks):
        mask = None if mask is None else mask.repeat_interleave(rate, dim=-1)
        x, summands = masked(upsample(leaky_relu(x)), mask), []
        for resblock in resblocks:
            y = x
            for dilated, plain in zip(resblock.dilated, resblock.plain):
                inner = masked(dilated(leaky_relu(y)), mask)
                y = y + masked(plain(leaky_relu(inner)), mask)
            summands.append(y)
        x = torch.stack(summands).mean(0)
    return generator.conv_out(leaky_relu(x)), mask


def plain_adversarial_losses(state: State, out: Output) -> dict[str, Tensor]:
    """train.adversarial_losses, with discriminators that gather gradients which nobody reads."""
    real = train.judge(state.discriminators, out.wav, out.t, state.model.amp)
    generated = train.judge(state.discriminators, out.wav_hat, out.t, state.model.amp)
    return {
        "loss_adversarial": losses.adversarial_loss(generated),
        "loss_feature": losses.feature_loss(real, generated),
    }


def plain_step(state: State, batch: Batch) -> dict[str, Tensor]:
    """train.train_step, which reads every number that it logs."""
    with mock.patch.object(train, "adversarial_losses", plain_adversarial_losses):
        values = train.train_step(state, replace(batch, cuts_full=False))  # every frame is masked
    state.discriminators.zero_grad()
    return {name: torch.tensor(value.item()) for name, value in values.items()}


def make_plain(state: State) -> None:
    """Take away from a state what makes it fast: kernels that are channels last, fused optimisers."""
    if isinstance(state.model.generator, nn.Module) and hasattr(state.model.generator, "upsample"):
        state.model.generator.upsample = functools.partial(plain_upsample, state.model.generator)
    for optimiser in (state.optimiser, state.optimiser_discriminators):
        for group in optimiser.param_groups:
            group.update(fused=False, foreach=False)


# -- what is measured


def joint(config: Config) -> Config:
    """The configuration with one stage, in which every part trains; searching for the path wherever it ever does."""
    rates = {part: rate for stage in config.training.stages for part, rate in stage.parts.items()}
    names = ("text_encoder", "variance", "decoder", "generator", "discriminators")
    stage = Stage("main", {name: rates[name] for name in names if name in rates}, "joint", 1.0, 1.0, True, "off")
    training = replace(config.training, lanes={"main": Lane("all", (), ())}, stages=(stage,))
    alignment = config.alignment
    if alignment.init_steps < training.train_num_steps:
        alignment = replace(alignment, init="none")
    system = replace(config.system, num_workers=0)  # so that the cost of the data can be seen
    return replace(config, training=training, alignment=alignment, system=system)


def measure(config: Config, n_rounds: int, warm_up: int) -> tuple[list[Side], list[Batch], float]:
    """Both sides after so many rounds, the batches, and the median seconds that one took to make."""
    world = World.join()
    data = read_data(config, progress=True)
    sides, drawn, seconds = [], [], []
    for name, step in (("plain", plain_step), ("train.py", train.train_step)):
        state = make_state(argparse.Namespace(a=None), config, world, data, None)
        sides.append(Side(name, state, step, Stopwatch(world.device)))
        if name == "plain":
            make_plain(state)
        watch_parts(state, sides[-1].watch)
    stream = batches(data.own, config)
    for turn in tqdm(range(warm_up + n_rounds), desc="rounds", unit="round"):
        start = time.perf_counter()
        batch = next(stream).to(world.device)
        seconds.append(time.perf_counter() - start)
        drawn.append(batch)
        for side in sides if turn % 2 else reversed(sides):
            take_turn(side, batch, seconds[-1], counted=turn >= warm_up)
    stream.close()
    return sides, drawn, statistics.median(seconds)


def take_turn(side: Side, batch: Batch, data_seconds: float, counted: bool) -> None:
    """One step of a side; counted: it is one of the rounds."""
    side.watch.spent.clear()
    with peak_memory(side):
        side.watch.last = time.perf_counter()
        values = side.step(side.state, batch)
        side.watch.lap("optimiser")  # and the averages of the weights
    if not side.first:
        side.first = {name: float(value) for name, value in values.items()}
    if counted:
        side.rounds.append({part: side.watch.spent.get(part, 0.0) for part in PARTS} | {"data": data_seconds})


@contextlib.contextmanager
def peak_memory(side: Side) -> Iterator[None]:
    """Raise the side's peak to what the process, or a GPU, holds at most meanwhile; 0 where Linux does not say."""
    device, status = side.watch.device, Path("/proc/self/status")
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield
    if device.type == "cuda":
        side.peak = max(side.peak, torch.cuda.max_memory_allocated(device) / 2**30)
    elif status.exists():
        kilobytes = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        side.peak = max(side.peak, kilobytes / 2**20)


def largest_difference(sides: list[Side]) -> float:
    """Of the losses and gradient norms of the first step, relative."""
    plain, ours = (side.first for side in sides)
    return max(abs(plain[name] - ours[name]) / max(abs(plain[name]), 1e-6) for name in plain)


def padding(lengths: list[Tensor]) -> float:
    """The share of the places in batches that holds no item; lengths: (B,) of each batch."""
    return 1 - sum(int(one.sum()) for one in lengths) / sum(len(one) * int(one.max()) for one in lengths)


def report(sides: list[Side], drawn: list[Batch], config: Config, data_seconds: float) -> str:
    """A table in Markdown, and what it does not show."""
    plain, ours = sides
    lines = ["| part | plain, s | train.py, s | share | plain / train.py |", "|---|---|---|---|---|"]
    whole = ours.median()
    for part in PARTS:
        before, after = plain.median(part), ours.median(part)
        ratio = f"{before / after:.2f}" if after > 0.005 * whole and part != "data" else ""
        lines.append(f"| {part} | {before:.3f} | {after:.3f} | {100 * after / whole:.2f}% | {ratio} |")
    ratios = [sum(a.values()) / sum(b.values()) for a, b in zip(plain.rounds, ours.rounds)]
    lines.append(f"| the step, without data | {plain.median():.3f} | {whole:.3f} | 100% | "
                 f"{plain.median() / whole:.2f} |")  # fmt: skip
    cut = statistics.mean(int(batch.cut_lengths.sum()) for batch in drawn)
    audio = config.audio
    speech = config.training.batch_size * config.training.segment_frames * audio.hop_length / audio.sample_rate
    notes = [
        f"{config.training.batch_size} clips a step, cuts of {config.training.cut_frames} frames, segments of "
        f"{config.training.segment_frames}; {torch.get_num_threads()} threads; {len(ours.rounds)} rounds, in which the "
        f"ratio was {min(ratios):.2f} to {max(ratios):.2f}",
        f"{cut / whole:.0f} frames a second through the score network, {speech / whole:.2f} s of sound through the "
        "generator",
        f"at most {plain.peak:.1f} and {ours.peak:.1f} GiB in the process, which holds both states",
        f"padding: {100 * padding([batch.mel_lengths for batch in drawn]):.1f}% of the frames, "
        f"{100 * padding([batch.x_lengths for batch in drawn]):.1f}% of the symbols",
        f"losses and gradient norms of the first step differ by {largest_difference(sides):.1e} at most, relative",
        f"a batch takes {data_seconds:.3f} s to make in this process; in training, workers do that meanwhile",
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 1 where the two sides do not compute the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("-c", metavar="NAME_OR_FILE", help="an overlay in configs/, or a YAML file, over config.yaml")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each side that are counted (5)")
    parser.add_argument("--warm-up", type=int, default=1, help="steps of each side before (1)")
    parser.add_argument("--threads", type=int, help="of the CPU; by default all")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="training.batch_size=4, for example")
    args = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    config = joint(configuration.load(args.c, args.overrides))
    sides, drawn, data_seconds = measure(config, args.rounds, args.warm_up)
    print(report(sides, drawn, config, data_seconds))
    if largest_difference(sides) > TOLERANCE:
        print(f"the two sides differ by more than {TOLERANCE:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
