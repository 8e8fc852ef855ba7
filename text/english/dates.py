"""Dates, years, decades and times of day in words. The rules stand in the order in which they are applied."""

import re

from text.english import numbers
from text.english.rules import ALONE, MONTH, MONTHS, NOUN, PLAIN_MONTH, rule, words

# An empty group where the full stop ends the sentence too: no date stands after it.
_ENDS = rf"(?=[\"')]*$| (?!{MONTH}|[A-Z][a-z]{{2,5}}day|on\b)[A-Z][a-z]+\b)()"
_HALF = rf" ?([AaPp])(?:\.[Mm]\.|\.?[Mm]\b)(?:(?<=\.){_ENDS})?"
_DAYS_IN_MONTH = 31
_NTH = r"(?:st|nd|rd|th)"
_DURATIONS = {"d": "day", "h": "hour", "m": "minute", "s": "second"}
_HHMM = r"(?:[01]\d|2[0-3])[0-5]\d"
_AFTER_MONTH = "|".join(f"(?<={month})" for month in MONTHS)
# Words before a day without its year, 5/31; "by 2/3" is a fraction, but not "by 5/1" nor "by 4/15".
_BEFORE_DATES = (
    "on", "due", "until", "since", "before", "after", "through", "thru", "starting", "starts", "begins", "beginning",
    "ends", "ending", "expires", "arrives", "arriving", "week of", "RSVP by",
)  # fmt: skip
_DATED = "|".join(rf"(?<=\b[{word[0].upper()}{word[0]}]{word[1:]} )" for word in _BEFORE_DATES)
_BETWEEN = "|".join(rf"(?<=etween {above}/{below}) and " for above in (r"\d", r"\d\d") for below in (r"\d", r"\d\d"))
_SLASHED_FRACTION = r"(?:1/\d|[23]/[345]|3/8|4/5|5/[68]|7/8|10/10|\d/10|\d\d?/(?:16|32|64))\b"
_NO_MORE = rf"\b(?![/-]|[.,]\d| of\b| ?(?:in|ft|mi|lbs?|oz|cm|mm)\b|{NOUN})"
_RATIO = " (?:ratio|dilution|mixture|mix|scale|odds|split)\\b(?! (?:the|an?)\\b)"


def _month_day_year(month, day, year, otherwise, day_first=False):
    """Words of a date in numbers; what was written where there is no such month or day."""
    month, day = int(month), int(day)
    if month > len(MONTHS):
        month, day, day_first = day, month, True
    if not 1 <= month <= len(MONTHS) or not 1 <= day <= _DAYS_IN_MONTH:
        return otherwise
    month, day, year = MONTHS[month - 1], numbers.ordinal(str(day)), f", {_year(year)}" if year else ""
    return f"the {day} of {month}{year}" if day_first else f"{month} {day}{year}"


def _dates(match):
    """6/1 to 6/15, where not both are fractions as people write them."""
    first, between, last = match[1], match[2], match[3]
    if all(re.fullmatch(_SLASHED_FRACTION, each) for each in (first, last)):
        return match[0]
    said = [_month_day_year(*each.split("/"), None, None) for each in (first, last)]
    return (" to " if "-" in between else between).join(said) if all(said) else match[0]


def _year(digits):
    """Of four digits, or of its last two."""
    return numbers.pairs(digits) if len(digits) == 4 else numbers.two_digits(digits)


def _day_of_month(match):
    article, day, *months, year = match.groups()
    if not 1 <= int(day) <= _DAYS_IN_MONTH:
        return match[0]
    day = f"{article or 'the '}{numbers.ordinal(day)} of {next(filter(None, months))}"
    return f"{day}, {numbers.pairs(year)}" if year else day


def _nth(match):
    """A day of the month, which the rule of ordinals reads later."""
    return f"{match[1]} {numbers.nth(match[2])}" if 1 <= int(match[2]) <= _DAYS_IN_MONTH else match[0]


def _quarter(match):
    number, year = match[1] or match[3], match[2] or match[4]
    return f"the {numbers.ordinal(number)} quarter of {_year(year)}"


