"""How something is to be read: phonemes `[[ fəˈniːmz ]]`, pauses and a few other elements of SSML, a lexicon."""

import html
import re
from pathlib import Path

from text.errors import TextError
from text.symbols import BLANK, MARKS, SYMBOLS, canonical

LONGEST_BREAK = 10.0  # seconds
BREAK = "<[0-9]{1,6}ms>"  # among phonemes, as a pattern

_MARKUP = re.compile(r"(\[\[[^\[\]]*\]\]|<break\b[^<>]*>)", re.IGNORECASE)
_TIME = re.compile(r"<break\s+time\s*=\s*[\"']?(\d{1,6}(?:\.\d{1,6})?)(ms|s)[\"']?\s*/?>", re.ASCII | re.IGNORECASE)
_PAUSE = re.compile(f"({BREAK})")
_PAUSE_BEFORE_MARK = re.compile(rf"\s*({BREAK})\s*([.,;:!?]+)")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_OF_PHONEMES = re.compile(r"(\[\[[^\[\]]*)\]\]['’]s(?!\w)")  # a possessive
_POSSESSIVE = r"(['’]s(?!\w))?"
_COMMENT = re.compile(r"(?:^|\s)#.*")  # of a lexicon
_UNREAD = re.compile(  # comments and heads of XML, programs and styles of HTML
    r"<!--.{0,500}?-->|<(?:\?xml|!DOCTYPE)\b[^<>]{0,200}>|"
    r"<(script|style)\b[^<>]{0,200}>[^<]*(?:<(?!/?(?:script|style)\b)[^<]*)*</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
# Elements of SSML, https://www.w3.org/TR/speech-synthesis11. One that is not heard is refused: it would be lost unseen.
_ELEMENT = re.compile(r"<(sub|say-as|phoneme)\b([^<>]{0,300}[a-z]\s?=[^<>]{0,300})>([^<>]*)</\1\s*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"\b([a-z-]{1,20})\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_REFUSED = re.compile(r"</?(say-as|phoneme|prosody|emphasis|voice|lang|audio|[a-z]+:[a-z-]+)(?![^\s/>])[^<>]*>",
                      re.IGNORECASE)  # fmt: skip
_SPELT = ("characters", "spell-out", "digits", "telephone")  # of say-as
_ADVICE = {
    "say-as": f'write interpret-as="..." with one of {", ".join(_SPELT)}, or the words themselves',
    "phoneme": 'write <phoneme ph="IPA">word</phoneme>, or [[ IPA ]]',
    "prosody": "no part of a text has its own rate or pitch; --length-scale, or a request's speed, is for all of it",
    "emphasis": "no voice has an emphasis; leave it out",
    "voice": "a text has one speaker; leave it out",
    "lang": "a text has one language; leave it out",
    "audio": "no other sound is put in; leave it out",
}
_VENDORS = "an element of one vendor's, of which nothing would be heard; leave it out"
_SPELLINGS = str.maketrans({  # of the IPA that voices do not know, as the letters that they do
    "ʤ": "dʒ", "ʧ": "tʃ", "ʣ": "dz", "ʥ": "dʑ", "ʨ": "tɕ", "ǝ": "ə", "ɩ": "ɪ", "ɷ": "ʊ", "∫": "ʃ", "'": "ˈ", "ʹ": "ˈ",
    "\u035c": "\u0361", "/": "", "|": "", "‿": "", "ʻ": "ʰ", "ᴈ": "ɜ", "ᵊ": "ə", "λ": "ʎ",
})  # fmt: skip
_LENGTH = re.compile(r"(?<=\w):")  # as many write it
_SYLLABLES = re.compile(r"(?<=\S)\.(?=\S)")
_SPEAKABLE = frozenset(SYMBOLS) - {BLANK}


class Lexicon:
    """Words, or several of them, and how they are said."""

    def __init__(self, entries: dict[str, str]):
        """entries: respelling or `[[ phonemes ]]` of each; one in small letters stands for itself in any case."""
        self.entries = entries = {key.replace("’", "'"): said for key, said in entries.items()}
        starts: dict[str, list[str]] = {}
        for key in sorted(entries, key=len, reverse=True):
            starts.setdefault(_TOKEN.search(key)[0].lower(), []).append(key)
        self._starts = {start: re.compile("|".join(map(_pattern, keys))) for start, keys in starts.items()}

    def respelt(self, text: str) -> str:
        """The text with its entries as they are said, the longest first."""
        pieces, at = [], 0
        for token in _TOKEN.finditer(text):
            pattern = self._starts.get(token[0].lower()) if token.start() >= at else None
            match = pattern and pattern.match(text, token.start())
            if match:
                pieces += [text[at : match.start()], self._said(match)]
                at = match.end()
        return "".join(pieces) + text[at:]

    def _said(self, match):
        possessive = next(filter(None, match.groups()), "")
        key = " ".join(match[0].removesuffix(possessive).replace("’", "'").split())
        said = self.entries.get(key) or self.entries.get(key.lower())
        # None: a letter whose small form is not the one it was found by
        return match[0] if said is None else said + possessive


def split(text: str, lexicon: Lexicon | None = None) -> list[str]:
    """Written text and phonemes by turns, as re.split gives them: the odd ones are IPA, or a pause as `<300ms>`.

    Raises TextError for phonemes that are no symbols, for a break without a time up to LONGEST_BREAK, and for elements
    of SSML that are not heard.
    """
    text = _ELEMENT.sub(_element, uncommented(text))
    refused = _REFUSED.search(text)
    if refused:
        raise TextError(f"{ascii(refused[0][:40])}: {_ADVICE.get(refused[1].lower(), _VENDORS)}")
    parts = _MARKUP.split(text)
    if lexicon:
        parts[::2] = [lexicon.respelt(part) for part in parts[::2]]
    parts = _MARKUP.split(_OF_PHONEMES.sub(_possessive, "".join(parts)))
    parts[1::2] = [_phonemes(part) if part[0] == "[" else _pause(part) for part in parts[1::2]]
    return parts


def uncommented(text: str) -> str:
    """A text without what XML has for its readers alone."""
    return _UNREAD.sub(" ", text)


def written(parts: list[str]) -> str:
    """The reverse of split, but for the lexicon."""
    parts = list(parts)
    parts[1::2] = [f'<break time="{part[1:-1]}"/>' if _PAUSE.fullmatch(part) else f"[[{part}]]" for part in parts[1::2]]
    return " ".join("".join(parts).split())


def joined(parts: list[str]) -> str:
    """One string of phonemes; a pause beside a punctuation mark stands after it."""
    parts = list(parts)
    parts[1::2] = [f" {part} " if _PAUSE.fullmatch(part) else part for part in parts[1::2]]
    return " ".join(_PAUSE_BEFORE_MARK.sub(r"\2 \1 ", "".join(parts)).split())


def pauses(phonemes: str) -> tuple[list[str], list[float]]:
    """Phonemes cut where pauses are asked for, and the seconds of each pause: one fewer."""
    parts = _PAUSE.split(phonemes)
    return parts[::2], [int(part[1:-3]) / 1000 for part in parts[1::2]]


def speaks(phonemes: str) -> bool:
    """Whether there is more than punctuation and pauses."""
    return any(char not in MARKS for piece in pauses(phonemes)[0] for char in piece)


def read_lexicon(path: str | Path) -> Lexicon:
    """The lexicon of lines `word = respelling` or `several words = [[ phonemes ]]`; # after a space begins a comment.

    Raises TextError, which names file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8: save it as UTF-8'}") from error
    entries: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if _COMMENT.sub("", line).strip():
            word, said = _entry(_COMMENT.sub("", line), f"{path}:{number}")
            if word in entries:
                raise TextError(f"{path}:{number}: {word!r} stands there for the second time: leave one of its lines")
            entries[word] = said
    return Lexicon(entries)


def _entry(line, where):
    word, _, said = (" ".join(part.split()) for part in line.partition("="))
    if not said or not word or _MARKUP.search(word):
        found = ascii(line.strip()[:40])
        raise TextError(f"{where}: expected word = respelling, or word = [[ phonemes ]]; found {found}")
    try:
        split(said)
    except TextError as error:
        raise TextError(f"{where}: {error}") from error
    return word, said


def _pattern(key):
    """What an entry is found by: no part of a longer word, in any case where it is in small letters."""
    words = r"\s+".join(map(re.escape, key.split())).replace("'", "['’]")
    before, after = r"(?<!\w)" if key[0].isalnum() else "", r"(?!\w)" if key[-1].isalnum() else ""
    return f"{before}{f'(?i:{words})' if key == key.lower() else words}{_POSSESSIVE}{after}"


def _element(match):
    """What an element of SSML says; the element itself where it is none that is heard."""
    name, inside = match[1].lower(), match[3]
    attributes = {found[1].lower(): found[2] or found[3] or "" for found in _ATTRIBUTE.finditer(match[2])}
    if name == "sub" and "alias" in attributes:
        return attributes["alias"]
    if name == "phoneme" and attributes.get("ph") and attributes.get("alphabet", "ipa") == "ipa":
        return f"[[{attributes['ph']}]]"
    if name == "say-as" and attributes.get("interpret-as") in _SPELT:
        # in capitals, since a small a is the article
        return " ".join(letter.upper() if letter.isascii() else letter for letter in inside if letter.isalnum())
    return match[0]


def _possessive(match):
    """Phonemes in brackets with the ending that they have as a possessive."""
    phonemes = match[1].rstrip()
    return f"{phonemes}{'ɪz' if phonemes[-1] in 'szʃʒ' else 's' if phonemes[-1] in 'ptkfθ' else 'z'}]]"


def _phonemes(part):
    said = _SYLLABLES.sub("", _LENGTH.sub("ː", html.unescape(part[2:-2]).translate(_SPELLINGS)))
    said = " ".join(canonical(said).split())
    unknown = sorted(set(said) - _SPEAKABLE)
    if unknown:
        raise TextError(f"{ascii(unknown[0])} in [[ {ascii(said[:40])} ]] is no symbol of IPA that a voice knows")
    if not set(said) - MARKS:
        raise TextError("[[ ]] has no phonemes: write them between the brackets")
    return said


def _pause(tag):
    match = _TIME.fullmatch(tag)
    seconds = float(match[1]) / (1000 if match[2].lower() == "ms" else 1) if match else 0.0
    milliseconds = round(1000 * seconds)
    if not 1 <= milliseconds <= 1000 * LONGEST_BREAK:
        raise TextError(
            f'{ascii(tag[:40])}: must be <break time="300ms"/> or <break time="0.3s"/>, up to {LONGEST_BREAK:g} s'
        )
    return f"<{milliseconds}ms>"
