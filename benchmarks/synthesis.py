"""How fast a voice speaks: python -m benchmarks.synthesis.

Parts, runtimes and configurations take turns in each round, and a table has the medians of the rounds: what else the
machine does then falls on all alike, and ratios hold where times do not.
"""

import argparse
import functools
import itertools
import json
import logging
import operator
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import export
from benchmarks import machine
from benchmarks.exported import first_speech
from data_util import config as configuration
from data_util.config import ROOT
from evaluate import apart
from model.nisets import NiSETS
from runtime import command, onnx_runtime
from sampling import Settings, Voice
from text import SYMBOLS
from training import checkpoint
from training.gpu import product_rate

TEXT = ("There is no need to hurry, said the old man, and he looked out of the window at the rain; "
        "the train would be late again.")  # fmt: skip
SENTENCE = "There is no need to hurry, said the old man."
SENTENCE_SECONDS = 3.0
PARTS = onnx_runtime.GRAPHS
RUNTIMES = ("eager", "onnx")
TOLERANCE = 1e-4  # of a sample, between the runtimes


@dataclass
class Case:
    """A configuration's part on a runtime with some threads: how it is called, and the seconds of each round."""

    config: str
    runtime: str
    n_threads: int
    part: str
    call: Callable[[], np.ndarray]
    spent: list[float] = field(default_factory=list)


# -- what is measured


def label(name: str) -> str:
    """What a configuration is called in the table. name: as of random_voice."""
    return "+".join(Path(one).stem for one in name.split("+"))


def random_voice(name: str, folder: Path) -> Path:
    """A voice of random weights. name: config (config.yaml), or overlays of configs/ or YAML files, joined by +."""
    config = configuration.load(() if name == "config" else name.split("+"))
    torch.manual_seed(0)
    model = NiSETS(config, len(SYMBOLS))
    with torch.no_grad():
        model.f0_mean.fill_(5.0)  # ln of 148 Hz
    return checkpoint.save_voice(folder / label(name), 0, model.state_dict(), config, SYMBOLS)


def length_scale_for(voice: Voice, text: str, seconds: float) -> float:
    """The one with which a text lasts so long: the durations of random weights mean nothing."""
    return 10 * seconds / voice.speak(text, seed=0, length_scale=10.0).seconds


def median_seconds(call: Callable, n_rounds: int, n_before: int = 0) -> float:
    """What a call takes, the median of some; n_before: calls that are not counted, before them."""
    spent = []
    for _ in range(n_before + n_rounds):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[n_before:])


