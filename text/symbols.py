"""The symbols a voice knows: a phoneme string becomes ids one character at a time, so each symbol is one character.

Where ids are phones, an id packs a symbol with its marks: stress, length and the place in the word; where they are
states, which part of the phone it is, too.

The list covers what espeak-ng can emit in all its languages. A checkpoint carries its own list, and the order
is the meaning of the ids: append, never insert.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

BLANK = "_"  # id 0: the padding of a batch, and the blank between symbols

_PUNCTUATION = '.,;:!?¡¿"()-'  # as normalisation leaves it
# close, near-close, close-mid, mid, open-mid, near-open, open
_VOWELS = "iyɨʉɯu" + "ɪʏʊᵻ" + "eøɘɵɤo" + "əɚ" + "ɛœɜɞɝʌɔ" + "æɐ" + "aɶɑɒ"
_MODIFIERS = (
    # aspirated, palatal, labial, velar, pharyngeal, rhotic, ejective, nasals, compressed
    "ʰʱʲʷˠˤ˞ʼᵐⁿᵑᶮᶯᵝ"
    # combining marks: nasal, syllabic, tie; non-syllabic, short, centralised, voiceless, voiced, raised, lowered
    "\u0303\u0329\u0361" + "\u032f\u0306\u0308\u0325\u030a\u032c\u031d\u031e"
    # combining marks: advanced, retracted, dental, apical, laminal
    "\u031f\u0320\u032a\u033a\u033b"
    # tones: letters, digits
    "˥˦˧˨˩" + "1234567"
)
_ASCII_LETTERS, _ASCII_MODIFIERS = "AEFKNSXZ", "#[^`+"  # left in espeak-ng's own ASCII where it has no IPA

_GROUPS = (
    BLANK,
    " ",
    _PUNCTUATION,
    _VOWELS,
    # plosives, implosives
    "pbtdʈɖcɟkgɡqɢʔ" + "ɓɗʄɠ",
    # nasals, trills, taps
    "mɱnɳɲŋɴ" + "ʙrʀ" + "ɾɽɺ",
    # fricatives, with espeak-ng's Greek letters
    "ɸβfvθðszʃʒʂʐɕʑçʝxɣχʁħʕhɦɬɮɧ" + "Φε",
    # approximants, laterals, an affricate of one letter
    "ʋɹɻjɰwʍɥ" + "lɫɭʎʟ" + "ʦ",
    # stress, length
    "ˈˌːˑ",
    _MODIFIERS,
    _ASCII_LETTERS,
    _ASCII_MODIFIERS,
)

SYMBOLS = tuple("".join(_GROUPS))
IDS = {symbol: i for i, symbol in enumerate(SYMBOLS)}
MARKS = frozenset(" " + _PUNCTUATION)  # what is not spoken
PAUSES = tuple(i for i, symbol in enumerate(SYMBOLS) if symbol == BLANK or symbol in MARKS)
VOWELS = frozenset(_VOWELS)
MODIFIERS = frozenset(_MODIFIERS + _ASCII_MODIFIERS)  # what says something of the letter beside it
STRESS = ("", "ˌ", "ˈ")  # the characters of a phone's marks, by their number
LENGTH = ("", "ː")
LENGTHS = frozenset("ːˑ")  # half as long is long too
INSIDE, FIRST, LAST, ONLY = range(4)  # a phone's place in its word
N_STATES = 3  # of a phone, where ids are states: its beginning, middle and end
MARK_SIZES = {"phones": (len(STRESS), len(LENGTH), 4), "states": (len(STRESS), len(LENGTH), 4, N_STATES)}  # by units
_STRONGEST_FIRST = '?!.;:,-()"¡¿'  # of marks in a row: which says most of how long and how the pause is said
_BETWEEN = re.compile(f"([{re.escape(f'{BLANK} {_PUNCTUATION}')}]+)")  # what stands between two words


class Packed(NamedTuple):
    """What an id packs: an index of SYMBOLS; stress, 0 none, 1 secondary, 2 primary; long, 0 or 1; place, INSIDE,
    FIRST, LAST or ONLY; state, from 0. A pause has no marks, so that its id is its symbol's."""

    symbol: int
    stress: int
    long: int
    place: int
    state: int


