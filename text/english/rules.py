"""What a rule of the normaliser is, and the pieces of patterns that several rules share."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

START = r"(?<![\d.])(?<!\d,)"  # where a number begins: a search from every digit would be slow on a million of them
NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
AMOUNT = rf"(?:{NUMBER}(?:\.\d+)?|\.\d+)"
STOP = r"(?:\.(?! [A-Z]|[\"')]*$))?"  # the full stop of an abbreviation, where it does not end the sentence as well
_FUNCTION_WORDS = (  # they begin sentences, and are nothing that one can count
    "a|about|after|all|also|although|an|and|another|any|are|as|at|because|before|both|but|by|can|"
    "could|did|do|does|during|each|even|every|everybody|everyone|everything|finally|first|for|from|"
    "had|has|have|he|her|here|hers|his|how|however|i|if|in|indeed|instead|into|is|it|its|just|"
    "last|later|let|many|maybe|meanwhile|more|most|much|my|neither|never|next|no|nobody|none|nor|"
    "not|nothing|now|of|often|on|once|one|only|or|other|others|our|over|people|perhaps|please|"
    "several|she|should|since|so|some|someone|something|sometimes|soon|still|such|suddenly|than|that|"
    "the|their|then|there|therefore|these|they|this|those|though|thus|to|today|tomorrow|two|under|"
    "until|was|we|well|were|what|when|where|which|while|who|why|will|with|without|would|yes|"
    "yesterday|yet|you|your"
)
# Words that begin a sentence, so that the full stop before ends one; "A. A. Milne" has initials.
OPENERS = rf"(?:{_FUNCTION_WORDS.title()})\b(?![.-])"
_NO_NOUN = f"{_FUNCTION_WORDS}|ago|apart|away|deep|high|long|off|old|tall|thick|up|went|wide|worth|x"
NOUN = rf"(?= (?!(?:{_NO_NOUN})\b)[a-z])"  # after the amount in "a $5 ticket"
SCALE = r"(?:hundred|thousand|million|billion|trillion|lakh crore|lakh|crore)"
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_VERBS = ("March", "May")  # in lower case these are rather verbs
_SMALL = [month.lower() for month in MONTHS if month not in _VERBS]
MONTH = f"(?:{'|'.join((*MONTHS, *_SMALL))})"
PLAIN_MONTH = f"(?:{'|'.join((*_SMALL, *(month.upper() for month in MONTHS)))})"  # as nobody writes them in a sentence
ALONE = r"(?![-/:]\d|[.,]\d|\w|,? (?:to|and|or) \d)"  # after a day that is neither part of a number nor of a range


def any_of(choices: Iterable[str]) -> str:
    """A pattern for one of some words as they stand, the longest that fits."""
    return "|".join(map(re.escape, sorted(choices, key=len, reverse=True)))


class Rule(NamedTuple):
    """One step of normalisation: each match of the pattern in the text is replaced.

    name: said by `python -m text --explain`; written and spoken: an example; replacement: as re.sub takes it.
    """

    name: str
    written: str
    spoken: str
    pattern: re.Pattern
    replacement: str | Callable[[re.Match], str]


def rule(name, written, spoken, pattern, replacement):
    """A Rule of a pattern as text. A backslash class means ASCII: by then the text is."""
    return Rule(name, written, spoken, re.compile(pattern, re.ASCII), replacement)


def preceded_by(match: re.Match, pattern: str | re.Pattern) -> bool:
    """Whether what stands before a match, of which 15 characters are looked at, ends as the pattern says."""
    return re.search(pattern, match.string[max(0, match.start() - 15) : match.start()]) is not None


def words(*parts: str | None) -> str:
    """The parts that there are, with spaces between."""
    return " ".join(filter(None, parts))
