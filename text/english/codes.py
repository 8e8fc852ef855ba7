"""What is read by its parts: web addresses, telephone numbers, house numbers, serial numbers and other codes."""

import re

from text.english import numbers
from text.english.abbreviations import STATES
from text.english.rules import NUMBER, any_of, rule, words

_SAID = {
    ".": "dot", "/": "slash", ":": "colon", "-": "dash", "_": "underscore", "@": "at", "?": "question mark",
    "=": "equals", "&": "ampersand", "#": "hash", "%": "percent", "+": "plus", "~": "tilde", ",": "comma",
    ";": "semicolon",
}  # fmt: skip
_SPELT = {"abc", "edu", "ibm", "io", "uk", "us", "eu", "ca", "au", "id", "ac", "ftp"}  # with a vowel, and no words
_PIECE = re.compile(r"[A-Za-z]+|\d+|.")
_ENDINGS = "com|org|net|edu|gov|mil|info|biz|io|tv|eu|de|fr|ca|uk|jp|au"
_FILES = (
    "txt|pdf|html?|xml|css|jsx?|py|sh|md|json|ya?ml|csv|log|zip|exe|png|jpe?g|gif|svg|mp[34]|wav|flac|docx?|xlsx?|pptx?|"
    "tsx?|cpp|rs|rb|php|java|sql|toml|ini|cfg|conf|ipynb|bat|gz|mkv|mov|avi|m4a|webp|epub"
)
_PATH = r"(?:[/?#:][\w/.?=&%#:@~+,;-]{0,500}[\w/])?"  # it does not end in the sentence's full stop

_LABEL = (
    r"pages?|[Nn]os?\.|[Rr]oom|[Uu]nit|[Gg]ate|[Ff]light|[Rr]oute|[Hh]ighway|Interstate|[Aa]partment|[Ss]uite|[Cc]hannel|"
    r"IQ of|RTX|GTX|RFC|ISO|HTTP|[Ee]rror|Form|Xbox|Porsche|Peugeot|[Aa]rea code|[Ee]xtension|P S|P\.S\.|Boeing|Flight|"
    r"Exhibit|Page"
)
_HELP = r"(?:911|999|112|110|119|311|411|000|988)"
_ROAD = "Street|Avenue|Road|Boulevard|Lane|Drive|Place|Court|Square|Terrace|Highway|Parkway|Expressway"
_ROAD = f"{_ROAD}|{_ROAD.lower()}|Streets|Way"
_DIRECTION = "North|South|East|West|Northeast|Northwest|Southeast|Southwest"


def _address(match):
    """An e-mail address or a URL, piece by piece; what has no vowel is spelt."""
    return " ".join(filter(None, map(_piece, _PIECE.findall(match[0]))))


def _piece(piece):
    if piece[0].isdigit():
        return numbers.code(piece)
    if not piece.isalpha():
        return _SAID.get(piece, "")
    lower = piece.lower()
    return piece.upper() if lower in _SPELT or not set(lower) & set("aeiouy") else piece


def _groups(match):
    """A telephone number: each group one by one, but for 800; a pause after each."""
    plus = "plus " if match[0][0] == "+" else ""
    groups = re.findall(r"\d+", match[0])
    return plus + ", ".join("eight hundred" if group == "800" else numbers.one_by_one(group) for group in groups)


def _joined(match):
    """4-4-2 as counted, without pauses; longer groups as those of a telephone number."""
    short = all(len(group) < 3 for group in match[0].split("-"))
    return match[0].replace("-", " ") if short else _groups(match)


def _clause(part):
    return numbers.cardinal(part) if part.isdigit() else part.replace("a", "A")


def _labelled(match):
    label = re.sub(r"(?i)^no(s?)\.", r"number\1", match[1])
    digits = match[2].replace(",", "")
    return words(label, numbers.one_by_one(digits) if len(digits) > 6 else numbers.pairs(digits), match[3])


