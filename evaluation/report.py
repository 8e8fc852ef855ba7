"""What people read of a report: Markdown, and a page that holds all it shows and plays in one file."""

import html
from pathlib import Path

from data_util.html_media import STYLE, audio_uri, read_sound, spectrograms
from evaluation.metrics import MEASURES

# what they are that evaluate.py names itself
SYSTEMS = {
    "recording": "the person",
    "copy": "the vocoder on the recording's own latents",
    "recorded_timing": "one evaluation along the recording's own durations, pauses and F0",
    "encoder_alone": "from the text, without the score network: the vocoder on mu",
    "one_step": "from the text, one evaluation of the score network",
}

# -- what both have in common


def explained(report: dict) -> list[tuple[str, str]]:
    """The systems that need it, and what they are."""
    return [(system, SYSTEMS[system]) for system in report["systems"] if system in SYSTEMS]


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
    if about.get("recogniser"):
        lines["recogniser"] = about["recogniser"]
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
    lines += [f"- {system}: {what}." for system, what in explained(report)] + [""]
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
    """HTML that needs no other file: the first n_clips sentences by all systems side by side, then the tables.

    folder: the report's, from which its paths to WAVs lead. A WAV that is gone leaves a word in its place.
    Raises AudioError for one that cannot be played.
    """
    systems, clips = list(report["systems"]), list(report["clips"].items())[:n_clips]
    heads = "".join(f'<th scope="col">{_text(system)}</th>' for system in systems)
    rows = "\n".join(_sentence(name, clip, systems, folder) for name, clip in clips)
    n_all, voice = len(report["clips"]), report["about"]["voice"]
    count = f"The first {n_clips} of {n_all} sentences. " if n_clips < n_all else ""
    title = "NiSETS" if voice is None else f"NiSETS: {voice['run']}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{_text(f"{title}, {', '.join(systems)}")}</title>
<style>{STYLE}{NARROW.replace("WIDTH", str(12 * len(systems) + 4))}</style>
</head>
<body>
<header><h1>{_text(title)}</h1>
<p>NiSETS, non-iterative score-based end-to-end text-to-speech: the same sentences, side by side.</p>
{_meanings(explained(report))}</header>
<main>
<section aria-labelledby="listen"><h2 id="listen">Listen</h2><p>{count}The players have MP3s of the WAVs.</p>
<table class="sentences"><thead><tr>{heads}</tr></thead>
{rows}
</table></section>
{_measures(report)}
</main>
<footer>{_meanings(header(report).items())}</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _meanings(pairs):
    return f"<dl>{''.join(f'<dt>{_text(what)}</dt><dd>{_text(how)}</dd>' for what, how in pairs)}</dl>"


def _text(text):
    return html.escape(str(text))


def _measures(report):
    names, compared = shown(report, "measures"), shown(report, "differences")
    if not names:
        return ""
    limits = _meanings((MEASURES[name].heading, f"{MEASURES[name].limits}.") for name in names)
    lines = ['<section aria-labelledby="measures"><h2 id="measures">Measures</h2>', _table(report, "measures", names),
             "<p>In brackets: 95% intervals, bootstrapped over the clips.</p>",
             f"<details><summary>What they do not tell</summary>{limits}</details>"]  # fmt: skip
    if compared:
        lines.append(f"<h3>Differences to {_text(report['about']['against'])} on the same clips</h3>")
        lines.append(_table(report, "differences", compared))
    return "\n".join([*lines, "</section>"])


def _table(report, part, names):
    """A row a measure, with what it means, and a column a system."""
    heads = "".join(f'<th scope="col">{_text(system)}</th>' for system in report["systems"])
    rows = [("clips", "", [(str(one["clips"]), "") for one in report["systems"].values()])]
    rows += [(MEASURES[name].heading, MEASURES[name].meaning if part == "measures" else "",
              [cell(name, one[part].get(name)) for one in report["systems"].values()]) for name in names]  # fmt: skip
    body = ""
    for heading, meaning, cells in rows:
        row = "".join(f"<td>{value}{f' <small>{interval}</small>' if interval else ''}</td>"
                      for value, interval in cells)  # fmt: skip
        explanation = f" <small>{_text(meaning)}</small>" if meaning else ""
        body += f'<tr><th scope="row">{_text(heading)}{explanation}</th>{row}</tr>'
    return f'<table class="numbers"><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table>'


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


NARROW = """
@media (max-width: WIDTHrem) {
  .sentences, .sentences tbody, .sentences .text, .sentences .text th { display: block; }
  .sentences thead { display: none; }
  .sentences tr:not(.text) { display: grid; grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); }
  .sentences td[colspan] { grid-column: 1 / -1; min-width: 0; }
  .sentences td[data-system]::before { content: attr(data-system); font-weight: 600; }
}
"""
SCRIPT = """
document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
"""
