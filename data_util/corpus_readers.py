"""The ways in which people keep recordings and what is said in them, read into one list."""

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from data_util.audio import suffixes
from data_util.tables import (
    LISTS,
    NAMED,
    SPLITS,
    SUFFIXES,
    Finder,
    audio_files,
    files_below,
    folded,
    lists_in,
    read_table,
    say_the_same,
    without_ending,
)
from runtime.text_files import TextFileError, parts_of, read_text

TEXT_SUFFIXES = (".txt", ".lab", ".srt", ".vtt")  # of a text beside its recording
LABEL = re.compile(r"^\d+[.,]\d+\t\d+[.,]\d+\t", re.M)  # the times of Audacity's
CUE = re.compile(r"^((\A|(?<=\n\n)).+\n|\d+\n)?[\d:.,]+ *-->.*$", re.M)  # the times of a subtitle, and its name
NOTE = re.compile(r"(\A|(?<=\n\n))(WEBVTT|NOTE|STYLE|REGION)\b.*(\n(?!.*-->).+)*")  # of WebVTT: up to an empty line
TAG = re.compile(r"</?[a-zA-Z\d][^<>]*>|\{\\[^{}]*\}")  # of subtitles: a voice, a colour, the time of a word
LANGUAGE = re.compile(r"\.[a-z]{2,3}(-\w+)*$")  # in names of subtitles
ROLLING = 2 / 3  # of the lines of subtitles that roll, as YouTube's do, at most so many do not repeat the one before
ALIGNED = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\S+(\s+-?[\d.]+.*)?\s*")  # a line of an alignment: times, phone, score
SEVERAL_TEXTS = "several texts for one recording"
PLACES = ("wavs", "wav", "clips")  # folders of recordings, which are no part of their names
_EXPECTED = ("a table or list of recordings and texts (--audio-column and --text-column say which columns they are), "
             "LibriTTS, VCTK, or audio with text files of the same names")  # fmt: skip


class LayoutError(ValueError):
    """A folder or list that none of the layouts fits; the message says what was looked for."""


@dataclass(frozen=True)
class Recording:
    """name: unique where the source's are, with / between folders; path: where the sound should be, None: nowhere;
    text: None where there is none, or none that can be read; speaker: "" for the only one; split: train, valid or test
    where the source says; fault: why it cannot be used, as far as a list shows."""

    name: str
    path: Path | None
    text: str | None
    speaker: str = ""
    split: str = ""
    fault: str = ""


def read(
    source: Path, layout: str = "auto", columns: dict[str, str] | None = None, folders_speak: bool = False
) -> tuple[str, list[Recording]]:
    """What is there: the layout's name, and its recordings in a stable order; a line is printed for each table.

    source: a folder, or a table; layout: one of LAYOUTS or auto; columns: as for tables.read_table; folders_speak: in a
    folder of audio the folder that holds a recording names its speaker, and the folder of a table below source.
    Raises LayoutError, TextFileError, OSError.
    """
    if not source.exists():
        raise LayoutError(f"{source}: no such file or folder")
    if source.is_file() and source.suffix.lower() in suffixes():
        raise LayoutError(f"{source}: a recording. Name the folder that it is in, or a table that names it")
    readers: dict[str, Callable[[Path], Iterator[Recording]]] = {
        "vctk": _vctk, "libritts": _libritts,
        "list": functools.partial(_lists, columns=columns or {}, is_sure=layout == "list" or bool(columns)),
        "folder": functools.partial(_folder, folders_speak=folders_speak)}  # fmt: skip
    for name in [layout] if layout != "auto" else [name for name, fits in LAYOUTS.items() if fits(source)]:
        found = list(readers[name](source))
        if name == "folder" and not any(one.text for one in found if one.path):
            if layout == "auto" and (below := _lists_below(source, columns or {}, folders_speak)):
                return "list", below
            _explain_lists(source, columns or {})
            if aligned := next(filter(_is_alignment, files_below(source, (".lab",))), None):
                raise LayoutError(f"{aligned}: an alignment, not a text. Write what is said into NAME.txt beside each "
                                  "recording, or into a table")  # fmt: skip
        if found:
            return name, found
    if layout != "auto":
        raise LayoutError(f"{source}: no recordings in the layout {layout}. Name another with --layout")
    raise LayoutError(f"{source}: none of the layouts fits: expected {_EXPECTED}")


# -- lists and tables


def _lists(source, columns, is_sure) -> Iterator[Recording]:
    """The tables of a source: itself, metadata.*, or those of its files whose rows name recordings that are there.
    Unless `is_sure`, none where they say far less than texts beside the same recordings: those are notes of them."""
    root = source if source.is_dir() else source.parent
    find = Finder(root)
    tables = {source: read_table(source, find, columns)} if source.is_file() else _tables_in(source, find, columns)
    if source.is_dir() and tables and not is_sure:
        beside = {one.path: len(one.text or "") for one in _folder(source, False) if one.path}
        rows = [row for table in tables.values() for row in table.rows if row.path in beside]
        if sum(len(row.text or "") for row in rows) < NAMED * sum(beside[row.path] for row in rows):
            names = ", ".join(path.name for path in tables)
            print(f"{names}: not read, since texts beside the same recordings say more; --layout list reads it")
            return
    for table in tables.values():
        print(table.about)
    yield from _rows_of(tables, find, root)


