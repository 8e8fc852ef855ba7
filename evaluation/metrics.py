"""What is measured of speech: beside its text, beside a recording of it, and by itself; and means over clips."""

import contextlib
import functools
import importlib.util
import io
import logging
import math
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.fft
import soundfile
import torch
import torchaudio.functional

from data_util.audio import load_wav
from data_util.config import Config
from data_util.features import compute_mel, n_cpus
from data_util.pitch import track_f0
from text import TextError, normalise

# the packages that each of them needs, of requirements-extra.txt
WHISPER = ("faster_whisper", "jiwer", "whisper_normalizer")
POCKETSPHINX = ("pocketsphinx", "jiwer", "whisper_normalizer")
DISTILLMOS = ("distillmos",)
SPEAKER = ("resemblyzer",)
NO_SPEAKER = "the speaker is not compared: pip install --no-deps Resemblyzer webrtcvad-wheels"
RATE = 16000  # Hz, of the recognisers, DistillMOS and the speaker encoder
DISTILLMOS_SECONDS = 8  # of a window of DistillMOS, which is wrong on shorter sounds
N_CEPSTRA = 13  # without the 0th, which is loudness
RESAMPLES = 2000  # of the clips, for an interval
CLIPS_A_PROCESS = 4  # fewer are not worth starting one, which takes seconds

log = logging.getLogger(__name__)
Pairs = dict[str, tuple[float, float]]  # of each measure: over clips, the sum of the first by that of the second


@dataclass(frozen=True)
class Measure:
    """heading: in the table; scale: the table's value by report.json's; digits: after the point; meaning: in a line;
    limits: what it does not tell, as a sentence."""

    heading: str
    scale: float
    digits: int
    meaning: str
    limits: str


MEASURES = {
    "cer": Measure("CER, %", 100, 1, "edits by the characters of the text, as the recogniser hears it",
                   "Recognisers err on recordings too, pocketsphinx much more than Whisper: read it beside theirs"),
    "wer": Measure("WER, %", 100, 1, "edits by the words", "A word that is half right is wrong"),
    "distillmos": Measure("DistillMOS", 1, 2, "quality as DistillMOS predicts that listeners rate it, 1 to 5",
                          "It knows neither the text nor the speaker"),
    "speaker": Measure("speaker", 1, 3, "cosine between the voice's embedding and the mean of those of the same "
                       "speaker's other recordings", "People score under 1 as well: read it beside the recordings'"),
    "mcd": Measure("MCD, dB", 1, 2, "mel-cepstral distortion along the best time warping, 0 for the same sound",
                   "Another good reading of the sentence is far as well"),
    "f0_rmse": Measure("ln F0 RMSE", 1, 3, "root mean square of the difference in ln F0 along that path, "
                       "where both are voiced", "Another good melody is far as well"),
    "voicing_error": Measure("V/UV, %", 100, 1, "frames along that path of which one alone is voiced",
                             "A pause elsewhere counts as much as a sound that lost its voice"),
    "duration": Measure("duration", 1, 3, "length by the recording's, mean of the clips",
                        "It says nothing of the rhythm within"),
    "duration_total": Measure("total", 1, 3, "length of all clips by that of their recordings",
                              "Too long and too short cancel out"),
    "f0_spread": Measure("F0 spread", 1, 3, "standard deviation of ln F0 within a clip: how lively the melody is",
                         "The melody need not fit the sentence, and mistakes of the tracker spread too"),
    "f0_spread_ratio": Measure("by recording", 1, 2, "mean F0 spread by that of the recordings", "As above"),
    "f0_shift": Measure("F0 shift, st", 1, 2, "mean ln F0 less the recording's, in semitones",
                        "It says nothing of the melody"),
    "global_variance": Measure("GV ratio", 1, 2, "global variance, that of the log-mel over time, by that of the "
                               "recordings: under 1 is blurred", "Noise in the pauses lowers it too"),
    "real_time_factor": Measure("RTF", 1, 3, "time to speak by time spoken, median of the clips after one to warm up",
                                "Of this machine's CPU, with whatever else it did then"),
    "real_time_factor_cold": Measure("RTF cold", 1, 3, "the same of the first call in a fresh process",
                                     "Without loading the voice"),
    "memory": Measure("memory, MB", 1e-6, 0, "the most main memory of the process that spoke, libraries included",
                      "Most of it is the libraries'"),
    "real_time_factor_gpu": Measure("RTF on GPU", 1, 4, "as RTF, where the GPU speaks", "One sentence at a time"),
    "real_time_factor_gpu_cold": Measure("RTF on GPU, cold", 1, 3, "the same of the first call in a fresh process",
                                         "Without loading the voice"),
    "memory_gpu": Measure("GPU memory, MB", 1e-6, 0, "the most GPU memory that torch's tensors had at a time",
                          "Without what CUDA itself takes"),
}  # fmt: skip


