"""data_util.tables: tables and lists as people keep them, and the recordings that they name."""

import json
import sys
import zipfile

import pytest

from data_util.tables import Finder, read_table
from runtime.text_files import TextFileError, decode

TEXTS = [
    "Printing, in the only sense with which we are concerned.",
    "He differs from most, if not from all; said Ann.",
    "In being comparatively modern.",
    '"Why?" he asked, and "when?"',
    "The invention of movable metal letters",
    "has never been surpassed.",
    "One: two, three.",
    "Yes.",
]
SPEAKERS = ["Ann Lee", "Ben Ray"]


@pytest.fixture
def root(tmp_path):
    """A folder with wavs/clip0.wav to wavs/clip7.wav, which are looked for and not into."""
    (tmp_path / "wavs").mkdir()
    for i in range(len(TEXTS)):
        (tmp_path / "wavs" / f"clip{i}.wav").touch()
    return tmp_path


def table(root, content, name="list.csv", **columns):
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(root / name, Finder(root), columns)


def found(rows):
    return [(row.path.stem if row.path else None, row.text, row.speaker) for row in rows]


def wanted(speakers=False):
    return [(f"clip{i}", text, SPEAKERS[i % 2] if speakers else "") for i, text in enumerate(TEXTS)]


def lines(form, header=""):
    rows = [form.format(i=i, text=text, speaker=SPEAKERS[i % 2], quoted=text.replace('"', '""')) for i, text in
            enumerate(TEXTS)]  # fmt: skip
    return "\n".join([*([header] if header else []), *rows]) + "\n"


@pytest.mark.parametrize(
    ("form", "header"),
    [
        ("clip{i}|{text}|{speaker}", ""),
        ("wavs/clip{i}.wav|{text}|{speaker}", "audio_file|text|speaker_name"),
        ("{speaker}|clip{i}|{text}", ""),
        ("clip{i}\t{speaker}\t{text}", "Datei\tSprecherin\tSatz"),
        ('clip{i}.wav;{speaker};"{quoted}"', "file;speaker;transcription"),
        ('"{quoted}","{speaker}","clip{i}.wav"', "transcription,speaker_id,path"),
        ('clip{i}.wav,{speaker},"{quoted}",en,3.52', "path,client_id,sentence,locale,duration"),
        ("clip{i}|{speaker}|EN|{text}", ""),
        ("clip{i}|{text}|ˈwʌn|{speaker}", "path|text|phonemes|speaker"),
        ("{i}|clip{i}.wav|{text}|female|{speaker}|3.5", "index|path|text|gender|speaker|seconds"),
    ],
)
def test_columns_are_found_by_what_they_hold(root, form, header):
    read = table(root, lines(form, header))
    assert found(read.rows) == wanted(speakers=True)
    assert all(f"{kind} is column" in read.about for kind in ("audio", "text", "speaker")) and "\n" not in read.about


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-05-03", "2024-05-04"], ["0:07", "0:12"], ["3,5", "2,5"], ["7", "12"], ["TRUE", "FALSE"],
        ["", "", "", "retake"], [f"raw/take{i}.wav" for i in range(8)], [str(i) for i in range(8)],
        ["Angry", "Neutral"],
    ],
)  # fmt: skip
def test_what_else_is_said_of_a_recording_is_no_speaker(root, cells):
    rows = [f'clip{i};{cells[i % len(cells)]};"{text}"' for i, text in enumerate(t.replace('"', "'") for t in TEXTS)]
    assert {row.speaker for row in table(root, "\n".join(["Datei;Mehr;Satz", *rows])).rows} == {""}
    assert table(root, lines("clip{i}|{text}|78") + "clip0|Yes.|79\n").rows[0].speaker == "78"  # as in VITS's lists
    counted = [f"{i}\tclip{i}.wav\t{text}\t{text.lower()}\t{108800 + i % 3 * 960}" for i, text in enumerate(TEXTS)]
    assert {row.speaker for row in table(root, "\n".join(counted)).rows} == {""}  # as FLEURS's, without a header


@pytest.mark.parametrize(
    "form",
    [
        "clip{i}|{text}", "clip{i}.wav|{text}", "{text}|wavs/clip{i}.wav", "clip{i}|{text}|{text}", "clip{i}|{text}|",
        "clip{i}.wav,{text}", "clip{i}\t{text}", "clip{i} {text}", "clip{i}.wav|{text}|3.52", 'clip{i};"{quoted}"',
    ],
)  # fmt: skip
def test_a_list_of_one_voice(root, form):
    assert found(table(root, lines(form)).rows) == wanted()


