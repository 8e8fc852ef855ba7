"""The honest table: a voice, others and the recordings, measured alike: python evaluate.py -id ID -o DIR."""

import argparse
import contextlib
import dataclasses
import logging
import multiprocessing
import platform
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from data_util import config as configuration
from data_util.audio import AudioError, save_wav
from data_util.config import ROOT, Config
from data_util.corpus import Clip, MetafileError, file_names, read_metafile, read_transcripts
from data_util.features import bar, n_cpus
from evaluation import metrics
from evaluation.memory import peak_memory
from evaluation.report import SYSTEMS, markdown, page
from model.sde import ONLY, SOLVERS, default_solver
from runtime import command
from runtime.chunking import speaker_id
from runtime.files import read_json, write_atomic, write_json
from runtime.text_files import read_text
from sampling import NoCopy, Voice
from text import TextError
from training import checkpoint, gpu, voices

log = logging.getLogger(__name__)


# -- what is evaluated


def clips_of(args: argparse.Namespace, config: Config) -> list[Clip]:
    """The clips by the names of their WAVs. Raises ValueError."""
    dataset, root = config.dataset, ROOT / config.dataset.prtpath
    if args.metadata is None:
        lists = [ROOT / dataset.metafile_test, ROOT / dataset.metafile_valid]
        clips = read_metafile(args.ids or next(filter(Path.is_file, lists), lists[0]), root)
    else:
        texts = read_transcripts(args.metadata)
        lines = list(texts) if args.ids is None else read_text(args.ids).split("\n")
        clips = [Clip(name, root / "wavs" / f"{name}.wav", texts.get(name)) for name in map(str.strip, lines) if name]
        unknown = [clip.id for clip in clips if clip.text is None]
        if unknown:
            raise ValueError(f"{args.metadata}: no text for {len(unknown)} ids of {args.ids}, {unknown[0]} for one")
    clips = [dataclasses.replace(clip, id=name) for clip, name in zip(clips, file_names(clips))]
    if args.wavs is not None:
        _check_folder("--wavs", args.wavs)
        clips = [dataclasses.replace(clip, wav_path=args.wavs / f"{clip.id}.wav") for clip in clips]
    if not clips:
        raise ValueError("no clips in the list")
    name, count = Counter(clip.id for clip in clips).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{count} clips are named {name}: give each its own")
    return clips


def warn_of_learnt(clips: list[Clip], config: Config) -> None:
    """Say how many of the clips are of the list that a voice was trained on, where that is at hand."""
    dataset = config.dataset
    with contextlib.suppress(MetafileError):
        learnt = {clip.wav_path for clip in read_metafile(ROOT / dataset.metafile_train, ROOT / dataset.prtpath)}
        if count := sum(clip.wav_path in learnt for clip in clips):
            log.warning("the voice was trained on %d of these %d clips: they are in %s", count, len(clips),
                        dataset.metafile_train)  # fmt: skip


def named_systems(arguments: list[str], taken: set[str], clips: list[Clip]) -> dict[str, dict[str, Path]]:
    """NAME=DIR each, as {name: {clip: WAV}} of those that are there."""
    systems: dict[str, dict[str, Path]] = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not folder:
            raise ValueError(f"--systems {argument}: expected NAME=DIR, the name of letters, digits and _ . -")
        if name in taken | systems.keys():
            raise ValueError(f"--systems {argument}: there is a system {name} already, take another name")
        _check_folder(f"--systems {name}", Path(folder))
        paths = {clip.id: Path(folder) / f"{clip.id}.wav" for clip in clips}
        systems[name] = {clip: path for clip, path in paths.items() if path.is_file()}
        if not systems[name]:
            raise ValueError(f"--systems {argument}: has none of {len(clips)} clips, {clips[0].id}.wav for one")
    return systems


def readable(wavs: dict[str, Path]) -> dict[str, Path]:
    """Those of the WAVs, by clip, that can be measured, with a warning for each of the others."""
    found = {}
    for clip, path in wavs.items():
        try:
            metrics.read_wav(path, metrics.RATE)
        except AudioError as error:
            log.warning("%s; it is left out", error)
            continue
        found[clip] = path
    return found


def speaker_of(voice: Voice, clip: Clip) -> str | None:
    """Who says a clip, of a voice of several speakers; None where the voice is one, whoever the list names.

    Raises ValueError where the voice has not learnt that speaker.
    """
    names = voice.saved.config.speakers.names
    speaker = clip.speaker or None if names else None
    speaker_id(speaker, names)
    return speaker


