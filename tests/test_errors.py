"""Where a voice is misheard: words and their kinds, phones and their classes, and the tables of both."""

import json

import pytest

from experiments import errors

pytest.importorskip("jiwer", reason="pip install -r requirements-extra.txt")


def test_words_have_their_kinds():
    found = errors.kinds_of("In 1813, Mr. Lee walked; the colour of Qzxt.")
    kinds = dict(found)
    assert " ".join(kinds) == "in eighteen thirteen mister lee walked the color of qzxt"
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


def test_stress_is_no_difference_and_tells_reduced_vowels():
    assert list(errors.align(["AH0", "T"], ["AH1", "D"])) == [("AH0", "AH0"), ("T", "D")]
    assert list(errors.align(["K", "AH1", "S"], ["AH1"])) == [("K", ""), ("AH1", "AH1"), ("S", "")]
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
