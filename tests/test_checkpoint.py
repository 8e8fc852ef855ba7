"""Checkpoints: what was saved comes back, what is damaged is refused in one line, and no code from a file ever runs."""

import builtins
import errno
import io
import json
import os
import pickle
import random
import re
import threading
from concurrent.futures import wait

import pytest
import torch

from data_util import config as configuration
from data_util.config import ROOT
from tests import conftest
from training import checkpoint
from training.checkpoint import (
    VERSION,
    CheckpointError,
    find,
    load_checkpoint,
    load_voice,
    save_checkpoint,
    save_voice,
    steps,
)

CONFIG = configuration.load()
SYMBOLS = ("_", "a", "ˈ", "\u0303", '"')


class Code:
    """An object that runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def checkpoint_of(step):
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(3, 4, generator=generator), "half": torch.ones(2, dtype=torch.bfloat16)}
    optimiser = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "betas": (0.8, 0.99)}]}
    return {"version": VERSION, "step": step, "config": configuration.to_dict(CONFIG), "symbols": list(SYMBOLS),
            "model": weights, "optimiser": optimiser}  # fmt: skip


def weights_of():
    return {"w": torch.randn(4, 3).T.requires_grad_(), "n": torch.arange(5), "latent_mean": torch.tensor(-5.4)}


def saved(ckpt, **keywords) -> bytes:
    memory = io.BytesIO()
    torch.save(ckpt, memory, **keywords)
    return memory.getvalue()


def refused(function, *arguments, match=None):
    return str(conftest.refused(CheckpointError, match, function, *arguments))


@pytest.fixture
def voice_path(tmp_path):
    return save_voice(tmp_path, 5, weights_of(), CONFIG, SYMBOLS)


def test_a_checkpoint_comes_back(tmp_path):
    save_checkpoint(tmp_path / "run", 7, checkpoint_of(7), keep=3)
    path = find(tmp_path / "run", "project")
    assert path.name == "project_00000007.pt"
    found, expected = load_checkpoint(path), checkpoint_of(7)
    for name, value in expected.pop("model").items():
        assert torch.equal(found["model"][name], value) and found["model"][name].dtype == value.dtype
    found.pop("model")
    assert found == expected and configuration.from_dict(found["config"]) == CONFIG


def test_a_voice_comes_back_in_float32(tmp_path):
    weights = weights_of()
    weights["half"] = torch.tensor([0.1, -3.0]).bfloat16()
    path = save_voice(tmp_path / "run", 12, weights, CONFIG, SYMBOLS)
    assert path == find(tmp_path / "run", "voice") and path.name == "voice_00000012.safetensors"
    voice = load_voice(path)
    assert (voice.config, voice.symbols, voice.step, voice.path) == (CONFIG, SYMBOLS, 12, path)
    assert voice.weights.keys() == weights.keys()
    for name, value in voice.weights.items():
        assert value.dtype == torch.float32 and torch.equal(value, weights[name].detach().float())


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 40, 100_000_000):
        save_voice(tmp_path, step, weights_of(), CONFIG, SYMBOLS)
        save_checkpoint(tmp_path, step, checkpoint_of(step), keep=2)
        assert step in steps(tmp_path, "project")
    assert steps(tmp_path, "project") == [40, 100_000_000]
    assert steps(tmp_path, "voice") == [1, 2, 3, 40, 100_000_000]
    assert load_checkpoint(find(tmp_path, "project"))["step"] == 100_000_000
    assert find(tmp_path, "voice", 3).name == "voice_00000003.safetensors"

    # a run that goes on from an earlier step has later ones beside it
    save_checkpoint(tmp_path, 11, checkpoint_of(11), keep=2)
    assert steps(tmp_path, "project") == [11, 100_000_000]


def test_other_files_are_no_checkpoints(tmp_path):
    for name in ("project_00000001.pt.tmp", "project_1.pt", ".12-ab.tmp", "voice_00000001.json", "project_x.pt"):
        (tmp_path / name).touch()
    assert steps(tmp_path, "project") == steps(tmp_path, "voice") == []


def test_what_is_not_there_is_said_with_what_there_is(tmp_path):
    assert "there are: none" in refused(find, tmp_path / "off_none", "voice", match="no run off_none")
    for run in ("off_b", "off_a"):
        (tmp_path / run).mkdir()
    refused(find, tmp_path / "off_c", "voice", match=r"no run off_c in .*there are: off_a, off_b\)")
    refused(find, tmp_path / "off_a", "voice", match="run off_a has no voice checkpoint yet")
    refused(find, tmp_path / "off_a", "project", 3, match="run off_a has no project checkpoint yet")
    for step in (2, 10):
        save_checkpoint(tmp_path / "off_a", step, checkpoint_of(step), keep=3)
    refused(find, tmp_path / "off_a", "project", 3, match=r"no project of step 3 \(there are: 2, 10\)")
    refused(find, tmp_path / "off_a", "voice", match="no voice checkpoint yet")
    assert find(tmp_path / "off_a", "project", 2).name == "project_00000002.pt"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", [True, False])
def test_a_checkpoint_with_wrong_bytes_is_read_or_refused(tmp_path, format_):
    """Cut short, it says so, and what to do."""
    path, chance = tmp_path / "project_00000001.pt", random.Random(1)
    content = saved({"version": VERSION, "step": 1, "config": {}, "symbols": [], "model": {"w": torch.ones(3)}},
                    _use_new_zipfile_serialization=format_)  # fmt: skip
    for share in (0.0, 0.1, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        message = refused(load_checkpoint, path, match="damaged")
        assert str(path) in message and "-ckpt" in message
    n_refused = 0
    for _ in range(100):
        wrong = bytearray(content)
        for _ in range(chance.choice([1, 3, 20])):
            wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        path.write_bytes(wrong)
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            n_refused += 1
            assert "\n" not in str(error)
    assert n_refused > 25


@pytest.mark.filterwarnings("ignore")
def test_what_others_wrote_is_no_checkpoint(tmp_path):
    path, chance = tmp_path / "project_00000001.pt", random.Random(0)
    contents = [b"hello", b"\x80", bytes(range(256)), b"PK\x03\x04" + bytes(100), b"\x80\x02}.", b"."]
    contents += [chance.randbytes(chance.choice([3, 30, 300])) for _ in range(60)]
    foreign = [saved(one) for one in ({"state_dict": {}}, [1, 2], torch.ones(2), {"step": 1, "model": {}}, None)]
    for content in contents + foreign:
        path.write_bytes(content)
        match = "no checkpoint of this project" if content in foreign else "damaged|no checkpoint of this project"
        refused(load_checkpoint, path, match=match)
    refused(load_checkpoint, tmp_path / "project_00000002.pt", match="project_00000002.pt: No such file")
    refused(load_checkpoint, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_no_code_runs(tmp_path, voice_path):
    path, made = tmp_path / "project_00000001.pt", tmp_path / "made"
    for place in ("model", "extra"):
        ckpt = checkpoint_of(1) | {place: Code(made)}
        for content in (saved(ckpt), saved(ckpt, _use_new_zipfile_serialization=False), pickle.dumps(ckpt)):
            path.write_bytes(content)
            refused(load_checkpoint, path, match="carries code" if content[:1] == b"P" else "carries code|damaged")
    voice_path.write_bytes(pickle.dumps(Code(made)))
    refused(load_voice, voice_path, match="damaged")
    assert not made.exists()
    pickle.loads(pickle.dumps(Code(made)))  # as it would have
    assert made.exists()


def test_the_version_is_the_projects(voice_path):
    """And stands in every voice; that it does in every checkpoint, test_train.py shows."""
    project = re.search(r"^\[project\]\n([^\[].*\n)*", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    assert re.findall(r'^version = "([^"]*)"', project, re.MULTILINE) == [VERSION]
    assert json.loads(voice_path.with_suffix(".json").read_text())["version"] == VERSION


@pytest.mark.parametrize("version", [None, "1.0.0", "20.0.0", f"{VERSION.split('.')[0]}.99.1"])
def test_what_another_major_version_wrote_is_refused(voice_path, tmp_path, version):
    """In a line that names the file, the version and what to do. Version 1 wrote none."""
    about_path, path = voice_path.with_suffix(".json"), tmp_path / "project_00000001.pt"
    about, ckpt = json.loads(about_path.read_text()) | {"version": version}, checkpoint_of(1) | {"version": version}
    if version is None:
        del about["version"], ckpt["version"]
        about["config"] = ckpt["config"] = {"unet2d": {"channels": 64}}  # whose keys are not asked for any more
    about_path.write_text(json.dumps(about))
    path.write_bytes(saved(ckpt))
    for load, where in ((load_voice, voice_path), (load_checkpoint, path)):
        if version and version.endswith("99.1"):
            assert load(where)
        else:
            wanted = f"{where} was written by version {version or '1'} of the project, and this is {VERSION}: use that"
            assert refused(load, where).startswith(wanted)


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_voice_is_two_whole_files(voice_path, suffix):
    path = voice_path.with_suffix(suffix)
    content = path.read_bytes()
    garbage = [
        b"hello",
        b"\xff\xfe" * 32,
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"\x08" + bytes(7) + b"[" * 8,
        bytes(50),
    ]
    for damaged in [*garbage, *(content[: int(share * len(content))] for share in (0.0, 0.3, 0.99))]:
        path.write_bytes(damaged)
        refused(load_voice, voice_path, match="not a voice, or damaged")
    path.unlink()
    assert str(path) in refused(load_voice, voice_path, match="no such file; a voice is a .safetensors and a .json")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        *(({name: None}, "damaged") for name in ("config", "symbols", "step")),
        ({"step": "many"}, "many"),
        ({"step": float("inf")}, "damaged"),
        ({"config": []}, "expected keys"),
        ({"config": configuration.to_dict(CONFIG) | {"sound": 1}}, "unknown key sound"),
        ({"config": configuration.to_dict(CONFIG) | {"pitch": {"f_min": "low", "f_max": 450}}}, "pitch.f_min"),
    ],
)
def test_a_damaged_description_is_refused(voice_path, changes, match):
    path = voice_path.with_suffix(".json")
    about = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in about.items() if value is not None}), encoding="utf-8")
    assert str(voice_path) in refused(load_voice, voice_path, match=match)


def test_a_disk_that_fills_up_while_a_checkpoint_is_written_says_so_and_leaves_the_old_one(tmp_path, monkeypatch):
    """torch.save goes on to report its own trouble with a file that takes no more."""
    save_checkpoint(tmp_path, 1, checkpoint_of(1), keep=3)
    before = (tmp_path / "project_00000001.pt").read_bytes()
    written, space = builtins.open, 5000

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > space:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(
        "builtins.open", lambda path, *rest: (Full if str(path).endswith(".tmp") else written)(path, *rest)
    )
    for step in (1, 2):
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path, step, {"step": step, "w": torch.randn(10000)}, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["project_00000001.pt"]
    assert (tmp_path / "project_00000001.pt").read_bytes() == before


def test_a_writer_writes_in_the_order_in_which_it_was_asked_to_and_in_the_background():
    writer, may_end, done = checkpoint.Writer(), threading.Event(), []

    def slowly():
        assert may_end.wait(60)
        done.append("first")

    writer.start(slowly)
    assert done == []  # start did not wait
    writer.check()
    may_end.set()
    writer.start(lambda: done.append("second"))
    writer.finish()
    assert done == ["first", "second"]


@pytest.mark.parametrize("how", ["check", "finish", "start"])
def test_what_a_write_raises_is_raised_once_where_it_is_asked_for(how):
    writer = checkpoint.Writer()

    def full():
        raise OSError(errno.ENOSPC, "No space left on device", "here")

    writer.start(full)
    wait([writer._written])
    with pytest.raises(OSError, match="No space left"):
        writer.start(lambda: None) if how == "start" else getattr(writer, how)()
    writer.finish()  # it has been said


def test_a_copy_is_what_it_was_when_it_was_made():
    tree = {"a": [torch.ones(3), {"b": torch.zeros(2, dtype=torch.int64)}], "c": "word", "d": None, "e": 1.5}
    made = checkpoint.to_host(tree)
    tree["a"][0].add_(1), tree["a"][1]["b"].add_(1)
    assert made["a"][0].tolist() == [1, 1, 1] and made["a"][1]["b"].tolist() == [0, 0]
    assert {name: made[name] for name in "cde"} == {"c": "word", "d": None, "e": 1.5}
