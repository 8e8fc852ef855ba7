"""Written text to words: Unicode cleaned up in every language; in English the rules for all that is no word."""

import functools
import html
import itertools
import re
import unicodedata

from text.english import abbreviations, codes, dates, numbers, quantities
from text.english.rules import NUMBER, START, Rule, rule

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
    "¢": "￠",
    "£": "￡",
    "¥": "￥",
}
_TRANSLATION = str.maketrans(
    {char: plain for plain, chars in _PLAIN.items() for char in chars}
    | {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code) not in "＇＂"}  # full-width ASCII
)
_EMOJI = (range(0x2600, 0x266D), range(0x2670, 0x27C0), range(0x1F000, 0x20000), range(0xFE00, 0xFE10))
_JOINERS = "\u200c\u200d"  # format characters that are part of the spelling, in Persian for one
_MOST_MARKS = 30  # on one letter, as in Unicode's stream-safe text: to order a longer row takes its length squared

SLOT = "\ue000"  # stands for what is not to be normalised, and stays; of Unicode's private use
_KEPT = {*"¢°º²³µΩ×", *quantities.CURRENCIES, SLOT}  # what rules read
_ENTITY = re.compile(r"&#?[A-Za-z0-9]{2,31};")  # of HTML
_NOTE = re.compile(  # the number of a footnote, at its word or after the punctuation
    r"\[citation needed\]|(?:(?<=[a-z]{3})|(?<=\d\d)|(?<=[.,;:!?)\"'”’\]]))\[(?:\^?[1-9]\d{0,2}|[a-z])\]"
    r"(?![\w()]| ?=|\.\w)|"
    r"(?:(?<=[a-z]{4})|(?<=[.,;:!?\"”]))[⁰¹²³⁴-⁹]{1,3}(?!\w)"
)
# A heading, an item of a list and a paragraph are sentences, also without a full stop.
_HEADING = re.compile(r"^#{1,6} .+", re.MULTILINE)
_ITEM = re.compile(r"\n[^\S\n]*(?:[-*•][^\S\n]|(?=\d{1,2}[.)][^\S\n])|[=-]{3,}\s*?(?=\n))")
_QUOTED = re.compile(r"^ *(?:> ?)+(?! *[\d>])", re.MULTILINE)  # the lines of an answered e-mail
_RULED = re.compile(r"^(?=.*\|)(?=.*--)[|: -]+$", re.MULTILINE)  # under the head of a table
_PARAGRAPH = re.compile(r"(?<=[\w%])([\"'”’»)\]*_`]{0,9}[^\S\n]*\n\s*\n)")
_SYMBOL = re.compile(  # a Greek letter by itself, and the angstrom
    "(?<![\u0370-\u03ff])(?:(?![Ωμ])[Α-ΡΣ-Ωα-ω])(?![\u0370-\u03ff])|(?:(?<=\\d)|(?<=\\d ))Å(?!\\w)"
)
_THOUSANDS = re.compile("(?<![\\d.,])\\d{1,3}(?:[\u00a0\u2007\u2009\u202f]\\d{3})+(?!\\d)")  # SI: 12\u2009500
_RAISED = re.compile(r"(?:(?<=[0-9)])|(?<=\b[A-Za-z]))([⁺⁻]?(?:[⁰¹²³⁴-⁹]+|ⁿ))")
_SIGNS = str.maketrans({
    "÷": " divided by ", "±": " plus or minus ", "≤": " less than or equal to ",
    "√": " square root of ",
    "≥": " greater than or equal to ", "≈": " approximately ", "≠": " is not equal to ", "∞": " infinity ",
    "§": " section ", "¶": " paragraph ", "‰": " per mille ", "№": "No. ", "→": " to ", "⁄": "/", "μ": "µ",
    "∕": " divided by ", "∗": " times ", "∙": " times ", "⋅": " times ",
    "©": "", "®": "", "™": "", "•": " ", "·": " ", "†": "", "‡": "", "∆": "Δ", "∑": " sum ", "∏": " product ",
    "∈": " in ", "∪": " union ", "∩": " intersection ", "∫": " integral ", "⇒": " to ", "♯": "#", "♭": " flat",
})  # fmt: skip


