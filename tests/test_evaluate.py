"""The command, on folders of WAVs, on a stub of a voice and on a tiny one: the table, its numbers, its refusals."""

import json
import math
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import evaluate
from data_util import config as configuration
from data_util.audio import save_wav
from evaluation import metrics
from evaluation.metrics import DIFFERENCES, MEASURES
from evaluation.report import SYSTEMS
from sampling import NoCopy, Settings, Speech, Voice
from tests.test_metrics import CONFIG, OF_THE_PROCESS, RATE, voiced
from text import SYMBOLS, TextError
from training import checkpoint

pytest.importorskip("distillmos", reason="pip install -r requirements-extra.txt")
pytest.importorskip("pocketsphinx", reason="pip install -r requirements-extra.txt")

TEXTS = {"a": "First one.", "b": "Two, here.", "c": "Number 3."}
METADATA = ("--metadata", "metadata.csv", "--wavs", "wavs")


@pytest.fixture(autouse=True)
def quick_judges(monkeypatch):
    """In place of what takes seconds: a sound says its own length."""
    monkeypatch.setattr(metrics, "recognise", lambda wav, *_: "first one"[: len(wav) // 2000])
    monkeypatch.setattr(metrics, "opinion", lambda wav, _: {"distillmos": (len(wav) / 1e4, 1)})
    monkeypatch.setattr(metrics, "embedding_of", lambda sound: np.array([1.0, 0.1 * sound.seconds]))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """metadata.csv and wavs/ with a and b; c has a text only. The folder other/ has b, twice as long, and c."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metadata.csv").write_text("".join(f"{name}|{text}\n" for name, text in TEXTS.items()), "utf-8")
    for i, name in enumerate(TEXTS):
        if name != "c":
            save_wav(tmp_path / "wavs" / f"{name}.wav", voiced(0.6 / (1 + i), depth=0.1), RATE)
        if name != "a":
            save_wav(tmp_path / "other" / f"{name}.wav", voiced(0.6 * i, f0=150, depth=0.1), RATE)
    return tmp_path


class StubVoice:
    """Speaks every text in a buzz of 0.6 s, two letters long, a copy in its recording at half the level."""

    asked: list = []
    speakers: list = []  # of each call
    along: list = []
    phonemizers: set = set()
    clock = 0.0  # seconds that all voices have spoken for

    def __init__(self, config, path):
        self.saved = SimpleNamespace(config=config, step=30, path=path)
        self.model = torch.nn.Linear(2, 3)
        self.fresh = True

    def speak(self, text, *, n_timesteps, solver, seed, speaker):
        self.refuse_silence(text)
        StubVoice.clock += 0.9 if self.fresh else 0.03
        self.fresh = False
        self.asked.append((text, n_timesteps, solver, seed))
        self.phonemizers.add(self.saved.config.text.phonemizer)
        self.speakers.append(speaker)
        return Speech(voiced(0.6, f0=100 * n_timesteps), RATE, text, "ab", np.array([20, 32]), ("a", "b"), (0, 0))

    def copy(self, wav, speaker):
        self.speakers.append(speaker)
        return 0.5 * wav

    def speak_along(self, wav, text, speaker, seed):
        self.refuse_silence(text)
        self.along.append((text, speaker, seed))
        return 0.25 * wav

    def refuse_silence(self, text):
        if not text.strip("."):
            raise TextError("nothing to say")


def stub_voice_config(corpus, names=()):
    keys = [f"dataset.prtpath={corpus}", f"dataset.metafile_test={corpus / 'test.txt'}"]
    return configuration.change(CONFIG, [*keys, f"speakers.names=[{','.join(names)}]"])


def stub_loading(monkeypatch, config):
    monkeypatch.setattr(checkpoint, "load_voice", lambda path, overrides: (path, overrides))
    made = lambda saved, _: StubVoice(configuration.change(config, saved[1]), saved[0])  # noqa: E731
    monkeypatch.setattr(evaluate, "Voice", made)


@pytest.fixture
def stub_voice(monkeypatch, corpus):
    """Run off_a, whose test list is a, b, and d, of which nothing can be said. It speaks in this process."""
    (corpus / "checkpoint" / "off_a").mkdir(parents=True)
    (corpus / "test.txt").write_text("a\nd.wav|...\nb\n", "utf-8")
    config = stub_voice_config(corpus)
    monkeypatch.setattr(checkpoint, "RUNS", corpus / "checkpoint")
    monkeypatch.setattr(checkpoint, "find", lambda folder, kind, step: folder / f"{kind}_{step}")
    stub_loading(monkeypatch, config)
    monkeypatch.setattr(evaluate, "apart", lambda function, *arguments: function(*arguments))
    for name, nothing in (("asked", []), ("speakers", []), ("along", []), ("phonemizers", set())):
        monkeypatch.setattr(StubVoice, name, nothing)
    return StubVoice


def command(capsys, *arguments):
    """The status, standard output, and what stands on standard error beside progress bars."""
    status = evaluate.main([*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, [line for line in captured.err.splitlines() if line.startswith("evaluate.py: ")]


def cells_of(text):
    """{system: {heading: cell}} of the first table of a report."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    rows = rows[: 1 + next((i for i, row in enumerate(rows[1:]) if row[0] == "system"), len(rows))]
    return {row[0]: dict(zip(rows[0], row)) for row in rows[2:]}


def check_agreement(report, text):
    """Whether the table has the numbers of report.json, to its digits."""
    cells, seen = cells_of(text), 0
    assert cells.keys() == report["systems"].keys()
    for system, one in report["systems"].items():
        assert cells[system]["clips"] == str(one["clips"])
        for name, found in one["measures"].items():
            measure = MEASURES[name]
            numbers = [float(number) for number in re.findall(r"-?[\d.]+", cells[system][measure.heading])]
            expected = [found[key] * measure.scale for key in ("value", "low", "high") if found[key] is not None]
            assert numbers == pytest.approx(expected, abs=0.51 * 10**-measure.digits)
            seen += len(numbers)
    assert seen > 40


def test_folders_are_measured_without_a_voice(capsys, corpus):
    arguments = ("--systems", "other=other", "--metadata", "metadata.csv", "--wavs", "wavs", "--seed", 3, "-o", "out")
    status, out, errors = command(capsys, *arguments)
    assert (status, errors) == (0, [])
    report = json.loads((corpus / "out" / "report.json").read_text("utf-8"))
    text = (corpus / "out" / "report.md").read_text("utf-8")
    assert text in out
    check_agreement(report, text)
    assert (corpus / "out" / "index.html").read_text("utf-8").count("<audio ") == 4
    assert report["about"] == {
        "clips": 3, "seed": 3, "threads": torch.get_num_threads(), "voice": None, "device": None,
        "against": "recording", "recogniser": "pocketsphinx",
            "command": "python evaluate.py " + " ".join(map(str, arguments)),
    }  # fmt: skip
    assert report["about"]["command"] in text and "seed 3" in text
    assert "clips that a system does not have: recording 1, other 1" in text
    measures = {name: one["measures"] for name, one in report["systems"].items()}
    assert list(measures) == ["recording", "other"]
    assert measures["recording"]["mcd"]["value"] == 0 and measures["recording"]["f0_spread_ratio"]["value"] == 1
    assert measures["other"]["duration"] == {"value": pytest.approx(2), "low": None, "high": None, "clips": 1}
    assert measures["other"]["f0_shift"]["value"] == pytest.approx(-12 * math.log2(4 / 3), abs=0.7)
    assert measures["other"]["cer"]["clips"] == measures["other"]["f0_spread"]["clips"] == 2  # c has no recording
    assert report["systems"]["other"]["differences"]["distillmos"]["clips"] == 1
    assert report["clips"]["c"]["text"] == "Number 3." and list(report["clips"]["c"]["systems"]) == ["other"]
    assert report["clips"]["c"]["systems"]["other"]["pairs"]["cer"][1] == len("number three")


def test_a_voice_is_copied_spoken_and_timed(capsys, corpus, stub_voice):
    status, out, errors = command(capsys, "-id", "off_a", "-ckpt", 30, "-n", 4, 1, "--seed", 5, "-o", corpus / "out")
    assert (status, errors) == (0, [])
    report = json.loads((corpus / "out" / "report.json").read_text("utf-8"))
    assert report["about"]["voice"] == {"run": "off_a", "step": 30, "parameters": 9, "solver": "dpm2m"}
    assert "run off_a, step 30, 9 parameters, dpm2m for n > 1" in out
    assert report["about"]["device"].startswith("cpu (") and report["about"]["device"] in out
    names = ["recording", "copy", "recorded_timing", "encoder_alone", "one_step", "n4"]
    assert list(report["systems"]) == names
    for name in names[:-1]:
        assert f"\n- {name}: {SYSTEMS[name]}." in out
    assert {one["missing"] for one in report["systems"].values()} == {1}  # d
    assert sorted(path.name for path in (corpus / "out" / "n4").iterdir()) == ["a.wav", "b.wav"]
    assert stub_voice.asked == [(text, n, None, 5) for n in (0, 1, 4) for text in (TEXTS["a"], TEXTS["a"], TEXTS["b"])]
    assert stub_voice.along == [(TEXTS["a"], None, 5), (TEXTS["b"], None, 5)]
    for name, share in (("copy", 0.5), ("recorded_timing", 0.25)):
        recording, made = (soundfile.read(corpus / folder / "a.wav")[0] for folder in ("wavs", f"out/{name}"))
        assert np.abs(made - share * recording).max() < 1e-4
    measures = {name: one["measures"] for name, one in report["systems"].items()}
    assert measures["copy"]["mcd"]["value"] < 1 < measures["one_step"]["mcd"]["value"]
    assert measures["one_step"]["duration_total"]["value"] == pytest.approx(1.2 / 0.9)
    assert 0 < measures["one_step"]["real_time_factor"]["value"] < 1
    assert 0 < measures["one_step"]["real_time_factor_cold"]["value"] < 1
    assert 1e8 < measures["one_step"]["memory"]["value"] < 1e11
    assert not {"real_time_factor", "memory"} & (measures["copy"].keys() | measures["recording"].keys())
    spoken = report["clips"]["b"]["systems"]["n4"]
    assert (spoken["wav"], spoken["phonemes"], spoken["symbols"]) == ("n4/b.wav", "ab", ["a", "b"])
    assert spoken["durations"] == pytest.approx([20 * 256 / RATE, 32 * 256 / RATE], abs=1e-4)
    assert "durations" not in report["clips"]["b"]["systems"]["copy"]
    page = (corpus / "out" / "index.html").read_text("utf-8")
    assert page.count("Alignment: encoder_alone, one_step, n4") == 2 and page.count("<audio ") == 12


@pytest.mark.usefixtures("stub_voice")
def test_clips_that_the_voice_has_learnt_are_counted(capsys, corpus, caplog):
    (corpus / "train.txt").write_text("c\nb\nwavs/z.wav|No such clip.\n", "utf-8")
    for name, said in (("train.txt", ["the voice was trained on 1 of these 3 clips: they are in "]), ("no.txt", [])):
        caplog.clear()
        keys = [f"dataset.metafile_train={corpus / name}"]
        assert command(capsys, "-id", "off_a", *keys, "-o", "out")[0] == 0
        assert [one for one in caplog.messages if "trained" in one] == [f"{words}{corpus / name}" for words in said]


def test_what_is_overridden_is_how_the_voice_speaks(capsys, stub_voice):
    assert command(capsys, "-id", "off_a", "-o", "out", "text.phonemizer=cmudict")[0] == 0
    assert stub_voice.phonemizers == {"cmudict"} != {CONFIG.text.phonemizer}


def test_a_voice_can_be_given_another_phonemizer():
    path = checkpoint.find(checkpoint.BUNDLED, "voice")
    ours, other = (Voice(checkpoint.load_voice(path, [f"text.phonemizer={name}"])) for name in ("espeak", "cmudict"))
    said = [voice.reader.pieces("A tomato.", Settings())[0].phonemes for voice in (ours, other)]
    assert said[0] != said[1] and other.saved.config.text.phonemizer == "cmudict"


def test_every_solver_that_is_named_is_a_system_of_many_evaluations(corpus, stub_voice):
    arguments = ["-id", "off_a", "-n", "1", "2", "4", "--solver", "ddim", "dpm2m", "--page", "-o", "out"]
    report = evaluate.run(evaluate.parse_args(arguments))
    names = ["encoder_alone", "one_step", "n2_ddim", "n2_dpm2m", "n4_ddim", "n4_dpm2m"]
    assert list(report["systems"]) == ["recording", "copy", "recorded_timing", *names]
    assert (corpus / "out" / "n4_dpm2m" / "a.wav").is_file()
    asked = list(dict.fromkeys(one[1:3] for one in stub_voice.asked))
    assert asked == [(0, None), (1, None), (2, "ddim"), (2, "dpm2m"), (4, "ddim"), (4, "dpm2m")]
    page = (corpus / "out" / "index.html").read_text("utf-8")
    assert "ddim, dpm2m for n &gt; 1" in page
    assert "RTF" in page and "CER" not in page  # what speaking tells is there without a measure


@pytest.fixture
def tiny_voice(corpus, monkeypatch):
    """Run off_tiny, whose voice speaks in truth."""
    from tests.test_sampling import CONFIG as TINY
    from tests.test_sampling import weights_of

    monkeypatch.setattr(checkpoint, "RUNS", corpus)
    checkpoint.save_voice(corpus / "off_tiny", 5, weights_of(), TINY, SYMBOLS)


@pytest.mark.gpu
@pytest.mark.usefixtures("tiny_voice")
def test_a_gpu_and_the_cpu_are_timed():
    arguments = ["-id", "off_tiny", *METADATA, "--device", "cuda", "--page", "-o", "out"]
    report = evaluate.evaluate(evaluate.parse_args(arguments))
    found = report["systems"]["one_step"]["measures"]
    for name in ("real_time_factor", "real_time_factor_gpu"):
        assert found[f"{name}_cold"]["value"] > 0 and found[name]["value"] > 0
    assert found["memory"]["value"] > found["memory_gpu"]["value"] > 1e5


@pytest.mark.slow  # starting a process takes seconds
@pytest.mark.usefixtures("tiny_voice")
def test_a_voice_speaks_in_a_process_of_its_own(corpus):
    arguments = ("-id", "off_tiny", *METADATA, "-n", 2, "--solver", "ddim", "--page", "-o", "out")
    report = evaluate.run(evaluate.parse_args([*map(str, arguments)]))
    for name in ("encoder_alone", "one_step", "n2_ddim"):
        measures = report["systems"][name]["measures"]
        assert measures["real_time_factor_cold"]["value"] > 0 and measures["real_time_factor"]["value"] > 0
        assert 1e8 < measures["memory"]["value"] < 4e9
        for clip, one in report["clips"].items():
            spoken = one["systems"][name]
            assert len(spoken["symbols"]) == len(spoken["durations"]) > len(spoken["phonemes"]) > 0
            seconds = soundfile.info(f"out/{name}/{clip}.wav").duration
            assert sum(spoken["durations"]) == pytest.approx(seconds, abs=0.01)
    assert "Alignment: " in (corpus / "out" / "index.html").read_text("utf-8")


@pytest.mark.usefixtures("corpus")
def test_the_first_call_counts_by_itself(stub_voice, monkeypatch):
    monkeypatch.setattr(evaluate.time, "perf_counter", lambda: stub_voice.clock)
    report = evaluate.evaluate(evaluate.parse_args(["-id", "off_a", "--page", "-o", "out"]))
    measures = report["systems"]["one_step"]["measures"]
    assert measures["real_time_factor_cold"]["value"] == pytest.approx(0.9 / 0.6)
    assert measures["real_time_factor"]["value"] == pytest.approx(0.03 / 0.6)


def test_differences_are_to_the_system_that_was_chosen(capsys, corpus):
    arguments = (*METADATA, "--systems", "other=other", "same=other", "first=wavs", "--against", "other", "-o", "out")
    status, out, _ = command(capsys, *arguments)
    systems = json.loads((corpus / "out" / "report.json").read_text("utf-8"))["systems"]
    assert status == 0 and "## Differences to other on the same clips" in out
    assert systems["same"]["differences"].keys() == set(DIFFERENCES)
    assert all(one["value"] == 0 for one in systems["same"]["differences"].values())
    distance = systems["other"]["measures"]["mcd"]["value"]
    assert systems["first"]["differences"]["mcd"] == {"value": -distance, "low": None, "high": None, "clips": 1}
    assert "Differences to other" in (corpus / "out" / "index.html").read_text("utf-8")


def test_the_page_is_made_anew_from_a_report_wherever_it_stands(capsys, corpus, monkeypatch):
    shutil.copytree(corpus / "other", corpus / "out" / "other")
    assert command(capsys, *METADATA, "--systems", "other=out/other", "-o", "out")[0] == 0
    files = {path.name: path.read_bytes() for path in (corpus / "out").iterdir() if path.is_file()}
    monkeypatch.setattr(metrics, "missing_packages", lambda *_: ["no_such_package"])
    monkeypatch.setattr(metrics, "measure_all", None)
    moved = (corpus / "out").rename(corpus / "elsewhere")
    (moved / "index.html").unlink()
    status, out, errors = command(capsys, "--page", "-o", moved)
    assert (status, errors) == (0, []) and "elsewhere/index.html, 0." in out
    assert {path.name: path.read_bytes() for path in moved.iterdir() if path.is_file()} == files
    assert command(capsys, "--page", "--page-clips", 1, "-o", moved)[0] == 0
    assert (moved / "index.html").read_text("utf-8").count("<audio ") == 1
    # and one for listening needs no report
    assert command(capsys, *METADATA, "--systems", "other=other", "--page", "-o", "listen")[0] == 0
    assert [path.name for path in (corpus / "listen").iterdir()] == ["index.html"]
    page = (corpus / "listen" / "index.html").read_text("utf-8")
    assert page.count("<audio ") == 4 and "Number 3." in page and "Measures" not in page and "CER" not in page
    assert command(capsys, *METADATA, "-o", "out") == (
        1, "", ["evaluate.py: no_such_package not installed: pip install -r requirements-extra.txt"])  # fmt: skip


def test_clips_whose_files_are_numbered_alike_are_named_with_their_folders(corpus):
    (corpus / "test.txt").write_text("ann/1.wav|Text.\nben/1.wav|Text.\n", "utf-8")
    args = evaluate.parse_args(["-id", "off_a", "-o", "out"])
    config = stub_voice_config(corpus)
    assert [clip.id for clip in evaluate.clips_of(args, config)] == ["ann_1", "ben_1"]
    (corpus / "test.txt").write_text("ann/1.wav|Text.\nben/2.wav|Text.\n", "utf-8")
    assert [clip.id for clip in evaluate.clips_of(args, config)] == ["1", "2"]


@pytest.mark.parametrize("names", [(), ("ben", "ann")])
def test_each_clip_is_spoken_and_copied_as_who_says_it(capsys, corpus, stub_voice, monkeypatch, names):
    config = stub_voice_config(corpus, names)
    stub_loading(monkeypatch, config)
    (corpus / "test.txt").write_text(f"a.wav|ann|{TEXTS['a']}\nb.wav|ben|{TEXTS['b']}\n", "utf-8")
    assert command(capsys, "-id", "off_a", "-o", "out")[0] == 0
    ann, ben = ("ann", "ben") if names else (None, None)
    # copies, and for each way to speak the first text of its process, and both
    assert stub_voice.speakers == [ann, ben, *2 * [ann, ann, ben]]
    assert [speaker for _, speaker, _ in stub_voice.along] == [ann, ben]
    if names:
        (corpus / "test.txt").write_text(f"b.wav|ben|{TEXTS['b']}\na.wav|cid|{TEXTS['a']}\n", "utf-8")
        status, _, errors = command(capsys, "-id", "off_a", "-o", "out")
        assert status == 1 and len(stub_voice.speakers) == 8  # at once
        assert errors == ["evaluate.py: speaker 'cid': the voice has not learnt it (it knows ben, ann)"]


def test_a_recording_that_no_alignment_fits_is_left_out(capsys, corpus, stub_voice, caplog, monkeypatch):
    """As one of fewer frames than its text has symbols."""
    along = stub_voice.speak_along

    def speak_along(self, wav, text, *others):
        if text == TEXTS["a"]:
            raise ValueError("fewer frames than symbols")
        return along(self, wav, text, *others)

    monkeypatch.setattr(stub_voice, "speak_along", speak_along)
    assert command(capsys, "-id", "off_a", "-o", "out")[0] == 0
    assert [path.stem for path in (corpus / "out" / "recorded_timing").iterdir()] == ["b"]
    assert caplog.messages[0] == "recorded_timing of a is left out: fewer frames than symbols"


def test_texts_without_recordings_and_voices_that_cannot_copy(capsys, corpus, stub_voice, caplog, monkeypatch):
    def copy(*_):
        raise NoCopy("no copy synthesis: this voice reads more")

    monkeypatch.setattr(stub_voice, "copy", copy)
    spoken = ["encoder_alone", "one_step"]
    for clip, systems in (("b", ["recording", "recorded_timing", *spoken]), ("c", spoken)):
        (corpus / "one.txt").write_text(f"{clip}\n", "utf-8")
        assert command(capsys, "-id", "off_a", *METADATA, "--ids", "one.txt", "-o", "out")[0] == 0
        report = json.loads((corpus / "out" / "report.json").read_text("utf-8"))
        assert list(report["systems"]) == systems and list(report["clips"]) == [clip]
    assert caplog.messages == ["no copy synthesis: this voice reads more"]
    wanted = ["cer", "wer", "distillmos", "f0_spread"]
    assert report["systems"]["one_step"]["measures"].keys() == {*wanted, *OF_THE_PROCESS}
    assert report["systems"]["one_step"]["differences"] == {}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("-id", "off_none"), "no run off_none in .*checkpoint"),
        ((*METADATA, "--systems", "x=nowhere"), "--systems x: no folder nowhere"),
        ((*METADATA, "--systems", "x=empty"), "x=empty: has none of 3 clips, a.wav for one"),
        ((*METADATA, "--systems", "other"), "--systems other: expected NAME=DIR"),
        ((*METADATA, "--systems", "../x=other"), "expected NAME=DIR"),
        ((*METADATA, "--systems", "recording=other"), "a system recording already"),
        ((*METADATA, "--systems", "x=other", "x=other"), "a system x already"),
        (("--metadata", "metadata.csv", "--wavs", "nowhere"), "--wavs: no folder nowhere"),
        (("--metadata", "metadata.csv", "--wavs", "empty"), "no recording of 3 clips, empty/a.wav for one"),
        (("--metadata", "missing.csv"), "missing.csv: No such file"),
        ((*METADATA, "--ids", "unknown.txt"), "metadata.csv: no text for 1 ids of unknown.txt, z for one"),
        ((*METADATA, "--ids", "twice.txt"), "2 clips are named a"),
        ((*METADATA, "--ids", "none.txt"), "no clips in the list"),
        ((*METADATA, "--systems", "x=damaged"), "damaged/a.wav: not a readable recording"),
        ((*METADATA, "--systems", "x=damaged", "--page"), "damaged/a.wav: not a readable recording"),
        ((*METADATA, "--against", "y"), r"--against y: no such system \(there are: recording\)"),
        ((*METADATA, "datset.prtpath=corpus"), "unknown key datset"),
        (("--page",), "out/report.json: not there, or no report of this version: evaluate first"),
    ],
)
def test_refusals_are_one_line_and_status_one(capsys, corpus, monkeypatch, arguments, match):
    monkeypatch.setattr(checkpoint, "RUNS", corpus / "checkpoint")
    (corpus / "empty").mkdir()
    (corpus / "damaged").mkdir()
    (corpus / "damaged" / "a.wav").write_bytes(b"RIFF nothing")
    for name, ids in (("unknown", "a\nz\n"), ("twice", "a\nb\na\n"), ("none", "\n")):
        (corpus / f"{name}.txt").write_text(ids, "utf-16")
    status, _, errors = command(capsys, *arguments, "-o", "out")
    assert status == 1 and len(errors) == 1 and re.search(match, errors[0]), errors
    assert not (corpus / "out").exists()


