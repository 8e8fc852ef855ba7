"""Each measure against sounds whose answer is known, what is broken against what is good, and means over clips."""

import functools
import math
import multiprocessing
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from data_util import config as configuration
from data_util import demo
from data_util.audio import save_wav
from data_util.config import ROOT
from data_util.corpus import read_transcripts
from evaluation import metrics
from evaluation.metrics import Job, Sound

pytest.importorskip("distillmos", reason="pip install -r requirements-extra.txt")
pytest.importorskip("pocketsphinx", reason="pip install -r requirements-extra.txt")

CONFIG = configuration.load()
RATE = CONFIG.audio.sample_rate


def voiced(seconds=0.6, f0=200.0, depth=0.0, seed=0):
    """(T_wav,) a buzz of fundamental f0 Hz whose ln F0 swings by `depth` five times a second, with a little noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(f0 * np.exp(depth * np.sin(2 * np.pi * 5 * t))) / RATE
    wav = sum(np.sin(k * phase) / k for k in range(1, 12))
    return (0.1 * wav + 1e-4 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


@functools.cache
def buzz(**changes):
    """The sound of a lively voiced(), or of another."""
    return Sound.of(voiced(**{"seconds": 1.2, "depth": 0.2} | changes), CONFIG)


def mcd(mel, other):
    return metrics.distortion(mel, other, metrics.warp(mel, other))


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
    assert metrics.error_rates(reference, heard) == {"cer": cer, "wer": wer}


def test_both_sides_are_brought_to_letters_in_american_spelling(monkeypatch):
    assert metrics.letters("Dr. Lee's 3 -- well-known!") == "doctor lees three well known"
    assert metrics.letters("") == metrics.letters("...") == ""
    assert metrics.letters("The colour of grey honour.") == "the color of gray honor"
    assert metrics.letters("the color of gray honor") == "the color of gray honor"
    monkeypatch.setattr(metrics, "missing_packages", lambda names=(): [*names])
    assert metrics.letters("The colour.") == "the colour"  # of a voice in training, without the package


def test_what_the_recogniser_abbreviates_is_spelt_out(monkeypatch):
    names = ("reinit_feat", "start_utt", "process_raw", "end_utt")
    decoder = SimpleNamespace(**{name: lambda *_, **__: None for name in names})
    decoder.hyp = lambda: SimpleNamespace(hypstr="and mr. smith's end")
    monkeypatch.setattr(metrics, "_decoder", lambda: decoder)
    assert metrics.recognise(voiced(), RATE, "none") == metrics.letters("And Mister Smith's end.")


def test_distortion_of_a_known_cepstrum():
    mel, angle = random_mel(), np.pi * (np.arange(80) + 0.5) / 80
    for order, seen in ((1, True), (13, True), (0, False), (14, False)):
        moved = mel + 0.3 * np.cos(order * angle)[:, None]
        expected = 10 / math.log(10) * math.sqrt(2) * 0.3 if seen else 0
        along = metrics.cepstra(moved) - metrics.cepstra(mel)
        assert np.sqrt(2 * np.square(along).sum(0)) * 10 / math.log(10) == pytest.approx(expected, abs=1e-6)
        # along the path frames may be paired otherwise, which can only come out nearer
        assert mcd(moved, mel) <= expected + 1e-6
    still = np.repeat(mel[:, :1], 9, axis=1)
    assert mcd(still + 0.3 * np.cos(angle)[:, None], still) == pytest.approx(1.842, abs=1e-3)


def test_the_spread_and_the_shift_of_f0_are_those_of_the_sound():
    flat, lively, high = buzz(depth=0.02), buzz(), buzz(f0=200 * 2 ** (3 / 12))
    flat_spread, spread, high_spread = (metrics.measure_alone(each)["f0_spread"][0] for each in (flat, lively, high))
    assert spread == pytest.approx(0.2 / math.sqrt(2), rel=0.1)  # of a sine, seen through a window
    assert flat_spread < 0.03
    pairs = metrics.compare(high, lively)
    assert pairs["f0_shift"] == (pytest.approx(3, abs=0.15), 1)
    assert 0.09 < pairs["f0_rmse"][0] < 0.18  # 0.173 on the diagonal, which the path leaves for harmonics that meet
    assert pairs["voicing_error"][0] <= 0.05 * pairs["voicing_error"][1]
    assert pairs["f0_spread_ratio"] == (high_spread, spread)


def test_lengths_and_variance_are_by_the_recordings():
    def sound(seconds, mel):
        return Sound(np.zeros(round(seconds * RATE), np.float32), RATE, mel, np.zeros((2, mel.shape[1])))

    mel = random_mel()
    pairs = metrics.compare(sound(3, 0.5 * mel), sound(2, mel))
    assert pairs["duration"] == (1.5, 1) and pairs["duration_total"] == (3, 2)
    top, bottom = pairs["global_variance"]
    assert top / bottom == pytest.approx(0.25)
    assert not pairs.keys() & {"f0_spread_ratio", "f0_shift", "f0_rmse"}  # nothing was voiced
    assert pairs["voicing_error"][0] == 0


def test_errors_of_the_melody_are_those_put_in():
    mel = random_mel()
    path = metrics.warp(mel, mel)
    assert sorted(map(tuple, path)) == [(i, i) for i in range(60)]
    contour = np.stack([np.full(60, math.log(200)), np.arange(60) < 40])
    other = contour.copy()
    other[0, :20] += 0.3
    other[1, 32:40], other[1, 50:52] = 0, 1  # which leaves 32 frames that are voiced in both
    errors = metrics.melody_errors(other, contour, path)
    assert errors["voicing_error"] == (10, 60)
    assert errors["f0_rmse"] == (pytest.approx(0.3 * math.sqrt(20 / 32)), 1)
    assert metrics.melody_errors(contour, contour, path) == {"voicing_error": (0, 60), "f0_rmse": (0, 1)}


def test_the_path_is_that_of_a_stretched_clip():
    mel, times = random_mel(), np.tile([1, 2], 30)
    stretched = np.repeat(mel, times, axis=1)
    assert mcd(stretched, mel) < 1e-6 and mcd(mel, stretched) < 1e-6
    assert mcd(random_mel(seed=1), mel) > 2
    contour = np.stack([np.linspace(5, 6, 60), np.arange(60) % 20 < 15])
    errors = metrics.melody_errors(np.repeat(contour, times, axis=1), contour, metrics.warp(stretched, mel))
    assert errors["voicing_error"][0] == 0 and errors["f0_rmse"][0] < 1e-6


def test_a_wav_of_another_rate_is_the_same_sound(tmp_path):
    t = np.arange(48000) / 48000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * t), 48000)
    wav = metrics.read_wav(tmp_path / "a.wav", RATE)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert len(wav) == RATE and np.abs(wav - expected)[100:-100].max() < 0.01


def test_a_sound_of_some_samples_or_of_nothing_is_measured(tmp_path):
    save_wav(tmp_path / "short.wav", voiced()[:20], RATE)
    save_wav(tmp_path / "silent.wav", np.zeros(round(0.3 * RATE), np.float32), RATE)
    wavs = {"recording": tmp_path / "short.wav", "silent": tmp_path / "silent.wav"}
    found = metrics.measure_clip(Job("some words", wavs, CONFIG))
    assert found["silent"]["pairs"]["wer"][1] == 2
    assert all(np.isfinite(pair).all() for one in found.values() for pair in one["pairs"].values())


def test_a_sound_is_compared_with_the_other_recordings_by_the_same_speaker():
    def clip(**embeddings):
        return {name: {"pairs": {}, "embedding": np.array(each)} for name, each in embeddings.items()}

    clips = [
        clip(recording=[1.0, 0.0], one_step=[0.6, 0.8]),
        clip(recording=[0.0, 1.0], one_step=[0.0, 1.0]),
        clip(recording=[-1.0, 0.0]),  # another speaker's only one
        clip(recording=[0.6, 0.8], copy=[0.6, 0.8]),
        {"one_step": {"pairs": {}, "embedding": None}},  # nobody speaks
    ]
    metrics.compare_speakers(clips, ["ann", "ann", "ben", "ann", "ann"])
    found = [{name: one["pairs"].get("speaker") for name, one in each.items()} for each in clips]
    first = np.array([0.6, 1.8]) / math.hypot(0.6, 1.8)
    assert found[0] == {"recording": (pytest.approx(first[0]), 1), "one_step": (pytest.approx(first @ [0.6, 0.8]), 1)}
    assert found[2] == {"recording": None} and found[4] == {"one_step": None}
    assert found[3]["copy"] == found[3]["recording"] == (pytest.approx(1.4 / math.sqrt(2)), 1)
    assert not any("embedding" in one for each in clips for one in each.values())


def test_another_speaker_is_farther_away(real_root):
    pytest.importorskip("resemblyzer", reason=metrics.NO_SPEAKER)
    texts = read_transcripts(real_root / "metadata.csv")
    names = list(texts)[:4]
    robots = demo.speak([texts[name] for name in names], CONFIG)
    clips = []
    for name, robot in zip(names, robots):
        wavs = {"recording": metrics.read_wav(real_root / "wavs" / f"{name}.wav", RATE), "robot": robot}
        clips.append({kind: {"pairs": {}, "embedding": metrics.embedding_of(Sound(wav, RATE, *2 * [np.empty(0)]))}
                      for kind, wav in wavs.items()})  # fmt: skip
    metrics.compare_speakers(clips, [None] * len(clips))
    own, other = (np.mean([clip[kind]["pairs"]["speaker"][0] for clip in clips]) for kind in ("recording", "robot"))
    assert own > 0.8 > own - 0.1 > other
    assert metrics.embedding_of(Sound(np.zeros(RATE, np.float32), RATE, *2 * [np.empty(0)])) is None


def test_speech_is_recognised_whatever_was_heard_before(real_root):
    texts, (one, other) = read_transcripts(real_root / "metadata.csv"), ("LJ002-0035", "LJ001-0008")
    wavs = [metrics.read_wav(real_root / "wavs" / f"{name}.wav", RATE) for name in (one, other)]
    heard = metrics.recognise(wavs[0], RATE, "none")
    score = metrics._decoder().hyp().best_score  # shows a change that the words may not
    metrics.recognise(wavs[1], RATE, "none")
    assert (metrics.recognise(wavs[0], RATE, "none"), metrics._decoder().hyp().best_score) == (heard, score)
    (edits, n), (wrong, _) = (metrics.error_rates(metrics.letters(texts[name]), heard)["cer"] for name in (one, other))
    assert edits < 0.5 * n and edits < wrong


# -- every measure that is shown tells a good voice from one that is broken where it listens


HEARD_IN_NOISE = ("cer", "wer", "distillmos", "mcd", "voicing_error", "global_variance")
BETTER_IF_MORE = ("distillmos", "global_variance")
BROKEN = {  # the sound of buzz() that each of the others reacts to, and what it then is, by its value of a good one
    "f0_rmse": ({"depth": 0}, (2, 1e9)),
    "duration": ({"seconds": 1.8}, (1.49, 1.51)),
    "duration_total": ({"seconds": 1.8}, (1.49, 1.51)),
    "f0_spread": ({"depth": 0}, (0, 0.2)),
    "f0_spread_ratio": ({"depth": 0}, (0, 0.2)),
    "f0_shift": ({"f0": 300}, (10, 1e9)),
}
OF_THE_PROCESS = ("real_time_factor", "real_time_factor_cold", "memory")  # in test_evaluate.py, with a slow voice
OF_THE_SPEAKER = ("speaker",)  # above, with a robot
OF_A_GPU = ("real_time_factor_gpu", "real_time_factor_gpu_cold", "memory_gpu")  # there too


def test_no_measure_is_shown_without_a_check():
    assert sorted([*HEARD_IN_NOISE, *BROKEN, *OF_THE_SPEAKER, *OF_THE_PROCESS, *OF_A_GPU]) == sorted(metrics.MEASURES)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_far_from_what_is_good(name):
    changes, (low, high) = BROKEN[name]
    good, broken = (
        {**metrics.compare(sound, buzz()), "f0_spread": (float(sound.log_f0.std()), 1)}[name]
        for sound in (buzz(f0=204.0), buzz(**changes))
    )
    assert low < (broken[0] / broken[1]) / (good[0] / good[1]) < high


def test_more_noise_is_worse_to_every_measure_that_listens(real_root, tmp_path):
    path = real_root / "wavs" / "LJ001-0008.wav"
    wav, wavs = metrics.read_wav(path, RATE), {"recording": path}
    noise = np.random.default_rng(0).standard_normal(len(wav)).astype(np.float32) * wav.std()
    for name, snr in (("noisy", 5), ("drowned", -10)):
        noisy, wavs[name] = wav + noise * 10 ** (-snr / 20), tmp_path / f"{name}.wav"
        save_wav(wavs[name], noisy / max(1, np.abs(noisy).max()), RATE)
    reference = metrics.letters(read_transcripts(real_root / "metadata.csv")[path.stem])
    found = [one["pairs"] for one in metrics.measure_clip(Job(reference, wavs, CONFIG)).values()]
    for name in HEARD_IN_NOISE:
        clean, noisy, drowned = (pairs[name][0] / pairs[name][1] for pairs in found)
        assert clean > noisy > drowned if name in BETTER_IF_MORE else clean < noisy < drowned, name
    assert found[0]["distillmos"][0] > 4 and found[2]["distillmos"][0] < 2


def test_pairs_that_are_shuffled_are_far_worse(real_root):
    recordings = [Sound.read(real_root / f"wavs/{name}.wav", CONFIG) for name in ("LJ002-0198", "LJ001-0170")]
    for own, other in (recordings, recordings[::-1]):
        quieter = Sound.of(0.7 * own.wav, CONFIG)
        right, wrong = (metrics.compare(quieter, recording) for recording in (own, other))
        for name, least in (("mcd", 5), ("voicing_error", 0.1), ("f0_rmse", 0.1)):
            value, far = (pairs[name][0] / pairs[name][1] for pairs in (right, wrong))
            assert far > max(least, 5 * value), name


# -- over clips


def mean_of(values, seed=0):
    columns = np.stack([values, np.ones(len(values))], axis=1)
    return metrics.bootstrap(columns, lambda sums: sums[..., 0] / sums[..., 1], seed)


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
    nothing = metrics.bootstrap(np.zeros((3, 2)), lambda sums: sums[..., 0] / sums[..., 1], 0)
    assert nothing == {"value": None, "low": None, "high": None}


def test_rates_are_of_all_characters_and_differences_are_paired():
    recordings = [{"cer": (1, 10)}, {"cer": (0, 90)}, {"cer": (5, 10)}, {}]
    clips = [{"cer": (2, 10)}, {"cer": (9, 90)}, {}, {"cer": (9, 9)}]
    found, differences = metrics.summarise(clips, recordings, 0, ["cer"])
    assert found["cer"]["value"] == pytest.approx(20 / 109) and found["cer"]["clips"] == 3
    assert differences["cer"]["value"] == pytest.approx(0.11 - 0.01) and differences["cer"]["clips"] == 2
    assert metrics.summarise(clips, recordings, 0, [])[1] == {}
    found, _ = metrics.summarise([{"real_time_factor": (t, 2.0)} for t in (1, 1, 90)], [{}] * 3, 0, [])
    assert found["real_time_factor"] == {"value": 0.5, "low": None, "high": None, "clips": 3}


def test_a_few_clips_are_pooled_as_all_of_them_are():
    clips = [{"cer": (2, 10), "distillmos": (3.0, 1), "f0_rmse": (0, 0)}, {"cer": (9, 90), "distillmos": (2.0, 1)}, {}]
    assert metrics.pooled(clips) == {"cer": pytest.approx(0.11), "distillmos": 2.5}
    assert metrics.pooled([{"cer": (0, 10)}]) == {"cer": 0} and metrics.pooled([]) == {}


def test_what_is_not_installed_is_left_out_and_the_rest_is_the_same(monkeypatch):
    heard = dict.fromkeys(("cer", "wer"), (1, 2))
    monkeypatch.setattr(metrics, "opinion", lambda *_: {"distillmos": (4.0, 1)})
    monkeypatch.setattr(metrics, "recognise", lambda *_: "some words")
    monkeypatch.setattr(metrics, "error_rates", lambda *_: heard)
    sound = Sound.of(voiced(), CONFIG)
    monkeypatch.setattr(metrics, "missing_packages", lambda names: {*names} & {*metrics.SPEAKER})
    whole = metrics.measure(sound, sound, "some words", "none")
    assert heard.items() < whole["pairs"].items() and whole["embedding"] is None
    for missing, gone in ((metrics.POCKETSPHINX, heard), (metrics.DISTILLMOS, ["distillmos"])):
        without = {*missing, *metrics.SPEAKER}
        monkeypatch.setattr(metrics, "missing_packages", lambda names, without=without: {*names} & without)
        pairs = metrics.measure(sound, sound, "some words", "none")["pairs"]
        assert pairs == {name: pair for name, pair in whole["pairs"].items() if name not in gone}


def test_distillmos_hears_eight_seconds_at_a_time_and_a_short_sound_again_and_again(monkeypatch):
    heard = []

    def listen(window):
        heard.append(window[0].numpy())
        return torch.tensor(float(len(heard)))

    monkeypatch.setattr(metrics, "_listener", lambda: listen)
    short, size = np.random.default_rng(0).uniform(-0.5, 0.5, 30_000).astype(np.float32), 8 * metrics.RATE
    assert metrics.opinion(short, metrics.RATE) == {"distillmos": (1.0, 1)}
    np.testing.assert_array_equal(heard.pop(), np.tile(short, 5)[:size])
    long = np.tile(short, 10)  # of which the last 2.75 seconds fill no window
    assert metrics.opinion(long, metrics.RATE) == {"distillmos": (1.5, 1)}
    np.testing.assert_array_equal(np.concatenate(heard), long[: 2 * size])


def noisy(wav, decibels, rng):
    """A recording in white noise, so many dB under it."""
    noise = rng.standard_normal(len(wav)) * np.sqrt(np.square(wav).mean() / 10 ** (decibels / 10))
    return np.clip(wav + noise, -1, 1).astype(np.float32)


@pytest.mark.slow  # DistillMOS takes two seconds a clip
def test_distillmos_puts_recordings_over_copies_over_griffin_lim_over_noise_and_over_a_robot(real_root):
    import librosa

    from sampling import Voice

    kinds = ("recording", "copy", "griffin_lim", "noise", "robot")
    rng, opinions = np.random.default_rng(0), {name: [] for name in kinds}
    voice = Voice.load(ROOT / "checkpoint" / "ljspeech-small")
    texts = read_transcripts(real_root / "metadata.csv")
    for name, robot in zip(texts, demo.speak(texts.values(), CONFIG)):
        wav = metrics.read_wav(real_root / "wavs" / f"{name}.wav", RATE)
        mel = librosa.feature.melspectrogram(y=wav, sr=RATE, n_fft=1024, hop_length=256, n_mels=80, fmax=8000, power=1)
        again = librosa.feature.inverse.mel_to_audio(mel, sr=RATE, n_fft=1024, hop_length=256, power=1, fmax=8000)
        sounds = {"recording": wav, "copy": voice.copy(wav), "griffin_lim": again.astype(np.float32),
                  "noise": noisy(wav, 10, rng), "robot": robot}  # fmt: skip
        for kind, sound in sounds.items():
            opinions[kind].append(metrics.opinion(sound, RATE)["distillmos"][0])
    means = {kind: np.mean(values) for kind, values in opinions.items()}
    assert means["recording"] > means["copy"] + 0.1 > means["griffin_lim"] + 0.3 > means["noise"] + 0.5
    assert means["recording"] > means["robot"] + 0.3


@pytest.mark.slow  # Whisper takes a second a clip, where its model is to be had: by name, or a folder in RECOGNISER
def test_whisper_hears_through_noise_and_tells_texts_from_their_shuffled_words(real_root):
    model = os.environ.get("RECOGNISER", "base.en")
    if "Whisper" not in metrics.recogniser_name(model):
        pytest.skip(f"no Whisper {model}")
    rng, rates = np.random.default_rng(0), {kind: [] for kind in ("recording", "noise", "shuffled")}
    for name, text in read_transcripts(real_root / "metadata.csv").items():
        wav, reference = metrics.read_wav(real_root / "wavs" / f"{name}.wav", RATE), metrics.letters(text)
        heard = metrics.recognise(wav, RATE, model)
        rates["recording"].append(metrics.error_rates(reference, heard)["cer"])
        heard_in_noise = metrics.recognise(noisy(wav, 20, rng), RATE, model)
        rates["noise"].append(metrics.error_rates(reference, heard_in_noise)["cer"])
        shuffled = " ".join(rng.permutation(reference.split()))
        rates["shuffled"].append(metrics.error_rates(shuffled, heard)["cer"])
    cer = {kind: np.divide(*np.sum(pairs, axis=0)) for kind, pairs in rates.items()}
    assert cer["recording"] < 0.05 and abs(cer["noise"] - cer["recording"]) < 0.02
    assert cer["shuffled"] > 10 * cer["recording"] and cer["shuffled"] > 0.4


def test_whisper_is_asked_where_its_model_is_and_pocketsphinx_else(monkeypatch, caplog):
    wav, asked = voiced(), []

    class Whisper:
        def transcribe(self, heard, **settings):
            asked.append((len(heard), settings["language"]))
            return iter([SimpleNamespace(text=" In 1813,"), SimpleNamespace(text=" Mr. Lee.")]), None

    monkeypatch.setattr(metrics, "_whisper", lambda model: Whisper() if model == "models/base.en" else "not there")
    monkeypatch.setattr(metrics, "_hear_by_pocketsphinx", lambda _: "another")
    assert metrics.recogniser_name("models/base.en") == "Whisper base.en"
    assert metrics.recognise(wav, RATE, "models/base.en") == "in eighteen thirteen mister lee"
    assert asked == [(round(len(wav) * metrics.RATE / RATE), "en")]
    assert metrics.recogniser_name("none") == "pocketsphinx" and metrics.recognise(wav, RATE, "none") == "another"
    monkeypatch.undo()
    with caplog.at_level("WARNING"):
        assert metrics.recogniser_name("no/such folder") == metrics.recogniser_name("no/such folder") == "pocketsphinx"
    assert len(caplog.records) == 1 and "Whisper no/such folder is not to be had" in caplog.text


def test_the_recogniser_is_asked_for_english_only():
    assert metrics.reference_of("Dr. Lee.", "en-us") == "doctor lee"
    assert metrics.reference_of("Dr. Lee.", "de") == metrics.reference_of(None, "en-gb") == ""
    assert metrics.missing_packages(["json", "no_such_package"]) == ["no_such_package"]
    assert metrics.missing_packages() == []


@pytest.mark.slow  # starting a process takes seconds
def test_several_processes_find_the_same_in_the_same_order(tmp_path, monkeypatch):
    jobs = []
    for i in range(3):
        save_wav(tmp_path / f"{i}.wav", voiced(0.2 + 0.1 * i), RATE)
        jobs.append(Job("", {"recording": tmp_path / f"{i}.wav"}, CONFIG))
    alone = list(metrics.measure_all(jobs))
    monkeypatch.setattr(metrics, "CLIPS_A_PROCESS", 1)
    monkeypatch.setattr(metrics, "n_cpus", lambda: 2)
    monkeypatch.setattr(metrics, "measure_clip", measure_elsewhere)
    apart = list(metrics.measure_all(jobs))
    for clips in (alone, apart):
        metrics.compare_speakers(clips, [None] * len(clips))  # which takes the embeddings out
    assert apart == alone


STARTER = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from evaluation.metrics import start_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_worker)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_worker_ends_with_the_process_that_started_it(tmp_path):
    (tmp_path / "starter.py").write_text(STARTER)
    command = [sys.executable, str(tmp_path / "starter.py")]
    starter = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert int(starter.stdout.readline()) != starter.pid
    starter.kill()
    starter.communicate(timeout=60)  # whoever is left has its standard output open


def measure_elsewhere(job):
    """measure_clip(), but only in a process of its own."""
    assert multiprocessing.parent_process() is not None
    return metrics.measure_clip(job)
