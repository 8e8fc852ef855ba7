"""What a step of training costs: python -m benchmarks.training [-c NAME_OR_FILE ...] [section.key=value ...].

A table of the seconds that each part takes, medians over rounds, of its TFLOP, and of what these are of the machine's
plain products; then the step's memory.
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
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import train
from benchmarks import machine
from data_util import config as configuration
from data_util.config import PARTS, Config
from data_util.dataset import batches
from evaluation.memory import peak_memory
from runtime import command
from training.data import Data, read_data
from training.distributed import Processes
from training.gpu import product_rate
from training.state import State, make_state

JOINT = [part for part in PARTS if part != "f0_residual"]  # which learns from finished ones
ROWS = ("alignment", *JOINT, "optimiser", "rest")  # optimiser: with clipping; the averages are in rest
RATE = 1e-4  # of learning, which costs what any other does


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stopwatch:
    """Charges the time between two laps, or what another meter counts, to what the second one names."""

    def __init__(self, device: torch.device):
        self.device, self.is_on, self.spent, self.last = device, True, defaultdict(float), 0.0
        self.meter: Callable[[], float] = time.perf_counter

    def lap(self, row: str) -> None:
        if self.is_on:
            synchronise(self.device)
            now = self.meter()
            self.spent[row] += now - self.last
            self.last = now

    def timed(self, call: Callable[[], object], watching: bool = True) -> dict[str, float]:
        """The seconds of a call, by row where it is watched, and of the "whole"."""
        self.spent, self.is_on = defaultdict(float), watching
        synchronise(self.device)
        start = self.last = self.meter()
        call()
        self.lap("rest")
        synchronise(self.device)
        return self.spent | {"whole": self.meter() - start}

    def flop(self, call: Callable[[], object]) -> dict[str, float]:
        """What a call's convolutions and matrix products compute, as of timed: a multiplication and an addition are
        two."""
        with counting_flop() as counter:
            self.meter = counter.get_total_flops
            try:
                return self.timed(call)
            finally:
                self.meter = time.perf_counter

    def watched(self, call: Callable, row: str) -> Callable:
        """The same call, charged to this row; of a waveform what comes behind it, backwards, to the discriminators."""

        @functools.wraps(call)
        def watching(*args, **kwargs):
            self.lap("rest")
            result = call(*args, **kwargs)
            self.lap(row)
            if row == "generator" and result.requires_grad:
                result.register_hook(lambda _: self.lap("discriminators"))  # and the losses of mels and spectrograms
            return result

        return watching

    def watch(self, state: State) -> None:
        """Have each part of a state say when it begins and ends, forwards and backwards."""
        model, networks = state.model, state.model.parts() | {"discriminators": state.discriminators}
        calls = [(model, "encode_text", "text_encoder"), (model, "align", "alignment"),
                 (model.prosody, "losses", "prosody"), (model.denoiser, "denoise", "decoder"),
                 (model, "vocode", "generator"), (state.discriminators, "forward", "discriminators")]  # fmt: skip
        for owner, name, row in calls:
            if owner is not None:
                setattr(owner, name, self.watched(getattr(owner, name), row))
        for row, network in networks.items():  # gradients come one after another, part by part
            for parameter in network.parameters():
                parameter.register_post_accumulate_grad_hook(lambda _, row=row: self.lap(row))
        for optimiser in (state.optimiser, state.optimiser_discriminators):
            optimiser.register_step_post_hook(lambda *_: self.lap("optimiser"))


def joint(config: Config) -> Config:
    """The configuration with one stage, in which all of JOINT train; searching for the path wherever it ever does."""
    parts = ", ".join(f"{part}: {RATE}" for part in JOINT if part != "prosody" or config.with_f0)
    searches = config.alignment.init_steps < config.training.train_num_steps
    return configuration.change(config, [
        f"training.stages=[{{parts: {{{parts}}}}}]", "training.gta_folders=[]", "dataset.fold=all",
        f"training.clip_norm={{{', '.join(f'{part}: 100' for part in JOINT)}}}",
        "system.num_workers=0", "system.cuda_graphs=false",  # so that the cost of each part can be seen
        *(["alignment.init=none"] if searches else []),
        *(["prosody.residual_layers=0"] if config.has_f0_residual else []),
    ])  # fmt: skip


def measure(config: Config, data: Data, n_rounds: int, amp: bool = False) -> tuple[list[dict], dict, int | None]:
    """Of train.py's step under a configuration of joint(): the seconds of each round, of ROWS, of the "whole" and of
    making its "batch"; FLOP, of ROWS and of the "whole"; and the bytes that the process, or a GPU, holds at most, where
    the system says. amp: as its -a true."""
    processes = Processes.join()
    on_gpu = processes.device.type == "cuda"
    state, watch = make_state(config, processes, data, amp=amp), Stopwatch(processes.device)
    watch.watch(state)
    rounds, stream = [], batches(data.own, config)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    for _ in tqdm(range(1 + n_rounds), desc="rounds", unit="round", ncols=command.columns()):
        start = time.perf_counter()
        batch = next(stream).to(processes.device)
        made, step = time.perf_counter() - start, functools.partial(train.train_step, state, batch)
        # on a GPU watching holds up what it watches: a step for the parts, and one for the whole
        rounds.append({"batch": made} | watch.timed(step) | (watch.timed(step, watching=False) if on_gpu else {}))
    stream.close()
    peak = torch.cuda.max_memory_allocated(processes.device) if on_gpu else peak_memory()
    return rounds[1:], watch.flop(step), peak  # the first is not counted


def counting_flop() -> FlopCounterMode:
    return FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: convolution_backward_flop}
    )


def convolution_backward_flop(
    grad_shape, x_shape, w_shape, _bias, _stride, _padding, _dilation, transposed, _more, _groups, output_mask, **_
) -> int:
    """As much as forwards for each of input and weights that want a gradient; PyTorch's own count knows no groups."""
    n_outputs = math.prod((x_shape if transposed else grad_shape)[2:])
    return 2 * sum(output_mask[:2]) * x_shape[0] * math.prod(w_shape) * n_outputs


