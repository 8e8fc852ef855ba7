"""What a GPU that is there for some minutes is asked. benchmarks/gpu_lease.sh has the order, and a limit for each part.

python -m benchmarks.gpu_lease PART -o RESULTS.json [--device D] [-c NAME_OR_FILE ...] [section.key=value ...]

features: the clips' features and alignment, made before anything is timed
equality: one step's losses and gradients beside the CPU's, in float32, TF32 and bfloat16
steps: steps a second, peak memory, kernels, host waits, of each precision, with and without cudnn.benchmark
graphed: the same of a state with CUDA graphs
speech: real-time factors of one text and of sixteen
voice: the voice of the newest run's checkpoint, where training was cut short before it wrote one
plan: which arguments of train.py make the most of --seconds, by what RESULTS.json says
"""

import argparse
import itertools
import json
import logging
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

import train
from benchmarks.synthesis import SENTENCE, TEXT, length_scale_for, median_seconds, random_voice
from benchmarks.training import joint, synchronise
from data_util import config as configuration
from data_util.config import Config
from data_util.dataset import Batch, batches, fixed_batch
from model.layers import Dropout
from runtime import command
from runtime.files import read_json, write_json
from sampling import Settings, Voice
from training import checkpoint, gpu, step
from training.data import Data, read_data
from training.distributed import Processes
from training.state import State, checkpoint_of, make_state

PRECISIONS = {"float32": (False, False), "tf32": (True, False), "bfloat16": (True, True)}  # TF32, and -a true
SPEECH_SECONDS = 7.0
N_TEXTS = 16
N_KERNELS = 30  # that are listed, of those that take longest
FASTER = 1.25  # by which bfloat16 must win to be trained in


def prepared(args: argparse.Namespace) -> tuple[Config, Data, Processes]:
    """The configuration with one joint stage that keeps the flat start's durations, its clips, and the device."""
    config = joint(configuration.load(args.c, ["alignment.init_steps=10000000", *args.overrides]))
    return config, read_data(config, progress=False), Processes.join(args.device)


def drawn(config: Config, data: Data, processes: Processes, n: int = 8) -> list[Batch]:
    """The first batches, on the device."""
    stream = batches(data.own, config)
    made = [next(stream).to(processes.device) for _ in range(n)]
    stream.close()
    return made


def set_up(state: State, precision: str) -> None:
    tf32, amp = PRECISIONS[precision]
    gpu.set_precision(state.processes.device, tf32)
    state.model.set_precision(amp)


def features(args: argparse.Namespace) -> None:
    """Make what the cache does not have."""
    read_data(configuration.load(args.c, args.overrides), progress=False)


# -- equality


def equality(args: argparse.Namespace) -> None:
    """Of each precision {loss or gradient: relative difference from the CPU's float32}, without dropout."""
    config, data, processes = prepared(args)
    batch = fixed_batch(data.own, config, list(range(args.clips)))
    truth = gradients(config, data, Processes(0, 1, torch.device("cpu")), batch, precision="float32")
    for precision in PRECISIONS:
        ours = gradients(config, data, processes, batch.to(processes.device), precision=precision)
        keep(args, f"equality {precision}", {name: distance(ours[name], truth[name]) for name in truth})


def gradients(config: Config, data: Data, processes: Processes, *made: Batch, precision: str) -> dict[str, Tensor]:
    """The losses of the last of some steps that change nothing, and each part's gradient as one vector, on the CPU."""
    state, found = make_state(config, processes, data), {}
    set_up(state, precision)
    for module in state.model.modules():
        if isinstance(module, Dropout):  # which draws otherwise on each device
            module.p = 0.0

    def kept(_, optimiser, __) -> dict:
        for group in optimiser.param_groups:
            parts = [p.grad.flatten() for p in group["params"] if p.grad is not None]
            found[f"gradient of {group['name']}"] = torch.cat(parts).cpu() if parts else torch.zeros(1)
        optimiser.zero_grad()
        state.skipped = torch.zeros(())
        return {}

    with mock.patch.object(train, "step_optimiser", kept), mock.patch.object(step, "step_optimiser", kept):
        for batch in made:
            values = train.train_step(state, batch)
    return found | {name: value.detach().cpu()[None] for name, value in values.items()}


def distance(x: Tensor, truth: Tensor) -> float:
    return float((x.double() - truth.double()).norm() / truth.double().norm().clamp(min=1e-12))


# -- steps