def clean(text: str) -> str:
    """Plain punctuation, no control characters, emoji or notes, single spaces, paragraphs that end in a full stop: what
    every language shares."""
    if "&" in text:
        text = _ENTITY.sub(lambda match: html.unescape(match[0]).replace(SLOT, ""), text)
    text = unicodedata.normalize("NFC", _few_marks("".join(map(_visible, text))))
    if "\n" in text:
        text = _RULED.sub("", _QUOTED.sub("", text))
        text = _PARAGRAPH.sub(_stopped, _ITEM.sub("\n\n", _HEADING.sub(r"\n\g<0>\n", text)))
    text = _NOTE.sub("", text)
    text = " ".join(re.sub(r"--+(>?)", lambda match: "->" if match[1] else " - ", text.translate(_TRANSLATION)).split())
    return re.sub(r"(?<=\S) (?=[.,;:!?]+(?:\s|$))", "", text)


def english(text: str) -> str:
    """English as it is read aloud, in plain ASCII, but for SLOT."""
    text = _transliterated(text)
    for each in _rules_for(text):
        text = each.pattern.sub(each.replacement, text)
    return clean(text)


def explain(text: str) -> list[tuple[Rule, str]]:
    """The rules that change an English text, in order, each with what it made of the text."""
    steps, text = [], _transliterated(text)
    for each in _rules_for(text):
        changed = each.pattern.sub(each.replacement, text)
        if changed != text:
            steps.append((each, changed))
        text = changed
    return steps


def _rules_for(text):
    """Those that may find something: most texts have no digits, and most rules are about them."""
    return RULES if _DIGIT.search(text) else _FIRST + _LAST


def _visible(char):
    if " " <= char <= "~":
        return char
    if char.isspace():
        return "\n" if char == "\n" else " "
    if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char not in _JOINERS:
        return ""
    return " " if any(ord(char) in block for block in _EMOJI) else char


def _stopped(match):
    return f"{match[1].rstrip()}.\n"


def _few_marks(text):
    """No more than _MOST_MARKS combining marks in a row."""
    if text.isascii():
        return text
    rows = itertools.groupby(text, lambda char: unicodedata.combining(char) > 0)
    return "".join("".join(itertools.islice(row, _MOST_MARKS) if marks else row) for marks, row in rows)


def _transliterated(text):
    """ASCII, cleaned, and the signs that rules read."""
    text = clean(_THOUSANDS.sub(lambda match: re.sub(r"\s", ",", match[0]), text))
    if text.isascii():
        return text
    text = _RAISED.sub(_power, text.replace("§§", " sections ").translate(_SIGNS))
    return re.sub("  +", " ", "".join(map(_ascii, _SYMBOL.sub(_name, text))))  # a fraction begins with one: 1 ½


def _power(match):
    """Superscripts as 10^6 is written; after letters the rules of measures read ² and ³."""
    if match[1] in ("²", "³") and match.string[match.start() - 1].isalpha():
        return match[1]
    return "^" + unicodedata.normalize("NFKD", match[1]).replace("−", "-")


def _name(match):
    """The name of a symbol, apart from letters and digits beside it."""
    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    name = unicodedata.name(match[0]).split()[-1].lower().replace("lamda", "lambda").replace("above", "angstrom")
    return f"{' ' if before.isalnum() else ''}{name}{' ' if after.isalnum() else ''}"


@functools.lru_cache(4096)
def _ascii(char):
    from unidecode import unidecode

    if char <= "~" or char in _KEPT:
        return char
    kind, plain = unicodedata.decomposition(char).partition(">")[0], unicodedata.normalize("NFKD", char)
    if kind == "<fraction":
        return f" {plain}".replace("⁄", "/")
    if kind == "<circle":
        return f" {''.join(map(_ascii, plain))} "
    if kind == "<square" or (kind == "<compat" and plain[0] in _KEPT):  # ㎏ and ℃
        return "".join(map(_ascii, plain))
    return unidecode(char).upper() if unicodedata.category(char) == "Nl" else unidecode(char)  # ⅷ: VIII


def _decimal(match):
    return numbers.decimal(match[1], match[2])


def _whole(match):
    return numbers.pairs(match[0]) if _YEAR.fullmatch(match[0]) else numbers.cardinal(match[0])


_DIGIT = re.compile(r"\d", re.ASCII)
_YEAR = re.compile(r"1066|1[1-9]\d\d|20\d\d")
_COUNTED = (
    "people|men|women|persons|children|soldiers|troops|members|students|years|days|miles|times|copies|cases|"
    "houses|votes|tons|acres|feet|dollars|pounds|euros|words|pages|points"
)
_LEFT = {"@": " at ", "×": " times ",
         "+": " plus ", "=": " equals ", "¢": " cents ", "°": " degrees ", "%": " percent ",
         "²": " squared ", "³": " cubed ", "µ": " mu ", "Ω": " omega ",
         **{sign: f" {plural} " for sign, plural in quantities.CURRENCIES.items()}}  # fmt: skip
