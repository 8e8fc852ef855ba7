"""Languages other than English, by text.language alone: what espeak-ng says reaches the model, every symbol of it."""

import pytest

from text.front_end import FrontEnd
from text.symbols import MARKS, SYMBOLS, canonical

TEXTS = {
    "de": ["Am 3. Mai 2024 kosteten 1.250 Äpfel genau 99,50 Euro.", "Größe, Straße, Öl; Jäger! Übermut?"],
    "fr-fr": [
        "Le 14 juillet, 25 000 personnes criaient : « Vive la liberté ! »",
        "Où est la forêt de chênes ? Un vin.",
    ],
    "cmn": ["你好，世界！今天是2024年5月3日。", "这本书很贵，要125块钱。", "她女儿吃了十二个饺子。"],
}


@pytest.mark.parametrize("language", TEXTS)
def test_every_symbol_is_known_and_comes_back(language):
    front_end = FrontEnd(language, "characters")
    for text, phonemes in zip(TEXTS[language], front_end.phonemise_many(TEXTS[language])):
        assert phonemes and set(canonical(phonemes)) <= set(SYMBOLS), text
        assert not any(char.isdigit() for char in phonemes) or language == "cmn"  # numbers are words
        assert "".join(SYMBOLS[i] for i in front_end.to_ids(phonemes)) == canonical(phonemes)


def test_marks_are_those_of_the_text():
    """espeak-ng writes some letters with a dot or a hyphen, which would be pauses."""
    for language, text in (("fr-fr", "le chat de la voisine"), ("cmn", "四川人说这是桌子")):
        assert set(FrontEnd(language).phonemise(text)) & MARKS <= {" "}


def test_mandarin_has_its_tones():
    front_end = FrontEnd("cmn", "characters")
    said = {char: front_end.phonemise(char) for char in "妈麻马骂"}
    assert [next(c for c in said[char] if c.isdigit()) for char in said] == ["1", "2", "3", "4"]
    assert len({phonemes.translate({ord(c): None for c in "1234"}) for phonemes in said.values()}) == 1
    assert "ʂ" in front_end.phonemise("书") and "ɜ" not in "".join(said.values())
