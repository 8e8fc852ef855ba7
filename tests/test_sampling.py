"""Speaking: a tiny voice of random weights, from its two files to a WAV, from Python and from the command line."""

import dataclasses
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn.utils import parametrize

import export
import sampling
from data_util import config as configuration
from data_util.config import ROOT
from evaluation.held_out import align_held_out, encode_along
from model.nisets import NiSETS, Plan
from runtime import chunking, sound_files
from runtime import command as speaking
from sampling import Settings, Speech, Voice
from tests.runs import spy, stirred
from text import SYMBOLS, FrontEnd, TextError, markup
from text.symbols import label
from training import checkpoint
from training.checkpoint import CheckpointError

TEXT = "A short sentence, spoken by nobody."
CONFIG = configuration.load(ROOT / "tests" / "tiny.yaml")
HOP, RATE = CONFIG.audio.hop_length, CONFIG.audio.sample_rate
STEP = 1 / 32768  # of 16 bits


def weights_of(step=0):
    """Random weights, of each step others, that speak for about two frames a symbol, and audibly."""
    model = stirred(CONFIG, len(SYMBOLS), 0.1 + step / 1000, log_duration=0.7)
    model.latent_mean.fill_(-5.4)
    model.latent_std.fill_(2.1)
    return model.state_dict()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """checkpoint/ with two runs: off_old has steps 10 and 20, off_new has step 5 and was written last."""
    runs = tmp_path_factory.mktemp("checkpoint")
    for i, (run, step) in enumerate((("off_old", 10), ("off_old", 20), ("off_new", 5))):
        path = checkpoint.save_voice(runs / run, step, weights_of(step), CONFIG, SYMBOLS)
        os.utime(path, (1000 + i, 1000 + i))
        (path.parent / "log.jsonl").write_text(json.dumps({"kind": "valid", "step": step, "cer": 0.1}) + "\n")
    (runs / "off_empty").mkdir()
    return runs


@pytest.fixture(scope="module")
def voice(runs):
    return Voice.load(runs / "off_new")


@pytest.fixture(scope="module")
def brief(voice):
    """A voice whose longest piece is 30 characters of IPA."""
    return Voice(dataclasses.replace(voice.saved, config=configuration.change(CONFIG, ["text.longest=30"])))


@pytest.fixture(autouse=True)
def in_these_runs(monkeypatch, runs, tmp_path):
    monkeypatch.setattr(checkpoint, "RUNS", runs)
    monkeypatch.chdir(tmp_path)


def samples(voice, text=TEXT, **settings):
    return voice.speak(text, **{"seed": 1, **settings}).wav.tobytes()


# -- from Python


def test_a_voice_is_loaded_by_run_or_by_file(runs, tmp_path):
    assert Voice.load(runs / "off_old").saved.step == 20
    assert Voice.load(str(runs / "off_old" / "voice_00000010.safetensors")).saved.step == 10
    voice = Voice.load(runs / "off_new")
    assert voice.model.generator.tiled is not None  # on a CPU
    assert not voice.model.training
    assert not any(parametrize.is_parametrized(module) for module in voice.model.modules())
    assert not any(parameter.requires_grad for parameter in voice.model.parameters())
    with pytest.raises(CheckpointError, match="no such file"):
        Voice.load(tmp_path / "voice_1.safetensors")


def test_speech_is_what_it_says(voice):
    """And one evaluation of the model that was saved, to the rounding of folded weight norms."""
    speech = voice.speak(TEXT, seed=1)
    assert isinstance(speech, Speech)
    assert speech.wav.dtype == np.float32 and 0.001 < np.abs(speech.wav).max() <= 1
    phonemes, ids = FrontEnd().phonemise(TEXT), FrontEnd().to_ids(speech.phonemes)
    assert (speech.sample_rate, speech.text, speech.phonemes) == (RATE, TEXT, phonemes)
    assert speech.durations.shape == (len(ids),)
    assert speech.durations.dtype == np.int64 and speech.durations.min() >= 0
    assert speech.durations.sum() * HOP == len(speech.wav) and speech.seconds == len(speech.wav) / RATE
    model = NiSETS(CONFIG, len(SYMBOLS)).eval()
    model.load_state_dict(weights_of(5))
    spoken = model.synthesise(torch.tensor([ids]), generator=chunking.noise_of(1, phonemes))
    assert np.abs(speech.wav - spoken.wav[0, 0].numpy()).max() < 1e-5


