"""The ways in which people keep recordings and what is said in them, read into one list."""

import functools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_util.audio import suffixes
from data_util.tables import (
    NAMED,
    SPLITS,
    Finder,
    audio_files,
    lists_in,
    read_table,
)
from runtime.text_files import TextFileError, parts_of, read_text

TEXT_SUFFIXES = (".txt", ".lab")  # of a text beside its recording
PLACES = ("wavs", "wav", "clips")  # folders of recordings, which are no part of their names
_EXPECTED = ("a table or list of recordings and texts (--audio-column and --text-column say which columns they are), "
             "LibriTTS, VCTK, or audio with text files of the same names")  # fmt: skip


class LayoutError(ValueError):
    """A folder or list that none of the layouts fits; the message says what was looked for."""


@dataclass(frozen=True)
class Recording:
    """name: unique where the source's are, with / between folders; path: where the sound should be, None: nowhere;
    text: None where there is none, or none that can be read; speaker: "" for the only one; split: train, valid or test
    where the source says."""

    name: str
    path: Path | None
    text: str | None
    speaker: str = ""
    split: str = ""


def read(
    source: Path, layout: str = "auto", columns: dict[str, str] | None = None, folders_speak: bool = False
) -> tuple[str, list[Recording]]:
    """What is there: the layout's name, and its recordings in a stable order; a line is printed for each table.

    source: a folder, or a table; layout: one of LAYOUTS or auto; columns: as for tables.read_table; folders_speak: in a
    folder of audio the folder that holds a recording names its speaker. Raises LayoutError, TextFileError, OSError.
    """
    if not source.exists():
        raise LayoutError(f"{source}: no such file or folder")
    readers = LAYOUTS | {"list": functools.partial(_lists, columns=columns or {}),
                         "folder": functools.partial(_folder, folders_speak=folders_speak)}  # fmt: skip
    for name in [layout] if layout != "auto" else [name for name, fits in _FITS.items() if fits(source)]:
        found = list(readers[name](source))
        if name == "folder" and not any(one.text for one in found if one.path):
            _explain_lists(source, columns or {})
        if found:
            return name, found
    if layout != "auto":
        raise LayoutError(f"{source}: no recordings in the layout {layout}. Name another with --layout")
    raise LayoutError(f"{source}: none of the layouts fits: expected {_EXPECTED}")


# -- lists and tables


def _lists(source, columns) -> Iterator[Recording]:
    """The tables of a source: itself, metadata.*, or those of its files whose rows name recordings that are there.
    Where some of these are for training, validation or test, only they count."""
    root = source if source.is_dir() else source.parent
    find = Finder(root)
    tables = {source: read_table(source, find, columns)} if source.is_file() else _tables_in(source, find, columns)
    rows = [(row, row.split or split_of(path.stem)) for path, table in tables.items() for row in table.rows]
    if len(tables) > 1 and any(split for _, split in rows):
        rows = [(row, split) for row, split in rows if split]
    for table in tables.values():
        print(table.about)
    name_of = _names([row.path for row, _ in rows if row.path is not None], root)
    for row, split in rows:
        name = name_of(row.path) if row.path is not None else _bare("/".join(parts_of(row.audio)))
        yield Recording(name, row.path or find.first(row.audio), row.text, row.speaker, split)


def _tables_in(folder, find, columns):
    tables, files = {}, lists_in(folder, find)
    for path in files:
        try:
            tables[path] = read_table(path, find, columns)
        except (TextFileError, OSError):
            if path.stem == "metadata":
                raise
    return {path: one for path, one in tables.items()
            if path.stem == "metadata" or one.n_found >= NAMED * len(one.rows)}  # fmt: skip


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
    """A function that names a recording by its path: without its ending, from the folder that has all of those outside
    of root, and from root or its folder of recordings."""
    outside = [str(path.parent) for path in paths if not path.is_relative_to(root)]
    common = Path(os.path.commonpath(outside)) if outside else root

    def name(path):
        place = path.relative_to(root if path.is_relative_to(root) else common)
        return _bare("/".join(place.parts[1:] if len(place.parts) > 1 and place.parts[0] in PLACES else place.parts))

    return name


def _bare(name):
    """Without the ending of a recording, and without what separates the columns of lists."""
    name = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in suffixes() else name
    return re.sub(r"[|\r\n]", "_", name)


# -- folders


def _folder(source, folders_speak) -> Iterator[Recording]:
    """Audio anywhere below, and a text of the same name beside each, or in another folder where only one has it."""
    texts: dict[str, list[Path]] = {}
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in TEXT_SUFFIXES and path.is_file()):
        texts.setdefault(_key(path), []).append(path)
    heard = set()
    for path in audio_files(source):
        there = texts.get(_key(path), [])
        text = next((one for one in there if one.parent == path.parent), there[0] if len(there) == 1 else None)
        heard.add(text)
        speaker = path.parent.name if folders_speak and path.parent != source else ""
        name = _bare(path.relative_to(source).as_posix())
        yield Recording(name, path, _text(text), speaker, _split_of_path(path, source))
    for path in sorted(one for there in texts.values() for one in there):
        if path not in heard and not path.name.lower().startswith("readme"):
            yield Recording(_bare(path.relative_to(source).with_suffix("").as_posix()), None, _text(path))


def _key(path):
    """The name that a recording and its text have in common, whatever the case: x of x.wav, x.TXT and x.wav.txt."""
    return _bare(path.stem if path.suffix.lower() in TEXT_SUFFIXES else path.name).casefold()


def _libritts(source) -> Iterator[Recording]:
    """[train-clean-100/]SPEAKER/CHAPTER/NAME.wav with NAME.normalized.txt beside it."""
    for path in audio_files(source):
        beside = [path.with_suffix(end) for end in (".normalized.txt", ".original.txt")]
        text = next((one for one in beside if one.is_file()), None)
        yield Recording(path.stem, path, _text(text), path.parents[1].name, _split_of_path(path, source))


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
        return None if path is None else " ".join(read_text(path).split())
    except (TextFileError, OSError):  # one bad file is a clip that is left out
        return None


def split_of(name: str) -> str:
    """train, valid or test, where a file's or a folder's name has a word for it, else ""."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _split_of_path(path, source):
    first = path.relative_to(source).parts[0]
    return split_of(first) if first != path.name else ""


LAYOUTS: dict[str, Callable[..., Iterator[Recording]]] = {
    "vctk": _vctk, "libritts": _libritts, "list": _lists, "folder": _folder,
}  # fmt: skip
_FITS: dict[str, Callable[[Path], bool]] = {  # in the order in which they are tried
    "vctk": lambda source: (source / "txt").is_dir() and any(path.is_dir() for path in source.glob("wav48*")),
    "libritts": lambda source: source.is_dir() and next(source.rglob("*.normalized.txt"), None) is not None,
    "list": Path.exists,
    "folder": Path.is_dir,
}