def report(config: Config, rounds: list[dict], flop: dict[str, float], peak: int | None, plain: float) -> str:
    """A table in Markdown, and what it does not show. plain: FLOP/s of product_rate."""
    spent = {name: statistics.median(one.get(name, 0.0) for one in rounds) for name in (*ROWS, "whole", "batch")}
    training, wholes, total = config.training, [one["whole"] for one in rounds], sum(spent[row] for row in ROWS)

    def cells(row, share):
        rate = flop.get(row, 0.0) / spent[row] if spent[row] else 0.0
        return f"{spent[row]:.3f} | {share} | {flop.get(row, 0.0) / 1e12:.3g} | {rate / 1e9:.0f} | {rate / plain:.0%}"

    lines = ["| part | s | share | TFLOP | GFLOP/s | of a plain product |", "|---|---:|---:|---:|---:|---:|"]
    lines += [f"| {row} | {cells(row, f'{100 * spent[row] / total:.2f}%')} |" for row in ROWS]
    lines += [f"| the step | {cells('whole', '100%')} |", f"| making its batch | {spent['batch']:.3f} | | | | |", ""]
    return "\n".join([
        *lines,
        f"- {training.batch_size} clips a step, cuts of {training.cut_frames} frames, segments of "
        f"{training.segment_frames}; {torch.get_num_threads()} threads; {len(rounds)} rounds, of {min(wholes):.3f} to "
        f"{max(wholes):.3f} s",
        f"- a plain float32 product: {plain / 1e9:.0f} GFLOP/s",
        f"- at most {(peak or math.nan) / 2**30:.1f} GiB",
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__.split(":")[0],
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("-c", "--config", dest="c", metavar="NAME_OR_FILE", action="append", help="as of train.py")
    parser.add_argument(
        "-a", "--amp", dest="a", choices=["true", "false"], default="false", help="networks in bfloat16"
    )
    parser.add_argument("--rounds", type=int, default=5, help="that are counted, after one that is not")
    parser.add_argument("--threads", type=int, help="of the CPU; by default all")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="as of train.py")
    args = parser.parse_intermixed_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    config = joint(configuration.load(args.c, args.overrides))
    device, data = Processes.join().device, read_data(config, progress=True)
    measured = measure(config, data, args.rounds, args.a == "true")
    print(f"{report(config, *measured, product_rate(device))}\n- {machine.described(device)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
