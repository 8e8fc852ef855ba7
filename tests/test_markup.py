"""What a writer says of the reading: phonemes between brackets, pauses, and a lexicon."""

import pytest

from text import FrontEnd, TextError, markup
from text.symbols import label


@pytest.fixture(scope="module")
def front_end():
    return FrontEnd(units="phones")


def lexicon(folder, *lines):
    """The path of a lexicon of some lines."""
    path = folder / "lexicon.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


# -- phonemes


def test_phonemes_are_said_as_they_stand(front_end):
    assert front_end.phonemise("Say [[ fəˈniːmz ]], $3.") == "sˈeɪ fəˈniːmz, θɹˈiː dˈɑːlɚz."
    assert front_end.phonemise('"[[ə]]"') == '"ə"'
    assert front_end.phonemise("[[ˌʌn]]told [[a b]]") == "ˌʌntˈoʊld a b"
    assert front_end.phonemise("A [[ə]], a [[ə]], plan A") == "ɐ ə, ɐ ə, plˈæn ˈeɪ"


def test_words_show_the_phonemes_and_are_said_again(front_end):
    written = 'Dr. [[ fəˈniːmz ]] <break time="0.25s"/> at 5.'
    words = front_end.normalise(written)
    assert words == 'doctor [[fəˈniːmz]] <break time="250ms"/> at five.'
    assert front_end.phonemise(words) == front_end.phonemise(written)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("[[ k☃t ]]", "u2603"),
        ("[[ Main Page ]]", "'M' in"),
        ("[[ _ ]]", "'_' in"),
        ("so [[]] so", "no phonemes"),
        ("[[ . ]]", "no phonemes"),
        ("<break/>", "must be <break time="),
        ('<break time="fast"/>', "must be <break time="),
        ('<break time="0ms"/>', "up to 10 s"),
        ('<break time="10.01s"/>', "up to 10 s"),
        ('<break time="-1s"/>', "up to 10 s"),
        # what SSML has and would be lost
        ("<prosody rate='slow'>so</prosody>", "--length-scale, or a request's speed"),
        ("<Prosody rate='slow'>so</Prosody>", "--length-scale"),
        ("<emphasis>so</emphasis>", "no voice has an emphasis"),
        ("<say-as interpret-as='ordinal'>3</say-as>", "one of characters, spell-out, digits, telephone"),
        ("<say-as interpret-as='digits'>3", "one of characters"),
        ("<phoneme alphabet='x-sampa' ph='t'>t</phoneme>", "\\[\\[ IPA"),
        ("<voice name='x'>so</voice>", "one speaker"),
        ("<lang xml:lang='de'>so</lang>", "one language"),
        ("<amazon:effect name='whispered'>so</amazon:effect>", "one vendor's.*leave it out"),
        ("<mstts:silence/>", "one vendor's"),
    ],
)
def test_wrong_markup_is_named(front_end, wrong, says):
    for method in (front_end.normalise, front_end.phonemise):
        with pytest.raises(TextError, match=says) as caught:
            method(f"Well, {wrong} now")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 170
    assert front_end.phonemise_many([wrong, "Hello"]) == ["", "həlˈoʊ"]


@pytest.mark.parametrize("text", ["[[ unclosed", "closed ]]", "[one]", "break time", "<b>break</b>", "a [[ b [[ c",
                                  "<mailto:ann@example.org>", "<https://example.org/a>"])  # fmt: skip
def test_what_only_looks_like_markup_is_read(front_end, text):
    assert front_end.phonemise(text)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("ˈskræʤ", "ˈskrædʒ"), ("ʧɪn ʦ ʣ", "tʃɪn ʦ dz"), ("'tu:.lɪ", "ˈtuːlɪ"), ("/kæt/", "kæt"), ("t͜ʃ", "t͡ʃ"),
        ("kæt. kæt", "kæt. kæt"),
    ],
)  # fmt: skip
def test_usual_spellings_of_ipa_are_mapped(front_end, written, said):
    assert front_end.phonemise(f"[[ {written} ]]") == said


# -- SSML


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('the <sub alias="World Wide Web">WWW</sub>.', "the World Wide Web."),
        ("<say-as interpret-as='characters'>US2</say-as>", "U S two"),
        ("<say-as interpret-as='characters'>abc</say-as>", "A B C"),  # a small a would be the article
        ('code <say-as interpret-as="digits">1984</say-as>', "code one nine eight four"),
        ('<phoneme alphabet="ipa" ph="təˈmɑːtoʊ">tomato</phoneme> soup', "[[təˈmɑːtoʊ]] soup"),
        ('<PHONEME Alphabet="ipa" PH="t&#x259;">to</PHONEME> <Break Time="1S"/>', '[[tə]] <break time="1000ms"/>'),
        ('<?xml version="1.0"?><!DOCTYPE speak><speak>a <!-- <voice> --> b</speak>', "a b"),
        ("<STYLE>p > a { b: c }</STYLE>a <script>if (d < e) f('<b>')</script > g", "a g"),
        ("<speak><p>H<sub>2</sub>O</p></speak>", "H two O"),  # HTML's sub has no alias
    ],
)
def test_elements_of_ssml_are_heard(front_end, written, read):
    assert front_end.normalise(written) == read


# -- pauses


