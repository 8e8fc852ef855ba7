"""How cost grows: python -m benchmarks.growth [-c NAME_OR_FILE ...] [section.key=value ...].

A step of training over the length of its clips, their number and the number of speakers, and speech over its length:
seconds, and the most memory, each case in a process of its own. The clips are noise, as long as they are asked for.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import machine
from benchmarks.synthesis import SENTENCE, SENTENCE_SECONDS, TEXT, length_scale_for, median_seconds, random_voice, table
from benchmarks.training import joint, measure
from data_util import config as configuration
from data_util.audio import save_wav
from evaluate import apart
from evaluation.memory import peak_memory
from runtime import command
from sampling import Voice
from training.data import read_data

CASES = (  # what grows, its key in USUAL, to what, what a step's seconds are shown for one of
    ("seconds of each clip", "seconds", (2, 5, 10, 20), "second"),
    ("clips of a step", "batch", (1, 4, 16, 32), "clip"),
    ("speakers", "speakers", (1, 10, 100), ""),
)
USUAL = {"seconds": 5, "batch": 8, "speakers": 1}  # of a step, where it is not what grows
SPEECH_SECONDS = (2, 5, 10, 20, 60)
CHARACTERS_A_SECOND = 14  # of English
ROUNDS = 3


def corpus(folder: Path, seconds: float, n_clips: int, n_speakers: int, sample_rate: int) -> Path:
    """Clips of noise as long as that, spoken in turns, and texts that fit; returns their list."""
    text, lines = (TEXT * 10)[: round(CHARACTERS_A_SECOND * seconds)].strip(), []
    for i in range(n_clips):
        noise = 0.1 * np.random.default_rng(i).standard_normal(round(seconds * sample_rate)).astype(np.float32)
        save_wav(folder / "wavs" / f"{i}.wav", noise, sample_rate)
        who = f"speaker{i % n_speakers}|" if n_speakers > 1 else ""
        lines.append(f"{i}.wav|{who}{text}\n")
    (folder / "list.txt").write_text("".join(lines), encoding="utf-8")
    return folder / "list.txt"


def step(overlays: Sequence[str], overrides: Sequence[str], n_threads: int, seconds: float, batch: int, speakers: int):
    """A step's seconds, the median of some, and the most memory in bytes."""
    torch.set_num_threads(n_threads)
    with tempfile.TemporaryDirectory() as name:
        folder, rate = Path(name), configuration.load(overlays, overrides).audio.sample_rate
        clips = corpus(folder, seconds, max(batch, speakers), speakers, rate)
        names = f"[{', '.join(f'speaker{i}' for i in range(speakers))}]" if speakers > 1 else "[]"
        lists = [f"dataset.metafile_{part}={clips}" for part in ("train", "valid", "test")]
        own = [f"dataset.prtpath={folder}", f"dataset.cache={folder / 'cache'}", f"training.batch_size={batch}",
               f"speakers.names={names}", "alignment.init=none", "text.longest=1000"]  # fmt: skip
        config = joint(configuration.load(overlays, [*overrides, *lists, *own]))
        rounds, _, peak = measure(config, read_data(config, progress=False), ROUNDS)
    return statistics.median(one["whole"] for one in rounds), peak


def speech(overlays: Sequence[str], n_threads: int, seconds: float):
    """Seconds until a text of random weights has been spoken that lasts so long, and the most memory in bytes."""
    torch.set_num_threads(n_threads)
    with tempfile.TemporaryDirectory() as folder:
        voice = Voice.load(random_voice("+".join(overlays) or "config", Path(folder)))
    text = " ".join([SENTENCE] * max(1, round(seconds / SENTENCE_SECONDS)))
    scale = length_scale_for(voice, text, seconds)
    spent = median_seconds(lambda: voice.speak(text, seed=0, length_scale=scale), ROUNDS)
    return spent, peak_memory()


def row(what: str, value: float, unit: str, found: tuple[float, int | None]) -> list[str]:
    spent, peak = found
    each = f"{spent / value:.3f} a {unit}" if unit else ""
    return [what, f"{value:g}", f"{spent:.3f}", each, f"{(peak or np.nan) / 2**30:.2f}"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.split(":")[0],
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("-c", "--config", dest="c", metavar="NAME_OR_FILE", action="append", help="as of train.py")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="of a step; over all the files")
    args = parser.parse_intermixed_args(argv)
    overlays, rows = args.c or [], [["what grows", "to", "s", "each", "GiB"]]
    cases = [(what, key, value, unit) for what, key, values, unit in CASES for value in values]
    for what, key, value, unit in tqdm(cases, desc="steps", ncols=command.columns()):
        found = apart(step, overlays, args.overrides, args.threads, *(USUAL | {key: value}).values())
        rows.append(row(what, value, unit, found))
    for seconds in tqdm(SPEECH_SECONDS, desc="speech", ncols=command.columns()):
        rows.append(row("seconds of speech", seconds, "second", apart(speech, overlays, args.threads, seconds)))
    usual = f"{USUAL['batch']} clips of {USUAL['seconds']} s, one speaker"
    print(f"A step of {usual}, where one of them does not grow; {args.threads} threads; {machine.described()}\n")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
