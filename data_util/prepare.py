"""A corpus to train on from recordings as people have them: python -m data_util.prepare SRC DEST

DEST gets wavs/, mono, at audio.sample_rate and without silence at the ends; train.txt, valid.txt and test.txt;
voice.yaml, which training is to be given; and report.md, which says what there is, and what was left out and why.
SRC is only read. What is there already and has not changed is not made again.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from data_util import config as configuration
from data_util import corpus_readers
from data_util.audio import NEEDS_FFMPEG, AudioError, Sound, load_sound, save_wav
from data_util.corpus_readers import SEVERAL_TEXTS, Recording
from data_util.features import bar, digest, each, n_cpus
from data_util.tables import FLAGS
from runtime import command
from runtime.files import read_json_lines, write_atomic

SILENT = 1e-3  # a peak, full scale 1, under which there is nothing to hear
HELD_OUT = 20  # one clip of so many is for validation, and as many for the test
MOST_HELD_OUT = 100
ADVICE = {  # what helps where recordings are left out for a reason
    NEEDS_FFMPEG: "install ffmpeg, and the same command reads them",
    SEVERAL_TEXTS: "a recording is one clip here: cut the sounds as the rows of their table say, and name each cut",
    "no recording": "each is looked for beside its text, or in its table's folder, in those below it and the one above",
    "no speaker": "name it in each row, also where cells were merged, or make one voice with --speaker-column -",
    "no text": "each needs a .txt of the same name beside it, in UTF-8, or a row of a table",
    "longer than": "python -m training.cut cuts long recordings at pauses by their text; --longest takes longer ones",
}
DONE = "prepared.jsonl"  # what has been made, a line as soon as it is there


class PrepareError(ValueError):
    """Recordings that no corpus can be made of; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """sample_rate: Hz; trim_db: a frame that is so far under the clip's loudest is silence, 0: nothing is cut off;
    pause: seconds of it that stay at both ends; shortest, longest: seconds that a clip may have, without silence."""

    sample_rate: int
    trim_db: float = 40.0
    pause: float = 0.1
    shortest: float = 0.4
    longest: float = 20.0


@dataclass(frozen=True)
class Made:
    """What became of a recording. name; stamp: of what it was made from; fault: why it is left out; seconds before and
    after; sample_rate: Hz and channels, as recorded; size: bytes of the WAV."""

    name: str
    stamp: str
    fault: str = ""
    seconds_before: float = 0.0
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    size: int = 0


def make_wavs(
    recordings: Sequence[Recording], dest: Path, settings: Settings, n_workers: int, progress: bool = True
) -> dict[str, Made]:
    """Make the WAV of each recording that has a text, unless it is there: what became of it, by name.

    Raises OSError where it cannot be written; what has been made until then stays known.
    """
    known = _read_done(dest / DONE)
    stamps = {one.name: _stamp(one, settings) for one in recordings}
    made = {name: known[name] for name, stamp in stamps.items() if _still_good(known.get(name), stamp, dest)}
    todo = [one for one in recordings if one.name not in made]
    work = functools.partial(_make, dest=dest, settings=settings, stamps=stamps)
    dest.mkdir(parents=True, exist_ok=True)
    with open(dest / DONE, "a", encoding="utf-8") as file:
        if todo:
            file.write("\n")  # after a line that a killed process may have left torn
        for one in bar(each(work, todo, n_workers), len(todo), "recordings", progress):
            made[one.name] = one
            file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
            file.flush()
    return made


