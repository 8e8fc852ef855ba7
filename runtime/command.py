"""What the commands that speak share: their arguments, what is to be said, where it goes and what is there already."""

import argparse
import json
import os
import re
import shutil
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime import sound_files, timestamps
from runtime.chunking import Settings
from runtime.files import check_folder, read_json_lines, write_atomic
from runtime.text_files import decode, parts_of
from text import TextError

COLUMNS = 100  # of a progress bar and of a help text, where the terminal has so many
STEM_LENGTH = 40  # characters of a text that its file is named by
BATCH_TEXTS = 64  # of a file, between two moves of the progress bar
STDOUT = Path("-")
LISTED = re.compile(r"[^\s|]+\s*\|")  # where all lines begin so, spaces around the pipe are of no account
Texts = list[tuple[str | None, str]]  # each with its name, None where it has none


class Help(argparse.HelpFormatter):
    """Help texts with the defaults that are worth saying."""

    def __init__(self, prog: str):
        super().__init__(prog, width=columns() - 2)

    def _get_help_string(self, action: argparse.Action) -> str:
        said, default = action.help or "", action.default
        if default is None or default is False or default in ([], argparse.SUPPRESS) or "default" in said:
            return said
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else "%(default)s"
        return f"{said} (default: {shown})".strip()


def exit_status(
    run: Callable[[argparse.Namespace], int | None], args: argparse.Namespace, prog: str, stopped: str = "stopped"
) -> int:
    """Do what a command does. Returns what run does, None counts as 0, or, after one clear line on standard error, 1
    for an error and 130 for Ctrl-C. A RuntimeError, which may be any library's, is raised where args has no --debug to
    show it. stopped: the line after Ctrl-C."""
    try:
        return run(args) or 0
    except (ValueError, OSError, RuntimeError) as error:
        if getattr(args, "debug", isinstance(error, RuntimeError)):
            raise
        print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: {stopped}", file=sys.stderr)
        return 130


def columns() -> int:
    """The width of what is shown in the terminal."""
    return min(COLUMNS, shutil.get_terminal_size().columns)


def add_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """What says what is spoken, how and whereto. default: what is spoken where no text is given."""
    parser.add_argument("text", nargs="*", help=f"what to say, or - for standard input; {default}")
    parser.add_argument("-f", "--file", metavar="FILE", help="one text a line, or name|text, or - for standard input")
    parser.add_argument("--overwrite", action="store_true", help="with -f: speak all of them, also what is there")
    parser.add_argument("-o", "--out", type=Path, default=Path("speech"),
                        help="a .wav, .flac, .ogg or .mp3 for one text, - for WAV on standard output as it is made, or "
                        "a folder")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same sound")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the noise")
    parser.add_argument("--length-scale", type=float, default=1.0, help="over 1 slower, under 1 faster")
    parser.add_argument("--sentence-pause", type=float, metavar="SECONDS", help="between two sentences")
    parser.add_argument("--loudness", type=float, metavar="LUFS", help="to bring the sound to, for example -23")
    parser.add_argument("--speaker", metavar="NAME", help="of a voice of several; without it the first of them")
    parser.add_argument("--timestamps", choices=timestamps.FORMATS, help="of words and phonemes, beside the sound")
    parser.add_argument("-l", "--lexicon", metavar="FILE", help="words and how they are said: word = respelling")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    args = parser.parse_intermixed_args(argv)  # options may stand between texts
    args.prog = parser.prog
    if args.file is not None and args.text:
        parser.error("give texts or -f FILE, not both")
    return args


def settings_of(args: argparse.Namespace, kind: type[Settings]) -> Settings:
    """What of the arguments is a setting, and whether -o can be written. Raises ValueError, OSError."""
    settings = kind(**{name: getattr(args, name) for name in kind.__dataclass_fields__})
    if args.out == STDOUT:
        if args.timestamps or args.file:
            raise ValueError("-o -: standard output is for the sound of one text: name a file or a folder")
        return settings
    check_folder(args.out.parent if is_one_sound(args.out) else args.out)
    return settings


