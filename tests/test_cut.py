"""training.cut: long recordings, aligned with their texts and cut at pauses."""

import re

import numpy as np
import pytest
import soundfile

from data_util import config as configuration
from data_util import demo, prepare
from data_util.corpus_readers import Recording
from evaluation import metrics
from text import FrontEnd
from training import cut

RATE = 100.0  # frames a second of takes that nobody has spoken


def take(words, seconds, pauses):
    """An aligned take of words of some seconds each, with so many of silence before each and after the last."""
    made = cut.make_take(Recording("take", None, words), np.zeros((80, 0)), FrontEnd(units="phones"))
    n = len(made.tokens)
    starts = np.cumsum(np.array(pauses[:n]) + np.concatenate([[0], np.full(n - 1, seconds)]))
    made.starts, made.ends = (np.round(RATE * one).astype(int) for one in (starts, starts + seconds))
    made.mel = np.zeros((80, made.ends[-1] + round(RATE * pauses[n])))
    return made


def texts(made, spans):
    return [" ".join(made.tokens[span.first : span.last]) for span in spans]


def test_tokens_give_the_text_back_and_have_their_own_ids():
    recording = Recording("a", None, 'He — said:  "Ten  p.m." & left...')
    made = cut.make_take(recording, np.zeros((80, 5)), FrontEnd(units="phones"))
    assert " ".join(made.tokens) == 'He — said: "Ten p.m." & left...' and made.tokens[0] == "He —"
    assert len(made.ids) == len(made.tokens) and all(len(ids) for ids in made.ids)
    blank_or_space = [cut.SYMBOLS.index(cut.BLANK), cut.SYMBOLS.index(" ")]
    assert not np.isin(np.concatenate(made.ids), blank_or_space).any()


def test_cuts_are_at_pauses_and_best_after_sentences():
    words = "one two three. four five six, seven eight nine. ten eleven twelve."
    pauses = [0.1, 0, 0.3, 0.5, 0, 0, 0.3, 0, 0.3, 0.5, 0, 0, 0.1]
    made = take(words, 1.0, pauses)
    for longest in (4, 8, 13):
        spans = cut.cuts(made, RATE, 1, longest)
        assert " ".join(texts(made, spans)) == words
        assert all(RATE <= span.end - span.start <= longest * RATE for span in spans)
        assert all(text.endswith(".") for text in texts(made, spans)) == (longest > 4)
        for before, after in zip(spans, spans[1:]):
            assert made.ends[before.last - 1] <= before.end <= after.start <= made.starts[after.first]
    assert (spans[0].start, spans[-1].end) == (0, made.mel.shape[1])


def test_a_stretch_without_a_pause_stays_whole():
    made = take("one two three four. five six.", 1.0, [0, 0, 0, 0, 0.5, 0, 0])
    assert texts(made, cut.cuts(made, RATE, 1, 3)) == ["one two three four.", "five six."]
    made = take("one two three four", 1.0, [0, 0, 0, 0, 0])
    assert texts(made, cut.cuts(made, RATE, 1, 3)) == ["one two three four"]


def test_windows_cover_a_take_once():
    made = take("word " * 300, 0.4, [0.1] * 301)
    first, last = cut._both_ends(made, 3000)
    assert (first.first, first.start, last.last, last.end) == (0, 0, 300, made.mel.shape[1])
    assert first.last == pytest.approx(60, abs=2) and first.end == 3000
    whole = cut._next_window(made, 100, made.mel.shape[1] - 4000, 3000)
    assert (whole.last, whole.end) == (300, made.mel.shape[1])


@pytest.mark.parametrize(("heard", "right"), [("printing in the only sense", True), ("something else", False)])
def test_a_recogniser_refuses_what_it_does_not_hear(monkeypatch, heard, right):
    monkeypatch.setattr(metrics, "recogniser_name", lambda _: "Whisper any")
    monkeypatch.setattr(metrics, "recognise", lambda *_: heard)
    check = cut.Check(configuration.load())
    assert (check(np.zeros(10), "Printing, in the only sense") == "") == right
    assert cut.Check(configuration.load(overrides=["text.language=de"])).name == ""