def process(wav: np.ndarray, sample_rate: int, settings: Settings) -> np.ndarray:
    """One recording as training wants it: (T,) float32 in [-1, 1] at settings.sample_rate, without its mean.

    wav: (T_wav,) float32, at sample_rate Hz. Raises AudioError: silent, too short or long.
    """
    import librosa  # here, since it takes a second

    wav = wav - wav.mean()
    if np.abs(wav).max() < SILENT:
        raise AudioError("no sound in it", "silent")
    if settings.trim_db > 0:
        frame = max(16, round(0.025 * sample_rate))
        _, (start, end) = librosa.effects.trim(
            wav, top_db=settings.trim_db, frame_length=frame, hop_length=max(1, frame // 4)
        )
        pause = round(settings.pause * sample_rate)
        wav = wav[max(start - pause, 0) : end + pause]
    seconds = len(wav) / sample_rate
    if seconds < settings.shortest:
        raise AudioError(f"{seconds:.2f} s without silence", f"shorter than {settings.shortest:g} s")
    if seconds > settings.longest:
        raise AudioError(f"{seconds:.2f} s without silence", f"longer than {settings.longest:g} s")
    if sample_rate != settings.sample_rate:
        wav = librosa.resample(wav, orig_sr=sample_rate, target_sr=settings.sample_rate, res_type="soxr_hq")
    return wav / max(1.0, float(np.abs(wav).max()))  # resampling can pass full scale between the samples


def read_recording(recording: Recording, settings: Settings) -> tuple[Sound, np.ndarray]:
    """A recording as it is, and as process() makes it. Raises AudioError, whatever is wrong with it."""
    try:
        if recording.path is None or not recording.path.is_file():
            raise AudioError(f"{recording.path or recording.name}: no such file", "no recording")
        if recording.fault:
            raise AudioError(f"{recording.path}: {recording.fault}", recording.fault)
        if not recording.text:
            raise AudioError(f"{recording.path}: no text that can be read", "no text that can be read")
        sound = load_sound(recording.path)
        return sound, process(sound.wav, sound.sample_rate, settings)
    except AudioError:
        raise
    except Exception as error:  # whatever a reader makes of a damaged file is the end of that file alone
        raise AudioError(f"{recording.path}: {error}", f"unreadable ({type(error).__name__})") from error


def _make(recording, dest, settings, stamps):
    about = {"name": recording.name, "stamp": stamps[recording.name]}
    try:
        sound, wav = read_recording(recording, settings)
    except AudioError as error:
        return Made(**about, fault=error.reason)
    path = dest / "wavs" / f"{recording.name}.wav"
    save_wav(path, wav, settings.sample_rate)
    rate = sound.sample_rate
    about |= {"sample_rate": rate, "channels": sound.channels, "seconds_before": round(len(sound.wav) / rate, 4)}
    return Made(**about, seconds=round(len(wav) / settings.sample_rate, 4), size=path.stat().st_size)


def _stamp(recording, settings):
    """Changes with the file, with whether there is a text, and with all that is done to it."""
    size = mtime = 0
    if recording.path is not None and recording.path.exists():
        status = recording.path.stat()
        size, mtime = status.st_size, status.st_mtime_ns
    is_clip = bool(recording.text and not recording.fault)
    parts = (recording.path, size, mtime, is_clip, sorted(asdict(settings).items()))
    return digest(*map(str, parts))[:16]


def _still_good(made, stamp, dest):
    if made is None or made.stamp != stamp:
        return False
    if made.fault == NEEDS_FFMPEG and shutil.which("ffmpeg"):
        return False
    path = dest / "wavs" / f"{made.name}.wav"
    return bool(made.fault) or path.is_file() and path.stat().st_size == made.size


def _read_done(path):
    """By name, the last line of each; one of another version says nothing."""
    known = {}
    for line in read_json_lines(path):
        with contextlib.suppress(TypeError):
            known[line.get("name")] = Made(**line)
    return known


# -- which clips are for what


def without_doubles(recordings: Sequence[Recording]) -> tuple[list[Recording], list[tuple[str, str]]]:
    """Of several with one name the first, and what is left out: the name, and why."""
    first: dict[str, Recording] = {}
    left_out = []
    for one in recordings:
        if not one.name:
            left_out.append(("(no name)", "rows that name no recording"))
        elif not _is_utf8(f"{one.name}{one.path}"):
            left_out.append((ascii(one.name), "a name that is not UTF-8: rename the file"))
        elif one.name.casefold() in first:
            left_out.append((one.name, "named twice"))
        else:
            first[one.name.casefold()] = one  # the same file where the system does not tell letters' case
    return list(first.values()), left_out


def _is_utf8(name):
    """Whether a file's name is text, which one from an old archive may not be."""
    return name.encode(errors="replace").decode() == name


def split(recordings: Sequence[Recording], n_held_out: int | None = None) -> dict[str, list[Recording]]:
    """train, valid and test: as the source has them, else by a digest of the names, so that a clip that was trained on
    is not held out when recordings are added. Of several speakers each is held out about equally often.

    n_held_out: clips for validation and as many for the test; None: one of HELD_OUT, MOST_HELD_OUT at most.
    Raises PrepareError where nothing would be left to train on.
    """
    n_held_out = max(1, min(MOST_HELD_OUT, len(recordings) // HELD_OUT)) if n_held_out is None else n_held_out
    lists = {name: [one for one in recordings if one.split == name] for name in ("train", "valid", "test")}
    lists["train"] += [one for one in recordings if not one.split]
    for name in ("valid", "test"):
        if not lists[name]:
            chosen = set(_held_out(lists["train"], n_held_out))
            lists[name] = [one for one in lists["train"] if one.name in chosen]
            lists["train"] = [one for one in lists["train"] if one.name not in chosen]
    if not lists["train"] or not lists["valid"]:
        raise PrepareError(
            f"{len(recordings)} usable clips are too few to hold {n_held_out} out for validation and for the test: "
            "add recordings, or hold out fewer with --held-out"
        )
    return lists


def _held_out(recordings, n):
    """The names of n of them: one of each speaker in turn."""
    place, counts = {}, Counter()
    for one in sorted(recordings, key=lambda one: hashlib.sha256(one.name.encode()).digest()):
        place[one.name] = (counts[one.speaker], len(place))
        counts[one.speaker] += 1
    return sorted(place, key=place.get)[:n]


# -- what is written beside the WAVs


def write_lists(lists: dict[str, list[Recording]], dest: Path, several: bool) -> None:
    for name, recordings in lists.items():
        lines = []
        for one in recordings:
            text = " ".join(one.text.replace("|", ", ").split())
            lines.append("|".join([f"{one.name}.wav", *([one.speaker] if several else []), text]) + "\n")
        write_atomic(dest / f"{name}.txt", "".join(lines).encode())


def overlay_of(dest: Path, config: configuration.Config, speakers: Sequence[str]) -> str:
    """voice.yaml: what training has to know of the corpus, and nothing of the model."""
    lists = {f"metafile_{name}": str(dest / f"{name}.txt") for name in ("train", "valid", "test")}
    tree = {
        "dataset": {"prtpath": str(dest), **lists},
        "audio": asdict(config.audio),  # all of it: a model for frames of another length is then refused
        "text": {"language": config.text.language},
        "speakers": {"names": list(speakers)},
    }
    about = "# Written by data_util.prepare, and anew each time. Give it to training: bash run.sh -c this file\n"
    return about + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def report_of(
    source: Path, layout: str, lists: dict[str, list[Recording]], made: dict[str, Made],
    left_out: list[tuple[str, str]], sample_rate: int,
) -> str:  # fmt: skip
    """report.md: what there is, and what was left out and why."""
    used = [one for recordings in lists.values() for one in recordings]
    seconds = np.array([made[one.name].seconds for one in used])
    rates = Counter(f"{made[one.name].sample_rate:,} Hz" for one in used)
    rate = np.array([len(one.text) for one in used]) / seconds
    low, middle, high = np.percentile(seconds, (5, 50, 95))
    before = sum(made[one.name].seconds_before for one in used)
    counts = Counter(reason for _, reason in left_out)
    lines = ["# Prepared recordings", "", f"- from: {source}, layout {layout}"]
    lines += [f"- clips: {len(used)}, {seconds.sum() / 60:.1f} minutes, of {before / 60:.1f} minutes recorded"]
    lines += [f"- {name}: {len(recordings)} clips" for name, recordings in lists.items()]
    lines += [f"- seconds a clip: {middle:.1f} in the middle, 90% from {low:.1f} to {high:.1f}"]
    lines += [f"- characters a second: {np.median(rate):.1f} in the middle"]
    lines += ["- recorded at: " + ", ".join(f"{what} ({n})" for what, n in rates.most_common())]
    lower = sum(made[one.name].sample_rate < sample_rate for one in used)
    lines += [f"- recorded under {sample_rate:,} Hz, so that the highest bands are empty: {lower}"] if lower else []
    lines += [f"- several channels, mixed down: {sum(made[one.name].channels > 1 for one in used)}"]
    speakers = Counter(one.speaker for one in used)
    if len(speakers) > 1:
        minutes = {name: sum(made[one.name].seconds for one in used if one.speaker == name) / 60 for name in speakers}
        lines += ["", "| speaker | clips | minutes |", "|---|---:|---:|"]
        lines += [f"| {name} | {n} | {minutes[name]:.1f} |" for name, n in sorted(speakers.items())]
    lines += ["", f"## Left out: {len(left_out)}", ""]
    lines += [f"- {reason}: {n}" for reason, n in counts.most_common()]
    lines += [""] + [f"    {name}: {reason}" for name, reason in sorted(left_out)] if left_out else []
    return "\n".join(lines) + "\n"


# -- the command


class Source(NamedTuple):
    """What a command line names: root, what is read; dest, what is written; left_out: names that are not tried, and
    why."""

    config: configuration.Config
    root: Path
    dest: Path
    layout: str
    recordings: list[Recording]
    left_out: list[tuple[str, str]]


def read_source(args: argparse.Namespace) -> Source:
    """Of arguments as of add_source(). Raises PrepareError where DEST is not outside of SRC or no recording is named,
    and as corpus_readers."""
    config = configuration.load(args.overlays, args.overrides)
    source, dest = args.source.resolve(), args.dest.resolve()
    root = source if source.is_dir() else source.parent
    if dest == root or (source.is_dir() and dest.is_relative_to(root)) or root.is_relative_to(dest):
        raise PrepareError(f"{dest}: must lie outside of {root}, which is only read")
    columns = {kind: given for kind in FLAGS if (given := getattr(args, f"{kind}_column")) is not None}
    layout, found = corpus_readers.read(source, args.layout, columns, args.folders_speak)
    recordings, left_out = without_doubles(found)
    if not recordings:
        raise PrepareError(f"{source}: no row names a recording. Say which column does with {FLAGS['audio']}")
    return Source(config, source, dest, layout, recordings, left_out)


def run(args: argparse.Namespace) -> None:
    config, source, dest, layout, recordings, untried = read_source(args)
    settings = Settings(config.audio.sample_rate, args.trim_db, args.pause, args.shortest, args.longest)
    made = make_wavs(recordings, dest, settings, args.jobs, sys.stderr.isatty() or args.progress)
    left_out = [(one.name, made[one.name].fault) for one in recordings if made[one.name].fault] + untried
    good = [one for one in recordings if not made[one.name].fault]
    if any(one.speaker for one in good):
        left_out += [(one.name, "no speaker, and others have one") for one in good if not one.speaker]
        good = [one for one in good if one.speaker]
    reasons = Counter(reason for _, reason in left_out)
    said = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
    if not good:
        raise PrepareError(f"{source}: none of its {len(recordings)} recordings can be used ({said}). "
                           f"{_first_fault(layout, recordings, made)}")  # fmt: skip
    speakers = sorted({one.speaker for one in good})
    speakers = speakers if len(speakers) > 1 else []
    hours = sum(made[one.name].seconds for one in good) / 3600
    print(f"{layout}: {len(good)} clips, {hours:.2f} hours, {max(1, len(speakers))} speakers", end="; ")
    print(f"left out {len(left_out)}{f': {said}' if said else ''}")
    for reason, advice in ADVICE.items():
        n = sum(one.startswith(reason) for _, one in left_out)
        if n:
            print(f"{n} {reason}: {advice}")
    gone = sum(not one.fault and name not in made for name, one in _read_done(dest / DONE).items())
    if gone:
        print(f"{gone} clips of an earlier call are in the lists no more, since {source} does not have them")
    lists = split(good, args.held_out)
    write_lists(lists, dest, bool(speakers))
    write_atomic(dest / "voice.yaml", overlay_of(dest, config, speakers).encode())
    write_atomic(dest / "report.md", report_of(source, layout, lists, made, left_out, settings.sample_rate).encode())
    print(f"report: {dest / 'report.md'}")
    overlays = (word for name in args.overlays for word in ("-c", name))  # frames of another length need them again
    print("next: python -m data_util.check", shlex.join([str(args.dest), *overlays]))


def _first_fault(layout, recordings, made):
    """The first recording that was tried, what is wrong with it, and what may help."""
    first, fault = recordings[0], made[recordings[0].name].fault
    advice = next((advice for reason, advice in ADVICE.items() if fault.startswith(reason)), "")
    if layout == "list" and fault in ("no recording", "no text that can be read"):
        advice += f". Say which columns name recordings and texts with {FLAGS['audio']} and {FLAGS['text']}"
    return f"The first is {first.path or first.name}: {fault}. {advice}".strip()


def add_source(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what is read, and how, and where what is made of it goes."""
    parser.add_argument("source", type=Path, metavar="SRC", help="a folder of recordings, or a table")
    parser.add_argument("dest", type=Path, metavar="DEST", help="the corpus's folder; made where it is missing")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="for example audio.sample_rate=16000")
    parser.add_argument("-c", "--config", dest="overlays", action="append", default=[], metavar="NAME_OR_FILE",
                        help="an overlay in configs/, or a YAML file")  # fmt: skip
    parser.add_argument("--layout", default="auto", choices=["auto", *corpus_readers.LAYOUTS],
                        help="of SRC; auto: the first that fits")  # fmt: skip
    for kind, flag in FLAGS.items():
        none = "; - for none" if kind == "speaker" else ""
        parser.add_argument(flag, metavar="COLUMN", help=f"of a table, that of the {kind}: its name, or its position "
                            f"from 1{none}. Without it the column is found by what it holds")  # fmt: skip
    parser.add_argument("--folders-speak", action="store_true", help="a folder's name is the speaker of what it holds")
    parser.add_argument("--progress", action="store_true", help="show the bar where this is no terminal too")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data_util.prepare", description=__doc__.splitlines()[0],
                                     allow_abbrev=False, formatter_class=command.Help)  # fmt: skip
    add_source(parser)
    parser.add_argument("--held-out", type=int, metavar="N", help="clips for validation, and as many for the test; by "
                        f"default one in {HELD_OUT}, {MOST_HELD_OUT} at most")  # fmt: skip
    parser.add_argument(
        "--trim-db", type=float, default=Settings.trim_db, help="under a clip's loudest; 0: no trimming"
    )
    parser.add_argument("--pause", type=float, default=Settings.pause, help="seconds of silence that stay at both ends")
    parser.add_argument("--shortest", type=float, default=Settings.shortest, help="seconds")
    parser.add_argument("--longest", type=float, default=Settings.longest, help="seconds")
    parser.add_argument("--jobs", type=int, default=n_cpus(), help="processes (default: one a core)")
    args = parser.parse_intermixed_args(argv)
    if args.jobs < 1 or args.held_out is not None and args.held_out < 1:
        parser.error("--jobs and --held-out must be at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status, as of command.exit_status."""
    stopped = "stopped; the same command goes on from here"
    return command.exit_status(run, parse_args(argv), "data_util.prepare", stopped)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core is as much as there is
    sys.exit(main())
