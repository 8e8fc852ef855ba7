"""Normalisation: what is written, and what a reader says. The cases of a table, each rule's own example, time."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from text import TextError
from text.english import numbers
from text.english.normalise import RULES, clean, english, explain
from text.score import is_table, score, score_cases, sounds_alike, words

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "ljspeech" / "metadata.csv"
CASES = Path(__file__).with_name("normalisation.tsv")  # which `python -m text --score` reads, too
SPOKEN = [line.split("\t") for line in CASES.read_text(encoding="utf-8").split("\n")[1:-1]]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [pytest.param(*pair, id=f"{name}, line {number}") for number, (name, *pair) in enumerate(SPOKEN, 2)],
)
def test_what_is_said_is_said_again(written, spoken):
    assert english(written) == spoken
    assert english(spoken) == spoken


@pytest.mark.parametrize(("written", "spoken"), [
    ("Title\n\nThe text\nbegins. \n\n\"No.\"\n\n(Why)\n\nYes", 'Title. The text begins. "No." (Why). Yes'),
    ("It fell 5%\n# Eggs\n## Two\nBoil them", "It fell five percent. Eggs. Two. Boil them"),
    ("You need:\n- eggs\n  * milk\n• tea\n\nStir", "You need: eggs. milk. tea. Stir"),
    ("Title\n=====\nOne\n---\nTwo", "Title. One. Two"),
    ("He wrote:\n> so it\n>> is\n>\n> now", "He wrote: so it is. now"),
    ("> 5 is it\n > 3", "five is it greater than three"),
    ("| a | b |\n|---|---:|\n| one | two |", "a b one two"),
    ("- Plan A\n- Plan B\n- None", "- Plan A. Plan B. None"),
    ("Steps\n1. Stir\n2) Bake", "Steps. one. Stir. two) Bake"),
])  # fmt: skip
def test_paragraphs_headings_and_items_end_as_sentences_do(written, spoken):
    assert english(written) == spoken


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_does_what_its_example_says_and_it_is_said_again(rule):
    assert english(rule.written) == english(rule.spoken) == rule.spoken
    assert rule.name in [each.name for each, _ in explain(rule.written)]


def test_the_rules_have_names_of_their_own():
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_an_explanation_ends_in_what_is_said():
    steps = explain("Mrs. Lee paid £3 on 5 May.")
    assert clean(steps[-1][1]) == english("Mrs. Lee paid £3 on 5 May.")
    assert [rule.name for rule, _ in steps] == ["abbreviation", "day before its month", "money"]
    assert explain("Nothing here.") == []


@pytest.mark.parametrize("text", [
    "It is a truth universally acknowledged, that a man - he said - must want it; \"why?\" (or so).",
    "I, Mr Toad's friend X, did mix a civil liquid; the V and the I.",
    "May I march in May, or will I sit on the sun? No. I said no.",
])  # fmt: skip
def test_plain_sentences_stay_as_they_are(text):
    assert english(text) == text.replace("Mr ", "mister ")


def test_numbers():
    assert [numbers.pairs(each) for each in ("605", "500", "1900", "2000", "2005", "2150", "45")] == [
        "six oh five", "five hundred", "nineteen hundred", "two thousand", "two thousand five", "twenty-one fifty",
        "forty-five",
    ]  # fmt: skip
    assert [numbers.roman(each) for each in ("I", "iv", "XIV", "XXXIX", "IIII", "VX", "", "XLIV", "XCIX", "CIVIL")] == [
        1, 4, 14, 39, None, None, None, 44, 99, None,
    ]  # fmt: skip
    assert [numbers.roman(each) for each in ("MCMXCIX", "MMXXIV", "cdxliv", "MMMM")] == [1999, 2024, 444, None]


@pytest.mark.parametrize("unit", ["1", "1,111,"])
@pytest.mark.parametrize(
    "form", ["{}K", "${}.50", "{}%", "{}/{}", "{}th", "{}:30", "1.{}", "$5-{} million", "3 x 10^{}"]
)
def test_numbers_of_any_length(unit, form):
    """Python refuses to convert more than 4,300 digits."""
    digits = (unit * 5000)[:5000].rstrip(",")
    assert not re.search(r"\d", english(f"It is {form.format(digits, digits)} now."))


def test_numbers_are_made_words_by_one_thread_at_a_time(monkeypatch):
    """inflect's engine keeps notes of the call that it is at."""
    at_once = []

    class Engine:
        def number_to_words(self, number, **_):
            at_once.append(number)
            time.sleep(0.001)
            assert at_once == [number]
            at_once.clear()
            return "a number"

    monkeypatch.setattr(numbers, "_inflect", Engine)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(numbers._words.__wrapped__, range(40))) == {"a number"}


