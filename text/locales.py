"""Dates, times, money, percentages and measures outside English, in the words that Unicode's CLDR has for them.

Numbers stay in digits, which espeak-ng reads rightly in these languages.
"""

import datetime
import importlib.util
import re
from typing import NamedTuple

from text.english.normalise import MARKUP, clean
from text.english.rules import any_of


class _Language(NamedTuple):
    """What CLDR does not know of a language."""

    to: str  # in a range
    minus: str
    cents: str
    between: str  # whole units of money and cents
    hour: str  # a time of whole hours
    minute: str  # one with minutes
    hours: dict[str, str]  # that are said otherwise than numbers
    one: tuple[str, str]  # before a noun, masculine or neuter, and feminine


_LANGUAGES = {
    "de": _Language("bis", "minus", "Cent", "", "{} Uhr", "{} Uhr {}", {"1": "ein"}, ("ein", "eine")),
    "fr": _Language("à", "moins", "centimes", "", "{} heures", "{} heures {}", {"1": "une", "21": "vingt et une"},
                    ("un", "une")),
    "es": _Language("a", "menos", "céntimos", "con", "{} en punto", "{} y {}", {"1": "una", "21": "veintiuna"},
                    ("un", "una")),
}  # fmt: skip
_CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "EUR": "EUR", "USD": "USD", "GBP": "GBP", "CHF": "CHF"}
_UNITS = {
    "%": "concentr-percent", "°C": "temperature-celsius", "°F": "temperature-fahrenheit",
    "km/h": "speed-kilometer-per-hour", "m/s": "speed-meter-per-second", "km²": "area-square-kilometer",
    "m²": "area-square-meter", "m³": "volume-cubic-meter",
    "km": "length-kilometer", "cm": "length-centimeter", "mm": "length-millimeter", "m": "length-meter",
    "kg": "mass-kilogram", "mg": "mass-milligram", "g": "mass-gram", "l": "volume-liter", "ml": "volume-milliliter",
    "kWh": "energy-kilowatt-hour", "kW": "power-kilowatt", "W": "power-watt", "V": "electric-volt",
    "Hz": "frequency-hertz", "kHz": "frequency-kilohertz", "MHz": "frequency-megahertz", "GHz": "frequency-gigahertz",
    "MB": "digital-megabyte", "GB": "digital-gigabyte", "min": "duration-minute", "Std.": "duration-hour",
}  # fmt: skip
_AMOUNT = r"\d{1,3}(?:[. ]\d{3}){1,3}(?:,\d{1,6})?|\d{1,12}(?:,\d{1,6})?"
_BEFORE = r"(?<![\w.,:/-])(?<!\d )"
_AFTER = r"(?![\w/]|[.,:]\d)"
_SIGN, _UNIT = any_of(_CURRENCIES), any_of(_UNITS)
_DATE = re.compile(rf"{_BEFORE}(?:(\d{{4}})-(\d\d)-(\d\d)|(\d\d?)([./-])(\d\d?)\5(\d{{4}}|\d\d)){_AFTER}")
_HOUR = "([01]?\\d|2[0-4])"
_TIME = re.compile(rf"{_BEFORE}(?:{_HOUR}(?: ?h ?|:)([0-5]\d)(?: (?:Uhr|h)\b)?{_AFTER}|{_HOUR}\.([0-5]\d) Uhr\b)")
_HOURS = re.compile(rf"{_BEFORE}{_HOUR} ?h(?!\w)")  # 14h
_MONEY_BEFORE = re.compile(rf"(?<![\w.,])({_SIGN}) ?({_AMOUNT}){_AFTER}")
_MONEY_AFTER = re.compile(rf"{_BEFORE}({_AMOUNT}) ?({_SIGN}){_AFTER}")
_MEASURE = re.compile(rf"{_BEFORE}({_AMOUNT}) ?({_UNIT}){_AFTER}")
_RANGE = re.compile(rf"{_BEFORE}((?!0\d)\d{{1,4}}) ?- ?((?!0\d)\d{{1,4}})(?![\w/-]|[.,:]\d)")
_MINUS = re.compile(r"(?<!\S)-(?=\d)")
_YEAR = re.compile(rf"{_BEFORE}(1[1-9])(\d\d){_AFTER}")