def _lists_below(source, columns, folders_speak):
    """What the tables of folders below a source name, each in its own folder; a table above others speaks for them."""
    found, abouts, seen = [], [], set()
    folders = {path.parent for path in files_below(source, SUFFIXES)}
    for folder in sorted({one.parent if one.name in LISTS else one for one in folders} - {source}):
        find = Finder(folder)
        if not seen & set(folder.parents) and (tables := _tables_in(folder, find, columns)):
            seen.add(folder)
            abouts += [table.about for table in tables.values()]
            place = folder.relative_to(source).as_posix()
            for one in _rows_of(tables, find, folder):
                speaker = one.speaker or (_plain(folder.name) if folders_speak else "")
                split = one.split or split_of(place)
                found.append(replace(one, name=_plain(f"{place}/{one.name}"), speaker=speaker, split=split))
    if abouts:
        print(f"in folders below, tables: {len(abouts)}, the first {abouts[0]}")
    is_split = any(one.split == "train" for one in found)
    return found if is_split else [replace(one, split="") for one in found]


def _rows_of(tables, find, root) -> Iterator[Recording]:
    """What rows of tables name. Where some tables are for training, only those for training, validation or test
    count."""
    rows = [(row, row.split or split_of(path.stem)) for path, table in tables.items() for row in table.rows]
    splits = {split for _, split in rows}
    if len(tables) > 1 and "train" in splits:
        rows = [(row, split) for row, split in rows if split]
    elif not splits & {"", "train"}:  # a single test.csv: nothing would be left to train on
        rows = [(row, "") for row, _ in rows]
    name_of = _names([row.path for row, _ in rows if row.path is not None], root)
    torn = {path for table in tables.values() for path in _with_several_texts(table.rows)}
    for row, split in rows:
        name = name_of(row.path) if row.path is not None else _bare("/".join(parts_of(row.audio)))
        fault = SEVERAL_TEXTS if row.path in torn else ""
        yield Recording(name, row.path or find.first(row.audio), row.text, _plain(row.speaker), split, fault)


def _with_several_texts(rows):
    """The recordings that rows of one table name again, for something else that is said."""
    first = {}
    for row in rows:
        if row.path is not None and row.text:
            text = first.setdefault(row.path, row.text)
            if row.text != text and not say_the_same([row.text], [text]):
                yield row.path


def _tables_in(folder, find, columns):
    tables = {}
    for path in lists_in(folder, find):
        try:
            table = read_table(path, find, columns)
        except (TextFileError, OSError):
            if path.stem == "metadata" and columns:
                raise
            continue
        if path.stem == "metadata":
            return {path: table}
        if table.n_found >= max(1, NAMED * min(len(table.rows), find.n_recordings)):
            tables[path] = table
    return tables


def _explain_lists(folder, columns):
    """Raise what is wrong with the first list of a folder that has no texts but in lists; nothing where it has none."""
    find = Finder(folder)
    for path in lists_in(folder, find)[:1]:
        table = read_table(path, find, columns)
        name = table.rows[0].audio
        raise LayoutError(
            f"{path}: {table.n_found} of its {len(table.rows)} rows name a recording that is there, first "
            f"tried: {find.first(name)} ({table.about}). Say which column it is with --audio-column"
        )


def _names(paths, root):
    """A function that names a recording by its path, in which no .. is left: without its ending, from the folder that
    has all of those outside of root, and from root or its folder of recordings."""
    root = Path(os.path.abspath(root))
    outside = [place.parent for path in paths if not (place := Path(os.path.abspath(path))).is_relative_to(root)]
    common = Path(os.path.commonpath(outside)) if outside else root

    def name(path):
        place = Path(os.path.abspath(path))
        place = place.relative_to(root if place.is_relative_to(root) else common)
        return _bare("/".join(place.parts[1:] if len(place.parts) > 1 and place.parts[0] in PLACES else place.parts))

    return name


def _bare(name):
    """Without the ending of a recording, what separates the columns of lists, and spaces at the ends."""
    return _plain(without_ending(name))


def _plain(name):
    return re.sub(r"[|\r\n]", "_", name).strip()


# -- folders


