"""The one error of the text front end."""


class TextError(ValueError):
    """A text with nothing to say, or a language that nobody here speaks."""
