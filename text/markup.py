"""How something is to be read: phonemes `[[ fəˈniːmz ]]`, pauses `<break time="300ms"/>`, a lexicon of words."""

import re
from pathlib import Path

from text.errors import TextError
from text.symbols import BLANK, MARKS, SYMBOLS, canonical

LONGEST_BREAK = 10.0  # seconds
BREAK = "<[0-9]{1,6}ms>"  # among phonemes, as a pattern

_MARKUP = re.compile(r"(\[\[[^\[\]]*\]\]|<break\b[^<>]*>)")
_TIME = re.compile(r"<break\s+time\s*=\s*[\"']?(\d{1,6}(?:\.\d{1,6})?)(ms|s)[\"']?\s*/?>", re.ASCII)
_PAUSE = re.compile(f"({BREAK})")
_PAUSE_BEFORE_MARK = re.compile(rf"\s*({BREAK})\s*([.,;:!?]+)")
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_POSSESSIVE = re.compile(r"(\w+)['’]s")
_SPEAKABLE = frozenset(SYMBOLS) - {BLANK}


def split(text: str, lexicon: dict[str, str]) -> list[str]:
    """Written text and phonemes by turns, as re.split gives them: the odd ones are IPA, or a pause as `<300ms>`.

    lexicon: what read_lexicon gives. Raises TextError for phonemes that are no symbols, and for a break without a time
    up to LONGEST_BREAK.
    """
    parts = _MARKUP.split(text)
    if lexicon:
        parts[::2] = [_WORD.sub(lambda match: _respelt(match[0], lexicon), part) for part in parts[::2]]
        parts = _MARKUP.split("".join(parts))
    parts[1::2] = [_phonemes(part) if part[0] == "[" else _pause(part) for part in parts[1::2]]
    return parts


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


def ends_in_pause(phonemes: str) -> bool:
    """Whether the last that phonemes have is a pause that is asked for."""
    return pauses(phonemes)[0][-1].strip() == "" and _PAUSE.search(phonemes) is not None


def read_lexicon(path: str | Path) -> dict[str, str]:
    """Words and how they are said, of lines `word = respelling` or `word = [[ phonemes ]]`; # begins a comment.

    A word in small letters stands for itself in any case, another one only as it is written. Raises TextError, which
    names file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TextError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error
    lexicon = {}
    for number, line in enumerate(lines, 1):
        if line.partition("#")[0].strip():
            word, said = _entry(line.partition("#")[0], f"{path}:{number}")
            if word in lexicon:
                raise TextError(f"{path}:{number}: {word!r} stands there for the second time: leave one of its lines")
            lexicon[word] = said
    return lexicon


def _entry(line, where):
    word, _, said = (part.strip() for part in line.partition("="))
    if not said or not _WORD.fullmatch(word):
        found = ascii(line.strip()[:40])
        raise TextError(f"{where}: expected word = respelling, or word = [[ phonemes ]]; found {found}")
    try:
        split(said, {})
    except TextError as error:
        raise TextError(f"{where}: {error}") from error
    return word, said


def _respelt(word, lexicon):
    said = lexicon.get(word) or lexicon.get(word.lower())
    possessive = None if said else _POSSESSIVE.fullmatch(word)
    if not possessive:
        return said or word
    said = lexicon.get(possessive[1]) or lexicon.get(possessive[1].lower())
    return word if not said else f"{said[:-2].rstrip()}{_s(said)}]]" if said.endswith("]]") else f"{said}'s"


def _s(phonemes):
    """The possessive ending after some phonemes in brackets."""
    last = phonemes[:-2].rstrip()[-1:]
    return "ɪz" if last in "szʃʒ" else "s" if last in "ptkfθ" else "z"


def _phonemes(part):
    said = " ".join(canonical(part[2:-2]).split())
    unknown = sorted(set(said) - _SPEAKABLE)
    if unknown:
        raise TextError(f"{ascii(unknown[0])} in [[ {ascii(said[:40])} ]] is no symbol of IPA that a voice knows")
    if not set(said) - MARKS:
        raise TextError("[[ ]] has no phonemes: write them between the brackets")
    return said


def _pause(tag):
    match = _TIME.fullmatch(tag)
    seconds = float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    milliseconds = round(1000 * seconds)
    if not 1 <= milliseconds <= 1000 * LONGEST_BREAK:
        raise TextError(
            f'{ascii(tag[:40])}: must be <break time="300ms"/> or <break time="0.3s"/>, up to {LONGEST_BREAK:g} s'
        )
    return f"<{milliseconds}ms>"