def of_recordings(voice: Voice, clips: list[Clip], out: Path, seed: int) -> dict[str, dict[str, Path]]:
    """What a voice makes of recordings, {system: {clip: WAV}}: copies, none for a voice that needs a text to copy, and
    one step along each recording, which a text that is spoken in pieces has not."""
    rate, systems = voice.saved.config.audio.sample_rate, {}
    makers = {
        "copy": lambda wav, _, speaker: voice.copy(wav, speaker),
        "recorded_timing": lambda wav, text, speaker: voice.speak_along(wav, text or "", speaker, seed),
    }
    for name, make in makers.items():
        wavs: dict[str, Path] = {}
        for clip in bar(clips, len(clips), name, True):
            try:
                wav = make(metrics.read_wav(clip.wav_path, rate), clip.text, speaker_of(voice, clip))
            except TextError:
                continue
            except NoCopy as error:
                log.warning("%s", error)
                break
            except ValueError as error:  # such as fewer frames than symbols
                log.warning("%s of %s is left out: %s", name, clip.id, error)
                continue
            wavs[clip.id] = out / name / f"{clip.id}.wav"
            save_wav(wavs[clip.id], wav, rate)
        systems[name] = wavs
    return systems


def speak_all(
    path: Path,
    device: str,
    overrides: Sequence[str],
    n_threads: int,
    clips: list[Clip],
    settings: dict,
    folder: Path | None,
) -> dict:
    """Speak every text that says something into folder/<id>.wav, in a process that has spoken nothing yet.

    overrides: as of checkpoint.load_voice; settings: of Voice.speak; folder: None for the time alone. Returns "clips",
    {clip: phonemes, symbols, durations in seconds, "pairs"}; "once", the measures of the whole: the real-time factor of
    the very first call, memory in bytes.
    """
    torch.set_num_threads(n_threads)
    voice = Voice(checkpoint.load_voice(path, overrides), device)
    gpu.set_precision(device, voice.saved.config.system.tf32)
    audio, on_gpu = voice.saved.config.audio, torch.device(device).type == "cuda"
    of = "_gpu" if on_gpu else ""
    clips_spoken: dict[str, dict] = {}
    once: dict[str, float | None] = {}
    for clip in bar(clips, len(clips), f"{settings['n_timesteps']} on {device}", True):
        try:
            if not once:
                _, (spent, seconds) = _speak(voice, clip, settings)
                once[f"real_time_factor{of}_cold"] = spent / seconds
            speech, spent = _speak(voice, clip, settings)
        except TextError:
            continue
        if folder is not None:
            save_wav(folder / f"{clip.id}.wav", speech.wav, speech.sample_rate)
        clips_spoken[clip.id] = {
            "pairs": {f"real_time_factor{of}": spent},
            "phonemes": speech.phonemes,
            "symbols": list(speech.symbols),
            "durations": [round(int(n) * audio.hop_length / audio.sample_rate, 4) for n in speech.durations],
        }
    once[f"memory{of}"] = torch.cuda.max_memory_allocated(device) if on_gpu else peak_memory()
    return {"clips": clips_spoken, "once": once}


def _speak(voice, clip, settings):
    speaker, start = speaker_of(voice, clip), time.perf_counter()
    speech = voice.speak(clip.text or "", speaker=speaker, **settings)
    return speech, (time.perf_counter() - start, speech.seconds)