def _time(match):
    """Hour and minute; seconds where they are written; o'clock where nothing else says that it is a time."""
    hour, minute, second, half, end = match.groups()
    minutes = numbers.two_digits(minute) if minute and int(minute) else ""
    half = _half(half, end) if half else ""
    if not half and re.match(_RATIO, match.string[match.end() : match.end() + 20]):
        return f"{numbers.cardinal(hour)} to {numbers.cardinal(minute)}"
    if second:
        return words(_count(hour, "hour"), _count(minute, "minute"), "and " + _count(second, "second"), half)
    return words(numbers.cardinal(hour), minutes, half or ("" if minutes else "o'clock"))


def _count(digits, unit):
    return f"{numbers.cardinal(str(int(digits)))} {unit}{'' if int(digits) == 1 else 's'}"


def _half(letter, end):
    return f"{letter.upper()}M" + ("" if end is None else ".")  # not a m, which begins like a cat


def _decade(match):
    """1960s, the 60s or 1920's: a plural, but for the possessive, which sounds the same."""
    return numbers.plural(numbers.pairs(match[1]) if match[1] else numbers.cardinal(match[2]))


def _military(match):
    """0800: zero eight hundred; 1430-1500: fourteen thirty to fifteen hundred."""
    said = []
    for digits in re.findall(r"\d{4}", match[0]):
        zero = "zero" if digits[0] == "0" else ""
        minutes = numbers.two_digits(digits[2:]) if int(digits[2:]) else "hundred"
        said.append(words(zero, numbers.cardinal(digits[:2]), minutes))
    return " to ".join(said)


def _duration(match):
    """2h 15m: two hours fifteen minutes."""
    parts = re.findall(r"(\d+) ?([a-z]+|$)", match[0])
    return " ".join(_count(number, _DURATIONS[unit[0]]) if unit else numbers.cardinal(number) for number, unit in parts)


