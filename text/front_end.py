"""The front end of one language: text to words, to phonemes, to ids."""

import functools
import hashlib
import logging
import re
from pathlib import Path
from typing import Literal

from text import locales, markup, phonemise
from text.english import dictionary, normalise
from text.english.normalise import SLOT
from text.errors import TextError
from text.symbols import BLANK, FIRST, IDS, MARK_SIZES, MARKS, ONLY, PAUSES, SYMBOLS, canonical, phones, states, unpack

N_NAMED = 10  # words that a warning names


class FrontEnd:
    """Text to what the text encoder reads.

    A text may have phonemes between double brackets, `[[ fəˈniːmz ]]`, pauses, `<break time="300ms"/>`, and the
    elements sub, say-as and phoneme of SSML.

    language: an espeak-ng voice, for example en-us; TextError where there is none of that name.
    phonemizer: espeak, or cmudict, which needs no GPL code and speaks en-us alone.
    lexicon: a file of lines `words = respelling` or `words = [[ phonemes ]]`; TextError where one is neither.
    units: what an id is. characters: a character of IPA; blanks: the same, with a blank before, between and after;
        phones: a letter with its marks (stress, length, place in the word) packed into one number, or a pause: the
        punctuation between two words, and both ends. Spaces are no units of their own there; states: the same, with
        three ids for each phone.
    """

    symbols = SYMBOLS  # of each id, or of each remainder of an id by their number where ids have marks

    def __init__(
        self,
        language: str = "en-us",
        units: Literal["blanks", "characters", "phones", "states"] = "blanks",
        phonemizer: Literal["espeak", "cmudict"] = "espeak",
        lexicon: str | Path | None = None,
    ):
        if phonemizer == "cmudict":
            dictionary.check_language(language)
            self._speak = dictionary.speak
        else:
            phonemise.check_language(language)
            self._speak = functools.partial(phonemise.espeak, language=language)
        self.language, self.units, self.phonemizer = language, units, phonemizer
        self._is_english = language.partition("-")[0] == "en"
        unread = "" if self._is_english else locales.unread(language)
        if unread:
            logging.getLogger(__name__).warning(unread)
        self._lexicon = markup.read_lexicon(lexicon) if lexicon else None
        self.read_by_rule = set()  # words that CMUdict does not have, of all texts so far, with phonemizer cmudict
        self._unknown = set()  # characters already warned of

    def signed(self, voice: str) -> str:
        """A voice's name, with a digest of the lexicon that it speaks with where that has words."""
        said = "\n".join(map(" = ".join, sorted(self._lexicon.entries.items()))) if self._lexicon else ""
        return f"{voice} {hashlib.sha256(said.encode()).hexdigest()}" if said else voice

    def normalise(self, text: str) -> str:
        """The text as it is read aloud. Raises TextError where nothing is left, or its markup is wrong."""
        return _something(markup.written(self._parts(text)), text)

    def phonemise(self, text: str) -> str:
        """The IPA of a text, which is normalised first; pauses asked for are `<300ms>` there.

        Raises TextError where there is nothing to say, or the markup is wrong.
        """
        before = set(self.read_by_rule)
        phonemes = _something(self._phonemise([self._parts(text)])[0], text)
        unknown = sorted(self.read_by_rule - before)
        if unknown:
            named = ", ".join(unknown[:N_NAMED]) + (", ..." if len(unknown) > N_NAMED else "")
            logging.getLogger(__name__).warning("not in CMUdict, read by letter-to-sound rules: %.200s", named)
        return phonemes

    def phonemise_many(self, texts: list[str]) -> list[str]:
        """phonemise for each text, many times faster; "" where that would raise, which stops nobody else."""
        return self._phonemise([self._parts_or_none(text) for text in texts])

    def unknown(self, text: str) -> list[str]:
        """The words of a text, normalised, that neither the lexicon has nor CMUdict, by itself or with endings.

        With phonemizer cmudict these are read by letter-to-sound rules. espeak-ng does not say which words it reads by
        rule, so there these are only the likely ones. Raises TextError as normalise does, or without CMUdict.
        """
        return list(dict.fromkeys(word for part in self._parts(text)[::2] for word in _unknown(part)))

    def to_ids(self, phonemes: str) -> list[int]:
        """The ids of phonemes. What is no symbol is dropped, with a warning; TextError where nothing is left."""
        return self._timed_ids(phonemes)[0]

    def pauses(self, phonemes: str) -> dict[int, float]:
        """The pauses that phonemes ask for: seconds, by the index in their ids."""
        return self._timed_ids(phonemes)[1]

    def words_of(self, ids: list[int]) -> list[int | None]:
        """Which word, counted from 0, each id is of; None for pauses and for what stands between words."""
        words, n_words, inside = [], 0, False
        for i in ids:
            if i == IDS[BLANK] and self.units == "blanks":
                words.append(None)  # filled below where it stands inside a word
                continue
            one, speaks = unpack(i), i not in PAUSES
            begins = one.place in (FIRST, ONLY) and one.state == 0  # which symbols without marks never say
            n_words += speaks and (not inside or begins)
            inside = speaks
            words.append(n_words - 1 if speaks else None)
        if self.units == "blanks":
            words[2:-1:2] = [a if a == b else None for a, b in zip(words[1::2], words[3::2])]
        return words

    def _timed_ids(self, phonemes):
        pieces, seconds = markup.pauses(canonical(phonemes))
        self._warn(set().union(*pieces) - IDS.keys())
        ids, pauses = [], {}
        for i, piece in enumerate(pieces):
            known = "".join(char for char in piece if char in IDS)
            if markup.speaks(known) or not seconds:
                ids += self._pack(_paused(known) if i < len(seconds) else known, begun=bool(ids))
            if i < len(seconds):
                if not ids:
                    ids = [IDS[BLANK if self.units in MARK_SIZES else ","]]  # a pause before the first word
                pauses[len(ids) - 1] = pauses.get(len(ids) - 1, 0.0) + seconds[i]
        if not ids:
            raise TextError(f"none of these phonemes is a symbol: {_short(phonemes)}")
        if self.units != "blanks":
            return ids, pauses
        spaced = [IDS[BLANK]] * (2 * len(ids) + 1)
        spaced[1::2] = ids
        return spaced, {2 * index + 1: each for index, each in pauses.items()}

    def _pack(self, known, begun):
        """Ids without blanks between; where they go on after others, without the blank at the beginning."""
        if self.units not in MARK_SIZES:
            return [IDS[symbol] for symbol in known]
        ids = phones(known)[1:] if begun else phones(known)
        return states(ids) if self.units == "states" else ids

    def _parts(self, text):
        """Words and phonemes by turns, with the spaces that were around them."""
        parts = markup.split(text, self._lexicon)
        written = [part.replace(SLOT, "") for part in parts[::2]]
        words = self._words(SLOT.join(written)).split(SLOT)
        if len(words) != len(written):  # one stood inside of something that is not read, such as a tag
            words = [_spaced(self._words(part), part) for part in written]
        parts[::2] = words
        return parts

    def _parts_or_none(self, text):
        try:
            return self._parts(text)
        except TextError:
            return [""]

    def _phonemise(self, texts):
        """Phonemes of texts in parts, "" where there are none."""
        words = [part for parts in texts for part in parts[::2]]
        if self.phonemizer == "cmudict":
            self.read_by_rule.update(word for part in words for word in _unknown(part))
        spoken = iter(phonemise.phonemise(words, self._speak))
        with_articles = self.phonemizer == "espeak" and self._is_english
        phonemes = []
        for parts in texts:
            said = []
            for i, part in enumerate(parts):
                each = part if i % 2 else next(spoken)
                said.append(_spaced(_article(each, part) if with_articles else each, part))
            phonemes.append(markup.joined(said))
        return [each if markup.speaks(each) else "" for each in phonemes]

    def _words(self, text):
        return normalise.english(text) if self._is_english else locales.normalise(text, self.language)

    def _warn(self, unknown):
        for char in sorted(unknown - self._unknown):
            logging.getLogger(__name__).warning("%a (U+%04X) is no symbol: dropped", char, ord(char))
        self._unknown |= unknown


def _unknown(words):
    return dictionary.unknown(phonemise.SOUND.sub(" ", words))


def _article(said, text):
    """What was said of a text, but for an article before phonemes: espeak-ng takes it for the letter."""
    return re.sub("(?<![^ ])ˈeɪ$", "ɐ", said) if re.search(r"(?:^A|(?<!\S)a) $", text) else said


def _paused(phonemes):
    """With a mark at the end, which is what a pause is said by."""
    phonemes = phonemes.rstrip()
    return phonemes if phonemes[-1] in MARKS else f"{phonemes},"


def _spaced(said, text):
    """With the space, before and after, that a text had."""
    if not text.strip():
        return " " if text else ""
    return f"{' ' if text[0].isspace() else ''}{said}{' ' if text[-1].isspace() else ''}"


def _something(result, text):
    if not markup.speaks(result):
        raise TextError(f"nothing to say in {_short(text)}")
    return result


def _short(text, length=40):
    return ascii(text if len(text) <= length else f"{text[: length - 3]}...")
