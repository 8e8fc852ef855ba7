"""Long phonemes in pieces that a voice can say at a time: sentences, or where these are too long clauses, or words."""

import re

from text import markup
from text.symbols import LENGTHS, MODIFIERS, STRESS

_PAUSES = f"(?: {markup.BREAK})"  # those asked for stay with what is before them
_SENTENCE_END = r"""[.?!][.?!"()]*"""
_CLAUSE_END = r"""[,;:"()-]+"""
_CUTS = (
    re.compile(f"{_SENTENCE_END}{_PAUSES}* "),
    re.compile(f"(?:{_CLAUSE_END}{_PAUSES}*|{_PAUSES}+) "),
    re.compile(" (?!<)"),
)
_WORD = re.compile(f"((?:{markup.BREAK} )*)(.*?)({_PAUSES}*)")
_ENDS = {"pause": re.compile(f"{markup.BREAK}$"), "sentence": re.compile(f"{_SENTENCE_END}$"),
         "clause": re.compile(f"{_CLAUSE_END}$")}  # fmt: skip


def split(phonemes: str, longest: int, by_sentence: bool = False) -> list[str]:
    """Phonemes in pieces that joined by spaces give them back, each with something to say.

    longest: characters of a piece, without the pauses that it asks for; only a word of more is cut itself, and comes
        back with spaces in it. by_sentence: each sentence is a piece of its own, however short.
    """
    if not by_sentence:
        return _fit(phonemes, longest, _CUTS)
    return [piece for sentence in _units(phonemes, _CUTS[0]) for piece in _fit(sentence, longest, _CUTS[1:])]


def ends(piece: str) -> str:
    """What a piece ends: "pause" that it asks for, "sentence", "clause" or, between two words, "word"."""
    return next((end for end, pattern in _ENDS.items() if pattern.search(piece)), "word")


def _fit(phonemes, longest, cuts):
    """Pieces of about the same length: units of the first cut put together, those too long cut by the next ones."""
    length = _length(phonemes)
    if length <= longest:
        return [phonemes]
    if not cuts:
        return _cut_word(phonemes, longest)
    target = length / -(-length // longest)
    pieces = []
    for unit in _units(phonemes, cuts[0]):
        if pieces and _length(pieces[-1]) < target and _length(f"{pieces[-1]} {unit}") <= longest:
            pieces[-1] += f" {unit}"
        else:
            pieces += _fit(unit, longest, cuts[1:])
    return pieces


def _units(phonemes, cut):
    """What stands between the cuts; what has nothing to say stays with what is before it, or else after."""
    units, start = [], 0
    for end in [*(match.end() for match in cut.finditer(phonemes)), len(phonemes)]:
        unit, start = phonemes[start:end].strip(), end
        if units and not (markup.speaks(unit) and markup.speaks(units[-1])):
            units[-1] += f" {unit}"
        else:
            units.append(unit)
    return units


def _cut_word(word, longest):
    """A word in pieces, no mark apart from its letter; the pauses before it and after it stay whole."""
    before, word, after = _WORD.fullmatch(word).groups()
    pieces = []
    while len(word) > longest:
        end = longest
        while end > 1 and (word[end] in MODIFIERS or word[end] in LENGTHS or word[end - 1] in STRESS):
            end -= 1
        pieces.append(word[:end])
        word = word[end:]
    pieces.append(word)
    pieces[0], pieces[-1] = before + pieces[0], pieces[-1] + after
    return pieces


def _length(phonemes):
    return sum(len(piece) for piece in markup.pauses(phonemes)[0])
