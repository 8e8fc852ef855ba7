"""Where a voice is misheard, by kinds of words and classes of phones: python -m experiments.errors REPORT_DIR.

Reads the report.json of evaluate.py. The recogniser's words are aligned with the text's (jiwer), and within what is not
equal the phones of both, as CMUdict says them, by the least edits. A word or phone is wrong that is replaced or not
heard; what is heard between the words is not counted.
"""

import argparse
import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.metrics import letters
from runtime import command
from runtime.files import read_json
from text import normalise
from text.english import dictionary

_FUNCTION_WORDS = (
    "a about after all also am an and any are as at be been before being but by can could did do does down for from "
    "had has have he her him his how i if in into is it its may me might more most must my no nor not of off on one "
    "or our out over shall she should so some such than that the their them then there these they this those to "
    "under up upon us was we were what when where which while who whom whose will with would you your"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
CLASSES = {  # of ARPAbet, vowels with their stress
    "vowels with stress": "AA AE AH AO EH ER IH IY UH UW", "reduced vowels": "AH0 IH0 ER0 UH0",
    "other vowels without stress": "AA0 AE0 AO0 EH0 IY0 OW0 UW0 EY0 AY0", "diphthongs": "AW AY EY OW OY",
    "voiceless stops": "P T K",
    "voiced stops": "B D G", "affricates": "CH JH", "voiceless fricatives": "F TH S SH HH",
    "voiced fricatives": "V DH Z ZH", "nasals": "M N NG", "liquids and glides": "L R W Y",
}  # fmt: skip
_CLASS_OF = {phone: name for name, phones in CLASSES.items() for phone in phones.split()}
N_EXAMPLES = 3  # confusions that a row shows
N_WORDS = 30  # of the list of words


@dataclass(frozen=True)
class Word:
    """A word of a text: what it is heard as, itself where it is right, "" where nothing is; the kinds that it is of."""

    text: str
    heard: str
    kinds: frozenset[str]


def class_of(phone: str) -> str:
    """The name of a phone's class, of CLASSES."""
    return _CLASS_OF.get(phone) or _CLASS_OF[phone.rstrip("012")]


def kinds_of(text: str) -> list[tuple[str, set[str]]]:
    """The words of a text, as letters() has them, and their kinds."""
    words: list[tuple[str, set[str]]] = []
    for clause in re.split(r"(?<=[.;:,!?])", normalise(text) if letters(text) else ""):
        own = [(letters(token), token[:1].isupper()) for token in re.split(r"[\s-]+", clause)]
        own = [(word, is_capital) for parts, is_capital in own for word in parts.split()]
        for i, (word, is_capital) in enumerate(own):
            kinds = {"function words" if word in FUNCTION_WORDS else "other words"}
            kinds |= {"last of a clause"} if i == len(own) - 1 else {"first of a clause"} if i == 0 else set()
            kinds |= {"names"} if is_capital and words and word not in FUNCTION_WORDS else set()
            kinds |= {"not in CMUdict"} if dictionary.unknown(word) else set()
            words.append((word, kinds))
    if words:
        words[-1][1].add("last of the text")
    return words


def words_of(text: str, heard: str) -> list[Word]:
    """The words of a text with what they were heard as. heard: as of letters()."""
    kinds, hypothesis = kinds_of(text), heard.split()
    pairs = places([word for word, _ in kinds], hypothesis)
    return [Word(kinds[i][0], "" if j is None else hypothesis[j], frozenset(kinds[i][1])) for i, j in pairs]


def phones_of(words: list[Word]) -> Iterator[tuple[str, str]]:
    """Each phone of the words and the one that is heard, "" for none: along the least edits between what is wrong."""
    for _, group in itertools.groupby(words, lambda word: word.text == word.heard):
        run = list(group)
        yield from align([phone for word in run for phone in dictionary.arpabet(word.text)],
                         [phone for word in run for phone in dictionary.arpabet(word.heard)])  # fmt: skip


def align(said: list[str], heard: list[str]) -> Iterator[tuple[str, str]]:
    """Each phone of said with what stands for it, "" for nothing, by the least edits; stress is no difference."""
    plain = [[phone.rstrip("012") for phone in phones] for phones in (said, heard)]
    for i, j in places(*plain):
        is_same = j is not None and plain[0][i] == plain[1][j]
        yield said[i], said[i] if is_same else "" if j is None else heard[j]


def places(said: list[str], heard: list[str]) -> Iterator[tuple[int, int | None]]:
    """Each place of said and that of heard which stands for it, None for nothing, by the least edits."""
    import jiwer

    for chunk in jiwer.process_words(" ".join(said), " ".join(heard)).alignments[0] if said else ():
        for i in range(chunk.ref_start_idx, chunk.ref_end_idx):
            j = chunk.hyp_start_idx + i - chunk.ref_start_idx
            yield i, j if j < chunk.hyp_end_idx else None


def table(head: str, counts: dict[str, Counter]) -> list[str]:
    """Rows of Markdown: how many there are of each kind, the share that is wrong, and what it is taken for.

    counts: {kind: {(said, heard): times}}.
    """
    lines = [f"| {head} | said | wrong, % | most often |", "|---|---:|---:|---|"]
    for kind, pairs in counts.items():
        wrong = Counter({pair: n for pair, n in pairs.items() if pair[0] != pair[1]})
        examples = "; ".join(f"{said} → {heard or '–'} {n}" for (said, heard), n in wrong.most_common(N_EXAMPLES))
        lines.append(f"| {kind} | {pairs.total()} | {100 * wrong.total() / pairs.total():.1f} | {examples} |")
    return lines


def errors(report: dict, system: str) -> str:
    """The tables of a system, as Markdown. report: as evaluate.py writes it."""
    kinds, classes, words = defaultdict(Counter), defaultdict(Counter), Counter()
    for clip in report["clips"].values():
        if system not in clip["systems"]:
            continue
        found = words_of(clip["text"] or "", clip["systems"][system]["heard"])
        for word in found:
            for kind in ("all words", *word.kinds):
                kinds[kind][word.text, word.heard] += 1
        for said, heard in phones_of(found):
            for name in ("all phones", class_of(said)):
                classes[name][said.rstrip("012"), heard.rstrip("012")] += 1
        words.update((word.text, word.heard) for word in found if word.text != word.heard)
    kinds, classes = (dict(sorted(each.items(), key=lambda one: -one[1].total())) for each in (kinds, classes))
    often = ", ".join(f"{said} → {heard or '–'} ({n})" for (said, heard), n in words.most_common(N_WORDS))
    return "\n".join([*table("words", kinds), "", *table("phones", classes), "", f"Most often: {often}."])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.errors", description=__doc__.split(":")[0],
                                     formatter_class=command.Help)  # fmt: skip
    parser.add_argument("report", type=Path, metavar="DIR", help="what evaluate.py was given with -o")
    parser.add_argument("--system", default="one_step", metavar="NAME", help="of the report")
    args = parser.parse_args(argv)
    report = read_json(args.report / "report.json", {})
    if args.system not in report.get("systems", {}):
        print(f"errors: {args.report / 'report.json'}: not there, or without a system {args.system}", file=sys.stderr)
        return 1
    print(errors(report, args.system))
    return 0


if __name__ == "__main__":
    sys.exit(main())
