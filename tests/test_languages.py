"""Languages other than English: numbers in words, and what espeak-ng says reaches the model, every symbol of it."""

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
    "es": ["¿Qué tal, señor? Son 12,5."],
    "ru": ["Привет, мир!"],
    "vi": ["Xin chào thế giới."],
    "en-gb": ["Hello, world, 12.5!"],
}


SPOKEN = {
    "de": [
        ("am 3. Mai, der 3. Mai", "am dritten Mai, der dritte Mai"),
        ("am 3.5.2024 oder 2024-05-31", "am dritten Mai 2024 oder einunddreißigster Mai 2024"),
        ("im 19. Jahrhundert, in der 2. Klasse", "im neunzehnten Jahrhundert, in der zweiten Klasse"),
        ("um 12:30 Uhr, 9.05 Uhr, 8:00", "um 12 Uhr 30, 9 Uhr 5, 8 Uhr"),
        ("1 €, 1 km, 1 Std., 1 kWh", "ein Euro, ein Kilometer, eine Stunde, eine Kilowattstunde"),
        ("12,50 €, 0,99 €, $5, 3 EUR", "12 Euro 50, 99 Cent, 5 US-Dollar, 3 Euro"),
        ("50%, 5-10 %, -5 °C", "50 Prozent, 5 bis 10 Prozent, minus 5 Grad Celsius"),
        ("1984 und 1905, 120 km/h", "19 hundert 84 und 19 hundert 5, 120 Kilometer pro Stunde"),
        ("<b>so</b> &amp; [da](http://a.de)", "so & da"),
        ("99.99.2024, 0170-1234567, 1.250.000", "99.99.2024, 0170-1234567, 1.250.000"),
    ],
    "fr-fr": [
        ("le 01/05/2024, le 3 mai", "le 1er mai 2024, le 3 mai"),
        ("12h30, 21:00, 1:15", "12 heures 30, vingt et une heures, une heure 15"),
        ("à 14h, de 9 h à 1h", "à 14 heures, de 9 heures à une heure"),
        ("1 €, 1 £, 1 kg", "un euro, une livre sterling, un kilogramme"),
        ("12,50 €, 1 250 €, 50 %", "12 euros 50, 1250 euros, 50 pour cent"),
    ],
    "es": [
        ("03/05/2024, las 12:30, la 1:30", "3 de mayo de 2024, las 12 y 30, la una y 30"),
        ("1 €, 1 £, 1 kg, 1 %", "un euro, una libra esterlina, un kilogramo, 1 por ciento"),
        ("12,50 €, $5, 50 %, 5-10 km", "12 euros con 50, 5 dólares estadounidenses, 50 por ciento, 5 a 10 kilómetros"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("language", SPOKEN)
def test_dates_times_money_and_measures(language):
    pytest.importorskip("babel")
    front_end = FrontEnd(language)
    for written, spoken in SPOKEN[language]:
        assert front_end.normalise(written) == spoken
        assert front_end.normalise(spoken) == spoken


def test_what_is_left_to_espeak_is_said_in_one_line(caplog, monkeypatch):
    FrontEnd("it")
    FrontEnd("en-gb")
    assert caplog.messages == ["it: dates, times, money and measures are left to espeak-ng"]
    monkeypatch.setattr("importlib.util.find_spec", dict().get)
    FrontEnd("de")
    assert caplog.messages[-1].endswith("pip install babel")


@pytest.mark.parametrize("language", TEXTS)
def test_every_symbol_is_known_and_comes_back(language):
    front_end = FrontEnd(language, "characters")
    for text, phonemes in zip(TEXTS[language], front_end.phonemise_many(TEXTS[language])):
        assert phonemes and set(canonical(phonemes)) <= set(SYMBOLS), text
        assert not any(char.isdigit() for char in phonemes) or language in ("cmn", "vi")  # tones are digits
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