def pack(symbol: int, stress: int, long: int, place: int, state: int = 0) -> int:
    """The id of a phone, or of a state: symbol + n_symbols (stress + 3 (long + 2 (place + 4 state))), as
    layers.SymbolEmbedding reads it."""
    n_stress, n_long, n_places, _ = MARK_SIZES["states"]
    return symbol + len(SYMBOLS) * (stress + n_stress * (long + n_long * (place + n_places * state)))


def unpack(packed) -> Packed:
    """The reverse, of an int, or of each in an array."""
    values = []
    for size in (len(SYMBOLS), *MARK_SIZES["states"]):
        values.append(packed % size)
        packed = packed // size
    return Packed(*values)


def phones(phonemes: str) -> list[int]:
    """Packed ids of known symbols: a blank, the words with pauses where punctuation stands, and a pause at the end.

    Punctuation before the first word is in the blank there, and the end is a blank where it has none. Nothing where
    there is no word.
    """
    ids = []
    for i, piece in enumerate(_BETWEEN.split(phonemes)):
        if i % 2 == 0:
            ids += _word(piece)
        elif ids:
            ids += [IDS[mark] for mark in _STRONGEST_FIRST if mark in piece][:1]  # of a space none
    if not ids:
        return []
    blank = [IDS[BLANK]]
    return blank + ids + ([] if phonemes.rstrip(BLANK + " ")[-1] in MARKS else blank)


def _word(word):
    """Packed ids of one word.

    Stress is the next vowel's, or the next letter's where no vowel follows (kˈr̩k); length is the letter's before.
    """
    ids, letters = [], []  # [symbol, stress, long, place]; those that are no modifier
    stress, first = 0, 0  # first: the letter that a stress mark stands before
    for char in word:
        if char in STRESS:
            stress, first = STRESS.index(char), len(letters)
        elif char in LENGTHS:
            if letters:
                letters[-1][2] = 1
        else:
            ids.append([IDS[char], 0, 0, INSIDE])
            if char not in MODIFIERS:
                letters.append(ids[-1])
            if char in VOWELS:
                letters[-1][1], stress = stress, 0
    if stress and first < len(letters):
        letters[first][1] = stress
    if letters:
        letters[0][3], letters[-1][3] = (FIRST, LAST) if len(letters) > 1 else (ONLY, ONLY)
    return [pack(*one) for one in ids]


def states(ids: Sequence[int]) -> list[int]:
    """The ids of each phone's states, from the ids of phones; a pause keeps its one."""
    found = []
    for one in ids:
        found += [one] if one in PAUSES else [pack(*unpack(one)[:-1], state) for state in range(N_STATES)]
    return found


def phones_along(ids: Sequence[int], durations: Sequence[int]) -> tuple[list[int], list[int]]:
    """The index of each phone's first state, and how long the phone lasts; of ids without states, each is a first one.

    ids: T_x of them; durations: T_x numbers.
    """
    firsts = [k for k, one in enumerate(ids) if unpack(one).state == 0]
    ends = [*firsts[1:], len(ids)]
    return firsts, [sum(int(one) for one in durations[begin:end]) for begin, end in zip(firsts, ends)]


def word_gaps(ids: Sequence[int]) -> list[int]:
    """Where ids are phones or states, the index of each that ends a word and that another word follows without a
    pause. A modifier behind a word's last letter is of that word."""
    gaps, ends = [], False
    for k, one in enumerate(unpack(int(packed)) for packed in ids):
        begins = one.place in (FIRST, ONLY) and one.state == 0
        if ends and begins:
            gaps.append(k - 1)
        if SYMBOLS[one.symbol] not in MODIFIERS:
            ends = one.place in (LAST, ONLY)
    return gaps


def canonical(phonemes: str) -> str:
    """Letters and diacritics apart, so that each is one symbol; only ç is a letter of its own."""
    return unicodedata.normalize("NFD", phonemes).replace("c\u0327", "ç")


def label(packed: int) -> str:
    """The characters that an id stands for, for example ˈɑː."""
    one = unpack(packed)
    return STRESS[one.stress] + SYMBOLS[one.symbol] + LENGTH[one.long]
