"""The text front end: what is said, how it is spelt in IPA, and which ids that makes."""

import io
import itertools
import logging
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

import text
from text import SYMBOLS, FrontEnd, TextError
from text.__main__ import main
from text.symbols import (
    FIRST,
    INSIDE,
    LAST,
    MARK_SIZES,
    ONLY,
    PAUSES,
    VOWELS,
    label,
    pack,
    phones_along,
    states,
    unpack,
    word_gaps,
)

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(__file__).resolve().parents[2] / "shared" / "ljspeech"


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd()


@pytest.fixture(scope="module")
def phones():
    return FrontEnd(units="phones")


@pytest.fixture(scope="module")
def corpus():
    if not (CORPUS / "metadata.csv").is_file():
        pytest.skip("the LJSpeech corpus is not here")
    lines = (CORPUS / "metadata.csv").read_text(encoding="utf-8").splitlines()
    return [line.split("|")[1] for line in random.Random(0).sample(lines, 200)]


def test_symbols_are_unique_single_characters():
    assert SYMBOLS[0] == "_"
    assert len(set(SYMBOLS)) == len(SYMBOLS) >= 150
    assert all(len(symbol) == 1 for symbol in SYMBOLS)


def test_unicode_becomes_plain(front_end):
    assert front_end.normalise("“It’s a café…”\u00a0[so]—\tyes ,\n no") == '"It\'s a cafe..." (so) - yes, no'
    assert front_end.normalise("a\0b\x1b c\u200bd \ud800e 🙂") == "ab cd e"


def test_other_languages_keep_their_letters_and_numbers():
    german = FrontEnd("de")
    assert german.normalise("Müller  kauft „3,5“ kg") == 'Müller kauft "3,5" kg'
    assert "kɔmɑ" in german.phonemise("3,5")  # drei Komma fünf


def test_phonemes_have_stress_and_the_punctuation_in_its_place(front_end):
    assert front_end.phonemise("Hello, world!") == "həlˈoʊ, wˈɜːld!"
    assert front_end.phonemise('"Hello" (world); hello - world?') == '"həlˈoʊ" (wˈɜːld); həlˈoʊ - wˈɜːld?'
    assert front_end.phonemise("It was 3.5. Yes.").count(".") == 2


@pytest.mark.parametrize(
    ("capitals", "same"),
    [
        ("IT WAS THE BEST OF TIMES", "it was the best of times"), ("GIVE IT TO US NOW", "give it to us now"),
        ("HERE I AM", "here I am"),
        ("I'M THE OLD MAN", "I'm the old man"), ("NASA's", "nasa's"), ("DVDs", "D-V-D's"), ("the FBI's", "the F-B-I's"),
        ("NOW, GET OUT, YOU", "now, get out, you"), ("I AM! AM I?", "I am! am I?"),
        ("Enter your PIN", "enter your pin"), ("a BIG mistake", "a big mistake"), ("PINs", "pin's"),
    ],
)  # fmt: skip
def test_espeak_says_capitals_as_people_do(front_end, capitals, same):
    assert front_end.phonemise(capitals) == front_end.phonemise(same)


@pytest.mark.parametrize(("text", "spelt"), [
    ("the US Army", "US"), ("THE US ARMY", "US"), ("an IT job", "IT"), ("AM/FM radio", "AM"), ("9 p.m. ET", "ET"),
    ("UK/US", "US"), ("the IT CEO", "IT"),
])  # fmt: skip
def test_espeak_spells_what_is_spelt(front_end, text, spelt):
    assert front_end.phonemise(text) != front_end.phonemise(text.replace(spelt, spelt.lower()))


@pytest.mark.parametrize(("text", "said"), [
    ("the fund (IMF) said", "(ˌaɪˌɛmˈɛf)"), ("LONDON (AP)", "(ˌeɪpˈiː)"), ("My IQ?", "ˌaɪkjˈuː?"),
    ("10 AM.", "ˌeɪˈɛm."), ("6 a.m., ET", ", ˌiːtˈiː"), ("IMF WARNS", "ˌaɪˌɛmˈɛf w"),
    ("the UAE, the ER", "jˌuːˌeɪˈiː, ðɪ ˌiːˈɑːɹ"),
    ("a low APR", "ˈeɪpˈiːˈɑːɹ"), ("the NCAA's plan", "ˈɛnsˈiːˈeɪˈeɪz"), ("EEOC, FDIC", "ˈiːˈiːˈoʊsˈiː, ˈɛfdˈiːaɪsˈiː"),
])  # fmt: skip
def test_espeak_spells_abbreviations_also_in_short_clauses_and_those_that_look_like_words(front_end, text, said):
    assert said in front_end.phonemise(text)


