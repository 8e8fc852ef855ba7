"""Clips of a metafile, made ready for training: features, phonemes and symbol ids, kept by content in dataset.cache."""

import importlib.metadata
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import text
from data_util.audio import AudioError, load_wav
from data_util.config import ROOT, Config, Text
from data_util.features import Each, Features, FeatureStore, bar, digest, n_cpus, statistics
from data_util.tables import Finder
from runtime.files import read_json, write_json
from runtime.text_files import TextFileError, read_text

QUARANTINE = "quarantine.txt"  # in the corpus's folder: id|reason of clips that are left out
MIN_FRAMES = 2  # a shorter clip has no frame that sees only itself
_A_LINE = "an id of metadata.csv, name.wav|text or name.wav|speaker|text"
TEXTS_A_CALL = 256  # phonemised between two moves of the progress bar
log = logging.getLogger(__name__)


class MetafileError(ValueError):
    """A list of clips, or the corpus it speaks of, that cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Clip:
    """id: as skipped.txt and logs have it; text: as written, None where metadata.csv has no line for the id; speaker:
    "" where the list names none."""

    id: str
    wav_path: Path
    text: str | None
    speaker: str = ""


@dataclass(kw_only=True, eq=False, repr=False)
class Corpus:
    """Prepared clips, in the metafile's order.

    n_frames: (n_clips,) int64; mels: the clips' features as a sequence that reads on access; has_f0: prepared with F0.
    """

    clips: list[Clip]
    ids: list[np.ndarray]  # (T_x,) int64 symbol ids each
    features: list[Features]
    symbols: tuple[str, ...]  # what an id means
    skipped: list[tuple[str, str]]  # (id, reason) of the clips left out
    store: FeatureStore
    speakers: np.ndarray  # (n_clips,) int64 indices of speakers.names, 0 for a single voice
    # (T_x,) int64 frames a symbol, one array a clip that sums to its n_frames, None before the alignment; batches()
    # hands out those that are set when it is called
    durations: list[np.ndarray] | None = None

    def __post_init__(self):
        self.n_frames = np.array([one.n_frames for one in self.features], dtype=np.int64)
        self.mels = Each(self.mel, range(len(self.clips)))
        self.has_f0 = self.store.pitch is not None
        self._keys = [one.key for one in self.features]

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def content(self) -> str:
        """A digest of what the clips hold and say, for whoever keeps something that was made of all of them."""
        return digest(*self._keys, *(ids.tobytes().hex() for ids in self.ids))

    def mel(self, index: int) -> np.ndarray:
        """(n_mels, T_mel) float32, natural log of amplitude. A damaged cache is mended; else raises AudioError."""
        return self._feature(index, "mel")

    def f0(self, index: int) -> np.ndarray:
        """(2, T_mel) float32: natural log of F0 in Hz, a line without gaps, then voicing, 0 or 1. Mends as mel() does.

        Raises ValueError where the corpus was prepared without F0.
        """
        self._require_f0()
        return self._feature(index, "f0")

    def wav(self, index: int, start_frame: int = 0, n_frames: int | None = None) -> np.ndarray:
        """Samples of whole frames: (n_frames * hop_length,) float32 in [-1, 1], fewer where the clip ends first.

        n_frames: None for all that follow. Frame i is samples [hop_length * i, hop_length * (i + 1)).
        Raises AudioError where the recording is gone or shorter than it was.
        """
        hop_length, n_left = self.store.audio.hop_length, max(int(self.n_frames[index]) - start_frame, 0)
        n_samples = hop_length * (n_left if n_frames is None else min(n_frames, n_left))
        path = self.clips[index].wav_path
        wav = load_wav(path, self.store.audio.sample_rate, hop_length * start_frame, n_samples)
        if len(wav) < n_samples:
            raise AudioError(f"{path}: shorter than when it was prepared")
        return wav

    def statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of all bands and frames of the corpus, kept in the cache."""
        return statistics(self.store.folders["mel"], self._keys, self.mels)

    def f0_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of log F0 over the voiced frames of the corpus, kept in the cache.

        Raises ValueError where the corpus was prepared without F0, or has no voiced frame.
        """
        self._require_f0()
        contours = (self.f0(index) for index in range(len(self)))
        voiced = (log_f0[voicing > 0] for log_f0, voicing in contours)
        try:
            return statistics(self.store.folders["f0"], self._keys, voiced)
        except ValueError as error:
            right = "pitch.f_min and pitch.f_max must be about a voice that is heard in them"
            raise ValueError(f"{len(self)} recordings without a voiced frame: {right}") from error

    def subset(self, indices: Sequence[int]) -> "Corpus":
        """The same corpus with only the clips at these indices, in their order, and with their durations if there are
        any. Its statistics and its content are its own, and nothing of it was skipped."""
        return replace(
            self,
            clips=[self.clips[i] for i in indices],
            ids=[self.ids[i] for i in indices],
            features=[self.features[i] for i in indices],
            skipped=[],
            speakers=self.speakers[list(indices)],
            durations=None if self.durations is None else [self.durations[i] for i in indices],
        )

    def _feature(self, index, feature):
        key, n_frames, path = self._keys[index], int(self.n_frames[index]), self.clips[index].wav_path
        array = self.store.read(feature, key, n_frames)
        if array is None and self.store.make(path).key == key:
            array = self.store.read(feature, key, n_frames)
        if array is None:
            raise AudioError(f"{path}: changed or unreadable since it was prepared", "missing")
        return array

    def _require_f0(self):
        if not self.has_f0:
            raise ValueError("this corpus was prepared without F0, as a configuration asks that does not train on it")


def prepare(config: Config, metafile: str | Path, *, progress: bool = True) -> Corpus:
    """Read a metafile and make its clips ready; what the cache has is not made again.

    metafile: a path, relative to the project's folder, as dataset.prtpath and dataset.cache are; progress: show a bar
    where there is work. Faulty clips are left out, listed in Corpus.skipped, and summed up in one log line.
    Raises MetafileError where no clip is left, OSError where the cache cannot be written.
    """
    clips = read_metafile(ROOT / metafile, ROOT / config.dataset.prtpath)
    several = sorted({clip.speaker for clip in clips})
    if len(several) > 1 and not config.speakers.names:
        raise MetafileError(
            f"{metafile}: names several speakers ({', '.join(several)[:200]}): list them in speakers.names"
        )
    cache = ROOT / config.dataset.cache
    front_end = make_front_end(config.text)
    phonemes = _phonemise(front_end, config.text, [clip.text or "" for clip in clips], cache, progress)
    store = FeatureStore(cache, config.audio, config.pitch if config.with_f0 else None)
    speaking = {clip.wav_path for clip, said in zip(clips, phonemes) if said}
    features = store.prepare(sorted(speaking), 0 if config.system.num_workers == 0 else n_cpus(), progress)
    good: list[tuple[Clip, np.ndarray, Features]] = []
    skipped: list[tuple[str, str]] = []
    quarantined, names = read_quarantine(ROOT / config.dataset.prtpath), config.speakers.names
    for clip, said in zip(clips, phonemes):
        found = features.get(clip.wav_path, Features())
        ids = _ids(front_end, said)
        fault = quarantined.get(clip.id) or speaker_fault(clip.speaker, names) or _fault(clip, ids, found)
        if fault:
            skipped.append((clip.id, fault))
        else:
            good.append((clip, ids, found))
    _report(metafile, good, skipped, config.audio)
    good_clips, good_ids, good_features = map(list, zip(*good))
    speakers = np.array([names.index(clip.speaker) if names else 0 for clip in good_clips], dtype=np.int64)
    return Corpus(clips=good_clips, ids=good_ids, features=good_features, symbols=tuple(front_end.symbols),
                  skipped=skipped, store=store, speakers=speakers)  # fmt: skip


def read_quarantine(root: Path) -> dict[str, str]:
    """{clip id: why it is left out} of a corpus's quarantine.txt; empty where there is none."""
    path = root / QUARANTINE
    if not path.is_file():
        return {}
    lines = (line.partition("|") for _, line in _lines(path, "") if not line.startswith("# "))
    return {name.strip(): f"quarantined: {why.strip() or 'by hand'}" for name, _, why in lines}


