"""What people read of a report: Markdown, and a page that holds all it shows and plays in one file."""

import base64
import functools
import html
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import soundfile

from data_util.audio import AudioError, MelSpectrogram
from data_util.features import compute_mel
from data_util.measures import MEASURES

N_BANDS, N_COLUMNS = 80, 320  # of the picture of a row's longest sound: about 10 kB
N_LEVELS = 32  # shades of it; more can hardly be told apart and fill the file
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, those of MPEG 1, 2 and 2.5
MP3_COMPRESSION = 0.5  # 0, the largest, to 1; at 22,050 Hz 7 kB a second of speech, and nothing cut off under 10 kHz
DEPTH = 8.0  # nats of amplitude from the brightest shade to the darkest, about 70 dB


# -- what both have in common


def shown(report: dict, part: str) -> list[str]:
    """The measures that some system has. part: measures or differences."""
    return [name for name in MEASURES if any(name in one[part] for one in report["systems"].values())]


def cell(name: str, found: dict | None) -> tuple[str, str]:
    """A value as the table has it, and its interval, "" where there is none."""
    if found is None or found["value"] is None:
        return "–", ""
    measure = MEASURES[name]
    value, low, high = (
        None if found[key] is None else f"{found[key] * measure.scale:.{measure.digits}f}"
        for key in ("value", "low", "high")
    )
    return value, "" if low is None else f"[{low}, {high}]"


def header(report: dict) -> dict[str, str]:
    """What was evaluated, {what: how}."""
    about, voice = report["about"], report["about"]["voice"]
    lines = {"clips": f"{about['clips']}, seed {about['seed']}"}
    if voice is not None:
        solver = f", {voice['solver']} for n > 1" if voice["solver"] else ""
        lines["voice"] = f"run {voice['run']}, step {voice['step']}, {voice['parameters']:,} parameters{solver}"
        lines["device"] = f"{about['device']}, {about['threads']} torch threads"
    missing = [f"{system} {one['missing']}" for system, one in report["systems"].items() if one["missing"]]
    if missing:
        lines["clips that a system does not have"] = ", ".join(missing)
    return lines


# -- Markdown


def markdown(report: dict) -> str:
    """The report for people: a header, the table, what its columns mean, the differences to a system."""
    names, compared = shown(report, "measures"), shown(report, "differences")
    lines = ["# Evaluation", "", *(f"- {what}: {how}" for what, how in header(report).items())]
    lines += [f"- command: `{report['about']['command']}`", "", *_rows(report, "measures", names), ""]
    lines += ["In brackets: 95% intervals, bootstrapped over the clips.", ""]
    lines += [f"- {MEASURES[name].heading}: {MEASURES[name].meaning}. {MEASURES[name].limits}." for name in names]
    if compared:
        lines += ["", f"## Differences to {report['about']['against']} on the same clips", ""]
        lines += _rows(report, "differences", compared)
    return "\n".join(lines) + "\n"


def _rows(report, part, names):
    lines = ["| system | clips | " + " | ".join(MEASURES[name].heading for name in names) + " |"]
    lines.append("|---|" + "---:|" * (len(names) + 1))
    for system, one in report["systems"].items():
        cells = [" ".join(cell(name, one[part].get(name))).strip() for name in names]
        lines.append("| " + " | ".join([system, str(one["clips"]), *cells]) + " |")
    return lines


# -- the page


def page(report: dict, folder: Path, n_clips: int) -> str:
    """HTML that needs no other file: the tables, then the first n_clips sentences by all systems side by side.

    folder: the report's, from which its paths to WAVs lead. A WAV that is gone leaves a word in its place.
    Raises AudioError for one that cannot be played.
    """
    systems, clips = list(report["systems"]), list(report["clips"].items())[:n_clips]
    heads = "".join(f'<th scope="col">{_text(system)}</th>' for system in systems)
    rows = "\n".join(_sentence(name, clip, systems, folder) for name, clip in clips)
    about = "".join(f"<dt>{_text(what)}</dt><dd>{_text(how)}</dd>" for what, how in header(report).items())
    n_all = len(report["clips"])
    count = f"The first {n_clips} of {n_all} sentences. " if n_clips < n_all else ""
    count = f"<p>{count}The players have MP3s of the WAVs.</p>"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{_text(" · ".join(systems))}</title>