def is_one_sound(out: Path) -> bool:
    """Whether -o names standard output or a file; a folder is what has no suffix, or is one already. Raises ValueError
    for a suffix of no format that is written."""
    if out == STDOUT:
        return True
    if out.is_dir() or not out.suffix:
        return False
    sound_files.format_of(out)
    return True


# -- what is to be said


def texts_of(args: argparse.Namespace) -> Texts | None:
    """All that is to be spoken; None where nothing is named. Of standard input one sound has the whole, a folder a
    sound of each line."""
    if args.file is not None:
        lines = [line.strip() for line in _read(args.file).split("\n") if line.strip()]
        is_list = all(map(LISTED.match, lines))
        return [_named(line, is_list) for line in lines]
    if args.text == ["-"] or not args.text and _is_piped():
        text = _read("-")
        return [(None, text)] if is_one_sound(args.out) else [(None, one) for one in text.splitlines() if one.strip()]
    return [(None, text) for text in args.text] or None


def _named(line, is_list):
    """The name, None for none, and the text of a line. A pipe after a space or a sentence's end is one of the text, but
    in a list; of several texts without spaces around the pipes, as LJSpeech's lists have them, the last counts."""
    name, pipe, text = line.partition("|")
    if not pipe or not is_list and re.search(r"[\s.!?]$", name):
        return None, line
    texts = [text] if re.search(r"\s\||\|\s", text) else text.split("|")
    return name.strip() or None, next(filter(None, reversed(texts)), "").strip()


def _read(name):
    """A file of any encoding, or standard input for -."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise ValueError(f"-f {name}: {error.strerror}. Name a file with a text a line, or name|text") from error
    return decode(content, "standard input" if name == "-" else name)[0]


def _is_piped():
    """Whether standard input is a pipe or a file, which have an end."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):  # there is none, or it is no file of the system
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def named(texts: Texts, out: Path) -> list[tuple[Path, str]]:
    """The file of each text: OUT itself where it is one sound, else one in the folder OUT, a WAV unless its name has
    the suffix of another format. Raises ValueError where texts would share a file, or there are none."""
    if not texts:
        raise ValueError("nothing to say: no text was given")
    if is_one_sound(out):
        if len(texts) != 1:
            raise ValueError(f"-o {out} names one sound for {len(texts)} texts: name a folder")
        return [(out, texts[0][1])]
    files = []
    for i, (name, text) in enumerate(texts):
        stem = "".join(c if c.isalnum() else "_" for c in text)[:STEM_LENGTH].strip("_")
        file = (parts_of(name) or [""])[-1] if name else f"{i:03d}_{stem}"
        files.append(file if Path(file).suffix.lower() in sound_files.FORMATS else f"{file}.wav")
    twice = [stem for stem, count in Counter(Path(file).stem for file in files).items() if count > 1]
    if twice:  # without its suffix: time stamps stand beside the sound
        raise ValueError(f"{len(twice)} names stand for several texts, {twice[0]} for one: give each text its own")
    return [(out / file, text) for file, (_, text) in zip(files, texts)]


# -- speaking it


def speak_all(voice: Any, jobs: list[tuple[Path, str]], args: argparse.Namespace, settings: Settings) -> int:
    """Speak what named gave; a text with nothing to say does not stop the others. Returns the exit status.

    voice: sampling.Voice, or that of runtime.onnx_runtime. Raises what speaking and writing raise.
    """
    if args.out == STDOUT:
        to_stdout(voice, jobs[0][1], settings)
        return 0
    speak = speak_each if args.file is None or is_one_sound(args.out) else speak_file
    return 1 if speak(voice, jobs, args, settings) else 0


def to_stdout(voice: Any, text: str, settings: Settings) -> None:
    """WAV, as it is made; who reads it may stop."""
    out = sys.stdout.buffer
    try:
        for content in sound_files.stream(voice.stream(text, **asdict(settings)), voice.reader.sample_rate, "wav"):
            out.write(content)
            out.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which Python flushes at its end


def outputs(path: Path, args: argparse.Namespace) -> list[Path]:
    """The files that one text becomes, the sound last: where it is, all is."""
    return [*([path.with_suffix(timestamps.SUFFIXES[args.timestamps])] if args.timestamps else []), path]


