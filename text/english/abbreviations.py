"""Abbreviations, initials and Roman numerals in words. The rules stand in the order in which they are applied."""

import re

from text.english import numbers
from text.english.rules import ALONE, MONTH, MONTHS, OPENERS, any_of, rule

_WORDS = {
    "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Messrs": "messieurs", "Dr": "doctor", "St": "saint", "Ste": "saint",
    "Co": "company", "Corp": "corporation", "Inc": "incorporated", "Ltd": "limited", "Bros": "brothers",
    "Jr": "junior", "Sr": "senior", "Esq": "esquire", "Hon": "honorable", "Rev": "reverend", "Prof": "professor",
    "Gen": "general", "Maj": "major", "Col": "colonel", "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant",
    "Cpl": "corporal", "Pvt": "private", "Adm": "admiral", "Cmdr": "commander", "Brig": "brigadier",
    "Supt": "superintendent", "Insp": "inspector", "Msgr": "monsignor", "Mme": "madame", "Mlle": "mademoiselle",
    "Gov": "governor", "Sen": "senator", "Rep": "representative", "Pres": "president", "Ft": "fort", "Mt": "mount",
    "Ave": "avenue", "Blvd": "boulevard", "Rd": "road", "Ln": "lane", "Hwy": "highway", "Pkwy": "parkway",
    "Expy": "expressway", "Apt": "apartment", "Bldg": "building", "Dept": "department", "dept": "department",
    "Govt": "government", "govt": "government", "Assn": "association", "Univ": "university", "Intl": "international",
    "approx": "approximately", "etc": "et cetera", "vs": "versus", "viz": "namely", "cf": "compare",
    "tel": "telephone", "Tel": "telephone",
    "Jan": "january", "Feb": "february", "Aug": "august", "Sept": "september", "Oct": "october", "Nov": "november",
    "Dec": "december",
}  # fmt: skip
_TITLES = "Mr|Mrs|Ms|Messrs|Dr|St|Prof|Capt|Lt|Sgt"  # also found without a full stop, as the British write
_ROADS = {
    "St": "street", "Dr": "drive", "Ave": "avenue", "Av": "avenue", "Blvd": "boulevard", "Rd": "road", "Ln": "lane",
    "Hwy": "highway", "Pkwy": "parkway", "Expy": "expressway", "Fwy": "freeway", "Ct": "court", "Pl": "place",
    "Sq": "square", "Ter": "terrace", "Cir": "circle", "st": "street", "rd": "road", "ave": "avenue", "hwy": "highway",
    "blvd": "boulevard", "pkwy": "parkway", "expy": "expressway",
}  # fmt: skip
_ROAD = any_of(_ROADS)
_ON_A_ROAD = r"\b(?!The|My)([A-Z][a-z]{2,20}|\d{1,3}(?:st|nd|rd|th)) (" + _ROAD + ")"
_BEFORE_NUMBER = {
    "p": "page", "pp": "pages", "vol": "volume", "vols": "volumes", "ch": "chapter", "chap": "chapter",
    "fig": "figure", "figs": "figures", "sec": "section", "art": "article", "par": "paragraph", "ver": "version",
    "apt": "apartment", "ste": "suite", "ext": "extension", "rm": "room",
    "bk": "book", "pt": "part", "est": "established",
}  # fmt: skip
_STATES = {
    "AL": "Alabama", "AK": "Alaska", "AZ": "Arizona", "AR": "Arkansas", "CA": "California", "CO": "Colorado",
    "CT": "Connecticut", "DE": "Delaware", "FL": "Florida", "GA": "Georgia", "HI": "Hawaii", "ID": "Idaho",
    "IL": "Illinois", "IN": "Indiana", "IA": "Iowa", "KS": "Kansas", "KY": "Kentucky", "LA": "Louisiana",
    "ME": "Maine", "MD": "Maryland", "MA": "Massachusetts", "MI": "Michigan", "MN": "Minnesota", "MS": "Mississippi",
    "MO": "Missouri", "MT": "Montana", "NE": "Nebraska", "NV": "Nevada", "NH": "New Hampshire", "NJ": "New Jersey",
    "NM": "New Mexico", "NY": "New York", "NC": "North Carolina", "ND": "North Dakota", "OH": "Ohio",
    "OK": "Oklahoma", "OR": "Oregon", "PA": "Pennsylvania", "RI": "Rhode Island", "SC": "South Carolina",
    "SD": "South Dakota", "TN": "Tennessee", "TX": "Texas", "UT": "Utah", "VT": "Vermont", "VA": "Virginia",
    "WA": "Washington", "WV": "West Virginia", "WI": "Wisconsin", "WY": "Wyoming",
}  # fmt: skip
STATES = tuple(_STATES.values())
_LONGER_STATES = {
    "Ala": "AL", "Ariz": "AZ", "Ark": "AR", "Calif": "CA", "Cal": "CA", "Colo": "CO", "Conn": "CT", "Del": "DE",
    "Fla": "FL", "Ga": "GA", "Ill": "IL", "Ind": "IN", "Kan": "KS", "Ky": "KY", "La": "LA", "Mass": "MA", "Md": "MD",
    "Mich": "MI", "Minn": "MN", "Miss": "MS", "Mo": "MO", "Mont": "MT", "Neb": "NE", "Nev": "NV", "Okla": "OK",
    "Ore": "OR", "Pa": "PA", "Penn": "PA", "Tenn": "TN", "Tex": "TX", "Va": "VA", "Vt": "VT", "Wash": "WA",
    "Wis": "WI", "Wyo": "WY",
}  # fmt: skip
_WORDS_TOO = r"IN|OR|ME|OK|HI|OH|LA|PA|MA|ID"  # are states only before a ZIP code: "Well, OK, HE SAID"
_CITY = r"(?<=[a-z], )"
_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_DAYS = {
    "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday", "Thur": "Thursday",
    "Thurs": "Thursday", "Fri": "Friday", "Sat": "Saturday", "Sun": "Sunday",
}  # fmt: skip
_SAID = {"i.e": "that is", "e.g": "for example", "a.k.a": "also known as"}