<style>{STYLE}{NARROW.replace("WIDTH", str(14 * len(systems) + 4))}</style>
</head>
<body>
<header><h1>The same sentences, side by side</h1><dl class="about">{about}</dl></header>
<main>
{_measures(report)}
<section aria-labelledby="listen"><h2 id="listen">Listen</h2>{count}
<table class="sentences"><thead><tr>{heads}</tr></thead>
{rows}
</table></section>
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _text(text):
    return html.escape(str(text))


def _measures(report):
    names, compared = shown(report, "measures"), shown(report, "differences")
    if not names:
        return ""
    lines = ['<section aria-labelledby="measures"><h2 id="measures">Measures</h2>', _table(report, "measures", names)]
    lines.append("<p>In brackets: 95% intervals, bootstrapped over the clips.</p>")
    lines.append('<details><summary>What they mean, and what they do not</summary><dl class="meanings">')
    for measure in (MEASURES[name] for name in names):
        meaning = f"{_text(measure.meaning)}. <em>{_text(measure.limits)}.</em>"
        lines.append(f"<dt>{_text(measure.heading)}</dt><dd>{meaning}</dd>")
    lines.append("</dl></details>")
    if compared:
        lines.append(f"<h3>Differences to {_text(report['about']['against'])} on the same clips</h3>")
        lines.append(_table(report, "differences", compared))
    return "\n".join([*lines, "</section>"])


def _table(report, part, names):
    heads = "".join(f'<th scope="col">{_text(head)}</th>' for head in
                    ("system", "clips", *(MEASURES[name].heading for name in names)))  # fmt: skip
    rows = []
    for system, one in report["systems"].items():
        cells = [cell(name, one[part].get(name)) for name in names]
        cells = "".join(f"<td>{value}{f' <small>{interval}</small>' if interval else ''}</td>"
                        for value, interval in cells)  # fmt: skip
        rows.append(f'<tr><th scope="row">{_text(system)}</th><td>{one["clips"]}</td>{cells}</tr>')
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{part}"><table class="numbers">'
            f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>")  # fmt: skip


def _sentence(name, clip, systems, folder):
    """One <tbody>: the text, a cell for each system, the alignments."""
    paths = {system: folder / one["wav"] for system, one in clip["systems"].items()}
    sounds = {system: read_sound(path) for system, path in paths.items() if path.is_file()}
    pictures = spectrograms(sounds)
    text = clip["text"] or ""
    cells = []
    for system in systems:
        found, label = clip["systems"].get(system), f'<td data-system="{_text(system)}">'
        if system in sounds:
            cells.append(label + _sound(system, found, text, *sounds[system], *pictures[system]) + "</td>")
        else:
            cells.append(f"{label}{'–' if found is None else 'the WAV is gone'}</td>")
    aligned = "".join(_alignments({system: (clip["systems"][system], pictures[system][0]) for system in sounds}))
    return (f'<tbody><tr class="text"><th scope="rowgroup" colspan="{len(systems)}">{_text(text)} '
            f"<small>{_text(name)}</small></th></tr><tr>{''.join(cells)}</tr>"
            + (f'<tr><td colspan="{len(systems)}">{aligned}</td></tr>' if aligned else "") + "</tbody>")  # fmt: skip