UNITS = [
    "a", "1", "1,", "1.", "1 ", "1-", "A-", "A1", "A.", "a.", "a@", "a/", "'1", "\"'", "$1 ", "I ", "IV ", "Elm St. ",
    "1 Elm ", "No. 1", "www.", "<a", "*", "_a", "\u0316\u0301", "1/2", "5 May ", "p.m.", "Mr. 1,200 ", "Chapter I ",
    "\"a 5", "'a ", "<a =", "(a)", "(a](b.", "&a", "Mon-", "iv, ", "chapters iv, ", "I'M ", "A ", "α", "5⁶", "x^",
    "1e5", "call a ", "5h", "0800-", "$5-", "5°3'", "a/kg", "sh", "1.000", "Queen A", "A.A", "a/b.", "1 × ", "\"x9",
    "\n", "a\n ", "a\"", "a \n", "# a", "\n# ", "\n- ", "and[1]", "and¹",
]  # fmt: skip


def _seconds(unit, length):
    start = time.process_time()
    english(unit * (length // len(unit)))
    return time.process_time() - start


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_the_length(unit):
    """Twice the text, twice the time; a pattern that goes back over what it has read takes four times."""
    _seconds(unit, 1000)  # what is loaded when first needed
    assert any(_seconds(unit, 12_000) < 3 * _seconds(unit, 6_000) + 0.05 for _ in range(2))  # one may be disturbed


def test_comparison_counts_words_alone():
    assert words("Mr. Brown-Smith, and St. John's!") == words("mister brown smith saint johns")
    assert words("at 5 p.m.") == words("at PM") == ["at", "p", "m"]
    assert words("Führer") == ["fuhrer"]
    assert words("one two") != words("two one")


def test_score_counts_lines_with_digits():
    lines = ["a|In 1963|In nineteen sixty-three", "b|5 and 6|five six\n", "c|none|other", "d|7|eight"]
    total, misses = score(lines, english)
    assert total == 3
    assert [tuple(miss) for miss in misses] == [("d", "7", "eight", "seven")]
    with pytest.raises(TextError, match="line 2"):
        score([lines[0], "a|b"], english)


def test_readings_that_sound_alike():
    assert sounds_alike("the FBI, twenty-one!", "The F B I twenty one")
    assert sounds_alike("R and B? Yes.", "R and B? yes")
    assert not sounds_alike("misterSmith", "mister Smith")
    assert not sounds_alike("Plan B It worked.", "Plan B. It worked.")  # the sentence's end is lost
    assert not sounds_alike("a one", "a two")


def test_a_table_of_cases_is_scored_by_class():
    lines = ["class\tinput\twanted\n", "a\t3 of\tthree of || tres of\n", "b\t7\teight\n", "b\t8\teight\n"]
    assert is_table(lines) and not is_table(["a|In 1963|In nineteen sixty-three"])
    counts, misses = score_cases(lines, english)
    assert counts == {"a": 1, "b": 2}
    assert [tuple(miss) for miss in misses] == [("b", "7", "eight", "seven")]
    with pytest.raises(TextError, match="line 3"):
        score_cases([*lines[:2], "b\t8\n"], english)


@pytest.mark.skipif(not CORPUS.is_file(), reason="the LJSpeech corpus is not here")
def test_ljspeech_is_said_as_its_people_wrote_it():
    with open(CORPUS, encoding="utf-8") as file:
        total, misses = score(file, english)
    assert total > 700
    assert len(misses) <= 0.02 * total, [miss.written for miss in misses]


@pytest.mark.skipif(not CORPUS.is_file(), reason="the LJSpeech corpus is not here")
def test_what_people_wrote_out_stays():
    """Lines without abbreviations, dashes and letters that ASCII has not are their own normalisation."""
    with open(CORPUS, encoding="utf-8") as file:
        spoken = [line.rstrip("\n").split("|")[2] for line in file]
    plain = [
        " ".join(each.split()) for each in spoken if re.fullmatch(r"(?:[A-Za-z'\",;:!?() -]|[a-z]{3}\.\"?$)+", each)
    ]
    plain = [each for each in plain if "--" not in each and not re.search(r" [,;:!?]|\b(etc|viz)\.", each)]
    assert len(plain) > 5000
    changed = [each for each in plain if english(each) != each]
    assert changed == []
