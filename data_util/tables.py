"""Lists and tables as people keep them: any encoding and delimiter, JSONL and spreadsheets; what their columns are, and
where the recordings are that they name."""

import csv
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from data_util.audio import SNDFILE_SUFFIXES, suffixes
from runtime.text_files import TextFileError, decode, parts_of

FLAGS = {"audio": "--audio-column", "text": "--text-column", "speaker": "--speaker-column"}
WORDS = {  # of headers: a column that has one as its name is of that kind
    "audio": {"audio", "audiofile", "audiofilepath", "audiopath", "clip", "file", "filename", "filepath", "id", "name",
              "path", "recording", "uttid", "wav", "wavfile", "wavfilename", "wavpath", "wavs"},
    "text": {"normalised", "normalisedtext", "normalized", "normalizedtext", "sentence", "text", "transcript",
             "transcription", "utterance"},
    "speaker": {"clientid", "narrator", "reader", "speaker", "speakerid", "speakername", "spk", "spkid", "voice"},
    "split": {"set", "split", "subset"},
    "other": {"accent", "accents", "age", "annotator", "begin", "checked", "comment", "comments", "date", "done",
              "downvotes", "duration", "emotion", "end", "endtime", "gender", "ipa", "lang", "language", "locale",
              "mic", "microphone", "note", "notes", "offset", "phonemes", "quality", "recorded", "remark", "remarks",
              "room", "segment", "session", "sex", "start", "starttime", "status", "style", "take", "upvotes",
              "variant"},
}  # fmt: skip
SPLITS = {  # words in the names of lists and folders, and in a column
    "train": "train", "training": "train", "val": "valid", "valid": "valid", "validation": "valid", "dev": "valid",
    "eval": "valid", "evaluation": "valid", "test": "test"}  # fmt: skip
DELIMITERS = {"|": "|", "\t": "tabs", ";": ";", ",": ","}
SPREADSHEETS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
SUFFIXES = (".csv", ".tsv", ".txt", ".list", ".jsonl", ".ndjson", ".json", ".data", *SPREADSHEETS)
LISTS = ("filelists", "etc")  # folders of lists
PROMPT = re.compile(r'^\(\s*(\S+)\s+"(.*)"\s*\)\s*$', re.M)  # Festival's, as CMU Arctic has them
MANY = 40  # rows: in fewer a third column may have another name in each
SAMPLE = 200  # rows that say what the columns are
LINES_A_CELL = 20  # that a quoted cell goes over, at most
NOBODY = re.compile(r"true|false|yes|no|.*[\\/].*|[\W\d_]+|\d{4}-\d\d-\d\dT.*|neutral|angry|happy|sad|surprised?",
                    re.I)  # a tick, a path, times, numbers, an emotion  # fmt: skip
LONGEST_NAME = 255  # bytes of a file's name
USUAL = 0.75  # of the rows: so many have the same number of cells, where the delimiter is in few texts
NAMED = 0.5  # of the rows name recordings that are there, or of the recordings are named, where a file is a list
ALIKE = 0.5  # of the words of two texts that say the same


@dataclass(frozen=True)
class Row:
    """audio: as it stands in the table; path: where that is, None: nowhere; text: None where there is none."""

    audio: str
    path: Path | None
    text: str | None
    speaker: str = ""
    split: str = ""


@dataclass(frozen=True)
class Table:
    """rows; about: what the columns were taken for, in a line; n_found: rows whose recordings are there."""

    rows: list[Row]
    about: str
    n_found: int


# -- recordings by the names that lists have for them