@pytest.mark.parametrize(
    "arguments", [(), ("-o", "out", "-n", "0"), ("-o", "out", "--threads", "0"), ("-o", "out", *METADATA, "-n", "2"),
                  ("-o", "out", *METADATA, "-ckpt", "2"), ("-o", "out", "--seed", "-1"),
                  ("-o", "out", "--page-clips", "0"), ("-o", "out", "--page", "-n", "2"),
                  ("-o", "out", "--solver", "ddim"), ("-o", "out", "-n", "2", "--solver", "posterior")]
)  # fmt: skip
def test_what_the_command_does_not_know_is_status_two(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        evaluate.main(list(arguments))
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_a_recording_that_cannot_be_read_is_left_out(capsys, corpus, caplog):
    (corpus / "wavs" / "b.wav").write_bytes(b"RIFF nothing")
    status, *_ = command(capsys, *METADATA, "-o", "out")
    recording = json.loads((corpus / "out" / "report.json").read_text())["systems"]["recording"]
    assert status == 0 and (recording["clips"], recording["missing"]) == (1, 2)
    assert "wavs/b.wav: not a readable recording (Format not recognised); it is left out" in caplog.text


@pytest.mark.slow  # starting a process takes seconds
def test_memory_is_the_most_that_a_process_of_its_own_had():
    ballast = np.ones(40_000_000)  # 320 MB of this process, which are no one else's
    small, large = (evaluate.apart(peak_with, n_bytes) for n_bytes in (1, 200_000_000))
    assert large - small == pytest.approx(2e8, rel=0.1)
    assert evaluate.peak_memory() > small > 1e7 and ballast.nbytes > 3e8


def peak_with(n_bytes):
    """peak_memory() of a process that had once so much more."""
    bytearray(b"1") * n_bytes
    return evaluate.peak_memory()