def _sound(system, found, text, wav, sample_rate, picture, share):
    """The inside of a cell. picture: a data URI; share: of the width of the row's longest sound, 0 to 1."""
    # preload="none": Chromium gives a page 75 players at most, and one that loads nothing does not count
    audio = f'<audio controls preload="none" src="{audio_uri(wav, sample_rate)}"'
    seconds = f"{len(wav) / sample_rate:.2f} s"
    lines = [f'{audio} aria-label="{_text(f"{system}: {text}")}"></audio>',
             f'<img src="{picture}" style="width:{100 * share:.1f}%" alt="spectrogram, {seconds}">']  # fmt: skip
    cer = found["pairs"].get("cer")
    heard = f", CER {100 * cer[0] / cer[1]:.0f} %, heard: <q>{_text(found['heard'])}</q>" if cer else ""
    return "".join(lines) + f"<p>{seconds}{heard}</p>"


def _alignments(found):
    """What to unfold for each alignment, where several systems may share one. found: {system: (entry, picture)}."""
    sharing = {}
    for system, (one, picture) in found.items():
        if "durations" in one:
            key = tuple(one["symbols"]), tuple(one["durations"])
            sharing.setdefault(key, (one["phonemes"], picture, []))[2].append(system)
    for (symbols, durations), (phonemes, picture, systems) in sharing.items():
        total = sum(durations)
        items = "".join(
            f'<li style="width:{100 * seconds / total:.3f}%" title="{_text(symbol)} {1000 * seconds:.0f} ms">'
            f"{_text(symbol.strip('_ '))}</li>"
            for symbol, seconds in zip(symbols, durations)
            if seconds
        )
        names = _text(", ".join(systems))
        yield (f"<details><summary>Alignment: {names}</summary>"
               f'<div class="scroll" tabindex="0" role="region" aria-label="alignment of {names}">'
               f'<div class="alignment" style="width:{12 * total:.1f}rem"><img src="{picture}" alt="">'
               f"<ol>{items}</ol></div></div><p>{_text(phonemes)}</p></details>")  # fmt: skip


# -- sounds and pictures as data URIs


def read_sound(path: Path) -> tuple[np.ndarray, int]:
    """(T_wav, n_channels) float32 in [-1, 1], and its rate in Hz. Raises AudioError."""
    try:
        wav, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{path}: not a readable recording") from error
    if not len(wav) or not np.isfinite(wav).all():
        raise AudioError(f"{path}: no samples, or some that are not finite")
    return wav, sample_rate


def audio_uri(wav: np.ndarray, sample_rate: int) -> str:
    """MP3 of about 55 kbit/s, which every browser plays; WAV for a rate that MP3 does not have, or where libsndfile was
    built without it. wav: (T_wav, n_channels) in [-1, 1]."""
    memory = io.BytesIO()
    if "MP3" in soundfile.available_formats() and sample_rate in MP3_RATES:
        soundfile.write(memory, wav, sample_rate, format="MP3", subtype="MPEG_LAYER_III",
                        bitrate_mode="VARIABLE", compression_level=MP3_COMPRESSION)  # fmt: skip
        return _uri("audio/mpeg", memory.getvalue())
    soundfile.write(memory, np.clip(wav, -1, 1), sample_rate, format="WAV", subtype="PCM_16")
    return _uri("audio/wav", memory.getvalue())


def spectrograms(sounds: dict[str, tuple[np.ndarray, int]]) -> dict[str, tuple[str, float]]:
    """{name: (data URI of a picture, its length by that of the longest)}, all with the same scale of time and level.

    sounds: {name: (wav, sample_rate)}, wav (T_wav, n_channels) in [-1, 1].
    """
    seconds = {name: len(wav) / rate for name, (wav, rate) in sounds.items()}
    longest = max(seconds.values(), default=0)
    mels = {name: _mel(wav.mean(axis=1), rate) for name, (wav, rate) in sounds.items()}
    brightest = max((mel.max() for mel in mels.values()), default=0)
    found = {}
    for name, mel in mels.items():
        share = seconds[name] / longest
        columns = np.linspace(0, mel.shape[1], max(round(N_COLUMNS * share), 1), endpoint=False).astype(int)
        reduced = np.maximum.reduceat(mel, columns, axis=1)  # (N_BANDS, n_columns); a maximum keeps what is short
        level = np.clip(1 + (reduced - brightest) / DEPTH, 0, 1)
        found[name] = _uri("image/png", png(np.round(level[::-1] * (N_LEVELS - 1)).astype(np.uint8), _palette())), share
    return found


