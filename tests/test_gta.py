"""Teacher-forced latents on disk: what was written is read, in the shares asked for; what does not fit is a line."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from data_util import config as configuration
from data_util import gta
from data_util.gta import About, GTALatents, LatentsError
from runtime.files import write_json
from tests import conftest
from training import checkpoint, extract

N_LATENTS, TIMES, SHARES = 3, [1.0, 0.5, 0.1], [0.5, 0.25, 0.25]  # shares whose sums are exact
LENGTHS = (5, 9, 4, 7)  # frames of clips 0, 1, ...


def written(folder, indices, shares=SHARES):
    """A complete folder of latents; gives them, (n_times, n_latents, T_mel) by index."""
    made = {}
    for index in indices:
        made[index] = np.random.default_rng(index).normal(-5, 3, (len(TIMES), N_LATENTS, LENGTHS[index]))
        gta.save(folder, index, made[index])
    gta.complete(folder, "clips", indices, About(TIMES, shares))
    return made


def refused(match, function, *arguments):
    conftest.refused(LatentsError, re.escape(match), function, *arguments)


def test_what_is_written_is_read_in_half_precision_and_two_folders_as_one(tmp_path):
    made = written(tmp_path / "odd", range(1, 4, 2)) | written(tmp_path / "even", range(0, 4, 2))
    latents = GTALatents([tmp_path / "odd", tmp_path / "even"], "clips")
    for index, one in made.items():
        for which, u in enumerate((0.2, 0.6, 0.9)):
            found, t = latents.read(index, u, 0, 99)
            assert t == TIMES[which] and found.dtype == np.float32 and found.shape == (N_LATENTS, LENGTHS[index])
            assert np.abs(found - one[which]).max() <= 2**-11 * np.abs(one[which]).max()  # its 11 binary digits
    found[:] = 0  # a copy that whoever reads it may change


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        (SHARES, {0.0: 1.0, np.nextafter(0.5, 0): 1.0, 0.5: 0.5, 0.75: 0.1, np.nextafter(1, 0): 0.1}),
        ([0.7, 0.2, 0.1 - 1e-10], {0.69: 1.0, 0.71: 0.5, np.nextafter(1, 0): 0.1}),  # rounding leaves no gap
    ],
)
def test_u_chooses_the_times_by_their_shares(tmp_path, shares, wanted):
    written(tmp_path, [0], shares)
    latents = GTALatents([tmp_path], "clips")
    assert {u: latents.read(0, u, 0, 1)[1] for u in wanted} == wanted


def test_frames_are_those_asked_for_and_end_with_the_clip(tmp_path):
    made = written(tmp_path, [1])[1].astype(np.float16)
    latents = GTALatents([tmp_path], "clips")
    assert np.array_equal(latents.read(1, 0.0, 2, 3)[0], made[0, :, 2:5])
    assert np.array_equal(latents.read(1, 0.9, 6, 8)[0], made[2, :, 6:9])
    assert latents.read(1, 0.0, 9, 8)[0].shape == (N_LATENTS, 0)


def test_a_part_of_the_list_counts_by_its_own_places(tmp_path):
    made = written(tmp_path, [0, 1, 3])
    part = GTALatents([tmp_path], "clips", [3, 1])
    for place, index in enumerate((3, 1)):
        assert np.array_equal(part.read(place, 0.0, 0, 99)[0], made[index][0].astype(np.float16))
    refused("training.gta_folders: no latents of clip 2 of dataset.metafile_train", GTALatents, [tmp_path], "clips",
            range(4))  # fmt: skip


def test_what_is_incomplete_or_of_something_else_is_refused(tmp_path):
    folder = tmp_path / "even"
    for about in (None, [], {"content": "other clips", "times": TIMES, "shares": SHARES, "indices": [0]}):
        written(folder, [0])
        (folder / gta.INDEX).unlink() if about is None else write_json(folder / gta.INDEX, about)
        refused(f"{folder}: no such latents of these clips: write them with", GTALatents, [folder], "clips")
    (folder / gta.INDEX).write_text('{"content":')
    refused(f"{folder}: no such latents of these clips", GTALatents, [folder], "clips")
    written(folder, [0])
    written(tmp_path / "odd", [1], [0.25, 0.25, 0.5])
    refused(f"{tmp_path / 'odd'}: its times and shares are not those of {folder}", GTALatents,
            [folder, tmp_path / "odd"], "clips")  # fmt: skip


def test_latents_are_written_again_for_other_clips_alone(tmp_path, monkeypatch):
    """Also where the list of clips has kept its name, and the run has not gone on."""
    written_for, data, config = [], SimpleNamespace(), {"config": configuration.to_dict(configuration.load())}
    (tmp_path / "project.pt").touch()
    monkeypatch.setattr(checkpoint, "find", lambda *_: tmp_path / "project.pt")
    monkeypatch.setattr(checkpoint, "load_checkpoint", lambda _: config)
    monkeypatch.setattr(extract, "prepare_data", lambda *_: data)
    monkeypatch.setattr(extract, "content_of_latents", lambda _, clips: clips)
    monkeypatch.setattr(extract, "make_state", lambda *_: None)

    def write(_, __, folder, about):
        written_for.append(data.clips)
        gta.complete(folder, data.clips, [0], about)

    monkeypatch.setattr(extract, "extract", write)
    for data.clips in ("clips", "clips", "fewer clips", "fewer clips"):
        assert extract.main(["run", "-o", str(tmp_path / "gta"), "--device", "cpu"]) == 0
    assert written_for == ["clips", "fewer clips"]


@pytest.mark.parametrize("damage", ["gone", "empty", "truncated", "foreign", "code", "fewer times", "one axis"])
def test_latents_that_cannot_be_read_are_named(tmp_path, damage):
    written(tmp_path, [1, 2])
    latents, path = GTALatents([tmp_path], "clips"), tmp_path / "000001.npy"
    if damage == "gone":
        path.unlink()
    elif damage == "code":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif damage in ("fewer times", "one axis"):
        np.save(path, np.zeros((2, N_LATENTS, 9)[: 3 if damage == "fewer times" else 1], dtype=np.float16))
    else:
        path.write_bytes({"empty": b"", "truncated": path.read_bytes()[:-10], "foreign": b"RIFF" * 99}[damage])
    refused(f"latents of clip 1 in {tmp_path}: ", latents.read, 1, 0.9, 0, 4)
    assert latents.read(2, 0.9, 0, 4)[0].shape == (N_LATENTS, 4)  # the others are as good as they were
    refused("latents of clip 3", latents.read, 3, 0.0, 0, 4)
