"""When each phoneme and each word, as read and as written, is said: JSON, subtitles (SRT) and Praat's TextGrid."""

import html
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from text.english.normalise import TAGS
from text.markup import BREAK, uncommented
from text.symbols import BLANK, MARKS

CUE = 60  # characters of a subtitle at most, but for a longer word
CUE_PAUSE = 0.2  # seconds of silence at which a subtitle ends
_CLAUSES = re.compile(r"""[.,;:!?"()¡¿]+|(?<!\S)-+(?!\S)""")  # what normalised text and its phonemes have in common
_UNSEEN = re.compile(r"(?!\s)[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of characters
_PHONEMES = re.compile(r"\[\[\s*([^\[\]]*?)\s*\]\]")
_FURTHEST = 40  # words to look ahead for the next that is read as it is written
_AHEAD = sorted(itertools.product(range(_FURTHEST), repeat=2), key=lambda ahead: (sum(ahead), ahead))
_PAUSE = re.compile(f"{BREAK}|<break[^<>]*>")


@dataclass(frozen=True)
class Span:
    """Something that is said from start to end, seconds; label "" is silence."""

    start: float
    end: float
    label: str


def phoneme_spans(symbols: Sequence[str], durations: Sequence[int], frame: float) -> list[Span]:
    """Spans of the symbols that last, one after another from 0 to the end of the sound.

    symbols: T_x labels; durations: T_x frames; frame: seconds of one.
    """
    times = _times(durations, frame)
    labels = ["" if symbol in MARKS or symbol == BLANK else symbol for symbol in symbols]
    return _lasting(map(Span, times, times[1:], labels))


def word_spans(
    symbols: Sequence[str],
    words: Sequence[int | None],
    durations: Sequence[int],
    frame: float,
    labels: Sequence[tuple[str, int]],
) -> list[Span]:
    """Spans of the words and of the silences between, from 0 to the end of the sound.

    words: T_x, which word each symbol is of, None for none; symbols, durations, frame: as of phoneme_spans; labels: how
    words are written, as word_labels gives them; where they stand for another number of words, words are their symbols.
    """
    n_words = 1 + max((word for word in words if word is not None), default=-1)
    if sum(number for _, number in labels) != n_words:
        spelt = ["".join(a for a, b in zip(symbols, words) if b == word and a != BLANK) for word in range(n_words)]
        labels = [(one, 1) for one in spelt]
    label_of = [i for i, (_, number) in enumerate(labels) for _ in range(number)]  # each word
    symbols_of: dict[int, list[int]] = {}  # each label
    for i, word in enumerate(words):
        if word is not None:
            symbols_of.setdefault(label_of[word], []).append(i)
    times = _times(durations, frame)
    said = [Span(times[inside[0]], times[inside[-1] + 1], labels[i][0]) for i, inside in sorted(symbols_of.items())]
    return _with_silences(said, times[-1])


def word_labels(normalised: str, phonemes: str) -> list[tuple[str, int]]:
    """How the words of phonemes are written, each with the number of words in phonemes that it stands for.

    normalised: the text as it is read. Where a clause has fewer or more words than its phonemes (espeak-ng says "of
    the" as one) its words go together. Nothing where even the clauses differ.
    """
    written, said = ([clause.split() for clause in _clauses(one)] for one in (normalised, phonemes))
    if len(written) != len(said):
        return []
    labels: list[tuple[str, int]] = []
    for ours, theirs in zip(written, said):
        labels += zip(ours, [1] * len(ours)) if len(ours) == len(theirs) else [(" ".join(ours), len(theirs))]
    return labels


def written_spans(words: list[Span], text: str) -> list[Span]:
    """Spans of the words as the text has them, and of the silences between.

    words: what word_spans gives, of the words as they are read. Words that are read otherwise than written, "$5
    million", go together up to the next that is read as it is written.
    """
    spoken = [span for span in words if span.label]
    read = [(_plain(word), i) for i, span in enumerate(spoken) for word in span.label.split()]
    text = _UNSEEN.sub("", html.unescape(uncommented(text)))
    for tag in TAGS:
        text = tag.pattern.sub(" ", text)
    written = _PHONEMES.sub(r"[[\1]]", text).split()
    groups: list[list] = []  # first and last of spoken, label
    for ours, theirs in _aligned([_plain(word) for word in written], [word for word, _ in read]):
        first, last = read[theirs.start][1], read[theirs.stop - 1][1]
        label = " ".join(written[ours.start : ours.stop])
        if groups and first <= groups[-1][1]:  # of a clause that is said as one
            groups[-1][1:] = [max(last, groups[-1][1]), f"{groups[-1][2]} {label}".strip()]
        else:
            groups.append([first, last, label])
    said = [Span(spoken[first].start, spoken[last].end, label) for first, last, label in groups]
    return _with_silences(said, words[-1].end if words else 0.0)


def _times(durations, frame):
    """Seconds at which each symbol begins, and at which the last one ends."""
    return [n_frames * frame for n_frames in itertools.accumulate(map(int, durations), initial=0)]


def _with_silences(said, end):
    """Spans of what is said, and of the silences between, from 0 to the end of the sound."""
    spans, before = [], 0.0
    for span in said:
        spans += [Span(before, span.start, ""), span]
        before = span.end
    return _lasting([*spans, Span(before, end, "")])


def _lasting(spans):
    return [span for span in spans if span.end > span.start]


def _aligned(written, read):
    """Ranges of two lists of words that stand for each other: one equal word each, or all up to the next equal ones."""
    written, read, i, j = [*written, None], [*read, None], 0, 0  # both end alike
    while i < len(written):
        rest = len(written) - 1 - i, len(read) - 1 - j
        down, right = next(((d, r) for d, r in _AHEAD if d <= rest[0] and r <= rest[1]
                            and written[i + d] == read[j + r] != ""), rest)  # fmt: skip
        if right:
            yield range(i, i + down), range(j, j + right)
        i, j = i + down + 1, j + right + 1
        if i < len(written):
            yield range(i - 1, i), range(j - 1, j)


def _plain(word):
    return "".join(filter(str.isalnum, word)).lower()


def to_json(phonemes: list[Span], words: list[Span], written: list[Span]) -> str:
    """An object with "seconds", "phonemes", "words" and "written", each of these a list of start, end and label."""
    content = {"seconds": phonemes[-1].end, "phonemes": phonemes, "words": words, "written": written}
    return json.dumps(content, default=asdict, ensure_ascii=False, indent=1) + "\n"


def to_srt(_phonemes: list[Span], _words: list[Span], words: list[Span]) -> str:
    """Subtitles of the words as they are written, a new one after a silence and where a line is full."""
    cues: list[Span] = []
    goes_on = False
    for span in words:
        if not span.label:
            goes_on = goes_on and span.end - span.start < CUE_PAUSE
        elif goes_on and len(cues[-1].label) + 1 + len(span.label) <= CUE:
            cues[-1] = Span(cues[-1].start, span.end, f"{cues[-1].label} {span.label}")
        else:
            cues.append(span)
            goes_on = True
    return "\n".join(f"{i}\n{_clock(cue.start)} --> {_clock(cue.end)}\n{cue.label}\n" for i, cue in enumerate(cues, 1))


def to_textgrid(phonemes: list[Span], words: list[Span], written: list[Span]) -> str:
    """Praat's TextGrid, in its long form, with the tiers written, words and phonemes."""
    seconds = phonemes[-1].end
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {seconds:.6f}",
             "tiers? <exists>", "size = 3", "item []:"]  # fmt: skip
    for i, (name, spans) in enumerate((("written", written), ("words", words), ("phonemes", phonemes)), 1):
        lines += [f"    item [{i}]:", '        class = "IntervalTier"', f'        name = "{name}"', "        xmin = 0",
                  f"        xmax = {seconds:.6f}", f"        intervals: size = {len(spans)}"]  # fmt: skip
        for j, span in enumerate(spans, 1):
            label = span.label.replace('"', '""')
            lines += [f"        intervals [{j}]:", f"            xmin = {span.start:.6f}",
                      f"            xmax = {span.end:.6f}", f'            text = "{label}"']  # fmt: skip
    return "\n".join(lines) + "\n"


FORMATS = {"json": to_json, "srt": to_srt, "textgrid": to_textgrid}
SUFFIXES = {"json": ".json", "srt": ".srt", "textgrid": ".TextGrid"}


def _clauses(text):
    return [clause for clause in (" ".join(each.split()) for each in _CLAUSES.split(_PAUSE.sub(" ", text))) if clause]


def _clock(seconds):
    """hours:minutes:seconds,milliseconds."""
    total = round(1000 * seconds)
    return f"{total // 3_600_000:02d}:{total // 60_000 % 60:02d}:{total // 1000 % 60:02d},{total % 1000:03d}"
