"""Abbreviations, initials and Roman numerals in words. The rules stand in the order in which they are applied."""

import re

from text.english import numbers
from text.english.rules import ALONE, MONTH, MONTHS, OPENERS, any_of, preceded_by, rule

_TITLES = {  # before names, so that the full stop ends no sentence
    "Mr": "mister", "Mrs": "missus", "Ms": "miz", "Messrs": "messieurs", "Dr": "doctor", "St": "saint", "Ste": "saint",
    "Hon": "honorable", "Rev": "reverend", "Prof": "professor", "Gen": "general", "Maj": "major", "Col": "colonel",
    "Capt": "captain", "Lt": "lieutenant", "Sgt": "sergeant", "Cpl": "corporal", "Pvt": "private", "Adm": "admiral",
    "Cmdr": "commander", "Brig": "brigadier", "Supt": "superintendent", "Insp": "inspector", "Msgr": "monsignor",
    "Mx": "mix", "Amb": "ambassador", "Wm": "William", "Chas": "Charles", "Jas": "James", "Thos": "Thomas",
    "Mme": "madame", "Mlle": "mademoiselle", "Gov": "governor", "Sen": "senator", "Rep": "representative",
    "Pres": "president", "Ft": "fort", "Mt": "mount", "Pt": "point", "viz": "namely", "cf": "compare",
}  # fmt: skip
_WORDS = {  # with a full stop, as written here
    "Co": "company", "co": "company", "Corp": "corporation", "corp": "corporation", "ltd": "limited",
    "prof": "professor", "Rte": "route", "Ret": "retired", "est": "estimated", "sq": "square", "cu": "cubic",
    "Ltd": "limited", "Jr": "junior", "Sr": "senior", "Esq": "esquire", "Ave": "avenue", "Rd": "road", "Ln": "lane",
    "Expy": "expressway", "Calif": "California", "Natl": "national", "Intl": "international",
    "Jan": "january", "Feb": "february", "Aug": "august", "Sept": "september", "Oct": "october", "Nov": "november",
    "Dec": "december", "Mon": "Monday", "Tue": "Tuesday", "Tues": "Tuesday", "Wed": "Wednesday", "Thu": "Thursday",
    "Thur": "Thursday", "Thurs": "Thursday", "Fri": "Friday",
    "min": "minimum", "max": "maximum", "ref": "reference", "vol": "volume",
    "vols": "volumes", "eq": "equation", "wt": "weight", "ht": "height",
    "yr": "year", "hr": "hour", "sec": "second", "dr": "doctor", "mo": "month", "wk": "week",
}  # fmt: skip
_IN_ANY_CASE = {  # with a full stop
    "etc": "et cetera", "vs": "versus", "tel": "telephone", "misc": "miscellaneous", "incl": "including",
    "excl": "excluding", "apt": "apartment", "orig": "original", "hosp": "hospital", "stn": "station",
    "esp": "especially", "resp": "respectively", "prev": "previous", "cont": "continued", "std": "standard",
    "assoc": "association", "equiv": "equivalent", "req": "required", "exec": "executive", "treas": "treasurer",
    "univ": "university", "bros": "brothers", "inc": "incorporated", "dist": "district",
    "et al": "et al", "dir": "director", "div": "division", "encl": "enclosed",
}  # fmt: skip
_WITHOUT_STOP_TOO = {  # in any case, and no words that one could mean
    "approx": "approximately", "dept": "department", "depts": "departments", "govt": "government",
    "assn": "association", "attn": "attention", "mfr": "manufacturer", "mfg": "manufacturing", "mgmt": "management",
    "mgr": "manager", "bldg": "building", "pkg": "package", "pkgs": "packages", "qty": "quantity", "avg": "average",
    "doz": "dozen", "natl": "national", "intl": "international", "acct": "account", "amt": "amount",
    "pls": "please", "thx": "thanks", "accts": "accounts", "appt": "appointment",
    "asst": "assistant", "mtg": "meeting", "blvd": "boulevard", "hwy": "highway",
    "pkwy": "parkway", "tbsp": "tablespoon", "tsp": "teaspoon", "int'l": "international",
    "nat'l": "national", "gov't": "government", "dep't": "department", "ass'n": "association", "ppl": "people",
    "cont'd": "continued", "hrs": "hours", "fri": "Friday", "tues": "Tuesday", "thurs": "Thursday", "utd": "united",
    "idk": "I don't know", "tmrw": "tomorrow",
}  # fmt: skip
_ABBREVIATIONS = _TITLES | _WORDS | _IN_ANY_CASE | _WITHOUT_STOP_TOO
_UNITS = ("min", "hr", "sec", "yr", "mo", "wk", "doz", "pkg", "pkgs", "tbsp", "tsp")  # after a number: quantities.py's
_SLASHED = {"w/": "with ", "w/o": "without ", "w/out": "without ", "b/c": "because ", "c/o": "care of "}
# The full stop of an abbreviation, where it ends neither the text nor a sentence that another one follows.
_STOP = rf"(?:\.(?![\"')]*$| {OPENERS}))?"
_BRITISH_TITLES = "Mr|Mrs|Ms|Messrs|Dr|St|Prof|Capt|Lt|Sgt"  # also found without a full stop
_ROADS = {
    "St": "street", "Dr": "drive", "Ave": "avenue", "Av": "avenue", "Blvd": "boulevard", "Rd": "road", "Ln": "lane",
    "Hwy": "highway", "Pkwy": "parkway", "Expy": "expressway", "Fwy": "freeway", "Ct": "court", "Pl": "place",
    "Sq": "square", "Ter": "terrace", "Cir": "circle",
}  # fmt: skip
_ROADS |= {short.lower(): _ROADS[short] for short in ("St", "Rd", "Ave", "Hwy", "Blvd", "Pkwy", "Expy")}
_ROAD = any_of(_ROADS)
_ON_A_ROAD = rf"\b(?!The|My)((?:[A-Z][a-z]{{2,20}}(?:'s(?! Dr\b))?|\d{{1,3}}(?:st|nd|rd|th)) )({_ROAD})"
_BEFORE_NUMBER = {
    "p": "page", "pp": "pages", "vol": "volume", "vols": "volumes", "ch": "chapter", "chs": "chapters",
    "chap": "chapter", "fig": "figure", "figs": "figures", "sec": "section", "sect": "section", "art": "article",
    "par": "paragraph", "ver": "version", "apt": "apartment", "ste": "suite", "ext": "extension", "rm": "room",
    "fl": "floor", "bk": "book", "pt": "part", "est": "established", "eq": "equation", "eqs": "equations",
    "tab": "table", "app": "appendix", "rt": "route", "dep": "departs", "arr": "arrives",
    "bldg": "building", "eqn": "equation", "thm": "theorem", "sc": "scene", "ref": "reference", "ex": "example",
    "op": "opus",
}  # fmt: skip
_NOUNS = ("app", "ex", "op", "tab", "art", "par", "ref", "fig")  # of these, words as well, which may end a sentence
_NUMERAL = "(?:[IVXLCDM]{1,9}|[ivxlc]{1,9})"
_NUMBERED = "App|Figs|Eqs|Fig|Tab|Eq|Sec|Sect|Ch|Vol|Bldg|fig|tab|eq|sect|ch|app"  # before a letter too: Fig. A
_WITHOUT_STOP = "Apt|Rm|Ste|Fig|Vol|Ext|Ch|Eq|apt|rm"  # before a number also without a full stop
_STATES = {
    "DC": "D C",
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
_CITY = r"(?:(?<=[a-z], )|(?<=\([DRI]-))"
_MARYLAND = re.compile(
    r"(?:ville|burg|town|field|Baltimore|Bethesda|Annapolis|Frederick|Columbia|Towson|Salisbury|Bowie|Laurel|Potomac|"
    r"Greenbelt|Waldorf|Easton|Cumberland|Burnie|Aberdeen|Chase|Elkton|Cambridge|Spring|City|Park|County|Heights|Hills?|"
    r"Beach|Grove|Mills?|Head), $|\b(?:[Ii]n|[Nn]ear|[Oo]utside) (?:[A-Z][a-z]{1,20} ){0,2}[A-Z][a-z]{1,20}, $|-$"
)
_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_DAYS = {name: day for name, day in _WORDS.items() if day.endswith("day")} | {"Sat": "Saturday", "Sun": "Sunday"}
_DAY_NAMES = any_of((*_DAYS, *sorted(set(_DAYS.values()))))
_MONTH_NAMES = rf"{_MONTHS}|{any_of(MONTHS)}"
_BETWEEN = r"(?: ?- ?| to | through | thru | and | or |/|, (?:and )?)"
_BOOKS = {  # of the Bible, where chapter and verse stand after them
    "Gen": "Genesis", "Exod": "Exodus", "Ex": "Exodus", "Lev": "Leviticus", "Num": "Numbers", "Deut": "Deuteronomy",
    "Josh": "Joshua", "Judg": "Judges", "Sam": "Samuel", "Chron": "Chronicles", "Neh": "Nehemiah", "Ps": "Psalm",
    "Prov": "Proverbs", "Eccl": "Ecclesiastes", "Isa": "Isaiah", "Jer": "Jeremiah", "Lam": "Lamentations",
    "Ezek": "Ezekiel", "Dan": "Daniel", "Zech": "Zechariah", "Mal": "Malachi", "Matt": "Matthew", "Mt": "Matthew",
    "Mk": "Mark", "Lk": "Luke", "Jn": "John", "Rom": "Romans", "Cor": "Corinthians", "Gal": "Galatians",
    "Eph": "Ephesians", "Phil": "Philippians", "Col": "Colossians", "Thess": "Thessalonians", "Tim": "Timothy",
    "Heb": "Hebrews", "Jas": "James", "Pet": "Peter", "Rev": "Revelation",
}  # fmt: skip
_WHOLE_BOOKS = (*sorted(set(_BOOKS.values())), "Acts", "Job", "Kings", "Ruth", "Esther", "Amos", "Hosea", "Psalms")
_SAID = {
    "i.e": "that is",
    "e.g": "for example",
    "a.k.a": "also known as",
    "WWI": "World War one",
    "WWII": "World War two",
    "World War I": "World War one",
}

_COURTS = {"Cir": "Circuit", "SCt": "Supreme Court", "LEd": "Lawyers' Edition", "CivP": "Civil Procedure",
           "CrimP": "Criminal Procedure"}  # fmt: skip

_PARTS = (
    "chapter|book|part|volume|act|scene|section|article|page|appendix|canto|psalm|figure|table|plate|lesson|verse|line|"
    "type|stage|phase|class|grade|level|episode|clause|paragraph|exhibit|annex"
)
_LABELS = (
    f"{_PARTS.title()}|Title|War|Bowl|Corps|Mark|Vatican|Schedule|Amendment|Unit|Step|Group|Category|Division|Apollo|"
    "Saturn|Vol"
)
_LABEL = f"(?:{_LABELS}|{_PARTS}|item|note|stanza)"
_NO_NUMERALS = ("MIX", "MD", "CD", "DC", "CC", "MC", "DI", "MI", "MM", "CV", "CI", "MCI", "DIM", "mix", "cc", "ci", "I",
                "i", "x", "l", "c", "C", "D", "M", "L")  # fmt: skip
_CONDITIONS = "Schedule|Type|Phase|Stage|Class|Grade|Category|Level"  # "Type I error": which no verb follows
_KINGS = (
    "Abdul|Adrian|Ahmed|Albert|Alexander|Alexis|Alfonso|Alfred|Andrew|Anne|Baldwin|Benedict|Boniface|Boris|Carl|"
    "Casimir|Catherine|Celestine|Charles|Christian|Clement|Constantine|Darius|David|Edmund|Edward|Elizabeth|Eric|"
    "Ernest|Ferdinand|Francis|Frank|Franz|Frederick|George|Gregory|Gustav|Gustavus|Harald|Harold|Harry|Henry|Hugh|"
    "Innocent|Isabella|Ivan|Jack|James|Jean|John|Joseph|Juan|Julius|Karl|Leo|Leopold|Louis|Ludwig|Magnus|"
    "Manuel|Margaret|Maria|Martin|Mary|Matthew|Maximilian|Mehmed|Michael|Mohammed|Muhammad|Murad|Napoleon|Nicholas|"
    "Olaf|Oscar|Otto|Paul|Pedro|Peter|Philip|Pius|Ptolemy|Ramses|Ramesses|Richard|Robert|Roger|Rudolf|Samuel|Selim|"
    "Sigismund|Sixtus|Stephen|Suleiman|Theodore|Thomas|Thutmose|Umberto|Urban|Victor|Vladimir|Walter|Wilhelm|William|"
    "Xerxes"
)
_RULERS = "King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Prince|Princess|Sultan|Shah|Duke|Pharaoh|Saint|Sir|Lord"
_NO_NAME = r"The|In|On|At|And|But|Of|For|By|From|To|With|Like|See|As|If|Or|No|Nos|Is|Was|That|This"
_ROMAN_STOP = r"(?:\.(?=,| [a-z\d]))?"  # the full stop that older books put after the numeral
_LETTERED = re.compile(  # before a letter that is no initial
    r"\b(?:plan|option|vitamin|team|grade|appendix|exhibit|section|hepatitis|choice|answer|version) $", re.IGNORECASE
)
_FIRST = r"I(?=\.?[,;:)'\"]|\.?$|\. [a-z\d]| (?:of|and|to|who|by)\b)"  # not the word, no initial


def _abbreviation(match):
    word = match[1].rstrip(".")
    if word.lower() in _UNITS and preceded_by(match, r"\d[ -]?$"):
        return match[0]
    if word == "min" and preceded_by(match, r"\d(?:st|nd|rd|th) $"):
        return "minute"
    return _ABBREVIATIONS.get(word) or _ABBREVIATIONS[word.lower()]


def _verse(match):
    number, book, stop, chapter, verse, last = match.groups()
    book = _BOOKS.get(book, book) if number or stop else book  # not Sam, at 9:15
    number = f"{numbers.ordinal(number).capitalize()} " if number else ""
    return f"{number}{book} {chapter} {verse}{f' to {last}' if last else ''}"


def _before_number(match):
    """A part by its number, but "in the app. 5 minutes later"."""
    word = (match[1] or match[2] or match[3]).lower()
    if word in _NOUNS and preceded_by(match, r"\b(?:an?|the|this|that|my|your|his|her|its|our|their) $"):
        return match[0]
    return _like(match[0], _BEFORE_NUMBER[word]) + " "


def _days_or_months(match):
    """Mon-Fri: Monday to Friday."""
    said = re.sub(r"\b[A-Z][a-z]{2,4}\b\.?", lambda m: _DAYS.get(m[0].rstrip(".")) or _month(m, 0), match[0])
    return re.sub(" ?- ?", " to ", said).replace("/", " or ").replace(" thru ", " through ")


def _state(match):
    """MD is a doctor after a name: after a comma it is Maryland only where a town says so."""
    if match[1] == "MD" and not _MARYLAND.search(match.string[max(0, match.start() - 40) : match.start()]):
        return match[0]
    return _STATES[_LONGER_STATES.get(match[1], match[1])]


def _chapter(match):
    """A label with one numeral or, where it is a plural or a range, with several."""
    label, rest = match[1], match[2]
    pieces = re.split("([^A-Za-z]+(?:and |or |to )?)", rest)
    if not label.endswith("s") and "-" not in rest:
        pieces = [pieces[0], "".join(pieces[1:])]
    for i in range(0, len(pieces), 2):
        number = numbers.roman(pieces[i])
        if number is None or (pieces[i] in _NO_NUMERALS and not (len(pieces[i]) == 1 and len(pieces) > 2)):
            return match[0]
        pieces[i] = numbers.cardinal(str(number))
        if i and pieces[i - 1] == "-":
            pieces[i - 1] = " to "
    return f"{label} {''.join(pieces)}"


def _numeral(match, numeral, say):
    """What say makes of the digits of a Roman numeral; what was written where it is none."""
    number = numbers.roman(numeral)
    return match[0] if number is None else say(str(number))


def _regnal(match):
    return _numeral(match, match[2], lambda digits: f"{match[1]} the {numbers.ordinal(digits)}")


def _sequel(match):
    """Rocky II; but older books give kings a full stop, III., and go on."""
    if match[0].endswith("."):
        return _regnal(match)
    return _numeral(match, match[2], lambda digits: f"{match[1]} {numbers.cardinal(digits)}")


def _year_or_number(digits):
    return numbers.pairs(digits) if len(digits) == 4 else numbers.cardinal(digits)


def _road(match):
    return f"{match[1]}{_ROADS[match[2]]}"


def _month(match, group=1):
    return next(month for month in MONTHS if month.startswith(match[group][:3].capitalize()))


def _month_after(match):
    """Only a number, or an ordinal one, says that it is a month."""
    if match[1]:
        return f" {_month(match)} "
    if not preceded_by(match, r"\d(?:st|nd|rd|th)? $"):
        return match[0]
    return _month(match, 2) if preceded_by(match, r"\d $") else _month(match, 2).lower()


def _ends_sentence(match):
    """Plan A. Mary left: no initial. But vitamin C. 1000 mg."""
    return preceded_by(match, _LETTERED) and re.match(" ?[A-Z]", match.string[match.end() : match.end() + 2])


def _like(written, word):
    return word.capitalize() if written[0].isupper() else word


RULES = (
    rule("said in English", "i.e. later", "that is later",
         r"\b(?:(i\.e|e\.g|a\.k\.a)\b\.?|(WWII?|World War I)\b)", lambda m: _SAID[m[1] or m[2]]),
    rule("verse of the Bible", "1 Cor. 13:4-7", "First Corinthians thirteen four to seven",
         rf"\b(?:([123]) )?({any_of((*_BOOKS, *_WHOLE_BOOKS))})(\.)? (\d{{1,3}}):([1-9]\d{{0,2}})(?:-(\d{{1,3}}))?"
         r"(?![:\w])",
         _verse),
    rule("court", "9th Cir., S. Ct.", "ninth Circuit, Supreme Court",
         r"(?<=\d[a-z]{2} )Cir\.|\b(?:S\. ?Ct|L\. ?Ed|Civ\. ?P|Crim\. ?P)\b\.?",
         lambda m: _COURTS[re.sub("[. ]", "", m[0])]),
    rule("short ordinal", "F.3d, the 2d Division", "F third, the second Division",
         r"(?<![\w.,])(\d?[23])d\b(?= [A-Z])|(?:(?<=Edition )|(?<=F\.))([23])d\b",
         lambda m: f" {numbers.ordinal(m[1] or m[2])}"),
    rule("edition", "2nd ed.", "second edition.", r"(?<=\d[a-z]{2} )ed(?=\.)", "edition"),
    rule("and so on", "tea &c.", "tea et cetera.", r"&c\.", "etc."),
    # Before the rule for the other abbreviations: there St. is a saint, and Dr. a doctor.
    rule("road of a house", "9 Elm St. Boston", "nine Elm street Boston",
         r"(?<![\w,])(\d{1,5} (?:[NSEW]\.? )?(?:[A-Z][a-z]{1,20} |\d{1,3}[a-z]{2} ){1,3})"
         rf"({_ROAD})\b(?:\.(?!$))?", _road),
    rule("road that ends a sentence", "Elm St. He ran", "Elm street. He ran",
         _ON_A_ROAD + rf"(?=\. {OPENERS}|\.[\"')]*$)", _road),
    rule("road", "on Elm St. today", "on Elm street today",
         _ON_A_ROAD + r"\b\.?(?= [a-z\d]|[,;:)?!]|$| [NS][EW]\b)", _road),
    rule("direction", "26 N. Beckley", "twenty-six North Beckley",
         r"(?<=\d )([NSEW])\.? (?=[A-Z\d][a-z\d])|"
         r"\b([NS]|W(?=\. V))\. (?=(?:Carolina|Dakota|Virginia|Korea|Africa)\b)",
         lambda m: {"N": "North ", "S": "South ", "E": "East ", "W": "West "}[m[1] or m[2]]),
    rule("state", "Dallas, TX", "Dallas, Texas",
         rf"{_CITY}((?!{_WORDS_TOO})(?:{any_of(_STATES)}))(?=[.,;:)]|$| [a-z])", _state),
    rule("state before a ZIP code", "Gary, IN 46401", "Gary, Indiana four six four zero one",
         rf"\b({any_of(_STATES)}),?(?= \d{{5}}\b)", _state),
    rule("state, shortened", "Dallas, Tex.", "Dallas, Texas",
         rf"{_CITY}({any_of(_LONGER_STATES)})\.(?![A-Za-z])", _state),
    rule("days or months", "Mon-Fri, Oct-Dec", "Monday to Friday, October to December",
         rf"\b(?:(?:{_DAY_NAMES})\b(?:\.?{_BETWEEN}(?:{_DAY_NAMES})\b){{1,6}}|"
         rf"(?:{_MONTH_NAMES})\b(?:\.?{_BETWEEN}(?:{_MONTH_NAMES})\b){{1,6}}){_STOP}", _days_or_months),
    rule("day after its time", "from 5 to 7 Sat", "from five to seven Saturday",
         rf"(?:(?<=\d )|(?<=[ap]m )|(?<=[oO]n ))({any_of(_DAYS)})\b(?! [A-Z]){_STOP}|\b(Sat|Sun)\.(?= [a-z])",
         lambda m: _DAYS[m[1] or m[2]]),
    rule("month after a number", "5 Mar., 2010", "the fifth of March, twenty ten",
         rf"(?<=\d)-({_MONTHS})-(?=\d{{2,4}}\b)|"
         rf"(?<=[\dhdt] )({_MONTHS}|jan|feb|apr|jun|jul|aug|sept|oct|nov)\b\.?(?! [A-Z])", _month_after),
    rule("month before a number", "on Mar. 5", "on March fifth",
         rf"\b({_MONTHS}|jan|feb|apr|jun|jul|aug|sept?|oct|nov|dec|{_MONTHS.upper()})\b(?:\.? |-)"
         rf"(?:(3[01]|[12]\d|0?[1-9])(?:(-)(?=\d{{4}}\b)|{ALONE})|(?='?\d))",
         lambda m: f"{_month(m)} {numbers.nth(m[2]) if m[2] else ''}{' ' if m[3] else ''}"),
    rule("weekday", "Tues. 4 May", "Tuesday, the fourth of May",
         rf"\b(?<!he )({any_of(_DAYS)})\b\.?,? (?={MONTH}|\d)", lambda m: f"{_DAYS[m[1]]}, "),
    rule("around a year", "c. 1455", "circa fourteen fifty-five",
         r"\b(?:(?:c|(?<![\w,] )C)\. ?(?=\d{3,4}s?\b)|[Cc]a\. ?(?=\d))", lambda m: _like(m[0], "circa ")),
    rule("word before a number", "vol. 2, App. B", "volume two, Appendix B",
         rf"\b(?:({any_of(_BEFORE_NUMBER)}|{any_of(_BEFORE_NUMBER).title()})\. ?"
         r"(?=\(?\d|(?:[IVXLC]{2,9}|[ivxlc]{2,9}|[IVXivx])\b)|"
         rf"({_NUMBERED})\. (?=[A-Z]\b)|({_WITHOUT_STOP}) (?=\d))",
         _before_number),
    rule("born or died", "b. 1920", "born nineteen twenty",
         rf"(?:\b([bd])|(?<=\()(r))\. ?(?=(?:\d\d? {MONTH} |{MONTH} \d\d?, )?\d{{4}}\b)",
         lambda m: {"b": "born ", "d": "died ", "r": "reigned "}[m[0][0]]),
    rule("against", "Roe v. Wade", "Roe versus Wade", r"(?<=[a-z.]) v\. (?=[A-Z])", " versus "),
    rule("abbreviation", "Mrs. Smith", "missus Smith",
         rf"\b((?:{any_of(_TITLES)})\.(?![\"')]*$)|(?:{any_of(_TITLES)})(?=\.)|"
         rf"(?:{any_of(_WORDS)}|(?i:{any_of(_IN_ANY_CASE)}))(?=\.)|(?!HRs)(?i:{any_of(_WITHOUT_STOP_TOO)})\b(?!\.\w)){_STOP}",
         _abbreviation),
    rule("title without a full stop", "Mr Smith", "mister Smith",
         rf"\b({_BRITISH_TITLES}) (?=(?:and )?[A-Z])", lambda m: f"{_TITLES[m[1]]} "),
    rule("versus", "Ali vs Frazier", "Ali versus Frazier", r"\bvs(?= )", "versus"),
    rule("with", "w/ milk, c/o Ann", "with milk, care of Ann",
         r"(?<![\w/])(?:[wW]/o(?:ut)?\b|w/(?![A-Z]|\w\b)|W/(?= )|b/c|c/o)(?= ?\w) ?",
         lambda m: _like(m[0], _SLASHED[m[0].rstrip().lower()])),

    rule("numeral of a part", "Chapter IV, pp. ii-iv", "Chapter four, pages two to four",
         rf"\b({_LABEL}s?)\.? ({_NUMERAL}(?:(?:, (?:and )?| and | or | to |-){_NUMERAL}\b){{0,9}})\b", _chapter),
    rule("part one", "Act I, Scene I.", "Act one, Scene one.",
         rf"\b({_LABELS})\.? (I)(?=[.,;:)'\"-]|$| (?:of|and|or|in|to|is|was)\b| [A-Z])|"
         rf"\b({_CONDITIONS}) (I)(?= (?!am|was|have|had|do|did|think|see|saw|will|would|can|could|like|want|need|know|"
         r"use|used|mean|love|prefer)[a-z])", lambda m: f"{m[1] or m[3]} one"),
    rule("four at the head", "IV. Results", "four. Results", r"(?:^|(?<=[.!?] ))IV(?=\. [A-Z])", "four"),
    rule("numeral in brackets", "(iv)", "(four)", r"(?<!\w)\(([ivx]{2,6}|[iv])\)",
         lambda m: _numeral(m, m[1], lambda digits: f"({numbers.cardinal(digits)})")),
    rule("numeral of a king", "Henry V. of England", "Henry the fifth of England",
         rf"\b((?:{_KINGS})(?: [A-Z][a-z]{{2,20}})?) ((?!XXX\b)[IVX]{{2,7}}|[VX](?!\. [A-Z])|{_FIRST})\b{_ROMAN_STOP}",
         _regnal),
    rule("numeral of a ruler", "Queen Anna I was", "Queen Anna the first was",
         rf"\b((?:{_RULERS})(?: [A-Z][a-z]{{1,20}}){{1,3}}) ([IVX]{{1,7}})\b(?!'){_ROMAN_STOP}", _regnal),
    rule("numeral after a name", "Rocky II", "Rocky two",
         rf"\b(?!(?:{_NO_NAME}) )([A-Z][a-z]{{2,30}}) ((?!XXX\b)[IVX]{{2,7}})\b{_ROMAN_STOP}", _sequel),
    rule("numeral of a century", "the XIX century", "the nineteenth century",
         r"(?:(?<=the )|(?<=th and )|(?<=th to ))([IVX]{2,6}|[ivx]{2,6}(?= (?:and [ivx]{1,6} )?cent)|[VX](?= century))"
         r"(?:th)?(?=(?: and)? [a-z])", lambda m: _numeral(m, m[1], numbers.ordinal)),
    rule("numeral", "II. Genesis, MMXXIV", "two. Genesis, twenty twenty-four",
         r"(?<![\w.'-])(?:(?!IV\b|XXX?\b)[IVX]{2,7}|[MDCLXVI]{4,15}|[ivx]{2,6}(?=\. [a-z]))\b(?!['-])",
         lambda m: _numeral(m, m[0], _year_or_number)),

    rule("doctorate", "a Ph.D.", "a P H D.", r"\bPh\.? ?D\b(?:\.(?=-|'?s\b))?", "P H D"),
    rule("degree", "an M.Sc. in law", "an M S C in law", rf"\b([BM])\.Sc\b{_STOP}", r"\1 S C"),
    rule("initials inside", "the U.S.", "the U S.", r"\b(?![AP]\.M\.)([A-Z])\.(?=[A-Z](?:\b|[a-z]))", r"\1 "),
    rule("initial A", "A. Smith", "A-Smith",  # "A Smith" would be an article
         rf"(?<![A-Z] )\bA\. ?(?=(?!{OPENERS})[A-Z][a-z])",
         lambda m: m[0] if _ends_sentence(m) else "A-"),
    rule("initials", "J. Smith", "J Smith",  # "and I. They" ends a sentence, as Plan B. It does
         rf"\b(?<![AP]\.)([A-HJ-Z])\.(?= (?!{OPENERS})[A-Za-z\d(]|[,;]|-[A-Za-z]|'?s\b)|"
         rf"(?<=\bP )(S)\.|(?<=\b[A-Z] )(I)\.(?= (?!{OPENERS})[A-Za-z])",
         lambda m: m[0] if _ends_sentence(m) else m[1] or m[2] or m[3]),
)  # fmt: skip