@pytest.mark.parametrize("phonemizer", ["espeak", "cmudict"])
def test_sounds_that_are_no_words(phonemizer):
    front_end = FrontEnd(phonemizer=phonemizer)
    assert front_end.phonemise("Shhh! Zzz... psst, brr") == "ʃː! zː... pst, bɹː"
    assert front_end.unknown("shh, zzz") == []


def test_phonemes_have_no_language_flags_and_diacritics_apart():
    french = FrontEnd("fr-fr").phonemise("un bon weekend")
    assert "(" not in french
    assert "œ̃ bˈɔ̃" in french
    assert "ɐ̃" in FrontEnd("pt-br").phonemise("Não")
    assert "ç" in FrontEnd("de").phonemise("ich")


def test_each_character_of_the_corpus_is_a_symbol(front_end, corpus):
    phonemes = front_end.phonemise_many(corpus)
    assert all(phonemes)
    assert set("".join(phonemes)) <= set(SYMBOLS)


def test_many_texts_are_the_same_as_each_alone(front_end, corpus):
    many = front_end.phonemise_many(corpus)
    assert many == [front_end.phonemise(each) for each in corpus]
    assert many[::-1] == FrontEnd().phonemise_many(corpus[::-1])


def test_one_bad_text_does_not_stop_the_others(front_end):
    assert front_end.phonemise_many([]) == []
    many = front_end.phonemise_many(["Hello", "", "...", "Hello"])
    assert many == ["həlˈoʊ", "", "", "həlˈoʊ"]


def test_blanks_stand_before_between_and_after(front_end):
    plain = FrontEnd(units="characters").to_ids("kˈæt")
    assert [SYMBOLS[i] for i in plain] == list("kˈæt")
    assert front_end.to_ids("kˈæt") == [0, plain[0], 0, plain[1], 0, plain[2], 0, plain[3], 0]
    assert front_end.symbols == SYMBOLS


def test_ids_pack_a_symbol_and_its_marks():
    sizes = (len(SYMBOLS), *MARK_SIZES["states"])
    packed = [pack(*one) for one in itertools.product(*map(range, sizes))]
    assert sorted(packed) == list(range(len(SYMBOLS) * 3 * 2 * 4 * 3))
    assert [unpack(one) for one in packed] == list(itertools.product(*map(range, sizes)))
    assert pack(7, 2, 1, 3) == 7 + len(SYMBOLS) * (2 + 3 * (1 + 2 * 3)) and MARK_SIZES["phones"] == (3, 2, 4)
    assert [pack(i, 0, 0, 0) for i in range(len(SYMBOLS))] == list(range(len(SYMBOLS)))


def spelt(ids):
    """(symbol, stress, long, place) of each id."""
    return [(SYMBOLS[symbol], *marks) for symbol, *marks, _ in map(unpack, ids)]


def test_phones_by_hand(phones):
    assert phones.symbols == SYMBOLS
    ids = phones.to_ids(phones.phonemise("hello world!"))
    assert [place for *_, place in spelt(ids)] == [INSIDE, FIRST, INSIDE, INSIDE, INSIDE, LAST, FIRST, INSIDE, INSIDE,
                                                   LAST, INSIDE]  # fmt: skip
    assert " ".join(map(label, ids)) == "_ h ə l ˈo ʊ w ˈɜː l d !"
    assert [label(pack(SYMBOLS.index("ɑ"), *marks)) for marks in ((2, 1, 0), (1, 0, 3))] == ["ˈɑː", "ˌɑ"]


def test_states_are_three_of_each_phone_and_one_of_a_pause(phones):
    """They are of the same words, between the same gaps, and their durations are the phones'; so are pauses asked
    for."""
    front_end, text = FrontEnd(units="states"), "əhˈə bˈi, <300ms> kˈæt."
    ids, of_phones = front_end.to_ids(text), phones.to_ids(text)
    marks = [(pack(*one[:-1]), one.state) for one in map(unpack, ids)]
    assert marks == [(i, k) for i in of_phones for k in range(1 if i in PAUSES else 3)]
    assert [label(i) for i in ids if i in PAUSES] == ["_", ",", "."]
    firsts, durations = phones_along(ids, range(len(ids)))
    assert [ids[k] for k in firsts] == of_phones and durations[:3] == [0, 1 + 2 + 3, 4 + 5 + 6]
    assert [front_end.words_of(ids)[k] for k in firsts] == phones.words_of(of_phones)
    assert [firsts.index(gap - 2) for gap in word_gaps(ids)] == word_gaps(of_phones) != []
    assert {firsts.index(k): seconds for k, seconds in front_end.pauses(text).items()} == phones.pauses(text) != {}
    assert phones_along(of_phones, range(len(of_phones))) == ([*range(len(of_phones))], [*range(len(of_phones))])


