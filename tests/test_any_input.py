"""Any text at all: it is said in symbols that a voice knows, or refused with one clear line; nothing else is raised.

Hundreds of texts that hypothesis makes up, of whole Unicode and of the pieces that rules look for; and operations
counted over texts of one and two lengths, since seconds say little on a busy machine.
"""

import cProfile
import functools
import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from text import SYMBOLS, FrontEnd, TextError, locales
from text.english.normalise import english

PIECES = [
    "Dr. ", "St. ", "No. ", "$", "£", "€", "5", "07", "1,000", "3.5", "1/2", "12:36", " p.m.", "May ", "1914-18",
    "'45", "%", "°", " ft.", "km/h", "IV", "William ", "C2766", "+44 ", "(555) ", "www.", ".com", "a@b.org",
    "http://", "#", "&", "<b>", "[[", "]]", "[[ ə ]]", "ˈ", "<break", '<break time="300ms"/>', '<break time="', "/>",
    "*", "_", "-", "--", "...", "\"", "'", "word ", "The ", "A", " ", "\n", "\0", "\x1b", "\ud800", "\udfff",
    "\u200b", "\u200d", "\u202e", "\ue000", "\u0301", "\u0316", "é", "ß", "ﬁ", "１", "٣", "½", "Ⅷ", "😀", "❤", "中文",
    "العربية", "שלום", "हिन्दी", "ไทย", "\U0010ffff",
    "U.S.", "App. ", "Bldg. ", "min. ", "c/o ", "Mon-", "Oct.", "AT&T", "&lt;", "&#57344;", "&amp;", "](http://a.b)",
    "![", "~~", "## ", "<br/>", "<a href=", "C#", ".NET", "<=", "!=", "->", "e-5", "E3", "^", "⁶", "⁻³", "ⁿ", "μ", "Ω",
    "α", "∆", "①", "ⅷ", "℃", "₪", "CHF ", "R$", "Rs.", "250K", "m people", "2h 15m", "0800", " hours", "ISBN ", "dial ",
    "911", "chapters iv and ", "xii", "MMXXIV", "Type I ", "Queen ", "°30'15\"", "6'", "15\" ", "/kg", "/hr", "x86-64",
    "FY24", "shh", "zzz", "IT WAS ", "NASA's", "A. ", "vitamin A ", "1.000.000", "120/80", "T10:30", "3:45.2",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(st.characters(), max_size=40),  # surrogates too
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=10).map("".join),
    st.text("0123456789.,:-/ $£€%°#@&*_+=<>~^|\\'\"()[]{}½²³aAbBiIvVxX", max_size=40),
)
NAMES = ("espeak", "cmudict")
KNOWN = frozenset(SYMBOLS)
MOST_OF_A_LINE = 500  # characters of a message: it quotes 40 of the text, which may be escapes of 10 each


@functools.cache
def made(name):
    return FrontEnd(units="phones", phonemizer=name)


def said_or_refused(front_end, text):
    """Whether a text is said; it is in symbols, or the refusal is one line."""
    try:
        words, phonemes = front_end.normalise(text), front_end.phonemise(text)
        ids, pauses = front_end.to_ids(phonemes), front_end.pauses(phonemes)
    except TextError as error:
        message = str(error)
        assert message.isprintable() and message.isascii() and 10 < len(message) < MOST_OF_A_LINE
        return False
    outside = "".join(part.partition("]]")[2] for part in ("]]" + words).split("[["))
    assert (
        not any(char.isdigit() for char in outside.replace('<break time="', "").replace("ms", "")) or "<break" in words
    )
    assert words == " ".join(words.split()) and ids
    assert all(0 <= index < len(ids) and seconds > 0 for index, seconds in pauses.items())
    assert set(phonemes) <= KNOWN | set("<>0123456789ms")
    return True


def any_texts(n):
    """Runs a test on n texts, always the same."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    fixed = settings(max_examples=n, derandomize=True, deadline=None, database=None, suppress_health_check=slow)
    return lambda test: fixed(given(TEXTS)(test))


@pytest.mark.parametrize(
    ("name", "n"),
    [("espeak", 300), ("cmudict", 500), *(pytest.param(name, 10_000, marks=pytest.mark.slow) for name in NAMES)],
)
def test_any_text_is_said_or_refused(name, n):
    @example("")
    @example("\0" * 1000)
    @example("\ud800")
    @example("<b [[ə]] >")
    @any_texts(n)
    def each(text):
        said_or_refused(made(name), text)

    each()


@any_texts(500)
def test_english_is_plain_letters_and_marks(text):
    plain = english(text.replace("\ue000", ""))
    assert re.fullmatch(r"[A-Za-z.,;:!?'\"() -]*", plain) and plain == " ".join(plain.split())


@pytest.mark.parametrize("language", ["de", "fr-fr", "es", "cmn"])
def test_any_text_of_other_languages_has_single_spaces(language):
    @any_texts(300)
    def each(text):
        said = locales.normalise(text, language)
        assert said == " ".join(said.split())

    each()


def test_most_texts_are_said():
    """The property does not hold because all is refused."""
    said = [said_or_refused(made("cmudict"), f"{piece} word {piece}") for piece in PIECES]
    assert sum(said) > 0.9 * len(said)


@pytest.mark.parametrize("unit", [*PIECES, "a", "a ", "x-", "aB1", "IIII", "[[a", "= ", ",.", "grelf's "])
def test_work_is_linear_in_the_length(unit):
    """Calls of functions, whatever the machine; the time of the patterns is watched in test_normalise.py."""
    front_end = made("cmudict")
    calls = [_calls(front_end, unit * (length // len(unit))) for length in (200, 1000, 2000)]
    assert calls[2] < 2.3 * calls[1] + 500


def _calls(front_end, text):
    profile = cProfile.Profile(subcalls=False)
    profile.runcall(said_or_refused, front_end, text)
    return sum(function.callcount for function in profile.getstats())


@pytest.mark.parametrize(
    "unit", ["x", "9", "Dr. 12:30, £5 ", "[[ ə ]]", '<break time="1s"/> a', "مرحبا ", "\ud800\0a", "grelf ", "x-"]
)
@pytest.mark.parametrize("name", NAMES)
def test_ten_thousand_characters_are_said(name, unit):
    assert said_or_refused(made(name), unit * (10_000 // len(unit)))