class Finder:
    """Where the recordings are that a list beside `root` names, which may be ids, or paths of another machine.

    Called with a name it gives the path, or None: the file of that name in root/wavs, root, root/wav, root/clips or
    above root; else the one anywhere in root with the most of the name's last parts, whatever the case of the letters
    and the ending. Where several have as many, and none is in the folders above, it is None.
    """

    def __init__(self, root: Path):
        self.root = root
        self.folders = [root / "wavs", root, root / "wav", root / "clips", *root.parents[:2]]
        self._known: dict[str, Path | None] = {}

    def __call__(self, name: str) -> Path | None:
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def first(self, name: str) -> Path:
        """The path that is tried first."""
        return self.folders[0] / os.path.expanduser(name)

    @cached_property
    def n_recordings(self) -> int:
        """How many there are below root, or below the folder above where root has none."""
        return len({path for paths in self._index.values() for path in paths})

    def has(self, path: Path) -> bool:
        """Whether there is a recording of this file's name, without its endings."""
        return _stem(path.name) in self._index or _stem(path.stem) in self._index

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """All recordings in root by their names without ending, or in the folder above where root has none; those whose
        names are numbers also by / and the number, since spreadsheets drop the zeros before it."""
        above = [self.root.parent] if len(self.root.parts) > 2 else []
        for folder in (self.root, *above):
            index: dict[str, list[Path]] = {}
            for path in audio_files(folder):
                stem = _stem(path.name)
                index.setdefault(stem, []).append(path)
                if stem.isdecimal():
                    index.setdefault(f"/{int(stem)}", []).append(path)
            if index:
                return index
        return {}

    def _find(self, name):
        parts = parts_of(name)
        if not parts or max(len(part.encode("utf-8", "replace")) for part in parts) > LONGEST_NAME:
            return None
        for folder in self.folders:
            if (path := folder / os.path.expanduser(name)).is_file():
                return path
        ending = Path(parts[-1]).suffix.lower()
        ranked = sorted((self._rank(path, parts, ending), path) for path in self._index.get(_stem(parts[-1]), ()))
        if len(ranked) > 1 and ranked[0][0][:2] == ranked[1][0][:2] and ranked[0][1].parent != ranked[1][1].parent:
            return None
        if not ranked and (stem := _stem(parts[-1])).isdecimal():
            numbered = self._index.get(f"/{int(stem)}", ())
            return numbered[0] if len(numbered) == 1 else None
        return ranked[0][1] if ranked else None

    def _rank(self, path, parts, ending):
        """Less is better: the last parts that agree, the place of the folder, the ending."""
        pairs = zip(map(folded, parts[-2::-1]), map(folded, path.parts[-2::-1]))
        agree = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(parts) - 1)
        folder = self.folders.index(path.parent) if path.parent in self.folders else len(self.folders)
        return -agree, folder, path.suffix.lower() != ending, _order(path)


def audio_files(folder: Path) -> list[Path]:
    """Every recording below a folder, in order; of one in several formats first that which has lost the least."""
    return sorted(files_below(folder, suffixes()), key=lambda path: (path.with_suffix(""), _order(path)))


def files_below(folder: Path, endings: Sequence[str]) -> list[Path]:
    """Every file below a folder with one of these endings, whatever the case of its letters, in order.

    Hidden ones do not count: macOS keeps `._NAME.wav` beside a NAME.wav.
    """
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [one for one in folders if not one.startswith(".")]
        if (real := os.path.realpath(place)) in seen:  # a link that leads upwards
            folders.clear()
            continue
        seen.add(real)
        found += [Path(place, one) for one in names if Path(one).suffix.lower() in endings and not one.startswith(".")]
    return sorted(found)


def folded(part: str) -> str:
    """A name by which those that differ in the case of letters, or in how accents are encoded, are the same."""
    return unicodedata.normalize("NFC", part).casefold()