@pytest.mark.parametrize("length_scale", [1.0, 2.0])
def test_a_break_is_a_pause_of_its_length(voice, length_scale):
    text = 'A short <break time="300ms"/> sentence.<break time="2s"/>'
    speech = voice.speak(text, seed=1, length_scale=length_scale)
    ids, pauses = (method(speech.phonemes) for method in (voice.front_end.to_ids, voice.front_end.pauses))
    assert [(label(ids[i]), seconds) for i, seconds in pauses.items()] == [(",", 0.3), (".", 2.0)]
    assert [speech.durations[i] for i in pauses] == [round(0.3 * RATE / HOP), round(2 * RATE / HOP)]
    assert speech.durations.sum() * HOP == len(speech.wav)
    plain = voice.speak("A short, sentence.", seed=1, length_scale=length_scale)
    others = [i for i in range(len(ids)) if i not in pauses]
    assert voice.front_end.to_ids(plain.phonemes) == ids
    assert speech.durations[others].tolist() == plain.durations[others].tolist()


def test_phonemes_and_a_lexicon_are_said(runs, tmp_path):
    (tmp_path / "lexicon.txt").write_text("sentence = [[ kˈæt ]]", encoding="utf-8")
    voice = Voice.load(runs / "off_new", lexicon=tmp_path / "lexicon.txt")
    assert voice.speak("A sentence, [[ dˈɑːɡ ]].").phonemes == "ɐ kˈæt, dˈɑːɡ."


def test_another_phonemizer_is_another_voice_to_a_manifest(runs, tmp_path, capsys):
    (tmp_path / "texts").write_text("A tomato.\n", encoding="utf-8")
    out = tmp_path / "out"
    for phonemizer, is_new in (("espeak", True), ("cmudict", True), ("cmudict", False)):
        words = ["-id", "off_new", "--phonemizer", phonemizer, "-f", str(tmp_path / "texts"), "-o", str(out)]
        assert sampling.main(words) == 0
        assert f"{int(is_new)} texts spoken" in capsys.readouterr().out
    assert sampling.main(["-id", "off_new", "--phonemizer", "other", "A tomato.", "-o", str(out / "a.wav")]) == 1
    assert "must be one of espeak, cmudict" in capsys.readouterr().err
    assert runs.is_dir() and export.parse_args(["-o", "x", *words[2:4]]).overrides == ["text.phonemizer=cmudict"]


def test_the_same_seed_is_the_same_sound_whatever_was_said_before(voice):
    texts = ["One.", "Two of them.", TEXT]
    forth = [samples(voice, text) for text in texts]
    torch.manual_seed(99)
    assert [samples(voice, text) for text in reversed(texts)][::-1] == forth
    assert samples(voice, seed=2) != forth[2]
    assert samples(voice, seed=None) != samples(voice, seed=None)  # a new one each time

    def noise(seed, phonemes):
        return tuple(chunking.noise_of(seed, phonemes).standard_normal(4))

    assert noise(1, "ab") == noise(1, "ab")
    assert len({noise(seed, phonemes) for seed in (0, 1, 2**40) for phonemes in ("ab", "ba", "ab ", "a")}) == 12


def test_durations_come_without_the_sound(brief):
    whole, silent = (method(STORY, seed=1) for method in (brief.speak, brief.predict_durations))
    assert len(silent.wav) == 0 and np.array_equal(silent.durations, whole.durations)
    assert brief.timestamps(silent, "json") == brief.timestamps(whole, "json")


def test_solvers_differ_in_more_steps_than_one(voice):
    one, default = voice.speak(TEXT, seed=1), samples(voice, n_timesteps=2)
    for solver in ("posterior", "dpm2m", "ddim", "ancestral", "sde"):
        assert samples(voice, solver=solver) == one.wav.tobytes()
    found = {}
    for solver in ("dpm2m", "ddim", "ancestral", "sde", "euler"):
        more = voice.speak(TEXT, seed=1, n_timesteps=2, solver=solver)
        assert len(one.wav) == len(more.wav) and np.isfinite(more.wav).all()
        assert not np.allclose(one.wav, more.wav, atol=1e-5)
        found[solver] = more.wav.tobytes()
    assert found["dpm2m"] == default and len(set(found.values())) >= 4


