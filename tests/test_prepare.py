"""data_util.prepare and data_util.corpus_readers: recordings as people have them, made into a corpus."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import soundfile

from data_util import check, corpus_readers, features, prepare
from data_util import config as configuration
from data_util.audio import AudioError, load_wav
from data_util.corpus import read_metafile

RATE = 16000


def tone(seconds=1.0, rate=RATE, silence=0.0, hertz=200.0, level=0.3):
    wav = level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.pad(wav, round(silence * rate)).astype(np.float32)


def record(path, wav=None, rate=RATE, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone() if wav is None else wav, rate)
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def source(tmp_path):
    """Six recordings of several formats and rates, a text beside each."""
    folder = tmp_path / "source"
    for i, (ending, rate) in enumerate([("wav", 8000), ("flac", 44100), ("ogg", 48000), ("mp3", 16000), ("aiff", 22050),
                                        ("wav", 96000)]):  # fmt: skip
        wav = tone(1.0 + i / 10, rate, silence=0.5)
        record(folder / f"clip{i}.{ending}", np.stack([wav, wav], 1) if i % 2 else wav, rate, f"Sentence {i}.\n")
    return folder


def run(*arguments):
    return prepare.main([*map(str, arguments), "--jobs", "1"])


def test_what_comes_next_can_be_typed_with_frames_of_another_length(source, tmp_path, capsys):
    assert run(source, tmp_path / "dest", "-c", "16khz") == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:4] == ["next:", "python", "-m", "data_util.check"]
    args = check.parse_args(words[4:])
    config = configuration.load([*args.overlays, args.folder / "voice.yaml"])  # as data_util.check lays them
    assert config.audio.sample_rate == 16000


def test_any_format_and_rate_becomes_a_corpus_that_training_reads(source, tmp_path, capsys):
    before = snapshot(source)
    assert run(source, tmp_path / "dest") == 0
    assert snapshot(source) == before
    config = configuration.load(tmp_path / "dest" / "voice.yaml")
    clips = []
    for name, n in (("train", 4), ("valid", 1), ("test", 1)):
        listed = read_metafile(getattr(config.dataset, f"metafile_{name}"), config.dataset.prtpath)
        assert len(listed) == n
        clips += listed
    assert sorted(clip.text for clip in clips) == [f"Sentence {i}." for i in range(6)]
    for clip in clips:
        wav = load_wav(clip.wav_path, config.audio.sample_rate)
        # the tone, and 0.1 s of silence at each end; a codec may add some of its own
        assert len(wav) / 22050 == pytest.approx(1.2 + int(clip.id[-1]) / 10, abs=0.06)
        peak = np.abs(np.fft.rfft(wav)).argmax() * 22050 / len(wav)
        assert peak == pytest.approx(200, abs=2) and np.abs(wav).max() == pytest.approx(0.3, abs=0.03)
    assert "6 clips" in capsys.readouterr().out
    assert "8,000 Hz (1)" in (tmp_path / "dest" / "report.md").read_text()


def test_a_name_that_is_no_text_is_left_out_and_named(source, tmp_path, capsys):
    """As an old archive may have it; not every file system takes such a name."""
    other = bytes(source) + b"/caf\xe9.wav"
    try:
        shutil.copy(source / "clip0.wav", other)
    except OSError:
        pytest.skip("a file system of UTF-8 alone")
    shutil.copy(source / "clip0.txt", other[:-4] + b".txt")
    assert run(source, tmp_path / "dest") == 0
    assert "6 clips" in (out := capsys.readouterr().out) and "1 a name that is not UTF-8: rename the file" in out
    assert "'caf\\udce9'" in (tmp_path / "dest" / "report.md").read_text()


def test_nothing_is_made_twice_and_what_changed_is_made_again(source, tmp_path, monkeypatch):
    dest, made, real = tmp_path / "dest", [], prepare.process
    monkeypatch.setattr(prepare, "process", lambda *a: (made.append(1), real(*a))[1])
    assert run(source, dest) == 0 and len(made) == 6
    done = (dest / prepare.DONE).read_text().split("\n")  # one JSON a line
    assert {json.loads(line)["name"] for line in done if line} == {f"clip{i}" for i in range(6)}
    lists = (dest / "train.txt").read_bytes()
    assert run(source, dest) == 0 and len(made) == 6 and (dest / "train.txt").read_bytes() == lists
    record(source / "clip0.wav", tone(1.5), text="Another sentence.")  # a change, a loss, and a torn last line
    (dest / "wavs" / "clip1.wav").unlink()
    with open(dest / prepare.DONE, "a") as file:
        file.write('{"name": "clip2", "st')
    assert run(source, dest) == 0 and len(made) == 8
    assert run(source, dest, "audio.sample_rate=16000") == 0 and len(made) == 14
    assert load_wav(dest / "wavs" / "clip3.wav", 16000).size


def test_a_killed_run_goes_on_where_it_stopped(source, tmp_path, monkeypatch, capsys):
    dest, made, real = tmp_path / "dest", [], prepare.process

    def stop(*arguments):
        made.append(1)
        if len(made) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(prepare, "process", stop)
    assert run(source, dest) == 130 and "goes on" in capsys.readouterr().err
    assert len((dest / prepare.DONE).read_text().split()) and not (dest / "train.txt").exists()
    assert run(source, dest) == 0 and len(made) == 4 + 3


def test_clips_that_are_there_no_more_are_told(source, tmp_path, capsys):
    assert run(source, tmp_path / "dest") == 0 and "no more" not in capsys.readouterr().out
    other = tmp_path / "other"
    source.rename(other)
    for path in other.glob("clip3.*"):
        path.unlink()
    assert run(other, tmp_path / "dest") == 0
    told = f"1 clips of an earlier call are in the lists no more, since {other} does not have them"
    assert told in capsys.readouterr().out


def test_processes_make_the_same_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CLIPS_A_WORKER", 2)
    source = tmp_path / "source"
    for i in range(6):
        record(source / f"{i}.wav", tone(0.5, hertz=100 + i), text=f"Clip {i}.")
    found = corpus_readers.read(source)[1]
    settings = prepare.Settings(22050)
    alone = prepare.make_wavs(found, tmp_path / "one", settings, 1, False)
    together = prepare.make_wavs(found, tmp_path / "two", settings, 2, False)
    assert alone == together
    for name in alone:
        one, other = (tmp_path / folder / "wavs" / f"{name}.wav" for folder in ("one", "two"))
        assert one.read_bytes() == other.read_bytes()


def test_what_cannot_be_used_is_left_out_and_named(source, tmp_path, capsys):
    record(source / "silent.wav", np.zeros(RATE), text="Nothing is heard.")
    record(source / "short.wav", tone(0.1), text="Short.")
    record(source / "long.wav", tone(2.6), text="Long.")
    record(source / "speechless.wav")
    record(source / "blank.wav", text="  \n")
    record(source / "empty.wav", np.zeros(0), text="Empty.")
    record(source / "infinite.wav", np.full(RATE, np.nan), text="Not a number.")
    soundfile.write(source / "infinite.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    (source / "noise.wav").write_bytes(b"no recording")
    (source / "noise.txt").write_text("Noise.")
    (source / "unheard.txt").write_text("No recording.")
    record(source / "latin.wav")
    (source / "latin.txt").write_bytes(b"M\0\0\xfcller")
    assert run(source, tmp_path / "dest", "--longest", "2") == 0
    report = (tmp_path / "dest" / "report.md").read_text()
    reasons = {"silent": "silent", "short": "shorter than 0.4 s", "long": "longer than 2 s", "empty": "empty",
               "speechless": "no text that can be read", "blank": "no text that can be read", "infinite": "not finite",
               "noise": "unreadable", "unheard": "no recording", "latin": "no text that can be read"}  # fmt: skip
    for name, reason in reasons.items():
        assert f"    {name}: {reason}\n" in report
    assert f"Left out: {len(reasons)}" in report and f"left out {len(reasons)}" in capsys.readouterr().out


def test_silence_is_cut_off_at_the_ends_alone():
    wav = np.concatenate([tone(0.5, silence=1.0), tone(0.5, silence=1.0)])
    settings = prepare.Settings(RATE, pause=0.05)
    kept = prepare.process(wav, RATE, settings)
    assert len(kept) / RATE == pytest.approx(0.5 + 2.0 + 0.5 + 0.1, abs=0.03)
    whole = prepare.process(wav, RATE, prepare.Settings(RATE, trim_db=0))
    assert np.allclose(whole, wav, atol=1e-6)
    offset = prepare.process(0.3 + wav, RATE, settings)  # full of sound, but for its mean
    assert np.allclose(offset, kept, atol=1e-6)
    with pytest.raises(AudioError, match="no sound"):
        prepare.process(np.full(RATE, 0.3, np.float32), RATE, settings)


def test_nothing_passes_full_scale():
    square = np.sign(tone())  # rings over full scale when it is resampled
    assert np.abs(prepare.process(square, RATE, prepare.Settings(22050))).max() == pytest.approx(1, abs=1e-6)


# Layouts


def names(found):
    return [(one.name, one.speaker, one.text, one.split) for one in found]


def test_ljspeech_and_piper_lists(tmp_path):
    for name in ("a", "b", "c", "d"):
        record(tmp_path / "wavs" / f"{name}.flac")
    (tmp_path / "metadata.csv").write_text("a|Dr. A|Doctor A\nb|One 1|One one\nc|only raw|\n")
    layout, found = corpus_readers.read(tmp_path)
    assert layout == "list"
    assert names(found) == [("a", "", "Doctor A", ""), ("b", "", "One one", ""), ("c", "", "only raw", "")]
    assert [one.path.name for one in found] == ["a.flac", "b.flac", "c.flac"]
    (tmp_path / "metadata.csv").write_text("a|ann|One.\nb|ann|Two.\nc|ben|Three.\nd|ben|Four.\ngone|ben|Five.\n")
    found = corpus_readers.read(tmp_path)[1]
    assert [one.speaker for one in found] == ["ann", "ann", "ben", "ben", "ben"]
    assert found[-1].path == tmp_path / "wavs" / "gone"
    assert corpus_readers.read(tmp_path, columns={"text": "2"})[1][0].text == "ann"
    (tmp_path / "metadata.csv").write_text("a|One.\nb.flac|Two.\n")
    assert [one.name for one in corpus_readers.read(tmp_path)[1]] == ["a", "b"]


def test_vits_lists_keep_their_split(tmp_path):
    for name in ("p1_1", "p1_2", "p2_1", "p2_2"):
        record(tmp_path / "DUMMY" / f"{name}.wav")
    lists = tmp_path / "filelists"
    lists.mkdir()
    (lists / "x_train.txt").write_text("DUMMY/p1_1.wav|0|One.\nDUMMY/p2_1.wav|1|Two.\nDUMMY/p2_2.wav|1|Three.\n"
                                       "DUMMY/p1_2.wav|0|Four.\n")  # fmt: skip
    (lists / "x_val.txt").write_text("DUMMY/p1_2.wav|0|Four.\nDUMMY/p1_1.wav|0|One.\n")
    (lists / "x_train.txt.cleaned").write_text("DUMMY/p1_1.wav|0|wˈʌn.\n")
    layout, found = corpus_readers.read(tmp_path)
    assert layout == "list" and all(one.path.is_file() for one in found)
    assert [(one.name, one.split) for one in found][3:5] == [("DUMMY/p1_2", "train"), ("DUMMY/p1_2", "valid")]
    assert {one.speaker for one in found} == {"0", "1"}
    alone = corpus_readers.read(lists / "x_val.txt")[1]
    assert [(one.path, one.split, one.name) for one in alone] == [(one.path, "", one.path.stem) for one in found[4:]]


def test_libritts_and_vctk(tmp_path):
    libri, vctk = tmp_path / "LibriTTS", tmp_path / "VCTK"
    record(libri / "dev-clean" / "84" / "121123" / "84_121123_000007_000001.wav")
    (libri / "dev-clean/84/121123/84_121123_000007_000001.normalized.txt").write_text("Go.\n")
    (libri / "dev-clean/84/121123/84_121123_000007_000001.original.txt").write_text("Go!\n")
    record(libri / "train-clean-100" / "85" / "1" / "85_1_1.wav")
    (libri / "train-clean-100/85/1/85_1_1.original.txt").write_text("Only 1.\n")
    layout, found = corpus_readers.read(libri)
    assert layout == "libritts"
    assert names(found) == [("84_121123_000007_000001", "84", "Go.", "valid"), ("85_1_1", "85", "Only 1.", "train")]
    for name in ("p225_001_mic1.flac", "p225_001_mic2.flac", "p225_002_mic2.flac"):
        record(vctk / "wav48_silence_trimmed" / "p225" / name)
    (vctk / "txt" / "p225").mkdir(parents=True)
    (vctk / "txt/p225/p225_001.txt").write_text("Please call Stella.\n")
    layout, found = corpus_readers.read(vctk)
    assert layout == "vctk"
    assert names(found) == [("p225_001", "p225", "Please call Stella.", ""), ("p225_002", "p225", None, "")]
    assert found[0].path.name == "p225_001_mic1.flac" and found[1].path.name == "p225_002_mic2.flac"


def test_a_folder_of_lists_for_training_and_more(tmp_path):
    """As Common Voice has them: those that belong to no split, such as what was rejected, do not count."""
    header = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccents\tlocale\tsegment\n"
    rows = [f'{"ab"[i % 2] * 128}\tclip_{i}.mp3\tSentence {i}, "it" said.\t2\t0\t\tfemale\t\ten\t\n' for i in range(9)]
    for i in range(9):
        record(tmp_path / "clips" / f"clip_{i}.mp3", tone(0.2))
    for name, chosen in {"train": rows[:4], "dev": rows[4:6], "test": rows[6:8], "validated": rows[:8],
                         "invalidated": rows[8:]}.items():  # fmt: skip
        (tmp_path / f"{name}.tsv").write_text(header + "".join(chosen))
    layout, found = corpus_readers.read(tmp_path)
    assert layout == "list" and len(found) == 8 and {one.speaker for one in found} == {"a" * 128, "b" * 128}
    assert {one.name: one.split for one in found}["clip_4"] == "valid" and found[0].text.startswith("Sentence")


def test_recordings_of_one_name_in_several_folders_keep_apart(tmp_path):
    """Those of another machine, as well as those of this one that lie elsewhere."""
    for place in ("lists/data", "elsewhere"):
        for speaker in ("ann", "ben"):
            record(tmp_path / place / speaker / "1.wav", tone(0.2))
    for place in ("/gone", tmp_path / "elsewhere"):
        rows = [f"{place}/{one}/1.wav|{one}|Text of {one}.\n" for one in ("ann", "ben")]
        (tmp_path / "lists" / "list.txt").write_text("".join(rows))
        found = corpus_readers.read(tmp_path / "lists" / "list.txt")[1]
        assert [(one.name.removeprefix("data/"), one.speaker) for one in found] == [("ann/1", "ann"), ("ben/1", "ben")]
        assert all(one.path.is_file() and one.path.parent.name == one.speaker for one in found)


def test_a_list_above_its_recordings_leaves_them_as_they_are(tmp_path):
    """Whose names would lead out of DEST, and there to the recordings themselves."""
    for i in range(6):
        record(tmp_path / "recordings" / f"{i}.wav")
    (tmp_path / "lists" / "deep").mkdir(parents=True)
    lines = [f"../../recordings/{i}.wav|Text {i}.\n" for i in range(6)]
    (tmp_path / "lists" / "deep" / "metadata.csv").write_text("".join(lines))
    before = snapshot(tmp_path / "recordings")
    assert run(tmp_path / "lists" / "deep", tmp_path / "corpus") == 0
    assert snapshot(tmp_path / "recordings") == before
    assert {path.name for path in (tmp_path / "corpus" / "wavs").glob("*")} == {f"{i}.wav" for i in range(6)}


def test_lists_to_train_and_to_evaluate_on(tmp_path):
    for i in range(6):
        record(tmp_path / "wavs" / f"{i}.wav")
    for name, numbers in (("train", range(4)), ("eval", (4, 5))):  # as XTTS's have it
        (tmp_path / f"metadata_{name}.csv").write_text("".join(f"wavs/{i}.wav|Text {i}.|ann\n" for i in numbers))
    assert {one.name: one.split for one in corpus_readers.read(tmp_path)[1]} == {
        str(i): "train" if i < 4 else "valid" for i in range(6)}  # fmt: skip


@pytest.mark.parametrize("names", [("test.csv",), ("dev.tsv", "test.tsv")])
def test_lists_for_all_but_training_are_trained_on(tmp_path, names):
    for name in names:
        for i in range(6):
            record(tmp_path / "wavs" / f"{name[0]}{i}.wav")
        (tmp_path / name).write_text("".join(f"{name[0]}{i}|Text {i}.\n" for i in range(6)))
    found = corpus_readers.read(tmp_path)[1]
    lists = prepare.split(found)
    assert len(found) == 6 * len(names) and all(map(len, lists.values()))


def test_a_folder_names_a_split_where_another_is_for_training(tmp_path):
    for folder in ("anna", "Dev"):
        record(tmp_path / folder / "0.wav", text="Text.")
    for folders_speak in (False, True):
        assert {one.split for one in corpus_readers.read(tmp_path, "folder", None, folders_speak)[1]} == {""}
    record(tmp_path / "train" / "0.wav", text="Text.")
    splits = {one.name: one.split for one in corpus_readers.read(tmp_path, "folder")[1]}
    assert splits == {"anna/0": "", "Dev/0": "valid", "train/0": "train"}


def test_rows_that_name_no_recording_are_told(tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text("file,text\n,Hello there my friend.\n,Good bye now to all.\n")
    assert run(table, tmp_path / "dest") == 1
    assert "no row names a recording. Say which column does with --audio-column" in capsys.readouterr().err
    for name in "abc":
        record(tmp_path / f"{name}.wav")
    with table.open("a") as rows:
        rows.writelines(f"{name}.wav,What the recording {name} says.\n" for name in "abc")
    assert run(table, tmp_path / "dest") == 0
    assert "2 rows that name no recording" in capsys.readouterr().out


def test_a_recording_of_several_texts_is_left_out(tmp_path, capsys):
    rows = []
    for i in range(7):
        record(tmp_path / "source" / f"{i}.wav")
        sentences = ["The first of them.", "Another sentence."] if i == 3 else ["One text alone."] * 2
        rows += [f"{i}.wav,{n},{n + 1},{text}\n" for n, text in enumerate(sentences)]
    (tmp_path / "source" / "metadata.csv").write_text("file,start,end,text\n" + "".join(rows))
    assert run(tmp_path / "source", tmp_path / "dest") == 0
    said = capsys.readouterr().out
    assert "6 clips" in said and "1 several texts for one recording" in said and "speaker is" not in said
    assert "3.wav" not in "".join(path.read_text() for path in (tmp_path / "dest").glob("*.txt"))


def test_a_folder_whose_list_is_not_understood_says_which(source, tmp_path, capsys):
    for path in source.glob("*.txt"):
        path.unlink()
    for content, words in (
        ("x.wav|Text.\ny.wav|Text two.\n", "0 of its 2 rows.*first tried: .*wavs/x.wav.*--audio-column"),
        ("1|2\n", "no column that names recordings.*--audio-column"),
    ):
        (source / "list.txt").write_text(content)
        assert run(source, tmp_path / "dest") == 1
        assert re.search(f"list.txt: {words}", capsys.readouterr().err)


def test_texts_beside_recordings_whatever_they_are_called(tmp_path):
    for name in ("a.WAV", "b.wav", "c.wav", "wav/d.wav", "e.wav", "f.wav", "g.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, tone(0.2), RATE, format="WAV")
    for name in ("A.TXT", "b.lab", "c.wav.txt", "txt/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(f"Größe {name}".encode("cp1252"))
    (tmp_path / "e.srt").write_text(
        "1\n00:00:00,000 --> 00:00:01,500\nHe came\n\n2\n00:00:02,000 --> 00:00:03,0\nin 2.\n"
    )
    (tmp_path / "f.vtt").write_text(
        "WEBVTT\n\n00:00.000 --> 00:01.500 align:start\n1984\n\n00:02.000 --> 00:03.000\nShe left.\n"
    )
    (tmp_path / "g.txt").write_text("0.000000\t1.500000\tHe came\n2.000000\t3.000000\tin.\n")  # Audacity's labels
    (tmp_path / "g.srt").write_text("As heard by a machine.")
    with pytest.raises(corpus_readers.LayoutError, match="b.wav: a recording. Name the folder"):
        corpus_readers.read(tmp_path / "b.wav")
    layout, found = corpus_readers.read(tmp_path)
    assert layout == "folder" and {one.name: one.text for one in found} == {
        "a": "Größe A.TXT", "b": "Größe b.lab", "c": "Größe c.wav.txt", "wav/d": "Größe txt/d.txt",
        "e": "He came in 2.", "f": "1984 She left.", "g": "He came in."}  # fmt: skip
    assert len(found) == 7


ROLLS = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.389 align:start position:0%
 
So today<00:00:00.480><c> we</c><00:00:00.800><c> talk</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
So today we talk
 

00:00:02.399 --> 00:00:04.549 align:start position:0%
So today we talk
about<00:00:03.000><c.colorE5E5E5> cats.</c>

00:00:04.549 --> 00:00:04.559 align:start position:0%
about cats.
 
"""  # as YouTube writes them  # noqa: W291, W293


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("r0.en.vtt", ROLLS, "So today we talk about cats."),
        (
            "r0.VTT",
            "WEBVTT - by Ann\n\nNOTE\nof\nnobody\n\nSTYLE\n::cue { color: red }\n\nintro\n00:01.000 --> 00:02.000\n"
            "<v Ann>Hi.\n\nNOTE no more\n\n2\n00:02.000 --> 00:03.000\nIf <i>a</i> < b,\nNOTE it > 1.\n",
            "Hi. If a < b, NOTE it > 1.",
        ),
        ("r0.en-US.srt", "1\n00:01,0 --> 00:02,0\n{\\an8}<b>No.</b>\n2\n00:02,0 --> 00:03,0\nNo.\nSo it is.\nYes.",
         "No. No. So it is. Yes."),
    ],
)  # fmt: skip
def test_of_subtitles_only_what_is_said(tmp_path, name, content, said):
    record(tmp_path / "r0.wav")
    (tmp_path / name).write_text(content)
    assert corpus_readers.read(tmp_path, "folder")[1][0].text == said


