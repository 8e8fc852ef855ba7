"""The ways in which people keep recordings and what is said in them, read into one list."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import soundfile

TEXT_SUFFIXES = (".txt", ".lab")  # of a text beside its recording
SPLITS = {"train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid",
          "dev": "valid", "test": "test"}  # words in the names of lists and folders  # fmt: skip
_OTHER_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc")
_EXPECTED = "LJSpeech, VITS and Piper lists, LibriTTS, VCTK, or audio with text files of the same names beside it"


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


def suffixes() -> frozenset[str]:
    """Endings of audio files that libsndfile reads here."""
    return frozenset(f".{one.lower()}" for one in soundfile.available_formats() if one != "RAW") | set(_OTHER_SUFFIXES)


def read(
    source: Path, layout: str = "auto", columns: tuple[str, ...] = (), folders_speak: bool = False
) -> tuple[str, list[Recording]]:
    """What is there: the layout's name, and its recordings in a stable order.

    source: a folder, or a list of `path|text` lines; layout: one of LAYOUTS or auto; columns: what the columns of a
    list are, of name, speaker, text and -, where they do not say it themselves; folders_speak: in a folder of audio
    the folder that holds a recording names its speaker. Raises LayoutError, OSError.
    """
    if not source.exists():
        raise LayoutError(f"{source}: no such file or folder")
    if layout == "auto":
        layout = next((name for name, fits in _FITS.items() if fits(source)), "")
    if not layout:
        raise LayoutError(f"{source}: none of the layouts fits: expected {_EXPECTED}")
    if layout == "list":
        found = _lists(source, columns)
    elif layout == "folder":
        found = _folder(source, folders_speak)
    else:
        found = LAYOUTS[layout](source)
    recordings = list(found)
    if not recordings:
        raise LayoutError(f"{source}: no recordings in the layout {layout}. Name another with --layout")
    return layout, recordings


# -- lists: LJSpeech, Piper, VITS


def _list_files(source):
    """The lists of a source: itself, metadata.csv, or the files in which every line has a |."""
    if source.is_file():
        return [source]
    for name in ("metadata.csv", "metadata.txt"):
        if (source / name).is_file():
            return [source / name]
    found = [path for folder in (source, source / "filelists") for path in sorted(folder.glob("*")) if
             path.suffix in (".txt", ".csv", ".list") and path.is_file()]  # fmt: skip
    return [path for path in found if _is_list(path)]


def _is_list(path):
    try:
        lines = _lines(path)
    except (LayoutError, OSError):
        return False
    return bool(lines) and all("|" in line for line in lines)


def _lists(source, columns) -> Iterator[Recording]:
    root = source if source.is_dir() else source.parent
    files = _list_files(source)
    cleaned = {path.stem for path in files}  # VITS keeps its phonemes beside the texts as LIST.cleaned
    for path in (path for path in files if path.stem not in cleaned - {path.stem}):
        rows = [[part.strip() for part in line.split("|")] for line in _lines(path)]
        widths = {len(row) for row in rows}
        if min(widths) < 2 or max(widths) > 4:
            bad = next(row for row in rows if not 2 <= len(row) <= 4)
            raise LayoutError(f"{path}: expected path|text, path|speaker|text or id|text|normalised: {'|'.join(bad)!r}")
        named = columns or _columns(rows)
        split = _split_of(path.stem)
        for row in rows:
            cells = {}
            for kind, cell in zip(named, row):
                if cell or kind != "text":
                    cells[kind] = cell  # of two texts the last that is not empty
            name = cells.get("name", "")
            yield Recording(
                _clean_name(name, root), _audio(name, root), cells.get("text"), cells.get("speaker", ""), split
            )


def _columns(rows):
    """What the columns are: a middle one that holds few and short names, again and again, is the speaker."""
    width = max(map(len, rows))
    if width == 2:
        return ("name", "text")
    middle = [row[1] for row in rows if len(row) > 2]
    repeated = len(set(middle)) <= max(1, len(middle) // 2) and all(len(one.split()) == 1 for one in middle)
    same = all(row[1] == row[2] for row in rows if len(row) > 2)
    if repeated and not same:
        return ("name", "speaker", "text", "text")[:width]
    return ("name", "text", "text", "-")[:width]


def _audio(name, root):
    """Where the recording of a name is; None where there is none."""
    if not name:
        return None
    folders = [root / "wavs", root, root / "wav", *root.parents[:2]]
    plain = [folder / name for folder in folders]
    found = next((path for path in plain if path.is_file()), None)
    if found is None:
        ended = (path.with_name(path.name + ending) for path in plain for ending in _endings())
        found = next((path for path in ended if path.is_file()), None)
    return found


def _endings():
    return (*_OTHER_SUFFIXES, *sorted(suffixes() - set(_OTHER_SUFFIXES)))


def _clean_name(name, root):
    """The name that a recording gets: without what stands outside of the corpus, and without its ending."""
    path = Path(name)
    if path.is_absolute():
        path = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    parts = [part for part in path.parts if part not in ("..", ".")]
    if len(parts) > 1 and parts[0] in ("wavs", "wav"):
        parts = parts[1:]
    path = Path(*parts)
    return (path.with_suffix("") if path.suffix.lower() in suffixes() else path).as_posix()


# -- folders


def _folder(source, folders_speak) -> Iterator[Recording]:
    """Audio anywhere below, and a text of the same name beside each."""
    audio = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in suffixes() and path.is_file()]
    for path in audio:
        text = next((path.with_suffix(end) for end in TEXT_SUFFIXES if path.with_suffix(end).is_file()), None)
        speaker = path.parent.name if folders_speak and path.parent != source else ""
        yield Recording(
            path.relative_to(source).with_suffix("").as_posix(),
            path,
            _text(text),
            speaker,
            _split_of_path(path, source),
        )
    heard = {path.with_suffix("") for path in audio}
    for path in sorted(source.rglob("*")):
        if (
            path.suffix in TEXT_SUFFIXES
            and path.with_suffix("") not in heard
            and not path.name.lower().startswith("readme")
        ):
            yield Recording(path.relative_to(source).with_suffix("").as_posix(), None, _text(path))


def _libritts(source) -> Iterator[Recording]:
    """[train-clean-100/]SPEAKER/CHAPTER/NAME.wav with NAME.normalized.txt beside it."""
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes()):
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
        return None if path is None else " ".join(_read(path).split())
    except (LayoutError, OSError):  # one bad file is a clip that is left out
        return None


def _split_of(name):
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _split_of_path(path, source):
    first = path.relative_to(source).parts[0]
    return _split_of(first) if first != path.name else ""


def _lines(path):
    return [line.strip() for line in _read(path).split("\n") if line.strip()]


def _read(path):
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LayoutError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8") from error


_FITS: dict[str, Callable[[Path], bool]] = {
    "vctk": lambda source: (source / "txt").is_dir() and any(path.is_dir() for path in source.glob("wav48*")),
    "libritts": lambda source: source.is_dir() and next(source.rglob("*.normalized.txt"), None) is not None,
    "list": lambda source: bool(_list_files(source)),
    "folder": lambda source: (
        source.is_dir() and any(path.suffix.lower() in suffixes() for path in source.rglob("*") if path.is_file())
    ),
}
LAYOUTS = {"list": _lists, "folder": _folder, "libritts": _libritts, "vctk": _vctk}
