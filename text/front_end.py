"""The front end of one language: text to words, to phonemes, to ids."""

import logging
import re
from typing import Literal

from text import normalise, phonemise
from text.errors import TextError
from text.symbols import (
    BLANK,
    FIRST,
    INSIDE,
    LAST,
    LENGTHS,
    MARK_SIZES,
    MARKS,
    MODIFIERS,
    ONLY,
    STRESS,
    SYMBOLS,
    VOWELS,
    canonical,
    pack,
)

_IDS = {symbol: i for i, symbol in enumerate(SYMBOLS)}
_PAUSES = '?!.;:,-()"¡¿'  # of marks in a row, the first of these says most of how long and how it is said
_BETWEEN = re.compile(f"([{re.escape(BLANK + ''.join(sorted(MARKS)))}]+)")  # what stands between two words


class FrontEnd:
    """Text to what the text encoder reads.

    language: an espeak-ng voice, for example en-us; TextError where there is none of that name.
    units: what an id is. characters: a character of IPA; blanks: the same, with a blank before, between and after;
        phones: a letter with its marks (stress, length, place in the word) packed into one number, or a pause: the
        punctuation between two words, and both ends. Spaces are no units of their own there.
    """

    def __init__(self, language: str = "en-us", units: Literal["blanks", "characters", "phones"] = "blanks"):
        phonemise.check_language(language)
        self.language, self.units = language, units
        self._unknown = set()  # characters already warned of

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbol of each id, or of each remainder of an id by their number where ids have marks."""
        return SYMBOLS

    @property
    def mark_sizes(self) -> tuple[int, ...]:
        """How many values each of the marks has that an id packs; none where ids are symbols."""
        return MARK_SIZES if self.units == "phones" else ()

    def normalise(self, text: str) -> str:
        """The text as it is read aloud. Raises TextError where nothing is left."""
        return _something(self._words(text), text)

    def phonemise(self, text: str) -> str:
        """The IPA of a text, which is normalised first. Raises TextError where there is nothing to say."""
        return _something(self.phonemise_many([text])[0], text)

    def phonemise_many(self, texts: list[str]) -> list[str]:
        """phonemise for each text, many times faster; "" for one with nothing to say, which stops nobody else."""
        phonemes = phonemise.phonemise([self._words(text) for text in texts], self.language)
        return [each if _speaks(each) else "" for each in phonemes]

    def ids(self, text: str) -> list[int]:
        """The ids of a text, which is normalised and phonemised first. Raises TextError like those."""
        return self.to_ids(self.phonemise(text))

    def to_ids(self, phonemes: str) -> list[int]:
        """The ids of phonemes. What is no symbol is dropped, with a warning; TextError where nothing is left."""
        phonemes = canonical(phonemes)
        self._warn(set(phonemes) - _IDS.keys())
        known = "".join(char for char in phonemes if char in _IDS)
        ids = _phones(known) if self.units == "phones" else [_IDS[symbol] for symbol in known]
        if not ids:
            raise TextError(f"none of these phonemes is a symbol: {_short(phonemes)}")
        if self.units != "blanks":
            return ids
        spaced = [_IDS[BLANK]] * (2 * len(ids) + 1)
        spaced[1::2] = ids
        return spaced

    def _words(self, text):
        english = self.language.partition("-")[0] == "en"
        return normalise.english(text) if english else normalise.clean(text)

    def _warn(self, unknown):
        for char in sorted(unknown - self._unknown):
            logging.getLogger(__name__).warning("%a (U+%04X) is no symbol: dropped", char, ord(char))
        self._unknown |= unknown


def _phones(phonemes):
    """Packed ids of known symbols: a blank, the words with pauses where punctuation stands, and a pause at the end.

    Punctuation before the first word is in the blank there, and the end is a blank where it has none. Nothing where
    there is no word.
    """
    ids = []
    for i, piece in enumerate(_BETWEEN.split(phonemes)):
        if i % 2 == 0:
            ids += _word(piece)
        elif ids:
            ids += _pause(piece)
    if not ids:
        return []
    blank = [_IDS[BLANK]]
    return blank + ids + ([] if phonemes.rstrip(BLANK + " ")[-1] in MARKS else blank)


def _pause(marks):
    """The id of the strongest of some punctuation marks, in a list; none for a space."""
    marks = set(marks) & set(_PAUSES)
    return [_IDS[min(marks, key=_PAUSES.index)]] if marks else []


def _word(word):
    """Packed ids of one word.

    Stress is the next vowel's, or the next letter's where no vowel follows (kˈr̩k); length is the letter's before.
    """
    phones, letters = [], []  # [symbol, stress, long, place]; those that are no modifier
    stress, first = 0, 0  # first: the letter that a stress mark stands before
    for char in word:
        if char in STRESS:
            stress, first = STRESS.index(char), len(letters)
        elif char in LENGTHS:
            if letters:
                letters[-1][2] = 1
        else:
            phones.append([_IDS[char], 0, 0, INSIDE])
            if char not in MODIFIERS:
                letters.append(phones[-1])
            if char in VOWELS:
                letters[-1][1], stress = stress, 0
    if stress and first < len(letters):
        letters[first][1] = stress
    if letters:
        letters[0][3], letters[-1][3] = (FIRST, LAST) if len(letters) > 1 else (ONLY, ONLY)
    return [pack(*phone) for phone in phones]


def _speaks(text):
    return any(char not in MARKS for char in text)


def _something(result, text):
    if not _speaks(result):
        raise TextError(f"nothing to say in {_short(text)}")
    return result


def _short(text, length=40):
    return ascii(text if len(text) <= length else f"{text[: length - 3]}...")