def test_of_subtitles_in_several_languages_none_is_taken(tmp_path):
    record(tmp_path / "r0.wav")
    for name, fault in (("r0.en", ""), ("r0.en-GB", ""), ("r0.de", corpus_readers.SEVERAL_TEXTS), ("r0", "")):
        (tmp_path / f"{name}.vtt").write_text(ROLLS)
        assert [one.fault for one in corpus_readers.read(tmp_path, "folder")[1]] == [fault]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", "clip1.wav loud\nclip3.wav cough\n"),
        ("metadata.csv", "file,mic\n" + "".join(f"clip{i}.wav,SM7\n" for i in range(6))),
        ("metadata.json", '{"creator": "Ann"}'),
    ],
)
def test_what_else_is_noted_of_recordings_leaves_the_texts_beside_them(source, name, content):
    (source / name).write_text(content)
    layout, found = corpus_readers.read(source)
    assert layout == "folder" and [one.text for one in found if one.path] == [f"Sentence {i}." for i in range(6)]


def test_a_list_of_some_recordings_chooses_them_and_their_texts(source):
    (source / "metadata.csv").write_text("clip1|Chosen 1.\nclip2|Chosen 2.\n")
    assert [one.text for one in corpus_readers.read(source)[1]] == ["Chosen 1.", "Chosen 2."]
    with_table_alone(source, '{"creator": "Ann"}')  # not of the recordings
    (source / "metadata.csv").rename(source / "metadata.json")
    (source / "list.csv").write_text("".join(f"clip{i}|Of a list {i}.\n" for i in range(6)))
    assert [one.text for one in corpus_readers.read(source)[1]] == [f"Of a list {i}." for i in range(6)]