_BLOCKS = (  # tags between words
    "br|p|s|div|li|ul|ol|dl|dt|dd|tr|td|th|h[1-6]|table|hr|section|article|blockquote|pre|option|summary|button|label"
)
_TAG_END = r"(?:\s[^<>]{0,200}=[^<>]{0,200})?\s?/?>"
_QUANTITY = rf"[{''.join(quantities.CURRENCIES)}]?\.?\d"  # the beginning of a number, an amount or a time
_OPERATORS = {
    "<=": "less than or equal to", ">=": "greater than or equal to", "!=": "not equal to", "==": "equals", "->": "to",
    "=>": "to", "<": "less than", ">": "greater than", "||": "or",
}  # fmt: skip

TAGS = (
    rule("end of a block", "<li>one</li><li>two</li>", "one. two",
         r"(?<=[\w%)]) ?</(?:p|s|li|dt|dd|h[1-6]|blockquote|summary)>(?=(?: |<[^<>]{0,99}>){0,9}[^ <])", ". "),
    rule("tag between words", "one<br/>two", "one two", rf"</?(?:{_BLOCKS}){_TAG_END}", " "),
    rule("tag", "<b>so</b>", "so", rf"</?[A-Za-z][\w-]{{0,30}}{_TAG_END}", ""),
)  # fmt: skip
MARKUP = (  # in every language
    *TAGS,
    rule("link", "[here](https://a.org)", "here",
         r"!?\(([^()]{1,300})\)\((?:https?:|www\.|[^()\s]{0,100}[./#])[^()\s]{0,300}\)", r"\1"),
    rule("formula", "let $x$ be", "let x be",
         r"\$\$?(?=[^\s$\d])(?=[^$]{0,200}[A-Za-z])([^$]{0,200}[^\s$])\$\$?(?![\w$])", r"\1"),
    rule("heading", "## Two", "Two", r"(?<!\S)#{2,6} ", ""),
    rule("emphasis", "it is *so* _good_", "it is so good", r"(?<![\w*])(?:\*{1,3}|_{1,3}|~~)(?=\w)|"
         r"(?<=[\w.,;:!?'\")])(?:\*{1,3}|_{1,3}|~~)(?![\w*])", ""),
)  # fmt: skip

_WORDS_AND_SIGNS = (
    rule("emoticon", "I <3 it :D", "I love it :)",
         r"\bI <3 (?=\w)|(?<!\S)(?:[:;]-?[DPpOo]|xD+|(?<=[a-z!] )<3+(?=[.!? ]*$))(?!\w)",
         lambda m: "I love " if m[0][0] == "I" else ":)"),
    rule("letters with and", "AT&T", "A T and T", r"\b([A-Z]{1,3})&(?=([A-Z]{1,3})\b)",
         lambda m: f"{' '.join(m[1])} and "),
    rule("and", "Tom & Ann", "Tom and Ann", r" ?&&?(?!c\.) ?", " and "),
    rule("sharp", "C#", "C sharp", r"\b([A-G])#(?!\w)", r"\1 sharp"),
    rule("framework", "ASP.NET", "A S P dot net", r"(?<![\w.])([A-Z]{2,4})?\.NET\b",
         lambda m: f"{' '.join(m[1] or '')} dot net"),
    rule("grade", "an A+ or a B-", "an A-plus or a B minus",
         r"(?<![\w.-])(A{1,3}|B{1,3}|C{1,3}|D|F)([+-])(?=[\s,.;:!?)]|$)(?! (?:\1|(?:and|or) [A-Z]-\w))",
         lambda m: f"{m[1]}{'-' if m[1] == 'A' else ' '}{'plus' if m[2] == '+' else 'minus'}"),
    rule("factorial", "5!=120", "five factorial equals one hundred twenty", r"(?<![\w.,])(\d{1,3})!(?= ?= ?\d)",
         r"\1 factorial "),
    rule("menu", "File > Save As", "File, Save As", r"(?<=[A-Za-z]{2}) > (?=[A-Z][a-z])", ", "),
    rule("comparison", "a <= b", "a less than or equal to b",
         rf" ?(<=|>=|!=|==|->|=>) ?|(?<=[\w)%])(?: ([<>]|\|\|) (?=[\w(.-])| ?([<>]) ?(?=[-(]|{_QUANTITY}|[A-Za-z]\b))|"
         rf"(?<![^\s(])(?!^> )([<>]) ?(?={_QUANTITY})",
         lambda m: f"{'' if m[4] else ' '}{_OPERATORS[m[1] or m[2] or m[3] or m[4]]} "),
    rule("about", "~5 or ~$5", "about five or about five dollars", rf"(?<!\w)~ ?(?={_QUANTITY})", "about "),
)  # fmt: skip

