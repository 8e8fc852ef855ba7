"""Texts and lists as people keep them: of any encoding, with names of any system."""

import codecs
import re
from pathlib import Path

# In no text that is Windows-1252: a byte that it has not, or five letters or signs in a row that ASCII has not
NOT_WESTERN = re.compile(r"[\x80-\x9f]|[^\x00-\xa0«»“”–—…·•]{5}")
MAC = re.compile(rb"[a-z]\xd5(?:s|t|re|ll|ve|d|m)\b")  # the apostrophe of Mac Roman, in Windows-1252 a capital Õ


class TextFileError(ValueError):
    """A text, list or table that cannot be read; the message says what to do."""


def decode(content: bytes, name: str | Path) -> tuple[str, str]:
    """A text file's content, its lines ended by a line feed, and its encoding: UTF-8, UTF-16, UTF-32, Windows-1252
    or Mac Roman.

    A line that is not UTF-8 is read as one of the last two. Raises TextFileError, which calls it `name`, where it is no
    text, or would be nonsense: one in the code page of another script.
    """
    wide = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
            codecs.BOM_UTF16_BE: "utf-16"}  # the longer first: one begins with the other  # fmt: skip
    encoding = next((one for bom, one in wide.items() if content.startswith(bom)), "")
    if not encoding and b"\0" in content:
        zeros = [content[i::2].count(0) for i in (0, 1)]  # of letters without accents one byte of two is zero
        if max(zeros) >= len(content) / 4:
            encoding = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    try:
        if encoding:
            text, encoding = content.decode(encoding), encoding[:6].upper()
        else:
            western = "Mac Roman" if MAC.search(content) else "Windows-1252"
            raw = re.split(rb"\r\n|\r|\n", content.removeprefix(codecs.BOM_UTF8))
            lines = [_decode_line(line, western) for line in raw]
            for number, (line, right) in enumerate(lines, 1):
                if not right and NOT_WESTERN.search(line):
                    raise TextFileError(f"{name}: not a text in UTF-8, UTF-16 or Windows-1252: line {number} would be "
                                        f"{line.strip()[:40]!r}. Save it as UTF-8")  # fmt: skip
            text = "\n".join(line for line, _ in lines)
            encoding = "UTF-8" if all(right for _, right in lines) else western
    except UnicodeDecodeError as error:
        raise TextFileError(f"{name}: not a text ({error.reason} at byte {error.start}). Save it as UTF-8") from error
    if "\0" in text:
        raise TextFileError(f"{name}: not a text (it has zero bytes). Save it as UTF-8")
    return re.sub(r"\r\n|\r", "\n", text), encoding


def read_text(path: Path) -> str:
    """A text file of any encoding. Raises TextFileError and OSError, which name it."""
    return decode(path.read_bytes(), path)[0]


def _decode_line(line, western):
    for encoding in ("utf-8", western):
        try:
            return line.decode(encoding), encoding == "utf-8"
        except UnicodeDecodeError:
            pass
    return line.decode("latin-1"), False


def parts_of(name: str) -> list[str]:
    """A path's parts, be it of this system or of Windows, without a drive, `.` and `..`."""
    parts = re.split(r"[/\\]+", re.sub(r"^[A-Za-z]:(?=[/\\])", "", name.strip()))
    return [part for part in parts if part not in ("", ".", "..", "~")]
