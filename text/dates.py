"""Dates, years, decades and times of day in words. The rules stand in the order in which they are applied."""

from text import numbers
from text.rules import MONTH, MONTHS, OPENERS, rule, words

_ENDS = rf"(?=[\"')]*$| {OPENERS})()"  # an empty group where the full stop ends the sentence as well
_HALF = rf" ?([AaPp])(?:\.[Mm]\.|[Mm]\b)(?:(?<=\.){_ENDS})?"
_DAYS_IN_MONTH = 31


def _month_day_year(month, day, year, otherwise):
    """Words of a date in numbers; what was written where there is no such month or day."""
    month, day = int(month), int(day)
    if month > len(MONTHS) and day <= len(MONTHS):
        month, day = day, month
    if not 1 <= month <= len(MONTHS) or not 1 <= day <= _DAYS_IN_MONTH:
        return otherwise
    year = numbers.pairs(year) if len(year) == 4 else numbers.two_digits(year)
    return f"{MONTHS[month - 1]} {numbers.ordinal(str(day))}, {year}"


def _day_of_month(match):
    if not 1 <= int(match[2]) <= _DAYS_IN_MONTH:
        return match[0]
    day = f"{match[1] or 'the '}{numbers.ordinal(match[2])} of {match[3]}"
    return f"{day}, {numbers.pairs(match[4])}" if match[4] else day


def _time(match):
    """Hour and minute; seconds where they are written; o'clock where nothing else says that it is a time."""
    hour, minute, second, half, end = match.groups()
    minutes = numbers.two_digits(minute) if minute and int(minute) else ""
    if half:
        seconds = f"and {_count(second, 'second')}" if second else ""
        return words(_words(hour), minutes, seconds, _half(half, end))
    if second:
        return words(_count(hour, "hour"), _count(minute, "minute"), "and " + _count(second, "second"))
    if not minutes:
        minutes = "o'clock" if 1 <= int(hour) <= 12 else "hundred"
    return words(_words(hour), minutes)


def _words(digits):
    return numbers.cardinal(str(int(digits)))


def _count(digits, unit):
    return f"{_words(digits)} {unit}{'' if int(digits) == 1 else 's'}"


def _half(letter, end):
    return f"{letter.upper()}M" + ("" if end is None else ".")  # not a m, which begins like a cat


def _decade(match):
    """1960s, the 60s or 1920's: a plural, but for the possessive, which sounds the same."""
    return numbers.plural(numbers.pairs(match[1]) if len(match[1]) == 4 else numbers.cardinal(match[1]))


def _span(match):
    return f"{numbers.pairs(match[1])} to {numbers.two_digits(match[2])}"


DATES = (
    rule("date, year first", "2010-07-05", "July fifth, twenty ten",
         r"(?<![\w.,/-])(\d{4})([/.-])(\d\d?)\2(\d\d?)\b(?![/-])",
         lambda m: _month_day_year(m[3], m[4], m[1], m[0])),
    rule("date, day first", "25.7.2010", "July twenty-fifth, twenty ten",
         r"(?<![\w.,/-])(\d\d?)\.(\d\d?)\.(\d{4})\b", lambda m: _month_day_year(m[2], m[1], m[3], m[0])),
    rule("date", "7/25/2010", "July twenty-fifth, twenty ten",
         r"(?<![\w.,/-])(\d\d?)(?:/(\d\d?)/(\d{4}|\d\d)|-(\d\d?)-(\d{4}))\b(?![/-])",
         lambda m: _month_day_year(m[1], m[2] or m[4], m[3] or m[5], m[0])),
    rule("day before its month", "on 5 July 2010", "on the fifth of July, twenty ten",
         rf"(?<![\w.,:/$£€-])(?<!\d )([Tt]he )?(\d\d?) ({MONTH})\b(?:,? (\d{{4}})\b)?", _day_of_month),

    rule("time range", "9:00-9:30", "nine o'clock to nine thirty", r"(?<=[\dmM.])-(?=\d\d?:[0-5]\d|\d\d? ?[ap]\.?m\b)",
         " to "),
    rule("time", "12:36 p.m., 9:00", "twelve thirty-six PM, nine o'clock",
         rf"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?!\d|:\d)(?:{_HALF})?", _time),
    rule("time with a point", "8.30 p.m.", "eight thirty PM.",
         rf"(?<![\d:.,])(1?\d)\.([0-5]\d)(){_HALF}", _time),
    rule("time of whole hours", "5 pm", "five PM", rf"(?<![\d:.,])(1?\d)()(){_HALF}", _time),
    rule("year before Christ", "250 B.C.", "two fifty B C.", r"(?<![\d.,])(\d{3,4})(?= ?(?:B ?C|C ?E|A ?D)\b)",
         lambda m: numbers.pairs(m[1]) + " "),
    rule("year of the Lord", "A.D. 1066", "A D ten sixty-six", r"(?:(?<=A D )|(?<=AD ))(\d{3,4})\b(?![.,]\d)",
         lambda m: numbers.pairs(m[1])),
    rule("year of a date", "June 13, 323", "June thirteen, three twenty-three",
         rf"({MONTH} \d\d?,(?= \d{{3,4}}\b)|{MONTH}(?: \d\d?| of)?(?= \d{{4}}\b)) (\d+)(?![,.]\d)",
         lambda m: f"{m[1]} {numbers.pairs(m[2])}"),
    rule("year in a sentence", "in 605, he", "in six oh five, he",
         r"\b([Ii]n|[Ss]ince|[Yy]ear|[Uu]ntil|circa) ([1-9]\d\d|10\d\d|2[1-9]\d\d)"
         r"(?=[,;:.)]?$|[,;:)] [A-Za-z\"'(]|\. [A-Z]| [A-Z]|"
         r" (?:the|a|an|he|she|it|they|we|his|her|their|when|after|and he|by|at|under|with|was|as)\b)",
         lambda m: f"{m[1]} {numbers.pairs(m[2])}"),
    rule("decades", "the '20s, 1960s", "the twenties, nineteen sixties", r"(?<!\w)'?\b(1[1-9]\d0|20\d0|[2-9]0)'?s\b",
         _decade),
    rule("years to years", "1905-08", "nineteen oh five to oh eight",
         r"(?<![\w.,-])(1[1-9]\d\d|20\d\d)-(\d\d)\b(?![-\d]|[.,]\d)", _span),
    rule("year without its century", "in '45", "in forty-five", r"(?<![\w'])'(\d\d)\b(?!['\d]|[.,:]\d)",
         lambda m: numbers.two_digits(m[1])),
)  # fmt: skip

# Without a number before; after the times, which say the half themselves.
HALVES = (
    rule("half of the day", "in the a.m.", "in the AM.", rf"\b([AaPp])\.[Mm]\.(?:{_ENDS})?",
         lambda m: _half(m[1], m[2])),
)  # fmt: skip
