"""docs/your-own-voice.md, followed to the letter: what its code blocks say is what is run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import export
import sampling
import train
from data_util import check, demo, prepare, runner
from data_util import config as configuration
from data_util.config import ROOT

DOCUMENT = ROOT / "docs" / "your-own-voice.md"
NOT_COPIED = (".git", ".venv", "cache", "checkpoint", "speech", "wandb", "__pycache__", ".*_cache")
# What is not to the letter: the name of a run, which only the run gives, and how long it takes.
STEPS = ("training.train_num_steps=1000", "training.train_num_steps=4")
SPEAKERS = {"ann": ("en-us+f2", "flac"), "ben": ("en-us+m3", "wav")}  # their recordings' voice and format


def blocks():
    return re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands():
    return [shlex.split(line) for block in blocks() for line in block.splitlines()]


def test_every_command_is_one_that_there_is(capsys):
    """Its arguments are known, and its overlays are there but for what preparing writes."""
    parsers = {"python -m data_util.prepare": prepare, "python -m data_util.check": check, "bash run.sh": train,
               "python sampling.py": sampling, "python export.py": export}  # fmt: skip
    seen = set()
    for command in commands():
        head = " ".join(command[: 3 if command[1] == "-m" else 2])
        arguments = command[len(head.split()) :]
        if head in parsers:
            args = parsers[head].parse_args(arguments)
            for name in getattr(args, "c", None) or getattr(args, "overlays", None) or ():
                assert name.endswith("/voice.yaml") or (ROOT / "configs" / f"{name}.yaml").is_file(), name
            if head == "bash run.sh":
                configuration.load([name for name in args.c if "/" not in name], args.overrides)
        elif head.endswith("/speak.py"):
            runner.parse_args(arguments)
        else:
            assert command == ["pip", "install", "-r", "requirements-extra.txt"]
        seen.add(head)
    assert seen >= set(parsers) and capsys.readouterr().err == ""


@pytest.fixture
def project(tmp_path):
    """A copy of the project in which configs/small.yaml is tiny, an environment that has its packages, recordings."""
    copy, environment = tmp_path / "project", tmp_path / "environment"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    shutil.copy(ROOT / "tests" / "tiny_lanes.yaml", copy / "configs" / "small.yaml")
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
    variables.pop("PYTHONPATH", None)
    for block in blocks():
        (first_run, *_) = [*sorted((copy / "checkpoint").glob("off_*"), key=os.path.getmtime), Path("none yet")]
        script = block.replace("off_12345678", first_run.name).replace(*STEPS)
        done = subprocess.run(["bash", "-e", "-c", script], cwd=copy, env=variables, check=False, capture_output=True,
                              text=True)  # fmt: skip
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert (copy / "my-voice" / "report.md").is_file() and (copy / "my-voice" / "check.html").is_file()
    runs = {configuration.load(path).log.name: configuration.load(path)
            for path in (copy / "checkpoint").glob("*/config.yaml")}  # fmt: skip
    assert set(runs) == {"my-voice", "our-voices", "my-voice-44"}
    assert runs["our-voices"].speakers.names == tuple(SPEAKERS) and runs["my-voice-44"].audio.sample_rate == 44100
    spoken = [*(copy / "speech").glob("*.wav"), copy / "any.wav"]
    assert len(spoken) >= 2
    assert all(soundfile.info(path).frames > 1000 and soundfile.info(path).samplerate == 22050 for path in spoken)