BESIDE = ("mcd", "f0_rmse", "voicing_error")  # a difference already, to the recording
DIFFERENCES = ("cer", "wer", "distillmos", "speaker", *BESIDE)  # also given as differences on the same clips
# what validation measures of what the voice speaks
WATCHED = ("cer", "distillmos", "speaker", "mcd", "voicing_error", "duration_total", "f0_spread_ratio",
           "global_variance")  # fmt: skip
BETTER_IF_MORE = ("distillmos", "speaker")


def missing_packages(names: Iterable[str] = (*WHISPER, *POCKETSPHINX, *DISTILLMOS)) -> list[str]:
    """Those of the packages that are not installed."""
    return [name for name in dict.fromkeys(names) if importlib.util.find_spec(name) is None]


# -- measures of one sound


def recogniser_name(model: str) -> str:
    """Who recognises where `model` is asked for: Whisper, or pocketsphinx, whose model comes with it, or "" for nobody.

    model: of faster-whisper, by its name, `base.en`, or a folder that has one.
    """
    if not missing_packages(WHISPER) and not isinstance(_whisper(model), str):
        return f"Whisper {Path(model).name}"
    return "" if missing_packages(POCKETSPHINX) else "pocketsphinx"


def recognise(wav: np.ndarray, sample_rate: int, model: str) -> str:
    """What an English recogniser hears, as of letters(); "" for nothing. What it heard before changes nothing.

    wav: (T_wav,) in [-1, 1]; model: as of recogniser_name.
    """
    resampled = _resample(wav, sample_rate)
    if recogniser_name(model) == "pocketsphinx":
        return _hear_by_pocketsphinx(resampled)
    segments, _ = _whisper(model).transcribe(resampled, language="en", beam_size=1)
    return letters(" ".join(segment.text for segment in segments))