def speaker_fault(speaker: str, names: Sequence[str]) -> str:
    """Why a clip's speaker cannot be used, "" where it can. names: speakers.names."""
    if not names:
        return ""  # lists may name who speaks where it makes no difference
    if not speaker:
        return "no speaker, and speakers.names has several"
    return "" if speaker in names else f"speaker {speaker} is not in speakers.names"


def read_metafile(path: str | Path, corpus_root: str | Path) -> list[Clip]:
    """One clip a line: an id of corpus_root/metadata.csv, `name.wav|text` or `name.wav|speaker|text`; blank lines do
    not count.

    tables.Finder says where the recording of a name is; where it is nowhere, the clip has the first path that was
    tried. Recordings are not looked into here.
    Raises MetafileError: a list that is missing, empty or malformed, a corpus that is not there.
    """
    path, root = Path(path), Path(corpus_root)
    lines = _lines(path, f"Name a list of clips in dataset.metafile_*, one a line: {_A_LINE}")
    if not lines:
        raise MetafileError(f"{path}: no clips. Write one a line: {_A_LINE}")
    needs_root = [line for _, line in lines if not Path(line.split("|")[0]).is_absolute()]
    if needs_root and not root.is_dir():
        raise MetafileError(
            f"{root}: no such folder. Set dataset.prtpath to the corpus (LJSpeech is to be had at "
            "https://keithito.com/LJ-Speech-Dataset/), or train with -c demo, which needs none"
        )
    transcripts = read_transcripts(root / "metadata.csv") if any("|" not in line for _, line in lines) else {}
    clips, find = [], Finder(root)
    for number, line in lines:
        name, *rest = (part.strip() for part in line.split("|"))
        if not rest:
            path_of = find(f"{name}.wav") or find.first(f"{name}.wav")
            clips.append(Clip(name, path_of, transcripts.get(name)))
        elif len(rest) <= 2 and name:
            path_of = find(name) or find.first(name)
            clips.append(Clip(str(Path(name).with_suffix("")), path_of, rest[-1], "".join(rest[:-1])))
        else:
            raise MetafileError(f"{path}:{number}: expected {_A_LINE}; found {line!r}")
    return clips


