"""Numbers as words: counted, ordered, digit by digit, in pairs as years are, as fractions, and from Roman numerals."""

import functools
import re
import threading

LONGEST = 15  # digits beyond which nobody counts: such a number is read one by one,
LONGEST_IN_THREES = 33  # but where commas help to count them

_ROMAN = re.compile("M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_INFLECT = threading.Lock()  # whose engine keeps notes of the call that it is at
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def cardinal(number: str) -> str:
    """1,234: one thousand two hundred thirty-four. One by one where it starts with a zero, or is beyond counting."""
    digits = number.replace(",", "")
    longest = LONGEST_IN_THREES if "," in number else LONGEST
    if len(digits) > longest or (digits[0] == "0" and len(digits) > 2):
        return one_by_one(digits)
    return _words(int(digits))


def ordinal(number: str) -> str:
    """22: twenty-second. Beyond counting, the digits one by one."""
    digits = number.replace(",", "")
    return _words(nth(digits)) if len(digits) <= LONGEST else one_by_one(digits)


def nth(digits: str) -> str:
    """4: 4th, and 22: 22nd."""
    return _inflect().ordinal(int(digits))


def one_by_one(number: str) -> str:
    """2,915: two nine one five. What is no digit is left out."""
    return " ".join(_words(int(digit)) for digit in number if digit.isdigit())


def code(digits: str) -> str:
    """A number inside a code: 52 is fifty-two, 150 one fifty, 6000 six thousand; what else is longer, or starts with a
    zero, goes one by one."""
    if len(digits) == 3 and digits[-1] == "0":
        return pairs(digits)
    short = len(digits) < 3 or (len(digits) < 6 and digits.endswith("000"))
    return cardinal(digits) if short and (digits[0] != "0" or digits == "0") else one_by_one(digits)


def pairs(digits: str) -> str:
    """Of three or four digits, by hundreds, as years and page numbers are: 1066 is ten sixty-six, 605 six oh five.

    As counted for whole thousands, and for the first ten years after 2000. Others as a cardinal.
    """
    hundreds, rest = divmod(int(digits), 100)
    if not 3 <= len(digits) <= 4 or digits[0] == "0" or (rest < 10 and hundreds % 10 == 0):
        return cardinal(digits)
    return f"{_words(hundreds)} {two_digits(f'{rest:02}') if rest else 'hundred'}"


def two_digits(digits: str) -> str:
    """The end of a year: 45 is forty-five, 05 oh five."""
    return f"oh {_words(int(digits))}" if digits[0] == "0" else _words(int(digits))


def decimal(whole: str, fraction: str | None) -> str:
    """3 and 14: three point one four. The whole is "" in .5, the fraction None in 3."""
    words = [cardinal(whole)] if whole else []
    return " ".join(words + ([f"point {one_by_one(fraction)}"] if fraction else []))


def fraction(numerator: str, denominator: str) -> str:
    """3 and 4: three quarters; 7 and 8: seven eighths; 3 and 250: three over two hundred fifty."""
    above, below = int(numerator), int(denominator)
    if below < 2 or (below > 100 and below != 1000):
        return f"{cardinal(numerator)} over {cardinal(denominator)}"
    part = {2: "half", 4: "quarter"}.get(below) or ordinal(denominator).removeprefix("one ")
    return f"{_words(above)} {part if above == 1 else plural(part)}"


def plural(words: str) -> str:
    """forty: forties; half: halves; six: sixes; sixth: sixths."""
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    if words.endswith("f"):
        return f"{words[:-1]}ves"
    return f"{words}es" if words.endswith("x") else f"{words}s"


def roman(numeral: str) -> int | None:
    """XIV: 14; None where it is no Roman numeral of 1 to 3999."""
    if not numeral or not _ROMAN.fullmatch(numeral.upper()):
        return None
    values = [_ROMAN_VALUES[char] for char in numeral.upper()]
    return sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0]))


@functools.lru_cache(4096)
def _words(number):
    with _INFLECT:
        return _inflect().number_to_words(number, andword="").replace(",", "")


@functools.cache
def _inflect():
    import inflect

    return inflect.engine()
