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

import pytest
import torch

from data_util import checkpoint
from data_util import config as configuration
from data_util.checkpoint import CheckpointError, find, load_project, load_voice, save_project, save_voice, steps
from data_util.files import write_atomic

CONFIG = configuration.load()
SYMBOLS = ("_", "a", "ˈ", "\u0303", '"')


class Code:
    """An object that runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def project_of(step):
    generator = torch.Generator().manual_seed(step)
    weights = {"a.weight": torch.randn(3, 4, generator=generator), "half": torch.ones(2, dtype=torch.bfloat16)}
    optimiser = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "betas": (0.8, 0.99)}]}
    return {
        "step": step,
        "config": configuration.to_dict(CONFIG),
        "symbols": list(SYMBOLS),
        "model": weights,
        "optimiser": optimiser,
    }


def weights_of():
    statistics = {
        "latent_mean": torch.tensor(-5.4),
        "latent_std": torch.tensor(2.1),
        "logw_variance": torch.tensor(0.1),
    }
    return {"w": torch.randn(4, 3).T.requires_grad_(), "n": torch.arange(5), **statistics}


def saved(project, **keywords) -> bytes:
    memory = io.BytesIO()
    torch.save(project, memory, **keywords)
    return memory.getvalue()


def refused(function, *arguments, match=""):
    with pytest.raises(CheckpointError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(match, message), message
    return message


def test_a_project_comes_back(tmp_path):
    save_project(tmp_path / "run", 7, project_of(7), keep=3)
    path = find(tmp_path / "run", "project")
    assert path.name == "project_00000007.pt"
    project, expected = load_project(path), project_of(7)
    for name, value in expected.pop("model").items():
        assert torch.equal(project["model"][name], value) and project["model"][name].dtype == value.dtype
    project.pop("model")
    assert project == expected
    assert configuration.from_dict(project["config"]) == CONFIG


def test_a_voice_comes_back_in_float32(tmp_path):
    weights = weights_of()
    weights["half"] = torch.tensor([0.1, -3.0]).bfloat16()
    path = save_voice(tmp_path / "run", 12, weights, CONFIG, SYMBOLS)
    assert path == find(tmp_path / "run", "voice") and path.name == "voice_00000012.safetensors"
    voice = load_voice(path)
    assert (voice.config, voice.symbols, voice.step, voice.path) == (CONFIG, SYMBOLS, 12, path)
    assert voice.statistics == {name: weights[name].item() for name in ("latent_mean", "latent_std", "logw_variance")}
    assert voice.weights.keys() == weights.keys()
    for name, value in voice.weights.items():
        assert value.dtype == torch.float32 and torch.equal(value, weights[name].detach().float())


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 40, 100_000_000):
        save_voice(tmp_path, step, weights_of(), CONFIG, SYMBOLS)
        save_project(tmp_path, step, project_of(step), keep=2)
        assert step in steps(tmp_path, "project")
    assert steps(tmp_path, "project") == [40, 100_000_000]
    assert steps(tmp_path, "voice") == [1, 2, 3, 40, 100_000_000]
    assert load_project(find(tmp_path, "project"))["step"] == 100_000_000
    assert find(tmp_path, "voice", 3).name == "voice_00000003.safetensors"


def test_what_was_just_saved_is_kept(tmp_path):
    """A run that goes on from an earlier step has later ones beside it."""
    for step in (10, 20, 30):
        save_project(tmp_path, step, project_of(step), keep=3)
    save_project(tmp_path, 11, project_of(11), keep=1)
    assert steps(tmp_path, "project") == [11]
    save_project(tmp_path, 30, project_of(30), keep=3)
    save_project(tmp_path, 12, project_of(12), keep=2)
    assert steps(tmp_path, "project") == [12, 30]


def test_other_files_are_no_checkpoints(tmp_path):
    for name in ("project_00000001.pt.tmp", "project_1.pt", ".12-ab.tmp", "voice_00000001.json", "project_x.pt"):
        (tmp_path / name).write_bytes(b"")
    assert steps(tmp_path, "project") == steps(tmp_path, "voice") == []


def test_what_is_not_there_is_said_with_what_there_is(tmp_path):
    assert "there are: none" in refused(find, tmp_path / "off_none", "voice", match="no run off_none")
    for run in ("off_b", "off_a"):
        (tmp_path / run).mkdir()
    refused(find, tmp_path / "off_c", "voice", match=r"no run off_c in .*there are: off_a, off_b\)")
    refused(find, tmp_path / "off_a", "voice", match="run off_a has no voice checkpoint yet")
    refused(find, tmp_path / "off_a", "project", 3, match="run off_a has no project checkpoint yet")
    for step in (2, 10):
        save_project(tmp_path / "off_a", step, project_of(step), keep=3)
    refused(find, tmp_path / "off_a", "project", 3, match=r"no project of step 3 \(there are: 2, 10\)")
    refused(find, tmp_path / "off_a", "voice", match="no voice checkpoint yet")
    assert find(tmp_path / "off_a", "project", 2).name == "project_00000002.pt"


def test_run_ids_differ():
    ids = {checkpoint.new_run_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"off_[0-9a-f]{8}", one) for one in ids)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("format_", [True, False])
def test_a_truncated_project_is_damaged(tmp_path, share, format_):
    path, content = tmp_path / "project_00000001.pt", saved(project_of(1), _use_new_zipfile_serialization=format_)
    path.write_bytes(content[: int(share * len(content))])
    message = refused(load_project, path, match="damaged")
    assert str(path) in message and "-ckpt" in message


@pytest.mark.filterwarnings("ignore")
def test_any_garbage_is_damaged(tmp_path):
    path, chance = tmp_path / "project_00000001.pt", random.Random(0)
    contents = [b"hello", b"\x80", bytes(range(256)), b"PK\x03\x04" + bytes(100), b"\x80\x02}.", b"."]
    contents += [chance.randbytes(chance.choice([3, 30, 300])) for _ in range(200)]
    for content in contents:
        path.write_bytes(content)
        refused(load_project, path, match="damaged|no checkpoint of this project")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format_", [True, False])
def test_a_project_with_wrong_bytes_is_read_or_refused(tmp_path, format_):
    path, chance = tmp_path / "project_00000001.pt", random.Random(1)
    content = saved({"step": 1, "config": {}, "symbols": [], "model": {"w": torch.ones(3)}},
                    _use_new_zipfile_serialization=format_)  # fmt: skip
    n_refused = 0
    for _ in range(200):
        wrong = bytearray(content)
        for _ in range(chance.choice([1, 3, 20])):
            wrong[chance.randrange(len(wrong))] = chance.randrange(256)
        path.write_bytes(wrong)
        try:
            load_project(path)
        except CheckpointError as error:
            n_refused += 1
            assert "\n" not in str(error)
    assert n_refused > 50


@pytest.mark.filterwarnings("ignore")
def test_no_code_runs(tmp_path):
    path, made = tmp_path / "project_00000001.pt", tmp_path / "made"
    for place in ("model", "extra"):
        project = project_of(1) | {place: Code(made)}
        for content in (saved(project), saved(project, _use_new_zipfile_serialization=False), pickle.dumps(project)):
            path.write_bytes(content)
            refused(load_project, path, match="carries code" if content[:1] == b"P" else "carries code|damaged")
            assert not made.exists()
    pickle.loads(pickle.dumps(Code(made)))  # as it would have
    assert made.exists()


@pytest.mark.parametrize("foreign", [{"state_dict": {}}, [1, 2], torch.ones(2), {"step": 1, "model": {}}, None])
def test_what_others_wrote_is_foreign(tmp_path, foreign):
    path = tmp_path / "project_00000001.pt"
    path.write_bytes(saved(foreign))
    refused(load_project, path, match="no checkpoint of this project")


def test_a_missing_project_is_refused(tmp_path):
    refused(load_project, tmp_path / "project_00000001.pt", match="project_00000001.pt")
    refused(load_project, tmp_path)


@pytest.fixture
def voice_path(tmp_path):
    return save_voice(tmp_path, 5, weights_of(), CONFIG, SYMBOLS)


def test_a_voice_of_an_earlier_version_is_completed(voice_path):
    path = voice_path.with_suffix(".json")
    about = json.loads(path.read_text(encoding="utf-8"))
    del about["config"]["latent"], about["config"]["alignment"]["noise"]
    path.write_text(json.dumps(about), encoding="utf-8")
    assert load_voice(voice_path).config == CONFIG


def test_a_project_of_an_earlier_version_is_completed(tmp_path):
    tree = configuration.to_dict(CONFIG)
    earlier = {name: keys for name, keys in tree.items() if name != "latent"}
    path = tmp_path / "project_00000001.pt"
    path.write_bytes(saved({"step": 1, "config": earlier, "symbols": [], "model": {}}))
    assert load_project(path)["config"] == tree


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_voice_is_two_files(voice_path, suffix):
    missing = voice_path.with_suffix(suffix)
    missing.unlink()
    assert str(missing) in refused(load_voice, voice_path, match="no such file; a voice is a .safetensors and a .json")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_truncated_voice_is_damaged(voice_path, suffix, share):
    path = voice_path.with_suffix(suffix)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(load_voice, voice_path, match="not a voice, or damaged")


def about_with(**changes):
    def change(about):
        return {name: value for name, value in (about | changes).items() if value != "missing"}

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda _: [], "damaged"),
        (lambda _: 5, "damaged"),
        (lambda _: None, "damaged"),
        (about_with(config="missing"), "config"),
        (about_with(symbols="missing"), "symbols"),
        (about_with(step="missing"), "step"),
        (about_with(statistics="missing"), "statistics"),
        (about_with(step=None), "damaged"),
        (about_with(step="many"), "many"),
        (about_with(step=float("inf")), "damaged"),
        (about_with(symbols=5), "damaged"),
        (about_with(config=[]), "expected keys"),
        (about_with(config=configuration.to_dict(CONFIG) | {"sound": 1}), "unknown key sound"),
        (about_with(config={**configuration.to_dict(CONFIG), "log": {"project": 5, "name": "a"}}), "log.project = 5"),
    ],
)
def test_a_damaged_description_is_refused(voice_path, change, match):
    path = voice_path.with_suffix(".json")
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    message = refused(load_voice, voice_path, match=match)
    assert str(voice_path) in message


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b"\x00" * 50])
def test_a_description_that_is_no_json_is_refused(voice_path, content):
    voice_path.with_suffix(".json").write_bytes(content)
    refused(load_voice, voice_path, match="damaged")


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 64, b"\x08" + bytes(7) + b"[" * 8])
def test_weights_that_are_no_safetensors_are_refused(voice_path, content):
    voice_path.write_bytes(content)
    refused(load_voice, voice_path, match="damaged")


def test_a_pickle_in_a_voices_place_runs_nothing(voice_path, tmp_path):
    voice_path.write_bytes(pickle.dumps(Code(tmp_path / "made")))
    refused(load_voice, voice_path, match="damaged")
    assert not (tmp_path / "made").exists()


def test_a_writer_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    save_project(tmp_path, 1, project_of(1), keep=3)
    before = (tmp_path / "project_00000001.pt").read_bytes()

    def fail(_, file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    for step in (1, 2):
        with pytest.raises(OSError, match="No space"):
            save_project(tmp_path, step, project_of(9), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["project_00000001.pt"]
    assert (tmp_path / "project_00000001.pt").read_bytes() == before


def test_a_file_is_written_over_as_a_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomic(path, b"old")

    def fail(file):
        file.write(b"new")
        assert path.read_bytes() == b"old"  # a reader meanwhile
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    write_atomic(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_disk_that_fills_up_while_a_project_is_written_says_so(tmp_path, monkeypatch):
    """torch.save goes on to report its own trouble with a file that takes no more."""
    written, space = builtins.open, 5000

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() + len(data) > space:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(
        "builtins.open", lambda path, *rest: (Full if str(path).endswith(".tmp") else written)(path, *rest)
    )
    with pytest.raises(OSError, match="No space left"):
        save_project(tmp_path, 1, {"step": 1, "w": torch.randn(10000)}, 1)
    assert list(tmp_path.iterdir()) == []


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
    writer._thread.join()
    with pytest.raises(OSError, match="No space left"):
        writer.start(lambda: None) if how == "start" else getattr(writer, how)()
    writer.finish()  # it has been said


def test_a_copy_is_what_it_was_when_it_was_made():
    tree = {"a": [torch.ones(3), {"b": torch.zeros(2, dtype=torch.int64)}], "c": "word", "d": None, "e": 1.5}
    made = checkpoint.to_host(tree)
    tree["a"][0].add_(1), tree["a"][1]["b"].add_(1)
    assert made["a"][0].tolist() == [1, 1, 1] and made["a"][1]["b"].tolist() == [0, 0]
    assert {name: made[name] for name in "cde"} == {"c": "word", "d": None, "e": 1.5}