def file_names(clips: Sequence[Clip]) -> list[str]:
    """What files of clips are called: the last part of their ids, or all of it where these are alike."""
    names = [Path(clip.id).name for clip in clips]
    return names if len(set(names)) == len(names) else [clip.id.replace("/", "_") for clip in clips]


def read_transcripts(path: Path) -> dict[str, str]:
    """LJSpeech's metadata.csv, `id|raw|normalised`, quotes read as they stand: the last that is not empty of each id.

    Raises MetafileError: missing, empty, no text file, or a line without a text.
    """
    transcripts, advice = {}, "Set dataset.prtpath to a folder that has it and wavs/, or use data_util.prepare"
    for number, line in _lines(path, advice):
        name, *texts = (part.strip() for part in line.split("|"))
        if not name or not 1 <= len(texts) <= 2:
            raise MetafileError(f"{path}:{number}: expected id|raw text|normalised text; found {line!r}")
        transcripts[name] = texts[-1] or texts[0]
    if not transcripts:
        raise MetafileError(f"{path}: no lines. Write id|raw text|normalised text for each recording")
    return transcripts


def make_front_end(section: Text, lexicon: str | Path | None = None) -> text.FrontEnd:
    """The front end that a configuration describes; lexicon: a file instead of its own. Raises TextError."""
    if lexicon is None and section.lexicon:
        lexicon = ROOT / section.lexicon
    return text.FrontEnd(language=section.language, units=section.units, phonemizer=section.phonemizer, lexicon=lexicon)


def _phonemise(front_end, section, texts, cache, progress):
    """Phonemes of each text, "" for one with nothing to say; kept by text, by all that the front end reads, and by its
    version."""
    lexicon = (ROOT / section.lexicon).read_bytes().hex() if section.lexicon else ""
    kept_by = digest(section.language, section.phonemizer, lexicon, _front_end_version())
    path = cache / "phonemes" / f"{kept_by[:16]}.json"
    known = read_json(path, {})
    todo = sorted({one for one in texts if one.strip()} - known.keys())
    made: dict[str, str] = {}
    try:
        calls = [todo[i : i + TEXTS_A_CALL] for i in range(0, len(todo), TEXTS_A_CALL)]
        for call in bar(calls, len(calls), "phonemes", progress):
            made.update(zip(call, front_end.phonemise_many(call), strict=True))
    finally:
        if made:
            write_json(path, read_json(path, {}) | made, durable=False)
        if made and section.phonemizer == "cmudict":
            _report_words(front_end.read_by_rule, path.with_suffix(".unknown.json"))
    return [(known | made).get(one, "") for one in texts]


def _report_words(unknown, path):
    """Keep the words that are read by rule, to be looked through, and say how many there are."""
    words = sorted(unknown | set(read_json(path, [])))
    write_json(path, words, durable=False)
    log.warning("%d words are not in CMUdict and were read by rule: see %s, and text.lexicon", len(words), path)


def _ids(front_end, phonemes):
    try:
        return np.array(front_end.to_ids(phonemes) if phonemes else [], dtype=np.int64)
    except text.TextError:  # phonemes, but none of them a symbol
        return np.array([], dtype=np.int64)


def _front_end_version():
    """A digest of the front end's own source and of the packages it asks: no version number to forget."""
    folder = Path(next(iter(text.__path__)))
    sources = [
        path.read_bytes().hex() for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc"
    ]
    versions = []
    for package in ("phonemizer", "espeakng-loader", "cmudict"):
        try:
            versions.append(importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            versions.append("")
    return digest(*sources, *versions)


def _fault(clip, ids, found):
    if clip.text is None:
        return "no transcript"
    if len(ids) == 0:
        return "nothing to say"
    if found.fault:
        return found.fault
    if found.n_frames < MIN_FRAMES:
        return f"under {MIN_FRAMES} frames"
    return "fewer frames than symbols" if found.n_frames < len(ids) else ""


def _report(metafile, good, skipped, audio):
    counts = Counter(reason for _, reason in skipped)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    if not good:
        raise MetafileError(f"{metafile}: none of its {len(skipped)} clips can be used ({reasons}). "
                            "Is dataset.prtpath the right corpus, and audio.sample_rate its rate?")  # fmt: skip
    hours = sum(found.n_frames for *_, found in good) * audio.hop_length / audio.sample_rate / 3600
    log.info("%s: %d clips, %.2f hours; skipped %d%s", metafile, len(good), hours, len(skipped),
             f": {reasons}" if skipped else "")  # fmt: skip


def _lines(path, advice):
    """(number, line) of the lines that are not blank. str.splitlines would also cut at characters inside a text."""
    try:
        lines = read_text(Path(path)).split("\n")
    except TextFileError as error:
        raise MetafileError(str(error)) from error
    except OSError as error:
        raise MetafileError(f"{path}: {error.strerror}. {advice}") from error
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