def test_of_a_recording_in_several_formats_the_one_that_has_lost_the_least(source):
    for i, ending in enumerate(("m4a", "flac", "mp3", "m4a", "ogg", "mp3")):
        (source / f"clip{i}.{ending}").touch()
    chosen = prepare.without_doubles(corpus_readers.read(source)[1])[0]
    assert [one.path.suffix for one in chosen] == [".wav", ".flac", ".ogg", ".mp3", ".ogg", ".wav"]


def test_texts_in_folders_of_the_same_name(tmp_path):
    for speaker in ("ann", "ben"):
        record(tmp_path / "audio" / speaker / "1.wav")
        (tmp_path / "texts" / speaker).mkdir(parents=True)
        (tmp_path / "texts" / speaker / "1.txt").write_text(f"By {speaker}.")
    found = corpus_readers.read(tmp_path, folders_speak=True)[1]
    assert [(one.name, one.speaker, one.text) for one in found] == [
        (f"audio/{speaker}/1", speaker, f"By {speaker}.") for speaker in ("ann", "ben")]  # fmt: skip


ALIGNMENTS = ("#\n 0.14500 125 pau \n 0.24000 125 ao \n", "0 1450000 sil\n1450000 2400000 ao -12.5 author\n")


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("place", ["arctic", "."])
def test_alignments_are_no_texts_and_festivals_prompts_are(tmp_path, place, alignment):
    """As in CMU Arctic, of one or of several speakers."""
    folder = tmp_path / place
    for i in range(3):
        record(folder / "wav" / f"a{i}.wav")
        (folder / "lab").mkdir(exist_ok=True)
        (folder / "lab" / f"a{i}.lab").write_text(alignment)
    with pytest.raises(corpus_readers.LayoutError, match="a0.lab: an alignment, not a text. Write what is said"):
        corpus_readers.read(tmp_path)
    (folder / "etc").mkdir()
    (folder / "etc" / "txt.done.data").write_text("".join(f'( a{i} "It is \\"{i}\\", etc." )\n' for i in range(3)))
    layout, found = corpus_readers.read(tmp_path, folders_speak=True)
    assert layout == "list" and [(one.name.rpartition("/")[2], one.text, one.speaker) for one in found] == [
        (f"a{i}", f'It is "{i}", etc.', "" if place == "." else place) for i in range(3)]  # fmt: skip