@pytest.mark.parametrize(
    ("written", "phonemes"),
    [
        ('Hello <break time="300ms"/> world', "həlˈoʊ <300ms> wˈɜːld"),
        ('Hello <break time="0.3s"/> world', "həlˈoʊ <300ms> wˈɜːld"),
        ('Hello <break time="1s"/>, world.', "həlˈoʊ, <1000ms> wˈɜːld."),
    ],
)
def test_a_pause_stands_among_phonemes_in_milliseconds_behind_a_mark_beside_it(front_end, written, phonemes):
    assert front_end.phonemise(written) == phonemes


@pytest.mark.parametrize("units", ["characters", "blanks", "phones"])
@pytest.mark.parametrize(
    ("phonemes", "marks"),
    [
        ("a <300ms> b", [(",", 0.3)]),
        ("a. <300ms> b", [(".", 0.3)]),
        ("<300ms> a", [("first", 0.3)]),
        ("a <300ms>", [(",", 0.3)]),
        ("a; <100ms> <200ms> b <1000ms> c?", [(";", 0.3), (",", 1.0)]),
        ("<100ms> <200ms> a", [("first", 0.3)]),
        ("a b", []),
    ],
)
def test_each_pause_finds_its_symbol(units, phonemes, marks):
    front_end = FrontEnd(units=units)
    ids, pauses = front_end.to_ids(phonemes), front_end.pauses(phonemes)
    first = "_" if units == "phones" else ","
    expected = [(first if mark == "first" else mark, seconds) for mark, seconds in marks]
    assert [(label(ids[index]), pytest.approx(seconds)) for index, seconds in sorted(pauses.items())] == expected
    without = markup._PAUSE.sub("", phonemes)
    spoken = [i for i in ids if label(i) not in ",.;?_ "]
    assert spoken == [i for i in front_end.to_ids(without) if label(i) not in ",.;?_ "]


def test_many_pauses_take_linear_work(front_end):
    phonemes = "a <300ms> " * 20_000
    assert len(front_end.pauses(phonemes)) == 20_000


def test_pauses_alone_are_nothing_to_say(front_end):
    with pytest.raises(TextError, match="nothing to say"):
        front_end.phonemise('<break time="1s"/>')


# -- the lexicon


def test_a_lexicon_says_words(tmp_path):
    lines = "\ufeff# names", "", "nguyen = [[ wˈɪn ]]", "NiSETS = nice ets  # ours", "Lee = lay", "IBEX = [[ ˈaɪbɛks ]]"
    front_end = FrontEnd(lexicon=lexicon(tmp_path, *lines))
    assert front_end.phonemise("Nguyen, NGUYEN and nguyen's") == "wˈɪn, wˈɪn ænd wˈɪnz"
    assert front_end.phonemise("IBEX's [[ə]]") == "ˈaɪbɛksɪz ə"
    assert front_end.phonemise("[[wˈɪn]]'s") == "wˈɪnz"
    assert front_end.normalise("Mrs. Lee, NiSETS, nisets, lee and Leeds") == (
        "missus lay, nice ets, nisets, lee and Leeds"
    )
    assert FrontEnd().phonemise("Nguyen") != "wˈɪn"


def test_a_lexicon_has_several_words_and_signs(tmp_path):
    path = lexicon(
        tmp_path,
        "New York = noo york", "new = knew", "AT&T = ay tee and tee", "C++ = see plus plus", "C# = see sharp  # a note",
        ".NET = dot net", "o'clock = a clock", "istanbul = stamboul",
        "O’Brien = oh bryan",
    )  # fmt: skip
    front_end = FrontEnd(lexicon=path)
    assert front_end.normalise("New  York's new AT&T: C++, C#, .NET") == (
        "noo york's knew ay tee and tee: see plus plus, see sharp, dot net"
    )
    assert front_end.normalise("at two o'clock; renew; New Yorkers; İstanbul") == (
        "at two a clock; renew; knew Yorkers; Istanbul"
    )
    assert front_end.normalise("two o’clock, O'Brien’s and O’Brien") == "two a clock, oh bryan's and oh bryan"


def test_a_long_lexicon_is_searched_once_a_word():
    words = markup.Lexicon({f"word{i} two": "x" for i in range(5000)} | {"&&": "y"})
    text = "word7 two word9 && " * 3000
    assert words.respelt(text) == "x word9 y " * 3000


def test_a_lexicon_is_of_the_cmudict_way_too(tmp_path):
    front_end = FrontEnd(phonemizer="cmudict", lexicon=lexicon(tmp_path, "grelf = [[ ɡɹˈɛlv ]]"))
    assert front_end.phonemise("one grelf") == "wˈʌn ɡɹˈɛlv"
    assert front_end.unknown("one grelf") == []


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["a = b", "c d"], ":2: expected word = respelling"),
        (["# a", "[[ ə ]] = b"], ":2: expected word = respelling"),
        (["a = <prosody rate='slow'>b</prosody>"], ":1: .*--length-scale"),
        (["word ="], ":1: expected word = respelling"),
        (["= b"], ":1: expected word = respelling"),
        (["a = b", "a = c"], ":2: 'a' stands there for the second time"),
        (["a = [[ ☃ ]]"], ":1: '\\\\u2603' in"),
        (["a = [[ ]]"], ":1: .* no phonemes"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, lines, says):
    path = lexicon(tmp_path, *lines)
    with pytest.raises(TextError, match=f"lexicon.txt{says}") as caught:
        FrontEnd(lexicon=path)
    assert "\n" not in str(caught.value)


def test_a_lexicon_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(TextError, match=r"none\.txt: No such file"):
        FrontEnd(lexicon=tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 = caff ay")
    with pytest.raises(TextError, match="latin.txt: not UTF-8"):
        FrontEnd(lexicon=tmp_path / "latin.txt")
