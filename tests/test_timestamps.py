"""Time stamps: spans from one end of the sound to the other, words as they are written, and the three formats."""

import json

import pytest

from runtime.timestamps import Span, phoneme_spans, to_json, to_srt, to_textgrid, word_labels, word_spans, written_spans

FRAME = 0.01
SYMBOLS = ("_", "h", "a", " ", "b", "_", "o", ",", "c", "", "d")
WORDS = (None, 0, 0, None, 1, 1, 1, None, 2, None, 3)
DURATIONS = (5, 1, 2, 0, 3, 4, 5, 10, 6, 40, 7)


def rounded(spans):
    return [(round(span.start, 6), round(span.end, 6), span.label) for span in spans]


def test_phonemes_follow_one_another_to_the_end():
    spans = phoneme_spans(SYMBOLS, DURATIONS, FRAME)
    assert [span.label for span in spans] == ["", "h", "a", "b", "", "o", "", "c", "", "d"]  # the space lasts no time
    assert spans[0].start == 0 and spans[-1].end == pytest.approx(sum(DURATIONS) * FRAME)
    assert all(a.end == b.start for a, b in zip(spans, spans[1:]))
    assert rounded(spans)[3] == (0.08, 0.11, "b")


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([("Ha", 1), ("bo", 1), ("see", 1), ("dee", 1)],
         [(0, 0.05, ""), (0.05, 0.08, "Ha"), (0.08, 0.2, "bo"), (0.2, 0.3, ""), (0.3, 0.36, "see"), (0.36, 0.76, ""),
          (0.76, 0.83, "dee")]),
        ([("Ha bo", 2), ("see", 1), ("dee", 1)],
         [(0, 0.05, ""), (0.05, 0.2, "Ha bo"), (0.2, 0.3, ""), (0.3, 0.36, "see"), (0.36, 0.76, ""),
          (0.76, 0.83, "dee")]),
        ([("one", 1)],  # of another text: words are their phonemes
         [(0, 0.05, ""), (0.05, 0.08, "ha"), (0.08, 0.2, "bo"), (0.2, 0.3, ""), (0.3, 0.36, "c"), (0.36, 0.76, ""),
          (0.76, 0.83, "d")]),
    ],
)  # fmt: skip
def test_words_and_silences_follow_one_another(labels, wanted):
    assert rounded(word_spans(SYMBOLS, WORDS, DURATIONS, FRAME, labels)) == wanted


def test_words_are_written_as_the_text_has_them():
    assert word_labels("Hello there, world.", "həlˈoʊ ðˈɛɹ, wˈɜːld.") == [("Hello", 1), ("there", 1), ("world", 1)]
    assert word_labels("Out of the way, king.", "ˈaʊt ʌvðə wˈeɪ, kˈɪŋ.") == [("Out of the way", 3), ("king", 1)]
    text, said = 'Hello <break time="300ms"/> [[kˈæt]] - go.', "həlˈoʊ <300ms> kˈæt - ɡˈoʊ."
    assert word_labels(text, said) == [("Hello", 1), ("[[kˈæt]]", 1), ("go", 1)]
    assert word_labels("Hello.", "həlˈoʊ, wˈɜːld.") == []


@pytest.mark.parametrize(
    ("text", "read", "wanted"),
    [
        ("Mr. Lee paid $3.50 on 5 May.", "mister Lee paid three dollars fifty cents on the fifth of May",
         ["Mr.", "Lee", "paid", "$3.50", "on", "5", "May."]),
        ('It is 5 km. <break time="1s"/> [[ kæt ]] &lt; done', "It is five kilometers [[kæt]] less than done",
         ["It", "is", "5 km.", "[[kæt]]", "<", "done"]),
        ("5 < 6 > 3 <!-- no -->", "five less than six greater than three", ["5 < 6 > 3"]),
        ("l\udcffo\0ne <b>so</b>", "lone so", ["lone", "so"]),  # what no file can hold
        ("1984", "nineteen eighty-four", ["1984"]),
        ("nothing alike", "wholly other words", ["nothing alike"]),
    ],
)  # fmt: skip
def test_words_as_they_were_written(text, read, wanted):
    spans = [Span(i, i + 1, word) for i, word in enumerate(read.split())]
    spans = written_spans([Span(-1, 0, ""), *spans], text)
    assert [span.label for span in spans if span.label] == wanted
    assert all(a.end == b.start for a, b in zip(spans, spans[1:])) and spans[-1].end == len(read.split())


def test_written_words_of_a_clause_that_is_said_as_one_go_together():
    spans = [Span(0, 3, "Out of the"), Span(3, 4, "way"), Span(4, 5, "")]
    assert rounded(written_spans(spans, "Out of the way!")) == [(0, 3, "Out of the"), (3, 4, "way!"), (4, 5, "")]


def test_written_words_take_linear_work():
    for text, read in (("a b " * 20_000, "a b " * 20_000), ("x " * 20_000, "y " * 20_000)):
        assert written_spans([Span(i, i + 1, word) for i, word in enumerate(read.split())], text)


def test_the_formats():
    words = [Span(0, 0.5, ""), Span(0.5, 1, "Ha"), Span(1, 1.1, ""), Span(1.1, 2, '"bo'), Span(2, 3, ""),
             Span(3, 3661.5, "dee")]  # fmt: skip
    assert json.loads(to_json(words, words[:1], words[:2])) == {
        "seconds": 3661.5,
        "phonemes": [{"start": span.start, "end": span.end, "label": span.label} for span in words],
        "words": [{"start": 0, "end": 0.5, "label": ""}],
        "written": [{"start": 0, "end": 0.5, "label": ""}, {"start": 0.5, "end": 1, "label": "Ha"}],
    }
    assert to_srt(words, [], words) == (
        '1\n00:00:00,500 --> 00:00:02,000\nHa "bo\n\n2\n00:00:03,000 --> 01:01:01,500\ndee\n'
    )
    lines = to_textgrid(words, words[:2], words).splitlines()
    assert lines[:5] == ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", "xmax = 3661.500000"]
    assert sum("intervals [" in line for line in lines) == 14 and '            text = """bo"' in lines


def test_a_subtitle_has_an_end():
    words = [Span(i, i + 1, f"word{i:03d}") for i in range(40)]
    cues = to_srt([], [], words).split("\n\n")
    assert max(len(cue.splitlines()[2]) for cue in cues) <= 60
    assert " ".join(cue.splitlines()[2] for cue in cues).split() == [word.label for word in words]
