"""What a step of training costs.

python -m benchmarks.training: by part. Two states with the same weights take turns at the same batches: one trains
as train.py does, the other by a plain reading of the same losses, without any of LEVERS. A table has the medians over
the rounds: what else the machine does falls on both alike, and ratios hold where times do not.
python -m benchmarks.training levers: what each of LEVERS is worth: steps without one of them and whole ones take turns.
python -m benchmarks.training padding: how much of the batches of some epochs is padding; no model is built.
"""

import argparse
import contextlib
import functools
import logging
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import train
from data_util import config as configuration
from data_util.config import Config, Lane, Stage
from data_util.corpus import Corpus, prepare
from data_util.dataset import Batch, batch_order, batches
from data_util.world import World
from model import losses
from model.hifigan import Upsampler
from model.layers import Dropout, leaky_relu, masked, with_speaker
from model.nisets import Output
from training import adversarial
from training.alignment import realigned
from training.data import Data, read_data
from training.state import State, make_state

PARTS = ("data", "encoder", "alignment", "decoder", "generator", "discriminators", "optimiser", "rest")
WHAT = ("step", "levers", "padding")
REALIGNED = 5  # passes of which the time that a refresh takes is told
Step = Callable[[State, Batch], dict[str, Tensor]]
TOLERANCE = 1e-3  # relative, of losses and gradient norms in the first step: what float32 sums differ by
log = logging.getLogger("training")


class Stopwatch:
    """Charges the time between two laps to the part that the second one names."""

    def __init__(self, device: torch.device):
        self.device, self.idle = device, False
        self.spent: dict[str, float] = defaultdict(float)
        self.last = time.perf_counter()

    def lap(self, part: str) -> None:
        if self.idle:
            return
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
    step: Step
    watch: Stopwatch
    rounds: list[dict[str, float]] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0  # GiB

    def run(self, batch: Batch) -> None:
        """One step; the values of the first are kept."""
        values = self.step(self.state, batch)
        self.first = self.first or {name: float(value) for name, value in values.items()}

    def median(self, part: str = "whole") -> float:
        """Seconds a step, of a part or of all of it without the data, which both sides share."""
        return statistics.median(each[part] for each in self.rounds)


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


# -- the plain reading: steps as train.train_step makes them, but for one thing that makes it fast


def in_one_dimension(step: Step) -> Step:
    """The generator's convolutions over (B, C, T), not over (B, C, 1, T) with channels last in memory."""

    def slower(state: State, batch: Batch) -> dict[str, Tensor]:
        generator = state.model.generator
        if not isinstance(generator, Upsampler):
            return step(state, batch)
        with mock.patch.object(generator, "upsample", functools.partial(plain_upsample, generator)):
            return step(state, batch)

    return slower


