"""Long recordings, cut at pauses by their text: python -m training.cut SRC DEST, then data_util.prepare DEST CORPUS.

SRC is what data_util.prepare reads, and is only read. DEST gets wavs/, of clips that are at most --longest seconds,
metadata.txt, and cut.md, which names what could not be placed. Recordings that are short enough are taken as they are.

The flat start (training/initial_alignment.py) is fitted on the recordings and aligns each with its text, a window of
half a minute after the other; the cuts are chosen among the pauses that it finds between words.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import text
from data_util import prepare
from data_util.audio import AudioError, save_wav
from data_util.config import Config
from data_util.corpus import make_front_end
from data_util.corpus_readers import Recording
from data_util.features import bar, compute_mel
from evaluation import metrics
from runtime import command
from runtime.files import write_atomic
from text.symbols import BLANK, PAUSES, SYMBOLS, VOWELS, unpack
from training import initial_alignment
from training.initial_alignment import FlatStart

WINDOWS = (30.0, 45.0, 20.0)  # seconds that are aligned at once: memory and time grow with their square
FEW_MINUTES = 4.0  # of takes that are aligned with each of them
SURE = 0.6  # of a window's frames, whose alignment its end, where text and sound may not be the same, leaves alone
MINUTES = 20.0  # of recordings that a fit sees
SHORTEST = 1.0  # seconds of a clip
N_PASSES, N_COARSE = 5, 3  # fits, and how many of the first tell sounds only apart by their class
CLASSES = {"a": VOWELS, "s": "szʃʒʂʐɕʑ", "n": "mnɲŋɱɳɴlɫɭʎʟɹɻrɾɽʀjwʋɥ"}  # of sounds, by one that stands for them
OTHERS = "t"  # stands for all others
CUT_PAUSE = 0.15  # seconds of silence that a cut needs
KEPT = 0.15  # seconds of it that stay beside a cut, at most
USUAL = 8.0  # seconds of a clip
SENTENCE, CLAUSE = 1.0, 0.4  # what a cut after a sentence and after a clause is worth, in ln(seconds / USUAL) squared
TOO_LONG = 1e3  # what a clip costs that is too long or too short
WORST = {"Whisper": 0.3, "pocketsphinx": 0.7}  # share of a clip's characters that its recogniser may get wrong


class CutError(ValueError):
    """Recordings that cannot be cut; the message says what to do."""


@dataclass
class Take:
    """A recording with its features and its tokens: words with their marks, as the text has them.

    mel: (n_mels, T_mel) natural log of amplitude; ids: of each token, at least one; starts, ends: (n_tokens,) frames of
    each token's phones, once it is aligned.
    """

    recording: Recording
    mel: np.ndarray
    tokens: list[str]
    ids: list[np.ndarray]
    starts: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Span:
    """Tokens first to last, the last exclusive, of a take, and its frames start to end likewise."""

    first: int
    last: int
    start: int
    end: int


def make_take(recording: Recording, mel: np.ndarray, front_end: text.FrontEnd) -> Take:
    """mel: (n_mels, T_mel). A word without phonemes, such as a dash, becomes a part of the token before it."""
    words = (recording.text or "").split()
    tokens: list[str] = []
    ids: list[np.ndarray] = []
    for word, phonemes in zip(words, front_end.phonemise_many(words)):
        if phonemes:
            tokens.append(word)
            ids.append(np.trim_zeros(np.array(front_end.to_ids(phonemes), dtype=np.int64)))  # no blank at either end
        elif tokens:
            tokens[-1] += f" {word}"
    return Take(recording, mel, tokens, ids, *np.zeros((2, len(tokens)), dtype=np.int64))


# -- alignment


def align(takes: Sequence[Take], config: Config, progress: bool = False) -> dict[str, str]:
    """Give each take the starts and ends of its tokens. Of FEW_MINUTES or less the likeliest alignment of several is
    taken, which begin with windows of other lengths: a fit on little may end in one that is wrong.

    Returns why takes could not be aligned, by the names of their recordings.
    """
    rate = config.audio.sample_rate / config.audio.hop_length
    few = sum(take.mel.shape[1] for take in takes) <= FEW_MINUTES * 60 * rate
    best, kept, why = -math.inf, [], {}
    for seconds in WINDOWS if few else WINDOWS[:1]:
        score, failed = _align_by(round(seconds * rate), takes, config, progress)
        if score > best:
            best, kept, why = score, [(take.starts.copy(), take.ends.copy()) for take in takes], failed
    for take, (starts, ends) in zip(takes, kept):
        take.starts, take.ends = starts, ends
    return why


def _align_by(window, takes, config, progress):
    """The flat start is fitted on both ends of each take, whose sounds are only told apart by their class, then, when
    this has aligned all, on the clips that it gives, again and again. Returns the log-likelihood a frame under the last
    fit, and align's."""
    rate = config.audio.sample_rate / config.audio.hop_length
    failed = {take.recording.name: "no text that can be said" for take in takes if not take.tokens}
    pieces = [(take, span) for take in takes if take.tokens for span in _both_ends(take, window)]
    score = -math.inf
    for i in range(N_PASSES):
        of_class = i < N_COARSE
        model, score = _fit(pieces, of_class, config)
        todo = [take for take in takes if take.recording.name not in failed]
        for take in bar(todo, len(todo), f"alignment {i + 1} of {N_PASSES}", progress):
            try:
                align_take(model, take, window, of_class)
            except ValueError:
                failed[take.recording.name] = "fewer frames than symbols"
        todo = [take for take in todo if take.recording.name not in failed]
        pieces = [(take, span) for take in todo for span in cuts(take, rate, SHORTEST, WINDOWS[0])]
    return score, failed