def apart(function: Callable, *arguments):
    """What the function returns, called in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), metrics.start_worker) as pool:
        return pool.submit(function, *arguments).result()


def device_name(device: str) -> str:
    """The device as people know it, for example cpu (Intel(R) Xeon(R) Processor, 2 cores)."""
    if torch.device(device).type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", about.read_text()) if about.is_file() else None
    return f"{device} ({found[1] if found else platform.processor() or platform.machine()}, {n_cpus()} cores)"


# -- the command


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="evaluate.py", description="Measure a voice beside the recordings.",
                                     allow_abbrev=False, formatter_class=command.Help)  # fmt: skip
    voices.add_arguments(parser, ", or none with --systems or --metadata")
    parser.add_argument("-n", "--n-timesteps", type=int, nargs="+", default=[], metavar="N",
                        help="evaluations of the score network, beside the one step")  # fmt: skip
    parser.add_argument("--solver", nargs="+", default=[], help="one or several, for n over 1; without it dpm2m",
                        choices=[name for name in SOLVERS if name not in ONLY])  # fmt: skip
    parser.add_argument("--systems", nargs="+", default=[], metavar="NAME=DIR", help="folders with <id>.wav each")
    parser.add_argument("--metadata", type=Path, metavar="FILE", help="id|text a line, instead of the corpus's texts")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="the clips; without it the test list, or all texts")
    parser.add_argument("--wavs", type=Path, metavar="DIR", help="the recordings, instead of the corpus's")
    parser.add_argument("--against", default="recording", metavar="NAME", help="the system that others differ from")
    parser.add_argument("--page", action="store_true", help="only index.html: of the report in DIR, or, "
                        "without measures, of what --systems, --metadata, --wavs or -id name")  # fmt: skip
    parser.add_argument("--page-clips", type=int, default=24, metavar="N", help="sentences on the page at most")
    parser.add_argument("--seed", type=int, default=0, help="of what is spoken, and of the intervals")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where the voice speaks"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch while the voice speaks")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the report and the WAVs")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the voice's configuration")
    args = configuration.parse(parser, argv)
    args.command = shlex.join(["python", "evaluate.py", *(sys.argv[1:] if argv is None else argv)])
    args.from_report = args.page and not (args.id or args.systems or args.metadata or args.wavs or args.ids)
    args.with_voice = args.id is not None or not (args.systems or args.metadata or args.from_report)
    if (args.n_timesteps or args.ckpt is not None) and not args.with_voice:
        parser.error("-n and -ckpt are for a voice: name its run with -id")
    if args.solver and max(args.n_timesteps, default=1) == 1:
        parser.error("--solver is for more than one evaluation: name their number with -n")
    threads = 1 if args.threads is None else args.threads
    if min(*args.n_timesteps, threads, args.page_clips, args.seed + 1) < 1:
        parser.error("-n, --threads and --page-clips must be at least 1, --seed at least 0")
    return args


def run(args: argparse.Namespace) -> dict:
    """Write the report and its page, or the page alone. Returns what report.json holds."""
    if not args.page:
        _check_packages()
    report = read_report(args.out) if args.from_report else evaluate(args)
    if not args.page:
        write_json(args.out / "report.json", report)
        write_atomic(args.out / "report.md", markdown(report).encode("utf-8"))
    write_atomic(args.out / "index.html", page(report, args.out, args.page_clips).encode("utf-8"))
    return report


def read_report(folder: Path) -> dict:
    """What a former evaluation left in its folder. Raises ValueError."""
    report = read_json(folder / "report.json", {})
    if "against" not in report.get("about", {}):
        raise ValueError(f"{folder / 'report.json'}: not there, or no report of this version: evaluate first, "
                         "or name WAVs with --systems and their texts with --metadata")  # fmt: skip
    return report


def evaluate(args: argparse.Namespace) -> dict:
    """Synthesise, and measure unless args.page is set. Returns what report.json holds."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    voice, about_voice = _load_voice(args) if args.with_voice else (None, None)
    base = configuration.load() if voice is None else voice.saved.config
    config = configuration.change(base, args.overrides)
    clips = clips_of(args, config)
    if voice is not None:
        for clip in clips:
            speaker_of(voice, clip)  # who is not known fails before anything that takes time
        warn_of_learnt(clips, config)
    ways = ways_to_speak(args) if voice else {}
    own = ["copy", "recorded_timing", *ways] if voice else []
    named = named_systems(args.systems, {*SYSTEMS, *ways}, clips)
    for wavs in named.values():
        for path in wavs.values():
            metrics.read_wav(path, metrics.RATE)  # what cannot be measured fails before anything that takes time
    if args.against not in ("recording", *own, *named):
        known = ", ".join(("recording", *own, *named))
        raise ValueError(f"--against {args.against}: no such system (there are: {known})")

    recordings = readable({clip.id: clip.wav_path for clip in clips if clip.wav_path.is_file()})
    systems, spoken = {"recording": recordings}, {}
    if voice is not None:
        systems |= of_recordings(voice, [clip for clip in clips if clip.id in recordings], args.out, args.seed)
        for name, settings in ways.items():
            spoken[name] = speak_apart(voice, args, clips, settings, args.out / name)
            systems[name] = {clip: args.out / name / f"{clip}.wav" for clip in spoken[name]["clips"]}
    systems = {name: wavs for name, wavs in (systems | named).items() if wavs}
    if not systems:
        raise ValueError(f"no recording of {len(clips)} clips, {clips[0].wav_path} for one, and nothing else to "
                         "measure: name WAVs with --systems, --wavs, or a run with -id")  # fmt: skip
    timed = dict.fromkeys([args.device, "cpu"])
    about = {"clips": len(clips), "seed": args.seed, "threads": torch.get_num_threads(), "command": args.command,
             "against": args.against, "device": "; ".join(map(device_name, timed)) if voice else None}  # fmt: skip
    found = _found(clips, systems, spoken, config, args)
    return {
        "about": {**about, "voice": about_voice, "recogniser": metrics.recogniser_name(config.system.recogniser)},
        "systems": _summaries(found, systems, spoken, args),
        "clips": found,
    }