def without_ending(name: str) -> str:
    """Without the ending of a recording, where it has one."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in suffixes() else name


def _order(path):
    ending = path.suffix.lower()
    return SNDFILE_SUFFIXES.index(ending) if ending in SNDFILE_SUFFIXES else len(SNDFILE_SUFFIXES)


def _stem(name):
    return folded(without_ending(name))


# -- tables


def read_table(path: Path, find: Finder, columns: dict[str, str] | None = None) -> Table:
    """The rows of a table or list. columns: {"audio", "text" or "speaker": the name or the position, from 1, of its
    column, or - for no speaker}; what is not there is found by what the columns hold.

    A row with more cells than the others has the delimiter in its text. Raises TextFileError: no text, no rows, or no
    columns that can be told; OSError.
    """
    readings = [_Reading(path, how, rows, delimiter, find, columns or {})
                for how, rows, delimiter in _readings(path) if rows]  # fmt: skip
    if not readings:
        raise TextFileError(f"{path}: no rows. Expected a line for each recording, such as name.wav|text")
    return max(readings, key=lambda one: one.score).table()


def _readings(path):
    """(how it was read, rows, delimiter) for each way in which a file can be read; the delimiter is "" where the first
    row is a header for certain, as that of JSONL is."""
    if path.suffix.lower() in SPREADSHEETS:
        for rows in _spreadsheet(path):
            yield "a spreadsheet", rows, " "
        return
    text, encoding = decode(path.read_bytes(), path)
    if text.lstrip()[:1] in ("{", "[") and (rows := _json(text)):
        yield f"{encoding}, JSON", rows, ""
        return
    if text.lstrip()[:1] == "(" and (prompts := PROMPT.findall(text)):
        yield f"{encoding}, Festival's prompts", [[name, said.replace("\\", "")] for name, said in prompts], " "
        return
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return
    for delimiter, name in DELIMITERS.items():
        usual = sum(delimiter in line for line in lines) >= USUAL * len(lines)
        if rows := _as_csv(lines, delimiter) or (_records(lines, delimiter) if usual else []):
            yield f"{encoding}, separated by {name}", rows, delimiter
    yield f"{encoding}, separated by the first space", [line.split(None, 1) for line in lines], " "


def _spreadsheet(path):
    """For each width of sheets the rows of all that have it, with one header."""
    try:
        import python_calamine
    except ImportError as error:
        raise TextFileError(f"{path}: spreadsheets need python-calamine: pip install -r requirements-extra.txt, or "
                            "save it as CSV") from error  # fmt: skip
    try:
        workbook = python_calamine.CalamineWorkbook.from_path(path)
        sheets = [workbook.get_sheet_by_name(name).to_python() for name in workbook.sheet_names]
    except python_calamine.CalamineError as error:
        raise TextFileError(f"{path}: not a spreadsheet that can be read ({error}). Save it as CSV") from error
    by_width: dict[int, list[list[str]]] = {}
    for sheet in sheets:
        if rows := [cells for row in sheet if any(cells := [_cell(cell) for cell in row])]:
            known = by_width.setdefault(len(rows[0]), [])
            known += rows[rows[0] in known[:1] :]
    return by_width.values()


def _json(text):
    """Objects, one a line or in a list, as rows under the row of their keys; [] where it is none of it."""
    try:
        whole = json.loads(text)
        objects = whole if isinstance(whole, list) else [whole]
    except ValueError:
        objects = []
        for line in text.split("\n"):
            try:
                objects.append(json.loads(line))
            except ValueError:
                continue  # a torn line
    flat = [dict(_flat(one)) for one in objects if isinstance(one, dict)]
    header = list(dict.fromkeys(key for one in flat for key in one))
    return [header, *([one.get(key, "") for key in header] for one in flat)] if header else []


def _flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            yield f"{prefix}{key}", _cell(value)


def _cell(value):
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _as_csv(lines, delimiter):
    """The cells of each record, where all of it is what a spreadsheet writes, each record as wide; [] where it is not.
    A quoted cell may go over several lines, which may have delimiters."""
    quote = '""' if delimiter == "|" and not lines[0].startswith('"') else '"'
    if not any(quote in line for line in lines):
        return []
    try:
        rows = list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True))
    except csv.Error:
        return []
    tall = any(cell.count("\n") >= LINES_A_CELL for row in rows for cell in row)
    regular = len({len(row) for row in rows}) == 1 and len(rows[0]) > 1 and not tall
    return [[" ".join(cell.split()) for cell in row] for row in rows] if regular else []


def _records(lines, delimiter):
    """The cells of each record. A quoted cell may go over several lines; a quote that is not one of a spreadsheet's
    stands for itself, as in LJSpeech's lists, which are separated by | and never quoted."""
    plain = [line.split(delimiter) for line in lines]
    if delimiter == "|" and not any('""' in line for line in lines):
        return [[cell.strip() for cell in row] for row in plain]
    width = Counter(map(len, plain)).most_common(1)[0][0]
    records, i = [], 0
    while i < len(lines):
        cells, n = plain[i], 1
        for n_lines in range(1, LINES_A_CELL + 1) if '"' in lines[i] else ():
            if any(len(row) == width for row in plain[i + 1 : i + n_lines]):
                break  # a record of its own: the quote before it stands for itself
            try:
                (cells,) = csv.reader(["\n".join(lines[i : i + n_lines])], delimiter=delimiter, strict=True)
                n = n_lines
                break
            except (csv.Error, ValueError):
                continue
        records.append([" ".join(cell.split()) for cell in cells])
        i += n
    return records