def plain_upsample(generator: Upsampler, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Upsampler.upsample of one-dimensional convolutions over (B, C, T)."""
    x = masked(with_speaker(generator.conv_in(masked(x, mask)), generator.speaker), mask)
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


def with_learning_judges(step: Step) -> Step:
    """In the generator's step the discriminators gather gradients, of recordings too, which nobody reads."""

    def slower(state: State, batch: Batch) -> dict[str, Tensor]:
        with mock.patch.object(train, "adversarial_losses", plain_adversarial_losses):
            values = step(state, batch)
        state.discriminators.zero_grad()
        return values

    return slower


def plain_adversarial_losses(state: State, out: Output) -> dict[str, Tensor]:
    """train.adversarial_losses, with discriminators that do not stand still."""
    real = adversarial.discriminate(state.discriminators, out.wav, out.t, state.model.amp)
    generated = adversarial.discriminate(state.discriminators, out.wav_hat, out.t, state.model.amp)
    return {
        "loss_adversarial": losses.adversarial_loss(generated),
        "loss_feature": losses.feature_loss(real, generated),
    }


def with_direct_filters(step: Step) -> Step:
    """The filter that finds a recording's phase is summed up sample by sample."""

    def convolve(x: Tensor, kernel: Tensor, _: str) -> Tensor:
        return F.conv1d(x, kernel, padding=kernel.shape[-1] // 2)

    def slower(state: State, batch: Batch) -> dict[str, Tensor]:
        with mock.patch("model.convnext.fftconvolve", convolve):
            return step(state, batch)

    return slower


def with_long_draws(step: Step) -> Step:
    """Dropout's masks as PyTorch draws them."""

    def drawn(x: Tensor, p: float) -> Tensor:
        return F.dropout(torch.ones_like(x), p)

    def slower(state: State, batch: Batch) -> dict[str, Tensor]:
        with mock.patch("model.layers.scaled_mask", drawn):
            return step(state, batch)

    return slower


def with_masks(step: Step) -> Step:
    """Every frame of the cuts and segments is masked, also where all of them are valid."""
    return lambda state, batch: step(state, replace(batch, cuts_full=False, segments_full=False))


def with_many_kernels(step: Step) -> Step:
    """The optimisers go from one tensor to the next."""

    def if_finite(optimiser: torch.optim.Optimizer, is_broken: Tensor) -> None:
        if not is_broken:
            optimiser.step()

    def slower(state: State, batch: Batch) -> dict[str, Tensor]:
        groups = [group for one in (state.optimiser, state.optimiser_discriminators) for group in one.param_groups]
        before = [(group["fused"], group["foreach"]) for group in groups]
        for group in groups:
            group.update(fused=False, foreach=False)
        with mock.patch.object(train, "step_if_finite", if_finite):
            values = step(state, batch)
        for group, (fused, foreach) in zip(groups, before):
            group.update(fused=fused, foreach=foreach)
        return values

    return slower


def reading_numbers(step: Step) -> Step:
    """Each step reads every number that it logs."""
    return lambda state, batch: {name: torch.tensor(value.item()) for name, value in step(state, batch).items()}


LEVERS = {  # what makes a step fast, and a step without it
    "channels last in the generator": in_one_dimension,
    "discriminators stand still in the generator's step": with_learning_judges,
    "long filters by Fourier transforms": with_direct_filters,
    "dropout of 16 bits a number": with_long_draws,
    "no masks where every frame is valid": with_masks,
    "fused optimisers": with_many_kernels,
    "numbers stay on the device": reading_numbers,
}


def plain_step(state: State, batch: Batch) -> dict[str, Tensor]:
    """train.train_step without any of LEVERS."""
    return functools.reduce(lambda step, lever: lever(step), LEVERS.values(), train.train_step)(state, batch)


# -- what is measured


def joint(config: Config) -> Config:
    """The configuration with one stage, in which every part trains but for course, which learns from finished ones;
    searching for the path wherever it ever does."""
    rates = {part: rate for stage in config.training.stages for part, rate in stage.parts.items()}
    names = ("text_encoder", "variance", "decoder", "generator", "discriminators")
    stage = Stage("main", {name: rates[name] for name in names if name in rates}, "joint", 1.0, 1.0, True, "off")
    training = replace(config.training, lanes={"main": Lane("all", (), ())}, stages=(stage,))
    alignment = config.alignment
    if alignment.init_steps < training.train_num_steps:
        alignment = replace(alignment, init="none")
    # the cost of the data, and of each part, can be seen
    system = replace(config.system, num_workers=0, cuda_graphs=False)
    variance = replace(config.variance, course_layers=0)
    return replace(config, training=training, alignment=alignment, system=system, variance=variance)


def measure(
    config: Config, data: Data, n_rounds: int, warm_up: int, amp: str | None
) -> tuple[list[Side], list[Batch], float]:
    """Both sides after so many rounds, the batches, and the median seconds that one took to make.

    amp: train.py's -a, of its side alone.
    """
    world, sides, drawn, seconds = World.join(), [], [], []
    for name, step, a in (("plain", plain_step, None), ("train.py", train.train_step, amp)):
        state = make_state(argparse.Namespace(a=a), config, world, data, None)
        sides.append(Side(name, state, step, Stopwatch(world.device)))
        watch_parts(state, sides[-1].watch)
    stream = batches(data.own, config)
    for turn in tqdm(range(warm_up + n_rounds), desc="rounds", unit="round"):
        start = time.perf_counter()
        batch = next(stream).to(world.device)
        seconds.append(time.perf_counter() - start)
        drawn.append(batch)
        for side in sides if turn % 2 else reversed(sides):
            with without_dropout(side.state) if turn == 0 else contextlib.nullcontext():  # whose draws differ
                take_turn(side, batch, seconds[-1], counted=turn >= warm_up)
    stream.close()
    return sides, drawn, statistics.median(seconds)


@contextlib.contextmanager
def without_dropout(state: State) -> Iterator[None]:
    """Nothing is dropped meanwhile."""
    modules = [module for module in state.model.modules() if isinstance(module, Dropout)]
    shares = [module.p for module in modules]
    for module in modules:
        module.p = 0.0
    try:
        yield
    finally:
        for module, share in zip(modules, shares):
            module.p = share


def take_turn(side: Side, batch: Batch, data_seconds: float, counted: bool) -> None:
    """One step of a side, on a GPU two, since there a watch holds up what it watches; counted: it is one of the
    rounds."""
    watch, whole = side.watch, None
    with peak_memory(side):
        if watch.device.type == "cuda":
            whole = unwatched(side, batch)
        watch.spent.clear()
        watch.last = time.perf_counter()
        side.run(batch)
        watch.lap("optimiser")  # and the averages of the weights
    if counted:
        spent = {part: watch.spent.get(part, 0.0) for part in PARTS if part != "data"}
        whole = sum(spent.values()) if whole is None else whole
        side.rounds.append(spent | {"data": data_seconds, "whole": whole})


def unwatched(side: Side, batch: Batch) -> float:
    """The seconds of a step on a GPU that nothing interrupts."""
    side.watch.idle = True
    torch.cuda.synchronize(side.watch.device)
    start = time.perf_counter()
    side.run(batch)
    torch.cuda.synchronize(side.watch.device)
    side.watch.idle = False
    return time.perf_counter() - start


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


def step_flop(side: Side, batch: Batch) -> float:
    """What a step's convolutions and matrix products compute, forwards and backwards: a multiplication and an addition
    are two."""
    counted = {torch.ops.aten.convolution_backward: convolution_backward_flop}
    with FlopCounterMode(display=False, custom_mapping=counted) as counter:
        side.run(batch)
    return counter.get_total_flops()


def convolution_backward_flop(
    grad_shape, x_shape, w_shape, _bias, _stride, _padding, _dilation, transposed, _more, _groups, output_mask, **_
) -> int:
    """As much as forwards for each of input and weights that want a gradient; PyTorch's own count knows no groups."""
    places = (x_shape if transposed else grad_shape)[2:]
    return 2 * sum(output_mask[:2]) * x_shape[0] * math.prod(w_shape) * math.prod(places)


def realign_seconds(state: State, corpus: Corpus) -> float:
    """What it takes to align a corpus anew, by some passes of it."""
    size, spent = state.config.training.batch_size, []
    order = np.argsort(corpus.n_frames, kind="stable").tolist()
    passes = [order[i : i + size] for i in range(0, len(order), size)]
    for one in passes[:: -(-len(passes) // REALIGNED)]:  # the shortest clips among them, and long ones
        start = time.perf_counter()
        realigned(state, corpus, one)
        spent.append((time.perf_counter() - start) / len(one))
    return statistics.mean(spent) * len(corpus)


def padding(lengths: list[Tensor] | list[np.ndarray]) -> float:
    """The share of the places in batches that holds no item; lengths: (B,) of each batch."""
    return 1 - sum(int(one.sum()) for one in lengths) / sum(len(one) * int(one.max()) for one in lengths)


def alignment_note(config: Config, sides: list[Side], corpus: Corpus) -> str:
    """The alignment's share of a step, where each searches and where they keep durations between two refreshes."""
    share = sides[1].median("alignment") / sides[1].median()
    if config.alignment.init == "em":
        return "alignment: no step searches, all keep the flat start's durations"
    note, every = f"alignment: {100 * share:.2f}% of a step that searches", config.alignment.refresh_steps
    if every == 0:
        return note
    seconds = realign_seconds(sides[1].state, corpus)
    kept = sides[1].median() - sides[1].median("alignment")
    share = seconds / (every * kept + seconds)
    return (f"{note}, which is none after alignment.init_steps: then a refresh takes {seconds:.1f} s for these "
            f"{len(corpus)} clips, {100 * share:.3f}% of the {every} steps from one to the next")  # fmt: skip


def report(sides: list[Side], drawn: list[Batch], config: Config, data_seconds: float, corpus: Corpus) -> str:
    """A table in Markdown, and what it does not show."""
    plain, ours = sides
    lines = ["| part | plain, s | train.py, s | share | plain / train.py |", "|---|---|---|---|---|"]
    whole, total = ours.median(), sum(ours.median(part) for part in PARTS if part != "data")
    for part in PARTS:
        before, after = plain.median(part), ours.median(part)
        ratio = f"{before / after:.2f}" if after > 0.005 * whole and part != "data" else ""
        lines.append(f"| {part} | {before:.3f} | {after:.3f} | {100 * after / total:.2f}% | {ratio} |")
    ratios = [a["whole"] / b["whole"] for a, b in zip(plain.rounds, ours.rounds)]
    lines.append(f"| the step, without data | {plain.median():.3f} | {whole:.3f} | 100% | "
                 f"{plain.median() / whole:.2f} |")  # fmt: skip
    cut = statistics.mean(int(batch.cut_lengths.sum()) for batch in drawn)
    audio, flop = config.audio, step_flop(ours, drawn[-1])
    speech = config.training.batch_size * config.training.segment_frames * audio.hop_length / audio.sample_rate
    notes = [
        f"{config.training.batch_size} clips a step, cuts of {config.training.cut_frames} frames, segments of "
        f"{config.training.segment_frames}; {torch.get_num_threads()} threads; {len(ours.rounds)} rounds, in which the "
        f"ratio was {min(ratios):.2f} to {max(ratios):.2f}",
        f"{flop / 1e12:.3f} TFLOP a step, {flop / whole / 1e9:.0f} GFLOP/s",
        f"{cut / whole:.0f} frames a second through the score network, {speech / whole:.2f} s of sound through the "
        "generator",
        f"at most {plain.peak:.1f} and {ours.peak:.1f} GiB in the process, which holds both states",
        alignment_note(config, sides, corpus),
        f"padding of these batches: {100 * padding([batch.mel_lengths for batch in drawn]):.1f}% of the frames, "
        f"{100 * padding([batch.x_lengths for batch in drawn]):.1f}% of the symbols",
        f"losses and gradient norms of the first step differ by {largest_difference(sides):.1e} at most, relative",
        f"a batch takes {data_seconds:.3f} s to make in this process; in training, workers do that meanwhile",
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


# -- the other commands


def gains(config: Config, data: Data, n_rounds: int, warm_up: int, amp: str | None) -> str:
    """What each of LEVERS is worth: a table in Markdown. One state makes all of these steps."""
    world = World.join()
    state = make_state(argparse.Namespace(a=amp), config, world, data, None)
    steps = {"all of them": train.train_step} | {name: lever(train.train_step) for name, lever in LEVERS.items()}
    steps["any of them"] = plain_step
    spent, watch = {name: [] for name in steps}, Stopwatch(world.device)
    stream = batches(data.own, config)
    for turn in tqdm(range(warm_up + n_rounds), desc="rounds", unit="round"):
        batch = next(stream).to(world.device)
        for name in sorted(steps, key=list(steps).index, reverse=bool(turn % 2)):
            watch.lap("between")
            steps[name](state, batch)
            watch.lap(name)
            if turn >= warm_up:
                spent[name].append(watch.spent[name])
            watch.spent.clear()
    stream.close()
    with_all = spent.pop("all of them")
    lines = ["| a step without | s | by a step with all | in single rounds |", "|---|---|---|---|",
             f"| nothing | {statistics.median(with_all):.3f} | 1 | |"]  # fmt: skip
    for name, seconds in spent.items():
        ratios = [a / b for a, b in zip(seconds, with_all)]
        lines.append(f"| {name} | {statistics.median(seconds):.3f} | {statistics.median(ratios):.3f} | "
                     f"{min(ratios):.2f} to {max(ratios):.2f} |")  # fmt: skip
    return "\n".join(lines)


def plan_padding(config: Config, corpus: Corpus, n_epochs: int) -> str:
    """The padding of the batches of some epochs, a process, and of batches that would be drawn at random."""
    order, training = batch_order(corpus, config), config.training
    n_symbols, passes, n_seen, step = np.array([len(ids) for ids in corpus.ids]), [], 0, 0
    while n_seen < n_epochs * len(corpus):
        indices = order.indices(step)
        passes += np.split(indices, training.accumulate)
        n_seen, step = n_seen + len(indices), step + 1
    drawn = np.random.default_rng(config.system.seed).permutation(np.concatenate(passes))
    drawn = np.split(drawn, np.cumsum([len(one) for one in passes])[:-1])
    rows = ["| batches | padding of the frames | of the symbols | clips a pass | padded frames a pass |",
            "|---|---|---|---|---|"]  # fmt: skip
    for name, plan in (("by length, as in training", passes), ("of the same sizes, at random", drawn)):
        frames, symbols = ([lengths[one] for one in plan] for lengths in (corpus.n_frames, n_symbols))
        padded = [len(one) * int(one.max()) for one in frames]
        sizes = f"{min(map(len, plan))} to {max(map(len, plan))}"
        rows.append(f"| {name} | {100 * padding(frames):.1f}% | {100 * padding(symbols):.1f}% | {sizes} | "
                    f"at most {max(padded)} |")  # fmt: skip
    title = (f"{len(corpus)} clips, {step} steps, {n_epochs} epochs; training.batch_size {training.batch_size}, "
             f"training.batch_frames {training.batch_frames}, training.accumulate {training.accumulate}")  # fmt: skip
    return "\n".join([title, "", *rows])


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 1 where the two sides do not compute the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.splitlines()[0])
    parser.add_argument("-c", metavar="NAME_OR_FILE", help="an overlay in configs/, or a YAML file, over config.yaml")
    parser.add_argument("-a", choices=["true", "false"], help="true: train.py's networks in bfloat16, plain ones not")
    parser.add_argument("--rounds", type=int, default=5, help="that are counted (5)")
    parser.add_argument("--warm-up", type=int, default=1, help="rounds before (1)")
    parser.add_argument("--epochs", type=int, default=40, help="of padding (40)")
    parser.add_argument("--threads", type=int, help="of the CPU; by default all")
    parser.add_argument("words", nargs="*", metavar="WORD",
                        help=f"one of {', '.join(WHAT)} ({WHAT[0]}); section.key=value, for example "
                        "training.batch_size=4")  # fmt: skip
    args = parser.parse_intermixed_args(argv)
    what = [word for word in args.words if word in WHAT] or [WHAT[0]]
    if len(what) > 1:
        parser.error(f"{' '.join(what)}: one at a time")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    config = configuration.load(args.c, [word for word in args.words if word not in WHAT])
    if what == ["padding"]:
        print(plan_padding(config, prepare(config, config.dataset.metafile_train), args.epochs))
        return 0
    config = joint(config)
    data = read_data(config, progress=True)
    if what == ["levers"]:
        print(gains(config, data, args.rounds, args.warm_up, args.a))
        return 0
    sides, drawn, data_seconds = measure(config, data, args.rounds, args.warm_up, args.a)
    print(report(sides, drawn, config, data_seconds, data.own))
    if args.a != "true" and largest_difference(sides) > TOLERANCE:
        print(f"the two sides differ by more than {TOLERANCE:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