_ONES = ("", "ein", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun")
_GERMAN_ORDINALS = (  # without their endings
    "", "erst", "zweit", "dritt", "viert", "fünft", "sechst", "siebt", "acht", "neunt", "zehnt", "elft", "zwölft",
    "dreizehnt", "vierzehnt", "fünfzehnt", "sechzehnt", "siebzehnt", "achtzehnt", "neunzehnt", "zwanzigst",
    *(f"{one}undzwanzigst" for one in _ONES[1:]), "dreißigst", "einunddreißigst",
)  # fmt: skip
_GERMAN_MONTHS = "Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember"
_GERMAN_FEMININE = "Klasse|Runde|Liga|Etage|Auflage|Woche|Stunde|Minute|Ausgabe"
_GERMAN_NOUNS = "Jahrhunderts?|Platz|Stock|Tag|Mal|Geburtstag|Weltkriegs?|Kapitel"
_ORDINAL = re.compile(  # the word before says the ending
    rf"(?:\b((?i:am|vom|zum|dem|den|bis|beim|im|des|der|die|das|seit|ab)) )?"
    rf"(?<![\d.,])\b([12]?\d|3[01])\. (?=(?:{_GERMAN_MONTHS}|({_GERMAN_FEMININE})|{_GERMAN_NOUNS})\b)"
)
_FIRST = re.compile(
    r"\b1 (?=(?:janvier|février|mars|avril|mai|juin|juillet|août|septembre|octobre|novembre|décembre)\b)"
)


def unread(language: str) -> str:
    """Why the dates, times, money and measures of an espeak-ng voice stay as they are, in one line; "" where they do
    not."""
    if _base(language) not in _LANGUAGES:
        return f"{language}: dates, times, money and measures are left to espeak-ng"
    if importlib.util.find_spec("babel") is None:
        return f"{language}: dates, times, money and measures are left to espeak-ng: pip install babel"
    return ""


def normalise(text: str, language: str) -> str:
    """The text as it is read aloud, numbers in digits; language is an espeak-ng voice."""
    text = clean(text)
    for each in MARKUP:
        text = each.pattern.sub(each.replacement, text)
    if any(map(str.isdigit, text)) and not unread(language):
        text = _numbers(text, _base(language))
    return clean(text)


def _base(language):
    return language.partition("-")[0]


def _numbers(text, language):
    words = _LANGUAGES[language]
    text = _DATE.sub(lambda match: _date(match, language), text)
    text = _TIME.sub(lambda match: _time(match[1] or match[3], match[2] or match[4], words), text)
    if language == "fr":
        text = _HOURS.sub(lambda match: _time(match[1], "", words), text)
    text = _RANGE.sub(rf"\1 {words.to} \2", text)
    text = _MINUS.sub(f"{words.minus} ", text)
    text = _MONEY_BEFORE.sub(lambda match: _money(match[2], match[1], language), text)
    text = _MONEY_AFTER.sub(lambda match: _money(match[1], match[2], language), text)
    text = _MEASURE.sub(lambda match: _measure(match, language), text)
    if language == "de":
        text = _ORDINAL.sub(_german_ordinal, text)
        text = _YEAR.sub(lambda match: f"{match[1]} hundert {match[2].lstrip('0')}", text)
    return _FIRST.sub("1er ", text) if language == "fr" else text


def _date(match, language):
    from babel.dates import format_date

    year, month, day = match.group(1, 2, 3) if match[1] else match.group(7, 6, 4)
    year = int(year) + (2000 if len(year) == 2 else 0)
    try:
        return format_date(datetime.date(year, int(month), int(day)), "long", locale=language)
    except ValueError:
        return match[0]


def _time(hour, minute, words):
    hour, minute = hour.lstrip("0") or "0", minute.lstrip("0")
    hour = words.hours.get(hour, hour)
    said = words.minute.format(hour, minute) if minute else words.hour.format(hour)
    return said.replace("une heures", "une heure") if hour == "une" else said


def _money(amount, sign, language):
    from babel.numbers import get_currency_name

    words = _LANGUAGES[language]
    whole, _, cents = re.sub("[. ]", "", amount).partition(",")
    name = get_currency_name(_CURRENCIES[sign], count=int(whole), locale=language)
    cents = cents.ljust(2, "0") if cents.strip("0") else ""
    if len(cents) > 2:
        return f"{amount} {name}"
    if cents and whole == "0":
        return f"{int(cents)} {words.cents}"
    whole = _one(name, language) if whole == "1" else whole
    return " ".join(filter(None, (whole, name, words.between if cents else "", cents.lstrip("0"))))


def _measure(match, language):
    """The unit's name in the number that the amount asks for."""
    from babel.units import format_unit

    value = float(re.sub("[. ]", "", match[1]).replace(",", "."))
    said = format_unit(value, _UNITS[match[2]], length="long", locale=language)
    said = re.sub(r"[\d.,\s]*\d", match[1], said, count=1)
    return re.sub(r"^1\s(?!por )(.*)", lambda alone: f"{_one(alone[1], language)} {alone[1]}", said)


def _one(name, language):
    """1 before a noun: ein Euro, eine Minute; un euro, una libra."""
    return _LANGUAGES[language].one[bool(re.match(r"\w*(?:[Ss]tunde|[Mm]inute|livre|heure|libra|hora)\b", name))]


def _german_ordinal(match):
    article, number = match[1], int(match[2])
    nominative = ("die", "das") if match[3] else ("der", "die", "das")  # in der dritten Klasse, der dritte Mai
    ending = "er" if article is None else "e" if article.lower() in nominative else "en"
    return " ".join(filter(None, (article, f"{_GERMAN_ORDINALS[number]}{ending} ")))