def test_temperature_scales_the_noise_and_length_scale_the_durations(voice):
    assert samples(voice, temperature=0) == samples(voice, temperature=0, seed=2)
    assert len({samples(voice, temperature=temperature) for temperature in (0, 0.5, 1)}) == 3
    frames = {scale: voice.speak(TEXT, seed=1, length_scale=scale).durations.sum() for scale in (0.5, 1.0, 2.0)}
    assert frames[2.0] == pytest.approx(2 * frames[1.0], abs=2)
    assert frames[0.5] == pytest.approx(frames[1.0] / 2, abs=2)
    assert len(voice.speak(TEXT, seed=1, length_scale=1e-6).wav) == HOP  # never nothing


def test_one_step_along_a_recording_has_its_durations_and_no_others(voice, brief):
    spoken = voice.speak(TEXT, seed=1).wav
    along = voice.speak_along(spoken, TEXT, seed=1)
    mel = voice.model.features(torch.from_numpy(spoken)[None])
    (piece,) = voice.reader.pieces(TEXT, Settings())
    x = torch.tensor(piece.ids)[None]
    durations = align_held_out(voice.model, x, mel, None)
    mu_x, _ = encode_along(voice.model, x, mel, None, durations)
    noise = torch.from_numpy(chunking.noise_of(1, piece.phonemes).standard_normal(mel.shape, dtype=np.float32))
    plan = Plan(mu_x.repeat_interleave(durations[0], dim=2), durations, None, noise, np.random.default_rng())
    assert len(along) == len(spoken) and np.abs(along).max() > STEP
    np.testing.assert_allclose(along, voice.model.decode([plan])[0].wav[0, 0].clamp(-1, 1), atol=1e-5)
    with pytest.raises(TextError, match="spoken in pieces, a recording along one"):
        brief.speak_along(spoken, TEXT)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"n_timesteps": -1}, "n_timesteps = -1: must be at least 1"),
        ({"solver": "heun"}, "solver 'heun': must be one of none, posterior, dpm2m, ddim"),
        ({"seed": -1}, "seed = -1: must be 0 or more"),
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"temperature": float("inf")}, "temperature = inf"),
        ({"length_scale": 0}, "length_scale = 0"),
        ({"length_scale": float("nan")}, "length_scale = nan"),
        ({"sentence_pause": -1}, "sentence_pause = -1: must be 0 to 10 seconds"),
        ({"sentence_pause": float("nan")}, "sentence_pause = nan"),
        ({"loudness": 1}, "loudness = 1: must be over -70 and at most 0 LUFS"),
        ({"loudness": float("nan")}, "loudness = nan"),
    ],
)
def test_settings_out_of_range_are_refused(settings, match):
    with pytest.raises(ValueError, match=re.escape(match)):
        Settings(**settings)


@pytest.mark.parametrize(
    ("text", "match"),
    [("", "nothing to say"), ("\n", "nothing to say"), ("...", "nothing to say"),
     ("a " * 5_000_000, "10,000,000 characters: at most 1,000,000, so speak it in parts")],
    ids=["empty", "blank", "dots", "ten megabytes"],
)  # fmt: skip
def test_nothing_to_say_and_too_much_are_refused(voice, text, match):
    with pytest.raises(TextError, match=match):
        voice.speak(text)


STORY = 'One two, three. Four five; six [[ fəˈniːmz ]] <break time="300ms"/> seven! Eight nine ten eleven twelve?'
FADED = round(chunking.FADE * RATE)