@torch.no_grad()
def tensors_of(voice: Voice, length_scale: float) -> dict[str, Tensor]:
    """All that the parts read and make of TEXT, which is one piece, by the names that the graphs of export.py have."""
    model, stride = voice.model, export.stride_of(voice.model)
    (piece,) = voice.reader.pieces(TEXT, Settings())
    values = {"x": torch.tensor([piece.ids]), "length_scale": torch.tensor(length_scale, dtype=torch.float64),
              "noise_values": torch.randn(1, 2, len(piece.ids)), **export.context()}  # fmt: skip
    for graph in export.graphs(model):
        if "noise_latents" in graph.inputs:
            values |= export.noises(model, -(-int(values["durations"].sum()) // stride) * stride)
        values |= export.call(graph, values)
    return values


def gflop_of(graph: nn.Module, values: dict[str, Tensor]) -> float:
    """What a part multiplies and adds, 2 for each pair, in 1e9."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        export.call(graph, values)
    return counter.get_total_flops() / 1e9


@torch.no_grad()
def on_torch(graph: nn.Module, values: dict[str, Tensor]) -> np.ndarray:
    return export.call(graph, values)[graph.outputs[0]].numpy()


def on_onnx(session, values: dict[str, np.ndarray]) -> np.ndarray:
    return session.run(None, {one.name: values[one.name] for one in session.get_inputs()})[0]


class Bench:
    """A configuration: its voice, what its parts read, and its cases."""

    def __init__(self, name: str, folder: Path, args: argparse.Namespace):
        self.name, self.args, self.path = label(name), args, random_voice(name, folder)
        self.exported, self.voice = folder / f"{self.name}_onnx" / export.module_name(self.name), Voice.load(self.path)
        self.scale = length_scale_for(self.voice, TEXT, args.seconds)
        self.short_scale = length_scale_for(self.voice, SENTENCE, SENTENCE_SECONDS)
        self.values = tensors_of(self.voice, self.scale)
        audio, plain = self.voice.saved.config.audio, Voice.load(self.path).model
        self.seconds = int(self.values["durations"].sum()) * audio.hop_length / audio.sample_rate
        plain.generator.tiled = None  # what is counted are the convolutions themselves
        graphs = zip(PARTS, export.graphs(plain))
        self.gflop = {part: gflop_of(graph, self.values) / self.seconds for part, graph in graphs}
        self.parameters = sum(parameter.numel() for parameter in self.voice.model.parameters())

    def cases(self) -> list[Case]:
        """All of them, each of which has been called once."""
        cases, wavs = [], {}
        for runtime, n_threads in itertools.product(self.args.runtimes, self.args.threads):
            torch.set_num_threads(n_threads)
            calls = self.calls(runtime, n_threads)
            wavs[runtime] = [call() for call in calls.values()][PARTS.index("vocoder")]
            cases += [Case(self.name, runtime, n_threads, part, call) for part, call in calls.items()]
        differs = max(np.abs(wav - wavs[self.args.runtimes[0]]).max() for wav in wavs.values())
        far = "" if differs <= TOLERANCE else ": NOT the same sound"
        print(f"{self.name}: the vocoders of {' and '.join(wavs)} differ by {differs:.1e}{far}")
        return cases

    def calls(self, runtime: str, n_threads: int) -> dict[str, Callable[[], np.ndarray]]:
        """What is called, by part, on the same values, and by a voice as a whole."""
        voice, call, values, parts = self.voice, on_torch, self.values, export.graphs(self.voice.model)
        if runtime == "onnx":
            if not self.exported.is_dir():
                export.export(Voice.load(self.path), self.exported.parent)
            voice, call = onnx_runtime.Voice(self.exported, n_threads=n_threads), on_onnx
            values = {name: value.numpy() for name, value in values.items()}
            parts = [getattr(voice, part) for part in PARTS]
        calls = {name: functools.partial(call, part, values) for name, part in zip(PARTS, parts)}
        if runtime == "onnx":
            calls["vocoder"] = lambda: voice.vocode(values)[None, None]
        return calls | {
            "whole": lambda: voice.speak(TEXT, seed=0, length_scale=self.scale).wav,
            "first chunk": lambda: next(voice.stream(SENTENCE, seed=0, length_scale=self.short_scale)),
        }

    def start(self, runtime: str, n_threads: int) -> dict[str, float]:
        """first_speech of a new process."""
        spoken = SENTENCE, self.short_scale, TEXT, self.scale
        if runtime == "eager":
            return apart(fresh, self.path, n_threads, *spoken)
        words = [sys.executable, "-m", "benchmarks.exported", *map(str, (self.exported, n_threads, *spoken))]
        result = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(result.stdout)


def fresh(path: Path, n_threads: int, *spoken) -> dict[str, float]:
    """Bench.start in this process, through PyTorch."""
    torch.set_num_threads(n_threads)
    return first_speech(lambda: Voice.load(path), *spoken)


# -- the command


def rounds(cases: list[Case], n_rounds: int) -> None:
    """Call each case once a round, in turns."""
    for _ in tqdm(range(n_rounds), desc="rounds", ncols=command.columns()):
        for case in cases:
            torch.set_num_threads(case.n_threads)
            start = time.perf_counter()
            case.call()
            case.spent.append(time.perf_counter() - start)


def table(rows: list[list[str]]) -> str:
    """rows: of cells, the headings first. Returns Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def sizes(benches: list[Bench]) -> str:
    rows = [["configuration", "parameters, M", *(f"{part}, GFLOP a second of speech" for part in PARTS), "sum"]]
    for bench in benches:
        gflop = [bench.gflop[part] for part in PARTS]
        rows.append([bench.name, *(f"{one:.2f}" for one in (bench.parameters / 1e6, *gflop, sum(gflop)))])
    return table(rows)


def speeds(benches: list[Bench], cases: list[Case], plain: dict[int, float]) -> str:
    """Of the medians: real-time factors, milliseconds to the first chunk, and what the parts compute by what a plain
    product does in that time, where tiles count as the convolutions that they stand for. plain: FLOP/s by threads."""
    rows = [["configuration", "runtime", "threads", *PARTS, "sum", "whole", "first chunk, ms", "of a plain product"]]
    seconds = {bench.name: bench.seconds for bench in benches}
    gflop = {bench.name: sum(bench.gflop.values()) for bench in benches}
    way = operator.attrgetter("config", "runtime", "n_threads")
    for (name, runtime, n_threads), some in itertools.groupby(cases, way):
        found = {case.part: statistics.median(case.spent) for case in some}
        spent = [found[part] for part in PARTS]
        factors = [f"{one / seconds[name]:.4f}" for one in (*spent, sum(spent), found["whole"])]
        rate = 1e9 * gflop[name] * seconds[name] / sum(spent) / plain[n_threads]
        rows.append([name, runtime, str(n_threads), *factors, f"{1000 * found['first chunk']:.0f}", f"{rate:.0%}"])
    return table(rows)


def starts(benches: list[Bench], args: argparse.Namespace) -> str:
    """Of the first text in a new process: loading, the first chunk, the real-time factor, the most memory."""
    rows = [["configuration", "runtime", "threads", "loading, s", "first chunk, ms", "whole", "memory, MB"]]
    for bench, runtime, n_threads in itertools.product(benches, args.runtimes, args.threads):
        cold = bench.start(runtime, n_threads)
        rows.append([bench.name, runtime, str(n_threads), f"{cold['load']:.2f}", f"{1000 * cold['first']:.0f}",
                     f"{cold['whole'] / bench.seconds:.4f}", f"{(cold['memory'] or np.nan) / 1e6:.0f}"])  # fmt: skip
    return table(rows)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.synthesis", allow_abbrev=False,
                                     description="How fast a voice speaks, part by part.",
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("-c", "--config", dest="configs", nargs="+", default=["config", "small"], metavar="NAME",
                        help="config (config.yaml), or of configs/, or YAML files; NAME+NAME: both")  # fmt: skip
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES, help="that speak")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="of each runtime, in turn")
    parser.add_argument("--seconds", type=float, default=7.0, help="of speech")
    parser.add_argument("--rounds", type=int, default=5, help="of which the table has medians")
    args = parser.parse_args(argv)
    if min(*args.threads, args.rounds) < 1 or not 1 <= args.seconds <= 60:
        parser.error("--threads and --rounds must be at least 1, --seconds from 1 to 60")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(name, Path(folder), args) for name in args.configs]
        print(sizes(benches), flush=True)
        cases = [case for bench in benches for case in bench.cases()]
        plain = {}
        for n_threads in args.threads:
            torch.set_num_threads(n_threads)
            plain[n_threads] = product_rate()
        rounds(cases, args.rounds)
        about = f"{args.seconds:g} s of speech, medians of {args.rounds} rounds; {machine.described()}"
        rates = ", ".join(f"{rate / 1e9:.0f} with {n_threads}" for n_threads, rate in plain.items())
        print(f"\nReal-time factors, {about}; plain products, GFLOP/s by threads: {rates}")
        print(f"\n{speeds(benches, cases, plain)}", flush=True)
        print(f"\nThe first text of a new process\n\n{starts(benches, args)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
