"""Clips in a folder that is small enough to be carried: python -m benchmarks.packed pack|unpack FROM TO."""

import concurrent.futures
import shutil
import sys
from pathlib import Path

import soundfile

from data_util.config import ROOT

LISTS = {"train.txt": "small_train.txt", "valid.txt": "small_test.txt"}
QUALITY = 0.85  # of Ogg Vorbis, from 0 to 1
LEAST_SECONDS = 2.3  # of a clip to train on: every cut is full, and one graph does for all steps
N_FEW = 48  # clips that measurements are made with


def encode(wav: Path, ogg: Path) -> None:
    samples, rate = soundfile.read(wav, dtype="float32")
    soundfile.write(ogg, samples, rate, format="OGG", subtype="VORBIS", compression_level=1 - QUALITY)


def decode(ogg: Path, wav: Path) -> None:
    samples, rate = soundfile.read(ogg, dtype="float32")
    soundfile.write(wav, samples.clip(-1, 1), rate, subtype="PCM_16")


def pack(corpus: Path, folder: Path) -> None:
    """The clips of LISTS from a corpus laid out as LJSpeech into folder/clips, and their lists and texts."""
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    wanted = set()
    for name, source in LISTS.items():
        ids = (ROOT / "data_util" / source).read_text(encoding="utf-8").split()
        if name == "train.txt":
            ids = [one for one in ids if soundfile.info(corpus / "wavs" / f"{one}.wav").duration >= LEAST_SECONDS]
            (folder / "few.txt").write_text("".join(f"{one}\n" for one in ids[:N_FEW]), encoding="utf-8")
        (folder / name).write_text("".join(f"{one}\n" for one in ids), encoding="utf-8")
        wanted |= set(ids)
    for one in sorted(wanted):
        encode(corpus / "wavs" / f"{one}.wav", folder / "clips" / f"{one}.ogg")
    lines = (corpus / "metadata.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if line.split("|")[0] in wanted)
    (folder / "metadata.csv").write_text(kept, encoding="utf-8")


def unpack(folder: Path, corpus: Path) -> None:
    """What pack has made, laid out as LJSpeech again."""
    (corpus / "wavs").mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        clips = sorted((folder / "clips").glob("*.ogg"))
        list(pool.map(decode, clips, [corpus / "wavs" / f"{clip.stem}.wav" for clip in clips]))
    for name in (*LISTS, "few.txt", "metadata.csv"):
        shutil.copy(folder / name, corpus / name)


if __name__ == "__main__":
    {"pack": pack, "unpack": unpack}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