@pytest.mark.parametrize("header", [",file,text", "nr,id,text", "a,b,text", ""])
def test_row_numbers_that_are_names_of_recordings_are_none(tmp_path, header):
    """As pandas writes them: the recordings are in the order of their names, 10.wav before 2.wav."""
    names = sorted(f"{i}.wav" for i in range(12))
    for name in names:
        (tmp_path / name).touch()
    rows = [f"{i},{name},This is what recording {name[:-4]} says." for i, name in enumerate(names)]
    rows = table(tmp_path, "\n".join([header, *rows] if header else rows)).rows
    assert [(row.path.name, row.text) for row in rows] == [
        (name, f"This is what recording {name[:-4]} says.") for name in names
    ]


def test_of_raw_and_normalised_texts_the_last_that_is_there(root):
    read = table(root, "clip0|Dr. Lee came at 5.|Doctor Lee came at five.\nclip1|No 2 here.|\nclip2|A b.|A b.\n")
    assert [row.text for row in read.rows] == ["Doctor Lee came at five.", "No 2 here.", "A b."]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_encoding_and_ending_of_lines(root, encoding, end):
    content = end.join(["file;text", *(f"clip{i}.wav;Zoë naïve {i}, größer." for i in range(8))])
    rows = found(table(root, content.encode(encoding)).rows)
    assert rows == [(f"clip{i}", f"Zoë naïve {i}, größer.", "") for i in range(8)]


def test_one_line_in_another_encoding_leaves_the_others_as_they_are(root):
    read = table(root, "clip0|Zoë came.\nclip1|".encode() + "Größe zählt.\n".encode("cp1252"))
    assert [row.text for row in read.rows] == ["Zoë came.", "Größe zählt."]


def test_a_delimiter_in_a_text_is_the_matter_of_its_row_alone(root):
    assert found(table(root, lines("clip{i}|{text}").replace("Yes.", "Yes|no.")).rows)[-1][1] == "Yes| no."
    rows = found(table(root, lines("clip{i}|{text}|{text}").replace("Yes.", "Yes|no.")).rows)
    assert rows[:-1] == wanted()[:-1] and rows[-1][:2] == ("clip7", None)  # by name
    rows = found(table(root, lines("clip{i}|{speaker}|{text}").replace("Yes.", "Yes|no.")).rows)
    assert rows[-1] == ("clip7", "Yes| no.", "Ben Ray")


def test_quotes_of_spreadsheets_and_quotes_of_texts(root):
    read = table(root, 'clip0,"One, ""two""\nand three."\nclip1,"Four" he said.\nclip2,"Five six\nclip3,Seven.\n')
    assert [row.text for row in read.rows] == ['One, "two" and three.', '"Four" he said.', '"Five six', "Seven."]
    cells = ["He came in\nand sat down, tired.", "Two.", "Three\n\nand\nmore, with, commas"]
    read = table(root, "file,text\n" + "".join(f'clip{i},"{cell}"\n' for i, cell in enumerate(cells)))
    assert [row.text for row in read.rows] == [" ".join(cell.split()) for cell in cells]
    rows = table(root, '"clip0"|"One."\n"clip1"|"Two, three."\n').rows  # as R and pandas write
    assert [(row.path.stem, row.text) for row in rows] == [("clip0", "One."), ("clip1", "Two, three.")]
    read = table(root, 'clip0|"Open\nclip1|"All of it."\n')  # as LJSpeech has them
    assert [row.text for row in read.rows] == ['"Open', '"All of it."']


def test_json_lines_and_lists(root):
    objects = [{"audio": {"path": f"/x/clip{i}.wav"}, "text": text, "speaker": SPEAKERS[i % 2], "n": [1]}
               for i, text in enumerate(TEXTS)]  # fmt: skip
    torn = "\n".join(map(json.dumps, objects)) + '\n{"audio": {"pa'
    assert found(table(root, torn, "list.jsonl").rows) == wanted(speakers=True)
    assert found(table(root, json.dumps(objects), "list.json").rows) == wanted(speakers=True)
    for each in objects:
        del each["speaker"]
        each["created_at"] = "2026-11-30T15:00:00.000Z"  # of all alike
    assert found(table(root, json.dumps(objects), "list.json").rows) == wanted(speakers=False)