# -- what the columns are


class _Reading:
    """One way to read a table, and what its columns are then."""

    def __init__(self, path, how, rows, delimiter, find, flags):
        self.path, self.how, self.delimiter = path, how, delimiter
        self.find, self.flags = find, flags
        rows = self.rows = rows[self._n_above(rows) :]
        self.width = self._width()
        whole = [row for row in rows[1:] if len(row) == self.width] or [row for row in rows if len(row) == self.width]
        self.sample = whole[:: -(-len(whole) // SAMPLE)]
        self.values = [[row[i] for row in self.sample] for i in range(self.width)]
        self.hits = [sum(self.find(cell) is not None for cell in values) for values in self.values]
        audio = self._audio()
        self.header = self._header(audio)
        self.kinds = [_kind(cell) for cell in self.header] or [""] * self.width
        self._assign(audio, {})

    def _assign(self, audio, flags):
        """Say what each column is. flags: what the user says of them."""
        self.audio = self._flagged(flags, "audio") if "audio" in flags else audio
        left = [i for i in range(self.width) if i != self.audio]
        self.texts = [self._flagged(flags, "text")] if "text" in flags else self._texts(left)
        self.split = next((i for i in left if self._is_split(i)), None)
        left = [i for i in left if i not in (*self.texts, self.split)]
        self.speaker = self._flagged(flags, "speaker") if "speaker" in flags else self._speaker(left)

    @property
    def score(self):
        """More is better: rows that name recordings, a text, rows of one width."""
        n_right = sum(len(row) == self.width for row in self.rows)
        found = self.hits[self.audio] / len(self.sample) if self.audio is not None else 0
        return round(found, 1), bool(self.texts), self.width > 1, n_right / len(self.rows)

    def table(self) -> Table:
        self._assign(self.audio, self.flags)
        named = {"audio": self.audio, "text": self.texts[-1] if self.texts else None}
        missing = next((kind for kind in named if named[kind] is None), "")
        if missing:
            what = {"audio": "names recordings", "text": "has texts"}[missing]
            raise TextFileError(f"{self.path}: no column that {what} (read as {self.how}, first row: "
                             f"{' '.join('|'.join(self.rows[0]).split())[:80]!r}). Say which with {FLAGS[missing]}, by "
                             "name or position, or save it as name.wav|text")  # fmt: skip
        rows = [self._row(cells) for cells in self.rows[bool(self.header) :] if any(cells)]
        if not rows:
            raise TextFileError(f"{self.path}: a header and no row. Expected one for each recording")
        named |= {"speaker": self.speaker, "split": self.split}
        took = (f"{kind} is column {i + 1}{f' ({self.header[i]})' if self.header else ''}"
                for kind, i in named.items() if i is not None)  # fmt: skip
        return Table(
            rows, f"{self.path.name}, {self.how}: {', '.join(took)}", sum(row.path is not None for row in rows)
        )

    def _row(self, cells):
        if len(cells) > self.width and len(self.texts) == 1 and self.delimiter.strip(" "):
            (i,), more = self.texts, len(cells) - self.width + 1
            cells = [*cells[:i], f"{self.delimiter} ".join(cells[i : i + more]), *cells[i + more :]]
        can_be_told = len(cells) <= self.width  # where there are more, nobody knows which belong to the text
        cells = [*cells, *[""] * (self.width - len(cells))]
        text = next((cells[i] for i in reversed(self.texts) if cells[i]), None) if can_be_told else None
        speaker, split = ("" if i is None else cells[i] for i in (self.speaker, self.split))
        audio = cells[self.audio]
        path = self.find(audio) or (self.find(f"{speaker}/{audio}") if speaker else None)
        return Row(audio, path, text, unicodedata.normalize("NFC", speaker), SPLITS.get(split.lower(), ""))

    def _n_above(self, rows):
        """Rows above the table: those before the first with several cells, such as a title, that name no recording."""
        for i, row in enumerate(rows):
            filled = [cell for cell in row if cell]
            if len(filled) > 1 or any(self.find(cell) for cell in filled):
                return i
        return 0

    def _width(self):
        counts = Counter(map(len, self.rows))
        width, n = counts.most_common(1)[0]
        if any(_kind(cell) for cell in self.rows[0]):
            return len(self.rows[0])
        return width if n >= USUAL * len(self.rows) or min(counts) == 1 else min(counts)

    def _audio(self):
        """The column that most often names a recording that is there, first of all with the zeros before its number; in
        doubt by its heading or the ends of its cells, beside a column of row numbers. Else one whose cells end so."""
        ended = [sum(Path(cell).suffix.lower() in suffixes() for cell in values) for values in self.values]
        named = [_kind(cell) == "audio" for cell in self.rows[0]] + [False] * self.width
        if any(self.hits):
            full = [sum(folded(path.stem) in folded(cell) for cell in values if (path := self.find(cell)))
                    for values in self.values]  # fmt: skip
            return max(range(self.width), key=lambda i: (full[i], self.hits[i], named[i], ended[i]))
        if any(ended):
            return ended.index(max(ended))
        return named.index(True) if any(named) else None

    def _header(self, audio):
        """The first row, where it is one: its cells are names of columns, or words while the others name recordings."""
        first = self.rows[0]
        if not self.delimiter:
            return first
        if len(first) != self.width or len(self.rows) == 1 and not all(map(_kind, first)):
            return []
        flags = set(map(folded, self.flags.values()))
        names = any(folded(cell) in flags for cell in first)
        cell = "" if audio is None else first[audio]
        if self.find(cell) is not None or Path(cell).suffix.lower() in suffixes():
            return first if names else []
        words = all(re.fullmatch(r"[^\d.,!?;:\"]{1,30}", cell) and len(cell.split()) <= 2 for cell in first)
        usual = audio is not None and self.hits[audio] >= USUAL * len(self.sample)
        return first if names or any(map(_kind, first)) or words and usual and self.width > 1 else []

    def _flagged(self, flags, kind):
        """The column that a flag names, None for none."""
        wanted, names = flags[kind], list(map(folded, self.header))
        if wanted == "-" and kind == "speaker":
            return None
        if folded(wanted) in names:
            return names.index(folded(wanted))
        if wanted.isdecimal() and 1 <= int(wanted) <= self.width:
            return int(wanted) - 1
        there = f"named {', '.join(self.header)}" if self.header else "without names"
        raise TextFileError(f"{self.path}: no column {FLAGS[kind]} {wanted}: there are {self.width}, {there}")

    def _texts(self, left):
        """The column of the longest texts; of those that say the same, as raw and normalised do, all."""
        named = [i for i in left if self.kinds[i] == "text"]
        left = named or [i for i in left if self.kinds[i] not in ("speaker", "split", "other")]
        scores = {i: _eloquence(self.values[i]) for i in left}
        if not scores or max(scores.values()) == 0:
            return named[-1:]
        best = max(scores, key=scores.get)
        return [i for i in scores if i == best or say_the_same(self.values[i], self.values[best])]

    def _is_split(self, i):
        values = {value.lower() for value in self.values[i]}
        return values <= set(SPLITS) and (self.kinds[i] == "split" or len(values) > 1)

    def _speaker(self, left):
        """A column named so, else one that holds few and short names."""
        named = [i for i in left if self.kinds[i] == "speaker"]
        left = [i for i in left if not self.kinds[i] and self._names_people(i)]
        several = [i for i in left if len(set(self.values[i])) > 1]
        return next(iter([*named, *several, *left]), None)

    def _names_people(self, i):
        values = [value for value in self.values[i] if value]
        short = all(
            len(value) <= 40 and len(value.split()) <= 3 and not re.search(r"[.,;!?]$", value) for value in values
        )
        few = len(set(values)) <= max(1, len(values) // 2) or self.width == 3 and len(values) < MANY
        filled = len(values) >= USUAL * len(self.sample)
        # speakers are numbers in VITS's lists; a header would name them
        numbers = not self.header and (self.width == 3 or len(set(values)) < len(values))
        people = all(numbers if value.isdecimal() else not NOBODY.fullmatch(value) for value in values)
        # of samples, as in FLEURS: large, and hardly twice the same
        counts = all(value.isdecimal() and len(value) > 4 for value in values) and len(set(values)) > 0.1 * len(values)
        return short and few and filled and people and not counts


def _kind(cell):
    """What a header's cell says of its column, without what stands in brackets after it; "" for nothing."""
    word = re.sub(r"[\W_]+", "", re.sub(r"[(\[].*[)\]]$", "", cell.strip().casefold()))
    return next((kind for kind, words in WORDS.items() if word in words), "")


def _eloquence(values):
    """How much like texts the cells of a column are: characters, where there is more than one word or a sentence's
    end; a little for a word that is no number and no path."""
    count = 0.0
    for value in values:
        if re.search(r"[ˈˌ]|[\\/]\S*\.\w+$|^[\da-fA-F]{32,}$", value) or not re.search(r"[^\W\d]", value):
            continue  # phonemes, a path, a checksum, a number
        sentence = " " in value or re.search(r"[.,!?;:]$", value) or not value.isascii()
        count += len(value) if sentence else 1 / len(values)
    return count * (len(set(values)) / len(values)) ** 0.5


def say_the_same(values: Sequence[str], others: Sequence[str]) -> bool:
    """Whether most of some texts have as many words, and half of them the same, as the others in their places."""
    n_alike, n = 0, 0
    for one, other in zip(values, others):
        words, theirs = (set(re.findall(r"\w+", text.casefold())) for text in (one, other))
        if words and theirs:
            least, most = sorted((len(words), len(theirs)))
            n_alike += len(words & theirs) >= ALIKE * least and least >= ALIKE * most
            n += 1
    return n > 0 and n_alike > n / 2


def lists_in(folder: Path, find: Finder) -> list[Path]:
    """The files of a folder, and of its folders of lists, that may be lists: metadata.* before all others."""
    places = [folder, *(folder / name for name in LISTS)]
    files = [path for place in places for path in sorted(place.glob("*")) if path.suffix.lower() in SUFFIXES]
    files.sort(key=lambda path: path.stem != "metadata")
    return [path for path in files if path.is_file() and not find.has(path)]