def _hear_by_pocketsphinx(wav):
    decoder = _decoder()
    decoder.reinit_feat()  # forgets the noise that it learnt to take away
    decoder.start_utt()
    decoder.process_raw((wav * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    heard = decoder.hyp()
    # its dictionary has mr. and the like, which are abbreviations to normalise() with a capital only
    return letters(re.sub(r"\b[a-z]+\.", lambda word: word[0].title(), heard.hypstr)) if heard else ""


def letters(text: str) -> str:
    """The words of an English text as they are read aloud, in the letters a to z and single spaces; "" for none.

    British spellings become American ones where the package for it is installed.
    """
    try:
        words = normalise(text).lower().replace("'", "")
    except TextError:
        return ""
    plain = " ".join(re.sub("[^a-z]", " ", words).split())
    return plain if missing_packages(("whisper_normalizer",)) else _spelling()(plain)


def error_rates(reference: str, heard: str) -> Pairs:
    """Edits and how many there could be, of characters and of words. reference: not empty; both as of letters()."""
    import jiwer

    pairs = {}
    for name, count in ("cer", jiwer.process_characters), ("wer", jiwer.process_words):
        found = count(reference, heard)
        edits = found.substitutions + found.deletions + found.insertions
        pairs[name] = edits, found.hits + found.substitutions + found.deletions
    return pairs


def opinion(wav: np.ndarray, sample_rate: int) -> Pairs:
    """DistillMOS (Stahl and Gamper 2025), the mean of windows of 8 s; a shorter sound goes on from its beginning.

    wav: (T_wav,) in [-1, 1].
    """
    sound, size = torch.from_numpy(_resample(wav, sample_rate)), DISTILLMOS_SECONDS * RATE
    sound = sound.repeat(-(-size // len(sound))) if len(sound) < size else sound
    windows = sound.unfold(0, size, size)
    with torch.no_grad():
        return {"distillmos": (float(np.mean([_listener()(window[None]).item() for window in windows])), 1)}


def compare_speakers(clips: list[dict[str, dict]], speakers: Sequence[object]) -> None:
    """Give each sound of some clips its "speaker", the cosine between its "embedding", which is taken out, and the mean
    of the other clips' recordings by the same speaker, where there are any.

    clips: as measure_clip gives them; speakers: who says each.
    """
    embeddings = [{system: one.pop("embedding", None) for system, one in clip.items()} for clip in clips]
    for i, (clip, own) in enumerate(zip(clips, embeddings)):
        others = [one["recording"] for j, one in enumerate(embeddings)
                  if j != i and speakers[j] == speakers[i] and one.get("recording") is not None]  # fmt: skip
        mean = np.sum(others, axis=0)
        for system, embedding in own.items():
            if others and embedding is not None:
                clip[system]["pairs"]["speaker"] = float(embedding @ mean / np.linalg.norm(mean)), 1


def cepstra(mel: np.ndarray) -> np.ndarray:
    """mel: (n_mels, T_mel), natural log of amplitude. Returns (13, T_mel), the cosines' amplitudes from the 1st on."""
    return scipy.fft.dct(mel.astype(np.float64), type=2, axis=0)[1 : N_CEPSTRA + 1] / len(mel)


def warp(mel: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The path of dynamic time warping between cepstra: (n, 2), the frames of both that belong together.

    mel: (n_mels, T), other: (n_mels, T'), natural log of amplitude. Loudness does not count.
    """
    import librosa  # here, since it takes seconds to load, and training measures late

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
        return cls.of(read_wav(path, config.audio.sample_rate), config)

    @classmethod
    def of(cls, wav: np.ndarray, config: Config) -> "Sound":
        """wav: (T_wav,) in [-1, 1] at audio.sample_rate."""
        audio = config.audio
        framed = np.pad(wav, (0, max(audio.hop_length - len(wav), 0)))  # what is shorter still has a frame
        contour = track_f0(framed, audio, config.pitch)
        return cls(wav, audio.sample_rate, compute_mel(framed, audio), contour)

    @property
    def log_f0(self) -> np.ndarray:
        """(n,) of the voiced frames."""
        return self.contour[0, self.contour[1] > 0.5]

    @property
    def seconds(self) -> float:
        return len(self.wav) / self.sample_rate


def measure_alone(sound: Sound) -> Pairs:
    """The measures that need no recording and no text."""
    pairs = {} if missing_packages(DISTILLMOS) else opinion(sound.wav, sound.sample_rate)
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
        "global_variance": (float(sound.mel.var(axis=1).mean()), float(recording.mel.var(axis=1).mean())),
        **melody_errors(sound.contour, recording.contour, path),
    }
    if len(sound.log_f0) and len(recording.log_f0):
        pairs["f0_spread_ratio"] = float(sound.log_f0.std()), float(recording.log_f0.std())
        pairs["f0_shift"] = 12 / math.log(2) * float(sound.log_f0.mean() - recording.log_f0.mean()), 1
    return pairs


def embedding_of(sound: Sound) -> np.ndarray | None:
    """Whose voice it is, (256,) of length 1 (Wan et al. 2018, as Resemblyzer has it); None where nobody speaks, or the
    package is not installed."""
    if missing_packages(SPEAKER) or not sound.wav.any():
        return None
    import resemblyzer

    speech = resemblyzer.preprocess_wav(_resample(sound.wav, sound.sample_rate))  # of the same level, without pauses
    return _speaker_encoder().embed_utterance(speech) if len(speech) else None


def reference_of(text: str | None, language: str) -> str:
    """The letters that the recogniser is to hear, "" where there are none: it knows no language but English."""
    return letters(text or "") if language.startswith("en") else ""


def measure(sound: Sound, recording: Sound | None, reference: str, recogniser: str) -> dict:
    """All measures of one sound but those that need a package that is not installed: {"heard": letters, "pairs": Pairs,
    "embedding": as of embedding_of, for compare_speakers}.

    recording: of the same text, None where there is none; reference: as reference_of() gives it;
    recogniser: as of recogniser_name.
    """
    pairs, heard = measure_alone(sound), ""
    if recording is not None:
        pairs |= compare(sound, recording)
    if reference and recogniser_name(recogniser):
        heard = recognise(sound.wav, sound.sample_rate, recogniser)
        pairs |= error_rates(reference, heard)
    return {"heard": heard, "pairs": pairs, "embedding": embedding_of(sound)}


def read_wav(path: Path, sample_rate: int) -> np.ndarray:
    """A mono WAV of any rate as (T_wav,) in [-1, 1] at sample_rate, Hz. Raises AudioError."""
    try:
        own = soundfile.info(path).samplerate
    except soundfile.SoundFileError:
        own = sample_rate  # load_wav says what is wrong
    return _resample(load_wav(path, own), own, sample_rate)


def _resample(wav, sample_rate, wanted=RATE):
    resampled = torchaudio.functional.resample(torch.from_numpy(wav), sample_rate, wanted)
    return resampled.clamp(-1, 1).numpy()  # a resampled peak may stand a little over 1


@functools.cache
def _whisper(model):
    """The model, on one thread, or why it is not to be had."""
    from faster_whisper import WhisperModel

    try:
        return WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=1)
    except Exception as error:  # of the hub's, of the network's and of the file system's, each of its own kind
        why = " ".join(str(error).split())[:100]
        log.warning("Whisper %s is not to be had, pocketsphinx recognises: %s", model, why)
        return why


@functools.cache
def _listener():
    import distillmos

    with contextlib.redirect_stdout(io.StringIO()):  # it says where its weights are
        return distillmos.ConvTransformerSQAModel().eval()


@functools.cache
def _speaker_encoder():
    import resemblyzer

    return resemblyzer.VoiceEncoder("cpu", verbose=False)


@functools.cache
def _spelling():
    from whisper_normalizer.english import EnglishSpellingNormalizer

    return EnglishSpellingNormalizer()


@functools.cache
def _decoder():
    import pocketsphinx

    return pocketsphinx.Decoder(samprate=RATE, loglevel="FATAL")


# -- measures of all clips and systems


@dataclass(frozen=True)
class Job:
    """One clip: the letters to hear, as reference_of() gives them, and the WAV of every system that has it."""

    reference: str
    wavs: dict[str, Path]
    config: Config


def measure_clip(job: Job) -> dict[str, dict]:
    """{system: what measure() gives} of one clip. Raises AudioError."""
    sounds = {system: Sound.read(path, job.config) for system, path in job.wavs.items()}
    recording, recogniser = sounds.get("recording"), job.config.system.recogniser
    return {system: measure(sound, recording, job.reference, recogniser) for system, sound in sounds.items()}


def measure_all(jobs: list[Job]) -> Iterator[dict[str, dict]]:
    """measure_clip() of each, in order, in several processes where that is worth it."""
    n_processes = min(n_cpus(), len(jobs) // CLIPS_A_PROCESS)
    if n_processes < 2:
        yield from map(measure_clip, jobs)
        return
    context = multiprocessing.get_context("spawn")  # torch has threads already, which a fork would lose
    with ProcessPoolExecutor(n_processes, context, start_worker, (1,)) as pool:
        yield from pool.map(measure_clip, jobs)


def start_worker(n_threads: int | None = None) -> None:
    """What a process of a pool begins with: so many threads of torch, None: as many as it has, and a thread that ends
    it when the process that started it is gone, however that ended."""
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def pooled(clips: list[Pairs]) -> dict[str, float]:
    """{measure: value} over some clips: the sum of the first by that of the second, where that is not zero."""
    sums = {name: np.sum([one[name] for one in clips if name in one], axis=0) for name in MEASURES}
    return {name: float(pair[0] / pair[1]) for name, pair in sums.items() if np.any(pair) and pair[1]}


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
        if name in ("real_time_factor", "real_time_factor_gpu"):  # which one moment of a busy machine does not move
            found = {"value": float(np.median(pairs[:, 0] / pairs[:, 1])), "low": None, "high": None}
        else:
            found = bootstrap(pairs, lambda sums: sums[..., 0] / sums[..., 1], seed)
        measures[name] = {**found, "clips": len(pairs)}
        both = [one[name] + two[name] for one, two in zip(clips, others) if name in one and name in two]
        if name in compared and both:
            found = bootstrap(np.array(both, dtype=np.float64),
                              lambda sums: sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3], seed)  # fmt: skip
            differences[name] = {**found, "clips": len(both)}
    return measures, differences