def align_take(model: FlatStart, take: Take, window: int, of_class: bool = False) -> None:
    """Align a take with its text, `window` frames after the others, each from a pause in what was sure of the last.

    of_class: the model knows classes of sounds alone. Raises ValueError where a window has fewer frames than symbols.
    """
    token, frame = 0, 0
    while token < len(take.tokens):
        span = _next_window(take, token, frame, window)
        starts, ends = _align_window(model, take, span, of_class)
        last, end = span.last, span.end
        if last < len(take.tokens):
            sure = np.flatnonzero(starts[1:] < SURE * window)
            sure = sure[len(sure) // 2 :]
            chosen = int(sure[(starts[1:] - ends[:-1])[sure].argmax()]) if len(sure) else 0
            last, end = token + chosen + 1, frame + int(ends[chosen] + starts[chosen + 1]) // 2
        n = last - token
        take.starts[token:last], take.ends[token:last] = frame + starts[:n], frame + ends[:n]
        token, frame = last, end


def _next_window(take, token, frame, window):
    """What is left, or a window of it with the tokens that it has where all that is left is said at one rate."""
    n_frames, n_tokens = take.mel.shape[1], len(take.tokens)
    if n_frames - frame <= 1.5 * window:
        return Span(token, n_tokens, frame, n_frames)
    n_ids = np.cumsum([len(ids) for ids in take.ids[token:]])
    n = int(np.searchsorted(n_ids, n_ids[-1] * window / (n_frames - frame)))
    return Span(token, min(token + max(n, 2), n_tokens), frame, frame + window)


def _both_ends(take, window):
    """The first window and the last, of whose frames and tokens one end is known."""
    n_frames, n_tokens = take.mel.shape[1], len(take.tokens)
    first = _next_window(take, 0, 0, window)
    if first.last == n_tokens:
        return [first]
    return [first, Span(min(n_tokens - first.last, n_tokens - 1), n_tokens, n_frames - window, n_frames)]


def _ids(take, span, of_class):
    """(T_x,) between two blanks; of_class: each sound, but for pauses, replaced by one that stands for its class."""
    blank = [SYMBOLS.index(BLANK)]
    x = np.concatenate([blank, *take.ids[span.first : span.last], blank]).astype(np.int64)
    if of_class:
        symbols = unpack(x)[0]
        standing = [next((one for one, members in CLASSES.items() if SYMBOLS[i] in members), OTHERS) for i in symbols]
        x += np.where(np.isin(x, PAUSES), 0, [SYMBOLS.index(one) for one in standing] - symbols)
    return x


def _fit(pieces, of_class, config):
    """The flat start, on pieces drawn until they have MINUTES together, and their log-likelihood a frame."""
    drawn, total, n_frames = [], 0, MINUTES * 60 * config.audio.sample_rate / config.audio.hop_length
    for i in np.random.default_rng(config.system.seed).permutation(len(pieces)):
        take, span = pieces[i]
        x = _ids(take, span, of_class)
        if len(x) <= span.end - span.start and total < n_frames:
            drawn.append((take.mel[:, span.start : span.end], x))
            total += span.end - span.start
    if not drawn:
        raise CutError("no recording is long enough for its text: is it the right one?")
    mels, ids = zip(*drawn)
    model = initial_alignment.fit(mels, ids, units="phones", iterations=config.alignment.em_iterations)
    return model, model.objective[-1] / total


def _align_window(model, take, span, of_class):
    """(n_tokens,) starts and ends of the phones of a span's tokens, in frames from its start."""
    ((found, durations),) = model.align([take.mel[:, span.start : span.end]], [_ids(take, span, of_class)], 1)
    own = found != SYMBOLS.index(" ")  # without the pauses that the alignment has put in
    ends = np.cumsum(durations)[own]
    starts = ends - durations[own]
    ids = take.ids[span.first : span.last]
    tokens = np.repeat(np.arange(len(ids)), [len(one) for one in ids])
    said = np.flatnonzero(~np.isin(np.concatenate(ids), PAUSES))
    first = np.searchsorted(tokens[said], np.arange(len(ids)))
    last = np.append(first[1:], len(said)) - 1
    return starts[1 + said[first]], ends[1 + said[last]]  # after the blank at the beginning


# -- cuts


def cuts(take: Take, rate: float, shortest: float, longest: float) -> list[Span]:
    """The clips of an aligned take: cut at pauses, best at sentences' ends, each about USUAL seconds long.

    rate: frames a second; shortest, longest: seconds. A clip is longer than that where there is no pause to cut at.
    """
    n, n_frames = len(take.tokens), take.mel.shape[1]
    pauses = take.starts[1:] - take.ends[:-1]
    places = [0, *(1 + np.flatnonzero(pauses >= CUT_PAUSE * rate)), n]
    middles = np.array([0, *((take.ends[k - 1] + take.starts[k]) // 2 for k in places[1:-1]), n_frames])
    cost, back = [0.0], [0]
    for j in range(1, len(places)):
        seconds = (middles[j] - middles[:j]) / rate
        right = (seconds <= longest) & (seconds >= shortest)
        each = np.log(np.maximum(seconds, shortest) / USUAL) ** 2 + np.where(right, 0, TOO_LONG + seconds)
        total = np.array(cost) + each - _worth(take, places[j])
        back.append(int(total.argmin()))
        cost.append(float(total.min()))
    found, j, kept = [], len(places) - 1, round(KEPT * rate)
    while j > 0:
        i = back[j]
        first, last = int(places[i]), int(places[j])
        start = max(int(middles[i]), int(take.starts[first]) - kept) if i else 0
        end = min(int(middles[j]), int(take.ends[last - 1]) + kept) if last < n else n_frames
        found.append(Span(first, last, start, end))
        j = i
    return found[::-1]


def _worth(take, place):
    """Of a cut before a token, by the mark of the token before it."""
    mark = take.ids[place - 1][-1]
    if mark not in PAUSES:
        return 0.0
    return SENTENCE if SYMBOLS[mark] in ".?!" else CLAUSE


# -- what is written


class Check:
    """Whether a recogniser hears a clip's text, where there is one and the text is English. name: of it, or ""."""

    def __init__(self, config: Config):
        self.model, self.sample_rate = config.system.recogniser, config.audio.sample_rate
        can = config.text.language.startswith("en") and not metrics.missing_packages(("jiwer",))
        self.name = metrics.recogniser_name(self.model) if can else ""

    def __call__(self, wav: np.ndarray, said: str) -> str:
        """What is wrong with a clip, "" for nothing. wav: (T_wav,) in [-1, 1]."""
        reference = metrics.letters(said)
        if not self.name or not reference:
            return ""
        heard = metrics.recognise(wav, self.sample_rate, self.model)
        edits, n = metrics.error_rates(reference, heard)["cer"]
        wrong = edits > WORST[self.name.split()[0]] * n
        return f"{self.name} hears something else" if wrong else ""


@dataclass(frozen=True)
class Out:
    """Where clips go, with their settings; left_out: why, by name, recordings and clips are not there; names: of
    all recordings, casefolded."""

    folder: Path
    settings: prepare.Settings
    shortest: float
    longest: float
    left_out: dict[str, str]
    names: set[str]

    def cut_name(self, recording: Recording, number: int) -> str:
        """What a clip is called: as no recording is."""
        name = f"{recording.name}-{number:03d}"
        while name.casefold() in self.names:
            name += "-cut"
        return name

    def save(self, recording: Recording, wav: np.ndarray) -> Recording:
        path = self.folder / "wavs" / f"{recording.name}.wav"
        save_wav(path, wav, self.settings.sample_rate)
        return replace(recording, path=path)

    def read(self, recording: Recording) -> np.ndarray | None:
        """(T_wav,) as data_util.prepare has it, but of any length; None where it is left out."""
        try:
            return prepare.read_recording(recording, self.settings)[1]
        except AudioError as error:
            self.left_out[recording.name] = error.reason
            return None


def write_clips(take: Take, out: Out, hop_length: int, check: Check) -> list[Recording]:
    """Cut an aligned take; those clips that can be used."""
    wav, clips = out.read(take.recording), []
    if wav is None:  # the file has changed since it was aligned
        return []
    rate = out.settings.sample_rate / hop_length
    for i, span in enumerate(cuts(take, rate, out.shortest, out.longest)):
        said = " ".join(take.tokens[span.first : span.last])
        clip = replace(take.recording, name=out.cut_name(take.recording, i + 1), text=said)
        sound = wav[span.start * hop_length : span.end * hop_length if span.last < len(take.tokens) else len(wav)]
        seconds = (span.end - span.start) / rate
        fault = f"no pause in {seconds:.1f} s" if seconds > out.longest else check(sound, said)
        if fault:
            out.left_out[clip.name] = f"{fault}, from {span.start / rate:.1f} s to {span.end / rate:.1f} s: {said}"
        else:
            clips.append(out.save(clip, sound))
    return clips


# -- the command


def run(args: argparse.Namespace) -> None:
    source = prepare.read_source(args)
    config, settings = source.config, prepare.Settings(source.config.audio.sample_rate, longest=math.inf)
    out = Out(source.dest, settings, args.shortest, args.longest, dict(source.left_out),
              {one.name.casefold() for one in source.recordings})  # fmt: skip
    front_end = make_front_end(replace(config.text, units="phones"))
    progress = sys.stderr.isatty() or args.progress
    takes, clips = [], []
    for recording in bar(source.recordings, len(source.recordings), "recordings", progress):
        wav = out.read(recording)
        if wav is not None and len(wav) > args.longest * settings.sample_rate:
            takes.append(make_take(recording, compute_mel(wav, config.audio), front_end))
        elif wav is not None:
            clips.append(out.save(recording, wav))
    n_short = len(clips)
    if takes:
        out.left_out.update(align(takes, config, progress))
    check = Check(config)
    for take in bar(takes, len(takes), "cuts", progress):
        if take.recording.name not in out.left_out:
            clips += write_clips(take, out, config.audio.hop_length, check)
    if not clips:
        first = next((f"{name}: {why}" for name, why in out.left_out.items()), "nothing")
        raise CutError(
            f"{args.source}: none of its {len(source.recordings)} recordings can be used. The first is {first}"
        )
    prepare.write_lists({"metadata": clips}, source.dest, any(one.speaker for one in clips))
    lines = [f"{len(takes)} recordings over {args.longest:g} s, cut into {len(clips) - n_short} clips",
             f"{n_short} recordings taken as they are",
             f"{len(out.left_out)} recordings and clips left out",
             f"heard by: {check.name or 'nobody: install requirements-extra.txt for a recogniser'}"]  # fmt: skip
    named = [f"- {name}: {why}" for name, why in out.left_out.items()]
    report = ["# Cut recordings", "", *(f"- {line}" for line in lines), "", "## Left out", "", *named, ""]
    write_atomic(source.dest / "cut.md", "\n".join(report).encode())
    print("\n".join(lines))
    print(f"what was left out: {source.dest / 'cut.md'}")
    print(f"next: python -m data_util.prepare {shlex.quote(str(args.dest))} CORPUS")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training.cut", description=__doc__.splitlines()[0],
                                     allow_abbrev=False, formatter_class=command.Help)  # fmt: skip
    prepare.add_source(parser)
    parser.add_argument("--shortest", type=float, default=SHORTEST, help="seconds of a clip")
    parser.add_argument("--longest", type=float, default=prepare.Settings.longest, help="seconds of a clip")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status, as of command.exit_status."""
    args = parse_args(argv)
    return command.exit_status(run, args, "training.cut")


if __name__ == "__main__":
    sys.exit(main())
