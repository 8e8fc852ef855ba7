"""The front end of one language: text to words, to phonemes, to ids."""

import logging

from text import normalise, phonemise
from text.errors import TextError
from text.symbols import BLANK, MARKS, SYMBOLS, canonical

_IDS = {symbol: i for i, symbol in enumerate(SYMBOLS)}


class FrontEnd:
    """Text to what the text encoder reads.

    language: an espeak-ng voice, for example en-us; TextError where there is none of that name.
    blanks: whether ids have a blank before, between and after the symbols.
    """

    def __init__(self, language: str = "en-us", blanks: bool = True):
        phonemise.check_language(language)
        self.language, self.blanks = language, blanks
        self._unknown = set()  # characters already warned of

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbol of each id."""
        return SYMBOLS

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
        ids = [_IDS[symbol] for symbol in phonemes if symbol in _IDS]
        if not ids:
            raise TextError(f"none of these phonemes is a symbol: {_short(phonemes)}")
        if not self.blanks:
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


def _speaks(text):
    return any(char not in MARKS for char in text)


def _something(result, text):
    if not _speaks(result):
        raise TextError(f"nothing to say in {_short(text)}")
    return result


def _short(text, length=40):
    return ascii(text if len(text) <= length else f"{text[: length - 3]}...")