def test_tables_in_folders_below_each_speak_for_their_own(tmp_path, capsys):
    for speaker in ("ann", "ben"):
        for i in range(3):
            record(tmp_path / speaker / "wavs" / f"{i}.wav")
        (tmp_path / speaker / "metadata.csv").write_text("".join(f"{i}|{speaker} says {i}.\n" for i in range(3)))
    wanted = [(f"{speaker}/{i}", f"{speaker} says {i}.") for speaker in ("ann", "ben") for i in range(3)]
    for folders_speak in (False, True):
        layout, found = corpus_readers.read(tmp_path, folders_speak=folders_speak)
        assert layout == "list" and [(one.name, one.text) for one in found] == wanted
        assert [one.speaker for one in found] == (["ann"] * 3 + ["ben"] * 3 if folders_speak else [""] * 6)
    assert "tables: 2, the first metadata.csv, UTF-8" in capsys.readouterr().out
    (tmp_path / "ann").rename(tmp_path / "train")
    (tmp_path / "ben").rename(tmp_path / "test")
    assert {one.name[:-2]: one.split for one in corpus_readers.read(tmp_path)[1]} == {"test": "test", "train": "train"}


def test_a_script_of_which_a_part_is_recorded(source):
    with_table_alone(source, "")
    (source / "metadata.csv").rename(source / "script.csv")
    (source / "script.csv").write_text("file,text\n" + "".join(f"clip{i},Sentence {i}.\n" for i in range(30)))
    found = corpus_readers.read(source)[1]
    assert len(found) == 30 and sum(one.path.is_file() for one in found) == 6