def speak_each(voice: Any, jobs: list[tuple[Path, str]], args: argparse.Namespace, settings: Settings) -> int:
    """Speak texts one by one, a line for each. Returns how many had nothing to say."""
    unspoken = 0
    for path, text in jobs:
        start = time.perf_counter()
        try:
            if args.timestamps:
                times = voice.timestamps(voice.predict_durations(text, **asdict(settings)), args.timestamps)
                write_atomic(outputs(path, args)[0], times.encode("utf-8"))
            wavs = voice.speak_pieces(text, **asdict(settings))
            seconds = sound_files.write_sound(path, wavs, voice.reader.sample_rate)
        except TextError as error:
            unspoken += 1
            print(f"{args.prog}: {error}", file=sys.stderr)
            continue
        print(f"{path}: {seconds:.2f} s, real-time factor {(time.perf_counter() - start) / seconds:.3f}")
    return unspoken


def speak_file(voice: Any, jobs: list[tuple[Path, str]], args: argparse.Namespace, settings: Settings) -> int:
    """Speak the texts that the folder's manifest does not have as they are, with a progress bar. Returns as speak_each
    does."""
    from tqdm import tqdm  # here, so that one text needs no package for it

    manifest = Manifest(args.out)
    made_of = {path: {"text": text, "settings": asdict(settings), "voice": voice.identity} for path, text in jobs}
    foreign, there, todo = [], [], []
    for path, text in jobs:
        entry = manifest.entries.get(path.name)
        if args.overwrite:
            todo.append((path, text))
        elif entry is None and path.exists():
            foreign.append(path)
        elif entry == made_of[path] and all(map(Path.exists, outputs(path, args))):
            there.append(path)
        else:
            todo.append((path, text))
    unspoken, seconds, start = 0, 0.0, time.perf_counter()
    with tqdm(total=len(todo), desc="speaking", disable=not todo, ncols=columns()) as progress:
        for batch in (todo[i : i + BATCH_TEXTS] for i in range(0, len(todo), BATCH_TEXTS)):
            good = list(_speakable(voice, batch, args, progress))
            manifest.add({path.name: {} for path, _ in good})
            speeches = voice.speak_batch([text for _, text in good], **asdict(settings))
            for (path, _), speech in zip(good, speeches):
                for other in outputs(path, args)[:-1]:
                    write_atomic(other, voice.timestamps(speech, args.timestamps).encode("utf-8"))
                seconds += sound_files.write_sound(path, [speech.wav], speech.sample_rate)
            manifest.add({path.name: made_of[path] for path, _ in good})
            unspoken += len(batch) - len(good)
            progress.update(len(batch))
    spent = time.perf_counter() - start
    speed = f", {seconds:.2f} s, real-time factor {spent / seconds:.3f}" if seconds else ""
    print(f"{args.out}: {len(todo) - unspoken} texts spoken{speed}; {len(there)} were there")
    if foreign:
        print(f"{args.prog}: {len(foreign)} files were left alone, {foreign[0]} for one, since {manifest.path.name} "
              "does not list them: --overwrite replaces them", file=sys.stderr)  # fmt: skip
    return unspoken


def _speakable(voice, batch, args, progress) -> Iterator[tuple[Path, str]]:
    """Those with something to say; a line for each of the others."""
    for path, text in batch:
        try:
            voice.check(text)
            yield path, text
        except TextError as error:
            progress.write(f"{args.prog}: {path.name}: {error}", file=sys.stderr)


class Manifest:
    """manifest.jsonl in a folder of sounds: text, settings and voice of each file, by its name; {} for a file that was
    being written when the process ended. A later line replaces an earlier one."""

    def __init__(self, folder: Path):
        self.path, self.entries = folder / "manifest.jsonl", {}
        for entry in read_json_lines(self.path):
            if isinstance(name := entry.pop("file", None), str):
                self.entries[name] = entry
        lines = self._lines(self.entries).encode("utf-8")
        if self.path.is_file() and self.path.read_bytes() != lines:
            write_atomic(self.path, lines)

    def add(self, entries: dict[str, dict]) -> None:
        self.entries |= entries
        if entries:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(self._lines(entries))

    def _lines(self, entries):
        return "".join(
            json.dumps({"file": name, **entry}, ensure_ascii=False) + "\n" for name, entry in entries.items()
        )
