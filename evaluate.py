"""The honest table: a voice, others and the recordings, measured alike: python evaluate.py -id ID -o DIR."""

import argparse
import dataclasses
import functools
import importlib.util
import logging
import math
import multiprocessing
import platform
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import soundfile
import torch
import torchaudio.functional

from data_util import checkpoint
from data_util import config as configuration
from data_util.audio import MelSpectrogram, load_wav, save_wav
from data_util.config import ROOT, Audio, Config
from data_util.corpus import Clip, read_metafile, read_transcripts
from data_util.features import bar, compute_mel, n_cpus
from data_util.files import read_json, write_atomic, write_json
from data_util.page import MEASURES, markdown, page
from data_util.pitch import track_f0
from model.sde import SOLVERS, default_solver
from sampling import Voice, newest_run
from text import TextError, normalise
from text.symbols import label

PACKAGES = ("pocketsphinx", "jiwer", "speechmos", "onnxruntime", "requests")  # in requirements-extra.txt
JUDGE_RATE = 16000  # Hz, of the recogniser and of DNSMOS
N_CEPSTRA = 13  # without the 0th, which is loudness
RESAMPLES = 2000  # of the clips, for an interval
CLIPS_A_PROCESS = 4  # fewer are not worth starting one, which takes seconds
log = logging.getLogger(__name__)

Pairs = dict[str, tuple[float, float]]  # of each measure: over clips, the sum of the first by that of the second


class EvaluationError(ValueError):
    """Something that cannot be evaluated as it was asked for; the message says what to do."""


BESIDE = ("mcd", "f0_rmse", "voicing_error")  # a difference already, to the recording
DIFFERENCES = ("cer", "wer", "dnsmos", *BESIDE)  # also given as differences to a system's, on the same clips


# -- measures of one sound