@pytest.mark.parametrize(
    ("phonemes", "labels"),
    [
        ("ˌɛntɚtˈeɪn", "_ ˌɛ n t ɚ t ˈe ɪ n _"),
        ("ˈstrɑː", "_ s t r ˈɑː _"),  # the next vowel, wherever the mark stands
        ("kˈr̩k vlˌk", "_ k ˈr ̩ k v l ˌk _"),  # the next letter where no vowel follows
        ("ˈ aˌ", "_ a _"),  # nothing in this word
        ("aˑ nʲː ː", "_ aː nː ʲ _"),
        ("t͡ʃa5", "_ t ͡ ʃ a 5 _"),
        (" a,  b ", "_ a , b _"),
        ("a.), (b", "_ a . b _"),
        ('a?!" b - c', "_ a ? b - c _"),
        ('("¿a" .', "_ a ."),  # before the first word: in the blank there
        ("a _ b_._", "_ a b ."),
        ('a"', '_ a "'),
        ("a... ", "_ a ."),
    ],
)
def test_phones_of_phonemes(phones, phonemes, labels):
    assert " ".join(map(label, phones.to_ids(phonemes))) == labels


def test_places_in_the_word_are_of_letters(phones):
    places = {"a": [ONLY], "ab": [FIRST, LAST], "abc": [FIRST, INSIDE, LAST], "ã": [ONLY, INSIDE],
              "t͡ʃ": [FIRST, INSIDE, LAST], "nʲ5": [ONLY, INSIDE, INSIDE], "5": [INSIDE], "ˈaː": [ONLY]}  # fmt: skip
    for word, expected in places.items():
        assert [place for *_, place in spelt(phones.to_ids(word))[1:-1]] == expected, word


def test_phones_are_what_the_characters_say(front_end, phones, corpus):
    for phonemes in front_end.phonemise_many(corpus):
        ids = phones.to_ids(phonemes)
        letters = [char for char in phonemes if char not in ' ˈˌː.,;:!?"()-']
        assert [symbol for symbol, *_ in spelt(ids) if symbol not in '_.,;:!?"()-'] == letters
        assert sum(stress == 2 for _, stress, *_ in spelt(ids)) == phonemes.count("ˈ")
        assert sum(long for *_, long, _ in spelt(ids)) == phonemes.count("ː")
        assert {symbol for symbol, stress, *_ in spelt(ids) if stress} <= VOWELS | {"n"}  # n̩ in didn't
        assert ids[0] == 0 and 2 * len(ids) < len(front_end.to_ids(phonemes))


@pytest.mark.parametrize("units", ["characters", "phones"])
def test_what_is_no_symbol_is_dropped_with_one_warning(caplog, units):
    front_end = FrontEnd(units=units)
    with caplog.at_level(logging.WARNING):
        ids = [front_end.to_ids("k☃æ☃t") for _ in range(3)][-1]
    assert ids == front_end.to_ids("kæt")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "U+2603" in caplog.text
    with pytest.raises(TextError, match="u2603"):
        front_end.to_ids("☃")


@pytest.mark.parametrize("phonemes", ["", "☃", " . ", "_", "ˈ", "ː"])
def test_phones_need_a_letter(phones, phonemes):
    with pytest.raises(TextError):
        phones.to_ids(phonemes)


@pytest.mark.parametrize(
    "nothing",
    ["", " ", " \n", "\n\t", "...", "?!", "?! -- ()", "\0\x1b", "\ud800", "\u200b", "\u202e", "\u0301", "\ue000",
     "🙂🎉", "😀", "***", "_", "#", "|"],
)  # fmt: skip
@pytest.mark.parametrize("phonemizer", ["espeak", "cmudict"])
def test_nothing_to_say_is_an_error(phonemizer, nothing):
    front_end = FrontEnd(phonemizer=phonemizer)
    for method in (front_end.normalise, front_end.phonemise):
        with pytest.raises(TextError, match="nothing to say"):
            method(nothing)


