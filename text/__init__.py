"""Text to phoneme ids: normalise, phonemise, look up."""

import functools

from text.errors import TextError
from text.front_end import FrontEnd
from text.symbols import SYMBOLS

__all__ = ["SYMBOLS", "FrontEnd", "TextError", "normalise"]

_default = functools.cache(FrontEnd)  # made when first asked for


def normalise(text: str) -> str:
    """FrontEnd.normalise of the default English front end."""
    return _default().normalise(text)
