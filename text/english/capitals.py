"""Words in capitals as espeak-ng says them rightly: the letter A, abbreviations with an ending, whole sentences."""

import re

from text.english import dictionary

_WORD = re.compile(r"[A-Z]{2,}|[AI]")
_CONTRACTION = re.compile(r"[A-Z]+'[A-Z]+")  # I'M, DON'T
_ENDING = re.compile(r"([A-Z]{2,})('?s)")  # NASA's, PDFs
_SAID = re.compile(r"(?=.{4})(?=.*[AEIOUY])(?!.*[^AEIOUY]{3})")  # four letters and more, that one can say as a word
_LONGEST_SPELT = 3  # letters of a word in capitals that espeak-ng spells, known or not
_COUNTRY = ("US", "IT")  # after "THE": a country, a trade


def respelt(text: str) -> str:
    """A text without punctuation as espeak-ng is to be given it; the words stay as many as they were."""
    if not any(map(str.isupper, text)):
        return text
    words = text.split()
    capitals = [_WORD.fullmatch(word) is not None for word in words]

    def is_loud(i):
        return 0 <= i < len(words) and capitals[i] and len(words[i]) > 1 and dictionary.is_said(words[i])

    return " ".join(_word(words, i, capitals[i] and (is_loud(i - 1) or is_loud(i + 1))) for i in range(len(words)))


def _word(words, i, shouted):
    word = words[i]
    if dictionary.is_letter_a(words, i):
        return "A-"  # which espeak-ng takes for no article
    if shouted and len(word) <= _LONGEST_SPELT and _is_plain(words, i):
        return word.lower()
    ending = _ENDING.fullmatch(word)
    if not ending:
        return word.lower() if _CONTRACTION.fullmatch(word) else word
    stem = ending[1].lower() if _SAID.match(ending[1]) else "-".join(ending[1])
    return f"{stem}'s"


def _is_plain(words, i):
    """Whether a short word in capitals among others is what it is in small letters, and no abbreviation."""
    before = words[i - 1] if i else ""
    if words[i] == "ET" or (words[i] == "AM" and "I" not in words[max(i - 1, 0) : i + 2]):  # of a time
        return False
    if words[i] in _COUNTRY and (before == "THE" or (words[i] == "US" and not before.isupper())):
        return False
    return len(words[i]) > 1 and dictionary.is_said(words[i])