def workbook(path, *sheets):
    """The least that is a spreadsheet. sheets: the rows of each."""
    schemas = "http://schemas.openxmlformats.org"
    main, relations = f"{schemas}/spreadsheetml/2006/main", f"{schemas}/package/2006/relationships"
    kinds = f"{schemas}/officeDocument/2006/relationships"

    def related(kind, *targets):
        each = (
            f'<Relationship Id="r{i}" Type="{kinds}/{kind}" Target="{target}"/>' for i, target in enumerate(targets)
        )
        return f'<Relationships xmlns="{relations}">{"".join(each)}</Relationships>'

    def worksheet(rows):
        cells = ["".join(f'<c t="inlineStr"><is><t>{cell}</t></is></c>' for cell in row) for row in rows]
        data = "".join(f"<row>{row}</row>" for row in cells)
        return f'<worksheet xmlns="{main}"><sheetData>{data}</sheetData></worksheet>'

    places = [f"worksheets/sheet{i}.xml" for i in range(len(sheets))]
    named = "".join(f'<sheet name="s{i}" sheetId="{i + 1}" r:id="r{i}"/>' for i in range(len(sheets)))
    files = {
        "_rels/.rels": related("officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{kinds}"><sheets>{named}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": related("worksheet", *places),
        **{f"xl/{place}": worksheet(rows) for place, rows in zip(places, sheets)},
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)


def test_spreadsheets(root):
    pytest.importorskip("python_calamine")
    rows = [["file", "speaker", "text"], *([f"clip{i}.wav", SPEAKERS[i % 2], text] for i, text in enumerate(TEXTS))]
    workbook(root / "list.xlsx", [["What this is"], ["A list."]], rows[:5], [rows[0], *rows[5:]])  # of two sessions
    assert found(read_table(root / "list.xlsx", Finder(root)).rows) == wanted(speakers=True)
    with pytest.raises(TextFileError, match="damaged.xlsx: not a spreadsheet.*Save it as CSV"):
        table(root, b"PK no sheet", "damaged.xlsx")


def test_spreadsheets_ask_for_their_package(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    with pytest.raises(TextFileError, match="list.xlsx: spreadsheets need python-calamine: pip install"):
        table(root, b"PK", "list.xlsx")


def test_recordings_of_one_name_are_told_by_their_speakers_folder(tmp_path):
    for speaker in ("ann lee", "ben ray"):
        (tmp_path / speaker).mkdir()
        for i in range(4):
            (tmp_path / speaker / f"{i}.wav").touch()
    rows = [f"{speaker},{i}.wav,{i} says {speaker}." for i in range(4) for speaker in (*SPEAKERS, "Cat")]
    read = table(tmp_path, "\n".join(["speaker,file,text", *rows])).rows
    assert [row.path and row.path.parent.name for row in read] == ["ann lee", "ben ray", None] * 4
    assert [row.path and row.path.name for row in read[:2]] == ["0.wav", "0.wav"]


def test_flags_say_what_the_columns_are(root):
    content = lines("clip{i}|{text}|{speaker}", "a|b|c")
    rows = table(root, content, text="c", speaker="-").rows
    assert found(rows) == [(f"clip{i}", SPEAKERS[i % 2], "") for i in range(8)]
    rows = table(root, content, audio="3", text="2").rows
    assert [row.audio for row in rows[:2]] == SPEAKERS and rows[0].path is None
    for wanted_column in ("d", "4", "0"):
        with pytest.raises(TextFileError, match=f"no column --text-column {wanted_column}: there are 3, named a, b, c"):
            table(root, content, text=wanted_column)


@pytest.mark.parametrize("flags", [("Datei", "Größe 2"), ("datei", "GRO\u0308SSE 2")])
def test_flags_name_columns_whatever_the_case_also_of_recordings_that_are_not_there(root, flags):
    content = lines("take{i}|{text}", "Datei|Größe 2")
    rows = table(root, content, audio=flags[0], text=flags[1]).rows
    assert [(row.audio, row.text) for row in rows] == [(f"take{i}", text) for i, text in enumerate(TEXTS)]


def test_a_header_is_no_clip_and_a_first_clip_no_header(root):
    for header in ("file|text", "Datei|Satz", "wav_path|normalized_text", "ID|Transcript", "sep=|\nfile|text",
                   "Recorded in May|\n|\nDatei|Satz", "# of ours\nfile|text"):  # fmt: skip
        assert len(table(root, lines("clip{i}|{text}", header)).rows) == len(TEXTS)
    for first in ("gone.wav|text", "gone|It is not there.", "clip0|One"):
        assert len(table(root, lines("clip{i}|{text}", first)).rows) == len(TEXTS) + 1
    assert len(table(root, "clip0|Only one.\n").rows) == 1


def test_a_header_says_what_is_no_text_and_no_speaker(root):
    note = "Much slower than this, and without popping, for as long as it takes to say all of it, please!"
    header = "What we recorded in May|||\nFile|Text (final)|Notes (ours)|Take"
    assert found(table(root, lines(f"clip{{i}}|{{text}}|{note}|{{speaker}}", header)).rows) == wanted()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"d41d8cd98f00b204e9800998ecf8427e  clip0.wav\n", "no column that has texts"),
        (b"", "list.csv: no rows"),
        (b" \n\n", "list.csv: no rows"),
        (b"file,text\n", "list.csv: a header and no row|no column that names recordings"),
        (b"\xff\xfea", "list.csv: not a text"),
        (b"\x89PNG\0\0\0\rIHDR", "list.csv: not a text"),
        (b"1|2\n3|4\n", "no column that names recordings .*first row: '1.2'.*--audio-column"),
        (b"clip0.wav\nclip1.wav\n", "no column that has texts .*--text-column"),
    ],
)
def test_a_table_that_cannot_be_understood_says_why(root, content, words):
    with pytest.raises(TextFileError, match=words) as caught:
        table(root, content)
    assert "\n" not in str(caught.value)