_LABELS = (
    "Chapter|Book|Part|Volume|Act|Scene|Section|Article|Title|Phase|Type|Class|Stage|Level|Grade|Appendix|Canto|Psalm|"
    "Lesson|Figure|Table|Plate|War|Bowl|Corps|Mark|Vatican|Schedule|Amendment|Unit|Step|Group|Category|Division|Page|"
    "Apollo|Vol"
)
_SMALL_LABELS = (
    "chapter|book|part|volume|act|scene|section|article|page|appendix|canto|psalm|figure|table|plate|lesson|verse"
)
_LABEL = rf"(?:{_LABELS}|{_SMALL_LABELS})"
_KINGS = (
    "Albert|Alexander|Alfonso|Benedict|Catherine|Charles|Christian|Clement|Edward|Elizabeth|Ferdinand|Francis|"
    "Frederick|George|Gregory|Gustav|Henry|Innocent|Ivan|James|John|Joseph|Julius|Leo|Leopold|Louis|Ludwig|Mary|"
    "Napoleon|Nicholas|Otto|Paul|Peter|Philip|Pius|Ramses|Richard|Robert|Rudolf|Stephen|Urban|Wilhelm|William"
)
_NO_NAME = r"The|In|On|At|And|But|Of|For|By|From|To|With|Like|See|As|If|Or|No|Nos|Is|Was|That|This"
_ROMAN_STOP = r"(?:\.(?=,| [a-z\d]))?"  # the full stop that older books put after the numeral
_FIRST = r"I(?=\.?[,;:)'\"]|\.?$|\. [a-z\d]| (?:of|and|to|who|by)\b)"  # not the word, no initial


def _abbreviation(match):
    word = _WORDS[match[1]]
    return f"{word}." if match[2] is not None else word  # a full stop that ends the text is one as well