def test_a_long_text_is_its_pieces_one_after_another(brief, tmp_path):
    speech = brief.speak(STORY, seed=1)
    assert speech.phonemes == FrontEnd().phonemise(STORY)
    pieces = brief.reader.pieces(STORY, Settings())
    assert len(pieces) > 2 and max(len(markup.pauses(piece.phonemes)[0][0]) for piece in pieces) <= 30
    at = 0
    for i, piece in enumerate(pieces):
        x = torch.tensor([piece.ids])
        alone = brief.model.synthesise(x, generator=chunking.noise_of(1, piece.phonemes), pauses=piece.pauses)
        alone = alone.wav[0, 0].clamp(-1, 1).numpy()
        inside = slice(FADED * (i > 0), len(alone) - FADED * (i < len(pieces) - 1))
        heard = speech.wav[at : at + len(alone)]
        assert np.abs(heard[inside] - alone[inside]).max() <= STEP
        after = speech.wav[at + len(alone) : at + len(alone) + piece.gap * HOP]
        assert not after.any()
        if i < len(pieces) - 1:  # without clicks: nothing jumps where two pieces meet
            assert abs(heard[-1]) < 1e-4 and abs(speech.wav[at + len(alone) + len(after)]) < 1e-4
        at += len(alone) + len(after)
    assert at == len(speech.wav) == speech.durations.sum() * HOP
    assert len(speech.durations) == len(speech.symbols) == len(speech.words)
    index = next(i for i, n in enumerate(speech.durations) if n == round(0.3 * RATE / HOP) and speech.symbols[i] == ",")
    assert speech.words[index] is None
    wavs = brief.speak_pieces(STORY, seed=1)
    assert sound_files.write_sound(tmp_path / "a.wav", wavs, RATE) == speech.seconds
    assert np.abs(read(tmp_path / "a.wav") - speech.wav).max() <= STEP / 2


@pytest.mark.parametrize("loudness", [None, -40.0])
def test_a_stream_is_made_as_it_is_taken(brief, monkeypatch, loudness):
    settings = {"seed": 1, "length_scale": 3.0, "loudness": loudness}
    whole, n_pieces = brief.speak(STORY, **settings).wav, len(brief.reader.pieces(STORY, Settings()))
    made = []
    spy(monkeypatch, brief.model, "vocode", lambda *_, **__: made.append(1))
    stream = brief.stream(STORY, **settings)
    assert made == []
    first = next(stream)
    assert len(made) == 1 and (loudness or len(first) == chunking.FIRST_CHUNK * HOP)
    wav = np.concatenate([first, *stream])
    assert len(made) == n_pieces if loudness else len(made) >= 2 * n_pieces
    assert wav.shape == whole.shape and np.abs(wav - whole).max() <= 1e-5
    with pytest.raises(ValueError, match="temperature = -1"):
        brief.stream(STORY, temperature=-1)


@pytest.mark.parametrize("budget", [1, 150, sampling.BATCH_FRAMES])
def test_a_batch_is_its_texts_alone(brief, monkeypatch, budget):
    texts = [STORY, "Hello.", TEXT, "Hello.", "A much longer one of these, so that there is some padding."]
    alone = [brief.speak(text, seed=3) for text in texts]
    sizes = []

    def watch(plans, *_):
        sizes.append(len(plans) * max(plan.mu.shape[-1] for plan in plans))
        assert len(plans) == 1 or sizes[-1] <= budget

    monkeypatch.setattr(sampling, "BATCH_FRAMES", budget)
    spy(monkeypatch, brief.model, "decode", watch)
    for one, other in zip(alone, brief.speak_batch(texts, seed=3), strict=True):
        for name in ("text", "phonemes", "symbols", "words"):
            assert getattr(one, name) == getattr(other, name)
        assert np.array_equal(one.durations, other.durations)
        assert np.abs(one.wav - other.wav).max() <= 1e-5  # under a step of 16 bits, which is 3e-5
    n_pieces = sum(len(brief.reader.pieces(text, Settings())) for text in texts)
    assert len(sizes) == n_pieces if budget == 1 else len(sizes) < n_pieces
    assert brief.speak_batch([]) == []
    for speak_batch in (brief.speak_batch, super(Voice, brief).speak_batch):
        with pytest.raises(TypeError, match="takes a list of texts"):
            speak_batch("Hello.")


def test_the_pause_between_sentences_can_be_set(voice):
    short, long = (voice.speak("One. Two? Three!", seed=1, sentence_pause=pause) for pause in (0.0, 0.5))
    n_frames = round(0.5 * RATE / HOP)
    assert long.durations.sum() - short.durations.sum() == 2 * n_frames
    gaps = [i for i, symbol in enumerate(long.symbols) if symbol == ""]
    assert [long.durations[i] for i in gaps] == [n_frames, n_frames]
    assert "" not in voice.speak("One. Two? Three!", seed=1).symbols


