"""Text to IPA: punctuation cut out and put back, and the words between spoken by espeak-ng, in this process."""

import ctypes
import functools
import logging
import re
import textwrap
import threading
from collections.abc import Callable

from text.english import capitals
from text.errors import TextError
from text.symbols import canonical

# Sounds that are no words, by their first two letters: shh, zzz.
_SOUNDS = {"sh": "ʃː", "zz": "zː", "ps": "pst", "br": "bɹː", "gr": "ɡɹː", "mm": "mː", "pf": "pft"}
SOUND = re.compile(r"(?<![\w'-])(?:sh{2,}|z{3,}|ps{1,9}t|br{2,}|gr{2,}|m{3,}|pf{1,9}t)(?![\w'-])", re.IGNORECASE)
# Punctuation and such sounds are cut out here and put back afterwards. A mark between digits belongs to the number (3,5
# or 12:30), and a hyphen is a mark only where it stands alone.
_MARK = re.compile(
    rf"""(\s*(?:{SOUND.pattern}|[;!?¡¿"()]|(?<!\d)[.,:]|[.,:](?!\d)|(?<!\S)-+(?!\S))[\s;:!?¡¿"().,]*)""", re.IGNORECASE
)
_LONGEST = 200  # characters that espeak-ng gets at a time: its buffers are of fixed size,
_LONG_WORD = re.compile(r"\S{40}(?=\S)")  # also those for one word
_UTF8, _OWN_NAMES, _IPA_NAMES = 1, ord("_") << 8, ord("_") << 8 | 2  # of speak_lib.h: phonemes with _ between
# what espeak-ng writes after a syllable, and the tone's symbol; Mandarin's are pitches, from 1 to 5
_TONES = {
    "cmn": {"55": "1", "35": "2", "214": "3", "51": "4", "11": "5", "21": "5"},
    **dict.fromkeys(("yue", "vi"), {digit: digit for digit in "1234567"}),
}
_IPA = {"s.": "ʂ", "z.": "ʐ", "i.": "ɨ"}  # what it writes with a dot: retroflex, and the vowel that follows those
_WITH_DOT = re.compile(r"[szi]\.")
_LOCK = threading.Lock()  # espeak-ng has global state


def phonemise(texts: list[str], speak: Callable[[list[str]], list[str]]) -> list[str]:
    """IPA of normalised texts: stress marked, punctuation in its place, nothing for what cannot be spoken.

    speak: IPA of each of some texts without punctuation, of up to _LONGEST characters.
    """
    parts = [_MARK.split(text) for text in texts]  # odd ones are marks
    chunks = [chunk for part in parts for piece in part[::2] for chunk in _cut(piece)]
    spoken = iter(speak(chunks))
    return [_join(part, spoken) for part in parts]


def espeak(chunks: list[str], language: str) -> list[str]:
    """IPA of texts, by espeak-ng's voice of this language. Raises TextError where there is none of that name."""
    from phonemizer.separator import Separator

    led = [False] * len(chunks)
    if language.startswith("en"):
        chunks = [capitals.respelt(chunk) for chunk in chunks]
        led = [capitals.needs_lead(chunk) for chunk in chunks]
        chunks = [capitals.LEAD + chunk if lead else chunk for chunk, lead in zip(chunks, led)]
    with _LOCK:
        backend, tones = _backend(language), _TONES.get(language.partition("-")[0])
        if tones is not None:
            said = [_toned(backend, chunk, tones) for chunk in chunks]
        else:
            said = backend.phonemize(chunks, separator=Separator(phone="", word=" "), strip=True)
    said = [one.partition(" ")[2] if lead else one for one, lead in zip(said, led)]
    said = [_WITH_DOT.sub(lambda match: _IPA[match[0]], one) for one in said]
    return [one.replace(".", "").replace("-", "") for one in said]  # dots and hyphens, which are marks elsewhere


def _toned(backend, chunk, tones):
    """IPA with tones. espeak-ng's own writes the first digit of each alone, and 3 as a vowel: so its names of the
    phonemes are asked for too, which have all of them, one by one in the same order."""
    wrapper = backend._espeak  # phonemizer has no other way to what espeak-ng calls the phonemes
    ipa, names = (_raw(wrapper, chunk, mode) for mode in (_IPA_NAMES, _OWN_NAMES))
    names = [name for name in re.split(r"[_\s|]+", names) if name]
    pieces = re.split(r"([_\s]+)", ipa)
    places = [i for i, piece in enumerate(pieces) if i % 2 == 0 and piece]
    if len(places) == len(names):
        for place, name in zip(places, names):
            tone = re.search("[0-9]+$", name)
            if tone and tone[0] in tones:
                pieces[place] = pieces[place][:-1] + tones[tone[0]]
    else:
        logging.getLogger(__name__).warning("espeak-ng's tones could not be read in %a", chunk[:40])
    ipa = re.sub(r"\([a-z-]+\)", "", "".join(pieces))  # where it reads letters of another language
    return " ".join(ipa.replace("_", "").split())


def _raw(wrapper, chunk, mode):
    rest, said = ctypes.pointer(ctypes.c_char_p(chunk.encode())), []
    while rest.contents.value is not None:
        said.append((wrapper._espeak.text_to_phonemes(rest, _UTF8, mode) or b"").decode())
    return " ".join(said)


def check_language(language: str) -> None:
    """Raise TextError where espeak-ng has no such voice."""
    with _LOCK:
        _backend(language)


def _cut(piece):
    """The piece in lengths that espeak-ng can take; usually one, none where there is nothing to read."""
    return textwrap.wrap(_LONG_WORD.sub(r"\g<0> ", piece), _LONGEST, break_on_hyphens=False)


def _join(part, spoken):
    """The reverse of splitting one text: what was spoken, with the marks between."""
    for i, piece in enumerate(part):
        if i % 2:
            part[i] = SOUND.sub(lambda match: _SOUNDS[match[0][:2].lower()], piece)
        else:
            part[i] = " ".join(next(spoken) for _ in _cut(piece))
    return canonical(" ".join("".join(part).split()))


@functools.cache
def _backend(language):
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    quiet = logging.getLogger("text.espeak")  # it warns of each text whose words espeak-ng joins or splits
    quiet.setLevel(logging.CRITICAL)
    if not language or not EspeakBackend.is_supported_language(language):
        raise TextError(f"espeak-ng has no voice for the language {language!r}")
    return EspeakBackend(language, with_stress=True, tie=False, language_switch="remove-flags", logger=quiet)
