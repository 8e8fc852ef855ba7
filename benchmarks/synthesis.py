"""How fast a voice speaks: python -m benchmarks.synthesis.

Parts, runtimes and configurations take turns in each round, and a table has the medians of the rounds: what else the
machine does then falls on all alike, and ratios hold where times do not.
"""

import argparse
import functools
import json
import logging
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
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

import export
from data_util import checkpoint, gpu, runner
from data_util import config as configuration
from data_util.config import ROOT
from data_util.files import write_json
from data_util.memory import peak_memory
from evaluate import apart, device_name
from model.hifigan import HiFiGAN
from model.layers import LEAKY_SLOPE
from model.nisets import NiSETS
from sampling import Settings, Voice
from text import SYMBOLS

TEXT = ("There is no need to hurry, said the old man, and he looked out of the window at the rain; "
        "the train would be late again.")  # fmt: skip
SENTENCE = "There is no need to hurry, said the old man."
PARTS = ("encoder", "decoder", "generator")
RUNTIMES = ("plain", "eager", "compiled", "onnx", "gpu")
SENTENCE_SECONDS = 3.0
TOLERANCE = 1e-4  # of a sample, between two runtimes


@dataclass
class Case:
    """A configuration's part on a runtime with some threads: how it is called, and the seconds of each round."""

    config: str
    runtime: str
    n_threads: int
    part: str
    call: Callable[[], np.ndarray]
    made: np.ndarray | None = None
    spent: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.spent)


