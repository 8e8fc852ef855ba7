"""Written text to words: Unicode cleaned up in every language; numbers, money and abbreviations in English."""

import functools
import re
import unicodedata

_PLAIN = {
    "'": "‘’‚‛′`´ʹ＇",
    '"': "“”„‟″«»‹›「」『』＂",
    "(": "[{",
    ")": "]}",
    " - ": "—―",
    "-": "‐‑‒–−",
    "...": "…",
    ". ": "。।",
    ", ": "、",
    ",": "،",
    ";": "؛",
    "?": "؟",
}
_TRANSLATION = str.maketrans(
    {char: plain for plain, chars in _PLAIN.items() for char in chars}
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in "＇＂"}  # full-width ASCII
)
_EMOJI = (range(0x2600, 0x27C0), range(0x1F000, 0x20000), range(0xFE00, 0xFE10))
_JOINERS = "\u200c\u200d"  # format characters that are part of the spelling, in Persian for one


def clean(text: str) -> str:
    """Plain punctuation, no control characters or emoji, single spaces: what every language shares."""
    text = unicodedata.normalize("NFC", "".join(map(_visible, text)))
    text = " ".join(re.sub(r"--+", " - ", text.translate(_TRANSLATION)).split())
    return re.sub(r"(?<=\S) (?=[.,;:!?]+(?:\s|$))", "", text)


def english(text: str) -> str:
    """English as it is read aloud, in plain ASCII."""
    from unidecode import unidecode  # noqa: PLC0415 - loaded when first needed

    text = clean(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return clean(unidecode(text))


def _visible(char):
    if " " <= char <= "~":
        return char
    if char.isspace():
        return " "
    if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char not in _JOINERS:
        return ""
    return " " if any(ord(char) in block for block in _EMOJI) else char


_ABBREVIATIONS = {
    "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Messrs": "messieurs", "Dr": "doctor", "St": "saint", "Ste": "saint",
    "Co": "company", "Corp": "corporation", "Inc": "incorporated", "Ltd": "limited", "Bros": "brothers",
    "Jr": "junior", "Sr": "senior", "Esq": "esquire", "Hon": "honorable", "Rev": "reverend", "Prof": "professor",
    "Gen": "general", "Maj": "major", "Col": "colonel", "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant",
    "Gov": "governor", "Sen": "senator", "Rep": "representative", "Pres": "president", "Ft": "fort", "Mt": "mount",
    "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "etc": "et cetera", "vs": "versus", "viz": "namely",
    "Jan": "january", "Feb": "february", "Aug": "august", "Sept": "september", "Oct": "october", "Nov": "november",
    "Dec": "december",
}  # fmt: skip
_MONEY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
_NUMBER = r"\d{1,3}(?:,\d{3})+(?!\d)|\d+"
_START = r"(?<![\d.])(?<!\d,)"  # where a number begins: a search from every digit would be slow on a million of them


def _abbreviation(match):
    word = _ABBREVIATIONS[match[1]]
    return f"{word}." if match[2] is not None else word  # a full stop that ends the text is one as well


def _money(match):
    unit, small = _MONEY[match[1]]
    amount, cents, scale = match[2].replace(",", ""), match[3], match[4]
    if scale or (cents and len(cents) != 2):
        return " ".join(filter(None, (_decimal(amount, cents), scale, f"{unit}s")))
    words = [f"{_cardinal(amount)} {_plural(unit, int(amount))}"]
    if cents and int(cents):
        words.append(f"{_cardinal(cents)} {_plural(small, int(cents))}")
    return ", ".join(words[1:] if cents and not int(amount) and int(cents) else words)


def _plural(unit, count):
    if count == 1:
        return unit
    return "pence" if unit == "penny" else f"{unit}s"


def _decimal(whole, fraction):
    words = _cardinal(whole.replace(",", ""))
    return f"{words} point {_digits(fraction)}" if fraction else words


def _time(match):
    hour, minute = int(match[1]), int(match[2])
    minutes = [_cardinal(match[2]) if minute > 9 else f"oh {_cardinal(match[2])}"] if minute else []
    return " ".join([_cardinal(str(hour)), *minutes])


def _ordinal(match):
    number = match[1].replace(",", "")
    if len(number) > 15:
        return number
    return _inflect().number_to_words(_inflect().ordinal(int(number)), andword="").replace(",", "")


def _year(number):
    """A year of 1100 to 2099 as it is read: by hundreds, but for the first ten after 2000."""
    century, year = divmod(number, 100)
    if century == 20 and year < 10:
        return _cardinal(str(number))
    if year == 0:
        return f"{_cardinal(str(century))} hundred"
    return f"{_cardinal(str(century))} {'oh ' if year < 10 else ''}{_cardinal(str(year))}"


def _decade(match):
    """1960s, the 60s or 1920's: a plural, but for the possessive, which sounds the same."""
    words = _year(int(match[1])) if len(match[1]) == 4 else _cardinal(match[1])
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def _whole(match):
    digits = match[0]
    if len(digits) == 4 and 1100 <= int(digits) <= 2099:
        return _year(int(digits))
    return _cardinal(digits.replace(",", ""))


def _cardinal(digits):
    """Words for a row of digits; one by one where it starts with a zero, like a telephone's, or is beyond counting."""
    if len(digits) > 15 or (digits[0] == "0" and len(digits) > 2):
        return _digits(digits)
    return _inflect().number_to_words(int(digits), andword="").replace(",", "")


def _digits(digits):
    return " ".join(_inflect().number_to_words(int(digit)) for digit in digits)


@functools.cache
def _inflect():
    import inflect  # noqa: PLC0415 - loaded when first needed

    return inflect.engine()


# In this order, each on what the ones before left.
_RULES = tuple(
    (re.compile(pattern, re.ASCII), replacement)
    for pattern, replacement in (
        (r"\b(" + "|".join(_ABBREVIATIONS) + r")\.((?=[\"')]*$))?", _abbreviation),
        (r"\bNos?\. ?(?=\d)", "number "),
        (r"\b([A-Z])\.(?=[A-Z]\b)", r"\1 "),  # U.S.
        (r"\b([A-HJ-Z])\.(?= [A-Za-z]|[,;])", r"\1"),  # J. Smith, the U.S. Mint; "and I. They" ends a sentence
        (r"\b([ap])\.m\.", r"\1 m"),
        (r"&", " and "),
        (r"([$£€]) ?(" + _NUMBER + r")(?:\.(\d+))?(?: (hundred|thousand|million|billion|trillion)\b)?", _money),
        (r"(?<=\d) ?%", " percent"),
        (r"(?<![\d:])([01]?\d|2[0-3]):([0-5]\d)\b(?!:)", _time),
        (r"(?<=\d):(?=\d)", " "),
        (_START + r"(" + _NUMBER + r")(?:st|nd|rd|th)\b", _ordinal),
        (r"\b(1[1-9]\d0|20\d0|[2-9]0)'?s\b", _decade),
        (r"(?<=\d)-(?=\d)", " to "),
        (r"(?<![\w.)-])-(?=\.?\d)", "minus "),
        (_START + r"(" + _NUMBER + r")\.(\d+)", lambda match: _decimal(match[1], match[2])),
        (r"(?<!\w)\.(\d+)", lambda match: f"point {_digits(match[1])}"),
        (r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " "),
        (_NUMBER, _whole),
    )
)
