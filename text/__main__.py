"""What the front end makes of a text, stage by stage: python -m text [TEXT], or each line of the standard input.

--explain: the rules of normalisation that change it; --score: how many lines of a corpus, or cases of a table, are said
as people say them.
"""

import argparse
import sys
import time
from collections import Counter

from text import FrontEnd, TextError
from text.english.normalise import english, explain
from text.score import is_table, score, score_cases
from text.symbols import MARK_SIZES, label, phones_along

_UNKNOWN = {
    "cmudict": "not in CMUdict, read by letter-to-sound rules",
    "espeak": "not in CMUdict; espeak-ng does not say which words it reads by rule",
}


def main(arguments: list[str] | None = None) -> int:
    """Print each text, its words, its phonemes (apart, where ids are phones or states), its ids, and the words that
    nobody knew.

    Returns the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m text", description="Text to words, phonemes and ids.")
    parser.add_argument("text", nargs="?", help="default: each line of the standard input")
    parser.add_argument("--language", default="en-us", help="an espeak-ng voice (default: %(default)s)")
    parser.add_argument("-p", "--phonemizer", default="espeak", choices=("espeak", "cmudict"),
                        help="what makes phonemes of words (default: %(default)s)")  # fmt: skip
    parser.add_argument("-l", "--lexicon", metavar="FILE", help="words and how they are said: word = respelling")
    parser.add_argument(
        "-u", "--units", default="blanks", choices=("blanks", "characters", "phones", "states"),
        help="what an id is (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="the rules that change an English text, one by one")
    parser.add_argument("--score", metavar="FILE", help="lines id|as written|as spoken, or a table of cases: each miss")
    options = parser.parse_args(arguments)
    if options.score is not None:
        return _score(options)
    texts = sys.stdin if options.text is None else [options.text]
    return _explain(texts) if options.explain else _phonemise(texts, options)


def _phonemise(texts, options):
    status = 0
    try:
        front_end = FrontEnd(options.language, options.units, options.phonemizer, options.lexicon)
    except TextError as error:
        print(error, file=sys.stderr)
        return 1
    for text in texts:
        try:
            phonemes = front_end.phonemise(text)
            ids = front_end.to_ids(phonemes)
            phones = [ids[k] for k in phones_along(ids, [1] * len(ids))[0]]
            said = " ".join(map(label, phones)) if options.units in MARK_SIZES else phonemes
            print("text     ", text.rstrip("\n"))
            print("words    ", front_end.normalise(text))
            print("phonemes ", said)
            print("ids      ", *ids)
            unknown = front_end.unknown(text) if options.language.startswith("en") else []
            if unknown:
                print("unknown  ", ", ".join(unknown), f"({_UNKNOWN[options.phonemizer]})")
        except TextError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


def _explain(texts):
    for text in texts:
        print(text.rstrip("\n"))
        for rule, said in explain(text):
            print(f"  {rule.name} (as in {rule.written}: {rule.spoken}): {said}")
    return 0


def _score(options):
    path = options.score
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
        if is_table(lines):
            counts, misses = score_cases(lines, english)
            missed = Counter(miss.name for miss in misses)
            rest = [f"{name}: {n - missed[name]} of {n}" for name, n in sorted(counts.items())]
            total, what = counts.total(), "cases"
        else:
            total, misses = score(lines, english)
            rest, what = _speed(lines, options), "lines with digits"
    except (OSError, UnicodeDecodeError, TextError) as error:
        print(f"{path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    for miss in misses:
        print(miss.name, f"  written  {miss.written}", f"  people   {miss.wanted}", f"  here     {miss.got}", sep="\n")
    right = total - len(misses)
    print(f"{right} of {total} {what} are right ({100 * right / max(total, 1):.1f}%)", *rest, sep="\n")
    return 0


def _speed(lines, options):
    """What the front end needs for the texts of metadata.csv, in lines to print."""
    front_end = FrontEnd(options.language, options.units, options.phonemizer, options.lexicon)
    start = time.perf_counter()
    front_end.phonemise_many([line.rstrip("\n").split("|")[2] for line in lines])
    seconds = time.perf_counter() - start
    said = [f"{len(lines)} texts normalised and phonemised by {options.phonemizer} in {seconds:.1f} s"]
    if options.phonemizer == "cmudict":
        said.append(f"{len(front_end.read_by_rule)} words in them are not in CMUdict")
    return said


if __name__ == "__main__":
    sys.exit(main())