def test_an_error_quotes_the_text_shortened_on_one_line(front_end):
    with pytest.raises(TextError) as caught:
        front_end.phonemise("!\n" * 1000)
    assert "!\\n!" in str(caught.value)
    assert len(str(caught.value)) < 100
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("language", ["xx", "", "english"])
def test_an_unknown_language_is_named(language):
    with pytest.raises(TextError, match=repr(language)):
        FrontEnd(language)


def test_the_default_front_end(front_end):
    assert text.normalise("In 1963") == front_end.normalise("In 1963")


def _python(*arguments):
    """The status, and what it says on standard output and on standard error."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_import_loads_nothing():
    heavy = "('phonemizer', 'espeakng_loader', 'inflect', 'unidecode', 'torch')"
    code = f"import sys, text; print([name for name in {heavy} if name in sys.modules])"
    assert _python("-c", code) == (0, "[]\n", "")


def test_the_command_is_a_process_whose_status_says_that_it_failed():
    said = _python("-m", "text", "--score", "none.csv")
    assert said == (1, "", "none.csv: No such file or directory\n")


def told(capsys, *arguments):
    """What the command line says to some arguments: the status, the lines of standard output and of standard error."""
    status, (out, err) = main([*map(str, arguments)]), capsys.readouterr()
    return status, out.splitlines(), err.splitlines()


def test_command_line(front_end, phones, capsys, monkeypatch):
    phonemes = front_end.phonemise("In 1963.")
    assert told(capsys, "In 1963.")[1] == [
        "text      In 1963.",
        "words     In nineteen sixty-three.",
        f"phonemes  {phonemes}",
        f"ids       {' '.join(map(str, front_end.to_ids(phonemes)))}",
    ]
    assert told(capsys, "-u", "phones", "Hello, you!")[1][2:] == [
        "phonemes  _ h ə l ˈo ʊ , j uː !",
        f"ids       {' '.join(map(str, phones.to_ids(phones.phonemise('Hello, you!'))))}",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("One.\n...\nTwo.\n"))
    status, lines, (error,) = told(capsys)
    assert (status, lines[1::4]) == (1, ["words     One.", "words     Two."]) and "nothing to say" in error


def test_command_line_names_the_words_nobody_knew(capsys, tmp_path):
    unknown = "grelf, thrimp (not in CMUdict; espeak-ng does not say which words it reads by rule)"
    assert told(capsys, "A grelf and a thrimp.")[1][4:] == [f"unknown   {unknown}"]
    (tmp_path / "lexicon").write_text("grelf = gruff\n", encoding="utf-8")
    _, lines, _ = told(capsys, "-p", "cmudict", "-l", tmp_path / "lexicon", "A grelf and a thrimp.")
    assert lines[1] == "words     A gruff and a thrimp."
    assert lines[4:] == ["unknown   thrimp (not in CMUdict, read by letter-to-sound rules)"]
    assert told(capsys, "-l", "none.txt", "A") == (1, [], ["none.txt: No such file or directory"])


def test_command_line_explains_and_scores(capsys, tmp_path):
    status, lines, _ = told(capsys, "--explain", "Mrs. Lee")
    assert (status, lines[-1]) == (0, "  abbreviation (as in Mrs. Smith: missus Smith): missus Lee")
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("a|In 1963|In nineteen sixty-three\nb|9|ten\nc|no digits|none\n", encoding="utf-8")
    status, lines, _ = told(capsys, "--score", metadata)
    assert (status, lines[-2]) == (0, "1 of 2 lines with digits are right (50.0%)")
    assert re.fullmatch(r"3 texts normalised and phonemised by espeak in \d+\.\d s", lines[-1])
    metadata.write_text("class\tinput\twanted\nyears\t1963\tnineteen sixty-three\nyears\t9\tten\n", encoding="utf-8")
    status, lines, _ = told(capsys, "--score", metadata)
    assert (status, lines[2:]) == (0, ["  people   ten", "  here     nine", "1 of 2 cases are right (50.0%)",
                                       "years: 1 of 2"])  # fmt: skip
    status, lines, (error,) = told(capsys, "--score", ROOT / "README.md")
    assert (status, lines) == (1, []) and "expected id" in error


def test_a_word_that_ends_in_a_modifier_has_a_gap_behind_it(phones):
    """ɔ̃ and n̩ end with marks that are phones of their own."""
    of_phones = phones.to_ids("bˈɔ̃ bˈʌtn̩, bˈɔ̃ʒ ɔ̃")
    for ids in (of_phones, states(of_phones)):
        assert [[label(i) for i in ids[k : k + 2]] for k in word_gaps(ids)] == [["̃", "b"], ["ʒ", "ɔ"]]