def png(shades: np.ndarray, palette: bytes) -> bytes:
    """A picture of (height, width) uint8 numbers of a palette, which has red, green and blue bytes of each."""
    height, width = shades.shape
    rows = np.pad(shades, ((0, 0), (1, 0)))  # before each row the number of its filter, 0 for none
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),  # 8 bits each, of a palette
        b"PLTE": palette,
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    packed = (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def _mel(wav, sample_rate):
    spectrogram = _spectrogram(sample_rate)
    return compute_mel(spectrogram, np.pad(wav, (0, spectrogram.hop_length)))  # what is short has a frame too


@functools.cache
def _spectrogram(sample_rate):
    n_fft = 2 ** round(np.log2(0.046 * sample_rate))
    return MelSpectrogram(sample_rate=sample_rate, n_fft=n_fft, hop_length=n_fft // 8, win_length=n_fft,
                          n_mels=N_BANDS, f_min=0, f_max=min(8000, sample_rate / 2))  # fmt: skip


@functools.cache
def _palette():
    import matplotlib  # here, since it takes a second

    colours = matplotlib.colormaps["magma"](np.linspace(0, 1, N_LEVELS))[:, :3]
    return np.round(255 * colours).astype(np.uint8).tobytes()


def _uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #5c5c66; --line: #d8d8de; --ground: #fff; --raised: #f5f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececf0; --soft: #a2a2ad; --line: #3a3a42; --ground: #16161a; --raised: #212127; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 110rem; padding: 1rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; } h3 { font-size: 1rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .5rem 0; }
dd { margin: 0; } dt, small, td p { color: var(--soft); }
table { border-collapse: collapse; }
.scroll { overflow-x: auto; }
.numbers th, .numbers td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
.numbers th:first-child { text-align: left; position: sticky; left: 0; background: var(--ground); }
.numbers small { display: block; }
summary { cursor: pointer; padding: .3rem 0; }
:focus-visible { outline: 2px solid #4a8cff; outline-offset: 2px; }
.sentences { width: 100%; table-layout: fixed; overflow-wrap: anywhere; }
.sentences thead th { position: sticky; top: 0; z-index: 1; padding: .5rem; text-align: left;
  background: var(--raised); }
.sentences td { vertical-align: top; padding: .3rem .5rem; }
.sentences .text th { text-align: left; font-weight: 600; padding: 1.2rem .5rem .3rem;
  border-top: 1px solid var(--line); }
.sentences small { font-weight: 400; }
.sentences audio { width: 100%; height: 2.5rem; display: block; margin-bottom: .4rem; }
.sentences img { height: 5.5rem; display: block; }
.sentences td p { margin: .3rem 0; font-size: .875rem; }
.alignment { position: relative; } .alignment img { width: 100%; }
.alignment ol { display: flex; margin: 0; padding: 0; list-style: none; }
.alignment li { flex: none; overflow: visible; border-left: 1px solid var(--line); font-size: .75rem; height: 1.3rem;
  white-space: nowrap; }
"""
NARROW = """
@media (max-width: WIDTHrem) {
  .sentences, .sentences tbody, .sentences .text, .sentences .text th { display: block; }
  .sentences thead { display: none; }
  .sentences tr:not(.text) { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); }
  .sentences td[colspan] { grid-column: 1 / -1; min-width: 0; }
  .sentences td[data-system]::before { content: attr(data-system); font-weight: 600; }
}
"""
SCRIPT = """
document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
"""