def test_loudness_is_brought_to_a_target(voice):
    plain = voice.speak(TEXT, seed=1).wav
    quiet, quieter = (voice.speak(TEXT, seed=1, loudness=loudness).wav for loudness in (-40.0, -46.0))
    gain = np.abs(quiet).max() / np.abs(plain).max()
    np.testing.assert_allclose(quiet, gain * plain, atol=1e-6)  # nothing but a gain
    assert 20 * np.log10(np.abs(quiet).max() / np.abs(quieter).max()) == pytest.approx(6, abs=0.01)
    assert np.abs(voice.speak(TEXT, seed=1, loudness=0).wav).max() <= 0.991


def test_weights_and_symbols_of_another_model_are_refused(voice):
    wider = configuration.change(CONFIG, ["text_encoder.channels=32"])
    for changes, match in [
        ({"symbols": (*SYMBOLS, "Ω")}, "only here '', only there 'Ω'"),
        ({"symbols": SYMBOLS[:-1]}, f"only here '{SYMBOLS[-1]}', only there ''"),
        ({"symbols": (*SYMBOLS[:-2], SYMBOLS[-1], SYMBOLS[-2])}, "same symbols in another order"),
        ({"config": wider}, "weights and config do not fit"),
        ({"weights": {name: one for name, one in voice.saved.weights.items() if name != "latent_mean"}}, "latent_mean"),
    ]:
        with pytest.raises(CheckpointError, match=re.escape(match)) as caught:
            Voice(dataclasses.replace(voice.saved, **changes))
        assert ".safetensors" in str(caught.value) and "\n" not in str(caught.value)


# -- from the command line


def command(capsys, *arguments):
    """The status, the lines of standard output and those of standard error."""
    status = sampling.main([*map(str, arguments), "--device", "cpu"])
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err.splitlines()


def read(path):
    wav, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    return wav


def heard(path, speech):
    """Whether a file holds what a voice says, to 16 bits."""
    wav = read(path)
    return len(wav) == len(speech.wav) and np.abs(wav - speech.wav).max() <= STEP


def folder_holds(folder, voice, texts, **settings):
    """Whether a folder has these files alone, beside a manifest, with what the voice says of each text. texts: by
    name."""
    there = {path.name for path in folder.iterdir()} - {"manifest.jsonl"} == texts.keys()
    return there and all(heard(folder / name, voice.speak(text, seed=0, **settings)) for name, text in texts.items())


def test_one_text_to_one_wav(capsys, tmp_path, voice):
    out = tmp_path / "deep" / "out.wav"
    status, lines, errors = command(capsys, TEXT, "-o", out)
    assert (status, errors) == (0, [])
    assert lines[0] == "run off_new, step 5, on cpu" and len(lines) == 2
    assert re.fullmatch(rf"{out}: \d+\.\d\d s, real-time factor \d+\.\d+", lines[1])
    assert heard(out, voice.speak(TEXT, seed=0))
    options = ("-n", 3, "--solver", "ddim", "--seed", 7, "--temperature", 0.3, "--length-scale", 1.5)
    settings = {"n_timesteps": 3, "solver": "ddim", "seed": 7, "temperature": 0.3, "length_scale": 1.5}
    assert command(capsys, TEXT, "-o", out, *options)[0] == 0 and heard(out, voice.speak(TEXT, **settings))
    for more, step in (((), 20), (("-ckpt", 10), 10)):
        status, lines, _ = command(capsys, "Hello.", "-o", out, "-id", "off_old", *more)
        assert (status, lines[0]) == (0, f"run off_old, step {step}, on cpu")


def test_texts_to_a_folder(capsys, tmp_path, voice):
    texts = ["One; two/three.", "Four.", "Four.", "ha" * 25]
    status, lines, errors = command(capsys, *texts, "...")
    assert status == 1 and len(lines) == 5 and len(errors) == 1 and "nothing to say" in errors[0]  # the others are said
    names = ["000_One__two_three.wav", "001_Four.wav", "002_Four.wav", f"003_{'ha' * 20}.wav"]
    assert folder_holds(tmp_path / "speech", voice, dict(zip(names, texts)))
    assert lines[4].startswith(f"{Path('speech') / names[3]}: ")