def _each_digit(match):
    return numbers.one_by_one(match[0])


def _digits(match):
    """ISBN-13 is the name of a number, of which all digits are read; an X in the end is a letter."""
    label = re.sub(r"-(\d+)", lambda m: f" {numbers.cardinal(m[1])}", match[1])
    return words(label, numbers.one_by_one(match[2]), "X" if match[2][-1] == "X" else "")


def _house(match):
    digits = match[1]
    if len(digits) == 4 or digits.endswith("00"):
        return numbers.pairs(digits)
    return numbers.one_by_one(digits)


def _code(match):
    """Capitals spelt and numbers read as in codes, but for a word before a hyphen."""
    parts = re.findall(r"[A-Z]+|\d+", match[0])
    said = re.sub("^A (?=[a-z])", "A-", " ".join(map(_part, parts)))  # no article
    return numbers.plural(said) if match[1] else said


def _part(part):
    if part.isdigit():
        return numbers.code(part)
    return part if len(part) > 3 else " ".join(part)


ADDRESSES = (
    rule("e-mail address", "ann.lee@mail.org", "ann dot lee at mail dot org",
         r"(?<![\w.+&-])[\w.+&-]{1,64}@[A-Za-z\d-]{1,63}(?:\.[A-Za-z\d-]{1,63}){1,6}" + _PATH, _address),
    rule("URL", "http://ann.org/be", "HTTP colon slash slash ann dot org slash be",
         r"(?<![\w@.])(?:[A-Za-z][A-Za-z\d]{1,9}:///?|www\.)[\w.-]{1,253}" + _PATH + r"(?<![.,;:?-])", _address),
    rule("domain", "see mail.org.", "see mail dot org.",
         rf"(?<![\w@.-])(?:[\w-]{{1,63}}\.){{1,4}}(?:{_ENDINGS})(?![\w-]|\.\w){_PATH}", _address),
    rule("file name", "see read_me.txt", "see read underscore me dot TXT",
         rf"(?<![\w@./-])(?:[.~]{{0,2}}/)?(?:[\w-]{{1,63}}/){{0,8}}\w[\w-]{{0,63}}(?:\.[\w-]{{1,20}}){{0,2}}\."
         rf"(?:{_FILES})\b(?![-/]|\.\w)|(?<!\S)\.(?:{_FILES}|{_ENDINGS})\b(?![-/.]\w)|"
         r"(?<!\S)(?:\.{1,2}/|~/|/(?=[\w.-]{1,63}/\w))[\w./-]{0,200}\w", _address),
    rule("at someone", "@ann", "at ann", r"(?<!\S)@(?=\w)", "at "),
    rule("hashtag", "#news", "hashtag news", r"(?<!\S)#(?=[A-Za-z])(?![A-Z]{1,4}-\d)", "hashtag "),
)  # fmt: skip

_SPELT_OUT = "(?:plus )?(?:(?:zero|one|two|three|four|five|six|seven|eight|nine),? ){2}"  # by a rule before
_NOT_NUMBERED = "(?:(?:second|minute|hour|day|week|month|year|time|reason)s|people)"  # "He said no. 5 minutes later"