def test_folders_behind_links_and_names_in_other_encodings_of_accents(tmp_path):
    record(tmp_path / "elsewhere" / "a.wav", text="In a folder behind a link.")
    record(tmp_path / "source" / "e\u0301.wav")
    (tmp_path / "source" / "\u00e9.txt").write_text("With an accent.")
    (tmp_path / "source" / "linked").symlink_to(tmp_path / "elsewhere")
    assert {one.text for one in corpus_readers.read(tmp_path / "source")[1]} == {
        "In a folder behind a link.", "With an accent."}  # fmt: skip


def test_names_that_lists_cannot_have_are_written_otherwise(tmp_path):
    rows = [{"audio": f"{i}.wav", "text": f"Text {i}.", "speaker": "AB"[i % 2] + "|x "} for i in range(8)]
    for row in rows:
        record(tmp_path / "source" / row["audio"])
    (tmp_path / "source" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run(tmp_path / "source", tmp_path / "dest") == 0
    config = configuration.load(tmp_path / "dest" / "voice.yaml")
    assert config.speakers.names == ("A_x", "B_x")
    clips = read_metafile(config.dataset.metafile_train, config.dataset.prtpath)
    assert all(clip.wav_path.is_file() for clip in clips)
    record(tmp_path / "texts" / " spaces .wav", text="Text.")
    assert [one.name for one in corpus_readers.read(tmp_path / "texts")[1]] == ["spaces"]


def test_clips_without_a_speaker_are_left_out_where_others_have_one(tmp_path, capsys):
    for i in range(8):
        record(tmp_path / "source" / f"{i}.wav", tone(0.5))
    names = ["ann", "Jose\u0301", "José", "", "ann", "ann", "José", "ann"]  # one of them composed in two ways
    rows = [f"{i}|{name}|Text of {i}.\n" for i, name in enumerate(names)]
    (tmp_path / "source" / "metadata.csv").write_text("".join(rows))
    assert run(tmp_path / "source", tmp_path / "dest") == 0
    said = capsys.readouterr().out
    assert "7 clips" in said and "2 speakers" in said and "1 no speaker, and others have one" in said
    assert "1 no speaker: name it in each row" in said
    assert run(tmp_path / "source", tmp_path / "dest", "--held-out", "7") == 1
    assert "left out 1: 1 no speaker" in capsys.readouterr().out


def test_folders_may_name_speakers_and_lists_carry_them(tmp_path):
    for speaker in ("ann", "ben/wavs"):
        for i in range(5):
            record(tmp_path / "source" / speaker / f"{i}.wav", text=f"{speaker} says {i} | or not.")
    assert run(tmp_path / "source", tmp_path / "dest", "--folders-speak", "--held-out", "2") == 0
    config = configuration.load(tmp_path / "dest" / "voice.yaml")
    assert config.speakers.names == ("ann", "ben") and config.n_speakers == 2
    for name in ("valid", "test"):
        clips = read_metafile(getattr(config.dataset, f"metafile_{name}"), config.dataset.prtpath)
        assert {clip.speaker for clip in clips} == {"ann", "ben"}
        assert all("|" not in clip.text and clip.wav_path.is_file() for clip in clips)
    report = (tmp_path / "dest" / "report.md").read_text()
    assert "| ann | 5 |" in report


def test_what_was_trained_on_is_not_held_out_when_recordings_are_added():
    def lists(n):
        found = [corpus_readers.Recording(f"clip-{i}", None, "text") for i in range(n)]
        return {name: {one.name for one in chosen} for name, chosen in prepare.split(found, 5).items()}

    before, after = lists(100), lists(105)
    assert not before["train"] & (after["valid"] | after["test"])
    assert sum(map(len, after.values())) == 105 and not after["valid"] & after["test"]
    assert before["valid"] != {f"clip-{i}" for i in range(5)}


def with_table_alone(folder, content):
    for path in folder.glob("*.txt"):
        path.unlink()
    (folder / "metadata.csv").write_text(content)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (shutil.rmtree, "no such file or folder"),
        (lambda folder: [path.unlink() for path in folder.glob("*")], "none of the layouts fits"),
        (
            lambda folder: [path.unlink() for path in folder.glob("*.txt")],
            "none of its 6 recordings.*6 no text.*The first is .*clip0.wav: no text",
        ),
        (lambda folder: [path.unlink() for path in folder.glob("clip[1-5].*")], "too few"),
        (lambda folder: with_table_alone(folder, ""), "metadata.csv: no rows"),
        (lambda folder: with_table_alone(folder, "a.wav|A text."), "The first is .*wavs/a.wav.*--audio-column"),
    ],
)
def test_a_source_that_is_none_says_why(source, tmp_path, capsys, make, words):
    make(source)
    assert run(source, tmp_path / "dest") == 1
    error = capsys.readouterr().err
    assert error.startswith("data_util.prepare: ") and error.count("\n") == 1
    assert re.search(words, error)


