"""How often the normaliser says what people say.

Of lines `id|as written|as spoken`, as LJSpeech's metadata.csv has them, or of a table of cases: columns class, input
and wanted, apart by tabs, with `||` between readings that are as good.
"""

import collections
import csv
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import NamedTuple

from text.errors import TextError

# People leave some of these written, and write others out: both are the same here.
_SAME = {
    "saint": "st", "street": "st", "mister": "mr", "missus": "mrs", "misses": "mrs", "misess": "mrs", "doctor": "dr",
    "lieutenant": "lt", "captain": "capt", "colonel": "col", "general": "gen", "major": "maj", "sergeant": "sgt",
    "company": "co", "junior": "jr", "senior": "sr", "reverend": "rev", "honorable": "hon", "esquire": "esq",
    "number": "no", "fort": "ft", "feet": "ft", "foot": "ft", "section": "sec", "avenue": "ave",
}  # fmt: skip
_CASE = ("class", "input", "wanted")  # columns of a table of cases
_HALF = re.compile(r"\b([ap])\.? ?m\b\.?")  # p.m., pm and PM


class Miss(NamedTuple):
    """A line that was normalised to other words than people's."""

    name: str
    written: str
    wanted: str
    got: str


def words(text: str) -> list[str]:
    """What counts when two spoken texts are compared: no case, punctuation or hyphens, and not the word and."""
    letters = unicodedata.normalize("NFKD", text.lower())
    letters = re.sub("['’]", "", "".join(char for char in letters if not unicodedata.combining(char)))
    found = re.findall("[a-z]+", _HALF.sub(r"\1 m", letters))
    return [_SAME.get(word, word) for word in found if word != "and"]


def score(lines: Iterable[str], normalise: Callable[[str], str]) -> tuple[int, list[Miss]]:
    """How many lines have digits as written, and those of them that come out otherwise than people said.

    Raises TextError where a line is not `id|written|spoken`.
    """
    total, misses = 0, []
    for number, line in enumerate(lines, 1):
        parts = line.rstrip("\n").split("|")
        if len(parts) != 3:
            raise TextError(f"line {number}: expected id|as written|as spoken; found {ascii(line[:60])}")
        name, written, wanted = parts
        if not re.search(r"\d", written):
            continue
        total += 1
        got = normalise(written)
        if words(got) != words(wanted):
            misses.append(Miss(name, written, wanted, got))
    return total, misses


def is_table(lines: list[str]) -> bool:
    """Whether lines are a table of cases, which has the names of its columns in the first one."""
    return bool(lines) and set(_CASE) <= set(lines[0].rstrip("\n").split("\t"))


def score_cases(lines: list[str], normalise: Callable[[str], str]) -> tuple[collections.Counter, list[Miss]]:
    """How many cases a table has of each class; and those that come out otherwise than people say, named by class.

    Raises TextError where a line lacks a column.
    """
    counts, misses = collections.Counter(), []
    for number, row in enumerate(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE), 2):
        name, written, wanted = map(row.get, _CASE)
        if not (name and written and wanted):
            raise TextError(f"line {number}: expected the columns {', '.join(_CASE)}")
        counts[name] += 1
        got = normalise(written)
        if not any(sounds_alike(got, reading) for reading in wanted.split("||")):
            misses.append(Miss(name, written, wanted, got))
    return counts, misses


def sounds_alike(a: str, b: str) -> bool:
    """Whether two readings have the same words and ends of sentences, whatever their case and punctuation.

    Letters that are spelt out may stand joined (FBI) or apart (F B I).
    """
    letters, breaks, ends = zip(_spelling(a), _spelling(b))
    either = {**breaks[0], **breaks[1]}
    return (
        letters[0] == letters[1]
        and ends[0] == ends[1]
        and all(either[place] for place in set(breaks[0]) ^ set(breaks[1]))
    )


def _spelling(text):
    """The letters of a text; where its words end, and whether between two single letters; where its sentences do."""
    plain = re.sub("['’]", "", unicodedata.normalize("NFKD", text))
    pieces = re.findall("[A-Za-z]+|[^A-Za-z]+", plain)
    words = [piece for piece in pieces if piece.isalpha()]
    places = list(itertools.accumulate(map(len, words)))
    breaks = {place: len(a) == len(b) == 1 for place, a, b in zip(places, words, words[1:])}
    sentences = re.split(r"[.?!][^A-Za-z]*\s[^A-Za-z]*", plain)
    ends = itertools.accumulate(sum(map(str.isalpha, sentence)) for sentence in sentences)
    return "".join(words).lower(), breaks, set(ends)