DATES = (
    rule("range of dates", "May 5th - June 3rd", "May fifth to June third",
         rf"(?:(?<=\d)|(?<=\d[nrst][dht])) ?- ?(?={MONTH} \d)|(?:(?<=[a-z])-|(?:{_AFTER_MONTH}) - )(?=\d\d? {MONTH}\b)|"
         rf"(?<=[a-z] \d{{4}}) ?- ?(?=\d\d? {MONTH} \d{{4}}\b)",
         " to "),
    rule("date and time", "2010-07-05T10:30:00Z", "July fifth, twenty ten, ten hours thirty minutes and zero seconds Z",
         r"(?<=\d-\d\d)T(?=\d\d:\d\d)|(?<=\d\d)(?=Z\b)", lambda m: ", " if m[0] else " "),
    rule("date, year first", "2010-07-05", "July fifth, twenty ten",
         r"(?<![\w.,/-])(\d{4})([/.-])(\d\d?)\2(\d\d?)\b(?![/-])",
         lambda m: _month_day_year(m[3], m[4], m[1], m[0])),
    rule("date, day first", "25.7.2010", "the twenty-fifth of July, twenty ten",
         r"(?<![\w.,/-])(\d\d?)\.(\d\d?)\.(\d{4})\b", lambda m: _month_day_year(m[2], m[1], m[3], m[0], True)),
    rule("date to date", "6/1-6/15", "June first to June fifteenth",
         rf"(?<![\w.,/-])(\d\d?/\d\d?)( ?- ?| to | through | thru | until |{_BETWEEN})(\d\d?/\d\d?){_NO_MORE}",
         _dates),
    rule("date", "7/25/2010", "July twenty-fifth, twenty ten",
         r"(?<![\w.,/-])(\d\d?)(?:/(\d\d?)/(\d{4}|\d\d)|-(\d\d?)-(\d{4}))\b(?![/-])|"
         rf"(?:(?<=[nsi]day, )|(?<=urday, )|(?<=[nsi]day )|(?<=urday )|{_DATED}|"
         rf"(?:(?<=\b[Bb]y )|(?<=\b[Ff]rom ))(?!{_SLASHED_FRACTION}))(?!1/[234]\b|9/11\b|24/7\b)"
         rf"(\d\d?)/(\d\d?){_NO_MORE}",
         lambda m: _month_day_year(m[1] or m[6], m[2] or m[4] or m[7], m[3] or m[5], m[0])),
    rule("day before its month", "on 5 July 2010", "on the fifth of July, twenty ten",
         rf"(?<![\w.,:/$£€-])(?<!\d )([Tt]he )?(\d\d?)(?: ({MONTH})|{_NTH} ({PLAIN_MONTH})|"
         rf"(?:{_NTH})? (may|march)(?=,? \d{{4}}\b))\b(?:,? (\d{{4}})\b)?", _day_of_month),
    # In running text the readers of LJSpeech say "on July five"; where a date stands for itself, all say "July fifth".
    rule("date that stands for itself", "July 5, 2010", "July fifth, twenty ten",
         rf"(?:^|(?<=[.!?;:] )|(?<=\())({MONTH}) (\d\d?){ALONE}", _nth),
    rule("date without a comma", "on July 5 2010", "on July fifth twenty ten",
         rf"\b({MONTH}|[Mm]ay|[Mm]arch) (\d\d?)(?= \d{{4}}\b)", _nth),
    rule("date in plain letters", "on july 5", "on july fifth", rf"\b({PLAIN_MONTH}) (\d\d?){ALONE}", _nth),
    rule("quarter of a year", "in Q2 2010 or 3Q10", "in the second quarter of twenty ten or the third quarter of ten",
         r"(?<![\w.,-])(?:(?:the )?Q([1-4])(?:[ -]?(?=\d{4})| ?'(?=\d\d\b))(\d\d(?:\d\d)?)|([1-4])Q'?(\d{4}|\d\d))\b",
         _quarter),

    rule("business year", "FY2010, FY 24", "F Y twenty ten, F Y twenty-four",
         r"\b([FC])Y'? ?(\d{4}|\d\d)(?:-(\d{4}|\d\d))?\b(?![.,]?\d)",
         lambda m: f"{m[1]} Y {' to '.join(map(_year, filter(None, m.groups()[1:])))}"),

    rule("time range", "9:00-9:30", "nine o'clock to nine thirty",
         r"(?<=[\dmM.]) ?-(?= ?(?:\d\d?:[0-5]\d|\d\d? ?[AaPp]\.?[Mm]\b))|"
         r"(?<=\d:[0-5]\d)-(?=\d\d?\b(?![:/.,-]?\d))", " to "),
    rule("military time", "0800 hours", "zero eight hundred hours",
         rf"(?<![\w.,:-])(?:{_HHMM}(?:-{_HHMM})?(?= ?h\b)|0\d[0-5]\d-{_HHMM}|"
         rf"(?:0\d[0-5]\d|(?!\d\d00){_HHMM})(?= ?(?:hours|hrs|Z)\b)|"
         rf"(?:(?<=[aA]t )|(?<=[bB]y )|(?<=rom )|(?<=til )|(?<=ore )|(?<=ter ))"
         rf"(?:0\d[0-5]\d|{_HHMM}(?:-{_HHMM})?(?= hours)))\b(?![.,:]?\d)", _military),
    rule("duration", "2h 15m, 1h30", "two hours fifteen minutes, one hour thirty",
         r"(?<![\w.,:-])(?:\d{1,4} ?(?:d|h|hrs?)(?: ?\d{1,2} ?(?:hrs?|h|min|m|sec|s)\b){1,3}|\d{1,2}h[0-5]\d\b|"
         r"\d{1,3} ?m(?:in)? ?[0-5]?\d ?s(?:ec)?\b)", _duration),
    rule("seconds of a race", "9.58s", "nine point five eight seconds",
         r"(?:(?<=\d\.\d)|(?<=\d\.\d\d)) ?s\b|(?<!\d\d\d0)(?<![eE] \d0)(?<=\d) s\b(?!\.)", " seconds"),
    rule("time of a race", "3:45.2", "three forty-five point two",
         r"(?<![\d:.])(\d{1,2}):([0-5]\d)\.(\d{1,3})\b(?!\.\d)",
         lambda m: f"{numbers.cardinal(m[1])} {numbers.two_digits(m[2])} point {numbers.one_by_one(m[3])}"),
    rule("time, till noon", "10 am-noon", "ten AM to noon",
         r"(?<=[mM\d])-(?=(?:noon|midnight)\b)|(?:(?<=noon)|(?<=night))-(?=\d)", " to "),
    rule("time", "12:36 p.m., 9:00", "twelve thirty-six PM, nine o'clock",
         rf"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?!\d|[:,]\d)(?:{_HALF}| ?(?:h|hrs|hours)\b)?", _time),
    rule("time with a point", "8.30 p.m.", "eight thirty PM.",
         rf"(?<![\d:.,])(1?\d)\.([0-5]\d)(){_HALF}", _time),
    rule("time of whole hours", "5 pm", "five PM", rf"(?<![\d:.,])(1?\d)()(){_HALF}", _time),
    rule("time zone", "5 p.m. e.s.t.", "five PM EST.", r"(?<=[AP]M) ?([ecmpECMP])\.?([sdSD])\.?([tT])\b(?:\.(?! |$))?",
         lambda m: f" {''.join(m.groups()).upper()}"),
    rule("year before Christ", "250 B.C.", "two fifty B C.",
         r"(?<![\d.,])(\d{3,4})(?:-(\d{3,4}))?(?= ?(?:B ?C|C ?E|A ?D)\b)",
         lambda m: " to ".join(map(numbers.pairs, filter(None, m.groups()))) + " "),
    rule("year of the Lord", "A.D. 1066", "A D ten sixty-six", r"(?:(?<=A D )|(?<=AD ))(\d{3,4})\b(?![.,]\d)",
         lambda m: numbers.pairs(m[1])),
    rule("year of a date", "in June 13, 323", "in June thirteen, three twenty-three",
         rf"({MONTH} \d\d?{_NTH}?,(?= \d{{3,4}}\b)|{MONTH}(?: \d\d?| of)?(?= \d{{4}}\b)) (\d+)(?![,.]\d)",
         lambda m: f"{m[1]} {numbers.pairs(m[2])}"),
    rule("year in a sentence", "in 605, he", "in six oh five, he",
         r"\b([Ii]n|[Ss]ince|[Yy]ear|[Uu]ntil|circa) ([1-9]\d\d|10\d\d|2[1-9]\d\d)"
         r"(?=[,;:.)]?$|[,;:)] [A-Za-z\"'(]|\. [A-Z]| [A-Z]|"
         r" (?:the|a|an|he|she|it|they|we|his|her|their|when|after|and he|by|at|under|with|was|as)\b)",
         lambda m: f"{m[1]} {numbers.pairs(m[2])}"),
    rule("years before 1100", "from 1016 to 1035", "from ten sixteen to ten thirty-five",
         r"(?:(?<=\b[Ff]rom )(10\d\d) to |(?<![\w.,-])(10\d\d)-(?=\d{4}\)))(1[0-2]\d\d)(?![,.]?\d|-| [a-z]{1,20}s\b)",
         lambda m: f"{numbers.pairs(m[1] or m[2])} to {numbers.pairs(m[3])}"),
    rule("range of decades", "1920s-30s", "nineteen twenties to thirties", r"(?<=\d0s)-(?='?\d{1,3}0s\b)", " to "),
    rule("decades", "the '20s, 1960s", "the twenties, nineteen sixties",
         r"(?<!\w)'?\b(?:(1[1-9]\d0|20\d0) ?|([2-9]0))'?s\b", _decade),
    rule("years to years", "1905-08", "nineteen oh five to oh eight",
         r"(?<![\w.,-])(1[1-9]\d\d|20\d\d)-(\d\d)\b(?![-\d]|[.,]\d)",
         lambda m: f"{numbers.pairs(m[1])} to {numbers.two_digits(m[2])}"),
    rule("year without its century", "in '45", "in forty-five", r"(?<![\w'])'(\d\d)\b(?!['\d]|[.,:]\d)",
         lambda m: numbers.two_digits(m[1])),
)  # fmt: skip

# Without a number before; after the times, which say the half themselves.
HALVES = (
    rule("half of the day", "in the a.m.", "in the AM.", rf"\b([AaPp])\.[Mm]\.(?:{_ENDS})?",
         lambda m: _half(m[1], m[2])),
)  # fmt: skip
