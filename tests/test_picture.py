"""The picture of a validation: a whole PNG, whatever the clip."""

import struct
import zlib

import numpy as np
import pytest

from data_util.picture import save_validation


def chunks(png):
    """The (type, content) of a PNG's chunks, each of which has the right checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, []
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        content = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + content)
        found.append((kind, content))
        at += 12 + length
    return found


def picture(path, lengths, durations, symbols):
    random = np.random.default_rng(0)
    mels = {f"clip_{i}: one_step": random.normal(-5, 2, (80, n)).astype(np.float32) for i, n in enumerate(lengths)}
    save_validation(path, mels, np.array(durations), symbols, 256 / 22050)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("lengths", "durations", "symbols"),
    [
        ((2, 2, 2), [2], ["a"]),
        ((2, 1, 3), [1, 1], ["_", "a"]),
        ((120, 118, 125), [3, 0, 17, 40, 60], ["_", "ˈ", "ɜ", "\u0303", "$"]),
        ((50,), [50], [" "]),
    ],
)
def test_a_whole_png(tmp_path, lengths, durations, symbols):
    path = tmp_path / "samples" / "00000010" / "clip.png"
    kinds = chunks(picture(path, lengths, durations, symbols))
    assert kinds[0][0] == b"IHDR" and kinds[-1] == (b"IEND", b"")
    width, height = struct.unpack(">II", kinds[0][1][:8])
    assert width >= 600 and height >= 120 * (len(lengths) + 1)
    pixels = zlib.decompress(b"".join(content for kind, content in kinds if kind == b"IDAT"))
    assert len(set(pixels)) > 50  # not a blank page
    assert [one.name for one in path.parent.iterdir()] == ["clip.png"]


def test_silence_is_a_picture_too(tmp_path):
    mels = {"silence": np.full((80, 20), np.log(1e-5), dtype=np.float32)}
    save_validation(tmp_path / "clip.png", mels, np.array([20]), ["_"], 256 / 22050)
    assert chunks((tmp_path / "clip.png").read_bytes())


def test_other_durations_are_another_picture(tmp_path):
    one = picture(tmp_path / "a.png", (20, 20), [5, 15], ["a", "b"])
    assert one == picture(tmp_path / "b.png", (20, 20), [5, 15], ["a", "b"])
    assert one != picture(tmp_path / "c.png", (20, 20), [10, 10], ["a", "b"])
