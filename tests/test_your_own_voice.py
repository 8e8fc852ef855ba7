"""docs/your-own-voice.md, followed to the letter: what its code blocks say is what is run."""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import export
import sampling
import train
from data_util import check, demo, prepare
from data_util import config as configuration
from data_util.config import ROOT
from runtime import onnx_runtime

DOCUMENT = ROOT / "docs" / "your-own-voice.md"
NOT_COPIED = (".git", ".venv", "cache", "checkpoint", "speech", "wandb", "__pycache__", ".*_cache")
# What is not to the letter: the voice that another begins with, which is not tiny, and how long they take.
OTHERWISE = {"-from ljspeech-small": "-from my-voice", "training.train_num_steps=1000": "training.train_num_steps=4"}
SPEAKERS = {"ann": ("en-us+f2", "flac"), "ben": ("en-us+m3", "wav")}  # their recordings' voice and format


def blocks():
    return re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_every_command_is_one_that_there_is(capsys):
    """Its arguments are known, and its overlays are there but for what preparing writes."""
    parsers = {"python -m data_util.prepare": prepare, "python -m data_util.check": check, "bash run.sh": train,
               "python sampling.py": sampling, "python export.py": export}  # fmt: skip
    seen = set()
    for command in map(shlex.split, "".join(blocks()).splitlines()):
        head = " ".join(command[: 3 if command[1] == "-m" else 2])
        arguments = command[len(head.split()) :]
        if head in parsers:
            args = parsers[head].parse_args(arguments)
            for name in getattr(args, "c", None) or getattr(args, "overlays", None) or ():
                assert name.endswith("/voice.yaml") or (ROOT / "configs" / f"{name}.yaml").is_file(), name
            if head == "bash run.sh":
                configuration.load([name for name in args.c if "/" not in name], args.overrides)
        elif head.startswith("python -m nisets_"):
            onnx_runtime.parse_args(arguments, head)
        else:
            assert command[:2] == ["pip", "install"]
        seen.add(head)
    assert seen >= set(parsers) and capsys.readouterr().err == ""


@pytest.fixture
def project(tmp_path):
    """A copy of the project in which the recipe small is tiny, an environment that has its packages, recordings."""
    copy, environment = tmp_path / "project", tmp_path / "environment"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    tiny = configuration.load([ROOT / "tests" / "tiny.yaml", ROOT / "tests" / "tiny_frames.yaml"],
                              ["prosody.residual_layers=1"])  # fmt: skip
    (copy / "configs" / "small.yaml").write_text(configuration.to_yaml(tiny))
    recipe = (copy / "recipes" / "small.sh").read_text()
    (copy / "recipes" / "small.sh").write_text(re.sub(r"\b(fold|vocoder|acoustic|residual)=\d+", r"\1=4", recipe))
    for name, words in (("python", '"$@"'), ("pip", '-m pip "$@"')):
        path = environment / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\ncase "{name} $*" in *install*) exit 0 ;; esac\nexec "{sys.executable}" {words}\n')
        path.chmod(0o755)
    config = configuration.load("demo")
    for speaker, (voice, ending) in SPEAKERS.items():
        folder = copy / "recordings" / speaker
        folder.mkdir(parents=True)
        texts = demo.sentences()[:8]
        for i, (text, wav) in enumerate(zip(texts, demo.speak(texts, config, voice))):
            soundfile.write(folder / f"{i}.{ending}", np.pad(wav, 8000), config.audio.sample_rate)
            (folder / f"{i}.txt").write_text(text, encoding="utf-8")
    return copy, environment


@pytest.mark.slow
def test_it_leads_to_voices_that_speak(project):
    copy, environment = project
    variables = {**os.environ, "VIRTUAL_ENV": str(environment), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
                 "PATH": f"{environment / 'bin'}:{os.environ['PATH']}"}  # fmt: skip
    variables["PYTHONPATH"] = f"{copy / 'exported'}:{copy / 'exported-voices'}"  # as pip would install them
    for block in blocks():
        script = functools.reduce(lambda said, words: said.replace(*words), OTHERWISE.items(), block)
        done = subprocess.run(["bash", "-e", "-c", script], cwd=copy, env=variables, check=False, capture_output=True,
                              text=True)  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert (copy / "my-voice" / "report.md").is_file() and (copy / "my-voice" / "check.html").is_file()
    runs = {path.parent.name: configuration.load(path) for path in (copy / "checkpoint").glob("*/config.yaml")}
    assert set(runs) == {"my-voice", "tuned", "our-voices", "my-voice-44"}
    assert "my-voice/project_00000000.pt" in runs["tuned"].fine_tuning.start[0]
    assert runs["our-voices"].speakers.names == tuple(SPEAKERS) and runs["my-voice-44"].audio.sample_rate == 44100
    spoken = [*(copy / "speech").glob("*.wav"), copy / "any.wav"]
    assert len(spoken) >= 2
    assert all(soundfile.info(path).frames > 1000 and soundfile.info(path).samplerate == 22050 for path in spoken)