def steps(args: argparse.Namespace) -> None:
    """Of each precision, with and without cudnn.benchmark: see timed; kernels, waits and a checkpoint."""
    config, data, processes = prepared(args)
    state = make_state(config, processes, data)
    made = drawn(config, data, processes)
    keep(args, "checkpoint", saved(state))
    for precision, tries in itertools.product(args.precisions, (False, True)):
        set_up(state, precision)
        torch.backends.cudnn.benchmark = tries
        name = f"steps {precision}{', cudnn.benchmark' if tries else ''}"
        keep(args, name, timed(state, made, args.seconds))
        if not tries:
            keep(args, f"kernels {precision}", kernels(state, made))
    keep(args, "host waits", waits(state, made))


def graphed(args: argparse.Namespace) -> None:
    """timed and kernels with CUDA graphs, and how far losses and gradients of a second batch are from those without."""
    plain, data, processes = prepared(args)
    config = configuration.change(plain, ["system.cuda_graphs=true"])
    made = drawn(config, data, processes)
    for precision in args.precisions:
        state = make_state(config, processes, data)
        set_up(state, precision)
        start = time.perf_counter()
        train.train_step(state, made[0])
        synchronise(processes.device)
        first = {"first step, s": time.perf_counter() - start}
        keep(args, f"graphed {precision}", first | timed(state, made, args.seconds))
        keep(args, f"graphed kernels {precision}", kernels(state, made))
        del state
        pair = [gradients(one, data, processes, *made[:2], precision=precision) for one in (config, plain)]
        keep(args, f"graphed equality {precision}", {name: distance(pair[0][name], pair[1][name]) for name in pair[0]})


def timed(state: State, made: list[Batch], seconds: float) -> dict[str, float]:
    """Milliseconds a step, those that the host needs to ask for it, and the peak of memory in GiB."""
    device, on_gpu = state.processes.device, state.processes.device.type == "cuda"
    for batch in made:
        train.train_step(state, batch)
    synchronise(device)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    start, n_steps, asked = time.perf_counter(), 0, 0.0
    while time.perf_counter() - start < seconds or n_steps < len(made):
        before = time.perf_counter()
        values = train.train_step(state, made[n_steps % len(made)])
        asked += time.perf_counter() - before
        n_steps += 1
        if n_steps % len(made) == 0:
            synchronise(device)
    synchronise(device)
    whole = time.perf_counter() - start
    return {
        "ms a step": 1000 * whole / n_steps,
        "ms of the host": 1000 * asked / n_steps,
        "GiB": torch.cuda.max_memory_reserved(device) / 2**30 if on_gpu else 0.0,  # graphs hold theirs
        "finite": float(all(bool(value.isfinite()) for value in values.values())),
    }


def kernels(state: State, made: list[Batch]) -> dict:
    """Kernels of one step: how many, their milliseconds in all, and those that take longest."""
    if state.processes.device.type != "cuda":
        return {}
    kinds = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as profile:
        train.train_step(state, made[0])
        torch.cuda.synchronize()
    ran = [one for one in profile.events() if one.device_type == torch.autograd.DeviceType.CUDA]
    spent, count = Counter(), Counter()
    for one in ran:
        spent[one.name] += one.time_range.elapsed_us() / 1000
        count[one.name] += 1
    longest = [f"{ms:.2f} ms, {count[name]} x {name[:120]}" for name, ms in spent.most_common(N_KERNELS)]
    return {"kernels": len(ran), "ms of kernels": sum(spent.values()), "longest": longest}


def waits(state: State, made: list[Batch]) -> list[str]:
    """The lines at which a step waits for the device."""
    if state.processes.device.type != "cuda":
        return []
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train.train_step(state, made[0])
    torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(one.filename).name}:{one.lineno} {str(one.message)[:80]}" for one in said]


def saved(state: State) -> dict[str, float]:
    """Seconds in which a checkpoint is copied to the host, and is written; its MB."""
    start = time.perf_counter()
    ckpt = checkpoint.to_host(checkpoint_of(state))
    between = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save_checkpoint(Path(folder), 0, ckpt, 1)
    done = time.perf_counter()
    return {"copied, s": between - start, "written, s": done - between, "MB": checkpoint.n_bytes(ckpt) / 1e6}


# -- speech


@torch.no_grad()
def speech(args: argparse.Namespace) -> None:
    """Real-time factors of random weights: text to samples, the networks alone, and sixteen texts at once."""
    device = Processes.join(args.device).device
    with tempfile.TemporaryDirectory() as folder:
        for name in args.configs:
            path = random_voice(name, Path(folder))
            scale = length_scale_for(Voice.load(path), TEXT, SPEECH_SECONDS)
            voice = Voice.load(path, str(device))
            for precision, (tf32, amp) in PRECISIONS.items():
                gpu.set_precision(device, tf32)
                voice.model.set_precision(amp)
                keep(args, f"speech {name}, {precision}", factors(voice, scale, args.rounds))


