"""The honest table: a voice, others and the recordings, measured alike: python evaluate.py -id ID -o DIR."""

import argparse
import dataclasses
import functools
import importlib.util
import logging
import math
import multiprocessing
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
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
from data_util.files import write_atomic, write_json
from data_util.pitch import track_f0
from sampling import Voice, newest_run
from text import TextError, normalise

PACKAGES = ("pocketsphinx", "jiwer", "speechmos", "onnxruntime", "requests")  # in requirements-extra.txt
JUDGE_RATE = 16000  # Hz, of the recogniser and of DNSMOS
N_CEPSTRA = 13  # without the 0th, which is loudness
RESAMPLES = 2000  # of the clips, for an interval
CLIPS_A_PROCESS = 4  # fewer are not worth starting one, which takes seconds
log = logging.getLogger(__name__)

Pairs = dict[str, tuple[float, float]]  # of each measure: over clips, the sum of the first by that of the second


class EvaluationError(ValueError):
    """Something that cannot be evaluated as it was asked for; the message says what to do."""


@dataclass(frozen=True)
class Measure:
    """heading: in the table; scale: the table's value by report.json's; digits: after the point; meaning: in a line."""

    heading: str
    scale: float
    digits: int
    meaning: str


MEASURES = {
    "cer": Measure("CER, %", 100, 1, "edits by the characters of the text, as pocketsphinx hears it"),
    "wer": Measure("WER, %", 100, 1, "edits by the words"),
    "dnsmos": Measure("DNSMOS", 1, 2, "overall quality as DNSMOS P.835 predicts it, 1 to 5"),
    "dnsmos_signal": Measure("signal", 1, 2, "its part about the speech"),
    "dnsmos_background": Measure("background", 1, 2, "its part about noise"),
    "mcd": Measure("MCD, dB", 1, 2, "mel-cepstral distortion along the best time warping"),
    "duration": Measure("duration", 1, 3, "length by the recording's, mean of the clips"),
    "duration_total": Measure("total", 1, 3, "length of all clips by that of their recordings"),
    "f0_spread": Measure("F0 spread", 1, 3, "standard deviation of ln F0 within a clip"),
    "f0_spread_ratio": Measure("by recording", 1, 2, "mean F0 spread by that of the recordings"),
    "f0_shift": Measure("F0 shift, st", 1, 2, "mean ln F0 less the recording's, in semitones"),
    "mel_variance": Measure("mel variance", 1, 2, "variance of the log-mel over time by that of the recordings"),
    "real_time_factor": Measure("RTF", 1, 3, "time to speak by time spoken, median of the clips after one to warm up"),
}
DIFFERENCES = ("cer", "wer", "dnsmos")  # also given as differences to the recordings of the same clips


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


def distortion(mel: np.ndarray, other: np.ndarray) -> float:
    """Mel-cepstral distortion (Kubichek 1993) in dB, the mean along the path of dynamic time warping.

    mel: (n_mels, T), other: (n_mels, T'), natural log of amplitude. Loudness does not count.
    """
    one, two = cepstra(mel), cepstra(other)
    _, path = librosa.sequence.dtw(one, two)  # (n, 2) frames of both
    gaps = one[:, path[:, 0]] - two[:, path[:, 1]]  # (13, n)
    return float(10 / math.log(10) * np.sqrt(2 * np.square(gaps).sum(axis=0)).mean())