NUMBERS = (
    rule("telephone, international", "+44 20 7946 0958",
         "plus four four, two zero, seven nine four six, zero nine five eight",
         r"\+(?=(?:[ .()-]{0,2}\d){8})\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?!\d)", _groups),
    rule("telephone", "(555) 010-4477", "five five five, zero one zero, four four seven seven",
         r"(?<![\w.,-])(?:(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}\b(?![,.-]\d)|"
         r"(?:\(0\d{1,4}\) ?|0\d{2,4}[ /-])\d{3,4}[ -]?\d{3,4}\b|0\d(?: \d\d){4}\b)", _groups),
    rule("telephone, local", "555-0144", "five five five, zero one four four",
         r"(?<![\w.,$-])(?!\d*00-\d*00\b)\d{3}-\d{4}\b(?![,.-]\d)", _groups),
    rule("telephone, in letters", "1-800-FLOWERS", "one, eight hundred, FLOWERS",
         r"(?<![\w.,-])1-8\d\d-(?=[A-Z])", lambda m: _groups(m) + ", "),
    rule("number in groups", "078-05-1120", "zero seven eight, zero five, one one two zero",
         r"(?<![\w.,-])(?:(?:\d{3}-\d{2}-\d{4}|\d{3,4}(?:-\d{3,4}){2,4})\b(?!-)|"
         r"(?<!\d )(?!\d*0 \d*0\b)\d{3,4}(?: \d{4}){2,3}\b(?![.,]?\d| \d))", _groups),
    rule("long number", "call 5550100477", "call five five five zero one zero zero four seven seven",
         r"(?<![\w.,$£€¥-])(?!\d{0,12}000\b)\d{9,15}\b(?![.,-]\d)", _each_digit),
    rule("thousands with points, lakhs", "1.000.000 or 1,50,000", "one million or one hundred fifty thousand",
         r"(?<![\w.,])(?:\d{1,3}(?:\.\d{3}){2}|\d{1,2}(?:,\d\d){1,4},\d{3})(?!\w|[.,]\d)",
         lambda m: re.sub("[.,]", "", m[0])),
    rule("network address", "10.0.0.1", "one zero dot zero dot zero dot one",
         r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})(?:(:)(\d{2,5})|(/)(\d\d?))?(?!\w|\.\d)",
         lambda m: words(" dot ".join(map(numbers.one_by_one, m[1].split("."))), _SAID.get(m[2] or m[4]),
                         numbers.pairs(m[3] or m[5]) if m[2] or m[4] else "")),
    rule("version", "version 3.10.2", "version three point ten point two",
         r"(?:(?<![\w.,])|(?<=\b[vV]))\d{1,3}(?:\.\d{1,3}){2}(?!\d|\.\d)(?=([A-Za-z])?)",
         lambda m: " " + " point ".join(map(numbers.cardinal, m[0].split("."))) + (" " if m[1] else "")),
    rule("standard", "H.264", "H two sixty-four", r"\b([A-Z])\.(\d{1,3})\b",
         lambda m: f"{m[1]} {numbers.pairs(m[2])}"),
    rule("numbered part", "Section 1.b", "Section one b", r"(?<=\d)\.(?=[A-Za-z]\b)", " "),
    rule("processor", "x86-64", "x eighty-six sixty-four", r"\b([xX]\d\d|[a-z]\d)-(?=\d\d)", r"\1 "),

    rule("call for help", "dial 911 or 112", "dial nine one one or one one two",
         r"\b((?:[Cc]all|[Dd]ial|[Rr]ing|[Pp]hone|[Tt]ext|[Rr]each|[Ee]mergenc)[a-z]{0,5},? (?:[a-z]{1,12},? ){0,3})"
         rf"({_HELP}(?:(?:, | or | and |, or ){_HELP}){{0,3}})\b(?![-.,:/]?\d)",
         lambda m: m[1] + re.sub(r"\d+", _each_digit, m[2])),
    rule("number of help", "the 911 operator", "the nine one one operator",
         r"\b(?:911|999|112)(?= (?:call|operator|dispatch|emergenc|hotline|service|now\b))", _each_digit),
    rule("digits one by one", "ISBN 0-306-40615-2", "ISBN zero three zero six four zero six one five two",
         r"\b(ending in|PIN(?: is)?|(?:code|OTP|password) is|I[SB][BS]N(?:-1[03])?:?|(?:ZIP|Zip|zip)(?: [Cc]ode)?:?|"
         r"postcode|SSN:?|VIN:?|IMEI:?|EIN:?) (\d[\d -]{1,20}[\dX])\b(?![.,:/]\d)", _digits),
    rule("airliner", "a 737-800", "a seven thirty-seven eight hundred",
         r"(?<![\w.,$£€-])(7[0-8]7)-(?=(?:[1-9]00|8|9|10)(?:[A-Z]{1,2})?\b(?!-))", lambda m: f"{numbers.pairs(m[1])} "),
    rule("numbered clause", "a 401(k), item 5(1)(a)", "a four oh one k, item five one A",
         r"(?<![\w.,-])(\d{1,4})((?:\((?:\d{1,2}|[A-Za-z])\)){1,4})(?!(?!s\b)\w| ?=)",
         lambda m: words(numbers.pairs(m[1]), *map(_clause, re.findall(r"\w+", m[2])))),
    rule("box", "box 2915", "box two nine one five", r"\b([Bb]ox (?:No\. ?)?)(\d{3,12})\b",
         lambda m: m[1].replace("No.", "number") + numbers.one_by_one(m[2])),
    rule("ZIP code", "Texas 75201-1234", "Texas seven five two zero one, one two three four",
         rf"\b({any_of(STATES)}),? (\d{{5}})(?:-(\d{{4}}))?\b(?![,.]\d)",
         lambda m: f"{m[1]} " + ", ".join(map(numbers.one_by_one, filter(None, m.groups()[1:])))),
    rule("number after its label", "page 249", "page two forty-nine",
         rf"\b({_LABEL}) ?(\d{{3,4}}|\d{{7,15}}|\d{{1,3}}(?:,\d{{3}}){{2,4}})(?:-?([A-Z])\b)?(?![.,:-]?\w)", _labelled),
    rule("number after No.", "No. 7", "number seven",
         rf"\b[Nn]o(s?)\. ?(?=[\dA-Z]*\d|{_SPELT_OUT})(?!{NUMBER} {_NOT_NUMBERED}\b)", r"number\1 "),
    rule("number sign", "#5", "number five", r"(?<!\w)# ?(?=\d|[A-Z]{1,4}-\d)", "number "),
    rule("numbers joined by hyphens", "a 4-4-2, order 114-3941689-10",
         "a four four two, order one one four, three nine four one six eight nine, one zero",
         r"(?<![\w.,-])\d{1,10}(?:-\d{1,10}){2,6}\b(?!-|[.,]\d)", _joined),
    rule("house number", "1026 North Beckley", "ten twenty-six North Beckley",
         rf"(?<![\w.,$/:-])(\d{{4}})(?= (?:{_DIRECTION}) [A-Z])", _house),
    rule("number in a road", "544 Camp Street", "five four four Camp Street",
         r"(?<![\w.,$/:-])(\d{3,5})(?= (?:(?:[A-Z][a-z.]{0,20}|\d{1,3}[a-z]{2}) ){1,3}(?:" + _ROAD + r")\b)", _house),
)  # fmt: skip

# After times and measures, for which 9AM and 5KM are.
CODES = (
    rule("small letter A before a number", "the a1", "the A-one", r"\ba_?(?=\d)", "A-"),
    rule("code in small letters", "ab9453", "ab nine four five three", r"(?<=[a-z])\d{3,15}\b(?![.,]\d)",
         lambda m: f" {numbers.code(m[0])}"),
    rule("ordinal in capitals", "1ST", "first", r"(?<=\d)(?:ST|ND|RD|TH)\b", lambda m: m[0].lower()),
    rule("code", "C2766, F-16, MP3s", "C two seven six six, F sixteen, M P threes",
         r"(?<![\w.,-])(?=[A-Z\d]{1,40}(?:-[A-Z\d]{1,40}){0,3}s?\b(?!-\w))(?=[\d-]{0,40}[A-Z])(?=[A-Z-]{0,40}\d)"
         r"[A-Z\d]{1,40}(?:-[A-Z\d]{1,40}){0,3}(s\b)?(?!\.\d)", _code),
)  # fmt: skip