def ways_to_speak(args: argparse.Namespace) -> dict[str, dict]:
    """{system: settings of Voice.speak}: no evaluation, one, and each other number of them with each solver."""
    ways: dict[str, tuple[int, str | None]] = {"encoder_alone": (0, None), "one_step": (1, None)}
    for n in sorted({*args.n_timesteps} - {1}):
        for solver in args.solver or [None]:
            ways[f"n{n}_{solver}" if solver else f"n{n}"] = n, solver
    return {name: {"n_timesteps": n, "solver": solver, "seed": args.seed} for name, (n, solver) in ways.items()}


def speak_apart(voice: Voice, args: argparse.Namespace, clips: list[Clip], settings: dict, folder: Path) -> dict:
    """speak_all() in a process of its own; where that is on a GPU, a second one tells how long the CPU takes."""
    rest = (args.overrides, torch.get_num_threads(), clips, settings)
    spoken = apart(speak_all, voice.saved.path, args.device, *rest, folder)
    if torch.device(args.device).type == "cuda":
        on_cpu = apart(speak_all, voice.saved.path, "cpu", *rest, None)
        spoken["once"] |= on_cpu["once"]
        for clip, said in spoken["clips"].items():
            said["pairs"] |= on_cpu["clips"][clip]["pairs"]
    return spoken


def _found(clips, systems, spoken, config, args):
    """{clip: {"text", "systems": {system: what measure_clip() and speak_all() give, with the path of the WAV}}}."""
    jobs = []
    for clip in clips:
        own = {name: wavs[clip.id] for name, wavs in systems.items() if clip.id in wavs}
        jobs.append(metrics.Job(metrics.reference_of(clip.text, config.text.language), own, config))
    unmeasured = ({name: {"heard": "", "pairs": {}} for name in job.wavs} for job in jobs)
    results = list(unmeasured if args.page else bar(metrics.measure_all(jobs), len(jobs), "measures", True))
    metrics.compare_speakers(results, [clip.speaker for clip in clips])
    found = {}
    for clip, job, one in zip(clips, jobs, results):
        for name, of_system in one.items():
            of_system["wav"] = _path_from(args.out, job.wavs[name])
            if name in spoken:
                said = spoken[name]["clips"][clip.id]
                of_system["pairs"] |= said["pairs"]
                of_system.update({key: said[key] for key in ("phonemes", "symbols", "durations")})
        found[clip.id] = {"text": clip.text, "systems": one}
    return found


def _path_from(folder, path):
    """Within the folder relative to it, so that both may move together, else absolute."""
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _summaries(found, systems, spoken, args):
    """{system: its measures and differences over all clips, how many it has and how many not}."""
    compared = [name for name in metrics.DIFFERENCES if args.against != "recording" or name not in metrics.BESIDE]
    summaries = {}
    for name, wavs in systems.items():
        of_clips = [[one["systems"].get(of, {"pairs": {}})["pairs"] for one in found.values()]
                    for of in (name, args.against)]  # fmt: skip
        measures, differences = metrics.summarise(*of_clips, args.seed, compared)
        if name in spoken:
            for measure_name, value in spoken[name]["once"].items():
                measures[measure_name] = {"value": value, "low": None, "high": None, "clips": 1}
        counts = {"clips": len(wavs), "missing": len(found) - len(wavs)}
        summaries[name] = {**counts, "measures": measures, "differences": differences}
    return summaries


def _load_voice(args):
    path, which = voices.find(args.id, args.ckpt)
    print(which)
    voice = Voice(checkpoint.load_voice(path, args.overrides), args.device)
    n_parameters = sum(parameter.numel() for parameter in voice.model.parameters())
    solver = None
    if max(args.n_timesteps, default=1) > 1:
        solver = ", ".join(args.solver) or default_solver(max(args.n_timesteps))
    return voice, {"run": path.parent.name, "step": voice.saved.step, "parameters": n_parameters, "solver": solver}


def _check_packages():
    missing = metrics.missing_packages()
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed: pip install -r requirements-extra.txt")
    if metrics.missing_packages(metrics.SPEAKER):
        log.warning(metrics.NO_SPEAKER)


def _check_folder(argument, folder):
    if not folder.is_dir():
        raise ValueError(f"{argument}: no folder {folder}")


def show(args: argparse.Namespace) -> None:
    """run, and say what came of it."""
    report = run(args)
    if not args.page:
        print(markdown(report), end="")
        print(f"{args.out / 'report.md'} and report.json")
    print(f"{args.out / 'index.html'}, {(args.out / 'index.html').stat().st_size / 1e6:.1f} MB")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return command.exit_status(show, args, "evaluate.py")


if __name__ == "__main__":
    sys.exit(main())