_SPACES = (
    rule("space after a mark", "Hello,you.So", "Hello, you. So",
         r"(?<=[a-z])[.!?]{1,3}(?=[A-Z][a-z']{0,30}(?![\w(]))|(?<=[A-Za-z])[,;!?](?=[A-Za-z])", r"\g<0> "),
)  # fmt: skip

_NUMBERS = (
    rule("chapter and verse", "Surah 3:4", "Surah three four", r"\b([A-Z][a-z]{2,15} \d{1,3}):(?=\d)", r"\1 "),
    rule("ratio", "3:1", "three to one", rf"(?<![\w:])(\d{{1,3}}):(?={NUMBER}(?![\w:]))", r"\1 to "),
    rule("colon between numbers", "1:2:3", "one two three", r"(?<=\d):(?=\d)", " "),
    rule("thousands apart", "1 000 000 or 25 000", "one million or twenty-five thousand",
         r"(?<![\d.,])(?<!\d )\d{1,3}(?: 000|(?: \d{3}){2,4}|(?:'\d{3}){1,4})(?![.,]?\d| \d)",
         lambda m: re.sub("[ ']", "", m[0])),
    rule("round plural", "1000s", "thousands", r"(?<![\w.,])(10{1,6}|1,000|10,000|100,000|1,000,000)s\b",
         lambda m: numbers.plural(numbers.cardinal(m[1]).removeprefix("one "))),
    rule("plural", "747s", "seven forty-sevens", r"(?<![\w.,])(\d{1,9})s\b",
         lambda m: numbers.plural(numbers.pairs(m[1]))),
    rule("team", "the 49ers", "the forty-niners", r"(?<![\w.,])(\d\d)ers\b",
         lambda m: numbers.cardinal(m[1]).removesuffix("e") + "ers"),
    rule("range of ordinals", "5th-6th", "fifth to sixth", r"(?<=\d[a-z]{2})-(?=\d+[a-z]{2}\b)", " to "),
    rule("ordinal", "the 22nd", "the twenty-second", rf"{START}({NUMBER})(?:st|nd|rd|th)\b",
         lambda m: numbers.ordinal(m[1])),
    rule("halves", "50-50", "fifty fifty", r"(?<![\w.,:-])(\d{1,3})-(?=\1(?![\w.,:-]*\d))", r"\1 "),
    rule("range", "30-45", "thirty to forty-five", r"(?<=\d)-(?=\d)", " to "),
    rule("letter A before a number", "A1c", "A-one c", r"\bA(?=\d)", "A-"),
    rule("letter A after a number", "room 12a", "room twelve A", r"(?<=\d)a\b", " A"),
    rule("letters beside digits", "mp3", "mp three", r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " "),
    rule("count", "1500 people", "one thousand five hundred people",
         rf"(?<![\w.,])(?<!\b[Ii]n )(?<!\b[Tt]he )\d{{4}}(?= (?:{_COUNTED})\b)", lambda m: numbers.cardinal(m[0])),
    rule("decimal", "3.14", "three point one four", rf"{START}({NUMBER})\.(\d+)", _decimal),
    rule("decimal without a whole", ".5", "point five", r"(?<!\w)()\.(\d+)", _decimal),
    rule("number", "1963, 1,963", "nineteen sixty-three, one thousand nine hundred sixty-three", NUMBER, _whole),
)  # fmt: skip

_REST = (
    rule("signs left", "@ home", "at home", f"[{''.join(map(re.escape, _LEFT))}]", lambda m: _LEFT[m[0]]),
    rule("what is not said", "and/or", "and or", r"[*_~^|\\<>#/º]", " "),
)

# In this order, each on what the ones before left.
_FIRST = MARKUP + _WORDS_AND_SIGNS + codes.ADDRESSES + _SPACES + abbreviations.RULES
_OF_DIGITS = dates.DATES + codes.NUMBERS + quantities.MONEY + quantities.MEASURES + codes.CODES + _NUMBERS
_LAST = dates.HALVES + quantities.PER + _REST
RULES = _FIRST + _OF_DIGITS + _LAST
