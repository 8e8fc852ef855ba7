"""What is wrong with a corpus, before training finds out: python -m data_util.check DIR

Prints a summary, and writes into DIR check.html, with pictures and sounds of the worst clips, and quarantine.txt, the
clips that training is to leave out: id|reason. Lines of that list which begin with `keep ` are clips to use all the
same, however often this is run.
"""

import argparse
import functools
import hashlib
import html
import io
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_util import config as configuration
from data_util import html_media
from data_util.audio import AudioError, decode_sound
from data_util.config import Config
from data_util.corpus import QUARANTINE, Clip, MetafileError, make_front_end, read_metafile, speaker_fault
from data_util.features import bar, each, n_cpus
from runtime import command
from runtime.files import write_atomic
from runtime.text_files import read_text
from text import markup
from text.symbols import canonical

# fault: what it means. Those before SUSPICIOUS cannot be trained on or teach what nobody wants to hear, and are put
# into quarantine; the others are shown, to be heard by somebody
FAULTS = {
    "no transcript": "the list gives no text",
    "missing": "no file of that name",
    "unreadable": "no recording, or a damaged one",
    "empty": "no samples",
    "not finite": "samples that are not numbers",
    "wrong rate": "not at audio.sample_rate: prepare it",
    "not mono": "several channels: prepare it",
    "silent": "nothing to hear",
    "too short": "shorter than --shortest",
    "too long": "longer than --longest, which fills memory",
    "clipped": "many samples stand at the largest value",
    "nothing to say": "the text has no phonemes",
    "unknown symbols": "the text has phonemes that are no symbols",
    "wrong speaker": "speakers.names does not have who speaks",
    "duplicate": "the same recording as a clip before it, or a name that comes twice",
    "fast": "more characters a second than the others: part of the text may not be said",
    "slow": "fewer characters a second than the others: more may be said than the text has, or there are long pauses",
    "same text": "a text that clips before it have, in the same voice",
    "in two lists": "trained on, and measured with",
    "quiet": "far under the level of the others",
    "DC offset": "samples about another value than 0: prepare it, which takes the mean away",
    "band-limited": "nothing in the upper half of the spectrum: recorded at a lower rate, or compressed",
}
SUSPICIOUS = ("fast", "slow", "same text", "in two lists", "quiet", "DC offset", "band-limited")
SILENT = 1e-3  # a peak, full scale 1
FULL = 0.999  # full scale, as good as
CLIPPED_RUN = 3  # samples in a row at full scale make a clipped peak
CLIPPED_SHARE = 1e-3  # of the samples in such runs
OUTLIER = 4.0  # standard deviations, as the median deviation estimates them, of log characters a second
FEWEST = 20  # clips without which nothing is an outlier
OFFSET = 0.01  # of full scale
QUIET_DB = 20.0  # under the median level
BAND_DB = 75.0  # between the halves of the spectrum
KEEP = "keep "


@dataclass(frozen=True)
class Finding:
    """One clip: which list names it, and what is wrong with it: {fault: in which way}; level: RMS in dB of full scale;
    band: dB from the lower half of the spectrum to the upper; content: of the file, a digest."""

    clip: Clip
    metafile: str
    faults: dict[str, str]
    seconds: float = 0.0
    level: float = 0.0
    band: float = 0.0
    content: str = ""

    @property
    def bad(self) -> bool:
        return bool(set(self.faults) - set(SUSPICIOUS))


@dataclass(frozen=True)
class Limits:
    """sample_rate: Hz; shortest, longest: seconds."""

    sample_rate: int
    shortest: float = 0.3
    longest: float = 20.0


def check(config: Config, limits: Limits, n_workers: int, progress: bool = True) -> list[Finding]:
    """Look at every clip of the three lists of a corpus. Raises MetafileError, TextError, OSError."""
    listed = _listed(config)
    hearing = each(functools.partial(_heard, limits=limits), listed, n_workers)
    findings = list(bar(hearing, len(listed), "clips", progress))
    for look in (functools.partial(_texts, config), _duplicates, _rates, _levels):
        findings = [replace(one, faults=one.faults | more) for one, more in zip(findings, look(findings))]
    return findings


