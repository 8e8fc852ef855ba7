"""The symbols a voice knows: a phoneme string becomes ids one character at a time, so each symbol is one character.

Where ids are phones, an id packs a symbol with its marks: stress, length and the place in the word.

The list covers what espeak-ng can emit in all its languages. A checkpoint carries its own list, and the order
is the meaning of the ids: append, never insert.
"""

import unicodedata
from collections.abc import Sequence

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
MARKS = frozenset(" " + _PUNCTUATION)  # what is not spoken
VOWELS = frozenset(_VOWELS)
MODIFIERS = frozenset(_MODIFIERS + _ASCII_MODIFIERS)  # what says something of the letter beside it
STRESS = ("", "ˌ", "ˈ")  # the characters of a phone's marks, by their number
LENGTH = ("", "ː")
LENGTHS = frozenset("ːˑ")  # half as long is long too
INSIDE, FIRST, LAST, ONLY = range(4)  # a phone's place in its word
MARK_SIZES = (len(STRESS), len(LENGTH), 4)


def pack(symbol: int, stress: int, long: int, place: int) -> int:
    """The id of a phone: symbol + n_symbols (stress + 3 (long + 2 place)), as layers.SymbolEmbedding reads it.

    symbol: an index of SYMBOLS; stress: 0 none, 1 secondary, 2 primary; long: 0 or 1; place: INSIDE, FIRST, LAST or
    ONLY. A pause has no marks, so that its id is its symbol's.
    """
    return symbol + len(SYMBOLS) * (stress + MARK_SIZES[0] * (long + MARK_SIZES[1] * place))


def unpack(packed):
    """The reverse: symbol, stress, long, place; of an int, or of each in an array."""
    rest, symbol = packed // len(SYMBOLS), packed % len(SYMBOLS)
    rest, stress = rest // MARK_SIZES[0], rest % MARK_SIZES[0]
    return symbol, stress, rest % MARK_SIZES[1], rest // MARK_SIZES[1]


def word_gaps(ids: Sequence[int]) -> list[int]:
    """Where ids are phones, the index of each that ends a word and that another word follows without a pause."""
    marks = [unpack(int(one)) for one in ids]
    pauses = [SYMBOLS[symbol] == BLANK or SYMBOLS[symbol] in MARKS for symbol, *_ in marks]
    ends = [place in (LAST, ONLY) and not pause for (*_, place), pause in zip(marks, pauses)]
    begins = [place in (FIRST, ONLY) and not pause for (*_, place), pause in zip(marks, pauses)]
    return [k for k in range(len(marks) - 1) if ends[k] and begins[k + 1]]


def canonical(phonemes: str) -> str:
    """Letters and diacritics apart, so that each is one symbol; only ç is a letter of its own."""
    return unicodedata.normalize("NFD", phonemes).replace("c\u0327", "ç")


def label(packed: int) -> str:
    """The characters that an id stands for, for example ˈɑː."""
    symbol, stress, long, _ = unpack(packed)
    return STRESS[stress] + SYMBOLS[symbol] + LENGTH[long]
