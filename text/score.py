"""How often the normaliser says what people wrote out: lines `id|as written|as spoken`, as LJSpeech's metadata.csv."""

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
