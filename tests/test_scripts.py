"""run.sh, test.sh and setup.sh: what they install and start, told by a Python that only writes down its questions."""

import os
import shutil
import subprocess
import sys

import pytest

from data_util.config import ROOT

FILES = ("run.sh", "test.sh", "setup.sh", "requirements.txt", "requirements-extra.txt", "configs/demo.yaml")
TOOLS = ("bash", "cat", "chmod", "cksum", "cp", "dirname", "grep", "mkdir", "rm", "tr")
PYTHON = """#!/usr/bin/env bash
printf '%s' "$0" >>"$ASKED"; printf ' [%s]' "$@" >>"$ASKED"; printf '\\n' >>"$ASKED"
case "$*" in
    *version_info*) exit "$WRONG" ;;
    "-m venv"*) [ "$VENV" = yes ] || exit 1; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
    *"fail=3"*) exit 3 ;;
    *--count*) case "$*" in *bogus*) exit 2 ;; esac; [ -n "$GPUS" ] || exit 1; echo "$GPUS" ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")


class Bare:
    """A copy of the scripts in a folder with spaces, and a machine with no Python but those that are put there."""

    def __init__(self, tmp_path):
        self.root, self.tools, self.asked_file = tmp_path / "a project", tmp_path / "tools", tmp_path / "asked"
        for name in FILES:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.tools.mkdir()
        for name in (*TOOLS, "env"):
            (self.tools / name).symlink_to(shutil.which(name))
        self.variables = {"WRONG": "0", "VENV": "yes", "GPUS": "1"}

    def put_python(self, path, wrong=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PYTHON.replace("$WRONG", "1") if wrong else PYTHON)
        path.chmod(0o755)

    def start(self, script, *arguments):
        """The process, ended, and what each Python was asked: (its name, its arguments) in order."""
        self.asked_file.write_text("")
        variables = {"PATH": str(self.tools), "HOME": os.environ.get("HOME", "/"), "ASKED": str(self.asked_file)}
        done = subprocess.run([shutil.which("bash"), str(self.root / script), *arguments], cwd=self.tools,
                              env=variables | self.variables, capture_output=True, text=True, check=False)  # fmt: skip
        return done, self.asked_file.read_text()


@pytest.fixture
def bare(tmp_path):
    return Bare(tmp_path)


@pytest.fixture
def active(bare, tmp_path):
    """Inside an active virtual environment."""
    bare.put_python(tmp_path / "active env" / "bin" / "python")
    bare.variables["VIRTUAL_ENV"] = str(tmp_path / "active env")
    return bare


def test_syntax():
    for script in (*ROOT.glob("*.sh"), *ROOT.glob("*/*.sh"), ROOT / ".ci" / "run"):
        subprocess.run(["bash", "-n", script], check=True)


def test_an_active_environment_is_used_and_filled_once(active):
    done, asked = active.start("run.sh", "-c", "light")
    assert done.returncode == 0 and "install" in asked and f"[{active.root}/train.py] [-c] [light]" in asked
    assert "to download, where nothing is there: 2.9 GB" in done.stderr
    assert not (active.root / ".venv").exists()
    done, asked = active.start("run.sh", "-c", "light")
    assert done.returncode == 0 and "install" not in asked and not done.stderr
    with open(active.root / "requirements.txt", "a") as file:
        file.write("another\n")
    assert "install" in active.start("run.sh")[1]


def test_conda_counts_as_active_and_a_wrong_version_stops(active):
    active.variables["CONDA_PREFIX"] = active.variables.pop("VIRTUAL_ENV")
    assert "active env/bin/python" in active.start("run.sh")[1] and not (active.root / ".venv").exists()
    active.variables["WRONG"] = "1"
    done, _ = active.start("run.sh")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "must be Python 3.10 to 3.13" in done.stderr


def test_an_environment_is_made_with_the_first_python_that_fits(bare):
    bare.put_python(bare.tools / "python3.13", wrong=True)
    bare.put_python(bare.tools / "python3.11")
    done, asked = bare.start("run.sh")
    assert done.returncode == 0 and f"{bare.tools}/python3.11 [-m] [venv]" in asked
    assert f"{bare.root}/.venv/bin/python [{bare.root}/train.py]" in asked
    done, asked = bare.start("run.sh")
    assert done.returncode == 0 and "venv]" not in asked and "install" not in asked


@pytest.mark.parametrize(("venv", "words"), [(None, "no Python 3.10 to 3.13 found"), ("no", "venv module")])
def test_what_is_missing_is_said_in_a_line(bare, venv, words):
    if venv is not None:
        bare.put_python(bare.tools / "python3")
        bare.variables["VENV"] = venv
    done, _ = bare.start("run.sh")
    assert done.returncode == 1 and words in done.stderr.splitlines()[-1] and not (bare.root / ".venv").exists()


def test_arguments_and_exit_status_pass_through_and_other_trainings_get_no_demo(active):
    done, asked = active.start("run.sh", "-c", "light", "text.lexicon=demo", "text.lexicon=two  words *", "fail=3")
    assert done.returncode == 3 and "data_util.demo" not in asked
    assert "train.py] [-c] [light] [text.lexicon=demo] [text.lexicon=two  words *] [fail=3]" in asked


@pytest.mark.parametrize(("visible", "n"), [("0", 1), ("", 1), ("3,1,2", 3)])
def test_a_process_for_each_visible_gpu(active, visible, n):
    active.variables |= {"CUDA_VISIBLE_DEVICES": visible, "GPUS": str(n)}
    asked = active.start("run.sh", "-a", "true")[1]
    assert (f"[--nproc_per_node={n}] [{active.root}/train.py] [-a] [true]" in asked) == (n > 1)
    assert f"[{active.root}/train.py] [-a] [true]" in asked


@pytest.mark.parametrize(("usable", "n"), [("2", 2), ("1", 1), ("", 0)])
def test_the_gpus_that_the_driver_shows_are_those_that_pytorch_can_use(active, usable, n):
    smi = active.tools / "nvidia-smi"
    smi.write_text("#!/usr/bin/env bash\necho 'GPU 0: one'; echo 'GPU 1: another'\n")
    smi.chmod(0o755)
    active.variables["GPUS"] = usable
    done, asked = active.start("run.sh", "-c", "small")
    assert "train.py] [--count] [-c] [small]" in asked and done.returncode == (0 if n else 1)
    assert (f"[--nproc_per_node={n}]" in asked) == (n > 1) and ("train.py] [-c] [small]" in asked) == (n > 0)


def test_a_number_of_processes_that_is_set_asks_nothing_of_the_cards(active):
    script = active.root / "run.sh"
    script.write_text(script.read_text().replace("\nN_PROCESSES= ", "\nN_PROCESSES=1 "))
    active.variables |= {"CUDA_VISIBLE_DEVICES": "0,1", "GPUS": ""}  # one of them cannot be used
    done, asked = active.start("run.sh", "-c", "small")
    assert done.returncode == 0 and "--count" not in asked and asked.endswith("train.py] [-c] [small]\n")


@pytest.mark.parametrize(
    ("arguments", "end"),
    [(["--config", "demo"], "[-c] [demo]"), (["--config=demo"], "[-c] [demo]"), (["--id=off_1"], "[-id] [off_1]"),
     (["-c=demo"], "[-c] [demo]"), (["-cdemo"], "[-c] [demo]"), (["-id=off_1"], "[-id] [off_1]"),
     (["-i", "off_1"], "[-id] [off_1]"), (["--id", "checkpoint/off_1/"], "[-id] [checkpoint/off_1/]"),
     (["-c", "{root}/configs/demo.yaml"], "[-c] [{root}/configs/demo.yaml]"),
     (["-c=demo", "-n", "x", "-fr", "a=b"], "[-c] [demo] [-name] [x] [-from] [a=b]"),
     (["-id=off_1", "-ckpt=3", "-atrue", "a.b=-c=d"], "[-id] [off_1] [-ckpt] [3] [-atrue] [a.b=-c=d]")],
)  # fmt: skip
def test_every_form_of_a_flag_is_the_short_one_and_the_demo_gets_its_corpus_first(active, arguments, end):
    (active.root / "checkpoint" / "off_1").mkdir(parents=True)
    (active.root / "checkpoint" / "off_1" / "config.yaml").write_text("dataset:\n  prtpath: cache/demo\n")
    asked = active.start("run.sh", *(one.format(root=active.root) for one in arguments))[1]
    assert 0 < asked.index("[data_util.demo]") < asked.rindex("train.py]")
    assert asked.rstrip().endswith(f"train.py] {end.format(root=active.root)}")


@pytest.mark.parametrize("arguments", [["-h"], ["-c", "demo", "--help"]])
def test_help_is_asked_for_once(active, arguments):
    active.variables |= {"CUDA_VISIBLE_DEVICES": "0,1", "GPUS": "2"}
    asked = active.start("run.sh", *arguments)[1]
    assert asked.count("train.py]") == 1 and asked.rstrip().endswith("train.py] [--help]")


@pytest.mark.parametrize("visible", ["", "0,1"])
def test_wrong_arguments_begin_nothing(active, visible):
    (active.root / "recipes").mkdir()
    (active.root / "recipes" / "demo.sh").write_text("touch begun\n")
    active.variables |= {"CUDA_VISIBLE_DEVICES": visible, "GPUS": "2"}
    done, asked = active.start("run.sh", "-c", "demo", "--bogus")
    assert done.returncode == 2 and asked.count("train.py]") == 1 and "data_util.demo" not in asked
    assert not (active.tools / "begun").exists()


def test_the_tests_have_both_lists_of_packages(active):
    done, asked = active.start("test.sh", "-k", "a b")
    assert done.returncode == 0 and asked.rstrip().endswith("[loadfile] [-k] [a b]")
    assert "/requirements.txt]" in asked and "/requirements-extra.txt]" in asked


@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])  # processes
def test_a_corpus_that_is_not_there_is_a_line(active, tmp_path, n):
    """With the real Python: what is missing, where to get it, which key to set, and what needs none."""
    python = tmp_path / "active env" / "bin" / "python"
    python.write_text(f'#!/usr/bin/env bash\ncase "$*" in *install*) exit 0 ;; esac\nexec "{sys.executable}" "$@"\n')
    variables = active.variables | {"CUDA_VISIBLE_DEVICES": "0,1" if n == 2 else ""}
    done = subprocess.run(["bash", ROOT / "run.sh", f"dataset.prtpath={tmp_path}/nowhere"], cwd=tmp_path, check=False,
                          env=os.environ | variables, capture_output=True, text=True)  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if not line.startswith("set-up: ")]
    assert done.returncode == 1 and 1 <= len(lines) <= n, done.stderr
    for part in ("nowhere: no such folder", "https://keithito.com/LJ-Speech-Dataset/", "dataset.prtpath", "-c demo"):
        assert part in lines[0]
