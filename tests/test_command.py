"""The commands' help texts and arguments, and how wide they are."""

import argparse
import json
import os
import subprocess
import sys

import pytest

import evaluate
from data_util.config import ROOT, ConfigError
from runtime import command
from training import gpu

EXTRAS = ("onnx", "onnxscript", "onnxruntime", "faster_whisper", "pocketsphinx", "distillmos", "jiwer", "speechmos",
          "requests", "fastapi", "uvicorn")  # fmt: skip
HELPFUL = ("sampling", "evaluate", "export", "benchmarks.exported", "benchmarks.synthesis")
# every command in a process of its own, forked from one that has imported what takes longest
WITHOUT_EXTRAS = f"""
import contextlib, io, json, multiprocessing, runpy, sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refusing())
import scipy.signal, torch

def ended(words):
    sys.argv = words
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            runpy.run_module(words[0], run_name="__main__")
        except SystemExit as error:
            return error.code, out.getvalue()

with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    commands = [[module, "--help"] for module in {HELPFUL}] + [["serve"]]
    print(json.dumps(pool.map(ended, commands, chunksize=1)))
"""


def test_help_needs_no_extra_package_and_serving_without_its_packages_is_a_line():
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *helped, served = json.loads(done.stdout)
    assert [code for code, _ in helped] == [0] * len(HELPFUL) and all(out.startswith("usage: ") for _, out in helped)
    assert served == ["serve.py: uvicorn is not installed: pip install -r requirements-extra.txt", ""]


@pytest.mark.parametrize(("terminal", "width"), [(80, 80), (250, 100)])
def test_nothing_is_wider_than_a_hundred_columns(monkeypatch, terminal, width):
    monkeypatch.setattr(command.shutil, "get_terminal_size", lambda: os.terminal_size((terminal, 24)))
    assert command.columns() == width
    parser = argparse.ArgumentParser(formatter_class=command.Help)
    parser.add_argument("--any", default=5, help="words " * 100)
    assert max(map(len, parser.format_help().splitlines())) <= width


def test_help_says_the_defaults_that_say_something():
    parser = argparse.ArgumentParser(formatter_class=command.Help)
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--several", nargs="+", default=["a", "b"], help="names")
    parser.add_argument("--none", help="nothing")
    parser.add_argument("--switch", action="store_true", help="on")
    shown = " ".join(parser.format_help().split())
    assert "of the noise (default: 0)" in shown and "names (default: a b)" in shown and shown.count("default") == 2


def test_evaluating_takes_keys_of_the_configuration():
    words = "--systems a=b/c dataset.prtpath=d x.y=e -n 2 audio.f_max=7000 -id any -o out"
    args = evaluate.parse_args(words.split())
    assert args.overrides == ["dataset.prtpath=d", "audio.f_max=7000"] and args.systems == ["a=b/c", "x.y=e"]
    assert args.n_timesteps == [2] and "dataset.prtpath=d" in args.command
    args = evaluate.parse_args(["--systems", "a=b", "-o", "out", "dataset.nothing=1"])
    with pytest.raises(ConfigError, match="dataset.nothing"):
        evaluate.evaluate(args)


def test_a_machine_without_a_gpu_is_told_how_long_it_takes(monkeypatch):
    monkeypatch.setattr(gpu, "product_rate", lambda: 200e9)
    said = gpu.without_one(500_000)
    assert "about 16 s, and 500,000 steps about 90 days" in said and "-c small" in said


@pytest.mark.parametrize(("names", "error", "raised"), [
    ({}, ValueError("a\nb"), False), ({}, RuntimeError("a\nb"), True), ({"debug": False}, RuntimeError("a\nb"), False),
    ({"debug": True}, OSError("a\nb"), True),
])  # fmt: skip
def test_an_error_is_one_line_or_with_debug_a_traceback(names, error, raised, capsys):
    def run(_):
        raise error

    if raised:
        with pytest.raises(type(error)):
            command.exit_status(run, argparse.Namespace(**names), "it.py")
    else:
        assert command.exit_status(run, argparse.Namespace(**names), "it.py") == 1
        assert capsys.readouterr().err == "it.py: a b\n"


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("intro|Pick red | green", [("intro", "Pick red | green")]),
        ("Choose A | B now\nHello.\nEnd.|No.", [(None, "Choose A | B now"), (None, "Hello."), (None, "End.|No.")]),
        ("a | Hello | there.\nb|Yes.\n", [("a", "Hello | there."), ("b", "Yes.")]),
        ("LJ001|Dr. Lee|Doctor Lee\nLJ002|Mr. Ray|\na clip|ann|Yes.\n|No.",
         [("LJ001", "Doctor Lee"), ("LJ002", "Mr. Ray"), ("a clip", "Yes."), (None, "No.")]),
    ],
)  # fmt: skip
def test_a_pipe_of_a_text_is_no_end_of_a_name(tmp_path, lines, named):
    (tmp_path / "list.txt").write_text(lines)
    assert command.texts_of(argparse.Namespace(file=tmp_path / "list.txt")) == named


def test_ctrl_c_is_one_line(capsys):
    def run(_):
        raise KeyboardInterrupt

    for more, said in (((), "stopped"), (("it goes on",), "it goes on")):
        assert command.exit_status(run, argparse.Namespace(), "it.py", *more) == 130
        assert capsys.readouterr().err == f"it.py: {said}\n"


def test_a_manifest_comes_back_whatever_the_texts_have_in_them(tmp_path):
    entries = {f"{i}.wav": {"text": f"one{char}two"} for i, char in enumerate("\u2028\x85\x0c\r|ü")}
    command.Manifest(tmp_path).add(entries)
    content = (tmp_path / "manifest.jsonl").read_bytes()
    assert command.Manifest(tmp_path).entries == entries and (tmp_path / "manifest.jsonl").read_bytes() == content