@dataclass(frozen=True)
class Sound:
    """wav: (T_wav,) in [-1, 1]; mel: (n_mels, T_mel), natural log of amplitude; log_f0: of the voiced frames, Hz."""

    wav: np.ndarray
    sample_rate: int
    mel: np.ndarray
    log_f0: np.ndarray

    @classmethod
    def read(cls, path: Path, config: Config) -> "Sound":
        """A mono WAV of any rate, brought to audio.sample_rate. Raises AudioError."""
        audio = config.audio
        wav = read_wav(path, audio.sample_rate)
        framed = np.pad(wav, (0, max(audio.hop_length - len(wav), 0)))  # what is shorter still has a frame
        contour, voicing = track_f0(framed, audio, config.pitch)
        return cls(wav, audio.sample_rate, compute_mel(_spectrogram(audio), framed), contour[voicing > 0.5])

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
    pairs = {
        "mcd": (distortion(sound.mel, recording.mel), 1),
        "duration": (sound.seconds / recording.seconds, 1),
        "duration_total": (sound.seconds, recording.seconds),
        "mel_variance": (float(sound.mel.var(axis=1).mean()), float(recording.mel.var(axis=1).mean())),
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


def summarise(clips: list[Pairs], recordings: list[Pairs], seed: int) -> tuple[dict, dict]:
    """A system's measures, and their differences to the recordings of the same clips: {measure: value, low, high, n}.

    clips, recordings: the pairs of each clip, in the same order; {} where there is no such WAV.
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
        both = [one[name] + two[name] for one, two in zip(clips, recordings) if name in one and name in two]
        if name in DIFFERENCES and both:
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


def speak_all(voice: Voice, clips: list[Clip], n_timesteps: int, seed: int, folder: Path) -> dict[str, float]:
    """Speak every text that says something into folder/<id>.wav. Returns {clip: seconds that it took}."""
    speak = functools.partial(voice.speak, n_timesteps=n_timesteps, seed=seed)
    spent = {}
    for clip in bar(clips, len(clips), folder.name, True):
        try:
            if not spent:
                speak(clip.text or "")  # to warm up
            start = time.perf_counter()
            speech = speak(clip.text or "")
        except TextError:
            continue
        spent[clip.id] = time.perf_counter() - start
        save_wav(folder / f"{clip.id}.wav", speech.wav, speech.sample_rate)
    return spent


# -- the report


def table(report: dict, part: str, names: list[str]) -> list[str]:
    """Lines of Markdown: a row for each system, a column for each measure. part: measures or differences."""
    lines = ["| system | clips | " + " | ".join(MEASURES[name].heading for name in names) + " |"]
    lines.append("|---|" + "---:|" * (len(names) + 1))
    for system, one in report["systems"].items():
        cells = [_cell(MEASURES[name], one[part].get(name)) for name in names]
        lines.append("| " + " | ".join([system, str(one["clips"]), *cells]) + " |")
    return lines


def _cell(measure, found):
    if found is None or found["value"] is None:
        return "–"
    value, low, high = (
        None if found[key] is None else f"{found[key] * measure.scale:.{measure.digits}f}"
        for key in ("value", "low", "high")
    )
    return value if low is None else f"{value} [{low}, {high}]"


def markdown(report: dict) -> str:
    """The report for people: a header, the table, what its columns mean, the differences to the recordings."""
    about, voice = report["about"], report["about"]["voice"]
    names = [name for name in MEASURES if any(name in one["measures"] for one in report["systems"].values())]
    lines = ["# Evaluation", "", f"- clips: {about['clips']}, seed {about['seed']}, {about['threads']} torch threads"]
    if voice is not None:
        lines.append(f"- voice: run {voice['run']}, step {voice['step']}, {voice['parameters']:,} parameters")
    missing = [f"{system} {one['missing']}" for system, one in report["systems"].items() if one["missing"]]
    if missing:
        lines.append(f"- clips that a system does not have: {', '.join(missing)}")
    lines += [f"- command: `{about['command']}`", "", *table(report, "measures", names), ""]
    lines += ["In brackets: 95% intervals, bootstrapped over the clips.", ""]
    lines += [f"- {MEASURES[name].heading}: {MEASURES[name].meaning}" for name in names]
    compared = [name for name in DIFFERENCES if any(name in one["differences"] for one in report["systems"].values())]
    if compared:
        lines += ["", "## Differences to the recordings of the same clips", ""]
        lines += table(report, "differences", compared)
    return "\n".join(lines) + "\n"


# -- the command


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a voice beside the recordings.", allow_abbrev=False)
    parser.add_argument("-id", metavar="ID", help="the run; else the newest, or none with --systems or --metadata")
    parser.add_argument("-ckpt", type=int, metavar="STEP", help="the voice of this step; without it the newest")
    parser.add_argument("-n", dest="n_timesteps", type=int, nargs="+", default=[], metavar="N",
                        help="evaluations of the score network, beside the one step")  # fmt: skip
    parser.add_argument("--systems", nargs="+", default=[], metavar="NAME=DIR", help="folders with <id>.wav each")
    parser.add_argument("--metadata", type=Path, metavar="FILE", help="id|text a line, instead of the corpus's texts")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="the clips; without it the test list, or all texts")
    parser.add_argument("--wavs", type=Path, metavar="DIR", help="the recordings, instead of the corpus's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch while the voice speaks")
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DIR", help="the report and the WAVs")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    args.command = shlex.join(["python", "evaluate.py", *(sys.argv[1:] if argv is None else argv)])
    args.with_voice = args.id is not None or not (args.systems or args.metadata)
    if (args.n_timesteps or args.ckpt is not None) and not args.with_voice:
        parser.error("-n and -ckpt are for a voice: name its run with -id")
    if min(args.n_timesteps, default=1) < 1 or (args.threads is not None and args.threads < 1) or args.seed < 0:
        parser.error("-n and --threads must be at least 1, --seed at least 0")
    return args


def run(args: argparse.Namespace) -> dict:
    """Synthesise, measure, write the report. Returns what report.json holds."""
    _check_packages()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    voice, about_voice = _load_voice(args) if args.with_voice else (None, None)
    config = configuration.load() if voice is None else voice.saved.config
    clips = clips_of(args, config)
    steps = {"one_step" if n == 1 else f"n{n}": n for n in sorted({1, *args.n_timesteps})} if voice else {}
    named = named_systems(args.systems, {"recording", "copy", *steps}, clips)

    recordings = {clip.id: clip.wav_path for clip in clips if clip.wav_path.is_file()}
    systems, spent = {"recording": recordings}, {}
    if voice is not None:
        systems["copy"] = copy_all(voice, recordings, args.out / "copy")
    for name, n_timesteps in steps.items():
        spent[name] = speak_all(voice, clips, n_timesteps, args.seed, args.out / name)
        systems[name] = {clip: args.out / name / f"{clip}.wav" for clip in spent[name]}
    systems = {name: wavs for name, wavs in (systems | named).items() if wavs}
    if not systems:
        raise EvaluationError(f"no recording of {len(clips)} clips, {clips[0].wav_path} for one, and nothing else to "
                              "measure: name WAVs with --systems, --wavs, or a run with -id")  # fmt: skip

    found = _measured(clips, systems, spent, config)
    about = {"clips": len(clips), "seed": args.seed, "threads": torch.get_num_threads(), "command": args.command}
    report = {"about": {**about, "voice": about_voice}, "systems": {}, "clips": found}
    for name, wavs in systems.items():
        of_clips = [[one["systems"].get(of, {"pairs": {}})["pairs"] for one in found.values()]
                    for of in (name, "recording")]  # fmt: skip
        measures, differences = summarise(*of_clips, args.seed)
        counts = {"clips": len(wavs), "missing": len(clips) - len(wavs)}
        report["systems"][name] = {**counts, "measures": measures, "differences": differences}
    write_json(args.out / "report.json", report)
    write_atomic(args.out / "report.md", markdown(report).encode("utf-8"))
    return report


def _measured(clips, systems, spent, config):
    """{clip: {"text", "systems": {system: what measure() gives, with the path of the WAV}}}."""
    english = config.text.language.startswith("en")  # the recogniser knows no other language
    jobs = [
        Job(
            letters(clip.text or "") if english else "",
            {name: wavs[clip.id] for name, wavs in systems.items() if clip.id in wavs},
            config,
        )
        for clip in clips
    ]
    found = {}
    for clip, job, one in zip(clips, jobs, bar(measure_all(jobs), len(jobs), "measures", True)):
        for name, of_system in one.items():
            of_system["wav"] = str(job.wavs[name])
            if name in spent:
                of_system["pairs"]["real_time_factor"] = spent[name][clip.id], soundfile.info(job.wavs[name]).duration
        found[clip.id] = {"text": clip.text, "systems": one}
    return found


def _load_voice(args):
    folder = newest_run() if args.id is None else checkpoint.RUNS / args.id
    voice = Voice(checkpoint.load_voice(checkpoint.find(folder, "voice", args.ckpt)))
    n_parameters = sum(parameter.numel() for parameter in voice.model.parameters())
    return voice, {"run": folder.name, "step": voice.saved.step, "parameters": n_parameters}


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
    print(markdown(report), end="")
    print(f"{args.out / 'report.md'} and report.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
