"""What the front end makes of a text: python -m text [TEXT], or each line of the standard input."""

import argparse
import sys

from text import FrontEnd, TextError


def main(arguments: list[str] | None = None) -> int:
    """Print the words, the phonemes (phones apart, where ids are phones) and the ids of each text.

    Returns the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m text", description="Text to words, phonemes and ids.")
    parser.add_argument("text", nargs="?", help="default: each line of the standard input")
    parser.add_argument("-l", "--language", default="en-us", help="an espeak-ng voice (default: %(default)s)")
    parser.add_argument(
        "-u", "--units", default="blanks", choices=("blanks", "characters", "phones"),
        help="what an id is (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    status = 0
    try:
        front_end = FrontEnd(options.language, options.units)
    except TextError as error:
        print(error, file=sys.stderr)
        return 1
    for text in sys.stdin if options.text is None else [options.text]:
        try:
            phonemes = front_end.phonemise(text)
            ids = front_end.to_ids(phonemes)
            said = " ".join(map(front_end.label, ids)) if options.units == "phones" else phonemes
            print(front_end.normalise(text), said, " ".join(map(str, ids)), sep="\n")
        except TextError as error:
            print(error, file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
