"""data_util.check: each fault is found, nothing else is, and training honours the quarantine list."""

import numpy as np
import pytest
import soundfile

from data_util import check, features
from data_util.corpus import read_quarantine
from tests.conftest import SAMPLE_RATE, corpus_keys, prepared, with_keys

N = 24  # clips without a fault


def speech(seconds, seed, rate=SAMPLE_RATE):
    """Noise with a tone: something that fills the spectrum."""
    random, n = np.random.default_rng(seed), round(seconds * rate)
    return 0.1 * np.sin(2 * np.pi * 150 * np.arange(n) / rate) + 0.02 * random.standard_normal(n)


@pytest.fixture
def corpus(tmp_path, tiny_config, stub_front_end):  # noqa: ARG001
    """Twenty-four good clips of a second or two, 15 letters a second, in DIR/train.txt: (DIR, config, add)."""
    root, lines = tmp_path / "corpus", []

    def add(name, wav, text, rate=SAMPLE_RATE, speaker=None, subtype="PCM_16"):
        (root / "wavs").mkdir(parents=True, exist_ok=True)
        if wav is not None:
            soundfile.write(root / "wavs" / f"{name}.wav", wav, rate, subtype=subtype)
        lines.append("|".join([f"{name}.wav", *([speaker] if speaker else []), text]))
        (root / "train.txt").write_text("\n".join(lines) + "\n")

    for i in range(N):
        add(f"good{i}", speech(1 + i / 24, i), "abcdefghijklmnopqrstuvwxyz"[i] * round(15 * (1 + i / 24)))
    lists = {f"metafile_{name}": str(root / "train.txt") for name in ("train", "valid", "test")}
    return root, with_keys(tiny_config, "dataset", prtpath=str(root), **lists), add


def faults(config, **limits):
    found = check.check(config, check.Limits(SAMPLE_RATE, **limits), 0, progress=False)
    return {one.clip.id: set(one.faults) for one in found if one.faults}, found


def test_each_fault_is_found_and_no_other(corpus):
    root, config, add = corpus
    wav = speech(1.5, 99)
    text = "n" * 22
    expected = {}

    def bad(name, fault, *arguments, **keys):
        add(name, *arguments, **keys)
        expected[name] = {fault}

    bad("gone", "missing", None, text + "a")
    bad("void", "empty", np.zeros(0), text + "b")
    bad("nan", "not finite", np.full(9000, np.nan), text + "c", subtype="FLOAT")
    bad("rate", "wrong rate", speech(1.5, 1, 16000), text + "d", rate=16000)
    bad("stereo", "not mono", np.stack([wav, 0.9 * wav], 1), text + "e")
    bad("quiet", "quiet", 0.02 * wav, text + "f")
    bad("silent", "silent", np.zeros(33000), text + "g")
    bad("offset", "DC offset", 0.9 * wav + 0.3, text + "m")
    bad("short", "too short", speech(0.2, 2), "zzz")
    bad("long", "too long", speech(4.0, 3), "y" * 60)
    bad("clipped", "clipped", np.clip(12 * speech(1.5, 4), -1, 1), text + "h")
    bad("wordless", "nothing to say", speech(1.5, 5), "1234 5678 1234 5678 12")
    bad("copy", "duplicate", wav * 0.999, text + "i")
    add("original", wav * 0.999, text + "j")
    expected["original"] = expected.pop("copy")  # the second of them is the duplicate
    bad("fast", "fast", speech(1.0, 6), "u" * 60)
    bad("slow", "slow", speech(3.0, 7), "v" * 8)
    bad("again", "same text", speech(1.5, 8), "N" * 22 + "A")
    bad("narrow", "band-limited", 0.3 * np.sin(np.arange(33000) / 50) * np.hanning(33000), text + "k", subtype="FLOAT")
    add("codec", wav * 0.998, text + "o", subtype="GSM610")  # which cannot seek
    (root / "wavs" / "noise.wav").write_bytes(b"RIFF no recording")
    bad("noise", "unreadable", None, text + "l")
    found, findings = faults(config, longest=3.5)
    assert found == expected
    bad_ones = {name for name, of_clip in expected.items() if of_clip - set(check.SUSPICIOUS)}
    assert {one.clip.id for one in findings if one.bad} == bad_ones
    of_lists = {"no transcript", "unknown symbols", "wrong speaker", "in two lists"}
    assert set().union(*expected.values()) | of_lists == set(check.FAULTS)


