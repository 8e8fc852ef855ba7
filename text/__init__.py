"""Text to phoneme ids: normalise, phonemise, look up."""

import functools

from text.errors import TextError
from text.front_end import FrontEnd
from text.symbols import SYMBOLS

__all__ = ["SYMBOLS", "FrontEnd", "TextError", "normalise", "phonemise", "text_to_ids"]

_default = functools.cache(FrontEnd)  # made when first asked for


# One of these has the name of the module that it rests on; the import above loaded it, so the function stays.
def normalise(text: str) -> str:
    """FrontEnd.normalise of the default English front end."""
    return _default().normalise(text)


def phonemise(text: str) -> str:
    """FrontEnd.phonemise of the default English front end."""
    return _default().phonemise(text)


def text_to_ids(text: str) -> list[int]:
    """FrontEnd.ids of the default English front end."""
    return _default().ids(text)
