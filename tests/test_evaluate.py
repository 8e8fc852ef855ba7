"""The table: each measure against sounds whose answer is known, and the command on folders and on a stub of a voice."""

import json
import math
import re
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import evaluate
from data_util import checkpoint
from data_util import config as configuration
from data_util.audio import MelSpectrogram, save_wav
from data_util.corpus import read_transcripts
from data_util.features import compute_mel
from evaluate import Job, Sound
from sampling import Speech
from text import SYMBOLS, TextError

pytest.importorskip("speechmos", reason="pip install -r requirements-extra.txt")
pytest.importorskip("pocketsphinx", reason="pip install -r requirements-extra.txt")

CONFIG = configuration.load()
RATE = CONFIG.audio.sample_rate
TEXTS = {"a": "First one.", "b": "Two, here.", "c": "Number 3."}


def voiced(seconds=0.6, f0=200.0, depth=0.0, seed=0):
    """(T_wav,) a buzz of fundamental f0 Hz whose ln F0 swings by `depth` five times a second, with a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(f0 * np.exp(depth * np.sin(2 * np.pi * 5 * t))) / RATE
    wav = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (0.1 * wav + 1e-4 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


def mel_of(wav):
    return compute_mel(MelSpectrogram(**vars(CONFIG.audio)), np.asarray(wav, dtype=np.float32))


def mcd(mel, other):
    return evaluate.distortion(mel, other, evaluate.warp(mel, other))


def random_mel(n_frames=60, seed=0):
    """A log-mel that wanders smoothly from frame to frame."""
    noise = np.random.default_rng(seed).standard_normal((80, n_frames + 20))
    return np.stack([np.convolve(row, np.ones(21) / 5, mode="valid") for row in noise]) - 5


# -- measures


@pytest.mark.parametrize(
    ("reference", "heard", "cer", "wer"),
    [
        ("the cat sat", "the cat sat", (0, 11), (0, 3)),
        ("the cat sat", "the bat sat", (1, 11), (1, 3)),
        ("the cat sat", "the cat", (4, 11), (1, 3)),
        ("cat", "the cat sat", (8, 3), (2, 1)),
        ("the cat sat", "", (11, 11), (3, 3)),
    ],
)
def test_error_rates_are_edits_by_what_there_is(reference, heard, cer, wer):
    assert evaluate.error_rates(reference, heard) == {"cer": cer, "wer": wer}


def test_both_sides_are_brought_to_letters():
    assert evaluate.letters("Dr. Lee's 3 -- well-known!") == "doctor lees three well known"
    assert evaluate.letters("") == evaluate.letters("...") == ""


def test_what_the_recogniser_abbreviates_is_spelt_out(monkeypatch):
    names = ("reinit_feat", "start_utt", "process_raw", "end_utt")
    decoder = SimpleNamespace(**{name: lambda *_, **__: None for name in names})
    decoder.hyp = lambda: SimpleNamespace(hypstr="and mr. smith's end")
    monkeypatch.setattr(evaluate, "_decoder", lambda: decoder)
    assert evaluate.recognise(voiced(), RATE) == evaluate.letters("And Mister Smith's end.")


def test_distortion_of_a_known_cepstrum():
    mel, angle = random_mel(), np.pi * (np.arange(80) + 0.5) / 80
    for order, seen in ((1, True), (13, True), (0, False), (14, False)):
        moved = mel + 0.3 * np.cos(order * angle)[:, None]
        expected = 10 / math.log(10) * math.sqrt(2) * 0.3 if seen else 0
        along = evaluate.cepstra(moved) - evaluate.cepstra(mel)
        assert np.sqrt(2 * np.square(along).sum(0)) * 10 / math.log(10) == pytest.approx(expected, abs=1e-6)
        # along the path frames may be paired otherwise, which can only come out nearer
        assert mcd(moved, mel) <= expected + 1e-6
    still = np.repeat(mel[:, :1], 9, axis=1)
    assert mcd(still + 0.3 * np.cos(angle)[:, None], still) == pytest.approx(1.842, abs=1e-3)
    assert mcd(mel, mel) == 0


def test_a_stretched_clip_is_nearer_than_another():
    mel = random_mel()
    stretched = np.repeat(mel, np.tile([1, 2], 30), axis=1)
    assert mcd(stretched, mel) < 1e-6
    assert mcd(random_mel(seed=1), mel) > 2
    assert mcd(stretched, mel) == pytest.approx(mcd(mel, stretched), abs=1e-6)


def test_the_spread_and_the_shift_of_f0_are_those_of_the_sound(tmp_path):
    sounds = {}
    for name, f0, depth in (("flat", 200, 0.02), ("lively", 200, 0.2), ("high", 200 * 2 ** (3 / 12), 0.2)):
        save_wav(tmp_path / f"{name}.wav", voiced(1.2, f0, depth), RATE)
        sounds[name] = Sound.read(tmp_path / f"{name}.wav", CONFIG)
    spreads = {name: evaluate.judge(sound)["f0_spread"] for name, sound in sounds.items()}
    assert spreads["lively"][0] == pytest.approx(0.2 / math.sqrt(2), rel=0.1)  # of a sine, seen through a window
    assert spreads["flat"][0] < 0.03
    pairs = evaluate.compare(sounds["high"], sounds["lively"])
    assert pairs["f0_shift"] == (pytest.approx(3, abs=0.15), 1)
    assert 0.09 < pairs["f0_rmse"][0] < 0.18  # 0.173 on the diagonal, which the path leaves for harmonics that meet
    assert pairs["voicing_error"][0] <= 0.05 * pairs["voicing_error"][1]
    assert pairs["f0_spread_ratio"] == (spreads["high"][0], spreads["lively"][0])


def test_lengths_and_variance_are_by_the_recordings():
    def sound(seconds, mel):
        return Sound(np.zeros(round(seconds * RATE), np.float32), RATE, mel, np.zeros((2, mel.shape[1])))

    mel = random_mel()
    pairs = evaluate.compare(sound(3, 0.5 * mel), sound(2, mel))
    assert pairs["duration"] == (1.5, 1) and pairs["duration_total"] == (3, 2)
    top, bottom = pairs["mel_variance"]
    assert top / bottom == pytest.approx(0.25)
    assert not pairs.keys() & {"f0_spread_ratio", "f0_shift", "f0_rmse"}  # nothing was voiced
    assert pairs["voicing_error"][0] == 0


def test_errors_of_the_melody_are_those_put_in():
    mel = random_mel()
    path = evaluate.warp(mel, mel)
    assert sorted(map(tuple, path)) == [(i, i) for i in range(60)]
    contour = np.stack([np.full(60, math.log(200)), np.arange(60) < 40])
    other = contour.copy()
    other[0, :20] += 0.3
    other[1, 32:40], other[1, 50:52] = 0, 1  # which leaves 32 frames that are voiced in both
    errors = evaluate.melody_errors(other, contour, path)
    assert errors["voicing_error"] == (10, 60)
    assert errors["f0_rmse"] == (pytest.approx(0.3 * math.sqrt(20 / 32)), 1)
    assert evaluate.melody_errors(contour, contour, path) == {"voicing_error": (0, 60), "f0_rmse": (0, 1)}


def test_errors_of_the_melody_follow_the_path():
    mel = random_mel()
    times = np.tile([1, 2], 30)
    contour = np.stack([np.linspace(5, 6, 60), np.arange(60) % 20 < 15])
    stretched = np.repeat(mel, times, axis=1), np.repeat(contour, times, axis=1)
    errors = evaluate.melody_errors(stretched[1], contour, evaluate.warp(stretched[0], mel))
    assert errors["voicing_error"][0] == 0 and errors["f0_rmse"][0] < 1e-6


def test_a_wav_of_another_rate_is_the_same_sound(tmp_path):
    t = np.arange(48000) / 48000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * t), 48000)
    wav = evaluate.read_wav(tmp_path / "a.wav", RATE)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert len(wav) == RATE and np.abs(wav - expected)[100:-100].max() < 0.01


def test_a_sound_of_some_samples_or_of_nothing_is_measured(tmp_path):
    save_wav(tmp_path / "short.wav", voiced()[:20], RATE)
    save_wav(tmp_path / "silent.wav", np.zeros(round(0.3 * RATE), np.float32), RATE)
    wavs = {"recording": tmp_path / "short.wav", "silent": tmp_path / "silent.wav"}
    found = evaluate.measure(Job("some words", wavs, CONFIG))
    assert found["silent"]["pairs"]["wer"][1] == 2
    assert all(np.isfinite(pair).all() for one in found.values() for pair in one["pairs"].values())


def test_noise_is_heard_by_distortion_and_by_dnsmos(real_root):
    wav = evaluate.read_wav(sorted(real_root.glob("wavs/*.wav"))[0], RATE)
    noise = np.random.default_rng(0).standard_normal(len(wav)).astype(np.float32) * wav.std()
    noisy = [np.clip(wav + noise * 10 ** (-snr / 20), -1, 1).astype(np.float32) for snr in (30, 15, 0)]
    distortions = [mcd(mel_of(one), mel_of(wav)) for one in noisy]
    scores = [evaluate.quality(one, RATE)["dnsmos"][0] for one in (wav, *noisy)]
    assert 0 < distortions[0] < distortions[1] < distortions[2]
    assert scores[0] > scores[1] > scores[2] > scores[3]
    assert scores[0] > 2.7 and scores[3] < 2


def test_dnsmos_is_the_packages_own(real_root):
    from speechmos import dnsmos

    wav = evaluate.read_wav(sorted(real_root.glob("wavs/*.wav"))[1], evaluate.JUDGE_RATE)[
        : round(2.3 * evaluate.JUDGE_RATE)
    ]
    theirs, ours = dnsmos.run(wav, evaluate.JUDGE_RATE), evaluate.quality(wav, evaluate.JUDGE_RATE)
    for name, key in (("dnsmos", "ovrl_mos"), ("dnsmos_signal", "sig_mos"), ("dnsmos_background", "bak_mos")):
        assert ours[name][0] == pytest.approx(theirs[key], abs=1e-3)


def test_speech_is_recognised_whatever_was_heard_before(real_root):
    texts = read_transcripts(real_root / "metadata.csv")
    path, other = sorted(real_root.glob("wavs/*.wav"), key=lambda path: path.stat().st_size)[:2]
    wav = evaluate.read_wav(path, RATE)
    heard = evaluate.recognise(wav, RATE)
    score = evaluate._decoder().hyp().best_score  # shows a change that the words may not
    evaluate.recognise(evaluate.read_wav(other, RATE), RATE)
    assert (evaluate.recognise(wav, RATE), evaluate._decoder().hyp().best_score) == (heard, score)
    (edits, n), (wrong, _) = (
        evaluate.error_rates(evaluate.letters(texts[name]), heard)["cer"] for name in (path.stem, other.stem)
    )
    assert edits < 0.5 * n and edits < wrong


def test_the_recording_beside_itself(real_root):
    path = min(real_root.glob("wavs/*.wav"), key=lambda path: path.stat().st_size)
    pairs = evaluate.measure(Job("", {"recording": path, "same": path}, CONFIG))["same"]["pairs"]
    assert pairs["mcd"][0] == pairs["f0_shift"][0] == pairs["f0_rmse"][0] == pairs["voicing_error"][0] == 0
    for name in ("duration", "duration_total", "f0_spread_ratio", "mel_variance"):
        assert pairs[name][0] == pairs[name][1] > 0
    assert 0.05 < pairs["f0_spread"][0] < 0.6
    assert "cer" not in pairs  # nothing to hear


# -- every measure that is shown tells a good voice from one that is broken where it listens


HEARD_IN_NOISE = ("cer", "wer", "dnsmos", "dnsmos_signal", "dnsmos_background", "mcd", "voicing_error", "mel_variance")
BETTER_IF_MORE = ("dnsmos", "dnsmos_signal", "dnsmos_background", "mel_variance")
BROKEN = {  # the sound of voiced() that each of the others reacts to, and what it then is, by its value of a good one
    "f0_rmse": ({"depth": 0}, (2, 1e9)),
    "duration": ({"seconds": 1.8}, (1.49, 1.51)),
    "duration_total": ({"seconds": 1.8}, (1.49, 1.51)),
    "f0_spread": ({"depth": 0}, (0, 0.2)),
    "f0_spread_ratio": ({"depth": 0}, (0, 0.2)),
    "f0_shift": ({"f0": 300}, (10, 1e9)),
}
OF_THE_PROCESS = ("real_time_factor", "real_time_factor_cold", "memory")  # below, with a slow voice, and a large one


def test_no_measure_is_shown_without_a_check():
    assert sorted([*HEARD_IN_NOISE, *BROKEN, *OF_THE_PROCESS]) == sorted(evaluate.MEASURES)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_far_from_what_is_good(tmp_path, name):
    changes, (low, high) = BROKEN[name]
    right = {"seconds": 1.2, "f0": 200.0, "depth": 0.2}
    sounds = {}
    for kind, settings in (("recording", right), ("good", right | {"f0": 204.0}), ("broken", right | changes)):
        save_wav(tmp_path / f"{kind}.wav", voiced(**settings), RATE)
        sounds[kind] = Sound.read(tmp_path / f"{kind}.wav", CONFIG)
    good, broken = (
        {**evaluate.compare(sounds[kind], sounds["recording"]), "f0_spread": (float(sounds[kind].log_f0.std()), 1)}[
            name
        ]
        for kind in ("good", "broken")
    )
    assert low < (broken[0] / broken[1]) / (good[0] / good[1]) < high


def totals(clips):
    """{measure: value} over the Pairs of some clips."""
    return {name: sum(one[name][0] for one in clips) / sum(one[name][1] for one in clips) for name in clips[0]}


@pytest.fixture(scope="module")
def short_clips(real_root):
    """{path: letters of its text} of the three shortest clips of more than 2.5 seconds."""
    texts = read_transcripts(real_root / "metadata.csv")
    seconds = {path: soundfile.info(path).duration for path in real_root.glob("wavs/*.wav")}
    paths = sorted((path for path in seconds if seconds[path] > 2.5), key=seconds.get)[:3]
    return {path: evaluate.letters(texts[path.stem]) for path in paths}


def test_more_noise_is_worse_to_every_measure_that_listens(short_clips, tmp_path):
    levels = {"recording": None, "snr20": 20, "snr5": 5, "snr-10": -10}
    jobs = []
    for path, reference in short_clips.items():
        wav = evaluate.read_wav(path, RATE)
        noise = np.random.default_rng(0).standard_normal(len(wav)).astype(np.float32) * wav.std()
        wavs = {"recording": path}
        for name, snr in list(levels.items())[1:]:
            wavs[name] = tmp_path / name / path.name
            noisy = wav + noise * 10 ** (-snr / 20)
            save_wav(wavs[name], noisy / max(1, np.abs(noisy).max()), RATE)
        jobs.append(Job(reference, wavs, CONFIG))
    measured = [evaluate.measure(job) for job in jobs]
    found = {level: totals([one[level]["pairs"] for one in measured]) for level in levels}
    for name in HEARD_IN_NOISE:
        values = [found[level][name] * (-1 if name in BETTER_IF_MORE else 1) for level in levels]
        assert values == sorted(values) and values[0] < values[2] < values[3], (name, values)


def test_pairs_that_are_shuffled_are_far_worse(short_clips, tmp_path):
    recordings = [Sound.read(path, CONFIG) for path in short_clips]
    quieter = []
    for path, recording in zip(short_clips, recordings):
        save_wav(tmp_path / path.name, 0.7 * recording.wav, RATE)
        quieter.append(Sound.read(tmp_path / path.name, CONFIG))
    right = totals([evaluate.compare(*pair) for pair in zip(quieter, recordings)])
    shuffled = totals([evaluate.compare(*pair) for pair in zip(quieter[1:] + quieter[:1], recordings)])
    for name, least in (("mcd", 5), ("voicing_error", 0.1), ("f0_rmse", 0.1)):
        assert shuffled[name] > max(least, 5 * right[name]), name


# -- over clips


def mean_of(values, seed=0):
    columns = np.stack([values, np.ones(len(values))], axis=1)
    return evaluate.bootstrap(columns, lambda sums: sums[..., 0] / sums[..., 1], seed)


def test_nineteen_of_twenty_intervals_cover_the_mean():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        found = mean_of(random.normal(3.0, 2.0, 60))
        covered += found["low"] <= 3.0 <= found["high"]
        assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * 2 / math.sqrt(60), rel=0.4)
    assert 88 <= covered <= 99


def test_an_interval_is_seeded_and_missing_where_there_is_none():
    values = np.arange(9.0)
    assert mean_of(values) == mean_of(values) != mean_of(values, seed=1)
    assert mean_of(values)["value"] == 4
    assert mean_of([2.0]) == {"value": 2.0, "low": None, "high": None}
    nothing = evaluate.bootstrap(np.zeros((3, 2)), lambda sums: sums[..., 0] / sums[..., 1], 0)
    assert nothing == {"value": None, "low": None, "high": None}


def test_rates_are_of_all_characters_and_differences_are_paired():
    recordings = [{"cer": (1, 10)}, {"cer": (0, 90)}, {"cer": (5, 10)}, {}]
    clips = [{"cer": (2, 10)}, {"cer": (9, 90)}, {}, {"cer": (9, 9)}]
    measures, differences = evaluate.summarise(clips, recordings, 0, ["cer"])
    assert measures["cer"]["value"] == pytest.approx(20 / 109) and measures["cer"]["clips"] == 3
    assert differences["cer"]["value"] == pytest.approx(0.11 - 0.01) and differences["cer"]["clips"] == 2
    assert evaluate.summarise(clips, recordings, 0, [])[1] == {}
    measures, _ = evaluate.summarise([{"real_time_factor": (t, 2.0)} for t in (1, 1, 90)], [{}] * 3, 0, [])
    assert measures["real_time_factor"] == {"value": 0.5, "low": None, "high": None, "clips": 3}


@pytest.mark.slow  # starting a process takes seconds
def test_several_processes_find_the_same_in_the_same_order(tmp_path, monkeypatch):
    jobs = []
    for i in range(3):
        save_wav(tmp_path / f"{i}.wav", voiced(0.2 + 0.1 * i), RATE)
        jobs.append(Job("", {"recording": tmp_path / f"{i}.wav"}, CONFIG))
    alone = list(evaluate.measure_all(jobs))
    monkeypatch.setattr(evaluate, "CLIPS_A_PROCESS", 1)
    monkeypatch.setattr(evaluate, "n_cpus", lambda: 2)
    monkeypatch.setattr(evaluate, "measure", measure_elsewhere)
    assert list(evaluate.measure_all(jobs)) == alone


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


def measure_elsewhere(job):
    """measure(), but only in a process of its own."""
    import multiprocessing

    assert multiprocessing.parent_process() is not None
    return evaluate.measure(job)


# -- the command

METADATA = ("--metadata", "metadata.csv", "--wavs", "wavs")


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """metadata.csv and wavs/ with a and b; c has a text only. The folder other/ has b, twice as long, and c.

    Of 0.3, 0.6 and 1.2 s, which DNSMOS, repeating them until they have 9 s, is quickest with.
    """
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
    slow = 0.0  # seconds that the first call takes longer

    def __init__(self, config, path):
        self.saved = SimpleNamespace(config=config, step=30, path=path)
        self.model = torch.nn.Linear(2, 3)
        self.front_end = SimpleNamespace(to_ids=lambda phonemes: [SYMBOLS.index(c) for c in phonemes])
        self.fresh = True

    def speak(self, text, *, n_timesteps, solver, seed):
        if not text.strip("."):
            raise TextError("nothing to say")
        time.sleep(self.slow * self.fresh)
        self.fresh = False
        self.asked.append((text, n_timesteps, solver, seed))
        return Speech(voiced(0.6, f0=100 * n_timesteps), RATE, text, "ab", np.array([20, 32]))

    def copy(self, wav):
        return 0.5 * wav


@pytest.fixture
def stub_voice(monkeypatch, corpus):
    """Run off_a, whose test list is a, b, and d, of which nothing can be said. It speaks in this process."""
    (corpus / "checkpoint" / "off_a").mkdir(parents=True)
    (corpus / "test.txt").write_text("a\nd.wav|...\nb\n", "utf-8")
    keys = [f"dataset.prtpath={corpus}", f"dataset.metafile_test={corpus / 'test.txt'}"]
    config = configuration.change(CONFIG, keys)
    monkeypatch.setattr(checkpoint, "RUNS", corpus / "checkpoint")
    monkeypatch.setattr(checkpoint, "load_voice", lambda path: path)
    monkeypatch.setattr(checkpoint, "find", lambda folder, kind, step: folder / f"{kind}_{step}")
    monkeypatch.setattr(evaluate, "Voice", lambda path, _: StubVoice(config, path))
    monkeypatch.setattr(evaluate, "apart", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(StubVoice, "asked", [])
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
            measure = evaluate.MEASURES[name]
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
        "against": "recording", "command": "python evaluate.py " + " ".join(map(str, arguments)),
    }  # fmt: skip
    assert report["about"]["command"] in text and "seed 3" in text
    assert "clips that a system does not have: recording 1, other 1" in text
    measures = {name: one["measures"] for name, one in report["systems"].items()}
    assert list(measures) == ["recording", "other"]
    assert measures["recording"]["mcd"]["value"] == 0 and measures["recording"]["f0_spread_ratio"]["value"] == 1
    assert measures["other"]["duration"] == {"value": pytest.approx(2), "low": None, "high": None, "clips": 1}
    assert measures["other"]["f0_shift"]["value"] == pytest.approx(-12 * math.log2(4 / 3), abs=0.7)
    assert measures["other"]["cer"]["clips"] == measures["other"]["f0_spread"]["clips"] == 2  # c has no recording
    assert report["systems"]["other"]["differences"]["dnsmos"]["clips"] == 1
    assert report["clips"]["c"]["text"] == "Number 3." and list(report["clips"]["c"]["systems"]) == ["other"]
    assert report["clips"]["c"]["systems"]["other"]["pairs"]["cer"][1] == len("number three")


def test_a_voice_is_copied_spoken_and_timed(capsys, corpus, stub_voice):
    status, out, errors = command(capsys, "-id", "off_a", "-ckpt", 30, "-n", 4, 1, "--seed", 5, "-o", corpus / "out")
    assert (status, errors) == (0, [])
    report = json.loads((corpus / "out" / "report.json").read_text("utf-8"))
    assert report["about"]["voice"] == {"run": "off_a", "step": 30, "parameters": 9, "solver": "dpm2m"}
    assert "run off_a, step 30, 9 parameters, dpm2m for n > 1" in out
    assert report["about"]["device"].startswith("cpu (") and report["about"]["device"] in out
    assert list(report["systems"]) == ["recording", "copy", "one_step", "n4"]
    assert {one["missing"] for one in report["systems"].values()} == {1}  # d
    assert sorted(path.name for path in (corpus / "out" / "n4").iterdir()) == ["a.wav", "b.wav"]
    assert stub_voice.asked == [(text, n, None, 5) for n in (1, 4) for text in (TEXTS["a"], TEXTS["a"], TEXTS["b"])]
    recording, copied = (soundfile.read(corpus / name / "a.wav")[0] for name in ("wavs", "out/copy"))
    assert np.abs(copied - 0.5 * recording).max() < 1e-4
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
    assert page.count("Alignment: one_step, n4") == 2 and page.count("<audio ") == 8


def test_the_solver_is_for_many_evaluations_only(capsys, corpus, stub_voice):
    arguments = ("-id", "off_a", "-n", 2, "--solver", "ddim", "--page", "-o", "out")
    status, out, _ = command(capsys, *arguments)
    assert status == 0 and {one[1:3] for one in stub_voice.asked} == {(1, None), (2, "ddim")}
    page = (corpus / "out" / "index.html").read_text("utf-8")
    assert "ddim for n &gt; 1" in page
    assert "RTF" in page and "CER" not in page  # what speaking tells is there without a measure


@pytest.mark.slow  # starting a process takes seconds
def test_a_voice_speaks_in_a_process_of_its_own(capsys, corpus, monkeypatch):
    from tests.test_sampling import CONFIG as TINY
    from tests.test_sampling import weights_of

    monkeypatch.setattr(checkpoint, "RUNS", corpus)
    checkpoint.save_voice(corpus / "off_tiny", 5, weights_of(), TINY, SYMBOLS)
    arguments = ("-id", "off_tiny", *METADATA, "-n", 2, "--solver", "ddim", "--page", "-o", "out")
    status, _, errors = command(capsys, *arguments)
    assert (status, errors) == (0, [])
    report = evaluate.evaluate(evaluate.parse_args([*map(str, arguments)]))
    for name in ("one_step", "n2"):
        measures = report["systems"][name]["measures"]
        assert measures["real_time_factor_cold"]["value"] > measures["real_time_factor"]["value"] > 0
        assert 1e8 < measures["memory"]["value"] < 4e9
        for clip, one in report["clips"].items():
            spoken = one["systems"][name]
            assert len(spoken["symbols"]) == len(spoken["durations"]) > len(spoken["phonemes"]) > 0
            assert sum(spoken["durations"]) == pytest.approx(
                soundfile.info(f"out/{name}/{clip}.wav").duration, abs=0.01
            )
    assert "Alignment: " in (corpus / "out" / "index.html").read_text("utf-8")


@pytest.mark.usefixtures("corpus")
def test_the_first_call_counts_by_itself(stub_voice, monkeypatch):
    monkeypatch.setattr(stub_voice, "slow", 0.6)  # seconds, as many as are spoken
    report = evaluate.evaluate(evaluate.parse_args(["-id", "off_a", "--page", "-o", "out"]))
    measures = report["systems"]["one_step"]["measures"]
    assert measures["real_time_factor_cold"]["value"] > 1
    assert measures["real_time_factor"]["value"] < 0.5


def test_differences_are_to_the_system_that_was_chosen(capsys, corpus):
    arguments = (*METADATA, "--systems", "other=other", "same=other", "first=wavs", "--against", "other", "-o", "out")
    status, out, _ = command(capsys, *arguments)
    systems = json.loads((corpus / "out" / "report.json").read_text("utf-8"))["systems"]
    assert status == 0 and "## Differences to other on the same clips" in out
    assert systems["same"]["differences"].keys() == set(evaluate.DIFFERENCES)
    assert all(one["value"] == 0 for one in systems["same"]["differences"].values())
    distance = systems["other"]["measures"]["mcd"]["value"]
    assert systems["first"]["differences"]["mcd"] == {"value": -distance, "low": None, "high": None, "clips": 1}
    assert "Differences to other" in (corpus / "out" / "index.html").read_text("utf-8")


def test_the_page_is_made_anew_from_a_report_wherever_it_stands(capsys, corpus, monkeypatch):
    shutil.copytree(corpus / "other", corpus / "out" / "other")
    assert command(capsys, *METADATA, "--systems", "other=out/other", "-o", "out")[0] == 0
    files = {path.name: path.read_bytes() for path in (corpus / "out").iterdir() if path.is_file()}
    monkeypatch.setattr(evaluate, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(evaluate, "measure_all", None)
    moved = (corpus / "out").rename(corpus / "elsewhere")
    (moved / "index.html").unlink()
    status, out, errors = command(capsys, "--page", "-o", moved)
    assert (status, errors) == (0, []) and "elsewhere/index.html, 0." in out
    assert {path.name: path.read_bytes() for path in moved.iterdir() if path.is_file()} == files
    assert command(capsys, "--page", "--page-clips", 1, "-o", moved)[0] == 0
    assert (moved / "index.html").read_text("utf-8").count("<audio ") == 1


def test_a_page_for_listening_needs_no_report_and_no_package(capsys, corpus, monkeypatch):
    monkeypatch.setattr(evaluate, "PACKAGES", ("no_such_package",))
    monkeypatch.setattr(evaluate, "measure", None)
    status, out, errors = command(capsys, *METADATA, "--systems", "other=other", "--page", "-o", "out")
    assert (status, errors) == (0, []) and [path.name for path in (corpus / "out").iterdir()] == ["index.html"]
    page = (corpus / "out" / "index.html").read_text("utf-8")
    assert page.count("<audio ") == 4 and "Number 3." in page and "Measures" not in page and "CER" not in page


def test_a_voice_that_cannot_copy_is_spoken_all_the_same(capsys, corpus, stub_voice, caplog, monkeypatch):
    def copy(*_):
        raise ValueError("no copy synthesis: this voice reads more")

    monkeypatch.setattr(stub_voice, "copy", copy)
    arguments = ("-id", "off_a", "--metadata", "metadata.csv", "--wavs", "wavs", "--ids", "b.txt", "-o", "out")
    (corpus / "b.txt").write_text("b\n", "utf-8")
    assert command(capsys, *arguments)[0] == 0
    report = json.loads((corpus / "out" / "report.json").read_text("utf-8"))
    assert list(report["systems"]) == ["recording", "one_step"]
    assert caplog.messages == ["no copy synthesis: this voice reads more"]


@pytest.mark.usefixtures("stub_voice")
def test_texts_without_recordings_are_spoken_and_judged(capsys, corpus):
    (corpus / "c.txt").write_text("c\n", "utf-8")
    status, _, _ = command(capsys, "-id", "off_a", "--metadata", "metadata.csv", "--ids", "c.txt", "-o", "out")
    report = json.loads((corpus / "out" / "report.json").read_text("utf-8"))
    assert status == 0 and list(report["systems"]) == ["one_step"] and list(report["clips"]) == ["c"]
    wanted = ["cer", "wer", "dnsmos", "dnsmos_signal", "dnsmos_background", "f0_spread"]
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
        (("--page",), "out/report.json: not there, or no report of this version: evaluate first"),
    ],
)
def test_refusals_are_one_line_and_status_one(capsys, corpus, monkeypatch, arguments, match):
    monkeypatch.setattr(checkpoint, "RUNS", corpus / "checkpoint")
    (corpus / "empty").mkdir()
    (corpus / "damaged").mkdir()
    (corpus / "damaged" / "a.wav").write_bytes(b"RIFF nothing")
    for name, ids in (("unknown", "a\nz\n"), ("twice", "a\nb\na\n"), ("none", "\n")):
        (corpus / f"{name}.txt").write_text(ids, "utf-8")
    status, _, errors = command(capsys, *arguments, "-o", "out")
    assert status == 1 and len(errors) == 1 and re.search(match, errors[0]), errors
    assert not (corpus / "out").exists()


@pytest.mark.usefixtures("corpus")
def test_a_missing_package_is_named_with_its_cure(capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "PACKAGES", ("json", "no_such_package"))
    status, _, errors = command(capsys, *METADATA, "-o", "out")
    assert status == 1
    assert errors == ["evaluate.py: no_such_package not installed: pip install -r requirements-extra.txt"]


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