def _state(match):
    return _STATES[_LONGER_STATES.get(match[1], match[1])]


def _chapter(match):
    number = numbers.roman(match[2])
    return match[0] if number is None else f"{match[1]} {numbers.cardinal(str(number))}"


def _regnal(match):
    number = numbers.roman(match[2])
    return match[0] if number is None else f"{match[1]} the {numbers.ordinal(str(number))}"


def _century(match):
    number = numbers.roman(match[1])
    return match[0] if number is None else numbers.ordinal(str(number))


def _alone(match):
    number = numbers.roman(match[0])
    return match[0] if number is None else numbers.cardinal(str(number))


def _road(match):
    return f"{match[1]} {_ROADS[match[2]]}"


def _month(match):
    return next(month for month in MONTHS if month.startswith(match[1][:3].capitalize()))


def _month_after(match):
    """Only a number, or an ordinal one, says that it is a month."""
    before = match.string[max(0, match.start() - 5) : match.start()]
    if not re.search(r"\d(?:st|nd|rd|th)? $", before):
        return match[0]
    return _month(match) if before[-2].isdigit() else _month(match).lower()


def _like(written, word):
    return word.capitalize() if written[0].isupper() else word


RULES = (
    rule("said in English", "i.e. later", "that is later",
         r"\b(i\.e|e\.g|a\.k\.a)\b\.?", lambda m: _SAID[m[1]]),
    rule("and so on", "tea &c.", "tea et cetera.", r"&c\.", "etc."),
    # Before the rule for the other abbreviations: there St. is a saint, and Dr. a doctor.
    rule("road of a house", "9 Elm St. Boston", "nine Elm street Boston",
         r"(?<![\w,])(\d{1,5} (?:[NSEW]\.? )?(?:[A-Z][a-z]{1,20} |\d{1,3}[a-z]{2} ){1,3})"
         rf"({_ROAD})\b(?:\.(?!$))?",
         lambda m: f"{m[1]}{_ROADS[m[2]]}"),
    rule("road that ends a sentence", "Elm St. He ran", "Elm street. He ran",
         _ON_A_ROAD + rf"(?=\. {OPENERS}|\.[\"')]*$)", _road),
    rule("road", "on Elm St. today", "on Elm street today",
         _ON_A_ROAD + r"\b\.?(?= [a-z\d]|[,;:)?!]|$)", _road),
    rule("direction", "26 N. Beckley", "twenty-six North Beckley", r"(?<=\d )([NSEW])\.? (?=[A-Z\d][a-z\d])",
         lambda m: {"N": "North ", "S": "South ", "E": "East ", "W": "West "}[m[1]]),
    rule("state", "Dallas, TX", "Dallas, Texas",
         rf"{_CITY}((?!{_WORDS_TOO})(?:{any_of(_STATES)}))(?=[.,;:)]|$| [a-z])", _state),
    rule("state before a ZIP code", "Gary, IN 46401", "Gary, Indiana four six four zero one",
         rf"\b({any_of(_STATES)}),?(?= \d{{5}}\b)", _state),
    rule("state, shortened", "Dallas, Tex.", "Dallas, Texas",
         rf"{_CITY}({any_of(_LONGER_STATES)})\.(?![A-Za-z])", _state),
    rule("month after a number", "5 Mar., 2010", "the fifth of March, twenty ten",
         rf"(?<=[\dhdt] )({_MONTHS}|jan|feb|apr|jun|jul|aug|sept|oct|nov)\b\.?(?! [A-Z])", _month_after),
    rule("month before a number", "on Mar. 5", "on March fifth",
         rf"\b({_MONTHS}|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec|{_MONTHS.upper()})\b(?:\.? |-)"
         rf"(?:(3[01]|[12]\d|0?[1-9])(?:(-)(?=\d{{4}}\b)|{ALONE})|(?=\d))",
         lambda m: f"{_month(m)} {numbers.nth(m[2]) if m[2] else ''}{' ' if m[3] else ''}"),
    rule("weekday", "Tues. 4 May", "Tuesday, the fourth of May",
         rf"\b(?<!he )({any_of(_DAYS)})\b\.?,? (?={MONTH}|\d)", lambda m: f"{_DAYS[m[1]]}, "),
    rule("suite", "Ste. 200", "suite two hundred", r"\bSte\.? (?=\d)", "suite "),
    rule("around a year", "c. 1455", "circa fourteen fifty-five", r"\bca?\. ?(?=\d{3,4}\b)", "circa "),
    rule("word before a number", "vol. 2", "volume two",
         rf"\b({any_of(_BEFORE_NUMBER)}|{any_of(_BEFORE_NUMBER).title()})\. ?(?=\d|[IVXivx]{{1,7}}\b)",
         lambda m: _like(m[1], _BEFORE_NUMBER[m[1].lower()]) + " "),
    rule("against", "Roe v. Wade", "Roe versus Wade", r"(?<=[a-z.]) v\. (?=[A-Z])", " versus "),
    rule("abbreviation that ends a sentence", "Rose & Co. They", "Rose and company. They",
         rf"\b(Co|Corp|Inc|Ltd|Bros|Jr|Sr|Esq|etc)(?=\. {OPENERS})", lambda m: _WORDS[m[1]]),
    rule("abbreviation", "Mrs. Smith", "missus Smith",
         rf"\b({any_of(_WORDS)})\.((?=[\"')]*$))?", _abbreviation),
    rule("title without a full stop", "Mr Smith", "mister Smith",
         rf"\b({_TITLES}) (?=(?:and )?[A-Z])", lambda m: f"{_WORDS[m[1]]} "),
    rule("versus", "Ali vs Frazier", "Ali versus Frazier", r"\bvs(?= )", "versus"),
    rule("with", "w/ milk, w/o sugar", "with milk, without sugar", r"(?<![\w/])w/(o\b)?(?= ?[a-z])",
         lambda m: "without" if m[1] else "with "),

    rule("numeral of a part", "Chapter IV", "Chapter four",
         rf"\b({_LABEL})\.? ((?:(?=[IVXL]{{2,8}}\b|[ivx]{{2,7}}\b)|(?=[VX]\b))[IVXLivx]+)\b", _chapter),
    rule("part one", "Act I, Scene I.", "Act one, Scene one.",
         rf"\b({_LABELS})\.? (I)(?=[.,;:)'\"-]|$| (?:of|and|or|in|to|is|was)\b| [A-Z])", _chapter),
    rule("numeral of a king", "Henry V. of England", "Henry the fifth of England",
         rf"\b({_KINGS}) ([VX](?!\. [A-Z])|{_FIRST})\b{_ROMAN_STOP}", _regnal),
    rule("numeral after a name", "William IV. was", "William the fourth was",
         rf"\b(?!(?:{_NO_NAME}) )([A-Z][a-z]{{2,30}}) ((?!XXX\b)[IVX]{{2,7}})\b{_ROMAN_STOP}", _regnal),
    rule("numeral of a century", "the XIX century", "the nineteenth century",
         r"(?<=the )([IVX]{2,6}|[VX](?= century))(?:th)?(?=(?: and)? [a-z])", _century),
    rule("numeral", "II. Genesis", "two. Genesis", r"(?<![\w.'-])(?!IV\b|XXX?\b)[IVX]{2,7}\b(?!['-])", _alone),

    rule("doctorate", "a Ph.D.", "a P H D.", r"\bPh\.? ?D\b", "P H D"),
    rule("initials inside", "the U.S.", "the U S.", r"\b(?![AP]\.M\.)([A-Z])\.(?=[A-Z]\b)", r"\1 "),
    rule("initials", "J. Smith", "J Smith",  # "and I. They" ends a sentence
         r"\b(?<![AP]\.)([A-HJ-Z])\.(?= [A-Za-z\d]|[,;])", r"\1"),
)  # fmt: skip