# Damage


def damage(content, random):
    """One of the ways in which a file is spoilt, and whether its samples are surely not all there."""
    kind = random.integers(5)
    content = bytearray(content)
    if kind == 0:  # the end is missing
        return content[: random.integers(0, len(content) * 3 // 4)], True
    if kind == 1:  # bits of the header
        for _ in range(random.integers(1, 9)):
            content[random.integers(0, min(64, len(content)))] ^= 1 << random.integers(8)
    elif kind == 2:  # sizes that are not true: anything in a field of four bytes
        at = random.integers(0, min(60, len(content) - 4))
        content[at : at + 4] = random.bytes(4) if random.integers(2) else b"\x7f\xff\xff\xff"
    elif kind == 3:  # a hole
        at = random.integers(0, len(content))
        content[at : at + 4096] = bytes(min(4096, len(content) - at))
    else:  # something else altogether
        content[:] = random.bytes(random.integers(0, 3000))
    return content, False


def damaged_corpus(folder, n):
    """n spoilt recordings of many formats beside four good ones, with texts; the names of those that end early."""
    kinds = [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "GSM610"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"),
             ("OGG", "VORBIS"),
             ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "ALAC_16"), ("W64", "PCM_16"),
             ("RF64", "PCM_16"), ("AU", "ULAW"), ("WAV", "IMA_ADPCM")]  # fmt: skip
    random, early = np.random.default_rng(0), set()
    folder.mkdir()
    for i in range(n + 4):
        kind, subtype = kinds[i % len(kinds)]
        path = folder / f"{'good' if i < 4 else 'bad'}{i}.{kind.lower()}"
        soundfile.write(path, tone(0.7, hertz=100 + i), RATE, format=kind, subtype=subtype)
        path.with_suffix(".txt").write_text(f"Text number {i}.")
        if i >= 4:
            content, is_early = damage(path.read_bytes(), random)
            path.write_bytes(content)
            early |= {path.stem} if is_early and (kind, subtype) not in LENGTHS_UNKNOWN else set()
    return early


LENGTHS_UNKNOWN = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"))  # their headers do not say


@pytest.mark.parametrize("n", [84, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_recordings_are_named_and_end_nothing(tmp_path, n):
    early = damaged_corpus(tmp_path / "source", n)
    assert run(tmp_path / "source", tmp_path / "dest", "--held-out", "1") == 0
    report = (tmp_path / "dest" / "report.md").read_text()
    left_out = set(re.findall(r"^    (\w+): .", report, re.MULTILINE))
    lists = [(tmp_path / "dest" / f"{name}.txt").read_text() for name in ("train", "valid", "test")]
    used = set(re.findall(r"^(\w+)\.wav\|", "".join(lists), re.MULTILINE))
    assert len(used) + len(left_out) == n + 4 and not used & left_out
    assert {f"good{i}" for i in range(4)} <= used and early <= left_out and len(left_out) > n / 2
    for name in used:
        assert 0.4 <= len(load_wav(tmp_path / "dest" / "wavs" / f"{name}.wav", 22050)) / 22050 <= 20


@pytest.mark.parametrize("dest", [".", "inside", ".."])
def test_originals_are_out_of_reach(source, capsys, dest):
    before = snapshot(source)
    assert run(source, source / dest) == 1
    assert "only read" in capsys.readouterr().err and snapshot(source) == before
