"""Posterior means on disk: what was written is read, in the shares asked for, and what does not fit is a line."""

import json
import re

import numpy as np
import pytest

from data_util import means
from data_util.checkpoint import CheckpointError
from data_util.means import Means

N_LATENTS, TIMES, SHARES = 3, (1.0, 0.5, 0.1), (0.5, 0.25, 0.25)  # shares whose sums are exact
LENGTHS = (5, 9, 4, 7)  # frames of clips 0, 1, ...


def written(folder, indices, content="clips", times=TIMES):
    """A complete folder of means; gives them, (n_times, n_latents, T_mel) by index."""
    made = {}
    for index in indices:
        made[index] = np.random.default_rng(index).normal(-5, 3, (len(times), N_LATENTS, LENGTHS[index]))
        means.save_mean(folder, index, made[index])
    means.complete(folder, content, times, indices)
    return made


def refused(match, function, *arguments):
    with pytest.raises(CheckpointError, match=re.escape(match)) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read_in_half_precision(tmp_path):
    made = written(tmp_path / "means", range(4))
    read = Means([tmp_path / "means"], "clips", TIMES, SHARES)
    for index, mean in made.items():
        for which, u in enumerate((0.2, 0.6, 0.9)):
            found, t = read.read(index, u, 0, LENGTHS[index])
            assert t == TIMES[which] and found.dtype == np.float32
            assert found.shape == (N_LATENTS, LENGTHS[index])
            assert np.abs(found - mean[which]).max() <= 2**-11 * np.abs(mean[which]).max()  # its 11 binary digits
    found[:] = 0  # a copy that whoever reads it may change


def test_u_chooses_the_times_by_their_shares(tmp_path):
    written(tmp_path / "means", [0])
    read = Means([tmp_path / "means"], "clips", TIMES, SHARES)
    below = np.nextafter
    wanted = [(0.0, 1.0), (below(0.5, 0), 1.0), (0.5, 0.5), (below(0.75, 0), 0.5), (0.75, 0.1), (below(1, 0), 0.1)]
    assert [read.read(0, u, 0, 1)[1] for u, _ in wanted] == [t for _, t in wanted]
    assert [read.read(0, (i + 0.5) / 8, 0, 1)[1] for i in range(8)] == [1.0] * 4 + [0.5] * 2 + [0.1] * 2


def test_shares_that_rounding_makes_less_than_one_leave_no_gap(tmp_path):
    written(tmp_path / "means", [0])
    read = Means([tmp_path / "means"], "clips", TIMES, (0.7, 0.2, 0.1 - 1e-10))
    assert read.read(0, np.nextafter(1, 0), 0, 1)[1] == 0.1


def test_frames_are_those_asked_for_and_end_with_the_clip(tmp_path):
    made = written(tmp_path / "means", [1])[1].astype(np.float16)
    read = Means([tmp_path / "means"], "clips", TIMES, SHARES)
    assert np.array_equal(read.read(1, 0.0, 2, 3)[0], made[0, :, 2:5])
    assert np.array_equal(read.read(1, 0.9, 6, 8)[0], made[2, :, 6:9])
    assert read.read(1, 0.0, 9, 8)[0].shape == (N_LATENTS, 0)


def test_two_halves_are_read_as_one(tmp_path):
    made = written(tmp_path / "odd", range(1, 4, 2)) | written(tmp_path / "even", range(0, 4, 2))
    read = Means([tmp_path / "odd", tmp_path / "even"], "clips", TIMES, SHARES)
    for index, mean in made.items():
        assert np.array_equal(read.read(index, 0.0, 0, 99)[0], mean[0].astype(np.float16))


def test_a_part_of_the_list_counts_by_its_own_places(tmp_path):
    made = written(tmp_path / "means", range(4))
    whole = Means([tmp_path / "means"], "clips", TIMES, SHARES)
    part = whole.of([3, 1])
    for place, index in enumerate((3, 1)):
        assert np.array_equal(part.read(place, 0.0, 0, 99)[0], made[index][0].astype(np.float16))
    with pytest.raises(IndexError):
        part.indices[2]
    assert np.array_equal(whole.read(1, 0.0, 0, 99)[0], made[1][0].astype(np.float16))  # as it was


def test_a_folder_is_complete_when_it_says_so(tmp_path):
    assert not means.is_complete(tmp_path / "means")
    means.save_mean(tmp_path / "means", 0, np.zeros((3, 3, 3)))
    assert not means.is_complete(tmp_path / "means")
    means.complete(tmp_path / "means", "clips", TIMES, [0])
    assert means.is_complete(tmp_path / "means")
    means.discard(tmp_path / "means")
    means.discard(tmp_path / "nowhere")
    assert not means.is_complete(tmp_path / "means")
    (tmp_path / "means" / means.INDEX).write_text('{"content":')
    assert not means.is_complete(tmp_path / "means")


@pytest.mark.parametrize(
    "about",
    [
        None,
        [],
        {"content": "other clips", "times": list(TIMES), "indices": [0]},
        {"content": "clips", "times": [1.0, 0.5], "indices": [0]},
        {"content": "clips", "times": [1.0, 0.5, 0.2], "indices": [0]},
    ],
    ids=["incomplete", "foreign", "content", "fewer times", "times"],
)
def test_means_of_something_else_are_refused(tmp_path, about):
    folder = tmp_path / "even" / "means"
    written(folder, [0])
    if about is None:
        (folder / means.INDEX).unlink()
    else:
        (folder / means.INDEX).write_text(json.dumps(about))
    refused(f"{folder}: not the posterior means", Means, [folder], "clips", TIMES, SHARES)


@pytest.mark.parametrize("damage", ["gone", "empty", "truncated", "foreign", "code", "fewer times", "one axis"])
def test_a_mean_that_cannot_be_read_is_named(tmp_path, damage):
    folder = tmp_path / "even" / "means"
    written(folder, [1, 2])
    read, path = Means([folder], "clips", TIMES, SHARES), folder / "000001.npy"
    if damage == "gone":
        path.unlink()
    elif damage == "code":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    elif damage == "fewer times":
        np.save(path, np.zeros((2, N_LATENTS, 9), dtype=np.float16))
    elif damage == "one axis":
        np.save(path, np.zeros(9, dtype=np.float16))
    else:
        path.write_bytes({"empty": b"", "truncated": path.read_bytes()[:-10], "foreign": b"RIFF" * 99}[damage])
    refused(f"posterior mean of clip 1 in {folder}: ", read.read, 1, 0.9, 0, 4)
    assert read.read(2, 0.9, 0, 4)[0].shape == (N_LATENTS, 4)  # the others are as good as they were


def test_a_clip_without_a_mean_is_named(tmp_path):
    written(tmp_path / "means", [1, 2])
    refused("posterior mean of clip 3", Means([tmp_path / "means"], "clips", TIMES, SHARES).read, 3, 0.0, 0, 4)