def test_each_fault_of_texts_speakers_and_lists_is_found(corpus, monkeypatch):
    root, config, add = corpus
    add("who", speech(1.5, 1), "q" * 22, speaker="nobody")
    assert faults(config)[0]["who"] == {"wrong speaker"}
    named = with_keys(config, "speakers", names=("ann",))
    assert len(faults(named)[0]) == N + 1  # those without a speaker are wrong too
    (root / "valid.txt").write_text("good3.wav|" + "d" * 17 + "\n")
    two = with_keys(config, "dataset", metafile_valid=str(root / "valid.txt"))
    found = check.check(two, check.Limits(SAMPLE_RATE), 0, progress=False)
    assert ["in two lists" in one.faults for one in found if one.metafile == "valid.txt"] == [True]
    real = check.make_front_end

    def odd(section):
        front_end = real(section)
        monkeypatch.setattr(front_end, "phonemise_many", lambda texts: ["ab☃" if t[:1] == "c" else "ab" for t in texts])
        return front_end

    monkeypatch.setattr(check, "make_front_end", odd)
    assert "unknown symbols" in faults(config)[0]["good2"]
    (root / "metadata.csv").write_text("other|a|b\n")
    (root / "train.txt").write_text("nowhere\n")
    assert faults(config)[0]["nowhere"] == {"no transcript", "missing"}


def test_speakers_have_rates_of_their_own(corpus):
    _, config, add = corpus
    for i in range(N):  # one who speaks three times as slowly is no fault
        add(f"slow{i}", speech(3 + i / 24, 100 + i), chr(97 + i) * round(5 * (3 + i / 24)) + "x", speaker="slow")
    found, _ = faults(with_keys(config, "speakers", names=("slow",)))
    assert not any(found[f"slow{i}"] for i in range(N) if f"slow{i}" in found)


def test_training_leaves_out_what_is_in_quarantine(corpus, capsys):
    root, config, add = corpus
    add("clipped", np.clip(12 * speech(1.5, 4), -1, 1), "h" * 22)
    add("#2 short", speech(0.2, 5), "zzz")
    arguments = [str(root), "--jobs", "1", *corpus_keys(root, config.dataset.cache)[1:]]
    assert check.main(arguments) == 1
    assert "2 cannot be used" in capsys.readouterr().out
    assert read_quarantine(root) == {"clipped": "quarantined: clipped", "#2 short": "quarantined: too short"}
    trained = prepared(config)
    assert len(trained) == N and {name for name, _ in trained.skipped} == {"clipped", "#2 short"}
    assert dict(trained.skipped)["#2 short"] == "quarantined: too short"
    listed = (root / "quarantine.txt").read_text()  # somebody has listened, and decides otherwise
    for encoding in ("utf-8-sig", "utf-16", "cp1252"):
        (root / "quarantine.txt").write_text(f"{listed}keep clipped\nkeep müller\n", encoding)
        assert check.main(arguments) == 1
        assert set(read_quarantine(root)) & {"clipped", "#2 short"} == {"#2 short"}
        assert check.kept(root) == ["clipped", "müller"]
    assert len(prepared(config)) == N + 1


def test_the_page_shows_some_of_each_fault_and_needs_no_other_file(corpus):
    root, config, add = corpus
    for i in range(30):
        add(f"gone{i}", None, f"<b>{i}")
    add("short", speech(0.2, 5), "zzz")
    _, findings = faults(config)
    shown = check.worst(findings, 4)
    assert "short" in [one.clip.id for one in shown] and len(shown) == 4
    page = check.report(findings, 4)
    assert "data:image/png" in page and "<audio" in page and "cannot be shown" in page
    assert "<b>" not in page and "&lt;b&gt;" in page and "http" not in page


def test_good_clips_have_no_fault_and_many_processes_find_the_same(corpus, monkeypatch):
    _, config, _ = corpus
    monkeypatch.setattr(features, "CLIPS_A_WORKER", 4)
    found, alone = faults(config)
    assert found == {} and "24 clips" in check.summary(alone) and "0 cannot be used" in check.summary(alone)
    assert alone == check.check(config, check.Limits(SAMPLE_RATE), 2, progress=False)


def test_hearing_against_closed_forms():
    n = 22050
    sine = 0.5 * np.sin(2 * np.pi * 441 * np.arange(n) / n)
    numbers = check.hear(sine.astype(np.float32), n)
    assert numbers["seconds"] == 1.0 and numbers["peak"] == pytest.approx(0.5, abs=2e-3)
    assert numbers["level"] == pytest.approx(10 * np.log10(0.125), abs=1e-3) and numbers["clipped"] == 0
    square = np.concatenate([np.ones(5), np.zeros(20), -np.ones(2), np.zeros(73)])
    assert check.hear(square.astype(np.float32), n)["clipped"] == pytest.approx(0.05)  # two in a row are a peak
    noise = np.random.default_rng(0).standard_normal(1 << 16)
    assert check.hear(noise.astype(np.float32), n)["band"] == pytest.approx(0, abs=0.2)


def test_a_folder_may_have_any_name(corpus, capsys):
    root, config, _ = corpus
    (root / "train.txt").rename(root.parent / "train.txt")
    root = root.rename(root.with_name("a: b #2, [c] ünd 🎙"))
    assert check.main([str(root), "--jobs", "1", *corpus_keys(root.parent, config.dataset.cache)[1:]]) == 0
    assert f"{N} clips" in capsys.readouterr().out


def test_errors_are_one_line(tmp_path, capsys):
    assert check.main([str(tmp_path / "nowhere")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("data_util.check: ") and "no such folder" in error and error.count("\n") == 1