def recognise(wav: np.ndarray, sample_rate: int) -> str:
    """What an English recogniser of pocketsphinx's own model hears, in small letters; "" for nothing.

    wav: (T_wav,) in [-1, 1]. What it heard before changes nothing.
    """
    decoder = _decoder()
    decoder.reinit_feat()  # forgets the noise that it learnt to take away
    decoder.start_utt()
    decoder.process_raw((_resample(wav, sample_rate) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    # its dictionary has mr. and the like, which are abbreviations to normalise() with a capital only
    return letters(re.sub(r"\b[a-z]+\.", lambda word: word[0].title(), heard.hypstr)) if heard else ""


def letters(text: str) -> str:
    """The words of an English text as they are read aloud, in the letters a to z and single spaces; "" for none."""
    try:
        words = normalise(text).lower().replace("'", "")
    except TextError:
        return ""
    return " ".join(re.sub("[^a-z]", " ", words).split())


def error_rates(reference: str, heard: str) -> Pairs:
    """Edits and how many there could be, of characters and of words. reference: not empty; both as of letters()."""
    import jiwer

    pairs = {}
    for name, count in ("cer", jiwer.process_characters), ("wer", jiwer.process_words):
        found = count(reference, heard)
        edits = found.substitutions + found.deletions + found.insertions
        pairs[name] = edits, found.hits + found.substitutions + found.deletions
    return pairs


def quality(wav: np.ndarray, sample_rate: int) -> Pairs:
    """DNSMOS P.835, 1 to 5 each. wav: (T_wav,) in [-1, 1], of any level, which counts."""
    found = _scorer()(_resample(wav, sample_rate), JUDGE_RATE, is_personalized_MOS=False)
    keys = {"dnsmos": "ovrl_mos", "dnsmos_signal": "sig_mos", "dnsmos_background": "bak_mos"}
    return {name: (float(found[key]), 1) for name, key in keys.items()}


def cepstra(mel: np.ndarray) -> np.ndarray:
    """mel: (n_mels, T_mel), natural log of amplitude. Returns (13, T_mel), the cosines' amplitudes from the 1st on."""
    return scipy.fft.dct(mel.astype(np.float64), type=2, axis=0)[1 : N_CEPSTRA + 1] / len(mel)


def warp(mel: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The path of dynamic time warping between cepstra: (n, 2), the frames of both that belong together.

    mel: (n_mels, T), other: (n_mels, T'), natural log of amplitude. Loudness does not count.
    """
    _, path = librosa.sequence.dtw(cepstra(mel), cepstra(other))
    return path


def distortion(mel: np.ndarray, other: np.ndarray, path: np.ndarray) -> float:
    """Mel-cepstral distortion (Kubichek 1993) in dB, the mean along the path. mel, other, path: as warp() has them."""
    gaps = cepstra(mel)[:, path[:, 0]] - cepstra(other)[:, path[:, 1]]  # (13, n)
    return float(10 / math.log(10) * np.sqrt(2 * np.square(gaps).sum(axis=0)).mean())


def melody_errors(contour: np.ndarray, other: np.ndarray, path: np.ndarray) -> Pairs:
    """Errors of voicing, and of F0 where both are voiced, along the path of warp().

    contour: (2, T), other: (2, T'), the natural log of F0 in Hz, then voicing, 0 or 1.
    """
    (log_f0, voicing), (log_f0_other, voicing_other) = contour[:, path[:, 0]], other[:, path[:, 1]]  # (n,) each
    both = (voicing > 0.5) & (voicing_other > 0.5)
    pairs = {"voicing_error": (int((voicing != voicing_other).sum()), len(path))}
    if both.any():
        pairs["f0_rmse"] = float(np.sqrt(np.square(log_f0 - log_f0_other)[both].mean())), 1
    return pairs


@dataclass(frozen=True)
class Sound:
    """wav: (T_wav,) in [-1, 1]; mel: (n_mels, T_mel), natural log of amplitude; contour: (2, T_mel), the natural log of
    F0 in Hz, then voicing, 0 or 1."""

    wav: np.ndarray
    sample_rate: int
    mel: np.ndarray
    contour: np.ndarray

    @classmethod
    def read(cls, path: Path, config: Config) -> "Sound":
        """A mono WAV of any rate, brought to audio.sample_rate. Raises AudioError."""
        audio = config.audio
        wav = read_wav(path, audio.sample_rate)
        framed = np.pad(wav, (0, max(audio.hop_length - len(wav), 0)))  # what is shorter still has a frame
        contour = track_f0(framed, audio, config.pitch)
        return cls(wav, audio.sample_rate, compute_mel(_spectrogram(audio), framed), contour)

    @property
    def log_f0(self) -> np.ndarray:
        """(n,) of the voiced frames."""
        return self.contour[0, self.contour[1] > 0.5]

    @property
    def seconds(self) -> float:
        return len(self.wav) / self.sample_rate


def judge(sound: Sound) -> Pairs:
    """The measures that need no recording and no text."""
    pairs = quality(sound.wav, sound.sample_rate)
    if len(sound.log_f0):
        pairs["f0_spread"] = float(sound.log_f0.std()), 1
    return pairs


def compare(sound: Sound, recording: Sound) -> Pairs:
    """The measures beside the recording of the same text."""
    path = warp(sound.mel, recording.mel)
    pairs = {
        "mcd": (distortion(sound.mel, recording.mel, path), 1),
        "duration": (sound.seconds / recording.seconds, 1),
        "duration_total": (sound.seconds, recording.seconds),
        "mel_variance": (float(sound.mel.var(axis=1).mean()), float(recording.mel.var(axis=1).mean())),
        **melody_errors(sound.contour, recording.contour, path),
    }
    if len(sound.log_f0) and len(recording.log_f0):
        pairs["f0_spread_ratio"] = float(sound.log_f0.std()), float(recording.log_f0.std())
        pairs["f0_shift"] = 12 / math.log(2) * float(sound.log_f0.mean() - recording.log_f0.mean()), 1
    return pairs


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """A mono WAV of any rate as (T_wav,) in [-1, 1] at sample_rate, Hz. Raises AudioError."""
    try:
        own = soundfile.info(path).samplerate
    except soundfile.SoundFileError:
        own = sample_rate  # load_wav says what is wrong
    return _resample(load_wav(path, own), own, sample_rate)


def _resample(wav, sample_rate, wanted=JUDGE_RATE):
    resampled = torchaudio.functional.resample(torch.from_numpy(wav), sample_rate, wanted)
    return resampled.clamp(-1, 1).numpy()  # a resampled peak may stand a little over 1


@functools.cache
def _decoder():
    import pocketsphinx

    return pocketsphinx.Decoder(samprate=JUDGE_RATE, loglevel="FATAL")


@functools.cache
def _scorer():
    """What speechmos.dnsmos.run asks, but in one thread: those of several processes would only wait for each other."""
    import onnxruntime
    from speechmos import dnsmos

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    models = Path(dnsmos.__file__).parent / "dnsmos_models"
    paths = [str(models / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")]
    scorer = dnsmos.DNSMOS(*paths)
    scorer.onnx_sess, scorer.p808_onnx_sess = (onnxruntime.InferenceSession(path, options) for path in paths)
    return scorer


@functools.cache
def _spectrogram(audio: Audio) -> MelSpectrogram:
    return MelSpectrogram(**dataclasses.asdict(audio))


# -- measures of all clips and systems


@dataclass(frozen=True)
class Job:
    """One clip: the letters of its text, "" where there are none to hear, and the WAV of every system that has it."""

    reference: str
    wavs: dict[str, Path]
    config: Config


def measure(job: Job) -> dict[str, dict]:
    """{system: {"heard": letters, "pairs": Pairs}} of one clip. Raises AudioError."""
    found = {}
    sounds = {system: Sound.read(path, job.config) for system, path in job.wavs.items()}
    for system, sound in sounds.items():
        pairs, heard = judge(sound), ""
        if "recording" in sounds:
            pairs |= compare(sound, sounds["recording"])
        if job.reference:
            heard = recognise(sound.wav, sound.sample_rate)
            pairs |= error_rates(job.reference, heard)
        found[system] = {"heard": heard, "pairs": pairs}
    return found


def listen(job: Job) -> dict[str, dict]:
    """As measure(), without a measure."""
    return {system: {"heard": "", "pairs": {}} for system in job.wavs}


def measure_all(jobs: list[Job]) -> Iterator[dict[str, dict]]:
    """measure() of each, in order, in several processes where that is worth it."""
    n_processes = min(n_cpus(), len(jobs) // CLIPS_A_PROCESS)
    if n_processes < 2:
        yield from map(measure, jobs)
        return
    context = multiprocessing.get_context("spawn")  # torch has threads already, which a fork would lose
    with ProcessPoolExecutor(n_processes, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(measure, jobs)


def bootstrap(columns: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], seed: int) -> dict[str, float | None]:
    """A statistic of sums over clips, with its 95% interval: percentiles over resampled clips.

    columns: (n_clips, k); statistic: of sums (..., k), gives (...). Returns value, low and high; None where there is
    no such number, as with a sum of nothing, or an interval of one clip.
    """
    n_clips = len(columns)
    picks = np.random.default_rng(seed).multinomial(n_clips, np.full(n_clips, 1 / n_clips), RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, resampled = statistic(columns.sum(axis=0)), statistic(picks @ columns)
    low, high = np.percentile(resampled, [2.5, 97.5]) if n_clips > 1 else (math.nan, math.nan)
    numbers = {"value": value, "low": low, "high": high}
    return {name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}


def summarise(clips: list[Pairs], others: list[Pairs], seed: int, compared: Iterable[str]) -> tuple[dict, dict]:
    """A system's measures, and the differences of those compared to another's on the same clips: {measure: {value,
    low, high, clips}}.

    clips, others: the pairs of each clip, in the same order; {} where there is no such WAV.
    """
    measures, differences = {}, {}
    for name in MEASURES:
        pairs = np.array([one[name] for one in clips if name in one], dtype=np.float64)  # (n, 2)
        if not len(pairs):
            continue
        if name == "real_time_factor":  # a median, which one moment of a busy machine does not move
            found = {"value": float(np.median(pairs[:, 0] / pairs[:, 1])), "low": None, "high": None}
        else:
            found = bootstrap(pairs, lambda sums: sums[..., 0] / sums[..., 1], seed)
        measures[name] = {**found, "clips": len(pairs)}
        both = [one[name] + two[name] for one, two in zip(clips, others) if name in one and name in two]
        if name in compared and both:
            found = bootstrap(np.array(both, dtype=np.float64), _difference, seed)
            differences[name] = {**found, "clips": len(both)}
    return measures, differences


def _difference(sums):
    return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


# -- what is evaluated


def clips_of(args: argparse.Namespace, config: Config) -> list[Clip]:
    """The clips by the names of their WAVs. Raises MetafileError and EvaluationError."""
    dataset, root = config.dataset, ROOT / config.dataset.prtpath
    if args.metadata is None:
        lists = [ROOT / dataset.metafile_test, ROOT / dataset.metafile_valid]
        clips = read_metafile(args.ids or next(filter(Path.is_file, lists), lists[0]), root)
    else:
        texts = read_transcripts(args.metadata)
        lines = list(texts) if args.ids is None else args.ids.read_text(encoding="utf-8-sig").splitlines()
        clips = [Clip(name, root / "wavs" / f"{name}.wav", texts.get(name)) for name in map(str.strip, lines) if name]
        unknown = [clip.id for clip in clips if clip.text is None]
        if unknown:
            raise EvaluationError(
                f"{args.metadata}: no text for {len(unknown)} ids of {args.ids}, {unknown[0]} for one"
            )
    clips = [dataclasses.replace(clip, id=Path(clip.id).name) for clip in clips]
    if args.wavs is not None:
        _check_folder("--wavs", args.wavs)
        clips = [dataclasses.replace(clip, wav_path=args.wavs / f"{clip.id}.wav") for clip in clips]
    name, count = Counter(clip.id for clip in clips).most_common(1)[0] if clips else ("", 0)
    if count != 1:
        raise EvaluationError(f"{count} clips are named {name}: give each its own" if count else "no clips in the list")
    return clips


def named_systems(arguments: list[str], taken: set[str], clips: list[Clip]) -> dict[str, dict[str, Path]]:
    """NAME=DIR each, as {name: {clip: WAV}} of those that are there."""
    systems = {}
    for argument in arguments:
        name, _, folder = argument.partition("=")
        if not re.fullmatch(r"[\w.-]+", name) or not folder:
            raise EvaluationError(f"--systems {argument}: expected NAME=DIR, the name of letters, digits and _ . -")
        if name in taken | systems.keys():
            raise EvaluationError(f"--systems {argument}: there is a system {name} already, take another name")
        _check_folder(f"--systems {name}", Path(folder))
        paths = {clip.id: Path(folder) / f"{clip.id}.wav" for clip in clips}
        systems[name] = {clip: path for clip, path in paths.items() if path.is_file()}
        if not systems[name]:
            raise EvaluationError(f"--systems {argument}: has none of {len(clips)} clips, {clips[0].id}.wav for one")
    return systems


def copy_all(voice: Voice, recordings: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The generator on the true latent of each recording, {clip: WAV}; {} for a voice that needs more than that."""
    rate = voice.saved.config.audio.sample_rate
    for clip, path in bar(recordings.items(), len(recordings), folder.name, True):
        wav = read_wav(path, rate)
        try:
            copied = voice.copy(wav)
        except ValueError as error:
            log.warning("%s", error)
            return {}
        save_wav(folder / f"{clip}.wav", copied, rate)
    return {clip: folder / f"{clip}.wav" for clip in recordings}


def speak_all(path: Path, device: str, n_threads: int, clips: list[Clip], settings: dict, folder: Path) -> dict:
    """Speak every text that says something into folder/<id>.wav, in a process that has spoken nothing yet.

    settings: of Voice.speak. Returns "clips", {clip: phonemes, symbols, durations in seconds, and "spent": seconds to
    speak it, seconds spoken}; "cold", that of the very first call; "memory", as peak_memory().
    """
    torch.set_num_threads(n_threads)
    voice = Voice(checkpoint.load_voice(path), device)
    audio = voice.saved.config.audio
    found = {"clips": {}, "cold": None}
    for clip in bar(clips, len(clips), folder.name, True):
        try:
            if found["cold"] is None:
                found["cold"] = _speak(voice, clip, settings)[1]
            speech, spent = _speak(voice, clip, settings)
        except TextError:
            continue
        save_wav(folder / f"{clip.id}.wav", speech.wav, speech.sample_rate)
        found["clips"][clip.id] = {
            "spent": spent,
            "phonemes": speech.phonemes,
            "symbols": [label(i) for i in voice.front_end.to_ids(speech.phonemes)],
            "durations": [round(int(n) * audio.hop_length / audio.sample_rate, 4) for n in speech.durations],
        }
    return {**found, "memory": peak_memory()}


def _speak(voice, clip, settings):
    start = time.perf_counter()
    speech = voice.speak(clip.text or "", **settings)
    return speech, (time.perf_counter() - start, speech.seconds)


def peak_memory() -> int | None:
    """The most main memory that this process has had, in bytes; None where the system does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    if found:  # first, since on Linux getrusage also counts what the process had that started this one
        return 1024 * int(found[1])
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def apart(function: Callable, *arguments):
    """What the function returns, called in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
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
    parser = argparse.ArgumentParser(description="Measure a voice beside the recordings.", allow_abbrev=False)
    parser.add_argument("-id", metavar="ID", help="the run; else the newest, or none with --systems or --metadata")
    parser.add_argument("-ckpt", type=int, metavar="STEP", help="the voice of this step; without it the newest")
    parser.add_argument("-n", dest="n_timesteps", type=int, nargs="+", default=[], metavar="N",
                        help="evaluations of the score network, beside the one step")  # fmt: skip
    parser.add_argument("--solver", choices=[name for name in SOLVERS if name != default_solver(1)],
                        help="for n over 1; without it dpm2m")  # fmt: skip
    parser.add_argument("--systems", nargs="+", default=[], metavar="NAME=DIR", help="folders with <id>.wav each")
    parser.add_argument("--metadata", type=Path, metavar="FILE", help="id|text a line, instead of the corpus's texts")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="the clips; without it the test list, or all texts")
    parser.add_argument("--wavs", type=Path, metavar="DIR", help="the recordings, instead of the corpus's")
    parser.add_argument("--against", default="recording", metavar="NAME", help="the system that others differ from")
    parser.add_argument("--page", action="store_true", help="only index.html: of the report in DIR, or, "
                        "without measures, of what --systems, --metadata, --wavs or -id name")  # fmt: skip
    parser.add_argument("--page-clips", type=int, default=24, metavar="N", help="sentences on the page at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="where the voice speaks"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch while the voice speaks")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="the report and the WAVs")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    args.command = shlex.join(["python", "evaluate.py", *(sys.argv[1:] if argv is None else argv)])
    args.from_report = args.page and not (args.id or args.systems or args.metadata or args.wavs or args.ids)
    args.with_voice = args.id is not None or not (args.systems or args.metadata or args.from_report)
    if (args.n_timesteps or args.ckpt is not None) and not args.with_voice:
        parser.error("-n and -ckpt are for a voice: name its run with -id")
    if args.solver is not None and max(args.n_timesteps, default=1) == 1:
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
    """What a former evaluation left in its folder. Raises EvaluationError."""
    report = read_json(folder / "report.json")
    if not isinstance(report, dict) or "against" not in report.get("about", {}):
        raise EvaluationError(f"{folder / 'report.json'}: not there, or no report of this version: evaluate first, "
                              "or name WAVs with --systems and their texts with --metadata")  # fmt: skip
    return report


def evaluate(args: argparse.Namespace) -> dict:
    """Synthesise, and measure unless args.page is set. Returns what report.json holds."""
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    voice, about_voice = _load_voice(args) if args.with_voice else (None, None)
    config = configuration.load() if voice is None else voice.saved.config
    clips = clips_of(args, config)
    steps = {"one_step" if n == 1 else f"n{n}": n for n in sorted({1, *args.n_timesteps})} if voice else {}
    own = ["copy", *steps] if voice else []
    named = named_systems(args.systems, {"recording", "copy", *steps}, clips)
    if args.against not in ("recording", *own, *named):
        known = ", ".join(("recording", *own, *named))
        raise EvaluationError(f"--against {args.against}: no such system (there are: {known})")

    recordings = {clip.id: clip.wav_path for clip in clips if clip.wav_path.is_file()}
    systems, spoken = {"recording": recordings}, {}
    if voice is not None:
        systems["copy"] = copy_all(voice, recordings, args.out / "copy")
    for name, n_timesteps in steps.items():
        settings = {"n_timesteps": n_timesteps, "solver": None if n_timesteps == 1 else args.solver, "seed": args.seed}
        spoken[name] = apart(speak_all, voice.saved.path, args.device, torch.get_num_threads(), clips, settings,
                             args.out / name)  # fmt: skip
        systems[name] = {clip: args.out / name / f"{clip}.wav" for clip in spoken[name]["clips"]}
    systems = {name: wavs for name, wavs in (systems | named).items() if wavs}
    if not systems:
        raise EvaluationError(f"no recording of {len(clips)} clips, {clips[0].wav_path} for one, and nothing else to "
                              "measure: name WAVs with --systems, --wavs, or a run with -id")  # fmt: skip
    about = {"clips": len(clips), "seed": args.seed, "threads": torch.get_num_threads(), "command": args.command,
             "against": args.against, "device": device_name(args.device) if voice else None}  # fmt: skip
    found = _found(clips, systems, spoken, config, args)
    return {
        "about": {**about, "voice": about_voice},
        "systems": _summaries(found, systems, spoken, args),
        "clips": found,
    }


def _found(clips, systems, spoken, config, args):
    """{clip: {"text", "systems": {system: what measure() and speak_all() give, with the path of the WAV}}}."""
    english = config.text.language.startswith("en")  # the recogniser knows no other language
    jobs = [
        Job(
            letters(clip.text or "") if english and not args.page else "",
            {name: wavs[clip.id] for name, wavs in systems.items() if clip.id in wavs},
            config,
        )
        for clip in clips
    ]
    results = map(listen, jobs) if args.page else bar(measure_all(jobs), len(jobs), "measures", True)
    found = {}
    for clip, job, one in zip(clips, jobs, results):
        for name, of_system in one.items():
            of_system["wav"] = _path_from(args.out, job.wavs[name])
            if name in spoken:
                said = spoken[name]["clips"][clip.id]
                of_system["pairs"]["real_time_factor"] = said["spent"]
                of_system.update({key: said[key] for key in ("phonemes", "symbols", "durations")})
        found[clip.id] = {"text": clip.text, "systems": one}
    return found


def _path_from(folder, path):
    """Within the folder relative to it, so that both may move together, else absolute."""
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _summaries(found, systems, spoken, args):
    """{system: its measures and differences over all clips, how many it has and how many not}."""
    compared = [name for name in DIFFERENCES if args.against != "recording" or name not in BESIDE]
    summaries = {}
    for name, wavs in systems.items():
        of_clips = [[one["systems"].get(of, {"pairs": {}})["pairs"] for one in found.values()]
                    for of in (name, args.against)]  # fmt: skip
        measures, differences = summarise(*of_clips, args.seed, compared)
        if name in spoken:
            cold, memory = spoken[name]["cold"], spoken[name]["memory"]
            for measure_name, value in ("real_time_factor_cold", cold[0] / cold[1]), ("memory", memory):
                measures[measure_name] = {"value": value, "low": None, "high": None, "clips": 1}
        counts = {"clips": len(wavs), "missing": len(found) - len(wavs)}
        summaries[name] = {**counts, "measures": measures, "differences": differences}
    return summaries


def _load_voice(args):
    folder = newest_run() if args.id is None else checkpoint.RUNS / args.id
    voice = Voice(checkpoint.load_voice(checkpoint.find(folder, "voice", args.ckpt)), args.device)
    n_parameters = sum(parameter.numel() for parameter in voice.model.parameters())
    several = max(args.n_timesteps, default=1)
    solver = None if several == 1 else args.solver or default_solver(several)
    return voice, {"run": folder.name, "step": voice.saved.step, "parameters": n_parameters, "solver": solver}


def _check_packages():
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise EvaluationError(f"{', '.join(missing)} not installed: pip install -r requirements-extra.txt")


def _check_folder(argument, folder):
    if not folder.is_dir():
        raise EvaluationError(f"{argument}: no folder {folder}")


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one clear line on standard error."""
    args = parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        report = run(args)
    except (ValueError, OSError, RuntimeError) as error:
        if args.debug:
            raise
        print(f"evaluate.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    if not args.page:
        print(markdown(report), end="")
        print(f"{args.out / 'report.md'} and report.json")
    print(f"{args.out / 'index.html'}, {(args.out / 'index.html').stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