def _folder(source, folders_speak) -> Iterator[Recording]:
    """Audio anywhere below, and a text of the same name beside each, or in another folder: the only one that has it, or
    the only one of them that is called as the recording's is."""
    heard, paths = set(), audio_files(source)
    names = set(map(_key, paths))
    texts: dict[str, list[Path]] = {}
    for path in files_below(source, TEXT_SUFFIXES):
        name = _key(path)
        name = LANGUAGE.sub("", name) if name not in names and path.suffix.lower() in (".srt", ".vtt") else name
        if not _is_alignment(path):
            texts.setdefault(name, []).append(path)
    splits = {} if folders_speak else _splits(paths, source)
    for path in paths:
        there = texts.get(_key(path), [])
        alike = [one for one in there if one.parent.name == path.parent.name]
        beside = [one for one in there if one.parent == path.parent]
        beside = beside or next((some for some in (alike, there) if len(some) == 1), [])
        text = min(beside, key=lambda one: (TEXT_SUFFIXES.index(one.suffix.lower()), len(one.name)), default=None)
        languages = {_language(one, path) for one in beside if text and one.suffix == text.suffix}
        fault = SEVERAL_TEXTS if len(languages) > 1 and "" not in languages else ""
        heard.update(beside)
        folders = [one for one in path.relative_to(source).parts[:-1] if one not in PLACES]
        speaker = _plain(folders[-1]) if folders_speak and folders else ""
        name = _bare(path.relative_to(source).as_posix())
        yield Recording(name, path, _text(text), speaker, splits.get(path, ""), fault)
    for path in sorted(one for there in texts.values() for one in there):
        if path not in heard and not path.name.lower().startswith("readme"):
            yield Recording(_bare(path.relative_to(source).with_suffix("").as_posix()), None, _text(path))


def _key(path):
    """The name that a recording and its text have in common, whatever the case: x of x.wav, x.TXT and x.wav.txt."""
    return folded(_bare(path.stem if path.suffix.lower() in TEXT_SUFFIXES else path.name))


def _is_alignment(path):
    """Whether a .lab says when each phone is said, as those of HTK, HTS and Festival, whose head ends in #, do."""
    try:
        lines = read_text(path).rpartition("#\n")[2].strip().split("\n") if path.suffix.lower() == ".lab" else []
    except (TextFileError, OSError):
        return False
    return len(lines) > 1 and all(map(ALIGNED.fullmatch, lines))


def _language(text, recording):
    """That of r0.en-US.vtt, beside r0.wav, without the country: .en; "" for none."""
    return _key(text).removeprefix(_key(recording)).partition("-")[0]


def _libritts(source) -> Iterator[Recording]:
    """[train-clean-100/]SPEAKER/CHAPTER/NAME.wav with NAME.normalized.txt beside it."""
    paths = audio_files(source)
    splits = _splits(paths, source)
    for path in paths:
        beside = [path.with_suffix(end) for end in (".normalized.txt", ".original.txt")]
        text = next((one for one in beside if one.is_file()), None)
        yield Recording(path.stem, path, _text(text), path.parents[1].name, splits.get(path, ""))


def _vctk(source) -> Iterator[Recording]:
    """wav48_silence_trimmed/SPEAKER/NAME_mic1.flac or wav48/SPEAKER/NAME.wav, and txt/SPEAKER/NAME.txt."""
    waves = next(folder for folder in sorted(source.glob("wav48*"), reverse=True) if folder.is_dir())
    for path in sorted(path for path in waves.glob("*/*") if path.suffix.lower() in suffixes()):
        name = re.sub("_mic[12]$", "", path.stem)
        if path.stem.endswith("_mic2") and path.with_name(path.name.replace("_mic2", "_mic1")).is_file():
            continue  # the same sentence by another microphone
        text = source / "txt" / path.parent.name / f"{name}.txt"
        yield Recording(name, path, _text(text if text.is_file() else None), path.parent.name)


def _text(path):
    try:
        return None if path is None else " ".join(_said(read_text(path)).split())
    except (TextFileError, OSError):  # one bad file is a clip that is left out
        return None


def _said(text):
    """A text without what subtitles and labels have beside it, and each line of subtitles that roll once."""
    text = LABEL.sub("", text)
    lines = "\n".join(line.strip() for line in text.split("\n"))
    if not CUE.search(lines):
        return text
    said = TAG.sub("", CUE.sub("", NOTE.sub("", lines))).split("\n")
    said = [line.strip() for line in said if line.strip()]
    once = [line for line, _ in itertools.groupby(said)]
    return "\n".join(once if len(once) <= ROLLING * len(said) else said)


def split_of(name: str) -> str:
    """train, valid or test, where a file's or a folder's name has a word for it, else ""."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _splits(paths, source):
    """The splits of paths in folders of source that are named so; {} where none of these is for training."""
    places = {path: path.relative_to(source).parts for path in paths}
    splits = {path: split_of(parts[0]) for path, parts in places.items() if len(parts) > 1}
    return splits if "train" in splits.values() else {}


LAYOUTS: dict[str, Callable[[Path], bool]] = {  # whether a source may be of it, in the order in which they are tried
    "vctk": lambda source: (source / "txt").is_dir() and any(path.is_dir() for path in source.glob("wav48*")),
    "libritts": lambda source: source.is_dir() and next(source.rglob("*.normalized.txt"), None) is not None,
    "list": Path.exists,
    "folder": Path.is_dir,
}