class PlainHiFiGAN(nn.Module):
    """HiFi-GAN as it is published, of 1-D convolutions on (B, C, T): what other arrangements of it are held against.

    generator: folded; its weights are laid out anew.
    """

    def __init__(self, generator: HiFiGAN):
        super().__init__()
        self.generator, self.reach = generator, generator.reach
        for module in generator.modules():
            if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):  # not as another arrangement wants its weights
                module.weight = nn.Parameter(module.weight.detach().contiguous(), requires_grad=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (B, n_inputs, T). Returns wav (B, 1, T hop_length); mask must be None."""
        assert mask is None
        generator, relu = self.generator, functools.partial(F.leaky_relu, negative_slope=LEAKY_SLOPE)
        x = self._conv(generator.conv_in, x)
        for upsample, resblocks in zip(generator.upsamples, generator.resblocks):
            stride, padding = upsample.stride[-1], upsample.padding[-1]
            x = F.conv_transpose1d(relu(x), upsample.weight, upsample.bias, stride, padding)
            total = 0
            for resblock in resblocks:
                y = x
                for dilated, plain in zip(resblock.dilated, resblock.plain):
                    y = y + self._conv(plain, relu(self._conv(dilated, relu(y))))
                total = total + y
            x = total / len(resblocks)
        return torch.tanh(self._conv(generator.conv_out, relu(x)))

    def _conv(self, conv, x):
        return F.conv1d(x, conv.weight, conv.bias, padding=conv.padding[-1], dilation=conv.dilation[-1])


# -- what is measured


def random_voice(name: str, folder: Path) -> Path:
    """A voice of random weights of a configuration: config (config.yaml), one of configs/ or a YAML file."""
    config = configuration.load(None if name == "config" else name)
    torch.manual_seed(0)
    model = NiSETS(config, len(SYMBOLS))
    with torch.no_grad():
        model.f0_mean.fill_(5.0)  # ln of 148 Hz
    return checkpoint.save_voice(folder / Path(name).stem, 0, model.state_dict(), config, SYMBOLS)


def length_scale_for(voice: Voice, text: str, seconds: float) -> float:
    """The one with which a text lasts so long: the durations of random weights mean nothing."""
    return 10 * seconds / voice.speak(text, seed=0, length_scale=10.0).seconds


@torch.no_grad()
def tensors_of(voice: Voice, length_scale: float) -> dict[str, Tensor]:
    """All that the parts read and make of TEXT, which is one piece, by the names that the graphs of export.py have."""
    model, hop_length, stride = voice.model, voice.saved.config.audio.hop_length, export.stride_of(voice.model)
    (piece,) = voice.reader.pieces(TEXT, Settings())
    values = {"x": torch.tensor([piece.ids]), "length_scale": torch.tensor(length_scale, dtype=torch.float64),
              "noise_values": torch.randn(1, 2, len(piece.ids))}  # fmt: skip
    values = {name: value.to(voice.device) for name, value in values.items()}
    for graph in export.graphs(model):
        if "noise_latents" in graph.inputs:
            n_frames = -(-int(values["durations"].sum()) // stride) * stride
            noises = {"noise_latents": (model.config.n_latents, n_frames), "noise_course": (1, n_frames),
                      "noise_wav": (1, n_frames * hop_length)}  # fmt: skip
            values |= {name: torch.randn(1, *sizes).to(voice.device) for name, sizes in noises.items()}
        values |= export.call(graph, values)
    return values


def gflop_of(graph: nn.Module, values: dict[str, Tensor]) -> float:
    """What a part multiplies and adds, 2 for each pair, in 1e9."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        export.call(graph, values)
    return counter.get_total_flops() / 1e9


@torch.no_grad()
def on_torch(graph: nn.Module, values: dict[str, Tensor]) -> np.ndarray:
    made = graph(*(values[name] for name in graph.inputs))
    made = made[0] if isinstance(made, tuple) else made
    if made.is_cuda:
        torch.cuda.synchronize(made.device)
    return made.cpu().numpy()


def on_onnx(session, values: dict[str, np.ndarray]) -> np.ndarray:
    return session.run(None, {one.name: values[one.name] for one in session.get_inputs()})[0]


def first_chunk(voice, length_scale: float) -> np.ndarray:
    return next(voice.stream(SENTENCE, seed=0, length_scale=length_scale))


def whole(voice, length_scale: float) -> np.ndarray:
    return voice.speak(TEXT, seed=0, length_scale=length_scale).wav


class Bench:
    """A configuration: its voice, what its parts read, and its cases."""

    def __init__(self, name: str, path: Path, args: argparse.Namespace, folder: Path):
        self.name, self.path, self.args, self.folder = Path(name).stem, path, args, folder
        self.voice = Voice.load(path)
        self.scale = length_scale_for(self.voice, TEXT, args.seconds)
        self.short_scale = length_scale_for(self.voice, SENTENCE, SENTENCE_SECONDS)
        self.values = tensors_of(self.voice, self.scale)
        self.seconds = int(self.values["durations"].sum()) * self._frame
        self.graphs = dict(zip(PARTS, export.graphs(self.voice.model)))
        plain = zip(PARTS, export.graphs(self._plain_model()))
        self.gflop = {part: gflop_of(graph, self.values) / self.seconds for part, graph in plain}
        self.parameters = sum(parameter.numel() for parameter in self.voice.model.parameters())

    @property
    def _frame(self):
        audio = self.voice.saved.config.audio
        return audio.hop_length / audio.sample_rate

    def cases(self) -> list[Case]:
        """All of them, each of which has been called once."""
        cases = []
        for runtime in self.args.runtimes:
            for n_threads in self.args.threads if runtime != "gpu" else [torch.get_num_threads()]:
                torch.set_num_threads(n_threads)
                calls = getattr(self, f"_{runtime}")(n_threads)
                cases += [Case(self.name, runtime, n_threads, part, call) for part, call in calls.items()]
        for case in cases:
            torch.set_num_threads(case.n_threads)
            case.made = case.call()
        self._check(cases)
        return cases

    def _plain_model(self):
        model = Voice.load(self.path).model
        model.generator.tiled = None
        if isinstance(model.generator, HiFiGAN):
            model.generator = PlainHiFiGAN(model.generator)
        return model

    def _plain(self, _):
        model = self._plain_model()
        if not isinstance(model.generator, PlainHiFiGAN):
            return {}
        return {"generator": functools.partial(on_torch, export.Generator(model), self.values)}

    def _eager(self, _):
        parts = {part: functools.partial(on_torch, graph, self.values) for part, graph in self.graphs.items()}
        return parts | self._spoken(self.voice)

    def _compiled(self, _):
        return {part: functools.partial(on_torch, Compiled(graph), self.values) for part, graph in self.graphs.items()}

    def _onnx(self, n_threads):
        folder = self.folder / f"{self.name}_onnx"
        if not folder.is_dir():
            export.export(Voice.load(self.path), folder)
        voice = runner.Voice(folder, n_threads=n_threads)
        values = {name: value.numpy() for name, value in self.values.items()}
        parts = {part: functools.partial(on_onnx, getattr(voice, part), values) for part in PARTS}
        return parts | self._spoken(voice)

    def _gpu(self, _):
        if not torch.cuda.is_available():
            return {}
        voice = Voice.load(self.path, "cuda")
        gpu.set_precision("cuda", voice.saved.config.system.tf32)
        values = {name: value.to("cuda") for name, value in self.values.items()}
        parts = dict(zip(PARTS, (functools.partial(on_torch, graph, values) for graph in export.graphs(voice.model))))
        return parts | self._spoken(voice)

    def _spoken(self, voice):
        return {"whole": functools.partial(whole, voice, self.scale),
                "first chunk": functools.partial(first_chunk, voice, self.short_scale)}  # fmt: skip

    def _check(self, cases):
        """Print how far a generator's samples are from the eager ones, and say so where that is too far."""
        made = {case.runtime: case.made for case in cases if case.part == "generator"}
        for runtime, wav in made.items():
            if runtime != "eager" and "eager" in made:
                differs = np.abs(wav - made["eager"]).max()
                far = "" if differs <= TOLERANCE else ": NOT the same sound"
                print(f"{self.name}: generator, {runtime} by eager: up to {differs:.1e}{far}")


class Compiled(nn.Module):
    """A part through torch.compile, for one length."""

    def __init__(self, graph: nn.Module):
        super().__init__()
        self.inputs, self.graph = graph.inputs, torch.compile(graph, dynamic=False)

    def forward(self, *inputs: Tensor):
        return self.graph(*inputs)


def fresh(path: Path, n_threads: int, length_scale: float, short_scale: float) -> dict[str, float]:
    """What a new process needs until it has spoken once. Seconds, and bytes."""
    torch.set_num_threads(n_threads)
    start = time.perf_counter()
    voice = Voice.load(path)
    loaded = time.perf_counter()
    first_chunk(voice, short_scale)
    begun = time.perf_counter()
    whole(voice, length_scale)
    spoken = time.perf_counter()
    return {"load": loaded - start, "first": begun - loaded, "whole": spoken - begun, "memory": peak_memory()}


def fresh_exported(folder: Path, n_threads: int, length_scale: float, short_scale: float) -> dict[str, float]:
    """fresh() of an exported voice, in a process without PyTorch."""
    argv = ["-m", "benchmarks.exported", folder, n_threads, SENTENCE, short_scale, TEXT, length_scale]
    result = subprocess.run([sys.executable, *map(str, argv)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout)


# -- the command


def rounds(cases: list[Case], n_rounds: int) -> None:
    """Call each case once a round, in turns."""
    for _ in tqdm(range(n_rounds), desc="rounds"):
        for case in cases:
            torch.set_num_threads(case.n_threads)
            start = time.perf_counter()
            case.call()
            case.spent.append(time.perf_counter() - start)


def table(rows: list[list[str]]) -> str:
    """rows: of cells, the headings first. Returns Markdown."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def sizes(benches: list[Bench]) -> str:
    rows = [["configuration", "parameters, M", *(f"{part}, GFLOP/s" for part in PARTS), "sum"]]
    for bench in benches:
        gflop = [bench.gflop[part] for part in PARTS]
        rows.append([bench.name, f"{bench.parameters / 1e6:.2f}", *(f"{one:.2f}" for one in (*gflop, sum(gflop)))])
    return table(rows)


def speeds(benches: list[Bench], cases: list[Case]) -> tuple[str, list[dict]]:
    """Real-time factors of the medians; plain has the other parts of eager, and `by plain` is of the three parts."""
    rows = [["configuration", "runtime", "threads", *PARTS, "sum", "by plain", "whole", "first chunk, ms"]]
    results = []
    for bench in benches:
        found = {(case.runtime, case.n_threads, case.part): case.median for case in cases if case.config == bench.name}
        for runtime, n_threads in dict.fromkeys(key[:2] for key in found):
            spent = {part: found.get((runtime, n_threads, part), found.get(("eager", n_threads, part), np.nan))
                     for part in PARTS}  # fmt: skip
            plain = found.get(("plain", n_threads, "generator"))
            by_plain = None
            if plain is not None:
                eager = sum(found.get(("eager", n_threads, part), np.nan) for part in ("encoder", "decoder"))
                by_plain = sum(spent.values()) / (eager + plain)
            said, first = (found.get((runtime, n_threads, part)) for part in ("whole", "first chunk"))
            factors = [spent[part] / bench.seconds for part in PARTS]
            rows.append([bench.name, runtime, str(n_threads), *(f"{one:.4f}" for one in (*factors, sum(factors))),
                         "" if by_plain is None else f"{by_plain:.2f}",
                         "" if said is None else f"{said / bench.seconds:.4f}",
                         "" if first is None else f"{1000 * first:.0f}"])  # fmt: skip
            results.append({"configuration": bench.name, "runtime": runtime, "threads": n_threads,
                            "real_time_factor": dict(zip(PARTS, factors)), "by_plain": by_plain,
                            "whole": None if said is None else said / bench.seconds, "first_chunk": first})  # fmt: skip
    return table(rows), results


def starts(benches: list[Bench], args: argparse.Namespace) -> str:
    """Of the first text in a new process: loading, the first chunk, the real-time factor, the most memory."""
    rows = [["configuration", "runtime", "threads", "loading, s", "first chunk, ms", "whole", "memory, MB"]]
    for bench in benches:
        for runtime in [one for one in args.runtimes if one in ("eager", "onnx")]:
            for n_threads in args.threads:
                scales = n_threads, bench.scale, bench.short_scale
                if runtime == "eager":
                    cold = apart(fresh, bench.path, *scales)
                else:
                    cold = fresh_exported(bench.folder / f"{bench.name}_onnx", *scales)
                rows.append([bench.name, runtime, str(n_threads), f"{cold['load']:.2f}", f"{1000 * cold['first']:.0f}",
                             f"{cold['whole'] / bench.seconds:.4f}",
                             f"{(cold['memory'] or float('nan')) / 1e6:.0f}"])  # fmt: skip
    return table(rows)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast a voice speaks, part by part.", allow_abbrev=False)
    parser.add_argument("-c", dest="configs", nargs="+", default=["config", "small"], metavar="NAME",
                        help="config (config.yaml), of configs/, or YAML files; their weights are random")  # fmt: skip
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES,
                        help="plain: eager, with HiFi-GAN as 1-D convolutions; compiled: torch.compile")  # fmt: skip
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--seconds", type=float, default=7.0, help="of speech")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", dest="out", type=Path, metavar="FILE", help="the numbers, as JSON")
    args = parser.parse_args(argv)
    if min(*args.threads, args.rounds) < 1 or not 1 <= args.seconds <= 60:
        parser.error("--threads and --rounds must be at least 1, --seconds from 1 to 60")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(name, random_voice(name, Path(folder)), args, Path(folder)) for name in args.configs]
        print(sizes(benches), flush=True)
        cases = [case for bench in benches for case in bench.cases()]
        rounds(cases, args.rounds)
        text, results = speeds(benches, cases)
        device = device_name("cuda" if torch.cuda.is_available() else "cpu")
        print(f"\nReal-time factors, {args.seconds:g} s of speech, medians of {args.rounds} rounds; {device}\n\n{text}")
        print(f"\nThe first text of a new process\n\n{starts(benches, args)}")
    if args.out is not None:
        write_json(args.out, {"device": device, "seconds": args.seconds, "rounds": args.rounds, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
