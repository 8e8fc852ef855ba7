"""The symbols a voice knows: a phoneme string becomes ids one character at a time, so each symbol is one character.

The list covers what espeak-ng can emit in all its languages. A checkpoint carries its own list, and the order
is the meaning of the ids: append, never insert.
"""

import unicodedata

BLANK = "_"  # id 0: the padding of a batch, and the blank between symbols

_GROUPS = (
    BLANK,
    " ",
    # punctuation, as normalisation leaves it
    '.,;:!?¡¿"()-',
    # vowels: close, near-close, close-mid, mid, open-mid, near-open, open
    "iyɨʉɯu" + "ɪʏʊᵻ" + "eøɘɵɤo" + "əɚ" + "ɛœɜɞɝʌɔ" + "æɐ" + "aɶɑɒ",
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
    # modifiers: aspirated, palatal, labial, velar, pharyngeal, rhotic, ejective, nasals, compressed
    "ʰʱʲʷˠˤ˞ʼᵐⁿᵑᶮᶯᵝ",
    # combining marks: nasal, syllabic, tie; non-syllabic, short, centralised, voiceless, voiced, raised, lowered
    "\u0303\u0329\u0361" + "\u032f\u0306\u0308\u0325\u030a\u032c\u031d\u031e",
    # combining marks: advanced, retracted, dental, apical, laminal
    "\u031f\u0320\u032a\u033a\u033b",
    # tones: letters, digits
    "˥˦˧˨˩" + "1234567",
    # left in espeak-ng's own ASCII where it has no IPA
    "AEFKNSXZ#[^`+",
)

SYMBOLS = tuple("".join(_GROUPS))
MARKS = frozenset(_GROUPS[1] + _GROUPS[2])  # what is not spoken


def canonical(phonemes: str) -> str:
    """Letters and diacritics apart, so that each is one symbol; only ç is a letter of its own."""
    return unicodedata.normalize("NFD", phonemes).replace("c\u0327", "ç")
