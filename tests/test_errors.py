"""Where a voice is misheard: words and their kinds, phones and their classes, and the tables of both."""

import itertools
import json

import pytest

from experiments import errors

pytest.importorskip("jiwer", reason="pip install -r requirements-extra.txt")


def test_words_have_their_kinds():
    found = errors.kinds_of("In 1813, Mr. Lee walked; the colour of Qzxt.")
    kinds = dict(found)
    assert [word for word, _ in found] == [
        "in",
        "eighteen",
        "thirteen",
        "mister",
        "lee",
        "walked",
        "the",
        "color",
        "of",
        "qzxt",
    ]
    assert kinds["in"] == {"function words", "first of a clause"}
    assert kinds["thirteen"] == {"other words", "last of a clause"}
    assert kinds["lee"] == {"other words", "names"} and kinds["color"] == {"other words"}
    assert kinds["qzxt"] == {"other words", "last of a clause", "names", "not in CMUdict", "last of the text"}
    assert errors.kinds_of("...") == []


@pytest.mark.parametrize(
    ("heard", "wanted"),
    [
        ("the cat sat", ["the", "cat", "sat"]),
        ("the bat", ["the", "bat", ""]),
        ("oh the cat sat down", ["the", "cat", "sat"]),
        ("", ["", "", ""]),
    ],
)
def test_each_word_has_what_it_is_heard_as(heard, wanted):
    assert [word.heard for word in errors.words_of("The cat sat.", heard)] == wanted


def least_edits(said, heard):
    """By trying every way in which some of said stand for some of heard, in order."""
    n, m = len(said), len(heard)
    return min(
        sum(said[i] != heard[j] for i, j in zip(rows, columns)) + n + m - 2 * k
        for k in range(min(n, m) + 1)
        for rows in itertools.combinations(range(n), k)
        for columns in itertools.combinations(range(m), k)
    )


@pytest.mark.parametrize(
    ("said", "heard"), [("KAT", "BAT"), ("KATS", "AT"), ("AT", "KATS"), ("", "AB"), ("STRAND", "TRNAD")]
)
def test_phones_are_aligned_by_the_least_edits(said, heard):
    pairs = errors.align(list(said), list(heard))
    assert [one for one, _ in pairs] == list(said)
    kept = [other for _, other in pairs if other]
    rest = iter(heard)
    assert all(each in rest for each in kept)  # in their order
    inserted = len(heard) - len(kept)
    assert sum(one != other for one, other in pairs) + inserted == least_edits(said, heard)


def test_stress_is_no_difference_and_tells_reduced_vowels():
    assert errors.align(["AH0", "T"], ["AH1", "D"]) == [("AH0", "AH0"), ("T", "D")]
    named = {phone: errors.class_of(phone) for phone in ("AH0", "AH1", "IY0", "OW2", "ZH")}
    assert list(named.values()) == ["reduced vowels", "vowels with stress", "other vowels without stress", "diphthongs",
                                    "voiced fricatives"]  # fmt: skip


def test_the_table_counts_what_is_wrong(tmp_path, capsys):
    clips = {
        "a": {"text": "The cat sat.", "systems": {"one_step": {"heard": "the bat sat"}, "copy": {"heard": ""}}},
        "b": {"text": "A cat.", "systems": {"one_step": {"heard": "a bat"}}},
        "c": {"text": "Nobody says this.", "systems": {}},
        "d": {"text": None, "systems": {"one_step": {"heard": ""}}},
    }
    (tmp_path / "report.json").write_text(json.dumps({"clips": clips, "systems": {"one_step": {}, "copy": {}}}))
    assert errors.main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| all words | 5 | 40.0 | cat → bat 2 |" in out and "| function words | 2 | 0.0 |  |" in out
    assert "| voiceless stops | 5 | 40.0 | K → B 2 |" in out and "Most often: cat → bat (2)." in out
    assert errors.main([str(tmp_path), "--system", "copy"]) == 0
    assert "| all words | 3 | 100.0 |" in capsys.readouterr().out
    assert errors.main([str(tmp_path), "--system", "other"]) == 1
    assert "without a system other" in capsys.readouterr().err
