"""Words in capitals as espeak-ng says them rightly: the letter A, abbreviations with an ending, whole sentences."""

import re

from text.english import dictionary

# espeak-ng spells words of up to three capitals only where a clause has more small letters than three, and no fewer
# than capitals. This word before a clause brings them.
LEAD = "nevertheless "
_LONGEST_SPELT, _FEW = 3, 3

_WORD = re.compile(r"[A-Z]{2,}|[AI]")
_CONTRACTION = re.compile(r"[A-Z]+'[A-Z]+")  # I'M, DON'T
_ENDING = re.compile(r"([A-Z]{2,})('?s)")  # NASA's, PDFs
_SAID = re.compile(r"(?=.{4})(?=.*[AEIOUY])(?!.*[^AEIOUY]{3})")  # four letters and more, that one can say as a word
_SHORT = re.compile(r"(?![IVX]+$)[A-Z]{2,3}")  # and no Roman numeral
_COUNTRY = ("US", "IT")  # after "THE": a country, a trade
_PLAIN_WORDS = (  # which espeak-ng would spell in a sentence
    "DOS GIF LAN MAC PAC PIN RAM ROM SIM VIN WAN ZIP AHA EEK MEH BAD BIG BUY DAY END FUN HOT IF LET LOW MAN NEW OFF "
    "OLD OUT OWN RUN SEE TOO TOP YES"
)
_PLAIN = frozenset(_PLAIN_WORDS.split())
_SAID_BY_ESPEAK = frozenset({"APR"})  # also among small letters


def respelt(text: str) -> str:
    """A text without punctuation as espeak-ng is to be given it; the words stay as many as they were."""
    if not any(map(str.isupper, text)):
        return text
    words = text.split()
    capitals = [_WORD.fullmatch(word) is not None for word in words]

    def is_loud(i):
        return 0 <= i < len(words) and capitals[i] and len(words[i]) > 1 and dictionary.is_said(words[i])

    return " ".join(_word(words, i, capitals[i] and (is_loud(i - 1) or is_loud(i + 1))) for i in range(len(words)))


def needs_lead(text: str) -> bool:
    """Whether a respelt text has an abbreviation that espeak-ng would say as a word, (IMF), but not after LEAD."""
    lower, upper = sum(map(str.islower, text)), sum(map(str.isupper, text))
    if _FEW < lower >= upper or not upper:
        return False
    words = text.split()
    return any(_SHORT.fullmatch(word) and not _is_word(words, i) for i, word in enumerate(words))


def _word(words, i, shouted):
    word = words[i]
    if dictionary.is_letter_a(words, i):
        return "A-"  # which espeak-ng takes for no article
    if word in _PLAIN or (shouted and len(word) <= _LONGEST_SPELT and _is_plain(words, i)):
        return word.lower()
    if word in _SAID_BY_ESPEAK or (word in dictionary.SPELT and len(word) > _LONGEST_SPELT):
        return _letters(word)
    ending = _ENDING.fullmatch(word)
    if not ending:
        return word.lower() if _CONTRACTION.fullmatch(word) else word
    stem = ending[1]
    is_word = stem in _PLAIN or (stem not in dictionary.SPELT and _SAID.match(stem))
    return f"{stem.lower() if is_word else _letters(stem)}'s"


def _letters(word):
    """Joined by hyphens, as one word. The letter A would be the article there."""
    return "-".join(word).replace("A", "eh")


def _is_plain(words, i):
    """Whether a short word in capitals among others is what it is in small letters, and no abbreviation."""
    before = words[i - 1] if i else ""
    if words[i] in _COUNTRY and (before == "THE" or (words[i] == "US" and not before.isupper())):
        return False
    return words[i] == "US" or _is_word(words, i)


def _is_word(words, i):
    if words[i] == "AM":  # of a time
        return "I" in words[max(i - 1, 0) : i + 2]
    return words[i] not in dictionary.SPELT and len(words[i]) > 1 and dictionary.is_said(words[i])