LIST = "wavs/first clip.wav|Hello there.\n\n  Good day.  \nb|...\nsecond.FLAC|Ça va.\nv1.2|Hello.\n"
SAID = {"first clip.wav": "Hello there.", "001_Good_day.wav": "Good day.", "second.FLAC": "Ça va.",
        "v1.2.wav": "Hello."}  # fmt: skip


def said_of_file(capsys, out, *more, texts=LIST):
    """How many of these texts, in list.txt, were spoken, and how many were there."""
    Path("list.txt").write_text(texts, "utf-8")
    status, lines, errors = command(capsys, "-f", "list.txt", "-o", out, *more)
    assert status == 1 and sum("b.wav: nothing to say" in line for line in errors) == 1
    found = re.fullmatch(r".*out: (\d) texts spoken.*; (\d) were there", lines[1])
    return int(found[1]), int(found[2])


def test_a_file_of_texts_goes_on_where_it_stopped(capsys, tmp_path, voice):
    out = tmp_path / "out"
    assert said_of_file(capsys, out) == (4, 0) and folder_holds(out, voice, SAID)
    assert said_of_file(capsys, out) == (0, 4)
    (out / "second.FLAC").unlink()
    assert said_of_file(capsys, out) == (1, 3) and folder_holds(out, voice, SAID)
    assert said_of_file(capsys, out, "--overwrite") == (4, 0)


def test_what_changed_is_spoken_anew(capsys, tmp_path, voice):
    """An edited line, other settings, another voice; and an edit that is taken back."""
    out = tmp_path / "out"
    for text in ("Hello there.", "Good night.", "Hello there."):
        assert said_of_file(capsys, out, texts=LIST.replace("Hello there.", text)) in ((1, 3), (4, 0))
        assert folder_holds(out, voice, {**SAID, "first clip.wav": text})
    assert said_of_file(capsys, out, "--length-scale", 2) == (4, 0) and folder_holds(out, voice, SAID, length_scale=2.0)
    assert said_of_file(capsys, out, "-id", "off_old") == (4, 0)
    assert said_of_file(capsys, out, "-id", "off_old", "-ckpt", 10) == (4, 0)
    (tmp_path / "lexicon.txt").write_text("day = [[ kˈæt ]]", "utf-8")
    assert said_of_file(capsys, out, "-l", tmp_path / "lexicon.txt") == (4, 0)


def test_a_killed_process_leaves_no_claim(capsys, tmp_path, voice, monkeypatch):
    """Whatever moment it was killed at: what the manifest lists is what the files say."""
    out, texts = tmp_path / "out", tmp_path / "list.txt"
    assert said_of_file(capsys, out) == (4, 0)
    texts.write_text(LIST.replace("Hello there.", "Good night."), "utf-8")
    with monkeypatch.context() as patch:
        written = []
        add = speaking.Manifest.add
        patch.setattr(speaking.Manifest, "add", lambda *args: add(*args) if not written.append(1) and len(written) < 2
                      else (_ for _ in ()).throw(KeyboardInterrupt))  # fmt: skip
        status, _, errors = command(capsys, "-f", "list.txt", "-o", out)
        assert status == 130 and errors[-1] == "sampling.py: stopped"
    with open(out / "manifest.jsonl", "a") as file:
        file.write('{"file": "first cl')
    assert said_of_file(capsys, out) == (1, 3) and folder_holds(out, voice, SAID)
    assert len((out / "manifest.jsonl").read_text("utf-8").splitlines()) == 6  # of five files one was written again