def hear(wav: np.ndarray, sample_rate: int) -> dict[str, float]:
    """seconds, level, peak and band of Finding, offset, the mean of the samples, without which those are measured, and
    clipped, the share of samples in clipped peaks.

    wav: (T_wav,) float32 in [-1, 1], not empty.
    """
    offset = float(wav.mean(dtype=np.float64))
    full = np.concatenate([[0], (np.abs(wav) >= FULL).astype(np.int8), [0]])
    starts, ends = np.flatnonzero(np.diff(full) == 1), np.flatnonzero(np.diff(full) == -1)
    runs = ends - starts
    wav = wav - np.float32(offset)
    power = np.abs(np.fft.rfft(wav)) ** 2
    half = len(power) // 2
    low, high = power[:half].sum(), power[half:].sum()
    return {
        "seconds": len(wav) / sample_rate,
        "level": 10 * math.log10(float(np.mean(wav.astype(np.float64) ** 2)) + 1e-12),
        "peak": float(np.abs(wav).max()),
        "band": 10 * math.log10((low + 1e-12) / (high + 1e-12)),
        "offset": offset,
        "clipped": float(runs[runs >= CLIPPED_RUN].sum()) / len(wav),
    }


def _heard(listed, limits):
    """The Finding of a (list, clip), as far as the clip alone says."""
    metafile, clip = listed
    faults = {} if clip.text else {"no transcript": ""}
    if not clip.wav_path.is_file():
        return Finding(clip, metafile, faults | {"missing": str(clip.wav_path)})
    try:
        content = clip.wav_path.read_bytes()
        wav, rate, channels = decode_sound(io.BytesIO(content), clip.wav_path.name)
    except AudioError as error:
        how = str(error).removeprefix(f"{clip.wav_path.name}: ")
        return Finding(clip, metafile, faults | {error.reason if error.reason in FAULTS else "unreadable": how})
    except OSError as error:
        return Finding(clip, metafile, faults | {"unreadable": str(error.strerror)})
    numbers = hear(wav, rate)
    return Finding(clip, metafile, faults | _faults(numbers, rate, channels, limits), numbers["seconds"],
                   numbers["level"], numbers["band"], hashlib.sha256(content).hexdigest())  # fmt: skip


def _faults(numbers, rate, channels, limits):
    seconds = f"{numbers['seconds']:.2f} s"
    found = {
        "wrong rate": (rate != limits.sample_rate, f"{rate} Hz, not {limits.sample_rate}"),
        "not mono": (channels != 1, f"{channels} channels"),
        "silent": (numbers["peak"] < SILENT, ""),
        "too short": (numbers["seconds"] < limits.shortest, seconds),
        "too long": (numbers["seconds"] > limits.longest, seconds),
        "DC offset": (abs(numbers["offset"]) > OFFSET, f"{numbers['offset']:.2g} of full scale"),
        "clipped": (numbers["clipped"] > CLIPPED_SHARE, f"{100 * numbers['clipped']:.2g} % of the samples"),
    }
    return {name: how for name, (true, how) in found.items() if true}


def _listed(config):
    """(list, clip) of all lists; of those that are the same file, once."""
    listed, seen = [], set()
    for name in (config.dataset.metafile_train, config.dataset.metafile_valid, config.dataset.metafile_test):
        path = configuration.ROOT / name
        if path not in seen and (path.is_file() or not seen):  # the others may be missing, training's may not
            listed += [(path.name, clip) for clip in read_metafile(path, configuration.ROOT / config.dataset.prtpath)]
        seen.add(path)
    return listed


def _texts(config, findings):
    """Texts that cannot be said, and speakers that nobody has announced."""
    front_end = make_front_end(config.text)
    several = len({one.clip.speaker for one in findings}) > 1
    phonemes = front_end.phonemise_many([one.clip.text or "" for one in findings])
    known = set(front_end.symbols)
    for one, said in zip(findings, phonemes):
        faults = {}
        unknown = sorted(set().union(*markup.pauses(canonical(said))[0]) - known)
        if one.clip.text and not said:
            faults["nothing to say"] = one.clip.text
        if unknown:
            faults["unknown symbols"] = " ".join(unknown)
        wrong = speaker_fault(one.clip.speaker, config.speakers.names)
        if not wrong and several and not config.speakers.names:
            wrong = "the lists name several speakers, and speakers.names none"
        if wrong:
            faults["wrong speaker"] = wrong
        yield faults