@pytest.fixture(scope="module")
def long_takes(tmp_path_factory):
    """Two recordings of sentences that espeak-ng speaks, and a short one: folder, sentences, seconds of the joints."""
    folder, config = tmp_path_factory.mktemp("long"), configuration.load("demo")
    rate, said, joints = config.audio.sample_rate, {}, {}
    sentences = demo.sentences()[:33]
    spoken = list(demo.speak(sentences, config, "en-us"))
    for name, chosen in {"a": range(16), "b": range(16, 32), "short": range(32, 33)}.items():
        wavs = [np.pad(spoken[i], (0, round(0.25 * rate))) for i in chosen]
        soundfile.write(folder / f"{name}.wav", np.concatenate(wavs), rate)
        said[name], joints[name] = [sentences[i] for i in chosen], np.cumsum([len(wav) / rate for wav in wavs])
        (folder / f"{name}.txt").write_text(" ".join(said[name]))
    return folder, said, joints


def test_long_recordings_become_clips_that_prepare_reads(long_takes, tmp_path, capsys, monkeypatch):
    folder, said, joints = long_takes
    monkeypatch.setattr(metrics, "recogniser_name", lambda _: "")
    assert min(joints["a"][-1], joints["b"][-1]) > 20 > joints["short"][-1]
    assert cut.main([str(folder), str(tmp_path / "cut"), "--longest", "12"]) == 0
    out = capsys.readouterr().out
    assert "2 recordings over 12 s" in out and "1 recordings taken as they are" in out
    assert "0 recordings and clips left" in out
    rows = [line.split("|") for line in (tmp_path / "cut" / "metadata.txt").read_text().splitlines()]
    for name in ("a", "b"):
        files, texts = zip(*(row for row in rows if row[0].startswith(f"{name}-")))
        assert " ".join(texts) == " ".join(said[name])
        ends = np.cumsum([len(text.split()) for text in texts])
        true = np.cumsum([len(sentence.split()) for sentence in said[name]])
        seconds = np.cumsum([soundfile.info(tmp_path / "cut/wavs" / file).duration for file in files])
        at_joints = {int(n): second for n, second in zip(ends, seconds) if n in true}
        assert len(at_joints) > len(texts) / 2
        for n, second in at_joints.items():  # what was cut away of the pauses before is no more than it is long
            assert -0.15 * (list(ends).index(n) + 1) < second - joints[name][list(true).index(n)] < 0.2
    assert prepare.main([str(tmp_path / "cut"), str(tmp_path / "corpus"), "--jobs", "1"]) == 0
    assert f"{len(rows)} clips" in capsys.readouterr().out


def test_a_cut_takes_no_recordings_name():
    out = cut.Out(None, None, 1, 20, {}, {"talk-002", "talk-002-cut"})
    names = [out.cut_name(Recording("Talk", None, ""), number) for number in (1, 2)]
    assert names == ["Talk-001", "Talk-002-cut-cut"]


def test_refusals_are_one_line(tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    (tmp_path / "a.txt").write_text("Nothing is heard.")
    for source, words in ((tmp_path, "none of its 1 recordings can be used. The first is a: silent"),
                          (tmp_path / "gone", "no such file or folder")):  # fmt: skip
        assert cut.main([str(source), str(tmp_path.parent / "cut")]) == 1
        error = capsys.readouterr().err
        assert error.startswith("training.cut: ") and re.search(words, error) and error.count("\n") == 1


def test_what_cannot_be_aligned_is_named():
    config = configuration.load()
    crammed = cut.make_take(Recording("b", None, "word " * 99), np.zeros((80, 50)), FrontEnd(units="phones"))
    with pytest.raises(cut.CutError, match="long enough"):
        cut.align([crammed], config)