def test_recordings_by_names_of_other_systems(root):
    (root / "wavs" / "clip7.wav").rename(root / "wavs" / "CLIP7.WAV")
    for folder in ("ann", "ben"):
        (root / folder).mkdir()
        (root / folder / "a.FLAC").touch()
    (root / "sub.part").mkdir()
    (root / "sub.part" / "u\u0308ber.wav").touch()  # decomposed, as macOS writes it
    for name in ("0042", "07", "007"):
        (root / "wavs" / f"{name}.wav").touch()
    find = Finder(root)
    there = {"42": "wavs/0042.wav", "42.wav": "wavs/0042.wav", "07": "wavs/07.wav",
             "clip1": "wavs/clip1.wav", "clip7": "wavs/CLIP7.WAV", "clip7.wav": "wavs/CLIP7.WAV",
             "clip2.mp3": "wavs/clip2.wav",
             "C:\\data\\wavs\\clip3.wav": "wavs/clip3.wav", "DUMMY1/clip4.wav": "wavs/clip4.wav",
             "/home/else/wavs/clip5.wav": "wavs/clip5.wav", "./wavs/clip6.wav": "wavs/clip6.wav",
             "x\\ann\\a.wav": "ann/a.FLAC", "BEN/a": "ben/a.FLAC", "über.wav": "sub.part/u\u0308ber.wav",
             str(root / "wavs" / "clip0.wav"): "wavs/clip0.wav"}  # fmt: skip
    assert {name: str(find(name).relative_to(root)) for name in there} == there
    for name in ("7", "a", "a.flac", "carl/a", "gone", "", ".", "x" * 300, "a\0b", "wavs"):  # two have the first three
        assert find(name) is None, name
    assert find.first("gone.wav") == root / "wavs" / "gone.wav"
    assert table(root, "no,file,text\n42,07.wav,He came.\n").rows[0].path == root / "wavs" / "07.wav"


def test_a_path_in_the_home_folder(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    assert Finder(root / "elsewhere")("~/wavs/clip1.wav") == root / "wavs" / "clip1.wav"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Это первое предложение."), ("cp1253", "Αυτή είναι μια πρόταση."), ("cp1256", "هذه جملة قصيرة."),
        ("gb18030", "他今天早上很早就出门去了。"), ("shift_jis", "これは文です。"),
        ("cp949", "안녕하세요, 제 이름은 김철수이고 서울에서 살고 있습니다."),
    ],
)  # fmt: skip
def test_what_would_be_nonsense_in_windows_1252_is_refused(encoding, text):
    with pytest.raises(TextFileError, match="a.txt: not a text in UTF-8.*: line 2 would be .*Save it as UTF-8"):
        decode(f"English.\n{text}".encode(encoding), "a.txt")
    for western in (
        "« Où ça ? » – à l’été créé…",
        "Þýða, æðstu; ÆØÅ, äöüß",
        "¿Qué? ¡Así, señor! 5 €",
        "Ça va, “naïve”?",
    ):
        assert decode(western.encode("cp1252"), "") == (western, "Windows-1252")


def test_decoding_says_what_it_read():
    assert decode("a\r\nb".encode("utf-16"), "") == ("a\nb", "UTF-16")
    assert decode(b"\xef\xbb\xbfa", "") == ("a", "UTF-8") and decode(b"\xe9", "") == ("é", "Windows-1252")
    mac = "“Zoë”\nIt’s a café… – naïve."  # as Excel for Mac saves CSV
    assert decode(mac.encode("mac_roman"), "") == (mac, "Mac Roman")