def factors(voice: Voice, scale: float, n_rounds: int) -> dict[str, float]:
    """Medians of seconds by seconds of speech; the first chunk of a short text in ms."""
    model, audio = voice.model, voice.saved.config.audio
    seconds = voice.speak(TEXT, seed=0, length_scale=scale).seconds
    (piece,) = voice.reader.pieces(TEXT, Settings())
    x = torch.tensor([piece.ids], device=voice.device)
    plan = model.plan(x, length_scale=scale)
    model_seconds = plan.mu.shape[-1] * audio.hop_length / audio.sample_rate

    def decode(n: int) -> None:
        model.decode([plan] * n)[-1].wav.numpy(force=True)

    calls = {
        "text to samples": (lambda: voice.speak(TEXT, seed=0, length_scale=scale), seconds),
        "symbols to samples": (lambda: model.synthesise(x, length_scale=scale).wav.numpy(force=True), model_seconds),
        "frames to samples": (lambda: decode(1), model_seconds),
        f"frames of {N_TEXTS} texts": (lambda: decode(N_TEXTS), N_TEXTS * model_seconds),
        "ms to the first chunk": (lambda: next(voice.stream(SENTENCE, seed=0, length_scale=scale)), 0.001),
    }
    return {name: median_seconds(call, n_rounds, n_before=2) / per for name, (call, per) in calls.items()}


# -- the voice


def plan(args: argparse.Namespace) -> None:
    """Print arguments of train.py: the precision that was fastest, with graphs or without, and as many steps as fit."""
    results = read_json(args.out, {})
    times = {}
    for precision in ("bfloat16", "tf32"):
        for graphs, name in ((True, f"graphed {precision}"), (False, f"steps {precision}")):
            if results.get(args.label + name, {}).get("finite"):
                times[precision, graphs] = results[args.label + name]["ms a step"]
    if not times:
        print("-a false training.train_num_steps=1000")
        return
    best = min(times, key=lambda key: times[key] * (1 if key[0] == "bfloat16" else 1 / FASTER))
    n_steps, amp = int(args.share * 1000 * args.seconds / times[best]), best[0] == "bfloat16"
    print(f"-a {str(amp).lower()} system.cuda_graphs={str(best[1]).lower()} training.train_num_steps={n_steps}")


def voice(_: argparse.Namespace) -> None:
    """Print the name of the newest run, and write the voice of its last checkpoint where there is none."""
    runs = [folder for folder in checkpoint.RUNS.glob("*") if checkpoint.steps(folder, "project")]
    folder = max(runs, key=lambda run: run.stat().st_mtime)
    ckpt = checkpoint.load_newest(folder)
    if ckpt["step"] not in checkpoint.steps(folder, "voice"):
        config = configuration.from_dict(ckpt["config"])
        checkpoint.save_voice(folder, ckpt["step"], ckpt["ema"], config, tuple(ckpt["symbols"]))
    print(folder.name)


PARTS = {each.__name__: each for each in (features, equality, steps, graphed, speech, plan, voice)}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_lease", description=__doc__.splitlines()[0],
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("-c", "--config", dest="c", metavar="NAME_OR_FILE", action="append", help="as of train.py")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RESULTS.json", help="what it finds is added")
    parser.add_argument("--device", choices=["cuda", "cpu"], help="by default a GPU, where there is one")
    parser.add_argument("--seconds", type=float, default=4.0, help="of steps, a row; of training, for plan")
    parser.add_argument("--share", type=float, default=0.85, help="of these, for plan, that steps are made in")
    parser.add_argument("--clips", type=int, default=2, help="of equality")
    parser.add_argument("--rounds", type=int, default=15, help="of speech")
    parser.add_argument("--precisions", nargs="+", default=[*reversed(PRECISIONS)], choices=PRECISIONS, help="of steps")
    parser.add_argument("--label", default="", help="before the names of the results")
    parser.add_argument("--configs", nargs="+", default=["config"], help="of speech")
    parser.add_argument("words", nargs="+", metavar="PART [section.key=value ...]", help=f"of {', '.join(PARTS)}")
    args = parser.parse_intermixed_args(argv)
    args.part, *args.overrides = args.words
    if args.part not in PARTS:
        parser.error(f"{args.part}: must be one of {', '.join(PARTS)}")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    PARTS[args.part](args)
    return 0


def keep(args: argparse.Namespace, name: str, found: dict | list) -> None:
    """Write a result at once: what comes after it may be cut short."""
    print(name, json.dumps(found), flush=True)
    write_json(args.out, read_json(args.out, {}) | {args.label + name: found})


if __name__ == "__main__":
    sys.exit(main())