def _duplicates(findings):
    contents, names, texts, lists = {}, {}, {}, {}
    for one in findings:
        faults, clip = {}, one.clip
        before = contents.setdefault(one.content, one) if one.content else one
        named = names.setdefault((one.metafile, clip.id), one)
        if named is not one:
            faults["duplicate"] = "the list names it twice"
        elif before is not one and before.clip.id != clip.id:
            faults["duplicate"] = f"the recording of {before.clip.id}"
        elif lists.setdefault(clip.id, one.metafile) != one.metafile:
            faults["in two lists"] = f"{lists[clip.id]} and {one.metafile}"
        same = texts.setdefault((clip.speaker, " ".join((clip.text or "").lower().split())), one)
        if clip.text and same is not one and not faults:
            faults["same text"] = f"as {same.clip.id}"
        yield faults


def _rates(findings):
    """Characters a second, of each speaker for themselves: they are log-normal, about."""
    rates = [math.log(len(one.clip.text) / one.seconds) if one.clip.text and one.seconds else None for one in findings]
    middles = {}
    for speaker in {one.clip.speaker for one in findings}:
        theirs = [rate for one, rate in zip(findings, rates) if one.clip.speaker == speaker and rate is not None]
        if len(theirs) >= FEWEST:
            middle = float(np.median(theirs))
            # the median deviation of a normal law is 0.674 of its standard deviation; at least a tenth of the rate
            spread = max(float(np.median(np.abs(np.array(theirs) - middle))) / 0.674, 0.1)
            middles[speaker] = middle, spread
    for one, rate in zip(findings, rates):
        middle, spread = middles.get(one.clip.speaker, (0.0, math.inf))
        far = 0.0 if rate is None else (rate - middle) / spread
        how = "" if rate is None else f"{math.exp(rate):.1f} characters a second, the middle is {math.exp(middle):.1f}"
        yield {"fast" if far > 0 else "slow": how} if abs(far) > OUTLIER else {}


def _levels(findings):
    sounding = [bool(one.seconds) and "silent" not in one.faults for one in findings]
    levels = [one.level for one, sounds in zip(findings, sounding) if sounds]
    middle = float(np.median(levels)) if len(levels) >= FEWEST else -math.inf
    for one, sounds in zip(findings, sounding):
        faults = {}
        if sounds and one.level < middle - QUIET_DB:
            faults["quiet"] = f"{one.level:.0f} dB, the middle is {middle:.0f}"
        if sounds and one.band > BAND_DB:
            faults["band-limited"] = f"{one.band:.0f} dB from the lower half to the upper"
        yield faults


# -- what is told


def summary(findings: Sequence[Finding]) -> str:
    """A few lines for the terminal."""
    seconds = [one.seconds for one in findings]
    bad = sum(one.bad for one in findings)
    odd = sum(bool(one.faults) and not one.bad for one in findings)
    counts = Counter(name for one in findings for name in one.faults)
    lines = [f"{len(findings)} clips, {sum(seconds) / 3600:.2f} hours, "
             f"{len({one.clip.speaker for one in findings})} speakers; "
             f"{bad} cannot be used, {odd} should be heard"]  # fmt: skip
    lines += [f"  {counts[name]:6d} {name}: {meaning}" for name, meaning in FAULTS.items() if counts[name]]
    return "\n".join(lines)


def quarantine_of(findings: Sequence[Finding], keep: Sequence[str]) -> str:
    """quarantine.txt. keep: ids that somebody has decided to use all the same."""
    lines = [
        "# id|reason of clips that training leaves out, written by data_util.check; `keep id` uses one all the same"
    ]
    lines += [f"{KEEP}{name}" for name in sorted(set(keep))]
    # a clip whose second mention alone is wrong stays: the first is as good as any
    used = {*keep, *(one.clip.id for one in findings if not one.bad)}
    bad = {one.clip.id: ", ".join(one.faults) for one in findings if one.bad and one.clip.id not in used}
    lines += [f"{name}|{why}" for name, why in bad.items()]
    return "\n".join(lines) + "\n"


def kept(root: Path) -> list[str]:
    """The ids after `keep ` in a corpus's quarantine.txt, of any encoding. Raises TextFileError."""
    path = root / QUARANTINE
    lines = read_text(path).split("\n") if path.is_file() else []
    return [line.strip().removeprefix(KEEP).strip() for line in lines if line.strip().startswith(KEEP)]