def test_files_of_somebody_else_are_left_alone(capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.wav").write_text("a recording")
    (tmp_path / "list.txt").write_text("a|Hello.\nc|Hello.\n", "utf-8")
    status, lines, errors = command(capsys, "-f", "list.txt", "-o", "out")
    assert status == 0 and "1 texts spoken" in lines[1] and (tmp_path / "out" / "a.wav").read_text() == "a recording"
    assert "1 files were left alone, out/a.wav for one" in errors[-1] and "--overwrite replaces" in errors[-1]
    assert command(capsys, "-f", "list.txt", "-o", "out", "--overwrite")[0] == 0 and len(read("out/a.wav"))


def test_a_file_is_what_its_suffix_says(capsys, voice):
    assert command(capsys, TEXT, "-o", "any.Mp3")[0] == 0 and soundfile.info("any.Mp3").format == "MP3"
    assert np.std(read("any.Mp3")) == pytest.approx(np.std(voice.speak(TEXT, seed=0).wav), rel=0.2)


@pytest.fixture
def piped(monkeypatch):
    """A pipe for standard input, in which there are two lines, and a blank one between them."""
    reading, writing = os.pipe()
    os.write(writing, b"One. Two,\n\nthree.\n")
    os.close(writing)
    with open(reading, encoding="utf-8") as file:
        monkeypatch.setattr("sys.stdin", file)
        yield


@pytest.mark.usefixtures("piped")
@pytest.mark.parametrize("arguments", [("One. Two, three.",), ("-",), ()])
def test_standard_output_is_wav(tmp_path, capfdbinary, voice, arguments):
    """As it is made, of the whole of standard input where no text is given; all else is said on standard error."""
    assert sampling.main([*arguments, "-o", "-", "--device", "cpu"]) == 0
    captured = capfdbinary.readouterr()
    wav, rate = soundfile.read(io.BytesIO(captured.out), dtype="float32")
    whole = voice.speak("One. Two, three.", seed=0).wav
    assert rate == RATE and wav.shape == whole.shape and np.abs(wav - whole).max() <= STEP
    assert captured.err.startswith(b"run off_new") and not list(tmp_path.iterdir())


def test_a_file_of_texts_of_another_system(capsys, tmp_path, voice):
    (tmp_path / "list.txt").write_bytes("C:\\wavs\\a.wav|Ça va.\r\nb|Hello there.\r\n".encode("utf-16"))
    assert command(capsys, "-f", "list.txt", "-o", tmp_path / "out")[0] == 0
    assert folder_holds(tmp_path / "out", voice, {"a.wav": "Ça va.", "b.wav": "Hello there."})


@pytest.mark.parametrize("by", ["text", "file"])
def test_timestamps_are_written_beside_the_sound(capsys, tmp_path, voice, by):
    (tmp_path / "list.txt").write_text("a.wav|Nobody spoke, twice.\n", "utf-8")
    what = ("Nobody spoke, twice.", "-o", tmp_path / "a.wav") if by == "text" else ("-f", "list.txt", "-o", tmp_path)
    for kind, suffix in (("json", ".json"), ("srt", ".srt"), ("textgrid", ".TextGrid")):
        assert command(capsys, *what, "--timestamps", kind)[0] == 0
        assert (tmp_path / "a").with_suffix(suffix).stat().st_size > 0
    times = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert times["seconds"] == pytest.approx(len(read(tmp_path / "a.wav")) / RATE, abs=1e-9)
    assert [word["label"] for word in times["words"] if word["label"]] == ["Nobody", "spoke", "twice"]
    assert [word["label"] for word in times["written"] if word["label"]] == ["Nobody", "spoke,", "twice."]
    for tier in ("phonemes", "words", "written"):  # one after another, from the first sample to the last
        assert times[tier][0]["start"] == 0 and times[tier][-1]["end"] == times["seconds"]
        assert all(a["end"] == b["start"] for a, b in zip(times[tier], times[tier][1:]))
    speech = voice.speak("Nobody spoke, twice.", seed=0)
    said = "".join(span["label"] for span in times["phonemes"])
    assert said == "".join(s for s, n in zip(speech.symbols, speech.durations) if n and s not in "_ ,.")


@pytest.mark.usefixtures("piped")
@pytest.mark.parametrize("arguments", [(), ("-",), ("-f", "-")])
def test_standard_input_of_a_folder_is_a_text_a_line(capsys, tmp_path, voice, arguments):
    """Also where nothing says that it is to be read: a pipe is read."""
    assert command(capsys, *arguments, "-o", tmp_path / "out")[0] == 0
    assert folder_holds(tmp_path / "out", voice, {"000_One__Two.wav": "One. Two,", "001_three.wav": "three."})


def test_nothing_named_speaks_the_validation_list(capsys, tmp_path, voice):
    texts = {"a.01.wav": "Hello there.", "a.02.wav": "Good day."}
    (tmp_path / "wavs").mkdir()
    for name in texts:
        soundfile.write(tmp_path / "wavs" / name, np.zeros(1000), RATE)
    (tmp_path / "valid.txt").write_text("".join(f"{name}|{text}\n" for name, text in texts.items()), "utf-8")
    keys = [f"dataset.metafile_valid={tmp_path / 'valid.txt'}", f"dataset.prtpath={tmp_path}"]
    config = configuration.change(CONFIG, keys)
    path = checkpoint.save_voice(tmp_path / "list", 5, voice.saved.weights, config, SYMBOLS)
    assert command(capsys, "-o", tmp_path / "out", "-id", path)[0] == 0
    assert folder_holds(tmp_path / "out", voice, texts)
    (tmp_path / "valid.txt").unlink()
    status, _, errors = command(capsys, "-o", tmp_path / "out", "-id", path)
    assert status == 1 and len(errors) == 1 and "no text was given, and the voice's validation list" in errors[0]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("-id", "off_none", "Hello."), "no run off_none .*there are: off_empty, off_new, off_old"),
        (("-id", "off_empty", "Hello."), "run off_empty has no voice checkpoint yet"),
        (("-id", "off_old", "-ckpt", "15", "Hello."), r"no voice of step 15 \(there are: 10, 20\)"),
        (("-f", "missing.txt"), "-f missing.txt: No such file"),
        (("-f", "image.png"), "image.png: not a text"),
        (("-f", "."), "directory"),
        (("-f", "twice.txt"), "1 names stand for several texts, one for one"),
        (("-f", "both.txt", "--timestamps", "json"), "1 names stand for several texts, one for one"),
        (("One.", "Two.", "-o", "both.wav"), "both.wav names one sound for 2 texts: name a folder"),
        (("One.", "Two.", "-o", "-"), "-o - names one sound for 2 texts: name a folder"),
        (("One.", "-o", "-", "--timestamps", "srt"), "standard output is for the sound of one text"),
        (("One.", "-o", "any.m4a"), r"any.m4a: sound is written as .wav, .flac, .ogg, .mp3; a folder"),
        (("-f", "empty.txt"), "nothing to say: no text was given"),
        (("...",), "nothing to say"),
        (("Hello.", "-n", "2", "--solver", "posterior"), "exactly 1"),
        (("Hello.", "-o", "file/out.wav"), "file cannot be written .*: name another place with -o"),
        (("Hello.", "-o", "file/folder"), "folder cannot be written .*: name another place with -o"),
    ],
)
def test_refusals_are_one_line_and_status_one(capsys, tmp_path, arguments, match):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0")
    (tmp_path / "twice.txt").write_text("a/one.wav|Hello.\nb/one.wav|Good day.\n", "utf-8")
    (tmp_path / "both.txt").write_text("one.wav|Hello.\none.flac|Good day.\n", "utf-8")
    status, _, errors = command(capsys, *arguments)
    assert status == 1
    assert len(errors) == 1 and errors[0].startswith("sampling.py: ")
    assert re.search(match, errors[0]), errors[0]
    assert not list(tmp_path.rglob("*.wav"))


def test_a_damaged_voice_is_refused_and_debug_shows_where(capsys, tmp_path, voice):
    path = voice.saved.path
    (tmp_path / path.name).write_bytes(path.read_bytes()[:-10])
    shutil.copy(path.with_suffix(".json"), tmp_path)
    status, _, errors = command(capsys, "Hello.", "-id", tmp_path)
    assert status == 1 and len(errors) == 1 and "damaged" in errors[0]
    with pytest.raises(CheckpointError):
        command(capsys, "Hello.", "--debug", "-id", tmp_path)


def test_the_runs_are_listed(capsys):
    status, lines, _ = command(capsys, "--list")
    assert status == 0 and lines[0].split() == ["id", "CER", "voices"]


@pytest.mark.parametrize(
    "arguments", [("Hello.", "-f", "list.txt"), ("Hello.", "--solver", "heun"), ("-n", "many"), ("--temp", "1")]
)
def test_what_the_command_does_not_know_is_status_two(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        sampling.main(list(arguments))
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err