def worst(findings: Sequence[Finding], n: int) -> list[Finding]:
    """Of each fault some, those that cannot be used first, n in all."""
    order, places, ranked = list(FAULTS), Counter(), []
    for one in findings:
        if one.faults:
            first = min(map(order.index, one.faults))
            places[first] += 1
            ranked.append((places[first], first, one))
    ranked.sort(key=lambda entry: entry[:2])
    return [one for *_, one in ranked[:n]]


def report(findings: Sequence[Finding], n: int) -> str:
    """check.html: the summary, and what the worst clips look and sound like; needs no other file."""
    rows = "\n".join(_row(one) for one in worst(findings, n))
    counts = Counter(name for one in findings for name in one.faults)
    faults = "".join(f"<tr><th>{name}</th><td>{counts[name]}</td><td>{html.escape(meaning)}</td></tr>"
                     for name, meaning in FAULTS.items() if counts[name])  # fmt: skip
    first = html.escape(summary(findings).split("\n", maxsplit=1)[0])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><title>What is wrong with these recordings</title>
<style>{html_media.STYLE} td, th {{ padding: .3rem .6rem; text-align: left; vertical-align: top; }}</style></head>
<body><header><h1>What is wrong with these recordings</h1><p>{first}</p></header><main>
<table class="faults">{faults}</table>
<h2>The worst, some of each kind</h2><table class="clips">
{rows}
</table></main></body></html>
"""


def _row(one):
    faults = "<br>".join(f"<strong>{name}</strong> {html.escape(how)}" for name, how in one.faults.items())
    about = f"{html.escape(one.clip.text or '–')}<br><small>{html.escape(one.clip.id)}, {one.metafile}</small>"
    try:
        wav, rate = html_media.read_sound(one.clip.wav_path)
        picture, _ = html_media.spectrograms({"": (wav, rate)})[""]
        sound = (f'<img src="{picture}" alt="spectrogram, {one.seconds:.2f} s"><br>'
                 f'<audio controls preload="none" src="{html_media.audio_uri(wav, rate)}"></audio>')  # fmt: skip
    except (ValueError, OSError):
        sound = "cannot be shown"
    return f"<tr><td>{sound}</td><td>{faults}</td><td>{about}</td></tr>"


# -- the command


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 1 where some clip cannot be used."""
    overlays, overrides = [*args.overlays], [*args.overrides]
    if (args.folder / "voice.yaml").is_file():
        overlays.append(args.folder / "voice.yaml")
    elif args.folder.is_dir():
        prtpath = json.dumps(str(args.folder.resolve()), ensure_ascii=False)  # its value is read as YAML
        overrides.insert(0, f"dataset.prtpath={prtpath}")
    else:
        raise MetafileError(f"{args.folder}: no such folder")
    config = configuration.load(overlays, overrides)
    limits = Limits(config.audio.sample_rate, args.shortest, args.longest)
    findings = check(config, limits, args.jobs, sys.stderr.isatty() or args.progress)
    write_atomic(args.folder / "check.html", report(findings, args.worst).encode())
    write_atomic(args.folder / QUARANTINE, quarantine_of(findings, kept(args.folder)).encode())
    print(summary(findings))
    print(f"pictures and sounds: {args.folder / 'check.html'}")
    print(f"what training leaves out: {args.folder / QUARANTINE}")
    return 1 if any(one.bad for one in findings) else 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m data_util.check", description=__doc__.splitlines()[0],
                                     allow_abbrev=False, formatter_class=command.Help)  # fmt: skip
    parser.add_argument("folder", type=Path, metavar="DIR", help="of data_util.prepare, or with wavs/ and metadata.csv")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="over the configuration")
    parser.add_argument("-c", "--config", dest="overlays", action="append", default=[], metavar="NAME_OR_FILE",
                        help="an overlay in configs/, or a YAML file")  # fmt: skip
    parser.add_argument("--shortest", type=float, default=Limits.shortest, help="seconds")
    parser.add_argument("--longest", type=float, default=Limits.longest, help="seconds")
    parser.add_argument("--worst", type=int, default=40, metavar="N", help="clips that the page shows")
    parser.add_argument("--jobs", type=int, default=n_cpus(), help="processes (default: one a core)")
    parser.add_argument("--progress", action="store_true", help="show the bar where this is no terminal too")
    return parser.parse_intermixed_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0 where every clip can be used; 1 where some cannot, or after one line of an error."""
    return command.exit_status(run, parse_args(argv), "data_util.check")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
